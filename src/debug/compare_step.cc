// Two machines that are not the same: where their CPUs part although their memory and devices may differ.
#include <fmt/format.h>

#include <algorithm>

#include "debug/compare.h"
#include "debug/guest_memory.h"
#include "debug/reproducer.h"
#include "jit/translation_view.h"

namespace vellum {

namespace {

// Instructions between two looks at whether everything is the same again, and between two states to go back to.
constexpr u64 kStride = 4096;
constexpr usize kWay = 12;  // instructions in front of a difference that a report lists

std::vector<u8> saved_cpu(Machine& machine) {
  ArchiveWriter archive;
  core_of(machine).visit(archive);
  return archive.take();
}

std::string field_of(const std::string& line) { return line.substr(0, line.find(' ')); }
std::string value_of(const std::string& line) {
  const auto at = line.find("= ");
  return at == line.npos ? line : line.substr(at + 2);
}

}  // namespace

// Whether other bytes of the CPUs' saved states differ than when they were last looked at: a quick look, for each step.
bool Comparison::may_differ_newly() {
  const auto left = saved_cpu(*m_left.machine), right = saved_cpu(*m_right.machine);
  if (left == right && m_known.empty()) return false;
  if (left.size() != right.size() || m_known_bytes.size() != left.size()) return true;
  for (usize i = 0; i < left.size(); ++i)
    if ((left[i] != right[i]) != m_known_bytes[i]) return true;
  return false;
}

// Of the CPUs, a line each. Fields that are known to differ are left out, and those that are the same again are known no more.
std::vector<std::string> Comparison::newly_differing() {
  const auto left_state = saved_cpu(*m_left.machine), right_state = saved_cpu(*m_right.machine);
  m_known_bytes.assign(left_state.size(), false);
  if (left_state == right_state) {
    m_known.clear();
    return {};
  }
  for (usize i = 0; i < std::min(left_state.size(), right_state.size()); ++i) m_known_bytes[i] = left_state[i] != right_state[i];
  const auto left = printed_cpu(*m_left.machine), right = printed_cpu(*m_right.machine);
  std::vector<std::string> lines;
  for (usize i = 0; i < std::min(left.size(), right.size()); ++i) {
    const std::string field = field_of(left[i]);
    if (left[i] == right[i]) m_known.erase(field);
    else if (!m_known.contains(field)) lines.push_back(fmt::format("{:<44} {}", left[i], value_of(right[i])));
  }
  return lines;
}

// The complete states are the same at the base and differ behind `bad` instructions: lets both stand in front of the first instruction
// behind which they differ, which is the base then.
Result<void> Comparison::find_first_difference(u64 bad) {
  const auto first = first_parted(bad);
  if (!first) return std::unexpected(first.error());
  bad = *first;
  if (const auto parts = parts_by(m_base, bad); !parts) return std::unexpected(parts.error());
  if (m_parted.empty()) {
    m_parted = fmt::format("Their complete states differ behind instruction {} for the first time:\n", bad - 1);
    for (const auto& line : differing_lines()) m_parted += "  " + line + "\n";
    m_parted += differing_memory(4);
  }
  if (auto back = go_back(); !back) return back;
  run_both(bad - 1);
  keep_base();
  return {};
}

Result<std::optional<Divergence>> Comparison::run_different(u64 limit, u64 interval) {
  const Cpu &left = m_left.machine->cpu(), &right = m_right.machine->cpu();
  if (!std::exchange(m_started, true)) {
    m_same = equal();
    for (const auto& line : newly_differing()) m_known.insert(field_of(line));
    if (!m_known.empty()) m_parted = fmt::format("The CPUs differ at power-on in {}.\n", fmt::join(m_known, ", "));
    keep_base();
  }
  while (m_base < limit) {
    if (m_left.machine->ended() && m_right.machine->ended()) return std::nullopt;
    if (m_same) {
      const u64 goal = std::min(limit, m_base + interval);
      run_until_parted(goal);
      const u64 bad = std::max(left.retired(), right.retired());
      if (equal()) {
        keep_base();
        if (left.retired() < goal) return std::nullopt;
        continue;
      }
      if (m_left.machine->ended() || m_right.machine->ended())
        return failure(fmt::format("a machine ended between instruction {} and {} and cannot be taken back; compare again with a smaller -every", m_base, bad));
      if (auto found = find_first_difference(bad); !found) return std::unexpected(found.error());
      m_same = false;
    }
    const u64 end = std::min(limit, m_base + kStride);
    while (left.retired() < end) {
      const u64 next = left.retired() + 1;
      m_way.push_back(linear_pc(core_of(*m_left.machine).s));
      if (m_way.size() > 2 * kWay) m_way.erase(m_way.begin(), m_way.end() - kWay);
      run_both(next);
      if (left.retired() == next && right.retired() == next) {
        if (!may_differ_newly() || newly_differing().empty()) continue;
        auto divergence = describe_step(next);
        if (!divergence) return std::unexpected(divergence.error());
        for (const auto& line : newly_differing()) m_known.insert(field_of(line));
        keep_base();
        return *divergence;
      }
      if (left.retired() == right.retired()) return std::nullopt;
      const bool left_ended = left.retired() < next;
      return Divergence{.count = next,
                        .block_start = next - 1,
                        .report = fmt::format("{} comes to its end behind instruction {}, and {} goes on.\n{}", left_ended ? m_left.name : m_right.name, next - 2,
                                              left_ended ? m_right.name : m_left.name, m_parted)};
    }
    if (m_same = equal(); m_same) newly_differing();  // nothing is known to differ any more
    keep_base();
  }
  return std::nullopt;
}

// They differ behind `count` instructions and did not behind one less. Leaves them behind it.
Result<Divergence> Comparison::describe_step(u64 count) {
  if (auto back = go_back(); !back) return std::unexpected(back.error());
  run_both(count - 1);
  CpuCore &first = core_of(*m_left.machine), &second = core_of(*m_right.machine);
  const u64 linear = linear_pc(second.s);
  const std::string before = first.describe_registers();
  std::string code;
  for (CpuCore* core : {&first, &second}) {
    std::string encoding;
    const auto insn = next_instruction(*core, encoding);
    const std::string line = fmt::format("{:#018x}: {:<30} {}\n", insn.address, encoding, insn.text);
    if (core == &first) code = fmt::format("=> {:>8}  {}", count - 1, line);
    else if (!code.ends_with(line)) code += fmt::format("   {:>8}  {}", m_right.name, line);
  }
  std::string way;
  for (usize i = m_way.size() > kWay ? m_way.size() - kWay : 0; i + 1 < m_way.size(); ++i) {
    u8 bytes[kMaxInsnLength] = {};
    const usize size = read_guest(first, DebugSpace::Linear, m_way[i], bytes);
    if (size == 0) continue;
    const auto insn = Disassembler(static_cast<CodeSize>(first.s.mode & kModeCodeSizeMask)).one({bytes, size}, m_way[i]);
    way += fmt::format("   {:>8}  {:#018x}: {:<30} {}\n", count - m_way.size() + i, insn.address, hex_bytes({bytes, std::min<usize>(insn.length, size)}), insn.text);
  }
  const std::string translation = translation_report(second, linear, 1);
  // The reproducer is of the first machine. Where the second has other memory under the same instruction, it says nothing of it.
  Divergence divergence{.count = count, .block_start = count - 1};
  std::string no_reproducer;
  const bool same_before = saved_cpu(*m_left.machine) == saved_cpu(*m_right.machine);
  if (auto reproducer = make_reproducer(*m_left.machine, 1, m_cpu_option); !reproducer) {
    no_reproducer = reproducer.error().message;
  } else {
    const bool same_memory = std::ranges::all_of(reproducer->pages, [&](const auto& page) {
      std::vector<u8> theirs(kPageSize);
      m_right.machine->memory().read(GuestPhysAddr(page.first), theirs);
      return theirs == page.second;
    });
    if (same_before && same_memory) divergence.reproducer = reproducer->text();
    else no_reproducer = "the machines were not the same in front of the instruction";
  }
  if (auto back = go_back(); !back) return std::unexpected(back.error());
  run_both(count);
  const auto differing = newly_differing();
  divergence.may_go_on = linear_pc(first.s) == linear_pc(second.s);

  std::string& text = divergence.report;
  text += fmt::format("The CPUs of {} and {} part behind instruction {} (counted from power-on).\n{}", m_left.name, m_right.name, count - 1, m_parted);
  text += fmt::format("\nThe instruction, and those in front of it:\n{}{}", way, code);
  text += fmt::format("\nWhat differs behind it ({}, then {}):\n", m_left.name, m_right.name);
  for (const auto& line : differing) text += "  " + line + "\n";
  if (!m_known.empty()) text += fmt::format("  and, as before: {}\n", fmt::join(m_known, ", "));
  text += fmt::format("\nThe CPU before it, {}:\n{}\nThe CPU behind it, {}:\n{}\nThe CPU behind it, {}:\n{}", m_left.name, before, m_left.name,
                      first.describe_registers(), m_right.name, second.describe_registers());
  text += fmt::format("\nWhat becomes of {}'s code when it is translated alone:\n{}", m_right.name, translation);
  if (!no_reproducer.empty()) text += fmt::format("\nThere is no stand-alone reproducer: {}\n", no_reproducer);
  return divergence;
}

}  // namespace vellum
