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
VELLUM_HANDLER_ABI void vellum_missed(VELLUM_STENCIL_PARAMETERS);
}

namespace vellum {

namespace {

u64 immediate() { return reinterpret_cast<u64>(vellum_hole_immediate); }
const BoundInsn* hole_insn() { return reinterpret_cast<const BoundInsn*>(VELLUM_WIDE_HOLE(insn)); }
char* middle_of(CpuState* s) { return reinterpret_cast<char*>(s) + kStateMiddle; }

// On the way to a block: whoever looks at the counter finds out how often that was. It lies near all code.
VELLUM_INLINE void count_down() {
#if defined(__x86_64__)
  asm volatile("decl vellum_hole_heat(%%rip)" ::: "cc", "memory");
#else
  --*reinterpret_cast<i32*>(VELLUM_WIDE_HOLE(heat));
#endif
}

// Where others than stencils come in: what stencils hand on.
VELLUM_HANDLER_ABI void prepare(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_continue(s, insn, middle_of(s), s->tlb, flag_result, flag_a, flag_b); }
// The same, for those who have entered the block already.
VELLUM_HANDLER_ABI void prepare_first(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, insn, middle_of(s), s->tlb, flag_result, flag_a, flag_b); }

// The entry of a block of `immediate` instructions.
VELLUM_HANDLER_ABI void enter(VELLUM_STENCIL_PARAMETERS) {
#if defined(__x86_64__)  // compilers would load the number first
  bool spent;
  asm("subq $vellum_hole_short_immediate, %0" : "+m"(s->budget), "=@ccs"(spent));
#else
  s->budget -= static_cast<i64>(immediate());
  const bool spent = s->budget < 0;
#endif
  if (spent) [[unlikely]] {
    asm volatile("" ::: "memory");  // so that nobody keeps what it was
    s->budget += static_cast<i64>(immediate());
#if defined(__x86_64__)  // one instruction, while elsewhere it takes as many as a hole for an address
    u64 here;
    asm("leaq %P1(%%rip), %0" : "=r"(here) : "i"(&enter));
#else
    const u64 here = 0;
#endif
    [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, here, flag_a, flag_b);
  }
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// An instruction without a stencil: its interpreter's handler, which goes on with the next one's code by itself.
VELLUM_HANDLER_ABI void call_handler(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b); }

// To other code of the same page.
VELLUM_HANDLER_ABI void go_to_block(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b); }

