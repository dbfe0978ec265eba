// x87 FPU instructions, SDM Vol. 1 5.2. The common case is here in line, by integers (cpu/x87_number.h); what is special about
// an operand is asked of cpu/x87_values.h, and what is special about the register stack or an exception of cpu/x87.h.
#pragma once

#include "cpu/semantics/context.h"
#include "cpu/x87.h"
#include "cpu/x87_values.h"

namespace vellum::semantics {

template <int Step, X87Tags Tags = X87Tags::Stack>
struct X87Steps {
  static constexpr X87Effect kX87Effect{true, Step, Tags};
};

// A pending exception is reported by the next waiting instruction, SDM Vol. 1 8.7. With CR0.NE clear the board's
// interrupt controller has been told by FERR# instead.
template <class C>
VELLUM_INLINE void x87_wait(C& c) {
  if constexpr (!C::kX87Masked) {
    const CpuState& s = c.state();
    if ((s.x87.status & x87::kSummary) && (s.cr0 & kCr0Ne)) [[unlikely]]
      c.raise(Vector::X87FloatingPoint, 0);
  }
}

// FIP and FDP, SDM Vol. 1 8.1.8. Comes after the accesses that may fault.
template <class C>
VELLUM_INLINE void x87_record(C& c) {
  X87State& x = c.state().x87;
  x.last_instruction = c.this_rip();
  x.last_code_selector = c.state().segment[kCs].selector;
}
template <class C>
VELLUM_INLINE void x87_record_data(C& c, u64 offset) {
  X87State& x = c.state().x87;
  x87_record(c);
  x.last_data = offset;
  x.last_data_selector = c.state().segment[c.memory_segment()].selector;
}

// The register stack as one instruction finds it, with TOP as it was in front of it.
template <class C>
class X87Stack {
 public:
  VELLUM_INLINE explicit X87Stack(C& c) : m_x(c.state().x87), m_top(c.x87_top()), m_valid(c.x87_valid()) {}

  VELLUM_INLINE bool masked() const { return C::kX87Masked || (m_x.control & x87::kExceptions) == x87::kExceptions; }
  VELLUM_INLINE bool holds(unsigned i) const { return m_valid & bit(i); }
  // Nothing unmasked can come of it, and ST(i) is there.
  VELLUM_INLINE bool ready(unsigned i) const { return x87::every(masked(), holds(i)); }
  VELLUM_INLINE bool ready(unsigned i, unsigned j) const { return x87::every(masked(), holds(i), holds(j)); }
  VELLUM_INLINE bool has_room() const { return x87::every(masked(), !holds(7)); }

  VELLUM_INLINE x87::Number get(unsigned i) const {
    const X87Register& value = m_x.registers[index(i)];
    return {value.significand, value.sign_exponent};
  }
  VELLUM_INLINE void set(unsigned i, x87::Number value) {
    X87Register& target = m_x.registers[index(i)];
    target.significand = value.significand;
    target.sign_exponent = static_cast<u16>(value.sign_exponent);
  }
  VELLUM_INLINE void fill(unsigned i, x87::Number value) {
    set(i, value);
    m_x.valid = m_valid |= bit(i);
  }
  VELLUM_INLINE void release(unsigned i) { m_x.valid = m_valid &= static_cast<u8>(~bit(i)); }
  VELLUM_INLINE u32 control() const { return m_x.control; }
  VELLUM_INLINE u32 environment() const { return m_x.control | u32{m_x.status} << 16; }
  // Condition codes under `mask` and C1 become those of `status`, its exceptions are added, and TOP moves.
  VELLUM_INLINE void finish(u32 status, int step = 0, u32 mask = 0) {
    constexpr u32 kTop = 0x3800;
    const u32 replaced = mask | x87::kC1 | (step ? kTop : 0);
    u32 next = (m_x.status & ~replaced) | (status & (mask | x87::kC1 | x87::kExceptions));
    if (step) next |= ((m_top + static_cast<unsigned>(step)) & 7) << 11;
    m_x.status = static_cast<u16>(next);
  }
  VELLUM_INLINE void pop(unsigned count) {
    for (unsigned i = 0; i < count; ++i) release(i);
  }

