// What a CPU counts for -stats: events that are rare enough for counting them to cost nothing.
#pragma once

#include <vector>

#include "state/integers.h"

namespace vellum {

struct CpuCounters {
  std::vector<u64> callouts;      // executed, by opcode row
  u64 single_insns = 0;           // retired one by one in the interpreter: the rest of a budget, single steps, code in MMIO
  u64 blocks_decoded = 0, insns_decoded = 0;
  u64 data_walks = 0, fetch_walks = 0;  // of page tables, because the TLB did not have the address
  u64 exceptions = 0, interrupts = 0;   // delivered
};

}  // namespace vellum
