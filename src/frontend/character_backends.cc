// Descriptors behind character backends.
#include "frontend/character_backends.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "frontend/message.h"
#include "frontend/terminal.h"
#include "machine/machine_clock.h"
#include "machine/unix_socket.h"

namespace vellum {

namespace {

bool never() { return false; }

constexpr usize kMostPending = 1u << 20;
// poll() promises room for this much on a pipe (POSIX PIPE_BUF on Linux), so a blocking descriptor does not block.
constexpr usize kPieceSize = 4096;

void set_nonblocking(int descriptor) { fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK); }

std::string why() { return std::strerror(errno); }

}  // namespace

bool (*g_stop_waiting)() = never;

StreamBackend::~StreamBackend() { close_stream(); }

void StreamBackend::open_stream(int input, int output) {
  close_stream();
  m_input = input;
  m_output = output;
  if (input >= 0)
    m_input_source = std::make_unique<EventSource>(
        m_events, input, [this]() -> short { return can_receive() > 0 ? POLLIN : 0; }, [this](short) { input_ready(); });
  m_output_source = std::make_unique<EventSource>(
      m_events, output, [this]() -> short { return m_pending.empty() ? 0 : POLLOUT; }, [this](short) { write_some(); });
}

void StreamBackend::close_stream() {
  m_input_source.reset();
  m_output_source.reset();
  if (m_input > STDERR_FILENO) close(m_input);
  if (m_output > STDERR_FILENO && m_output != m_input) close(m_output);
  m_input = m_output = -1;
  m_pending.clear();
}

void StreamBackend::input_ready() {
  std::array<u8, 4096> buffer;
  const ssize_t got = read(m_input, buffer.data(), std::min(buffer.size(), can_receive()));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got > 0) return receive({buffer.data(), static_cast<usize>(got)});
  if (m_input == m_output) return hung_up();
  // Standard input ended; output goes on.
  m_input_source.reset();
}

