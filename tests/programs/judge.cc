// Random programs on every engine at once, in lockstep with the interpreter: whatever differs in the state after any run
// fails the test, is reduced to the shortest run that shows it, and can be replayed.
#include <capstone/capstone.h>
#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "cpu/flags.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "jit/stencil.h"
#include "programs/machine.h"
#include "state/log.h"

namespace vellum::programs {

namespace {

using instructions::kCodeBase;
using instructions::kCodeSize;

// One of the machines that a program runs on. What costs much runs only one program in `every`.
struct Contender {
  std::unique_ptr<ProgramMachine> machine;
  unsigned every = 1;
  bool takes(u64 number) const { return number % every == 0; }
};
using Machines = std::vector<Contender>;  // the first is the interpreter

constexpr u64 kLongestEntry = 300;  // instructions behind one entry into a program
constexpr unsigned kFailuresShown = 5;

struct Options {
  u64 blocks = 1'000'000, seed = 1, skip = 0;  // `skip`: programs, to go on behind those of an earlier run
  std::string engines;
  std::string favoured = "integer,strings";  // groups of opcodes from which half of the instructions are
  u64 replay = 0;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  bool statistics = false;
};

// What one process did.
struct Totals {
  u64 programs = 0, blocks = 0, slices = 0, instructions = 0, failures = 0;
};

// What happens to one program, as its seed says; the machines are told the same.
class Script {
 public:
  Script(ProgramGenerator& generator, u64 seed) : m_random(seed) {
    // 64-bit code is what matters most; segments and small code have paths of their own.
    static constexpr Environment kChoices[] = {Environment::Long64, Environment::Long64, Environment::Long64, Environment::Flat32,
                                               Environment::Flat32, Environment::Segmented32, Environment::Segmented16};
    const Environment environment = kChoices[m_random.below(7)];
    m_supervisor = environment == Environment::Long64 && m_random.chance(25);
    m_program = generator.make(m_random.next(), environment);
    m_ports_allowed = m_random.chance(30);
    m_pages = m_random.chance(15) ? ProgramMachine::DataPages::WithDevice : ProgramMachine::DataPages::Memory;
    m_memory_seed = m_random.below(16);
  }

  const Program& program() const { return m_program; }
  u64 slices() const { return m_slices; }

  // Runs the whole script, or until the slice with number `stop`, which is run for `budget` instructions only. Empty, or
  // what differs; then slices() tells in which slice and last_budget() how long it was.
  std::string run(std::span<ProgramMachine* const> machines, u64 stop = ~u64{0}, u64 budget = 0) {
    Random random = m_random;
    m_slices = 0;
    for (ProgramMachine* machine : machines) machine->load(m_program, m_memory_seed, m_pages);
    for (const u16 block : m_program.blocks) {
      ProgramMachine::Entry entry;
      entry.state_seed = random.next() >> 16;
      entry.code_offset = block;
      entry.alias = random.chance(25);
      entry.supervisor = m_supervisor;
      entry.rflags = 0x202 | (random.next() & kArithmeticFlags) | (random.chance(15) ? u32{kDf} : 0) | (m_ports_allowed ? u32{kIopl} : 0) |
                     (random.chance(2) ? u32{kTf} : 0) | (random.chance(3) ? u32{kAc} : 0);
      for (unsigned count = random.below(8); count > 0; --count)
        entry.resume.push_back(m_program.blocks[random.below(static_cast<u32>(m_program.blocks.size()))]);
      for (ProgramMachine* machine : machines) machine->enter(entry);
      u64 left = kLongestEntry;
      while (left > 0) {
        disturb(random, machines);
        m_last_budget = 1 + (random.chance(25) ? random.below(4) : random.chance(40) ? random.below(40) : random.below(200));
        const bool last = m_slices == stop;
        if (last) m_last_budget = budget;
        const auto expected = machines[0]->run(m_last_budget);
        for (usize i = 1; i < machines.size(); ++i) {
          const auto got = machines[i]->run(m_last_budget);
          std::string text = machines[i]->difference(*machines[0]);
          if (got.exit != expected.exit) text += fmt::format(" exit {} not {}", static_cast<int>(got.exit), static_cast<int>(expected.exit));
          if (got.retired != expected.retired) text += fmt::format(" retired {} not {}", got.retired, expected.retired);
          if (!text.empty()) return machines[i]->name() + ":" + text;
        }
        if (last) return {};
        ++m_slices;
        left -= std::min(left, m_last_budget);
        if (expected.exit != Exit::BudgetSpent) break;
      }
    }
    for (usize i = 1; i < machines.size(); ++i)
      if (const std::string text = machines[i]->difference(*machines[0], ProgramMachine::Depth::AllMemory); !text.empty())
        return machines[i]->name() + ", at the end:" + text;
    return {};
  }
  u64 last_budget() const { return m_last_budget; }

