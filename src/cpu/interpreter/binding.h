// The interpreter's binding: decoded fields are those of a BoundInsn.
#pragma once

#include "cpu/binding.h"

namespace vellum {

class InterpreterFields {
 public:
  static constexpr bool kSseMasked = false;
  VELLUM_INLINE explicit InterpreterFields(const BoundInsn* insn) : m_insn(insn) {}
  VELLUM_INLINE const BoundInsn* insn() const { return m_insn; }
  template <usize N>
  VELLUM_INLINE u64 operand() const { return m_insn->operand[N]; }
  VELLUM_INLINE i64 immediate() const { return m_insn->immediate_low; }
  VELLUM_INLINE u64 wide() const { return m_insn->wide(); }
  VELLUM_INLINE u16 immediate2() const { return m_insn->immediate2(); }
  VELLUM_INLINE u64 base_offset() const { return u64{m_insn->base} * 8; }
  VELLUM_INLINE u64 index_offset() const { return u64{m_insn->index} * 8; }
  VELLUM_INLINE u8 scale() const { return m_insn->scale; }
  VELLUM_INLINE i64 displacement() const { return m_insn->displacement; }
  VELLUM_INLINE u64 address_mask(const CpuState& s) const { return s.gpr.data()[m_insn->address_mask_slot]; }
  VELLUM_INLINE u8 segment() const { return m_insn->segment; }
  VELLUM_INLINE SegmentMode segment_mode() const { return m_insn->segment_mode; }
  VELLUM_INLINE StackMode stack_mode() const { return m_insn->stack_mode; }
  VELLUM_INLINE u8 operand_size() const { return m_insn->operand_size; }
  VELLUM_INLINE u8 address_size() const { return m_insn->address_size; }
  VELLUM_INLINE u8 code_size_bytes() const { return m_insn->code_size_bytes; }
  VELLUM_INLINE u16 offset() const { return m_insn->offset; }
  VELLUM_INLINE u8 length() const { return m_insn->length; }
  VELLUM_INLINE u64 end_offset() const { return u64{offset()} + length(); }
  VELLUM_INLINE u64 target_offset() const { return end_offset() + static_cast<u64>(immediate()); }
  VELLUM_INLINE u64 segment_base(const CpuState& s) const { return s.segment[segment()].base; }

 private:
  const BoundInsn* m_insn;
};

using InterpreterBinding = Binding<InterpreterFields>;

}  // namespace vellum
