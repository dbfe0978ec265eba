// `vellum monitor SOCKET`: the monitor of a running machine, with line editing, history and completion on this side.
#pragma once

#include <span>
#include <string>

namespace vellum {

// Returns the exit status.
int run_monitor_client(std::span<const std::string> arguments);

}  // namespace vellum
