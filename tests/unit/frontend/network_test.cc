// Networks on the command line, sockets between two cards, and the user-mode network as its guests see it.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frontend/network_backends.h"
#include "frontend/options.h"
#include "../devices/fakes.h"
#include "../temporary_file.h"

using namespace vellum;
using vellum::test::TemporaryFile;

namespace {

Result<Options> parse(std::vector<std::string_view> arguments) {
  arguments.insert(arguments.begin(), "-nographic");
  auto parsed = parse_options(arguments, 0);
  if (!parsed) return std::unexpected(parsed.error());
  return std::get<Options>(*parsed);
}

std::string error_of(std::vector<std::string_view> arguments) {
  const auto parsed = parse(std::move(arguments));
  return parsed ? "" : parsed.error().message;
}

NetworkOptions network_of(std::vector<std::string_view> arguments) {
  auto parsed = parse(std::move(arguments));
  if (!parsed) FAIL(parsed.error().message);
  return parsed->network;
}

std::vector<u8> bytes(std::initializer_list<int> values) { return {values.begin(), values.end()}; }

// An ARP request of the guest 10.0.2.15 for an address, RFC 826.
std::vector<u8> arp_request(Ipv4Address wanted) {
  std::vector<u8> frame = bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
                                 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0});
  frame.insert(frame.end(), wanted.begin(), wanted.end());
  frame.resize(60);
  return frame;
}

}  // namespace

TEST_CASE("there is no network card unless one is asked for", "[network]") {
  CHECK(network_of({}).cards.empty());
  CHECK(network_of({"-nic", "none"}).cards.empty());
}

TEST_CASE("-netdev and -device make a card and its cable", "[network]") {
  const auto network = network_of({"-netdev", "user,id=n0,tftp=/srv,bootfile=boot.img,restrict=on,hostfwd=tcp::2222-:22,hostfwd=udp:0.0.0.0:5353-10.0.2.20:53",
                                   "-device", "e1000,netdev=n0,mac=52:54:00:00:00:01,romfile="});
  REQUIRE(network.cards.size() == 1);
  CHECK(network.cards[0].netdev == "n0");
  CHECK(network.cards[0].address == MacAddress{0x52, 0x54, 0, 0, 0, 1});
  CHECK(network.cards[0].rom_file == "");
  REQUIRE(network.netdevs.size() == 1);
  const UserNetworkSpec& user = network.netdevs[0].user;
  CHECK(user.tftp == "/srv");
  CHECK(user.restricted);
  REQUIRE(user.forwards.size() == 2);
  // Without an address only programs of this machine get in.
  CHECK(user.forwards[0] == HostForward{.host = {127, 0, 0, 1}, .host_port = 2222, .guest_port = 22});
  CHECK(user.forwards[1] == HostForward{.udp = true, .host = {0, 0, 0, 0}, .host_port = 5353, .guest = {10, 0, 2, 20}, .guest_port = 53});
}

TEST_CASE("-nic is both in one, and cards get addresses in their order", "[network]") {
  const auto network = network_of({"-nic", "user,net=192.168.76.0/24,model=e1000", "-nic", "tap,ifname=tap0,script=no", "-nic", "socket,listen=unix:/tmp/cable"});
  REQUIRE(network.cards.size() == 3);
  CHECK(format_mac_address(*network.cards[0].address) == "52:54:00:12:34:56");
  CHECK(format_mac_address(*network.cards[2].address) == "52:54:00:12:34:58");
  CHECK(network.netdevs[0].user.dhcp_start == Ipv4Address{192, 168, 76, 15});
  CHECK(network.netdevs[1].interface == "tap0");
  CHECK(network.netdevs[2].server);
  CHECK(network.netdevs[2].path == "/tmp/cable");
}

TEST_CASE("what is wrong with a network is said", "[network]") {
  CHECK(error_of({"-netdev", "usr,id=n0"}) == "-netdev: unknown value 'usr'; did you mean 'user'?");
  CHECK(error_of({"-netdev", "user"}).starts_with("-netdev user: the key 'id' is missing"));
  CHECK(error_of({"-netdev", "user,id=n0"}).starts_with("-netdev id=n0: no card is connected to it"));
  CHECK(error_of({"-netdev", "user,id=net0", "-device", "e1000,netdev=net1"}).find("did you mean 'net0'?") != std::string::npos);
  CHECK(error_of({"-nic", "user,hostfwd=tcp::99999-:22"}).find("the host's side is no address and port") != std::string::npos);
  CHECK(error_of({"-nic", "user,hostfwd=tcp::22"}).find("the guest's side is missing") != std::string::npos);
  CHECK(error_of({"-nic", "user,net=10.0.2.0/31"}).find("net") != std::string::npos);
  CHECK(error_of({"-nic", "user,host=10.0.3.1"}).find("is no address in the network 10.0.2.0/24") != std::string::npos);
  CHECK(error_of({"-nic", "user,dns=10.0.2.2"}).find("must be three addresses") != std::string::npos);
  CHECK(error_of({"-nic", "user,model=e100"}) == "-nic: unknown model 'e100'; did you mean 'e1000'?");
  CHECK(error_of({"-nic", "user,mac=01:00:00:00:00:00"}).find("address of a group") != std::string::npos);
  CHECK(error_of({"-device", "e1000,mac=52:54:00:00:00:01", "-device", "e1000,mac=52:54:00:00:00:01"}).find("that of another card") != std::string::npos);
  CHECK(error_of({"-nic", "tap"}).find("ifname is missing") != std::string::npos);
  CHECK(error_of({"-nic", "tap,ifname=a,script=/etc/up"}).find("runs no scripts") != std::string::npos);
  CHECK(error_of({"-nic", "socket,listen=:1234"}).find("is no Unix socket") != std::string::npos);
  CHECK(error_of({"-nic", "none", "-device", "e1000"}).find("there are other network cards") != std::string::npos);
}

