// Parsing of the debugging commands, and what they print.
#include "debug/debug_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "cpu/disassembler.h"
#include "cpu/flags.h"
#include "debug/guest_tables.h"
#include "debug/registers.h"

namespace vellum {

namespace {

using Help = DebugCommands::Help;
constexpr u64 kMostItems = 65536;
constexpr usize kMostLines = 2000;

constexpr Help kHelp[] = {
    {"x", "[/COUNT[FORMAT][SIZE]] ADDRESS", "show memory by linear address",
     "FORMAT: x hexadecimal, d signed, u unsigned, o octal, t binary, c characters, a addresses with symbols, s strings, i instructions.\n"
     "SIZE: b 1, h 2, w 4, g 8 bytes. ADDRESS may be a number, a symbol, $REGISTER, or a sum of these; without it goes on behind the last, or begins at the next instruction.\n"},
    {"xp", "[/COUNT[FORMAT][SIZE]] ADDRESS", "show memory by physical address", "As x. Reading a device's registers may change them.\n"},
    {"disas", "[/16|/32|/64] [ADDRESS [COUNT]]", "show instructions, in the CPU's present mode or another", "Without ADDRESS: at the next instruction.\n"},
    {"print", "EXPRESSION", "show the value of an address, symbol or register", ""},
    {"set", "$REGISTER|ADDRESS[/SIZE] VALUE", "change a register, or memory (SIZE: b, h, w, g)", ""},
    {"step", "[COUNT]", "run one instruction, or so many",
     "Where time follows the host, interrupts and timers wait meanwhile; with -clock instructions the run is what it would be without steps.\n"},
    {"next", "", "run one instruction; a call, interrupt or repeated string instruction counts as one", ""},
    {"until", "ADDRESS", "run until this instruction is next", ""},
    {"break", "[KIND] ARGUMENTS", "stop at an address, an access or an event; without arguments: list them",
     "break ADDRESS                  before the instruction at this linear address\n"
     "break phys ADDRESS             at this physical address\n"
     "break watch|read|access ADDRESS [LENGTH]   behind a write, read or both of these linear addresses\n"
     "break mmio FIRST[-LAST] [read|write]       behind an access to physical addresses, a device's or memory\n"
     "break port FIRST[-LAST] [read|write]       behind IN or OUT\n"
     "break msr FIRST[-LAST] [read|write]        behind RDMSR or WRMSR\n"
     "break cr NUMBER                behind a write of CR0, CR2, CR3, CR4 or CR8\n"
     "break vector FIRST[-LAST]      when an exception or interrupt was delivered: at its handler\n"
     "break mode                     when the CPU's mode has changed\n"
     "break serial \"TEXT\" [LINE]     when the guest has sent this\n"
     "break triple                   at a triple fault, before the reset\n"},
    {"tbreak", "[KIND] ARGUMENTS", "the same, once", ""},
    {"delete", "[NUMBER...]", "delete breakpoints, or all", ""},
    {"trace", "EVENT[,EVENT...][,KEY=VALUE...]|off", "write events to a file from now on, or end that; without arguments: what there is",
     "As the option -trace, without accesses to disks; trace alone lists events and filters.\n"},
    {"symbols", "FILE", "load symbols: ELF, System.map or /proc/kallsyms", ""},
    {"reverse-step", "[COUNT]", "go back by one instruction, or so many",
     "Works in runs that can be run again as they were: with -clock instructions, -record or -replay.\n"},
    {"reverse-cont", "", "go back to where a breakpoint or watchpoint would have stopped the machine last",
     "Watched accesses and events are found in front of the instruction that makes them: memory is as it was before.\n"},
    {"goto", "INSTRUCTION", "go to the instruction with this number, backwards or forwards", "info clock shows the present one's.\n"},
    {"where", "", "show the next instruction", ""},
};

constexpr DebugCommands::Topic kTopics[] = {
    {"breakpoints", "breakpoints and how often each was met"},
    {"tlb", "the software TLB: linear pages, where they are in RAM, and what may be done"},
    {"mem", "the guest's page tables: what is mapped, and its rights"},
    {"irq", "interrupts: delivered so far, what the CPU waits for, and the state of all controllers"},
    {"blocks", "the decoded blocks: how many, and how many were overwritten"},
    {"devices", "the devices; info devices NAME: all of a device's state"},
    {"symbols", "how many symbols are loaded"},
    {"timeline", "the snapshots to go back to"},
};

CodeSize code_size(const CpuState& s) {
  return s.code64() ? CodeSize::Bits64 : s.segment[kCs].big() ? CodeSize::Bits32 : CodeSize::Bits16;
}

Result<u64> number(std::string_view text) {
  u64 value = 0;
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = hex ? text.substr(2) : text;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty())
    return failure(fmt::format("'{}' is no number, symbol or $register", text));
  return value;
}

struct Format {
  u64 count = 1;
  char letter = 'x';
  unsigned size = 4;
};

Result<Format> parse_format(std::string_view text) {
  Format format;
  usize digits = 1;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (digits > 1) {
    const auto count = number(text.substr(1, digits - 1));
    if (!count || *count > kMostItems) return failure(fmt::format("'{}': at most {} items", text, kMostItems));
    format.count = *count;
  }
  for (const char letter : text.substr(digits)) {
    switch (letter) {
      case 'b': format.size = 1; break;
      case 'h': format.size = 2; break;
      case 'w': format.size = 4; break;
      case 'g': format.size = 8; break;
      case 'x': case 'd': case 'u': case 'o': case 't': case 'c': case 'a': case 's': case 'i': format.letter = letter; break;
      default: return failure(fmt::format("unknown format letter '{}'; use x, d, u, o, t, c, a, s or i, and b, h, w or g", letter));
    }
  }
  if (format.letter == 'a') format.size = 8;
  if (format.letter == 'c') format.size = 1;
  return format;
}

std::string item_text(u64 value, const Format& format) {
  const unsigned bits = format.size * 8;
  switch (format.letter) {
    case 'd': return fmt::format("{}", static_cast<i64>(value << (64 - bits)) >> (64 - bits));
    case 'u': return fmt::format("{}", value);
    case 'o': return fmt::format("0{:o}", value);
    case 't': return fmt::format("{:0{}b}", value, bits);
    case 'c': return value >= 0x20 && value < 0x7f ? fmt::format("'{}'", static_cast<char>(value)) : fmt::format("'\\{:03o}'", value);
    default: return fmt::format("0x{:0{}x}", value, format.size * 2);
  }
}

// The number of $NAME, or -1; $pc and $sp are what gdb's users write.
int named_register(std::string_view text) {
  const std::string_view name = text.substr(1);
  return debug_register_number(name == "pc" ? "rip" : name == "sp" ? "rsp" : name);
}

}  // namespace

