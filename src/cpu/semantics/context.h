// What instruction semantics are written against: typed operands, flags, memory and faults, over any engine's binding.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/exceptions.h"
#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/state.h"

// Vectors wider than the host's registers occur only inside functions that are always inlined.
#pragma clang diagnostic ignored "-Wpsabi"

namespace vellum {

// A 128-bit vector register value; cast to other lane types as needed.
using V128 = u64 __attribute__((vector_size(16)));
using V128u8 = u8 __attribute__((vector_size(16)));
using V128u16 = u16 __attribute__((vector_size(16)));
using V128u32 = u32 __attribute__((vector_size(16)));
using V128i8 = i8 __attribute__((vector_size(16)));
using V128i16 = i16 __attribute__((vector_size(16)));
using V128i32 = i32 __attribute__((vector_size(16)));
using V128i64 = i64 __attribute__((vector_size(16)));
using V128f32 = float __attribute__((vector_size(16)));
using V128f64 = double __attribute__((vector_size(16)));
using V256 = u64 __attribute__((vector_size(32)));
// Bytes of a vector register that an instruction can write. With AVX-512 it would be 64; until then the rest stays 0.
inline constexpr usize kVectorBytes = 32;

// Ten bytes in memory: significand, then sign and exponent.
struct Float80 {
  u64 significand;
  u16 sign_exponent;
};

template <class T>
struct Bytes {
  static constexpr usize kSize = sizeof(T);
};
template <>
struct Bytes<Float80> {
  static constexpr usize kSize = 10;
};

// Where an operand lives once ModRM has chosen.
enum class Place : u8 { None, Register, Memory, Immediate, WideImmediate, One, Number };

struct OperandForm {
  Place place = Place::None;
  u8 size = 0;          // bytes
  bool vector = false;  // XMM, YMM: a read of fewer bytes takes the low ones, a write keeps the others (VEX: clears them)
  bool operator==(const OperandForm&) const = default;
};

enum class Repeat : u8 { No, WhileEqual, WhileNotEqual };  // F3 (also plain REP), F2

// What left the flags, when the decoder knows: lets a condition become one compare, and a carry a few instructions.
enum class FlagProducer : u8 {
  Unknown,
  Subtract,  // a FlagOperation of differences
  Logic,
  Sum,       // Add or AddCarry
  Borrow,    // SubtractBorrow
  Kept,      // one whose flag_a has CF in its lowest bit
  Explicit,  // one of these, which has all flags there
};
using FlagProducers = u8;  // a set of them, bits
consteval FlagProducers flag_producers(auto... producers) { return static_cast<FlagProducers>((0u | ... | (1u << static_cast<unsigned>(producers)))); }

// What stencils of one block hand on in registers beside the state, when the next instruction reads flags.
struct HandedFlags {
  u64 result, a, b;
};

// Everything that selects one specialization of a row's semantics. A structural type: it is a template argument.
struct Form {
  OperandForm operand[4];
  u8 operand_size = 0;   // effective operand size in bytes: 2, 4 or 8
  bool absolute = false;    // the memory operand is an absolute offset in the instruction
  bool plain_address = false;  // it is base + displacement, flat, with 64 bits: what compilers use most
  bool locked = false;
  bool vex = false;     // VEX-encoded
  bool flags_dead = false;  // nobody will read the arithmetic flags that this instruction writes
  FlagProducer producer = FlagProducer::Unknown;
  bool flags_handed = false;  // the producer is the instruction in front, and hands them on
  Repeat repeat = Repeat::No;
  bool operator==(const Form&) const = default;
};

template <usize Size>
struct UnsignedOfSize;
template <> struct UnsignedOfSize<1> { using type = u8; };
template <> struct UnsignedOfSize<2> { using type = u16; };
template <> struct UnsignedOfSize<4> { using type = u32; };
template <> struct UnsignedOfSize<8> { using type = u64; };
template <> struct UnsignedOfSize<10> { using type = Float80; };
template <> struct UnsignedOfSize<16> { using type = V128; };
template <> struct UnsignedOfSize<32> { using type = V256; };

// The flags that a semantics writes and reads, for the liveness analysis; the default is "touches none".
struct FlagEffect {
  u32 written = 0;  // defined or undefined: no earlier value survives
  u32 read = 0;
};

// What an x87 instruction does to the register stack when nothing is wrong with it and its exceptions are masked.
enum class X87Tags : u8 {
  Stack,    // what is pushed is filled, what is popped emptied
  Fills,    // before that the operand is filled
  Empties,  // or emptied
  Alone,    // only TOP moves
};
struct X87Effect {
  bool any = false;  // the instruction has to do with it at all
  i8 step = 0;       // what is added to TOP
  X87Tags tags = X87Tags::Stack;
};

// How control goes on after a semantics' op().
enum class Flow : u8 {
  Next,         // void op(c)
  Direct,       // void op(c): to the relative target
  Conditional,  // bool op(c): true goes to the relative target
  Indirect,     // u64 op(c): the new RIP
  String,       // one iteration of a string instruction; the engine's driver repeats it
  Callout,      // a function of the VMM runs with the state complete
};

// E is an engine's binding:
//   CpuState& state()
//   u64 operand<N>()  u64 immediate()  u64 immediate2()     the bound fields
//   u64 wide()              a 64-bit immediate or absolute offset
//   u64 plain_offset()      base + displacement
//   u64 effective_offset()   offset part of the memory operand, wrapped to the address size
//   unsigned memory_segment()   the segment register of the memory operand
//   u64 linear(u64 offset, unsigned size, access)           adds and checks the segment
//   T load<T>(u64 linear)  void store<T>(u64 linear, T)     fault without returning
//   T update<T, Locked>(u64 linear, f)                       read-modify-write; returns the old value
//   u64 this_rip()                                           RIP of this instruction
//   u64 next_rip()                                           RIP behind this instruction, wrapped to the code size
//   u64 target_rip()                                         next_rip() + immediate, wrapped to operand and code size
//   void push<T>(T), T pop<T>(), …                           stack accesses by the stack's mode
//   [[noreturn]] void raise(Vector, error code)
//   kHandsFlags, HandedFlags& handed_flags()                 what the next instruction may be given, and what this one was
// A semantics reads everything, computes, makes the accesses that may fault, and only then writes registers and flags.
template <class E, Form F>
class Context : public E {
 public:
  using E::E;
  static constexpr Form kForm = F;

