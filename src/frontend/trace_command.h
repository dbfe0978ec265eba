// vellum trace: the subcommand that makes tables and timelines of traces.
#pragma once

#include <span>
#include <string_view>

namespace vellum {

// Returns the program's exit status.
int run_trace_command(std::span<const std::string_view> arguments);

}  // namespace vellum
