// Finding, linking, invalidating, reviving and evicting blocks.
#include "cpu/block_cache.h"

#include <algorithm>
#include <cstring>

#include "cpu/translator.h"
#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

// The 64-byte pieces of a page that a range meets.
unsigned place_of(u64 offset) { return static_cast<unsigned>((offset & kPageMask) >> 6); }
u64 places_mask(u64 first, u64 last) { return (~u64{0} >> (63 - place_of(last))) & (~u64{0} << place_of(first)); }

// The bytes that a block was made from, as inclusive ranges of one page each. Both may be of the same page, when the two
// linear pages of an instruction that crosses are mapped to it.
struct ByteRange {
  u64 first, last;

  bool meets(u64 other_first, u64 other_last) const { return first <= other_last && last >= other_first; }
};
u64 bytes_in_first_page(const Block& block) { return std::min<u64>(block.byte_length, kPageSize - (block.ram_offset & kPageMask)); }
ByteRange first_range(const Block& block) { return {block.ram_offset, block.ram_offset + bytes_in_first_page(block) - 1}; }
ByteRange second_range(const Block& block) {
  return {block.second_page, block.second_page + block.byte_length - bytes_in_first_page(block) - 1};
}
bool meets(const Block& block, u64 first, u64 last) {
  return first_range(block).meets(first, last) || (block.crosses_page && second_range(block).meets(first, last));
}

// An element of a list of linkers.
u64 reference(const Block& block, Way way) { return reinterpret_cast<u64>(&block) | static_cast<u64>(way); }
Block& block_of(u64 reference) { return *reinterpret_cast<Block*>(reference & ~u64{kWays - 1}); }
Way way_of(u64 reference) { return static_cast<Way>(reference & (kWays - 1)); }

bool is_stale(const Block& block) { return block.count == kStaleCount; }

// Pages whose code comes and goes are watched on, up to this many writes; others are free at once.
constexpr unsigned kMostEmptied = 8, kMostIdleWrites = 256;

}  // namespace

BlockCache::BlockCache(GuestRam& ram) : m_ram(ram), m_buckets(kBuckets), m_found(kBuckets), m_memory(kMaxBytes), m_used(kSegments) {}
BlockCache::~BlockCache() = default;

// --- Finding ----------------------------------------------------------------------------------------------------------

Block* BlockCache::find(u64 ram_offset, u32 mode) const {
  static_assert(kBlockModeMask < 1 << 16);
  Found& found = m_found[bucket(ram_offset, mode)];
  if (found.block && found.key == key_of(ram_offset, mode)) return found.block;  // a valid one
  for (Block* block = m_buckets[bucket(ram_offset, mode)]; block; block = block->hash_next)
    if (block->ram_offset == ram_offset && block->mode == mode && !is_stale(*block)) {
      found = {key_of(ram_offset, mode), block};
      return block;
    }
  return nullptr;
}

Block* BlockCache::find_stale(u64 ram_offset, u32 mode) const {
  for (Block* block = m_buckets[bucket(ram_offset, mode)]; block; block = block->hash_next) {
    if (block->ram_offset != ram_offset || block->mode != mode || !is_stale(*block)) continue;
    const u64 first = bytes_in_first_page(*block);
    if (std::memcmp(m_ram.host(ram_offset), block->bytes(), first) != 0) continue;
    if (block->crosses_page && std::memcmp(m_ram.host(block->second_page), block->bytes() + first, block->byte_length - first) != 0) continue;
    return block;
  }
  return nullptr;
}

BlockCache::Page* BlockCache::page_at(u64 page) const {
  if (m_last_offset == page) return m_last_page;
  const auto found = m_pages.find(page);
  if (found == m_pages.end()) return nullptr;
  m_last_offset = page;
  return m_last_page = &found->second;
}

// Calls `function` with each valid block that was made from bytes of the inclusive range.
template <class Function>
void BlockCache::for_blocks(const Page& page, u64 first, u64 last, Function function) {
  const unsigned from = place_of(first) - std::min(place_of(first), page.reach);
  for (unsigned place = from; place <= place_of(last); ++place)
    for (Block* block = page.beginning[place]; block; block = block->place_next[0])
      if (meets(*block, first, last)) function(*block);
  for (Block* block = page.continued; block; block = block->place_next[1])
    if (meets(*block, first, last)) function(*block);
}

bool BlockCache::holds_code(const Page& page, u64 page_offset, unsigned place) const {
  bool held = false;
  for_blocks(page, page_offset + place * 64, page_offset + place * 64 + 63, [&](const Block&) { held = true; });
  return held;
}

// --- Making -----------------------------------------------------------------------------------------------------------

