// Breakpoints of the CPU and of events, and going on from them.
#include "debug/debugger.h"

#include <fmt/format.h>

#include <algorithm>

#include "cpu/disassembler.h"

namespace vellum {

namespace {

// PC-AT serial lines, as far as what is written to their data register (DLAB = 0) goes.
constexpr u16 kSerialBases[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
constexpr u16 kLineControl = 3;
constexpr u8 kDivisorAccess = 0x80;
constexpr usize kLongestText = 256;

std::string accesses_text(u8 accesses) {
  return accesses == kWatchRead ? "read" : accesses == kWatchWrite ? "write" : "access";
}

std::string range_text(const Breakpoint& breakpoint) {
  return breakpoint.first == breakpoint.last ? fmt::format("{:#x}", breakpoint.first) : fmt::format("{:#x}-{:#x}", breakpoint.first, breakpoint.last);
}

CodeSize code_size(CpuCore& cpu) {
  return cpu.s.code64() ? CodeSize::Bits64 : cpu.s.segment[kCs].big() ? CodeSize::Bits32 : CodeSize::Bits16;
}

Watchpoint watchpoint_of(const Breakpoint& breakpoint) {
  return {.space = breakpoint.kind == Breakpoint::Kind::Watch ? DebugSpace::Linear : DebugSpace::Physical,
          .address = breakpoint.first,
          .size = breakpoint.last - breakpoint.first + 1,
          .accesses = breakpoint.accesses};
}

}  // namespace

Debugger::Debugger(Machine& machine) : m_machine(machine) { m_machine.add_run_observer(*this); }

Debugger::~Debugger() {
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) m_machine.cpu(i).remove_observer(*this);
  m_machine.remove_run_observer(*this);
}

// ---- Traces

Result<void> Debugger::start_trace(const TraceSpec& spec) {
  if (m_trace) return failure("events are traced already; trace off ends that");
  auto trace = Trace::create(m_machine, spec);
  if (!trace) return std::unexpected(trace.error());
  m_trace = std::move(*trace);
  return {};
}

Result<void> Debugger::end_trace() {
  const std::unique_ptr<Trace> trace = std::move(m_trace);
  return trace ? trace->finish() : Result<void>{};
}

// ---- Breakpoints

void Debugger::arm(const Breakpoint& breakpoint, bool set) {
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) {
    DebugControl& debug = m_machine.cpu(i).debug();
    switch (breakpoint.kind) {
      case Breakpoint::Kind::Code:
      case Breakpoint::Kind::PhysicalCode: {
        const DebugSpace space = breakpoint.kind == Breakpoint::Kind::Code ? DebugSpace::Linear : DebugSpace::Physical;
        if (set) debug.insert_breakpoint(space, breakpoint.first);
        else debug.remove_breakpoint(space, breakpoint.first);
        break;
      }
      case Breakpoint::Kind::Watch:
      case Breakpoint::Kind::Mmio:
        if (set) debug.insert_watchpoint(watchpoint_of(breakpoint));
        else debug.remove_watchpoint(watchpoint_of(breakpoint));
        break;
      default: break;  // observe()
    }
  }
}

void Debugger::observe() {
  u32 events = 0;
  for (const Breakpoint& breakpoint : m_breakpoints) {
    switch (breakpoint.kind) {
      case Breakpoint::Kind::Port:
      case Breakpoint::Kind::Serial: events |= kEventPort; break;
      case Breakpoint::Kind::Msr: events |= kEventMsr; break;
      case Breakpoint::Kind::Control: events |= kEventControl; break;
      case Breakpoint::Kind::Vector: events |= kEventInterrupt; break;
      case Breakpoint::Kind::Mode: events |= kEventMode; break;
      case Breakpoint::Kind::TripleFault: events |= kEventTripleFault; break;
      default: break;
    }
  }
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) {
    if (events) m_machine.cpu(i).add_observer(*this, events);
    else m_machine.cpu(i).remove_observer(*this);
  }
}

unsigned Debugger::add(Breakpoint breakpoint) {
  breakpoint.number = m_next_number++;
  breakpoint.last = std::max(breakpoint.first, breakpoint.last);
  breakpoint.text.resize(std::min(breakpoint.text.size(), kLongestText));
  arm(breakpoint, true);
  m_breakpoints.push_back(std::move(breakpoint));
  observe();
  return m_breakpoints.back().number;
}

bool Debugger::remove(unsigned number) {
  const auto found = std::ranges::find(m_breakpoints, number, &Breakpoint::number);
  if (found == m_breakpoints.end()) return false;
  arm(*found, false);
  m_breakpoints.erase(found);
  observe();
  return true;
}

void Debugger::remove_all() {
  while (!m_breakpoints.empty()) remove(m_breakpoints.back().number);
}

void Debugger::remove_temporary() {
  for (usize i = m_breakpoints.size(); i-- > 0;)
    if (m_breakpoints[i].temporary && m_breakpoints[i].hits) remove(m_breakpoints[i].number);
}

