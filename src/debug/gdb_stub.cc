// Packets and their answers.
#include "debug/gdb_stub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "debug/guest_tables.h"
#include "debug/registers.h"

namespace vellum {

namespace {

constexpr const char* kBadArguments = "E16";   // EINVAL
constexpr const char* kNoMemory = "E0e";       // EFAULT
constexpr const char* kOk = "OK";
constexpr usize kMostBreakpoints = 100'000;
// Watchpoints cost every slow access a look.
constexpr u64 kLongestWatchpoint = u64{1} << 32;

bool parse_hex(std::string_view text, u64& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// Cuts off what stands before `separator`; all of it when there is none.
std::string_view cut(std::string_view& text, char separator) {
  const auto at = text.find(separator);
  const std::string_view first = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return first;
}

std::span<const u8> bytes_of(std::string_view text) { return {reinterpret_cast<const u8*>(text.data()), text.size()}; }

}  // namespace

GdbStub::GdbStub(Machine& machine, Wiring wiring)
    : m_machine(machine),
      m_wiring(std::move(wiring)),
      m_packets({.packet = [this](std::string_view data) { packet(data); },
                 .interrupt =
                     [this] {
                       m_interrupted = m_waiting;
                       m_machine.stop();
                     },
                 .send = [this](std::string_view bytes) { m_wiring.send(bytes); }}) {
  m_machine.add_run_observer(*this);
}

GdbStub::~GdbStub() { m_machine.remove_run_observer(*this); }

void GdbStub::connected() {
  m_packets.reset();
  m_connected = true;
  m_waiting = m_interrupted = m_physical = false;
  m_client_knows_swbreak = m_client_knows_hwbreak = false;
  m_step_bits.reset();
  m_cpu = 0;
  m_cause = {};
  m_machine.stop();
}

void GdbStub::disconnected() {
  if (!m_connected) return;
  m_connected = m_waiting = false;
  end_step();
  take_back_breakpoints();
  m_machine.start();
}

void GdbStub::take_back_breakpoints() {
  for (const auto& [key, space] : std::exchange(m_breakpoints, {})) {
    const auto [type, address, kind] = key;
    for (unsigned i = 0; i < m_machine.cpu_count(); ++i) {
      DebugControl& debug = m_machine.cpu(i).debug();
      const u8 accesses = type == '2' ? kWatchWrite : type == '3' ? kWatchRead : kWatchRead | kWatchWrite;
      if (type < '2') debug.remove_breakpoint(space, address);
      else debug.remove_watchpoint({.space = space, .address = address, .size = kind, .accesses = accesses});
    }
  }
}

void GdbStub::machine_ended(int status) {
  if (m_connected && m_waiting) m_packets.send(fmt::format("W{:02x}", status & 0xff));
  m_waiting = false;
}

// ---- Running

void GdbStub::go_on() {
  CpuCore& first = core_of(m_machine);
  // gdb steps over its breakpoints by itself; one that it finds the CPU at again, where it was told of it, is meant.
  const u64 pc = linear_pc(first.s);
  if (pc == m_stop_pc && first.retired() == m_stop_retired) first.debug().pass_here(pc, first.retired());
  m_waiting = true;
  m_history_end = "";
  m_machine.start();
}

void GdbStub::step() {
  CpuCore& first = core_of(m_machine);
  first.debug().pass_here(linear_pc(first.s), first.retired());
  // Where the run is to be the same with and without steps, nothing is held back.
  const unsigned usual = m_machine.config().clock == ClockMode::Realtime ? kStepEnable | kStepNoInterrupts | kStepNoTimers : unsigned{kStepEnable};
  const unsigned bits = m_step_bits.value_or(usual);
  // A halted CPU would never come out of it.
  const bool halted = first.s.halted;
  first.debug().hold_interrupts((bits & kStepNoInterrupts) && !halted);
  m_machine.hold_timers((bits & kStepNoTimers) && !halted);
  m_waiting = true;
  m_history_end = "";
  m_machine.step(1);
}

void GdbStub::end_step() {
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) m_machine.cpu(i).debug().hold_interrupts(false);
  m_machine.hold_timers(false);
  m_range.reset();
}

void GdbStub::machine_stopped(const StopCause& cause) {
  if (!m_connected || !m_waiting) return;
  const u64 pc = linear_pc(core_of(m_machine).s);
  if (cause.kind == StopCause::Kind::Step && m_range && pc >= m_range->start && pc < m_range->end && !m_interrupted) return step();
  end_step();
  m_cause = cause;
  m_stop_pc = pc;
  m_stop_retired = m_machine.cpu().retired();
  m_cpu = cause.cpu;
  m_waiting = false;
  const std::string text = m_wiring.describe(cause);
  if (!text.empty()) m_packets.send("O" + gdb_hex(bytes_of(text)));
  m_packets.send(stop_reply());
  m_interrupted = false;
}

std::string GdbStub::stop_reply() {
  const bool trap = m_cause.kind != StopCause::Kind::Request;
  std::string reply = fmt::format("T{}thread:{:x};", trap ? "05" : "02", m_cause.cpu + 1);
  if (*m_history_end) return reply + fmt::format("replaylog:{};", m_history_end);
  if (!m_cause.debug) return reply;
  const DebugStop& stop = *m_cause.debug;
  if (stop.kind == DebugStop::Kind::Watchpoint) {
    const u8 accesses = stop.watchpoint.accesses;
    const char* name = accesses == kWatchWrite ? "watch" : accesses == kWatchRead ? "rwatch" : "awatch";
    reply += fmt::format("{}:{:x};", name, stop.address);
  } else if (stop.kind == DebugStop::Kind::Breakpoint) {
    const auto of_type = [&](char type) {
      const auto found = m_breakpoints.lower_bound({type, stop.address, 0});
      return found != m_breakpoints.end() && std::get<0>(found->first) == type && std::get<1>(found->first) == stop.address;
    };
    if (of_type('0') && m_client_knows_swbreak) reply += "swbreak:;";
    else if (of_type('1') && m_client_knows_hwbreak) reply += "hwbreak:;";
  }
  return reply;
}

void GdbStub::reverse(bool single) {
  if (!m_wiring.can_reverse()) return m_packets.send("E.this run cannot be gone back in: use -clock instructions");
  m_history_end = "";
  m_cause = {.kind = StopCause::Kind::Step};
  std::string error;
  if (single) {
    const auto moved = m_wiring.reverse_step();
    if (!moved) error = moved.error().message;
    else if (!*moved) m_history_end = "begin";
  } else {
    const auto stop = m_wiring.reverse_continue();
    if (!stop) error = stop.error().message;
    else if (!*stop) m_history_end = "begin";
    else m_cause = {.kind = StopCause::Kind::Debug, .debug = **stop};
  }
  if (!error.empty()) return m_packets.send("E." + error);
  m_stop_pc = linear_pc(core_of(m_machine).s);
  m_stop_retired = m_machine.cpu().retired();
  m_packets.send(stop_reply());
}

// ---- Packets

void GdbStub::packet(std::string_view data) {
  if (m_waiting) return;  // nothing may come but Ctrl-C
  if (data == "bs" || data == "bc") return reverse(data == "bs");
  if (data.starts_with("vCont;")) {
    std::string_view actions = data.substr(6);
    while (!actions.empty()) {
      std::string_view thread = cut(actions, ';');
      const std::string_view action = cut(thread, ':');
      if (!thread.empty() && thread != "-1" && cpu_of(thread) != 0u) continue;  // the others run or stand with the first
      switch (action.empty() ? ' ' : action[0]) {
        case 'c':
        case 'C': return go_on();
        case 's':
        case 'S': return step();
        case 'r': {
          std::string_view range = action.substr(1);
          const std::string_view first = cut(range, ',');
          u64 start = 0, end = 0;
          if (!parse_hex(first, start) || !parse_hex(range, end)) return m_packets.send(kBadArguments);
          m_range = Range{start, end};
          return step();
        }
        default: return m_packets.send(kBadArguments);
      }
    }
    return m_packets.send(kBadArguments);
  }
  if (!data.empty() && std::string_view("cCsS").contains(data[0])) {
    std::string_view rest = data.substr(1);
    if (data[0] == 'C' || data[0] == 'S') cut(rest, ';');
    u64 address = 0;
    if (parse_hex(rest, address)) set_linear_pc(core_of(m_machine).s, address);
    return data[0] == 'c' || data[0] == 'C' ? go_on() : step();
  }
  if (data == "k") return m_machine.request_end(0);
  const std::string reply = answer(data);
  if (reply == kOk && std::string_view("GPMX").contains(data[0])) m_wiring.changed();
  m_packets.send(reply);
  if (data == "QStartNoAckMode") m_packets.stop_acknowledging();
  if (data.starts_with("vKill")) m_machine.request_end(0);
  if (data == "D" || data.starts_with("D;")) {
    take_back_breakpoints();
    m_machine.start();
  }
}

std::string GdbStub::answer(std::string_view data) {
  if (data.empty()) return "";
  const std::string_view rest = data.substr(1);
  switch (data[0]) {
    case '?': return stop_reply();
    case 'g': return read_registers();
    case 'G': return write_registers(rest);
    case 'p': return read_register(rest);
    case 'P': return write_register(rest);
    case 'm': return read_memory(rest, false);
    case 'x': return read_memory(rest, true);
    case 'M': return write_memory(rest, false);
    case 'X': return write_memory(rest, true);
    case 'Z': return change_breakpoint(rest, true);
    case 'z': return change_breakpoint(rest, false);
    case 'q': return answer_query(rest);
    case 'Q': return answer_set(rest);
    case 'v': return answer_v(rest);
    case 'D': return kOk;
    case 'R': return m_machine.press_reset_button(), kOk;
    case 'T': return cpu_of(rest) ? kOk : kBadArguments;
    case 'H': {
      if (rest.empty()) return kBadArguments;
      const auto wanted = cpu_of(rest.substr(1));
      if (!wanted) return kBadArguments;
      if (rest[0] == 'g') m_cpu = *wanted;
      return kOk;
    }
    default: return "";
  }
}

// Threads count from 1; 0 is any, -1 all.
std::optional<unsigned> GdbStub::cpu_of(std::string_view thread) const {
  if (thread == "-1" || thread == "0") return 0;
  u64 number = 0;
  if (!parse_hex(thread, number) || number == 0 || number > m_machine.cpu_count()) return std::nullopt;
  return static_cast<unsigned>(number - 1);
}

std::string GdbStub::threads() const {
  std::string text;
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) text += fmt::format("{}{:x}", i ? "," : "", i + 1);
  return text;
}

