// Choosing an instruction and turning a bit of it.
#include "jit/fault_injection.h"

namespace vellum {

void FaultInjection::begin(Block& block) {
  const Place place{block.ram_offset, block.mode};
  if (m_place && *m_place != place) return;
  for (unsigned i = 0; i < block.real_count; ++i) {
    BoundInsn& insn = block.insns[i];
    // Callouts have no stencil, and a jump's distance decides where the block's exits lead, which are no fields of it.
    const bool last = i + 1 == block.real_count;
    if (last || !is_variant(block.variants()[i]) || (!insn.immediate_low && !(insn.memory && insn.displacement))) continue;
    if (!m_place && ++m_seen < m_wanted) return;
    m_place = place;
    m_change = {i, insn.immediate_low, insn.displacement};
    if (insn.immediate_low) insn.immediate_low ^= 1;
    else insn.displacement ^= 1;
    return;
  }
}

void FaultInjection::end(Block& block) {
  if (!m_change) return;
  block.insns[m_change->position].immediate_low = m_change->immediate;
  block.insns[m_change->position].displacement = m_change->displacement;
  m_change.reset();
}

}  // namespace vellum
