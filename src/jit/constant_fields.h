// Decoded fields as constants: scalar arguments of a function of the semantics' bitcode, which inlining folds.
#pragma once

#include "cpu/binding.h"

namespace vellum {

struct ConstantValues {
  u64 operand[4];
  i64 immediate, displacement;
  u64 address_mask, wide;
  const BoundInsn* insn;
  u16 immediate2, offset;
  u8 base, index, scale, segment, operand_size, address_size, code_size_bytes, length;
  SegmentMode segment_mode;
  StackMode stack_mode;
};

class ConstantFields {
 public:
  static constexpr bool kSseMasked = true;
  VELLUM_INLINE explicit ConstantFields(ConstantValues values) : m_values(values) {}
  VELLUM_INLINE const BoundInsn* insn() const { return m_values.insn; }
  template <usize N>
  VELLUM_INLINE u64 operand() const { return m_values.operand[N]; }
  VELLUM_INLINE i64 immediate() const { return m_values.immediate; }
  VELLUM_INLINE u64 wide() const { return m_values.wide; }
  VELLUM_INLINE u16 immediate2() const { return m_values.immediate2; }
  VELLUM_INLINE u64 base_offset() const { return u64{m_values.base} * 8; }
  VELLUM_INLINE u64 index_offset() const { return u64{m_values.index} * 8; }
  VELLUM_INLINE u8 scale() const { return m_values.scale; }
  VELLUM_INLINE i64 displacement() const { return m_values.displacement; }
  VELLUM_INLINE u64 address_mask(const CpuState&) const { return m_values.address_mask; }
  VELLUM_INLINE u8 segment() const { return m_values.segment; }
  VELLUM_INLINE SegmentMode segment_mode() const { return m_values.segment_mode; }
  VELLUM_INLINE StackMode stack_mode() const { return m_values.stack_mode; }
  VELLUM_INLINE u8 operand_size() const { return m_values.operand_size; }
  VELLUM_INLINE u8 address_size() const { return m_values.address_size; }
  VELLUM_INLINE u8 code_size_bytes() const { return m_values.code_size_bytes; }
  VELLUM_INLINE u16 offset() const { return m_values.offset; }
  VELLUM_INLINE u8 length() const { return m_values.length; }
  VELLUM_INLINE u64 end_offset() const { return u64{offset()} + length(); }
  VELLUM_INLINE u64 target_offset() const { return end_offset() + static_cast<u64>(immediate()); }
  VELLUM_INLINE u64 segment_base(const CpuState& s) const { return s.segment[segment()].base; }

 private:
  ConstantValues m_values;
};

}  // namespace vellum
