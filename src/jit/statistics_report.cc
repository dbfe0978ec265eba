// Counters of CPU and translator as a table.
#include "jit/statistics_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cpu/core.h"
#include "cpu/opcodes.h"
#include "jit/engine.h"
#include "jit/statistics.h"

namespace vellum {

namespace {

class Table {
 public:
  void heading(std::string_view text) { m_text += fmt::format("{}\n", text); }
  void line(std::string_view name, u64 number, std::string_view remark = "") {
    m_text += fmt::format("  {:<36}{:>18}{}{}\n", name, number, remark.empty() ? "" : "  ", remark);
  }
  void real(std::string_view name, double number, std::string_view remark = "") {
    m_text += fmt::format("  {:<36}{:>18.2f}{}{}\n", name, number, remark.empty() ? "" : "  ", remark);
  }
  const std::string& text() const { return m_text; }

 private:
  std::string m_text;
};

double ratio(u64 a, u64 b) { return b ? static_cast<double>(a) / static_cast<double>(b) : 0; }
std::string percent(u64 part, u64 whole) { return fmt::format("{:.1f} %", 100 * ratio(part, whole)); }

}  // namespace

std::string statistics_report(Cpu& cpu, const std::optional<HostTimes>& times) {
  const auto& core = static_cast<const CpuCore&>(cpu);
  const CpuCounters& counters = core.counters;
  const u64 retired = core.retired();
  const Statistics* statistics = engine_statistics(cpu);
  const u64 blocks_run = retired - std::min(retired, counters.single_insns);
  Table table;
  table.heading("Guest instructions");
  table.line("retired", retired);
  table.line("one by one in the interpreter", counters.single_insns, percent(counters.single_insns, retired));
  if (!statistics) {
    table.line("in blocks of the interpreter", blocks_run, percent(blocks_run, retired));
  } else if (!statistics->counts_tiers) {
    table.line("in translated code", blocks_run, percent(blocks_run, retired) + "; of which tier, -stats counts");
  } else {
    const u64 in_regions = std::min(statistics->region_insns_run, blocks_run);
    table.line("in code of the baseline", blocks_run - in_regions, percent(blocks_run - in_regions, retired));
    table.line("in code of the optimizing tier", in_regions, percent(in_regions, retired));
  }
  if (times) {
    table.heading("Time");
    table.real("wall, seconds", times->wall);
    table.real("CPU of all threads, seconds", times->cpu);
    table.real("MIPS by CPU time", times->cpu > 0 ? static_cast<double>(retired) / times->cpu / 1e6 : 0);
  }
  table.heading("Decoding");
  table.line("blocks", counters.blocks_decoded);
  table.line("instructions", counters.insns_decoded, fmt::format("{:.1f} per block", ratio(counters.insns_decoded, counters.blocks_decoded)));
  if (statistics) {
    const Statistics& t = *statistics;
    table.heading("Baseline");
    table.line("blocks translated", t.blocks);
    table.line("instructions in them", t.block_insns);
    table.line("of these, run by interpreter's handler", t.handler_insns, percent(t.handler_insns, t.block_insns));
    table.line("host code, bytes", t.block_bytes, fmt::format("{:.1f} per instruction", ratio(t.block_bytes, t.block_insns)));
    table.real("time, milliseconds", static_cast<double>(t.baseline_nanoseconds) / 1e6,
               fmt::format("{:.1f} ns per instruction", ratio(t.baseline_nanoseconds, t.block_insns)));
    table.line("exits linked", t.links);
    table.line("exits to other pages linked, and returns", t.site_links);
    table.line("blocks left to the interpreter at first", t.unproven_blocks, "their code is often rewritten");
    table.line("segments of the code cache evicted", t.segments_evicted);
    table.heading("Optimizing tier");
    table.line("traces of hot blocks", t.traces);
    table.line("regions chosen", t.regions_chosen);
    table.line("regions translated", t.regions);
    table.line("of these, by the quick code generator", t.quick_regions, percent(t.quick_regions, t.regions));
    table.line("regions promoted", t.regions_promoted, "their loops ran long, LLVM compiled them again");
    table.line("regions given up", t.regions_failed);
    table.line("segments of the code cache evicted", t.region_segments_evicted);
    table.line("instructions in them", t.region_insns);
    table.line("host code, bytes", t.region_bytes, fmt::format("{:.1f} per instruction", ratio(t.region_bytes, t.region_insns)));
    table.real("CPU time of the compiler, ms", static_cast<double>(t.compile_nanoseconds) / 1e6,
               fmt::format("{:.1f} us per instruction", ratio(t.compile_nanoseconds, t.region_insns) / 1e3));
    for (const auto& [what, nanoseconds] : {std::pair("of these, lifting", t.lift_nanoseconds), std::pair("simplifying", t.simplify_nanoseconds),
                                            std::pair("generating code", t.generate_nanoseconds)})
      table.real(what, static_cast<double>(nanoseconds) / 1e6, percent(nanoseconds, t.compile_nanoseconds));
  }
  table.heading("Events");
  table.line("page walks for data", counters.data_walks, "TLB misses");
  table.line("page walks for code", counters.fetch_walks);
  table.line("blocks invalidated", core.blocks.invalidated(), "their bytes were overwritten");
  table.line("blocks revived", core.blocks.revived(), "their bytes were written back");
  table.line("blocks evicted", core.blocks.evicted());
  table.line("exceptions delivered", counters.exceptions);
  table.line("interrupts delivered", counters.interrupts);

  std::vector<std::pair<u64, u16>> callouts;
  u64 all = 0;
  for (usize row = 0; row < counters.callouts.size(); ++row)
    if (counters.callouts[row]) {
      callouts.emplace_back(counters.callouts[row], static_cast<u16>(row));
      all += counters.callouts[row];
    }
  std::ranges::sort(callouts, [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  table.heading("Callouts");
  table.line("all", all, percent(all, retired));
  for (const auto& [count, row] : callouts) table.line(semantics_name(row), count, describe_row(opcode_rows()[row]));
  return table.text();
}

}  // namespace vellum
