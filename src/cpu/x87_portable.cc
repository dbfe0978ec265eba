// x87 arithmetic for hosts without an x87 unit: by integers, transcendental functions by MPFR. SDM Vol. 1 chapter 8.
#include <utility>

#include "cpu/exact_number.h"
#include "cpu/x87_arithmetic.h"
#include "cpu/x87_transcendental.h"

namespace vellum::x87::portable {

namespace {

using exact::Number;
using exact::RoundingMode;

constexpr u64 kIntegerBit = u64{1} << 63, kQuietBit = u64{1} << 62;
constexpr u16 kSign = 0x8000, kMaxExponent = 0x7fff;
constexpr i32 kBias = 16383, kMin = -16382, kMax = 16383, kWrap = 24576;

enum class Kind : u8 { Zero, Finite, Infinity, QuietNan, SignallingNan, Unsupported };

struct Operand {
  Kind kind;
  bool negative;
  bool denormal;
  Number number;  // of a finite one
  u64 significand;

  bool is_nan() const { return kind == Kind::QuietNan || kind == Kind::SignallingNan; }
  bool is_special() const { return kind >= Kind::QuietNan; }  // decides the result by itself
};

// SDM Vol. 1 tables 8-3 and 4-3. A pseudo-denormal has the value that its integer bit gives it.
Operand decode(const X87Register& v) {
  const u16 exponent = v.sign_exponent & kMaxExponent;
  Operand o{Kind::Finite, (v.sign_exponent & kSign) != 0, false, {}, v.significand};
  if (exponent == kMaxExponent) {
    if (!(v.significand & kIntegerBit)) o.kind = Kind::Unsupported;
    else if (v.significand << 1 == 0) o.kind = Kind::Infinity;
    else o.kind = v.significand & kQuietBit ? Kind::QuietNan : Kind::SignallingNan;
  } else if (exponent == 0) {
    o.denormal = v.significand != 0;
    if (o.denormal) o.number = exact::normalized(o.negative, kMin, u128{v.significand} << 64);
    else o.kind = Kind::Zero;
  } else if (!(v.significand & kIntegerBit)) {
    o.kind = Kind::Unsupported;
  } else {
    o.number = {o.negative, exponent - kBias, u128{v.significand} << 64};
  }
  return o;
}

// A float or double as it stands in memory.
template <class U, int kFraction, int kMemoryBias>
Operand decode_memory(U bits) {
  constexpr int kTop = 8 * sizeof(U) - 1, kAlign = 63 - kFraction;
  constexpr U kAllOnes = (U{1} << (kTop - kFraction)) - 1;
  const U exponent = (bits >> kFraction) & kAllOnes;
  const u64 fraction = u64{bits & ((U{1} << kFraction) - 1)} << kAlign;
  Operand o{Kind::Finite, (bits >> kTop) != 0, false, {}, fraction | kIntegerBit};
  if (exponent == kAllOnes) {
    o.kind = fraction == 0 ? Kind::Infinity : fraction & kQuietBit ? Kind::QuietNan : Kind::SignallingNan;
  } else if (exponent == 0) {
    o.denormal = fraction != 0;
    if (o.denormal) o.number = exact::normalized(o.negative, 1 - kMemoryBias, u128{fraction} << 64);
    else o.kind = Kind::Zero;
  } else {
    o.number = {o.negative, static_cast<i32>(exponent) - kMemoryBias, u128{fraction | kIntegerBit} << 64};
  }
  return o;
}
Operand decode_f32(u32 bits) { return decode_memory<u32, 23, 127>(bits); }
Operand decode_f64(u64 bits) { return decode_memory<u64, 52, 1023>(bits); }

X87Register encoded(bool negative, u16 exponent, u64 significand) {
  return {significand, static_cast<u16>(exponent | (negative ? kSign : 0)), {}};
}
X87Register zero(bool negative) { return encoded(negative, 0, 0); }
X87Register infinity(bool negative) { return encoded(negative, kMaxExponent, kIntegerBit); }
X87Register quiet(const Operand& nan) { return encoded(nan.negative, kMaxExponent, nan.significand | kQuietBit); }
X87Register one(bool negative) { return encoded(negative, kBias, kIntegerBit); }

RoundingMode rounding(Environment e) { return static_cast<RoundingMode>((e.control >> 10) & 3); }
bool unmasked(Environment e, u16 flags) { return flags & ~e.control & kExceptions; }

// SDM Vol. 1 8.1.5.2; only the four basic operations and the square root obey PC. Its reserved encoding is 64 bits.
int controlled_precision(Environment e) {
  switch ((e.control >> 8) & 3) {
    case 0: return 24;
    case 2: return 53;
    default: return 64;
  }
}

Result rounded(const Number& n, Environment e, u16 flags, int precision = 64) {
  // Denormals have fewer bits under a lower precision, too.
  const exact::Format format{precision, kMin, kMax, kWrap};
  const exact::Delivered d = exact::deliver(n, format, rounding(e), e.control);
  flags |= static_cast<u16>(d.flags);
  // FSCALE leaves even the wrapped range: then the response is that of a masked exception, whatever RC says.
  if (d.exponent > kMax) return {infinity(n.negative), static_cast<u16>(flags | kPrecision | kC1)};
  if (d.exponent < kMin) return {zero(n.negative), static_cast<u16>(flags | kPrecision)};
  if (d.up) flags |= kC1;
  if (d.infinite) return {infinity(n.negative), flags};
  const u64 significand = d.significand << (64 - precision);
  if (!(significand & kIntegerBit)) return {encoded(n.negative, 0, significand), flags};
  return {encoded(n.negative, static_cast<u16>(d.exponent + kBias), significand), flags};
}

Result invalid() { return {kIndefinite, kInvalid}; }

// A NaN among the operands, SDM Vol. 1 table 4-7, or an unsupported format.
Result special(const Operand& a, const Operand& b) {
  if (a.kind == Kind::Unsupported || b.kind == Kind::Unsupported) return invalid();
  const u16 flags = a.kind == Kind::SignallingNan || b.kind == Kind::SignallingNan ? kInvalid : 0;
  if (!b.is_nan()) return {quiet(a), flags};
  if (!a.is_nan()) return {quiet(b), flags};
  if (a.kind != b.kind) return {quiet(a.kind == Kind::QuietNan ? a : b), flags};
  if (a.significand != b.significand) return {quiet(a.significand > b.significand ? a : b), flags};
  return {quiet(a.negative ? b : a), flags};
}
Result special(const Operand& a) { return special(a, a); }

u16 denormal_flag(const Operand& a, const Operand& b) { return a.denormal || b.denormal ? kDenormal : 0; }

Result sum(const Operand& a, const Operand& b, Environment e) {
  const u16 flags = denormal_flag(a, b);
  if (a.kind == Kind::Infinity || b.kind == Kind::Infinity) {
    if (a.kind == b.kind && a.negative != b.negative) return invalid();
    return {infinity(a.kind == Kind::Infinity ? a.negative : b.negative), flags};
  }
  const bool down = rounding(e) == RoundingMode::Down;
  if (a.kind == Kind::Zero && b.kind == Kind::Zero) return {zero(a.negative == b.negative ? a.negative : down), flags};
  if (a.kind == Kind::Zero) return rounded(b.number, e, flags, controlled_precision(e));
  if (b.kind == Kind::Zero) return rounded(a.number, e, flags, controlled_precision(e));
  const exact::Sum s = exact::add(a.number, b.number);
  if (s.zero) return {zero(down), flags};
  return rounded(s.number, e, flags, controlled_precision(e));
}

Result product(const Operand& a, const Operand& b, Environment e) {
  const u16 flags = denormal_flag(a, b);
  const bool negative = a.negative != b.negative;
  if (a.kind == Kind::Infinity || b.kind == Kind::Infinity) {
    if (a.kind == Kind::Zero || b.kind == Kind::Zero) return invalid();
    return {infinity(negative), flags};
  }
  if (a.kind == Kind::Zero || b.kind == Kind::Zero) return {zero(negative), flags};
  return rounded(exact::multiply(a.number, b.number), e, flags, controlled_precision(e));
}

Result quotient(const Operand& a, const Operand& b, Environment e) {
  const u16 flags = denormal_flag(a, b);
  const bool negative = a.negative != b.negative;
  if (a.kind == b.kind && a.kind != Kind::Finite) return invalid();
  if (a.kind == Kind::Infinity) return {infinity(negative), flags};
  if (b.kind == Kind::Infinity || a.kind == Kind::Zero) return {zero(negative), flags};
  if (b.kind == Kind::Zero) return {infinity(negative), kZeroDivide};  // even of a denormal number
  return rounded(exact::divide(a.number, b.number), e, flags, controlled_precision(e));
}

// An operand toward zero as an integer, at most 2^17 in magnitude.
i32 truncated(const Number& n) {
  if (n.exponent < 0) return 0;
  const i32 magnitude = n.exponent > 16 ? 1 << 17 : static_cast<i32>(n.significand >> (127 - n.exponent));
  return n.negative ? -magnitude : magnitude;
}

// FSCALE: a * 2^trunc(b). SDM Vol. 2A table 3-42.
Result scaled(const Operand& a, const Operand& b, Environment e) {
  const u16 flags = denormal_flag(a, b);
  if (b.kind == Kind::Infinity) {
    if (b.negative ? a.kind == Kind::Infinity : a.kind == Kind::Zero) return invalid();
    return {b.negative ? zero(a.negative) : infinity(a.negative), flags};
  }
  if (a.kind == Kind::Zero) return {zero(a.negative), flags};
  if (a.kind == Kind::Infinity) return {infinity(a.negative), flags};
  Number n = a.number;
  if (b.kind == Kind::Finite) n.exponent += truncated(b.number);
  return rounded(n, e, flags);
}

// FPREM (quotient truncated) and FPREM1 (to nearest). SDM Vol. 2A "FPREM": C2 says that the reduction is incomplete,
// C0, C3, C1 are the quotient's bits 2, 1, 0.
Result remainder(const Operand& a, const Operand& b, bool nearest, Environment e) {
  const u16 flags = denormal_flag(a, b);
  if (a.kind == Kind::Infinity || b.kind == Kind::Zero) return invalid();
  if (a.kind == Kind::Zero) return {zero(a.negative), flags};
  if (b.kind == Kind::Infinity) return rounded(a.number, e, flags);
  const u64 divisor = static_cast<u64>(b.number.significand >> 64);
  u64 rest = static_cast<u64>(a.number.significand >> 64);
  i32 distance = a.number.exponent - b.number.exponent;
  if (distance < -1 || (distance < 0 && !nearest)) return rounded(a.number, e, flags);

  u64 whole = 0;
  const auto step = [&](i32 count) {  // long division: count more bits of the quotient
    for (; count; --count) {
      const bool carry = rest >> 63;
      rest <<= 1;
      whole <<= 1;
      if (carry || rest >= divisor) {
        rest -= divisor;
        whole |= 1;
      }
    }
  };
  if (distance >= 0) {
    whole = rest >= divisor;
    if (whole) rest -= divisor;
  }
  i32 unit = b.number.exponent;  // the rest counts 2^(unit - 63)
  u16 conditions = 0;
  bool negative = a.negative;
  if (distance >= 64) {
    const i32 reduced = 32 + (distance & 31);
    step(reduced);
    unit += distance - reduced;
    conditions = kC2;
  } else {
    if (distance > 0) step(distance);
    if (nearest) {
      // Compare twice the rest with the divisor; for distance -1 the dividend itself is the rest, at half the unit.
      const u128 twice = distance < 0 ? u128{rest} : u128{rest} << 1;
      if (twice > divisor || (twice == divisor && (whole & 1))) {
        ++whole;
        if (distance < 0) {
          // |a - b| with a at half b's unit: 2 divisor - rest, in half units.
          const u128 difference = (u128{divisor} << 1) - rest;
          negative = !negative;
          return rounded(exact::normalized(negative, unit, difference << 63),
                         e, static_cast<u16>(flags | kC1));
        }
        rest = divisor - rest;
        negative = !negative;
      } else if (distance < 0) {
        return rounded(a.number, e, flags);
      }
    }
    conditions = (whole & 4 ? kC0 : 0) | (whole & 2 ? kC3 : 0) | (whole & 1 ? kC1 : 0);
  }
  if (rest == 0) return {zero(a.negative), static_cast<u16>(flags | conditions)};
  return rounded(exact::normalized(negative, unit, u128{rest} << 64), e, static_cast<u16>(flags | conditions));
}

// FPATAN: the angle of ST(1) (y) and ST(0) (x). SDM Vol. 2A table 3-30.
Result arctangent(const Operand& x, const Operand& y, Environment e) {
  const u16 flags = denormal_flag(x, y);
  unsigned quarters;
  if (y.kind == Kind::Infinity) quarters = x.kind != Kind::Infinity ? 2 : x.negative ? 3 : 1;
  else if (x.kind == Kind::Infinity || y.kind == Kind::Zero) quarters = x.negative ? 4 : 0;
  else if (x.kind == Kind::Zero) quarters = 2;
  else return rounded(exact::arctangent(y.number, x.number), e, flags);
  if (quarters == 0) return {zero(y.negative), flags};
  return rounded(exact::pi_multiple(y.negative, quarters), e, flags);
}

// FYL2X: ST(1) (y) * log2 ST(0) (x). SDM Vol. 2A table 3-58.
Result y_log2_x(const Operand& x, const Operand& y, Environment e) {
  const u16 flags = denormal_flag(x, y);
  if (x.kind == Kind::Zero) {
    if (y.kind == Kind::Zero) return invalid();
    if (y.kind == Kind::Finite) return {infinity(!y.negative), kZeroDivide};
    return {infinity(!y.negative), flags};
  }
  if (x.negative) return invalid();
  if (x.kind == Kind::Infinity) return y.kind == Kind::Zero ? invalid() : Result{infinity(y.negative), flags};
  const bool is_one = x.number.exponent == 0 && x.number.significand << 1 == 0;
  const bool below_one = x.number.exponent < 0;
  if (y.kind == Kind::Infinity) return is_one ? invalid() : Result{infinity(y.negative != below_one), flags};
  if (is_one || y.kind == Kind::Zero) return {zero(y.negative != below_one), flags};
  // Silicon notes a loss of precision even for powers of two.
  return rounded(exact::y_log2_x(y.number, x.number), e, flags | kPrecision);
}

// FYL2XP1: ST(1) (y) * log2(ST(0) (x) + 1). SDM Vol. 2A table 3-59.
Result y_log2_x_plus_one(const X87Register& raw_x, const Operand& y, Environment e) {
  const Operand x = decode(raw_x);
  const u16 flags = denormal_flag(x, y);
  if (x.kind == Kind::Infinity)
    return x.negative || y.kind == Kind::Zero ? invalid() : Result{infinity(y.negative), flags};
  if (y.kind == Kind::Infinity)
    return x.kind == Kind::Zero ? invalid() : Result{infinity(y.negative != x.negative), flags};
  if (x.kind == Kind::Zero || y.kind == Kind::Zero) return {zero(y.negative != x.negative), flags};
  // Below -1 the result is undefined; the CPUs at hand deliver x.
  if (x.negative && x.number.exponent >= 0) return {raw_x, static_cast<u16>(flags | kPrecision)};
  return rounded(exact::y_log2_x_plus_one(y.number, x.number), e, flags);
}

Result arithmetic(Binary op, const X87Register& raw_a, const Operand& b, Environment e) {
  const Operand a = decode(raw_a);
  if (a.is_special() || b.is_special()) return special(a, b);
  const auto negated = [](Operand o) {
    o.negative = !o.negative;
    o.number.negative = o.negative;
    return o;
  };
  switch (op) {
    case Binary::Add: return sum(a, b, e);
    case Binary::Multiply: return product(a, b, e);
    case Binary::Subtract: return sum(a, negated(b), e);
    case Binary::SubtractReverse: return sum(b, negated(a), e);
    case Binary::Divide: return quotient(a, b, e);
    case Binary::DivideReverse: return quotient(b, a, e);
    case Binary::Scale: return scaled(a, b, e);
    case Binary::Remainder: return remainder(a, b, false, e);
    case Binary::RemainderNearest: return remainder(a, b, true, e);
    case Binary::Arctangent: return arctangent(a, b, e);
    case Binary::YLog2X: return y_log2_x(a, b, e);
    case Binary::YLog2XPlusOne: return y_log2_x_plus_one(raw_a, b, e);
  }
  __builtin_unreachable();
}

// An unmasked exception that comes before computing ends the operation: nothing after it is noted.
Result finished(Result result, Environment e) {
  const u16 before = result.status & (kInvalid | kDenormal | kZeroDivide);
  if (unmasked(e, before)) result.status = before;
  if (unmasked(e, result.status)) result.status |= kSummary | kBusy;
  return result;
}

Result square_root(const Operand& a, Environment e) {
  const u16 flags = a.denormal ? kDenormal : 0;
  if (a.kind == Kind::Zero) return {zero(a.negative), flags};
  if (a.negative) return invalid();
  if (a.kind == Kind::Infinity) return {infinity(false), flags};
  return rounded(exact::square_root(a.number), e, flags, controlled_precision(e));
}

// A finite number as an integer, rounded; too large ones are not looked at.
struct Integer {
  u64 magnitude;
  bool fits;  // into 64 bits
  bool inexact, up;
};
Integer to_whole(const Number& n, RoundingMode mode) {
  if (n.exponent > 63) return {0, false, false, false};
  const exact::Kept kept = exact::keep(n, n.exponent < -1 ? -1 : n.exponent + 1, mode);
  return {static_cast<u64>(kept.units), kept.units >> 64 == 0, kept.inexact, kept.up};
}

Result round_to_integer(const Operand& a, Environment e) {
  const u16 flags = a.denormal ? kDenormal : 0;
  if (a.kind == Kind::Zero) return {zero(a.negative), flags};
  if (a.kind == Kind::Infinity) return {infinity(a.negative), flags};
  if (a.number.exponent >= 63) return rounded(a.number, e, flags);
  const Integer whole = to_whole(a.number, rounding(e));
  const u16 status = flags | (whole.inexact ? kPrecision : 0) | (whole.up ? kC1 : 0);
  if (whole.magnitude == 0) return {zero(a.negative), status};
  return {rounded(exact::from_integer(a.negative, whole.magnitude), e, 0).value, status};
}

Result trigonometric(exact::Function function, const Operand& a, Environment e) {
  const u16 flags = a.denormal ? kDenormal : 0;
  if (a.kind == Kind::Infinity) return invalid();
  if (a.kind == Kind::Zero) return {function == exact::Function::Cosine ? one(false) : zero(a.negative), flags};
  return rounded(exact::evaluate(function, a.number), e, flags);
}

// F2XM1. Outside of [-1, 1] the result is undefined; the CPUs at hand deliver the argument, and note a loss of precision
// for the borders, too.
Result two_to_x_minus_one(const Operand& a, const X87Register& raw, Environment e) {
  const u16 flags = a.denormal ? kDenormal : 0;
  if (a.kind == Kind::Zero) return {zero(a.negative), flags};
  if (a.kind == Kind::Infinity) return {a.negative ? one(true) : infinity(false), flags};
  if (a.number.exponent >= 0) {
    const bool minus_one = a.negative && a.number.exponent == 0 && a.number.significand << 1 == 0;
    return {minus_one ? encoded(true, kBias - 1, kIntegerBit) : raw, kPrecision};
  }
  return rounded(exact::evaluate(exact::Function::TwoToXMinusOne, a.number), e, flags);
}

bool out_of_range(const Operand& a) { return a.kind == Kind::Finite && a.number.exponent >= 63; }

// A comparison of what are no NaNs: C3 equal, C0 less.
u16 order(const Operand& a, const Operand& b) {
  if (a.kind == Kind::Zero && b.kind == Kind::Zero) return kC3;
  const auto rank = [](const Operand& o) {
    const int size = o.kind == Kind::Zero ? 0 : o.kind == Kind::Finite ? 1 : 2;
    return o.negative ? -size : size;
  };
  if (rank(a) != rank(b)) return rank(a) < rank(b) ? kC0 : 0;
  if (a.kind != Kind::Finite) return kC3;
  if (a.number.exponent != b.number.exponent) return (a.number.exponent < b.number.exponent) != a.negative ? kC0 : 0;
  if (a.number.significand != b.number.significand)
    return (a.number.significand < b.number.significand) != a.negative ? kC0 : 0;
  return kC3;
}

u16 compared(Comparison kind, const Operand& a, const Operand& b, Environment e) {
  Result result{};
  if (a.is_special() || b.is_special()) {
    const bool all_quiet = a.kind <= Kind::QuietNan && b.kind <= Kind::QuietNan;
    result.status = kC0 | kC2 | kC3 | (kind == Comparison::Unordered && all_quiet ? 0 : kInvalid);
  } else {
    result.status = order(a, b) | denormal_flag(a, b);
  }
  if (unmasked(e, result.status)) result.status |= kSummary | kBusy;
  return result.status;
}

Result loaded(const Operand& o, Environment e) {
  Result result{};
  switch (o.kind) {
    case Kind::Zero: result = {zero(o.negative), 0}; break;
    case Kind::Finite: result = rounded(o.number, e, o.denormal ? kDenormal : 0); break;
    case Kind::Infinity: result = {infinity(o.negative), 0}; break;
    default: result = special(o); break;
  }
  return finished(result, e);
}

// FST to a float or double.
template <class U, int kFraction>
StoreResult to_memory(const X87Register& value, const exact::Format& format, Environment e) {
  constexpr int kTop = 8 * sizeof(U) - 1;
  constexpr U kInfinityBits = ((U{1} << (kTop - kFraction)) - 1) << kFraction;
  const Operand o = decode(value);
  U bits = o.negative ? U{1} << kTop : 0;
  u16 status = 0;
  switch (o.kind) {
    case Kind::Zero: break;
    case Kind::Infinity: bits |= kInfinityBits; break;
    case Kind::SignallingNan: status = kInvalid; [[fallthrough]];
    case Kind::QuietNan:
      bits |= kInfinityBits | static_cast<U>((o.significand & ~kIntegerBit) >> (63 - kFraction)) | U{1} << (kFraction - 1);
      break;
    case Kind::Unsupported:
      bits = U{3} << (kTop - 1) | kInfinityBits | U{1} << (kFraction - 1);
      status = kInvalid;
      break;
    case Kind::Finite: {
      const exact::Delivered d = exact::deliver(o.number, format, rounding(e), e.control);
      status = static_cast<u16>(d.flags) | (d.up ? kC1 : 0);
      // Without the store nothing is rounded.
      if (unmasked(e, status & (kOverflow | kUnderflow))) status &= static_cast<u16>(~(kPrecision | kC1));
      if (d.infinite) {
        bits |= kInfinityBits;
      } else {
        // The integer bit of a normal number counts as the lowest bit of the exponent.
        const u64 biased = static_cast<u64>(d.exponent - format.min_exponent);
        bits |= static_cast<U>((biased << kFraction) + d.significand) & ~(U{1} << kTop);
      }
      break;
    }
  }
  if (unmasked(e, status)) status |= kSummary | kBusy;
  return {bits, 0, status};
}

StoreResult stored(u64 low, u16 high, u16 status, Environment e) {
  if (unmasked(e, status)) status |= kSummary | kBusy;
  return {low, high, status};
}

}  // namespace

Result binary(Binary op, const X87Register& a, const X87Register& b, Environment e) {
  return finished(arithmetic(op, a, decode(b), e), e);
}
Result binary_f32(Binary op, const X87Register& a, u32 b, Environment e) {
  return finished(arithmetic(op, a, decode_f32(b), e), e);
}
Result binary_f64(Binary op, const X87Register& a, u64 b, Environment e) {
  return finished(arithmetic(op, a, decode_f64(b), e), e);
}

Result unary(Unary op, const X87Register& a, Environment e) {
  const Operand o = decode(a);
  if (o.is_special()) return finished(special(o), e);
  switch (op) {
    case Unary::SquareRoot: return finished(square_root(o, e), e);
    case Unary::RoundToInteger: return finished(round_to_integer(o, e), e);
    case Unary::TwoToXMinusOne: return finished(two_to_x_minus_one(o, a, e), e);
    case Unary::Sine:
    case Unary::Cosine:
      if (out_of_range(o)) return {a, kC2};
      return finished(trigonometric(op == Unary::Sine ? exact::Function::Sine : exact::Function::Cosine, o, e), e);
  }
  __builtin_unreachable();
}

PairResult pair(Pair op, const X87Register& a, Environment e) {
  const Operand o = decode(a);
  Result first{}, second{};  // what replaces ST(0), and what is pushed after it
  if (o.is_special()) {
    first = second = special(o);
  } else if (op == Pair::Extract) {
    first.status = o.denormal ? kDenormal : 0;
    if (o.kind == Kind::Zero) {
      first = {infinity(true), kZeroDivide};
      second.value = zero(o.negative);
    } else if (o.kind == Kind::Infinity) {
      first.value = infinity(false);
      second.value = infinity(o.negative);
    } else {
      first.value = from_integer(o.number.exponent);
      second.value = encoded(o.negative, kBias, static_cast<u64>(o.number.significand >> 64));
    }
  } else if (out_of_range(o)) {
    return {{}, a, kC2};
  } else if (op == Pair::Tangent) {
    first = trigonometric(exact::Function::Tangent, o, e);
    second = o.kind == Kind::Infinity ? first : Result{one(false), 0};
  } else {
    first = trigonometric(exact::Function::Sine, o, e);
    second = trigonometric(exact::Function::Cosine, o, e);
    if (second.status & kPrecision) first.status = (first.status & ~kC1) | (second.status & kC1);
  }
  first.status |= second.status & kExceptions;
  first = finished(first, e);
  return {first.value, second.value, first.status};
}

// The constants have more than 64 bits inside; RC rounds them, PC does not. SDM Vol. 2A "FLD1…".
Result constant(Constant which, Environment e) {
  struct Rounded {
    u16 exponent;
    u64 below;     // toward zero
    bool nearest_is_above;
  };
  constexpr Rounded kConstants[] = {
      {kBias, kIntegerBit, false},
      {0x4000, 0xd49a784bcd1b8afe, false},
      {0x3fff, 0xb8aa3b295c17f0bb, true},
      {0x4000, 0xc90fdaa22168c234, true},
      {0x3ffd, 0x9a209a84fbcff798, true},
      {0x3ffe, 0xb17217f7d1cf79ab, true},
      {0, 0, false},
  };
  const Rounded& c = kConstants[static_cast<unsigned>(which)];
  const RoundingMode mode = rounding(e);
  const bool exact_value = which == Constant::One || which == Constant::Zero;
  const bool above = !exact_value && (mode == RoundingMode::Up || (mode == RoundingMode::Nearest && c.nearest_is_above));
  return {encoded(false, c.exponent, c.below + (above ? 1 : 0)), 0};
}

u16 compare(Comparison kind, const X87Register& a, const X87Register& b, Environment e) {
  return compared(kind, decode(a), decode(b), e);
}
u16 compare_f32(const X87Register& a, u32 b, Environment e) {
  return compared(Comparison::Ordered, decode(a), decode_f32(b), e);
}
u16 compare_f64(const X87Register& a, u64 b, Environment e) {
  return compared(Comparison::Ordered, decode(a), decode_f64(b), e);
}

Result from_f32(u32 value, Environment e) { return loaded(decode_f32(value), e); }
Result from_f64(u64 value, Environment e) { return loaded(decode_f64(value), e); }

// FBLD: 18 digits and a sign. Digits above 9 are undefined; here they count what they say.
Result from_bcd(const X87Register& ten_bytes, Environment) {
  u64 magnitude = ten_bytes.sign_exponent >> 4 & 0xf;
  magnitude = magnitude * 10 + (ten_bytes.sign_exponent & 0xf);
  for (int shift = 60; shift >= 0; shift -= 4) magnitude = magnitude * 10 + (ten_bytes.significand >> shift & 0xf);
  X87Register value = from_integer(static_cast<i64>(magnitude));
  value.sign_exponent |= ten_bytes.sign_exponent & kSign;
  return {value, 0};
}

X87Register from_integer(i64 value) {
  if (value == 0) return zero(false);
  const bool negative = value < 0;
  const u64 magnitude = negative ? u64{0} - static_cast<u64>(value) : static_cast<u64>(value);
  const int shift = std::countl_zero(magnitude);
  return encoded(negative, static_cast<u16>(kBias + 63 - shift), magnitude << shift);
}

StoreResult to_f32(const X87Register& value, Environment e) { return to_memory<u32, 23>(value, exact::kSingle, e); }
StoreResult to_f64(const X87Register& value, Environment e) { return to_memory<u64, 52>(value, exact::kDouble, e); }

StoreResult to_integer(const X87Register& value, unsigned size, Rounding how, Environment e) {
  const Operand o = decode(value);
  const u64 sign_bit = u64{1} << (8 * size - 1), mask = sign_bit << 1 ? (sign_bit << 1) - 1 : ~u64{0};
  if (o.kind == Kind::Zero) return {0, 0, 0};
  if (o.kind == Kind::Finite) {
    const Integer whole = to_whole(o.number, how == Rounding::Truncate ? RoundingMode::TowardZero : rounding(e));
    if (whole.fits && whole.magnitude <= sign_bit - (o.negative ? 0 : 1)) {
      const u64 bits = o.negative ? u64{0} - whole.magnitude : whole.magnitude;
      return stored(bits & mask, 0, (whole.inexact ? kPrecision : 0) | (whole.up ? kC1 : 0), e);
    }
  }
  return stored(sign_bit, 0, kInvalid, e);
}

StoreResult to_bcd(const X87Register& value, Environment e) {
  constexpr u64 kLimit = 1'000'000'000'000'000'000;
  const Operand o = decode(value);
  const u16 sign = o.negative ? kSign : 0;
  if (o.kind == Kind::Zero) return {0, sign, 0};
  if (o.kind == Kind::Finite) {
    const Integer whole = to_whole(o.number, rounding(e));
    if (whole.fits && whole.magnitude < kLimit) {
      u64 digits = 0, rest = whole.magnitude;
      for (int shift = 0; shift < 64; shift += 4, rest /= 10) digits |= rest % 10 << shift;
      const u16 high = static_cast<u16>(rest / 10 << 4 | rest % 10 | sign);
      return stored(digits, high, (whole.inexact ? kPrecision : 0) | (whole.up ? kC1 : 0), e);
    }
  }
  return stored(0xc000'0000'0000'0000, 0xffff, kInvalid, e);  // the indefinite, SDM Vol. 1 4.7
}

}  // namespace vellum::x87::portable
