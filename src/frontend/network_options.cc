// Parses networks as users of QEMU write them.
#include "frontend/network_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "frontend/option_text.h"

namespace vellum {

namespace {

using Model = PcConfig::NetworkCard::Model;

constexpr NetworkModel kModels[] = {
    {"e1000", "e1000-82540em", "pxe-e1000.rom", Model::E1000, "Intel 82540EM gigabit Ethernet on PCI"},
    {"ne2k_pci", "rtl8029", "pxe-ne2k_pci.rom", Model::Ne2kPci, "Realtek RTL8029: an NE2000 on PCI, for old guests"},
    {"ne2k_isa", "ne2000", "", Model::Ne2kIsa, "NE2000 on ISA; iobase=PORT (300h) irq=N (9)"},
    {"virtio-net-pci", "virtio-net", "pxe-virtio.rom", Model::VirtioNet, "virtio 1.2: quick, where the guest has a driver for it"},
};
constexpr std::string_view kKinds[] = {"user", "tap", "socket", "stream"};
constexpr usize kMostCards = 8;

// Keys of each kind besides id; those behind the first bar of `-nic` are the card's.
constexpr std::string_view kUserKeys[] = {"net", "host", "dns", "dhcpstart", "hostname", "restrict", "ipv6", "tftp", "bootfile", "hostfwd"};
constexpr std::string_view kTapKeys[] = {"ifname", "script", "downscript"};
constexpr std::string_view kSocketKeys[] = {"listen", "connect"};
constexpr std::string_view kStreamKeys[] = {"server", "addr.type", "addr.path"};
constexpr std::string_view kCardKeys[] = {"mac", "romfile"};

std::vector<std::string_view> keys_of(usize kind) {
  const std::span<const std::string_view> keys = kind == 0 ? std::span<const std::string_view>(kUserKeys)
                                                 : kind == 1 ? kTapKeys
                                                 : kind == 2 ? std::span<const std::string_view>(kSocketKeys)
                                                             : kStreamKeys;
  return {keys.begin(), keys.end()};
}

std::optional<Ipv4Address> parse_ipv4(std::string_view text) {
  Ipv4Address address;
  for (usize i = 0; i < address.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), address[i]);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<usize>(end - text.data()));
    if (i + 1 == address.size()) break;
    if (!text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
  }
  return text.empty() ? std::optional(address) : std::nullopt;
}

u32 number_of(const Ipv4Address& a) { return u32{a[0]} << 24 | a[1] << 16 | a[2] << 8 | a[3]; }
Ipv4Address address_of(u32 n) { return {static_cast<u8>(n >> 24), static_cast<u8>(n >> 16), static_cast<u8>(n >> 8), static_cast<u8>(n)}; }

// "tcp:[HOSTADDR]:PORT-[GUESTADDR]:PORT"
Result<HostForward> parse_forward(std::string_view option, std::string_view text) {
  const auto wrong = [&](std::string_view what) {
    return failure(fmt::format("{}: hostfwd={}: {}; write tcp|udp:[HOST-ADDRESS]:PORT-[GUEST-ADDRESS]:PORT, as in tcp::2222-:22", option, text, what));
  };
  HostForward forward;
  std::string_view rest = text;
  if (rest.starts_with("udp:")) forward.udp = true;
  else if (!rest.starts_with("tcp:") && !rest.starts_with(':')) return wrong("the protocol is missing");
  rest.remove_prefix(rest.find(':') + 1);
  const auto dash = rest.find('-');
  if (dash == rest.npos) return wrong("the guest's side is missing");
  const auto end = [&](std::string_view side, Ipv4Address& address, u16& port) {
    const auto colon = side.rfind(':');
    if (colon == side.npos) return false;
    if (colon > 0) {
      const auto parsed = parse_ipv4(side.substr(0, colon));
      if (!parsed) return false;
      address = *parsed;
    }
    const auto digits = side.substr(colon + 1);
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    return error == std::errc() && stop == digits.data() + digits.size() && port != 0;
  };
  if (!end(rest.substr(0, dash), forward.host, forward.host_port)) return wrong("the host's side is no address and port");
  if (!end(rest.substr(dash + 1), forward.guest, forward.guest_port)) return wrong("the guest's side is no address and port");
  return forward;
}

