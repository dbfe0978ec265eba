// Finding a row's stencil in its group.
#include "jit/stencil.h"

#include "cpu/opcodes.h"

#if VELLUM_STENCILS
// Made by tools/stencils.py.
#define VELLUM_DECLARE_STENCILS(group) \
  extern "C" const vellum::StencilGroup vellum_stencil_group_##group __attribute__((visibility("hidden")));
VELLUM_STENCIL_GROUPS(VELLUM_DECLARE_STENCILS)
VELLUM_DECLARE_STENCILS(glue)
#endif

namespace vellum {

namespace {

// Where the rows of each group begin in opcode_rows(), and its stencils, if it has any.
struct GroupRows {
  u16 first, end;
  const StencilGroup* group;
};

const StencilGroup* group_named([[maybe_unused]] std::string_view name) {
#if VELLUM_STENCILS
#define VELLUM_NAMED(group) \
  if (name == #group) return &vellum_stencil_group_##group;
  VELLUM_STENCIL_GROUPS(VELLUM_NAMED)
#endif
  return nullptr;
}

const GroupRows& group_of(u16 row) {
  static const auto groups = [] {
    std::vector<GroupRows> rows;
    u16 at = 0;
#define VELLUM_ADD_ROWS(group)                                                            \
  {                                                                                       \
    const u16 end = static_cast<u16>(at + interpreter_handlers_##group().size());          \
    rows.push_back({at, end, group_named(#group)});                                       \
    at = end;                                                                             \
  }
    VELLUM_OPCODE_GROUPS(VELLUM_ADD_ROWS)
    return rows;
  }();
  for (const GroupRows& group : groups)
    if (row < group.end) return group;
  return groups.back();
}

}  // namespace

StencilRef find_stencil(u16 row, StencilMode mode, u8 variant) {
  const GroupRows& rows = group_of(row);
  if (!rows.group) return {};
  const u16 line = rows.group->rows[row - rows.first][static_cast<unsigned>(mode)];
  const u16 number = rows.group->variants[line][variant];
  if (number == kNoStencil) return {};
  return {rows.group, &rows.group->stencils[number]};
}

bool have_stencils() { return VELLUM_STENCILS; }
#if defined(__x86_64__)
// The bitcode of the semantics is compiled for AVX2.
bool have_optimizer() { return VELLUM_LLVM && __builtin_cpu_supports("avx2"); }
#else
bool have_optimizer() { return VELLUM_LLVM; }
#endif

std::span<const StencilGroup* const> stencil_groups() {
#if VELLUM_STENCILS
#define VELLUM_ADDRESS_OF(group) &vellum_stencil_group_##group,
  static constexpr const StencilGroup* kGroups[] = {VELLUM_STENCIL_GROUPS(VELLUM_ADDRESS_OF) &vellum_stencil_group_glue};
  return kGroups;
#else
  return {};
#endif
}

#if VELLUM_STENCILS
StencilRef find_glue(Glue which) {
  const StencilGroup& group = vellum_stencil_group_glue;
  return {&group, &group.stencils[group.variants[group.rows[0][0]][static_cast<unsigned>(which)]]};
}
#else
StencilRef find_glue(Glue) { return {}; }
#endif

}  // namespace vellum
