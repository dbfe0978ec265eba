// The cache of decoded blocks and its invalidation.
#include "cpu/block.h"

#include <algorithm>

namespace vellum {

BlockCache::BlockCache(GuestRam& ram) : m_ram(ram), m_buckets(kBuckets) {}

Block* BlockCache::find(u64 ram_offset, u32 mode) const {
  for (Block* block = m_buckets[bucket(ram_offset, mode)]; block; block = block->hash_next)
    if (block->ram_offset == ram_offset && block->mode == mode && block->count != kStaleCount) return block;
  return nullptr;
}

Block* BlockCache::allocate(unsigned insns) {
  const u64 size = (sizeof(Block) + (insns + 1) * sizeof(BoundInsn) + 15) & ~u64{15};
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
  block->count = kStaleCount;
  for (unsigned i = 0; i <= block->real_count; ++i) set_handler(block->insns[i], leave_stale_block);
  Block** link = &m_buckets[bucket(block->ram_offset, block->mode)];
  while (*link != block) link = &(*link)->hash_next;
  *link = block->hash_next;
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
        u64 begin = block->ram_offset, end = begin + block->byte_length - 1;
        if (block->crosses_page) {
          const u64 in_first = kPageSize - (block->ram_offset & kPageMask);
          if (page == block->second_page) {
            begin = page;
            end = page + block->byte_length - in_first - 1;
          } else {
            end = begin + in_first - 1;
          }
        }
        if (begin > last || end < first) {
          chunks |= chunk_mask(begin, end);
          return false;
        }
        invalidate(block);
        return true;
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
  std::ranges::fill(m_buckets, nullptr);
  for (const auto& [page, blocks] : m_pages) m_ram.clear_flag(page, kPageHoldsCode);
  m_pages.clear();
  m_mmio_insns.clear();
  m_chunk = 0;
  m_chunk_used = 0;
  m_used = 0;
}

}  // namespace vellum
