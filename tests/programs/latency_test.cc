// How many instructions the guest still runs when something asynchronous happens: at most 10,000, on every engine.
//
// A signal comes at a random moment, wherever the host is in translated code, and is the event. Its handler and the test
// behind it read how far the guest's own count in memory is.
#include <catch2/catch.hpp>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <random>
#include <thread>

#include "programs/machine.h"

using namespace vellum;
using namespace vellum::programs;
using instructions::kCodeSize;
using instructions::kDataBase;
using instructions::kFiller;

namespace {

constexpr u64 kMostInstructions = 10'000;
constexpr unsigned kEvents = 25;
constexpr u64 kLong = u64{1} << 50;

// 64-bit code; RBX is the address of the count.
struct Loop {
  const char* name;
  std::vector<u8> code;
  u64 count_step = 0;       // instructions, or iterations of a string instruction, for each time round
  bool counts_rcx = false;  // RCX goes down from count_step meanwhile, and its progress counts too
  bool privileged = false;
};

void append(std::vector<u8>& code, std::initializer_list<u8> bytes) { code.insert(code.end(), bytes); }
void jump_back(std::vector<u8>& code, usize target = 0) {
  append(code, {0xe9});
  const u32 distance = static_cast<u32>(target - (code.size() + 4));
  for (unsigned i = 0; i < 4; ++i) code.push_back(static_cast<u8>(distance >> 8 * i));
}
#define COUNT 0x48, 0xff, 0x03  // inc qword [rbx]

Loop tight() {
  Loop loop{"two instructions", {COUNT}, 2};
  append(loop.code, {0xeb, 0xfb});
  return loop;
}
Loop straight() {
  Loop loop{"a thousand instructions in a row", {}, 100};
  for (unsigned i = 0; i < 1000; ++i) append(loop.code, {0x48, 0x01, 0xc2});  // add rdx, rax
  for (unsigned i = 0; i < 10; ++i) std::ranges::copy(std::array<u8, 3>{COUNT}, loop.code.begin() + i * 300);
  jump_back(loop.code);
  return loop;
}
Loop branches() {
  Loop loop{"conditional jumps", {COUNT}, 0};
  for (unsigned i = 0; i < 20; ++i) append(loop.code, {0x48, 0x85, 0xf6, 0x75, 0x03, 0x48, 0xff, 0xc0});  // test rsi, rsi; jnz +3; inc rax
  loop.count_step = 2 + 20 * 3;
  jump_back(loop.code);
  return loop;
}
Loop calls() {
  // call f; jmp 0; f: inc qword [rbx]; call g; ret; g: push rbp; pop rbp; ret
  return {"calls and returns", {0xe8, 0x02, 0, 0, 0, 0xeb, 0xf9, COUNT, 0xe8, 0x01, 0, 0, 0, 0xc3, 0x55, 0x5d, 0xc3}, 8};
}
Loop indirect() {
  // lea rax, [rip + 3]; jmp rax; nop; inc qword [rbx]; jmp 0
  return {"indirect jumps", {0x48, 0x8d, 0x05, 3, 0, 0, 0, 0xff, 0xe0, 0x90, COUNT, 0xeb, 0xf1}, 4};
}
Loop two_pages() {
  Loop loop{"a loop over two pages", {COUNT}, 0};
  append(loop.code, {0xe9, 0xf8, 0x0f, 0, 0});  // to the next page
  loop.code.resize(0x1000, kFiller);
  jump_back(loop.code);
  loop.count_step = 3;
  return loop;
}
Loop registers() {
  // mov ecx, 1000; dec ecx; jnz; inc qword [rbx]; jmp 0
  return {"a loop in registers inside another", {0xb9, 0xe8, 3, 0, 0, 0xff, 0xc9, 0x75, 0xfc, COUNT, 0xeb, 0xf2}, 2003};
}
Loop vectors() {
  // inc qword [rbx]; mulpd xmm0, xmm1; addpd xmm2, xmm0; jmp 0
  return {"floating point", {COUNT, 0x66, 0x0f, 0x59, 0xc1, 0x66, 0x0f, 0x58, 0xd0, 0xeb, 0xf3}, 4};
}
Loop rewriting() {
  // inc qword [rbx]; inc dword [rip + 1] (the immediate behind it); mov eax, imm32; jmp 0
  return {"code that changes itself", {COUNT, 0xff, 0x05, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xeb, 0xf0}, 4};
}
Loop callouts() {
  // inc qword [rbx]; xgetbv with ecx = 0; jmp 0
  return {"callouts", {COUNT, 0x31, 0xc9, 0x0f, 0x01, 0xd0, 0xeb, 0xf6}, 4};
}
// String instructions of 8192 iterations, one after the other.
Loop repeated(const char* name, std::initializer_list<u8> insn) {
  Loop loop{name, {COUNT, 0xb9, 0, 0x20, 0, 0, 0x48, 0x8d, 0x73, 0x08, 0x48, 0x89, 0xf7}, 8192, true};  // mov ecx, 8192; lea rsi, [rbx + 8]; mov rdi, rsi
  append(loop.code, insn);
  jump_back(loop.code);
  return loop;
}
Loop repeated_port(const char* name, std::initializer_list<u8> insn) {
  Loop loop = repeated(name, insn);
  loop.privileged = true;
  return loop;
}

CpuCore* volatile s_core;
volatile u64* s_count;
volatile u64 s_count_then, s_rcx_then;
volatile bool s_interrupt;
std::atomic<bool> s_happened;

void happen(int) {
  s_count_then = *s_count;
  s_rcx_then = s_core->s.gpr[kRcx];
  if (s_interrupt) s_core->set_interrupt_request(true);
  else s_core->request_exit();
  s_happened = true;
}

// The most instructions seen between an event and its effect.
u64 worst_latency(const Loop& loop, unsigned engine, bool interrupt) {
  EngineOptions options{.engine = static_cast<Engine>(engine), .code_cache_size = u64{16} << 20, .hot_entries = 500, .wait_for_compiler = true};
  ProgramMachine machine(std::string(engine_names()[engine]), *parse_cpu_model("max"), options);
  Program program;
  program.environment = Environment::Long64;
  program.code = loop.code;
  program.code.resize(kCodeSize, kFiller);
  program.blocks = {0};
  machine.load(program, 1);
  // The board's ports ask for an interrupt themselves when an odd value is written.
  if (loop.privileged) machine.write_memory(ProgramMachine::kDataPages, std::vector<u8>(instructions::kDataSize));
  CpuState& s = machine.core().s;
  s_core = &machine.core();
  s_count = reinterpret_cast<volatile u64*>(machine.core().memory.ram().host(ProgramMachine::kDataPages));
  s_interrupt = interrupt;
  const auto enter = [&] {
    machine.enter({.state_seed = 1, .supervisor = loop.privileged, .rflags = 0x202});
    s.gpr[kRbx] = kDataBase;
    s.gpr[kRcx] = loop.count_step;  // what the first round sets
    if (interrupt) s.idtr.limit = 0;  // the delivery ends in a shutdown at once
    *s_count = 0;
  };
  enter();
  machine.run(loop.counts_rcx ? 5'000 : 300'000);

  static const bool installed = [] { return std::signal(SIGUSR1, happen) != SIG_ERR; }();
  REQUIRE(installed);
  std::mt19937 random(engine + 1);
  u64 worst = 0;
  for (unsigned i = 0; i < kEvents; ++i) {
    enter();
    s_happened = false;
    std::thread raiser([target = pthread_self(), delay = std::chrono::microseconds(100 + random() % 500)] {
      std::this_thread::sleep_for(delay);
      pthread_kill(target, SIGUSR1);
    });
    Exit exit = Exit::BudgetSpent;
    while (!s_happened) exit = machine.run(kLong).exit;
    // In the run loop it may have come between two runs: then the next shows it.
    if (exit == Exit::BudgetSpent) exit = machine.run(kLong).exit;
    raiser.join();
    REQUIRE(exit == (interrupt ? Exit::Shutdown : Exit::Requested));
    machine.core().set_interrupt_request(false);
    const u64 rounds = *s_count - s_count_then;
    if (!loop.counts_rcx) worst = std::max(worst, rounds * loop.count_step);
    else if (rounds == 0) worst = std::max<u64>(worst, s_rcx_then > s.gpr[kRcx] ? s_rcx_then - s.gpr[kRcx] : 0);
    else worst = std::max(worst, (rounds - 1) * loop.count_step + s_rcx_then + (loop.count_step - s.gpr[kRcx]));
  }
  return worst;
}

}  // namespace

