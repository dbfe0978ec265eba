// The state of one CPU as all engines see it. Operands of translated code are byte offsets into CpuState.
#pragma once

#include <array>
#include <bit>
#include <cstddef>

#include "cpu/flag_operation.h"
#include "mmu/page_walk.h"
#include "mmu/tlb.h"
#include "state/integers.h"

namespace vellum {

enum Gpr : u8 { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi };

// Slots behind the sixteen registers, so that an address needs no case for "none" and "RIP".
inline constexpr u8 kZeroSlot = 16;      // always 0: no base, no index
inline constexpr u8 kCodeBaseSlot = 17;  // RIP of the running block's first instruction
inline constexpr u8 kExcessSlot = 19, kDeficitSlot = 20;  // +8192 and -8192: a RIP-relative displacement near the ends of 32 bits
inline constexpr u8 kAddressMaskSlot = 21;                // masks for addresses of 16, 32 and 64 bits

enum SegmentIndex : u8 { kEs, kCs, kSs, kDs, kFs, kGs, kLdtr, kTr, kSegmentCount };

// Attributes in the layout of a descriptor's second doubleword, SDM Vol. 3A 3.4.5, shifted right by 8.
struct SegmentRegister {
  u16 selector = 0;
  u16 attributes = 0;  // type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15
  u32 limit = 0;       // in bytes, granularity applied
  u64 base = 0;
  bool usable = false; // false after a null selector was loaded: every access faults outside 64-bit mode

  u8 type() const { return attributes & 15; }
  bool code_or_data() const { return attributes & 0x10; }
  u8 dpl() const { return (attributes >> 5) & 3; }
  bool present() const { return attributes & 0x80; }
  bool long_mode() const { return attributes & 0x2000; }
  bool big() const { return attributes & 0x4000; }
  bool is_code() const { return (attributes & 0x18) == 0x18; }
  bool expand_down() const { return (attributes & 0x1c) == 0x14; }
  bool writable() const { return (attributes & 0x1a) == 0x12; }
  bool readable() const { return !is_code() || (attributes & 2); }
};

struct DescriptorTableRegister {
  u64 base = 0;
  u16 limit = 0;
};

// RFLAGS bits, SDM Vol. 1 3.4.3.
enum RflagsBit : u32 {
  kCf = 1u << 0, kPf = 1u << 2, kAf = 1u << 4, kZf = 1u << 6, kSf = 1u << 7, kTf = 1u << 8, kIf = 1u << 9,
  kDf = 1u << 10, kOf = 1u << 11, kIopl = 3u << 12, kNt = 1u << 14, kRf = 1u << 16, kVm = 1u << 17, kAc = 1u << 18,
  kVif = 1u << 19, kVip = 1u << 20, kId = 1u << 21,
};
inline constexpr u32 kArithmeticFlags = kCf | kPf | kAf | kZf | kSf | kOf;

// CR0, CR4, EFER bits, SDM Vol. 3A 2.5 and 2.2.1.
inline constexpr u64 kCr0Pe = 1, kCr0Mp = 2, kCr0Em = 4, kCr0Ts = 8, kCr0Et = 16, kCr0Ne = 32, kCr0Wp = 1 << 16,
                     kCr0Am = 1 << 18, kCr0Nw = 1 << 29, kCr0Cd = 1 << 30, kCr0Pg = u64{1} << 31;
inline constexpr u64 kCr4Vme = 1 << 0, kCr4Pvi = 1 << 1, kCr4Tsd = 1 << 2, kCr4De = 1 << 3, kCr4Pse = 1 << 4,
                     kCr4Pae = 1 << 5, kCr4Mce = 1 << 6, kCr4Pge = 1 << 7, kCr4Pce = 1 << 8, kCr4Osfxsr = 1 << 9,
                     kCr4Osxmmexcpt = 1 << 10, kCr4Umip = 1 << 11, kCr4La57 = 1 << 12, kCr4Fsgsbase = 1 << 16,
                     kCr4Pcide = 1 << 17, kCr4Osxsave = 1 << 18, kCr4Smep = 1 << 20, kCr4Smap = 1 << 21,
                     kCr4Pke = 1 << 22, kCr4Pks = 1 << 24;
inline constexpr u64 kEferSce = 1, kEferLme = 1 << 8, kEferLma = 1 << 10, kEferNxe = 1 << 11;

// 64 bytes each, wide enough for ZMM; XMM is the low 16.
struct alignas(64) VectorRegister {
  u64 qword[8];
};

// x87 registers by physical number (not ST order). MMX register n is the significand of physical register n.
struct X87Register {
  u64 significand;
  u16 sign_exponent;
  u16 padding[3];
};

struct X87State {
  std::array<X87Register, 8> registers{};
  u16 control = 0x037f;
  u16 status = 0;        // with TOP in 13:11
  u8 valid = 0;          // bit n: physical register n is not empty (the inverse of the abridged tag of FXSAVE is 0)
  u16 last_opcode = 0;   // FOP, 11 bits
  u64 last_instruction = 0;  // FIP
  u64 last_data = 0;         // FDP
  u16 last_code_selector = 0, last_data_selector = 0;
};

// Why the run loop must look up before entering the next block; bits of CpuState::attention.
enum Attention : u32 {
  kAttentionExit = 1,        // request_exit()
  kAttentionInterrupt = 2,   // INTR is asserted
  kAttentionNmi = 4,
  kAttentionSmi = 8,
  kAttentionInit = 16,
  kAttentionTranslator = 64,  // the translator has something to do between blocks
  kAttentionStep = 32,       // run one instruction at a time: shadow, TF, breakpoints
  kAttentionTrace = 128,     // the translator wants to see the blocks that run
};

struct BoundInsn;
struct Block;
class CpuCore;

// Where a jump leaves its page, the block for a RIP under the current mapping and mode; emptied by TLB flushes.
struct JumpCacheEntry {
  u64 rip;
  u64 key;  // CpuState::jump_key of its half when it was entered
  Block* block;
  void* entry;  // Block::jump_entry
};
inline constexpr usize kJumpCacheSize = 32768;

// Where code of a page of RAM was found the last time: what is known of the mapping, however many blocks the page has.
struct CodePlace {
  u64 stamp;  // RIP of the page's first byte ^ CpuState::place_key of its half then; 0: never
};

inline constexpr usize kReturnPlaces = 256;
// Instructions that are handed out at once.
inline constexpr i64 kLargestBudget = i64{1} << 31;
// Of these at most so many stand in CpuState::budget at once, so that whoever runs out of them looks for attention.
inline constexpr i64 kSliceInsns = 4096;
inline constexpr i64 kNoBudget = kLargestBudget + 1;
inline constexpr unsigned kJumpGenerationShift = 42, kJumpGenerationBits = 15;

struct alignas(64) CpuState {
  // Operand slots (index * 8 is the byte offset): the general registers, zero, and the RIP of the first byte of the
  // page that the running block begins on: blocks on one page hand on to each other without changing it.
  std::array<u64, 16> gpr{};
  u64 zero = 0;
  u64 code_base = 0;
  u64 rip = 0;  // complete only outside translated code; inside, code_base + BoundInsn::offset
  u64 excess = 8192, deficit = -u64{8192};
  std::array<u64, 3> address_masks{0xffff, 0xffffffff, ~u64{0}};