  template <usize N>
  using Type = typename UnsignedOfSize<F.operand[N].size>::type;
  template <usize N>
  static constexpr bool kIsMemory = F.operand[N].place == Place::Memory;
  // The unsigned type of the effective operand size, for instructions with implicit operands.
  using Operand = typename UnsignedOfSize<F.operand_size ? F.operand_size : 4>::type;

  // Register file access by byte offset.
  template <class T>
  VELLUM_INLINE T read_slot(u64 offset) {
    T value;
    std::memcpy(&value, reinterpret_cast<char*>(&this->state()) + offset, Bytes<T>::kSize);
    return value;
  }
  // A 32-bit write to a general register clears the upper half, SDM Vol. 1 3.4.1.1.
  template <class T>
  VELLUM_INLINE void write_gpr(u64 offset, T value) {
    char* slot = reinterpret_cast<char*>(&this->state()) + offset;
    if constexpr (sizeof(T) == 4) {
      const u64 wide = value;
      std::memcpy(slot, &wide, 8);
    } else {
      std::memcpy(slot, &value, sizeof(T));
    }
  }
  template <class T>
  VELLUM_INLINE void write_raw(u64 offset, T value) {
    keep_whole(value);
    std::memcpy(reinterpret_cast<char*>(&this->state()) + offset, &value, Bytes<T>::kSize);
  }
  // Where Binding::kWholeVectors, nothing is known of a vector of 32 bytes but that it is in a register.
  template <class T>
  VELLUM_INLINE static void keep_whole([[maybe_unused]] T& value) {
#if defined(VELLUM_AVX2_STENCILS)
    if constexpr (E::kWholeVectors && std::is_same_v<T, V256>) asm("" : "+x"(value));
#endif
  }
  // Writes a vector register's low bytes and clears the others, as VEX-encoded instructions do; SDM Vol. 1 14.4.1.
  template <class T>
  VELLUM_INLINE void write_vector(u64 offset, T value) {
    if constexpr (sizeof(T) < 16 && E::kWholeVectors) {
      write_raw<V256>(offset, V256{value, 0, 0, 0});
    } else if constexpr (sizeof(T) == 16 && E::kWholeVectors) {
      write_raw<V256>(offset, __builtin_shufflevector((V128)value, V128{}, 0, 1, 2, 3));
    } else if constexpr (sizeof(T) < 16) {
      write_raw<V128>(offset, V128{value, 0});
      write_raw<V128>(offset + 16, V128{});
    } else {
      write_raw<T>(offset, value);
      if constexpr (sizeof(T) < kVectorBytes) write_raw<V128>(offset + 16, V128{});
    }
  }
  template <usize N>
  VELLUM_INLINE u64 register_slot() {
    if constexpr (F.operand[N].vector) return this->template operand<N>();
    else return this->template gpr_operand<N>();
  }
  template <class T>
  VELLUM_INLINE T gpr(unsigned index) { return read_slot<T>(index * 8); }
  template <class T>
  VELLUM_INLINE void set_gpr(unsigned index, T value) { write_gpr<T>(index * 8, value); }

