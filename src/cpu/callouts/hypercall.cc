// VMCALL and VMMCALL as hypercalls of the KVM interface, Linux Documentation/virt/kvm/x86/hypercalls.rst.
#include "cpu/callouts/operands.h"
#include "state/log.h"

namespace vellum::callouts {

namespace {

namespace spec {
constexpr u64 kPollInterrupts = 1, kSendIpi = 10;
constexpr i64 kNoSuchCall = -1000, kNotPermitted = -1;  // KVM_ENOSYS, KVM_EPERM
constexpr u64 kDelivery = 0x700, kNmi = 0x400;          // of the ICR, SDM Vol. 3A 11.6.1
}  // namespace spec

// Arguments: the bitmap of destinations, low and high half; the APIC id of its bit 0; the ICR. Returns how many were
// reached.
i64 send_interrupts(CpuCore& cpu, u64 low, u64 high, u64 first_id, u64 command) {
  const u64 delivery = command & spec::kDelivery;
  if (delivery != 0 && delivery != spec::kNmi) return spec::kNoSuchCall;
  const unsigned half = cpu.s.code64() ? 64 : 32;
  i64 count = 0;
  for (unsigned bit = 0; bit < 2 * half; ++bit) {
    const u64 id = static_cast<u32>(first_id) + u64{bit};
    const bool wanted = ((bit < half ? low : high) >> (bit % half)) & 1;
    if (!wanted || id >= 0xffffffff) continue;
    if (cpu.environment.send_interrupt(static_cast<u32>(id), static_cast<u32>(command))) ++count;
  }
  return count;
}

}  // namespace

VELLUM_CALLOUT(hypercall) {
  (void)insn;
  CpuState& s = cpu.s;
  const unsigned size = s.code64() ? 8 : 4;
  const auto argument = [&](unsigned index) { return truncate(s.gpr[index], size); };
  i64 result = 0;
  if (s.cpl != 0) {
    result = spec::kNotPermitted;
  } else {
    switch (argument(kRax)) {
      case spec::kPollInterrupts: break;  // the exit is all that it asks for
      case spec::kSendIpi:
        result = send_interrupts(cpu, argument(kRbx), argument(kRcx), argument(kRdx), argument(kRsi));
        break;
      default:
        log(LogItem::Unsupported, "hypercall {:#x}", argument(kRax));
        result = spec::kNoSuchCall;
    }
  }
  write_gpr(s, kRax, size, static_cast<u64>(result));
}

}  // namespace vellum::callouts
