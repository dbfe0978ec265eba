// No guest may crash, stop or flood the emulator, whatever it does: random code, ports, registers and memory.
//
//   torture [--kind NAME] [--seed N] [--cases N] [--case N] [--log FILE]
//
// Each case depends on its kind, the seed and its number only: `--kind K --seed S --case N` runs one again. The test is
// built with AddressSanitizer and UBSan; a case that spins is ended by a limit of CPU time, and named.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "cpu/state.h"
#include "programs.h"
#include "rig.h"
#include "state/log.h"

// What UBSan finds ends the program like everything else.
extern "C" const char* __ubsan_default_options() { return "halt_on_error=1:print_stacktrace=1"; }
extern "C" const char* __asan_default_options() { return "handle_abort=1:detect_leaks=0"; }

namespace vellum::torture {

namespace {

// A case takes milliseconds; under sanitizers on a busy host some take a hundred.
constexpr unsigned kCpuSeconds = 10, kWallSeconds = 120;
// What all cases together may write to the log.
constexpr off_t kLogLimit = 4 << 20;

struct Case {
  const char* kind = "";
  u64 seed = 1;
  u64 number = 0;
};
char g_current[160];

void fail(const std::string& reason) {
  std::fprintf(stderr, "FAILED %s: %s\n", g_current, reason.c_str());
  std::_Exit(1);
}

void expire(int) {
  const char text[] = "STUCK, or too slow: ";
  (void)!write(2, text, sizeof(text) - 1);
  (void)!write(2, g_current, std::strlen(g_current));
  (void)!write(2, "\n", 1);
  std::abort();
}

void set_limits() {
  itimerval limit{};
  limit.it_value.tv_sec = kCpuSeconds;
  setitimer(ITIMER_PROF, &limit, nullptr);
  alarm(kWallSeconds);
}

void mark(const Case& current) {
  std::snprintf(g_current, sizeof(g_current), "--kind %s --seed %llu --case %llu", current.kind,
                static_cast<unsigned long long>(current.seed), static_cast<unsigned long long>(current.number));
  set_limits();
}

// Every 16th case: the state that the guest made must load again.
void check_state(Rig& rig, Random& random) {
  if (!once_in(random, 16)) return;
  if (const std::string problem = rig.save_and_load(); !problem.empty()) fail(problem);
  rig.run(200);
}

// ---- Kinds of cases

// 512 random bytes where the firmware would load a boot sector.
void boot_sector(Rig& rig, Random& random) {
  rig.enter({.mode = Mode::Real, .forgiving = !once_in(random, 3)}, random);
  rig.put(kCode, random_bytes(random, 512));
  rig.run(3000);
}

Mode any_mode(Random& random) { return static_cast<Mode>(random() % 4); }

void random_code(Rig& rig, Random& random) {
  const Mode mode = static_cast<Mode>(1 + random() % 3);
  rig.enter({.mode = mode, .forgiving = !once_in(random, 8), .user = once_in(random, 4)}, random);
  rig.put(kCode, random_bytes(random, 4096));
  rig.put(kBuffer, random_bytes(random, 0x1000));
  rig.run(3000);
}

// System code, with the board's events and the user in between.
void system(Rig& rig, Random& random) {
  const Mode mode = any_mode(random);
  rig.enter({.mode = mode, .forgiving = !once_in(random, 8), .user = once_in(random, 6)}, random);
  rig.put(kCode, system_code(random, mode, 2048));
  rig.put(kBuffer, random_bytes(random, 0x1000));
  for (unsigned slice = 0; slice < 6; ++slice) {
    rig.run(500);
    Cpu& cpu = rig.machine().cpu();
    switch (random() % 8) {
      case 0: cpu.raise_nmi(); break;
      case 1: cpu.raise_smi(); break;
      case 2: rig.machine().board().key(static_cast<KeyCode>(random()), random() % 2); break;
      case 3: rig.machine().board().press_power_button(); break;
      default: break;
    }
  }
}

void write_configuration(Rig& rig, Random& random) {
  static constexpr u32 kFunctions[] = {0x0000, 0x0800, 0x0900, 0x0b00, 0x1000};
  PortBus& ports = rig.machine().ports();
  const u32 function = once_in(random, 8) ? static_cast<u32>(random()) & 0xffff00 : kFunctions[random() % 5];
  ports.write(0xcf8, 4, 0x80000000u | function | (random() & 0xfc));
  const unsigned size = 1u << random() % 3;
  const auto port = static_cast<u16>(0xcfc + random() % 4);
  if (once_in(random, 3)) ports.read(port, size);
  else ports.write(port, size, static_cast<u32>(interesting_number(random)));
}

void write_memory(Rig& rig, Random& random) {
  AddressSpace& memory = rig.machine().memory();
  const GuestPhysAddr address(interesting_physical_address(random));
  std::vector<u8> data = random_bytes(random, once_in(random, 8) ? random() % 5000 : 1u << random() % 4);
  if (once_in(random, 3)) memory.read(address, data);
  else memory.write(address, data);
}

// fw_cfg's DMA reads its descriptor from guest memory (big-endian: control, length, address).
void start_fw_cfg_dma(Rig& rig, Random& random) {
  std::vector<u8> descriptor = random_bytes(random, 16);
  descriptor[0] = 0;
  descriptor[1] = static_cast<u8>(random() % 64);
  descriptor[3] &= 0x1f;
  std::fill(descriptor.begin() + 8, descriptor.begin() + 12, once_in(random, 4) ? 0xff : 0);
  if (!once_in(random, 4)) descriptor[4] = descriptor[5] = 0;
  rig.put(kBuffer, descriptor);
  rig.machine().ports().write(0x514, 4, once_in(random, 8) ? static_cast<u32>(random()) : 0);
  rig.machine().ports().write(0x518, 4, __builtin_bswap32(static_cast<u32>(kBuffer)));
}

// Every device of the board is written to, while a guest halts and wakes, or runs random code.
void devices(Rig& rig, Random& random) {
  rig.enter({.mode = any_mode(random)}, random);
  if (once_in(random, 4)) rig.put(kCode, random_bytes(random, 1024));
  else rig.put(kCode, {0xfb, 0xf4, 0xeb, 0xfc});  // sti; hlt; jmp back
  // Bus masters and the adapter's memory find themselves where the other accesses go.
  PortBus& ports = rig.machine().ports();
  const auto configure = [&](u32 address, u32 value) {
    ports.write(0xcf8, 4, 0x80000000u | address);
    ports.write(0xcfc, 4, value);
  };
  configure(0x0920, 0xc000), configure(0x0904, 7), configure(0x0940, 0x80008000);
  configure(0x0b40, 0x601), configure(0x0b80, 1), configure(0x0b90, 0x701), configure(0x0b04, 3);
  configure(0x1010, 0xfd000000), configure(0x1018, 0xfe000000), configure(0x1004, 3);
  rig.put(kBuffer, random_bytes(random, 0x1000));
  for (unsigned poke = 0; poke < 200; ++poke) {
    switch (random() % 16) {
      case 0: write_configuration(rig, random); break;
      case 1: case 2: case 3: case 4: write_memory(rig, random); break;
      case 5: start_fw_cfg_dma(rig, random); break;
      case 6: rig.run(100); break;
      case 7: rig.run(once_in(random, 8) ? 20'000'000 : 5'000); break;
      case 8: rig.machine().board().key(static_cast<KeyCode>(random()), random() % 2); break;
      default: {
        const unsigned size = 1u << random() % 3;
        const u16 port = interesting_port(random);
        if (once_in(random, 3)) ports.read(port, size);
        else ports.write(port, size, static_cast<u32>(interesting_number(random)));
      }
    }
    if (once_in(random, 200)) rig.machine().board().describe(once_in(random, 2) ? "screen" : "pic");
  }
}

// One in 64 of the ports, all sizes, reads and writes of many values.
void ports(Rig& rig, Random& random, u64 number) {
  rig.enter({.mode = Mode::Real}, random);
  rig.put(kCode, {0xfb, 0xf4, 0xeb, 0xfc});
  for (u32 port = number % 64; port < 65536; port += 64) {
    PortBus& bus = rig.machine().ports();
    for (const unsigned size : {1u, 2u, 4u}) {
      const u32 values[] = {0, ~u32{0}, static_cast<u32>(random()), static_cast<u32>(interesting_number(random))};
      for (const u32 value : values) bus.write(static_cast<u16>(port), size, value);
      bus.read(static_cast<u16>(port), size);
    }
    if (port % 1024 < 64) rig.run(100);
    if (rig.machine().ended()) rig.restart();
  }
}

// RDMSR and WRMSR of a range of registers; #GP goes on behind the instruction.
void registers(Rig& rig, Random& random, u64 number) {
  static constexpr u32 kFirst[] = {0, 0x400, 0x800, 0xc00, 0x1000, 0xc0000000, 0xc0000400, 0xc0010000, 0xc0011000,
                                   0x40000000, 0x4b564d00, 0x80000000, 0xfffffc00};
  constexpr u32 kCount = 0x400;
  Rig::Start start{.mode = Mode::Long, .skip = 2};
  for (u32 offset = 0; offset < kCount; ++offset) {
    const u32 index = number < std::size(kFirst) ? kFirst[number] + offset : interesting_msr(random);
    if (offset % 16 == 0) rig.restart();
    rig.enter(start, random);
    rig.put(kCode, {0x0f, 0x32, 0x0f, 0x30, 0x0f, 0x32, 0xf4});  // rdmsr; wrmsr; rdmsr; hlt
    CpuState& s = rig.machine().cpu().state();
    s.gpr[kRcx] = index;
    if (once_in(random, 2)) s.rip += 2;  // not what was read, but random numbers are written
    rig.run(12);
  }
}

// The quotient that does not fit: INT_MIN / -1, and division by zero, in all sizes and modes, must raise #DE.
void divide(Rig& rig, Random& random, u64 number) {
  const Mode mode = static_cast<Mode>(number % 4);
  rig.enter({.mode = mode, .forgiving = true, .skip = 2}, random);
  struct Division {
    std::vector<u8> code;
    u64 rax, rdx;
  };
  const std::vector<u8> narrow_prefix = mode == Mode::Real ? std::vector<u8>{} : std::vector<u8>{0x66};
  const std::vector<u8> wide_prefix = mode == Mode::Real ? std::vector<u8>{0x66} : std::vector<u8>{};
  const auto with = [](std::vector<u8> prefix, std::initializer_list<u8> code) {
    prefix.insert(prefix.end(), code);
    return prefix;
  };
  std::vector<Division> divisions = {
      {{0xf6, 0xf9}, 0x8000, 0},                                            // idiv cl
      {with(narrow_prefix, {0xf7, 0xf9}), 0, 0x8000},                       // idiv cx, of 16 and of 32 bits
      {with(narrow_prefix, {0xf7, 0xf9}), 0x8000, 0xffff},
      {with(wide_prefix, {0xf7, 0xf9}), 0, 0x80000000},                     // idiv ecx
      {with(wide_prefix, {0xf7, 0xf9}), 0x80000000, 0xffffffff},
  };
  if (mode == Mode::Long) {
    divisions.push_back({{0x48, 0xf7, 0xf9}, 0, u64{1} << 63});
    divisions.push_back({{0x48, 0xf7, 0xf9}, u64{1} << 63, ~u64{0}});
  }
  const Division& division = divisions[number / 4 % divisions.size()];
  // The handler of vector 0 is a halt.
  const u64 vector_size = mode == Mode::Real ? 4 : mode == Mode::Long ? 16 : 8;
  const u64 idt = mode == Mode::Real ? 0 : kIdt;
  const auto entry = mode == Mode::Real ? kBuffer : (rig.machine().memory().read_value<u64>(GuestPhysAddr(idt)) & ~u64{0xffff}) | kBuffer;
  if (vector_size == 4) rig.machine().memory().write_value(GuestPhysAddr(idt), static_cast<u32>(entry));
  else rig.machine().memory().write_value(GuestPhysAddr(idt), entry);
  rig.put(kBuffer, {0xf4});
  rig.put(kCode, division.code);
  CpuState& s = rig.machine().cpu().state();
  s.gpr[kRax] = division.rax;
  s.gpr[kRdx] = division.rdx;
  s.gpr[kRcx] = number / 4 / divisions.size() % 2 ? 0 : ~u64{0};
  rig.run(100);
  if (!s.halted || s.rip != kBuffer + 1) fail(fmt::format("no #DE: rip {:#x}\n{}", s.rip, rig.machine().cpu().describe_registers()));
}

// No instruction ever retires: a handler whose first instruction faults. The run must end, and time must go on.
void exceptions_without_end(Rig& rig, Random& random, u64 number) {
  const Mode mode = static_cast<Mode>(number % 4);
  rig.enter({.mode = mode}, random);
  static constexpr u8 kFaulting[][2] = {{0x0f, 0x0b}, {0xf7, 0xf1}, {0x0f, 0xff}, {0xcd, 0x06}};  // ud2; div ecx; ud0; int 6
  const auto& code = kFaulting[number / 4 % 4];
  const u64 handler = mode == Mode::Real ? kBuffer : kHandlers;
  for (const u64 address : {kCode, handler, handler + 16}) rig.put(address, {code[0], code[1], code[0], code[1]});
  CpuState& s = rig.machine().cpu().state();
  s.gpr[kRcx] = 0;
  if (mode == Mode::Real)
    for (unsigned vector = 0; vector < 256; ++vector)
      rig.machine().memory().write_value(GuestPhysAddr(vector * 4), static_cast<u32>(handler));
  if (once_in(random, 2)) write_rflags(s, read_rflags(s) | kIf);
  const Ticks before = rig.machine().clock().now();
  rig.run(20'000);
  if (rig.machine().clock().now() < before + 20'000) fail("time stood still");
}

// A snapshot whose checksums hold and whose contents an enemy wrote: refused, or a machine that runs.
void hostile_state(Rig& rig, Random& random) {
  const Mode mode = any_mode(random);
  rig.enter({.mode = mode}, random);
  rig.put(kCode, system_code(random, mode, 1024));
  rig.run(random() % 2000);
  for (unsigned round = 0; round < 8; ++round) {
    const auto saved = rig.machine().save_state();
    auto hostile = saved;
    auto& victim = std::next(hostile.begin(), static_cast<long>(random() % hostile.size()))->second;
    for (u64 changes = 1 + random() % 8; changes > 0 && !victim.empty(); --changes) {
      u8& byte = victim[random() % victim.size()];
      switch (random() % 3) {
        case 0: byte = static_cast<u8>(random()); break;
        case 1: byte ^= static_cast<u8>(1 << random() % 8); break;
        default: byte = once_in(random, 2) ? 0xff : 0x7f; break;
      }
    }
    if (!rig.machine().load_state(hostile) && !rig.machine().load_state(saved))
      fail("the state before the refused one does not load");
    rig.machine().memory().contents_replaced();
    rig.run(300);
  }
}

struct Kind {
  const char* name;
  u64 cases;
  std::function<void(Rig&, Random&, u64)> run;
};

std::vector<Kind> kinds() {
  const auto plain = [](void (*run)(Rig&, Random&)) { return [run](Rig& rig, Random& random, u64) { run(rig, random); }; };
  return {
      {"divide", 64, divide},
      {"ports", 64, ports},
      {"registers", 16, registers},
      {"boot-sector", 10'000, plain(boot_sector)},
      {"code", 2'000, plain(random_code)},
      {"system", 1'500, plain(system)},
      {"devices", 150, plain(devices)},
      {"exceptions", 64, exceptions_without_end},
      {"state", 500, plain(hostile_state)},
  };
}

void check_log(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && status.st_size > kLogLimit)
    fail(fmt::format("the guests made {} bytes of log", static_cast<u64>(status.st_size)));
}

int usage() {
  std::fputs("usage: torture [--kind NAME] [--seed N] [--cases N] [--case N] [--log FILE]\n", stderr);
  return 2;
}

int main(std::span<char*> arguments) {
  std::string only, log_path = "/dev/null";
  u64 seed = 1, cases = 0;
  std::optional<u64> single;
  for (usize i = 1; i < arguments.size(); i += 2) {
    if (i + 1 >= arguments.size()) return usage();
    const std::string_view name = arguments[i], value = arguments[i + 1];
    u64 number = 0;
    const bool numeric = std::from_chars(value.begin(), value.end(), number).ptr == value.end();
    if (name == "--kind") only = value;
    else if (name == "--log") log_path = value;
    else if (!numeric) return usage();
    else if (name == "--seed") seed = number;
    else if (name == "--cases") cases = number;
    else if (name == "--case") single = number;
    else return usage();
  }
  if (!open_log_file(log_path) || !enable_log_items("guest_errors")) return usage();
  std::signal(SIGPROF, expire);
  std::signal(SIGALRM, expire);

  set_limits();
  Rig rig;
  bool found = false;
  for (const Kind& kind : kinds()) {
    if (!only.empty() && only != kind.name) continue;
    found = true;
    const u64 first = single.value_or(0), end = single ? first + 1 : cases ? cases : kind.cases;
    const u64 started = host_nanoseconds();
    u64 retired = 0, slowest = 0, slowest_case = 0;
    for (u64 number = first; number < end; ++number) {
      mark({kind.name, seed, number});
      std::seed_seq sequence{seed, std::hash<std::string_view>{}(kind.name), number};
      Random random(sequence);
      rig.restart();
      const u64 before = host_nanoseconds(), retired_before = rig.machine().cpu().retired();
      kind.run(rig, random, number);
      if (rig.machine().cpu().retired() > retired_before) retired += rig.machine().cpu().retired() - retired_before;
      check_state(rig, random);
      if (const u64 time = host_nanoseconds() - before; time > slowest) slowest = time, slowest_case = number;
    }
    check_log(log_path);
    fmt::print("{}: {} cases from seed {}, {} instructions, {:.1f} s, the slowest ({}) {} ms\n", kind.name, end - first, seed,
               retired, static_cast<double>(host_nanoseconds() - started) / 1e9, slowest_case, slowest / 1'000'000);
    std::fflush(stdout);
  }
  return found ? 0 : usage();
}

}  // namespace

}  // namespace vellum::torture

int main(int argc, char** argv) { return vellum::torture::main({argv, static_cast<vellum::usize>(argc)}); }