std::span<const Help> DebugCommands::help() { return kHelp; }
std::span<const DebugCommands::Topic> DebugCommands::topics() { return kTopics; }

Result<u64> DebugCommands::address(std::string_view text) {
  u64 sum = 0;
  char sign = '+';
  while (true) {
    const auto end = std::min(text.find_first_of("+-", 1), text.size());
    std::string_view term = text.substr(0, end);
    u64 value = 0;
    if (term.starts_with('$')) {
      const int index = named_register(term);
      if (index < 0) return failure(fmt::format("there is no register '{}'", term));
      const DebugRegister& reg = debug_registers()[static_cast<usize>(index)];
      if (reg.bytes > 8) return failure(fmt::format("{} is no address", term));
      reg.read(m_debugger.cpu(), {reinterpret_cast<u8*>(&value), reg.bytes});
    } else if (const auto symbol = m_debugger.symbols().address(term)) {
      value = *symbol;
    } else if (const auto plain = number(term)) {
      value = *plain;
    } else {
      return std::unexpected(plain.error());
    }
    sum = sign == '+' ? sum + value : sum - value;
    if (end == text.size()) return sum;
    sign = text[end];
    text.remove_prefix(end + 1);
  }
}

std::optional<std::string> DebugCommands::execute(Words words) {
  const std::string_view name = words[0];
  const auto found = std::ranges::find(kHelp, name, &Help::name);
  if (found == std::end(kHelp)) return std::nullopt;
  const Words rest = words.subspan(1);
  const auto usage = [&] { return fmt::format("usage: {}{}{}\n", found->name, found->arguments.empty() ? "" : " ", found->arguments); };
  Result<std::string> result = "";
  if (name == "x" || name == "xp") {
    result = examine(rest, name == "x" ? DebugSpace::Linear : DebugSpace::Physical);
  } else if (name == "disas") {
    result = disassemble(rest);
  } else if (name == "break" || name == "tbreak") {
    result = rest.empty() ? list_breakpoints() : change_breakpoint(words);
  } else if (name == "delete") {
    result = delete_breakpoints(rest);
  } else if (name == "print") {
    result = print_value(rest);
  } else if (name == "set") {
    result = set_value(rest);
  } else if (name == "reverse-step" || name == "reverse-cont" || name == "goto") {
    result = go_back(words);
  } else if (name == "trace") {
    result = trace(rest);
  } else if (name == "where") {
    result = m_debugger.place();
  } else if (name == "symbols") {
    if (rest.size() != 1) return usage();
    const auto loaded = m_debugger.symbols().load(rest[0]);
    result = loaded ? fmt::format("{} symbols\n", m_debugger.symbols().count()) : Result<std::string>(std::unexpected(loaded.error()));
  } else {
    if (m_debugger.machine().running()) return "the machine runs; stop it first\n";
    if (name == "next" && rest.empty()) {
      m_debugger.step_over();
    } else if (name == "step" && rest.size() <= 1) {
      const auto count = rest.empty() ? Result<u64>(1) : number(rest[0]);
      if (!count || *count == 0) return usage();
      m_debugger.step(*count);
    } else if (name == "until" && rest.size() == 1) {
      const auto place = address(rest[0]);
      if (!place) return fmt::format("{}: {}\n", name, place.error().message);
      m_debugger.run_until(*place);
    } else {
      return usage();
    }
  }
  return result ? *result : fmt::format("{}: {}\n", name, result.error().message);
}