std::string GdbStub::answer_query(std::string_view data) {
  std::string_view arguments = data;
  const std::string_view name = cut(arguments, ':');
  if (name == "Supported") {
    m_client_knows_swbreak = arguments.contains("swbreak+");
    m_client_knows_hwbreak = arguments.contains("hwbreak+");
    return fmt::format(
        "PacketSize={:x};qXfer:features:read+;qXfer:memory-map:read+;qXfer:threads:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;"
        "ReverseStep{};ReverseContinue{};qqemu.Supported+",
        kGdbPacketSize, m_wiring.can_reverse() ? '+' : '-', m_wiring.can_reverse() ? '+' : '-');
  }
  if (name == "Xfer") return read_object(arguments);
  if (name == "C") return fmt::format("QC{:x}", m_cpu + 1);
  if (name == "fThreadInfo") return "m" + threads();
  if (name == "sThreadInfo") return "l";
  if (name == "Attached") return "1";
  if (name == "Symbol") return kOk;
  if (name == "Offsets") return "";
  // lldb asks what gdb takes from the target description.
  if (name == "HostInfo") return fmt::format("triple:{};endian:little;ptrsize:8;", gdb_hex(bytes_of("x86_64-unknown-none")));
  if (name == "MemoryRegionInfo") return describe_region(arguments);
  if (name == "qemu.Supported") return "sstepbits;sstep;PhyMemMode";
  if (name == "qemu.sstepbits") return "ENABLE=1,NOIRQ=2,NOTIMER=4";
  if (name == "qemu.sstep") return fmt::format("0x{:x}", m_step_bits.value_or(m_machine.config().clock == ClockMode::Realtime ? 7 : 1));
  if (name == "qemu.PhyMemMode") return m_physical ? "1" : "0";
  if (data.starts_with("Rcmd,")) return run_monitor_command(data.substr(5));
  if (data.starts_with("ThreadExtraInfo,")) {
    const auto wanted = cpu_of(data.substr(16));
    if (!wanted) return kBadArguments;
    CpuCore& core = core_of(m_machine, *wanted);
    return gdb_hex(bytes_of(fmt::format("CPU {}, {}{}", *wanted, cpu_mode_name(core.cpu_mode()), core.s.halted ? ", halted" : "")));
  }
  return "";
}

