// Sums over the parts of translated code.
#include "debug/host_cost.h"

namespace vellum {

void HostCost::block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode&) {
  if (m_baseline.size() >= kMost) return;
  for (unsigned i = 0; i < block.real_count; ++i) m_baseline[block.ram_offset_of(i)] = {};
  for (const CodePart& part : parts) {
    // The entry is the first instruction's.
    const bool of_insn = part.kind != CodePart::Kind::Entry && part.position < block.real_count;
    Baseline& cost = m_baseline[block.ram_offset_of(of_insn ? part.position : 0)];
    cost.hot += part.hot_size;
    cost.cold += part.cold_size;
    cost.handler = cost.handler || part.kind == CodePart::Kind::Handler;
  }
}

void HostCost::region_translated(u64, std::span<Block* const> blocks, std::span<const u8> code) {
  if (m_regions.size() >= kMost) return;
  Region region{.bytes = static_cast<u32>(code.size())};
  for (const Block* block : blocks) region.insns += block->real_count;
  for (const Block* block : blocks)
    for (unsigned i = 0; i < block->real_count; ++i) m_regions[block->ram_offset_of(i)] = region;
}

void HostCost::block_overwritten(const Block& block) {
  for (unsigned i = 0; i < block.real_count; ++i) {
    m_baseline.erase(block.ram_offset_of(i));
    m_regions.erase(block.ram_offset_of(i));
  }
  on_overwritten(block.ram_offset);
}

}  // namespace vellum