 private:
  VELLUM_INLINE unsigned index(unsigned i) const { return (m_top + i) & 7; }
  VELLUM_INLINE u8 bit(unsigned i) const { return static_cast<u8>(1u << index(i)); }

  X87State& m_x;
  const unsigned m_top;
  u8 m_valid;
};

// What is rare. Optimized code leaves for the interpreter in front of the instruction.
template <class C, class Function>
VELLUM_INLINE void x87_otherwise(C& c, Function f) {
  if constexpr (C::kX87Masked) c.leave_region();
  else f();
}

template <class C>
VELLUM_INLINE u64 x87_operand_linear(C& c, u64 offset, AccessType access) {
  return c.linear(offset, Bytes<typename C::template Type<0>>::kSize, access);
}

// The memory operand; `offset` is what x87_record_data() wants to know.
template <class C>
VELLUM_INLINE typename C::template Type<0> x87_load(C& c, u64& offset) {
  using T = typename C::template Type<0>;
  x87_wait(c);
  offset = c.effective_offset();
  const u64 linear = x87_operand_linear(c, offset, AccessType::Read);
  if constexpr (Bytes<T>::kSize == 10 && C::kX87Masked) {
    // Two loads that stay in registers. They fault as one would.
    if (c.is_flat()) {
      const u64 low = c.template load<u64>(linear);
      return T{low, c.template load<u16>(linear + 8)};
    }
  }
  return c.template load<T>(linear);
}

template <class C>
VELLUM_INLINE void x87_store(C& c, u64 offset, u64 low, u16 high) {
  using T = typename C::template Type<0>;
  const u64 linear = x87_operand_linear(c, offset, AccessType::Write);
  if constexpr (Bytes<T>::kSize == 10) {
    if constexpr (C::kX87Masked) {
      // On one page the second store cannot fault when the first did not.
      if (c.is_flat() && (linear & 0xfff) <= 0x1000 - 10) [[likely]] {
        c.template store<u64>(linear, low);
        c.template store<u16>(linear + 8, high);
        return;
      }
    }
    c.template store<T>(linear, T{low, high});
  } else {
    c.template store<T>(linear, static_cast<T>(low));
  }
}

template <class C>
VELLUM_INLINE void x87_store_converted(C& c, const x87::Store& store, unsigned pops) {
  using T = typename C::template Type<0>;
  const u64 offset = c.effective_offset();
  if (store.write) {
    x87_store(c, offset, store.low, store.high);
  } else {
    // An unmasked exception keeps the value back; the operand's own faults come first all the same.
    using Probe = std::conditional_t<Bytes<T>::kSize == 10, u64, T>;
    c.template update_memory<Probe, false>(c.linear(offset, Bytes<T>::kSize, AccessType::Write),
                                            [](auto old) { return old; });
    if constexpr (Bytes<T>::kSize == 10)
      c.template update_memory<u16, false>(c.linear(c.wrap_offset(offset + 8), 2, AccessType::Write),
                                           [](u16 old) { return old; });
  }
  x87_record_data(c, offset);
  x87::finish_store(c.state(), store, pops);
}

// a op b by whatever knows it.
template <x87::Binary Op, class C>
VELLUM_INLINE x87::Computed x87_compute(const X87Stack<C>& stack, x87::Number a, x87::Number b) {
  if constexpr (x87::kIsQuick<Op>) {
    const x87::Computed result = x87::quick<Op>(a, b, x87::rounds_simply(stack.control()));
    if (result.right) [[likely]] return result;
  }
  return x87::asked<x87::value_of>(Op, a.significand, b.significand, a.sign_exponent | b.sign_exponent << 16, stack.environment());
}
// The same with a float or double from memory.
template <x87::Binary Op, class C, class T>
VELLUM_INLINE x87::Computed x87_compute_float(const X87Stack<C>& stack, x87::Number a, T bits) {
  const x87::Computed b = x87::widened(bits);
  if constexpr (x87::kIsQuick<Op>) {
    const x87::Computed result = x87::quick<Op>(a, b.value, x87::rounds_simply(stack.control()));
    if (x87::every(result.right, b.right)) [[likely]] return result;
  } else if (b.right) {
    return x87_compute<Op>(stack, a, b.value);
  }
  if constexpr (sizeof(T) == 4) return x87::asked<x87::value_of_f32>(Op, a.significand, a.sign_exponent, bits, stack.environment());
  else return x87::asked<x87::value_of_f64>(Op, a.significand, a.sign_exponent, bits, stack.environment());
}

// FADD and its relatives with a register: ST(0) = ST(0) op ST(i).
template <x87::Binary Op>
struct X87ToTop : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::do_binary(c.state(), Op, 0, i, 0, 0);
      });
    x87_record(c);
    const x87::Computed result = x87_compute<Op>(stack, stack.get(0), stack.get(i));
    stack.set(0, result.value);
    stack.finish(result.status);
  }
};
// ST(i) = ST(i) op ST(0).
template <x87::Binary Op, unsigned Pops>
struct X87ToRegister : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::do_binary(c.state(), Op, i, 0, i, Pops);
      });
    x87_record(c);
    const x87::Computed result = x87_compute<Op>(stack, stack.get(i), stack.get(0));
    stack.set(i, result.value);
    stack.pop(Pops);
    stack.finish(result.status, Pops);
  }
};
template <x87::Binary Op>
struct X87WithFloat : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const auto value = x87_load(c, offset);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        if constexpr (sizeof(value) == 4) x87::do_binary_f32(c.state(), Op, value);
        else x87::do_binary_f64(c.state(), Op, value);
      });
    x87_record_data(c, offset);
    const x87::Computed result = x87_compute_float<Op>(stack, stack.get(0), +value);
    stack.set(0, result.value);
    stack.finish(result.status);
  }
};
template <x87::Binary Op>
struct X87WithInteger : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const i64 value = static_cast<i64>(sign_extended(x87_load(c, offset)));
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        x87::do_binary_integer(c.state(), Op, value);
      });
    x87_record_data(c, offset);
    const x87::Computed result = x87_compute<Op>(stack, stack.get(0), x87::from_whole(value));
    stack.set(0, result.value);
    stack.finish(result.status);
  }
};
// FPREM, FPREM1, FSCALE keep both operands; FPATAN, FYL2X, FYL2XP1 replace them.
template <x87::Binary Op, unsigned Dest, unsigned Pops>
struct X87OnPair : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    if constexpr (C::kX87Masked)
      if (!X87Stack(c).ready(0, 1)) [[unlikely]] c.leave_region();
    x87_record(c);
    x87::do_binary(c.state(), Op, 0, 1, Dest, Pops);
  }
};
template <x87::Unary Op>
struct X87OnTop : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::do_unary(c.state(), Op);
      });
    x87_record(c);
    const x87::Number a = stack.get(0);
    const x87::Computed result = x87::asked<x87::value_of_unary>(Op, a.significand, a.sign_exponent, stack.environment());
    stack.set(0, result.value);
    constexpr bool kTrigonometric = Op == x87::Unary::Sine || Op == x87::Unary::Cosine;
    stack.finish(result.status, 0, kTrigonometric ? x87::kC2 : 0);
  }
};
// FPTAN and FSINCOS push nothing when their operand is out of range.
template <x87::Pair Op>
struct X87Spread : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_otherwise(c, [&] {
      x87_wait(c);
      x87_record(c);
      x87::do_pair(c.state(), Op);
    });
  }
};
enum class X87Sign : u8 { Change, Clear };
// FCHS, FABS.
template <X87Sign How>
struct X87ChangeSign : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        if constexpr (How == X87Sign::Change) x87::change_sign(c.state());
        else x87::absolute(c.state());
      });
    x87_record(c);
    const x87::Number a = stack.get(0);
    stack.set(0, How == X87Sign::Change ? x87::negated(a) : x87::Number{a.significand, a.sign_exponent & x87::kExponentMask});
    stack.finish(0);
  }
};
struct X87Examine : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::examine(c.state());
  }
};