// To other code, counted.
VELLUM_HANDLER_ABI void counted_jump(VELLUM_STENCIL_PARAMETERS) {
  count_down();
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// In the place of a jump where its target follows at once; as long as one.
VELLUM_HANDLER_ABI void go_on(VELLUM_STENCIL_PARAMETERS) {
#if defined(__x86_64__)
  asm volatile("nopl 8(%rax,%rax)");
#else
  asm volatile("nop");
#endif
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// Where the target's page would begin for `from` to be so far from it, and whether that is where it was found the last time.
struct Lead {
  u64 begin;
  bool right;
};
VELLUM_INLINE Lead lead_from(const CpuState* s, u64 from) {
  const u64 begin = from - reinterpret_cast<u64>(vellum_hole_site_distance);
  u64 key;
  __builtin_memcpy(&key, reinterpret_cast<const char*>(s) + reinterpret_cast<u64>(vellum_hole_site_key_offset), sizeof key);
  return {begin, (begin ^ key) == reinterpret_cast<const CodePlace*>(VELLUM_WIDE_HOLE(site_place))->stamp};
}

// To a block on another page, if that is mapped where it must be.
VELLUM_HANDLER_ABI void go_to_site(VELLUM_STENCIL_PARAMETERS) {
  const Lead lead = lead_from(s, s->code_base);
  if (!lead.right) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b);
  s->code_base = lead.begin;
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

VELLUM_HANDLER_ABI void counted_site(VELLUM_STENCIL_PARAMETERS) {
  const Lead lead = lead_from(s, s->code_base);
  if (!lead.right) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b);
  s->code_base = lead.begin;
  count_down();
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// Hands on the RIP that is `immediate` bytes away.
VELLUM_HANDLER_ABI void pass_rip(VELLUM_STENCIL_PARAMETERS) {
  [[clang::musttail]] return vellum_handler(s, reinterpret_cast<const BoundInsn*>(s->code_base + static_cast<u64>(immediate())), middle, tlb, flag_result, flag_a, flag_b);
}

// To a RIP: through the jump cache.
VELLUM_HANDLER_ABI void go_to_rip(VELLUM_STENCIL_PARAMETERS) {
  const u64 rip = reinterpret_cast<u64>(insn);
  const JumpCacheEntry* const cached = find_jump(s, rip);
  if (!cached) [[unlikely]] return go_on_at(s, rip);
  s->code_base = page_begin(rip);
  [[clang::musttail]] return reinterpret_cast<StencilFunction>(cached->entry)(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// In front of a call's semantics, where RSP is what it will be behind the return: that goes on at `wide`, the block's ReturnSite.
VELLUM_HANDLER_ABI void push_return(VELLUM_STENCIL_PARAMETERS) {
  const void* site = reinterpret_cast<const void*>(VELLUM_WIDE_HOLE(wide));
  __builtin_memcpy(reinterpret_cast<char*>(s->returns.data()) + CpuState::return_place(s->gpr[kRsp]), &site, sizeof site);
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// A return to a RIP: wherever the call from this place of the stack, if it was that, said.
VELLUM_HANDLER_ABI void go_to_return(VELLUM_STENCIL_PARAMETERS) {
  StencilFunction site;
  __builtin_memcpy(&site, reinterpret_cast<const char*>(s->returns.data()) + CpuState::return_place(s->gpr[kRsp]), sizeof site);
  [[clang::musttail]] return site(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// Where a return comes in with its RIP, on the way to the block behind the call: once linked, and before. What looks for that
// block gets the call's instruction besides. The mode may be another than it was at the call: `immediate` is that of linking.
// Indirect jumps and calls come in likewise, and are counted.
VELLUM_HANDLER_ABI void return_site(VELLUM_STENCIL_PARAMETERS) {
  const Lead lead = lead_from(s, reinterpret_cast<u64>(insn));
  const bool behind_call = (lead.begin & kPageMask) == 0;  // the guest may return anywhere, and here the key has bits of its own
  if (!lead.right || !behind_call || s->mode != static_cast<u32>(immediate())) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, insn, middle, tlb, reinterpret_cast<u64>(hole_insn()), flag_a, flag_b);
  s->code_base = lead.begin;
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}
VELLUM_HANDLER_ABI void counted_indirect_site(VELLUM_STENCIL_PARAMETERS) {
  const Lead lead = lead_from(s, reinterpret_cast<u64>(insn));
  const bool at_target = (lead.begin & kPageMask) == 0;
  if (!lead.right || !at_target || s->mode != static_cast<u32>(immediate())) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, insn, middle, tlb, reinterpret_cast<u64>(hole_insn()), flag_a, flag_b);
  s->code_base = lead.begin;
  count_down();
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}
VELLUM_HANDLER_ABI void open_return_site(VELLUM_STENCIL_PARAMETERS) {
  [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, reinterpret_cast<u64>(hole_insn()), flag_a, flag_b);
}

}  // namespace

struct GlueTable {
  StencilFunction of[kStencilModes][kVariants];
};
extern "C" [[gnu::used, gnu::section(".stencil_table")]] constexpr GlueTable vellum_stencil_table[] = {{{{
    prepare, prepare_first, enter, call_handler, go_to_block, counted_jump, go_on, go_to_site, counted_site, pass_rip, go_to_rip,
    push_return, go_to_return, return_site, counted_indirect_site, open_return_site,
}}}};

}  // namespace vellum
