// PUSH, POP, PUSHA, POPA, ENTER, LEAVE, SDM Vol. 1 5.1.1 and 6.2 to 6.6.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

struct Push {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    c.template push<T>(c.template read<0>());
  }
};

// Immediates are sign-extended to the operand size.
struct PushImmediate {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    c.template push<T>(static_cast<T>(c.immediate()));
  }
};

// rSP has its new value when a memory destination's address is computed, SDM Vol. 2B "POP".
struct Pop {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const T value = c.template peek<T>(0);
    if constexpr (C::template kIsMemory<0>) {
      u64& rsp = c.state().gpr[kRsp];
      const u64 before = rsp;
      c.release_stack(sizeof(T));
      const u64 after = rsp, offset = c.effective_offset();
      rsp = before;  // the store may fault
      c.template store<T>(c.linear(offset, sizeof(T), AccessType::Write), value);
      rsp = after;
    } else {
      c.release_stack(sizeof(T));
      c.template write<0>(value);
    }
  }
};

struct PushAll {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    const u64 rsp = c.state().gpr[kRsp];
    for (unsigned i = 0; i < 8; ++i)
      c.template store<T>(c.stack_linear(rsp - (i + 1) * sizeof(T), sizeof(T), AccessType::Write), c.template gpr<T>(i));
    c.set_stack_pointer(rsp - 8 * sizeof(T));
  }
};

struct PopAll {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    T values[8];
    for (unsigned i = 0; i < 8; ++i) values[i] = c.template peek<T>(i * sizeof(T));
    for (unsigned i = 0; i < 8; ++i)
      if (7 - i != kRsp) c.template set_gpr<T>(7 - i, values[i]);
    c.release_stack(8 * sizeof(T));
  }
};

// Makes a frame: rBP is pushed, the enclosing procedures' frame pointers are copied, imm16 bytes are reserved. All
// accesses come before the first register changes; the last one probes the new top of the stack.
struct Enter {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    const u64 rsp = c.state().gpr[kRsp], rbp = c.state().gpr[kRbp];
    const unsigned level = c.immediate2() & 31;
    u64 top = rsp - sizeof(T);
    c.template store<T>(c.stack_linear(top, sizeof(T), AccessType::Write), static_cast<T>(rbp));
    const u64 frame = top;
    for (unsigned i = 1; i < level; ++i) {
      const T link = c.template load<T>(c.stack_linear(rbp - i * sizeof(T), sizeof(T), AccessType::Read));
      top -= sizeof(T);
      c.template store<T>(c.stack_linear(top, sizeof(T), AccessType::Write), link);
    }
    if (level) {
      top -= sizeof(T);
      c.template store<T>(c.stack_linear(top, sizeof(T), AccessType::Write), static_cast<T>(frame));
    }
    top -= static_cast<u16>(c.immediate());
    // A write of the old value: it faults where a push would.
    c.template update_memory<T, false>(c.stack_linear(top, sizeof(T), AccessType::Write), [](T value) { return value; });
    c.set_stack_pointer(top);
    c.template set_gpr<T>(kRbp, static_cast<T>(frame));
  }
};

struct Leave {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::Operand;
    const u64 rbp = c.state().gpr[kRbp];
    const T value = c.template load<T>(c.stack_linear(rbp, sizeof(T), AccessType::Read));
    c.set_stack_pointer(rbp + sizeof(T));
    c.template set_gpr<T>(kRbp, value);
  }
};

}  // namespace vellum::semantics
