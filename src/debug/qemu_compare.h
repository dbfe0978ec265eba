// Vellum beside another emulator (QEMU) that is reached through its gdb stub: registers and memory behind each instruction.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "debug/gdb_client.h"
#include "debug/registers.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

struct QemuCompareOptions {
  struct Range {
    u64 address, size;  // guest-physical, bytes
  };
  std::optional<u64> from;   // linear address to which both run by themselves first; nothing: the reset vector
  std::vector<Range> memory; // made the same where the comparison begins, and compared
  u64 memory_interval = 1;   // instructions from one comparison of memory to the next
  u64 limit = ~u64{0};       // instructions
  std::string cpu_option;    // of Vellum's CPU, for the reproducer
};

// Both step through the same code with interrupts and timers held back. What comes from outside the CPU and its memory is not the
// same in two emulators: the general registers that an instruction has read from a device, a clock, CPUID or an MSR are taken over
// from Vellum.
class QemuComparison final : private CpuObserver {
 public:
  struct Difference {
    std::string report;
    std::string reproducer;  // of the last instruction, which expects what the other emulator did; empty: there is none
  };
  // `machine` was just powered on; so was the stub's, and both have the same memory and images.
  QemuComparison(Machine& machine, GdbClient& stub, QemuCompareOptions options);
  ~QemuComparison() override;

  // Empty: they were the same to the end, which end() tells.
  Result<std::optional<Difference>> run();
  const std::string& end() const { return m_end; }
  u64 compared() const { return m_compared; }
  u64 taken_over() const { return m_taken_over; }
  // The names of registers that the stub described and did not always tell: where it did not they were not compared. With a
  // space in front of each.
  std::string untold() const;

 private:
  struct Pair {
    const GdbClient::Register* theirs;
    const DebugRegister* ours;
    u64 unknown = 0;  // bits that are not compared until one side changes them
    u64 our_value = 0, their_value = 0;
    bool differs = false;
    bool untold = false;  // the stub had no value for it at some comparison
    std::string our_text, their_text;
  };
  void port_accessed(u16, unsigned, bool write, u32) override { m_read_outside |= !write; }
  void mmio_accessed(u64, unsigned, bool write, u64) override { m_read_outside |= !write; }

  Result<void> prepare();
  Result<void> go_to_start();
  Result<void> write_register(const Pair& pair, u64 value);
  Result<void> copy_memory();
  // Marks the pairs that differ; true: some do. `undefined` are the flags that the instruction leaves undefined.
  Result<bool> compare_registers(u64 undefined);
  Result<std::string> differing_memory();
  void step_ours(bool repeats);
  Result<void> step_theirs(bool repeats, u64 rip, u64 exceptions);
  void note_memory();
  Difference describe(const std::string& memory, const std::string& before);
  std::string reproducer();

  Machine& m_machine;
  GdbClient& m_stub;
  QemuCompareOptions m_options;
  std::vector<Pair> m_pairs;
  const GdbClient::Register* m_rip = nullptr;
  unsigned m_first_st = 0;
  bool m_read_outside = false;
  GdbClient::Values m_their_registers;
  bool m_stood_still = false;  // they are what they were at the comparison before
  u64 m_compared = 0, m_taken_over = 0;
  std::string m_end;
  std::vector<std::string> m_way;  // the last instructions, as text
  // CPU and memory in front of the last instruction.
  std::vector<u8> m_cpu_before;
  std::unordered_map<u64, std::unique_ptr<u8[]>> m_pages;
};

}  // namespace vellum
