// Looking into the jump cache.
#pragma once

#include "cpu/state.h"
#include "mmu/address.h"

namespace vellum {

// Targets lie seldom closer together than four bytes, so that bits 2 and up tell them apart. Where they do, as around an instruction
// of one or two bytes that is a callout, bits 0 and 1 lead them far away from each other.
inline constexpr usize jump_cache_slot(u64 rip) {
  const u64 mixed = rip ^ (rip >> 12);
  return (mixed >> 2 ^ mixed * (kJumpCacheSize / 4)) & (kJumpCacheSize - 1);
}

// The entry for `rip` as it is mapped and in the mode of now, or null.
VELLUM_INLINE const JumpCacheEntry* find_jump(const CpuState* s, u64 rip) {
  const JumpCacheEntry& entry = s->jump_cache[jump_cache_slot(rip)];
  return entry.rip == rip && entry.key == s->jump_key_of(rip) ? &entry : nullptr;
}

// The code at `ram_offset` has just been found at `rip`, as it is mapped now.
VELLUM_INLINE void note_code_place(CpuState* s, u64 ram_offset, u64 rip) {
  s->code_places[ram_offset / kPageSize] = {(rip - ram_offset % kPageSize) ^ s->place_key[rip >> 63]};
}

// For CpuState::code_base, of code that RIP is the linear address of.
VELLUM_INLINE u64 page_begin(u64 rip) { return rip & ~u64{kPageMask}; }

// What code does that then returns to the run loop, which finds or makes the block at `rip`.
VELLUM_INLINE void go_on_at(CpuState* s, u64 rip) {
  s->rip = rip;
  s->insn = nullptr;
}

}  // namespace vellum
