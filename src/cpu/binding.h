// How semantics reach operands, memory and the stack: the one binding of all engines, over where the engine keeps the
// decoded fields.
#pragma once

#include <bit>

#include "cpu/memory_order.h"
#include "cpu/semantics/context.h"

namespace vellum {

// Helpers out of line, so that generated code stays small; cpu/engine_helpers.cc.
#define VELLUM_HELPER VELLUM_FROM_STENCILS [[gnu::noinline, clang::preserve_most]]
#define VELLUM_NORETURN_HELPER VELLUM_FROM_STENCILS [[noreturn, gnu::noinline]]
VELLUM_HELPER void engine_load_slow(CpuState* s, const BoundInsn* insn, u64 linear,
                                                                   void* data, unsigned size);
VELLUM_HELPER void engine_store_slow(CpuState* s, const BoundInsn* insn, u64 linear,
                                                                    const void* data, unsigned size);
// The same for up to eight bytes, in registers: a value whose address is taken would be spilled on the fast path too.
// And for vectors through CpuState::transfer, so that no stencil makes a stack frame for them.
VELLUM_HELPER u64 engine_load_value_slow(CpuState* s, const BoundInsn* insn, u64 linear,
                                                                   unsigned size);
VELLUM_HELPER void engine_store_value_slow(CpuState* s, const BoundInsn* insn, u64 linear,
                                                                     u64 value, unsigned size);
VELLUM_HELPER void engine_load_vector_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size);
VELLUM_HELPER void engine_store_vector_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size);
// The same where a StackTranslation does not permit the access; the page becomes the one that it is of.
VELLUM_HELPER u64 engine_load_stack_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size);
VELLUM_HELPER void engine_store_stack_slow(CpuState* s, const BoundInsn* insn, u64 linear, u64 value, unsigned size);
VELLUM_HELPER u8* engine_update_stack_host(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size);
// exchange_unaligned() of cpu/memory_order.h.
VELLUM_HELPER bool engine_exchange_unaligned(u8* host, u64* expected, u64 replacement, unsigned size);
// Where a read-modify-write may work in place, or nullptr when it must be split into a load and a store.
VELLUM_HELPER u8* engine_update_host(CpuState* s, const BoundInsn* insn, u64 linear,
                                                                    unsigned size);
VELLUM_HELPER u64 engine_segment(CpuState* s, const BoundInsn* insn, unsigned segment,
                                                                u64 offset, unsigned size, AccessType access);
VELLUM_NORETURN_HELPER void engine_raise(CpuState* s, const BoundInsn* insn, Vector vector, u32 error_code);
VELLUM_HELPER void engine_check_target(CpuState* s, const BoundInsn* insn, u64 target);
VELLUM_HELPER bool engine_condition(u8 code, FlagOperation operation, u64 result, u64 a,
                                                                   u64 b);
VELLUM_HELPER u32 engine_arithmetic_flags(FlagOperation operation, u64 result, u64 a,
                                                                         u64 b);

// Fields says where an engine finds what decoding settled:
//   operand<N>(), immediate(), wide(), immediate2(), base_offset(), index_offset() (of slots, in bytes), scale(),
//   displacement(), address_mask(), segment(), segment_base(), segment_mode(), stack_mode(), operand_size(),
//   address_size(), code_size_bytes()
//   offset(), end_offset(), target_offset(): of this instruction, the next one, and a relative transfer's target, all
//   from CpuState::code_base
//   insn(): the BoundInsn, which helpers need to find the faulting instruction
//   kOperandOnStack: if it has one, the memory operand is at an offset from RSP, flat, with 64 bits
//   Opaque: if it has one, accesses to memory and conditions are calls for the optimizing translator to fill in
// They are fields of a BoundInsn (interpreter), holes in a stencil (baseline), or constants (optimizing translator).
template <class Fields>
class Binding {
 public:
  // The code runs only while MXCSR masks all exceptions.
  static constexpr bool kSseMasked = Fields::kSseMasked;
  // immediate() is a hole in a stencil, and instructions of the host may have the same one (semantics/by_hole.h).
  static constexpr bool kImmediateIsHole = requires { Fields::kImmediateIsHole; };
  // Or a number, known when code is made (semantics/byte_moves.h).
  static constexpr bool kImmediateIsConstant = requires { Fields::kImmediateIsConstant; };
  // Vectors of 32 bytes are read and written as one, of which the compiler would make two of what it handles in halves: a load
  // of what two stores have written waits for both to leave the store buffer.
  static constexpr bool kWholeVectors = requires { Fields::kWholeVectors; };
  // Likewise of x87, and none is pending.
  static constexpr bool kX87Masked = requires { typename Fields::Opaque; };