// C3, C2, C0 of ST(0) and b; `exactly` knows them in any case.
template <class C, class Function>
VELLUM_INLINE u32 x87_order(x87::Number a, x87::Number b, bool known, Function exactly) {
  const x87::Compared result = x87::compared(a, b);
  if (x87::every(result.right, known)) [[likely]] return result.status;
  return exactly();
}
template <x87::Comparison Kind, class C>
VELLUM_INLINE u32 x87_order_of(const X87Stack<C>& stack, x87::Number a, x87::Number b) {
  return x87_order<C>(a, b, true, [&] {
    return x87::order_of(Kind, a.significand, b.significand, a.sign_exponent | b.sign_exponent << 16, stack.environment());
  });
}
template <class C>
VELLUM_INLINE void x87_finish_compare(X87Stack<C>& stack, u32 status, unsigned pops) {
  stack.pop(pops);
  stack.finish(status & ~u32{x87::kC1}, static_cast<int>(pops), x87::kConditions);
}

template <x87::Comparison Kind, unsigned Pops>
struct X87Compare : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) { compare(c, static_cast<unsigned>(c.template operand<0>())); }
  template <class C>
  VELLUM_INLINE static void compare(C& c, unsigned i) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::do_compare(c.state(), Kind, i, Pops);
      });
    x87_record(c);
    x87_finish_compare(stack, x87_order_of<Kind>(stack, stack.get(0), stack.get(i)), Pops);
  }
};
// FCOMPP, FUCOMPP.
template <x87::Comparison Kind>
struct X87ComparePair : X87Steps<2> {
  template <class C>
  VELLUM_INLINE static void op(C& c) { X87Compare<Kind, 2>::compare(c, 1); }
};
struct X87Test : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::test(c.state());
      });
    x87_record(c);
    x87_finish_compare(stack, x87_order_of<x87::Comparison::Ordered>(stack, stack.get(0), {0, 0}), 0);
  }
};
template <unsigned Pops>
struct X87CompareFloat : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const auto value = x87_load(c, offset);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        if constexpr (sizeof(value) == 4) x87::do_compare_f32(c.state(), value, Pops);
        else x87::do_compare_f64(c.state(), value, Pops);
      });
    x87_record_data(c, offset);
    const x87::Number a = stack.get(0);
    const x87::Computed b = x87::widened(+value);
    const u32 status = x87_order<C>(a, b.value, b.right, [&] {
      if constexpr (sizeof(value) == 4) return x87::order_of_f32(a.significand, a.sign_exponent, value, stack.environment());
      else return x87::order_of_f64(a.significand, a.sign_exponent, value, stack.environment());
    });
    x87_finish_compare(stack, status, Pops);
  }
};
template <unsigned Pops>
struct X87CompareInteger : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const i64 value = static_cast<i64>(sign_extended(x87_load(c, offset)));
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        x87::do_compare_integer(c.state(), value, Pops);
      });
    x87_record_data(c, offset);
    x87_finish_compare(stack, x87_order_of<x87::Comparison::Ordered>(stack, stack.get(0), x87::from_whole(value)), Pops);
  }
};
// FCOMI and relatives; OF, SF and AF are cleared. After an unmasked #IA the flags stay.
template <x87::Comparison Kind, unsigned Pops>
struct X87CompareToFlags : X87Steps<Pops> {
  static constexpr FlagEffect kFlags{kArithmeticFlags, kArithmeticFlags};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        const u32 old = c.arithmetic();
        c.set_explicit_flags(x87::compare_to_flags(c.state(), Kind, i, Pops, old));
      });
    x87_record(c);
    const u32 status = x87_order_of<Kind>(stack, stack.get(0), stack.get(i));
    stack.pop(Pops);
    stack.finish(status & x87::kExceptions, Pops);
    c.set_explicit_flags((status & x87::kC3 ? u32{kZf} : 0) | (status & x87::kC2 ? u32{kPf} : 0) | (status & x87::kC0 ? u32{kCf} : 0));
  }
};

