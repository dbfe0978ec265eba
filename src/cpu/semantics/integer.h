// General-purpose instructions: data transfer, binary arithmetic, logic, flags, SDM Vol. 1 5.1.1, 5.1.2, 5.1.4, 5.1.10.
#pragma once

#include "cpu/memory_order.h"
#include "cpu/semantics/context.h"

namespace vellum::semantics {

inline constexpr FlagEffect kWritesArithmetic{kArithmeticFlags, 0};
inline constexpr FlagEffect kWritesArithmeticReadsCarry{kArithmeticFlags, kCf};
// An instruction that replaces some flags only: the rest is read, and written back unchanged.
inline constexpr FlagEffect kReplacesFlags(u32 replaced) { return {replaced, kArithmeticFlags & ~replaced}; }
// The instruction may leave all flags alone (a shift by 0).
inline constexpr FlagEffect kMayWriteArithmetic{kArithmeticFlags, kArithmeticFlags};

// Of CF, by instructions that write the others; and of all flags in one word.
inline constexpr FlagProducers kAnyCarry = flag_producers(FlagProducer::Subtract, FlagProducer::Logic, FlagProducer::Sum, FlagProducer::Kept);
inline constexpr FlagProducers kAnyBorrow = flag_producers(FlagProducer::Subtract, FlagProducer::Logic, FlagProducer::Borrow, FlagProducer::Kept);
inline constexpr FlagProducers kLogicOrExplicit = flag_producers(FlagProducer::Logic, FlagProducer::Explicit);

inline constexpr FlagEffect kReplacesCarry = kReplacesFlags(kCf);
inline constexpr FlagEffect kReplacesZero = kReplacesFlags(kZf);

template <class C>
VELLUM_INLINE void replace_flags(C& c, u32 replaced, u32 bits) {
  if constexpr (!C::kForm.flags_dead) c.set_explicit_flags((c.arithmetic() & ~replaced) | bits);
}

// --- Data transfer ---------------------------------------------------------------------------------------------------

// MOV, in all forms whose operands have one size; MOVNTI.
struct Move {
  static constexpr bool kCommon = true;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
  }
};

struct MoveZeroExtended {
  static constexpr bool kCommon = true;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
  }
};

// MOVSX, MOVSXD.
struct MoveSignExtended {
  static constexpr bool kCommon = true;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(sign_extended(c.template read<1>())));
  }
};

struct LoadEffectiveAddress {
  static constexpr bool kCommon = true;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.effective_offset()));
  }
};

// CMOVcc reads its source, and clears the upper half of a 32-bit destination, whatever the condition.
template <u8 Code>
struct MoveIf {
  static constexpr FlagEffect kFlags{0, kArithmeticFlags};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto source = c.template read<1>();
    const auto old = c.template read<0>();
    c.template write<0>(c.condition(Code) ? source : old);
  }
};

template <u8 Code>
struct SetIf {
  static constexpr FlagEffect kFlags{0, kArithmeticFlags};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(c.condition(Code) ? 1 : 0); }
};

// XCHG; with memory it locks whether the prefix is there or not.
struct Exchange {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = c.template read<1>();
    const T a = c.template update<0>([b](T) { return b; });
    c.template write<1>(a);
  }
};

// 90+r: where both operands are rAX this is NOP, which leaves the upper half alone.
struct ExchangeAccumulator {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto a = c.template read<0>(), b = c.template read<1>();
    c.template write<0>(b);
    c.template write<1>(a);
  }
};

// BSWAP of 16 bits is undefined; current CPUs give 0.
struct ByteSwap {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T value = c.template read<0>();
    if constexpr (sizeof(T) == 8) c.template write<0>(__builtin_bswap64(value));
    else if constexpr (sizeof(T) == 4) c.template write<0>(__builtin_bswap32(value));
    else c.template write<0>(T{0});
  }
};

struct MoveBigEndian {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T value = c.template read<1>();
    if constexpr (sizeof(T) == 8) c.template write<0>(__builtin_bswap64(value));
    else if constexpr (sizeof(T) == 4) c.template write<0>(__builtin_bswap32(value));
    else c.template write<0>(__builtin_bswap16(value));
  }
};

struct ExchangeAdd {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Sum;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = c.template read<1>();
    T a;
    if constexpr (C::template kIsMemory<0>) {
      a = c.template update<0>([b](T old) { return static_cast<T>(old + b); });
      c.template write<1>(a);
    } else {
      a = c.template read<0>();
      c.template write<1>(a);
      c.template write<0>(static_cast<T>(a + b));  // the sum stays when both operands are one register
    }
    c.template set_flags<FlagOperation::Add>(a, b, static_cast<T>(a + b));
  }
};

