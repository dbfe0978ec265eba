// Options of vellum compare, and the two machines that it makes.
#include "frontend/compare_command.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "debug/compare.h"
#include "debug/qemu_compare.h"
#include "debug/reproducer.h"
#include "frontend/host_files.h"
#include "frontend/message.h"
#include "frontend/option_text.h"
#include "frontend/options.h"
#include "frontend/session.h"

namespace vellum {

namespace {

constexpr int kEqual = 0, kStartError = 1, kUsageError = 2, kDifferent = 4;
constexpr u64 kUsualInterval = 1'000'000, kGreatestReproducer = u64{64} << 20;

constexpr std::string_view kHelp =
    "usage: vellum compare [options] -- <options of the machine>\n"
    "       vellum compare [options] -- <options of one machine> -- <options of another>\n"
    "       vellum compare -qemu unix:PATH|tcp:[HOST]:PORT [options] -- <options of the machine>\n"
    "       vellum compare -reproduce FILE [-engines A,B] [-cpu MODEL] [-inject-fault [region:]N]\n"
    "Runs the same guest under two engines in lockstep, compares their complete states, and finds the first instruction behind\n"
    "which they differ. Of two machines with different images or CPUs the CPUs are compared. Time is that of instructions; what\n"
    "the guest writes to drives is forgotten, serial lines lead nowhere. Input comes from a recording, when the machine's options\n"
    "have -replay.\n"
    "\n"
    "  -engines A,B        interpreter, baseline, llvm or tiered (default interpreter,tiered)\n"
    "  -cpu MODEL          the second machine is the same, but with this CPU\n"
    "  -every N            compare after so many instructions (default 1000000)\n"
    "  -until N            end after so many instructions (default: when the guest does)\n"
    "  -differences N      of two machines: go on to the Nth difference, as long as both are in the same place (default 1)\n"
    "  -hot N              the tiered engine compiles a region when a block was entered N times, and waits for it (default: as usual)\n"
    "  -report FILE        write the report there instead of to standard output\n"
    "  -reproducer FILE    write what is needed to see the difference again without the machine\n"
    "  -reproduce FILE     run such a file under both engines\n"
    "  -inject-fault [baseline:|region:]N  the second engine translates one block wrongly: the Nth that can be made wrong in the\n"
    "                      baseline (default), or a block of the Nth region of llvm or tiered\n"
    "\n"
    "Against QEMU, which waits for a debugger (qemu-system-x86_64 -S -gdb unix:PATH,server,nowait ...):\n"
    "  -qemu WHERE         step through the same code there, by its gdb stub, and compare the registers behind each instruction\n"
    "  -from ADDRESS       begin where both come to this linear address first (default: at the reset vector)\n"
    "  -memory ADDRESS,SIZE  make this physical memory the same at the beginning, and compare it too (may be given several times)\n"
    "  -every N            compare memory after so many instructions (default 1)\n"
    "Exit status: 0 when there was no difference, 4 when there was one.\n";

constexpr std::string_view kFaultedTiers[] = {"baseline", "region"};  // in the order of the enum

struct CompareOptions {
  Engine engines[2] = {Engine::Interpreter, Engine::Tiered};
  bool engines_given = false;
  FaultedTier faulted_tier = FaultedTier::Baseline;
  u64 interval = 0, limit = ~u64{0}, fault = 0, hot = 0, differences = 1;  // interval 0: the usual one
  std::string report, reproducer, reproduce, cpu, qemu;
  std::optional<u64> from;
  std::vector<QemuCompareOptions::Range> memory;
  std::vector<std::string_view> machine, other;
  bool help = false;
};

Result<QemuCompareOptions::Range> parse_range(std::string_view text) {
  constexpr u64 kMostAddress = u64{1} << 52, kMostSize = 1 << 20;
  const auto comma = text.find(',');
  if (comma == text.npos) return failure(fmt::format("-memory: '{}': write an address and a size, as in 0x7c00,512", text));
  const auto address = parse_number("-memory", text.substr(0, comma), kMostAddress), size = parse_number("-memory", text.substr(comma + 1), kMostSize);
  if (!address) return std::unexpected(address.error());
  if (!size) return std::unexpected(size.error());
  return QemuCompareOptions::Range{*address, *size};
}

Result<CompareOptions> parse(std::span<const std::string_view> arguments) {
  CompareOptions options;
  static constexpr std::string_view kNames[] = {"-engines", "-every", "-until", "-hot", "-report", "-reproducer", "-reproduce", "-inject-fault", "-cpu", "-differences",
                                                 "-qemu", "-from", "-memory", "-help", "--"};
  for (usize i = 0; i < arguments.size(); ++i) {
    std::string_view name = arguments[i];
    if (name == "--") {
      const auto first = arguments.begin() + static_cast<long>(i) + 1, second = std::find(first, arguments.end(), "--");
      options.machine.assign(first, second);
      if (second != arguments.end()) options.other.assign(second + 1, arguments.end());
      break;
    }
    if (name.starts_with("--")) name.remove_prefix(1);
    if (name == "-help" || name == "-h") return options.help = true, options;
    const auto chosen = parse_choice("vellum compare", name, kNames);
    if (!chosen) return std::unexpected(chosen.error());
    if (i + 1 == arguments.size()) return failure(fmt::format("{}: a value is missing", name));
    std::string_view value = arguments[++i];
    const auto number = [&](u64& target, u64 least) -> Result<void> {
      const auto parsed = parse_number(name, value, ~u64{0} >> 1);
      if (!parsed) return std::unexpected(parsed.error());
      if (*parsed < least) return failure(fmt::format("{}: '{}' is too small", name, value));
      target = *parsed;
      return {};
    };
    Result<void> done;
    if (name == "-engines") {
      const auto comma = value.find(',');
      if (comma == value.npos) return failure("-engines: write two engines, as in interpreter,tiered");
      for (unsigned side = 0; side < 2; ++side) {
        const auto engine = parse_choice(name, side ? value.substr(comma + 1) : value.substr(0, comma), engine_names());
        if (!engine) return std::unexpected(engine.error());
        options.engines[side] = static_cast<Engine>(*engine);
      }
      options.engines_given = true;
    } else if (name == "-every") done = number(options.interval, 1);
    else if (name == "-until") done = number(options.limit, 1);
    else if (name == "-hot") done = number(options.hot, 1);
    else if (name == "-inject-fault") {
      if (const auto colon = value.find(':'); colon != value.npos) {
        const auto tier = parse_choice(name, value.substr(0, colon), kFaultedTiers);
        if (!tier) return std::unexpected(tier.error());
        options.faulted_tier = static_cast<FaultedTier>(*tier);
        value = value.substr(colon + 1);
      }
      done = number(options.fault, 1);
    }
    else if (name == "-differences") done = number(options.differences, 1);
    else if (name == "-from") done = number(options.from.emplace(), 0);
    else if (name == "-cpu") options.cpu = value;
    else if (name == "-qemu") options.qemu = value;
    else if (name == "-memory") {
      const auto range = parse_range(value);
      if (!range) return std::unexpected(range.error());
      options.memory.push_back(*range);
    }
    else if (name == "-report") options.report = value;
    else if (name == "-reproducer") options.reproducer = value;
    else options.reproduce = value;
    if (!done) return std::unexpected(done.error());
  }
  if (options.faulted_tier == FaultedTier::Region && options.engines[1] < Engine::Llvm)
    return failure(fmt::format("-inject-fault: the {} engine has no regions; write -engines interpreter,llvm or interpreter,tiered", engine_names()[static_cast<usize>(options.engines[1])]));
  if (!options.qemu.empty() && (!options.other.empty() || !options.cpu.empty())) return failure("-qemu: there is one machine of Vellum's; write its options behind one --, without -cpu in front of it");
  if (options.qemu.empty() && (options.from || !options.memory.empty())) return failure("-from and -memory go with -qemu only");
  if (!options.cpu.empty() && !options.other.empty()) return failure("-cpu: write the CPU among the options of the second machine");
  // Two machines are run by the same engine, unless engines are asked for.
  if ((!options.cpu.empty() || !options.other.empty()) && !options.engines_given) options.engines[0] = options.engines[1];
  return options;
}

EngineOptions engine_options(const CompareOptions& options, unsigned side) {
  EngineOptions engine{.engine = options.engines[side]};
  if (options.hot) engine.hot_entries = static_cast<u32>(std::min<u64>(options.hot, ~u32{0})), engine.wait_for_compiler = true;
  if (side == 1) engine.inject_fault = options.fault, engine.faulted_tier = options.faulted_tier;
  return engine;
}

Result<void> write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file.is_open()) return failure(fmt::format("{}: cannot create the file: {}", path, std::strerror(errno)));
  file << text;
  file.close();
  if (!file) return failure(fmt::format("{}: cannot write the file: {}", path, std::strerror(errno)));
  return {};
}