Result<UserNetworkSpec> parse_user(std::string_view option, const KeyedValues& values) {
  UserNetworkSpec spec;
  if (const auto* text = values.find("net")) {
    const auto slash = text->find('/');
    const auto network = parse_ipv4(std::string_view(*text).substr(0, slash));
    if (!network) return failure(fmt::format("{}: net={} is no network; write it as 192.168.76.0/24", option, *text));
    if (slash != text->npos) {
      // The router, the name server and leases need places in it.
      constexpr unsigned kLeast = 8, kGreatest = 27;
      const auto prefix = parse_number(fmt::format("{}: net", option), text->substr(slash + 1), kGreatest);
      if (!prefix) return std::unexpected(prefix.error());
      if (*prefix < kLeast) return failure(fmt::format("{}: net={}: the prefix is {} to {} bits", option, *text, kLeast, kGreatest));
      spec.prefix = static_cast<unsigned>(*prefix);
    }
    const u32 base = number_of(*network) & ~0u << (32 - spec.prefix);
    spec.network = address_of(base);
    spec.host = address_of(base + 2);
    spec.dns = address_of(base + 3);
    spec.dhcp_start = address_of(base + 15);
  }
  const u32 mask = ~0u << (32 - spec.prefix);
  for (const auto& [key, address] : {std::pair{"host", &spec.host}, {"dns", &spec.dns}, {"dhcpstart", &spec.dhcp_start}}) {
    const auto* text = values.find(key);
    if (!text) continue;
    const auto parsed = parse_ipv4(*text);
    if (!parsed || (number_of(*parsed) & mask) != number_of(spec.network))
      return failure(fmt::format("{}: {}={} is no address in the network {}/{}", option, key, *text, format_ipv4(spec.network), spec.prefix));
    *address = *parsed;
  }
  if (spec.host == spec.dns || spec.host == spec.dhcp_start || spec.dns == spec.dhcp_start)
    return failure(fmt::format("{}: host, dns and dhcpstart must be three addresses", option));
  const auto restricted = values.flag("restrict", false), ipv6 = values.flag("ipv6", false);
  if (!restricted) return std::unexpected(restricted.error());
  if (!ipv6) return std::unexpected(ipv6.error());
  spec.restricted = *restricted;
  spec.ipv6 = *ipv6;
  spec.hostname = values.text("hostname");
  spec.tftp = values.text("tftp");
  spec.bootfile = values.text("bootfile");
  constexpr usize kLongestName = 255, kLongestBootfile = 127;  // options of DHCP and BOOTP's field
  if (spec.hostname.size() > kLongestName) return failure(fmt::format("{}: hostname is longer than {} characters", option, kLongestName));
  if (spec.bootfile.size() > kLongestBootfile) return failure(fmt::format("{}: bootfile is longer than {} characters", option, kLongestBootfile));
  for (const auto& item : values.items()) {
    if (item.key != "hostfwd") continue;
    auto forward = parse_forward(option, item.value);
    if (!forward) return std::unexpected(forward.error());
    spec.forwards.push_back(*forward);
  }
  return spec;
}

Result<void> parse_tap(std::string_view option, const KeyedValues& values, NetdevSpec& spec) {
  for (const std::string_view key : {"script", "downscript"})
    if (values.find(key) && values.text(key) != "no")
      return failure(fmt::format("{}: {}: Vellum runs no scripts; set the interface up before (ip tuntap add mode tap), and write {}=no or nothing", option, key, key));
  spec.interface = values.text("ifname");
  constexpr usize kLongest = 15;  // IFNAMSIZ with its zero byte
  if (spec.interface.empty()) return failure(fmt::format("{}: ifname is missing: the name of a tap interface that is there already", option));
  if (spec.interface.size() > kLongest) return failure(fmt::format("{}: ifname is longer than {} characters", option, kLongest));
  return {};
}

Result<void> parse_unix(std::string_view option, const KeyedValues& values, bool stream, NetdevSpec& spec) {
  if (stream) {
    static constexpr std::string_view kTypes[] = {"unix"};
    if (const auto type = parse_choice(fmt::format("{}: addr.type", option), values.text("addr.type"), kTypes); !type) return std::unexpected(type.error());
    const auto server = values.flag("server", false);
    if (!server) return std::unexpected(server.error());
    spec.server = *server;
    spec.path = values.text("addr.path");
    if (spec.path.empty()) return failure(fmt::format("{}: addr.path is missing", option));
    return {};
  }
  const std::string listen = values.text("listen"), connect = values.text("connect");
  if (listen.empty() == connect.empty()) return failure(fmt::format("{}: give either listen=unix:PATH or connect=unix:PATH", option));
  spec.server = connect.empty();
  const std::string_view place = spec.server ? listen : connect;
  if (!place.starts_with("unix:") || place.size() == 5)
    return failure(fmt::format("{}: {} is no Unix socket; write unix:PATH. Other sockets are not supported", option, place));
  spec.path = place.substr(5);
  return {};
}

