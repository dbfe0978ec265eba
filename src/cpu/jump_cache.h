// Where a RIP's entry stands in the jump cache.
#pragma once

#include "cpu/state.h"

namespace vellum {

inline constexpr usize jump_cache_slot(u64 rip) { return (rip ^ (rip >> 12)) & (kJumpCacheSize - 1); }

}  // namespace vellum
