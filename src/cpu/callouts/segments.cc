// Segment registers, descriptor tables and the instructions that inspect descriptors, SDM Vol. 3A chapters 3 and 5.
#include <utility>

#include "cpu/callouts/descriptors.h"

namespace vellum::callouts {

// --- Descriptors ------------------------------------------------------------------------------------------------------

bool find_descriptor(CpuCore& cpu, u16 selector, Descriptor& descriptor) {
  const CpuState& s = cpu.s;
  u64 base = s.gdtr.base;
  u32 limit = s.gdtr.limit;
  if (selector & 4) {
    const SegmentRegister& ldt = s.segment[kLdtr];
    if (!ldt.usable) return false;
    base = ldt.base;
    limit = ldt.limit;
  }
  if ((selector | 7u) > limit) return false;
  descriptor.linear = base + (selector & 0xfff8);
  if (!s.long_mode()) descriptor.linear = static_cast<u32>(descriptor.linear);
  descriptor.low = cpu.read_linear<u64>(descriptor.linear, Rights::Supervisor);
  descriptor.high = 0;
  return true;
}

bool find_descriptor_high(CpuCore& cpu, u16 selector, Descriptor& descriptor) {
  const CpuState& s = cpu.s;
  const u32 limit = selector & 4 ? s.segment[kLdtr].limit : s.gdtr.limit;
  if ((selector | 7u) + 8 > limit) return false;
  descriptor.high = cpu.read_linear<u64>(descriptor.linear + 8, Rights::Supervisor);
  return ((descriptor.high >> 40) & 0x1f) == 0;  // the type field of the upper half must be zero, 7.2.3
}

void mark_accessed(CpuCore& cpu, Descriptor& descriptor) {
  constexpr u64 kAccessed = u64{1} << 40;
  if (descriptor.low & kAccessed) return;
  descriptor.low |= kAccessed;
  cpu.write_linear<u8>(descriptor.linear + 5, static_cast<u8>(descriptor.low >> 40), Rights::Supervisor);
}

SegmentRegister real_mode_segment(const SegmentRegister& old, u16 selector) {
  // Limit and attributes stay what they were (SDM Vol. 3A 9.9.2): "unreal mode" depends on it.
  SegmentRegister value = old;
  value.selector = selector;
  value.base = static_cast<u64>(selector) << 4;
  if (!value.usable) {
    value.attributes = 0x93;
    value.limit = 0xffff;
    value.usable = true;
  }
  return value;
}

SegmentRegister v86_segment(u16 selector) {
  return {.selector = selector, .attributes = 0xf3, .limit = 0xffff, .base = static_cast<u64>(selector) << 4, .usable = true};
}

namespace {

SegmentRegister null_segment(u16 selector, u8 cpl) {
  return {.selector = selector, .attributes = static_cast<u16>(cpl << 5), .limit = 0, .base = 0, .usable = false};
}

}  // namespace

SegmentRegister checked_stack_segment(CpuCore& cpu, u16 selector, u8 cpl, Vector vector, u32 ext) {
  const u32 error = selector_error(selector) | ext;
  if (null_selector(selector)) cpu.raise(vector, ext);
  Descriptor descriptor;
  if (!find_descriptor(cpu, selector, descriptor)) cpu.raise(vector, error);
  if ((selector & 3) != cpl || !descriptor.code_or_data() || !descriptor.is_data() || !descriptor.writable_data() ||
      descriptor.dpl() != cpl)
    cpu.raise(vector, error);
  if (!descriptor.present()) cpu.raise(Vector::StackFault, error);
  mark_accessed(cpu, descriptor);
  return descriptor.as_register(selector);
}

SegmentRegister checked_segment(CpuCore& cpu, unsigned index, u16 selector) {
  const CpuState& s = cpu.s;
  if (!s.protected_mode()) return real_mode_segment(s.segment[index], selector);
  if (s.v86()) return v86_segment(selector);
  if (index == kSs) {
    if (null_selector(selector)) {
      // SDM Vol. 2B "MOV": a null SS is possible in 64-bit mode below CPL 3 if its RPL is the CPL.
      if (!s.code64() || s.cpl == 3 || (selector & 3) != s.cpl) cpu.raise_general_protection();
      return null_segment(selector, s.cpl);
    }
    return checked_stack_segment(cpu, selector, s.cpl, Vector::GeneralProtection, 0);
  }
  if (null_selector(selector)) return null_segment(selector, 0);
  const u32 error = selector_error(selector);
  Descriptor descriptor;
  if (!find_descriptor(cpu, selector, descriptor)) cpu.raise_general_protection(error);
  if (!descriptor.code_or_data() || (descriptor.is_code() && !descriptor.readable_code()))
    cpu.raise_general_protection(error);
  const bool any_level = descriptor.is_code() && descriptor.conforming();
  if (!any_level && ((selector & 3) > descriptor.dpl() || s.cpl > descriptor.dpl())) cpu.raise_general_protection(error);
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, error);
  mark_accessed(cpu, descriptor);
  return descriptor.as_register(selector);
}

