// The VNC server: libvncserver on a thread of its own, so that no client can make the machine wait.
#include "frontend/vnc_display.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "frontend/keysyms.h"

namespace vellum {

namespace {

constexpr int kMostClients = 16;
// A client that stops in the middle of a message, or takes none, is cut off after this many milliseconds.
constexpr int kPatience = 5000;
// How long clients wait for a current picture, and how often it is looked for, milliseconds.
constexpr std::chrono::milliseconds kMostWait{250};
constexpr int kLookAgain = 20;
// Events that the machine has not taken yet. A client that sends faster than that loses some.
constexpr usize kMostEvents = 1024;
constexpr usize kMostRectangles = 64;
constexpr u32 kQemuKeyEncoding = 0xfffffefe, kPointerMotionEncoding = 0xfffffeff, kQemuMessage = 255;
// How a client that was asked for movements writes "none". Whole screens end before half of it, so a smaller number is a place.
constexpr int kNoMovement = 0x7fff, kSmallestMovement = 0x4000;

struct InputEvent {
  enum class Kind : u8 { Key, Pointer, ReleaseAll } kind = Kind::Key;
  KeyCode key = KeyCode::None;
  bool down = false;
  u16 x = 0, y = 0, width = 1, height = 1;  // place on a screen of that size
  bool relative = false;                    // instead of the place:
  int dx = 0, dy = 0;
  u8 buttons = 0;
  int wheel = 0;

  // Whether `next` is more of the same movement.
  bool continues(const InputEvent& next) const {
    return kind == Kind::Pointer && wheel == 0 && buttons == next.buttons && relative == next.relative;
  }
};

// What clients did, on its way to the machine's thread. It outlives the display as long as functions are posted.
class InputQueue {
 public:
  explicit InputQueue(DisplayControl& control) : m_control(control) {}

  // The server's thread. Returns whether somebody has to be told to call deliver().
  bool push(const InputEvent& event) {
    const std::scoped_lock lock(m_mutex);
    const bool first = m_events.empty();
    const bool movement = event.kind == InputEvent::Kind::Pointer && event.wheel == 0;
    // Places replace each other and movements add up, so that a slow machine does not lag behind the hand; but a click stays
    // where it was made.
    if (movement && m_events.size() >= 2 && m_events.back().continues(event) && m_events[m_events.size() - 2].continues(event)) {
      InputEvent& last = m_events.back();
      const int dx = last.dx, dy = last.dy;
      last = event;
      last.dx += dx;
      last.dy += dy;
      return false;
    }
    if (m_events.size() >= kMostEvents) {
      m_events.clear();
      m_events.push_back({.kind = InputEvent::Kind::ReleaseAll});
      return false;
    }
    m_events.push_back(event);
    return first;
  }

  // The machine's thread.
  void deliver() {
    std::deque<InputEvent> events;
    {
      const std::scoped_lock lock(m_mutex);
      events.swap(m_events);
    }
    for (const InputEvent& event : events) {
      switch (event.kind) {
        case InputEvent::Kind::Key: m_control.key(event.key, event.down); break;
        case InputEvent::Kind::ReleaseAll: m_control.release_all(); break;
        case InputEvent::Kind::Pointer: move(event); break;
      }
    }
  }

 private:
  void move(const InputEvent& event) {
    if (event.relative) {
      m_known = false;
      // One that was on its way while the guest turned to the tablet is of no use to it; the next tells the buttons.
      if (!m_control.pointer_is_absolute()) m_control.move_pointer(event.dx, event.dy, event.wheel, event.buttons);
      return;
    }
    if (m_control.pointer_is_absolute()) {
      const auto scaled = [](u32 at, u32 size) { return static_cast<u16>(size > 1 ? std::min(at, size - 1) * 32767 / (size - 1) : 0); };
      m_control.place_pointer(scaled(event.x, event.width), scaled(event.y, event.height), event.wheel, event.buttons);
    } else {
      // The client says where its pointer is; a mouse knows only by how much that changed.
      const int dx = m_known ? event.x - m_x : 0, dy = m_known ? event.y - m_y : 0;
      m_control.move_pointer(dx, dy, event.wheel, event.buttons);
    }
    m_x = event.x;
    m_y = event.y;
    m_known = true;
  }

