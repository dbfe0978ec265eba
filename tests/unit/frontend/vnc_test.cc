// The VNC server, as libvncclient sees it, and as clients that misbehave do.
#include <catch2/catch.hpp>

#include <rfb/rfbclient.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "frontend/keysyms.h"
#include "frontend/vnc_display.h"

using namespace vellum;
using namespace std::chrono_literals;

namespace {

// Only what hangs takes so long, however busy the host is.
constexpr auto kPatience = 60s;

// Whether `condition` becomes true.
template <class Condition>
bool in_time(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// Does what is posted in place, and writes down what was asked.
struct FakeControl : DisplayControl {
  void post(std::function<void()> function) override {
    const std::scoped_lock lock(mutex);
    if (hold) return held.push_back(std::move(function));
    function();
    changed.notify_all();
  }
  // Does what was posted while `hold` was set.
  void run_held() {
    const std::scoped_lock lock(mutex);
    for (const auto& function : held) function();
    held.clear();
    hold = false;
  }
  void key(KeyCode code, bool down) override { log += fmt::format("{}{} ", down ? '+' : '-', static_cast<int>(code)); }
  void release_all() override { log += "release "; }
  void move_pointer(int dx, int dy, int wheel, u8 buttons) override { log += fmt::format("by({},{},{},{}) ", dx, dy, wheel, buttons); }
  bool pointer_is_absolute() override { return absolute; }
  void place_pointer(u16 x, u16 y, int wheel, u8 buttons) override { log += fmt::format("to({},{},{},{}) ", x, y, wheel, buttons); }
  TextScreen text() override { return {}; }
  void press_ctrl_alt_delete() override {}
  void toggle_pause() override {}
  void quit() override {}
  Result<std::string> take_screenshot(const std::string&) override { return std::string(); }
  Result<std::string> insert_image(const std::string&) override { return std::string(); }
  std::string run_monitor_command(const std::string&) override { return {}; }

  // Waits until what came is `expected`, and forgets it.
  bool came(const std::string& expected) {
    std::unique_lock lock(mutex);
    const bool done = changed.wait_for(lock, kPatience, [&] { return log == expected; });
    UNSCOPED_INFO("came: " << log);
    if (done) log.clear();
    return done;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::string log;
  std::vector<std::function<void()>> held;
  bool hold = false;
  std::atomic<bool> absolute = true;
};

ScreenFrame picture(u32 width, u32 height, u32 seed) {
  ScreenFrame frame{.width = width, .height = height};
  for (u32 i = 0; i < width * height; ++i) frame.pixels.push_back((i * 2654435761u + seed) & 0xffffff);
  return frame;
}

struct Server {
  explicit Server(std::string password = {}) {
    path = std::filesystem::temp_directory_path() / fmt::format("vellum-vnc-{}-{}", getpid(), ++count);
    display = make_vnc_display({.unix_path = path, .password = std::move(password)}, control);
    const auto opened = display->open();
    INFO((opened ? "" : opened.error().message));
    REQUIRE(opened);
  }
  void show(const ScreenFrame& frame) {
    const ScreenRectangle all{0, 0, frame.width, frame.height};
    display->show(frame, {&all, 1});
  }
  FakeControl control;
  std::string path;
  std::unique_ptr<Display> display;
  static inline int count = 0;
};

struct Client {
  explicit Client(const Server& server, std::string with_password = {}) : password(std::move(with_password)) {
    rfbEnableClientLogging = FALSE;
    client = rfbGetClient(8, 3, 4);
    client->serverHost = strdup(server.path.c_str());
    client->canHandleNewFBSize = TRUE;
    client->appData.encodingsString = "zrle hextile raw";
    client->GetPassword = [](rfbClient* c) { return strdup(static_cast<Client*>(rfbClientGetClientData(c, nullptr))->password.c_str()); };
    rfbClientSetClientData(client, nullptr, this);
    connected = rfbInitClient(client, nullptr, nullptr);
    if (!connected) client = nullptr;  // the library has freed it
  }
  ~Client() {
    if (!client) return;
    free(client->frameBuffer);
    rfbClientCleanup(client);
  }
  // Whether the picture arrives.
  bool shows(const ScreenFrame& frame) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (equal(frame)) return true;
      if (!handle_message()) return false;
    }
    return equal(frame);
  }
  // Handles a message if one comes soon. Returns whether the connection is as it should be.
  bool handle_message() {
    // The library may have read more than it was asked for, and does not wait for that.
    if (client->buffered == 0 && WaitForMessage(client, 20'000) <= 0) return true;
    return HandleRFBServerMessage(client);
  }
  bool equal(const ScreenFrame& frame) const {
    if (static_cast<u32>(client->width) != frame.width || static_cast<u32>(client->height) != frame.height) return false;
    const auto& format = client->format;
    for (usize i = 0; i < frame.pixels.size(); ++i) {
      u32 pixel;
      std::memcpy(&pixel, client->frameBuffer + 4 * i, 4);
      const u32 rgb = (pixel >> format.redShift & 0xff) << 16 | (pixel >> format.greenShift & 0xff) << 8 | (pixel >> format.blueShift & 0xff);
      if (rgb != frame.pixels[i]) return false;
    }
    return true;
  }
  std::string password;
  rfbClient* client;
  bool connected;
};

int raw_connection(const Server& server) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  server.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  return descriptor;
}

}  // namespace

TEST_CASE("a client sees the picture, its changed parts, and a picture of another size") {
  Server server;
  auto frame = picture(640, 480, 1);
  server.show(frame);
  Client client(server);
  REQUIRE(client.connected);
  CHECK(client.shows(frame));
  for (u32 y = 100; y < 150; ++y)
    for (u32 x = 200; x < 300; ++x) frame.pixels[y * 640 + x] = 0x00ff8040;
  const ScreenRectangle part{200, 100, 100, 50};
  server.display->show(frame, {&part, 1});
  CHECK(client.shows(frame));
  const auto other = picture(720, 400, 7);
  server.show(other);
  CHECK(client.shows(other));
}

TEST_CASE("frames are wanted as long as somebody looks") {
  Server server;
  CHECK_FALSE(server.display->wants_frames());
  {
    Client client(server);
    REQUIRE(client.connected);
    CHECK(server.display->wants_frames());
  }
  CHECK(in_time([&] { return !server.display->wants_frames(); }));
}

TEST_CASE("keys arrive by place, whatever Shift made of them, and are released when the client goes") {
  Server server;
  {
    Client client(server);
    REQUIRE(client.connected);
    SendKeyEvent(client.client, 0xffe1, TRUE);
    SendKeyEvent(client.client, 'A', TRUE);
    SendKeyEvent(client.client, 'A', FALSE);
    CHECK(server.control.came("+225 +4 -4 "));
    SendKeyEvent(client.client, 0x123456, TRUE);  // no such key
    SendKeyEvent(client.client, 0xff0d, TRUE);
    CHECK(server.control.came("+40 "));
  }
  CHECK(server.control.came("release "));
}

TEST_CASE("a client that sends scan codes is believed rather than its keysyms") {
  Server server;
  Client client(server);
  REQUIRE(client.connected);
  // A French keyboard: the key that prints "a" is where the US keyboard has Q (scan code 10h).
  REQUIRE(SupportsClient2Server(client.client, rfbQemuEvent) == FALSE);
  REQUIRE(in_time([&] { return !client.handle_message() || SupportsClient2Server(client.client, rfbQemuEvent); }));
  REQUIRE(SupportsClient2Server(client.client, rfbQemuEvent));
  SendExtendedKeyEvent(client.client, 'a', 0x10, TRUE);
  CHECK(server.control.came("+20 "));
  SendExtendedKeyEvent(client.client, 0xff53, 0xcd, TRUE);  // E0 4D: right arrow
  CHECK(server.control.came("+79 "));
}

TEST_CASE("the pointer is a place for a tablet and a movement for a mouse; the wheel turns by presses of buttons 4 and 5") {
  Server server;
  server.show(picture(640, 480, 1));
  Client client(server);
  REQUIRE(client.connected);
  REQUIRE(client.shows(picture(640, 480, 1)));
  SendPointerEvent(client.client, 639, 479, 1);
  CHECK(server.control.came("to(32767,32767,0,1) "));
  SendPointerEvent(client.client, 0, 0, 1 | 8);
  CHECK(server.control.came("to(0,0,1,1) "));
  server.control.absolute = false;
  SendPointerEvent(client.client, 10, 5, 4);
  CHECK(server.control.came("by(10,5,0,2) "));
  SendPointerEvent(client.client, 7, 6, 16);
  CHECK(server.control.came("by(-3,1,-1,0) "));
}

TEST_CASE("a client that knows of pointers without a place is asked for movements while the guest has only a mouse") {
  // What the server last asked this test's client for: 1 places, 0 movements.
  static int asked = -1;
  static int encodings[] = {-257, 0};
  static rfbClientProtocolExtension extension = {
      .encodings = encodings,
      .handleEncoding = [](rfbClient*, rfbFramebufferUpdateRectHeader* rectangle) -> rfbBool {
        if (rectangle->encoding != 0xfffffeff) return FALSE;
        asked = rectangle->r.x;
        return TRUE;
      },
      .handleMessage = nullptr, .next = nullptr, .securityTypes = nullptr, .handleAuthentication = nullptr};
  rfbClientRegisterExtension(&extension);
  Server server;
  server.control.absolute = false;
  server.display->show_status({});
  Client client(server);
  REQUIRE(client.connected);
  const auto is_asked_for = [&](int what) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (asked != what && std::chrono::steady_clock::now() < end)
      if (!client.handle_message()) return false;
    return asked == what;
  };
  REQUIRE(is_asked_for(0));
  SendPointerEvent(client.client, 0x7fff + 5, 0x7fff - 300, 1);
  CHECK(server.control.came("by(5,-300,0,1) "));
  SendPointerEvent(client.client, 0x7fff, 0x7fff, 8);
  CHECK(server.control.came("by(0,0,1,0) "));
  // The guest's driver for the tablet has come.
  server.control.absolute = true;
  server.display->show_status({});
  REQUIRE(is_asked_for(1));
  SendPointerEvent(client.client, 719, 0, 1);
  CHECK(server.control.came("to(32767,0,0,1) "));
}

