// VELLUM_ASSERT: states what only a bug of ours can break. On in every build type.
#pragma once

namespace vellum {

// Prints the failed condition, then what the handler set by set_assert_context() tells of the guest, and aborts.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

// `describe` is called once before the abort; it should print the guest's rip and mode to stderr.
void set_assert_context(void (*describe)(void* context), void* context);

}  // namespace vellum

#define VELLUM_ASSERT(condition) \
  (__builtin_expect(!!(condition), 1) ? (void)0 : ::vellum::assertion_failed(#condition, __FILE__, __LINE__))
