// What translation did and cost: the numbers behind -stats.
#pragma once

#include "state/integers.h"

namespace vellum {

struct Statistics {
  u64 blocks = 0;              // translated by the baseline
  u64 block_insns = 0;         // guest instructions in them
  u64 handler_insns = 0;       // of these, those that run their interpreter's handler
  u64 block_bytes = 0;         // host code, bytes
  u64 baseline_nanoseconds = 0;
  u64 stale_blocks = 0;
  u64 links = 0, site_links = 0;
  u64 unproven_blocks = 0;     // left to the interpreter at first, because the guest often rewrites them
  u64 flushes = 0;             // of the whole code cache
  u64 blocks_evicted = 0, segments_evicted = 0, region_segments_evicted = 0;
  u64 traces = 0;              // of blocks that ran behind a hot one
  u64 regions_chosen = 0, regions = 0, regions_failed = 0;  // asked for, installed, not compiled
  u64 quick_regions = 0;       // of these, made by the quick code generator
  u64 regions_promoted = 0;    // sent to LLVM because the loops in them ran long
  u64 region_insns = 0;
  bool counts_tiers = true;    // EngineOptions::count_tiers, or there are no regions
  u64 region_insns_run = 0;    // executed in regions, where they are counted
  u64 region_bytes = 0;
  u64 compile_nanoseconds = 0;  // CPU time of the compiling thread; of this:
  u64 lift_nanoseconds = 0, simplify_nanoseconds = 0, generate_nanoseconds = 0;
};

}  // namespace vellum
