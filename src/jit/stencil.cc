// Finding a row's stencil in its group.
#include "jit/stencil.h"

#include <vector>

#include "cpu/opcodes.h"
#include "state/assert.h"

#if VELLUM_STENCILS
// Made by tools/stencils.py.
#define VELLUM_DECLARE_STENCILS(group) \
  extern "C" const vellum::StencilGroup vellum_stencil_group_##group __attribute__((visibility("hidden")));
VELLUM_STENCIL_GROUPS(VELLUM_DECLARE_STENCILS)
VELLUM_DECLARE_STENCILS(glue)
#define VELLUM_DECLARE_AVX2_STENCILS(group) VELLUM_DECLARE_STENCILS(group##_avx2)
VELLUM_AVX2_STENCIL_GROUPS(VELLUM_DECLARE_AVX2_STENCILS)
#endif

namespace vellum {

namespace {

const StencilGroup* group_named([[maybe_unused]] std::string_view name) {
#if VELLUM_STENCILS
#define VELLUM_NAMED(group) \
  if (name == #group) return &vellum_stencil_group_##group;
  VELLUM_STENCIL_GROUPS(VELLUM_NAMED)
#endif
  return nullptr;
}

const StencilGroup* avx2_group_named([[maybe_unused]] std::string_view name) {
#if VELLUM_STENCILS
#define VELLUM_AVX2_NAMED(group) \
  if (name == #group) return &vellum_stencil_group_##group##_avx2;
  VELLUM_AVX2_STENCIL_GROUPS(VELLUM_AVX2_NAMED)
#endif
  return nullptr;
}

// By row: where its stencils are listed, of each set. A row without any has no lists.
struct RowStencils {
  struct In {
    const StencilGroup* group = nullptr;
    const u16* lists = nullptr;  // by mode
  };
  In portable, avx2;
};

const RowStencils& stencils_of(u16 row) {
  static const std::vector<RowStencils> rows = [] {
    std::vector<RowStencils> made;
    const auto in = [](const StencilGroup* group, usize number) { return group ? RowStencils::In{group, group->rows[number]} : RowStencils::In{}; };
#define VELLUM_ADD_ROWS(group) \
  for (usize i = 0; i < interpreter_handlers_##group().size(); ++i) made.push_back({in(group_named(#group), i), in(avx2_group_named(#group), i)});
    VELLUM_OPCODE_GROUPS(VELLUM_ADD_ROWS)
#undef VELLUM_ADD_ROWS
    return made;
  }();
  return rows[row];
}

StencilRef stencil_in(const RowStencils::In& in, StencilMode mode, u8 variant) {
  if (!in.group) return {};
  const u16 number = in.group->variants[in.lists[static_cast<unsigned>(mode)]][variant];
  if (number == kNoStencil) return {};
  return {in.group, &in.group->stencils[number]};
}

StencilSet& chosen_set() {
  static StencilSet set = host_runs_avx2_set() ? StencilSet::Avx2 : StencilSet::Portable;
  return set;
}

}  // namespace

#if defined(__x86_64__)
bool host_runs_avx2_set() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul"); }
// The bitcode of the semantics is compiled for AVX2.
bool have_optimizer() { return VELLUM_LLVM && __builtin_cpu_supports("avx2"); }
#else
bool host_runs_avx2_set() { return false; }
bool have_optimizer() { return VELLUM_LLVM; }
#endif

StencilSet stencil_set() { return chosen_set(); }
void use_stencil_set(StencilSet set) {
  VELLUM_ASSERT(set == StencilSet::Portable || host_runs_avx2_set());
  chosen_set() = set;
}

StencilRef find_stencil(StencilSet set, u16 row, StencilMode mode, u8 variant) {
  const RowStencils& stencils = stencils_of(row);
  return stencil_in(set == StencilSet::Avx2 ? stencils.avx2 : stencils.portable, mode, variant);
}
StencilRef find_stencil(u16 row, StencilMode mode, u8 variant) {
  const RowStencils& stencils = stencils_of(row);
  if (chosen_set() == StencilSet::Avx2)
    if (const StencilRef ref = stencil_in(stencils.avx2, mode, variant)) return ref;
  return stencil_in(stencils.portable, mode, variant);
}

bool have_stencils() { return VELLUM_STENCILS; }

std::span<const StencilGroup* const> stencil_groups() {
#if VELLUM_STENCILS
#define VELLUM_ADDRESS_OF(group) &vellum_stencil_group_##group,
#define VELLUM_AVX2_ADDRESS_OF(group) &vellum_stencil_group_##group##_avx2,
  static constexpr const StencilGroup* kGroups[] = {VELLUM_STENCIL_GROUPS(VELLUM_ADDRESS_OF) VELLUM_AVX2_STENCIL_GROUPS(VELLUM_AVX2_ADDRESS_OF) &vellum_stencil_group_glue};
  return kGroups;
#else
  return {};
#endif
}

#if VELLUM_STENCILS
StencilRef find_glue(Glue which) {
  static const std::vector<StencilRef> found = [] {
    const StencilGroup& group = vellum_stencil_group_glue;
    std::vector<StencilRef> all;
#define VELLUM_FIND(name) all.push_back({&group, &group.stencils[group.variants[group.rows[0][0]][static_cast<unsigned>(Glue::name)]]});
    VELLUM_GLUE(VELLUM_FIND)
#undef VELLUM_FIND
    return all;
  }();
  return found[static_cast<unsigned>(which)];
}
#else
StencilRef find_glue(Glue) { return {}; }
#endif

}  // namespace vellum