std::string Debugger::describe(const Breakpoint& breakpoint) const {
  switch (breakpoint.kind) {
    case Breakpoint::Kind::Code: return "at " + name_address(breakpoint.first);
    case Breakpoint::Kind::PhysicalCode: return fmt::format("at physical {:#x}", breakpoint.first);
    case Breakpoint::Kind::Watch: return fmt::format("{} of {}", accesses_text(breakpoint.accesses), range_text(breakpoint));
    case Breakpoint::Kind::Mmio: return fmt::format("{} of physical {}", accesses_text(breakpoint.accesses), range_text(breakpoint));
    case Breakpoint::Kind::Port: return fmt::format("{} of port {}", accesses_text(breakpoint.accesses), range_text(breakpoint));
    case Breakpoint::Kind::Msr: return fmt::format("{} of MSR {}", accesses_text(breakpoint.accesses), range_text(breakpoint));
    case Breakpoint::Kind::Control: return fmt::format("write of CR{}", breakpoint.first);
    case Breakpoint::Kind::Vector: return fmt::format("vector {}", range_text(breakpoint));
    case Breakpoint::Kind::Mode: return "change of the CPU's mode";
    case Breakpoint::Kind::Serial: return fmt::format("\"{}\" on serial line {}", breakpoint.text, breakpoint.first);
    case Breakpoint::Kind::TripleFault: return "triple fault";
  }
  return "";
}

// ---- Events

void Debugger::hit(Breakpoint& breakpoint) { ++breakpoint.hits; }

void Debugger::event(Breakpoint::Kind kind, u64 number, u8 accesses, std::string text) {
  if (m_quiet) return;
  for (Breakpoint& breakpoint : m_breakpoints) {
    if (breakpoint.kind != kind || number < breakpoint.first || number > breakpoint.last || !(accesses & breakpoint.accesses)) continue;
    hit(breakpoint);
    if (cpu().debug().stop_pending()) return;
    m_event_text = fmt::format("breakpoint {}: {}", breakpoint.number, text);
    cpu().debug().request_stop({.kind = DebugStop::Kind::Event});
    cpu().request_exit();
    return;
  }
}

void Debugger::port_accessed(u16 port, unsigned size, bool write, u32 value) {
  for (unsigned line = 0; line < kSerialLines; ++line) {
    if (!write || port != kSerialBases[line]) continue;
    if (!(m_machine.ports().read(static_cast<u16>(port + kLineControl), 1) & kDivisorAccess)) serial_sent(line, static_cast<u8>(value));
  }
  event(Breakpoint::Kind::Port, port, write ? kWatchWrite : kWatchRead,
        fmt::format("{} bytes {:#x} {} port {:#x}", size, value, write ? "to" : "from", port));
}

void Debugger::serial_sent(unsigned line, u8 byte) {
  std::string& sent = m_sent[line];
  sent += static_cast<char>(byte);
  for (Breakpoint& breakpoint : m_breakpoints) {
    if (breakpoint.kind != Breakpoint::Kind::Serial || breakpoint.first != line || breakpoint.text.empty() || !sent.ends_with(breakpoint.text)) continue;
    event(Breakpoint::Kind::Serial, line, kWatchWrite, fmt::format("\"{}\" on serial line {}", breakpoint.text, line));
    break;
  }
  if (sent.size() > 2 * kLongestText) sent.erase(0, kLongestText);
}

void Debugger::msr_accessed(u32 index, bool write, u64 value) {
  event(Breakpoint::Kind::Msr, index, write ? kWatchWrite : kWatchRead, fmt::format("MSR {:#x} {} {:#x}", index, write ? "set to" : "read as", value));
}

void Debugger::control_written(unsigned number, u64 value) {
  event(Breakpoint::Kind::Control, number, kWatchWrite, fmt::format("CR{} set to {:#x}", number, value));
}

void Debugger::interrupt_delivered(u8 vector, bool external, u32 error_code) {
  event(Breakpoint::Kind::Vector, vector, kWatchRead,
        fmt::format("{} {:#x}, from {}, error code {:#x}", external ? "interrupt" : "exception or INT", vector, name_address(linear_pc(cpu().s)), error_code));
}

void Debugger::mode_changed(CpuMode before, CpuMode now) {
  event(Breakpoint::Kind::Mode, 0, kWatchRead | kWatchWrite, fmt::format("from {} to {}", cpu_mode_name(before), cpu_mode_name(now)));
}

void Debugger::triple_fault() { event(Breakpoint::Kind::TripleFault, 0, kWatchRead | kWatchWrite, "triple fault; the CPU is as it caused it"); }

void Debugger::set_quiet(bool quiet) {
  m_quiet = quiet;
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) m_machine.cpu(i).debug().enable(!quiet);
}

// ---- Stopping