// Before anything is compared, which may take long.
Result<void> check_writable(const CompareOptions& options) {
  for (const std::string& path : {options.report, options.reproducer}) {
    if (path.empty()) continue;
    const bool was_there = std::filesystem::exists(path);
    std::ofstream file(path, std::ios::binary | std::ios::app);
    if (!file.is_open()) return failure(fmt::format("{}: cannot create the file: {}", path, std::strerror(errno)));
    if (!was_there) std::filesystem::remove(path);
  }
  return {};
}

Result<int> reproduce(const CompareOptions& options) {
  const auto data = read_whole_file("-reproduce", options.reproduce, kGreatestReproducer);
  if (!data) return std::unexpected(data.error());
  const auto reproducer = Reproducer::parse({data->begin(), data->end()});
  if (!reproducer) return failure(fmt::format("-reproduce {}: {}", options.reproduce, reproducer.error().message));
  int status = kEqual;
  for (unsigned side = 0; side < 2; ++side) {
    EngineOptions engine = engine_options(options, side);
    auto own = *reproducer;
    if (side == 1 && !options.cpu.empty()) own.cpu_option = options.cpu;
    const auto differs = own.run(engine);
    if (!differs) return failure(fmt::format("-reproduce {}: {}", options.reproduce, differs.error().message));
    const std::string cpu = options.cpu.empty() ? "" : fmt::format(", -cpu {}", own.cpu_option);
    fmt::print("{}{}: {}\n{}", engine_names()[static_cast<usize>(engine.engine)], cpu,
               differs->empty() ? fmt::format("as expected behind {} instructions", reproducer->instructions) : "not as expected:", *differs);
    if (!differs->empty()) status = kDifferent;
  }
  return status;
}

