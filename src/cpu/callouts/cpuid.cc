// CPUID: what the model says, and the bits that depend on the CPU's state. SDM Vol. 2A "CPUID".
#include "cpu/callouts/operands.h"

namespace vellum {

CpuidResult CpuCore::cpuid(u32 leaf, u32 subleaf) {
  CpuidResult result = model.cpuid(leaf, subleaf);
  // A leaf above the limit shows the highest one; its changing bits must come out the same.
  if (leaf < 0x40000000 && leaf > model.max_leaf) leaf = model.max_leaf;
  else if (leaf >= 0x80000000 && leaf > model.max_extended_leaf) leaf = model.max_leaf;
  switch (leaf) {
    case 1: {
      result.ebx |= index << 24;
      if (s.cr4 & kCr4Osxsave) result.ecx |= 1u << 27;
      u64 apic_base = 0;
      if (!environment.read_apic_msr(0x1b, apic_base) || !(apic_base & 0x800)) result.edx &= ~(1u << 9);
      break;
    }
    case 7:
      if (subleaf == 0 && (s.cr4 & kCr4Pke)) result.ecx |= 1u << 4;  // OSPKE
      break;
    case 0xb:
      result.edx = index;
      break;
    case 0xd:
      if (!model.has(Feature::Xsave)) break;
      if (subleaf == 0) result.ebx = xsave_area_size(s.xcr0);
      if (subleaf == 1 && model.has(Feature::Xsavec)) result.ebx = xsavec_area_size(s.xcr0 | s.xss);
      break;
    case 0x80000001:
      if (!s.code64() && !callouts::is_amd(model)) result.edx &= ~(1u << 11);  // Intel CPUs show SYSCALL in 64-bit mode only
      break;
    default:
      break;
  }
  return result;
}

namespace callouts {

VELLUM_CALLOUT(identify) {
  const CpuidResult result = cpu.cpuid(static_cast<u32>(cpu.s.gpr[kRax]), static_cast<u32>(cpu.s.gpr[kRcx]));
  cpu.s.gpr[kRax] = result.eax;
  cpu.s.gpr[kRbx] = result.ebx;
  cpu.s.gpr[kRcx] = result.ecx;
  cpu.s.gpr[kRdx] = result.edx;
}

}  // namespace callouts

}  // namespace vellum
