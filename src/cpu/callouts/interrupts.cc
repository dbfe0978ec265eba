// Delivery of interrupts and exceptions, and IRET, SDM Vol. 3A chapters 6 and 20, Vol. 2A "INT n" and "IRET".
#include "cpu/callouts/descriptors.h"

namespace vellum {

using namespace callouts;

namespace {

constexpr u32 kIdtError = 2;  // the error code's index is one of the IDT

u32 idt_error(u8 vector, u32 ext) { return vector * 8u + kIdtError + ext; }

void deliver_real_mode(CpuCore& cpu, u8 vector) {
  CpuState& s = cpu.s;
  if (vector * 4u + 3 > s.idtr.limit) cpu.raise_general_protection();
  const u32 entry = cpu.read_linear<u32>(s.idtr.base + vector * 4u, Rights::Supervisor);
  StackCursor stack(cpu);
  const u32 flags = read_rflags(s);
  stack.push(flags, 2);
  stack.push(s.segment[kCs].selector, 2);
  stack.push(s.rip, 2);
  stack.commit();
  write_rflags(s, flags & ~u32{kIf | kTf | kAc | kRf});
  s.segment[kCs] = real_mode_segment(s.segment[kCs], static_cast<u16>(entry >> 16));
  s.rip = entry & 0xffff;
  cpu.update_mode();
}

struct Delivery {
  u8 vector;
  EventKind kind;
  bool has_error_code;
  u32 error_code;
  u32 ext;
  u64 gate_low;
};

// The flags a handler starts with, SDM Vol. 3A 6.12.1.
void enter_handler_flags(CpuState& s, u32 flags, bool interrupt_gate) {
  flags &= ~u32{kTf | kNt | kVm | kRf};
  if (interrupt_gate) flags &= ~u32{kIf};
  write_rflags(s, flags);
}

// The handler's code segment through the gate, SDM Vol. 2A "INT n" operation. `new_cpl` is set.
SegmentRegister handler_code_segment(CpuCore& cpu, u16 selector, u32 ext, u8& new_cpl) {
  const CpuState& s = cpu.s;
  if (null_selector(selector)) cpu.raise_general_protection(ext);
  const u32 error = selector_error(selector) | ext;
  Descriptor descriptor;
  if (!find_descriptor(cpu, selector, descriptor)) cpu.raise_general_protection(error);
  if (!descriptor.code_or_data() || !descriptor.is_code() || descriptor.dpl() > s.cpl) cpu.raise_general_protection(error);
  if (s.long_mode() && (!descriptor.long_mode() || descriptor.big())) cpu.raise_general_protection(error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  if (s.v86() && (descriptor.conforming() || descriptor.dpl() != 0)) cpu.raise_general_protection(error);
  new_cpl = descriptor.conforming() ? s.cpl : descriptor.dpl();
  mark_accessed(cpu, descriptor);
  return descriptor.as_register(selector);
}

void deliver_long_mode(CpuCore& cpu, const Delivery& delivery) {
  CpuState& s = cpu.s;
  Descriptor gate;
  gate.low = delivery.gate_low;
  gate.high = cpu.read_linear<u64>(s.idtr.base + delivery.vector * 16u + 8, Rights::Supervisor);
  u8 new_cpl = 0;
  const SegmentRegister cs = handler_code_segment(cpu, gate.gate_selector(), delivery.ext, new_cpl);
  const bool inner = new_cpl < s.cpl;

  // SDM Vol. 3A 6.14.2 and 6.14.5: the stack is aligned to 16 bytes, and SS is null at an inner level.
  u64 rsp = s.gpr[kRsp];
  if (gate.gate_ist()) rsp = tss64_stack(cpu, 0x24 + 8u * (gate.gate_ist() - 1u), delivery.ext);
  else if (inner) rsp = tss64_stack(cpu, 4 + 8u * new_cpl, delivery.ext);
  const u32 flags = read_rflags(s);
  StackCursor stack(cpu, s.segment[kSs], rsp & ~u64{15}, inner ? Rights::Supervisor : Rights::Current, true, delivery.ext);
  stack.push(s.segment[kSs].selector, 8);
  stack.push(s.gpr[kRsp], 8);
  stack.push(flags, 8);
  stack.push(s.segment[kCs].selector, 8);
  stack.push(s.rip, 8);
  if (delivery.has_error_code) stack.push(delivery.error_code, 8);
  if (!canonical(s, gate.gate_offset())) cpu.raise_general_protection(delivery.ext);

  stack.commit();
  if (inner) {
    s.segment[kSs] = {.selector = new_cpl, .attributes = static_cast<u16>(new_cpl << 5), .usable = false};
  }
  enter_handler_flags(s, flags, gate.type() == kInterruptGate32);
  commit_code(cpu, cs, gate.gate_offset(), new_cpl);
}

void deliver_legacy(CpuCore& cpu, const Delivery& delivery) {
  CpuState& s = cpu.s;
  Descriptor gate;
  gate.low = delivery.gate_low;
  const unsigned size = gate.type() & 8 ? 4 : 2;
  u8 new_cpl = 0;
  const SegmentRegister cs = handler_code_segment(cpu, gate.gate_selector(), delivery.ext, new_cpl);
  const u64 target = size == 4 ? gate.gate_offset() : gate.gate_offset16();
  const u32 flags = read_rflags(s);
  const bool from_v86 = s.v86();

  if (new_cpl < s.cpl) {
    const InnerStack inner = inner_stack(cpu, new_cpl, delivery.ext);
    const SegmentRegister ss = checked_stack_segment(cpu, inner.selector, new_cpl, Vector::InvalidTss, delivery.ext);
    StackCursor stack(cpu, ss, inner.pointer, Rights::Supervisor, false, selector_error(inner.selector) | delivery.ext);
    stack.require_room(size * (5 + (from_v86 ? 4 : 0) + (delivery.has_error_code ? 1 : 0)));
    if (from_v86)
      for (const unsigned index : {kGs, kFs, kDs, kEs}) stack.push(s.segment[index].selector, size);
    stack.push(s.segment[kSs].selector, size);
    stack.push(s.gpr[kRsp], size);
    stack.push(flags, size);
    stack.push(s.segment[kCs].selector, size);
    stack.push(s.rip, size);
    if (delivery.has_error_code) stack.push(delivery.error_code, size);
    if (target > cs.limit) cpu.raise_general_protection(delivery.ext);

    s.segment[kSs] = ss;
    stack.commit();
    if (from_v86)
      for (const unsigned index : {kGs, kFs, kDs, kEs}) s.segment[index] = {};
  } else {
    StackCursor stack(cpu, delivery.ext);
    stack.push(flags, size);
    stack.push(s.segment[kCs].selector, size);
    stack.push(s.rip, size);
    if (delivery.has_error_code) stack.push(delivery.error_code, size);
    if (target > cs.limit) cpu.raise_general_protection(delivery.ext);
    stack.commit();
  }
  enter_handler_flags(s, flags, (gate.type() & 7) == kInterruptGate16);
  commit_code(cpu, cs, target, new_cpl);
}

void deliver_through_task_gate(CpuCore& cpu, const Delivery& delivery) {
  CpuState& s = cpu.s;
  Descriptor gate;
  gate.low = delivery.gate_low;
  switch_through_task_gate(cpu, gate, TaskSwitch::Gate, delivery.ext);
  if (!delivery.has_error_code) return;
  // The error code goes to the new task's stack; a fault there is one of the new task, SDM Vol. 3A 7.3.
  const unsigned size = s.segment[kTr].type() & 8 ? 4 : 2;
  StackCursor stack(cpu, delivery.ext);
  stack.push(delivery.error_code, size);
  stack.commit();
}

}  // namespace

void CpuCore::deliver_event(u8 vector, EventKind kind, bool has_error_code, u32 error_code) {
  const bool external = kind == EventKind::External || kind == EventKind::Nmi;
  observe(kEventInterrupt, [&](CpuObserver& observer) { observer.interrupt_delivered(vector, external, error_code); });
  if (!s.protected_mode()) return deliver_real_mode(*this, vector);
  const u32 ext = kind == EventKind::SoftwareInterrupt ? 0 : 1;
  const unsigned entry_size = s.long_mode() ? 16 : 8;
  if (vector * entry_size + entry_size - 1 > s.idtr.limit) raise_general_protection(idt_error(vector, ext));
  Delivery delivery{vector, kind, has_error_code, error_code, ext, 0};
  delivery.gate_low = read_linear<u64>(s.idtr.base + vector * entry_size, Rights::Supervisor);
  Descriptor gate;
  gate.low = delivery.gate_low;
  const u8 type = static_cast<u8>(gate.type() | (gate.code_or_data() ? 16 : 0));
  const bool gate64 = type == kInterruptGate32 || type == kTrapGate32;
  const bool gate_legacy = gate64 || type == kInterruptGate16 || type == kTrapGate16 || type == kTaskGate;
  if (s.long_mode() ? !gate64 : !gate_legacy) raise_general_protection(idt_error(vector, ext));
  if (kind == EventKind::SoftwareInterrupt && gate.dpl() < s.cpl) raise_general_protection(idt_error(vector, ext));
  if (!gate.present()) raise(Vector::SegmentNotPresent, idt_error(vector, ext));
  if (s.long_mode()) deliver_long_mode(*this, delivery);
  else if (type == kTaskGate) deliver_through_task_gate(*this, delivery);
  else deliver_legacy(*this, delivery);
}

namespace callouts {

InnerStack inner_stack(CpuCore& cpu, u8 cpl, u32 ext) {
  const SegmentRegister& tr = cpu.s.segment[kTr];
  const bool tss32 = tr.type() & 8;
  const u32 offset = tss32 ? cpl * 8u + 4 : cpl * 4u + 2;
  const u32 size = tss32 ? 6 : 4;
  if (!tr.usable || offset + size - 1 > tr.limit) cpu.raise(Vector::InvalidTss, selector_error(tr.selector) | ext);
  const u64 linear = static_cast<u32>(tr.base + offset);
  if (tss32) {
    const u32 pointer = cpu.read_linear<u32>(linear, Rights::Supervisor);
    return {cpu.read_linear<u16>(static_cast<u32>(linear + 4), Rights::Supervisor), pointer};
  }
  const u16 pointer = cpu.read_linear<u16>(linear, Rights::Supervisor);
  return {cpu.read_linear<u16>(static_cast<u32>(linear + 2), Rights::Supervisor), pointer};
}

u64 tss64_stack(CpuCore& cpu, unsigned offset, u32 ext) {
  const SegmentRegister& tr = cpu.s.segment[kTr];
  if (!tr.usable || offset + 7 > tr.limit) cpu.raise(Vector::InvalidTss, selector_error(tr.selector) | ext);
  return cpu.read_linear<u64>(tr.base + offset, Rights::Supervisor);
}

// --- INT n and its kin ------------------------------------------------------------------------------------------------

namespace {

unsigned iopl(const CpuState& s) { return (s.rflags >> 12) & 3; }

// The software interrupt redirection bitmap: the 32 bytes below the I/O bitmap, SDM Vol. 3A 20.3.3.
bool redirected_to_8086_handler(CpuCore& cpu, u8 vector) {
  const SegmentRegister& tr = cpu.s.segment[kTr];
  if (tr.limit < 0x67) cpu.raise_general_protection();
  const u16 io_map = cpu.read_linear<u16>(static_cast<u32>(tr.base + 0x66), Rights::Supervisor);
  const u32 offset = static_cast<u32>(io_map) - 32 + vector / 8u;
  if (io_map < 32 || offset > tr.limit) cpu.raise_general_protection();
  const u8 bits = cpu.read_linear<u8>(static_cast<u32>(tr.base + offset), Rights::Supervisor);
  return !((bits >> (vector & 7)) & 1);
}

// SDM Vol. 3A 20.3.1.1 and 20.3.3.4 (methods 5 and 6).
void deliver_to_8086_handler(CpuCore& cpu, u8 vector) {
  CpuState& s = cpu.s;
  const u32 entry = cpu.read_linear<u32>(vector * 4u);
  const u32 flags = read_rflags(s);
  u32 image = flags;
  if (iopl(s) < 3) {
    image = (image & ~u32{kIf}) | kIopl;
    if (flags & kVif) image |= kIf;
  }
  StackCursor stack(cpu);
  stack.push(image, 2);
  stack.push(s.segment[kCs].selector, 2);
  stack.push(s.rip, 2);
  stack.commit();
  write_rflags(s, flags & ~u32{kTf | kNt | (iopl(s) < 3 ? kVif : kIf)});
  s.segment[kCs] = v86_segment(static_cast<u16>(entry >> 16));
  s.rip = entry & 0xffff;
  cpu.update_mode();
}

}  // namespace

VELLUM_CALLOUT(software_interrupt) {
  const u8 vector = static_cast<u8>(insn.immediate());
  const CpuState& s = cpu.s;
  cpu.suppress_trap();
  if (s.protected_mode() && s.v86()) {
    if ((s.cr4 & kCr4Vme) && redirected_to_8086_handler(cpu, vector)) return deliver_to_8086_handler(cpu, vector);
    if (iopl(s) < 3) cpu.raise_general_protection();
  }
  cpu.deliver_event(vector, EventKind::SoftwareInterrupt, false, 0);
}

VELLUM_CALLOUT(breakpoint_interrupt) {
  (void)insn;
  cpu.suppress_trap();
  cpu.deliver_event(static_cast<u8>(Vector::Breakpoint), EventKind::SoftwareInterrupt, false, 0);
}

VELLUM_CALLOUT(overflow_interrupt) {
  (void)insn;
  if (!overflow_flag(lazy_flags(cpu.s))) return;
  cpu.suppress_trap();
  cpu.deliver_event(static_cast<u8>(Vector::Overflow), EventKind::SoftwareInterrupt, false, 0);
}

VELLUM_CALLOUT(debug_interrupt) {
  (void)insn;
  cpu.suppress_trap();
  // A data breakpoint that MOV SS has held off is part of this #DB; INT n and INT3 leave it pending for their handler.
  cpu.s.dr[6] |= cpu.s.pending_debug;
  cpu.s.pending_debug = 0;
  cpu.deliver_event(static_cast<u8>(Vector::Debug), EventKind::PrivilegedSoftware, false, 0);
}

VELLUM_CALLOUT(bound) {
  const unsigned size = insn.operand_size;
  const u64 linear = cpu.operand_linear(insn, 2 * size, AccessType::Read);
  const auto extended = [size](u64 value) { return size == 2 ? i64{static_cast<i16>(value)} : i64{static_cast<i32>(value)}; };
  const u64 both = read_memory(cpu, linear, 2 * size);
  const i64 low = extended(both), high = extended(both >> (8 * size));
  const i64 position = extended(read_register(cpu.s, insn.operand[0], size));
  if (position < low || position > high) cpu.raise(Vector::BoundRange);
}

// --- IRET -------------------------------------------------------------------------------------------------------------

namespace {

constexpr u32 kFlagsAll = kArithmeticFlags | kTf | kIf | kDf | kIopl | kNt;  // those of 16 bits
constexpr u32 kFlagsWide = kRf | kAc | kId;                                  // and of 32

// Replaces the flags under `mask`. RF matters only while instruction breakpoints are enabled; then instructions run one
// at a time, and the one after IRET clears it again.
void replace_flags(CpuState& s, u32 value, u32 mask) {
  if (!(s.dr[7] & 0xff)) value &= ~u32{kRf};
  write_rflags(s, (read_rflags(s) & ~mask) | (value & mask));
}

void return_real_mode(CpuCore& cpu, unsigned size) {
  CpuState& s = cpu.s;
  StackCursor stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  const u32 flags = static_cast<u32>(stack.pop(size));
  if (rip > s.segment[kCs].limit) cpu.raise_general_protection();
  stack.commit();
  replace_flags(s, flags, size == 2 ? kFlagsAll : kFlagsAll | kFlagsWide);
  s.segment[kCs] = real_mode_segment(s.segment[kCs], selector);
  s.rip = rip;
  cpu.update_mode();
}

void return_within_v86(CpuCore& cpu, unsigned size) {
  CpuState& s = cpu.s;
  const bool extended = (s.cr4 & kCr4Vme) && size == 2 && iopl(s) < 3;
  if (iopl(s) < 3 && !extended) cpu.raise_general_protection();
  StackCursor stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  u32 flags = static_cast<u32>(stack.pop(size));
  if (rip > 0xffff) cpu.raise_general_protection();
  u32 mask = (kFlagsAll & ~u32{kIopl}) | (size == 4 ? kFlagsWide : 0);
  if (extended) {
    // SDM Vol. 3A 20.3.1.2: IF goes to VIF; a pending virtual interrupt, or TF, is for the monitor.
    if (((flags & kIf) && (s.rflags & kVip)) || (flags & kTf)) cpu.raise_general_protection();
    mask = (mask & ~u32{kIf}) | kVif;
    flags = (flags & ~u32{kVif}) | (flags & kIf ? kVif : 0);
  }
  stack.commit();
  replace_flags(s, flags, mask);
  s.segment[kCs] = v86_segment(selector);
  s.rip = rip;
  cpu.update_mode();
}

void return_to_v86(CpuCore& cpu, StackCursor stack, u64 rip, u16 code_selector, u32 flags) {
  CpuState& s = cpu.s;
  const u64 rsp = stack.pop(4);
  u16 selectors[kSegmentCount] = {};
  selectors[kCs] = code_selector;
  for (const unsigned index : {kSs, kEs, kDs, kFs, kGs}) selectors[index] = static_cast<u16>(stack.pop(4));
  if (rip > 0xffff) cpu.raise_general_protection();
  replace_flags(s, flags, kFlagsAll | kFlagsWide | kVm | kVif | kVip);
  for (const unsigned index : {kEs, kCs, kSs, kDs, kFs, kGs}) s.segment[index] = v86_segment(selectors[index]);
  s.gpr[kRsp] = static_cast<u32>(rsp);
  s.rip = static_cast<u16>(rip);
  s.cpl = 3;
  cpu.update_mode();
}

void return_from_task(CpuCore& cpu) {
  const SegmentRegister& tr = cpu.s.segment[kTr];
  const u16 link = cpu.read_linear<u16>(tr.base, Rights::Supervisor);
  const u32 error = selector_error(link);
  Descriptor descriptor;
  if ((link & 4) || null_selector(link) || !find_descriptor(cpu, link, descriptor)) cpu.raise(Vector::InvalidTss, error);
  if (descriptor.code_or_data() || (descriptor.type() != kTss16Busy && descriptor.type() != kTss32Busy))
    cpu.raise(Vector::InvalidTss, error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  switch_task(cpu, link, descriptor, TaskSwitch::Return, 0);
}

void return_protected(CpuCore& cpu, unsigned size) {
  CpuState& s = cpu.s;
  StackCursor stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  const u32 flags = static_cast<u32>(stack.pop(size));
  if (!s.long_mode() && size == 4 && (flags & kVm) && s.cpl == 0) return return_to_v86(cpu, stack, rip, selector, flags);

  if (null_selector(selector)) cpu.raise_general_protection();
  const u32 error = selector_error(selector);
  const u8 rpl = selector & 3;
  Descriptor code;
  if (!find_descriptor(cpu, selector, code)) cpu.raise_general_protection(error);
  if (!code.code_or_data() || !code.is_code() || rpl < s.cpl) cpu.raise_general_protection(error);
  if (code.conforming() ? code.dpl() > rpl : code.dpl() != rpl) cpu.raise_general_protection(error);
  const bool target64 = s.long_mode() && code.long_mode();
  if (target64 && code.big()) cpu.raise_general_protection(error);
  if (!code.present()) cpu.raise(Vector::SegmentNotPresent, error);

  const bool outer = rpl > s.cpl;
  const bool pops_stack = outer || s.code64();
  u64 rsp = 0;
  SegmentRegister ss;
  if (pops_stack) {
    rsp = stack.pop(size);
    const u16 stack_selector = static_cast<u16>(stack.pop(size));
    if (null_selector(stack_selector)) {
      if (!target64 || rpl == 3 || (stack_selector & 3) != rpl) cpu.raise_general_protection();
      ss = {.selector = stack_selector, .attributes = static_cast<u16>(rpl << 5), .usable = false};
    } else {
      ss = checked_stack_segment(cpu, stack_selector, rpl, Vector::GeneralProtection, 0);
    }
  }
  if (target64 ? !canonical(s, rip) : rip > code.limit()) cpu.raise_general_protection();
  mark_accessed(cpu, code);

  u32 mask = kArithmeticFlags | kTf | kDf | kNt;
  if (size != 2) mask |= kFlagsWide;
  if (s.cpl <= iopl(s)) mask |= kIf;
  if (s.cpl == 0) mask |= size == 2 ? u32{kIopl} : u32{kIopl | kVif | kVip};
  if (!pops_stack) {
    stack.commit();
  } else {
    s.segment[kSs] = ss;
    if (target64) s.gpr[kRsp] = rsp;
    else if (ss.big()) s.gpr[kRsp] = static_cast<u32>(rsp);
    else s.gpr[kRsp] = (s.gpr[kRsp] & ~u64{0xffff}) | (rsp & 0xffff);  // the known leak of the upper half
  }
  replace_flags(s, flags, mask);
  s.cpl = rpl;
  if (outer) drop_inner_segments(s);
  commit_code(cpu, code.as_register(selector), rip, rpl);
}

}  // namespace

VELLUM_CALLOUT(interrupt_return) {
  CpuState& s = cpu.s;
  const unsigned size = insn.operand_size;
  if (!s.protected_mode()) {
    return_real_mode(cpu, size);
  } else if (s.v86()) {
    return_within_v86(cpu, size);
  } else if (s.rflags & kNt) {
    if (s.long_mode()) cpu.raise_general_protection();
    return_from_task(cpu);
  } else {
    return_protected(cpu, size);
  }
  if (s.nmi_blocked) {
    s.nmi_blocked = false;
    cpu.update_step_attention();
  }
}

}  // namespace callouts

}  // namespace vellum