 private:
  // Interrupts, DMA into code and data, and other pages behind the same addresses.
  void disturb(Random& random, std::span<ProgramMachine* const> machines) {
    if (!random.chance(18)) return;
    switch (random.below(6)) {
      case 0: case 1:
        for (ProgramMachine* machine : machines) machine->raise_interrupt();
        break;
      case 2: {
        std::vector<u8> bytes(1 + random.below(random.chance(80) ? 12 : 200));
        const u64 offset = random.below(static_cast<u32>(kCodeSize * 2 - bytes.size()));
        for (u8& byte : bytes) byte = random.chance(50) ? 0x90 : static_cast<u8>(random.next());
        for (ProgramMachine* machine : machines) machine->write_memory(ProgramMachine::kCodePages + offset, bytes);
        break;
      }
      case 3: {  // what the program was, again
        const u64 offset = random.below(static_cast<u32>(kCodeSize) - 600);
        for (ProgramMachine* machine : machines) machine->write_memory(ProgramMachine::kCodePages + offset, std::span(m_program.code).subspan(offset, 600));
        break;
      }
      case 4: {
        std::vector<u8> bytes(1 + random.below(40));
        for (u8& byte : bytes) byte = static_cast<u8>(random.next());
        const u64 offset = random.below(static_cast<u32>(instructions::kDataSize - bytes.size()));
        for (ProgramMachine* machine : machines) machine->write_memory(ProgramMachine::kDataPages + offset, bytes);
        break;
      }
      default: {
        const u64 linear = (random.chance(50) ? kCodeBase : kCodeAlias) + (u64{random.below(2)} << 12);
        const unsigned page = random.below(ProgramMachine::kCodePageCount);
        const bool all = random.chance(50);
        for (ProgramMachine* machine : machines) machine->map_code_page(linear, page, all);
        break;
      }
    }
  }

  Random m_random;
  Program m_program;
  bool m_supervisor = false, m_ports_allowed = false;
  ProgramMachine::DataPages m_pages = ProgramMachine::DataPages::Memory;
  u32 m_memory_seed = 0;
  u64 m_slices = 0, m_last_budget = 0;
};

class Disassembler {
 public:
  Disassembler() {
    cs_open(CS_ARCH_X86, CS_MODE_16, &m_handle[0]);
    cs_open(CS_ARCH_X86, CS_MODE_32, &m_handle[1]);
    cs_open(CS_ARCH_X86, CS_MODE_64, &m_handle[2]);
  }
  ~Disassembler() {
    for (csh& handle : m_handle) cs_close(&handle);
  }
  Disassembler(const Disassembler&) = delete;
  std::string at_rip(ProgramMachine& machine) {
    const CpuState& s = machine.core().s;
    const std::vector<u8> bytes = machine.code_at_rip();
    const unsigned mode = s.code64() ? 2 : s.segment[kCs].big() ? 1 : 0;
    cs_insn* insn = nullptr;
    std::string text = fmt::format("{:x}: ", s.rip);
    if (cs_disasm(m_handle[mode], bytes.data(), bytes.size(), s.rip, 1, &insn)) {
      for (unsigned i = 0; i < insn->size; ++i) text += fmt::format("{:02x}", insn->bytes[i]);
      text += fmt::format("  {} {}", insn->mnemonic, insn->op_str);
      cs_free(insn, 1);
    }
    return text;
  }

