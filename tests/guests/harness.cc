// Runs one guest test image on the bare CPU: RAM, the image as BIOS ROM, a console, an exit port, and a few triggers.
//
//   harness IMAGE [CPU-MODEL] [LOG-ITEMS]
//   harness --engine ENGINE IMAGE …
//   harness --reload IMAGE …      saves the CPU's state and loads it again after every instruction
//
// Prints what the guest writes to port E9h; the exit status is what it writes to port F4h.
//
// Ports beyond those of QEMU's isa-debug-exit and isa-debugcon (tests must not rely on them where QEMU runs them too):
//   B2h  SMI, as the PIIX4's APM control port          E0h  raises the interrupt whose vector is written, once
//   E1h  NMI
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#include "cpu/cpu.h"
#include "cpu/state.h"
#include "jit/engine.h"
#include "mmu/address_space.h"
#include "state/log.h"

using namespace vellum;

namespace {

constexpr u64 kRamSize = 16 << 20;
constexpr u64 kRomSize = 64 << 10;

class TestBoard final : public CpuEnvironment {
 public:
  u32 read_port(u16 port, unsigned size) override {
    if (port == 0xe9) return 0xe9;
    return size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff;
  }
  void write_port(u16 port, unsigned size, u32 value) override {
    (void)size;
    switch (port) {
      case 0xe9: std::putchar(static_cast<int>(value & 0xff)); break;
      case 0xf4:
        exit_status = static_cast<int>(value & 0x7f);
        cpu->request_exit();
        break;
      case 0xb2: cpu->raise_smi(); break;
      case 0xe0:
        vector = static_cast<u8>(value);
        cpu->set_interrupt_request(true);
        break;
      case 0xe1: cpu->raise_nmi(); break;
      default: break;
    }
  }
  std::optional<u8> acknowledge_interrupt() override {
    cpu->set_interrupt_request(false);
    return vector;
  }
  u64 time_stamp_counter() override { return cpu ? cpu->retired() : 0; }
  u8 task_priority() override { return priority; }
  void set_task_priority(u8 value) override { priority = value; }
  bool read_apic_msr(u32 index, u64& value) override {
    value = 0xfee00900;
    return index == 0x1b;
  }
  bool write_apic_msr(u32 index, u64) override { return index == 0x1b; }
  void set_smm(bool active) override { smm = active; }
  u64 random() override { return 0x0123456789abcdef; }

  Cpu* cpu = nullptr;
  int exit_status = -1;
  u8 vector = 0, priority = 0;
  bool smm = false;
};

// Whether state that was saved and loaded is the same state.
bool reload(Cpu& cpu) {
  ArchiveWriter writer;
  cpu.visit(writer);
  ArchiveReader reader(writer.data());
  cpu.visit(reader);
  ArchiveWriter again;
  cpu.visit(again);
  return !reader.failed() && reader.at_end() && again.data() == writer.data();
}

}  // namespace

int main(int argc, char** argv) {
  bool reloads = false;
  if (argc > 1 && std::string_view(argv[1]) == "--reload") {
    reloads = true;
    --argc;
    ++argv;
  }
  Engine engine = Engine::Interpreter;
  if (argc > 2 && std::string_view(argv[1]) == "--engine") {
    const auto names = engine_names();
    const auto found = std::ranges::find(names, std::string_view(argv[2]));
    if (found == names.end()) {
      std::fprintf(stderr, "no engine %s\n", argv[2]);
      return 2;
    }
    engine = static_cast<Engine>(found - names.begin());
    argc -= 2;
    argv += 2;
  }
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s [--reload] [--engine ENGINE] IMAGE [CPU-MODEL] [LOG-ITEMS]\n", argv[0]);
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  const std::vector<char> image((std::istreambuf_iterator<char>(file)), {});
  if (image.size() != kRomSize) {
    std::fprintf(stderr, "%s: not an image of 64 KiB\n", argv[1]);
    return 2;
  }
  const auto model = parse_cpu_model(argc > 2 ? argv[2] : "max");
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().message.c_str());
    return 2;
  }
  if (argc > 3 && !enable_log_items(argv[3])) return 2;
  auto ram = GuestRam::create(kRamSize + kRomSize);
  if (!ram) return 2;
  AddressSpace memory(**ram);
  memory.map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
  memory.map_ram("bios", GuestPhysAddr(0xf0000), kRomSize, kRamSize, 1, AddressSpace::Access::ReadOnly);
  memory.map_ram("bios-top", GuestPhysAddr(0xffff0000), kRomSize, kRamSize, 1, AddressSpace::Access::ReadOnly);
  std::copy(image.begin(), image.end(), (*ram)->host(kRamSize));

  TestBoard board;
  const auto cpu = Cpu::create(*model, memory, board, 0);
  board.cpu = cpu.get();
  if (const auto done = use_engine(*cpu, {engine}); !done) {
    std::fprintf(stderr, "%s\n", done.error().message.c_str());
    return 2;
  }
  constexpr u64 kLimit = 50'000'000;
  while (board.exit_status < 0 && cpu->retired() < kLimit) {
    const Exit exit = cpu->run(reloads ? 1 : 1'000'000);
    if (reloads && !reload(*cpu)) {
      std::puts("state changed by saving and loading it");
      return 3;
    }
    if (exit == Exit::Shutdown) {
      std::puts("shutdown");
      if (!cpu->state().dr[0]) return 3;
      cpu->reset();  // a test of triple faults leaves a mark in DR0
    }
    if (exit == Exit::Stuck) {
      std::puts("exceptions without end");
      std::fputs(cpu->describe_registers().c_str(), stdout);
      return 3;
    }
    if (exit == Exit::Halted) {
      std::puts("halted with nothing to wake it");
      std::fputs(cpu->describe_registers().c_str(), stdout);
      return 3;
    }
  }
  std::fflush(stdout);
  if (board.exit_status < 0) {
    std::puts("ran into the instruction limit");
    std::fputs(cpu->describe_registers().c_str(), stdout);
    return 3;
  }
  return board.exit_status;
}
