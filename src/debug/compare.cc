// Lockstep, bisection to the first instruction that differs, and what to say about it.
#include "debug/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "debug/guest_memory.h"
#include "debug/reproducer.h"
#include "jit/stencil.h"
#include "jit/translation_view.h"
#include "state/assert.h"

namespace vellum {

namespace {

// Instructions. How far in front of a difference execution is begun anew to find the shortest way to it: a block has at most 48
// instructions, a region a few hundred, and its loops may go round.
constexpr u64 kWindows[] = {64, 1024, 65536};
constexpr u64 kMostListed = 64;      // instructions in a report
// Instructions. Each of them is looked at closely for the report, and more closely for the reproducer, which takes a millisecond.
constexpr u64 kMostLookedAt = 4096;
constexpr usize kMostBytes = 32;     // of differing memory
// Instructions. How often the registers are looked at on the way to the next comparison. A chunk of a repeated string instruction
// counts as one and may take a ten-thousandth of a second where there is no memory, so a guest whose count has become wrong can
// keep the host busy for hours before an interval of instructions has passed.
constexpr u64 kLook = 16384;

// Stops a machine that goes on without an instruction being done: after a wrong one, a guest may halt for ever, or raise exception after
// exception.
class Watchdog {
 public:
  explicit Watchdog(Machine& machine) : m_machine(machine), m_timer(machine.clock(), [this] { look(); }, Timer::Kind::Unseen) { look(); }

