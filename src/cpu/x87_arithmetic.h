// Arithmetic of the x87 FPU on values in registers: exact results and flags under a control word. SDM Vol. 1 chapter 8.
#pragma once

#include "cpu/state.h"

namespace vellum::x87 {

// Bits of the status word, SDM Vol. 1 8.1.3; the low six are exceptions, in the order of the control word's masks.
inline constexpr u16 kInvalid = 1, kDenormal = 2, kZeroDivide = 4, kOverflow = 8, kUnderflow = 16, kPrecision = 32,
                     kExceptions = 63, kStackFault = 64, kSummary = 128, kC0 = 0x100, kC1 = 0x200, kC2 = 0x400,
                     kC3 = 0x4000, kConditions = kC0 | kC1 | kC2 | kC3, kBusy = 0x8000;
// Of the control word.
inline constexpr u16 kControlWritable = 0x1f7f, kControlAlwaysSet = 0x40;

// The guest's control and status words before the operation.
struct Environment {
  u16 control;
  u16 status;
};

// `status` has the exceptions that the operation raised (it may also show others that Environment::status has already,
// as long as all exceptions are masked), and the condition codes. With an unmasked exception of the class that is found
// before computing (invalid, denormal, zero-divide) `value` means nothing; with an unmasked overflow or underflow it is
// the result with its exponent wrapped, SDM Vol. 1 8.5.4 and 8.5.5.
struct Result {
  X87Register value;
  u16 status;
};
struct PairResult {
  X87Register st1, st0;
  u16 status;
};

// a is ST(0), or the destination; b is the source, or ST(1).
enum class Binary : u8 {
  Add, Multiply, Subtract, SubtractReverse, Divide, DivideReverse,  // a - b, b - a; a / b, b / a
  Scale, Remainder, RemainderNearest,                               // FSCALE, FPREM, FPREM1
  Arctangent, YLog2X, YLog2XPlusOne,                                // FPATAN, FYL2X, FYL2XP1
};
enum class Unary : u8 { SquareRoot, RoundToInteger, TwoToXMinusOne, Sine, Cosine };
enum class Pair : u8 { Tangent, SineCosine, Extract };
enum class Constant : u8 { One, Log2Ten, Log2E, Pi, LogTen2, LogE2, Zero };  // in the order of D9 E8 …
enum class Comparison : u8 { Ordered, Unordered };                           // the second: no #IA for quiet NaNs
enum class Rounding : u8 { AsControlled, Truncate };

struct StoreResult {
  u64 low;    // the value, or its low eight bytes
  u16 high;   // bytes 8 and 9 of a BCD
  u16 status;
};

// The operations, by the host's x87 unit (x87_native.cc) and without one (x87_portable.cc).
namespace native {
#include "cpu/x87_operations.inc"
}
namespace portable {
#include "cpu/x87_operations.inc"
}
// VELLUM_PORTABLE_FLOAT: an x86-64 host does without its unit, as the others do; the build's option floating_point.
#if defined(__x86_64__) && !defined(VELLUM_PORTABLE_FLOAT)
using namespace native;
#else
using namespace portable;
#endif

inline constexpr X87Register kIndefinite{0xc000'0000'0000'0000, 0xffff, {}};

}  // namespace vellum::x87
