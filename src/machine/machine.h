// One emulated machine: memory, ports, clock, CPUs, devices and board, and the loop that runs them.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpu/cpu.h"
#include "devices/device.h"
#include "devices/port_bus.h"
#include "machine/board.h"
#include "machine/event_loop.h"
#include "machine/input_journal.h"
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

// Why a machine does not run any more.
struct StopCause {
  enum class Kind : u8 {
    Request,  // stop() was called
    Step,     // as many instructions as step() was given are done
    Debug,    // `debug` says what
  };
  Kind kind = Kind::Request;
  unsigned cpu = 0;
  std::optional<DebugStop> debug;
};

// Who is told when the machine starts and stops: debuggers.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void machine_started() {}
  // The machine stands still, between two instructions; the observer may let it go on.
  virtual void machine_stopped(const StopCause& cause) {}
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
  // Where input from outside goes; see machine/input_journal.h.
  InputJournal& inputs() { return m_inputs; }
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
  // Ends a recording or a replay: what the machine is like now is noted, or compared with what was noted. Once, after run().
  // Returns what went wrong.
  std::optional<std::string> finish_journal();

  void start();
  void stop() { stop({}); }
  // Starts, and stops after so many instructions of the first CPU. A single one ends at the handler of an exception or
  // interrupt that comes instead of it.
  void step(u64 instructions);
  // While set no timer expires: single steps stay in the code that is looked at.
  void hold_timers(bool hold) { m_hold_timers = hold; }
  void add_run_observer(RunObserver& observer) { m_run_observers.push_back(&observer); }
  void remove_run_observer(RunObserver& observer) { std::erase(m_run_observers, &observer); }
  // Why the machine stopped, unless the observers were told (or will be: run() tells them): for who calls run_instructions().
  std::optional<StopCause> take_stop_cause() { return std::exchange(m_stop_cause, std::nullopt); }
  bool running() const { return m_running; }
  // Whether descriptors of the event loop are served while the machine runs. Who runs it from within a command to it (to go
  // back in time) does not want another command in the middle.
  void serve_host(bool on) { m_polls = on; }

  // Ends run() with `status`. Async-signal-safe, from any thread.
  void request_end(int status);
  bool ended() const { return m_end_status.load(std::memory_order_relaxed) >= 0; }
  // Gives what was submitted to the journal's ports to the devices now rather than when the machine runs on. Not from within a
  // device.
  void deliver_input();
  // A device cannot be given what was recorded: the replay ends.
  void fail_replay(const std::string& why) { end_replay(why, true); }
  // The user's reset button.
  void press_reset_button() { m_reset_button.submit({}); }
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
  // The same without RAM.
  u64 device_state_hash();
  // The seed of what random() returns where the run is to be repeatable. Before the machine runs.
  void seed_random(u64 seed) { m_random_state = seed; }

  // How a replay ended, when it did: at its end, or because the machine did something else than when it was recorded.
  struct ReplayEnd {
    std::string message;
    bool departed;
    int status;  // of the recorded run, at its end
  };
  const std::optional<ReplayEnd>& replay_end() const { return m_replay_end; }
  // Called when a replay ends. Without it the machine ends.
  void on_replay_end(std::function<void(const ReplayEnd&)> callback) { m_on_replay_end = std::move(callback); }
  // Calls `callback` before each instruction, which makes everything slow; an empty one ends that.
  void on_each_instruction(std::function<void()> callback) { m_on_instruction = std::move(callback); }
  // Calls `callback` once, behind exactly `count` instructions or, when it may be late, between two slices behind that. One call is
  // planned for each owner; another takes its place, and one without a callback takes it back.
  enum class Punctuality : u8 { Exact, MayBeLate };
  void call_at(const void* owner, u64 count, std::function<void()> callback, Punctuality punctuality = Punctuality::MayBeLate);

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

  class StepObserver final : public CpuObserver {
   public:
    explicit StepObserver(Machine& machine) : m_machine(machine) {}
    void interrupt_delivered(u8 vector, bool external, u32 error_code) override;

   private:
    Machine& m_machine;
  };

  Machine(MachineConfig config, EventLoop& events, std::unique_ptr<GuestRam> ram);
  void interrupt_cpus();
  void reset(ResetKind kind);
  u64 random();
  // Host time spent on slices decides how many instructions the next one may have.
  u64 slice_budget(u64 limit);
  void run_slice(u64 limit);
  // A slice, and the end of step()'s instructions.
  void run_some(u64 limit);
  void stop(StopCause cause);
  void make_planned_calls();
  void idle();
  void stuck();
  bool interrupted() const { return !m_running || ended() || m_reset_requested || m_init_requested; }
  // machine_input.cc: what comes from outside, or from the journal in its place, at this instruction boundary.
  void take_input();
  void play_input();
  void play_event(const InputEvent& event);
  void end_replay(std::string message, bool departed, int status = 0);
  void pace(bool waited);
  void anchor_pace();
  Ticks host_time() const { return m_anchor_ticks + (host_nanoseconds() - m_anchor_host); }
  void note_check();

  // Configuration.
  MachineConfig m_config;
  // Wiring. The order of destruction matters: devices hold timers, mappings and event sources.
  EventLoop& m_events;
  std::unique_ptr<GuestRam> m_ram;
  AddressSpace m_memory;
  PortBus m_ports;
  MachineClock m_clock;
  InputJournal m_inputs;
  InputPort& m_reset_button;
  std::function<void(const ReplayEnd&)> m_on_replay_end;
  std::vector<std::unique_ptr<CpuSocket>> m_sockets;
  std::vector<std::unique_ptr<Cpu>> m_cpus;
  std::vector<std::unique_ptr<Device>> m_devices;
  std::vector<RunObserver*> m_run_observers;  // of which parts of the board may be some
  std::unique_ptr<Board> m_board;
  // State of the loop.
  bool m_running = false;
  bool m_in_slice = false;
  std::optional<StopCause> m_stop_cause;  // that observers were not told of
  std::optional<u64> m_step_goal;         // retired instructions
  StepObserver m_step_observer{*this};    // of the first CPU during a single step
  bool m_hold_timers = false;
  bool m_polls = true;
  std::atomic<bool> m_reset_requested = false;
  u32 m_init_requested = 0;          // bit n: CPU n
  std::atomic<int> m_end_status = -1;
  u64 m_last_poll = 0;               // host nanoseconds
  double m_nanoseconds_per_instruction = 10;
  double m_recent_nanoseconds = 0, m_recent_instructions = 0;
  struct PlannedCall {
    const void* owner;
    u64 count;
    std::function<void()> callback;
    Punctuality punctuality;
  };
  std::vector<PlannedCall> m_planned_calls;  // few
  u64 m_next_call = ~u64{0};                 // the least of their counts
  std::function<void()> m_on_instruction;
  std::optional<ReplayEnd> m_replay_end;
  // Paced: virtual time was m_anchor_ticks when the host's clock showed m_anchor_host; when time was last set right, and when
  // the state was last noted (host nanoseconds).
  Ticks m_anchor_ticks = 0;
  u64 m_anchor_host = 0, m_last_pace = 0, m_last_check = 0;
  // Guest-visible state.
  u64 m_random_state = 0;
};

// Calls `visit` with the offset of each page of RAM that was ever written to and is not all zeroes, in order, without
// touching pages that were not.
void for_each_used_page(const GuestRam& ram, const std::function<void(u64 offset)>& visit);

}  // namespace vellum