  DisplayControl& m_control;
  std::mutex m_mutex;
  std::deque<InputEvent> m_events;
  int m_x = 0, m_y = 0;
  bool m_known = false;
};

class Descriptor {
 public:
  explicit Descriptor(int value = -1) : m_value(value) {}
  ~Descriptor() {
    if (m_value >= 0) close(m_value);
  }
  Descriptor(Descriptor&& other) noexcept : m_value(std::exchange(other.m_value, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(m_value, other.m_value);
    return *this;
  }
  int get() const { return m_value; }
  int release() { return std::exchange(m_value, -1); }

 private:
  int m_value;
};

class VncDisplay final : public Display {
 public:
  VncDisplay(VncOptions options, DisplayControl& control)
      : m_options(std::move(options)), m_control(control), m_input(std::make_shared<InputQueue>(control)) {}
  ~VncDisplay() override;

  Result<void> open() override;
  std::string announcement() const override;
  bool wants_frames() const override { return m_watched.load(std::memory_order_relaxed); }
  void show(const ScreenFrame& frame, std::span<const ScreenRectangle> changed) override;
  void show_status(const MachineStatus& status) override;

 private:
  // What the library keeps for each client.
  struct Client {
    VncDisplay* display;
    int buttons = 0;      // RFB button mask
    bool scan_codes = false;
    bool asks_for_movement = false;  // it knows the extension for pointers without a place
    bool told_absolute = true;       // what it sends: places, as the protocol has it without that extension
  };

  Result<void> listen_unix();
  Result<void> listen_tcp();
  void serve();
  void accept_client();
  bool has_current_picture();
  void take_frames();
  void tell_pointer_mode(rfbClientPtr client);
  static bool tell(rfbClientPtr client, u16 x, u32 encoding);
  void wake();
  void send(const InputEvent& event);
  static VncDisplay& of(rfbClientPtr client) { return *static_cast<VncDisplay*>(client->screen->screenData); }
  static rfbNewClientAction client_came(rfbClientPtr client);
  static void client_went(rfbClientPtr client);
  static void key(rfbBool down, rfbKeySym keysym, rfbClientPtr client);
  static void pointer(int mask, int x, int y, rfbClientPtr client);
  static rfbProtocolExtension& input_extensions();

  // Configuration.
  VncOptions m_options;
  // Wiring.
  DisplayControl& m_control;
  std::shared_ptr<InputQueue> m_input;
  std::vector<Descriptor> m_listeners;
  Descriptor m_wakeup;
  std::string m_bound_path;  // of the unix socket that is to be removed
  std::thread m_thread;
  std::atomic<bool> m_stop = false, m_watched = false;
  std::atomic<bool> m_absolute = true;  // whether the guest listens to a pointer that has a place
  // Shared with the server's thread.
  std::mutex m_mutex;
  u32 m_width = 0, m_height = 0;
  std::vector<u32> m_pixels;                     // in the library's order of bytes
  std::vector<ScreenRectangle> m_changed;
  bool m_current = false;                        // the picture is that of now; nobody draws it while nobody looks
  // The server's thread alone.
  rfbScreenInfoPtr m_screen = nullptr;
  std::vector<u32> m_shown, m_last_shown;        // the library's frame buffer
  std::string m_password;
  char* m_passwords[2] = {};
  int m_clients = 0;
  bool m_client_waits = false;                   // for a current picture
  std::chrono::steady_clock::time_point m_wait_until;
};

std::string errno_text() { return std::strerror(errno); }

Result<void> VncDisplay::listen_unix() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& path = m_options.unix_path;
  if (path.size() >= sizeof(address.sun_path))
    return failure(fmt::format("-display vnc: the path '{}' is too long for a socket; use one of at most {} characters", path, sizeof(address.sun_path) - 1));
  path.copy(address.sun_path, path.size());
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A socket that a program left behind is in the way; a file of another kind, or one with a listener, is not ours to remove.
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 && errno == ECONNREFUSED) unlink(path.c_str());
  }
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return failure(fmt::format("-display vnc: cannot listen on '{}': {}", path, errno_text()));
  m_bound_path = path;
  chmod(path.c_str(), 0600);
  if (listen(socket.get(), kMostClients) != 0) return failure(fmt::format("-display vnc: cannot listen on '{}': {}", path, errno_text()));
  m_listeners.push_back(std::move(socket));
  return {};
}

