// Functions of this program that optimized code calls.
#pragma once

#include "state/integers.h"

namespace vellum {

struct HostSymbol {
  const char* name;
  const void* address;
};
extern const HostSymbol kSemanticsSymbols[];
extern const usize kSemanticsSymbolCount;

}  // namespace vellum
