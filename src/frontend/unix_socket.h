// Unix sockets by their paths, with errors that say what to do.
#pragma once

#include <string>
#include <string_view>

#include "state/error.h"

namespace vellum {

// Descriptors of stream sockets that a new program does not inherit. `option` is what the user wrote, for messages.
// Connects to whoever listens there. `advice`: how one would listen there instead.
Result<int> connect_unix_socket(std::string_view option, const std::string& path, std::string_view advice);
// Listens there. A socket that a process has left behind is removed; any other file, and a socket where somebody listens, is not.
Result<int> listen_on_unix_socket(std::string_view option, const std::string& path);

}  // namespace vellum
