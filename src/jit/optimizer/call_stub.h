// How optimized code calls functions of the program; depends on the host's instruction set, as host_code.h does.
#pragma once

#include "state/integers.h"

namespace vellum::host_code {

// Calls of functions of the program go through jumps that LLVM's linker puts behind the code: where such a one leads; nullptr
// when it is none.
const void* behind_stub(u64 address);

}  // namespace vellum::host_code