template <class C>
VELLUM_INLINE void x87_push(X87Stack<C>& stack, x87::Number value, u32 status = 0) {
  stack.fill(7, value);
  stack.finish(status, -1);
}

struct X87LoadFloat : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const auto value = x87_load(c, offset);
    constexpr bool kSingle = Bytes<decltype(+value)>::kSize == 4;
    X87Stack stack(c);
    if (!stack.has_room()) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        if constexpr (kSingle) x87::push_f32(c.state(), value);
        else x87::push_f64(c.state(), value);
      });
    x87_record_data(c, offset);
    x87::Computed result = x87::widened(+value);
    if (!result.right) [[unlikely]] {
      if constexpr (kSingle) result = x87::asked<x87::value_from_f32>(value, stack.environment());
      else result = x87::asked<x87::value_from_f64>(value, stack.environment());
    }
    x87_push(stack, result.value, result.status & x87::kExceptions);
  }
};
struct X87LoadExtended : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const Float80 value = x87_load(c, offset);
    X87Stack stack(c);
    if (!stack.has_room()) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        x87::push_f80(c.state(), value.significand, value.sign_exponent);
      });
    x87_record_data(c, offset);
    x87_push(stack, {value.significand, value.sign_exponent});
  }
};
struct X87LoadInteger : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const i64 value = static_cast<i64>(sign_extended(x87_load(c, offset)));
    X87Stack stack(c);
    if (!stack.has_room()) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record_data(c, offset);
        x87::push_integer(c.state(), value);
      });
    x87_record_data(c, offset);
    x87_push(stack, x87::from_whole(value));
  }
};
struct X87LoadDecimal : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    u64 offset;
    const Float80 value = x87_load(c, offset);
    if constexpr (C::kX87Masked)
      if (!X87Stack(c).has_room()) [[unlikely]] c.leave_region();
    x87_record_data(c, offset);
    x87::push_bcd(c.state(), value.significand, value.sign_exponent);
  }
};
struct X87LoadRegister : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!x87::every(stack.has_room(), stack.holds(i))) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::push_register(c.state(), i);
      });
    x87_record(c);
    x87_push(stack, stack.get(i));
  }
};
template <x87::Constant Which>
struct X87LoadConstant : X87Steps<-1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.has_room()) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::push_constant(c.state(), Which);
      });
    x87_record(c);
    if constexpr (Which == x87::Constant::Zero) x87_push(stack, {0, 0});
    else if constexpr (Which == x87::Constant::One) x87_push(stack, {x87::kIntegerBitSet, x87::kExponentBias});
    else x87_push(stack, x87::asked<x87::value_of_constant>(Which, stack.environment()).value);
  }
};