// ---- Memory

Result<std::string> DebugCommands::examine(Words words, DebugSpace space) {
  Format format;
  if (!words.empty() && words[0].starts_with('/')) {
    const auto parsed = parse_format(words[0]);
    if (!parsed) return std::unexpected(parsed.error());
    format = *parsed;
    words = words.subspan(1);
  }
  if (words.size() > 1) return failure("one address is wanted: /COUNT[FORMAT][SIZE] ADDRESS");
  std::optional<u64>& behind_last = m_next_examined[static_cast<usize>(space)];
  if (!words.empty()) {
    const auto start = address(words[0]);
    if (!start) return std::unexpected(start.error());
    behind_last = *start;
  }
  if (!behind_last) behind_last = linear_pc(m_debugger.cpu().s);
  u64& next = *behind_last;
  if (format.letter == 'i') return instructions_text(space, next, format.count, code_size(m_debugger.cpu().s));
  const auto read = [&](u64 at, std::span<u8> data) {
    // By physical address a device's registers are read, too: that was asked for.
    if (space == DebugSpace::Physical) return m_debugger.machine().memory().read(GuestPhysAddr(at), data), true;
    return read_guest(m_debugger.cpu(), space, at, data) == data.size();
  };
  std::string text;
  if (format.letter == 's') {
    for (u64 i = 0; i < format.count; ++i) {
      std::string string;
      u8 byte = 0;
      const u64 start = next;
      while (string.size() < 200 && read(next, {&byte, 1}) && (++next, byte != 0)) string += byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '.';
      text += fmt::format("{:016x}: \"{}\"\n", start, string);
      if (next == start) return text + fmt::format("no memory at {:#x}\n", next);
    }
    return text;
  }
  const unsigned per_line = format.letter == 'c' ? 8 : format.letter == 'a' ? 1 : format.letter == 't' ? 16 / format.size / 2 + 1 : 16 / format.size;
  for (u64 i = 0; i < format.count; ++i) {
    u64 value = 0;
    if (!read(next, {reinterpret_cast<u8*>(&value), format.size})) return text + fmt::format("{}no memory at {:#x}\n", i ? "\n" : "", next);
    if (i % per_line == 0) text += fmt::format("{}{:016x}:", i ? "\n" : "", next);
    text += " " + (format.letter == 'a' ? m_debugger.name_address(value) : item_text(value, format));
    next += format.size;
  }
  return text + "\n";
}

