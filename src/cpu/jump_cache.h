// Where a RIP's entry stands in the jump cache.
#pragma once

#include "cpu/state.h"

namespace vellum {

// Four bytes of code share a slot, in which there are hardly two targets: so a warm guest touches few of the host's cache lines.
inline constexpr usize jump_cache_slot(u64 rip) { return ((rip ^ (rip >> 12)) >> 2) & (kJumpCacheSize - 1); }

}  // namespace vellum
