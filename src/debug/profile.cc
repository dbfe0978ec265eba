// Sampling, and what the page is told.
#include "debug/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cpu/core.h"
#include "cpu/disassembler.h"
#include "cpu/opcodes.h"
#include "debug/guest_memory.h"
#include "debug/profile_page.h"
#include "jit/engine.h"
#include "mmu/page_walk.h"

namespace vellum {

namespace {

constexpr usize kMostStacks = 50'000, kMostAddresses = 200'000, kMostMoments = 600;
constexpr usize kFunctionsListed = 60, kFunctionsShown = 25, kInstructionsShown = 200;

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    // "</" would end the page's script, and what is no ASCII need not be UTF-8: names come from files.
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (byte < 0x20 || byte >= 0x7f || c == '<') out += fmt::format("\\u{:04x}", byte);
    else out += c;
  }
  return out + '"';
}

// "name" of "name+0x12".
std::string without_offset(const std::string& name) { return name.substr(0, name.rfind("+0x")); }

struct Node {
  u64 samples = 0;
  std::map<std::string, Node> callees;
};

void put_node(std::string& out, const std::string& name, const Node& node, u64 least) {
  out += fmt::format("{{\"n\":{},\"v\":{},\"c\":[", json_text(name), node.samples);
  bool first = true;
  for (const auto& [callee, below] : node.callees) {
    if (below.samples < least) continue;
    if (!first) out += ',';
    first = false;
    put_node(out, callee, below, least);
  }
  out += "]}";
}

// A guest decides how many places there are; those that come too late are not told apart.
void count(std::unordered_map<u64, u64>& counts, u64 place) {
  constexpr usize kMostPlaces = 100'000;
  if (counts.size() < kMostPlaces || counts.contains(place)) ++counts[place];
}

std::string listed(std::vector<std::pair<std::string, u64>> rows) {
  constexpr usize kRows = 20;
  std::ranges::stable_sort(rows, std::greater(), &std::pair<std::string, u64>::second);
  std::string text = "[";
  for (usize i = 0; i < std::min(rows.size(), kRows); ++i) text += fmt::format("{}[{},{}]", i ? "," : "", json_text(rows[i].first), rows[i].second);
  return text + "]";
}

}  // namespace

Profile::Profile(Machine& machine, ProfileSpec spec, std::shared_ptr<HostCost> cost, NameOf name_of)
    : m_machine(machine), m_spec(std::move(spec)), m_cost(std::move(cost)), m_name_of(std::move(name_of)) {
  m_machine.cpu().add_observer(*this, kEventPageWalk);
  m_cost->on_overwritten = [this](u64 ram_offset) {
    count(m_overwriters, linear_in_progress(core_of(m_machine)));
    count(m_overwritten_pages, ram_offset & ~kPageMask);
  };
  plan();
}

Profile::~Profile() {
  m_machine.call_at(this, 0, {});
  m_machine.cpu().remove_observer(*this);
  m_cost->on_overwritten = [](u64) {};
}

void Profile::page_walked(u64 linear) {
  count(m_walks, linear_in_progress(core_of(m_machine)));
  count(m_walked_pages, linear & ~kPageMask);
}

u64 Profile::ram_offset_of(u64 linear) {
  CpuCore& core = core_of(m_machine);
  const auto physical = walk_quietly(core.memory, core.s.paging, linear);
  if (!physical) return kNowhere;
  const PageTarget target = core.memory.lookup(GuestPhysAddr(physical->value & ~kPageMask));
  if (target.read != RegionKind::Ram && target.read != RegionKind::Rom) return kNowhere;
  return target.read_ram_offset + (physical->value & kPageMask);
}

void Profile::plan() {
  m_machine.call_at(this, m_machine.cpu().retired() + m_spec.interval, [this] {
    // What is gone through again has been sampled.
    if (!m_machine.inputs().in_past()) sample();
    plan();
  }, Machine::Punctuality::Exact);
}