Result<std::string> DebugCommands::disassemble(Words words) {
  CpuCore& cpu = m_debugger.cpu();
  CodeSize size = code_size(cpu.s);
  if (!words.empty() && words[0].starts_with('/')) {
    const auto wanted = number(std::string_view(words[0]).substr(1));
    if (!wanted || (*wanted != 16 && *wanted != 32 && *wanted != 64)) return failure(fmt::format("'{}': use /16, /32 or /64", words[0]));
    size = *wanted == 16 ? CodeSize::Bits16 : *wanted == 32 ? CodeSize::Bits32 : CodeSize::Bits64;
    words = words.subspan(1);
  }
  if (words.size() > 2) return failure("at most an address and a count are wanted");
  u64 count = 10;
  u64 at = linear_pc(cpu.s);
  if (!words.empty()) {
    const auto start = address(words[0]);
    if (!start) return std::unexpected(start.error());
    at = *start;
  }
  if (words.size() > 1) {
    const auto wanted = number(words[1]);
    if (!wanted || *wanted > kMostItems) return failure(fmt::format("'{}': at most {} instructions", words[1], kMostItems));
    count = *wanted;
  }
  const std::string text = instructions_text(DebugSpace::Linear, at, count, size);
  m_next_examined[static_cast<usize>(DebugSpace::Linear)] = at;
  return text;
}

// `count` instructions from `at`, which moves behind them. Names and RIP are linear addresses.
std::string DebugCommands::instructions_text(DebugSpace space, u64& at, u64 count, CodeSize size) {
  CpuCore& cpu = m_debugger.cpu();
  const bool linear = space == DebugSpace::Linear;
  const Disassembler disassembler(size);
  const auto name_of = [&](u64 target) {
    const std::string name = linear ? m_debugger.symbols().describe(target) : std::string();
    return name.empty() ? fmt::format("{:#x}", target) : fmt::format("{:#x} <{}>", target, name);
  };
  std::string text;
  for (u64 i = 0; i < count; ++i) {
    u8 bytes[15];
    const usize length = read_guest(cpu, space, at, bytes);
    if (length == 0) return text + fmt::format("no memory at {:#x}\n", at);
    if (const auto name = m_debugger.symbols().name_at(at); linear && !name.empty()) text += fmt::format("{}:\n", name);
    const DisassembledInsn insn = disassembler.one({bytes, length}, at, name_of);
    text += fmt::format("{} {:#x}:  {:<30} {}\n", linear && at == linear_pc(cpu.s) ? "=>" : "  ", at, hex_bytes({bytes, insn.length}), insn.text);
    at += insn.length;
  }
  return text;
}

Result<std::string> DebugCommands::print_value(Words words) {
  if (words.size() != 1) return failure("one expression is wanted, such as $rsp+8 or a symbol");
  const auto value = address(words[0]);
  if (!value) return std::unexpected(value.error());
  const std::string name = m_debugger.symbols().describe(*value);
  return fmt::format("{:#x} {}{}\n", *value, *value, name.empty() ? "" : fmt::format(" <{}>", name));
}

Result<std::string> DebugCommands::set_value(Words words) {
  if (words.size() != 2) return failure("use set $REGISTER VALUE, or set ADDRESS[/SIZE] VALUE");
  const auto value = address(words[1]);
  if (!value) return std::unexpected(value.error());
  u8 bytes[16]{};
  std::memcpy(bytes, &*value, sizeof(*value));
  CpuCore& cpu = m_debugger.cpu();
  if (m_debugger.machine().running()) return failure("the machine runs; stop it first");
  const auto changed = [&] {
    m_debugger.on_change();
    return "";
  };
  if (words[0].starts_with('$')) {
    const int index = named_register(words[0]);
    if (index < 0) return failure(fmt::format("there is no register '{}'", words[0]));
    const DebugRegister& reg = debug_registers()[static_cast<usize>(index)];
    if (!reg.write(cpu, {bytes, reg.bytes})) return failure(fmt::format("{} cannot hold {:#x} now", words[0], *value));
    return changed();
  }
  std::string_view place = words[0];
  unsigned size = 4;
  if (const auto slash = place.find('/'); slash != place.npos) {
    const auto format = parse_format(place.substr(slash));
    if (!format) return std::unexpected(format.error());
    size = format->size;
    place = place.substr(0, slash);
  }
  const auto at = address(place);
  if (!at) return std::unexpected(at.error());
  if (write_guest(cpu, DebugSpace::Linear, *at, {bytes, size}) != size) return failure(fmt::format("no memory at {:#x}", *at));
  return changed();
}