  // The six arithmetic flags, lazily (flags.h).
  FlagOperation flag_operation = FlagOperation::Explicit;
  u64 flag_result = 0, flag_a = 0, flag_b = 0;
  u32 rflags = 2;  // all others; the arithmetic bits are 0 here

  // What fast paths need.
  TlbEntry* tlb = nullptr;       // the current context's table
  i64 budget = 0;                // instructions left of the slice; charged per block on entry
  // How far a loop in optimized code, which does not stop at a slice's end, may take the budget down: minus what lies aside, or
  // kNoBudget while attention is asked for. Written by other threads, too, always with atomics.
  i64 budget_floor = 0;
  i64 budget_aside = 0;          // instructions for later slices
  u32 attention = 0;             // Attention bits; written by other threads too, always with atomics
  u32 mode = 0;                  // the key under which code is found now: BlockMode, and EntryMode above it (block.h)
  // Count the flushes of the jump cache, so that a flush costs nothing: of RIPs in the lower and in the upper half of
  // 64 bits, because the upper one is the kernel's, whose translations are global.
  std::array<u32, 2> jump_generation{};
  std::array<u64, 2> jump_key{};   // derived from these and `mode`
  std::array<u64, 2> place_key{};  // likewise
  CpuCore* core = nullptr;
  JumpCacheEntry* jump_cache = nullptr;
  CodePlace* code_places = nullptr;  // by page of GuestRam
  const BoundInsn* insn = nullptr;  // set where a helper may fault or ask for the exact instruction count