std::string Debugger::reason(const StopCause& cause) {
  if (cause.kind != StopCause::Kind::Debug || !cause.debug) return {};
  const DebugStop& stop = *cause.debug;
  if (stop.kind == DebugStop::Kind::Event) return m_event_text.empty() ? "" : m_event_text + "\n";
  for (const Breakpoint& breakpoint : m_breakpoints) {
    const bool physical = stop.space == DebugSpace::Physical;
    const bool code = breakpoint.kind == (physical ? Breakpoint::Kind::PhysicalCode : Breakpoint::Kind::Code);
    const bool watch = breakpoint.kind == (physical ? Breakpoint::Kind::Mmio : Breakpoint::Kind::Watch);
    if (stop.kind == DebugStop::Kind::Breakpoint && code && breakpoint.first == stop.address && !breakpoint.temporary)
      return fmt::format("breakpoint {}: {}\n", breakpoint.number, describe(breakpoint));
    if (stop.kind == DebugStop::Kind::Watchpoint && watch && watchpoint_of(breakpoint) == stop.watchpoint)
      return fmt::format("breakpoint {}: {} of {:#x}\n", breakpoint.number, accesses_text(stop.accesses), stop.address);
  }
  return {};
}

void Debugger::machine_stopped(const StopCause& cause) {
  bool mine = m_stepping && cause.kind == StopCause::Kind::Step;
  if (cause.kind == StopCause::Kind::Debug && cause.debug) {
    const DebugStop& stop = *cause.debug;
    for (Breakpoint& breakpoint : m_breakpoints) {
      const bool code = breakpoint.kind == Breakpoint::Kind::Code || breakpoint.kind == Breakpoint::Kind::PhysicalCode;
      const bool watch = breakpoint.kind == Breakpoint::Kind::Watch || breakpoint.kind == Breakpoint::Kind::Mmio;
      const bool it = (code && stop.kind == DebugStop::Kind::Breakpoint && breakpoint.first == stop.address) ||
                      (watch && stop.kind == DebugStop::Kind::Watchpoint && watchpoint_of(breakpoint) == stop.watchpoint);
      if (it) hit(breakpoint);
      mine = mine || it;
    }
    mine = mine || stop.kind == DebugStop::Kind::Event;
  }
  end_step();
  const std::string text = reason(cause);
  remove_temporary();
  if (mine && on_stop) on_stop(text + place());
}

void Debugger::begin_step() {
  CpuCore& core = cpu();
  core.debug().pass_here(linear_pc(core.s), core.retired());
  const bool hold = m_machine.config().clock == ClockMode::Realtime && !core.s.halted;
  core.debug().hold_interrupts(hold);
  m_machine.hold_timers(hold);
  m_stepping = true;
}

void Debugger::end_step() {
  if (!m_stepping) return;
  m_stepping = false;
  cpu().debug().hold_interrupts(false);
  m_machine.hold_timers(false);
}

void Debugger::go_on() {
  if (!m_breakpoints.empty()) cpu().debug().pass_here(linear_pc(cpu().s), cpu().retired());
  m_machine.start();
}

void Debugger::step(u64 instructions) {
  begin_step();
  m_machine.step(instructions);
}

void Debugger::step_over() {
  CpuCore& core = cpu();
  const u64 linear = linear_pc(core.s);
  u8 bytes[15];
  const usize size = read_guest(core, DebugSpace::Linear, linear, bytes);
  if (size == 0) return step(1);
  const DisassembledInsn insn = Disassembler(code_size(core)).one({bytes, size}, linear);
  const bool whole = insn.text.starts_with("call") || insn.text.starts_with("lcall") || insn.text.starts_with("int") || insn.text.starts_with("rep");
  if (!whole) return step(1);
  run_until(linear + insn.length);
}

void Debugger::run_until(u64 linear) {
  add({.kind = Breakpoint::Kind::Code, .first = linear, .last = linear, .temporary = true});
  go_on();
}

std::string Debugger::name_address(u64 linear) const {
  const std::string name = m_symbols.describe(linear);
  return name.empty() ? fmt::format("{:#x}", linear) : fmt::format("{:#x} <{}>", linear, name);
}

std::string Debugger::place() {
  CpuCore& core = cpu();
  const u64 linear = linear_pc(core.s);
  u8 bytes[15];
  const usize size = read_guest(core, DebugSpace::Linear, linear, bytes);
  std::string text = fmt::format("{:04x}:{:x}", core.s.segment[kCs].selector, core.s.rip);
  if (core.s.segment[kCs].base && !core.s.code64()) text += fmt::format(" ({:#x})", linear);
  if (const std::string name = m_symbols.describe(linear); !name.empty()) text += fmt::format(" <{}>", name);
  const auto name_of = [&](u64 address) {
    const std::string name = m_symbols.describe(address);
    return name.empty() ? fmt::format("{:#x}", address) : fmt::format("{:#x} <{}>", address, name);
  };
  return fmt::format("{}:  {}\n", text, size ? Disassembler(code_size(core)).one({bytes, size}, linear, name_of).text : "(no memory)");
}

}  // namespace vellum