template <unsigned Pops>
struct X87StoreFloat : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr unsigned kSize = sizeof(typename C::template Type<0>);
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        if constexpr (kSize == 4) x87_store_converted(c, x87::convert_f32(c.state()), Pops);
        else x87_store_converted(c, x87::convert_f64(c.state()), Pops);
      });
    const x87::Number a = stack.get(0);
    x87::Narrowed result = x87::narrowed<kSize>(a, stack.control());
    if (!result.right) [[unlikely]] {
      const x87::Computed answer = x87::asked<x87::value_to_float>(kSize, a.significand, a.sign_exponent, stack.environment());
      result = {answer.value.significand, answer.status, true};
    }
    const u64 offset = c.effective_offset();
    x87_store(c, offset, result.bits, 0);
    x87_record_data(c, offset);
    stack.pop(Pops);
    stack.finish(result.status, Pops);
  }
};
struct X87StoreExtended : X87Steps<1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] { x87_store_converted(c, x87::convert_f80(c.state()), 1); });
    const x87::Number a = stack.get(0);
    const u64 offset = c.effective_offset();
    x87_store(c, offset, a.significand, static_cast<u16>(a.sign_exponent));
    x87_record_data(c, offset);
    stack.pop(1);
    stack.finish(0, 1);
  }
};
template <x87::Rounding How, unsigned Pops>
struct X87StoreInteger : X87Steps<Pops> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr unsigned kSize = sizeof(typename C::template Type<0>);
    x87_wait(c);
    X87Stack stack(c);
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] { x87_store_converted(c, x87::convert_integer(c.state(), kSize, How), Pops); });
    const x87::Number a = stack.get(0);
    x87::Narrowed result = x87::whole(a, kSize, How == x87::Rounding::Truncate, stack.control());
    if (!result.right) [[unlikely]] {
      const x87::Computed answer = x87::asked<x87::value_to_integer>(kSize, How, a.significand, a.sign_exponent, stack.environment());
      result = {answer.value.significand, answer.status, true};
    }
    const u64 offset = c.effective_offset();
    x87_store(c, offset, result.bits, 0);
    x87_record_data(c, offset);
    stack.pop(Pops);
    stack.finish(result.status, Pops);
  }
};
struct X87StoreDecimal : X87Steps<1> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_otherwise(c, [&] {
      x87_wait(c);
      x87_store_converted(c, x87::convert_bcd(c.state()), 1);
    });
  }
};
template <unsigned Pops>
struct X87StoreRegister : X87Steps<Pops, X87Tags::Fills> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!stack.ready(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::store_register(c.state(), i, Pops);
      });
    x87_record(c);
    stack.fill(i, stack.get(0));
    stack.pop(Pops);
    stack.finish(0, Pops);
  }
};