  template <class... Arguments>
  VELLUM_INLINE Binding(CpuState* s, Arguments... arguments) : m_s(s), m_fields(arguments...) {}

  VELLUM_INLINE CpuState& state() { return *m_s; }
  static constexpr bool kOpaque = requires { typename Fields::Opaque; };
  static constexpr bool kHandsFlags = requires(Fields fields) { fields.handed_flags(); };
  VELLUM_INLINE HandedFlags& handed_flags() requires kHandsFlags { return m_fields.handed_flags(); }
  template <usize N>
  VELLUM_INLINE u64 operand() { return m_fields.template operand<N>(); }
  // Of a general register.
  template <usize N>
  VELLUM_INLINE u64 gpr_operand() {
    if constexpr (requires { m_fields.template gpr_offset<N>(); }) return m_fields.template gpr_offset<N>();
    else return m_fields.template operand<N>();
  }
  VELLUM_INLINE i64 immediate() { return m_fields.immediate(); }
  VELLUM_INLINE u64 wide() { return m_fields.wide(); }
  VELLUM_INLINE u16 immediate2() { return m_fields.immediate2(); }
  VELLUM_INLINE unsigned scale() { return m_fields.scale(); }
  VELLUM_INLINE bool code64() { return m_fields.code_size_bytes() == 8; }

  // The x87 status word's TOP, and X87State::valid.
  VELLUM_INLINE unsigned x87_top() {
    if constexpr (kX87Masked)
      if (m_fields.knows_x87_stack()) return m_fields.x87_stack() & 7;
    return (m_s->x87.status >> 11) & 7;
  }
  VELLUM_INLINE u8 x87_valid() {
    if constexpr (kX87Masked)
      if (m_fields.knows_x87_stack()) return static_cast<u8>(m_fields.x87_stack() >> 8);
    return m_s->x87.valid;
  }
  // Optimized code gives up in front of this instruction, with nothing of it done.
  [[noreturn]] VELLUM_INLINE void leave_region() { Fields::Opaque::leave(m_fields.insn()); }

