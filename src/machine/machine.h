// One emulated machine: memory, ports, clock, CPUs, devices and board, and the loop that runs them.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/cpu.h"
#include "devices/device.h"
#include "devices/port_bus.h"
#include "machine/board.h"
#include "machine/event_loop.h"
#include "machine/machine_clock.h"
#include "mmu/address_space.h"
#include "mmu/guest_ram.h"
#include "state/archive.h"
#include "state/error.h"

namespace vellum {

// The frequency of the time-stamp counter in Hz, as CPUID and the firmware may tell the guest: one count a virtual
// nanosecond, so that no conversion can lose a count.
inline constexpr u64 kTscFrequency = kTicksPerSecond;

using CpuFactory = std::function<std::unique_ptr<Cpu>(const CpuModel& model, AddressSpace& memory,
                                                      CpuEnvironment& environment, unsigned index)>;

struct MachineConfig {
  CpuModel cpu_model;
  unsigned cpu_count = 1;
  u64 memory_size = 0;        // bytes of RAM that the guest sees
  u64 ram_mapping_size = 0;   // bytes of GuestRam: RAM, ROM and video memory
  ClockMode clock = ClockMode::Realtime;
  bool exit_on_reset = false; // -no-reboot
};

class Machine {
 public:
  // `events` must outlive the machine, and so must everything that serves its devices from outside.
  static Result<std::unique_ptr<Machine>> create(MachineConfig config, EventLoop& events, const CpuFactory& create_cpu);
  ~Machine();

  const MachineConfig& config() const { return m_config; }
  GuestRam& ram() { return *m_ram; }
  AddressSpace& memory() { return m_memory; }
  PortBus& ports() { return m_ports; }
  MachineClock& clock() { return m_clock; }
  EventLoop& events() { return m_events; }
  Cpu& cpu(unsigned index = 0) { return *m_cpus[index]; }
  unsigned cpu_count() const { return static_cast<unsigned>(m_cpus.size()); }
  Board& board() { return *m_board; }
  std::span<const std::unique_ptr<Device>> devices() const { return m_devices; }

  // Devices are reset, saved and loaded in the order in which they were added.
  template <class T>
  T& add(std::unique_ptr<T> device) {
    T& reference = *device;
    m_devices.push_back(std::move(device));
    return reference;
  }
  // The board goes when every device has gone.
  void set_board(std::unique_ptr<Board> board) { m_board = std::move(board); }
  // Last step of construction: resets everything as at power-on.
  void power_on() { reset(ResetKind::PowerOn); }

  // Runs, or serves the monitor while stopped, until the machine ends. Returns the exit status of the program.
  int run();
  // Runs exactly `count` instructions (fewer when the machine ends or stops); for tests and repeatable runs.
  void run_instructions(u64 count);

  void start();
  void stop();
  bool running() const { return m_running; }

  // Ends run() with `status`. Async-signal-safe, from any thread.
  void request_end(int status);
  bool ended() const { return m_end_status.load(std::memory_order_relaxed) >= 0; }
  // The reset line: at the next instruction boundary every device and CPU is reset (or the machine ends, as configured).
  void request_reset();
  // INIT# of one CPU, at its next instruction boundary.
  void request_init(unsigned index);
  // Soft power-off by the guest (ACPI S5): ends run() with status 0.
  void request_power_off() { request_end(0); }

  // Everything that tells this machine from another, one "key=value" a line; a snapshot fits only its equal.
  std::string configuration() const;
  // The parts of the state beside RAM, in the order in which they must be loaded.
  struct StatePart {
    std::string name;
    std::function<void(Archive&)> visit;
  };
  std::vector<StatePart> state_parts();
  // What the parts saved, by name.
  using States = std::map<std::string, std::vector<u8>>;
  States save_state();
  // Loads every part. After an error the machine is in no state to run until another state was loaded.
  Result<void> load_state(const States& states);
  // Hash over all guest-visible state, RAM included. Equal machines have equal hashes; the host has no part in it.
  u64 state_hash();

 private:
  // One CPU's view of the machine.
  class CpuSocket final : public CpuEnvironment {
   public:
    CpuSocket(Machine& machine, unsigned index) : m_machine(machine), m_index(index) {}
    u32 read_port(u16 port, unsigned size) override { return m_machine.m_ports.read(port, size); }
    void write_port(u16 port, unsigned size, u32 value) override { m_machine.m_ports.write(port, size, value); }
    std::optional<u8> acknowledge_interrupt() override { return m_machine.m_board->acknowledge_interrupt(m_index); }
    u64 time_stamp_counter() override { return m_machine.m_clock.now(); }
    u8 task_priority() override { return m_machine.m_board->task_priority(m_index); }
    void set_task_priority(u8 priority) override { m_machine.m_board->set_task_priority(m_index, priority); }
    void time_stamp_counter_written() override { m_machine.m_board->time_stamp_counter_written(m_index); }
    bool read_apic_msr(u32 index, u64& value) override { return m_machine.m_board->read_apic_msr(m_index, index, value); }
    bool write_apic_msr(u32 index, u64 value) override { return m_machine.m_board->write_apic_msr(m_index, index, value); }
    void set_smm(bool active) override { m_machine.m_board->set_smm(m_index, active); }
    bool send_interrupt(u32 apic_id, u32 command) override { return m_machine.m_board->send_interrupt(apic_id, command); }
    void set_ferr(bool level) override { m_machine.m_board->set_ferr(m_index, level); }
    u64 random() override { return m_machine.random(); }

   private:
    Machine& m_machine;
    unsigned m_index;
  };

  Machine(MachineConfig config, EventLoop& events, std::unique_ptr<GuestRam> ram);
  void interrupt_cpus();
  void reset(ResetKind kind);
  u64 random();
  // Host time spent on slices decides how many instructions the next one may have.
  u64 slice_budget(u64 limit);
  void run_slice(u64 limit);
  void idle();

  // Configuration.
  MachineConfig m_config;
  // Wiring. The order of destruction matters: devices hold timers, mappings and event sources.
  EventLoop& m_events;
  std::unique_ptr<GuestRam> m_ram;
  AddressSpace m_memory;
  PortBus m_ports;
  MachineClock m_clock;
  std::vector<std::unique_ptr<CpuSocket>> m_sockets;
  std::vector<std::unique_ptr<Cpu>> m_cpus;
  std::vector<std::unique_ptr<Device>> m_devices;
  std::unique_ptr<Board> m_board;
  // State of the loop.
  bool m_running = false;
  bool m_in_slice = false;
  std::atomic<bool> m_reset_requested = false;
  u32 m_init_requested = 0;          // bit n: CPU n
  std::atomic<int> m_end_status = -1;
  u64 m_last_poll = 0;               // host nanoseconds
  double m_nanoseconds_per_instruction = 10;
  double m_recent_nanoseconds = 0, m_recent_instructions = 0;
  // Guest-visible state.
  u64 m_random_state = 0;
};

// Calls `visit` with the offset of each page of RAM that was ever written to and is not all zeroes, in order, without
// touching pages that were not.
void for_each_used_page(const GuestRam& ram, const std::function<void(u64 offset)>& visit);

}  // namespace vellum
