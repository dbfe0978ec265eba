// All decoded blocks of one CPU: found by physical address and mode, invalidated by writes, revived, evicted.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cpu/block.h"
#include "mmu/guest_ram.h"
#include "mmu/host_pages.h"

namespace vellum {

class Translator;

// An overwritten block goes stale: its instructions become exits, nobody gets past its entry. It stays where it is, because
// guests that patch code often write what was there before, and then it comes back without being decoded or translated.
//
// Memory is a ring of segments. When it is full the oldest segment's blocks are evicted, and only those. That, and reviving or
// making blocks, happens only between blocks: nothing is running then.
class BlockCache {
 public:
  explicit BlockCache(GuestRam& ram);
  ~BlockCache();

  // A valid block.
  Block* find(u64 ram_offset, u32 mode) const;
  // The block may be looked for soon, or made.
  void foresee(u64 ram_offset, u32 mode) const {
    __builtin_prefetch(&m_found[bucket(ram_offset, mode)], 1);
    __builtin_prefetch(&m_buckets[bucket(ram_offset, mode)], 1);
  }
  // A stale one whose bytes are all there again; make_current() makes it valid.
  Block* find_stale(u64 ram_offset, u32 mode) const;
  // Memory for a block of `insns` instructions, made from `bytes` bytes, with `ram_offset`, `mode`, `rewrites` and what the
  // cache itself uses set; nullptr when a segment must be evicted first.
  Block* allocate(u64 ram_offset, u32 mode, unsigned insns, unsigned bytes);
  // A new or revived block is the valid one of its place and mode from now on. Marks its pages as holding code.
  void make_current(Block& block);
  // Bytes of RAM were or are about to be overwritten: blocks made from them become stale.
  void written(u64 ram_offset, u64 size);
  // Blocks with this byte shall be made anew, although their bytes stay.
  void forget(u64 ram_offset);
  void clear();
  // Frees the oldest segment. Whoever keeps addresses of its blocks (evicting() says which) must drop them.
  void evict();
  bool evicting(const Block* block) const { return block->rewrites == kEvicted; }
  // In how many parts memory is reused; empties the cache.
  void set_segments(unsigned count);
  unsigned segments() const { return m_segment_count; }
  // The segment of new blocks.
  unsigned segment() const { return m_segment; }

  // Links `from` to a valid successor: on the same page, if the way is not far.
  void link(Block& from, Way way, Block& to);
  // The way leads nowhere, until it is linked again.
  void unlink(Block& from, Way way);
  // The successor's host code has another place: those linked to it shall know.
  void relink(Block& to);

  u64 bytes_used() const;
  // Numbers of blocks, since the start.
  u64 invalidated() const { return m_invalidated; }
  u64 revived() const { return m_revived; }
  u64 evicted() const { return m_evicted; }
  // Is told of everything that happens to blocks from now on.
  void set_translator(Translator* translator) { m_translator = translator; }
  Translator* translator() const { return m_translator; }
  // Whether a write of these bytes, within one page, would hit code that goes on running behind the instruction at
  // `position` of `running`.
  bool overwrites(const Block& running, unsigned position, u64 ram_offset, u64 size) const;

  // Instructions (by RAM offset) that touched MMIO: a block ends behind each, so that the access happens with exact
  // state and its effects are seen before the next instruction.
  bool ends_block(u64 ram_offset) const { return !m_mmio_insns.empty() && m_mmio_insns.contains(ram_offset); }
  void mark_mmio(u64 ram_offset) {
    if (m_mmio_insns.size() < kMaxMmioInsns) m_mmio_insns[ram_offset] = true;
  }

  // Places (RAM offsets) at which blocks must begin, and are entered by the run loop only.
  bool is_cut(u64 ram_offset) const { return !m_cuts.empty() && m_cuts.contains(ram_offset); }
  void set_cut(u64 ram_offset, bool cut) {
    if (cut) m_cuts.insert(ram_offset);
    else m_cuts.erase(ram_offset);
  }

 private:
  static constexpr unsigned kBucketBits = 18;  // about as many as there is memory for blocks
  static constexpr usize kBuckets = usize{1} << kBucketBits;
  static constexpr u64 kMaxBytes = 128 << 20;
  static constexpr unsigned kSegments = 8;
  static constexpr usize kMaxMmioInsns = 1 << 16;  // more only cost a restart at each access
  // How many stale blocks of one place and mode are kept. A loop that patches one instruction has few versions of it; more
  // than a few are an immediate that is different every time.
  static constexpr unsigned kMaxVersions = 4;
  static constexpr u8 kEvicted = 0xff;
  static constexpr unsigned kPlaces = kPageSize / 64;

  struct Page {
    std::array<Block*, kPlaces> beginning{};  // valid blocks by the 64 bytes in which they begin
    Block* continued = nullptr;               // that begin on another page
    u64 code = 0;                             // bit n: code in the n-th 64 bytes
    unsigned reach = 0;                       // how many 64 bytes before a byte a block with it may begin
    unsigned emptied = 0;                     // how often the last code went
    unsigned idle_writes = 0;                 // seen since
  };
  u64 segment_start(unsigned segment) const { return kMaxBytes / m_segment_count * segment; }

  static u64 key_of(u64 ram_offset, u32 mode) { return ram_offset << 16 | mode; }
  // Multiplication by the golden ratio spreads neighbours.
  // Blocks of a page lie near each other in the tables, so that code that is met for the first time costs few of the host's cache lines.
  static usize bucket(u64 ram_offset, u32 mode) {
    return (key_of(ram_offset & ~kPageMask, mode) * 0x9e3779b97f4a7c15u >> (64 - kBucketBits)) ^ ((ram_offset & kPageMask) >> 2);
  }
  Page* page_at(u64 page) const;
  template <class Function>
  static void for_blocks(const Page& page, u64 first, u64 last, Function function);
  bool holds_code(const Page& page, u64 page_offset, unsigned place) const;
  void invalidate(Block& block);
  void take_from_places(Block& block);
  void take_from_hash(Block& block);
  void unlink_linkers(Block& to);
  void isolate(Block& block);

  GuestRam& m_ram;
  Translator* m_translator = nullptr;
  mutable HostTable<Block*> m_buckets;
  // In front of the buckets: with the key beside it, a block is found without following a chain through memory.
  struct Found {
    u64 key;
    Block* block;
  };
  mutable HostTable<Found> m_found;
  mutable std::unordered_map<u64, Page> m_pages;
  mutable u64 m_last_offset = ~u64{0};  // the page looked for last
  mutable Page* m_last_page = nullptr;
  std::unordered_map<u64, bool> m_mmio_insns;
  std::unordered_set<u64> m_cuts;
  HostPages m_memory;
  std::vector<u64> m_used;  // bytes of each segment
  unsigned m_segment_count = kSegments, m_segment = 0;
  u64 m_invalidated = 0, m_revived = 0, m_evicted = 0;
};

}  // namespace vellum