  VELLUM_INLINE bool is_flat() { return m_fields.segment_mode() == SegmentMode::Flat; }
  VELLUM_INLINE unsigned memory_segment() { return m_fields.segment(); }
  VELLUM_INLINE u64 plain_offset() { return slot(m_fields.base_offset()) + static_cast<u64>(m_fields.displacement()); }
  VELLUM_INLINE u64 effective_offset() {
    return (slot(m_fields.base_offset()) + index_part() + static_cast<u64>(m_fields.displacement())) & m_fields.address_mask(*m_s);
  }
  VELLUM_INLINE u64 linear(u64 offset, unsigned size, AccessType access) {
    if (m_fields.segment_mode() != SegmentMode::Flat) [[unlikely]] {
      if (m_fields.segment_mode() == SegmentMode::BaseOnly) return m_fields.segment_base(*m_s) + offset;
      return engine_segment(m_s, m_fields.insn(), m_fields.segment(), offset, size, access);
    }
    return offset;
  }
  // The linear address of an offset in the memory operand's segment, without the segment's checks.
  VELLUM_INLINE u64 unchecked_linear(u64 offset) {
    if (m_fields.segment_mode() != SegmentMode::Flat) [[unlikely]] return m_fields.segment_base(*m_s) + offset;
    return offset;
  }
  // An offset modulo the address size.
  VELLUM_INLINE u64 wrap_offset(u64 offset) { return offset & m_fields.address_mask(*m_s); }
  // The linear address of `offset` in the stack segment, wrapped to the stack's size.
  VELLUM_INLINE u64 stack_linear(u64 offset, unsigned size, AccessType access) {
    switch (m_fields.stack_mode()) {
      case StackMode::Flat64: return offset;
      case StackMode::Flat32: return static_cast<u32>(offset);
      case StackMode::Checked: return engine_segment(m_s, m_fields.insn(), kSs, offset & stack_mask(), size, access);
    }
    __builtin_unreachable();
  }
  // For runs of string instructions: the host address of a flat data offset and the bytes from there to the end of its
  // page, or no bytes when the TLB has no such permission for it (then the ordinary access will tell).
  VELLUM_INLINE u8* bulk_host(u64 offset, AccessType access, u64& bytes) {
    bytes = 0;
    if (m_fields.segment_mode() != SegmentMode::Flat) return nullptr;
    const TlbEntry& entry = tlb()[Tlb::slot(offset)];
    const u64 x = offset ^ (access == AccessType::Write ? entry.write_tag : entry.read_tag);
    if (x >= kPageSize) return nullptr;
    bytes = kPageSize - x;
    order_bulk_access();
    return entry.host + x;
  }
  // String operands: DS:rSI with override, ES:rDI. The offset is already wrapped.
  VELLUM_INLINE u64 segment_linear(unsigned segment, u64 offset, unsigned size, AccessType access) {
    if (m_fields.segment_mode() == SegmentMode::Flat || (m_fields.segment_mode() == SegmentMode::BaseOnly && segment == kEs))
      return offset;
    return engine_segment(m_s, m_fields.insn(), segment, offset, size, access);
  }

