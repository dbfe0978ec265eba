// The page of a profile, without its data.
#pragma once

#include <string_view>

namespace vellum {

// Has the place "/*DATA*/null" once, for a JSON object; see Profile::page().
std::string_view profile_page();

}  // namespace vellum