TEST_CASE("movement that the machine has not taken yet becomes one, but not across a click") {
  Server server;
  server.control.absolute = false;
  server.control.hold = true;
  Client client(server);
  REQUIRE(client.connected);
  for (const int x : {10, 20, 30, 40}) SendPointerEvent(client.client, x, 0, 0);
  SendPointerEvent(client.client, 40, 0, 1);
  for (const int x : {50, 60, 70}) SendPointerEvent(client.client, x, 0, 1);
  SendPointerEvent(client.client, 70, 0, 0);
  // The server has read all of it when it has seen the end. A client that closed with something unread would take back what it sent.
  shutdown(client.client->sock, SHUT_WR);
  REQUIRE(in_time([&] { return !server.display->wants_frames(); }));
  server.control.run_held();
  CHECK(server.control.came("by(0,0,0,0) by(30,0,0,0) by(0,0,0,1) by(30,0,0,1) by(0,0,0,0) release "));
}

TEST_CASE("a password lets in who knows it, and nobody else") {
  Server server("secret");
  CHECK_FALSE(Client(server, "wrong").connected);
  Client client(server, "secret");
  CHECK(client.connected);
}

TEST_CASE("clients that send nonsense, stop half-way or vanish leave the server to the others") {
  Server server;
  const auto frame = picture(320, 200, 3);
  server.show(frame);
  const int silent = raw_connection(server);
  const int noisy = raw_connection(server);
  std::string noise;
  for (int i = 0; i < 10000; ++i) noise += static_cast<char>(i * 131 + 7);
  [[maybe_unused]] auto written = send(noisy, noise.data(), noise.size(), MSG_NOSIGNAL);
  close(noisy);
  const int impolite = raw_connection(server);
  written = send(impolite, "RFB 003.008\n\1\1", 14, MSG_NOSIGNAL);
  written = send(impolite, "\6\0\0\0\xff\xff\xff\xff", 8, MSG_NOSIGNAL);  // four gigabytes of clipboard
  Client client(server);
  REQUIRE(client.connected);
  CHECK(client.shows(frame));
  close(silent);
  close(impolite);
}