// ---- Backwards

Result<std::string> DebugCommands::go_back(Words words) {
  if (!m_reverse) return failure("this machine cannot go back");
  if (m_debugger.machine().running()) return failure("the machine runs; stop it first");
  if (words[0] == "goto") {
    const auto place = words.size() == 2 ? number(words[1]) : failure("the number of an instruction is wanted");
    if (!place) return std::unexpected(place.error());
    if (const auto done = m_reverse->go_to(*place); !done) return std::unexpected(done.error());
    return m_debugger.place();
  }
  if (words[0] == "reverse-cont") {
    const auto stop = m_reverse->go_on();
    if (!stop) return std::unexpected(stop.error());
    const StopCause cause{.kind = StopCause::Kind::Debug, .debug = *stop};
    return (*stop ? m_debugger.reason(cause) : "nothing stopped the machine before; this is the beginning\n") + m_debugger.place();
  }
  const auto count = words.size() > 1 ? number(words[1]) : Result<u64>(1);
  if (!count) return std::unexpected(count.error());
  const auto enough = m_reverse->step(*count);
  if (!enough) return std::unexpected(enough.error());
  return (*enough ? "" : "this is the beginning\n") + m_debugger.place();
}

// ---- Traces

Result<std::string> DebugCommands::trace(Words words) {
  if (words.empty()) return trace_help();
  if (words.size() > 1) return failure("one list, divided by commas, is wanted");
  if (m_debugger.machine().running()) return failure("the machine runs; stop it first");
  if (words[0] == "off") {
    if (!m_debugger.trace()) return failure("nothing is traced");
    if (const auto ended = m_debugger.end_trace(); !ended) return std::unexpected(ended.error());
    return "";
  }
  const auto spec = parse_trace_spec(words[0]);
  if (!spec) return std::unexpected(spec.error());
  if (spec->kinds == 1u << static_cast<unsigned>(TraceKind::Disk)) return failure("accesses to disks are traced from the beginning or not at all: -trace disk");
  if (const auto started = m_debugger.start_trace(*spec); !started) return std::unexpected(started.error());
  return fmt::format("events go to {}\n", spec->file);
}

// ---- Breakpoints

