// Computing arithmetic flags and conditions from the lazy form, SDM Vol. 1 3.4.3.1 and appendix B.
#pragma once

#include "cpu/state.h"

namespace vellum {

// A function that every engine inlines: its body is part of the code it generates.
#define VELLUM_INLINE [[gnu::always_inline]] inline
// A function that translated code calls: it realigns the stack, which stencils do not keep aligned.
#if defined(__x86_64__)
#define VELLUM_FROM_STENCILS [[gnu::force_align_arg_pointer]]
#else
#define VELLUM_FROM_STENCILS
#endif

template <class T>
VELLUM_INLINE u64 sign_extended(T value) {
  return static_cast<u64>(static_cast<i64>(static_cast<std::make_signed_t<T>>(value)));
}

struct LazyFlags {
  FlagOperation operation;
  u64 result, a, b;
};

// What the flags of any operation but Explicit are of, sign-extended.
VELLUM_INLINE u64 result_of(const LazyFlags& f) {
  if (!is_difference(f.operation)) return f.result;
  const unsigned unused = 64 - (64u >> (static_cast<u64>(f.operation) - static_cast<u64>(FlagOperation::Subtract64)));
  return static_cast<u64>(static_cast<i64>((f.a - f.b) << unused) >> unused);
}

VELLUM_INLINE u64 carries_out(const LazyFlags& f) { return (f.a & f.b) | ((f.a | f.b) & ~f.result); }
VELLUM_INLINE u64 borrows_out(const LazyFlags& f) { return (~f.a & f.b) | ((~f.a | f.b) & f.result); }

// Additions, and SubtractBorrow, at once; a - b is ~(~a + b).
VELLUM_INLINE bool carries_or_borrows(FlagOperation operation) {
  static_assert(static_cast<u64>(FlagOperation::Add) == 1 && static_cast<u64>(FlagOperation::AddCarry) == 2 &&
                static_cast<u64>(FlagOperation::SubtractBorrow) == 3);
  return static_cast<u64>(operation) - 1 < 3;
}
VELLUM_INLINE u64 carries_or_borrows_out(const LazyFlags& f) {
  const u64 difference = f.operation == FlagOperation::SubtractBorrow ? ~u64{0} : 0;
  return carries_out({f.operation, f.result ^ difference, f.a ^ difference, f.b});
}

VELLUM_INLINE bool carry_flag(const LazyFlags& f) {
  switch (f.operation) {
    case FlagOperation::Explicit: return f.a & kCf;
    case FlagOperation::Add: return f.result < f.a;
    case FlagOperation::AddCarry: return static_cast<i64>(carries_out(f)) < 0;
    case FlagOperation::SubtractBorrow: return static_cast<i64>(borrows_out(f)) < 0;
    case FlagOperation::Logic: return false;
    case FlagOperation::Increment:
    case FlagOperation::Decrement: return f.a != 0;
    case FlagOperation::Result: return f.a & kCf;
    case FlagOperation::Subtract64:
    case FlagOperation::Subtract32:
    case FlagOperation::Subtract16:
    case FlagOperation::Subtract8: return f.a < f.b;
    case FlagOperation::Count: break;
  }
  __builtin_unreachable();
}

// The same with few branches, for code that does not know the operation.
VELLUM_INLINE bool any_carry_flag(const LazyFlags& f) {
  if (is_difference(f.operation)) return f.a < f.b;
  if (carries_or_borrows(f.operation)) [[likely]] return static_cast<i64>(carries_or_borrows_out(f)) < 0;
  return f.a & (f.operation == FlagOperation::Logic ? 0 : kCf);  // all others have it there
}

VELLUM_INLINE bool overflow_flag(const LazyFlags& f) {
  const auto borrowed = [&](u64 result) { return static_cast<i64>((f.a ^ f.b) & (f.a ^ result)) < 0; };
  switch (f.operation) {
    case FlagOperation::Explicit: return f.a & kOf;
    case FlagOperation::Add:
    case FlagOperation::AddCarry: return static_cast<i64>((f.a ^ f.result) & (f.b ^ f.result)) < 0;
    case FlagOperation::SubtractBorrow: return borrowed(f.result);
    case FlagOperation::Logic: return false;
    case FlagOperation::Increment: return f.result == f.b;
    case FlagOperation::Decrement: return f.result == ~f.b;
    case FlagOperation::Result: return f.a & kOf;
    case FlagOperation::Subtract64:
    case FlagOperation::Subtract32:
    case FlagOperation::Subtract16:
    case FlagOperation::Subtract8: return borrowed(result_of(f));
    case FlagOperation::Count: break;
  }
  __builtin_unreachable();
}

VELLUM_INLINE bool auxiliary_flag(const LazyFlags& f) {
  switch (f.operation) {
    case FlagOperation::Explicit:
    case FlagOperation::Result: return f.a & kAf;
    case FlagOperation::Add:
    case FlagOperation::AddCarry:
    case FlagOperation::SubtractBorrow: return (f.a ^ f.b ^ f.result) & 0x10;
    case FlagOperation::Logic: return false;
    case FlagOperation::Increment: return (f.result & 15) == 0;
    case FlagOperation::Decrement: return (f.result & 15) == 15;
    case FlagOperation::Subtract64:
    case FlagOperation::Subtract32:
    case FlagOperation::Subtract16:
    case FlagOperation::Subtract8: return (f.a ^ f.b ^ (f.a - f.b)) & 0x10;
    case FlagOperation::Count: break;
  }
  __builtin_unreachable();
}

VELLUM_INLINE bool zero_flag(const LazyFlags& f) {
  if (is_difference(f.operation)) return f.a == f.b;
  return f.operation == FlagOperation::Explicit ? (f.a & kZf) != 0 : f.result == 0;
}
VELLUM_INLINE bool sign_flag(const LazyFlags& f) {
  return f.operation == FlagOperation::Explicit ? (f.a & kSf) != 0 : static_cast<i64>(result_of(f)) < 0;
}
VELLUM_INLINE bool parity_flag(const LazyFlags& f) {
  if (f.operation == FlagOperation::Explicit) return (f.a & kPf) != 0;
  return !__builtin_parity(static_cast<u8>(is_difference(f.operation) ? f.a - f.b : f.result));
}

// The six arithmetic flags as RFLAGS bits.
VELLUM_INLINE u32 arithmetic_flags(const LazyFlags& f) {
  if (f.operation == FlagOperation::Explicit) return static_cast<u32>(f.a);
  return (carry_flag(f) ? kCf : 0) | (parity_flag(f) ? kPf : 0) | (auxiliary_flag(f) ? kAf : 0) |
         (zero_flag(f) ? kZf : 0) | (sign_flag(f) ? kSf : 0) | (overflow_flag(f) ? kOf : 0);
}

// Condition codes as in the low four bits of Jcc, SDM Vol. 1 appendix B.
VELLUM_INLINE bool condition_holds(u8 code, const LazyFlags& f) {
  bool holds = false;
  switch (code >> 1) {
    case 0: holds = overflow_flag(f); break;
    case 1: holds = carry_flag(f); break;
    case 2: holds = zero_flag(f); break;
    case 3: holds = is_difference(f.operation) ? f.a <= f.b : carry_flag(f) || zero_flag(f); break;
    case 4: holds = sign_flag(f); break;
    case 5: holds = parity_flag(f); break;
    case 6:
      holds = is_difference(f.operation) ? static_cast<i64>(f.a) < static_cast<i64>(f.b)
                                         : sign_flag(f) != overflow_flag(f);
      break;
    case 7:
      holds = is_difference(f.operation) ? static_cast<i64>(f.a) <= static_cast<i64>(f.b)
                                         : zero_flag(f) || sign_flag(f) != overflow_flag(f);
      break;
  }
  return holds != ((code & 1) != 0);
}

VELLUM_INLINE LazyFlags lazy_flags(const CpuState& s) { return {s.flag_operation, s.flag_result, s.flag_a, s.flag_b}; }

// All of RFLAGS, and its replacement (every bit: the caller has masked what may not change).
VELLUM_INLINE u32 read_rflags(const CpuState& s) { return s.rflags | arithmetic_flags(lazy_flags(s)); }
VELLUM_INLINE void write_rflags(CpuState& s, u32 value) {
  s.flag_operation = FlagOperation::Explicit;
  s.flag_a = value & kArithmeticFlags;
  s.rflags = (value & ~kArithmeticFlags) | 2;
}

}  // namespace vellum
