// vellum translate: the subcommand that shows what becomes of guest code.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "frontend/options.h"
#include "state/error.h"

namespace vellum {

// The arguments behind "translate". An error of the first kind is the user's spelling.
struct TranslateError {
  enum class Kind : u8 { Usage, Failed } kind;
  std::string message;
};
std::expected<std::string, TranslateError> run_translate(std::span<const std::string_view> arguments);
std::string translate_help();

}  // namespace vellum
