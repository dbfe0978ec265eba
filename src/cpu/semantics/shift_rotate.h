// Shifts and rotates, SDM Vol. 1 5.1.5.
#pragma once

#include "cpu/semantics/integer.h"

namespace vellum::semantics {

enum class ShiftBy : u8 { One, Count };  // the count may be 0: then no flag changes

// A shift by an immediate other than 0 writes all flags for sure (kCountDecides).
template <ShiftBy By>
inline constexpr FlagEffect kShiftFlags = By == ShiftBy::One ? kWritesArithmetic : kMayWriteArithmetic;
// The rotates replace CF and OF; all other flags pass through.
inline constexpr FlagEffect kRotateFlags{kCf | kOf, kArithmeticFlags};

template <class T>
inline constexpr unsigned kBits = 8 * sizeof(T);
template <class T>
inline constexpr unsigned kCountMask = sizeof(T) == 8 ? 63 : 31;

template <class T>
VELLUM_INLINE bool top_bit(T value) { return (value >> (kBits<T> - 1)) & 1; }
VELLUM_INLINE u32 carry_and_overflow(bool carry, bool overflow) { return (carry ? kCf : 0) | (overflow ? kOf : 0); }

// SHL. OF is undefined for counts above 1; current CPUs compute it as for 1. AF is undefined, and 0.
template <ShiftBy By>
struct ShiftLeft {
  static constexpr FlagEffect kFlags = kShiftFlags<By>;
  static constexpr bool kCountDecides = true;
  static constexpr bool kNeverFaults = true;
  template <class T>
  VELLUM_INLINE static T shift(T value, unsigned count) { return static_cast<T>(u64{value} << count); }
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<1>()) & kCountMask<T>;
    const T old = c.template update<0>([count](T value) { return shift(value, count); });
    if (By == ShiftBy::Count && count == 0) return;
    const T result = shift(old, count);
    const bool carry = count <= kBits<T> && ((u64{old} >> (kBits<T> - count)) & 1);
    c.set_result_flags(result, carry_and_overflow(carry, carry != top_bit(result)));
  }
};

template <ShiftBy By>
struct ShiftRight {
  static constexpr FlagEffect kFlags = kShiftFlags<By>;
  static constexpr bool kCountDecides = true;
  static constexpr bool kNeverFaults = true;
  template <class T>
  VELLUM_INLINE static T shift(T value, unsigned count) { return static_cast<T>(u64{value} >> count); }
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<1>()) & kCountMask<T>;
    const T old = c.template update<0>([count](T value) { return shift(value, count); });
    if (By == ShiftBy::Count && count == 0) return;
    const T result = shift(old, count);
    c.set_result_flags(result, carry_and_overflow((u64{old} >> (count - 1)) & 1, count == 1 && top_bit(old)));
  }
};

template <ShiftBy By>
struct ShiftArithmetic {
  static constexpr FlagEffect kFlags = kShiftFlags<By>;
  static constexpr bool kCountDecides = true;
  static constexpr bool kNeverFaults = true;
  template <class T>
  VELLUM_INLINE static T shift(T value, unsigned count) {
    return static_cast<T>(static_cast<i64>(sign_extended(value)) >> count);
  }
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<1>()) & kCountMask<T>;
    const T old = c.template update<0>([count](T value) { return shift(value, count); });
    if (By == ShiftBy::Count && count == 0) return;
    const bool carry = (static_cast<i64>(sign_extended(old)) >> (count - 1)) & 1;
    c.set_result_flags(shift(old, count), carry_and_overflow(carry, false));
  }
};

template <class T>
VELLUM_INLINE T rotate_left(T value, unsigned count) {
  count &= kBits<T> - 1;
  return static_cast<T>(value << count | value >> ((kBits<T> - count) & (kBits<T> - 1)));
}

// The rotates change CF and OF only; OF for counts above 1 is undefined and computed as for 1.
template <ShiftBy By>
struct RotateLeft {
  static constexpr FlagEffect kFlags = kRotateFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<1>()) & kCountMask<T>;
    const T old = c.template update<0>([count](T value) { return rotate_left(value, count); });
    if (By == ShiftBy::Count && count == 0) return;
    const T result = rotate_left(old, count);
    replace_flags(c, kCf | kOf, carry_and_overflow(result & 1, (result & 1) != top_bit(result)));
  }
};

template <ShiftBy By>
struct RotateRight {
  static constexpr FlagEffect kFlags = kRotateFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<1>()) & kCountMask<T>;
    const T old = c.template update<0>([count](T value) { return rotate_left(value, 0 - count); });
    if (By == ShiftBy::Count && count == 0) return;
    const T result = rotate_left(old, 0 - count);
    const bool carry = top_bit(result);
    replace_flags(c, kCf | kOf, carry_and_overflow(carry, carry != top_bit(static_cast<T>(result << 1))));
  }
};

// Rotates through CF turn one bit more than the operand has: a byte comes back after 9.
template <class T>
VELLUM_INLINE unsigned through_carry_count(unsigned count) {
  count &= kCountMask<T>;
  if constexpr (sizeof(T) <= 2) return count % (kBits<T> + 1);
  else return count;
}
// Whether CF and OF are left alone: by a masked count of 0, not by 9 of a byte.
template <ShiftBy By, class T>
VELLUM_INLINE bool no_rotation(unsigned count) { return By == ShiftBy::Count && (count & kCountMask<T>) == 0; }
template <class T>
VELLUM_INLINE T rotate_left_through_carry(T value, bool carry, unsigned count) {
  if (count == 0) return value;
  const u64 low = count == 1 ? 0 : u64{value} >> (kBits<T> + 1 - count);
  const u64 high = count == kBits<T> ? 0 : u64{value} << count;
  return static_cast<T>(high | u64{carry} << (count - 1) | low);
}

