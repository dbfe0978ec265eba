// The error of a host failure (file, socket, option): what was tried, on what, why it failed, what the user can do.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <utility>

namespace vellum {

struct Error {
  std::string message;  // one line, without a trailing newline
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> failure(std::string message) { return std::unexpected(Error{std::move(message)}); }

}  // namespace vellum
