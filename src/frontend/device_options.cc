// Options of extra devices and of networks.
#include "frontend/option_groups.h"

#include "frontend/option_text.h"

namespace vellum {

namespace {

constexpr std::string_view kDevices[] = {"isa-debug-exit", "pc-testdev", "usb-tablet", "usb-storage", "sb16", "AC97"};

std::vector<std::string_view> device_names() {
  std::vector<std::string_view> names(std::begin(kDevices), std::end(kDevices));
  for (const NetworkModel& model : network_models()) names.push_back(model.name);
  return names;
}

// What stands first, or behind driver=; each driver has its own keys, so that its name is needed before they are parsed.
std::string_view driver_of(std::string_view value) {
  constexpr std::string_view kKey = "driver=";
  const std::string_view first = value.substr(0, value.find(','));
  if (first.find('=') == first.npos) return first;
  for (std::string_view rest = value;;) {
    const auto comma = rest.find(',');
    if (rest.starts_with(kKey)) return rest.substr(0, comma).substr(kKey.size());
    if (comma == rest.npos) return {};
    rest.remove_prefix(comma + 1);
  }
}

Result<void> add_usb_storage(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"driver", "drive", "id", "removable"};
  const auto values = KeyedValues::parse("-device", value, "driver", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto removable = values->flag("removable", true);
  if (!removable) return std::unexpected(removable.error());
  if (!*removable) return failure("-device: usb-storage: its medium can always be changed; removable=off is not possible");
  parsing.usb_storage.push_back(values->text("drive"));
  return {};
}

Result<void> option_device(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") {
    std::string text =
        "Devices:\n"
        "  isa-debug-exit[,iobase=PORT][,iosize=N]   a write of V to the port (501h unless given) ends Vellum with status 2V+1\n"
        "  pc-testdev                                registers that the test suite kvm-unit-tests needs\n"
        "  usb-tablet                                a pointer that reports its place, on USB: the guest's pointer is where\n"
        "                                            the user's is\n"
        "  usb-storage[,drive=ID]                    a disk on USB that can be changed while the guest runs; ID is a -drive's\n"
        "                                            with if=none, and without it the disk drive is empty\n"
        "  sb16                                      Sound Blaster 16: port 220h, IRQ 5, DMA 1 and 5, OPL3\n"
        "  AC97                                      Intel AC'97 sound (82801AA)\n";
    for (const NetworkModel& model : network_models()) text += fmt::format("  {:<42}{}\n", fmt::format("{}[,netdev=ID][,mac=ADDRESS]", model.name), model.help);
    return show(parsing, text + "  For network cards besides: romfile=FILE, the option ROM (romfile= for none)\n");
  }
  const std::string_view driver = driver_of(value);
  if (const NetworkModel* model = find_network_model(driver)) return parsing.options.network.add_card(*model, value);
  if (driver == "usb-storage") return add_usb_storage(parsing, value);
  static constexpr std::string_view kKeys[] = {"driver", "iobase", "iosize"};
  const auto values = KeyedValues::parse("-device", value, "driver", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto names = device_names();
  const auto chosen = parse_choice("-device", driver, names);
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

Result<void> option_netdev(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, netdev_help());
  return parsing.options.network.add_netdev(value);
}
Result<void> option_nic(OptionParsing& parsing, std::string_view value) { return parsing.options.network.add_nic(value); }

Result<void> option_usb(OptionParsing& parsing, std::string_view) { return parsing.options.usb = true, Result<void>{}; }

constexpr OptionRow kRows[] = {
    {"-device", "NAME[,KEY=VALUE]", "an extra device (-device help lists them)", option_device},
    {"-netdev", "KIND,id=ID[,KEY=VALUE...]", "where a network card's cable leads: user, tap, socket or stream\n(-netdev help tells more)", option_netdev},
    {"-nic", "KIND[,model=CARD][,KEY=VALUE...]|none", "a network card and its -netdev in one (card e1000 unless given);\nwithout -nic and -device there is none", option_nic},
    {"-usb", "", "a USB controller (UHCI); -device usb-tablet and USB disks bring it too", option_usb},
};

}  // namespace

std::span<const OptionRow> device_options() { return kRows; }

}  // namespace vellum
