// The table of options, and what each does to Options.
#include "frontend/options.h"

#include <algorithm>
#include <ctime>

#include "debug/gdb_server.h"
#include "frontend/option_text.h"
#include "state/log.h"

namespace vellum {

namespace {

// State while parsing, beside the result.
struct Parsing {
  Options options;
  u64 now;
  std::optional<Information> information;
  bool serial_given = false;
  bool display_given = false;
  bool rtc_given = false;
  bool snapshot = false;
  std::string cpu_text;
};

using Handler = Result<void> (*)(Parsing& parsing, std::string_view value);

struct Row {
  std::string_view name;      // with the dash
  std::string_view argument;  // empty: none
  std::string_view help;
  Handler handle;
};

constexpr std::string_view kMachines[] = {"pc"};
constexpr std::string_view kDevices[] = {"isa-debug-exit", "pc-testdev", "usb-tablet", "sb16", "AC97"};

std::vector<std::string_view> device_names() {
  std::vector<std::string_view> names(std::begin(kDevices), std::end(kDevices));
  for (const NetworkModel& model : network_models()) names.push_back(model.name);
  return names;
}

constexpr std::string_view kCharacterKinds[] = {"none", "null", "stdio", "mon:stdio", "file:", "pty", "unix:", "chardev:"};
constexpr u64 kSmallestMemory = u64{1} << 20, kGreatestMemory = u64{64} << 30;
constexpr usize kSerialLines = 4;

Result<void> show(Parsing& parsing, std::string text) {
  if (!parsing.information) parsing.information = Information{std::move(text)};
  return {};
}

// ---- Machine

Result<void> option_machine(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?")
    return show(parsing, "Machines:\n  pc    Intel 440FX and PIIX3, as firmware and operating systems of three decades know it (default)\n");
  static constexpr std::string_view kKeys[] = {"type"};
  const auto values = KeyedValues::parse("-machine", value, "type", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto chosen = parse_choice("-machine", values->text("type", "pc"), kMachines);
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.machine = kMachines[*chosen];
  return {};
}

Result<void> option_cpu(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, cpu_model_help());
  parsing.cpu_text = value;
  return {};
}

Result<void> option_memory(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"size"};
  const auto values = KeyedValues::parse("-m", value, "size", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto size = parse_size("-m", values->text("size"), 20);
  if (!size) return std::unexpected(size.error());
  if (*size < kSmallestMemory || *size > kGreatestMemory)
    return failure(fmt::format("-m: '{}' is out of range; memory is 1M to 64G", value));
  constexpr u64 kGranularity = 8192;
  parsing.options.memory_size = (*size + kGranularity - 1) / kGranularity * kGranularity;
  return {};
}

Result<void> option_smp(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"cpus", "sockets", "cores", "threads", "maxcpus"};
  const auto values = KeyedValues::parse("-smp", value, "cpus", kKeys);
  if (!values) return std::unexpected(values.error());
  for (const auto& item : values->items()) {
    const auto count = parse_number("-smp", item.value, 255);
    if (!count) return std::unexpected(count.error());
    if (*count != 1) return failure(fmt::format("-smp: {}={}: this version has machines with one CPU only; use -smp 1", item.key, *count));
  }
  return {};
}

Result<void> option_clock(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kValid[] = {"realtime", "instructions"};
  const auto chosen = parse_choice("-clock", value, kValid);
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.clock = *chosen == 0 ? ClockMode::Realtime : ClockMode::Instructions;
  return {};
}

Result<void> option_engine(Parsing& parsing, std::string_view value) {
  const auto chosen = parse_choice("-engine", value, engine_names());
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.engine.engine = static_cast<Engine>(*chosen);
  return {};
}

Result<void> option_code_cache(Parsing& parsing, std::string_view value) {
  const auto size = parse_size("-tb-size", std::string(value), 20);
  if (!size) return std::unexpected(size.error());
  constexpr u64 kSmallest = u64{1} << 20, kGreatest = u64{512} << 20;
  if (*size < kSmallest || *size > kGreatest) return failure(fmt::format("-tb-size: '{}' is out of range; it is 1M to 512M", value));
  parsing.options.engine.code_cache_size = (*size + kSmallest - 1) / kSmallest * kSmallest;
  return {};
}

Result<u64> parse_date(std::string_view text) {
  // YYYY-MM-DDTHH:MM:SS or YYYY-MM-DD
  std::tm date{};
  const std::string copy(text);
  const char* end = strptime(copy.c_str(), "%Y-%m-%d", &date);
  if (end && *end) end = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &date);
  if (!end || *end || date.tm_year < 70 || date.tm_year > 299)
    return failure(fmt::format("-rtc: base={} is no date; write utc, localtime, or a date such as 2026-01-31T12:00:00", text));
  return static_cast<u64>(timegm(&date));
}

Result<void> option_rtc(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"base"};
  const auto values = KeyedValues::parse("-rtc", value, "", kKeys);
  if (!values) return std::unexpected(values.error());
  const std::string base = values->text("base", "utc");
  parsing.rtc_given = true;
  if (base == "utc") {
    parsing.options.rtc_base = parsing.now;
  } else if (base == "localtime") {
    const auto now = static_cast<std::time_t>(parsing.now);
    std::tm local{};
    localtime_r(&now, &local);
    parsing.options.rtc_base = static_cast<u64>(timegm(&local));
  } else {
    const auto date = parse_date(base);
    if (!date) return std::unexpected(date.error());
    parsing.options.rtc_base = *date;
  }
  return {};
}