Result<Breakpoint> DebugCommands::parse_breakpoint(Words words) {
  using Kind = Breakpoint::Kind;
  Breakpoint breakpoint;
  const std::string_view kind = words[0];
  const auto range = [&](std::string_view text, u64 limit) -> Result<void> {
    // A name may have a minus in it only by way of a sum; here it divides.
    const auto dash = text.find('-');
    const auto first = address(text.substr(0, dash));
    const auto last = dash == text.npos ? first : address(text.substr(dash + 1));
    if (!first) return std::unexpected(first.error());
    if (!last) return std::unexpected(last.error());
    if (*last < *first || *last > limit) return failure(fmt::format("'{}': FIRST-LAST up to {:#x} is wanted", text, limit));
    breakpoint.first = *first;
    breakpoint.last = *last;
    return {};
  };
  const auto direction = [&](usize index) -> Result<void> {
    if (index >= words.size()) return {};
    if (words[index] == "read") breakpoint.accesses = kWatchRead;
    else if (words[index] == "write") breakpoint.accesses = kWatchWrite;
    else return failure(fmt::format("'{}': use read or write, or nothing for both", words[index]));
    return {};
  };
  const auto ranged = [&](Kind which, u64 limit) -> Result<Breakpoint> {
    breakpoint.kind = which;
    if (words.size() < 2 || words.size() > 3) return failure(fmt::format("{} wants FIRST[-LAST] [read|write]", kind));
    if (const auto done = range(words[1], limit); !done) return std::unexpected(done.error());
    if (const auto done = direction(2); !done) return std::unexpected(done.error());
    return breakpoint;
  };
  if (kind == "port") return ranged(Kind::Port, 0xffff);
  if (kind == "msr") return ranged(Kind::Msr, 0xffffffff);
  if (kind == "mmio") return ranged(Kind::Mmio, (u64{1} << 52) - 1);
  if (kind == "vector") {
    breakpoint.kind = Kind::Vector;
    if (words.size() != 2) return failure("vector wants FIRST[-LAST]");
    if (const auto done = range(words[1], 255); !done) return std::unexpected(done.error());
    return breakpoint;
  }
  if (kind == "cr") {
    breakpoint.kind = Kind::Control;
    if (words.size() != 2) return failure("cr wants the number of a control register");
    if (const auto done = range(words[1], 8); !done) return std::unexpected(done.error());
    // There are no others, SDM Vol. 3A 2.5.
    if (breakpoint.first != breakpoint.last || breakpoint.first == 1 || (breakpoint.first > 4 && breakpoint.first < 8))
      return failure(fmt::format("'{}': a CPU has CR0, CR2, CR3, CR4 and CR8", words[1]));
    return breakpoint;
  }
  if (kind == "mode" && words.size() == 1) return breakpoint.kind = Kind::Mode, breakpoint;
  if (kind == "triple" && words.size() == 1) return breakpoint.kind = Kind::TripleFault, breakpoint;
  if (kind == "serial") {
    breakpoint.kind = Kind::Serial;
    if (words.size() < 2 || words.size() > 3 || words[1].empty()) return failure("serial wants the text, and the line's number if it is not 0");
    breakpoint.text = words[1];
    if (words.size() == 3)
      if (const auto done = range(words[2], 3); !done) return std::unexpected(done.error());
    return breakpoint;
  }
  if ((kind == "watch" || kind == "read" || kind == "access") && words.size() >= 2) {
    breakpoint.kind = Kind::Watch;
    breakpoint.accesses = kind == "watch" ? kWatchWrite : kind == "read" ? kWatchRead : kWatchRead | kWatchWrite;
    const auto first = address(words[1]);
    const auto length = words.size() > 2 ? address(words[2]) : Result<u64>(8);
    if (!first) return std::unexpected(first.error());
    if (!length) return std::unexpected(length.error());
    if (*length == 0 || *length > u64{1} << 32 || words.size() > 3) return failure("a length of 1 to 4 GiB is wanted");
    breakpoint.first = *first;
    breakpoint.last = *first + (*length - 1);
    return breakpoint;
  }
  const bool physical = kind == "phys";
  if (words.size() != (physical ? 2 : 1)) return failure(fmt::format("'{}' is no kind of breakpoint; help break lists them", kind));
  const auto place = address(words.back());
  if (!place) return std::unexpected(place.error());
  breakpoint.kind = physical ? Kind::PhysicalCode : Kind::Code;
  breakpoint.first = breakpoint.last = *place;
  return breakpoint;
}

Result<std::string> DebugCommands::change_breakpoint(Words words) {
  if (m_debugger.machine().running()) return failure("the machine runs; stop it first");
  auto breakpoint = parse_breakpoint(words.subspan(1));
  if (!breakpoint) return std::unexpected(breakpoint.error());
  breakpoint->temporary = words[0] == "tbreak";
  const unsigned number_given = m_debugger.add(*breakpoint);
  return fmt::format("breakpoint {}: {}\n", number_given, m_debugger.describe(*breakpoint));
}

Result<std::string> DebugCommands::delete_breakpoints(Words words) {
  if (m_debugger.machine().running()) return failure("the machine runs; stop it first");
  if (words.empty()) return m_debugger.remove_all(), "";
  for (const std::string& word : words) {
    const auto which = number(word);
    if (!which || !m_debugger.remove(static_cast<unsigned>(std::min<u64>(*which, ~0u)))) return failure(fmt::format("there is no breakpoint {}", word));
  }
  return "";
}