 private:
  csh m_handle[3];
};

// The shortest run of the failing slice that still shows a difference, and what the interpreter executes in it.
void explain(Script& script, std::span<ProgramMachine* const> machines, u64 seed, const std::string& difference) {
  const u64 slice = script.slices(), length = script.last_budget();
  std::string report = fmt::format("FAIL --replay {} | {} | slice {} of {} instructions |{}\n", seed,
                                   environment_name(script.program().environment), slice, length, difference);
  u64 shortest = length;
  std::string first = difference;
  for (u64 budget = 1; budget < length; ++budget) {
    const std::string text = script.run(machines, slice, budget);
    if (text.empty()) continue;
    shortest = script.slices() == slice ? budget : length;
    first = text;
    break;
  }
  report += fmt::format("  first after {} instructions:{}\n", shortest, first);
  ProgramMachine& alone = *machines[0];
  Disassembler disassembler;
  script.run(machines.first(1), slice, 0);
  for (u64 i = 0; i < shortest; ++i) {
    report += fmt::format("    {:3} {:06x} {}\n", i + 1, read_rflags(alone.core().s), disassembler.at_rip(alone));
    if (alone.run(1).exit != Exit::BudgetSpent) break;
  }
  fmt::print("{}        {}\n", report, disassembler.at_rip(alone));
  std::fflush(stdout);
}

// Of these groups, or of all if none are named.
std::vector<u16> rows_of(const CpuModel& model, const std::string& groups) {
  std::vector<u16> rows;
  u16 index = 0;
  const auto group = [&](usize count, std::string_view name) {
    const bool chosen = groups.empty() || fmt::format(",{},", groups).find(fmt::format(",{},", name)) != std::string::npos;
    for (usize i = 0; i < count; ++i, ++index) {
      const RowSpec& row = opcode_rows()[index];
      if (!model.has(row.feature) || !chosen) continue;
      const Flow flow = interpreter_row(index).flow;
      if (flow == Flow::Direct || flow == Flow::Conditional || flow == Flow::Indirect) continue;  // the generator's own
      rows.push_back(index);
    }
  };
#define VELLUM_GROUP(name) group(interpreter_handlers_##name().size(), #name);
  VELLUM_OPCODE_GROUPS(VELLUM_GROUP)
#undef VELLUM_GROUP
  return rows;
}

Machines make_machines(const CpuModel& model, const std::string& engines) {
  Machines machines;
  const auto names = engine_names();
  const auto add = [&](Engine engine, std::string_view variant, u64 code_cache_size, u32 hot_entries, unsigned every, bool waits = false,
                       CodeGenerator generator = CodeGenerator::Fitting, u64 passes_until_promoted = EngineOptions().passes_until_promoted,
                       X87Code x87_code = X87Code::Fitting) {
    const std::string_view name = names[static_cast<usize>(engine)];
    if (!engines.empty() && engines.find(name) == std::string::npos) return;
    const EngineOptions options{.engine = engine, .code_cache_size = code_cache_size, .hot_entries = hot_entries,
                                .generator = generator, .x87_code = x87_code, .passes_until_promoted = passes_until_promoted, .wait_for_compiler = waits};
    machines.push_back({std::make_unique<ProgramMachine>(std::string(name) + std::string(variant), model, options), every});
  };
  machines.push_back({std::make_unique<ProgramMachine>("interpreter", model, EngineOptions{.engine = Engine::Interpreter})});
  // Each also with a code cache that fills up again and again. Programs are short, so little makes their code hot; but one
  // that compiles nearly all of it takes half a second for each.
  constexpr u64 kLarge = u64{4} << 20, kMedium = u64{256} << 10, kSmall = u64{32} << 10;
  constexpr u32 kSoon = 3, kWhenRepeated = 80;
  add(Engine::Baseline, "", kLarge, 0, 1);
  add(Engine::Baseline, ", small code cache", kSmall, 0, 1);
  if (have_optimizer()) {
    add(Engine::Llvm, "", kLarge, kWhenRepeated, 1);
    add(Engine::Llvm, ", nearly all code hot", kLarge, kSoon, 64);
    const u64 kNever = EngineOptions().passes_until_promoted;
    if (kHasQuickGenerator) {
      add(Engine::Llvm, ", the host's x87", kLarge, kSoon, 64, false, CodeGenerator::Fitting, kNever, X87Code::Host);
      add(Engine::Tiered, ", quick generator, the host's x87", kLarge, kWhenRepeated, 2, true, CodeGenerator::Quick, kNever, X87Code::Host);
      add(Engine::Tiered, ", quick generator, the host's x87, nearly all code hot", kLarge, kSoon, 32, true, CodeGenerator::Quick, kNever, X87Code::Host);
    }
    add(Engine::Llvm, ", small code cache", kSmall, kSoon, 64);
    add(Engine::Tiered, "", kLarge, kSoon, 1);
    add(Engine::Tiered, ", small code cache", kMedium, kSoon, 64);
    add(Engine::Tiered, ", promoting soon", kLarge, kSoon, 32, true, CodeGenerator::Fitting, 0);
    // In the background compiling is seldom done before a program ends.
    add(Engine::Tiered, ", waiting for regions", kLarge, kWhenRepeated, 8, true);
    add(Engine::Tiered, ", quick generator", kLarge, kWhenRepeated, 1, true, CodeGenerator::Quick);
    add(Engine::Tiered, ", quick generator, nearly all code hot", kLarge, kSoon, 16, true, CodeGenerator::Quick);
  }
  machines.push_back({std::make_unique<ProgramMachine>("interpreter, single steps", model, EngineOptions{.engine = Engine::Interpreter},
                                                       ProgramMachine::Pace::SingleSteps), 8});
  return machines;
}

void print_statistics(const Machines& machines) {
  for (const auto& [machine, every] : machines)
    if (const Statistics* statistics = engine_statistics(machine->core()))
      fmt::print("{}: {} blocks, {} regions of {} instructions, compiled in {:.1f} s\n", machine->name(), statistics->blocks, statistics->regions,
                 statistics->region_insns, static_cast<double>(statistics->compile_nanoseconds) * 1e-9);
}

// Every `options.jobs`th program, beginning with number `job`.
Totals run_job(const Options& options, unsigned job) {
  CpuModel model = *parse_cpu_model("max");
  model.features.set(static_cast<usize>(Feature::Base));
  const Machines machines = make_machines(model, options.engines);
  ProgramOptions program_options;
  program_options.rows = rows_of(model, "");
  program_options.favoured = rows_of(model, options.favoured);
  if (program_options.favoured.empty()) throw std::runtime_error("no group of opcodes is called " + options.favoured);
  ProgramGenerator generator(model, {}, program_options);

  Totals totals;
  const u64 share = (options.blocks + options.jobs - 1) / options.jobs;
  std::vector<ProgramMachine*> chosen;
  for (u64 number = options.skip + job; totals.blocks < share && totals.failures < kFailuresShown; number += options.jobs) {
    const u64 seed = options.replay ? options.replay : options.seed * 0x100000001 + number;
    chosen.clear();
    for (const Contender& contender : machines)
      if (options.replay || contender.takes(totals.programs)) chosen.push_back(contender.machine.get());
    Script script(generator, seed);
    ++totals.programs;
    const std::string difference = script.run(chosen);
    totals.blocks += script.program().blocks.size();
    totals.slices += script.slices();
    if (!difference.empty()) {
      ++totals.failures;
      explain(script, chosen, seed, difference);
    }
    if (options.replay) break;
  }
  totals.instructions = machines[0].machine->core().retired();
  if (options.statistics) print_statistics(machines);
  return totals;
}

// In processes of their own: engines keep what they use close to the program's text, and a crash shows which one it was.
int run(Options options) {
  g_log_mask = 0;  // random code asks for things that no CPU has
  if (options.replay) options.jobs = 1;
  const auto started = std::chrono::steady_clock::now();
  int results[2];
  if (pipe(results) != 0) throw std::runtime_error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  std::fflush(stdout);
  for (unsigned job = 0; job < options.jobs; ++job) {
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
    if (child > 0) continue;
    const Totals totals = run_job(options, job);
    std::fflush(stdout);
    const bool told = write(results[1], &totals, sizeof(totals)) == sizeof(totals);
    _exit(told ? 0 : 2);
  }
  close(results[1]);
  Totals sum, one;
  unsigned finished = 0;
  for (; read(results[0], &one, sizeof(one)) == sizeof(one); ++finished) {
    sum.programs += one.programs;
    sum.blocks += one.blocks;
    sum.slices += one.slices;
    sum.instructions += one.instructions;
    sum.failures += one.failures;
  }
  unsigned broken = options.jobs - finished;
  for (int status; wait(&status) > 0;)
    if (WIFSIGNALED(status)) fmt::print("a process ended by signal {} ({})\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  fmt::print("seed {}: {} programs, {} blocks, {} runs, {} instructions on each engine in {:.1f} s, {} processes; {} programs differ\n", options.seed,
             sum.programs, sum.blocks, sum.slices, sum.instructions, seconds, options.jobs, sum.failures);
  if (broken) fmt::print("{} processes did not finish\n", broken);
  return sum.failures || broken ? 1 : 0;
}

int main_checked(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc || !name.starts_with("--"))
      throw std::runtime_error("usage: program-judge [--blocks N] [--seed N] [--skip PROGRAMS] [--engines A,B] [--favour GROUP,...] [--jobs N] [--stencils portable] [--statistics 1] [--replay SEED]");
    const std::string value = argv[i + 1];
    if (name == "--blocks") options.blocks = std::stoull(value);
    else if (name == "--seed") options.seed = std::stoull(value);
    else if (name == "--skip") options.skip = std::stoull(value);
    else if (name == "--engines") options.engines = value;
    else if (name == "--favour") options.favoured = value;
    else if (name == "--stencils") use_stencil_set(value == "portable" ? StencilSet::Portable : stencil_set());
    else if (name == "--jobs") options.jobs = std::max(1u, static_cast<unsigned>(std::stoul(value)));
    else if (name == "--statistics") options.statistics = value != "0";
    else if (name == "--replay") options.replay = std::stoull(value);
    else throw std::runtime_error("unknown option " + std::string(name));
  }
  return run(options);
}

}  // namespace

}  // namespace vellum::programs

int main(int argc, char** argv) {
  try {
    return vellum::programs::main_checked(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "program-judge: {}\n", error.what());
    return 2;
  }
}
