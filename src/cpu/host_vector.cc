// Vector operations by an instruction of the host that the program's own code may not assume: chosen at run time.
#include "cpu/host_vector.h"

namespace vellum {

namespace {

#if defined(__x86_64__)
const bool kHostShuffles = __builtin_cpu_supports("ssse3");
[[gnu::target("ssse3")]] V128 host_shuffle(V128 v, V128 control) {
  using Bytes = char __attribute__((vector_size(16)));
  return (V128)__builtin_ia32_pshufb128((Bytes)v, (Bytes)control);
}
#else
constexpr bool kHostShuffles = false;
V128 host_shuffle(V128 v, V128) { return v; }
#endif

}  // namespace

V128 shuffle_bytes(V128 v, V128 control) {
  if (kHostShuffles) return host_shuffle(v, control);
  const V128u8 bytes = (V128u8)v, which = (V128u8)control;
  V128u8 result;
  for (int i = 0; i < 16; ++i) result[i] = which[i] & 0x80 ? u8{0} : bytes[which[i] & 15];
  return (V128)result;
}

}  // namespace vellum