// lldb's question for the memory around an address, and what may be done there.
std::string GdbStub::describe_region(std::string_view address_text) {
  u64 address = 0;
  if (!parse_hex(address_text, address)) return kBadArguments;
  const MappedRange range = m_physical ? MappedRange{.first = 0, .last = ~u64{0}, .mapped = true, .write = true, .execute = true} : mapped_range(cpu(), address);
  // A region that ended at 2^64 would end at 0 for lldb, which would begin anew there.
  return fmt::format("start:{:x};size:{:x};permissions:{}{}{};", range.first, range.last - range.first + (~range.last ? 1 : 0), range.mapped ? "r" : "", range.write ? "w" : "",
                     range.execute ? "x" : "");
}

std::string GdbStub::answer_set(std::string_view data) {
  if (data == "StartNoAckMode") return kOk;
  if (data.starts_with("qemu.sstep=")) {
    u64 bits = 0;
    std::string_view number = data.substr(11);
    if (number.starts_with("0x")) number.remove_prefix(2);
    if (!parse_hex(number, bits) || bits > 7) return kBadArguments;
    m_step_bits = static_cast<unsigned>(bits);
    return kOk;
  }
  if (data.starts_with("qemu.PhyMemMode:")) {
    m_physical = data.substr(16) != "0";
    return kOk;
  }
  return "";
}

