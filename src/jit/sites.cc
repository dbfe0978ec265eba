// Going on through the jump cache where a site does not lead, and linking sites.
#include "jit/sites.h"

#include "cpu/core.h"
#include "cpu/jump_cache.h"
#include "jit/tiers.h"

namespace vellum {

namespace {

u64 wrapped(u64 value, unsigned size) { return size == 8 ? value : size == 4 ? static_cast<u32>(value) : static_cast<u16>(value); }

// Changing code costs more than looking into the jump cache. A site whose target changes again and again is changed at this many
// misses, and then given up (kMostSiteMisses).
constexpr unsigned kMissesUntilLinked = 16;

// A page that another address space has elsewhere is noted where it is in this one: all sites that lead there do so again.
[[gnu::noinline]] void find_site(CpuState* s, const BoundInsn* insn, Way way, u64 target, Block* to) {
  note_code_place(s, to->ram_offset, target);
  link_site(s, insn, way, target, to);
}

[[gnu::noinline]] void sample_slice(CpuState* s, const BoundInsn* insns) { static_cast<Tiers&>(*s->core->blocks.translator()).slice_ended(*Block::of(insns)); }

[[gnu::noinline]] void lose_site(CpuState* s, const BoundInsn* insn, Way way, u64 target) { s->core->leave_by(insn, way, target); }

}  // namespace

void link_site(CpuState* s, const BoundInsn* insn, Way way, u64 target, Block* to) {
  Block& from = *Block::of(insn);
  if (from.link(way) == to) return;
  u16& misses = from.site_misses[way == Way::FarNext];
  ++misses;
  auto& tiers = static_cast<Tiers&>(*s->core->blocks.translator());
  if (misses >= kMostSiteMisses) return tiers.give_up_site(from, way);
  if (from.link(way) && misses != kMissesUntilLinked) return;
  if (!to->code_size || to->count == kStaleCount) return;
  tiers.link_site(from, way, target, *to);
}

// Goes to `target`, after `found` has seen the jump cache's entry for it, or `lost` that there is none.
#define VELLUM_GO_FROM_SITE(target, found, lost)                                                                \
  do {                                                                                                          \
    const u64 go_to_rip = (target);                                                                             \
    const JumpCacheEntry* const cached = find_jump(s, go_to_rip);                                               \
    if (!cached) [[unlikely]] {                                                                                 \
      lost;                                                                                                     \
      return go_on_at(s, go_to_rip);                                                                            \
    }                                                                                                           \
    found;                                                                                                      \
    s->code_base = go_to_rip - cached->block->page_offset();                                                    \
    const auto* rip = reinterpret_cast<const BoundInsn*>(go_to_rip);                                            \
    [[clang::musttail]] return reinterpret_cast<StencilFunction>(cached->entry)(s, rip, middle, tlb, 0, 0, 0);  \
  } while (false)

VELLUM_INLINE u64 taken_rip(const CpuState* s, const BoundInsn* insn) {
  return wrapped(s->code_base + insn->offset + insn->length + static_cast<u64>(insn->immediate()), insn->operand_size);
}
VELLUM_INLINE u64 next_rip(const CpuState* s, const BoundInsn* insn) { return wrapped(s->code_base + insn->offset + insn->length, insn->code_size_bytes); }

VELLUM_HANDLER_ABI void site_taken(VELLUM_STENCIL_PARAMETERS) {
  VELLUM_GO_FROM_SITE(taken_rip(s, insn), find_site(s, insn, Way::FarTaken, go_to_rip, cached->block), lose_site(s, insn, Way::FarTaken, go_to_rip));
}

VELLUM_HANDLER_ABI void site_next(VELLUM_STENCIL_PARAMETERS) {
  VELLUM_GO_FROM_SITE(next_rip(s, insn), find_site(s, insn, Way::FarNext, go_to_rip, cached->block), lose_site(s, insn, Way::FarNext, go_to_rip));
}

VELLUM_HANDLER_ABI void given_up_taken(VELLUM_STENCIL_PARAMETERS) { VELLUM_GO_FROM_SITE(taken_rip(s, insn), , ); }
VELLUM_HANDLER_ABI void given_up_next(VELLUM_STENCIL_PARAMETERS) { VELLUM_GO_FROM_SITE(next_rip(s, insn), , ); }

VELLUM_HANDLER_ABI void site_return(VELLUM_STENCIL_PARAMETERS) {
  const auto* call = reinterpret_cast<const BoundInsn*>(flag_result);
  // Another call's return address has seldom the same place in its page.
  const auto returns_from = [&](u64 rip) { return ((u64{call->offset} + call->length) ^ rip) % kPageSize == 0; };
  VELLUM_GO_FROM_SITE(reinterpret_cast<u64>(insn), if (returns_from(go_to_rip)) find_site(s, call, Way::FarNext, go_to_rip, cached->block),
                      if (returns_from(go_to_rip)) lose_site(s, call, Way::FarNext, go_to_rip));
}

VELLUM_HANDLER_ABI void site_indirect(VELLUM_STENCIL_PARAMETERS) {
  const auto* jump = reinterpret_cast<const BoundInsn*>(flag_result);
  VELLUM_GO_FROM_SITE(reinterpret_cast<u64>(insn), find_site(s, jump, Way::FarTaken, go_to_rip, cached->block), lose_site(s, jump, Way::FarTaken, go_to_rip));
}

VELLUM_HANDLER_ABI void return_unknown(VELLUM_STENCIL_PARAMETERS) { VELLUM_GO_FROM_SITE(reinterpret_cast<u64>(insn), , ); }

// Nothing of the block is read where the next slice covers any: it has long left the host's cache. But some show what is hot.
VELLUM_HANDLER_ABI void slice_spent(VELLUM_STENCIL_PARAMETERS) {
  constexpr i64 kSlicesPerSample = 16;
  if (s->budget_aside / kSliceInsns % kSlicesPerSample == 0) [[unlikely]] sample_slice(s, insn);
  if (flag_result && s->budget_aside >= i64{kMaxBlockInsns} && !__atomic_load_n(&s->attention, __ATOMIC_RELAXED)) [[likely]] {
    s->begin_slice(kSliceInsns);
    [[clang::musttail]] return reinterpret_cast<StencilFunction>(flag_result)(s, insn, middle, tlb, 0, 0, 0);
  }
  [[clang::musttail]] return reinterpret_cast<StencilFunction>(&interpreter_leave)(s, insn, middle, tlb, 0, 0, 0);
}

}  // namespace vellum
