// Decoded blocks: straight-line runs of bound instructions within one guest page, cached by physical address and mode.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "cpu/insn.h"
#include "mmu/guest_ram.h"

namespace vellum {

// The part of CPU state that decoding depends on. Two mappings of one page share blocks when their keys are equal.
enum BlockMode : u32 {
  kModeCodeSizeMask = 3,      // CodeSize
  kModeFlatData = 4,          // DS, ES, SS (and CS) have base 0 and cover 4 GiB; always set in 64-bit mode
  kModeStack32 = 8,           // SS.B
  kModeCheckedCode = 16,      // CS has a base or a limit
  kModeReal = 32,             // real or virtual-8086 mode
  kModeX87Trap = 64,          // CR0.EM or CR0.TS: x87 goes to the VMM
  kModeMmxTrap = 128,
  kModeSseTrap = 256,         // CR0.EM, CR0.TS or !CR4.OSFXSR
  kModeAvxTrap = 512,         // CR0.TS, !CR4.OSXSAVE, or SSE or AVX state off in XCR0
  kModeSseUnmasked = 1024,    // MXCSR unmasks an exception: translators leave the arithmetic to the interpreter's handlers
};

inline constexpr u32 kBlockModeMask = 0xffff;

// What else decides whether a RIP may be entered without looking at the mapping again: the bits of CpuState::mode, and of
// a jump cache entry's, above kBlockModeMask. Blocks themselves do not depend on it. All of the mode has 32 bits: the
// jump cache's key has the generation above them.
enum EntryMode : u32 {
  kEntryUser = 1 << 16,         // CPL 3: another right to fetch
  kEntryCodeSegment = 1 << 17,  // times the slot of CS's base and limit (below 2^15), with kModeCheckedCode
};

inline constexpr unsigned kMaxBlockInsns = 48;  // BoundInsn::position and the terminator's must fit into 6 bits
// The variant of an instruction that runs no row's semantics: a callout, an invalid opcode, an unavailable FPU.
inline constexpr u8 kNoVariant = 0xff, kInvalidVariant = 0xfe, kUnavailableVariant = 0xfd;
inline bool is_variant(u8 variant) { return variant < kUnavailableVariant; }
// A stale block's count: no budget covers it, so entering it takes the slow path, which finds the new block.
inline constexpr i32 kStaleCount = 0x7fffffff;

struct Block {
  i32 count;             // instructions, or kStaleCount
  u32 mode;
  u64 ram_offset;        // of its first byte in GuestRam
  u16 byte_length;
  bool chainable;        // its successors may be linked (cached, and CS needs no check)
  bool taken_leaves_page;  // its jump goes to another page: straight to the jump cache, there is nothing to link
  bool crosses_page;     // one instruction, continued on another page
  u16 real_count;        // count even when stale
  u64 second_page;       // RAM offset of that other page
  Block* taken;          // chained successors on the same page; nullptr until linked
  Block* next;
  Block* hash_next;
  // Enters the block from anywhere, with CpuState::code_base set: checks budget and attention, charges, runs.
  Handler entry;
  // The translator's: where its host code lies, how long it is, and in it the ways to `taken` and `next` (0: none).
  u32 code_offset, code_size;
  u16 taken_exit, next_exit;
  u32 heat;              // the translator's: how often it may still be entered before it is worth more
  BoundInsn insns[];     // count instructions, then one terminator, then their variants

  // By position: handler_index() of the variant that decoding chose, or kNoVariant and the like.
  u8* variants() { return reinterpret_cast<u8*>(insns + real_count + 1); }
  const u8* variants() const { return const_cast<Block*>(this)->variants(); }

  static Block* of(const BoundInsn* insn) {
    return reinterpret_cast<Block*>(const_cast<char*>(reinterpret_cast<const char*>(insn - insn->position)) -
                                    offsetof(Block, insns));
  }
};

// All blocks of one CPU. Invalidated blocks stay in memory (something may be running or chained to them) until the whole
// cache is emptied, which happens only between blocks.
class Translator;

class BlockCache {
 public:
  explicit BlockCache(GuestRam& ram);

  Block* find(u64 ram_offset, u32 mode) const;
  // Room for a block of `insns` instructions and its terminator; nullptr when the cache is full.
  Block* allocate(unsigned insns);
  void insert(Block* block);  // marks its pages as holding code
  // Bytes of RAM were or are about to be overwritten: blocks made from them become stale.
  void written(u64 ram_offset, u64 size);
  void clear();
  u64 bytes_used() const { return m_used; }
  // Number of blocks that went stale, since the start.
  u64 invalidated() const { return m_invalidated; }
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

 private:
  static constexpr usize kBuckets = 1 << 16;
  static constexpr u64 kChunkSize = 1 << 20;
  static constexpr u64 kMaxBytes = 40 << 20;
  static constexpr usize kMaxMmioInsns = 1 << 16;  // more only cost a restart at each access
  struct PageBlocks {
    std::vector<Block*> blocks;
    u64 chunks = 0;  // bit n: code in the page's n-th 64 bytes
  };
  static usize bucket(u64 ram_offset, u32 mode) { return ((ram_offset ^ (ram_offset >> 16)) + mode * 0x9e37u) & (kBuckets - 1); }
  void invalidate(Block* block);

  GuestRam& m_ram;
  Translator* m_translator = nullptr;
  std::vector<Block*> m_buckets;
  std::unordered_map<u64, PageBlocks> m_pages;
  std::unordered_map<u64, bool> m_mmio_insns;
  std::vector<std::unique_ptr<u8[]>> m_chunks;
  usize m_chunk = 0;
  u64 m_chunk_used = 0, m_used = 0, m_invalidated = 0;
};

// Handlers are kept as 32-bit distances from this one.
VELLUM_HANDLER_ABI void interpreter_leave(CpuState* s, const BoundInsn* insn);
VELLUM_HANDLER_ABI void interpreter_enter(CpuState* s, const BoundInsn* insns);  // Block::entry of one without host code
inline Handler handler_of(const BoundInsn& insn) {
  return reinterpret_cast<Handler>(reinterpret_cast<char*>(&interpreter_leave) + insn.handler);
}
inline void set_handler(BoundInsn& insn, Handler handler) {
  insn.handler = static_cast<i32>(reinterpret_cast<char*>(handler) - reinterpret_cast<char*>(&interpreter_leave));
}

// What a stale block's instructions become: leaves translated code in front of the instruction.
[[clang::preserve_none]] void leave_stale_block(CpuState* s, const BoundInsn* insn);

}  // namespace vellum
