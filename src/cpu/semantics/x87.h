// x87 FPU instructions, SDM Vol. 1 5.2. The work is done out of line (cpu/x87.h); here are operands and order.
#pragma once

#include "cpu/semantics/context.h"
#include "cpu/x87.h"

namespace vellum::semantics {

// A pending exception is reported by the next waiting instruction, SDM Vol. 1 8.7. With CR0.NE clear the board's
// interrupt controller has been told by FERR# instead.
template <class C>
VELLUM_INLINE void x87_wait(C& c) {
  const CpuState& s = c.state();
  if ((s.x87.status & x87::kSummary) && (s.cr0 & kCr0Ne)) [[unlikely]]
    c.raise(Vector::X87FloatingPoint, 0);
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

template <class C>
VELLUM_INLINE typename C::template Type<0> x87_load(C& c) {
  using T = typename C::template Type<0>;
  x87_wait(c);
  const u64 offset = c.effective_offset();
  const T value = c.template load<T>(c.linear(offset, Bytes<T>::kSize, AccessType::Read));
  x87_record_data(c, offset);
  return value;
}

template <class C>
VELLUM_INLINE void x87_store(C& c, const x87::Store& store, unsigned pops) {
  using T = typename C::template Type<0>;
  const u64 offset = c.effective_offset();
  if (store.write) {
    T value;
    if constexpr (Bytes<T>::kSize == 10) value = T{store.low, store.high};
    else value = static_cast<T>(store.low);
    c.template store<T>(c.linear(offset, Bytes<T>::kSize, AccessType::Write), value);
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

// FADD and its relatives with a register: ST(Dest) = ST(Dest) op ST(source); the other one is ST(0) unless Dest is it.
template <x87::Binary Op>
struct X87ToTop {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_binary(c.state(), Op, 0, static_cast<unsigned>(c.template operand<0>()), 0, 0);
  }
};
template <x87::Binary Op, unsigned Pops>
struct X87ToRegister {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    const auto i = static_cast<unsigned>(c.template operand<0>());
    x87::do_binary(c.state(), Op, i, 0, i, Pops);
  }
};
template <x87::Binary Op>
struct X87WithFloat {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto value = x87_load(c);
    if constexpr (sizeof(value) == 4) x87::do_binary_f32(c.state(), Op, value);
    else x87::do_binary_f64(c.state(), Op, value);
  }
};
template <x87::Binary Op>
struct X87WithInteger {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87::do_binary_integer(c.state(), Op, static_cast<i64>(sign_extended(x87_load(c))));
  }
};
// FPREM, FPREM1, FSCALE keep both operands; FPATAN, FYL2X, FYL2XP1 replace them.
template <x87::Binary Op, unsigned Dest, unsigned Pops>
struct X87OnPair {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_binary(c.state(), Op, 0, 1, Dest, Pops);
  }
};
template <x87::Unary Op>
struct X87OnTop {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_unary(c.state(), Op);
  }
};
template <x87::Pair Op>
struct X87Spread {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_pair(c.state(), Op);
  }
};
// Those that need nothing but the state: FCHS, FABS, FTST, FXAM.
template <void (*Function)(CpuState&)>
struct X87Simple {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    Function(c.state());
  }
};

template <x87::Comparison Kind, unsigned Pops>
struct X87Compare {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_compare(c.state(), Kind, static_cast<unsigned>(c.template operand<0>()), Pops);
  }
};
// FCOMPP, FUCOMPP.
template <x87::Comparison Kind>
struct X87ComparePair {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::do_compare(c.state(), Kind, 1, 2);
  }
};
template <unsigned Pops>
struct X87CompareFloat {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto value = x87_load(c);
    if constexpr (sizeof(value) == 4) x87::do_compare_f32(c.state(), value, Pops);
    else x87::do_compare_f64(c.state(), value, Pops);
  }
};
template <unsigned Pops>
struct X87CompareInteger {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87::do_compare_integer(c.state(), static_cast<i64>(sign_extended(x87_load(c))), Pops);
  }
};
// FCOMI and relatives; OF, SF and AF are cleared. After an unmasked #IA the flags stay.
template <x87::Comparison Kind, unsigned Pops>
struct X87CompareToFlags {
  static constexpr FlagEffect kFlags{kArithmeticFlags, kArithmeticFlags};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    const u32 old = c.arithmetic();
    c.set_explicit_flags(x87::compare_to_flags(c.state(), Kind, static_cast<unsigned>(c.template operand<0>()), Pops, old));
  }
};

