// A CPU in flat 32-bit mode, to run single instructions on.
#pragma once

#include <utility>
#include <vector>

#include "cpu/bare_environment.h"
#include "cpu/core.h"
#include "cpu/x87.h"

namespace vellum {

class Board : public BareEnvironment {
 public:
  void time_stamp_counter_written() override { ++counter_writes; }
  unsigned counter_writes = 0;
  bool send_interrupt(u32 apic_id, u32 command) override {
    sent.emplace_back(apic_id, command);
    return apic_id < 4;
  }
  std::vector<std::pair<u32, u32>> sent;
  void set_ferr(bool level) override { ferr = level; }
  bool ferr = false;
};

inline constexpr u32 kCode = 0x1000, kOperand = 0x3000, kGdt = 0x6000, kIdt = 0x7000, kHandlers = 0x8000;

// 32-bit flat code without paging; a fault ends in a shutdown, as there is no IDT until install_handlers().
struct Guest {
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(1 << 20));
  AddressSpace memory{*ram};
  Board board;
  CpuModel model;
  CpuCore cpu{model, memory, board, 0};
  explicit Guest(std::string_view model_text = "max") : model(*parse_cpu_model(model_text)) {
    memory.map_ram("ram", GuestPhysAddr(0), 1 << 20, 0);
    reset();
  }
  void reset() {
    cpu.reset();
    CpuState& s = cpu.s;
    s.cr0 = kCr0Pe | kCr0Ne | kCr0Et;
    for (unsigned i = kEs; i <= kGs; ++i) {
      s.segment[i] = {};
      s.segment[i].selector = i == kCs ? 8 : 16;
      s.segment[i].attributes = i == kCs ? 0xc09b : 0xc093;
      s.segment[i].limit = 0xffffffff;
      s.segment[i].usable = true;
    }
    cpu.update_mode();
  }
  // From now on a fault ends in HLT; taken() tells in which.
  void install_handlers() {
    memory.write_value<u64>(GuestPhysAddr(kGdt + 8), 0x00cf'9b00'0000'ffff);
    memory.write_value<u64>(GuestPhysAddr(kGdt + 16), 0x00cf'9300'0000'ffff);
    for (u32 vector = 0; vector < 32; ++vector) {
      memory.write_value<u64>(GuestPhysAddr(kIdt + 8 * vector), u64{0x8e00} << 32 | 8 << 16 | (kHandlers + 16 * vector));
      memory.write_value<u8>(GuestPhysAddr(kHandlers + 16 * vector), 0xf4);
    }
    cpu.s.gdtr = {kGdt, 23};
    cpu.s.idtr = {kIdt, 255};
    cpu.s.gpr[kRsp] = 0x4000;
  }
  // Runs `bytes`, `count` instructions of them.
  void run(const std::vector<u8>& bytes, unsigned count = 1) {
    memory.write(GuestPhysAddr(kCode), bytes);
    cpu.s.rip = kCode;
    cpu.s.halted = false;
    cpu.run(count);
  }
  int taken() const { return cpu.s.rip >= kHandlers ? static_cast<int>((cpu.s.rip - kHandlers) / 16) : -1; }
  u8 byte(u32 address) { return memory.read_value<u8>(GuestPhysAddr(address)); }
  u16 word(u32 address) { return memory.read_value<u16>(GuestPhysAddr(address)); }
  u32 dword(u32 address) { return memory.read_value<u32>(GuestPhysAddr(address)); }
  u64 qword(u32 address) { return memory.read_value<u64>(GuestPhysAddr(address)); }
};

}  // namespace vellum
