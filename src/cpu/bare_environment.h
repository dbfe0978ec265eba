// A board with nothing on it: for a CPU whose code is only looked at, and for tests, which override what they need.
#pragma once

#include "cpu/environment.h"

namespace vellum {

class BareEnvironment : public CpuEnvironment {
 public:
  u32 read_port(u16, unsigned) override { return ~u32{0}; }
  void write_port(u16, unsigned, u32) override {}
  std::optional<u8> acknowledge_interrupt() override { return std::nullopt; }
  u64 time_stamp_counter() override { return 0; }
  u8 task_priority() override { return 0; }
  void set_task_priority(u8) override {}
  bool read_apic_msr(u32, u64&) override { return false; }
  bool write_apic_msr(u32, u64) override { return false; }
  void set_smm(bool) override {}
  u64 random() override { return 0; }
};

}  // namespace vellum