TEST_CASE("no more than sixteen clients are let in") {
  Server server;
  std::vector<int> connections;
  for (int i = 0; i < 40; ++i) connections.push_back(raw_connection(server));
  int alive = 0;
  for (const int descriptor : connections) {
    timeval limit{.tv_sec = 60, .tv_usec = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    char hello[12];
    if (recv(descriptor, hello, sizeof(hello), MSG_WAITALL) == 12) ++alive;
    else break;
  }
  CHECK(alive == 16);
  for (const int descriptor : connections) close(descriptor);
}

TEST_CASE("an address that is taken is refused with a reason; a socket that was left behind is not in the way") {
  Server server;
  FakeControl control;
  auto second = make_vnc_display({.unix_path = server.path}, control);
  const auto opened = second->open();
  REQUIRE_FALSE(opened);
  CHECK(opened.error().message.find("Address already in use") != std::string::npos);
  const std::string left = server.path + "-left";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    left.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    close(descriptor);
  }
  auto third = make_vnc_display({.unix_path = left}, control);
  CHECK(third->open());
}

TEST_CASE("VNC addresses") {
  auto options = parse_vnc_options(":1");
  REQUIRE(options);
  CHECK(options->host == "localhost");
  CHECK(options->port == 5901);
  options = parse_vnc_options("0.0.0.0:0,password=abc");
  REQUIRE(options);
  CHECK(options->host == "0.0.0.0");
  CHECK(options->password == "abc");
  CHECK(parse_vnc_options("[::1]:2")->host == "::1");
  CHECK(parse_vnc_options("unix:a/b.sock")->unix_path == "a/b.sock");
  for (const char* wrong : {"5", "host", ":x", ":99999", "unix:", ":0,pasword=x", ":0,password=ninechars"}) CHECK_FALSE(parse_vnc_options(wrong));
}

TEST_CASE("keysyms and scan codes of every key that VNC clients send") {
  CHECK(key_of_keysym('q') == KeyCode::Q);
  CHECK(key_of_keysym('?') == KeyCode::Slash);
  CHECK(key_of_keysym(0xffc9) == KeyCode::F12);
  CHECK(key_of_keysym(0xffb5) == KeyCode::Keypad5);
  CHECK_FALSE(key_of_keysym(0x20ac));
  CHECK(key_of_scan_code(0x01) == KeyCode::Escape);
  CHECK(key_of_scan_code(0x9d) == KeyCode::RightControl);
  CHECK(key_of_scan_code(0x56) == KeyCode::NonUsBackslash);
  CHECK(key_of_scan_code(0xb7) == KeyCode::PrintScreen);
  CHECK_FALSE(key_of_scan_code(0x1ff));
}