TEST_CASE("two ends of a Unix socket hand frames to each other, as -netdev stream of QEMU frames them", "[network]") {
  TemporaryFile place;
  EventLoop events;
  const auto listening = make_network(events, {.kind = NetdevSpec::Kind::Unix, .path = place.path + ".sock", .server = true});
  const auto connecting = make_network(events, {.kind = NetdevSpec::Kind::Unix, .path = place.path + ".sock"});
  REQUIRE(listening->open());
  REQUIRE(connecting->open());
  std::vector<std::vector<u8>> at_listener, at_connector;
  listening->receive = [&](std::span<const u8> frame) { at_listener.emplace_back(frame.begin(), frame.end()); };
  connecting->receive = [&](std::span<const u8> frame) { at_connector.emplace_back(frame.begin(), frame.end()); };
  const auto some = arp_request({10, 0, 2, 2});
  const std::vector<u8> longest(ethernet::kLongestFrame, 0x5a);
  connecting->send(some);
  connecting->send(longest);
  for (int i = 0; i < 20 && at_listener.size() < 2; ++i) events.wait(10'000'000);
  CHECK(at_listener == std::vector<std::vector<u8>>{some, longest});
  listening->send(some);
  for (int i = 0; i < 20 && at_connector.empty(); ++i) events.wait(10'000'000);
  CHECK(at_connector == std::vector<std::vector<u8>>{some});
}

TEST_CASE("a peer on the socket that sends nonsense is let go, and the next one is taken", "[network]") {
  TemporaryFile place;
  const std::string path = place.path + ".sock";
  EventLoop events;
  const auto listening = make_network(events, {.kind = NetdevSpec::Kind::Unix, .path = path, .server = true});
  REQUIRE(listening->open());
  unsigned came = 0;
  listening->receive = [&](std::span<const u8>) { ++came; };
  const auto connect_raw = [&] {
    sockaddr_un address{.sun_family = AF_UNIX};
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    events.wait(0);
    return descriptor;
  };
  const int first = connect_raw();
  const auto nonsense = bytes({0xff, 0xff, 0xff, 0xff, 1, 2, 3});
  REQUIRE(write(first, nonsense.data(), nonsense.size()) == 7);
  events.wait(10'000'000);
  u8 byte;
  CHECK(read(first, &byte, 1) <= 0);
  close(first);
  const int second = connect_raw();
  const auto pieces = bytes({0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  for (const u8& one : pieces) {
    REQUIRE(write(second, &one, 1) == 1);
    events.wait(0);
  }
  events.wait(10'000'000);
  CHECK(came == 1);
  close(second);
}

TEST_CASE("the user-mode network answers for its router and its name server, and for nobody else", "[network]") {
  if (!has_user_network()) return;
  EventLoop events;
  const auto network = make_network(events, {});
  REQUIRE(network->open());
  std::vector<std::vector<u8>> answers;
  network->receive = [&](std::span<const u8> frame) { answers.emplace_back(frame.begin(), frame.end()); };
  network->send(arp_request({10, 0, 2, 2}));
  network->send(arp_request({10, 0, 2, 3}));
  network->send(arp_request({10, 0, 2, 77}));
  REQUIRE(answers.size() == 2);
  CHECK(read_network16(answers[0], 20) == 2);  // a reply
  CHECK(read_network32(answers[0], 28) == 0x0a000202);
  CHECK(read_network32(answers[1], 28) == 0x0a000203);
  // Frames of all lengths and of nothing sensible.
  for (usize size = 0; size < 200; ++size) network->send(std::vector<u8>(size, static_cast<u8>(size * 37)));
  events.wait(0);
}

TEST_CASE("a port of the host that is taken already is an error", "[network]") {
  if (!has_user_network()) return;
  EventLoop events;
  NetdevSpec spec{.option = "-nic user"};
  spec.user.forwards.push_back({.host_port = 47831, .guest_port = 22});
  const auto first = make_network(events, spec), second = make_network(events, spec);
  REQUIRE(first->open());
  const auto opened = second->open();
  REQUIRE(!opened);
  CHECK(opened.error().message.find("cannot listen at TCP port 47831 of the host: Address already in use") != std::string::npos);
  spec.user.forwards.clear();
  spec.user.tftp = "/nonexistent";
  const auto third = make_network(events, spec);
  CHECK(!third->open());
}
