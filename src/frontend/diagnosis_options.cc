// Options of logs, traces, profiles and runs that can be repeated.
#include "frontend/option_groups.h"

#include <algorithm>

#include "frontend/option_text.h"
#include "state/log.h"

namespace vellum {

namespace {

Result<void> option_log(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") {
    std::string text = "Log items (separate several by commas):\n";
    for (const auto& item : log_item_names()) text += fmt::format("  {:<14}{}\n", item.name, item.help);
    return show(parsing, text);
  }
  std::vector<std::string_view> names;
  for (const auto& item : log_item_names()) names.push_back(item.name);
  for (std::string_view rest = value; !rest.empty();) {
    const auto comma = rest.find(',');
    const auto name = rest.substr(0, comma);
    rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
    if (std::ranges::find(names, name) == names.end())
      return failure(fmt::format("-d: unknown log item '{}'{}", name, suggestion(name, names)));
  }
  if (!parsing.options.log_items.empty()) parsing.options.log_items += ',';
  parsing.options.log_items += value;
  return {};
}
Result<void> option_statistics(OptionParsing& parsing, std::string_view) { return parsing.options.statistics = parsing.options.engine.count_tiers = true, Result<void>{}; }
Result<void> option_state_hash(OptionParsing& parsing, std::string_view value) {
  auto& counts = parsing.options.hash_counts;
  while (true) {
    const auto comma = value.find(',');
    const auto count = parse_number("-state-hash", value.substr(0, comma), u64{1} << 62);
    if (!count) return std::unexpected(count.error());
    if (!counts.empty() && *count <= counts.back()) return failure(fmt::format("-state-hash: {} does not come after {}", *count, counts.back()));
    counts.push_back(*count);
    if (comma == value.npos) return {};
    value.remove_prefix(comma + 1);
  }
}
Result<void> option_record(OptionParsing& parsing, std::string_view value) { return parsing.options.record = value, Result<void>{}; }
Result<void> option_replay(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "end"};
  static constexpr std::string_view kEnds[] = {"quit", "stop"};
  const auto values = KeyedValues::parse("-replay", value, "file", kKeys);
  if (!values) return std::unexpected(values.error());
  parsing.options.replay = values->text("file");
  if (parsing.options.replay.empty()) return failure("-replay: the name of the recording is missing");
  const auto end = parse_choice("-replay: end", values->text("end", "quit"), kEnds);
  if (!end) return std::unexpected(end.error());
  parsing.options.stop_at_replay_end = *end == 1;
  return {};
}
Result<void> option_trace(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, trace_help());
  auto spec = parse_trace_spec(value);
  if (!spec) return std::unexpected(spec.error());
  parsing.options.trace = std::move(*spec);
  return {};
}
Result<void> option_profile(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"file", "every"};
  const auto values = KeyedValues::parse("-profile", value, "file", kKeys);
  if (!values) return std::unexpected(values.error());
  ProfileSpec spec{.file = values->text("file")};
  if (spec.file.empty()) return failure("-profile: the name of the file is missing");
  const auto every = parse_number("-profile: every", values->text("every", fmt::format("{}", spec.interval)), u64{1} << 40);
  if (!every) return std::unexpected(every.error());
  constexpr u64 kLeast = 100;
  if (*every < kLeast) return failure(fmt::format("-profile: every={} is too often; it is {} instructions at least", *every, kLeast));
  spec.interval = *every;
  parsing.options.profile = std::move(spec);
  parsing.options.engine.count_tiers = true;
  return {};
}
Result<void> option_history(OptionParsing& parsing, std::string_view value) {
  const auto size = parse_size("-history", std::string(value), 20);
  if (!size) return std::unexpected(size.error());
  constexpr u64 kSmallest = u64{16} << 20, kGreatest = u64{256} << 30;
  if (*size < kSmallest || *size > kGreatest) return failure(fmt::format("-history: '{}' is out of range; it is 16M to 256G", value));
  parsing.options.history = *size;
  return {};
}
Result<void> option_inject_delay(OptionParsing& parsing, std::string_view value) {
  constexpr u64 kLongest = 1'000'000;
  const auto delay = parse_number("-inject-delay", value, kLongest);
  if (!delay) return std::unexpected(delay.error());
  parsing.options.engine.inject_delay = *delay;
  return {};
}
Result<void> option_perf_map(OptionParsing& parsing, std::string_view) { return parsing.options.engine.perf_map = true, Result<void>{}; }
Result<void> option_jit_dump(OptionParsing& parsing, std::string_view) { return parsing.options.engine.jit_dump = true, Result<void>{}; }
Result<void> option_log_file(OptionParsing& parsing, std::string_view value) { return parsing.options.log_file = value, Result<void>{}; }

constexpr OptionRow kRows[] = {
    {"-d", "ITEM[,ITEM...]", "log these items (-d help lists them)", option_log},
    {"-D", "FILE", "write the log to a file instead of the terminal", option_log_file},
    {"-stats", "", "print at the end what ran where, and what it cost", option_statistics},
    {"-state-hash", "N[,N...]", "print a hash of the machine's whole state after these numbers of\ninstructions, and end behind the last; with -clock instructions", option_state_hash},
    {"-record", "FILE", "record all input with its time, so that the run can be replayed;\nwhat the guest writes to drives is forgotten at the end", option_record},
    {"-replay", "FILE[,end=quit|stop]", "run again what was recorded, with the same options; afterwards\nend, or stop for the monitor", option_replay},
    {"-history", "SIZE", "use this much memory for snapshots to go back to in time (monitor:\nreverse-step, goto); with -clock instructions, -record or -replay", option_history},
    {"-trace", "EVENT[,EVENT...][,KEY=VALUE...]", "write these events to a file (-trace help lists them and the filters)", option_trace},
    {"-profile", "FILE.html[,every=N]", "sample the guest every N instructions (default 100003), and write\na page with its hot functions, call stacks and tiers at the end", option_profile},
    {"-inject-delay", "N", "for tests: the compiler's thread waits up to N microseconds at\nrandom, now and then twenty times as long", option_inject_delay},
    {"-perfmap", "", "name translated code for perf report in /tmp/perf-PID.map", option_perf_map},
    {"-jitdump", "", "write translated code for perf inject --jit to jit-PID.dump", option_jit_dump},
};

}  // namespace

std::span<const OptionRow> diagnosis_options() { return kRows; }

Result<void> finish_diagnosis_options(OptionParsing& parsing) {
  Options& options = parsing.options;
  if (!options.record.empty() && !options.replay.empty()) return failure("-record and -replay do not go together");
  const bool repeatable = options.clock == ClockMode::Instructions || !options.record.empty() || !options.replay.empty();
  if (!options.hash_counts.empty() && !repeatable)
    return failure("-state-hash goes with -clock instructions, -record or -replay only: otherwise no two runs are the same");
  if (options.history && !repeatable)
    return failure("-history goes with -clock instructions, -record or -replay only: otherwise nothing can be run again as it was");
  // An image must be at a replay what it was at the start of the recording.
  if (!options.record.empty() || !options.replay.empty() || options.history) parsing.snapshot = true;
  return {};
}

}  // namespace vellum