Result<void> option_no_reboot(Parsing& parsing, std::string_view) { return parsing.options.no_reboot = true, Result<void>{}; }
Result<void> option_gdb(Parsing& parsing, std::string_view value) {
  parsing.options.gdb = std::string(value);
  return GdbServer::check(parsing.options.gdb);
}
Result<void> option_gdb_short(Parsing& parsing, std::string_view) { return parsing.options.gdb = "tcp::1234", Result<void>{}; }
Result<void> option_symbols(Parsing& parsing, std::string_view value) { return parsing.options.symbols.emplace_back(value), Result<void>{}; }
Result<void> option_stopped(Parsing& parsing, std::string_view) { return parsing.options.start_stopped = true, Result<void>{}; }

Result<void> option_device(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") {
    std::string text =
                "Devices:\n"
                "  isa-debug-exit[,iobase=PORT][,iosize=N]   a write of V to the port (501h unless given) ends Vellum with status 2V+1\n"
                "  pc-testdev                                registers that the test suite kvm-unit-tests needs\n"
                "  usb-tablet                                a pointer that reports its place, on USB: the guest's pointer is where\n"
                "                                            the user's is\n"
                "  sb16                                      Sound Blaster 16: port 220h, IRQ 5, DMA 1 and 5, OPL3\n"
                "  AC97                                      Intel AC'97 sound (82801AA)\n";
    for (const NetworkModel& model : network_models()) text += fmt::format("  {:<42}{}\n", fmt::format("{}[,netdev=ID][,mac=ADDRESS]", model.name), model.help);
    return show(parsing, text + "  For network cards besides: romfile=FILE, the option ROM (romfile= for none)\n");
  }
  const std::string_view driver = value.substr(0, value.find(','));
  if (const NetworkModel* model = find_network_model(driver.starts_with("driver=") ? driver.substr(7) : driver)) return parsing.options.network.add_card(*model, value);
  static constexpr std::string_view kKeys[] = {"driver", "iobase", "iosize"};
  const auto values = KeyedValues::parse("-device", value, "driver", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto names = device_names();
  const auto chosen = parse_choice("-device", values->text("driver"), names);
  if (!chosen) return std::unexpected(chosen.error());
  const std::string_view device = kDevices[*chosen];
  if (device != "isa-debug-exit") {
    if (values->items().size() > 1) return failure(fmt::format("-device: {} has no keys", device));
    if (device == "pc-testdev") parsing.options.test_device = true;
    if (device == "sb16") parsing.options.sb16 = true;
    if (device == "AC97") parsing.options.ac97 = true;
    if (device == "usb-tablet") parsing.options.usb = parsing.options.usb_tablet = true;
    return {};
  }
  const auto port = parse_number("-device: iobase", values->text("iobase", "0x501"), 0xffff);
  if (!port) return std::unexpected(port.error());
  const auto size = parse_number("-device: iosize", values->text("iosize", "2"), 8);
  if (!size) return std::unexpected(size.error());
  if (*size == 0) return failure("-device: iosize must be 1 to 8");
  parsing.options.debug_exit_port = static_cast<u16>(*port);
  parsing.options.debug_exit_size = static_cast<u16>(*size);
  return {};
}

Result<void> option_netdev(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, netdev_help());
  return parsing.options.network.add_netdev(value);
}
Result<void> option_nic(Parsing& parsing, std::string_view value) { return parsing.options.network.add_nic(value); }

Result<void> option_usb(Parsing& parsing, std::string_view) { return parsing.options.usb = true, Result<void>{}; }

// ---- Firmware and kernel

Result<void> option_bios(Parsing& parsing, std::string_view value) { return parsing.options.bios = value, Result<void>{}; }
Result<void> option_directory(Parsing& parsing, std::string_view value) {
  parsing.options.data_directories.emplace_back(value);
  return {};
}
Result<void> option_kernel(Parsing& parsing, std::string_view value) { return parsing.options.kernel = value, Result<void>{}; }
Result<void> option_initrd(Parsing& parsing, std::string_view value) { return parsing.options.initrd = value, Result<void>{}; }
Result<void> option_append(Parsing& parsing, std::string_view value) {
  parsing.options.append = value;
  parsing.options.append_given = true;
  return {};
}

// ---- Drives

std::string_view interface_name(DriveSpec::Interface interface) {
  return interface == DriveSpec::Interface::Ide ? "ide" : "floppy";
}

Result<void> add_drive(Parsing& parsing, DriveSpec drive) {
  for (const auto& other : parsing.options.drives)
    if (other.interface == drive.interface && other.index == drive.index)
      return failure(fmt::format("{}: {} drive {} is taken already by {}", drive.option, interface_name(drive.interface), drive.index, other.option));
  parsing.options.drives.push_back(std::move(drive));
  return {};
}

