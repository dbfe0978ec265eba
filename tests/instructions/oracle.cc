// The instruction test: random cases of every user-mode row, run by the host's CPU and by the interpreter, compared.
// Whole programs, too, that begin at random blocks and end by themselves. Also writes recordings of what silicon did, and replays them on hosts that are no x86.
#include <capstone/capstone.h>
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "instructions/emulated.h"
#include "instructions/generator.h"
#include "instructions/native.h"
#include "jit/stencil.h"
#include "programs/program.h"

namespace vellum::instructions {

namespace {

constexpr u32 kComparedFlags = 0x3e7ed5;  // all but TF, RF, and bit 1
constexpr int kSkipStatus = 77;           // meson: the test does not apply here

struct Exceptions {
  std::map<std::string, u32, std::less<>> flags, fsw, mxcsr;
  std::map<std::string, bool, std::less<>> skip, small, w0, faults, stricter, wraps, masked;

  // Whether something that the instruction leaves behind is not compared.
  bool applies_to(std::string_view mnemonic) const {
    return flags.contains(mnemonic) || fsw.contains(mnemonic) || mxcsr.contains(mnemonic) || drops_result(mnemonic);
  }
  // Whether the outcome is not compared at all in some cases.
  bool drops_result(std::string_view mnemonic) const {
    return faults.contains(mnemonic) || stricter.contains(mnemonic) || wraps.contains(mnemonic) || masked.contains(mnemonic);
  }
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

u32 flag_bits(const std::string& names) {
  u32 bits = 0;
  for (const std::string& name : split(names)) {
    if (name == "CF")
      bits |= kCf;
    else if (name == "PF")
      bits |= kPf;
    else if (name == "AF")
      bits |= kAf;
    else if (name == "ZF")
      bits |= kZf;
    else if (name == "SF")
      bits |= kSf;
    else if (name == "OF")
      bits |= kOf;
    else
      throw std::runtime_error("unknown flag " + name);
  }
  return bits;
}

Exceptions read_exceptions(const std::string& path) {
  Exceptions exceptions;
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  for (std::string line; std::getline(file, line);) {
    std::stringstream words(line);
    std::string kind, host, mnemonics, flags;
    if (!(words >> kind) || kind[0] == '#') continue;
    words >> host >> mnemonics >> flags;
    if (host != "any" && (host == "amd") != host_is_amd()) continue;
    for (const std::string& mnemonic : split(mnemonics)) {
      if (kind == "flags")
        exceptions.flags[mnemonic] |= flag_bits(flags);
      else if (kind == "small")
        exceptions.small[mnemonic] = true;
      else if (kind == "w0")
        exceptions.w0[mnemonic] = true;
      else if (kind == "fsw")
        exceptions.fsw[mnemonic] |= static_cast<u32>(std::stoul(flags, nullptr, 16));
      else if (kind == "mxcsr")
        exceptions.mxcsr[mnemonic] |= static_cast<u32>(std::stoul(flags, nullptr, 16));
      else if (kind == "masked")
        exceptions.masked[mnemonic] = true;
      else if (kind == "stricter")
        exceptions.stricter[mnemonic] = true;
      else if (kind == "wraps")
        exceptions.wraps[mnemonic] = true;
      else if (kind == "faults")
        exceptions.faults[mnemonic] = true;
      else if (kind == "skip")
        exceptions.skip[mnemonic] = true;
      else
        throw std::runtime_error("unknown kind of exception: " + kind);
    }
  }
  return exceptions;
}

// A feature that the host's CPUID does not have; found by which CPUID bits the feature sets in a model.
bool host_has(Feature feature) {
  if (feature == Feature::Base) return true;
  CpuModel without = *parse_cpu_model("max");
  without.features.reset();
  CpuModel with = without;
  with.features.set(static_cast<usize>(feature));
  constexpr std::pair<u32, u32> leaves[] = {{1, 0}, {7, 0}, {0xd, 1}, {0x80000001, 0}};
  for (const auto& [leaf, subleaf] : leaves) {
    const CpuidResult a = without.cpuid(leaf, subleaf), b = with.cpuid(leaf, subleaf);
    const HostCpuid host = host_cpuid(leaf, subleaf);
    if ((b.eax & ~a.eax & ~host.eax) || (b.ebx & ~a.ebx & ~host.ebx) || (b.ecx & ~a.ecx & ~host.ecx) ||
        (b.edx & ~a.edx & ~host.edx))
      return false;
  }
  return true;
}

struct Group {
  const char* name;
  usize rows;
};
std::vector<Group> groups() {
  return {
#define VELLUM_GROUP_SIZE(group) {#group, interpreter_handlers_##group().size()},
      VELLUM_OPCODE_GROUPS(VELLUM_GROUP_SIZE)
#undef VELLUM_GROUP_SIZE
  };
}

class Disassembler {
 public:
  Disassembler() {
    cs_open(CS_ARCH_X86, CS_MODE_64, &m_handle[0]);
    cs_open(CS_ARCH_X86, CS_MODE_32, &m_handle[1]);
    cs_open(CS_ARCH_X86, CS_MODE_16, &m_handle[2]);
  }
  ~Disassembler() {
    for (csh& handle : m_handle) cs_close(&handle);
  }
  Disassembler(const Disassembler&) = delete;
  std::string text(const TestCase& test) {
    const csh handle = m_handle[test.environment == Environment::Long64        ? 0
                                : test.environment == Environment::Segmented16 ? 2
                                                                               : 1];
    cs_insn* insns = nullptr;
    const usize count = cs_disasm(handle, test.code.data(), test.code.size(), 0, 0, &insns);
    std::string result;
    for (usize i = 0; i < count; ++i)
      result += fmt::format("{}{} {}", i ? "; " : "", insns[i].mnemonic, insns[i].op_str);
    if (count) cs_free(insns, count);
    return result;
  }

