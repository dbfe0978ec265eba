// How regions become host code.
#pragma once

#include "state/integers.h"

namespace vellum {

// What turns a simplified region into host code. The quick generator takes a twentieth of LLVM's time, for code that is a little
// slower; it exists for x86-64 hosts, and knows little of vectors.
enum class CodeGenerator : u8 {
  Fitting,   // LLVM for promoted regions and where there is no other, the quick one for the rest
  Llvm,
  Quick,     // wherever it can
};

// Where x87 instructions run, on hosts that have an x87. Bringing the register stack there and back costs as much as a dozen.
enum class X87Code : u8 {
  Fitting,   // on the host's where a region has enough of them, else by integers
  Integers,
  Host,
};

// Whether there is a quick generator for this host: jit/optimizer/host_code.h.
#if defined(__x86_64__)
inline constexpr bool kHasQuickGenerator = true;
#else
inline constexpr bool kHasQuickGenerator = false;
#endif

}  // namespace vellum