Result<void> disk(Parsing& parsing, std::string_view option, unsigned index, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .index = index, .option = std::string(option)});
}
Result<void> option_hda(Parsing& parsing, std::string_view value) { return disk(parsing, "-hda", 0, value); }
Result<void> option_hdb(Parsing& parsing, std::string_view value) { return disk(parsing, "-hdb", 1, value); }
Result<void> option_hdc(Parsing& parsing, std::string_view value) { return disk(parsing, "-hdc", 2, value); }
Result<void> option_hdd(Parsing& parsing, std::string_view value) { return disk(parsing, "-hdd", 3, value); }
Result<void> option_cdrom(Parsing& parsing, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .index = 2, .cdrom = true, .read_only = true, .option = "-cdrom"});
}
Result<void> floppy(Parsing& parsing, std::string_view option, unsigned index, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .interface = DriveSpec::Interface::Floppy, .index = index, .option = std::string(option)});
}
Result<void> option_fda(Parsing& parsing, std::string_view value) { return floppy(parsing, "-fda", 0, value); }
Result<void> option_fdb(Parsing& parsing, std::string_view value) { return floppy(parsing, "-fdb", 1, value); }

Result<void> option_drive(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "if", "format", "snapshot", "readonly", "media", "index", "bus", "unit", "id"};
  static constexpr std::string_view kInterfaces[] = {"ide", "floppy"};
  static constexpr std::string_view kFormats[] = {"raw"};
  static constexpr std::string_view kMedia[] = {"disk", "cdrom"};
  const auto values = KeyedValues::parse("-drive", value, "", kKeys);
  if (!values) return std::unexpected(values.error());
  DriveSpec drive;
  drive.option = "-drive";
  drive.file = values->text("file");
  const auto interface = parse_choice("-drive: if", values->text("if", "ide"), kInterfaces);
  if (!interface) return std::unexpected(interface.error());
  drive.interface = *interface == 0 ? DriveSpec::Interface::Ide : DriveSpec::Interface::Floppy;
  drive.format = values->text("format");
  if (!drive.format.empty())
    if (const auto format = parse_choice("-drive: format", drive.format, kFormats); !format) return std::unexpected(format.error());
  const auto media = parse_choice("-drive: media", values->text("media", "disk"), kMedia);
  if (!media) return std::unexpected(media.error());
  drive.cdrom = *media == 1;
  if (drive.cdrom && drive.interface == DriveSpec::Interface::Floppy) return failure("-drive: media=cdrom does not go with if=floppy");
  const auto snapshot = values->flag("snapshot", false);
  if (!snapshot) return std::unexpected(snapshot.error());
  drive.snapshot = *snapshot;
  const auto read_only = values->flag("readonly", drive.cdrom);
  if (!read_only) return std::unexpected(read_only.error());
  drive.read_only = *read_only;
  if (drive.file.empty() && !drive.cdrom) return failure("-drive: the key 'file' is missing");

  const unsigned count = drive.interface == DriveSpec::Interface::Ide ? 4 : 2;
  if (values->find("index") && (values->find("bus") || values->find("unit")))
    return failure("-drive: give either index or bus and unit");
  if (const auto* text = values->find("index")) {
    const auto index = parse_number("-drive: index", *text, count - 1);
    if (!index) return std::unexpected(index.error());
    drive.index = static_cast<unsigned>(*index);
  } else if (values->find("bus") || values->find("unit")) {
    const auto bus = parse_number("-drive: bus", values->text("bus", "0"), count / 2 - 1);
    if (!bus) return std::unexpected(bus.error());
    const auto unit = parse_number("-drive: unit", values->text("unit", "0"), 1);
    if (!unit) return std::unexpected(unit.error());
    drive.index = static_cast<unsigned>(*bus * 2 + *unit);
  } else {
    const auto taken = [&](unsigned index) {
      return std::ranges::any_of(parsing.options.drives, [&](const DriveSpec& other) { return other.interface == drive.interface && other.index == index; });
    };
    while (drive.index < count && taken(drive.index)) ++drive.index;
    if (drive.index == count) return failure(fmt::format("-drive: the machine has no more than {} {} drives", count, interface_name(drive.interface)));
  }
  return add_drive(parsing, std::move(drive));
}

Result<void> option_snapshot(Parsing& parsing, std::string_view) { return parsing.snapshot = true, Result<void>{}; }

Result<void> option_boot(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"order", "menu"};
  const auto values = KeyedValues::parse("-boot", value, "order", kKeys);
  if (!values) return std::unexpected(values.error());
  if (const auto* order = values->find("order")) {
    for (usize i = 0; i < order->size(); ++i) {
      const char letter = (*order)[i];
      if (std::string_view("abcdn").find(letter) == std::string_view::npos)
        return failure(fmt::format("-boot: '{}' is no boot device; use a or b (floppy), c (disk), d (CD-ROM), n (network)", letter));
      if (order->find(letter, i + 1) != order->npos) return failure(fmt::format("-boot: '{}' stands twice in order={}", letter, *order));
    }
    parsing.options.boot_order = *order;
  }
  const auto menu = values->flag("menu", parsing.options.boot_menu);
  if (!menu) return std::unexpected(menu.error());
  parsing.options.boot_menu = *menu;
  return {};
}

// ---- Serial lines, monitor, display