Result<NetdevSpec> parse_netdev(std::string_view option, std::string_view value, std::span<const std::string_view> more_keys) {
  const std::string_view kind_text = value.substr(0, value.find(','));
  const auto kind = parse_choice(option, kind_text.starts_with("type=") ? kind_text.substr(5) : kind_text, kKinds);
  if (!kind) return std::unexpected(kind.error());
  std::vector<std::string_view> keys = keys_of(*kind);
  keys.push_back("type");
  keys.insert(keys.end(), more_keys.begin(), more_keys.end());
  const std::string what = fmt::format("{} {}", option, kKinds[*kind]);
  const auto values = KeyedValues::parse(what, value, "type", keys);
  if (!values) return std::unexpected(values.error());
  NetdevSpec spec;
  spec.option = fmt::format("{} {}", option, value);
  spec.id = values->text("id");
  switch (*kind) {
    case 0: {
      auto user = parse_user(what, *values);
      if (!user) return std::unexpected(user.error());
      spec.user = std::move(*user);
      break;
    }
    case 1:
      spec.kind = NetdevSpec::Kind::Tap;
      if (auto parsed = parse_tap(what, *values, spec); !parsed) return std::unexpected(parsed.error());
      break;
    default:
      spec.kind = NetdevSpec::Kind::Unix;
      if (auto parsed = parse_unix(what, *values, *kind == 3, spec); !parsed) return std::unexpected(parsed.error());
  }
  return spec;
}

Result<void> read_card_keys(std::string_view option, const KeyedValues& values, NetworkCardSpec& card) {
  if (const auto* text = values.find("mac")) {
    card.address = parse_mac_address(*text);
    if (!card.address) return failure(fmt::format("{}: mac={} is no address; write it as 52:54:00:12:34:56", option, *text));
    if ((*card.address)[0] & 1) return failure(fmt::format("{}: mac={} is the address of a group; the first byte of a card's is even", option, *text));
  }
  if (const auto* text = values.find("romfile")) card.rom_file = *text;
  return {};
}

}  // namespace

std::string format_ipv4(const Ipv4Address& a) { return fmt::format("{}.{}.{}.{}", a[0], a[1], a[2], a[3]); }

std::span<const NetworkModel> network_models() { return kModels; }

const NetworkModel* find_network_model(std::string_view name) {
  const auto found = std::ranges::find_if(kModels, [&](const NetworkModel& model) { return model.name == name || model.other_name == name; });
  return found == std::end(kModels) ? nullptr : found;
}

Result<void> NetworkOptions::add_netdev(std::string_view value) {
  static constexpr std::string_view kMore[] = {"id"};
  auto spec = parse_netdev("-netdev", value, kMore);
  if (!spec) return std::unexpected(spec.error());
  if (spec->id.empty()) return failure(fmt::format("-netdev {}: the key 'id' is missing, by which a -device names it", value));
  if (std::ranges::find(netdevs, spec->id, &NetdevSpec::id) != netdevs.end()) return failure(fmt::format("-netdev: there are two with the id '{}'", spec->id));
  netdevs.push_back(std::move(*spec));
  return {};
}

Result<void> NetworkOptions::add_nic(std::string_view value) {
  if (value == "none") {
    none = true;
    return {};
  }
  std::vector<std::string_view> more(std::begin(kCardKeys), std::end(kCardKeys));
  more.push_back("model");
  more.push_back("id");
  auto spec = parse_netdev("-nic", value, more);
  if (!spec) return std::unexpected(spec.error());
  std::vector<std::string_view> keys = keys_of(static_cast<usize>(std::ranges::find(kKinds, value.substr(0, value.find(','))) - kKinds));
  keys.push_back("type");
  keys.insert(keys.end(), more.begin(), more.end());
  const auto values = KeyedValues::parse("-nic", value, "type", keys);
  if (!values) return std::unexpected(values.error());
  NetworkCardSpec card;
  card.option = fmt::format("-nic {}", value);
  const std::string model = values->text("model", "e1000");
  const NetworkModel* found = find_network_model(model);
  if (!found) {
    std::vector<std::string_view> names;
    for (const NetworkModel& known : kModels) names.push_back(known.name);
    return failure(fmt::format("-nic: unknown model '{}'{}", model, suggestion(model, names)));
  }
  card.model = found->model;
  if (auto read = read_card_keys("-nic", *values, card); !read) return read;
  // A name that no user can give.
  card.netdev = spec->id = fmt::format("#nic{}", netdevs.size());
  netdevs.push_back(std::move(*spec));
  cards.push_back(std::move(card));
  return {};
}

