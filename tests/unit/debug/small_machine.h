// A machine of RAM and one real CPU in flat 32-bit mode, for tests of debuggers.
#pragma once

#include <memory>
#include <vector>

#include "cpu/core.h"
#include "debug/guest_memory.h"
#include "machine/fake_parts.h"

namespace vellum::test {

struct SmallMachine {
  static constexpr u64 kRamSize = 4 << 20;
  static constexpr u32 kStart = 0x1000;

  EventLoop events;
  std::unique_ptr<Machine> machine = std::move(*Machine::create(
      {.cpu_model = *parse_cpu_model("max"), .memory_size = kRamSize, .ram_mapping_size = kRamSize, .clock = ClockMode::Instructions}, events,
      [](const CpuModel& model, AddressSpace& memory, CpuEnvironment& environment, unsigned index) { return Cpu::create(model, memory, environment, index); }));
  explicit SmallMachine(const std::vector<u8>& code) {
    machine->set_board(std::make_unique<FakeBoard>());
    machine->memory().map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
    machine->power_on();
    machine->memory().write(GuestPhysAddr(kStart), code);
    CpuState& s = cpu().s;
    s.cr0 |= kCr0Pe;
    for (unsigned i = kEs; i <= kGs; ++i) s.segment[i] = {.selector = 8, .attributes = static_cast<u16>(i == kCs ? 0xc09b : 0xc093), .limit = 0xffffffff, .base = 0, .usable = true};
    s.rip = kStart;
    s.gpr[kRsp] = 0x8000;
    cpu().update_mode();
  }
  CpuCore& cpu() { return core_of(*machine); }
  // Runs until the machine stops by itself, or the observers have been told of a stop already made.
  StopCause run(RunObserver& observer, u64 most = 100'000) {
    if (machine->running()) machine->run_instructions(most);
    const StopCause cause = machine->take_stop_cause().value_or(StopCause{});
    observer.machine_stopped(cause);
    return cause;
  }
};

}  // namespace vellum::test
