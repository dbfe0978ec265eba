// The nearest valid name to a mistyped one, for error messages.
#pragma once

#include <span>
#include <string_view>

namespace vellum {

// Returns the candidate with the least edit distance to `word`, or an empty view when none is near (distance above
// half of the word's length, at least 2).
std::string_view nearest_name(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace vellum
