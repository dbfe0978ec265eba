// MUL, IMUL, DIV, IDIV, MULX, SDM Vol. 1 5.1.2.
#pragma once

#include "cpu/semantics/integer.h"

namespace vellum::semantics {

__extension__ using u128 = unsigned __int128;
__extension__ using i128 = __int128;

template <class T> struct DoubleWidth;
template <> struct DoubleWidth<u8> { using type = u16; using signed_type = i16; };
template <> struct DoubleWidth<u16> { using type = u32; using signed_type = i32; };
template <> struct DoubleWidth<u32> { using type = u64; using signed_type = i64; };
template <> struct DoubleWidth<u64> { using type = u128; using signed_type = i128; };

// rDX:rAX of the operand size; for bytes AX.
template <class T, class C>
VELLUM_INLINE typename DoubleWidth<T>::type read_accumulator_pair(C& c) {
  if constexpr (sizeof(T) == 1) {
    return c.template gpr<u16>(kRax);
  } else {
    using Wide = typename DoubleWidth<T>::type;
    return static_cast<Wide>(static_cast<Wide>(c.template gpr<T>(kRdx)) << (8 * sizeof(T)) | c.template gpr<T>(kRax));
  }
}
template <class T, class C>
VELLUM_INLINE void write_accumulator_pair(C& c, T low, T high) {
  if constexpr (sizeof(T) == 1) {
    c.template set_gpr<u16>(kRax, static_cast<u16>(high << 8 | low));
  } else {
    c.template set_gpr<T>(kRax, low);
    c.template set_gpr<T>(kRdx, high);
  }
}

// CF and OF say that the upper half matters. SF, ZF, PF are undefined; Intel CPUs give those of the lower half, AF = 0.
template <class C, class T>
VELLUM_INLINE void set_multiply_flags(C& c, T low, bool overflow) {
  c.set_result_flags(low, overflow ? kCf | kOf : 0);
}

struct MultiplyUnsigned {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    using Wide = typename DoubleWidth<T>::type;
    const Wide product = static_cast<Wide>(static_cast<Wide>(c.template read<0>()) * c.template gpr<T>(kRax));
    const T low = static_cast<T>(product), high = static_cast<T>(product >> (8 * sizeof(T)));
    write_accumulator_pair(c, low, high);
    set_multiply_flags(c, low, high != 0);
  }
};

template <class T>
struct SignedProduct {
  T low, high;
  bool overflow;
  VELLUM_INLINE SignedProduct(T a, T b) {
    using S = std::make_signed_t<T>;
    using Wide = typename DoubleWidth<T>::signed_type;
    const Wide product = static_cast<Wide>(static_cast<Wide>(static_cast<S>(a)) * static_cast<S>(b));
    low = static_cast<T>(product);
    high = static_cast<T>(product >> (8 * sizeof(T)));
    overflow = product != static_cast<S>(low);
  }
};

struct MultiplySigned {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const SignedProduct<T> product(c.template read<0>(), c.template gpr<T>(kRax));
    write_accumulator_pair(c, product.low, product.high);
    set_multiply_flags(c, product.low, product.overflow);
  }
};

// IMUL with two and three operands: the last two are multiplied.
template <usize A, usize B>
struct MultiplyInto {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<B>());
    const SignedProduct<T> product(static_cast<T>(c.template read<A>()), b);
    c.template write<0>(product.low);
    set_multiply_flags(c, product.low, product.overflow);
  }
};

// Quotient and remainder of a dividend whose quotient fits. Compilers have no division of two words by one: they would
// call a function for 128 bits.
template <class T>
VELLUM_INLINE void divide(typename DoubleWidth<T>::type dividend, T divisor, T& quotient, T& remainder) {
#if defined(__x86_64__)
  if constexpr (sizeof(T) >= 4) {
    const T low = static_cast<T>(dividend), high = static_cast<T>(dividend >> (8 * sizeof(T)));
    if constexpr (sizeof(T) == 8) asm("divq %[d]" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), [d] "r"(divisor) : "cc");
    else asm("divl %[d]" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), [d] "r"(divisor) : "cc");
    return;
  }
#endif
  quotient = static_cast<T>(dividend / divisor);
  remainder = static_cast<T>(dividend % divisor);
}

// The flags are undefined, and current CPUs leave them alone. A quotient that does not fit is #DE.
struct DivideUnsigned {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    using Wide = typename DoubleWidth<T>::type;
    const T divisor = c.template read<0>();
    const Wide dividend = read_accumulator_pair<T>(c);
    if (static_cast<T>(dividend >> (8 * sizeof(T))) >= divisor) [[unlikely]] c.raise(Vector::DivideError, 0);
    T quotient, remainder;
    divide<T>(dividend, divisor, quotient, remainder);
    write_accumulator_pair(c, quotient, remainder);
  }
};

// On magnitudes, so that nothing overflows on the host.
struct DivideSigned {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    using Wide = typename DoubleWidth<T>::type;
    const T divisor = c.template read<0>();
    const Wide dividend = read_accumulator_pair<T>(c);
    constexpr unsigned bits = 8 * sizeof(T);
    const bool negative_divisor = (divisor >> (bits - 1)) & 1;
    const bool negative_dividend = static_cast<bool>((dividend >> (2 * bits - 1)) & 1);
    const bool negative_quotient = negative_divisor != negative_dividend;
    const T d = negative_divisor ? static_cast<T>(0 - divisor) : divisor;
    const Wide n = negative_dividend ? static_cast<Wide>(0 - dividend) : dividend;
    if (static_cast<T>(n >> bits) >= d) [[unlikely]] c.raise(Vector::DivideError, 0);  // also division by 0
    T quotient, remainder;
    divide<T>(n, d, quotient, remainder);
    const T limit = static_cast<T>(T{1} << (bits - 1));
    if (negative_quotient ? quotient > limit : quotient >= limit) [[unlikely]] c.raise(Vector::DivideError, 0);
    write_accumulator_pair(c, negative_quotient ? static_cast<T>(0 - quotient) : quotient,
                           negative_dividend ? static_cast<T>(0 - remainder) : remainder);
  }
};

// MULX: no flags; the upper half wins when both destinations are one register.
struct MultiplyWithoutFlags {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    using Wide = typename DoubleWidth<T>::type;
    const Wide product = static_cast<Wide>(c.template read<2>()) * c.template gpr<T>(kRdx);
    c.template write<1>(static_cast<T>(product));
    c.template write<0>(static_cast<T>(product >> (8 * sizeof(T))));
  }
};

}  // namespace vellum::semantics
