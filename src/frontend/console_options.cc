// Options of what the user sees, hears and types into: serial lines, monitor, displays, sound.
#include "frontend/option_groups.h"

#include <algorithm>

#include "frontend/option_text.h"

namespace vellum {

namespace {

constexpr std::string_view kCharacterKinds[] = {"none", "null", "stdio", "mon:stdio", "file:", "pty", "unix:", "chardev:"};
constexpr usize kSerialLines = 4;

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

Result<void> option_serial(OptionParsing& parsing, std::string_view value) {
  auto spec = parse_character("-serial", value);
  if (!spec) return std::unexpected(spec.error());
  if (parsing.options.serial.size() == kSerialLines) return failure("-serial: the machine has no more than four serial lines");
  parsing.options.serial.push_back(std::move(*spec));
  parsing.serial_given = true;
  return {};
}

Result<void> option_debug_console(OptionParsing& parsing, std::string_view value) {
  auto spec = parse_character("-debugcon", value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.debug_console = std::move(*spec);
  return {};
}

Result<void> option_monitor(OptionParsing& parsing, std::string_view value) {
  auto spec = parse_character("-monitor", value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.monitor = std::move(*spec);
  return {};
}

Result<void> option_chardev(OptionParsing& parsing, std::string_view value) {
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

Result<void> option_no_graphic(OptionParsing& parsing, std::string_view) {
  parsing.options.no_graphic = true;
  parsing.display_given = true;
  return {};
}

Result<void> option_display(OptionParsing& parsing, std::string_view value) {
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
                "monitor, Delete for the guest. An image file dropped on the window goes into the floppy, CD-ROM or USB drive.\n"
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

Result<void> option_audio(OptionParsing& parsing, std::string_view value) {
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

constexpr OptionRow kRows[] = {
    {"-nographic", "", "no display; first serial line and monitor share the terminal\n(Ctrl-A h shows the keys)", option_no_graphic},
    {"-display", "sdl|vnc=ADDRESS|terminal|none", "where the screen is shown (-display help tells more; default: a\nwindow where the host has a display)", option_display},
    {"-audiodev", "none|sdl|wav,path=FILE", "where sound goes (default: sdl with a window, else nowhere)", option_audio},
    {"-serial", "DEV", "where the next serial line leads (up to four); DEV is none, null,\nstdio, mon:stdio, file:PATH, pty, unix:PATH[,server][,nowait], chardev:ID", option_serial},
    {"-monitor", "DEV", "where the monitor is reached", option_monitor},
    {"-debugcon", "DEV", "where writes to ports E9h and 402h lead", option_debug_console},
    {"-chardev", "KIND,id=ID[,KEY=VALUE...]", "a named DEV; kinds: stdio file socket pty null; keys: path=PATH\nmux=on|off server=on|off wait=on|off append=on|off signal=on|off", option_chardev},
};

bool on_terminal(const CharacterSpec& spec) { return spec.kind == CharacterSpec::Kind::Stdio; }

// As users of QEMU expect: whatever of serial line and monitor has no place yet shares the terminal.
void share_terminal(Options& options, bool serial_given) {
  const CharacterSpec terminal{.kind = CharacterSpec::Kind::Stdio, .mux = true, .signals = false, .option = "-nographic"};
  if (!serial_given) options.serial.push_back(terminal);
  const bool free = std::ranges::none_of(options.serial, [](const CharacterSpec& spec) { return on_terminal(spec) && !spec.mux; }) &&
                    std::ranges::none_of(options.chardevs, on_terminal, &ChardevSpec::backend) &&
                    !(options.debug_console && on_terminal(*options.debug_console));
  if (!options.monitor && free) options.monitor = terminal;
}

Result<void> check_displays(const Options& options) {
  using Kind = DisplaySpec::Kind;
  const auto count = [&](Kind kind) { return std::ranges::count(options.displays, kind, &DisplaySpec::kind); };
  if (count(Kind::Sdl) > 1 || count(Kind::Terminal) > 1) return failure("-display: one window and one terminal are the most that can be");
  if (count(Kind::Terminal) &&
      (std::ranges::any_of(options.serial, on_terminal) || (options.monitor && on_terminal(*options.monitor)) ||
       (options.debug_console && on_terminal(*options.debug_console)) ||
       std::ranges::any_of(options.chardevs, on_terminal, &ChardevSpec::backend)))
    return failure("-display terminal: the terminal has another user already (stdio or -nographic); give that a file, a pty or a socket");
  return {};
}

Result<void> check_chardev(const Options& options, const CharacterSpec& spec) {
  if (spec.kind != CharacterSpec::Kind::Chardev) return {};
  std::vector<std::string_view> ids;
  for (const auto& chardev : options.chardevs) ids.push_back(chardev.id);
  if (std::ranges::find(ids, spec.path) != ids.end()) return {};
  return failure(fmt::format("{}: there is no -chardev with the id '{}'{}", spec.option, spec.path, ids.empty() ? "" : suggestion(spec.path, ids)));
}

}  // namespace

std::span<const OptionRow> console_options() { return kRows; }

Result<void> finish_console_options(OptionParsing& parsing) {
  Options& options = parsing.options;
  options.default_display = !parsing.display_given;
  if (options.no_graphic) share_terminal(options, parsing.serial_given);
  // mon:stdio: the monitor shares the line.
  if (!options.monitor)
    for (const auto& spec : options.serial)
      if (spec.mux) options.monitor = spec;
  if (auto checked = check_displays(options); !checked) return checked;
  for (const auto& spec : options.serial)
    if (auto checked = check_chardev(options, spec); !checked) return checked;
  for (const auto* spec : {&options.monitor, &options.debug_console})
    if (*spec)
      if (auto checked = check_chardev(options, **spec); !checked) return checked;
  return {};
}

}  // namespace vellum