void commit_segment(CpuCore& cpu, unsigned index, const SegmentRegister& value) {
  CpuState& s = cpu.s;
  s.segment[index] = value;
  // In 64-bit mode nothing that is derived depends on the data segments.
  if (!s.code64()) cpu.update_mode();
}

void drop_inner_segments(CpuState& s) {
  for (const unsigned index : {kEs, kDs, kFs, kGs}) {
    SegmentRegister& segment = s.segment[index];
    const bool any_level = segment.is_code() && (segment.attributes & 4);
    if (!segment.usable || any_level || segment.dpl() >= s.cpl) continue;
    // The base stays in the hidden part, as on silicon: 64-bit code goes on using that of FS and GS.
    const u64 base = segment.base;
    segment = null_segment(0, 0);
    segment.base = base;
  }
}

// --- Loads and stores -------------------------------------------------------------------------------------------------

namespace {

// After MOV SS and POP SS debug traps and interrupts wait for one instruction, SDM Vol. 3A 6.8.3.
void begin_stack_shadow(CpuCore& cpu) {
  cpu.s.stack_shadow = true;
  cpu.update_step_attention();
}

}  // namespace

VELLUM_CALLOUT(move_to_segment) {
  const unsigned index = insn.operand[0] & 7;
  if (index == kCs || index > kGs) cpu.raise(Vector::InvalidOpcode);
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 1, 2));
  commit_segment(cpu, index, checked_segment(cpu, index, selector));
  if (index == kSs) begin_stack_shadow(cpu);
}

VELLUM_CALLOUT(move_from_segment) {
  const unsigned index = insn.operand[1] & 7;
  if (index > kGs) cpu.raise(Vector::InvalidOpcode);
  const u16 selector = cpu.s.segment[index].selector;
  write_rm(cpu, insn, 0, insn.memory ? 2 : insn.operand_size, selector);
}

template <unsigned Segment>
VELLUM_CALLOUT(push_segment) {
  StackCursor stack(cpu);
  // With a 32-bit operand size recent CPUs write two of the four bytes, SDM Vol. 2B "PUSH".
  stack.push(cpu.s.segment[Segment].selector, insn.operand_size, insn.operand_size == 4 ? 2 : insn.operand_size);
  stack.commit();
}

template <unsigned Segment>
VELLUM_CALLOUT(pop_segment) {
  StackCursor stack(cpu);
  const u16 selector = static_cast<u16>(stack.peek(0, 2));
  const SegmentRegister value = checked_segment(cpu, Segment, selector);
  stack.skip(insn.operand_size);
  stack.commit();
  commit_segment(cpu, Segment, value);
  if (Segment == kSs) begin_stack_shadow(cpu);
}

