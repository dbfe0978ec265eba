// Tap interfaces and Unix sockets as ends of network cables.
#include "frontend/network_backends.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "machine/unix_socket.h"
#include "state/assert.h"

namespace vellum {

namespace {

// Frames or pieces that are read before the guest runs on.
constexpr unsigned kMostAtOnce = 256;

// A tap interface: each read or write is a frame. Linux Documentation/networking/tuntap.rst.
class TapNetwork final : public HostNetwork {
 public:
  TapNetwork(EventLoop& events, NetdevSpec spec) : m_events(events), m_spec(std::move(spec)) {}
  ~TapNetwork() override {
    m_source.reset();
    if (m_descriptor >= 0) close(m_descriptor);
  }

  Result<void> open() override {
    const auto error = [&](std::string_view what) {
      const int reason = errno;
      const std::string_view advice = reason == EPERM || reason == EACCES || reason == EBUSY
                                          ? "; as root: ip tuntap add NAME mode tap user YOU"
                                          : "";
      return failure(fmt::format("{}: cannot {}: {}{}", m_spec.option, what, std::strerror(reason), advice));
    };
    m_descriptor = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (m_descriptor < 0) return error("open /dev/net/tun");
    ifreq request{};
    m_spec.interface.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(m_descriptor, TUNSETIFF, &request) != 0) return error(fmt::format("use the interface {}", m_spec.interface));
    m_source = std::make_unique<EventSource>(
        m_events, m_descriptor, []() -> short { return POLLIN; }, [this](short) { read_frames(); });
    return {};
  }

  // What the interface does not take at once is lost, as on a wire.
  void send(std::span<const u8> frame) override {
    if (m_descriptor < 0) return;
    [[maybe_unused]] const auto written = write(m_descriptor, frame.data(), frame.size());
  }

  std::string describe() const override { return fmt::format("tap {}", m_spec.interface); }

 private:
  void read_frames() {
    std::array<u8, ethernet::kLongestFrame> frame;
    for (unsigned i = 0; i < kMostAtOnce; ++i) {
      const ssize_t size = read(m_descriptor, frame.data(), frame.size());
      if (size > 0) receive(std::span(frame).first(static_cast<usize>(size)));
      else if (size == 0 || errno == EAGAIN) return;
      else if (errno != EINTR) return m_source.reset();  // the interface was removed
    }
  }

  EventLoop& m_events;
  NetdevSpec m_spec;
  int m_descriptor = -1;
  std::unique_ptr<EventSource> m_source;
};

// A stream socket to another emulator: each frame behind its length, four bytes in network order, as QEMU's -netdev stream and socket
// send them. A listener takes one at a time.
class UnixNetwork final : public HostNetwork {
 public:
  UnixNetwork(EventLoop& events, NetdevSpec spec) : m_events(events), m_spec(std::move(spec)) {}
  ~UnixNetwork() override { disconnect(); }

  Result<void> open() override {
    if (m_spec.server) {
      auto listener = UnixListener::create(
          m_events, m_spec.option, m_spec.path, [this] { return m_connection < 0; }, [this](int connection) { start(connection); });
      if (!listener) return std::unexpected(listener.error());
      m_listener = std::move(*listener);
      return {};
    }
    const auto connection = connect_unix_socket(m_spec.option, m_spec.path, "use server=on, or listen= to listen there instead");
    if (!connection) return std::unexpected(connection.error());
    fcntl(*connection, F_SETFL, O_NONBLOCK);
    start(*connection);
    return {};
  }

  void send(std::span<const u8> frame) override {
    // A slow reader loses whole frames.
    constexpr usize kMostPending = 1u << 20;
    if (m_connection < 0 || m_pending.size() > kMostPending) return;
    std::array<u8, 4> length;
    write_network32(length, 0, static_cast<u32>(frame.size()));
    m_pending.insert(m_pending.end(), length.begin(), length.end());
    m_pending.insert(m_pending.end(), frame.begin(), frame.end());
    write_pending();
  }

  std::string describe() const override {
    return fmt::format("Unix socket {}, {}", m_spec.path, m_connection >= 0 ? "connected" : m_spec.server ? "nobody is connected" : "the other side is gone");
  }

 private:
  void start(int connection) {
    m_connection = connection;
    m_source = std::make_unique<EventSource>(
        m_events, connection, [this]() -> short { return static_cast<short>(POLLIN | (m_pending.empty() ? 0 : POLLOUT)); },
        [this](short ready) {
          if (ready & POLLOUT) write_pending();
          if (m_connection >= 0 && (ready & ~POLLOUT)) read_pieces();
        });
  }

  void disconnect() {
    m_source.reset();
    if (m_connection >= 0) close(m_connection);
    m_connection = -1;
    m_pending.clear();
    m_received.clear();
  }

  void write_pending() {
    while (!m_pending.empty()) {
      const ssize_t written = ::send(m_connection, m_pending.data(), m_pending.size(), MSG_NOSIGNAL);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (written < 0) return disconnect();
      m_pending.erase(m_pending.begin(), m_pending.begin() + written);
    }
  }

  void read_pieces() {
    std::array<u8, 65536> piece;
    for (unsigned i = 0; i < kMostAtOnce / 16; ++i) {
      const ssize_t size = read(m_connection, piece.data(), piece.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (size <= 0) return disconnect();
      m_received.insert(m_received.end(), piece.begin(), piece.begin() + size);
      if (!take_frames()) return disconnect();
    }
  }

  // False: what comes is no series of frames.
  bool take_frames() {
    constexpr usize kLength = 4, kLongest = 65536 + ethernet::kHeaderSize;
    usize at = 0;
    while (m_received.size() - at >= kLength) {
      const usize length = read_network32(m_received, at);
      if (length > kLongest) return false;
      if (m_received.size() - at - kLength < length) break;
      receive(std::span(m_received).subspan(at + kLength, length));
      at += kLength + length;
    }
    m_received.erase(m_received.begin(), m_received.begin() + static_cast<std::ptrdiff_t>(at));
    return true;
  }

  EventLoop& m_events;
  NetdevSpec m_spec;
  int m_connection = -1;
  std::vector<u8> m_pending, m_received;
  std::unique_ptr<UnixListener> m_listener;
  std::unique_ptr<EventSource> m_source;
};

}  // namespace

std::unique_ptr<HostNetwork> make_network(EventLoop& events, const NetdevSpec& spec) {
  switch (spec.kind) {
    case NetdevSpec::Kind::User: return make_user_network(events, spec);
    case NetdevSpec::Kind::Tap: return std::make_unique<TapNetwork>(events, spec);
    case NetdevSpec::Kind::Unix: return std::make_unique<UnixNetwork>(events, spec);
  }
  VELLUM_ASSERT(false);
}

}  // namespace vellum
