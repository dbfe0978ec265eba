// The Ctrl-A keys, and backends on real descriptors.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "frontend/character_backends.h"
#include "frontend/multiplexer.h"

using namespace vellum;

namespace {

std::string text_of(std::span<const u8> data) { return {data.begin(), data.end()}; }
std::span<const u8> bytes_of(std::string_view text) { return {reinterpret_cast<const u8*>(text.data()), text.size()}; }

struct FakeHost : HostBackend {
  void send(std::span<const u8> data) override { sent += text_of(data); }
  void type(std::string_view text) { receive(bytes_of(text)); }
  std::string sent;
};

struct Terminal {
  Terminal() {
    auto made = std::make_unique<FakeHost>();
    host = made.get();
    multiplexer = std::make_unique<Multiplexer>(std::move(made), Multiplexer::Commands{[this] { ++quits; }, [this] { ++flushes; }});
    serial = &multiplexer->add_user("serial");
    monitor = &multiplexer->add_user("monitor", [this] { ++monitor_focused; });
    for (auto [user, target] : {std::pair{serial, &serial_got}, std::pair{monitor, &monitor_got}}) {
      user->can_receive = [this] { return room; };
      user->receive = [target](std::span<const u8> data) { *target += text_of(data); };
    }
    serial->receive_break = [this] { ++breaks; };
  }
  FakeHost* host;
  std::unique_ptr<Multiplexer> multiplexer;
  CharacterBackend *serial, *monitor;
  std::string serial_got, monitor_got;
  usize room = 1000;
  int quits = 0, flushes = 0, breaks = 0, monitor_focused = 0;
};

}  // namespace

TEST_CASE("typed bytes go to the first user until Ctrl-A c switches") {
  Terminal terminal;
  terminal.host->type("ls\r\x01" "cquit\r\x01" "cpwd");
  CHECK(terminal.serial_got == "ls\rpwd");
  CHECK(terminal.monitor_got == "quit\r");
  CHECK(terminal.monitor_focused == 1);
}

TEST_CASE("Ctrl-A x ends, s flushes, b breaks, Ctrl-A Ctrl-A is one Ctrl-A, and other keys are swallowed") {
  Terminal terminal;
  terminal.host->type("\x01s\x01" "b\x01\x01\x01z\x01x");
  CHECK(terminal.flushes == 1);
  CHECK(terminal.breaks == 1);
  CHECK(terminal.serial_got == "\x01");
  CHECK(terminal.quits == 1);
}

TEST_CASE("Ctrl-A h shows the keys") {
  Terminal terminal;
  terminal.host->type("\x01h");
  CHECK(terminal.host->sent.find("Ctrl-A x") != std::string::npos);
}

TEST_CASE("what a user cannot take yet waits in order, and Ctrl-A x works meanwhile") {
  Terminal terminal;
  terminal.room = 0;
  terminal.host->type("abc");
  CHECK(terminal.serial_got.empty());
  terminal.host->type("\x01x");
  CHECK(terminal.quits == 1);
  terminal.room = 2;
  terminal.serial->room_available();
  CHECK(terminal.serial_got == "abc");
}

TEST_CASE("a file gets what is sent") {
  char name[] = "/tmp/vellum-backend-XXXXXX";
  close(mkstemp(name));
  EventLoop events;
  {
    auto backend = make_backend(events, {.kind = CharacterSpec::Kind::File, .path = name});
    REQUIRE(backend->open());
    backend->send(bytes_of("hello "));
    backend->send(bytes_of("world"));
  }
  std::ifstream file(name);
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "hello world");
  unlink(name);
}

TEST_CASE("a pseudo-terminal works in both directions and survives its reader") {
  EventLoop events;
  auto backend = make_backend(events, {.kind = CharacterSpec::Kind::Pty, .option = "-serial pty"});
  REQUIRE(backend->open());
  std::string got;
  backend->can_receive = [] { return usize{100}; };
  backend->receive = [&](std::span<const u8> data) { got += text_of(data); };
  for (int round = 0; round < 2; ++round) {
    const int reader = open(backend->announcement().c_str(), O_RDWR | O_NOCTTY);
    REQUIRE(reader >= 0);
    backend->send(bytes_of("prompt\n"));
    char buffer[100];
    const auto size = read(reader, buffer, sizeof(buffer));
    CHECK(std::string(buffer, static_cast<usize>(size)) == "prompt\n");
    REQUIRE(write(reader, "x", 1) == 1);
    events.wait(1'000'000'000);
    close(reader);
  }
  CHECK(got == "xx");
}

TEST_CASE("a socket server takes one client after another, and removes its socket at the end") {
  char name[] = "/tmp/vellum-socket-XXXXXX";
  close(mkstemp(name));
  unlink(name);
  EventLoop events;
  int connections = 0;
  std::string got;
  {
    auto backend = make_backend(events, {.kind = CharacterSpec::Kind::Unix, .path = name, .server = true, .wait = false});
    REQUIRE(backend->open());
    backend->can_receive = [] { return usize{100}; };
    backend->receive = [&](std::span<const u8> data) { got += text_of(data); };
    backend->on_connected = [&] { ++connections; backend->send(bytes_of("hi")); };
    backend->send(bytes_of("lost"));
    for (int round = 1; round <= 2; ++round) {
      const int client = socket(AF_UNIX, SOCK_STREAM, 0);
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strcpy(address.sun_path, name);
      REQUIRE(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
      events.wait(1'000'000'000);
      CHECK(connections == round);
      char buffer[10];
      CHECK(read(client, buffer, sizeof(buffer)) == 2);
      REQUIRE(write(client, "y", 1) == 1);
      events.wait(1'000'000'000);
      close(client);
      events.wait(1'000'000'000);
      CHECK_FALSE(backend->connected());
    }
  }
  CHECK(got == "yy");
  CHECK(access(name, F_OK) != 0);
}

TEST_CASE("a socket that cannot be reached and a file that cannot be made are errors with the option") {
  EventLoop events;
  auto socket = make_backend(events, {.kind = CharacterSpec::Kind::Unix, .path = "/nonexistent/s", .option = "-serial unix:/nonexistent/s"});
  CHECK(socket->open().error().message ==
        "-serial unix:/nonexistent/s: cannot connect to /nonexistent/s: No such file or directory; add ,server to listen there instead");
  auto file = make_backend(events, {.kind = CharacterSpec::Kind::File, .path = "/nonexistent/f", .option = "-serial file:/nonexistent/f"});
  CHECK(file->open().error().message == "-serial file:/nonexistent/f: cannot open /nonexistent/f: No such file or directory");
}
