// Connecting to and listening on Unix sockets.
#include "frontend/unix_socket.h"

#include <fmt/format.h>
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
  if (path.size() >= sizeof(made.address.sun_path))
    return failure(fmt::format("{}: the path is too long for a Unix socket ({} characters at most)", option, sizeof(made.address.sun_path) - 1));
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
    return made->refuse(fmt::format("{}: cannot connect to {}: {}; {} to listen there instead", option, path, why(), advice));
  return made->descriptor;
}

Result<int> listen_on_unix_socket(std::string_view option, const std::string& path) {
  const auto made = make(option, path);
  if (!made) return std::unexpected(made.error());
  struct stat status;
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    if (connect(made->descriptor, made->raw(), sizeof(made->address)) == 0)
      return made->refuse(fmt::format("{}: another process listens on {} already", option, path));
    unlink(path.c_str());
  }
  if (bind(made->descriptor, made->raw(), sizeof(made->address)) != 0 || listen(made->descriptor, 1) != 0)
    return made->refuse(fmt::format("{}: cannot listen on {}: {}", option, path, why()));
  return made->descriptor;
}

}  // namespace vellum
