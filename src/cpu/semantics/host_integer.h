// Integer primitives for which hosts have instructions that no portable expression becomes.
#pragma once

#include "cpu/host_vector.h"
#include "cpu/semantics/packed.h"

namespace vellum::semantics {

// Byte i is the byte of v that control byte i names with its low four bits, or 0 if that has its top bit set.
VELLUM_INLINE V128 host_shuffle_bytes(V128 v, V128 control) {
#if defined(__SSSE3__)
  return raw(__builtin_ia32_pshufb128(as<char>(v), as<char>(control)));
#elif defined(__aarch64__)
  V128 result;
  asm("tbl %0.16b, {%1.16b}, %2.16b" : "=w"(result) : "w"(v), "w"(control & 0x8f8f8f8f8f8f8f8f));
  return result;
#else
  return shuffle_bytes(v, control);
#endif
}

// In each 64 bits the sum of the eight differences of bytes.
template <usize Size>
VELLUM_INLINE Raw<Size> host_sums_of_differences(Raw<Size> a, Raw<Size> b) {
#if defined(__x86_64__)
  if constexpr (Size == 16) return raw(__builtin_ia32_psadbw128(as<char>(a), as<char>(b)));
#endif
  const auto difference =
      raw(__builtin_elementwise_max(as<u8>(a), as<u8>(b)) - __builtin_elementwise_min(as<u8>(a), as<u8>(b)));
  Raw<Size> sum = (difference & 0x00ff00ff00ff00ff) + ((difference >> 8) & 0x00ff00ff00ff00ff);
  sum = sum + (sum >> 16);
  return (sum + (sum >> 32)) & 0xffff;
}

}  // namespace vellum::semantics