Result<void> VncDisplay::listen_tcp() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(m_options.host.c_str(), std::to_string(m_options.port).c_str(), &hints, &found);
  if (error) return failure(fmt::format("-display vnc: the address '{}' cannot be found: {}", m_options.host, gai_strerror(error)));
  std::string reason;
  for (const addrinfo* at = found; at; at = at->ai_next) {
    Descriptor socket(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (at->ai_family == AF_INET6) setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(socket.get(), at->ai_addr, at->ai_addrlen) == 0 && listen(socket.get(), kMostClients) == 0) m_listeners.push_back(std::move(socket));
    else reason = errno_text();
  }
  freeaddrinfo(found);
  if (!m_listeners.empty()) return {};
  return failure(fmt::format("-display vnc: cannot listen on {} port {}: {}; another display number may be free", m_options.host, m_options.port, reason));
}

Result<void> VncDisplay::open() {
  const auto listening = m_options.unix_path.empty() ? listen_tcp() : listen_unix();
  if (!listening) return listening;
  m_wakeup = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (m_wakeup.get() < 0) return failure(fmt::format("-display vnc: eventfd: {}", errno_text()));
  // The first picture is black, of the size of the first text mode.
  m_width = 720;
  m_height = 400;
  m_pixels.assign(usize{m_width} * m_height, 0);
  m_shown = m_pixels;

  rfbLogEnable(0);
  rfbRegisterProtocolExtension(&input_extensions());
  m_screen = rfbGetScreen(nullptr, nullptr, static_cast<int>(m_width), static_cast<int>(m_height), 8, 3, 4);
  if (!m_screen) return failure("-display vnc: libvncserver cannot make a screen: out of memory");
  m_screen->screenData = this;
  m_screen->frameBuffer = reinterpret_cast<char*>(m_shown.data());
  m_screen->desktopName = "Vellum";
  m_screen->autoPort = FALSE;
  m_screen->port = m_screen->ipv6port = 0;  // the listening sockets are ours: the library reports no reasons
  m_screen->alwaysShared = TRUE;
  m_screen->cursor = nullptr;               // the guest draws its own
  m_screen->deferUpdateTime = 0;
  m_screen->maxClientWait = kPatience;
  m_screen->handleEventsEagerly = TRUE;
  m_screen->permitFileTransfer = FALSE;
  m_screen->newClientHook = client_came;
  m_screen->kbdAddEvent = key;
  m_screen->ptrAddEvent = pointer;
  m_screen->kbdReleaseAllKeys = [](rfbClientPtr client) { of(client).send({.kind = InputEvent::Kind::ReleaseAll}); };
  m_screen->setXCutText = [](char*, int, rfbClientPtr) {};
  if (!m_options.password.empty()) {
    m_password = m_options.password;
    m_passwords[0] = m_password.data();
    m_screen->authPasswdData = m_passwords;
    m_screen->passwordCheck = rfbCheckPasswordByList;
  }
  rfbInitServer(m_screen);
  m_thread = std::thread([this] { serve(); });
  return {};
}

