// What the guest's page tables map, and what the software TLB knows of it, as text.
#pragma once

#include <functional>
#include <string>

#include "cpu/core.h"

namespace vellum {

// Linear addresses with equal rights.
struct MappedRange {
  u64 first = 0, last = 0;
  bool mapped = false, user = false, write = false, execute = false;
};
// The range that `linear` belongs to; one that is not mapped reaches to the next that is.
MappedRange mapped_range(CpuCore& cpu, u64 linear);
// Ranges of linear addresses with equal rights, as far as the tables in force map them; at most `most_lines`.
std::string describe_mappings(CpuCore& cpu, usize most_lines);
// The entries of the current software TLB: linear page, where it lies in guest RAM's mapping, what may be done at once.
std::string describe_tlb(CpuCore& cpu, usize most_lines);

}  // namespace vellum