Result<CharacterSpec> parse_character(std::string_view option, std::string_view value) {
  CharacterSpec spec;
  spec.option = fmt::format("{} {}", option, value);
  std::string_view rest = value;
  if (rest.starts_with("mon:")) {
    spec.mux = true;
    spec.signals = false;
    rest.remove_prefix(4);
  }
  using Kind = CharacterSpec::Kind;
  if (rest == "none") {
    spec.kind = Kind::None;
  } else if (rest == "null") {
    spec.kind = Kind::Null;
  } else if (rest == "stdio") {
    spec.kind = Kind::Stdio;
  } else if (rest == "pty") {
    spec.kind = Kind::Pty;
  } else if (rest.starts_with("file:")) {
    spec.kind = Kind::File;
    spec.path = rest.substr(5);
    if (spec.path.empty()) return failure(fmt::format("{}: file: needs a path, as in file:serial.log", option));
  } else if (rest.starts_with("chardev:")) {
    spec.kind = Kind::Chardev;
    spec.path = rest.substr(8);
    if (spec.path.empty()) return failure(fmt::format("{}: chardev: needs the id of a -chardev", option));
  } else if (rest.starts_with("unix:")) {
    static constexpr std::string_view kKeys[] = {"path", "server", "wait"};
    const auto values = KeyedValues::parse(option, rest.substr(5), "path", kKeys);
    if (!values) return std::unexpected(values.error());
    spec.kind = Kind::Unix;
    spec.path = values->text("path");
    if (spec.path.empty()) return failure(fmt::format("{}: unix: needs a path, as in unix:monitor.sock,server,nowait", option));
    const auto server = values->flag("server", false);
    if (!server) return std::unexpected(server.error());
    const auto wait = values->flag("wait", true);
    if (!wait) return std::unexpected(wait.error());
    spec.server = *server;
    spec.wait = *wait;
  } else {
    return failure(fmt::format("{}: unknown kind '{}'{}", option, rest, suggestion(rest, kCharacterKinds)));
  }
  return spec;
}

Result<void> option_serial(Parsing& parsing, std::string_view value) {
  auto spec = parse_character("-serial", value);
  if (!spec) return std::unexpected(spec.error());
  if (parsing.options.serial.size() == kSerialLines) return failure("-serial: the machine has no more than four serial lines");
  parsing.options.serial.push_back(std::move(*spec));
  parsing.serial_given = true;
  return {};
}