VncDisplay::~VncDisplay() {
  if (m_thread.joinable()) {
    m_stop = true;
    wake();
    m_thread.join();
  }
  if (m_screen) {
    rfbShutdownServer(m_screen, TRUE);
    m_screen->frameBuffer = nullptr;
    rfbScreenCleanup(m_screen);
  }
  if (!m_bound_path.empty()) unlink(m_bound_path.c_str());
}

std::string VncDisplay::announcement() const {
  if (!m_options.unix_path.empty()) return fmt::format("VNC at {}", m_options.unix_path);
  return fmt::format("VNC at {}:{} (port {})", m_options.host, m_options.port - 5900, m_options.port);
}

void VncDisplay::wake() {
  const u64 one = 1;
  [[maybe_unused]] const auto written = write(m_wakeup.get(), &one, sizeof(one));  // full: it is awake already
}

// The machine's thread.
void VncDisplay::show(const ScreenFrame& frame, std::span<const ScreenRectangle> changed) {
  {
    const std::scoped_lock lock(m_mutex);
    m_current = true;
    if (frame.width != m_width || frame.height != m_height) {
      m_width = frame.width;
      m_height = frame.height;
      m_pixels.assign(usize{m_width} * m_height, 0);
      m_changed.clear();
    }
    for (const auto& part : changed) {
      for (u32 y = part.y; y < part.y + part.height; ++y) {
        const u32* from = frame.pixels.data() + usize{y} * frame.width + part.x;
        u32* to = m_pixels.data() + usize{y} * m_width + part.x;
        // The library counts red from the lowest bit.
        for (u32 x = 0; x < part.width; ++x) to[x] = (from[x] & 0xff00) | (from[x] >> 16 & 0xff) | (from[x] & 0xff) << 16;
      }
    }
    m_absolute = m_control.pointer_is_absolute();
    if (m_changed.size() + changed.size() > kMostRectangles) m_changed.assign(1, {0, 0, m_width, m_height});
    else m_changed.insert(m_changed.end(), changed.begin(), changed.end());
  }
  wake();
}

void VncDisplay::show_status(const MachineStatus&) {
  const bool absolute = m_control.pointer_is_absolute();
  if (m_absolute.exchange(absolute) != absolute) wake();
}

// ---- The server's thread

void VncDisplay::take_frames() {
  const std::scoped_lock lock(m_mutex);
  if (m_width != static_cast<u32>(m_screen->width) || m_height != static_cast<u32>(m_screen->height)) {
    m_last_shown.swap(m_shown);  // the library may look at the old one until it has the new one
    m_shown = m_pixels;
    rfbNewFramebuffer(m_screen, reinterpret_cast<char*>(m_shown.data()), static_cast<int>(m_width), static_cast<int>(m_height), 8, 3, 4);
    m_changed.clear();
    return;
  }
  for (const auto& part : m_changed) {
    for (u32 y = part.y; y < part.y + part.height; ++y)
      std::copy_n(m_pixels.begin() + static_cast<long>(usize{y} * m_width + part.x), part.width, m_shown.begin() + static_cast<long>(usize{y} * m_width + part.x));
    rfbMarkRectAsModified(m_screen, static_cast<int>(part.x), static_cast<int>(part.y), static_cast<int>(part.x + part.width), static_cast<int>(part.y + part.height));
  }
  m_changed.clear();
}

// Whoever comes while nobody looks would see an old picture first, or a black one, so the machine is asked for one before. One that
// does not run draws none.
bool VncDisplay::has_current_picture() {
  const std::scoped_lock lock(m_mutex);
  const auto now = std::chrono::steady_clock::now();
  if (!m_watched) {
    m_watched = true;
    m_current = false;
    m_wait_until = now + kMostWait;
  }
  return m_current || now >= m_wait_until;
}

void VncDisplay::accept_client() {
  for (const auto& listener : m_listeners) {
    Descriptor client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.get() < 0) continue;
    if (m_clients >= kMostClients) continue;  // the descriptor closes
    rfbNewClient(m_screen, client.release());
  }
}

