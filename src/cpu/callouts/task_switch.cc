// Hardware task switches, SDM Vol. 3A chapter 7.
#include "cpu/callouts/descriptors.h"

namespace vellum::callouts {

namespace {

// Offsets in the TSS, SDM Vol. 3A figures 7-2 and 7-10.
namespace spec {
constexpr unsigned kCr3 = 0x1c, kEip = 0x20, kSegments = 0x48;  // CR3, EIP, EFLAGS, eight registers; then the segments
constexpr unsigned kIp16 = 0x0e;                                // IP, FLAGS, eight registers, four segments, LDT
constexpr u32 kMinLimit32 = 0x67, kMinLimit16 = 0x2b;
}  // namespace spec

// What a TSS holds of a task.
struct TaskState {
  u32 cr3 = 0, eip = 0, eflags = 0;
  u32 gpr[8] = {};
  u16 segment[6] = {};  // ES CS SS DS FS GS
  u16 ldt = 0;
  bool trap = false;
};

void save_task(CpuCore& cpu, const SegmentRegister& tss, u32 eflags) {
  const CpuState& s = cpu.s;
  const u64 base = tss.base;
  if (tss.type() & 8) {
    u32 words[18];  // EIP, EFLAGS, eight GPRs, six segments
    words[0] = static_cast<u32>(s.rip);
    words[1] = eflags;
    for (unsigned i = 0; i < 8; ++i) words[2 + i] = static_cast<u32>(s.gpr[i]);
    cpu.write_bytes(base + spec::kEip, words, 40, Rights::Supervisor);
    for (unsigned i = 0; i < 6; ++i)
      cpu.write_linear<u16>(base + spec::kSegments + 4 * i, s.segment[i].selector, Rights::Supervisor);
  } else {
    u16 words[14];  // IP, FLAGS, eight GPRs, four segments
    words[0] = static_cast<u16>(s.rip);
    words[1] = static_cast<u16>(eflags);
    for (unsigned i = 0; i < 8; ++i) words[2 + i] = static_cast<u16>(s.gpr[i]);
    for (unsigned i = 0; i < 4; ++i) words[10 + i] = s.segment[i].selector;
    cpu.write_bytes(base + spec::kIp16, words, sizeof(words), Rights::Supervisor);
  }
}

TaskState load_task(CpuCore& cpu, u64 base, bool tss32) {
  TaskState task;
  if (tss32) {
    u32 words[18];  // CR3 … GS in two reads
    cpu.read_bytes(base + spec::kCr3, words, 44, Rights::Supervisor);
    task.cr3 = words[0];
    task.eip = words[1];
    task.eflags = words[2];
    for (unsigned i = 0; i < 8; ++i) task.gpr[i] = words[3 + i];
    cpu.read_bytes(base + spec::kSegments, words, 32, Rights::Supervisor);
    for (unsigned i = 0; i < 6; ++i) task.segment[i] = static_cast<u16>(words[i]);
    task.ldt = static_cast<u16>(words[6]);
    task.trap = words[7] & 1;
  } else {
    u16 words[15];
    cpu.read_bytes(base + spec::kIp16, words, sizeof(words), Rights::Supervisor);
    task.eip = words[0];
    task.eflags = words[1];
    for (unsigned i = 0; i < 8; ++i) task.gpr[i] = 0xffff0000 | words[2 + i];
    for (unsigned i = 0; i < 4; ++i) task.segment[i] = words[10 + i];
    task.ldt = words[14];
  }
  return task;
}

// A data segment register of the new task: as MOV would load it, but with #TS for #GP.
SegmentRegister task_data_segment(CpuCore& cpu, u16 selector, u8 cpl, u32 ext) {
  if (null_selector(selector)) return {.selector = selector};
  const u32 error = selector_error(selector) | ext;
  Descriptor descriptor;
  if (!find_descriptor(cpu, selector, descriptor) || !descriptor.code_or_data() ||
      (descriptor.is_code() && !descriptor.readable_code()))
    cpu.raise(Vector::InvalidTss, error);
  const bool any_level = descriptor.is_code() && descriptor.conforming();
  if (!any_level && ((selector & 3) > descriptor.dpl() || cpl > descriptor.dpl())) cpu.raise(Vector::InvalidTss, error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  mark_accessed(cpu, descriptor);
  return descriptor.as_register(selector);
}

void set_busy(CpuCore& cpu, u16 selector, bool busy) {
  const u64 linear = static_cast<u32>(cpu.s.gdtr.base + (selector & 0xfff8) + 5);
  const u8 old = cpu.read_linear<u8>(linear, Rights::Supervisor);
  cpu.write_linear<u8>(linear, static_cast<u8>(busy ? old | 2 : old & ~2), Rights::Supervisor);
}

// Segments of the new task. Here the new task is current already: its faults are delivered in it, SDM Vol. 3A 7.3.
void load_task_segments(CpuCore& cpu, const TaskState& task, u32 ext) {
  CpuState& s = cpu.s;
  if (task.ldt & 4) cpu.raise(Vector::InvalidTss, selector_error(task.ldt) | ext);
  if (!null_selector(task.ldt)) {
    Descriptor ldt;
    if (!find_descriptor(cpu, task.ldt, ldt) || ldt.code_or_data() || ldt.type() != kLdt || !ldt.present())
      cpu.raise(Vector::InvalidTss, selector_error(task.ldt) | ext);
    s.segment[kLdtr] = ldt.as_register(task.ldt);
  }
  if (s.v86()) {
    s.cpl = 3;
    for (unsigned i = 0; i < 6; ++i) s.segment[i] = v86_segment(task.segment[i]);
    return;
  }

  const u16 selector = task.segment[kCs];
  const u32 error = selector_error(selector) | ext;
  const u8 cpl = selector & 3;
  Descriptor code;
  if (null_selector(selector) || !find_descriptor(cpu, selector, code) || !code.code_or_data() || !code.is_code())
    cpu.raise(Vector::InvalidTss, error);
  if (code.conforming() ? code.dpl() > cpl : code.dpl() != cpl) cpu.raise(Vector::InvalidTss, error);
  if (!code.present()) cpu.raise(Vector::SegmentNotPresent, error);
  const SegmentRegister ss = checked_stack_segment(cpu, task.segment[kSs], cpl, Vector::InvalidTss, ext);
  s.cpl = cpl;
  mark_accessed(cpu, code);
  s.segment[kCs] = code.as_register(selector);
  s.segment[kSs] = ss;
  for (const unsigned index : {kEs, kDs, kFs, kGs})
    s.segment[index] = task_data_segment(cpu, task.segment[index], cpl, ext);
  cpu.update_mode();
  if (task.eip > s.segment[kCs].limit) cpu.raise_general_protection(ext);
}

}  // namespace

void switch_task(CpuCore& cpu, u16 selector, Descriptor& descriptor, TaskSwitch reason, u32 ext) {
  CpuState& s = cpu.s;
  const bool tss32 = descriptor.type() & 8;
  const u32 error = selector_error(selector) | ext;
  if (descriptor.limit() < (tss32 ? spec::kMinLimit32 : spec::kMinLimit16)) cpu.raise(Vector::InvalidTss, error);

  // Everything of both TSSs that can fault on paging is touched before anything changes.
  const SegmentRegister old_tss = s.segment[kTr];
  const u16 old_selector = old_tss.selector;
  const u64 new_base = descriptor.base();
  const u32 old_size = old_tss.type() & 8 ? spec::kMinLimit32 + 1 : spec::kMinLimit16 + 1;
  if (!old_tss.usable || old_tss.limit < old_size - 1) cpu.raise(Vector::InvalidTss, selector_error(old_selector) | ext);
  cpu.probe_write(old_tss.base, old_size, Rights::Supervisor);
  const TaskState task = load_task(cpu, new_base, tss32);
  if (reason == TaskSwitch::Call || reason == TaskSwitch::Gate) cpu.probe_write(new_base, 2, Rights::Supervisor);
  if (reason != TaskSwitch::Return) cpu.probe_write(descriptor.linear, 8, Rights::Supervisor);

  std::array<u64, 4> pdptes = s.paging.pdpte;
  if (tss32 && s.paging.mode == PagingMode::Pae && !read_pdptes(cpu, task.cr3, pdptes)) cpu.raise_general_protection(ext);

  u32 old_flags = read_rflags(s);
  if (reason == TaskSwitch::Jump || reason == TaskSwitch::Return) set_busy(cpu, old_selector, false);
  if (reason == TaskSwitch::Return) old_flags &= ~u32{kNt};
  save_task(cpu, old_tss, old_flags);
  if (reason == TaskSwitch::Call || reason == TaskSwitch::Gate)
    cpu.write_linear<u16>(new_base, old_selector, Rights::Supervisor);
  if (reason != TaskSwitch::Return) set_busy(cpu, selector, true);

  // From here on the new task is current, SDM Vol. 3A 7.3 step 11.
  descriptor.low |= u64{2} << 40;
  s.segment[kTr] = descriptor.as_register(selector);
  s.cr0 |= kCr0Ts;
  if (tss32 && (s.cr0 & kCr0Pg) && task.cr3 != s.cr3) {
    s.cr3 = task.cr3;
    s.paging.pdpte = pdptes;
    cpu.update_mode();
    cpu.flush_tlb_non_global();
  }
  s.rip = task.eip;
  u32 flags = task.eflags;
  if (!tss32) flags &= 0xffff;
  if (reason == TaskSwitch::Call || reason == TaskSwitch::Gate) flags |= kNt;
  constexpr u32 kLoadable = kArithmeticFlags | kTf | kIf | kDf | kIopl | kNt | kRf | kVm | kAc | kVif | kVip | kId;
  write_rflags(s, flags & kLoadable & ~(s.dr[7] & 0xff ? 0 : u32{kRf}));
  for (unsigned i = 0; i < 8; ++i) s.gpr[i] = task.gpr[i];
  // Until they are loaded the segment registers hold the new selectors and are unusable.
  for (unsigned i = 0; i < 6; ++i) {
    s.segment[i].selector = task.segment[i];
    if (i != kCs) s.segment[i].usable = false;
  }
  s.segment[kLdtr] = {.selector = task.ldt};
  s.dr[7] &= ~u64{0x155};  // the local breakpoint enables, SDM Vol. 3B 18.2.4
  s.cpl = s.v86() ? 3 : task.segment[kCs] & 3;
  s.insn = nullptr;  // faults from here on are the new task's, at its RIP
  cpu.suppress_trap();
  load_task_segments(cpu, task, ext);
  if (task.trap) s.pending_debug |= u64{1} << 15;  // DR6.BT
  cpu.update_mode();
}

void switch_through_task_gate(CpuCore& cpu, const Descriptor& gate, TaskSwitch reason, u32 ext) {
  const u16 selector = gate.gate_selector();
  const u32 error = selector_error(selector) | ext;
  Descriptor descriptor;
  if ((selector & 4) || null_selector(selector) || !find_descriptor(cpu, selector, descriptor))
    cpu.raise_general_protection(error);
  if (descriptor.code_or_data() || (descriptor.type() != kTss16Available && descriptor.type() != kTss32Available))
    cpu.raise_general_protection(error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  switch_task(cpu, selector, descriptor, reason, ext);
}

}  // namespace vellum::callouts
