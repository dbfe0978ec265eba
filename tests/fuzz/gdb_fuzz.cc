// Fuzz target: the bytes are what a client sends to the gdb stub. The first byte chooses the CPU's mode, and whether the rest
// comes as it is or as lines that are put into packets.
#include <string>

#include "../unit/machine/fake_parts.h"
#include "cpu/core.h"
#include "debug/gdb_stub.h"
#include "debug/registers.h"
#include "state/log.h"

using namespace vellum;

namespace {

constexpr u64 kRamSize = 4 << 20;

struct Target {
  EventLoop events;
  std::unique_ptr<Machine> machine = std::move(*Machine::create(
      {.cpu_model = *parse_cpu_model("max"), .memory_size = kRamSize, .ram_mapping_size = kRamSize, .clock = ClockMode::Instructions}, events,
      [](const CpuModel& model, AddressSpace& memory, CpuEnvironment& environment, unsigned index) { return Cpu::create(model, memory, environment, index); }));
  Target() {
    machine->set_board(std::make_unique<vellum::test::FakeBoard>());
    machine->memory().map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
    machine->power_on();
  }
  // Code that does a little of everything, over all of memory, which the client may change.
  void prepare(unsigned mode) {
    static constexpr u8 kCode[] = {0x40, 0x50, 0x58, 0xa3, 0x00, 0x30, 0x00, 0x00, 0xe6, 0x80, 0xcd, 0x03, 0xeb, 0xf2};
    for (u64 at = 0; at < 0x10000; at += sizeof(kCode)) machine->memory().write(GuestPhysAddr(at), kCode);
    CpuCore& cpu = core_of(*machine);
    cpu.reset();
    CpuState& s = cpu.s;
    s.rip = 0x1000;
    s.segment[kCs].base = 0;
    s.segment[kCs].limit = 0xffffffff;
    if (mode >= 1) s.cr0 |= kCr0Pe;
    if (mode >= 2) {
      const u64 tables[][2] = {{0x20000, 0x21003}, {0x21000, 0x22003}, {0x22000, 0x83}, {0x22008, 0x200083}};
      for (const auto& [address, entry] : tables) machine->memory().write_value<u64>(GuestPhysAddr(address), entry);
      s.cr3 = 0x20000;
      s.cr4 = kCr4Pae;
      s.efer = kEferLme | kEferLma;
      s.cr0 |= kCr0Pg;
      s.segment[kCs].attributes = 0xa09b;
    }
    cpu.update_mode();
    cpu.flush_tlb();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  if (size < 1) return 0;
  g_log_mask = 0;
  static Target target;
  target.prepare(data[0] % 3);
  GdbStub stub(*target.machine, {.send = [](std::string_view) {},
                                 .monitor = [](std::string_view line) { return std::string(line); }});
  stub.connected();
  const auto run_on = [&] {
    // What was let go runs a little, and stops by itself or is stopped.
    for (unsigned i = 0; i < 4 && target.machine->running(); ++i) {
      target.machine->run_instructions(50);
      stub.machine_stopped(target.machine->take_stop_cause().value_or(StopCause{}));
    }
    target.machine->stop();
  };
  const bool framed = data[0] & 0x80;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  while (!text.empty()) {
    const auto end = framed ? std::min(text.find('\n'), text.size()) : text.size();
    std::string bytes(text.substr(0, end));
    if (framed) {
      u8 sum = 0;
      for (const char c : bytes) sum = static_cast<u8>(sum + static_cast<u8>(c));
      bytes = fmt::format("${}#{:02x}", bytes, sum);
    }
    stub.receive({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
    run_on();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  stub.disconnected();
  run_on();
  target.machine->cpu().debug().clear();
  return 0;
}