std::string GdbStub::answer_v(std::string_view data) {
  if (data == "Cont?") return "vCont;c;C;s;S;r";
  if (data.starts_with("Kill")) return kOk;
  return "";
}

// qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH
std::string GdbStub::read_object(std::string_view request) {
  const std::string_view object = cut(request, ':');
  if (cut(request, ':') != "read") return "";
  const std::string_view annex = cut(request, ':');
  std::string_view window = request;
  const std::string_view first = cut(window, ',');
  u64 offset = 0, length = 0;
  if (!parse_hex(first, offset) || !parse_hex(window, length)) return kBadArguments;
  std::string content;
  if (object == "features" && annex == "target.xml") {
    content = target_description();
  } else if (object == "memory-map") {
    // Linear addresses: any may be memory at some time, and nothing needs another kind of breakpoint.
    content = "<?xml version=\"1.0\"?><memory-map><memory type=\"ram\" start=\"0x0\" length=\"0x8000000000000000\"/>"
              "<memory type=\"ram\" start=\"0x8000000000000000\" length=\"0x8000000000000000\"/></memory-map>";
  } else if (object == "threads") {
    content = "<?xml version=\"1.0\"?><threads>";
    for (unsigned i = 0; i < m_machine.cpu_count(); ++i) {
      CpuCore& core = core_of(m_machine, i);
      content += fmt::format("<thread id=\"{:x}\" core=\"{}\" name=\"CPU {}\">{}{}</thread>", i + 1, i, i, cpu_mode_name(core.cpu_mode()),
                             core.s.halted ? ", halted" : "");
    }
    content += "</threads>";
  } else {
    return "E00";
  }
  if (offset >= content.size()) return "l";
  const std::string_view piece = std::string_view(content).substr(offset, std::min<u64>(length, kGdbPacketSize / 2));
  return (offset + piece.size() < content.size() ? "m" : "l") + gdb_escape(piece);
}

std::string GdbStub::run_monitor_command(std::string_view hex) {
  std::string line;
  if (!gdb_unhex(hex, line)) return kBadArguments;
  const std::string output = m_wiring.monitor(line);
  constexpr usize kPiece = kGdbPacketSize / 4;
  for (usize at = 0; at < output.size(); at += kPiece) m_packets.send("O" + gdb_hex(bytes_of(std::string_view(output).substr(at, kPiece))));
  return kOk;
}

// ---- Registers

std::string GdbStub::read_registers() {
  std::string out;
  u8 data[64];
  for (const DebugRegister& reg : debug_registers()) {
    reg.read(cpu(), {data, reg.bytes});
    out += gdb_hex({data, reg.bytes});
  }
  return out;
}

// Only what differs is written: what is written twice, under two names, would have its old value again.
std::string GdbStub::write_registers(std::string_view hex) {
  std::string data;
  if (!gdb_unhex(hex, data) || data.size() != debug_register_bytes()) return kBadArguments;
  usize at = 0;
  bool refused = false;
  for (const DebugRegister& reg : debug_registers()) {
    u8 now[64];
    reg.read(cpu(), {now, reg.bytes});
    const auto wanted = bytes_of(std::string_view(data).substr(at, reg.bytes));
    if (!std::ranges::equal(wanted, std::span(now, reg.bytes))) refused |= !reg.write(cpu(), wanted);
    at += reg.bytes;
  }
  return refused ? kBadArguments : kOk;
}

