// Stencils as tools/stencils.py leaves them in the program: code with holes, by opcode row, mode and variant.
#pragma once

#include <span>

#include "jit/glue.h"
#include "jit/stencil_modes.h"

namespace vellum {

// What a hole is filled with. tools/stencils.py reads this list: symbol vellum_hole_NAME, in snake case.
enum class Hole : u8 {
  Operand0, Operand1, Operand2, Operand3,
  Gpr0, Gpr1, Gpr2, Gpr3,  // the same, of a general register
  Immediate, Immediate2, Wide,
  Base, Index, Scale, Displacement,
  Segment, SegmentBase,
  Offset, EndOffset, TargetOffset,
  Insn,
  Heat,      // where the target's entries are counted
  SitePlace, SiteDistance, SiteKeyOffset,  // of a site: its target's CodePlace, how far from its page's begin it comes in, and the offset of the present place_key in the state
  // Places, as addresses: the stencil's own two parts, and where it goes on.
  Hot, Cold, Continue, Taken, Next, Indirect, Handler, Missed,
  Helper,    // helpers()[index], an address in the program
  Constant,  // constants() + the addend
};

// The second line is of AArch64: immediates of MOVZ and MOVK (the first one must have no further bits), and branches.
enum class PatchKind : u8 {
  Absolute8, Absolute16, Absolute32, Absolute64, Relative32,
  MoveUnsigned, Move0, Move1, Move2, Move3, Branch26, Branch19, Branch14,
};

struct StencilPatch {
  u16 offset;  // into the hot part, or with kInCold into the cold one
  PatchKind kind;
  Hole hole;
  i32 addend;
  static constexpr u16 kInCold = 0x8000;
};
// Of Hole::Helper the addend's upper half is the index, the lower half the addend proper.

// What the values of a briefer form's holes must be like, bits. tools/stencils_x86_64.py has them, too.
inline constexpr u8 kBriefSmallDisplacement = 1;  // fits into a byte with its sign
inline constexpr u8 kBriefSmallImmediate = 2;     // 0 to 127
inline constexpr u8 kBriefNoDisplacement = 4;
inline constexpr u8 kBriefSameRegister = 8;  // the first two operands are one

struct Stencil {
  u32 code;         // offset into code() of the hot part; the cold part follows
  u16 hot_size;     // bytes
  u16 cold_size;
  u32 first_patch;  // index into patches()
  u8 patch_count;
  u8 brief_needs;
  u16 brief;  // number of a stencil that does the same with shorter instructions, for holes that are as `brief_needs` says; or kNoStencil
};

// One group's stencils.
struct StencilGroup {
  const u8* code;
  const Stencil* stencils;
  const StencilPatch* patches;
  const u8* constants;
  const u64* helpers;
  const char* const* helper_names;      // their symbols, and nullptr behind the last
  const u16 (*rows)[kStencilModes];     // for each row and mode, a line of `variants`
  const u16 (*variants)[kVariants];     // stencil number, or kNoStencil
};
inline constexpr u16 kNoStencil = 0xffff;

struct StencilRef {
  const StencilGroup* group = nullptr;
  const Stencil* stencil = nullptr;
  explicit operator bool() const { return stencil; }
};
// Each group is compiled a second time, for hosts with AVX2 and what came with it or before: BMI2, AES, PCLMULQDQ.
enum class StencilSet : u8 { Portable, Avx2 };
bool host_runs_avx2_set();
// The best that the host can run. Tests choose it before anything is translated.
StencilSet stencil_set();
void use_stencil_set(StencilSet set);
// The stencil of a row of opcode_rows() in a mode, or none; without a set, stencil_set()'s, or else the portable one.
StencilRef find_stencil(StencilSet set, u16 row, StencilMode mode, u8 variant);
StencilRef find_stencil(u16 row, StencilMode mode, u8 variant);
StencilRef find_glue(Glue which);
// Glue and all groups, of both sets.
std::span<const StencilGroup* const> stencil_groups();
// Whether the program has any: tools/stencils.py knows the host's instruction set.
bool have_stencils();
// Whether it was built with LLVM, and the host can run what it makes.
bool have_optimizer();

// Groups whose instructions have stencils; what the others do is called out of line anyway, or too large where vectors of
// 32 bytes are two of the host's.
#if defined(__x86_64__)
#define VELLUM_STENCIL_GROUPS(X) X(integer) X(control_flow) X(sse) X(sse_float) X(crypto) X(avx) X(avx_float) X(fma)
#define VELLUM_AVX2_STENCIL_GROUPS(X) VELLUM_STENCIL_GROUPS(X)
#else
#define VELLUM_STENCIL_GROUPS(X) X(integer) X(control_flow) X(sse) X(sse_float)
#define VELLUM_AVX2_STENCIL_GROUPS(X)
#endif

}  // namespace vellum
