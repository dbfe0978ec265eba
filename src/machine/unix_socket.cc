// Connecting to and listening on Unix sockets.
#include "machine/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vellum {

namespace {

struct UnixSocket {
  int descriptor;
  sockaddr_un address;
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&address); }
  std::unexpected<Error> refuse(std::string message) const {
    close(descriptor);
    return failure(std::move(message));
  }
};

std::string why() { return std::strerror(errno); }

Result<UnixSocket> make(std::string_view option, const std::string& path) {
  UnixSocket made{};
  made.address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(made.address.sun_path))
    return failure(fmt::format("{}: the path of a Unix socket has 1 to {} characters", option, sizeof(made.address.sun_path) - 1));
  std::memcpy(made.address.sun_path, path.data(), path.size());
  made.descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made.descriptor < 0) return failure(fmt::format("{}: cannot make a socket: {}", option, why()));
  return made;
}

}  // namespace

Result<int> connect_unix_socket(std::string_view option, const std::string& path, std::string_view advice) {
  const auto made = make(option, path);
  if (!made) return std::unexpected(made.error());
  if (connect(made->descriptor, made->raw(), sizeof(made->address)) != 0)
    return made->refuse(fmt::format("{}: cannot connect to {}: {}; {}", option, path, why(), advice));
  return made->descriptor;
}

Result<int> listen_on_unix_socket(std::string_view option, const std::string& path) {
  const auto made = make(option, path);
  if (!made) return std::unexpected(made.error());
  struct stat status;
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    if (connect(made->descriptor, made->raw(), sizeof(made->address)) == 0)
      return made->refuse(fmt::format("{}: another process listens on {} already", option, path));
    if (errno == ECONNREFUSED) unlink(path.c_str());
  }
  if (bind(made->descriptor, made->raw(), sizeof(made->address)) != 0 || listen(made->descriptor, 1) != 0)
    return made->refuse(fmt::format("{}: cannot listen on {}: {}", option, path, why()));
  fcntl(made->descriptor, F_SETFL, O_NONBLOCK);  // who wanted to connect may be gone by the time of accept()
  return made->descriptor;
}

Result<std::unique_ptr<UnixListener>> UnixListener::create(EventLoop& events, std::string_view option, const std::string& path,
                                                           std::function<bool()> wanted, std::function<void(int)> accepted) {
  const auto descriptor = listen_on_unix_socket(option, path);
  if (!descriptor) return std::unexpected(descriptor.error());
  return std::unique_ptr<UnixListener>(new UnixListener(events, *descriptor, path, std::move(wanted), std::move(accepted)));
}

UnixListener::UnixListener(EventLoop& events, int descriptor, const std::string& path, std::function<bool()> wanted, std::function<void(int)> accepted)
    : m_descriptor(descriptor), m_path(path), m_accepted(std::move(accepted)) {
  m_source = std::make_unique<EventSource>(
      events, descriptor, [wanted = std::move(wanted)]() -> short { return wanted() ? POLLIN : 0; }, [this](short) { accept_one(); });
}

UnixListener::~UnixListener() {
  m_source.reset();
  close(m_descriptor);
  unlink(m_path.c_str());
}

void UnixListener::wait(int milliseconds) {
  pollfd incoming{m_descriptor, POLLIN, 0};
  if (poll(&incoming, 1, milliseconds) > 0) accept_one();
}

void UnixListener::accept_one() {
  const int connection = accept4(m_descriptor, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection >= 0) m_accepted(connection);
}

}  // namespace vellum
