// Runs a test case on one of the engines: a bare CPU with page tables, an IDT and nothing else.
#pragma once

#include <memory>

#include "cpu/core.h"
#include "jit/engine.h"
#include "instructions/test_case.h"

namespace vellum::instructions {

// Everything that is implemented.
CpuModel model_for_tests();

class EmulatedCpu {
 public:
  // Code becomes a region when it was entered `hot_entries` times.
  EmulatedCpu(const CpuModel& model, Engine engine, u32 hot_entries = 1, X87Code x87_code = X87Code::Integers);
  ~EmulatedCpu();
  void run(const TestCase& test, Outcome& outcome);
  CpuCore& core() { return *m_cpu; }

 private:
  class Board;
  void build_tables();
  void place_code(const TestCase& test);

  std::unique_ptr<GuestRam> m_ram;
  std::unique_ptr<AddressSpace> m_memory;
  std::unique_ptr<Board> m_board;
  std::unique_ptr<CpuCore> m_cpu;
  std::vector<u8> m_pristine, m_code;
  u32 m_memory_seed = 0;
  bool m_memory_valid = false;
};

// Where control ended in the filler the outcome becomes kStopped.
void recognize_stop(const TestCase& test, Outcome& outcome);

}  // namespace vellum::instructions
