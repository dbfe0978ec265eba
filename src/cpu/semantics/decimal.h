// Decimal arithmetic, SDM Vol. 1 5.1.3. Undefined flags as current CPUs compute them.
#pragma once

#include "cpu/semantics/integer.h"

namespace vellum::semantics {

VELLUM_INLINE u32 sign_zero_parity(u8 value) {
  return (value == 0 ? kZf : 0) | (value & 0x80 ? kSf : 0) | (__builtin_parity(value) ? 0 : kPf);
}

// DAA and DAS. OF is undefined: 0.
enum class Adjustment : u8 { Addition, Subtraction };
template <Adjustment After>
struct DecimalAdjust {
  static constexpr FlagEffect kFlags{kArithmeticFlags, kCf | kAf};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u32 before = c.arithmetic();
    const u8 old = c.template gpr<u8>(kRax);
    u8 al = old;
    const bool low = (old & 15) > 9 || (before & kAf);
    const bool high = old > 0x99 || (before & kCf);
    bool carry = high;
    if constexpr (After == Adjustment::Addition) {
      if (low) al = static_cast<u8>(al + 6);
      if (high) al = static_cast<u8>(al + 0x60);
    } else {
      if (low) {
        carry = carry || old < 6;
        al = static_cast<u8>(al - 6);
      }
      if (high) al = static_cast<u8>(al - 0x60);
    }
    c.template set_gpr<u8>(kRax, al);
    c.set_explicit_flags((carry ? kCf : 0) | (low ? kAf : 0) | sign_zero_parity(al));
  }
};

// AAA and AAS. OF, SF, ZF, PF are undefined.
template <Adjustment After>
struct AsciiAdjust {
  static constexpr FlagEffect kFlags{kArithmeticFlags, kAf};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u16 ax = c.template gpr<u16>(kRax);
    const bool adjust = (ax & 15) > 9 || (c.arithmetic() & kAf);
    const u16 delta = adjust ? 0x106 : 0;
    const u16 sum = static_cast<u16>(After == Adjustment::Addition ? ax + delta : ax - delta);
    c.template set_gpr<u16>(kRax, sum & 0xff0f);
    c.set_explicit_flags((adjust ? kCf | kAf : 0) | sign_zero_parity(static_cast<u8>(sum & 0x0f)));
  }
};

// AAM: AH, AL = AL / imm8, AL % imm8. CF, AF, OF are undefined: 0.
struct AsciiAdjustMultiply {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u8 base = c.template read<0>();
    if (base == 0) [[unlikely]] c.raise(Vector::DivideError, 0);
    const u8 al = c.template gpr<u8>(kRax);
    const u8 remainder = al % base;
    c.template set_gpr<u16>(kRax, static_cast<u16>((al / base) << 8 | remainder));
    c.set_logic_flags(remainder);
  }
};

// AAD: AL = AL + AH * imm8, AH = 0.
struct AsciiAdjustDivide {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u16 ax = c.template gpr<u16>(kRax);
    const u8 al = static_cast<u8>(ax + (ax >> 8) * c.template read<0>());
    c.template set_gpr<u16>(kRax, al);
    c.set_logic_flags(al);
  }
};

}  // namespace vellum::semantics
