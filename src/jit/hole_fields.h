// Decoded fields as holes: each is the address of a symbol that only the relocations of a stencil mention.
#pragma once

#include "cpu/binding.h"

// A hole's value is its symbol's address, patched in when the stencil is copied.
extern "C" {
extern char vellum_hole_operand0[], vellum_hole_operand1[], vellum_hole_operand2[], vellum_hole_operand3[];
extern char vellum_hole_gpr0[], vellum_hole_gpr1[], vellum_hole_gpr2[], vellum_hole_gpr3[];  // of general registers
extern char vellum_hole_immediate[], vellum_hole_immediate2[], vellum_hole_base[], vellum_hole_index[], vellum_hole_scale[];
extern char vellum_hole_displacement[], vellum_hole_segment[], vellum_hole_segment_base[];
extern char vellum_hole_offset[], vellum_hole_end_offset[], vellum_hole_target_offset[];
// Wider than a displacement: only through wide_hole().
extern char vellum_hole_wide[], vellum_hole_insn[], vellum_hole_site_place[], vellum_hole_heat[];
extern char vellum_hole_site_distance[], vellum_hole_site_key_offset[];
}

namespace vellum {

#if defined(__x86_64__)
#define VELLUM_WIDE_HOLE(name)                               \
  [] {                                                       \
    u64 value;                                               \
    asm("movabsq $vellum_hole_" #name ", %0" : "=r"(value)); \
    return value;                                            \
  }()
#elif defined(__aarch64__)
#define VELLUM_WIDE_HOLE(name)                                                                           \
  [] {                                                                                                   \
    u64 value;                                                                                           \
    asm("movz %0, #:abs_g0_nc:vellum_hole_" #name "\n\tmovk %0, #:abs_g1_nc:vellum_hole_" #name          \
        "\n\tmovk %0, #:abs_g2_nc:vellum_hole_" #name "\n\tmovk %0, #:abs_g3:vellum_hole_" #name         \
        : "=r"(value));                                                                                  \
    return value;                                                                                        \
  }()
#endif

enum class ScaleHole : u8 { By1, By2, By4, By8, Any, NoIndex };  // with NoIndex the scale, of a VSIB operand, is a hole as well

// Modes that would otherwise be branches at run time are part of the stencil's type.
template <SegmentMode Segment, StackMode Stack, u8 AddressSize, u8 CodeSizeBytes, ScaleHole Scale>
class HoleFields {
 public:
  static constexpr bool kSseMasked = true;
#if defined(__x86_64__)
  static constexpr bool kImmediateIsHole = true;
#endif
#if defined(VELLUM_AVX2_STENCILS)
  static constexpr bool kWholeVectors = true;
#endif
  VELLUM_INLINE HoleFields(const TlbEntry* tlb, HandedFlags* flags) : m_tlb(tlb), m_flags(flags) {}
  VELLUM_INLINE HandedFlags& handed_flags() { return *m_flags; }
  VELLUM_INLINE const TlbEntry* tlb() const { return m_tlb; }
  VELLUM_INLINE const BoundInsn* insn() const { return reinterpret_cast<const BoundInsn*>(VELLUM_WIDE_HOLE(insn)); }
  template <usize N>
  VELLUM_INLINE u64 operand() const {
    constexpr char* kHoles[] = {vellum_hole_operand0, vellum_hole_operand1, vellum_hole_operand2, vellum_hole_operand3};
    return reinterpret_cast<u64>(kHoles[N]);
  }
  template <usize N>
  VELLUM_INLINE u64 gpr_offset() const {
    constexpr char* kHoles[] = {vellum_hole_gpr0, vellum_hole_gpr1, vellum_hole_gpr2, vellum_hole_gpr3};
    return reinterpret_cast<u64>(kHoles[N]);
  }
  VELLUM_INLINE i64 immediate() const { return reinterpret_cast<i64>(vellum_hole_immediate); }
  VELLUM_INLINE u64 wide() const { return VELLUM_WIDE_HOLE(wide); }
  VELLUM_INLINE u16 immediate2() const { return static_cast<u16>(reinterpret_cast<u64>(vellum_hole_immediate2)); }
  VELLUM_INLINE u64 base_offset() const { return reinterpret_cast<u64>(vellum_hole_base); }
  VELLUM_INLINE u64 index_offset() const { return reinterpret_cast<u64>(vellum_hole_index); }
  VELLUM_INLINE u8 scale() const {
    if constexpr (Scale == ScaleHole::Any || Scale == ScaleHole::NoIndex) return static_cast<u8>(reinterpret_cast<u64>(vellum_hole_scale));
    else return static_cast<u8>(Scale);
  }
  static constexpr bool kHasIndex = Scale != ScaleHole::NoIndex;
  VELLUM_INLINE u64 index_part(u64 index) const {
#if defined(__x86_64__)
    if constexpr (Scale == ScaleHole::Any) {  // compilers would load the count into CL
      asm("shlq $vellum_hole_scale, %0" : "+r"(index) : : "cc");
      return index;
    }
#endif
    return index << scale();
  }
  VELLUM_INLINE i64 displacement() const { return reinterpret_cast<i64>(vellum_hole_displacement); }
  VELLUM_INLINE u64 address_mask(const CpuState&) const { return AddressSize == 8 ? ~u64{0} : AddressSize == 4 ? 0xffffffff : 0xffff; }
  VELLUM_INLINE u8 segment() const { return static_cast<u8>(reinterpret_cast<u64>(vellum_hole_segment)); }
  VELLUM_INLINE u64 segment_base(const CpuState& s) const {
    u64 base;
    std::memcpy(&base, reinterpret_cast<const char*>(&s) + reinterpret_cast<u64>(vellum_hole_segment_base), 8);
    return base;
  }
  VELLUM_INLINE SegmentMode segment_mode() const { return Segment; }
  VELLUM_INLINE StackMode stack_mode() const { return Stack; }
  VELLUM_INLINE u8 operand_size() const { return CodeSizeBytes; }  // of a near branch: others' is part of their Form
  VELLUM_INLINE u8 address_size() const { return AddressSize; }
  VELLUM_INLINE u8 code_size_bytes() const { return CodeSizeBytes; }
  VELLUM_INLINE u64 offset() const { return reinterpret_cast<u64>(vellum_hole_offset); }
  VELLUM_INLINE u64 end_offset() const { return reinterpret_cast<u64>(vellum_hole_end_offset); }
  VELLUM_INLINE u64 target_offset() const { return reinterpret_cast<u64>(vellum_hole_target_offset); }

 private:
  const TlbEntry* m_tlb;
  HandedFlags* m_flags;
};

// Stencils have the signature of handlers, but need not be given their instruction, and hand on to each other what their
// block's entry has loaded: the middle of the first 256 bytes of the state, which short displacements reach from there
// (tools/stencils_x86_64.py uses it), and the TLB. The others, of HandedFlags, hold something only behind an instruction that
// has set them.
#define VELLUM_STENCIL_PARAMETERS \
  vellum::CpuState *s, const vellum::BoundInsn *insn, char *middle, const vellum::TlbEntry *tlb, vellum::u64 flag_result, vellum::u64 flag_a, vellum::u64 flag_b
using StencilFunction = void(VELLUM_HANDLER_ABI*)(CpuState*, const BoundInsn*, char*, const TlbEntry*, u64, u64, u64);
inline constexpr u64 kStateMiddle = 128;

}  // namespace vellum
