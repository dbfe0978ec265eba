// Unix sockets by their paths, with errors that say what to do.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "machine/event_loop.h"
#include "state/error.h"

namespace vellum {

// Descriptors of stream sockets that a new program does not inherit. `option` is what the user wrote, for messages.
// Connects to whoever listens there. `advice`: what to do where nobody does.
Result<int> connect_unix_socket(std::string_view option, const std::string& path, std::string_view advice);
// Listens there. A socket that a process has left behind is removed; any other file, and a socket where somebody listens, is not.
Result<int> listen_on_unix_socket(std::string_view option, const std::string& path);

// Listens at a path, which it removes at the end.
class UnixListener {
 public:
  // While `wanted` says so, `accepted` gets each connection: a descriptor that does not block.
  static Result<std::unique_ptr<UnixListener>> create(EventLoop& events, std::string_view option, const std::string& path,
                                                      std::function<bool()> wanted, std::function<void(int)> accepted);
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;

  // Takes a connection that comes within this time.
  void wait(int milliseconds);

 private:
  UnixListener(EventLoop& events, int descriptor, const std::string& path, std::function<bool()> wanted, std::function<void(int)> accepted);
  void accept_one();

  int m_descriptor;
  std::string m_path;
  std::function<void(int)> m_accepted;
  std::unique_ptr<EventSource> m_source;
};

}  // namespace vellum