Result<void> option_debug_console(Parsing& parsing, std::string_view value) {
  auto spec = parse_character("-debugcon", value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.debug_console = std::move(*spec);
  return {};
}

Result<void> option_monitor(Parsing& parsing, std::string_view value) {
  auto spec = parse_character("-monitor", value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.monitor = std::move(*spec);
  return {};
}

Result<void> option_chardev(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"backend", "id", "path", "mux", "server", "wait", "signal", "append"};
  static constexpr std::string_view kBackends[] = {"stdio", "file", "socket", "pty", "null"};
  using Kind = CharacterSpec::Kind;
  static constexpr Kind kKinds[] = {Kind::Stdio, Kind::File, Kind::Unix, Kind::Pty, Kind::Null};
  const auto values = KeyedValues::parse("-chardev", value, "backend", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto backend = parse_choice("-chardev", values->text("backend"), kBackends);
  if (!backend) return std::unexpected(backend.error());
  ChardevSpec chardev;
  chardev.id = values->text("id");
  if (chardev.id.empty()) return failure("-chardev: the key 'id' is missing");
  for (const auto& other : parsing.options.chardevs)
    if (other.id == chardev.id) return failure(fmt::format("-chardev: the id '{}' is taken already", chardev.id));
  CharacterSpec& spec = chardev.backend;
  spec.kind = kKinds[*backend];
  spec.option = fmt::format("-chardev {}", value);
  spec.path = values->text("path");
  if (spec.path.empty() && (spec.kind == Kind::File || spec.kind == Kind::Unix))
    return failure(fmt::format("-chardev {}: the key 'path' is missing", kBackends[*backend]));
  const std::pair<std::string_view, bool*> flags[] = {{"mux", &spec.mux}, {"server", &spec.server}, {"wait", &spec.wait},
                                                      {"signal", &spec.signals}, {"append", &spec.append}};
  for (const auto& [key, target] : flags) {
    const auto flag = values->flag(key, *target);
    if (!flag) return std::unexpected(flag.error());
    *target = *flag;
  }
  if (spec.mux && !values->find("signal")) spec.signals = false;
  parsing.options.chardevs.push_back(std::move(chardev));
  return {};
}

Result<void> option_no_graphic(Parsing& parsing, std::string_view) {
  parsing.options.no_graphic = true;
  parsing.display_given = true;
  return {};
}

Result<void> option_display(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKinds[] = {"sdl", "vnc", "terminal", "none"};
  static constexpr std::string_view kScalings[] = {"linear", "nearest", "integer"};
  if (value == "help" || value == "?")
    return show(parsing,
                "Displays (several -display may be given):\n"
                "  sdl[,scale=linear|nearest|integer][,full-screen=on|off]   a window (default where the host has a display)\n"
                "  vnc=[HOST]:DISPLAY[,password=TEXT][,password-file=FILE]   a VNC server, for this machine only unless HOST is given\n"
                "  vnc=unix:PATH[,...]                                       a VNC server on a unix socket\n"
                "  terminal                                                  text modes on this terminal\n"
                "  none                                                      no display\n"
                "\n"
                "Keys of the window, with Ctrl-Alt: G grabs and frees mouse and keyboard, F full screen, S screenshot (PNG), P pause, M the\n"
                "monitor, Delete for the guest. An image file dropped on the window goes into the floppy or CD-ROM drive.\n"
                "Keys of the terminal: Ctrl-A h lists them.\n");
  DisplaySpec spec;
  spec.option = fmt::format("-display {}", value);
  const auto name = value.substr(0, value.find_first_of("=,"));
  const auto chosen = parse_choice("-display", name, kKinds);
  if (!chosen) return std::unexpected(chosen.error());
  parsing.display_given = true;
  switch (*chosen) {
    case 0: {
      static constexpr std::string_view kKeys[] = {"kind", "scale", "full-screen"};
      const auto values = KeyedValues::parse("-display sdl", value, "kind", kKeys);
      if (!values) return std::unexpected(values.error());
      const auto scaling = parse_choice("-display sdl: scale", values->text("scale", "linear"), kScalings);
      if (!scaling) return std::unexpected(scaling.error());
      spec.scaling = static_cast<DisplaySpec::Scaling>(*scaling);
      const auto full_screen = values->flag("full-screen", false);
      if (!full_screen) return std::unexpected(full_screen.error());
      spec.full_screen = *full_screen;
      break;
    }
    case 1: {
      spec.kind = DisplaySpec::Kind::Vnc;
      if (!value.starts_with("vnc=") || value.size() == 4) return failure("-display: vnc needs an address, as in vnc=:0 or vnc=unix:vnc.sock");
      auto vnc = parse_vnc_options(value.substr(4));
      if (!vnc) return std::unexpected(vnc.error());
      spec.vnc = std::move(*vnc);
      spec.option = "-display vnc";  // the password stays out of messages
      break;
    }
    case 2:
      spec.kind = DisplaySpec::Kind::Terminal;
      if (value != "terminal") return failure("-display: terminal has no keys");
      break;
    default:
      if (value != "none") return failure("-display: none has no keys");
      return {};
  }
  parsing.options.displays.push_back(std::move(spec));
  return {};
}

Result<void> option_audio(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"kind", "path", "id"};
  static constexpr std::string_view kKinds[] = {"none", "sdl", "wav"};
  using Kind = AudioSpec::Kind;
  static constexpr Kind kValues[] = {Kind::None, Kind::Sdl, Kind::Wav};
  const auto values = KeyedValues::parse("-audiodev", value, "kind", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto chosen = parse_choice("-audiodev", values->text("kind"), kKinds);
  if (!chosen) return std::unexpected(chosen.error());
  if (parsing.options.audio.kind != Kind::Default) return failure("-audiodev: sound can go to one place only");
  parsing.options.audio = {.kind = kValues[*chosen], .path = values->text("path")};
  const bool wav = parsing.options.audio.kind == Kind::Wav;
  if (wav && parsing.options.audio.path.empty()) return failure("-audiodev wav: the key 'path' is missing, as in wav,path=sound.wav");
  if (!wav && values->find("path")) return failure(fmt::format("-audiodev {}: has no path", kKinds[*chosen]));
  return {};
}

// ---- Diagnosis

Result<void> option_log(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") {
    std::string text = "Log items (separate several by commas):\n";
    for (const auto& item : log_item_names()) text += fmt::format("  {:<14}{}\n", item.name, item.help);
    return show(parsing, text);
  }
  std::vector<std::string_view> names;
  for (const auto& item : log_item_names()) names.push_back(item.name);
  for (std::string_view rest = value; !rest.empty();) {
    const auto comma = rest.find(',');
    const auto name = rest.substr(0, comma);
    rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
    if (std::ranges::find(names, name) == names.end())
      return failure(fmt::format("-d: unknown log item '{}'{}", name, suggestion(name, names)));
  }
  if (!parsing.options.log_items.empty()) parsing.options.log_items += ',';
  parsing.options.log_items += value;
  return {};
}
Result<void> option_statistics(Parsing& parsing, std::string_view) { return parsing.options.statistics = parsing.options.engine.count_tiers = true, Result<void>{}; }
Result<void> option_state_hash(Parsing& parsing, std::string_view value) {
  auto& counts = parsing.options.hash_counts;
  while (true) {
    const auto comma = value.find(',');
    const auto count = parse_number("-state-hash", value.substr(0, comma), u64{1} << 62);
    if (!count) return std::unexpected(count.error());
    if (!counts.empty() && *count <= counts.back()) return failure(fmt::format("-state-hash: {} does not come after {}", *count, counts.back()));
    counts.push_back(*count);
    if (comma == value.npos) return {};
    value.remove_prefix(comma + 1);
  }
}
Result<void> option_record(Parsing& parsing, std::string_view value) { return parsing.options.record = value, Result<void>{}; }
Result<void> option_replay(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "end"};
  static constexpr std::string_view kEnds[] = {"quit", "stop"};
  const auto values = KeyedValues::parse("-replay", value, "file", kKeys);
  if (!values) return std::unexpected(values.error());
  parsing.options.replay = values->text("file");
  if (parsing.options.replay.empty()) return failure("-replay: the name of the recording is missing");
  const auto end = parse_choice("-replay: end", values->text("end", "quit"), kEnds);
  if (!end) return std::unexpected(end.error());
  parsing.options.stop_at_replay_end = *end == 1;
  return {};
}
Result<void> option_trace(Parsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, trace_help());
  auto spec = parse_trace_spec(value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.trace = std::move(*spec);
  return {};
}
Result<void> option_profile(Parsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "every"};
  const auto values = KeyedValues::parse("-profile", value, "file", kKeys);
  if (!values) return std::unexpected(values.error());
  ProfileSpec spec{.file = values->text("file")};
  if (spec.file.empty()) return failure("-profile: the name of the file is missing");
  const auto every = parse_number("-profile: every", values->text("every", fmt::format("{}", spec.interval)), u64{1} << 40);
  if (!every) return std::unexpected(every.error());
  constexpr u64 kLeast = 100;
  if (*every < kLeast) return failure(fmt::format("-profile: every={} is too often; it is {} instructions at least", *every, kLeast));
  spec.interval = *every;
  parsing.options.profile = std::move(spec);
  parsing.options.engine.count_tiers = true;
  return {};
}
Result<void> option_history(Parsing& parsing, std::string_view value) {
  const auto size = parse_size("-history", std::string(value), 20);
  if (!size) return std::unexpected(size.error());
  constexpr u64 kSmallest = u64{16} << 20, kGreatest = u64{256} << 30;
  if (*size < kSmallest || *size > kGreatest) return failure(fmt::format("-history: '{}' is out of range; it is 16M to 256G", value));
  parsing.options.history = *size;
  return {};
}
Result<void> option_inject_delay(Parsing& parsing, std::string_view value) {
  constexpr u64 kLongest = 1'000'000;
  const auto delay = parse_number("-inject-delay", value, kLongest);
  if (!delay) return std::unexpected(delay.error());
  parsing.options.engine.inject_delay = *delay;
  return {};
}
Result<void> option_perf_map(Parsing& parsing, std::string_view) { return parsing.options.engine.perf_map = true, Result<void>{}; }
Result<void> option_jit_dump(Parsing& parsing, std::string_view) { return parsing.options.engine.jit_dump = true, Result<void>{}; }
Result<void> option_log_file(Parsing& parsing, std::string_view value) { return parsing.options.log_file = value, Result<void>{}; }