Block* BlockCache::allocate(u64 ram_offset, u32 mode, unsigned insns, unsigned bytes) {
  unsigned versions = 0;
  Block* oldest = nullptr;
  for (Block* block = m_buckets[bucket(ram_offset, mode)]; block; block = block->hash_next) {
    if (block->ram_offset != ram_offset || block->mode != mode || !is_stale(*block)) continue;
    ++versions;
    oldest = block;
  }
  const u64 size = Block::memory_size(insns, bytes);
  Block* block = nullptr;
  if (versions >= kMaxVersions) {
    take_from_hash(*oldest);
    isolate(*oldest);
    // Whoever knows its address, as the jump cache does, knows it for this place and mode.
    if (oldest->allocated * u64{16} >= size) block = oldest;
  }
  u64 allocated = size;
  if (block) {
    allocated = block->allocated * u64{16};
  } else {
    u64& used = m_used[m_segment];
    if (used + size > kMaxBytes / m_segment_count) return nullptr;
    block = reinterpret_cast<Block*>(m_memory.data() + segment_start(m_segment) + used);
    used += size;
  }
  block->ram_offset = ram_offset;
  block->mode = mode;
  block->rewrites = static_cast<u8>(versions);
  block->hash_next = block->taken = block->next = block->far_link[0] = block->far_link[1] = nullptr;
  block->place_next[0] = block->place_next[1] = nullptr;
  block->linkers = 0;
  std::ranges::fill(block->linker_next, 0);
  block->allocated = static_cast<u16>(allocated / 16);
  block->count = 0;  // neither valid nor stale yet
  return block;
}

void BlockCache::make_current(Block& block) {
  Block*& head = m_buckets[bucket(block.ram_offset, block.mode)];
  for (Block* other = head; other; other = other->hash_next)
    if (other != &block && other->linkers && other->ram_offset == block.ram_offset && other->mode == block.mode && is_stale(*other))
      unlink_linkers(*other);
  const bool revived = is_stale(block);
  if (revived) {
    block.count = block.real_count;
    for (unsigned i = 0; i <= block.real_count; ++i) block.insns[i].handler = block.kept_handlers()[i];
    ++m_revived;
  } else {
    block.hash_next = head;
    head = &block;
  }
  const auto enter = [&](unsigned part, ByteRange range) {
    const u64 offset = range.first & ~kPageMask;
    Page* const known = page_at(offset);
    Page& page = known ? *known : m_pages[offset];
    Block*& list = part ? page.continued : page.beginning[place_of(range.first)];
    block.place_next[part] = list;
    list = &block;
    page.code |= places_mask(range.first, range.last);
    page.idle_writes = 0;
    if (part == 0) page.reach = std::max(page.reach, place_of(range.last) - place_of(range.first));
    m_ram.set_flag(offset, kPageHoldsCode);
  };
  enter(0, first_range(block));
  if (block.crosses_page) enter(1, second_range(block));
  if (revived && m_translator) m_translator->block_revived(block);
}

// --- Links ------------------------------------------------------------------------------------------------------------

void BlockCache::link(Block& from, Way way, Block& to) {
  if (from.link(way) == &to) return;
  unlink(from, way);
  from.link(way) = &to;
  from.linker_next[static_cast<usize>(way)] = to.linkers;
  to.linkers = reference(from, way);
  if (m_translator && !is_far(way)) m_translator->block_linked(from, way);
}

void BlockCache::relink(Block& to) {
  if (!m_translator) return;
  for (u64 linker = to.linkers; linker; linker = block_of(linker).linker_next[static_cast<usize>(way_of(linker))])
    m_translator->block_linked(block_of(linker), way_of(linker));
}

void BlockCache::unlink(Block& from, Way way) {
  Block* to = from.link(way);
  if (!to) return;
  u64* place = &to->linkers;
  while (*place != reference(from, way)) place = &block_of(*place).linker_next[static_cast<usize>(way_of(*place))];
  *place = from.linker_next[static_cast<usize>(way)];
  from.link(way) = nullptr;
  if (m_translator && !evicting(&from)) m_translator->block_unlinked(from, way);
}

void BlockCache::unlink_linkers(Block& to) {
  while (to.linkers) unlink(block_of(to.linkers), way_of(to.linkers));
}

// Nobody leads here any more, nor is led to from here.
void BlockCache::isolate(Block& block) {
  unlink_linkers(block);
  for (usize way = 0; way < kWays; ++way) unlink(block, static_cast<Way>(way));
}

// --- Invalidation -----------------------------------------------------------------------------------------------------

void BlockCache::take_from_hash(Block& block) {
  if (Found& found = m_found[bucket(block.ram_offset, block.mode)]; found.block == &block) found = {};
  Block** link = &m_buckets[bucket(block.ram_offset, block.mode)];
  while (*link && *link != &block) link = &(*link)->hash_next;
  if (*link) *link = block.hash_next;
}

void BlockCache::take_from_places(Block& block) {
  const auto take = [&](unsigned part, ByteRange range) {
    const u64 offset = range.first & ~kPageMask;
    Page& page = *page_at(offset);
    Block** link = part ? &page.continued : &page.beginning[place_of(range.first)];
    while (*link != &block) link = &(*link)->place_next[part];
    *link = block.place_next[part];
    for (unsigned place = place_of(range.first); place <= place_of(range.last); ++place)
      if (!holds_code(page, offset, place)) page.code &= ~(u64{1} << place);
  };
  take(0, first_range(block));
  if (block.crosses_page) take(1, second_range(block));
}

