// PUSHF, POPF, CLI, STI, CLAC, STAC with IOPL, virtual-8086 mode and virtual interrupts, SDM Vol. 3A 20.3 and 20.4.
#include "cpu/callouts/operands.h"

namespace vellum::callouts {

namespace {

unsigned iopl(const CpuState& s) { return (s.rflags >> 12) & 3; }

// Whether IF is VIF for this code: V86 with CR4.VME, or CPL 3 with CR4.PVI; only matters when IOPL forbids IF itself.
bool virtual_interrupts(const CpuState& s) {
  return s.v86() ? (s.cr4 & kCr4Vme) != 0 : (s.cr4 & kCr4Pvi) && s.cpl == 3;
}

}  // namespace

VELLUM_CALLOUT(push_flags) {
  CpuState& s = cpu.s;
  const unsigned size = insn.operand_size;
  u32 image = read_rflags(s) & ~u32{kRf | kVm};
  if (s.protected_mode() && s.v86() && iopl(s) < 3) {
    if (!(s.cr4 & kCr4Vme) || size != 2) cpu.raise_general_protection();
    image = (image & ~u32{kIf}) | kIopl | (s.rflags & kVif ? kIf : 0);
  }
  StackCursor stack(cpu);
  stack.push(image, size);
  stack.commit();
}

VELLUM_CALLOUT(pop_flags) {
  CpuState& s = cpu.s;
  const unsigned size = insn.operand_size;
  const bool v86 = s.protected_mode() && s.v86();
  u32 mask = kArithmeticFlags | kTf | kDf | kNt;
  if (size != 2) mask |= kAc | kId;
  bool virtual_if = false;
  if (!s.protected_mode()) {
    mask |= kIf | kIopl;
  } else if (v86) {
    if (iopl(s) == 3) mask |= kIf;
    else if (size == 2 && (s.cr4 & kCr4Vme)) virtual_if = true;
    else cpu.raise_general_protection();
  } else {
    if (s.cpl <= iopl(s)) mask |= kIf;
    if (s.cpl == 0) mask |= kIopl;
  }
  StackCursor stack(cpu);
  u32 value = static_cast<u32>(stack.pop(size));
  if (virtual_if) {
    if ((value & kTf) || ((value & kIf) && (s.rflags & kVip))) cpu.raise_general_protection();
    mask |= kVif;
    value = (value & ~u32{kVif}) | (value & kIf ? kVif : 0);
  }
  stack.commit();
  const u32 old = read_rflags(s) & ~u32{kRf};
  const u32 flags = (old & ~mask) | (value & mask);
  write_rflags(s, flags);
  if ((old ^ flags) & (kTf | kAc)) cpu.update_mode();
  else if (s.interrupt_request && (flags & kIf)) cpu.update_step_attention();
}

VELLUM_CALLOUT(clear_interrupt_flag) {
  (void)insn;
  CpuState& s = cpu.s;
  if (s.protected_mode() && iopl(s) < s.cpl) {
    if (!virtual_interrupts(s)) cpu.raise_general_protection();
    s.rflags &= ~u32{kVif};
    return;
  }
  s.rflags &= ~u32{kIf};
}

VELLUM_CALLOUT(set_interrupt_flag) {
  (void)insn;
  CpuState& s = cpu.s;
  if (s.protected_mode() && iopl(s) < s.cpl) {
    if (!virtual_interrupts(s) || (s.rflags & kVip)) cpu.raise_general_protection();
    s.rflags |= kVif;
    return;
  }
  if (s.rflags & kIf) return;
  s.rflags |= kIf;
  cpu.begin_interrupt_shadow();
}

VELLUM_CALLOUT(clear_alignment_check) {
  (void)insn;
  if (cpu.s.cpl != 0) cpu.raise(Vector::InvalidOpcode);
  cpu.s.rflags &= ~u32{kAc};
  cpu.update_tlb_context();
}

VELLUM_CALLOUT(set_alignment_check) {
  (void)insn;
  if (cpu.s.cpl != 0) cpu.raise(Vector::InvalidOpcode);
  cpu.s.rflags |= kAc;
  cpu.update_tlb_context();
}

}  // namespace vellum::callouts