// Return addresses by the chain of frame pointers, as compilers leave it when asked to; it ends where it leads nowhere.
std::vector<u64> Profile::call_stack() {
  CpuCore& core = core_of(m_machine);
  const CpuState& s = core.s;
  std::vector<u64> stack{linear_pc(s)};
  if (core.cpu_mode() == CpuMode::Real || core.cpu_mode() == CpuMode::Virtual8086 || core.cpu_mode() == CpuMode::Protected16) return stack;
  const bool wide = s.code64();
  const unsigned size = wide ? 8 : 4;
  const u64 base = wide ? 0 : s.segment[kSs].base;
  u64 frame = wide ? s.gpr[kRbp] : static_cast<u32>(s.gpr[kRbp]);
  const u64 top = wide ? s.gpr[kRsp] : static_cast<u32>(s.gpr[kRsp]);
  constexpr u64 kGreatestFrame = 1 << 16;
  u64 below = top;
  while (stack.size() < kDeepest) {
    if (frame < below || frame - below > kGreatestFrame || (frame & (size - 1))) break;
    u64 words[2] = {};
    u8 bytes[16];
    if (read_guest(core, DebugSpace::Linear, base + frame, std::span(bytes).first(2 * size)) < 2 * size) break;
    for (unsigned i = 0; i < 2; ++i) std::memcpy(&words[i], bytes + i * size, size);
    if (words[1] < 4096) break;
    // Behind the call; the call itself is what counts.
    stack.push_back(words[1] - 1);
    below = frame + 2 * size;
    frame = words[0];
  }
  return stack;
}

Profile::Moment Profile::moment() {
  CpuCore& core = core_of(m_machine);
  Moment moment{.count = core.retired(), .single_insns = core.counters.single_insns, .walks = core.counters.data_walks + core.counters.fetch_walks,
                .exceptions = core.counters.exceptions, .interrupts = core.counters.interrupts};
  for (const u64 count : core.counters.callouts) moment.callouts += count;
  if (const Statistics* statistics = engine_statistics(core)) {
    moment.region_insns = statistics->region_insns_run;
    moment.translated = statistics->block_insns;
    moment.stale = statistics->stale_blocks;
  }
  return moment;
}

void Profile::sample() {
  CpuCore& core = core_of(m_machine);
  ++m_samples;
  ++m_modes[fmt::format("{}{}", cpu_mode_name(core.cpu_mode()), core.s.cpl == 3 ? ", user" : "")];
  const auto stack = call_stack();
  // A guest decides how many different ones there are.
  if (m_stacks.size() < kMostStacks || m_stacks.contains(stack)) ++m_stacks[stack];
  else ++m_stacks[{stack[0]}];
  const u64 linear = stack[0];
  if (m_addresses.size() < kMostAddresses || m_addresses.contains(linear)) {
    Address& address = m_addresses[linear];
    const u64 ram_offset = ram_offset_of(linear);
    const HostCost::Baseline* baseline = m_cost->baseline(ram_offset);
    const HostCost::Region* region = m_cost->region(ram_offset);
    if (baseline) address.baseline = *baseline;
    if (region) address.region = *region;
    ++address.by_tier[static_cast<usize>(region ? Tier::Optimized : baseline ? Tier::Baseline : Tier::Interpreter)];
    if (++address.samples == 1) {
      address.code_size = static_cast<u8>(read_guest(core, DebugSpace::Linear, linear, address.code));
      address.insn_size = static_cast<u8>(core.s.mode & kModeCodeSizeMask);
    }
  }
  if (m_samples % m_moment_every == 0) {
    m_moments.push_back(moment());
    if (m_moments.size() >= kMostMoments) {
      for (usize i = 0; 2 * i + 1 < m_moments.size(); ++i) m_moments[i] = m_moments[2 * i + 1];
      m_moments.resize(m_moments.size() / 2);
      m_moment_every *= 2;
    }
  }
}

std::string Profile::function_of(u64 linear) const {
  const std::string name = m_name_of(linear);
  return name.empty() ? fmt::format("{:#x}...", linear & ~u64{0xfff}) : without_offset(name);
}

std::string Profile::by_function(const Counts& counts) const {
  std::map<std::string, u64> functions;
  for (const auto& [linear, events] : counts) functions[function_of(linear)] += events;
  return listed({functions.begin(), functions.end()});
}

std::string Profile::by_page(const Counts& counts, bool physical) const {
  std::vector<std::pair<std::string, u64>> pages;
  for (const auto& [page, events] : counts) {
    const std::string name = physical ? std::string() : m_name_of(page);
    pages.emplace_back(fmt::format("{}{:#x}{}", physical ? "RAM " : "", page, name.empty() ? "" : " " + name), events);
  }
  return listed(std::move(pages));
}

