// Options of drives and the boot order.
#include "frontend/option_groups.h"

#include <algorithm>

#include "frontend/option_text.h"

namespace vellum {

namespace {

constexpr usize kUsbPorts = 2;

std::string_view interface_name(DriveSpec::Interface interface) {
  return interface == DriveSpec::Interface::Ide ? "ide" : "floppy";
}

Result<void> add_drive(OptionParsing& parsing, DriveSpec drive) {
  for (const auto& other : parsing.options.drives)
    if (other.interface == drive.interface && other.index == drive.index)
      return failure(fmt::format("{}: {} drive {} is taken already by {}", drive.option, interface_name(drive.interface), drive.index, other.option));
  parsing.options.drives.push_back(std::move(drive));
  return {};
}

Result<void> disk(OptionParsing& parsing, std::string_view option, unsigned index, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .index = index, .option = std::string(option)});
}
Result<void> option_hda(OptionParsing& parsing, std::string_view value) { return disk(parsing, "-hda", 0, value); }
Result<void> option_hdb(OptionParsing& parsing, std::string_view value) { return disk(parsing, "-hdb", 1, value); }
Result<void> option_hdc(OptionParsing& parsing, std::string_view value) { return disk(parsing, "-hdc", 2, value); }
Result<void> option_hdd(OptionParsing& parsing, std::string_view value) { return disk(parsing, "-hdd", 3, value); }
Result<void> option_cdrom(OptionParsing& parsing, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .index = 2, .cdrom = true, .read_only = true, .option = "-cdrom"});
}
Result<void> floppy(OptionParsing& parsing, std::string_view option, unsigned index, std::string_view value) {
  return add_drive(parsing, {.file = std::string(value), .interface = DriveSpec::Interface::Floppy, .index = index, .option = std::string(option)});
}
Result<void> option_fda(OptionParsing& parsing, std::string_view value) { return floppy(parsing, "-fda", 0, value); }
Result<void> option_fdb(OptionParsing& parsing, std::string_view value) { return floppy(parsing, "-fdb", 1, value); }

Result<void> option_drive(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "if", "format", "snapshot", "readonly", "media", "index", "bus", "unit", "id"};
  static constexpr std::string_view kInterfaces[] = {"ide", "floppy", "usb", "none"};  // in the order of Interface
  static constexpr std::string_view kFormats[] = {"raw"};
  static constexpr std::string_view kMedia[] = {"disk", "cdrom"};
  const auto values = KeyedValues::parse("-drive", value, "", kKeys);
  if (!values) return std::unexpected(values.error());
  using Interface = DriveSpec::Interface;
  DriveSpec drive;
  drive.option = "-drive";
  drive.file = values->text("file");
  const auto interface = parse_choice("-drive: if", values->text("if", "ide"), kInterfaces);
  if (!interface) return std::unexpected(interface.error());
  drive.interface = static_cast<Interface>(*interface);
  drive.format = values->text("format");
  if (!drive.format.empty())
    if (const auto format = parse_choice("-drive: format", drive.format, kFormats); !format) return std::unexpected(format.error());
  const auto media = parse_choice("-drive: media", values->text("media", "disk"), kMedia);
  if (!media) return std::unexpected(media.error());
  drive.cdrom = *media == 1;
  if (drive.cdrom && drive.interface != Interface::Ide) return failure("-drive: media=cdrom goes with if=ide only");
  const auto snapshot = values->flag("snapshot", false);
  if (!snapshot) return std::unexpected(snapshot.error());
  drive.snapshot = *snapshot;
  const auto read_only = values->flag("readonly", drive.cdrom);
  if (!read_only) return std::unexpected(read_only.error());
  drive.read_only = *read_only;
  if (drive.file.empty() && !drive.cdrom && drive.interface != Interface::Usb) return failure("-drive: the key 'file' is missing");
  drive.id = values->text("id");
  if (drive.interface == Interface::Usb || drive.interface == Interface::None) {
    if (values->find("index") || values->find("bus") || values->find("unit")) return failure("-drive: index, bus and unit do not go with if=usb and if=none");
    if (drive.interface == Interface::None && drive.id.empty()) return failure("-drive: if=none needs an id, by which a device names the drive");
    parsing.options.drives.push_back(std::move(drive));
    return {};
  }

  const unsigned count = drive.interface == Interface::Ide ? 4 : 2;
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

