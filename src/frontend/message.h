// Messages to the user on standard error.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace vellum {

// Prints "vellum: …" as a line. Unlike fmt::print it does not throw when standard error is gone.
template <class... Args>
void tell_user(fmt::format_string<Args...> format, Args&&... args) {
  const std::string line = "vellum: " + fmt::format(format, std::forward<Args>(args)...) + "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace vellum
