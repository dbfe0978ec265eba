// What gdb asks by its remote protocol, answered for a machine ("Debugging with GDB", appendix E). Knows no socket.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "debug/gdb_packets.h"
#include "debug/guest_memory.h"
#include "machine/machine.h"

namespace vellum {

class GdbStub final : public RunObserver {
 public:
  struct Wiring {
    std::function<void(std::string_view bytes)> send;
    // Runs a `monitor` command and returns what it prints.
    std::function<std::string(std::string_view line)> monitor = [](std::string_view) { return std::string("no monitor\n"); };
    // Says in words why the machine stopped, if gdb's own words are not enough.
    std::function<std::string(const StopCause&)> describe = [](const StopCause&) { return std::string(); };
    // Going backwards; empty functions: the run cannot be gone back in. They leave the machine stopped at the place found, and
    // tell which of the wanted things was met there; empty: the beginning of what is known was reached.
    std::function<Result<bool>()> reverse_step;  // false: at the beginning
    std::function<Result<std::optional<DebugStop>>()> reverse_continue;
    std::function<bool()> can_reverse = [] { return false; };
    // A register or memory was changed.
    std::function<void()> changed = [] {};
  };
  GdbStub(Machine& machine, Wiring wiring);
  ~GdbStub() override;

  void connected();     // stops the machine
  void disconnected();  // takes back every breakpoint; the machine goes on if gdb had let it go or just went away
  void receive(std::span<const u8> bytes) { m_packets.receive(bytes); }
  // The machine has ended: tells a client that waits for it.
  void machine_ended(int status);

  // RunObserver.
  void machine_stopped(const StopCause& cause) override;

 private:
  // Bits as QEMU has them ("maintenance packet Qqemu.sstep=..."), so that what people know works here.
  enum StepBits : unsigned { kStepEnable = 1, kStepNoInterrupts = 2, kStepNoTimers = 4 };

  void packet(std::string_view data);
  std::string answer(std::string_view data);  // of everything that has one at once; "" is "not supported"
  std::string answer_query(std::string_view data);
  std::string describe_region(std::string_view address_text);
  std::string answer_set(std::string_view data);
  std::string answer_v(std::string_view data);
  std::string read_object(std::string_view request);
  std::string run_monitor_command(std::string_view hex);
  std::string read_registers();
  std::string write_registers(std::string_view hex);
  std::string read_register(std::string_view number);
  std::string write_register(std::string_view assignment);
  std::string read_memory(std::string_view arguments, bool binary);
  std::string write_memory(std::string_view arguments, bool binary);
  std::string change_breakpoint(std::string_view arguments, bool insert);
  std::string stop_reply();
  std::string threads() const;
  std::optional<unsigned> cpu_of(std::string_view thread) const;
  void go_on();
  void step();
  void reverse(bool single);
  void end_step();
  void take_back_breakpoints();
  CpuCore& cpu() { return core_of(m_machine, m_cpu); }
  DebugSpace space() const { return m_physical ? DebugSpace::Physical : DebugSpace::Linear; }

  // Wiring.
  Machine& m_machine;
  Wiring m_wiring;
  GdbPackets m_packets;
  // The session's state.
  bool m_connected = false;
  bool m_waiting = false;        // gdb waits for a stop reply
  bool m_interrupted = false;    // by Ctrl-C
  unsigned m_cpu = 0;            // whose registers gdb sees
  bool m_physical = false;       // memory and breakpoints by physical address
  std::optional<unsigned> m_step_bits;  // empty: what fits the clock
  struct Range {
    u64 start, end;
  };
  std::optional<Range> m_range;  // step until outside
  StopCause m_cause;
  const char* m_history_end = "";  // "begin": going back ended at the beginning
  u64 m_stop_pc = 0, m_stop_retired = 0;
  bool m_client_knows_swbreak = false, m_client_knows_hwbreak = false;
  // What gdb has set: type, address, kind; and in which space each was.
  std::multimap<std::tuple<char, u64, u64>, DebugSpace> m_breakpoints;
};

}  // namespace vellum
