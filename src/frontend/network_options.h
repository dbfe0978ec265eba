// What follows -netdev, -nic and -device of a network card: where a card's cable leads, and which card it is.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/ethernet.h"
#include "machine/pc_board.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

using Ipv4Address = std::array<u8, 4>;
std::string format_ipv4(const Ipv4Address& address);

// Connections to a port of the host are led to a port of the guest.
struct HostForward {
  bool udp = false;
  Ipv4Address host = {127, 0, 0, 1};  // only from this machine, unless the user names another address
  u16 host_port = 0;
  Ipv4Address guest{};                // 0.0.0.0: the first that DHCP gives
  u16 guest_port = 0;
  bool operator==(const HostForward&) const = default;
};

// -netdev user: a network of the guest's own with a router, a DHCP server, a name server and a TFTP server.
struct UserNetworkSpec {
  Ipv4Address network = {10, 0, 2, 0};
  unsigned prefix = 24;
  Ipv4Address host = {10, 0, 2, 2}, dns = {10, 0, 2, 3}, dhcp_start = {10, 0, 2, 15};
  bool restricted = false;  // the guest reaches nothing of the host and beyond
  bool ipv6 = false;
  std::string hostname, tftp, bootfile;
  std::vector<HostForward> forwards;
};

struct NetdevSpec {
  enum class Kind : u8 { User, Tap, Unix };
  Kind kind = Kind::User;
  std::string id;
  std::string option;  // for messages: "-netdev user,id=n0"
  UserNetworkSpec user;
  std::string interface;  // Tap
  std::string path;       // Unix
  bool server = false;    // Unix: listen rather than connect
};

struct NetworkCardSpec {
  PcConfig::NetworkCard::Model model = PcConfig::NetworkCard::Model::E1000;
  std::string netdev;                  // empty: no cable
  std::optional<MacAddress> address;
  std::optional<std::string> rom_file;  // empty: none
  std::optional<u16> port;             // of an ISA card
  std::optional<u8> irq;
  std::string option;
};

// How the models are called, as -device takes them, and their option ROM in Debian's package ipxe-qemu; empty: none.
struct NetworkModel {
  std::string_view name, other_name, rom;
  PcConfig::NetworkCard::Model model;
  std::string_view help;
};
std::span<const NetworkModel> network_models();
// The model of that name; nullptr: none.
const NetworkModel* find_network_model(std::string_view name);

// All of -netdev, -nic and -device that has to do with networks.
struct NetworkOptions {
  std::vector<NetdevSpec> netdevs;
  std::vector<NetworkCardSpec> cards;
  bool none = false;  // -nic none

  Result<void> add_netdev(std::string_view value);
  Result<void> add_nic(std::string_view value);
  // `value`: all that follows -device, with the model in front.
  Result<void> add_card(const NetworkModel& model, std::string_view value);
  // Whether cards and cables fit together; gives cards without an address one.
  Result<void> finish();
};

std::string netdev_help();

}  // namespace vellum