Result<void> option_help(Parsing& parsing, std::string_view) { return show(parsing, help_text()); }
Result<void> option_version(Parsing& parsing, std::string_view) {
  return show(parsing, "Vellum " VELLUM_VERSION "\n");
}

// An empty name begins a group with a heading.
constexpr Row kRows[] = {
    {"", "", "Machine", nullptr},
    {"-machine", "pc", "the board (-machine help lists them)", option_machine},
    {"-cpu", "MODEL[,+x][,-y]", "CPU model and features (-cpu help lists them)", option_cpu},
    {"-m", "SIZE", "memory, 1M to 64G; M is meant without a suffix (default 128M)", option_memory},
    {"-smp", "1", "number of CPUs", option_smp},
    {"-device", "NAME[,KEY=VALUE]", "an extra device (-device help lists them)", option_device},
    {"-netdev", "KIND,id=ID[,KEY=VALUE...]", "where a network card's cable leads: user, tap, socket or stream\n(-netdev help tells more)", option_netdev},
    {"-nic", "KIND[,model=CARD][,KEY=VALUE...]|none", "a network card and its -netdev in one (card e1000 unless given);\nwithout -nic and -device there is none", option_nic},
    {"-usb", "", "a USB controller (UHCI); -device usb-tablet brings it too", option_usb},
    {"-rtc", "base=utc|localtime|DATE", "what the real-time clock shows at the start", option_rtc},
    {"-clock", "realtime|instructions", "virtual time follows the host (default), or the number of\nexecuted instructions, exactly repeatable", option_clock},
    {"-engine", "interpreter|baseline|llvm|tiered", "how guest code is run (default tiered where the host allows it)", option_engine},
    {"-tb-size", "SIZE", "memory for translated code of each tier, 1M to 512M; M is meant\nwithout a suffix (default 256M, 32M on AArch64)", option_code_cache},
    {"-no-reboot", "", "end instead of restarting when the guest resets the machine", option_no_reboot},
    {"-S", "", "start stopped; the monitor command cont or a debugger starts it", option_stopped},
    {"-gdb", "DEV", "let gdb debug the guest: tcp:[HOST]:PORT or unix:PATH", option_gdb},
    {"-symbols", "FILE", "names of the guest's addresses: ELF, System.map or /proc/kallsyms\n(may be given several times)", option_symbols},
    {"-s", "", "the same as -gdb tcp::1234", option_gdb_short},
    {"", "", "Firmware and kernel", nullptr},
    {"-bios", "FILE", "firmware image (default SeaBIOS: bios-256k.bin)", option_bios},
    {"-L", "DIR", "look for firmware in this directory first", option_directory},
    {"-kernel", "FILE", "start this kernel (Linux bzImage, multiboot, PVH) directly", option_kernel},
    {"-initrd", "FILE", "initial RAM disk for -kernel", option_initrd},
    {"-append", "TEXT", "command line for -kernel", option_append},
    {"", "", "Drives", nullptr},
    {"-hda", "FILE", "disk image: IDE primary master", option_hda},
    {"-hdb", "FILE", "IDE primary slave", option_hdb},
    {"-hdc", "FILE", "IDE secondary master", option_hdc},
    {"-hdd", "FILE", "IDE secondary slave", option_hdd},
    {"-cdrom", "FILE", "CD-ROM image: IDE secondary master", option_cdrom},
    {"-fda", "FILE", "floppy image in drive A:", option_fda},
    {"-fdb", "FILE", "floppy image in drive B:", option_fdb},
    {"-drive", "file=FILE[,KEY=VALUE...]", "a drive; keys: if=ide|floppy format=raw media=disk|cdrom\nsnapshot=on|off readonly=on|off index=N bus=N unit=N id=NAME", option_drive},
    {"-snapshot", "", "forget at the end what the guest writes to any drive", option_snapshot},
    {"-boot", "[order=]LETTERS[,menu=on|off]", "boot order: a, b floppy, c disk, d CD-ROM, n network", option_boot},
    {"", "", "Console", nullptr},
    {"-nographic", "", "no display; first serial line and monitor share the terminal\n(Ctrl-A h shows the keys)", option_no_graphic},
    {"-display", "sdl|vnc=ADDRESS|terminal|none", "where the screen is shown (-display help tells more; default: a\nwindow where the host has a display)", option_display},
    {"-audiodev", "none|sdl|wav,path=FILE", "where sound goes (default: sdl with a window, else nowhere)", option_audio},
    {"-serial", "DEV", "where the next serial line leads (up to four); DEV is none, null,\nstdio, mon:stdio, file:PATH, pty, unix:PATH[,server][,nowait], chardev:ID", option_serial},
    {"-monitor", "DEV", "where the monitor is reached", option_monitor},
    {"-debugcon", "DEV", "where writes to ports E9h and 402h lead", option_debug_console},
    {"-chardev", "KIND,id=ID[,KEY=VALUE...]", "a named DEV; kinds: stdio file socket pty null; keys: path=PATH\nmux=on|off server=on|off wait=on|off append=on|off signal=on|off", option_chardev},
    {"", "", "Diagnosis", nullptr},
    {"-d", "ITEM[,ITEM...]", "log these items (-d help lists them)", option_log},
    {"-D", "FILE", "write the log to a file instead of the terminal", option_log_file},
    {"-stats", "", "print at the end what ran where, and what it cost", option_statistics},
    {"-state-hash", "N[,N...]", "print a hash of the machine's whole state after these numbers of\ninstructions, and end behind the last; with -clock instructions", option_state_hash},
    {"-record", "FILE", "record all input with its time, so that the run can be replayed;\nwhat the guest writes to drives is forgotten at the end", option_record},
    {"-replay", "FILE[,end=quit|stop]", "run again what was recorded, with the same options; afterwards\nend, or stop for the monitor", option_replay},
    {"-history", "SIZE", "use this much memory for snapshots to go back to in time (monitor:\nreverse-step, goto); with -clock instructions, -record or -replay", option_history},
    {"-trace", "EVENT[,EVENT...][,KEY=VALUE...]", "write these events to a file (-trace help lists them and the filters)", option_trace},
    {"-profile", "FILE.html[,every=N]", "sample the guest every N instructions (default 100003), and write\na page with its hot functions, call stacks and tiers at the end", option_profile},
    {"-inject-delay", "N", "for tests: the compiler's thread waits up to N microseconds at\nrandom, now and then twenty times as long", option_inject_delay},
    {"-perfmap", "", "name translated code for perf report in /tmp/perf-PID.map", option_perf_map},
    {"-jitdump", "", "write translated code for perf inject --jit to jit-PID.dump", option_jit_dump},
    {"-help", "", "this text", option_help},
    {"-version", "", "the program's version", option_version},
};