struct X87StoreRegisterIfAny : X87Steps<1, X87Tags::Fills> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if (!X87Stack(c).holds(0)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_wait(c);
        x87_record(c);
        x87::store_register_if_any(c.state(), static_cast<unsigned>(c.template operand<0>()));
      });
    X87StoreRegister<1>::op(c);
  }
};

struct X87Exchange : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::exchange(c.state(), i);
      });
    x87_record(c);
    const x87::Number a = stack.get(0), b = stack.get(i);
    stack.set(0, b);
    stack.set(i, a);
    stack.finish(0);
  }
};
// FCMOVcc; Code is a condition as in Jcc.
template <u8 Code>
struct X87MoveIf : X87Steps<0> {
  static constexpr FlagEffect kFlags{0, kArithmeticFlags};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    X87Stack stack(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    const bool condition = c.condition(Code);
    if (!stack.ready(0, i)) [[unlikely]]
      return x87_otherwise(c, [&] {
        x87_record(c);
        x87::move_if(c.state(), i, condition);
      });
    x87_record(c);
    const x87::Number a = stack.get(0), b = stack.get(i);
    stack.set(0, {condition ? b.significand : a.significand, condition ? b.sign_exponent : a.sign_exponent});
  }
};
template <unsigned Pops>
struct X87Free : X87Steps<Pops, X87Tags::Empties> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    X87Stack stack(c);
    stack.release(static_cast<unsigned>(c.template operand<0>()));
    stack.pop(Pops);
    stack.finish(0, Pops);
  }
};
template <int Step>
struct X87Rotate : X87Steps<Step, X87Tags::Alone> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    X87Stack(c).finish(0, Step);
  }
};
// FNOP.
struct X87Nothing : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
  }
};

// Control instructions leave FIP and FDP alone.
struct X87LoadControl : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    const u16 value = c.template read<0>();
    if constexpr (C::kX87Masked) {
      if ((value & x87::kExceptions) != x87::kExceptions) [[unlikely]] c.leave_region();
      c.state().x87.control = (value & x87::kControlWritable) | x87::kControlAlwaysSet;
    } else {
      x87::set_control(c.state(), value);
    }
  }
};
struct X87StoreControl : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(c.state().x87.control); }
};
struct X87StoreStatus : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(c.state().x87.status); }
};
struct X87ClearExceptions : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    // While all are masked none is pending.
    if constexpr (C::kX87Masked) c.state().x87.status &= static_cast<u16>(~(x87::kExceptions | x87::kStackFault));
    else x87::clear_exceptions(c.state());
  }
};
// TOP becomes 0, wherever it was.
struct X87Initialize : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_otherwise(c, [&] { x87::initialize(c.state()); });
  }
};
// FENI, FDISI, FSETPM of the 8087 and 80287: no operation since the 80387.
struct X87Ignored : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C&) {}
};
// WAIT does not look at CR0.EM, and at CR0.TS only together with CR0.MP; SDM Vol. 3A table 2-2.
struct Wait : X87Steps<0> {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if ((c.state().cr0 & (kCr0Mp | kCr0Ts)) == (kCr0Mp | kCr0Ts)) [[unlikely]]
      c.raise(Vector::DeviceNotAvailable, 0);
    x87_wait(c);
  }
};

}  // namespace vellum::semantics