Result<std::string> DebugCommands::list_breakpoints() {
  std::string text;
  for (const Breakpoint& breakpoint : m_debugger.breakpoints())
    text += fmt::format("{:>3}  {}{}, {} {}\n", breakpoint.number, m_debugger.describe(breakpoint), breakpoint.temporary ? ", once" : "", breakpoint.hits,
                        breakpoint.hits == 1 ? "hit" : "hits");
  return text.empty() ? "no breakpoints\n" : text;
}

// ---- Topics

std::string DebugCommands::irq_state() {
  CpuCore& cpu = m_debugger.cpu();
  const CpuState& s = cpu.s;
  return fmt::format("{} interrupts and {} exceptions delivered\ninterrupt request {}, IF {}, shadow {}, NMI {}{}, SMI {}, {}\n", cpu.counters.interrupts,
                     cpu.counters.exceptions, s.interrupt_request ? "pending" : "none", s.rflags & kIf ? 1 : 0, cpu.in_interrupt_shadow() || s.stack_shadow ? 1 : 0,
                     s.nmi_pending ? "pending" : "none", s.nmi_blocked ? " (blocked)" : "", s.smi_pending ? "pending" : "none", s.halted ? "halted" : "running code") +
         m_debugger.machine().board().describe("pic").value_or("") + m_debugger.machine().board().describe("lapic").value_or("");
}

std::string DebugCommands::devices(std::string_view wanted) {
  std::string text;
  for (const auto& device : m_debugger.machine().devices()) {
    if (wanted.empty()) {
      text += fmt::format("{}\n", device->name());
    } else if (device->name() == wanted || device->name().starts_with(fmt::format("{}.", wanted))) {
      ArchivePrinter printer;
      device->visit(printer);
      return printer.text();
    }
  }
  return wanted.empty() ? text : fmt::format("there is no device '{}'; info devices lists them\n", wanted);
}

std::string DebugCommands::block_statistics() {
  CpuCore& cpu = m_debugger.cpu();
  return fmt::format("{} blocks of {} instructions decoded, {} bytes in use\n{} overwritten, {} came back, {} evicted\n", cpu.counters.blocks_decoded,
                     cpu.counters.insns_decoded, cpu.blocks.bytes_used(), cpu.blocks.invalidated(), cpu.blocks.revived(), cpu.blocks.evicted());
}

std::optional<std::string> DebugCommands::describe(Words words) {
  const std::string_view topic = words[0];
  if (topic == "breakpoints") return *list_breakpoints();
  if (topic == "tlb") return describe_tlb(m_debugger.cpu(), kMostLines);
  if (topic == "mem") return describe_mappings(m_debugger.cpu(), kMostLines);
  if (topic == "irq") return irq_state();
  if (topic == "blocks") return block_statistics();
  if (topic == "devices") return devices(words.size() > 1 ? std::string_view(words[1]) : "");
  if (topic == "timeline" && m_reverse) return m_reverse->describe();
  if (topic == "symbols") return fmt::format("{} symbols\n", m_debugger.symbols().count());
  return std::nullopt;
}

std::vector<std::string> DebugCommands::complete(std::string_view command, std::string_view prefix) const {
  std::vector<std::string> words;
  const auto consider = [&](std::string_view word) {
    if (word.starts_with(prefix)) words.emplace_back(word);
  };
  if (command == "break" || command == "tbreak")
    for (const char* kind : {"phys", "watch", "read", "access", "mmio", "port", "msr", "cr", "vector", "mode", "serial", "triple"}) consider(kind);
  if (command == "trace")
    for (const std::string_view kind : trace_kind_names()) consider(kind);
  if (prefix.starts_with('$'))
    for (const DebugRegister& reg : debug_registers()) consider("$" + reg.name);
  if (std::ranges::find(kHelp, command, &Help::name) != std::end(kHelp) && !prefix.empty())
    for (const std::string& name : m_debugger.symbols().with_prefix(prefix, 50)) words.push_back(name);
  return words;
}

}  // namespace vellum