// Shorter or older spellings.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {{"-M", "-machine"}, {"-h", "-help"}};

Result<void> finish(Parsing& parsing) {
  Options& options = parsing.options;
  auto cpu = parse_cpu_model(parsing.cpu_text.empty() ? "max" : parsing.cpu_text);
  if (!cpu) {
    const std::string& message = cpu.error().message;
    return failure(message.starts_with("-cpu") ? message : "-cpu: " + message);
  }
  options.cpu = std::move(*cpu);
  options.default_display = !parsing.display_given;
  using DisplayKind = DisplaySpec::Kind;
  const auto count_displays = [&](DisplayKind kind) { return std::ranges::count(options.displays, kind, &DisplaySpec::kind); };
  if (count_displays(DisplayKind::Sdl) > 1 || count_displays(DisplayKind::Terminal) > 1)
    return failure("-display: one window and one terminal are the most that can be");
  if (auto done = options.network.finish(); !done) return done;
  if (options.kernel.empty() && !options.initrd.empty()) return failure("-initrd goes with -kernel only");
  if (options.kernel.empty() && options.append_given) return failure("-append goes with -kernel only");
  if (!options.record.empty() && !options.replay.empty()) return failure("-record and -replay do not go together");
  const bool repeatable = options.clock == ClockMode::Instructions || !options.record.empty() || !options.replay.empty();
  if (!options.hash_counts.empty() && !repeatable)
    return failure("-state-hash goes with -clock instructions, -record or -replay only: otherwise no two runs are the same");
  if (options.history && !repeatable)
    return failure("-history goes with -clock instructions, -record or -replay only: otherwise nothing can be run again as it was");
  // An image must be at a replay what it was at the start of the recording.
  if (!options.record.empty() || !options.replay.empty() || options.history) parsing.snapshot = true;
  // A run with instruction time is a pure function of its options and images: the host's date has no part in it.
  constexpr u64 kFixedDate = 1735689600;  // 2025-01-01T00:00:00Z
  if (!parsing.rtc_given) options.rtc_base = options.clock == ClockMode::Instructions ? kFixedDate : parsing.now;
  options.snapshot = parsing.snapshot;
  for (auto& drive : options.drives)
    if (parsing.snapshot && !drive.read_only) drive.snapshot = true;

  using Kind = CharacterSpec::Kind;
  if (options.no_graphic) {
    // As users of QEMU expect: whatever of serial line and monitor has no place yet shares the terminal.
    const CharacterSpec terminal{.kind = Kind::Stdio, .mux = true, .signals = false, .option = "-nographic"};
    if (!parsing.serial_given) options.serial.push_back(terminal);
    const auto on_terminal = [](const CharacterSpec& spec) { return spec.kind == Kind::Stdio; };
    const bool free = std::ranges::none_of(options.serial, [&](const CharacterSpec& spec) { return on_terminal(spec) && !spec.mux; }) &&
                      std::ranges::none_of(options.chardevs, [&](const ChardevSpec& chardev) { return on_terminal(chardev.backend); }) &&
                      !(options.debug_console && on_terminal(*options.debug_console));
    if (!options.monitor && free) options.monitor = terminal;
  }
  // mon:stdio: the monitor shares the line.
  if (!options.monitor)
    for (const auto& spec : options.serial)
      if (spec.mux) options.monitor = spec;
  const auto known = [&](const std::optional<CharacterSpec>& spec) -> Result<void> {
    if (!spec || spec->kind != Kind::Chardev) return {};
    std::vector<std::string_view> ids;
    for (const auto& chardev : options.chardevs) ids.push_back(chardev.id);
    if (std::ranges::find(ids, spec->path) != ids.end()) return {};
    return failure(fmt::format("{}: there is no -chardev with the id '{}'{}", spec->option, spec->path, ids.empty() ? "" : suggestion(spec->path, ids)));
  };
  if (count_displays(DisplayKind::Terminal)) {
    const auto on_terminal = [](const CharacterSpec& spec) { return spec.kind == Kind::Stdio; };
    if (std::ranges::any_of(options.serial, on_terminal) || (options.monitor && on_terminal(*options.monitor)) ||
        (options.debug_console && on_terminal(*options.debug_console)) ||
        std::ranges::any_of(options.chardevs, on_terminal, &ChardevSpec::backend))
      return failure("-display terminal: the terminal has another user already (stdio or -nographic); give that a file, a pty or a socket");
  }
  for (const auto& spec : options.serial)
    if (auto checked = known(spec); !checked) return checked;
  if (auto checked = known(options.monitor); !checked) return checked;
  return known(options.debug_console);
}

}  // namespace

