// Stencils that are no instruction: entries of blocks and ways from one to the next. In the table they are the variants
// of one row, in the order of jit/glue.h.
#include "cpu/block.h"
#include "cpu/flags.h"
#include "jit/glue.h"
#include "jit/hole_fields.h"
#include "jit/jump.h"
#include "jit/stencil_modes.h"

extern "C" {
VELLUM_HANDLER_ABI void vellum_continue(vellum::CpuState*, const vellum::BoundInsn*);
VELLUM_HANDLER_ABI void vellum_handler(vellum::CpuState*, const vellum::BoundInsn*);
}

namespace vellum {

namespace {

u64 immediate() { return reinterpret_cast<u64>(vellum_hole_immediate); }
u64 target_offset() { return reinterpret_cast<u64>(vellum_hole_target_offset); }
const BoundInsn* insn() { return reinterpret_cast<const BoundInsn*>(VELLUM_WIDE_HOLE(insn)); }

// In front of an entry: when the block has been entered often enough, somebody is told.
VELLUM_HANDLER_ABI void count(CpuState* s, const BoundInsn* second) {
  u32* heat = reinterpret_cast<u32*>(VELLUM_WIDE_HOLE(wide));
  if (--*heat == 0) [[unlikely]] [[clang::musttail]] return vellum_handler(s, insn());
  [[clang::musttail]] return vellum_continue(s, second);
}

// The entry of a block of `immediate` instructions.
VELLUM_HANDLER_ABI void enter(CpuState* s, const BoundInsn* second) {
  const i64 left = s->budget - static_cast<i64>(immediate());
  if (left < 0 || __atomic_load_n(&s->attention, __ATOMIC_RELAXED)) [[unlikely]]
    [[clang::musttail]] return interpreter_leave(s, second);
  s->budget = left;
  [[clang::musttail]] return vellum_continue(s, second);
}

// The entry of a block that has gone stale.
VELLUM_HANDLER_ABI void leave(CpuState* s, const BoundInsn* second) { [[clang::musttail]] return interpreter_leave(s, second); }

// An instruction without a stencil: its interpreter's handler, which goes on with the next one's code by itself.
VELLUM_HANDLER_ABI void call_handler(CpuState* s, const BoundInsn* second) { [[clang::musttail]] return vellum_handler(s, insn()); }

// To a block on the same page, `immediate` bytes away.
VELLUM_HANDLER_ABI void go_to_block(CpuState* s, const BoundInsn* second) {
  s->code_base += immediate();
  [[clang::musttail]] return vellum_handler(s, second);
}

// To a RIP: through the jump cache.
VELLUM_HANDLER_ABI void go_to_offset(CpuState* s, const BoundInsn* second) { VELLUM_JIT_GO_TO(s, s->code_base + target_offset()); }
VELLUM_HANDLER_ABI void go_to_offset32(CpuState* s, const BoundInsn* second) { VELLUM_JIT_GO_TO(s, static_cast<u32>(s->code_base + target_offset())); }
VELLUM_HANDLER_ABI void go_to_offset16(CpuState* s, const BoundInsn* second) { VELLUM_JIT_GO_TO(s, static_cast<u16>(s->code_base + target_offset())); }
VELLUM_HANDLER_ABI void go_to_rip(CpuState* s, const BoundInsn* second) { VELLUM_JIT_GO_TO(s, reinterpret_cast<u64>(second)); }

}  // namespace

struct GlueTable {
  Handler of[kStencilModes][kVariants];
};
extern "C" [[gnu::used, gnu::section(".stencil_table")]] constexpr GlueTable vellum_stencil_table[] = {{{{
    count, enter, leave, call_handler, go_to_block, go_to_offset, go_to_offset32, go_to_offset16, go_to_rip,
}}}};

}  // namespace vellum
