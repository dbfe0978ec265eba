// Turns opaque accesses to guest memory into a look into the software TLB and, out of the way, a helper's call.
#pragma once

#include <llvm/Analysis/LoopInfo.h>
#include <llvm/Analysis/ScalarEvolution.h>

#include "jit/optimizer/lifter.h"

namespace vellum {

struct ExpansionCounts {
  unsigned accesses = 0, checks = 0, cached_pages = 0;
};

// `library` tells which calls these are. To be run once the function has been simplified: what must be stored before a helper
// is known only then.
ExpansionCounts expand_memory(LiftedRegion& region, const Region& source, const SemanticsLibrary& library, llvm::LoopInfo& loops,
                              llvm::ScalarEvolution& evolution);

}  // namespace vellum