 private:
  csh m_handle[3];
};

std::string bytes_text(std::span<const u8> bytes) {
  std::string text;
  for (usize i = bytes.size(); i-- > 0;) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

// What differs, as "name got/expected"; empty when nothing does.
std::string differences(const TestCase& test, const Outcome& expected, const Outcome& got, const Ignored& ignored) {
  std::string text;
  const auto differ = [&](std::string_view name, u64 a, u64 b) {
    if (a != b) text += fmt::format(" {} {:x} not {:x}", name, b, a);
  };
  differ("vector", expected.vector, got.vector);
  if (expected.vector == kHung) return {};
  differ("rip", expected.state.rip, got.state.rip);
  constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                   "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (unsigned i = 0; i < 16; ++i) differ(names[i], expected.state.gpr[i], got.state.gpr[i]);
  const u32 flags = kComparedFlags & ~ignored.flags;
  differ("flags", expected.state.rflags & flags, got.state.rflags & flags);
  if (expected.vector != kStopped && expected.vector == got.vector) {
    // The kernel reports P for addresses of its own, so that nobody learns what is mapped there; the lower half's last page
    // is one of them.
    constexpr u64 kEndOfUser = (u64{1} << 47) - 0x1000;
    const u32 hidden = expected.vector == 14 && expected.fault_address >= kEndOfUser ? 1 : 0;
    differ("error code", expected.error_code | hidden, got.error_code | hidden);
    differ("fault address", expected.fault_address, got.fault_address);
  }
  const VectorState &a = expected.state.vector, &b = got.state.vector;
  for (unsigned i = 0; i < 16; ++i)
    if (a.xmm[i] != b.xmm[i]) text += fmt::format(" xmm{} {} not {}", i, bytes_text(b.xmm[i]), bytes_text(a.xmm[i]));
  for (unsigned i = 0; i < 16; ++i)
    if (a.ymm_high[i] != b.ymm_high[i])
      text += fmt::format(" ymm{}[255:128] {} not {}", i, bytes_text(b.ymm_high[i]), bytes_text(a.ymm_high[i]));
  for (unsigned i = 0; i < 8; ++i)
    if (a.st[i] != b.st[i]) text += fmt::format(" st{} {} not {}", i, bytes_text(b.st[i]), bytes_text(a.st[i]));
  differ("mxcsr", a.mxcsr & ~ignored.mxcsr, b.mxcsr & ~ignored.mxcsr);
  differ("fcw", a.control, b.control);
  differ("fsw", a.status & ~ignored.fsw, b.status & ~ignored.fsw);
  differ("ftw", a.tags, b.tags);
  if (expected.memory != got.memory) {
    text += " memory";
    const auto list = [&](const std::vector<ChangedByte>& bytes) {
      for (usize i = 0; i < std::min<usize>(bytes.size(), 16); ++i)
        text += fmt::format(" {:x}:{:02x}", bytes[i].offset, bytes[i].value);
    };
    list(got.memory);
    text += " not";
    list(expected.memory);
  }
  return text;
}

std::string state_text(const TestCase& test) {
  const MachineState before = initial_state(test);
  std::string text;
  for (const u64 value : before.gpr) text += fmt::format(" {:x}", value);
  return text;
}

struct Options {
  u64 cases = 1000000, seed = 1, programs = 0;
  u64 states = 1;  // that each instruction runs in
  std::string exceptions, record, check, replay, rows, group, environments;
  bool verbose = false;
  Engine engine = Engine::Interpreter;
  X87Code x87_code = X87Code::Integers;
};

struct Recording {
  static constexpr char kMagic[8] = {'V', 'L', 'M', 'C', 'A', 'S', 'E', '1'};
  static void write(const std::string& path, const std::vector<u8>& data, u64 cases) {
    uLongf size = compressBound(data.size());
    std::vector<u8> packed(size);
    if (compress2(packed.data(), &size, data.data(), data.size(), 9) != Z_OK)
      throw std::runtime_error("cannot compress");
    const u64 header[] = {cases, data.size()};
    std::ofstream file(path, std::ios::binary);
    file.write(kMagic, sizeof(kMagic));
    file.write(reinterpret_cast<const char*>(header), sizeof(header));
    file.write(reinterpret_cast<const char*>(packed.data()), static_cast<std::streamsize>(size));
    if (!file) throw std::runtime_error("cannot write " + path);
  }
  static std::vector<u8> read(const std::string& path, u64& cases) {
    std::ifstream file(path, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    u64 header[2];
    constexpr usize start = sizeof(kMagic) + sizeof(header);
    if (content.size() < start || std::memcmp(content.data(), kMagic, sizeof(kMagic)) != 0)
      throw std::runtime_error(path + " is not a recording of instruction tests");
    std::memcpy(header, content.data() + sizeof(kMagic), sizeof(header));
    cases = header[0];
    if (header[1] > u64{1} << 30) throw std::runtime_error(path + " is damaged");
    std::vector<u8> data(header[1]);
    uLongf size = data.size();
    if (uncompress(data.data(), &size, reinterpret_cast<const u8*>(content.data()) + start, content.size() - start) !=
            Z_OK ||
        size != data.size())
      throw std::runtime_error(path + " is damaged");
    return data;
  }
};

class Judge {
 public:
  explicit Judge(const Exceptions& exceptions) : m_exceptions(exceptions) {}

  Ignored ignored(u16 row) const {
    const std::string_view mnemonic = opcode_rows()[row].mnemonic;
    const auto look_up = [mnemonic](const auto& map) {
      const auto found = map.find(mnemonic);
      return found == map.end() ? 0 : found->second;
    };
    return {look_up(m_exceptions.flags), look_up(m_exceptions.fsw), look_up(m_exceptions.mxcsr)};
  }
  void judge(const TestCase& test, const Outcome& expected, const Outcome& got, std::string_view mnemonic,
             const Ignored& ignored) {
    const std::string difference = differences(test, expected, got, ignored);
    if (difference.empty()) return;
    if (faulted(expected) && faulted(got) && m_exceptions.faults.contains(mnemonic)) return;
    if (got.vector == static_cast<u8>(Vector::GeneralProtection) && m_exceptions.stricter.contains(mnemonic)) return;
    const bool segmented = test.environment == Environment::Segmented32 || test.environment == Environment::Segmented16;
    if (segmented && !faulted(got) && limit_fault(expected) && m_exceptions.wraps.contains(mnemonic)) return;
    if ((got.state.vector.status & 0x80) && m_exceptions.masked.contains(mnemonic)) return;
    ++m_failures;
    if (++m_failures_of[std::string(mnemonic)] > m_shown) return;
    fmt::print("FAIL {} | {} |{} | before{}\n", format_case(test), m_disassembler.text(test), difference,
               state_text(test));
  }
  u64 failures() const { return m_failures; }
  void summary() const {
    for (const auto& [mnemonic, count] : m_failures_of) fmt::print("{:6} differences: {}\n", count, mnemonic);
  }
  Disassembler& disassembler() { return m_disassembler; }

 private:
  static bool faulted(const Outcome& outcome) { return outcome.vector < 32; }
  static bool limit_fault(const Outcome& outcome) {
    return outcome.vector == static_cast<u8>(Vector::GeneralProtection) || outcome.vector == static_cast<u8>(Vector::StackFault);
  }
  const Exceptions& m_exceptions;
  Disassembler m_disassembler;
  std::map<std::string, u64> m_failures_of;
  u64 m_failures = 0;
  static constexpr u64 m_shown = 3;
};

// Callouts do what the kernel and its segments decide; these do the same for every user. POPF is not among them: it would
// leave NT and ID set for the cases behind it, which a signal frame does not restore.
bool depends_on_system(const RowSpec& row) {
  static constexpr std::string_view kOfEveryUser[] = {"ldmxcsr", "vldmxcsr", "pushf", "cli", "sti", "arpl", "bound"};
  return std::ranges::find(kOfEveryUser, row.mnemonic) == std::end(kOfEveryUser) && !row.has(kPrivileged);
}

std::vector<u16> rows_to_test(const Options& options, const Exceptions& exceptions, const CpuModel& model) {
  std::vector<u16> rows;
  std::map<Feature, bool> host;
  const std::vector<std::string> wanted = split(options.rows), wanted_groups = split(options.group);
  u16 index = 0;
  for (const Group& group : groups()) {
    for (usize i = 0; i < group.rows; ++i, ++index) {
      const RowSpec& row = opcode_rows()[index];
      if (!model.has(row.feature) || (interpreter_row(index).flow == Flow::Callout && depends_on_system(row))) continue;
      if (!host.contains(row.feature)) host[row.feature] = host_has(row.feature);
      std::string encoding = row.encoding;
      std::ranges::replace(encoding, ' ', '_');
      if (exceptions.skip.contains(encoding)) continue;
      if (!host[row.feature] || exceptions.skip.contains(std::string_view(row.mnemonic))) continue;
      if (!wanted.empty() && std::ranges::find(wanted, row.mnemonic) == wanted.end()) continue;
      if (!wanted_groups.empty() && std::ranges::find(wanted_groups, group.name) == wanted_groups.end()) continue;
      rows.push_back(index);
    }
  }
  return rows;
}

int check(const Options& options, const Exceptions&) {
  u64 cases = 0;
  const std::vector<u8> data = Recording::read(options.check, cases);
  EmulatedCpu emulated(model_for_tests(), options.engine, 1, options.x87_code);
  const Exceptions none;
  Judge judge(none);
  std::span<const u8> in = data;
  for (u64 i = 0; i < cases; ++i) {
    TestCase test;
    Outcome expected, got;
    Ignored ignored;
    read_case(in, test, expected, ignored);
    emulated.run(test, got);
    recognize_stop(test, got);
    judge.judge(test, expected, got, "recorded", ignored);
  }
  fmt::print("{} recorded cases, {} differences\n", cases, judge.failures());
  return judge.failures() ? 1 : 0;
}

int replay(const Options& options) {
  const auto test = parse_case(options.replay);
  if (!test) throw std::runtime_error("cannot parse the case");
  std::string why;
  const auto native = NativeCpu::create(why);
  EmulatedCpu emulated(model_for_tests(), options.engine, 1, options.x87_code);
  Disassembler disassembler;
  Outcome expected, got;
  emulated.run(*test, got);
  recognize_stop(*test, got);
  fmt::print("{}\nbefore{}\n", disassembler.text(*test), state_text(*test));
  const auto show = [](const char* name, const Outcome& outcome) {
    fmt::print("{}: vector {} error {:x} address {:x} rip {:x} flags {:x}\n   ", name, outcome.vector,
               outcome.error_code, outcome.fault_address, outcome.state.rip, outcome.state.rflags);
    for (const u64 value : outcome.state.gpr) fmt::print(" {:x}", value);
    for (usize i = 0; i < std::min<usize>(outcome.memory.size(), 32); ++i)
      fmt::print(" @{:x}:{:02x}", outcome.memory[i].offset, outcome.memory[i].value);
    fmt::print("\n");
  };
  show("interpreter", got);
  if (!native) {
    fmt::print("no silicon: {}\n", why);
    return 0;
  }
  native->run(*test, expected);
  recognize_stop(*test, expected);
  show("silicon", expected);
  const std::string difference = differences(*test, expected, got, {});
  fmt::print("{}\n", difference.empty() ? "equal" : difference);
  return difference.empty() ? 0 : 1;
}

// The host's CPU; where there is none, says why.
std::unique_ptr<NativeCpu> open_silicon() {
  std::string why;
  auto native = NativeCpu::create(why);
  if (!native) fmt::print("skipped: {}\n", why);
  return native;
}

void print_regions(EmulatedCpu& cpu) {
  const Statistics* statistics = engine_statistics(cpu.core());
  if (statistics && statistics->regions_chosen)
    fmt::print("{} regions of {} instructions were compiled, {} refused\n", statistics->regions, statistics->region_insns, statistics->regions_failed);
}

int run(const Options& options, const Exceptions& exceptions) {
  const auto native = open_silicon();
  if (!native) return kSkipStatus;
  const CpuModel model = model_for_tests();
  EmulatedCpu emulated(model, options.engine, 1, options.x87_code);
  GeneratorOptions generator_options;
  generator_options.rows = rows_to_test(options, exceptions, model);
  if (generator_options.rows.empty()) throw std::runtime_error("no row is left to test");
  generator_options.memory_seed = static_cast<u32>(options.seed);
  for (const Environment environment :
       {Environment::Long64, Environment::Flat32, Environment::Segmented32, Environment::Segmented16}) {
    if (!options.environments.empty() && options.environments.find(environment_name(environment)) == std::string::npos)
      continue;
    if (native->supports(environment))
      generator_options.environments.push_back(environment);
    else
      fmt::print("skipped: {}: the kernel refuses segments of its own\n", environment_name(environment));
  }
  Judge judge(exceptions);
  for (const auto& [mnemonic, unused] : exceptions.small) generator_options.small_counts.push_back(mnemonic);
  for (const auto& [mnemonic, unused] : exceptions.w0) generator_options.w0_outside_64.push_back(mnemonic);
  for (const u16 row : generator_options.rows)
    if (exceptions.applies_to(opcode_rows()[row].mnemonic)) generator_options.last_only.push_back(row);
  Generator generator(model, generator_options);
  fmt::print("seed {}: {} cases of {} rows\n", options.seed, options.cases, generator_options.rows.size());

  std::vector<u8> recording;
  u64 hung = 0, faults = 0, recorded = 0;
  std::map<u16, u64> cases_of;
  TestCase test;
  u16 row = 0;
  const auto start = std::chrono::steady_clock::now();
  for (u64 i = 0; i < options.cases; ++i) {
    if (i % options.states == 0) test = generator.make(options.seed * 0x100000001 + i, row);
    else test.state_seed = (test.state_seed * 6364136223846793005 + 1442695040888963407) >> 16;
    if (options.verbose) {
      fmt::print("{} | {}\n", format_case(test), judge.disassembler().text(test));
      std::fflush(stdout);
    }
    Outcome expected, got;
    native->run(test, expected);
    if (expected.vector == kHung) {
      ++hung;
      continue;
    }
    emulated.run(test, got);
    recognize_stop(test, expected);
    recognize_stop(test, got);
    if (expected.vector != kStopped) ++faults;
    ++cases_of[row];
    const Ignored ignored = judge.ignored(row);
    judge.judge(test, expected, got, opcode_rows()[row].mnemonic, ignored);
    const bool excepted = exceptions.drops_result(opcode_rows()[row].mnemonic) &&
                          (expected.vector < 32 || got.vector < 32 || (got.state.vector.status & 0x80));
    if (!options.record.empty() && !excepted) {
      write_case(recording, test, expected, ignored);
      ++recorded;
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  judge.summary();
  print_regions(emulated);
  u64 fewest = options.cases;
  for (const u16 row : generator_options.rows) fewest = std::min(fewest, cases_of[row]);
  fmt::print(
      "{} cases in {:.1f} s, {} ended in a fault, {} without end (not compared), at least {} of each row; {} "
      "differences\n",
      options.cases, seconds, faults, hung, fewest, judge.failures());
  if (!options.record.empty()) Recording::write(options.record, recording, recorded);
  return judge.failures() ? 1 : 0;
}

// Until so many blocks were run, each program from several of them.
int run_programs(const Options& options, const Exceptions& exceptions) {
  const auto native = open_silicon();
  if (!native) return kSkipStatus;
  const CpuModel model = model_for_tests();
  // The jump in front is another with each entry: a region that began there would be used once.
  constexpr u32 kHotEntries = 4;
  EmulatedCpu emulated(model, options.engine, kHotEntries, options.x87_code);
  GeneratorOptions generator_options;
  for (const auto& [mnemonic, unused] : exceptions.small) generator_options.small_counts.push_back(mnemonic);
  for (const auto& [mnemonic, unused] : exceptions.w0) generator_options.w0_outside_64.push_back(mnemonic);
  programs::ProgramOptions program_options{.stores_to_code = false, .bounded = true};
  const usize integer_rows = interpreter_handlers_integer().size();
  for (const u16 row : rows_to_test(options, exceptions, model)) {
    const RowHandlers& handlers = interpreter_row(row);
    if (exceptions.applies_to(opcode_rows()[row].mnemonic) || opcode_rows()[row].has(kPrivileged)) continue;
    if (handlers.flow == Flow::Direct || handlers.flow == Flow::Conditional || handlers.flow == Flow::Indirect) continue;
    program_options.rows.push_back(row);
    if (row < integer_rows) program_options.favoured.push_back(row);
  }
  programs::ProgramGenerator generator(model, generator_options, program_options);
  std::vector<Environment> environments;
  for (const Environment environment : {Environment::Long64, Environment::Flat32, Environment::Segmented32, Environment::Segmented16})
    if (native->supports(environment)) environments.push_back(environment);

  constexpr u16 kFuel = 40;
  Judge judge(exceptions);
  u64 blocks = 0, made = 0, entries = 0, hung = 0;
  const auto start = std::chrono::steady_clock::now();
  Outcome expected, got;
  const auto differs = [&](const TestCase& test) {
    native->run(test, expected);
    if (expected.vector == kHung) return ++hung, false;
    emulated.run(test, got);
    recognize_stop(test, expected);
    recognize_stop(test, got);
    return !differences(test, expected, got, {}).empty();
  };
  while (blocks < options.programs && judge.failures() < 5) {
    Random random(options.seed * 0x100000001 + made++);
    const Environment environment = environments[random.below(static_cast<u32>(environments.size()))];
    const programs::Program program = generator.make(random.next(), environment);
    blocks += program.blocks.size();
    for (unsigned entry = 0; entry < program.blocks.size(); entry += 1 + random.below(4)) {
      const u64 state_seed = random.next() >> 16;
      const u32 rflags = 0x202 | (static_cast<u32>(random.next()) & (kArithmeticFlags | (random.chance(20) ? u32{kDf} : 0u)));
      const auto with_fuel = [&](u16 fuel) {
        return programs::test_case(program, entry, fuel, state_seed, static_cast<u32>(options.seed), rflags);
      };
      ++entries;
      if (!differs(with_fuel(kFuel))) continue;
      u16 shortest = 1;  // how many blocks it takes
      while (shortest < kFuel && !differs(with_fuel(shortest))) ++shortest;
      differs(with_fuel(shortest));
      fmt::print("a difference after {} blocks:\n", shortest);
      judge.judge(with_fuel(shortest), expected, got, "program", {});
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print_regions(emulated);
  fmt::print("seed {}: {} programs, {} blocks, {} entries in {:.1f} s, {} without end (not compared); {} differences\n", options.seed, made,
             blocks, entries, seconds, hung, judge.failures());
  return judge.failures() ? 1 : 0;
}

int main_checked(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (i + 1 == argc)
      throw std::runtime_error(
          "usage: instruction-oracle [--cases N] [--seed N] [--exceptions FILE] [--rows A,B] "
          "[--group G] [--states N] [--environments E,F] [--programs BLOCKS] [--record FILE] [--check FILE] [--replay CASE] [--x87 integers|host] [--stencils portable|avx2] [--verbose]");
    const std::string value = argv[++i];
    if (name == "--cases")
      options.cases = std::stoull(value);
    else if (name == "--states")
      options.states = std::max<u64>(1, std::stoull(value));
    else if (name == "--programs")
      options.programs = std::stoull(value);
    else if (name == "--engine") {
      const auto names = engine_names();
      const auto found = std::ranges::find(names, value);
      if (found == names.end()) throw std::runtime_error("no engine " + std::string(value));
      options.engine = static_cast<Engine>(found - names.begin());
    } else if (name == "--x87") {
      if (value != "integers" && value != "host") throw std::runtime_error("--x87 is integers or host");
      options.x87_code = value == "host" ? X87Code::Host : X87Code::Integers;
    } else if (name == "--stencils") {
      if (value != "portable" && value != "avx2") throw std::runtime_error("--stencils is portable or avx2");
      use_stencil_set(value == "avx2" ? StencilSet::Avx2 : StencilSet::Portable);
    } else if (name == "--seed")
      options.seed = std::stoull(value);
    else if (name == "--exceptions")
      options.exceptions = value;
    else if (name == "--rows")
      options.rows = value;
    else if (name == "--group")
      options.group = value;
    else if (name == "--environments")
      options.environments = value;
    else if (name == "--record")
      options.record = value;
    else if (name == "--check")
      options.check = value;
    else if (name == "--replay")
      options.replay = value;
    else
      throw std::runtime_error("unknown option " + std::string(name));
  }
  const Exceptions exceptions = options.exceptions.empty() ? Exceptions{} : read_exceptions(options.exceptions);
  if (!options.check.empty()) return check(options, exceptions);
  if (!options.replay.empty()) return replay(options);
  if (options.programs) return run_programs(options, exceptions);
  return run(options, exceptions);
}

}  // namespace

}  // namespace vellum::instructions

int main(int argc, char** argv) {
  try {
    return vellum::instructions::main_checked(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "instruction-oracle: {}\n", error.what());
    return 2;
  }
}
