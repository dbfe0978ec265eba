// Decoded fields as holes: each is the address of a symbol that only the relocations of a stencil mention.
#pragma once

#include "cpu/binding.h"

// A hole's value is its symbol's address, patched in when the stencil is copied.
extern "C" {
extern char vellum_hole_operand0[], vellum_hole_operand1[], vellum_hole_operand2[], vellum_hole_operand3[];
extern char vellum_hole_immediate[], vellum_hole_wide[], vellum_hole_immediate2[], vellum_hole_base[], vellum_hole_index[], vellum_hole_scale[];
extern char vellum_hole_displacement[], vellum_hole_address_mask[], vellum_hole_segment[], vellum_hole_offset[];
extern char vellum_hole_length[], vellum_hole_insn[];
}

namespace vellum {

// Modes that would otherwise be branches at run time are part of the stencil's type.
template <SegmentMode Segment, StackMode Stack, u8 OperandSize, u8 AddressSize, u8 CodeSizeBytes>
class HoleFields {
 public:
  VELLUM_INLINE const BoundInsn* insn() const { return reinterpret_cast<const BoundInsn*>(vellum_hole_insn); }
  template <usize N>
  VELLUM_INLINE u64 operand() const {
    constexpr char* kHoles[] = {vellum_hole_operand0, vellum_hole_operand1, vellum_hole_operand2, vellum_hole_operand3};
    return reinterpret_cast<u64>(kHoles[N]);
  }
  VELLUM_INLINE i64 immediate() const { return reinterpret_cast<i64>(vellum_hole_immediate); }
  VELLUM_INLINE u64 wide() const { return reinterpret_cast<u64>(vellum_hole_wide); }
  VELLUM_INLINE u16 immediate2() const { return static_cast<u16>(reinterpret_cast<u64>(vellum_hole_immediate2)); }
  VELLUM_INLINE u64 base() const { return reinterpret_cast<u64>(vellum_hole_base); }
  VELLUM_INLINE u64 index() const { return reinterpret_cast<u64>(vellum_hole_index); }
  VELLUM_INLINE u8 scale() const { return static_cast<u8>(reinterpret_cast<u64>(vellum_hole_scale)); }
  VELLUM_INLINE i64 displacement() const { return reinterpret_cast<i64>(vellum_hole_displacement); }
  VELLUM_INLINE u64 address_mask(const CpuState&) const { return AddressSize == 8 ? ~u64{0} : AddressSize == 4 ? 0xffffffff : 0xffff; }
  VELLUM_INLINE u8 segment() const { return static_cast<u8>(reinterpret_cast<u64>(vellum_hole_segment)); }
  VELLUM_INLINE SegmentMode segment_mode() const { return Segment; }
  VELLUM_INLINE StackMode stack_mode() const { return Stack; }
  VELLUM_INLINE u8 operand_size() const { return OperandSize; }
  VELLUM_INLINE u8 address_size() const { return AddressSize; }
  VELLUM_INLINE u8 code_size_bytes() const { return CodeSizeBytes; }
  VELLUM_INLINE u16 offset() const { return static_cast<u16>(reinterpret_cast<u64>(vellum_hole_offset)); }
  VELLUM_INLINE u8 length() const { return static_cast<u8>(reinterpret_cast<u64>(vellum_hole_length)); }
};

}  // namespace vellum
