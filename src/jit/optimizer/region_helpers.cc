// What optimized code calls out of line.
#include "jit/optimizer/region_helpers.h"

#include <iterator>

#include "cpu/binding.h"
#include "cpu/core.h"
#include "jit/jump.h"

// What code generators call on their own.
extern "C" {
void* memcpy(void*, const void*, size_t);
void* memmove(void*, const void*, size_t);
void* memset(void*, int, size_t);
}

namespace vellum {

namespace {

inline u64 load(CpuState* s, const BoundInsn* insn, u64 linear, u32 size) {
  u64 value = 0;
  s->insn = insn;
  s->core->read_bytes(linear, &value, size);
  return value;
}
inline void load_bytes(CpuState* s, const BoundInsn* insn, u64 linear, u32 size, void* data) {
  s->insn = insn;
  s->core->read_bytes(linear, data, size);
}
inline void store(CpuState* s, const BoundInsn* insn, u64 linear, u32 size, u64 value) {
  s->insn = insn;
  s->core->write_bytes(linear, &value, size);
}
inline void store_bytes(CpuState* s, const BoundInsn* insn, u64 linear, u32 size, const void* data) {
  s->insn = insn;
  s->core->write_bytes(linear, data, size);
}
// `what`: size of the access 7:0, of all of them 29:8, the access writes 30, one of them writes 31.
inline u8* page(CpuState* s, const BoundInsn* insn, u64 linear, u64 low, u32 what) {
  const u32 span = what >> 8 & 0x3fffff;
  s->insn = insn;
  const TlbEntry& entry = s->tlb[Tlb::slot(low)];
  const auto host = [&]() -> u8* {
    const u64 x = low ^ entry.read_tag;
    return x > kPageSize - span || (what >> 31 && entry.write_tag != entry.read_tag) ? nullptr : entry.host + x;
  };
  if (u8* found = host()) return found;
  // A store is about to happen in any case: its faults may be raised, and the TLB filled. Loads fill it on their own.
  if (!(what >> 30 & 1)) return nullptr;
  // Where alignment, breakpoints or a segment's limit may be in the way, too, they come before the page.
  const u32 size = what & 0xff;
  if (s->tlb == s->core->tlb.table(TlbContext::AlwaysSlow) || (!s->code64() && linear + size - 1 > 0xffffffff)) return nullptr;
  s->core->probe_write(linear, size);
  return host();
}

}  // namespace

#define VELLUM_REGION_HELPERS(suffix, abi)                                                                              \
  extern "C" {                                                                                                          \
  [[gnu::noinline, clang::abi]] u64 region_load##suffix(CpuState* s, const BoundInsn* insn, u64 linear, u32 size) {     \
    return load(s, insn, linear, size);                                                                                 \
  }                                                                                                                     \
  [[gnu::noinline, clang::abi]] void region_load_bytes##suffix(CpuState* s, const BoundInsn* insn, u64 linear,          \
                                                               u32 size, void* data) {                                  \
    load_bytes(s, insn, linear, size, data);                                                                            \
  }                                                                                                                     \
  [[gnu::noinline, clang::abi]] void region_store##suffix(CpuState* s, const BoundInsn* insn, u64 linear, u32 size,     \
                                                          u64 value) {                                                  \
    store(s, insn, linear, size, value);                                                                                \
  }                                                                                                                     \
  [[gnu::noinline, clang::abi]] void region_store_bytes##suffix(CpuState* s, const BoundInsn* insn, u64 linear,         \
                                                                u32 size, const void* data) {                           \
    store_bytes(s, insn, linear, size, data);                                                                           \
  }                                                                                                                     \
  [[gnu::noinline, clang::abi]] u8* region_update##suffix(CpuState* s, const BoundInsn* insn, u64 linear, u32 size) {   \
    /* As a call, clang takes the stack's padding off into RCX, which this convention preserves. */                     \
    [[clang::musttail]] return engine_update_host(s, insn, linear, size);                                               \
  }                                                                                                                     \
  [[gnu::noinline, clang::abi]] u8* region_page##suffix(CpuState* s, const BoundInsn* insn, u64 linear, u64 low,        \
                                                       u32 what) {                                                      \
    return page(s, insn, linear, low, what);                                                                            \
  }                                                                                                                     \
  }

VELLUM_REGION_HELPERS(, preserve_most)

extern "C" {
// The bitcode's functions of these names, for flags of an unknown operation.
bool vellum_condition_body(u8 code, FlagOperation operation, u64 result, u64 a, u64 b) {
  return condition_holds(code, {operation, result, a, b});
}
u32 vellum_flags_body(FlagOperation operation, u64 result, u64 a, u64 b) {
  return arithmetic_flags({operation, result, a, b});
}
VELLUM_HANDLER_ABI void region_exit(VELLUM_STENCIL_PARAMETERS) { VELLUM_JIT_GO_TO(s, s->rip); }
}

std::span<const HostSymbol> region_helpers() {
#define VELLUM_HOST_SYMBOL(name) {#name, reinterpret_cast<const void*>(&name)}
  static const HostSymbol kHelpers[] = {
      VELLUM_HOST_SYMBOL(region_load), VELLUM_HOST_SYMBOL(region_load_bytes), VELLUM_HOST_SYMBOL(region_store),
      VELLUM_HOST_SYMBOL(region_store_bytes), VELLUM_HOST_SYMBOL(region_update), VELLUM_HOST_SYMBOL(region_page),
      {"memcpy", reinterpret_cast<const void*>(&memcpy)},
      {"memmove", reinterpret_cast<const void*>(&memmove)},
      {"memset", reinterpret_cast<const void*>(&memset)},
      {"vellum_condition_body", reinterpret_cast<const void*>(&vellum_condition_body)},
      {"vellum_flags_body", reinterpret_cast<const void*>(&vellum_flags_body)},
      {"region_exit", reinterpret_cast<const void*>(&region_exit)},
  };
  return kHelpers;
}

}  // namespace vellum
