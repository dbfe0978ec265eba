// Near control transfers, SDM Vol. 1 5.1.7. Far ones are callouts.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

// Jcc; the condition is the opcode's low four bits.
template <u8 Code>
struct JumpIf {
  static constexpr FlagEffect kFlags{0, kArithmeticFlags};
  static constexpr Flow kFlow = Flow::Conditional;
  template <class C>
  VELLUM_INLINE static bool op(C& c) { return c.condition(Code); }
};

struct JumpRelative {
  static constexpr Flow kFlow = Flow::Direct;
  template <class C>
  VELLUM_INLINE static void op(C&) {}
};

struct CallRelative {
  static constexpr Flow kFlow = Flow::Direct;
  static constexpr bool kCalls = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.check_relative_target();
    c.template push<typename C::Operand>(static_cast<typename C::Operand>(c.next_rip()));
  }
};

struct JumpIndirect {
  static constexpr Flow kFlow = Flow::Indirect;
  template <class C>
  VELLUM_INLINE static u64 op(C& c) { return c.template read<0>(); }
};

struct CallIndirect {
  static constexpr Flow kFlow = Flow::Indirect;
  static constexpr bool kCalls = true;
  template <class C>
  VELLUM_INLINE static u64 op(C& c) {
    const u64 target = c.template read<0>();
    c.check_target(target);
    c.template push<typename C::Operand>(static_cast<typename C::Operand>(c.next_rip()));
    return target;
  }
};

// RET, and RET imm16, which releases the caller's arguments.
template <bool Releases>
struct ReturnNear {
  static constexpr Flow kFlow = Flow::Indirect;
  static constexpr bool kReturns = true;
  template <class C>
  VELLUM_INLINE static u64 op(C& c) {
    using T = typename C::Operand;
    const u64 target = c.template peek<T>(0);
    c.check_target(target);
    c.release_stack(sizeof(T) + (Releases ? static_cast<u16>(c.immediate()) : 0));
    return target;
  }
};

// LOOP, LOOPE, LOOPNE count rCX of the address size down.
enum class LoopWhile : u8 { Always, Equal, NotEqual };
template <LoopWhile While>
struct Loop {
  static constexpr FlagEffect kFlags{0, While == LoopWhile::Always ? 0u : u32{kZf}};
  static constexpr Flow kFlow = Flow::Conditional;
  template <class C>
  VELLUM_INLINE static bool op(C& c) {
    const u64 count = c.wrap_offset(c.template gpr<u64>(kRcx) - 1);
    bool taken = count != 0;
    if constexpr (While == LoopWhile::Equal) taken = taken && c.condition(4);
    if constexpr (While == LoopWhile::NotEqual) taken = taken && c.condition(5);
    if (taken) c.check_direct_target();  // faults before the counter changes
    if (c.address_size() == 2) c.template set_gpr<u16>(kRcx, static_cast<u16>(count));
    else c.template set_gpr<u64>(kRcx, count);
    return taken;
  }
};

// JCXZ, JECXZ, JRCXZ by the address size.
struct JumpIfCounterZero {
  static constexpr Flow kFlow = Flow::Conditional;
  template <class C>
  VELLUM_INLINE static bool op(C& c) { return c.wrap_offset(c.template gpr<u64>(kRcx)) == 0; }
};

}  // namespace vellum::semantics