// Gives the USB disks their drives and ports.
Result<void> place_usb_disks(OptionParsing& parsing) {
  std::vector<DriveSpec>& drives = parsing.options.drives;
  const bool tablet = parsing.options.usb_tablet;
  using Interface = DriveSpec::Interface;
  unsigned count = 0;
  for (auto& drive : drives)
    if (drive.interface == Interface::Usb) drive.index = count++;
  for (const std::string& id : parsing.usb_storage) {
    if (id.empty()) {
      drives.push_back({.interface = Interface::Usb, .index = count++, .option = "-device usb-storage"});
      continue;
    }
    std::vector<std::string_view> free;
    for (const auto& drive : drives)
      if (drive.interface == Interface::None) free.push_back(drive.id);
    const auto drive = std::ranges::find_if(drives, [&](const DriveSpec& other) { return other.interface == Interface::None && other.id == id; });
    if (drive == drives.end())
      return failure(fmt::format("-device usb-storage: there is no free -drive if=none with the id '{}'{}", id, free.empty() ? "" : suggestion(id, free)));
    drive->interface = Interface::Usb;
    drive->index = count++;
  }
  for (const auto& drive : drives)
    if (drive.interface == Interface::None)
      return failure(fmt::format("-drive: no device takes the drive '{}'; add -device usb-storage,drive={}", drive.id, drive.id));
  if (count + tablet > kUsbPorts)
    return failure(fmt::format("the USB controller has {} ports, too few for {} disk{}{}", kUsbPorts, count, count == 1 ? "" : "s", tablet ? " and the tablet" : ""));
  parsing.options.usb |= count > 0;
  return {};
}

Result<void> option_snapshot(OptionParsing& parsing, std::string_view) { return parsing.snapshot = true, Result<void>{}; }

Result<void> option_boot(OptionParsing& parsing, std::string_view value) {
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

constexpr OptionRow kRows[] = {
    {"-hda", "FILE", "disk image: IDE primary master", option_hda},
    {"-hdb", "FILE", "IDE primary slave", option_hdb},
    {"-hdc", "FILE", "IDE secondary master", option_hdc},
    {"-hdd", "FILE", "IDE secondary slave", option_hdd},
    {"-cdrom", "FILE", "CD-ROM image: IDE secondary master", option_cdrom},
    {"-fda", "FILE", "floppy image in drive A:", option_fda},
    {"-fdb", "FILE", "floppy image in drive B:", option_fdb},
    {"-drive", "file=FILE[,KEY=VALUE...]", "a drive; keys: if=ide|floppy|usb|none format=raw media=disk|cdrom\nsnapshot=on|off readonly=on|off index=N bus=N unit=N id=NAME", option_drive},
    {"-snapshot", "", "forget at the end what the guest writes to any drive", option_snapshot},
    {"-boot", "[order=]LETTERS[,menu=on|off]", "boot order: a, b floppy, c disk, d CD-ROM, n network", option_boot},
};

}  // namespace

std::span<const OptionRow> drive_options() { return kRows; }

Result<void> add_disk_image(OptionParsing& parsing, std::string_view file) { return disk(parsing, "the disk image", 0, file); }

Result<void> finish_drive_options(OptionParsing& parsing) {
  Options& options = parsing.options;
  if (auto done = place_usb_disks(parsing); !done) return done;
  options.snapshot = parsing.snapshot;
  for (auto& drive : options.drives)
    if (parsing.snapshot && !drive.read_only) drive.snapshot = true;
  return {};
}

}  // namespace vellum