template <ShiftBy By>
struct RotateLeftThroughCarry {
  static constexpr FlagEffect kFlags = kRotateFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned given = static_cast<unsigned>(c.template read<1>()), count = through_carry_count<T>(given);
    const bool carry_in = c.carry();
    const T old = c.template update<0>([=](T value) { return rotate_left_through_carry(value, carry_in, count); });
    if (no_rotation<By, T>(given)) return;
    const T result = rotate_left_through_carry(old, carry_in, count);
    const bool carry = count == 0 ? carry_in : (u64{old} >> (kBits<T> - count)) & 1;
    replace_flags(c, kCf | kOf, carry_and_overflow(carry, carry != top_bit(result)));
  }
};

template <class T>
VELLUM_INLINE T rotate_right_through_carry(T value, bool carry, unsigned count) {
  return count == 0 ? value : rotate_left_through_carry(value, carry, kBits<T> + 1 - count);
}

template <ShiftBy By>
struct RotateRightThroughCarry {
  static constexpr FlagEffect kFlags = kRotateFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned given = static_cast<unsigned>(c.template read<1>()), count = through_carry_count<T>(given);
    const bool carry_in = c.carry();
    const T old = c.template update<0>([=](T value) { return rotate_right_through_carry(value, carry_in, count); });
    if (no_rotation<By, T>(given)) return;
    const T result = rotate_right_through_carry(old, carry_in, count);
    const bool carry = count == 0 ? carry_in : (u64{old} >> (count - 1)) & 1;
    replace_flags(c, kCf | kOf,
                  carry_and_overflow(carry, top_bit(result) != top_bit(static_cast<T>(result << 1))));
  }
};

// SHLD: the upper half of (destination:source) << count. For 16-bit operands and counts above 16 the result is
// undefined; CPUs since P6 shift destination:source:destination.
struct ShiftLeftDouble {
  static constexpr FlagEffect kFlags = kMayWriteArithmetic;
  static constexpr bool kCountDecides = true;
  static constexpr bool kNeverFaults = true;
  template <class T>
  VELLUM_INLINE static T shift(T value, T filler, unsigned count) {
    if (count == 0) return value;
    if constexpr (sizeof(T) == 2) {
      const u64 triple = u64{value} << 32 | u64{filler} << 16 | value;
      return static_cast<T>(triple << count >> 32);
    } else {
      return static_cast<T>(value << count | filler >> (kBits<T> - count));
    }
  }
  template <class T>
  VELLUM_INLINE static bool carry(T value, T filler, unsigned count) {
    if constexpr (sizeof(T) == 2) return ((u64{value} << 32 | u64{filler} << 16 | value) >> (48 - count)) & 1;
    else return (value >> (kBits<T> - count)) & 1;
  }
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<2>()) & kCountMask<T>;
    const T filler = c.template read<1>();
    const T old = c.template update<0>([=](T value) { return shift(value, filler, count); });
    if (count == 0) return;
    const T result = shift(old, filler, count);
    const bool out = carry(old, filler, count);
    c.set_result_flags(result, carry_and_overflow(out, out != top_bit(result)));
  }
};

// SHRD; 16-bit counts above 16 shift destination:source:destination likewise.
struct ShiftRightDouble {
  static constexpr FlagEffect kFlags = kMayWriteArithmetic;
  static constexpr bool kCountDecides = true;
  static constexpr bool kNeverFaults = true;
  template <class T>
  VELLUM_INLINE static T shift(T value, T filler, unsigned count) {
    if (count == 0) return value;
    if constexpr (sizeof(T) == 2)
      return static_cast<T>((u64{value} << 32 | u64{filler} << 16 | value) >> count);
    else
      return static_cast<T>(value >> count | filler << (kBits<T> - count));
  }
  template <class T>
  VELLUM_INLINE static bool carry(T value, T filler, unsigned count) {
    if constexpr (sizeof(T) == 2) return ((u64{filler} << 16 | value) >> (count - 1)) & 1;
    else return (value >> (count - 1)) & 1;
  }
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const unsigned count = static_cast<unsigned>(c.template read<2>()) & kCountMask<T>;
    const T filler = c.template read<1>();
    const T old = c.template update<0>([=](T value) { return shift(value, filler, count); });
    if (count == 0) return;
    const T result = shift(old, filler, count);
    c.set_result_flags(result, carry_and_overflow(carry(old, filler, count),
                                                  top_bit(result) != top_bit(static_cast<T>(result << 1))));
  }
};

// RORX, SARX, SHLX, SHRX: no flags.
struct RotateRightWithoutFlags {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(rotate_left(c.template read<1>(), 0 - static_cast<unsigned>(c.immediate())));
  }
};

template <class Shift>
struct ShiftWithoutFlags {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T value = c.template read<1>();
    c.template write<0>(Shift::shift(value, static_cast<unsigned>(c.template read<2>()) & kCountMask<T>));
  }
};

}  // namespace vellum::semantics
