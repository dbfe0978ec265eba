// Far JMP, CALL and RET, through code segments, call gates and task gates, SDM Vol. 3A 5.8 and Vol. 2A "CALL".
#include "cpu/callouts/descriptors.h"

namespace vellum::callouts {

namespace {

bool plain(const CpuState& s) { return !s.protected_mode() || s.v86(); }

SegmentRegister plain_code_segment(const CpuState& s, u16 selector) {
  return s.v86() ? v86_segment(selector) : real_mode_segment(s.segment[kCs], selector);
}

void require_target(CpuCore& cpu, const Descriptor& code, u64 rip) {
  const bool target64 = cpu.s.long_mode() && code.long_mode();
  if (target64 ? !canonical(cpu.s, rip) : rip > code.limit()) cpu.raise_general_protection();
}

// L and D may not both be set, SDM Vol. 3A 5.2.1.
void require_code_size(CpuCore& cpu, const Descriptor& code, u32 error) {
  if (cpu.s.long_mode() && code.long_mode() && code.big()) cpu.raise_general_protection(error);
}

struct FarTarget {
  u16 selector;
  u64 rip;
};

FarTarget memory_target(CpuCore& cpu, const BoundInsn& insn) {
  const unsigned size = insn.operand_size;
  u8 bytes[10] = {};
  cpu.read_bytes(cpu.operand_linear(insn, size + 2, AccessType::Read), bytes, size + 2);
  FarTarget target{0, 0};
  std::memcpy(&target.rip, bytes, size);
  std::memcpy(&target.selector, bytes + size, 2);
  return target;
}

FarTarget immediate_target(const BoundInsn& insn) {
  return {insn.immediate2(), truncate(static_cast<u64>(insn.immediate()), insn.operand_size == 2 ? 2 : 4)};
}

// A transfer to a code segment by its own selector keeps CPL.
void check_direct_code(CpuCore& cpu, u16 selector, const Descriptor& code) {
  const CpuState& s = cpu.s;
  const u32 error = selector_error(selector);
  if (code.conforming()) {
    if (code.dpl() > s.cpl) cpu.raise_general_protection(error);
  } else if ((selector & 3) > s.cpl || code.dpl() != s.cpl) {
    cpu.raise_general_protection(error);
  }
  require_code_size(cpu, code, error);
  if (!code.present()) cpu.raise(Vector::SegmentNotPresent, error);
}

struct GateTarget {
  Descriptor code;
  u16 selector;
  u64 rip;
  unsigned size;  // of what is pushed: 2, 4 or 8
};

// The code segment behind a call gate, with all checks but those of the stack, SDM Vol. 3A 5.8.4.
GateTarget gate_target(CpuCore& cpu, u16 gate_selector, Descriptor& gate, bool jump) {
  const CpuState& s = cpu.s;
  const u32 gate_error = selector_error(gate_selector);
  if (gate.dpl() < s.cpl || (gate_selector & 3) > gate.dpl()) cpu.raise_general_protection(gate_error);
  if (!gate.present()) cpu.raise(Vector::SegmentNotPresent, gate_error);
  if (s.long_mode() && !find_descriptor_high(cpu, gate_selector, gate)) cpu.raise_general_protection(gate_error);

  GateTarget target{};
  target.selector = gate.gate_selector();
  if (null_selector(target.selector)) cpu.raise_general_protection();
  const u32 error = selector_error(target.selector);
  if (!find_descriptor(cpu, target.selector, target.code)) cpu.raise_general_protection(error);
  const Descriptor& code = target.code;
  if (!code.code_or_data() || !code.is_code() || code.dpl() > s.cpl) cpu.raise_general_protection(error);
  if (jump && !code.conforming() && code.dpl() != s.cpl) cpu.raise_general_protection(error);
  if (s.long_mode() && (!code.long_mode() || code.big())) cpu.raise_general_protection(error);
  if (!code.present()) cpu.raise(Vector::SegmentNotPresent, error);
  target.size = s.long_mode() ? 8 : gate.type() == kCallGate32 ? 4 : 2;
  target.rip = target.size == 2 ? gate.gate_offset16() : gate.gate_offset();
  return target;
}

void call_through_gate(CpuCore& cpu, u16 gate_selector, Descriptor& gate) {
  CpuState& s = cpu.s;
  GateTarget target = gate_target(cpu, gate_selector, gate, false);
  const unsigned size = target.size;
  const bool inner = !target.code.conforming() && target.code.dpl() < s.cpl;
  if (!inner) {
    StackCursor stack(cpu);
    stack.push(s.segment[kCs].selector, size);
    stack.push(s.rip, size);
    require_target(cpu, target.code, target.rip);
    mark_accessed(cpu, target.code);
    stack.commit();
    commit_code(cpu, target.code.as_register(target.selector), target.rip, s.cpl);
    return;
  }

  const u8 cpl = target.code.dpl();
  if (size == 8) {
    const u64 rsp = tss64_stack(cpu, 4 + 8u * cpl, 0);
    StackCursor stack(cpu, s.segment[kSs], rsp, Rights::Supervisor, true, 0);
    stack.push(s.segment[kSs].selector, 8);
    stack.push(s.gpr[kRsp], 8);
    stack.push(s.segment[kCs].selector, 8);
    stack.push(s.rip, 8);
    require_target(cpu, target.code, target.rip);
    mark_accessed(cpu, target.code);
    s.gpr[kRsp] = stack.pointer();
    s.segment[kSs] = {.selector = cpl, .attributes = static_cast<u16>(cpl << 5), .usable = false};
    commit_code(cpu, target.code.as_register(target.selector), target.rip, cpl);
    return;
  }

  const InnerStack inner_pointer = inner_stack(cpu, cpl, 0);
  const SegmentRegister ss = checked_stack_segment(cpu, inner_pointer.selector, cpl, Vector::InvalidTss, 0);
  const unsigned parameters = gate.gate_parameters();
  StackCursor stack(cpu, ss, inner_pointer.pointer, Rights::Supervisor, false, selector_error(inner_pointer.selector));
  stack.require_room(size * (4 + parameters));
  stack.push(s.segment[kSs].selector, size);
  stack.push(s.gpr[kRsp], size);
  StackCursor outer(cpu);
  for (unsigned i = parameters; i-- > 0;) stack.push(outer.peek(i * size, size), size);
  stack.push(s.segment[kCs].selector, size);
  stack.push(s.rip, size);
  require_target(cpu, target.code, target.rip);
  mark_accessed(cpu, target.code);
  s.segment[kSs] = ss;
  stack.commit();
  commit_code(cpu, target.code.as_register(target.selector), target.rip, cpl);
}

enum class Transfer : u8 { Jump, Call };

// JMP or CALL to what a protected-mode selector names.
void transfer_protected(CpuCore& cpu, const FarTarget& far, unsigned size, Transfer transfer) {
  CpuState& s = cpu.s;
  const bool jump = transfer == Transfer::Jump;
  if (null_selector(far.selector)) cpu.raise_general_protection();
  const u32 error = selector_error(far.selector);
  Descriptor descriptor;
  if (!find_descriptor(cpu, far.selector, descriptor)) cpu.raise_general_protection(error);

  if (descriptor.code_or_data()) {
    if (!descriptor.is_code()) cpu.raise_general_protection(error);
    check_direct_code(cpu, far.selector, descriptor);
    StackCursor stack(cpu);
    if (!jump) {
      stack.push(s.segment[kCs].selector, size);
      stack.push(s.rip, size);
    }
    require_target(cpu, descriptor, far.rip);
    mark_accessed(cpu, descriptor);
    stack.commit();
    commit_code(cpu, descriptor.as_register(far.selector), far.rip, s.cpl);
    return;
  }

  const u8 type = descriptor.type();
  if (type == kCallGate32 || (type == kCallGate16 && !s.long_mode())) {
    if (!jump) return call_through_gate(cpu, far.selector, descriptor);
    GateTarget target = gate_target(cpu, far.selector, descriptor, true);
    require_target(cpu, target.code, target.rip);
    mark_accessed(cpu, target.code);
    commit_code(cpu, target.code.as_register(target.selector), target.rip, s.cpl);
    return;
  }
  const TaskSwitch reason = jump ? TaskSwitch::Jump : TaskSwitch::Call;
  const bool tss = type == kTss16Available || type == kTss32Available;
  if (s.long_mode() || (!tss && type != kTaskGate)) cpu.raise_general_protection(error);
  if (descriptor.dpl() < s.cpl || (far.selector & 3) > descriptor.dpl()) cpu.raise_general_protection(error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  if (tss) {
    if (far.selector & 4) cpu.raise_general_protection(error);
    switch_task(cpu, far.selector, descriptor, reason, 0);
  } else {
    switch_through_task_gate(cpu, descriptor, reason, 0);
  }
}

void jump_to(CpuCore& cpu, const FarTarget& far, unsigned size) {
  CpuState& s = cpu.s;
  if (!plain(s)) return transfer_protected(cpu, far, size, Transfer::Jump);
  if (far.rip > (s.v86() ? 0xffff : s.segment[kCs].limit)) cpu.raise_general_protection();
  s.segment[kCs] = plain_code_segment(s, far.selector);
  s.rip = far.rip;
  cpu.update_mode();
}

void call_to(CpuCore& cpu, const FarTarget& far, unsigned size) {
  CpuState& s = cpu.s;
  if (!plain(s)) return transfer_protected(cpu, far, size, Transfer::Call);
  StackCursor stack(cpu);
  stack.push(s.segment[kCs].selector, size);
  stack.push(s.rip, size);
  if (far.rip > (s.v86() ? 0xffff : s.segment[kCs].limit)) cpu.raise_general_protection();
  stack.commit();
  s.segment[kCs] = plain_code_segment(s, far.selector);
  s.rip = far.rip;
  cpu.update_mode();
}

}  // namespace

VELLUM_CALLOUT(jump_far) { jump_to(cpu, immediate_target(insn), insn.operand_size); }
VELLUM_CALLOUT(call_far) { call_to(cpu, immediate_target(insn), insn.operand_size); }
VELLUM_CALLOUT(jump_far_indirect) { jump_to(cpu, memory_target(cpu, insn), insn.operand_size); }
VELLUM_CALLOUT(call_far_indirect) { call_to(cpu, memory_target(cpu, insn), insn.operand_size); }

VELLUM_CALLOUT(return_far) {
  CpuState& s = cpu.s;
  const unsigned size = insn.operand_size;
  const u64 parameters = static_cast<u16>(insn.immediate());
  StackCursor stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  stack.skip(parameters);
  if (plain(s)) {
    if (rip > (s.v86() ? 0xffff : s.segment[kCs].limit)) cpu.raise_general_protection();
    stack.commit();
    s.segment[kCs] = plain_code_segment(s, selector);
    s.rip = rip;
    return cpu.update_mode();
  }

  if (null_selector(selector)) cpu.raise_general_protection();
  const u32 error = selector_error(selector);
  const u8 rpl = selector & 3;
  Descriptor code;
  if (!find_descriptor(cpu, selector, code)) cpu.raise_general_protection(error);
  if (!code.code_or_data() || !code.is_code() || rpl < s.cpl) cpu.raise_general_protection(error);
  if (code.conforming() ? code.dpl() > rpl : code.dpl() != rpl) cpu.raise_general_protection(error);
  require_code_size(cpu, code, error);
  if (!code.present()) cpu.raise(Vector::SegmentNotPresent, error);
  if (rpl == s.cpl) {
    require_target(cpu, code, rip);
    mark_accessed(cpu, code);
    stack.commit();
    return commit_code(cpu, code.as_register(selector), rip, rpl);
  }

  // To an outer level: its stack lies behind the parameters, which it releases too.
  const u64 rsp = stack.pop(size) + parameters;
  const u16 stack_selector = static_cast<u16>(stack.pop(size));
  const bool target64 = s.long_mode() && code.long_mode();
  SegmentRegister ss;
  if (null_selector(stack_selector)) {
    if (!target64 || rpl == 3 || (stack_selector & 3) != rpl) cpu.raise_general_protection();
    ss = {.selector = stack_selector, .attributes = static_cast<u16>(rpl << 5), .usable = false};
  } else {
    ss = checked_stack_segment(cpu, stack_selector, rpl, Vector::GeneralProtection, 0);
  }
  require_target(cpu, code, rip);
  mark_accessed(cpu, code);
  s.segment[kSs] = ss;
  if (target64) s.gpr[kRsp] = rsp;
  else if (ss.big()) s.gpr[kRsp] = static_cast<u32>(rsp);
  else s.gpr[kRsp] = (s.gpr[kRsp] & ~u64{0xffff}) | (rsp & 0xffff);
  s.cpl = rpl;
  drop_inner_segments(s);
  commit_code(cpu, code.as_register(selector), rip, rpl);
}

}  // namespace vellum::callouts