TEST_CASE("an asynchronous event is seen within 10,000 instructions") {
  const std::vector<Loop> loops = {tight(), straight(), branches(), calls(), indirect(), two_pages(), registers(), vectors(), rewriting(), callouts(),
                                   repeated("REP LODSB", {0xf3, 0xac}), repeated("REPE CMPSB", {0xf3, 0xa6}), repeated("REP STOSB", {0xf3, 0xaa}), repeated("REP MOVSB", {0xf3, 0xa4}),
                                   repeated_port("REP INSB", {0xf3, 0x6c}), repeated_port("REP OUTSB", {0xf3, 0x6e})};
  const auto engine = GENERATE(range(0u, static_cast<unsigned>(engine_names().size())));
  const bool interrupt = GENERATE(false, true);
  for (const Loop& loop : loops) {
    const u64 latency = worst_latency(loop, engine, interrupt);
    INFO(engine_names()[engine] << ", " << loop.name << ", " << (interrupt ? "interrupt" : "exit"));
    if (std::getenv("VELLUM_LATENCY")) std::printf("%-12s %-36s %-10s %llu\n", std::string(engine_names()[engine]).c_str(), loop.name, interrupt ? "interrupt" : "exit", static_cast<unsigned long long>(latency));
    CHECK(latency <= kMostInstructions);
  }
}