 private:
  static constexpr Ticks kInterval = 1'000'000, kLongestHalt = 60 * kTicksPerSecond;
  static constexpr u64 kMostExceptions = 500'000;
  void look() {
    const u64 retired = m_machine.cpu().retired(), exceptions = core_of(m_machine).counters.exceptions;
    const Ticks now = m_machine.clock().now();
    if (retired != m_retired) m_retired = retired, m_exceptions = exceptions, m_since = now;
    else if (exceptions - m_exceptions > kMostExceptions || now - m_since > kLongestHalt) return m_machine.stop();
    m_timer.arm(now + kInterval);
  }
  Machine& m_machine;
  Timer m_timer;
  u64 m_retired = ~u64{0}, m_exceptions = 0;
  Ticks m_since = 0;
};

std::string printed_state(Machine& machine) {
  ArchivePrinter printer;
  for (auto& part : machine.state_parts()) {
    printer.begin(part.name);
    part.visit(printer);
    printer.end();
  }
  return printer.text();
}

std::string host_listing(const CodeKeeper::Code& code) {
  const auto disassembler = Disassembler::for_host();
  std::string text;
  for (const CodeKeeper::Part& part : code)
    for (usize at = 0; at < part.bytes.size();) {
      const auto insn = disassembler.one(std::span(part.bytes).subspan(at), part.address + at);
      text += fmt::format("  {:#x}: {}\n", insn.address, insn.text);
      at += std::max<usize>(1, insn.length);
    }
  return text;
}

CodeKeeper::Part copy_of(std::span<const u8> code) { return {reinterpret_cast<u64>(code.data()), {code.begin(), code.end()}}; }

}  // namespace

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> printed_cpu(Machine& machine) {
  ArchivePrinter printer;
  printer.begin("cpu0");
  core_of(machine).visit(printer);
  printer.end();
  return lines_of(printer.text());
}

DisassembledInsn next_instruction(CpuCore& cpu, std::string& bytes_text) {
  u8 bytes[kMaxInsnLength] = {};
  const u64 linear = linear_pc(cpu.s);
  const usize size = read_guest(cpu, DebugSpace::Linear, linear, bytes);
  if (size == 0) return {.address = linear, .length = 1, .text = "(not mapped)"};
  const auto code_size = static_cast<CodeSize>(cpu.s.mode & kModeCodeSizeMask);
  const auto insn = Disassembler(code_size).one({bytes, size}, linear);
  bytes_text = hex_bytes({bytes, std::min<usize>(insn.length, size)});
  return insn;
}

u64 straight_bytes(CpuCore& cpu, u64 linear, u64 most) {
  u8 bytes[kMaxBlockInsns * kMaxInsnLength] = {};
  const usize size = read_guest(cpu, DebugSpace::Linear, linear, bytes);
  const Disassembler disassembler(static_cast<CodeSize>(cpu.s.mode & kModeCodeSizeMask));
  usize at = 0;
  for (u64 i = 0; i < most && at < size; ++i) {
    const auto insn = disassembler.one(std::span(bytes).subspan(at, size - at), linear + at);
    at += std::max<usize>(1, insn.length);
    if (insn.text.starts_with('j') || insn.text.starts_with("call") || insn.text.starts_with("ret") || insn.text.starts_with("loop")) break;
  }
  return std::max<u64>(1, at);
}

void CodeKeeper::block_translated(const Block& block, std::span<const CodePart>, const BlockCode& code) {
  if (!m_on) return;
  if (m_blocks.size() >= kMost) m_blocks.clear();
  m_blocks[block.ram_offset] = {copy_of(code.hot), copy_of(code.cold)};
}

void CodeKeeper::region_translated(u64 rip, std::span<Block* const>, std::span<const u8> code) {
  if (!m_on) return;
  if (m_regions.size() >= kMost) m_regions.clear();
  m_regions[rip] = {copy_of(code)};
}

const CodeKeeper::Code* CodeKeeper::block_at(u64 ram_offset) const {
  const auto found = m_blocks.find(ram_offset);
  return found == m_blocks.end() ? nullptr : &found->second;
}

const CodeKeeper::Code* CodeKeeper::region_at(u64 rip) const {
  const auto found = m_regions.find(rip);
  return found == m_regions.end() ? nullptr : &found->second;
}

Comparison::Comparison(Side left, Side right, std::string cpu_option) : m_left(std::move(left)), m_right(std::move(right)), m_cpu_option(std::move(cpu_option)) {
  VELLUM_ASSERT(m_left.machine->ram().size() == m_right.machine->ram().size());
  // What comes from outside comes from journals.
  for (Machine* machine : {m_left.machine, m_right.machine}) machine->serve_host(false);
  for (Machine* machine : {m_left.machine, m_right.machine})
    for_each_used_page(machine->ram(), [&](u64 offset) { m_dirty.insert(offset); });
  // From here on pages without the flag are those that were written.
  for (Machine* machine : {m_left.machine, m_right.machine}) {
    for (u64 offset = 0; offset < machine->ram().size(); offset += kPageSize) machine->ram().set_flag(offset, kPageCleanSnapshot);
    machine->memory().flags_set();
  }
}

void Comparison::collect_dirty() {
  for (Machine* machine : {m_left.machine, m_right.machine}) {
    GuestRam& ram = machine->ram();
    for (u64 offset = 0; offset < ram.size(); offset += kPageSize) {
      if (ram.flags(offset) & kPageCleanSnapshot) continue;
      m_dirty.insert(offset);
      ram.set_flag(offset, kPageCleanSnapshot);
    }
    machine->memory().flags_set();
  }
}

bool Comparison::equal() {
  ++m_comparisons;
  collect_dirty();
  if (m_left.machine->save_state() != m_right.machine->save_state()) return false;
  return std::ranges::all_of(m_dirty, [&](u64 offset) {
    return std::memcmp(m_left.machine->ram().host(offset), m_right.machine->ram().host(offset), kPageSize) == 0;
  });
}

void Comparison::keep_base() {
  collect_dirty();
  m_base = m_left.machine->cpu().retired();
  const auto keep = [](Pages& pages, u64 offset, const u8* contents) {
    auto& page = pages[offset];
    if (!page) page.reset(new u8[kPageSize]);
    std::memcpy(page.get(), contents, kPageSize);
  };
  for (const u64 offset : m_dirty) {
    const u8 *left = m_left.machine->ram().host(offset), *right = m_right.machine->ram().host(offset);
    keep(m_pages, offset, left);
    if (std::memcmp(left, right, kPageSize) != 0) keep(m_right_pages, offset, right);
    else m_right_pages.erase(offset);
  }
  m_dirty.clear();
  for (auto [side, base] : {std::pair(&m_left, &m_left_base), std::pair(&m_right, &m_right_base)}) {
    base->states = side->machine->save_state();
    base->input = side->machine->inputs().position();
    base->media.clear();
    for (BlockDevice* medium : side->machine->board().inserted_media()) base->media.push_back(medium->save_contents());
  }
}

Result<void> Comparison::go_back() {
  collect_dirty();
  for (auto [side, base] : {std::pair(&m_left, &m_left_base), std::pair(&m_right, &m_right_base)}) {
    Machine& machine = *side->machine;
    const u64 reached = machine.cpu().retired();
    if (auto loaded = machine.load_state(base->states); !loaded) return loaded;
    for (const u64 offset : m_dirty) {
      auto page = side == &m_right ? m_right_pages.find(offset) : m_right_pages.end();
      if (page == m_right_pages.end()) page = m_pages.find(offset);
      if (page != m_pages.end()) std::memcpy(machine.ram().host(offset), page->second.get(), kPageSize);
      else std::memset(machine.ram().host(offset), 0, kPageSize);
    }
    machine.memory().contents_replaced();
    const auto media = machine.board().inserted_media();
    for (usize i = 0; i < media.size() && i < base->media.size(); ++i)
      if (base->media[i]) media[i]->load_contents(base->media[i]);
    machine.inputs().go_to(base->input, reached);
  }
  m_dirty.clear();
  return {};
}

void Comparison::run_both(u64 count) {
  for (const Side* side : {&m_left, &m_right}) {
    Machine& machine = *side->machine;
    const Watchdog watchdog(machine);
    if (machine.cpu().retired() < count) machine.run_instructions(count - machine.cpu().retired());
  }
}

// The same, but ends early where the registers are not the same any more.
void Comparison::run_until_parted(u64 count) {
  const Cpu &left = m_left.machine->cpu(), &right = m_right.machine->cpu();
  while (left.retired() < count) {
    const u64 goal = std::min(count, left.retired() + kLook);
    run_both(goal);
    if (left.retired() != goal || right.retired() != goal || left.register_hash() != right.register_hash()) return;
  }
}

// Whether they differ behind `count` instructions when execution begins anew at `start`, where they are equal.
Result<bool> Comparison::parts_by(u64 start, u64 count) {
  if (auto back = go_back(); !back) return std::unexpected(back.error());
  if (start > m_base) {
    run_both(start);
    // Loading a state forgets all that was translated.
    for (const Side* side : {&m_left, &m_right})
      if (auto loaded = side->machine->load_state(m_left.machine->save_state()); !loaded) return std::unexpected(loaded.error());
  }
  run_until_parted(count);
  return !equal();
}

Result<std::optional<Divergence>> Comparison::run(u64 limit, u64 interval) {
  if (!equal()) return failure("the machines are different before their first instruction: they were not made alike");
  keep_base();
  while (m_base < limit) {
    const u64 goal = std::min(limit, m_base + interval);
    run_until_parted(goal);
    const u64 left = m_left.machine->cpu().retired(), right = m_right.machine->cpu().retired();
    if (!equal()) {
      auto found = bisect(std::max(left, right));
      if (!found) return std::unexpected(found.error());
      return *found;
    }
    keep_base();
    if (m_left.machine->ended() || left < goal) break;
  }
  return std::nullopt;
}

// The least count behind which they differ, when execution begins at the base. They differ behind `bad`.
Result<u64> Comparison::first_parted(u64 bad) {
  u64 good = m_base;
  while (bad - good > 1) {
    const u64 middle = good + (bad - good) / 2;
    const auto parts = parts_by(m_base, middle);
    if (!parts) return std::unexpected(parts.error());
    (*parts ? bad : good) = middle;
  }
  return bad;
}

Result<Divergence> Comparison::bisect(u64 bad) {
  for (const Side* side : {&m_left, &m_right})
    if (side->machine->ended()) return failure(fmt::format("a machine ended between instruction {} and {} and cannot be taken back; compare again with a smaller -every", m_base, bad));
  for (Side* side : {&m_left, &m_right})
    if (side->code) side->code->keep(true);
  auto again = parts_by(m_base, bad);
  if (!again) return std::unexpected(again.error());
  if (!*again)
    return Divergence{.count = bad,
                      .block_start = bad,
                      .report = fmt::format("{} and {} were equal after {} instructions and different after {}, but were equal there when they began "
                                            "anew in between: what went wrong needs code that has been running for longer. Compare with a smaller -every.\n",
                                            m_left.name, m_right.name, m_base, bad)};
  const auto first = first_parted(bad);
  if (!first) return std::unexpected(first.error());
  bad = *first;
  // `bad` is where they part when execution begins at the base. The shortest way to it begins where the wrong code does.
  for (const u64 window : kWindows) {
    const u64 start = bad - m_base > window ? bad - window : m_base;
    const auto parts = parts_by(start, bad);
    if (!parts) return std::unexpected(parts.error());
    if (!*parts) {
      if (start == m_base) break;
      continue;
    }
    // Nearer to the difference, so that each of the next steps is short.
    if (auto back = go_back(); !back) return std::unexpected(back.error());
    run_both(start);
    keep_base();
    for (u64 from = bad - 1; from > start && bad - from <= kWindows[0]; --from) {
      const auto shorter = parts_by(from, bad);
      if (!shorter) return std::unexpected(shorter.error());
      if (*shorter) return describe(from, bad);
    }
    return describe(start, bad);
  }
  return describe(m_base, bad);
}

std::vector<std::string> Comparison::differing_lines() {
  const auto left = lines_of(printed_state(*m_left.machine)), right = lines_of(printed_state(*m_right.machine));
  std::vector<std::string> lines;
  for (usize i = 0; i < std::max(left.size(), right.size()); ++i) {
    const std::string ours = i < left.size() ? left[i] : "(nothing)", theirs = i < right.size() ? right[i] : "(nothing)";
    if (ours == theirs) continue;
    lines.push_back(fmt::format("{:<44} {}", ours, theirs.substr(theirs.find('=') == theirs.npos ? 0 : theirs.find('=') + 2)));
  }
  return lines;
}

std::string Comparison::differing_memory(usize most) {
  std::set<u64> sorted(m_dirty.begin(), m_dirty.end());
  std::string text;
  usize shown = 0;
  for (const u64 offset : sorted) {
    const u8 *left = m_left.machine->ram().host(offset), *right = m_right.machine->ram().host(offset);
    for (usize i = 0; i < kPageSize; ++i) {
      if (left[i] == right[i]) continue;
      if (shown++ < most) text += fmt::format("  RAM offset {:#x}: {:#04x}   {:#04x}\n", offset + i, left[i], right[i]);
    }
  }
  if (shown > most) text += fmt::format("  and {} more bytes\n", shown - most);
  return text;
}

// The instructions from `start` to `count` as the first engine runs them one by one, with the one marked that makes what differs.
std::string Comparison::instructions_report(u64 start, u64 count, const std::vector<std::string>& differing) {
  std::set<std::string> fields;
  for (const auto& line : differing) fields.insert(line.substr(0, line.find(' ')));
  std::vector<u64> bytes;
  for (const u64 offset : m_dirty)
    for (usize i = 0; i < kPageSize && bytes.size() < kMostBytes; ++i)
      if (m_left.machine->ram().host(offset)[i] != m_right.machine->ram().host(offset)[i]) bytes.push_back(offset + i);
  if (!go_back()) return {};
  std::string text;
  if (count - start > kMostLookedAt) {
    text = fmt::format("   ({} instructions before these)\n", count - start - kMostListed);
    start = count - kMostListed;
  }
  run_both(start);
  CpuCore& core = core_of(*m_left.machine);
  const auto values = [&] {
    std::vector<std::string> text;
    for (const auto& line : printed_cpu(*m_left.machine))
      if (const auto name = line.substr(0, line.find(' ')); fields.contains(name) && !name.ends_with(".rip") && !name.ends_with(".retired")) text.push_back(line);
    for (const u64 offset : bytes) text.push_back(fmt::format("{}", *m_left.machine->ram().host(offset)));
    return text;
  };
  std::vector<std::string> listing;
  usize suspect = ~usize{0};
  auto before = values();
  for (u64 at = start; at < count; ++at) {
    std::string encoding;
    const auto insn = next_instruction(core, encoding);
    listing.push_back(fmt::format("{:#018x}: {:<30} {}", insn.address, encoding, insn.text));
    m_left.machine->run_instructions(1);
    auto after = values();
    if (after != before) suspect = listing.size() - 1;
    before = std::move(after);
  }
  for (usize i = 0; i < listing.size(); ++i) {
    if (i >= kMostListed && i + 4 < listing.size() && i != suspect) continue;
    text += fmt::format("{} {:>8}  {}\n", i == suspect ? "=>" : "  ", start + i, listing[i]);
  }
  return text;
}

std::string Comparison::host_code_report(u64 linear, u64 rip) {
  std::string text;
  for (const Side* side : {&m_left, &m_right}) {
    std::set<u64> tables;
    const auto page = physical_page(core_of(*side->machine), linear, tables);
    if (!side->code || !page) continue;
    const PageTarget target = side->machine->memory().lookup(GuestPhysAddr(*page));
    if (const auto* code = side->code->block_at(target.read_ram_offset + (linear & kPageMask)))
      text += fmt::format("\nThe block's host code as {} had it:\n{}", side->name, host_listing(*code));
    if (const auto* code = side->code->region_at(rip)) text += fmt::format("\nThe region's host code as {} had it:\n{}", side->name, host_listing(*code));
  }
  return text;
}

// What each tier that ran makes of the code: from guest instructions by IR to host code.
std::string Comparison::translation_report(CpuCore& cpu, u64 linear, u64 length) {
  const bool optimizes = have_optimizer() && (m_left.optimizes || m_right.optimizes);
  const u32 parts = default_translation_parts() | (optimizes ? kShowIr | kShowOptimizedIr | kShowOptimized : 0u);
  const auto view = show_guest_translation(cpu, linear, straight_bytes(cpu, linear, length), parts, AssemblySyntax::Att);
  return view ? *view : view.error().message + "\n";
}

// They are equal at `start` and differ behind `count`, if execution begins at `start`.
Result<Divergence> Comparison::describe(u64 start, u64 count) {
  auto there = parts_by(start, start);
  if (!there) return std::unexpected(there.error());
  const u64 linear = linear_pc(core_of(*m_right.machine).s), rip = core_of(*m_right.machine).s.rip;
  auto parts = parts_by(start, count);
  if (!parts) return std::unexpected(parts.error());
  run_both(count);
  Divergence divergence{.count = count, .block_start = start};
  const std::string host_code = host_code_report(linear, rip);
  const auto differing = differing_lines();
  const std::string memory = differing_memory(kMostBytes);
  const std::string left_after = m_left.machine->cpu().describe_registers(), right_after = m_right.machine->cpu().describe_registers();
  const std::string instructions = instructions_report(start, count, differing);
  if (auto back = go_back(); !back) return std::unexpected(back.error());
  run_both(start);
  const std::string before = m_left.machine->cpu().describe_registers();
  CpuCore& core = core_of(*m_right.machine);

  std::string& text = divergence.report;
  text += fmt::format("{} and {} part behind instruction {} (counted from power-on): they are equal after {} and differ after {}.\n", m_left.name,
                      m_right.name, count - 1, start, count);
  text += fmt::format("\nThe instructions from where they are equal; => marks the last one that changes what differs:\n{}", instructions);
  text += fmt::format("\nWhat differs behind them ({}, then {}):\n", m_left.name, m_right.name);
  for (const auto& line : differing) text += "  " + line + "\n";
  text += memory;
  text += fmt::format("\nThe CPU before them:\n{}\nThe CPU behind them, {}:\n{}\nThe CPU behind them, {}:\n{}", before, m_left.name, left_after, m_right.name, right_after);
  text += fmt::format("\nWhat becomes of this code when it is translated alone:\n{}", translation_report(core, linear, count - start));
  text += host_code;
  Result<Reproducer> reproducer = failure(fmt::format("it takes {} instructions to come to the difference", count - start));
  if (count - start <= kMostLookedAt) reproducer = make_reproducer(*m_left.machine, count - start, m_cpu_option);
  if (reproducer) divergence.reproducer = reproducer->text();
  else text += fmt::format("\nThere is no stand-alone reproducer: {}\n", reproducer.error().message);
  return divergence;
}

}  // namespace vellum