template <unsigned Segment>
VELLUM_CALLOUT(load_far_pointer) {
  const unsigned size = insn.operand_size;
  const u64 linear = cpu.operand_linear(insn, size + 2, AccessType::Read);
  u8 bytes[10] = {};
  cpu.read_bytes(linear, bytes, size + 2);
  u64 offset = 0;
  u16 selector = 0;
  std::memcpy(&offset, bytes, size);
  std::memcpy(&selector, bytes + size, 2);
  const SegmentRegister value = checked_segment(cpu, Segment, selector);
  write_register(cpu.s, insn.operand[0], size, offset);
  commit_segment(cpu, Segment, value);
}

#define VELLUM_INSTANTIATE(name, segment) template void name<segment>(CpuCore&, const BoundInsn&);
VELLUM_INSTANTIATE(push_segment, kEs)
VELLUM_INSTANTIATE(push_segment, kCs)
VELLUM_INSTANTIATE(push_segment, kSs)
VELLUM_INSTANTIATE(push_segment, kDs)
VELLUM_INSTANTIATE(push_segment, kFs)
VELLUM_INSTANTIATE(push_segment, kGs)
VELLUM_INSTANTIATE(pop_segment, kEs)
VELLUM_INSTANTIATE(pop_segment, kSs)
VELLUM_INSTANTIATE(pop_segment, kDs)
VELLUM_INSTANTIATE(pop_segment, kFs)
VELLUM_INSTANTIATE(pop_segment, kGs)
VELLUM_INSTANTIATE(load_far_pointer, kEs)
VELLUM_INSTANTIATE(load_far_pointer, kSs)
VELLUM_INSTANTIATE(load_far_pointer, kDs)
VELLUM_INSTANTIATE(load_far_pointer, kFs)
VELLUM_INSTANTIATE(load_far_pointer, kGs)

// --- LDTR, TR, GDTR, IDTR ---------------------------------------------------------------------------------------------

namespace {

// CR4.UMIP: SGDT, SIDT, SLDT, STR and SMSW are #GP(0) in user mode.
void require_umip(CpuCore& cpu) {
  if ((cpu.s.cr4 & kCr4Umip) && cpu.s.cpl == 3) cpu.raise_general_protection();
}

// A system descriptor out of the GDT, with its second half in IA-32e mode.
Descriptor system_descriptor(CpuCore& cpu, u16 selector) {
  const u32 error = selector_error(selector);
  Descriptor descriptor;
  if ((selector & 4) || !find_descriptor(cpu, selector, descriptor) || descriptor.code_or_data())
    cpu.raise_general_protection(error);
  return descriptor;
}

void read_system_base(CpuCore& cpu, u16 selector, Descriptor& descriptor) {
  if (!cpu.s.long_mode()) return;
  if (!find_descriptor_high(cpu, selector, descriptor) || !canonical_in_register(cpu.model, descriptor.base()))
    cpu.raise_general_protection(selector_error(selector));
}

}  // namespace

VELLUM_CALLOUT(load_ldt) {
  require_privilege(cpu);
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 0, 2));
  if (null_selector(selector)) {
    cpu.s.segment[kLdtr] = null_segment(selector, 0);
    return;
  }
  Descriptor descriptor = system_descriptor(cpu, selector);
  if (descriptor.type() != kLdt) cpu.raise_general_protection(selector_error(selector));
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, selector_error(selector));
  read_system_base(cpu, selector, descriptor);
  cpu.s.segment[kLdtr] = descriptor.as_register(selector);
}

VELLUM_CALLOUT(load_task_register) {
  require_privilege(cpu);
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 0, 2));
  if (null_selector(selector)) cpu.raise_general_protection();
  Descriptor descriptor = system_descriptor(cpu, selector);
  const bool tss16 = descriptor.type() == kTss16Available && !cpu.s.long_mode();
  if (!tss16 && descriptor.type() != kTss32Available) cpu.raise_general_protection(selector_error(selector));
  if (!descriptor.present()) cpu.raise(Vector::SegmentNotPresent, selector_error(selector));
  read_system_base(cpu, selector, descriptor);
  descriptor.low |= u64{2} << 40;  // busy
  cpu.write_linear<u8>(descriptor.linear + 5, static_cast<u8>(descriptor.low >> 40), Rights::Supervisor);
  cpu.s.segment[kTr] = descriptor.as_register(selector);
}

