// A few instructions with all that they need, as a text file: a CPU's state and some pages of memory, without a machine around.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cpu/core.h"
#include "jit/engine.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

struct Reproducer {
  std::string cpu_option;                    // as behind -cpu
  u64 instructions = 0;
  std::vector<u8> state;                     // what Cpu::visit() saves, before
  std::vector<u8> expected;                  // and behind the instructions
  std::map<u64, std::vector<u8>> pages;      // by guest-physical address
  std::map<u64, std::vector<u8>> expected_pages;

  std::string text() const;
  static Result<Reproducer> parse(const std::string& text);

  // Runs it with an engine on a bare board. What is not as expected, one line each; empty: nothing.
  Result<std::string> run(const EngineOptions& engine) const;
};

// The guest-physical page to which the paging structures, as they are, map a linear address, and into `tables` the pages of
// those structures, SDM Vol. 3A 4.3 to 4.5; empty when it is not mapped. Sets no accessed bits.
std::optional<u64> physical_page(CpuCore& cpu, u64 linear, std::set<u64>& tables);

// Of the instructions that this machine would execute next, with the state that they should lead to as an interpreter finds it. The
// machine is left behind them. Fails where they need devices.
Result<Reproducer> make_reproducer(Machine& machine, u64 instructions, const std::string& cpu_option);

}  // namespace vellum