void BlockCache::invalidate(Block& block) {
  if (!evicting(&block)) {
    ++m_invalidated;
    log(LogItem::SelfModification, "block of {} bytes at RAM offset {:#x} is overwritten", block.byte_length, block.ram_offset);
  }
  take_from_places(block);
  if (Found& found = m_found[bucket(block.ram_offset, block.mode)]; found.block == &block) found = {};
  block.count = kStaleCount;
  for (unsigned i = 0; i <= block.real_count; ++i) {
    block.kept_handlers()[i] = block.insns[i].handler;
    set_handler(block.insns[i], leave_stale_block);
  }
  if (m_translator) m_translator->block_stale(block);
}

bool BlockCache::overwrites(const Block& running, unsigned position, u64 ram_offset, u64 size) const {
  const bool goes_on = position + 1 < running.real_count;
  const u64 last = ram_offset + size - 1;
  const Page* page = page_at(ram_offset & ~kPageMask);
  if (!page || !(page->code & places_mask(ram_offset, last))) return false;
  bool hit = false;
  for_blocks(*page, ram_offset, last, [&](const Block& block) {
    hit = hit || (&block == &running && goes_on) || (m_translator && m_translator->shares_code(running, block));
  });
  return hit;
}

void BlockCache::written(u64 ram_offset, u64 size) {
  while (size) {
    const u64 part = std::min(size, kPageSize - (ram_offset & kPageMask));
    const u64 offset = ram_offset & ~kPageMask, last = ram_offset + part - 1;
    Page* page = page_at(offset);
    if (!page) {
      m_ram.clear_flag(offset, kPageHoldsCode);
    } else if (page->code & places_mask(ram_offset, last)) {
      // Some at a time: invalidating changes the lists.
      Block* hits[64];
      unsigned count;
      do {
        count = 0;
        for_blocks(*page, ram_offset, last, [&](Block& block) {
          if (count < std::size(hits)) hits[count++] = &block;
        });
        for (unsigned i = 0; i < count; ++i)
          if (!is_stale(*hits[i])) invalidate(*hits[i]);  // it may stand in two lists
      } while (count == std::size(hits));
      if (!page->code && ++page->emptied <= kMostEmptied) m_ram.clear_flag(offset, kPageHoldsCode);
    } else if (!page->code && ++page->idle_writes > kMostIdleWrites) {
      page->emptied = 0;
      m_ram.clear_flag(offset, kPageHoldsCode);
    }
    ram_offset += part;
    size -= part;
  }
}

void BlockCache::forget(u64 ram_offset) {
  const Page* page = page_at(ram_offset & ~kPageMask);
  while (page) {
    Block* hit = nullptr;
    for_blocks(*page, ram_offset, ram_offset, [&](Block& block) { hit = &block; });
    if (!hit) return;
    invalidate(*hit);
    take_from_hash(*hit);
    isolate(*hit);
  }
}

// --- Memory -----------------------------------------------------------------------------------------------------------

void BlockCache::evict() {
  const unsigned index = (m_segment + 1) % m_segment_count;
  u64 blocks = 0;
  const auto for_all = [&](auto function) {
    for (u64 offset = 0; offset < m_used[index];) {
      auto& block = *reinterpret_cast<Block*>(m_memory.data() + segment_start(index) + offset);
      offset += block.allocated * u64{16};
      function(block);
    }
  };
  for_all([&](Block& block) {
    block.rewrites = kEvicted;
    if (!is_stale(block)) invalidate(block);
    take_from_hash(block);
    ++blocks;
  });
  for_all([&](Block& block) { isolate(block); });
  m_used[index] = 0;
  m_segment = index;
  std::erase_if(m_pages, [&](const auto& page) {
    if (!page.second.code) m_ram.clear_flag(page.first, kPageHoldsCode);
    return !page.second.code;
  });
  m_last_offset = ~u64{0};
  m_evicted += blocks;
  if (m_mmio_insns.size() > kMaxMmioInsns / 2) m_mmio_insns.clear();
  log(LogItem::SelfModification, "{} blocks are evicted", blocks);
  if (m_translator) m_translator->segment_evicted(index);
}

void BlockCache::clear() {
  log(LogItem::SelfModification, "all blocks are forgotten");
  std::ranges::fill(m_buckets, nullptr);
  std::ranges::fill(m_found, Found{});
  for (const auto& [page, blocks] : m_pages) m_ram.clear_flag(page, kPageHoldsCode);
  m_pages.clear();
  m_last_offset = ~u64{0};
  m_mmio_insns.clear();
  std::ranges::fill(m_used, 0);
  m_segment = 0;
  if (m_translator) m_translator->blocks_cleared();
}

void BlockCache::set_segments(unsigned count) {
  VELLUM_ASSERT(count >= 2);
  clear();
  m_used.assign(count, 0);
  m_segment_count = count;
}

u64 BlockCache::bytes_used() const {
  u64 bytes = 0;
  for (const u64 used : m_used) bytes += used;
  return bytes;
}

}  // namespace vellum
