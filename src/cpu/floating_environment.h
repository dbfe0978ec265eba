// Guest SSE arithmetic on the host's floating-point unit: the guest's MXCSR as the host's control and status.
#pragma once

#include "cpu/state.h"

namespace vellum {

// Whether the host's unit is SSE itself, with MXCSR as its control. If it is not, the host only rounds as the guest says and
// gathers the flags that all units agree on (invalid, division by zero, overflow, precision); FTZ, DAZ, the denormal flag and
// underflow are the business of semantics/host_float.h. VELLUM_PORTABLE_FLOAT: the build's option floating_point.
#if defined(__x86_64__) && !defined(VELLUM_PORTABLE_FLOAT)
inline constexpr bool kHostHasSse = true;
#else
inline constexpr bool kHostHasSse = false;
#endif

// SDM Vol. 1 10.2.3.
enum MxcsrBit : u32 {
  kMxcsrInvalid = 1, kMxcsrDenormal = 2, kMxcsrDivideByZero = 4, kMxcsrOverflow = 8, kMxcsrUnderflow = 16,
  kMxcsrPrecision = 32, kMxcsrFlags = 0x3f, kMxcsrDenormalsAreZeros = 0x40, kMxcsrMasks = 0x1f80,
  kMxcsrFlushToZero = 0x8000,
};
inline constexpr unsigned kMxcsrMaskShift = 7, kMxcsrRoundingShift = 13;
inline constexpr u32 kMxcsrWritable = 0xffff;  // MXCSR_MASK; any other bit is #GP
inline constexpr u32 kMxcsrReset = 0x1f80;

// Between these two the host rounds and flushes as the guest's MXCSR says, traps nothing, and gathers the guest's sticky
// flags. Calls nest in no way; code of the VMM that runs in between must not use the host's SSE arithmetic.
void enter_guest_fp(CpuState& s);
void leave_guest_fp(CpuState& s);
// Brings the sticky flags gathered so far into s.mxcsr. To be called before anyone reads it.
void sync_mxcsr(CpuState& s);
// The only way to change MXCSR: keeps the host and sse_unmasked in step. `value` has no bits outside kMxcsrWritable.
void write_mxcsr(CpuState& s, u32 value);

// Runs compute(data), which has no side effects but its result and may run twice, and returns the flags that it raises
// under the guest's control bits. Takes underflow as the unmasked exception does, which needs no loss of precision
// (SDM Vol. 1 4.9.1.5), if the guest unmasks it.
u32 observe_sse_flags(CpuState& s, void (*compute)(void*), void* data);

// Puts the flags of one instruction into MXCSR and tells whether #XM is due. With an unmasked pre-computation exception
// (invalid, denormal, division by zero) the others are not even looked for, SDM Vol. 1 11.5.3.2.
bool sse_exception_due(CpuState& s, u32 flags);

}  // namespace vellum
