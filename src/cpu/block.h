// Decoded blocks: straight-line runs of bound instructions within one guest page.
#pragma once

#include <cstddef>

#include "cpu/insn.h"

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

// A way to another page that was wrong this often is not linked again.
inline constexpr u16 kMostSiteMisses = 24;

// The two ways on within a page, and the two to other pages, which are sites: they remember under which RIP and key they were
// linked, and compare. FarNext of a block that ends with a call is where the call returns.
enum class Way : u8 { Taken, Next, FarTaken, FarNext };
inline constexpr usize kWays = 4;
inline constexpr bool is_far(Way way) { return way >= Way::FarTaken; }

struct Block {
  i32 count;             // instructions, or kStaleCount
  u32 mode;
  u64 ram_offset;        // of its first byte in GuestRam
  u16 byte_length;
  bool chainable;        // its successors may be linked (cached, and CS needs no check)
  bool taken_leaves_page;  // its jump goes to another page: straight to the jump cache, there is nothing to link
  bool cut;              // a breakpoint may stand at its first instruction: only the run loop enters it
  bool crosses_page;     // one instruction, continued on another page
  bool branches_itself;  // the translator's: its way Taken is no jump but the branch of its last instruction
  bool redirected;       // the translator's: whoever is counted goes elsewhere
  u8 rewrites;           // how many other versions of this code the guest has written before, as far as is known
  u16 real_count;        // count even when stale
  u64 second_page;       // RAM offset of that other page
  Block* taken;          // chained successors on the same page; nullptr until linked
  Block* next;
  Block* far_link[2];    // on other pages, known to the translator's code only
  Block* hash_next;
  // Enters the block from anywhere, with CpuState::code_base set: checks the budget, charges it, runs.
  Handler entry;
  // The same for code that comes through the jump cache: its second argument is the RIP, and it has the registers that translated
  // code hands on.
  Handler jump_entry;
  // The translator's: where its host code lies, how long that is, and in it the ways to successors, by Way (0: none): jumps, or the
  // distance of a branch.
  u32 code_offset, code_size;
  u32 cold_offset, cold_size;  // likewise of what is rarely run
  u16 exits[kWays];
  u16 site_misses[2];    // of FarTaken and FarNext: how often they were linked to something else than what was wanted
  i32* heat;             // the translator's: how often it may still be entered before it is worth more, if more than 0
  i32 own_heat;          // where that is if the translator has no better place
  // The cache's: lists by place (of the page of the first byte, and of the second page), and who is linked to this block.
  Block* place_next[2];
  u64 linkers;           // a block's address, and a Way in its lowest bits; 0 ends the list
  u64 linker_next[kWays];  // by Way of this block: what follows it in its successor's list
  u16 allocated;         // bytes of memory, divided by 16
  BoundInsn insns[];     // count instructions, then one terminator; behind them what follows

  // Handlers that instructions and terminator had before the block went stale.
  i32* kept_handlers() { return reinterpret_cast<i32*>(insns + real_count + 1); }
  // By position: handler_index() of the variant that decoding chose, or kNoVariant and the like.
  u8* variants() { return reinterpret_cast<u8*>(kept_handlers() + real_count + 1); }
  const u8* variants() const { return const_cast<Block*>(this)->variants(); }
  // The bytes that it was made from.
  u8* bytes() { return variants() + real_count; }
  u64 page_offset() const { return insns[0].offset; }  // of its first byte
  u64 ram_offset_of(unsigned position) const { return ram_offset - page_offset() + insns[position].offset; }
  Block*& link(Way way) { return way == Way::Taken ? taken : way == Way::Next ? next : far_link[way == Way::FarNext]; }
  u16& exit(Way way) { return exits[static_cast<usize>(way)]; }
  u16 exit(Way way) const { return exits[static_cast<usize>(way)]; }
  void forget_exits() {
    for (u16& place : exits) place = 0;
    site_misses[0] = site_misses[1] = 0;
  }
  static constexpr u64 memory_size(unsigned insns, unsigned bytes);

  static Block* of(const BoundInsn* insn) {
    return reinterpret_cast<Block*>(const_cast<char*>(reinterpret_cast<const char*>(insn - insn->position)) -
                                    offsetof(Block, insns));
  }
};
constexpr u64 Block::memory_size(unsigned insns, unsigned bytes) {
  return (sizeof(Block) + (insns + 1) * (sizeof(BoundInsn) + sizeof(i32)) + insns + bytes + 15) & ~u64{15};
}

// Handlers are kept as 32-bit distances from this one.
VELLUM_HANDLER_ABI void interpreter_leave(CpuState* s, const BoundInsn* insn);
VELLUM_HANDLER_ABI void interpreter_enter(CpuState* s, const BoundInsn* insns);  // Block::entry of one without host code
VELLUM_HANDLER_ABI void interpreter_jump_enter(CpuState* s, const BoundInsn*);   // Block::jump_entry, likewise
inline Handler handler_of(const BoundInsn& insn) {
  return reinterpret_cast<Handler>(reinterpret_cast<char*>(&interpreter_leave) + insn.handler);
}
inline void set_handler(BoundInsn& insn, Handler handler) {
  insn.handler = static_cast<i32>(reinterpret_cast<char*>(handler) - reinterpret_cast<char*>(&interpreter_leave));
}

// What a stale block's instructions become: leaves translated code in front of the instruction.
[[clang::preserve_none]] void leave_stale_block(CpuState* s, const BoundInsn* insn);

}  // namespace vellum
