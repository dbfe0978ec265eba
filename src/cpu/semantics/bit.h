// Bit instructions: BT and its family, scans, counts, CRC32, BMI1 and BMI2, SDM Vol. 1 5.1.6, 5.1.16, 5.12.3.
#pragma once

#include "cpu/semantics/shift_rotate.h"

namespace vellum::semantics {

enum class BitAction : u8 { Test, Set, Reset, Complement };

template <BitAction Action, class T>
VELLUM_INLINE T changed_bit(T value, T mask) {
  if constexpr (Action == BitAction::Set) return value | mask;
  else if constexpr (Action == BitAction::Reset) return static_cast<T>(value & ~mask);
  else if constexpr (Action == BitAction::Complement) return value ^ mask;
  else return value;
}

// BT, BTS, BTR, BTC. CF is the old bit; the other flags are undefined and stay, but for ZF, which stays by definition.
template <BitAction Action>
struct BitOperation {
  static constexpr FlagEffect kFlags = kReplacesCarry;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T index = static_cast<T>(c.template read<1>());
    const T mask = static_cast<T>(T{1} << (index & (kBits<T> - 1)));
    T old;
    if constexpr (C::template kIsMemory<0> && C::kForm.operand[1].place == Place::Register) {
      // A register is a signed index into a bit string that starts at the memory operand, SDM Vol. 1 3.1.1.9 (Vol. 2A).
      const i64 element = static_cast<i64>(sign_extended(index)) >> (sizeof(T) == 8 ? 6 : sizeof(T) == 4 ? 5 : 4);
      const u64 offset = c.wrap_offset(c.effective_offset() + static_cast<u64>(element) * sizeof(T));
      if constexpr (Action == BitAction::Test)
        old = c.template load<T>(c.linear(offset, sizeof(T), AccessType::Read));
      else
        old = c.template update_memory<T, C::kForm.locked>(c.linear(offset, sizeof(T), AccessType::Write),
                                                           [=](T value) { return changed_bit<Action>(value, mask); });
    } else if constexpr (Action == BitAction::Test) {
      old = c.template read<0>();
    } else {
      old = c.template update<0>([=](T value) { return changed_bit<Action>(value, mask); });
    }
    replace_flags(c, kCf, old & mask ? kCf : 0);
  }
};

template <class T>
VELLUM_INLINE T trailing_zeros(T value) {
  return static_cast<T>(value ? __builtin_ctzll(value) : kBits<T>);
}
template <class T>
VELLUM_INLINE T leading_zeros(T value) {
  return static_cast<T>(value ? static_cast<unsigned>(__builtin_clzll(value)) - (64 - kBits<T>) : kBits<T>);
}

VELLUM_INLINE u32 parity_bit(u64 value) { return __builtin_parity(static_cast<u8>(value)) ? 0 : kPf; }

// BSF and BSR leave the destination alone when the source is 0, all 64 bits of it. ZF tells of that; the other flags are
// undefined: 0, but for PF, which is the index's (of 0 if there is none).
enum class ScanDirection : u8 { Forward, Reverse };
template <ScanDirection Direction>
struct BitScan {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>();
    if (source == 0) {
      c.set_explicit_flags(kZf | kPf);
      return;
    }
    const T index = Direction == ScanDirection::Forward ? trailing_zeros(source)
                                                        : static_cast<T>(kBits<T> - 1 - leading_zeros(source));
    c.template write<0>(index);
    c.set_explicit_flags(parity_bit(index));
  }
};

// TZCNT and LZCNT. OF, SF, AF and PF are undefined: 0, but for PF, which is the result's.
template <ScanDirection Direction>
struct CountZeros {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>();
    const T result = Direction == ScanDirection::Forward ? trailing_zeros(source) : leading_zeros(source);
    c.template write<0>(result);
    c.set_explicit_flags((source == 0 ? kCf : 0) | (result == 0 ? kZf : 0) | parity_bit(result));
  }
};

struct PopulationCount {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>();
    c.template write<0>(static_cast<T>(__builtin_popcountll(source)));
    c.set_explicit_flags(source == 0 ? kZf : 0);
  }
};

// CRC-32C (polynomial 11EDC6F41h, bits reflected) of the source's bytes, the lowest first.
VELLUM_INLINE u32 crc32c_byte(u32 crc, u8 byte) {
  crc ^= byte;
  for (unsigned bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  return crc;
}

struct Crc32 {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<1>;
    const T source = c.template read<1>();
    u32 crc = static_cast<u32>(c.template read<0>());
    for (usize i = 0; i < sizeof(T); ++i) crc = crc32c_byte(crc, static_cast<u8>(source >> (8 * i)));
    c.template write<0>(crc);
  }
};

// --- BMI1 ------------------------------------------------------------------------------------------------------------

// AF and PF are undefined in this group: 0, and the result's.
template <class C, class T>
VELLUM_INLINE void set_bmi_flags(C& c, T result, bool carry) {
  c.set_result_flags(result, carry ? kCf : 0);
}
inline constexpr FlagEffect kBmiFlags = kWritesArithmetic;

struct AndNot {
  static constexpr FlagEffect kFlags = kBmiFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T result = static_cast<T>(~c.template read<1>() & c.template read<2>());
    c.template write<0>(result);
    set_bmi_flags(c, result, false);
  }
};

struct BitFieldExtract {
  static constexpr FlagEffect kFlags = kBmiFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>(), control = c.template read<2>();
    const unsigned start = control & 0xff, length = (control >> 8) & 0xff;
    T result = start < kBits<T> ? static_cast<T>(source >> start) : T{0};
    if (length < kBits<T>) result = static_cast<T>(result & ((T{1} << length) - 1));
    c.template write<0>(result);
    set_bmi_flags(c, result, false);
  }
};

enum class LowestBit : u8 { Isolate, MaskUpTo, Reset };  // BLSI, BLSMSK, BLSR
template <LowestBit Action>
struct LowestSetBit {
  static constexpr FlagEffect kFlags = kBmiFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>();
    const T result = Action == LowestBit::Isolate    ? static_cast<T>(source & (0 - source))
                     : Action == LowestBit::MaskUpTo ? static_cast<T>(source ^ (source - 1))
                                                     : static_cast<T>(source & (source - 1));
    c.template write<0>(result);
    set_bmi_flags(c, result, (source == 0) != (Action == LowestBit::Isolate));
  }
};

// --- BMI2 ------------------------------------------------------------------------------------------------------------

struct ZeroHighBits {
  static constexpr FlagEffect kFlags = kBmiFlags;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T source = c.template read<1>();
    const unsigned index = c.template read<2>() & 0xff;
    const T result = index < kBits<T> ? static_cast<T>(source & ((T{1} << index) - 1)) : source;
    c.template write<0>(result);
    set_bmi_flags(c, result, index >= kBits<T>);
  }
};

struct DepositBits {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    T source = c.template read<1>(), mask = c.template read<2>(), result = 0;
    for (; mask; mask &= mask - 1, source >>= 1)
      if (source & 1) result |= static_cast<T>(mask & (0 - mask));
    c.template write<0>(result);
  }
};

struct ExtractBits {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    T source = c.template read<1>(), mask = c.template read<2>(), result = 0;
    for (T bit = 1; mask; mask &= mask - 1, bit <<= 1)
      if (source & mask & (0 - mask)) result |= bit;
    c.template write<0>(result);
  }
};

}  // namespace vellum::semantics