// What a machine is to be when it is compared: without the host's time, files and terminal.
Result<Options> machine_options(const std::vector<std::string_view>& given_arguments) {
  const auto now = static_cast<u64>(std::time(nullptr));
  auto parsed = parse_options(given_arguments, now);
  if (!parsed) return std::unexpected(parsed.error());
  const auto* given = std::get_if<Options>(&*parsed);
  if (!given) return failure("the options of the machine ask for information only");
  Options machine = *given;
  if (!machine.record.empty() || !machine.gdb.empty()) return failure("-record and -gdb do not go with vellum compare");
  if (machine.replay.empty() && machine.clock != ClockMode::Instructions) {
    // What -clock instructions means for the date at the start, parse_options() knows.
    auto arguments = given_arguments;
    arguments.insert(arguments.end(), {"-clock", "instructions"});
    auto again = parse_options(arguments, now);
    if (!again) return std::unexpected(again.error());
    machine = std::get<Options>(*again);
  }
  machine.snapshot = true;
  machine.default_display = false;
  machine.displays.clear();
  machine.monitor.reset();
  machine.history = 0;
  machine.hash_counts.clear();
  machine.chardevs.clear();
  for (auto& drive : machine.drives)
    if (!drive.read_only) drive.snapshot = true;
  const CharacterSpec nowhere{.kind = CharacterSpec::Kind::Null};
  for (auto& line : machine.serial)
    if (line.kind != CharacterSpec::Kind::None) line = nowhere;
  if (machine.debug_console) machine.debug_console = nowhere;
  return machine;
}

// Session catches them for a run that is to end in good order, which this is none of.
void end_by_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
}

std::string cpu_option_of(const std::vector<std::string_view>& arguments) {
  std::string option = "max";
  for (usize i = 0; i + 1 < arguments.size(); ++i)
    if (arguments[i] == "-cpu" || arguments[i] == "--cpu") option = arguments[i + 1];
  return option;
}

// Where reports and reproducers go.
Result<int> tell(const CompareOptions& options, std::string report, const std::string& reproducer, const std::string& reproduce_with) {
  if (!options.reproducer.empty() && !reproducer.empty()) {
    if (auto written = write_file(options.reproducer, reproducer); !written) return std::unexpected(written.error());
    report += fmt::format("\nTo see it again: vellum compare -reproduce {} {}\n", options.reproducer, reproduce_with);
  }
  if (options.report.empty()) {
    fmt::print("{}", report);
    return kDifferent;
  }
  if (auto written = write_file(options.report, report); !written) return std::unexpected(written.error());
  fmt::print("{}", report.substr(0, report.find('\n') + 1));
  return kDifferent;
}

