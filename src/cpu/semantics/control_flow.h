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
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.check_target(c.target_rip());
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
  template <class C>
  VELLUM_INLINE static u64 op(C& c) {
    const u64 target = c.template read<0>();
    c.check_target(target);
    c.template push<typename C::Operand>(static_cast<typename C::Operand>(c.next_rip()));
    return target;
  }
};

// RET, and RET imm16, which releases the caller's arguments.
struct ReturnNear {
  static constexpr Flow kFlow = Flow::Indirect;
  template <class C>
  VELLUM_INLINE static u64 op(C& c) {
    using T = typename C::Operand;
    const u64 target = c.template peek<T>(0);
    c.check_target(target);
    c.release_stack(sizeof(T) + static_cast<u16>(c.immediate()));
    return target;
  }
};

}  // namespace vellum::semantics