bool StreamBackend::write_some() {
  while (!m_pending.empty()) {
    pollfd room{m_output, POLLOUT, 0};
    if (poll(&room, 1, 0) <= 0) return false;
    std::array<u8, kPieceSize> piece;
    const usize size = std::min(piece.size(), m_pending.size());
    std::copy_n(m_pending.begin(), size, piece.begin());
    const ssize_t written = write(m_output, piece.data(), size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return false;
    if (written < 0) {
      // The reader is gone (EPIPE, ECONNRESET) or the disk is full: what nobody can get is dropped.
      m_pending.clear();
      if (m_input == m_output && m_input >= 0) hung_up();
      return false;
    }
    m_pending.erase(m_pending.begin(), m_pending.begin() + written);
  }
  return true;
}

void StreamBackend::send(std::span<const u8> data) {
  if (m_output < 0) return;
  if (m_pending.size() >= kMostPending) {
    if (m_when_full == WhenFull::Drop) return;
    while (m_output >= 0 && m_pending.size() >= kMostPending && !g_stop_waiting()) {
      pollfd room{m_output, POLLOUT, 0};
      poll(&room, 1, 100);
      write_some();
    }
    if (m_output < 0) return;
  }
  m_pending.insert(m_pending.end(), data.begin(), data.end());
  write_some();
}

void StreamBackend::drain() {
  const u64 started = host_nanoseconds();
  while (m_output >= 0 && !m_pending.empty() && host_nanoseconds() - started < 500'000'000) {
    pollfd room{m_output, POLLOUT, 0};
    poll(&room, 1, 50);
    write_some();
  }
}

namespace {

class StdioBackend final : public StreamBackend {
 public:
  StdioBackend(EventLoop& events, const CharacterSpec& spec)
      : StreamBackend(events, WhenFull::Wait), m_keys(spec.signals ? TerminalKeys::Signals : TerminalKeys::Guest) {}
  Result<void> open() override {
    // A terminal's output gets a description of its own, so that O_NONBLOCK does not stay behind with the shell.
    int output = STDOUT_FILENO;
    if (isatty(STDOUT_FILENO)) {
      const int own = ::open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
      if (own >= 0) output = own;
    }
    open_stream(STDIN_FILENO, output);
    make_terminal_raw(m_keys);
    return {};
  }
  ~StdioBackend() override {
    drain();
    restore_terminal();
  }

 private:
  TerminalKeys m_keys;
};

class FileBackend final : public StreamBackend {
 public:
  FileBackend(EventLoop& events, CharacterSpec spec) : StreamBackend(events, WhenFull::Wait), m_spec(std::move(spec)) {}
  ~FileBackend() override { drain(); }
  Result<void> open() override {
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (m_spec.append ? O_APPEND : O_TRUNC);
    const int descriptor = ::open(m_spec.path.c_str(), flags, 0666);
    if (descriptor < 0) return failure(fmt::format("{}: cannot open {}: {}", m_spec.option, m_spec.path, why()));
    open_stream(-1, descriptor);
    return {};
  }

 private:
  CharacterSpec m_spec;
};

class PtyBackend final : public StreamBackend {
 public:
  PtyBackend(EventLoop& events, CharacterSpec spec) : StreamBackend(events, WhenFull::Drop), m_spec(std::move(spec)) {}
  ~PtyBackend() override {
    if (m_slave >= 0) close(m_slave);
  }
  Result<void> open() override {
    int master;
    char name[128];
    if (openpty(&master, &m_slave, name, nullptr, nullptr) != 0)
      return failure(fmt::format("{}: cannot make a pseudo-terminal: {}", m_spec.option, why()));
    termios mode;
    tcgetattr(m_slave, &mode);
    cfmakeraw(&mode);
    tcsetattr(m_slave, TCSANOW, &mode);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(m_slave, F_SETFD, FD_CLOEXEC);
    set_nonblocking(master);
    m_path = name;
    open_stream(master, master);
    return {};
  }
  std::string announcement() const override { return m_path; }

 private:
  CharacterSpec m_spec;
  // The slave side is kept open here as well: without that, poll() would report a hang-up without end while nobody else
  // has it open.
  int m_slave = -1;
  std::string m_path;
};

class SocketBackend final : public StreamBackend {
 public:
  SocketBackend(EventLoop& events, CharacterSpec spec) : StreamBackend(events, WhenFull::Drop), m_spec(std::move(spec)) {}
  ~SocketBackend() override { drain(); }
  Result<void> open() override;

 private:
  CharacterSpec m_spec;
  std::unique_ptr<UnixListener> m_listener;
};

Result<void> SocketBackend::open() {
  if (!m_spec.server) {
    const auto connection = connect_unix_socket(m_spec.option, m_spec.path, "add ,server to listen there instead");
    if (!connection) return std::unexpected(connection.error());
    set_nonblocking(*connection);
    open_stream(*connection, *connection);
    return {};
  }
  auto listener = UnixListener::create(
      events(), m_spec.option, m_spec.path, [this] { return !connected(); },
      [this](int connection) {
        open_stream(connection, connection);
        on_connected();
      });
  if (!listener) return std::unexpected(listener.error());
  m_listener = std::move(*listener);
  if (!m_spec.wait) return {};
  tell_user("waiting for a connection on {}", m_spec.path);
  while (!connected()) {
    if (g_stop_waiting()) return failure(fmt::format("{}: nobody connected", m_spec.option));
    m_listener->wait(200);
  }
  return {};
}

}  // namespace

std::unique_ptr<HostBackend> make_backend(EventLoop& events, const CharacterSpec& spec) {
  switch (spec.kind) {
    case CharacterSpec::Kind::Stdio: return std::make_unique<StdioBackend>(events, spec);
    case CharacterSpec::Kind::File: return std::make_unique<FileBackend>(events, spec);
    case CharacterSpec::Kind::Pty: return std::make_unique<PtyBackend>(events, spec);
    case CharacterSpec::Kind::Unix: return std::make_unique<SocketBackend>(events, spec);
    case CharacterSpec::Kind::None:
    case CharacterSpec::Kind::Null:
    case CharacterSpec::Kind::Chardev: break;
  }
  return std::make_unique<NullBackend>();
}

}  // namespace vellum