VELLUM_CALLOUT(store_ldt) {
  require_umip(cpu);
  write_rm(cpu, insn, 0, insn.memory ? 2 : insn.operand_size, cpu.s.segment[kLdtr].selector);
}

VELLUM_CALLOUT(store_task_register) {
  require_umip(cpu);
  write_rm(cpu, insn, 0, insn.memory ? 2 : insn.operand_size, cpu.s.segment[kTr].selector);
}

namespace {

void load_table(CpuCore& cpu, const BoundInsn& insn, DescriptorTableRegister& table) {
  require_privilege(cpu);
  const unsigned base_size = cpu.s.code64() ? 8 : 4;
  const u64 linear = cpu.operand_linear(insn, 2 + base_size, AccessType::Read);
  u8 bytes[10] = {};
  cpu.read_bytes(linear, bytes, 2 + base_size);
  u64 base = 0;
  u16 limit = 0;
  std::memcpy(&limit, bytes, 2);
  std::memcpy(&base, bytes + 2, base_size);
  if (base_size == 8) {
    if (!canonical_in_register(cpu.model, base)) cpu.raise_general_protection();
  } else if (insn.operand_size == 2) {
    base &= 0xffffff;  // a 16-bit operand size loads a base of 24 bits
  }
  table = {.base = base, .limit = limit};
}

void store_table(CpuCore& cpu, const BoundInsn& insn, const DescriptorTableRegister& table) {
  require_umip(cpu);
  const unsigned base_size = cpu.s.code64() ? 8 : 4;
  u8 bytes[10];
  std::memcpy(bytes, &table.limit, 2);
  std::memcpy(bytes + 2, &table.base, 8);
  cpu.write_bytes(cpu.operand_linear(insn, 2 + base_size, AccessType::Write), bytes, 2 + base_size);
}

}  // namespace

VELLUM_CALLOUT(load_gdt) { load_table(cpu, insn, cpu.s.gdtr); }
VELLUM_CALLOUT(load_idt) { load_table(cpu, insn, cpu.s.idtr); }
VELLUM_CALLOUT(store_gdt) { store_table(cpu, insn, cpu.s.gdtr); }
VELLUM_CALLOUT(store_idt) { store_table(cpu, insn, cpu.s.idtr); }

// --- LAR, LSL, VERR, VERW, ARPL ---------------------------------------------------------------------------------------

namespace {

void set_zero_flag(CpuState& s, bool value) {
  const u32 flags = read_rflags(s);
  write_rflags(s, value ? flags | kZf : flags & ~u32{kZf});
}

// Whether code at CPL may see the descriptor through this selector, SDM Vol. 2A "LAR".
bool visible(const CpuState& s, u16 selector, const Descriptor& descriptor) {
  if (descriptor.is_code() && descriptor.code_or_data() && descriptor.conforming()) return true;
  return s.cpl <= descriptor.dpl() && (selector & 3) <= descriptor.dpl();
}

}  // namespace

VELLUM_CALLOUT(load_access_rights) {
  CpuState& s = cpu.s;
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 1, 2));
  Descriptor descriptor;
  bool ok = !null_selector(selector) && find_descriptor(cpu, selector, descriptor) && visible(s, selector, descriptor);
  if (ok && !descriptor.code_or_data()) {
    switch (descriptor.type()) {
      case kTss16Available: case kTss16Busy: case kCallGate16: case kTaskGate: ok = !s.long_mode(); break;
      case kLdt: case kTss32Available: case kTss32Busy: case kCallGate32: break;
      default: ok = false;
    }
    if (ok && s.long_mode()) ok = find_descriptor_high(cpu, selector, descriptor);
  }
  if (ok) write_register(s, insn.operand[0], insn.operand_size, (descriptor.low >> 32) & 0x00ffff00);
  set_zero_flag(s, ok);
}