  VELLUM_INLINE u64 effective_offset() {
    if constexpr (F.plain_address) return this->plain_offset();
    else return E::effective_offset();
  }
  // The memory operand's linear address, segment checked.
  VELLUM_INLINE u64 address(unsigned size, AccessType access) {
    if constexpr (F.absolute) return this->linear(this->wide(), size, access);
    else if constexpr (F.plain_address) return this->plain_offset();
    else return this->linear(effective_offset(), size, access);
  }

  template <usize N>
  VELLUM_INLINE Type<N> read() {
    using T = Type<N>;
    constexpr Place place = F.operand[N].place;
    if constexpr (place == Place::Register) return read_slot<T>(register_slot<N>());
    else if constexpr (place == Place::Memory) return this->template load<T>(address(Bytes<T>::kSize, AccessType::Read));
    else if constexpr (place == Place::Immediate) return static_cast<T>(this->immediate());
    else if constexpr (place == Place::WideImmediate) return static_cast<T>(this->wide());
    else if constexpr (place == Place::One) return T{1};
    else static_assert(place == Place::Register, "operand cannot be read");
  }
  // The same, of an operand that is used more than once: an immediate that is a hole in the host's code is put into a register.
  template <usize N>
  VELLUM_INLINE Type<N> read_to_register() {
    if constexpr (F.operand[N].place == Place::Immediate && E::kImmediateIsHole && !F.flags_dead && sizeof(Type<N>) >= 4) {
      i64 value = this->immediate();
      asm("" : "+r"(value));
      __builtin_assume(value == static_cast<i32>(value));
      return static_cast<Type<N>>(value);
    } else {
      return read<N>();
    }
  }
  template <usize N>
  VELLUM_INLINE void write(Type<N> value) {
    using T = Type<N>;
    constexpr OperandForm form = F.operand[N];
    if constexpr (form.place == Place::Memory) this->template store<T>(address(Bytes<T>::kSize, AccessType::Write), value);
    else if constexpr (form.vector && F.vex) write_vector<T>(this->template operand<N>(), value);
    else if constexpr (form.vector) write_raw<T>(this->template operand<N>(), value);
    else write_gpr<T>(register_slot<N>(), value);
  }
  // Replaces operand N by f(old) and returns the old value; with LOCK, atomically. f must be pure.
  template <usize N, class Function>
  VELLUM_INLINE Type<N> update(Function f) {
    using T = Type<N>;
    if constexpr (kIsMemory<N>) {
      return this->template update_memory<T, F.locked>(address(Bytes<T>::kSize, AccessType::Write), f);
    } else {
      const T old = read<N>();
      write<N>(f(old));
      return old;
    }
  }
  // #GP(0) unless the memory operand is aligned to `alignment` bytes; SDM Vol. 2 "Exceptions Type 4" and others. Comes
  // before the segment's limit, as on silicon: a misaligned operand beyond the end of SS is #GP, not #SS.
  template <usize N>
  VELLUM_INLINE void require_aligned(unsigned alignment) {
    if constexpr (kIsMemory<N>)
      if (this->unchecked_linear(effective_offset()) & (alignment - 1)) [[unlikely]]
        this->raise(Vector::GeneralProtection, 0);
  }

