// SYSENTER, SYSEXIT, SYSCALL, SYSRET: SDM Vol. 2B and Vol. 3A 5.8.7, 5.8.8; for AMD models the APM Vol. 3.
#include "cpu/callouts/descriptors.h"

namespace vellum::callouts {

namespace {

enum class CodeWidth : u8 { Bits32, Bits64 };

// The fixed descriptors that these instructions load instead of reading the GDT.
SegmentRegister flat_code(u16 selector, u8 dpl, CodeWidth width) {
  const u32 attributes = 0x809b | (dpl << 5) | (width == CodeWidth::Bits64 ? 0x2000 : 0x4000);
  return {.selector = selector, .attributes = static_cast<u16>(attributes), .limit = 0xffffffff, .base = 0, .usable = true};
}
SegmentRegister flat_stack(u16 selector, u8 dpl) {
  const u32 attributes = 0xc093 | (dpl << 5);
  return {.selector = selector, .attributes = static_cast<u16>(attributes), .limit = 0xffffffff, .base = 0, .usable = true};
}

// AMD CPUs have SYSCALL and SYSRET in all of protected mode, and SYSENTER and SYSEXIT in legacy mode only; Intel's have the
// first two in 64-bit mode only.
bool syscall_exists(const CpuCore& cpu) {
  const CpuState& s = cpu.s;
  if (!(s.efer & kEferSce)) return false;
  return s.code64() || (is_amd(cpu.model) && s.protected_mode() && !s.v86());
}
void require_sysenter(CpuCore& cpu) {
  if (is_amd(cpu.model) && cpu.s.long_mode()) cpu.raise(Vector::InvalidOpcode);
}

u16 offset_selector(u64 base, unsigned offset, unsigned rpl) { return static_cast<u16>((base + offset) | rpl); }

}  // namespace

VELLUM_CALLOUT(system_enter) {
  (void)insn;
  CpuState& s = cpu.s;
  require_sysenter(cpu);
  if (!s.protected_mode() || !(s.sysenter_cs & 0xfffc)) cpu.raise_general_protection();
  const bool wide = s.long_mode();
  const u16 selector = s.sysenter_cs & 0xfffc;
  write_rflags(s, read_rflags(s) & ~u32{kVm | kIf | kRf});
  s.gpr[kRsp] = wide ? s.sysenter_esp : static_cast<u32>(s.sysenter_esp);
  s.segment[kSs] = flat_stack(offset_selector(selector, 8, 0), 0);
  commit_code(cpu, flat_code(selector, 0, wide ? CodeWidth::Bits64 : CodeWidth::Bits32),
              wide ? s.sysenter_eip : static_cast<u32>(s.sysenter_eip), 0);
}

VELLUM_CALLOUT(system_exit) {
  CpuState& s = cpu.s;
  require_sysenter(cpu);
  if (!s.protected_mode() || !(s.sysenter_cs & 0xfffc) || s.cpl != 0) cpu.raise_general_protection();
  const bool wide = insn.operand_size == 8;
  const u64 rip = wide ? s.gpr[kRdx] : static_cast<u32>(s.gpr[kRdx]);
  const u64 rsp = wide ? s.gpr[kRcx] : static_cast<u32>(s.gpr[kRcx]);
  if (wide && (!canonical(s, rip) || !canonical(s, rsp))) cpu.raise_general_protection();
  s.gpr[kRsp] = rsp;
  s.segment[kSs] = flat_stack(offset_selector(s.sysenter_cs, wide ? 40 : 24, 3), 3);
  commit_code(cpu, flat_code(offset_selector(s.sysenter_cs, wide ? 32 : 16, 3), 3, wide ? CodeWidth::Bits64 : CodeWidth::Bits32),
              rip, 3);
}

VELLUM_CALLOUT(system_call) {
  (void)insn;
  CpuState& s = cpu.s;
  if (!syscall_exists(cpu)) cpu.raise(Vector::InvalidOpcode);
  const u32 flags = read_rflags(s) & ~u32{kRf};
  const bool wide = s.long_mode();
  const u32 new_flags = flags & ~(wide ? static_cast<u32>(s.fmask) : u32{kVm | kIf});
  if (!(new_flags & kTf)) cpu.suppress_trap();
  const u64 target = s.code64() ? s.lstar : wide ? s.cstar : static_cast<u32>(s.star);
  s.gpr[kRcx] = s.rip;
  if (wide) s.gpr[11] = flags;
  write_rflags(s, new_flags);
  const u16 selector = static_cast<u16>(s.star >> 32) & 0xfffc;
  s.segment[kSs] = flat_stack(offset_selector(selector, 8, 0), 0);
  commit_code(cpu, flat_code(selector, 0, wide ? CodeWidth::Bits64 : CodeWidth::Bits32), target, 0);
}

VELLUM_CALLOUT(system_return) {
  CpuState& s = cpu.s;
  if (!syscall_exists(cpu)) cpu.raise(Vector::InvalidOpcode);
  require_privilege(cpu);
  const bool wide = insn.operand_size == 8;
  const u64 rip = wide ? s.gpr[kRcx] : static_cast<u32>(s.gpr[kRcx]);
  if (wide && !canonical(s, rip)) cpu.raise_general_protection();
  const u64 base = s.star >> 48;
  write_rflags(s, s.code64() ? static_cast<u32>(s.gpr[11]) & 0x3c7fd7 : read_rflags(s) | kIf);
  // A TF that SYSRET sets traps at once, before the first instruction of the caller, unlike one that IRET or POPF sets.
  constexpr u64 kDr6SingleStep = u64{1} << 14;
  if (s.rflags & kTf) s.pending_debug |= kDr6SingleStep;
  s.segment[kSs] = flat_stack(offset_selector(base, 8, 3), 3);
  commit_code(cpu, flat_code(offset_selector(base, wide ? 16 : 0, 3), 3, wide ? CodeWidth::Bits64 : CodeWidth::Bits32), rip, 3);
}

}  // namespace vellum::callouts