std::vector<std::string_view> option_names() {
  std::vector<std::string_view> names;
  for (const auto& row : kRows)
    if (!row.name.empty()) names.push_back(row.name);
  for (const auto& [alias, name] : kAliases) names.push_back(alias);
  return names;
}

std::string help_text() {
  std::string text =
      "usage: vellum [options] [disk image]\n"
      "Runs an x86 PC: unmodified firmware, kernels and disks. Options are spelled as QEMU spells them.\n";
  for (const auto& row : kRows) {
    if (row.name.empty()) {
      text += fmt::format("\n{}:\n", row.help);
      continue;
    }
    std::string left = fmt::format("  {}{}{}", row.name, row.argument.empty() ? "" : " ", row.argument);
    std::string_view help = row.help;
    constexpr usize kColumn = 34;
    if (left.size() >= kColumn) text += left + "\n", left.clear();
    while (!help.empty()) {
      const auto line = help.substr(0, help.find('\n'));
      text += fmt::format("{:<{}}{}\n", left, kColumn, line);
      left.clear();
      help.remove_prefix(std::min(line.size() + 1, help.size()));
    }
  }
  return text +
         "\nCommands (vellum COMMAND -help tells more):\n"
         "  vellum monitor SOCKET [LINE...] a running machine's monitor (-monitor unix:SOCKET,server,nowait)\n"
         "  vellum compare -- OPTIONS       the same guest under two engines, until they differ\n"
         "  vellum trace summarize|export   tables and timelines of a trace (-trace ...,format=binary)\n"
         "  vellum profile [FILE] -- OPTIONS\n"
         "                                  the same as -profile FILE OPTIONS\n"
         "  vellum translate FILE           what becomes of guest code\n"
         "\nExamples:\n"
         "  vellum -m 512 -nographic -kernel vmlinuz -initrd initrd.img -append console=ttyS0\n"
         "  vellum -m 1G -nographic -hda debian.img -snapshot\n"
         "The manual page vellum(1) tells more.\n";
}

Result<std::variant<Options, Information>> parse_options(std::span<const std::string_view> arguments, u64 now) {
  Parsing parsing;
  parsing.now = now;
  for (usize i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (!argument.starts_with('-')) {
      if (auto done = disk(parsing, "the disk image", 0, argument); !done) return std::unexpected(done.error());
      continue;
    }
    // --option is accepted too.
    std::string_view name = argument.starts_with("--") ? argument.substr(1) : argument;
    for (const auto& [alias, full] : kAliases)
      if (name == alias) name = full;
    const auto row = std::ranges::find(kRows, name, &Row::name);
    if (row == std::end(kRows) || !row->handle)
      return failure(fmt::format("{}: unknown option{}", argument, [&] {
        const auto names = option_names();
        const std::string text = suggestion(name, names);
        return text.empty() ? std::string("; -help lists them") : text;
      }()));
    std::string_view value;
    if (!row->argument.empty()) {
      if (i + 1 == arguments.size()) return failure(fmt::format("{}: a value is missing ({} {})", argument, row->name, row->argument));
      value = arguments[++i];
      if (value.empty() && (row->argument == "FILE" || row->argument == "DIR"))
        return failure(fmt::format("{}: the name is empty", argument));
    }
    if (auto done = row->handle(parsing, value); !done) return std::unexpected(done.error());
  }
  if (parsing.information) return *parsing.information;
  if (auto done = finish(parsing); !done) return std::unexpected(done.error());
  return std::move(parsing.options);
}

}  // namespace vellum
