// What the optimizing translator replaces in the semantics' bitcode: accesses to guest memory, and conditions whose flags
// are known only once the instructions around are. Calls of functions that exist nowhere.
#pragma once

#include "cpu/binding.h"
#include "jit/bitcode/bitcode_table.h"

extern "C" {
vellum::u8 vellum_load_1(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u16 vellum_load_2(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u32 vellum_load_4(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u64 vellum_load_8(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::V128 vellum_load_16(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::V256 vellum_load_32(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
void vellum_store_1(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::u8 value);
void vellum_store_2(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::u16 value);
void vellum_store_4(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::u32 value);
void vellum_store_8(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::u64 value);
void vellum_store_16(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::V128 value);
void vellum_store_32(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear, vellum::V256 value);
// Where a read-modify-write of so many bytes works in place, or nullptr.
vellum::u8* vellum_update_1(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u8* vellum_update_2(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u8* vellum_update_4(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u8* vellum_update_8(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
vellum::u8* vellum_update_16(vellum::CpuState* s, const vellum::BoundInsn* insn, vellum::u64 linear);
// Control goes to this instruction's handler, outside the region.
[[noreturn]] void vellum_leave_region(const vellum::BoundInsn* insn);
[[gnu::const]] bool vellum_condition(vellum::u8 code, vellum::FlagOperation operation, vellum::u64 result, vellum::u64 a, vellum::u64 b);
[[gnu::const]] vellum::u32 vellum_flags(vellum::FlagOperation operation, vellum::u64 result, vellum::u64 a, vellum::u64 b);
}

namespace vellum {

struct OpaqueMemory {
  template <class T>
  static constexpr bool kHas = std::is_same_v<T, u8> || std::is_same_v<T, u16> || std::is_same_v<T, u32> ||
                               std::is_same_v<T, u64> || std::is_same_v<T, V128> || std::is_same_v<T, V256>;

  template <class T>
  VELLUM_INLINE static T load(CpuState* s, const BoundInsn* insn, u64 linear) {
    if constexpr (sizeof(T) == 1) return vellum_load_1(s, insn, linear);
    else if constexpr (sizeof(T) == 2) return vellum_load_2(s, insn, linear);
    else if constexpr (sizeof(T) == 4) return vellum_load_4(s, insn, linear);
    else if constexpr (sizeof(T) == 8) return vellum_load_8(s, insn, linear);
    else if constexpr (sizeof(T) == 16) return vellum_load_16(s, insn, linear);
    else return vellum_load_32(s, insn, linear);
  }
  template <class T>
  VELLUM_INLINE static void store(CpuState* s, const BoundInsn* insn, u64 linear, T value) {
    if constexpr (sizeof(T) == 1) vellum_store_1(s, insn, linear, value);
    else if constexpr (sizeof(T) == 2) vellum_store_2(s, insn, linear, value);
    else if constexpr (sizeof(T) == 4) vellum_store_4(s, insn, linear, value);
    else if constexpr (sizeof(T) == 8) vellum_store_8(s, insn, linear, value);
    else if constexpr (sizeof(T) == 16) vellum_store_16(s, insn, linear, value);
    else vellum_store_32(s, insn, linear, value);
  }
  template <usize Size>
  VELLUM_INLINE static u8* update_host(CpuState* s, const BoundInsn* insn, u64 linear) {
    if constexpr (Size == 1) return vellum_update_1(s, insn, linear);
    else if constexpr (Size == 2) return vellum_update_2(s, insn, linear);
    else if constexpr (Size == 4) return vellum_update_4(s, insn, linear);
    else if constexpr (Size == 8) return vellum_update_8(s, insn, linear);
    else return vellum_update_16(s, insn, linear);
  }
  [[noreturn]] VELLUM_INLINE static void leave(const BoundInsn* insn) { vellum_leave_region(insn); }
  VELLUM_INLINE static bool condition(u8 code, const LazyFlags& f) {
    return vellum_condition(code, f.operation, f.result, f.a, f.b);
  }
  VELLUM_INLINE static u32 flags(const LazyFlags& f) {
    return vellum_flags(f.operation, f.result, f.a, f.b);
  }
};

// Decoded fields as scalar arguments, all of 64 bits, in the order of kBitcodeFields: inlining folds them.
class BitcodeFields {
 public:
  using Opaque = OpaqueMemory;
  static constexpr bool kImmediateIsConstant = true;
  static constexpr bool kSseMasked = true;  // regions look at it when they are entered
  VELLUM_INLINE BitcodeFields(const BoundInsn* insn, u64 operand0, u64 operand1, u64 operand2, u64 operand3, u64 immediate,
                              u64 wide, u64 immediate2, u64 base, u64 index, u64 scale, u64 displacement,
                              u64 address_mask, u64 segment, u64 segment_mode, u64 stack_mode, u64 operand_size,
                              u64 address_size, u64 code_size_bytes, u64 offset, u64 length, u64 x87_stack)
      : m_insn(insn), m_operand{operand0, operand1, operand2, operand3}, m_immediate(immediate), m_wide(wide),
        m_immediate2(immediate2), m_base(base), m_index(index), m_scale(scale), m_displacement(displacement),
        m_address_mask(address_mask), m_segment(segment), m_segment_mode(segment_mode), m_stack_mode(stack_mode),
        m_operand_size(operand_size), m_address_size(address_size), m_code_size_bytes(code_size_bytes), m_offset(offset),
        m_length(length), m_x87_stack(x87_stack) {}

  VELLUM_INLINE const BoundInsn* insn() const { return m_insn; }
  template <usize N>
  VELLUM_INLINE u64 operand() const { return m_operand[N]; }
  VELLUM_INLINE i64 immediate() const { return static_cast<i64>(m_immediate); }
  VELLUM_INLINE u64 wide() const { return m_wide; }
  VELLUM_INLINE u16 immediate2() const { return static_cast<u16>(m_immediate2); }
  VELLUM_INLINE u64 base() const { return m_base; }
  VELLUM_INLINE u64 index() const { return m_index; }
  VELLUM_INLINE u64 base_offset() const { return m_base * 8; }
  VELLUM_INLINE u64 index_offset() const { return m_index * 8; }
  VELLUM_INLINE u8 scale() const { return static_cast<u8>(m_scale); }
  VELLUM_INLINE i64 displacement() const { return static_cast<i64>(m_displacement); }
  VELLUM_INLINE u64 address_mask(const CpuState&) const { return m_address_mask; }
  VELLUM_INLINE u8 segment() const { return static_cast<u8>(m_segment); }
  VELLUM_INLINE u64 segment_base(const CpuState& s) const { return s.segment[m_segment].base; }
  VELLUM_INLINE SegmentMode segment_mode() const { return static_cast<SegmentMode>(m_segment_mode); }
  VELLUM_INLINE StackMode stack_mode() const { return static_cast<StackMode>(m_stack_mode); }
  VELLUM_INLINE u8 operand_size() const { return static_cast<u8>(m_operand_size); }
  VELLUM_INLINE u8 address_size() const { return static_cast<u8>(m_address_size); }
  VELLUM_INLINE u8 code_size_bytes() const { return static_cast<u8>(m_code_size_bytes); }
  VELLUM_INLINE u64 offset() const { return m_offset; }
  VELLUM_INLINE u64 length() const { return m_length; }
  // TOP, and X87State::valid above it, where they are the same each time.
  VELLUM_INLINE bool knows_x87_stack() const { return m_x87_stack != kUnknownX87Stack; }
  VELLUM_INLINE u32 x87_stack() const { return static_cast<u32>(m_x87_stack); }
  VELLUM_INLINE u64 end_offset() const { return m_offset + m_length; }
  VELLUM_INLINE u64 target_offset() const { return end_offset() + m_immediate; }

 private:
  const BoundInsn* m_insn;
  u64 m_operand[4];
  u64 m_immediate, m_wide, m_immediate2, m_base, m_index, m_scale, m_displacement, m_address_mask, m_segment,
      m_segment_mode, m_stack_mode, m_operand_size, m_address_size, m_code_size_bytes, m_offset, m_length, m_x87_stack;
};

}  // namespace vellum
