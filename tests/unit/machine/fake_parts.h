// A CPU that only counts, a board without parts, and a device with a counter: a machine for tests of the machine itself.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>

#include "machine/machine.h"
#include "state/assert.h"

namespace vellum::test {

// Retires instructions without doing anything; halts when told.
class FakeCpu : public Cpu {
 public:
  FakeCpu(CpuEnvironment& environment) : m_environment(environment) {}
  void reset() override { ++resets; }
  void init() override {}
  Exit run(u64 budget) override {
    m_exit_requested = false;
    ++runs;
    for (u64 done = 0; done < budget; ++done) {
      if (halted && !m_interrupt_request) return Exit::Halted;
      if (m_exit_requested) return Exit::Requested;
      ++m_retired;
      if (on_instruction) on_instruction();
      if (shut_down) return shut_down = false, Exit::Shutdown;
    }
    return Exit::BudgetSpent;
  }
  u64 retired() const override { return m_retired; }
  void set_interrupt_request(bool level) override { m_interrupt_request = level; }
  void raise_nmi() override {}
  void raise_smi() override {}
  void set_a20(bool) override {}
  bool has_work() const override { return !halted || m_interrupt_request; }
  void settle() override {}
  u64 register_hash() const override { return m_retired; }
  void request_exit() override { m_exit_requested = true; }
  CpuState& state() override { VELLUM_ASSERT(!"the fake CPU has no state"); }
  std::string describe_registers() const override { return "RIP=0000\n"; }
  void visit(Archive& archive) override {
    archive("retired", m_retired)("halted", halted);
  }
  CpuEnvironment& environment() { return m_environment; }

  bool halted = false;
  bool shut_down = false;
  int resets = 0;
  u64 runs = 0;  // slices
  std::function<void()> on_instruction;

 private:
  CpuEnvironment& m_environment;
  u64 m_retired = 0;
  bool m_interrupt_request = false;
  bool m_exit_requested = false;
};

class FakeBoard : public Board {
 public:
  std::string_view name() const override { return "fake"; }
  std::optional<u8> acknowledge_interrupt(unsigned) override { return std::nullopt; }
  u8 task_priority(unsigned) override { return 0; }
  void set_task_priority(unsigned, u8) override {}
  bool send_interrupt(u32, u32) override { return false; }
  void time_stamp_counter_written(unsigned) override {}
  bool read_apic_msr(unsigned, u32, u64&) override { return false; }
  bool write_apic_msr(unsigned, u32, u64) override { return false; }
  void set_smm(unsigned, bool) override {}
  void set_ferr(unsigned, bool) override {}
  void cpu_initialised(unsigned) override { ++initialised; }
  void key(KeyCode code, bool down) override { keys.emplace_back(code, down); }
  void move_pointer(int dx, int dy, int wheel, u8 buttons) override { pointers.push_back(pointer = fmt::format("by {} {} {} {}", dx, dy, wheel, buttons)); }
  bool pointer_is_absolute() const override { return tablet; }
  void place_pointer(u16 x, u16 y, int wheel, u8 buttons) override { pointers.push_back(pointer = fmt::format("to {} {} {} {}", x, y, wheel, buttons)); }
  std::vector<std::string> removable_drives() override { return {"cd"}; }
  Result<void> change_medium(std::string_view drive, ImageOptions image, bool force) override {
    media += fmt::format("change {} {} '{}'{}{}{};", drive, image.path, image.format, image.read_only ? " read-only" : "",
                         image.snapshot ? " snapshot" : "", force ? " force" : "");
    return drive == "cd" ? Result<void>{} : failure("no such drive");
  }
  Result<void> eject_medium(std::string_view drive, bool force) override {
    media += fmt::format("eject {}{};", drive, force ? " force" : "");
    return {};
  }
  ScreenSource* screen() override { return source; }
  void press_power_button() override { ++power_button; }
  void reset(ResetKind) override { ++resets; }
  std::vector<BlockDevice*> inserted_media() override { return disks; }
  Result<void> flush_disks() override { return ++flushes, Result<void>{}; }
  std::optional<std::string> describe(std::string_view topic) override {
    return topic == "pci" ? std::optional<std::string>("no PCI\n") : std::nullopt;
  }
  int resets = 0, power_button = 0, flushes = 0, initialised = 0;
  std::vector<std::pair<KeyCode, bool>> keys;
  std::string media, pointer;         // the last one
  std::vector<std::string> pointers;  // all of them
  ScreenSource* source = nullptr;
  bool tablet = false;
  std::vector<BlockDevice*> disks;
};

// Ticks every 1000 ns and counts; its limit shows how hostile state is refused.
class FakeDevice : public Device {
 public:
  explicit FakeDevice(VirtualClock& clock, std::string name = "fake-device")
      : m_clock(clock), m_timer(clock, [this] { tick(); }), m_name(std::move(name)) {}
  std::string_view name() const override { return m_name; }
  void reset(ResetKind) override {
    m_state = {};
    m_timer.arm(m_clock.now() + 1000);
    ++resets;
  }
  void visit(Archive& archive) override {
    auto& [ticks, limited] = m_state;
    archive("ticks", ticks)("limited", limited);
    archive.require(limited <= 7, "limited");
    m_timer.visit(archive);
  }
  void silence() { m_timer.cancel(); }
  u64 ticks() const { return m_state.ticks; }
  void set_limited(u8 value) { m_state.limited = value; }
  int resets = 0;

 private:
  void tick() {
    ++m_state.ticks;
    m_timer.arm(m_timer.deadline() + 1000);
  }
  VirtualClock& m_clock;
  Timer m_timer;
  std::string m_name;
  struct State {
    u64 ticks = 0;
    u8 limited = 0;
  } m_state;
};

struct FakeMachine {
  explicit FakeMachine(ClockMode clock = ClockMode::Instructions, u64 memory = 4 << 20) {
    MachineConfig config;
    config.cpu_model.name = "fake";
    config.memory_size = config.ram_mapping_size = memory;
    config.clock = clock;
    auto created = Machine::create(config, events, [this](const CpuModel&, AddressSpace&, CpuEnvironment& environment, unsigned) {
      auto made = std::make_unique<FakeCpu>(environment);
      cpu = made.get();
      return made;
    });
    machine = std::move(*created);
    device = &machine->add(std::make_unique<FakeDevice>(machine->clock()));
    machine->memory().map_ram("ram", GuestPhysAddr(0), memory, 0);
    auto made = std::make_unique<FakeBoard>();
    board = made.get();
    machine->set_board(std::move(made));
    machine->power_on();
  }
  EventLoop events;
  FakeCpu* cpu;
  FakeDevice* device;
  FakeBoard* board;
  std::unique_ptr<Machine> machine;
};

}  // namespace vellum::test