void VncDisplay::serve() {
  while (!m_stop) {
    std::vector<pollfd> descriptors = {{.fd = m_wakeup.get(), .events = POLLIN, .revents = 0}};
    for (const auto& listener : m_listeners) descriptors.push_back({.fd = listener.get(), .events = static_cast<short>(m_client_waits ? 0 : POLLIN), .revents = 0});
    const usize own = descriptors.size();
    rfbClientIteratorPtr iterator = rfbGetClientIterator(m_screen);
    while (rfbClientPtr client = rfbClientIteratorNext(iterator))
      if (client->sock >= 0) descriptors.push_back({.fd = client->sock, .events = POLLIN, .revents = 0});
    rfbReleaseClientIterator(iterator);
    if (poll(descriptors.data(), descriptors.size(), m_client_waits ? kLookAgain : -1) < 0 && errno != EINTR) return;
    u64 count;
    [[maybe_unused]] const auto got = read(m_wakeup.get(), &count, sizeof(count));
    if (m_stop) break;
    m_client_waits |= std::any_of(descriptors.begin() + 1, descriptors.begin() + static_cast<long>(own), [](const pollfd& at) { return at.revents != 0; });
    if (m_client_waits && has_current_picture()) {
      m_client_waits = false;
      accept_client();
    }
    take_frames();
    iterator = rfbGetClientIterator(m_screen);
    while (rfbClientPtr client = rfbClientIteratorNext(iterator)) tell_pointer_mode(client);
    rfbReleaseClientIterator(iterator);
    rfbProcessEvents(m_screen, 0);
    m_watched.store(m_clients > 0 || m_client_waits, std::memory_order_relaxed);
  }
}

void VncDisplay::send(const InputEvent& event) {
  if (!m_input->push(event)) return;
  m_control.post([input = m_input] { input->deliver(); });
}

// An update of one rectangle without pixels in a pseudo-encoding, which tells the client that the server knows it.
bool VncDisplay::tell(rfbClientPtr client, u16 x, u32 encoding) {
  const u8 update[] = {rfbFramebufferUpdate, 0, 0, 1, static_cast<u8>(x >> 8), static_cast<u8>(x), 0, 0, 0, 0, 0, 0,
                       static_cast<u8>(encoding >> 24), static_cast<u8>(encoding >> 16), static_cast<u8>(encoding >> 8), static_cast<u8>(encoding)};
  if (rfbWriteExact(client, reinterpret_cast<const char*>(update), sizeof(update)) >= 0) return true;
  rfbCloseClient(client);
  return false;
}

// github.com/rfbproto/rfbproto, "QEMU Pointer Motion Change Pseudo-encoding", -257: x is 1 for places, 0 for movements.
void VncDisplay::tell_pointer_mode(rfbClientPtr client) {
  auto* state = static_cast<Client*>(client->clientData);
  const bool absolute = m_absolute;
  if (!state || client->sock < 0 || !state->asks_for_movement || state->told_absolute == absolute) return;
  if (tell(client, absolute ? 1 : 0, kPointerMotionEncoding)) state->told_absolute = absolute;
}

rfbNewClientAction VncDisplay::client_came(rfbClientPtr client) {
  VncDisplay& display = of(client);
  client->clientData = new Client{.display = &display};
  client->clientGoneHook = client_went;
  ++display.m_clients;
  return RFB_CLIENT_ACCEPT;
}

void VncDisplay::client_went(rfbClientPtr client) {
  VncDisplay& display = of(client);
  delete static_cast<Client*>(client->clientData);
  client->clientData = nullptr;
  --display.m_clients;
  // Whatever it held down, nobody else will release.
  display.send({.kind = InputEvent::Kind::ReleaseAll});
}

void VncDisplay::key(rfbBool down, rfbKeySym keysym, rfbClientPtr client) {
  if (const auto code = key_of_keysym(keysym)) of(client).send({.key = *code, .down = down != 0});
}

