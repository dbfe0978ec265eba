// Segment descriptors and gates as they lie in the descriptor tables, SDM Vol. 3A 3.4.5, 3.5 and 5.8.3.
#pragma once

#include "cpu/callouts/operands.h"

namespace vellum::callouts {

// System descriptor types, SDM Vol. 3A table 3-2.
enum SystemType : u8 {
  kTss16Available = 1, kLdt = 2, kTss16Busy = 3, kCallGate16 = 4, kTaskGate = 5, kInterruptGate16 = 6, kTrapGate16 = 7,
  kTss32Available = 9, kTss32Busy = 11, kCallGate32 = 12, kInterruptGate32 = 14, kTrapGate32 = 15,
};

struct Descriptor {
  u64 low = 0;     // the first eight bytes
  u64 high = 0;    // the second eight bytes of a 16-byte system descriptor
  u64 linear = 0;  // where it lies

  u16 attributes() const { return static_cast<u16>((low >> 40) & 0xf0ff); }
  u8 type() const { return static_cast<u8>((low >> 40) & 15); }
  bool code_or_data() const { return (low >> 44) & 1; }
  bool is_code() const { return ((low >> 43) & 3) == 3; }
  bool is_data() const { return ((low >> 43) & 3) == 2; }
  bool conforming() const { return (low >> 42) & 1; }
  bool readable_code() const { return (low >> 41) & 1; }
  bool writable_data() const { return (low >> 41) & 1; }
  u8 dpl() const { return static_cast<u8>((low >> 45) & 3); }
  bool present() const { return (low >> 47) & 1; }
  bool long_mode() const { return (low >> 53) & 1; }
  bool big() const { return (low >> 54) & 1; }
  u32 limit() const {
    const u32 raw = static_cast<u32>((low & 0xffff) | ((low >> 32) & 0xf0000));
    return (low >> 55) & 1 ? (raw << 12) | 0xfff : raw;
  }
  u64 base() const { return ((low >> 16) & 0xffffff) | ((low >> 32) & 0xff000000) | ((high & 0xffffffff) << 32); }

  // As a gate.
  u16 gate_selector() const { return static_cast<u16>(low >> 16); }
  u64 gate_offset() const { return (low & 0xffff) | ((low >> 32) & 0xffff0000) | ((high & 0xffffffff) << 32); }
  u64 gate_offset16() const { return low & 0xffff; }
  u8 gate_parameters() const { return static_cast<u8>((low >> 32) & 31); }
  u8 gate_ist() const { return static_cast<u8>((low >> 32) & 7); }

  SegmentRegister as_register(u16 selector) const {
    return {.selector = selector, .attributes = attributes(), .limit = limit(), .base = base(), .usable = true};
  }
};

// Selector without its RPL, as error codes want it.
inline u32 selector_error(u16 selector) { return selector & 0xfffc; }
inline bool null_selector(u16 selector) { return (selector & 0xfffc) == 0; }

// The descriptor a non-null selector names; false when it lies outside its table.
bool find_descriptor(CpuCore& cpu, u16 selector, Descriptor& descriptor);
// Reads the second half of a 16-byte descriptor (IA-32e mode); false when outside the table or not well-formed.
bool find_descriptor_high(CpuCore& cpu, u16 selector, Descriptor& descriptor);
// Sets the accessed bit of a code or data descriptor in memory, if it is clear.
void mark_accessed(CpuCore& cpu, Descriptor& descriptor);

// A data or stack segment as MOV, POP, LDS … would load it with the current CPL; raises their faults. Does not commit.
SegmentRegister checked_segment(CpuCore& cpu, unsigned index, u16 selector);
// SS for privilege level `cpl` (from a TSS, or the stack of a far return): faults are `vector` with the selector | ext.
SegmentRegister checked_stack_segment(CpuCore& cpu, u16 selector, u8 cpl, Vector vector, u32 ext);
// Writes a loaded value into a segment register and updates what is derived.
void commit_segment(CpuCore& cpu, unsigned index, const SegmentRegister& value);

SegmentRegister real_mode_segment(const SegmentRegister& old, u16 selector);
SegmentRegister v86_segment(u16 selector);
// DS, ES, FS, GS that an outer privilege level may not use are made null, SDM Vol. 3A 5.8.6.
void drop_inner_segments(CpuState& s);

// The inner stack for `cpl` from the current TSS, SDM Vol. 3A 7.2.1. Errors are #TS.
struct InnerStack {
  u16 selector;
  u64 pointer;
};
InnerStack inner_stack(CpuCore& cpu, u8 cpl, u32 ext);
// RSPn (index 0 to 2) or ISTn (index 3 + n - 1 … with n from 1) of a 64-bit TSS, SDM Vol. 3A figure 7-11.
u64 tss64_stack(CpuCore& cpu, unsigned offset, u32 ext);

enum class TaskSwitch : u8 { Jump, Call, Gate, Return };
// To the task whose TSS descriptor `selector` names; s.rip is what the old task saves. task_switch.cc.
void switch_task(CpuCore& cpu, u16 selector, Descriptor& descriptor, TaskSwitch reason, u32 ext);
// A task gate's TSS (JMP, CALL and interrupts), with the checks of SDM Vol. 3A 7.3 before the switch.
void switch_through_task_gate(CpuCore& cpu, const Descriptor& gate, TaskSwitch reason, u32 ext);

// The four PDPTEs that CR3 points to in PAE paging; false when one has reserved bits set, SDM Vol. 3A 4.4.1.
// control_registers.cc.
bool read_pdptes(CpuCore& cpu, u64 cr3, std::array<u64, 4>& pdptes);

// Replaces RIP, CS and CPL, and recomputes what is derived.
inline void commit_code(CpuCore& cpu, const SegmentRegister& cs, u64 rip, u8 cpl) {
  CpuState& s = cpu.s;
  s.segment[kCs] = cs;
  s.segment[kCs].selector = static_cast<u16>((cs.selector & ~3) | cpl);
  s.rip = rip;
  s.cpl = cpl;
  cpu.update_mode();
}

}  // namespace vellum::callouts
