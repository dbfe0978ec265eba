// The cache of decoded blocks and its invalidation.
#include "cpu/block.h"

#include <algorithm>

#include "cpu/translator.h"
#include "state/log.h"

namespace vellum {

BlockCache::BlockCache(GuestRam& ram) : m_ram(ram), m_buckets(kBuckets) {}

Block* BlockCache::find(u64 ram_offset, u32 mode) const {
  for (Block* block = m_buckets[bucket(ram_offset, mode)]; block; block = block->hash_next)
    if (block->ram_offset == ram_offset && block->mode == mode && block->count != kStaleCount) return block;
  return nullptr;
}

Block* BlockCache::allocate(unsigned insns) {
  const u64 size = (sizeof(Block) + (insns + 1) * sizeof(BoundInsn) + insns + 15) & ~u64{15};
  if (m_chunk < m_chunks.size() && m_chunk_used + size > kChunkSize) {
    ++m_chunk;
    m_chunk_used = 0;
  }
  if (m_chunk == m_chunks.size()) {
    if (m_chunks.size() * kChunkSize >= kMaxBytes) return nullptr;
    m_chunks.push_back(std::make_unique_for_overwrite<u8[]>(kChunkSize));
    m_chunk_used = 0;
  }
  auto* block = reinterpret_cast<Block*>(m_chunks[m_chunk].get() + m_chunk_used);
  m_chunk_used += size;
  m_used += size;
  return block;
}

namespace {

u64 chunk_mask(u64 first_byte, u64 last_byte) {
  const unsigned first = static_cast<unsigned>((first_byte & kPageMask) >> 6);
  const unsigned last = static_cast<unsigned>((last_byte & kPageMask) >> 6);
  return (~u64{0} >> (63 - last)) & (~u64{0} << first);
}

}  // namespace

void BlockCache::insert(Block* block) {
  Block*& head = m_buckets[bucket(block->ram_offset, block->mode)];
  block->hash_next = head;
  head = block;
  const u64 first_page = block->ram_offset & ~kPageMask;
  const u64 in_first = std::min<u64>(block->byte_length, kPageSize - (block->ram_offset & kPageMask));
  const auto add = [&](u64 page, u64 mask) {
    PageBlocks& blocks = m_pages[page];
    blocks.blocks.push_back(block);
    blocks.chunks |= mask;
    m_ram.set_flag(page, kPageHoldsCode);
  };
  add(first_page, chunk_mask(block->ram_offset, block->ram_offset + in_first - 1));
  if (block->crosses_page) add(block->second_page, chunk_mask(0, block->byte_length - in_first - 1));
}

void BlockCache::invalidate(Block* block) {
  if (block->count == kStaleCount) return;
  ++m_invalidated;
  log(LogItem::SelfModification, "block of {} bytes at RAM offset {:#x} is overwritten", block->byte_length, block->ram_offset);
  block->count = kStaleCount;
  for (unsigned i = 0; i <= block->real_count; ++i) set_handler(block->insns[i], leave_stale_block);
  Block** link = &m_buckets[bucket(block->ram_offset, block->mode)];
  while (*link != block) link = &(*link)->hash_next;
  *link = block->hash_next;
  if (m_translator) m_translator->block_stale(*block);
}

namespace {

// The bytes that a block was made from, as inclusive ranges of one page each. Both may be of the same page, when the two
// linear pages of an instruction that crosses are mapped to it.
struct ByteRange {
  u64 first, last;

  bool meets(u64 other_first, u64 other_last) const { return first <= other_last && last >= other_first; }
};
template <class Function>
void for_ranges_in_page(const Block& block, u64 page, Function function) {
  const u64 in_first = std::min<u64>(block.byte_length, kPageSize - (block.ram_offset & kPageMask));
  if ((block.ram_offset & ~kPageMask) == page) function(ByteRange{block.ram_offset, block.ram_offset + in_first - 1});
  if (block.crosses_page && block.second_page == page) function(ByteRange{page, page + block.byte_length - in_first - 1});
}

}  // namespace

bool BlockCache::overwrites(const Block& running, unsigned position, u64 ram_offset, u64 size) const {
  const bool goes_on = position + 1 < running.real_count;
  const auto found = m_pages.find(ram_offset & ~kPageMask);
  if (found == m_pages.end() || !(found->second.chunks & chunk_mask(ram_offset, ram_offset + size - 1))) return false;
  for (const Block* block : found->second.blocks) {
    if (block->count == kStaleCount) continue;
    if (!(block == &running && goes_on) && !(m_translator && m_translator->shares_code(running, *block))) continue;
    bool hit = false;
    for_ranges_in_page(*block, found->first, [&](ByteRange range) { hit |= range.meets(ram_offset, ram_offset + size - 1); });
    if (hit) return true;
  }
  return false;
}

void BlockCache::written(u64 ram_offset, u64 size) {
  while (size) {
    const u64 part = std::min(size, kPageSize - (ram_offset & kPageMask));
    const u64 page = ram_offset & ~kPageMask;
    const auto found = m_pages.find(page);
    if (found == m_pages.end()) {
      m_ram.clear_flag(page, kPageHoldsCode);
    } else if (found->second.chunks & chunk_mask(ram_offset, ram_offset + part - 1)) {
      const u64 first = ram_offset, last = ram_offset + part - 1;
      PageBlocks& entry = found->second;
      u64 chunks = 0;
      std::erase_if(entry.blocks, [&](Block* block) {
        if (block->count == kStaleCount) return true;
        bool hit = false;
        u64 mask = 0;
        for_ranges_in_page(*block, page, [&](ByteRange range) {
          hit |= range.meets(first, last);
          mask |= chunk_mask(range.first, range.last);
        });
        if (hit) invalidate(block);
        else chunks |= mask;
        return hit;
      });
      entry.chunks = chunks;
      if (entry.blocks.empty()) {
        m_pages.erase(found);
        m_ram.clear_flag(page, kPageHoldsCode);
      }
    }
    ram_offset += part;
    size -= part;
  }
}

void BlockCache::clear() {
  log(LogItem::SelfModification, "all blocks are forgotten");
  std::ranges::fill(m_buckets, nullptr);
  for (const auto& [page, blocks] : m_pages) m_ram.clear_flag(page, kPageHoldsCode);
  m_pages.clear();
  m_mmio_insns.clear();
  if (m_translator) m_translator->blocks_cleared();
  m_chunk = 0;
  m_chunk_used = 0;
  m_used = 0;
}

}  // namespace vellum