void VncDisplay::pointer(int mask, int x, int y, rfbClientPtr client) {
  auto* state = static_cast<Client*>(client->clientData);
  if (!state) return;
  // RFC 6143, 7.5.5: left, middle, right, wheel up and down, two sideways, then back and forward as most servers have them.
  constexpr int kLeft = 1, kMiddle = 2, kRight = 4, kWheelUp = 8, kWheelDown = 16, kBack = 128, kForward = 256;
  const int pressed = mask & ~std::exchange(state->buttons, mask);
  InputEvent event{.kind = InputEvent::Kind::Pointer};
  event.width = static_cast<u16>(client->screen->width);
  event.height = static_cast<u16>(client->screen->height);
  if (state->asks_for_movement && x >= kSmallestMovement && y >= kSmallestMovement) {
    event.relative = true;
    event.dx = x - kNoMovement;
    event.dy = y - kNoMovement;
  }
  event.x = static_cast<u16>(std::clamp(x, 0, event.width - 1));
  event.y = static_cast<u16>(std::clamp(y, 0, event.height - 1));
  event.wheel = (pressed & kWheelUp ? 1 : 0) - (pressed & kWheelDown ? 1 : 0);
  event.buttons = static_cast<u8>((mask & kLeft ? kPointerLeft : 0) | (mask & kMiddle ? kPointerMiddle : 0) | (mask & kRight ? kPointerRight : 0) |
                                  (mask & kBack ? kPointerBack : 0) | (mask & kForward ? kPointerForward : 0));
  of(client).send(event);
}

// github.com/rfbproto/rfbproto, "QEMU Extended Key Event Message" and pseudo-encoding -258: clients that know it send scan codes
// too, so that the guest's keyboard layout holds, not the client's.
rfbProtocolExtension& VncDisplay::input_extensions() {
  static int encodings[] = {static_cast<int>(kQemuKeyEncoding), static_cast<int>(kPointerMotionEncoding), 0};
  static rfbProtocolExtension extension = {
      .newClient = [](rfbClientPtr, void**) -> rfbBool { return TRUE; },
      .init = nullptr,
      .pseudoEncodings = encodings,
      .enablePseudoEncoding = [](rfbClientPtr client, void**, int encoding) -> rfbBool {
        auto* state = static_cast<Client*>(client->clientData);
        if (!state) return FALSE;
        if (static_cast<u32>(encoding) == kPointerMotionEncoding) {
          state->asks_for_movement = true;
          of(client).tell_pointer_mode(client);
          return TRUE;
        }
        if (static_cast<u32>(encoding) != kQemuKeyEncoding) return FALSE;
        if (!std::exchange(state->scan_codes, true)) tell(client, 0, kQemuKeyEncoding);
        return TRUE;
      },
      .handleMessage = [](rfbClientPtr client, void*, const rfbClientToServerMsg* message) -> rfbBool {
        if (message->type != kQemuMessage) return FALSE;
        // Behind the type: submessage 0, a 16-bit flag, keysym, scan code.
        u8 rest[11];
        if (rfbReadExact(client, reinterpret_cast<char*>(rest), sizeof(rest)) <= 0 || rest[0] != 0) return rfbCloseClient(client), TRUE;
        const auto word = [&](usize at) { return u32{rest[at]} << 24 | rest[at + 1] << 16 | rest[at + 2] << 8 | rest[at + 3]; };
        const bool down = rest[1] | rest[2];
        auto code = key_of_scan_code(word(7));
        if (!code) code = key_of_keysym(word(3));
        if (code) of(client).send({.key = *code, .down = down});
        return TRUE;
      },
      .close = [](rfbClientPtr, void*) {},
      .usage = nullptr,
      .processArgument = nullptr,
      .next = nullptr,
  };
  return extension;
}

}  // namespace

bool has_vnc_display() { return true; }

std::unique_ptr<Display> make_vnc_display(VncOptions options, DisplayControl& control) {
  return std::make_unique<VncDisplay>(std::move(options), control);
}

}  // namespace vellum