  std::array<VectorRegister, 32> vector{};
  u32 mxcsr = 0x1f80;             // without the sticky flags that the host still holds; floating_environment.h
  bool sse_unmasked = false;      // derived: MXCSR unmasks an exception
  bool guest_fp_active = false;   // the host computes under the guest's MXCSR
  u64 host_fp_control = 0;        // the host's own setting meanwhile
  X87State x87;

  std::array<SegmentRegister, kSegmentCount> segment{};
  DescriptorTableRegister gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0, xcr0 = 1;
  std::array<u64, 8> dr{};
  u32 pkru = 0, pkrs = 0;
  u8 cpl = 0;
  bool in_smm = false;

  PagingControls paging;  // derived from the control registers

  // Model-specific registers.
  u64 tsc_offset = 0, tsc_adjust = 0, tsc_aux = 0;
  u64 star = 0, lstar = 0, cstar = 0, fmask = 0, kernel_gs_base = 0;
  u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  u64 pat = 0x0007040600070406, misc_enable = 1, debugctl = 0, smbase = 0x30000, mcg_status = 0, xss = 0;
  u64 feature_control = 0, spec_ctrl = 0;
  u64 mtrr_def_type = 0;
  std::array<u64, 11> mtrr_fixed{};
  std::array<u64, 16> mtrr_variable{};
  std::array<u64, 40> mc_banks{};

  // Event state.
  bool halted = false;
  bool interrupt_shadow = false;  // after STI: maskable interrupts are held off for one instruction
  bool stack_shadow = false;      // after MOV SS or POP SS: debug traps and interrupts are held off
  bool nmi_blocked = false;
  bool nmi_pending = false, smi_pending = false, init_pending = false, interrupt_request = false;
  u64 pending_debug = 0;          // DR6 bits of a trap to deliver before the next instruction

  // By the place of the return address on the stack: where translated code goes on at a return. Calls write it, and where it
  // leads finds out whether that is right. No part of the guest's state.
  std::array<const void*, kReturnPlaces> returns{};

  // What one access to memory of more than eight bytes loads or stores when its fast path does not apply, on its way between
  // generated code and the helper. Means nothing before and after: no part of the guest's state.
  VectorRegister transfer{};

  void update_jump_key();  // core_mode.cc
  u64 jump_key_of(u64 rip) const { return jump_key[rip >> 63]; }
  // Any thread asks for the run loop, and gets it within kSliceInsns instructions. On the CPU's own thread, where it must come before
  // the next block, end_slice() does the rest, unless the run loop gets control anyway.
  void ask_for_attention(u32 bits) {
    __atomic_fetch_or(&attention, bits, __ATOMIC_SEQ_CST);
    __atomic_store_n(&budget_floor, kNoBudget, __ATOMIC_SEQ_CST);
  }
  // Puts the first `insns` instructions of what is left into the slice, and the others aside.
  void begin_slice(i64 insns) {
    const i64 left = budget + budget_aside;
    budget = left < insns ? left : insns;
    budget_aside = left - budget;
    __atomic_store_n(&budget_floor, -budget_aside, __ATOMIC_SEQ_CST);
    // Who asks sets the bit before the floor: one of the two comes later than this.
    if (__atomic_load_n(&attention, __ATOMIC_SEQ_CST)) __atomic_store_n(&budget_floor, kNoBudget, __ATOMIC_SEQ_CST);
  }
  // No other block is entered before the run loop has looked.
  void end_slice() { begin_slice(0); }
  // The offset in `returns` for a return address at this place.
  static constexpr u64 return_place(u64 stack_pointer) { return stack_pointer & (kReturnPlaces - 1) * 8; }
  // Something besides `attention` that the run loop must look at before the next instruction.
  bool event_pending() const { return interrupt_request | nmi_pending | smi_pending | halted; }
  bool user() const { return cpl == 3; }
  // What VEX-encoded instructions on vectors need, SDM Vol. 1 13.5.2 and 14.3.
  bool avx_enabled() const { return (cr4 & kCr4Osxsave) && (xcr0 & 6) == 6; }
  bool protected_mode() const { return cr0 & kCr0Pe; }
  bool v86() const { return rflags & kVm; }
  bool long_mode() const { return efer & kEferLma; }
  bool code64() const { return (efer & kEferLma) && segment[kCs].long_mode(); }
};

inline constexpr u16 gpr_offset(unsigned index) { return static_cast<u16>(index * 8); }

}  // namespace vellum
