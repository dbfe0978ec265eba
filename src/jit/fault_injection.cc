// Choosing an instruction and turning a bit of it.
#include "jit/fault_injection.h"

namespace vellum {

std::optional<unsigned> FaultInjection::find(std::span<const BoundInsn> insns, const u8* variants) {
  // Callouts are no code of the tier's, and a jump's distance at the end decides where the exits lead, which are no fields of it.
  for (unsigned i = 0; i + 1 < insns.size(); ++i)
    if (is_variant(variants[i]) && (insns[i].immediate_low || (insns[i].memory && insns[i].displacement))) return i;
  return std::nullopt;
}

void FaultInjection::turn(BoundInsn& insn) {
  if (insn.immediate_low) insn.immediate_low ^= 1;
  else insn.displacement ^= 1;
}

void FaultInjection::begin(Block& block) {
  const Place place{block.ram_offset, block.mode};
  if (m_tier != FaultedTier::Baseline || (m_place && *m_place != place)) return;
  const auto position = find({block.insns, block.real_count}, block.variants());
  if (!position || (!m_place && ++m_seen < m_wanted)) return;
  m_place = place;
  BoundInsn& insn = block.insns[*position];
  m_change = {*position, insn.immediate_low, insn.displacement};
  turn(insn);
}

void FaultInjection::end(Block& block) {
  if (!m_change) return;
  block.insns[m_change->position].immediate_low = m_change->immediate;
  block.insns[m_change->position].displacement = m_change->displacement;
  m_change.reset();
}

void FaultInjection::change(Region& region) {
  if (m_tier != FaultedTier::Region) return;
  for (RegionBlock& block : region.blocks) {
    const Place place{block.original->ram_offset, block.original->mode};
    if (m_place && *m_place != place) continue;
    const auto position = find({block.insns.data(), block.count}, block.variants.data());
    if (!position) continue;
    if (!m_place && ++m_seen < m_wanted) return;
    m_place = place;
    turn(block.insns[*position]);
  }
}

}  // namespace vellum
