// Stepping two emulators side by side, and what counts as a difference.
#include "debug/qemu_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "debug/compare.h"
#include "debug/guest_memory.h"
#include "debug/reproducer.h"

namespace vellum {

namespace {

constexpr usize kWay = 12;                      // instructions that a report lists
constexpr usize kPiece = 1024;                  // bytes of memory asked for at once: QEMU's packets have at most 4096 characters
constexpr int kLongestStart = 120'000;          // milliseconds for the way to the first instruction that is compared
constexpr u64 kLongestStartCount = 20'000'000'000;  // instructions, likewise
constexpr u64 kMostIterations = 1 << 24;        // of one repeated string instruction
constexpr unsigned kMostEmptySteps = 4;
constexpr u64 kFlagsCompared = 0x3e7fd7;        // all but RF, which is what the debugger's own step leaves

constexpr u64 kStatusCompared = 0xfdff;         // of x87: all but C1, where QEMU does not tell whether it rounded up (SDM Vol. 1 8.1.3.3)

std::string_view first_word(std::string_view text) { return text.substr(0, text.find(' ')); }

// The mnemonic behind prefixes.
std::string_view mnemonic_of(std::string_view text) {
  for (const std::string_view prefix : {"rep", "repe", "repz", "repne", "repnz", "lock"})
    if (first_word(text) == prefix && text.size() > prefix.size()) return mnemonic_of(text.substr(prefix.size() + 1));
  return first_word(text);
}

bool is_repeated_string(std::string_view text) {
  const std::string_view name = mnemonic_of(text);
  if (!text.starts_with("rep")) return false;
  return std::ranges::any_of(std::initializer_list<std::string_view>{"movs", "stos", "lods", "cmps", "scas", "ins", "outs"},
                             [&](std::string_view start) { return name.starts_with(start); });
}

// What an instruction gets from elsewhere without an access to a device.
bool reads_outside(std::string_view text) {
  const std::string_view name = mnemonic_of(text);
  return std::ranges::any_of(std::initializer_list<std::string_view>{"rdtsc", "rdpmc", "rdmsr", "rdrand", "rdseed", "cpuid", "xgetbv"},
                             [&](std::string_view start) { return name.starts_with(start); });
}

// SDM Vol. 1, appendix A.1: flags marked "-" (undefined). Rotates and shifts define OF for a count of 1 only, SDM Vol. 2.
u64 undefined_flags(std::string_view text) {
  constexpr u64 kCarry = 1, kParity = 4, kAuxiliary = 16, kZero = 64, kSign = 128, kOverflow = 2048;
  struct Row {
    std::string_view start;
    u64 flags;
  };
  static constexpr Row kRows[] = {
      {"and", kAuxiliary}, {"or", kAuxiliary}, {"xor", kAuxiliary}, {"test", kAuxiliary},
      {"shl", kAuxiliary | kOverflow | kCarry}, {"shr", kAuxiliary | kOverflow | kCarry}, {"sal", kAuxiliary | kOverflow | kCarry}, {"sar", kAuxiliary | kCarry},
      {"rol", kOverflow}, {"ror", kOverflow}, {"rcl", kOverflow}, {"rcr", kOverflow},
      {"mul", kSign | kZero | kAuxiliary | kParity}, {"imul", kSign | kZero | kAuxiliary | kParity},
      {"div", kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow}, {"idiv", kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow},
      {"bt", kOverflow | kSign | kAuxiliary | kParity}, {"bs", kCarry | kOverflow | kSign | kAuxiliary | kParity},
      {"aaa", kOverflow | kSign | kZero | kParity}, {"aas", kOverflow | kSign | kZero | kParity}, {"aam", kOverflow | kAuxiliary | kCarry},
      {"aad", kOverflow | kAuxiliary | kCarry}, {"daa", kOverflow}, {"das", kOverflow},
      {"bextr", kAuxiliary | kSign | kParity}, {"bzhi", kAuxiliary | kParity}, {"bls", kAuxiliary | kParity},
      {"lzcnt", kOverflow | kSign | kParity | kAuxiliary}, {"tzcnt", kOverflow | kSign | kParity | kAuxiliary},
  };
  const std::string_view name = mnemonic_of(text);
  if (name.starts_with("bswap")) return 0;
  u64 flags = 0;
  for (const Row& row : kRows)
    if (name.starts_with(row.start)) flags |= row.flags;
  return flags;
}

// What the stub calls it, and what debug_registers() does. Its program counter is the offset in CS.
std::string_view our_name(std::string_view name) {
  if (name == "rip") return "ip";
  if (name == "k_gs_base") return "kernel_gs_base";
  // QEMU has no pointers to the last x87 instruction, and tells of its tags in a form of its own.
  for (const std::string_view left_out : {"ftag", "fiseg", "fioff", "foseg", "fooff", "fop"})
    if (name == left_out) return {};
  return name;
}

// r8 to r15, and xmm8 to xmm15.
bool only_in_64_bit_mode(std::string_view name) {
  if (name.starts_with("xmm")) return name.size() > 4 || name.back() >= '8';
  return name.front() == 'r' && name.size() > 1 && name[1] >= '0' && name[1] <= '9';
}

u64 first_bytes(std::string_view data) {
  u64 value = 0;
  std::memcpy(&value, data.data(), std::min<usize>(data.size(), sizeof(value)));
  return value;
}

std::string bytes_text(std::span<const u8> bytes) {
  std::string text = "0x";
  for (usize i = bytes.size(); i-- > 0;) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace

QemuComparison::QemuComparison(Machine& machine, GdbClient& stub, QemuCompareOptions options) : m_machine(machine), m_stub(stub), m_options(std::move(options)) {
  m_machine.cpu().add_observer(*this, kEventPort | kEventMmio);
  m_machine.serve_host(false);
}

QemuComparison::~QemuComparison() { m_machine.cpu().remove_observer(*this); }

Result<void> QemuComparison::prepare() {
  for (const auto& theirs : m_stub.registers()) {
    if (theirs.name == "rip") m_rip = &theirs;
    if (theirs.name == "st0") m_first_st = theirs.number;
    const std::string_view name = our_name(theirs.name);
    const int number = name.empty() ? -1 : debug_register_number(name);
    if (number >= 0) m_pairs.push_back({.theirs = &theirs, .ours = &debug_registers()[static_cast<usize>(number)]});
  }
  if (!m_rip) return failure("the stub has no register rip: it must be one of an x86-64 machine, as qemu-system-x86_64 is");
  // 1: steps, 2: without interrupts, 4: without timers.
  for (const std::string_view wish : {"Qqemu.sstep=7", "Qqemu.PhyMemMode:1"}) {
    const auto answer = m_stub.ask(wish);
    if (!answer) return std::unexpected(answer.error());
    if (*answer != "OK") return failure(fmt::format("the stub does not know {}: it must be QEMU's", wish));
  }
  return {};
}

Result<void> QemuComparison::go_to_start() {
  if (!m_options.from) return {};
  DebugControl& debug = m_machine.cpu().debug();
  debug.insert_breakpoint(DebugSpace::Linear, *m_options.from);
  m_machine.run_instructions(kLongestStartCount);
  const auto cause = m_machine.take_stop_cause();
  debug.remove_breakpoint(DebugSpace::Linear, *m_options.from);
  if (!cause || cause->kind != StopCause::Kind::Debug) return failure(fmt::format("Vellum does not come to {:#x}", *m_options.from));
  const std::string place = fmt::format("0,{:x},1", *m_options.from);
  if (const auto set = m_stub.ask("Z" + place); !set) return std::unexpected(set.error());
  if (const auto stopped = m_stub.resume('c', kLongestStart); !stopped) return std::unexpected(stopped.error());
  if (m_stub.end()) return failure(fmt::format("the stub's machine does not come to {:#x}: {}", *m_options.from, *m_stub.end()));
  if (const auto taken = m_stub.ask("z" + place); !taken) return std::unexpected(taken.error());
  return {};
}

Result<void> QemuComparison::write_register(const Pair& pair, u64 value) {
  const auto answer = m_stub.ask(fmt::format("P{:x}={}", pair.theirs->number, gdb_hex({reinterpret_cast<const u8*>(&value), pair.theirs->bytes})));
  if (!answer) return std::unexpected(answer.error());
  if (*answer != "OK") return failure(fmt::format("the stub's register {} cannot be set ({})", pair.theirs->name, *answer));
  return {};
}

Result<void> QemuComparison::copy_memory() {
  std::vector<u8> data;
  for (const auto& range : m_options.memory) {
    for (u64 at = 0; at < range.size; at += kPiece) {
      data.resize(std::min<u64>(kPiece, range.size - at));
      m_machine.memory().read(GuestPhysAddr(range.address + at), data);
      const auto answer = m_stub.ask(fmt::format("M{:x},{:x}:{}", range.address + at, data.size(), gdb_hex(data)));
      if (!answer) return std::unexpected(answer.error());
      if (*answer != "OK") return failure(fmt::format("the stub's memory at {:#x} cannot be written ({})", range.address + at, *answer));
    }
  }
  return {};
}

Result<bool> QemuComparison::compare_registers(u64 undefined) {
  const auto theirs = m_stub.read_registers();
  if (!theirs) return std::unexpected(theirs.error());
  m_stood_still = *theirs == m_their_registers;
  m_their_registers = *theirs;
  CpuCore& core = core_of(m_machine);
  const bool wide = core.s.code64();
  const auto first_st = static_cast<usize>(debug_register_number("st0"));
  bool any = false;
  for (Pair& pair : m_pairs) {
    pair.differs = false;
    if (!theirs->has(*pair.theirs)) return failure("the stub told of fewer registers than it described");
    const std::string_view name = pair.theirs->name, value = theirs->of(*pair.theirs);
    const DebugRegister* reg = pair.ours;
    // QEMU's st0 to st7 are the registers themselves, whichever is the top.
    if (name.starts_with("st")) reg = &debug_registers()[first_st + ((pair.theirs->number - m_first_st - (core.s.x87.status >> 11)) & 7)];
    std::vector<u8> ours(reg->bytes);
    reg->read(core, ours);
    u64 our_value = 0;
    std::memcpy(&our_value, ours.data(), std::min<usize>(ours.size(), sizeof(our_value)));
    if (!theirs->knows(*pair.theirs)) {
      if (pair.theirs == m_rip) return failure("the stub does not tell the value of rip, without which the two cannot be held side by side");
      pair.untold = true;
      pair.our_value = our_value;
      continue;
    }
    u64 difference = our_value ^ first_bytes(value);
    if (pair.theirs->bytes > 8 && std::memcmp(ours.data(), value.data(), std::min<usize>(ours.size(), value.size())) != 0) difference = ~u64{0};
    // Outside 64-bit mode QEMU tells of what such code can see.
    if (!wide && only_in_64_bit_mode(name)) difference = 0;
    else if (!wide && pair.theirs->number <= m_rip->number) difference &= 0xffffffff;
    if (name == "eflags") difference &= kFlagsCompared;
    if (name == "fstat") difference &= kStatusCompared;
    const u64 changed = (our_value ^ pair.our_value) | (first_bytes(value) ^ pair.their_value);
    pair.our_value = our_value, pair.their_value = first_bytes(value);
    pair.unknown &= difference & ~changed;
    if (name == "eflags") pair.unknown |= undefined & difference;
    pair.differs = difference & ~pair.unknown;
    if (pair.differs) pair.our_text = bytes_text(ours), pair.their_text = bytes_text({reinterpret_cast<const u8*>(value.data()), value.size()});
    any |= pair.differs;
  }
  return any;
}

std::string QemuComparison::untold() const {
  std::string names;
  for (const Pair& pair : m_pairs)
    if (pair.untold) names += " " + pair.theirs->name;
  return names;
}

// A line for each byte that differs; empty: none.
Result<std::string> QemuComparison::differing_memory() {
  constexpr usize kMostLines = 32;
  std::string text;
  usize lines = 0;
  std::vector<u8> ours;
  for (const auto& range : m_options.memory) {
    for (u64 at = 0; at < range.size; at += kPiece) {
      ours.resize(std::min<u64>(kPiece, range.size - at));
      m_machine.memory().read(GuestPhysAddr(range.address + at), ours);
      const auto answer = m_stub.ask(fmt::format("m{:x},{:x}", range.address + at, ours.size()));
      if (!answer) return answer;
      std::string theirs;
      if (!gdb_unhex(*answer, theirs) || theirs.size() != ours.size())
        return failure(fmt::format("the stub's memory at {:#x} cannot be read ({:.40})", range.address + at, *answer));
      for (usize i = 0; i < ours.size(); ++i)
        if (ours[i] != static_cast<u8>(theirs[i]) && lines++ < kMostLines)
          text += fmt::format("  memory {:#x}: {:#04x}   {:#04x}\n", range.address + at + i, ours[i], static_cast<u8>(theirs[i]));
    }
  }
  return text;
}

void QemuComparison::step_ours(bool repeats) {
  CpuCore& core = core_of(m_machine);
  const u64 rip = core.s.rip;
  m_machine.hold_timers(true);
  core.debug().hold_interrupts(true);
  // A repeated string instruction ends where the next one begins, however many chunks it has.
  do m_machine.run_instructions(1);
  while (repeats && core.s.rip == rip && !m_machine.ended());
  core.debug().hold_interrupts(false);
  m_machine.hold_timers(false);
}

Result<void> QemuComparison::step_theirs(bool repeats, u64 rip, u64 exceptions) {
  // QEMU stops in front of an exception's handler, and behind each iteration.
  for (u64 i = 0; i <= exceptions && !m_stub.end(); ++i)
    if (const auto stepped = m_stub.resume('s'); !stepped && !m_stub.end()) return std::unexpected(stepped.error());
  for (u64 i = 0; repeats && !exceptions && i < kMostIterations && !m_stub.end(); ++i) {
    const auto registers = m_stub.read_registers();
    if (!registers) return std::unexpected(registers.error());
    if (!registers->knows(*m_rip) || first_bytes(registers->of(*m_rip)) != rip) break;
    if (const auto stepped = m_stub.resume('s'); !stepped && !m_stub.end()) return std::unexpected(stepped.error());
  }
  return {};
}

// Memory as it is now is what the next instruction finds.
void QemuComparison::note_memory() {
  GuestRam& ram = m_machine.ram();
  bool any = false;
  for (u64 offset = 0; offset < ram.size(); offset += kPageSize) {
    if (ram.flags(offset) & kPageCleanSnapshot) continue;
    auto& page = m_pages[offset];
    if (!page) page.reset(new u8[kPageSize]);
    std::memcpy(page.get(), ram.host(offset), kPageSize);
    ram.set_flag(offset, kPageCleanSnapshot);
    any = true;
  }
  if (any) m_machine.memory().flags_set();
}

std::string QemuComparison::reproducer() {
  CpuCore& core = core_of(m_machine);
  GuestRam& ram = m_machine.ram();
  for (u64 offset = 0; offset < ram.size(); offset += kPageSize)
    if (const auto page = m_pages.find(offset); page != m_pages.end() && !(ram.flags(offset) & kPageCleanSnapshot)) std::memcpy(ram.host(offset), page->second.get(), kPageSize);
  m_machine.memory().contents_replaced();
  ArchiveReader archive(m_cpu_before);
  core.visit(archive);
  auto made = make_reproducer(m_machine, 1, m_options.cpu_option);
  if (!made) return {};
  // What the other one did is what is expected.
  for (const Pair& pair : m_pairs) {
    if (!pair.differs) continue;
    if (pair.theirs->bytes > 8) return {};
    u64 value = pair.their_value;
    if (pair.theirs->name == "eflags") value = (pair.our_value & ~kFlagsCompared) | (value & kFlagsCompared);
    if (!pair.ours->write(core, {reinterpret_cast<const u8*>(&value), pair.ours->bytes})) return {};
  }
  ArchiveWriter expected;
  core.visit(expected);
  made->expected = expected.take();
  return made->text();
}

QemuComparison::Difference QemuComparison::describe(const std::string& memory, const std::string& before) {
  Difference difference;
  std::string& text = difference.report;
  text += fmt::format("Vellum and QEMU part behind instruction {} (counted from where they began).\n\nThe last instructions:\n", m_compared);
  for (usize i = 0; i < m_way.size(); ++i) text += fmt::format("{} {}\n", i + 1 == m_way.size() ? "=>" : "  ", m_way[i]);
  if (!memory.empty() && m_options.memory_interval > 1) text += fmt::format("Memory is compared every {} instructions: each of them may be the one.\n", m_options.memory_interval);
  text += "\nWhat differs behind them (Vellum, then QEMU):\n";
  std::string unknown;
  for (const Pair& pair : m_pairs) {
    if (pair.differs) text += fmt::format("  {:<10} {} {}\n", pair.theirs->name, pair.our_text, pair.their_text);
    else if (pair.unknown) unknown += fmt::format(" {} (bits {:#x})", pair.theirs->name, pair.unknown);
  }
  text += memory;
  if (!unknown.empty()) text += fmt::format("Not compared, since undefined or different from the start:{}\n", unknown);
  if (const std::string names = untold(); !names.empty()) text += fmt::format("Not compared, since the stub did not tell their values:{}\n", names);
  text += fmt::format("\nVellum's CPU before the last instruction:\n{}\nVellum's CPU behind it:\n{}", before, m_machine.cpu().describe_registers());
  if (memory.empty()) difference.reproducer = reproducer();
  if (difference.reproducer.empty()) text += "\nThere is no stand-alone reproducer: what differs is memory, a vector or a register that only the whole machine has.\n";
  return difference;
}

Result<std::optional<QemuComparison::Difference>> QemuComparison::run() {
  CpuCore& core = core_of(m_machine);
  if (auto ready = prepare(); !ready) return std::unexpected(ready.error());
  if (auto there = go_to_start(); !there) return std::unexpected(there.error());
  if (auto copied = copy_memory(); !copied) return std::unexpected(copied.error());
  if (auto compared = compare_registers(0); !compared) return std::unexpected(compared.error());
  for (Pair& pair : m_pairs)
    if ((pair.differs || pair.untold) && (pair.theirs->number < m_rip->number || pair.theirs->name == "eflags"))
      if (auto written = write_register(pair, pair.our_value); !written) return std::unexpected(written.error());
  if (auto compared = compare_registers(0); !compared) return std::unexpected(compared.error());
  for (Pair& pair : m_pairs)
    if (pair.differs) {
      if (pair.theirs == m_rip) return failure(fmt::format("they do not begin at the same place: Vellum at {:#x}, the stub's machine at {:#x}", pair.our_value, pair.their_value));
      pair.unknown = ~u64{0};
    }
  note_memory();

  while (m_compared < m_options.limit) {
    if (core.s.halted) {
      m_end = "the guest waits for an interrupt";
      return std::nullopt;
    }
    std::string encoding;
    const auto insn = next_instruction(core, encoding);
    m_way.push_back(fmt::format("{:>8}  {:#018x}: {:<30} {}", m_compared, insn.address, encoding, insn.text));
    if (m_way.size() > kWay) m_way.erase(m_way.begin());
    const bool repeats = is_repeated_string(insn.text);
    ArchiveWriter state;
    core.visit(state);
    m_cpu_before = state.take();
    const std::string before = core.describe_registers();
    const u64 rip = core.s.rip, exceptions = core.counters.exceptions;
    m_read_outside = reads_outside(insn.text);
    step_ours(repeats);
    if (auto stepped = step_theirs(repeats, rip, core.counters.exceptions - exceptions); !stepped) return std::unexpected(stepped.error());
    if (m_machine.ended() || m_stub.end()) {
      m_end = fmt::format("{} ended", m_machine.ended() ? m_stub.end() ? "both machines" : "Vellum's machine" : "QEMU's machine");
      if (m_machine.ended() && m_stub.end()) return std::nullopt;
      return Difference{.report = fmt::format("Vellum and QEMU part behind instruction {}: {}, and the other goes on.\n", m_compared, m_end), .reproducer = {}};
    }
    auto differ = compare_registers(undefined_flags(insn.text));
    // QEMU ends a step at once when its interrupt controller wants to be looked at, though the interrupt is held back.
    for (unsigned i = 0; i < kMostEmptySteps && differ && *differ && m_stood_still; ++i) {
      if (const auto stepped = m_stub.resume('s'); !stepped) return std::unexpected(stepped.error());
      differ = compare_registers(undefined_flags(insn.text));
    }
    if (!differ) return std::unexpected(differ.error());
    if (*differ && m_read_outside) {
      for (const Pair& pair : m_pairs)
        if (pair.differs && pair.theirs->number < m_rip->number)
          if (auto written = write_register(pair, pair.our_value); !written) return std::unexpected(written.error());
      ++m_taken_over;
      differ = compare_registers(undefined_flags(insn.text));
      if (!differ) return std::unexpected(differ.error());
    }
    std::string memory;
    if ((m_compared + 1) % m_options.memory_interval == 0) {
      auto found = differing_memory();
      if (!found) return std::unexpected(found.error());
      memory = std::move(*found);
    }
    if (*differ || !memory.empty()) return describe(memory, before);
    ++m_compared;
    note_memory();
  }
  m_end = "as many instructions as were asked for";
  return std::nullopt;
}

}  // namespace vellum