  template <class T>
  VELLUM_INLINE T load(u64 linear) {
    if constexpr (kOpaque) {
      if constexpr (Fields::Opaque::template kHas<T>) return Fields::Opaque::template load<T>(m_s, m_fields.insn(), linear);
      else return load_out_of_line<T>(linear);
    }
    if constexpr (kOperandOnStack && kInRegister<T>) return load_stack<T>(linear);
    usize entry = entry_offset(linear);
    const u64 x = linear ^ entry_field(entry, offsetof(TlbEntry, read_tag));
    if (x <= kPageSize - Bytes<T>::kSize) [[likely]] {
      const u8* host = host_of(entry);
      if constexpr (Bytes<T>::kSize == sizeof(T)) {
        return ordered_load<T>(host + x);
      } else {
        T value{};
        std::memcpy(&value, host + x, Bytes<T>::kSize);
        order_bulk_access();
        return value;
      }
    }
    return load_out_of_line<T>(linear_again(linear, x, entry, offsetof(TlbEntry, read_tag)));
  }
  template <class T>
  VELLUM_INLINE void store(u64 linear, T value) {
    if constexpr (kOpaque) {
      if constexpr (Fields::Opaque::template kHas<T>) Fields::Opaque::store(m_s, m_fields.insn(), linear, value);
      else store_out_of_line<T>(linear, value);
      return;
    }
    if constexpr (kOperandOnStack && kInRegister<T>) return store_stack<T>(linear, value);
    usize entry = entry_offset(linear);
    const u64 x = linear ^ entry_field(entry, offsetof(TlbEntry, write_tag));
    if (x <= kPageSize - Bytes<T>::kSize) [[likely]] {
      u8* host = host_of(entry);
      if constexpr (Bytes<T>::kSize == sizeof(T)) {
        ordered_store<T>(host + x, value);
      } else {
        order_bulk_access();
        std::memcpy(host + x, &value, Bytes<T>::kSize);
      }
      return;
    }
    store_out_of_line<T>(linear_again(linear, x, entry, offsetof(TlbEntry, write_tag)), value);
  }
  // Where to store these bytes without a fault, or nullptr: across pages or in MMIO.
  template <usize Size>
  VELLUM_INLINE u8* writable_host(u64 linear) { return update_host<Size>(linear); }
  // Faults now if a store of these bytes would.
  VELLUM_INLINE void probe_write(u64 linear, unsigned size) { engine_update_host(m_s, m_fields.insn(), linear, size); }
  template <class T, bool Locked, class Function>
  VELLUM_INLINE T update_memory(u64 linear, Function f) {
    u8* host = update_host<sizeof(T)>(linear);
    if (host) [[likely]] {
      if constexpr (Locked && sizeof(T) <= 8) {
        if ((linear & (sizeof(T) - 1)) == 0) [[likely]] {
          T* cell = reinterpret_cast<T*>(host);
          T old = __atomic_load_n(cell, __ATOMIC_SEQ_CST);
          while (!__atomic_compare_exchange_n(cell, &old, f(old), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
          }
          if constexpr (!kHostIsTso) full_memory_fence();
          return old;
        }
        u64 old = ordered_load<T>(host);
        while (!engine_exchange_unaligned(host, &old, f(static_cast<T>(old)), sizeof(T))) {
        }
        return static_cast<T>(old);
      }
      const T old = ordered_load<T>(host);
      ordered_store<T>(host, f(old));
      return old;
    }
    // Across pages or in MMIO: engine_update_host() has made sure that the store cannot fault.
    const T old = load_out_of_line<T>(linear);
    store_out_of_line<T>(linear, f(old));
    return old;
  }

  VELLUM_INLINE u64 next_rip() {
    return wrap(m_s->code_base + m_fields.end_offset(), m_fields.code_size_bytes());
  }
  VELLUM_INLINE u64 this_rip() { return m_s->code_base + m_fields.offset(); }
  VELLUM_INLINE u64 target_rip() {
    return wrap(m_s->code_base + m_fields.target_offset(), m_fields.operand_size());
  }
  // A near transfer's target must be canonical and inside CS, SDM Vol. 2 "JMP", else #GP(0) at the transfer.
  VELLUM_INLINE void check_target(u64 target) {
    if (m_fields.code_size_bytes() == 8) {
      if (static_cast<i64>(target << 16) >> 16 != static_cast<i64>(target)) [[unlikely]]
        engine_check_target(m_s, m_fields.insn(), target);
    } else if (m_fields.stack_mode() == StackMode::Checked || m_fields.code_size_bytes() == 2) {
      engine_check_target(m_s, m_fields.insn(), target);
    }
  }

  // The same of a relative target: with 64 bits it is as canonical as RIP while no bit above those that the distance reaches differs.
  VELLUM_INLINE void check_relative_target() {
    const u64 target = target_rip();
    if (m_fields.code_size_bytes() != 8) check_target(target);
    else if ((target ^ m_s->code_base) >> 47) [[unlikely]] engine_check_target(m_s, m_fields.insn(), target);
  }

  // Relative targets: in 64-bit mode they leave the canonical range only next to its edges, where the fetch faults.
  VELLUM_INLINE void check_direct_target() {
    if (m_fields.code_size_bytes() != 8) check_target(target_rip());
  }

  // Runs a chunk of a repeated string instruction; true when it is finished. SDM Vol. 2B "REP". Each iteration leaves
  // the registers complete, so that a fault or an interrupt between two resumes with the rest.
  template <class Semantics, Form F, class C>
  VELLUM_INLINE bool run_string(C& c) {
    const unsigned size = m_fields.address_size();
    u64 count = wrap(m_s->gpr[kRcx], size);
    u64 chunk = m_s->rflags & kTf ? 1 : 4096;
    while (count && chunk) {
      u64 done = 1;
      if constexpr (requires { Semantics::bulk(c, count); }) {
        done = Semantics::bulk(c, count < chunk ? count : chunk);
        order_bulk_access();
      } else {
        Semantics::op(c);
      }
      count -= done;
      chunk -= done;
      write_counter(count, size);
      if constexpr (requires { Semantics::kCompares; })
        if (zero_flag(lazy_flags(*m_s)) != (F.repeat == Repeat::WhileEqual)) return true;
    }
    return count == 0;
  }

  // The stack. `release` counts bytes.
  template <class T>
  VELLUM_INLINE void push(T value) {
    u64& rsp = m_s->gpr[kRsp];
    switch (m_fields.stack_mode()) {
      case StackMode::Flat64:
        if constexpr (kTlbInRegister) {
          const u64 top = rsp - sizeof(T);
          store_stack<T>(top, value);
          rsp = top;
        } else {
          store<T>(rsp - sizeof(T), value);
          rsp -= sizeof(T);
        }
        break;
      case StackMode::Flat32: {
        const u32 top = static_cast<u32>(rsp - sizeof(T));
        store<T>(top, value);
        rsp = top;
        break;
      }
      case StackMode::Checked: {
        const u64 mask = stack_mask();
        const u64 top = (rsp - sizeof(T)) & mask;
        store<T>(engine_segment(m_s, m_fields.insn(), kSs, top, sizeof(T), AccessType::Write), value);
        rsp = (rsp & ~mask) | top;
        break;
      }
    }
  }
  // The value `offset` bytes above the top of the stack.
  template <class T>
  VELLUM_INLINE T peek(u64 offset) {
    const u64 rsp = m_s->gpr[kRsp];
    switch (m_fields.stack_mode()) {
      case StackMode::Flat64:
        if constexpr (kTlbInRegister) return load_stack<T>(rsp + offset);
        else return load<T>(rsp + offset);
      case StackMode::Flat32: return load<T>(static_cast<u32>(rsp + offset));
      case StackMode::Checked:
        return load<T>(engine_segment(m_s, m_fields.insn(), kSs, (rsp + offset) & stack_mask(), sizeof(T), AccessType::Read));
    }
    __builtin_unreachable();
  }
  VELLUM_INLINE void release_stack(u64 bytes) { set_stack_pointer(m_s->gpr[kRsp] + bytes); }
  // Writes as much of rSP as the stack's address size covers.
  VELLUM_INLINE void set_stack_pointer(u64 value) {
    u64& rsp = m_s->gpr[kRsp];
    switch (m_fields.stack_mode()) {
      case StackMode::Flat64: rsp = value; break;
      case StackMode::Flat32: rsp = static_cast<u32>(value); break;
      case StackMode::Checked: rsp = (rsp & ~stack_mask()) | (value & stack_mask()); break;
    }
  }
  // Bits of rSP that address the stack.
  VELLUM_INLINE u64 stack_mask() {
    if (m_fields.stack_mode() == StackMode::Flat64) return ~u64{0};
    return m_s->segment[kSs].big() ? 0xffffffff : 0xffff;
  }

  [[noreturn]] __attribute__((always_inline)) inline void raise(Vector vector, u32 error_code) {
    engine_raise(m_s, m_fields.insn(), vector, error_code);
  }
  VELLUM_INLINE bool unknown_condition(u8 code, const LazyFlags& f) {
    if constexpr (kOpaque) return Fields::Opaque::condition(code, f);
    switch (code >> 1) {  // a constant: most conditions need not know what left the flags, or little of it
      case 1: return any_carry_flag(f) != (code & 1);
      case 2:
        if (is_difference(f.operation)) return (f.a == f.b) != (code & 1);
        if (f.operation != FlagOperation::Explicit) [[likely]] return (f.result == 0) != (code & 1);
        break;
      case 3:
        if (is_difference(f.operation)) [[likely]] return (f.a <= f.b) != (code & 1);
        if (f.operation == FlagOperation::Logic) return (f.result == 0) != (code & 1);
        break;
      case 4:
        if (static_cast<u64>(f.operation) - 1 < static_cast<u64>(FlagOperation::Result)) [[likely]] return (static_cast<i64>(f.result) < 0) != (code & 1);
        break;
      case 6:
        if (is_difference(f.operation)) [[likely]] return (static_cast<i64>(f.a) < static_cast<i64>(f.b)) != (code & 1);
        if (f.operation == FlagOperation::Logic) return (static_cast<i64>(f.result) < 0) != (code & 1);
        break;
      case 7:
        if (is_difference(f.operation)) [[likely]] return (static_cast<i64>(f.a) <= static_cast<i64>(f.b)) != (code & 1);
        if (f.operation == FlagOperation::Logic) return (static_cast<i64>(f.result) <= 0) != (code & 1);
        break;
      default: break;
    }
    return engine_condition(code, f.operation, f.result, f.a, f.b);
  }
  VELLUM_INLINE u32 arithmetic_flags_of(const LazyFlags& f) {
    if constexpr (kOpaque) return Fields::Opaque::flags(f);
    if (f.operation == FlagOperation::Explicit) return static_cast<u32>(f.a);
    if (f.operation == FlagOperation::Logic) return arithmetic_flags({FlagOperation::Logic, f.result, f.a, f.b});  // XOR in front of ADCX
    return engine_arithmetic_flags(f.operation, f.result, f.a, f.b);
  }
  VELLUM_INLINE unsigned address_size() { return m_fields.address_size(); }

 private:
  VELLUM_INLINE const TlbEntry* tlb() {
    if constexpr (requires { m_fields.tlb(); }) return m_fields.tlb();
    else return m_s->tlb;
  }
  // Of the entry for `linear` in the TLB, bytes. Where the table's address is in a register, compilers would compute the entry's, too,
  // and take one instruction more for each of its fields than an index needs: they are not to know that it is the same one.
  static constexpr bool kTlbInRegister = requires(Fields fields) { fields.tlb(); };
  VELLUM_INLINE static usize entry_offset(u64 linear) {
    constexpr unsigned kShift = kPageBits - std::countr_zero(sizeof(TlbEntry));
    constexpr u32 kMask = (kTlbSize - 1) * sizeof(TlbEntry);
#if defined(__BMI2__)  // a rotation spares the shift's move, which compilers prefer
    u32 rotated;
    asm("rorxl %2, %1, %0" : "=r"(rotated) : "r"(static_cast<u32>(linear)), "i"(kShift));
    usize offset = rotated & kMask;
#else
    usize offset = static_cast<u32>(linear) >> kShift & kMask;
#endif
    static_assert(std::has_single_bit(sizeof(TlbEntry)) && std::bit_width(kTlbSize - 1) + kPageBits <= 32);
    if constexpr (kTlbInRegister) asm("" : "+r"(offset));
    return offset;
  }
  VELLUM_INLINE u64 entry_field(usize entry, usize field) {
    u64 value;
    std::memcpy(&value, reinterpret_cast<const char*>(tlb()) + entry + field, sizeof value);
    return value;
  }
  // Of code that goes to a helper, with `x` the linear address's difference from a tag: the address, had from the two, so that the
  // difference may take its register.
  VELLUM_INLINE u64 linear_again(u64 linear, u64 x, usize entry, usize tag) {
    if constexpr (!kTlbInRegister) return linear;
    asm("" : "+r"(entry));
    return x ^ entry_field(entry, tag);
  }
  VELLUM_INLINE u8* host_of(usize entry) {
    if constexpr (kTlbInRegister) asm("" : "+r"(entry));
    return reinterpret_cast<u8*>(entry_field(entry, offsetof(TlbEntry, host)));
  }
  // Accesses to the stack, by the translation that is kept of its page.
  static constexpr bool kOperandOnStack = requires { Fields::kOperandOnStack; };
  VELLUM_INLINE u64 stack_field(usize field) {
    u64 value;
    std::memcpy(&value, reinterpret_cast<const char*>(StackTranslation::of(tlb())) + field, sizeof value);
    return value;
  }
  VELLUM_INLINE u8* stack_host() { return reinterpret_cast<u8*>(stack_field(offsetof(StackTranslation, host))); }
  VELLUM_INLINE u64 linear_again(u64 x) {
    auto translation = reinterpret_cast<u64>(StackTranslation::of(tlb()));
    asm("" : "+r"(translation));
    u64 page;
    std::memcpy(&page, reinterpret_cast<const char*>(translation) + offsetof(StackTranslation, page), sizeof page);
    return x ^ page;
  }
  template <class T>
  VELLUM_INLINE T load_stack(u64 linear) {
    const u64 x = linear ^ stack_field(offsetof(StackTranslation, page));
    if (x < stack_field(offsetof(StackTranslation, read_limit))) [[likely]] return ordered_load<T>(stack_host() + x);
    return static_cast<T>(engine_load_stack_slow(m_s, m_fields.insn(), linear_again(x), sizeof(T)));
  }
  template <class T>
  VELLUM_INLINE void store_stack(u64 linear, T value) {
    const u64 x = linear ^ stack_field(offsetof(StackTranslation, page));
    if (x < stack_field(offsetof(StackTranslation, write_limit))) [[likely]] ordered_store<T>(stack_host() + x, value);
    else engine_store_stack_slow(m_s, m_fields.insn(), linear, value, sizeof(T));
  }
  VELLUM_INLINE u64 slot(u64 offset) {
    u64 value;
    std::memcpy(&value, reinterpret_cast<const char*>(m_s->gpr.data()) + offset, 8);
    return value;
  }
  // The index, scaled: shifted by a hole in a stencil that does not know its scale, nothing in one that knows of none.
  VELLUM_INLINE u64 index_part() {
    if constexpr (requires { m_fields.index_part(u64{}); }) {
      if constexpr (Fields::kHasIndex) return m_fields.index_part(slot(m_fields.index_offset()));
      else return 0;
    } else {
      return slot(m_fields.index_offset()) << m_fields.scale();
    }
  }
  template <usize Size>
  VELLUM_INLINE u8* update_host(u64 linear) {
    if constexpr (kOpaque) {
      return Fields::Opaque::template update_host<Size>(m_s, m_fields.insn(), linear);
    } else if constexpr (kOperandOnStack && Size <= 8) {
      const u64 x = linear ^ stack_field(offsetof(StackTranslation, page));
      if (x < stack_field(offsetof(StackTranslation, write_limit))) [[likely]] return stack_host() + x;
      return engine_update_stack_host(m_s, m_fields.insn(), linear, Size);
    } else {
      const TlbEntry& entry = tlb()[Tlb::slot(linear)];
      const u64 x = linear ^ entry.write_tag;
      if (x <= kPageSize - Size && linear_readable(entry, linear)) [[likely]] return entry.host + x;
      return engine_update_host(m_s, m_fields.insn(), linear, Size);
    }
  }
  template <class T>
  static constexpr bool kInRegister = std::is_integral_v<T> && sizeof(T) <= 8;
  template <class T>
  VELLUM_INLINE T load_out_of_line(u64 linear) {
    if constexpr (kInRegister<T>) {
      return static_cast<T>(engine_load_value_slow(m_s, m_fields.insn(), linear, sizeof(T)));
    } else if constexpr (!kOpaque) {
      T value{};
      engine_load_vector_slow(m_s, m_fields.insn(), linear, Bytes<T>::kSize);
      std::memcpy(&value, &m_s->transfer, Bytes<T>::kSize);
      return value;
    } else {
      T value{};
      engine_load_slow(m_s, m_fields.insn(), linear, &value, Bytes<T>::kSize);
      return value;
    }
  }
  template <class T>
  VELLUM_INLINE void store_out_of_line(u64 linear, T value) {
    if constexpr (kInRegister<T>) {
      engine_store_value_slow(m_s, m_fields.insn(), linear, value, sizeof(T));
    } else if constexpr (!kOpaque) {
      std::memcpy(&m_s->transfer, &value, Bytes<T>::kSize);
      engine_store_vector_slow(m_s, m_fields.insn(), linear, Bytes<T>::kSize);
    } else {
      engine_store_slow(m_s, m_fields.insn(), linear, &value, Bytes<T>::kSize);
    }
  }
  VELLUM_INLINE void write_counter(u64 value, unsigned size) {
    u64& rcx = m_s->gpr[kRcx];
    rcx = size == 2 ? (rcx & ~u64{0xffff}) | value : value;
  }
  VELLUM_INLINE static u64 wrap(u64 value, unsigned size_in_bytes) {
    return size_in_bytes == 8 ? value : size_in_bytes == 4 ? static_cast<u32>(value) : static_cast<u16>(value);
  }
  VELLUM_INLINE static bool linear_readable(const TlbEntry& entry, u64 linear) {
    return entry.read_tag == entry.write_tag;
  }

  CpuState* m_s;
  [[no_unique_address]] Fields m_fields;
};

}  // namespace vellum