// The destination is written in any case: with its old value when the comparison fails.
struct CompareExchange {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T expected = c.template gpr<T>(kRax);
    const T replacement = c.template read<1>();
    T old;
    if constexpr (C::template kIsMemory<0>) {
      old = c.template update<0>([=](T value) { return value == expected ? replacement : value; });
    } else {
      old = c.template read<0>();
      // A failed 32-bit comparison leaves the upper half of a register destination alone.
      if (old == expected) c.template write<0>(replacement);
    }
    if (old != expected) c.template set_gpr<T>(kRax, old);
    c.set_difference_flags(expected, old);
  }
};

struct CompareExchange8Bytes {
  static constexpr FlagEffect kFlags = kReplacesZero;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 expected = u64{c.template gpr<u32>(kRdx)} << 32 | c.template gpr<u32>(kRax);
    const u64 replacement = u64{c.template gpr<u32>(kRcx)} << 32 | c.template gpr<u32>(kRbx);
    const u64 old = c.template update<0>([=](u64 value) { return value == expected ? replacement : value; });
    if (old != expected) {
      c.template set_gpr<u32>(kRax, static_cast<u32>(old));
      c.template set_gpr<u32>(kRdx, static_cast<u32>(old >> 32));
    }
    replace_flags(c, kZf, old == expected ? kZf : 0);
  }
};

struct CompareExchange16Bytes {
  static constexpr FlagEffect kFlags = kReplacesZero;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template require_aligned<0>(16);
    const V128 expected{c.template gpr<u64>(kRax), c.template gpr<u64>(kRdx)};
    const V128 replacement{c.template gpr<u64>(kRbx), c.template gpr<u64>(kRcx)};
    const auto equal = [expected](V128 value) { return value[0] == expected[0] && value[1] == expected[1]; };
    const V128 old = c.template update<0>([=](V128 value) { return equal(value) ? replacement : value; });
    if (!equal(old)) {
      c.template set_gpr<u64>(kRax, old[0]);
      c.template set_gpr<u64>(kRdx, old[1]);
    }
    replace_flags(c, kZf, equal(old) ? kZf : 0);
  }
};

// CBW, CWDE, CDQE: rAX of the operand size from its lower half.
struct ExtendAccumulator {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    using Half = typename UnsignedOfSize<sizeof(T) / 2>::type;
    c.template set_gpr<T>(kRax, static_cast<T>(sign_extended(c.template gpr<Half>(kRax))));
  }
};

// CWD, CDQ, CQO: rDX filled with rAX's sign.
struct ExtendIntoRdx {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    c.template set_gpr<T>(kRdx, static_cast<T>(static_cast<i64>(sign_extended(c.template gpr<T>(kRax))) >> 63));
  }
};

// XLAT: AL = [rBX + AL].
struct TableLookup {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 offset = c.wrap_offset(c.template gpr<u64>(kRbx) + c.template gpr<u8>(kRax));
    c.template set_gpr<u8>(kRax, c.template load<u8>(c.linear(offset, 1, AccessType::Read)));
  }
};

// --- Binary arithmetic -----------------------------------------------------------------------------------------------

struct Add {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Sum;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old + b); });
    c.template set_flags<FlagOperation::Add>(a, b, static_cast<T>(a + b));
  }
};

struct AddWithCarry {
  static constexpr FlagEffect kFlags = kWritesArithmeticReadsCarry;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Sum;
  static constexpr FlagProducers kKnownProducers = kAnyCarry;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T carry = c.carry();
    const T a = c.template update<0>([=](T old) { return static_cast<T>(old + b + carry); });
    c.template set_flags<FlagOperation::AddCarry>(a, b, static_cast<T>(a + b + carry));
  }
};

struct Subtract {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read_to_register<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old - b); });
    c.set_difference_flags(a, b);
  }
};

struct SubtractWithBorrow {
  static constexpr FlagEffect kFlags = kWritesArithmeticReadsCarry;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Borrow;
  static constexpr FlagProducers kKnownProducers = kAnyBorrow;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T borrow = c.carry();
    const T a = c.template update<0>([=](T old) { return static_cast<T>(old - b - borrow); });
    c.template set_flags<FlagOperation::SubtractBorrow>(a, b, static_cast<T>(a - b - borrow));
  }
};

struct Compare {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read_to_register<1>());
    const T a = c.template read<0>();
    c.set_difference_flags(a, b);
  }
};

struct Increment {
  static constexpr FlagEffect kFlags = kWritesArithmeticReadsCarry;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Kept;
  static constexpr FlagProducers kKnownProducers = kAnyCarry;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T a = c.template update<0>([](T old) { return static_cast<T>(old + 1); });
    if constexpr (!C::kForm.flags_dead)
      c.template set_step_flags<FlagOperation::Increment>(static_cast<T>(a + 1), c.carry());
  }
};

