// x87 arithmetic by the host's x87 unit, under the guest's control word.
#include "cpu/x87_number.h"

#if defined(__x86_64__)

namespace vellum::x87::native {

namespace {

constexpr u16 kHostControl = 0x037f;  // the ABI's

// Each operation is one asm statement that begins and ends with an empty register stack. It runs with the guest's very
// control word: an unmasked exception is only reported by the next waiting instruction, and FNCLEX comes before that.
//
// The host's sticky flags are left as they are when all of them are set for the guest too and everything is masked:
// clearing them costs as much as the arithmetic.
class Session {
 public:
  explicit Session(Environment environment) : m_changed(environment.control != kHostControl) {
    u16 host;
    asm volatile("fnstsw %0" : "=a"(host));
    const u16 stale = (environment.control & kExceptions) == kExceptions ? host & ~environment.status : host;
    if (stale & kExceptions) asm volatile("fnclex");
    if (m_changed) asm volatile("fldcw %0" ::"m"(environment.control));
  }
  // After an unmasked exception the operation may have left operands on the stack.
  void finish(u16 status) {
    if (status & kSummary) asm volatile("fninit");
    else if (m_changed) asm volatile("fldcw %0" ::"m"(kHostControl));
  }

 private:
  bool m_changed;
};

#define VELLUM_X87_CLOBBERS "cc", "memory", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
#define VELLUM_X87_STATUS "\n fnstsw %%ax\n testb $0x80, %%al\n jz 1f\n fnclex\n 1: "

// Text with %[a] in ST(0) and %[b] in ST(1), or %[b] as the memory operand.
#define VELLUM_X87_BINARY(text)                                                                              \
  asm volatile("fldt %[b]\n fldt %[a]\n " text VELLUM_X87_STATUS "fstpt %[r]\n fstp %%st(0)"                 \
               : [r] "+m"(result.value), "=&a"(result.status) : [a] "m"(a), [b] "m"(b) : VELLUM_X87_CLOBBERS)
#define VELLUM_X87_BINARY_POP(text)                                                                          \
  asm volatile("fldt %[b]\n fldt %[a]\n " text VELLUM_X87_STATUS "fstpt %[r]"                                \
               : [r] "+m"(result.value), "=&a"(result.status) : [a] "m"(a), [b] "m"(b) : VELLUM_X87_CLOBBERS)
#define VELLUM_X87_MEMORY(text)                                                                              \
  asm volatile("fldt %[a]\n " text " %[b]" VELLUM_X87_STATUS "fstpt %[r]"                                    \
               : [r] "+m"(result.value), "=&a"(result.status) : [a] "m"(a), [b] "m"(b) : VELLUM_X87_CLOBBERS)
#define VELLUM_X87_UNARY(text)                                                                               \
  asm volatile("fldt %[a]\n " text VELLUM_X87_STATUS "fstpt %[r]"                                            \
               : [r] "+m"(result.value), "=&a"(result.status) : [a] "m"(a) : VELLUM_X87_CLOBBERS)
#define VELLUM_X87_LOAD(text)                                                                                \
  asm volatile(text " %[a]" VELLUM_X87_STATUS "fstpt %[r]"                                                   \
               : [r] "+m"(result.value), "=&a"(result.status) : [a] "m"(value) : VELLUM_X87_CLOBBERS)
#define VELLUM_X87_CONSTANT(text)                                                                            \
  asm volatile(text VELLUM_X87_STATUS "fstpt %[r]"                                                           \
               : [r] "+m"(result.value), "=&a"(result.status) : : VELLUM_X87_CLOBBERS)

// Of a normal, positive number, rounded to nearest with 64 bits as the ABI has it. Whether that was exact, and up, its square
// tells: reading the status takes as long as the root.
Result square_root(const X87Register& a) {
  Result result{};
  asm("fldt %[a]\n fsqrt\n fstpt %[r]" : [r] "+m"(result.value) : [a] "m"(a) : VELLUM_X87_CLOBBERS);
  const unsigned shift = a.sign_exponent + kExponentBias + 63 - 2u * result.value.sign_exponent;
  const auto wanted = static_cast<unsigned __int128>(a.significand) << shift;
  const auto square = static_cast<unsigned __int128>(result.value.significand) * result.value.significand;
  result.status = static_cast<u16>((square != wanted ? kPrecision : 0) | (square > wanted ? kC1 : 0));
  return result;
}

}  // namespace

Result binary(Binary op, const X87Register& a, const X87Register& b, Environment environment) {
  Session session(environment);
  Result result{};
  switch (op) {
    case Binary::Add: VELLUM_X87_BINARY("fadd %%st(1), %%st"); break;
    case Binary::Multiply: VELLUM_X87_BINARY("fmul %%st(1), %%st"); break;
    case Binary::Subtract: VELLUM_X87_BINARY("fsub %%st(1), %%st"); break;
    case Binary::SubtractReverse: VELLUM_X87_BINARY("fsubr %%st(1), %%st"); break;
    case Binary::Divide: VELLUM_X87_BINARY("fdiv %%st(1), %%st"); break;
    case Binary::DivideReverse: VELLUM_X87_BINARY("fdivr %%st(1), %%st"); break;
    case Binary::Scale: VELLUM_X87_BINARY("fscale"); break;
    case Binary::Remainder: VELLUM_X87_BINARY("fprem"); break;
    case Binary::RemainderNearest: VELLUM_X87_BINARY("fprem1"); break;
    case Binary::Arctangent: VELLUM_X87_BINARY_POP("fpatan"); break;
    case Binary::YLog2X: VELLUM_X87_BINARY_POP("fyl2x"); break;
    case Binary::YLog2XPlusOne: VELLUM_X87_BINARY_POP("fyl2xp1"); break;
  }
  session.finish(result.status);
  return result;
}

Result binary_f32(Binary op, const X87Register& a, u32 b, Environment environment) {
  Session session(environment);
  Result result{};
  switch (op) {
    case Binary::Add: VELLUM_X87_MEMORY("fadds"); break;
    case Binary::Multiply: VELLUM_X87_MEMORY("fmuls"); break;
    case Binary::Subtract: VELLUM_X87_MEMORY("fsubs"); break;
    case Binary::SubtractReverse: VELLUM_X87_MEMORY("fsubrs"); break;
    case Binary::Divide: VELLUM_X87_MEMORY("fdivs"); break;
    default: VELLUM_X87_MEMORY("fdivrs"); break;
  }
  session.finish(result.status);
  return result;
}

Result binary_f64(Binary op, const X87Register& a, u64 b, Environment environment) {
  Session session(environment);
  Result result{};
  switch (op) {
    case Binary::Add: VELLUM_X87_MEMORY("faddl"); break;
    case Binary::Multiply: VELLUM_X87_MEMORY("fmull"); break;
    case Binary::Subtract: VELLUM_X87_MEMORY("fsubl"); break;
    case Binary::SubtractReverse: VELLUM_X87_MEMORY("fsubrl"); break;
    case Binary::Divide: VELLUM_X87_MEMORY("fdivl"); break;
    default: VELLUM_X87_MEMORY("fdivrl"); break;
  }
  session.finish(result.status);
  return result;
}

Result unary(Unary op, const X87Register& a, Environment environment) {
  const bool simple = rounds_simply(environment.control) && (environment.control & kExceptions) == kExceptions;
  if (op == Unary::SquareRoot && simple && !(a.sign_exponent & kSignBit) && is_normal({a.significand, a.sign_exponent}))
    return square_root(a);
  Session session(environment);
  Result result{};
  switch (op) {
    case Unary::SquareRoot: VELLUM_X87_UNARY("fsqrt"); break;
    case Unary::RoundToInteger: VELLUM_X87_UNARY("frndint"); break;
    case Unary::TwoToXMinusOne: VELLUM_X87_UNARY("f2xm1"); break;
    case Unary::Sine: VELLUM_X87_UNARY("fsin"); break;
    case Unary::Cosine: VELLUM_X87_UNARY("fcos"); break;
  }
  session.finish(result.status);
  return result;
}

PairResult pair(Pair op, const X87Register& a, Environment environment) {
  Session session(environment);
  PairResult result{};
// With C2 set (out of range) nothing was pushed.
#define VELLUM_X87_PAIR(text, after_first)                                                                        \
  asm volatile("fldt %[a]\n " text VELLUM_X87_STATUS "fstpt %[st0]\n " after_first " fstpt %[st1]\n 2:"            \
               : [st0] "+m"(result.st0), [st1] "+m"(result.st1), "=&a"(result.status) : [a] "m"(a)                \
               : VELLUM_X87_CLOBBERS)
  switch (op) {
    case Pair::Tangent: VELLUM_X87_PAIR("fptan", "testb $4, %%ah\n jnz 2f\n"); break;
    case Pair::SineCosine: VELLUM_X87_PAIR("fsincos", "testb $4, %%ah\n jnz 2f\n"); break;
    case Pair::Extract: VELLUM_X87_PAIR("fxtract", ""); break;
  }
  session.finish(result.status);
  return result;
}

Result constant(Constant which, Environment environment) {
  Session session(environment);
  Result result{};
  switch (which) {
    case Constant::One: VELLUM_X87_CONSTANT("fld1"); break;
    case Constant::Log2Ten: VELLUM_X87_CONSTANT("fldl2t"); break;
    case Constant::Log2E: VELLUM_X87_CONSTANT("fldl2e"); break;
    case Constant::Pi: VELLUM_X87_CONSTANT("fldpi"); break;
    case Constant::LogTen2: VELLUM_X87_CONSTANT("fldlg2"); break;
    case Constant::LogE2: VELLUM_X87_CONSTANT("fldln2"); break;
    case Constant::Zero: VELLUM_X87_CONSTANT("fldz"); break;
  }
  session.finish(result.status);
  return result;
}

u16 compare(Comparison kind, const X87Register& a, const X87Register& b, Environment environment) {
  Session session(environment);
  u16 status;
#define VELLUM_X87_COMPARE(text)                                                       \
  asm volatile("fldt %[b]\n fldt %[a]\n " text VELLUM_X87_STATUS                       \
               : "=&a"(status) : [a] "m"(a), [b] "m"(b) : VELLUM_X87_CLOBBERS)
  if (kind == Comparison::Ordered) VELLUM_X87_COMPARE("fcompp");
  else VELLUM_X87_COMPARE("fucompp");
  session.finish(status);
  return status;
}

#define VELLUM_X87_COMPARE_MEMORY(text)                                                \
  asm volatile("fldt %[a]\n " text " %[b]" VELLUM_X87_STATUS                           \
               : "=&a"(status) : [a] "m"(a), [b] "m"(b) : VELLUM_X87_CLOBBERS)

u16 compare_f32(const X87Register& a, u32 b, Environment environment) {
  Session session(environment);
  u16 status;
  VELLUM_X87_COMPARE_MEMORY("fcomps");
  session.finish(status);
  return status;
}

u16 compare_f64(const X87Register& a, u64 b, Environment environment) {
  Session session(environment);
  u16 status;
  VELLUM_X87_COMPARE_MEMORY("fcompl");
  session.finish(status);
  return status;
}

Result from_f32(u32 value, Environment environment) {
  Session session(environment);
  Result result{};
  VELLUM_X87_LOAD("flds");
  session.finish(result.status);
  return result;
}

Result from_f64(u64 value, Environment environment) {
  Session session(environment);
  Result result{};
  VELLUM_X87_LOAD("fldl");
  session.finish(result.status);
  return result;
}

Result from_bcd(const X87Register& value, Environment environment) {
  Session session(environment);
  Result result{};
  VELLUM_X87_LOAD("fbld");
  session.finish(result.status);
  return result;
}

X87Register from_integer(i64 value) {
  X87Register result{};
  asm volatile("fildll %[a]\n fstpt %[r]" : [r] "+m"(result) : [a] "m"(value) : VELLUM_X87_CLOBBERS);
  return result;
}

#define VELLUM_X87_STORE(text)                                                         \
  asm volatile("fldt %[a]\n " text " %[m]" VELLUM_X87_STATUS                           \
               : [m] "+m"(memory), "=&a"(result.status) : [a] "m"(value) : VELLUM_X87_CLOBBERS)

StoreResult to_f32(const X87Register& value, Environment environment) {
  Session session(environment);
  StoreResult result{};
  u32 memory = 0;
  VELLUM_X87_STORE("fstps");
  session.finish(result.status);
  result.low = memory;
  return result;
}

StoreResult to_f64(const X87Register& value, Environment environment) {
  Session session(environment);
  StoreResult result{};
  u64 memory = 0;
  VELLUM_X87_STORE("fstpl");
  session.finish(result.status);
  result.low = memory;
  return result;
}

StoreResult to_integer(const X87Register& value, unsigned size, Rounding rounding, Environment environment) {
  if (rounding == Rounding::Truncate) environment.control |= 0x0c00;
  Session session(environment);
  StoreResult result{};
  switch (size) {
    case 2: {
      u16 memory = 0;
      VELLUM_X87_STORE("fistps");
      result.low = memory;
      break;
    }
    case 4: {
      u32 memory = 0;
      VELLUM_X87_STORE("fistpl");
      result.low = memory;
      break;
    }
    default: {
      u64 memory = 0;
      VELLUM_X87_STORE("fistpll");
      result.low = memory;
      break;
    }
  }
  session.finish(result.status);
  return result;
}

StoreResult to_bcd(const X87Register& value, Environment environment) {
  Session session(environment);
  StoreResult result{};
  X87Register memory{};
  VELLUM_X87_STORE("fbstp");
  session.finish(result.status);
  result.low = memory.significand;
  result.high = memory.sign_exponent;
  return result;
}

}  // namespace vellum::x87::native

#endif
