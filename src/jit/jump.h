// How translated code goes to a RIP that is not linked: through the jump cache, without leaving to the run loop.
#pragma once

#include "cpu/block.h"
#include "cpu/jump_cache.h"
#include "jit/hole_fields.h"

// Enters the block at `target`, or returns to the run loop with s->rip = target when the cache does not know it. What code of
// the baseline hands on in registers is loaded here.
#define VELLUM_JIT_GO_TO(s, target)                                                                                     \
  do {                                                                                                                  \
    const u64 go_to_rip = (target);                                                                                     \
    const JumpCacheEntry* const cached = find_jump(s, go_to_rip);                                                       \
    if (!cached) [[unlikely]] return go_on_at(s, go_to_rip);                                                            \
    (s)->code_base = go_to_rip - cached->block->page_offset();                                                          \
    [[clang::musttail]] return reinterpret_cast<StencilFunction>(cached->entry)(                                        \
        (s), reinterpret_cast<const BoundInsn*>(go_to_rip), reinterpret_cast<char*>(s) + kStateMiddle, (s)->tlb, 0, 0, 0);                                    \
  } while (false)