struct Decrement {
  static constexpr FlagEffect kFlags = kWritesArithmeticReadsCarry;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Kept;
  static constexpr FlagProducers kKnownProducers = kAnyCarry;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T a = c.template update<0>([](T old) { return static_cast<T>(old - 1); });
    if constexpr (!C::kForm.flags_dead)
      c.template set_step_flags<FlagOperation::Decrement>(static_cast<T>(a - 1), c.carry());
  }
};

struct Negate {
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Subtract;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T a = c.template update<0>([](T old) { return static_cast<T>(0 - old); });
    c.set_difference_flags(T{0}, a);
  }
};

// ADCX and ADOX: chains of additions through one flag each.
template <u32 Flag>
struct AddThroughFlag {
  static constexpr FlagEffect kFlags{Flag, kArithmeticFlags};
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Explicit;
  static constexpr FlagProducers kKnownProducers = kLogicOrExplicit;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = c.template read<1>(), a = c.template read<0>();
    const u32 flags = c.arithmetic();
    const T carry = (flags & Flag) ? 1 : 0;
    T sum, carry_out;  // in a form that compilers make one addition with carry of
    if constexpr (sizeof(T) == 8) sum = __builtin_addcl(a, b, carry, &carry_out);
    else sum = __builtin_addc(a, b, carry, &carry_out);
    c.template write<0>(sum);
    c.set_explicit_flags((flags & ~Flag) | (carry_out ? Flag : 0));
  }
};

// --- Logic -----------------------------------------------------------------------------------------------------------

struct And {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Logic;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old & b); });
    c.set_logic_flags(static_cast<T>(a & b));
  }
};

struct Or {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Logic;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old | b); });
    c.set_logic_flags(static_cast<T>(a | b));
  }
};

struct Xor {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Logic;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    const T a = c.template update<0>([b](T old) { return static_cast<T>(old ^ b); });
    c.set_logic_flags(static_cast<T>(a ^ b));
  }
};

struct Test {
  static constexpr bool kCommon = true;
  static constexpr FlagEffect kFlags = kWritesArithmetic;
  static constexpr bool kNeverFaults = true;
  static constexpr FlagProducer kProducer = FlagProducer::Logic;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T b = static_cast<T>(c.template read<1>());
    c.set_logic_flags(static_cast<T>(c.template read<0>() & b));
  }
};

struct Not {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    c.template update<0>([](T old) { return static_cast<T>(~old); });
  }
};

// --- Flag control ----------------------------------------------------------------------------------------------------

struct ClearCarry {
  static constexpr FlagEffect kFlags = kReplacesCarry;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { replace_flags(c, kCf, 0); }
};

struct SetCarry {
  static constexpr FlagEffect kFlags = kReplacesCarry;
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { replace_flags(c, kCf, kCf); }
};

struct ComplementCarry {
  static constexpr FlagEffect kFlags{kCf, kArithmeticFlags};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.set_explicit_flags(c.arithmetic() ^ kCf); }
};

struct ClearDirection {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.state().rflags &= ~u32{kDf}; }
};

struct SetDirection {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.state().rflags |= kDf; }
};

inline constexpr u32 kFlagsInAh = kSf | kZf | kAf | kPf | kCf;
inline constexpr u64 kAhOffset = gpr_offset(kRax) + 1;

// Bit 1 of RFLAGS is always 1.
struct LoadAhFromFlags {
  static constexpr FlagEffect kFlags{0, kFlagsInAh};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write_raw<u8>(kAhOffset, static_cast<u8>((c.arithmetic() & kFlagsInAh) | 2));
  }
};

struct StoreAhIntoFlags {
  static constexpr FlagEffect kFlags = kReplacesFlags(kFlagsInAh);
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { replace_flags(c, kFlagsInAh, c.template read_slot<u8>(kAhOffset) & kFlagsInAh); }
};

// SALC, documented by AMD only: AL = CF ? FFh : 0.
struct SetAlFromCarry {
  static constexpr FlagEffect kFlags{0, kCf};
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template set_gpr<u8>(kRax, c.carry() ? 0xff : 0); }
};

// --- Without effect on registers -------------------------------------------------------------------------------------

// NOP, PAUSE, prefetches; LFENCE and SFENCE, as all loads and all stores are in order anyway.
struct NoOperation {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C&) {}
};

// MFENCE, SDM Vol. 3A 9.2.5.
struct FullFence {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C&) { full_memory_fence(); }
};

// CLFLUSH, CLFLUSHOPT, CLWB fault as a load of one byte does.
struct FlushLine {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template read<0>();
  }
};

// UD0, UD1, UD2.
struct Undefined {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.raise(Vector::InvalidOpcode, 0); }
};

}  // namespace vellum::semantics
