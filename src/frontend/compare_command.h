// vellum compare: the subcommand that runs a guest under two engines and finds where they part.
#pragma once

#include <span>
#include <string_view>

namespace vellum {

// Returns the program's exit status: 0 when there was no difference, 4 when there was one, 2 for a mistyped option, 1 for what could
// not be opened or started.
int run_compare(std::span<const std::string_view> arguments);

}  // namespace vellum
