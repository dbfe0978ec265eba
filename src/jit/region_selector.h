// Which blocks are worth compiling together, seen from the blocks that ran one after another behind one that is hot.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "cpu/core.h"
#include "jit/optimizer/region.h"

namespace vellum {

// A block that the run loop entered. With nullptr it is gone, or something came between: an interrupt, a single step.
struct TraceStep {
  u64 rip;
  Block* block;
};

// What a region rests on besides its entry block's page.
struct MappingCheck {
  i64 delta;           // from the entry block's RIP
  const Block* block;  // what must be found there
};

struct Selection {
  Region region;
  std::vector<Block*> blocks;         // as in the region
  std::vector<MappingCheck> mapping;  // one for each page besides the first block's
  u64 insns_per_entry = 0;            // that ran each time its first block was entered, and would gain from the region
};

// The blocks that ran often enough, starting with the trace's first one and as far as control came from there. `is_compiled`
// says of a block whether a region holds it already.
Selection select_region(std::span<const TraceStep> trace, const std::function<bool(const Block&)>& is_compiled);

// What each run of the block gains by being optimized, in instructions: more than it has where the baseline is slow.
u64 gain_of(const Block& block);

// Whether all of these lie where they did, from the present mode and mapping.
bool mapping_holds(const CpuCore& core, std::span<const MappingCheck> checks, u64 rip);

}  // namespace vellum
