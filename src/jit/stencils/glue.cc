// Stencils that are no instruction: entries of blocks and ways from one to the next. In the table they are the variants
// of one row, in the order of jit/glue.h.
#include "cpu/block.h"
#include "cpu/flags.h"
#include "cpu/jump_cache.h"
#include "jit/glue.h"
#include "jit/hole_fields.h"
#include "jit/stencil_modes.h"

extern "C" {
VELLUM_HANDLER_ABI void vellum_continue(VELLUM_STENCIL_PARAMETERS);
VELLUM_HANDLER_ABI void vellum_handler(VELLUM_STENCIL_PARAMETERS);
}

namespace vellum {

namespace {

u64 immediate() { return reinterpret_cast<u64>(vellum_hole_immediate); }
u64 target_offset() { return reinterpret_cast<u64>(vellum_hole_target_offset); }
const BoundInsn* hole_insn() { return reinterpret_cast<const BoundInsn*>(VELLUM_WIDE_HOLE(insn)); }
char* middle_of(CpuState* s) { return reinterpret_cast<char*>(s) + kStateMiddle; }
StencilFunction leave_function() { return reinterpret_cast<StencilFunction>(&interpreter_leave); }

// In front of an entry: when the block has been entered often enough, somebody is told.
VELLUM_HANDLER_ABI void count(VELLUM_STENCIL_PARAMETERS) {
  u32* heat = reinterpret_cast<u32*>(VELLUM_WIDE_HOLE(wide));
  if (--*heat == 0) [[unlikely]] [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b);
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// Where others than stencils come in: what stencils hand on.
VELLUM_HANDLER_ABI void prepare(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_continue(s, insn, middle_of(s), s->tlb, flag_result, flag_a, flag_b); }
// The same, for those who have entered the block already.
VELLUM_HANDLER_ABI void prepare_first(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, insn, middle_of(s), s->tlb, flag_result, flag_a, flag_b); }

// The entry of a block of `immediate` instructions. `attention` is read once, so that no atomic access is needed, which
// compilers keep apart from the comparison.
VELLUM_HANDLER_ABI void enter(VELLUM_STENCIL_PARAMETERS) {
  const i64 left = s->budget - static_cast<i64>(immediate());
  if (left < 0 || s->attention) [[unlikely]] [[clang::musttail]] return leave_function()(s, insn, middle, tlb, flag_result, flag_a, flag_b);
  s->budget = left;
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// The entry of a block that has gone stale.
VELLUM_HANDLER_ABI void leave(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return leave_function()(s, insn, middle, tlb, flag_result, flag_a, flag_b); }

// An instruction without a stencil: its interpreter's handler, which goes on with the next one's code by itself.
VELLUM_HANDLER_ABI void call_handler(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b); }

// To a block on the same page, `immediate` bytes away.
VELLUM_HANDLER_ABI void go_to_block(VELLUM_STENCIL_PARAMETERS) {
  s->code_base += immediate();
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// To a RIP: through the jump cache.
#define VELLUM_STENCIL_GO_TO(target)                                                                                        \
  do {                                                                                                                      \
    const u64 go_to_rip = (target);                                                                                         \
    const JumpCacheEntry& cached = s->jump_cache[jump_cache_slot(go_to_rip)];                                               \
    if (cached.rip != go_to_rip || cached.key != s->jump_key_of(go_to_rip)) [[unlikely]] {                                  \
      s->rip = go_to_rip;                                                                                                   \
      s->insn = nullptr;                                                                                                    \
      return;                                                                                                               \
    }                                                                                                                       \
    s->code_base = go_to_rip;                                                                                               \
    [[clang::musttail]] return reinterpret_cast<StencilFunction>(cached.entry)(s, cached.block->insns, middle, tlb, flag_result, flag_a, flag_b);        \
  } while (false)
VELLUM_HANDLER_ABI void go_to_offset(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_GO_TO(s->code_base + target_offset()); }
VELLUM_HANDLER_ABI void go_to_offset32(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_GO_TO(static_cast<u32>(s->code_base + target_offset())); }
VELLUM_HANDLER_ABI void go_to_offset16(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_GO_TO(static_cast<u16>(s->code_base + target_offset())); }
VELLUM_HANDLER_ABI void go_to_rip(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_GO_TO(reinterpret_cast<u64>(insn)); }

}  // namespace

struct GlueTable {
  StencilFunction of[kStencilModes][kVariants];
};
extern "C" [[gnu::used, gnu::section(".stencil_table")]] constexpr GlueTable vellum_stencil_table[] = {{{{
    count, prepare, prepare_first, enter, leave, call_handler, go_to_block, go_to_offset, go_to_offset32, go_to_offset16, go_to_rip,
}}}};

}  // namespace vellum
