// What people debug a machine with, whoever asks: numbered breakpoints of every kind, steps, and why the machine stopped.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "debug/guest_memory.h"
#include "debug/symbols.h"
#include "debug/trace.h"
#include "machine/machine.h"

namespace vellum {

struct Breakpoint {
  enum class Kind : u8 {
    Code,          // first: linear address
    PhysicalCode,  // first: physical address
    Watch,         // first..last: linear addresses
    Mmio,          // first..last: physical addresses, of memory or devices
    Port,          // first..last
    Msr,           // first..last
    Control,       // first: number of the control register
    Vector,        // first..last
    Mode,          // every change
    Serial,        // first: number of the line (from 0); text: what the guest sends
    TripleFault,
  };
  Kind kind = Kind::Code;
  u64 first = 0, last = 0;
  u8 accesses = kWatchRead | kWatchWrite;
  std::string text;
  bool temporary = false;  // gone with its first hit
  unsigned number = 0;
  u64 hits = 0;
};

class Debugger final : public RunObserver, public CpuObserver {
 public:
  explicit Debugger(Machine& machine);
  ~Debugger() override;
  Debugger(const Debugger&) = delete;

  Machine& machine() { return m_machine; }
  CpuCore& cpu() { return core_of(m_machine); }
  Symbols& symbols() { return m_symbols; }

  // Returns its number.
  unsigned add(Breakpoint breakpoint);
  bool remove(unsigned number);
  void remove_all();
  const std::vector<Breakpoint>& breakpoints() const { return m_breakpoints; }
  std::string describe(const Breakpoint& breakpoint) const;

  // These return at once; on_stop tells when it is done. A step holds interrupts and timers back where time follows the host.
  void go_on();
  void step(u64 instructions);
  void step_over();             // a call, interrupt or repeated string instruction counts as one
  void run_until(u64 linear);
  // Called whenever the machine stops by what was asked for here, with what is to be told of it.
  std::function<void(const std::string& text)> on_stop;
  // Why the machine stopped, in words, if one of these breakpoints was it; else empty.
  std::string reason(const StopCause& cause);

  // While quiet, no breakpoint of anybody's stops the machine, and nobody is told of stops.
  void set_quiet(bool quiet);
  bool quiet() const { return m_quiet; }

  // The instruction at the present place, with its address and symbol.
  std::string place();
  // "0x1234 <name+0x12>"
  std::string name_address(u64 linear) const;

  // One trace at a time. Accesses to disks are in one that was there from the beginning.
  Result<void> start_trace(const TraceSpec& spec);
  // The error says why the file is not whole.
  Result<void> end_trace();
  Trace* trace() { return m_trace.get(); }

  // Called when a register or memory was changed by hand.
  std::function<void()> on_change = [] {};

  // RunObserver.
  void machine_started() override { m_event_text.clear(); }
  void machine_stopped(const StopCause& cause) override;
  // CpuObserver.
  void port_accessed(u16 port, unsigned size, bool write, u32 value) override;
  void msr_accessed(u32 index, bool write, u64 value) override;
  void control_written(unsigned number, u64 value) override;
  void interrupt_delivered(u8 vector, bool external, u32 error_code) override;
  void mode_changed(CpuMode before, CpuMode now) override;
  void triple_fault() override;

 private:
  void arm(const Breakpoint& breakpoint, bool set);
  void observe();
  // An event that a breakpoint of this kind waits for, if one does.
  void event(Breakpoint::Kind kind, u64 number, u8 accesses, std::string text);
  void serial_sent(unsigned line, u8 byte);
  void hit(Breakpoint& breakpoint);
  void remove_temporary();
  void begin_step();
  void end_step();

  Machine& m_machine;
  Symbols m_symbols;
  std::vector<Breakpoint> m_breakpoints;
  unsigned m_next_number = 1;
  std::unique_ptr<Trace> m_trace;
  std::string m_event_text;    // of the event that asked for the stop
  bool m_quiet = false;
  bool m_stepping = false;     // by step() or step_over(), and nobody else
  static constexpr unsigned kSerialLines = 4;
  std::string m_sent[kSerialLines];  // the last that the guest sent
};

}  // namespace vellum