Result<int> compare(const CompareOptions& options) {
  const bool different = !options.cpu.empty() || !options.other.empty();
  auto other = options.other.empty() ? options.machine : options.other;
  if (!options.cpu.empty()) other.insert(other.end(), {"-cpu", options.cpu});
  std::unique_ptr<Session> sessions[2];
  Comparison::Side sides[2];
  for (unsigned side = 0; side < 2; ++side) {
    auto own = machine_options(side == 0 ? options.machine : other);
    if (!own) return std::unexpected(own.error());
    own->engine = engine_options(options, side);
    sides[side].code = std::make_shared<CodeKeeper>();
    own->engine.observers.push_back(sides[side].code);
    auto session = Session::create(*own, &Cpu::create);
    if (!session) return std::unexpected(session.error());
    sessions[side] = std::move(*session);
    sides[side].machine = &sessions[side]->machine();
    sides[side].optimizes = options.engines[side] == Engine::Llvm || options.engines[side] == Engine::Tiered;
    sides[side].name = engine_names()[static_cast<usize>(options.engines[side])];
  }
  end_by_signals();
  if (different) sides[0].name = "the first machine", sides[1].name = "the second machine";
  else if (options.engines[0] == options.engines[1]) sides[0].name += " (first)", sides[1].name += " (second)";
  if (sides[0].machine->ram().size() != sides[1].machine->ram().size())
    return failure("the two machines have different amounts of memory (-m, -bios): their states cannot be compared");
  if (sides[0].machine->config().clock != sides[1].machine->config().clock) return failure("the two machines have different clocks (-replay): they do not run in lockstep");

  Comparison comparison(sides[0], sides[1], cpu_option_of(options.machine));
  const u64 interval = options.interval ? options.interval : kUsualInterval;
  const auto find = [&] { return different ? comparison.run_different(options.limit, interval) : comparison.run(options.limit, interval); };
  auto found = find();
  if (!found) return std::unexpected(found.error());
  if (!*found) {
    fmt::print("{} and {} were the same all the time: {} instructions, {} comparisons of the complete state\n", sides[0].name, sides[1].name,
               comparison.compared(), comparison.comparisons());
    return kEqual;
  }
  std::string report, reproducer;
  for (u64 number = 1; *found; ++number) {
    if (number > 1) report += fmt::format("\n---- Difference {}\n", number);
    report += (*found)->report;
    if (reproducer.empty()) reproducer = (*found)->reproducer;
    if (number == options.differences || !(*found)->may_go_on) break;
    found = find();
    if (!found) return std::unexpected(found.error());
    if (!*found) report += fmt::format("\nThere are no more up to instruction {}.\n", comparison.compared());
  }
  const auto name = [&](unsigned side) { return engine_names()[static_cast<usize>(options.engines[side])]; };
  return tell(options, report, reproducer, fmt::format("-engines {},{}{}", name(0), name(1), different ? " -cpu " + cpu_option_of(other) : ""));
}

Result<int> compare_with_qemu(const CompareOptions& options) {
  auto own = machine_options(options.machine);
  if (!own) return std::unexpected(own.error());
  auto session = Session::create(*own, &Cpu::create);
  if (!session) return std::unexpected(session.error());
  end_by_signals();
  auto stub = GdbClient::connect(options.qemu);
  if (!stub) return failure("-qemu " + stub.error().message);
  QemuComparison comparison((*session)->machine(), **stub,
                            {.from = options.from, .memory = options.memory, .memory_interval = std::max<u64>(1, options.interval), .limit = options.limit,
                             .cpu_option = cpu_option_of(options.machine)});
  auto found = comparison.run();
  if (!found) return failure("-qemu " + found.error().message);
  const std::string taken_over = fmt::format("{} instructions were compared; behind {} of them, which read devices, time or the CPU's model, QEMU was given Vellum's registers\n",
                                             comparison.compared(), comparison.taken_over());
  if (*found) return tell(options, (*found)->report + "\n" + taken_over, (*found)->reproducer, "-engines interpreter,tiered");
  fmt::print("Vellum and QEMU were the same all the time, until: {}\n{}", comparison.end(), taken_over);
  if (const std::string names = comparison.untold(); !names.empty()) fmt::print("QEMU did not tell the values of these registers, which were not compared:{}\n", names);
  return kEqual;
}

}  // namespace

int run_compare(std::span<const std::string_view> arguments) {
  const auto options = parse(arguments);
  if (!options) {
    tell_user("{}", options.error().message);
    return kUsageError;
  }
  if (options->help) {
    fmt::print("{}", kHelp);
    return kEqual;
  }
  if (options->reproduce.empty() && options->machine.empty()) {
    tell_user("vellum compare: write the machine's options behind --, as in: vellum compare -- -m 256 -display none -kernel vmlinuz");
    return kUsageError;
  }
  if (const auto writable = check_writable(*options); !writable) {
    tell_user("{}", writable.error().message);
    return kStartError;
  }
  const auto status = !options->reproduce.empty() ? reproduce(*options) : !options->qemu.empty() ? compare_with_qemu(*options) : compare(*options);
  if (status) return *status;
  tell_user("{}", status.error().message);
  return kStartError;
}

}  // namespace vellum
