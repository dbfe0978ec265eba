// Which blocks are worth compiling together, seen from one that runs often.
#pragma once

#include <span>
#include <vector>

#include "cpu/core.h"
#include "jit/optimizer/region.h"

namespace vellum {

// A block of the selection that lies on another page than the first: the region may run only while this holds.
struct MappingCheck {
  i64 delta;           // its RIP minus the first block's
  const Block* block;  // what must be found there
};

struct Selection {
  Region region;
  std::vector<Block*> blocks;         // as in the region
  std::vector<MappingCheck> mapping;  // one for each page besides the first block's
};

// Follows the links that have been taken, the jump cache where they leave the page, and calls to their returns. Prefers
// what comes back to `head`: a loop. `rip` is head's.
Selection select_region(const CpuCore& core, Block& head, u64 rip);

// Whether the jump cache still knows all of these, from the present mode and mapping.
bool mapping_holds(const CpuCore& core, std::span<const MappingCheck> checks, u64 rip);

}  // namespace vellum
