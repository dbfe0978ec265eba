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

// The entry of a block of `immediate` instructions.
VELLUM_HANDLER_ABI void enter(VELLUM_STENCIL_PARAMETERS) {
#if defined(__x86_64__)  // compilers would load the number first
  bool spent;
  asm("subq $vellum_hole_immediate, %0" : "+m"(s->budget), "=@ccs"(spent));
#else
  s->budget -= static_cast<i64>(immediate());
  const bool spent = s->budget < 0;
#endif
  if (spent) [[unlikely]] {
    asm volatile("" ::: "memory");  // so that nobody keeps what it was
    s->budget += static_cast<i64>(immediate());
    [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b);
  }
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// An instruction without a stencil: its interpreter's handler, which goes on with the next one's code by itself.
VELLUM_HANDLER_ABI void call_handler(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b); }

// To other code of the same page.
VELLUM_HANDLER_ABI void go_to_block(VELLUM_STENCIL_PARAMETERS) { [[clang::musttail]] return vellum_handler(s, insn, middle, tlb, flag_result, flag_a, flag_b); }

u64 present_key(const CpuState* s) {
  u64 key;
  __builtin_memcpy(&key, reinterpret_cast<const char*>(s) + reinterpret_cast<u64>(vellum_hole_site_key_offset), sizeof key);
  return key;
}

// Whether the target's page is found now where it must be for `from` to be so far from its begin.
VELLUM_INLINE bool leads_there(const CpuState* s, const CodePlace* place, u64 from) {
  return place->key == present_key(s) && from - place->begin == reinterpret_cast<u64>(vellum_hole_site_distance);
}
VELLUM_INLINE const CodePlace* site_place() { return reinterpret_cast<const CodePlace*>(VELLUM_WIDE_HOLE(site_place)); }

// To a block on another page, if that is mapped where it must be.
VELLUM_HANDLER_ABI void go_to_site(VELLUM_STENCIL_PARAMETERS) {
  const CodePlace* place = site_place();
  if (!leads_there(s, place, s->code_base)) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, hole_insn(), middle, tlb, flag_result, flag_a, flag_b);
  s->code_base = place->begin;
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

// Behind a call's semantics: its return goes on at `wide`, the block's ReturnSite.
VELLUM_HANDLER_ABI void push_return(VELLUM_STENCIL_PARAMETERS) {
  const void* site = reinterpret_cast<const void*>(VELLUM_WIDE_HOLE(wide));
  __builtin_memcpy(reinterpret_cast<char*>(s->returns.data()) + CpuState::return_place(s->gpr[kRsp]), &site, sizeof site);
  [[clang::musttail]] return vellum_continue(s, insn, middle, tlb, flag_result, flag_a, flag_b);
}

// A return to a RIP: wherever the call from this place of the stack, if it was that, said.
#define VELLUM_STENCIL_RETURN(address_bytes)                                                                              \
  do {                                                                                                                    \
    StencilFunction site;                                                                                                 \
    const u64 place = CpuState::return_place(s->gpr[kRsp] - (address_bytes));                                             \
    __builtin_memcpy(&site, reinterpret_cast<const char*>(s->returns.data()) + place, sizeof site);                       \
    [[clang::musttail]] return site(s, insn, middle, tlb, flag_result, flag_a, flag_b);                                   \
  } while (false)
VELLUM_HANDLER_ABI void return64(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_RETURN(8); }
VELLUM_HANDLER_ABI void return32(VELLUM_STENCIL_PARAMETERS) { VELLUM_STENCIL_RETURN(4); }

// Where a return comes in with its RIP, on the way to the block behind the call: once linked, and before. What looks for that
// block gets the call's instruction besides. The mode may be another than it was at the call: `immediate` is that of the block.
VELLUM_HANDLER_ABI void return_site(VELLUM_STENCIL_PARAMETERS) {
  const u64 mode = s->mode & kBlockModeMask;
  const CodePlace* place = site_place();
  if (!leads_there(s, place, reinterpret_cast<u64>(insn)) || mode != immediate()) [[unlikely]]
    [[clang::musttail]] return vellum_missed(s, insn, middle, tlb, reinterpret_cast<u64>(hole_insn()), flag_a, flag_b);
  s->code_base = place->begin;
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
    count, prepare, prepare_first, enter, call_handler, go_to_block, go_to_site, pass_rip, go_to_rip,
    push_return, return64, return32, return_site, open_return_site,
}}}};

}  // namespace vellum