std::string GdbStub::read_register(std::string_view number) {
  u64 index = 0;
  if (!parse_hex(number, index) || index >= debug_registers().size()) return kBadArguments;
  const DebugRegister& reg = debug_registers()[index];
  u8 data[64];
  reg.read(cpu(), {data, reg.bytes});
  return gdb_hex({data, reg.bytes});
}

std::string GdbStub::write_register(std::string_view assignment) {
  const std::string_view number = cut(assignment, '=');
  u64 index = 0;
  std::string data;
  if (!parse_hex(number, index) || index >= debug_registers().size() || !gdb_unhex(assignment, data)) return kBadArguments;
  const DebugRegister& reg = debug_registers()[index];
  if (data.size() != reg.bytes) return kBadArguments;
  return reg.write(cpu(), bytes_of(data)) ? kOk : kBadArguments;
}

// ---- Memory

std::string GdbStub::read_memory(std::string_view arguments, bool binary) {
  const std::string_view first = cut(arguments, ',');
  u64 address = 0, length = 0;
  if (!parse_hex(first, address) || !parse_hex(arguments, length)) return kBadArguments;
  if (length == 0) return binary ? kOk : "";
  std::string data(std::min<u64>(length, kGdbPacketSize / 2 - 16), '\0');
  data.resize(read_guest(cpu(), space(), address, {reinterpret_cast<u8*>(data.data()), data.size()}));
  if (data.empty()) return kNoMemory;
  // Without the "b" of gdb's newer form of it, which a stub would have to announce (binary-upload): lldb knows the older only.
  return binary ? gdb_escape(data) : gdb_hex(bytes_of(data));
}

std::string GdbStub::write_memory(std::string_view arguments, bool binary) {
  const std::string_view place = cut(arguments, ':');
  std::string_view size = place;
  const std::string_view first = cut(size, ',');
  u64 address = 0, length = 0;
  std::string data;
  if (!parse_hex(first, address) || !parse_hex(size, length)) return kBadArguments;
  if (binary) data = arguments;
  else if (!gdb_unhex(arguments, data)) return kBadArguments;
  if (data.size() != length) return kBadArguments;
  return write_guest(cpu(), space(), address, bytes_of(data)) == data.size() ? kOk : kNoMemory;
}

// TYPE,ADDRESS,KIND
std::string GdbStub::change_breakpoint(std::string_view arguments, bool insert) {
  const std::string_view type_text = cut(arguments, ',');
  const std::string_view address_text = cut(arguments, ',');
  const std::string_view kind_text = cut(arguments, ';');  // conditions are gdb's own business
  u64 address = 0, kind = 0;
  if (type_text.size() != 1 || type_text[0] < '0' || type_text[0] > '4') return "";
  if (!parse_hex(address_text, address) || !parse_hex(kind_text, kind)) return kBadArguments;
  const char type = type_text[0];
  const bool watch = type >= '2';
  if (!watch) kind = 0;
  else if (kind == 0 || kind > kLongestWatchpoint) return kBadArguments;
  const auto key = std::tuple(type, address, kind);
  const auto known = m_breakpoints.find(key);
  if (insert ? known != m_breakpoints.end() : known == m_breakpoints.end()) return kOk;  // both may be repeated, E.2 "Z"
  if (insert && m_breakpoints.size() >= kMostBreakpoints) return kBadArguments;
  const DebugSpace where = insert ? space() : known->second;
  const u8 accesses = type == '2' ? kWatchWrite : type == '3' ? kWatchRead : kWatchRead | kWatchWrite;
  const Watchpoint watchpoint{.space = where, .address = address, .size = kind, .accesses = accesses};
  for (unsigned i = 0; i < m_machine.cpu_count(); ++i) {
    DebugControl& debug = m_machine.cpu(i).debug();
    if (watch && insert) debug.insert_watchpoint(watchpoint);
    else if (watch) debug.remove_watchpoint(watchpoint);
    else if (insert) debug.insert_breakpoint(where, address);
    else debug.remove_breakpoint(where, address);
  }
  if (insert) m_breakpoints.emplace(key, where);
  else m_breakpoints.erase(known);
  return kOk;
}

}  // namespace vellum
