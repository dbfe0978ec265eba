// Guest SSE arithmetic on the host's floating-point unit: the guest's MXCSR as the host's control and status.
#include "cpu/floating_environment.h"

namespace vellum {

namespace {

#if defined(__x86_64__)

u64 read_host_control() { return __builtin_ia32_stmxcsr(); }
void write_host_control(u64 control) { __builtin_ia32_ldmxcsr(static_cast<u32>(control)); }
u32 read_host_flags() {
  return __builtin_ia32_stmxcsr() & (kHostHasSse ? kMxcsrFlags : kMxcsrFlags & ~(kMxcsrDenormal | kMxcsrUnderflow));
}
// Everything masked, flags clear.
void load_guest_control(u32 mxcsr) {
  constexpr u32 kCleared = kMxcsrFlags | (kHostHasSse ? 0u : kMxcsrFlushToZero | kMxcsrDenormalsAreZeros);
  __builtin_ia32_ldmxcsr((mxcsr & ~kCleared) | kMxcsrMasks);
}

#elif defined(__aarch64__)

// Arm ARM D19.2 FPCR, FPSR. FZ stays clear: it flushes operands and results together, before rounding, and only then
// does the host note denormal operands.
constexpr unsigned kFpcrRoundingShift = 22;

u64 read_host_control() {
  u64 fpcr, fpsr;
  asm volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(fpcr), "=r"(fpsr));
  return fpcr | fpsr << 32;
}
void write_host_control(u64 control) {
  asm volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(control & 0xffffffff), "r"(control >> 32) : "memory");
}
u32 read_host_flags() {
  u64 fpsr;
  asm volatile("mrs %0, fpsr" : "=r"(fpsr) : : "memory");
  return (fpsr & 1 ? kMxcsrInvalid : 0u) | (fpsr & 2 ? kMxcsrDivideByZero : 0u) | (fpsr & 4 ? kMxcsrOverflow : 0u) |
         (fpsr & 16 ? kMxcsrPrecision : 0u);
}
void load_guest_control(u32 mxcsr) {
  constexpr u64 kRounding[] = {0, 2, 1, 3};  // nearest, down, up, toward zero
  write_host_control(kRounding[(mxcsr >> kMxcsrRoundingShift) & 3] << kFpcrRoundingShift);
}

#else
#error "no floating-point environment for this host"
#endif

}  // namespace

void enter_guest_fp(CpuState& s) {
  s.host_fp_control = read_host_control();
  s.guest_fp_active = true;
  write_mxcsr(s, s.mxcsr);
}

void leave_guest_fp(CpuState& s) {
  if (!s.guest_fp_active) return;
  sync_mxcsr(s);
  s.guest_fp_active = false;
  write_host_control(s.host_fp_control);
}

void sync_mxcsr(CpuState& s) {
  if (s.guest_fp_active) s.mxcsr |= read_host_flags();
}

void write_mxcsr(CpuState& s, u32 value) {
  s.mxcsr = value;
  s.sse_unmasked = (value & kMxcsrMasks) != kMxcsrMasks;
  if (s.guest_fp_active) load_guest_control(value);
}

u32 observe_sse_flags(CpuState& s, void (*compute)(void*), void* data) {
  const u64 control = read_host_control();
  u32 flags;
  if (!kHostHasSse || (s.mxcsr & (kMxcsrUnderflow << kMxcsrMaskShift))) {
    load_guest_control(s.mxcsr);
    compute(data);
    flags = read_host_flags();
  } else {
    // Flushing notes every tiny result, exact or not; without it precision is noted as the unmasked response does.
    load_guest_control(s.mxcsr | kMxcsrFlushToZero);
    compute(data);
    const u32 tiny = read_host_flags() & kMxcsrUnderflow;
    load_guest_control(s.mxcsr & ~kMxcsrFlushToZero);
    compute(data);
    flags = (read_host_flags() & ~kMxcsrUnderflow) | tiny;
  }
  write_host_control(control);
  return flags;
}

bool sse_exception_due(CpuState& s, u32 flags) {
  constexpr u32 kPreComputation = kMxcsrInvalid | kMxcsrDenormal | kMxcsrDivideByZero;
  sync_mxcsr(s);
  const u32 unmasked = flags & ~(s.mxcsr >> kMxcsrMaskShift);
  if (unmasked & kPreComputation) flags &= kPreComputation;
  s.mxcsr |= flags;
  return unmasked != 0;
}

}  // namespace vellum