VELLUM_CALLOUT(load_segment_limit) {
  CpuState& s = cpu.s;
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 1, 2));
  Descriptor descriptor;
  bool ok = !null_selector(selector) && find_descriptor(cpu, selector, descriptor) && visible(s, selector, descriptor);
  if (ok && !descriptor.code_or_data()) {
    switch (descriptor.type()) {
      case kTss16Available: case kTss16Busy: ok = !s.long_mode(); break;
      case kLdt: case kTss32Available: case kTss32Busy: break;
      default: ok = false;
    }
    if (ok && s.long_mode()) ok = find_descriptor_high(cpu, selector, descriptor);
  }
  if (ok) write_register(s, insn.operand[0], insn.operand_size, descriptor.limit());
  set_zero_flag(s, ok);
}

VELLUM_CALLOUT(verify_read) {
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 0, 2));
  Descriptor descriptor;
  const bool ok = !null_selector(selector) && find_descriptor(cpu, selector, descriptor) && descriptor.code_or_data() &&
                  visible(cpu.s, selector, descriptor) && (descriptor.is_data() || descriptor.readable_code());
  set_zero_flag(cpu.s, ok);
}

VELLUM_CALLOUT(verify_write) {
  const u16 selector = static_cast<u16>(read_rm(cpu, insn, 0, 2));
  Descriptor descriptor;
  const bool ok = !null_selector(selector) && find_descriptor(cpu, selector, descriptor) && descriptor.code_or_data() &&
                  visible(cpu.s, selector, descriptor) && descriptor.is_data() && descriptor.writable_data();
  set_zero_flag(cpu.s, ok);
}

VELLUM_CALLOUT(adjust_rpl) {
  const u16 source = static_cast<u16>(read_register(cpu.s, insn.operand[1], 2));
  bool raised = false;
  if (insn.memory) {
    // Written only when it changes, SDM Vol. 2A "ARPL": a selector that needs no raising may be in read-only memory.
    const u16 selector = cpu.read_linear<u16>(cpu.operand_linear(insn, 2, AccessType::Read));
    raised = (selector & 3) < (source & 3);
    if (raised)
      cpu.write_linear<u16>(cpu.operand_linear(insn, 2, AccessType::Write), static_cast<u16>((selector & ~3) | (source & 3)));
  } else {
    const u16 selector = static_cast<u16>(read_register(cpu.s, insn.operand[0], 2));
    raised = (selector & 3) < (source & 3);
    if (raised) write_register(cpu.s, insn.operand[0], 2, static_cast<u16>((selector & ~3) | (source & 3)));
  }
  set_zero_flag(cpu.s, raised);
}

// --- FS and GS bases --------------------------------------------------------------------------------------------------

VELLUM_CALLOUT(swap_gs) {
  (void)insn;
  require_privilege(cpu);
  std::swap(cpu.s.segment[kGs].base, cpu.s.kernel_gs_base);
}

template <unsigned Segment>
VELLUM_CALLOUT(read_segment_base) {
  if (!(cpu.s.cr4 & kCr4Fsgsbase)) cpu.raise(Vector::InvalidOpcode);
  write_register(cpu.s, insn.operand[0], insn.operand_size == 8 ? 8 : 4, cpu.s.segment[Segment].base);
}

template <unsigned Segment>
VELLUM_CALLOUT(write_segment_base) {
  if (!(cpu.s.cr4 & kCr4Fsgsbase)) cpu.raise(Vector::InvalidOpcode);
  const u64 base = read_register(cpu.s, insn.operand[0], insn.operand_size == 8 ? 8 : 4);
  if (!canonical(cpu.s, base)) cpu.raise_general_protection();
  cpu.s.segment[Segment].base = base;
}

VELLUM_INSTANTIATE(read_segment_base, kFs)
VELLUM_INSTANTIATE(read_segment_base, kGs)
VELLUM_INSTANTIATE(write_segment_base, kFs)
VELLUM_INSTANTIATE(write_segment_base, kGs)

}  // namespace vellum::callouts