struct X87LoadFloat {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto value = x87_load(c);
    if constexpr (Bytes<decltype(+value)>::kSize == 4) x87::push_f32(c.state(), value);
    else x87::push_f64(c.state(), value);
  }
};
struct X87LoadExtended {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const Float80 value = x87_load(c);
    x87::push_f80(c.state(), value.significand, value.sign_exponent);
  }
};
struct X87LoadInteger {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87::push_integer(c.state(), static_cast<i64>(sign_extended(x87_load(c))));
  }
};
struct X87LoadDecimal {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const Float80 value = x87_load(c);
    x87::push_bcd(c.state(), value.significand, value.sign_exponent);
  }
};
struct X87LoadRegister {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::push_register(c.state(), static_cast<unsigned>(c.template operand<0>()));
  }
};
template <x87::Constant Which>
struct X87LoadConstant {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::push_constant(c.state(), Which);
  }
};

template <unsigned Pops>
struct X87StoreFloat {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    if constexpr (sizeof(typename C::template Type<0>) == 4) x87_store(c, x87::convert_f32(c.state()), Pops);
    else x87_store(c, x87::convert_f64(c.state()), Pops);
  }
};
struct X87StoreExtended {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_store(c, x87::convert_f80(c.state()), 1);
  }
};
template <x87::Rounding How, unsigned Pops>
struct X87StoreInteger {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_store(c, x87::convert_integer(c.state(), sizeof(typename C::template Type<0>), How), Pops);
  }
};
struct X87StoreDecimal {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_store(c, x87::convert_bcd(c.state()), 1);
  }
};
template <unsigned Pops>
struct X87StoreRegister {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::store_register(c.state(), static_cast<unsigned>(c.template operand<0>()), Pops);
  }
};

struct X87StoreRegisterIfAny {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::store_register_if_any(c.state(), static_cast<unsigned>(c.template operand<0>()));
  }
};

struct X87Exchange {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::exchange(c.state(), static_cast<unsigned>(c.template operand<0>()));
  }
};
// FCMOVcc; Code is a condition as in Jcc.
template <u8 Code>
struct X87MoveIf {
  static constexpr FlagEffect kFlags{0, kArithmeticFlags};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::move_if(c.state(), static_cast<unsigned>(c.template operand<0>()), c.condition(Code));
  }
};
template <unsigned Pops>
struct X87Free {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::free_register(c.state(), static_cast<unsigned>(c.template operand<0>()), Pops);
  }
};
template <int Step>
struct X87Rotate {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
    x87::rotate(c.state(), Step);
  }
};
// FNOP.
struct X87Nothing {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87_record(c);
  }
};

// Control instructions leave FIP and FDP alone.
struct X87LoadControl {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    x87_wait(c);
    x87::set_control(c.state(), c.template read<0>());
  }
};
struct X87StoreControl {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(c.state().x87.control); }
};
struct X87StoreStatus {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(c.state().x87.status); }
};
struct X87ClearExceptions {
  template <class C>
  VELLUM_INLINE static void op(C& c) { x87::clear_exceptions(c.state()); }
};
struct X87Initialize {
  template <class C>
  VELLUM_INLINE static void op(C& c) { x87::initialize(c.state()); }
};
// FENI, FDISI, FSETPM of the 8087 and 80287: no operation since the 80387.
struct X87Ignored {
  template <class C>
  VELLUM_INLINE static void op(C&) {}
};
// WAIT does not look at CR0.EM, and at CR0.TS only together with CR0.MP; SDM Vol. 3A table 2-2.
struct Wait {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if ((c.state().cr0 & (kCr0Mp | kCr0Ts)) == (kCr0Mp | kCr0Ts)) [[unlikely]]
      c.raise(Vector::DeviceNotAvailable, 0);
    x87_wait(c);
  }
};

}  // namespace vellum::semantics
