// SYSENTER, SYSEXIT, SYSCALL, SYSRET as Intel 64 defines them, SDM Vol. 2B and Vol. 3A 5.8.7, 5.8.8.
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

u16 offset_selector(u64 base, unsigned offset, unsigned rpl) { return static_cast<u16>((base + offset) | rpl); }

}  // namespace

VELLUM_CALLOUT(system_enter) {
  (void)insn;
  CpuState& s = cpu.s;
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
  if (!s.code64() || !(s.efer & kEferSce)) cpu.raise(Vector::InvalidOpcode);
  const u32 flags = read_rflags(s) & ~u32{kRf};
  const u32 new_flags = flags & ~static_cast<u32>(s.fmask);
  if (!(new_flags & kTf)) cpu.suppress_trap();
  s.gpr[kRcx] = s.rip;
  s.gpr[11] = flags;
  write_rflags(s, new_flags);
  const u16 selector = static_cast<u16>(s.star >> 32) & 0xfffc;
  s.segment[kSs] = flat_stack(offset_selector(selector, 8, 0), 0);
  commit_code(cpu, flat_code(selector, 0, CodeWidth::Bits64), s.lstar, 0);
}

VELLUM_CALLOUT(system_return) {
  CpuState& s = cpu.s;
  if (!s.code64() || !(s.efer & kEferSce)) cpu.raise(Vector::InvalidOpcode);
  require_privilege(cpu);
  const bool wide = insn.operand_size == 8;
  const u64 rip = wide ? s.gpr[kRcx] : static_cast<u32>(s.gpr[kRcx]);
  if (wide && !canonical(s, rip)) cpu.raise_general_protection();
  const u64 base = s.star >> 48;
  write_rflags(s, static_cast<u32>(s.gpr[11]) & 0x3c7fd7);
  s.segment[kSs] = flat_stack(offset_selector(base, 8, 3), 3);
  commit_code(cpu, flat_code(offset_selector(base, wide ? 16 : 0, 3), 3, wide ? CodeWidth::Bits64 : CodeWidth::Bits32), rip, 3);
}

}  // namespace vellum::callouts