std::string Profile::page() {
  CpuCore& core = core_of(m_machine);
  struct Function {
    u64 self = 0, total = 0;
    std::array<u64, kTiers> by_tier{};
    std::vector<u64> addresses;
  };
  std::map<std::string, Function> functions;
  Node root;
  for (const auto& [stack, samples] : m_stacks) {
    root.samples += samples;
    Node* node = &root;
    std::vector<std::string> seen;
    for (usize i = stack.size(); i-- > 0;) {
      const std::string name = function_of(stack[i]);
      node = &node->callees[name];
      node->samples += samples;
      if (std::ranges::find(seen, name) == seen.end()) functions[name].total += samples, seen.push_back(name);
    }
    functions[function_of(stack[0])].self += samples;
  }
  for (const auto& [linear, address] : m_addresses) {
    Function& function = functions[function_of(linear)];
    function.addresses.push_back(linear);
    for (usize tier = 0; tier < kTiers; ++tier) function.by_tier[tier] += address.by_tier[tier];
  }

  std::vector<std::pair<std::string, Function*>> sorted;
  for (auto& [name, function] : functions) sorted.emplace_back(name, &function);
  std::ranges::stable_sort(sorted, std::greater(), [](const auto& entry) { return entry.second->self; });

  std::string data = fmt::format("{{\"samples\":{},\"interval\":{},\"instructions\":{},\"seconds\":{:.6f},\n\"functions\":[", m_samples, m_spec.interval, core.retired(),
                                 static_cast<double>(m_machine.clock().now()) / 1e9);
  for (usize i = 0; i < std::min(sorted.size(), kFunctionsListed); ++i) {
    auto& [name, function] = sorted[i];
    data += fmt::format("{}{{\"n\":{},\"self\":{},\"total\":{},\"tiers\":[{}],\"code\":[", i ? ",\n" : "", json_text(name), function->self, function->total,
                        fmt::join(function->by_tier, ","));
    if (i < kFunctionsShown) {
      std::ranges::sort(function->addresses);
      for (usize k = 0; k < std::min(function->addresses.size(), kInstructionsShown); ++k) {
        const u64 linear = function->addresses[k];
        const Address& address = m_addresses[linear];
        std::string text = "(unreadable)", bytes;
        if (address.code_size) {
          const auto insn = Disassembler(static_cast<CodeSize>(address.insn_size)).one({address.code.data(), address.code_size}, linear, m_name_of);
          text = insn.text;
          bytes = hex_bytes({address.code.data(), std::min(insn.length, address.code_size)});
        }
        data += fmt::format("{}[\"{:#x}\",{},{},{},[{}],{},{},{},{},{}]", k ? "," : "", linear, address.samples, json_text(bytes), json_text(text),
                            fmt::join(address.by_tier, ","), address.baseline.hot, address.baseline.cold, address.baseline.handler ? 1 : 0, address.region.bytes, address.region.insns);
      }
    }
    data += "]}";
  }
  data += "],\n\"flame\":";
  put_node(data, "all", root, std::max<u64>(1, root.samples / 5000));
  data += ",\n\"modes\":[";
  bool first = true;
  for (const auto& [name, samples] : m_modes) data += fmt::format("{}[{},{}]", std::exchange(first, false) ? "" : ",", json_text(name), samples);
  data += "],\n\"moments\":[";
  m_moments.push_back(moment());
  for (usize i = 0; i < m_moments.size(); ++i) {
    const Moment& m = m_moments[i];
    data += fmt::format("{}[{},{},{},{},{},{},{},{},{}]", i ? "," : "", m.count, m.region_insns, m.single_insns, m.translated, m.callouts, m.walks, m.stale, m.exceptions,
                        m.interrupts);
  }
  data += "],\n\"callouts\":[";
  std::vector<std::pair<u64, std::string>> callouts;
  for (usize row = 0; row < core.counters.callouts.size(); ++row)
    if (core.counters.callouts[row])
      callouts.emplace_back(core.counters.callouts[row], describe_row(opcode_rows()[row]));
  std::ranges::sort(callouts, std::greater());
  for (usize i = 0; i < std::min<usize>(callouts.size(), 30); ++i) data += fmt::format("{}[{},{}]", i ? "," : "", json_text(callouts[i].second), callouts[i].first);
  data += fmt::format("],\n\"walks\":{},\n\"walkedPages\":{},\n\"overwriters\":{},\n\"overwrittenPages\":{}}}", by_function(m_walks), by_page(m_walked_pages, false),
                      by_function(m_overwriters), by_page(m_overwritten_pages, true));
  std::string page(profile_page());
  constexpr std::string_view kPlace = "/*DATA*/null";
  page.replace(page.find(kPlace), kPlace.size(), data);
  return page;
}

Result<void> Profile::open() {
  m_file.reset(std::fopen(m_spec.file.c_str(), "we"));
  if (!m_file) return failure(fmt::format("-profile: cannot create {}: {}", m_spec.file, std::strerror(errno)));
  return {};
}

Result<void> Profile::write() {
  const std::string text = page();
  if (std::fwrite(text.data(), 1, text.size(), m_file.get()) != text.size() || std::fflush(m_file.get()) != 0)
    return failure(fmt::format("-profile: cannot write {}: {}", m_spec.file, std::strerror(errno)));
  return {};
}

}  // namespace vellum