Result<void> NetworkOptions::add_card(const NetworkModel& model, std::string_view value) {
  std::vector<std::string_view> keys(std::begin(kCardKeys), std::end(kCardKeys));
  keys.insert(keys.end(), {"driver", "netdev", "id"});
  if (model.model == Model::Ne2kIsa) keys.insert(keys.end(), {"iobase", "irq"});
  const std::string option = fmt::format("-device {}", model.name);
  const auto values = KeyedValues::parse(option, value, "driver", keys);
  if (!values) return std::unexpected(values.error());
  NetworkCardSpec card;
  card.model = model.model;
  card.option = option;
  card.netdev = values->text("netdev");
  if (auto read = read_card_keys(option, *values, card); !read) return read;
  if (const auto* text = values->find("iobase")) {
    const auto port = parse_number(fmt::format("{}: iobase", option), *text, 0xffe0);
    if (!port) return std::unexpected(port.error());
    card.port = static_cast<u16>(*port);
  }
  if (const auto* text = values->find("irq")) {
    const auto irq = parse_number(fmt::format("{}: irq", option), *text, 15);
    if (!irq) return std::unexpected(irq.error());
    card.irq = static_cast<u8>(*irq);
  }
  cards.push_back(std::move(card));
  return {};
}

Result<void> NetworkOptions::finish() {
  if (none && !cards.empty()) return failure("-nic none: there are other network cards");
  if (cards.size() > kMostCards) return failure(fmt::format("-device: the machine has room for {} network cards", kMostCards));
  std::vector<std::string_view> ids;
  for (const auto& netdev : netdevs)
    if (!netdev.id.starts_with('#')) ids.push_back(netdev.id);
  std::vector<std::string_view> used;
  for (usize i = 0; i < cards.size(); ++i) {
    NetworkCardSpec& card = cards[i];
    // QEMU's: the next number behind the last card's, in the range of locally given addresses.
    if (!card.address) card.address = MacAddress{0x52, 0x54, 0x00, 0x12, 0x34, static_cast<u8>(0x56 + i)};
    for (usize j = 0; j < i; ++j)
      if (cards[j].address == card.address) return failure(fmt::format("{}: mac={} is that of another card", card.option, format_mac_address(*card.address)));
    if (card.netdev.empty()) continue;
    if (std::ranges::find(netdevs, card.netdev, &NetdevSpec::id) == netdevs.end())
      return failure(fmt::format("{}: there is no -netdev with the id '{}'{}", card.option, card.netdev, ids.empty() ? "" : suggestion(card.netdev, ids)));
    if (std::ranges::find(used, card.netdev) != used.end()) return failure(fmt::format("{}: another card is at the -netdev '{}' already", card.option, card.netdev));
    used.push_back(card.netdev);
  }
  for (const auto id : ids)
    if (std::ranges::find(used, id) == used.end())
      return failure(fmt::format("-netdev id={}: no card is connected to it; add -device e1000,netdev={}", id, id));
  return {};
}

std::string netdev_help() {
  return "Networks, and their keys:\n"
         "  user    a network of the guest's own behind this program, which needs no rights: the guest gets 10.0.2.15 by DHCP and reaches the\n"
         "          host at 10.0.2.2; hostfwd=tcp:[HOST]:PORT-[GUEST]:PORT tftp=DIR bootfile=NAME restrict=on|off net=NETWORK/BITS\n"
         "          host=ADDRESS dns=ADDRESS dhcpstart=ADDRESS hostname=NAME ipv6=on|off\n"
         "  tap     a tap interface of the host that is set up already; ifname=NAME\n"
         "  socket  a cable to another Vellum or QEMU: listen=unix:PATH or connect=unix:PATH\n"
         "  stream  the same as QEMU spells it: server=on|off addr.type=unix addr.path=PATH\n";
}

}  // namespace vellum
