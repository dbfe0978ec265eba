// The table that -stats prints.
#pragma once

#include <optional>
#include <string>

#include "cpu/cpu.h"

namespace vellum {

struct HostTimes {
  double wall = 0, cpu = 0;  // seconds; cpu is that of all threads
};
// Without times, of a run that has not ended, those lines are left out.
std::string statistics_report(Cpu& cpu, const std::optional<HostTimes>& times = {});

}  // namespace vellum
