// A PC with a guest of some forty bytes in its ROM: it counts, writes all over 16 KiB, and takes timer interrupts and serial input.
#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <memory>
#include <vector>

#include "jit/engine.h"
#include "machine/machine.h"
#include "machine/pc_board.h"
#include "storage/memory_disk.h"
#include "storage/overlay.h"

namespace vellum::test {

// Keeps what the guest sends, and takes what the test types.
class TestLine final : public CharacterBackend {
 public:
  void send(std::span<const u8> data) override { sent.insert(sent.end(), data.begin(), data.end()); }
  std::vector<u8> sent;
};

struct MiniPc {
  static constexpr u64 kLoops = 0x500, kInterrupts = 0x504, kInput = 0x508, kField = 0x1000;  // where the guest counts

  static std::vector<u8> firmware() {
    std::vector<u8> rom(64 << 10, 0xf4);
    constexpr u8 kStart[] = {
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c,              // cli; DS = ES = SS = 0; SP = 7c00h
        0xc7, 0x06, 0x20, 0x00, 0x00, 0x01, 0xc7, 0x06, 0x22, 0x00, 0x00, 0xf0,              // vector 8: F000:0100
        0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21,              // 8259: ICW1 to ICW3
        0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21,                                      // ICW4; all but IRQ 0 masked
        0xba, 0xfa, 0x03, 0xb0, 0x07, 0xee,                                                  // 16550: FIFOs on
        0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x00, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40, 0xfb,        // 8254: mode 2, 1024; sti
        0x66, 0xff, 0x06, 0x00, 0x05, 0xa1, 0x00, 0x05, 0x89, 0xc7, 0x81, 0xe7, 0xff, 0x3f,  // inc dword [500h]; mov ax, [500h]; mov di, ax; and di, 3fffh
        0x01, 0x85, 0x00, 0x10, 0xeb, 0xec};                                                 // add [di+1000h], ax; jmp to the inc
    constexpr u8 kHandler[] = {0x50, 0x52, 0x66, 0xff, 0x06, 0x04, 0x05,                     // push ax; push dx; inc dword [504h]
                               0xba, 0xf8, 0x03, 0xec, 0x00, 0x06, 0x08, 0x05, 0xee,         // in al, 3f8h; add [508h], al; out 3f8h, al
                               0xb0, 0x20, 0xe6, 0x20, 0x5a, 0x58, 0xcf};                    // end of interrupt; iret
    constexpr u8 kReset[] = {0xea, 0x00, 0x00, 0x00, 0xf0};                                  // jmp f000:0
    std::ranges::copy(kStart, rom.begin());
    std::ranges::copy(kHandler, rom.begin() + 0x100);
    std::ranges::copy(kReset, rom.begin() + 0xfff0);
    return rom;
  }

  explicit MiniPc(ClockMode clock = ClockMode::Instructions, EngineOptions engine = {.engine = Engine::Interpreter}, bool overlay = true) {
    PcConfig config;
    config.bios = firmware();
    std::unique_ptr<BlockDevice> disk = std::make_unique<MemoryDisk>(std::vector<u8>(1 << 20));
    if (overlay) disk = std::move(*Overlay::create(std::move(disk)));
    config.ide[0] = {.present = true, .medium = std::move(disk)};
    config.serial[0] = {.present = true, .backend = &line};
    constexpr u64 kMemory = 16 << 20;
    MachineConfig machine_config{.cpu_model = *parse_cpu_model("max"),
                                 .memory_size = kMemory,
                                 .ram_mapping_size = PcBoard::ram_mapping_size(kMemory, config),
                                 .clock = clock};
    machine = std::move(*Machine::create(std::move(machine_config), events, &Cpu::create));
    REQUIRE(use_engine(machine->cpu(), engine));
    REQUIRE(PcBoard::build(*machine, std::move(config)));
  }
  u32 counter(u64 address) { return machine->memory().read_value<u32>(GuestPhysAddr(address)); }
  u64 now() { return machine->cpu().retired(); }
  void type(std::string_view text) {
    REQUIRE(line.can_receive() >= text.size());
    line.receive({reinterpret_cast<const u8*>(text.data()), text.size()});
  }

  EventLoop events;
  TestLine line;
  std::unique_ptr<Machine> machine;
};

}  // namespace vellum::test
