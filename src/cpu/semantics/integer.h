// General-purpose instructions: data transfer, arithmetic, logic, SDM Vol. 1 5.1.1 to 5.1.4.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

inline constexpr FlagEffect kWritesArithmetic{kArithmeticFlags, 0};
inline constexpr FlagEffect kWritesArithmeticReadsCarry{kArithmeticFlags, kCf};

// MOV, in all forms whose operands have one size.
struct Move {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
  }
};

struct LoadEffectiveAddress {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.effective_offset()));
  }
};

struct Add {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old + b); });
    c.template set_flags<FlagOperation::Add>(a, b, static_cast<T>(a + b));
  }
};

struct Subtract {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old - b); });
    c.template set_flags<FlagOperation::Subtract>(a, b, static_cast<T>(a - b));
  }
};

struct Compare {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T a = c.template read<0>();
    const T b = static_cast<T>(c.template read<1>());
    c.template set_flags<FlagOperation::Subtract>(a, b, static_cast<T>(a - b));
  }
};

}  // namespace vellum::semantics