  // Flags. The templates over FlagOperation take operands of the instruction's own type.
  template <FlagOperation Operation, class T>
  VELLUM_INLINE void set_flags(T a, T b, T result) {
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      s.flag_operation = Operation;
      s.flag_result = sign_extended(result);
      s.flag_a = sign_extended(a);
      s.flag_b = sign_extended(b);
    }
  }
  // Of a - b.
  template <class T>
  VELLUM_INLINE void set_difference_flags(T a, T b) {
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      s.flag_operation = subtraction_of<T>();
      s.flag_a = sign_extended(a);
      s.flag_b = sign_extended(b);
      if constexpr (E::kOpaque) s.flag_result = 0;  // so that no region keeps the one before
      if constexpr (E::kHandsFlags) {
        this->handed_flags().a = sign_extended(a);
        this->handed_flags().b = sign_extended(b);
      }
    }
  }
  template <class T>
  VELLUM_INLINE void set_logic_flags(T result) {
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      s.flag_operation = FlagOperation::Logic;
      s.flag_result = sign_extended(result);
      if constexpr (E::kHandsFlags) this->handed_flags().result = sign_extended(result);
    }
  }
  template <FlagOperation Operation, class T>
  VELLUM_INLINE void set_step_flags(T result, bool carry) {  // INC and DEC keep CF
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      s.flag_operation = Operation;
      s.flag_result = sign_extended(result);
      s.flag_a = carry;
      s.flag_b = sign_extended(static_cast<T>(T{1} << (8 * sizeof(T) - 1)));
    }
  }
  // ZF, SF, PF from the result; CF, AF, OF given as RFLAGS bits.
  template <class T>
  VELLUM_INLINE void set_result_flags(T result, u32 carry_overflow_auxiliary) {
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      s.flag_operation = FlagOperation::Result;
      s.flag_result = sign_extended(result);
      s.flag_a = carry_overflow_auxiliary;
    }
  }
  // All six, as RFLAGS bits.
  VELLUM_INLINE void set_explicit_flags(u32 bits) {
    if constexpr (!F.flags_dead) {
      CpuState& s = this->state();
      if constexpr (F.producer != FlagProducer::Explicit) s.flag_operation = FlagOperation::Explicit;
      s.flag_a = bits;
    }
  }
  VELLUM_INLINE LazyFlags flags() {
    LazyFlags f = lazy_flags(this->state());
    if constexpr (F.flags_handed) {
      const HandedFlags& handed = this->handed_flags();
      f = {f.operation, handed.result, handed.a, handed.b};
    }
    if constexpr (F.producer == FlagProducer::Subtract) f.operation = std::max(f.operation, FlagOperation::Subtract64);  // is_difference(), for the compiler
    if constexpr (F.producer == FlagProducer::Logic) f.operation = FlagOperation::Logic;
    if constexpr (F.producer == FlagProducer::Sum) f.operation = FlagOperation::AddCarry;  // whose carry is an addition's, too
    if constexpr (F.producer == FlagProducer::Borrow) f.operation = FlagOperation::SubtractBorrow;
    if constexpr (F.producer == FlagProducer::Explicit) f.operation = FlagOperation::Explicit;
    return f;
  }
  VELLUM_INLINE u32 arithmetic() { return this->arithmetic_flags_of(flags()); }
  VELLUM_INLINE bool carry() {
    if constexpr (F.producer == FlagProducer::Unknown) return this->unknown_condition(2, flags());  // the code of JC
    else if constexpr (F.producer == FlagProducer::Kept) return flags().a & kCf;
    else return carry_flag(flags());
  }
  VELLUM_INLINE bool condition(u8 code) {
    if constexpr (F.producer == FlagProducer::Unknown) return this->unknown_condition(code, flags());
    else return condition_holds(code, flags());
  }
};

}  // namespace vellum
