// Breakpoints, watchpoints and observers of the CPU, on every engine: they stop exactly where they should, whatever is
// translated already, and the guest sees nothing of them.
#include <catch2/catch.hpp>

#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cpu/flags.h"
#include "cpu/x87_fixture.h"
#include "jit/engine.h"

using namespace vellum;

namespace {

// inc eax; inc ebx; mov [3000h], eax; add edx, [3004h]; dec ecx; jnz kCode; hlt
const std::vector<u8> kLoop = {0x40, 0x43, 0xa3, 0x00, 0x30, 0, 0, 0x03, 0x15, 0x04, 0x30, 0, 0, 0x49, 0x75, 0xf0, 0xf4};
constexpr u32 kInsnsPerRound = 6;
constexpr u64 kEndless = 1'000'000'000;

struct DebuggedGuest : Guest {
  explicit DebuggedGuest(const std::vector<u8>& code = kLoop, u32 rounds = 20000) {
    const Engine engine = GENERATE(Engine::Interpreter, Engine::Baseline, Engine::Llvm, Engine::Tiered);
    name = engine_names()[static_cast<usize>(engine)];
    REQUIRE(use_engine(cpu, {.engine = engine, .hot_entries = engine == Engine::Interpreter || engine == Engine::Baseline ? 0u : 60u,
                             .wait_for_compiler = true}));
    install_handlers();
    memory.write(GuestPhysAddr(kCode), code);
    cpu.s.rip = kCode;
    cpu.s.gpr[kRcx] = rounds;
    cpu.s.gpr[kRdx] = 0;
    start = cpu.retired();
  }
  // Identity-mapped pages of 4 KiB; the page at kAlias is that of the code.
  static constexpr u32 kAlias = 0x80000;
  void turn_paging_on() {
    for (u32 page = 0; page < 256; ++page) map(page << 12, page << 12);
    memory.write_value<u32>(GuestPhysAddr(0x10000), 0x11003);
    map(kAlias, kCode);
    cpu.s.cr3 = 0x10000;
    cpu.s.cr0 |= kCr0Pg;
    cpu.update_mode();
    cpu.flush_tlb();
  }
  void map(u32 linear, u32 physical) { memory.write_value<u32>(GuestPhysAddr(0x11000 + (linear >> 12) * 4), physical | 3); }
  u64 done() const { return cpu.retired() - start; }
  DebugControl& debug() { return cpu.debug(); }
  // Goes on from where it is to the next stop.
  Exit resume(u64 budget = kEndless) {
    (void)debug().take_stop();
    debug().pass_here(cpu.s.rip, cpu.retired());
    return cpu.run(budget);
  }
  std::string_view name;
  u64 start = 0;
};

}  // namespace

TEST_CASE("a breakpoint within a block stops in front of its instruction, every time") {
  DebuggedGuest guest;
  INFO(guest.name);
  guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + 1);
  for (u32 round = 1; round <= 300; ++round) {
    REQUIRE(guest.resume() == Exit::Debug);
    const auto stop = guest.debug().take_stop();
    REQUIRE(stop);
    CHECK(stop->kind == DebugStop::Kind::Breakpoint);
    CHECK(stop->address == kCode + 1);
    REQUIRE(guest.cpu.s.rip == kCode + 1);
    REQUIRE(guest.cpu.s.gpr[kRax] == round);
    REQUIRE(guest.cpu.s.gpr[kRbx] == round - 1);
    REQUIRE(guest.done() == 1 + (round - 1) * kInsnsPerRound);
  }
  REQUIRE(guest.debug().remove_breakpoint(DebugSpace::Linear, kCode + 1));
  CHECK_FALSE(guest.debug().remove_breakpoint(DebugSpace::Linear, kCode + 1));
  REQUIRE(guest.resume() == Exit::Halted);
  CHECK(guest.done() == 20000 * kInsnsPerRound + 1);
  CHECK(guest.cpu.s.gpr[kRbx] == 20000);
}

TEST_CASE("a breakpoint in code that has long been hot stops at its next run") {
  DebuggedGuest guest(kLoop, 2'000'000);
  INFO(guest.name);
  REQUIRE(guest.cpu.run(3'000'000) == Exit::BudgetSpent);
  const u64 rounds = guest.cpu.s.gpr[kRbx];
  const u32 offset = GENERATE(0u, 1u, 2u, 7u, 13u, 14u);
  guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + offset);
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == kCode + offset);
  CHECK(guest.cpu.s.gpr[kRbx] <= rounds + 1);
  const u64 at_first = guest.done();
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.done() == at_first + kInsnsPerRound);
  REQUIRE(guest.debug().remove_breakpoint(DebugSpace::Linear, kCode + offset));
  // Cuts go after a while, and the code becomes hot again; all is as if there had been no debugger.
  guest.debug().clear();
  while (guest.resume() == Exit::BudgetSpent) {}
  CHECK(guest.done() == 2'000'000 * u64{kInsnsPerRound} + 1);
  CHECK(guest.cpu.s.gpr[kRdx] == 0);
}

TEST_CASE("hundreds of breakpoints are independent of each other") {
  std::vector<u8> code(900, 0x43);  // inc ebx
  code.push_back(0xf4);
  DebuggedGuest guest(code);
  INFO(guest.name);
  for (u32 i = 0; i < 900; i += 2) guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + i);
  for (u32 i = 2; i < 900; i += 2) {
    REQUIRE(guest.resume() == Exit::Debug);
    REQUIRE(guest.cpu.s.rip == kCode + i);
    REQUIRE(guest.cpu.s.gpr[kRbx] == i);
  }
  CHECK(guest.resume() == Exit::Halted);
}

TEST_CASE("a linear breakpoint belongs to its linear address, a physical one to every mapping") {
  DebuggedGuest guest(kLoop, 1000);
  INFO(guest.name);
  guest.turn_paging_on();
  guest.debug().insert_breakpoint(DebugSpace::Linear, guest.kAlias + 1);
  REQUIRE(guest.resume() == Exit::Halted);
  guest.cpu.s.halted = false;
  guest.cpu.s.rip = guest.kAlias;
  guest.cpu.s.gpr[kRcx] = 1000;
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == guest.kAlias + 1);
  guest.debug().clear();
  guest.debug().insert_breakpoint(DebugSpace::Physical, kCode + 7);
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == guest.kAlias + 7);
  CHECK(guest.debug().take_stop()->space == DebugSpace::Physical);
  guest.cpu.s.rip = kCode;
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == kCode + 7);
}

TEST_CASE("a breakpoint waits for its page to be mapped") {
  DebuggedGuest guest(kLoop, 5000);
  INFO(guest.name);
  guest.turn_paging_on();
  guest.map(guest.kAlias, 0x3000);  // something else
  guest.debug().insert_breakpoint(DebugSpace::Linear, guest.kAlias + 2);
  REQUIRE(guest.resume(3000) == Exit::BudgetSpent);  // the same bytes, elsewhere, and hot by now
  guest.map(guest.kAlias, kCode);
  guest.cpu.flush_tlb_page(guest.kAlias);
  // A data access finds the page first.
  CHECK(guest.cpu.read_linear<u8>(guest.kAlias) == 0x40);
  guest.cpu.s.rip = guest.kAlias;
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == guest.kAlias + 2);
}

TEST_CASE("a watchpoint stops right behind the access, and nowhere else") {
  struct Case {
    u32 address, size;
    u8 accesses;
    u32 rip;  // 0: never
  };
  const Case c = GENERATE(Case{0x3000, 4, kWatchWrite, kCode + 7}, Case{0x3003, 1, kWatchWrite, kCode + 7}, Case{0x3000, 4, kWatchRead, 0},
                          Case{0x3004, 1, kWatchRead, kCode + 13}, Case{0x3004, 4, kWatchWrite, 0}, Case{0x3007, 9, kWatchRead | kWatchWrite, kCode + 13},
                          Case{0x3008, 8, kWatchRead | kWatchWrite, 0}, Case{0x2fff, 1, kWatchRead | kWatchWrite, 0});
  const DebugSpace space = GENERATE(DebugSpace::Linear, DebugSpace::Physical);
  DebuggedGuest guest(kLoop, 3000);
  INFO(guest.name << " at " << c.address);
  guest.turn_paging_on();
  REQUIRE(guest.resume(6000) == Exit::BudgetSpent);
  const Watchpoint watchpoint{.space = space, .address = c.address, .size = c.size, .accesses = c.accesses};
  guest.debug().insert_watchpoint(watchpoint);
  for (u32 times = 1; c.rip && times < 100; ++times) {
    REQUIRE(guest.resume() == Exit::Debug);
    const auto stop = guest.debug().take_stop();
    REQUIRE(stop);
    REQUIRE(stop->kind == DebugStop::Kind::Watchpoint);
    REQUIRE(stop->watchpoint == watchpoint);
    REQUIRE(guest.cpu.s.rip == c.rip);
    REQUIRE(guest.dword(0x3000) == guest.cpu.s.gpr[kRax]);
    REQUIRE(guest.done() == 6000 + (times - 1) * kInsnsPerRound + (c.rip == kCode + 7 ? 3 : 4));
  }
  REQUIRE(guest.debug().remove_watchpoint(watchpoint));
  REQUIRE(guest.resume() == Exit::Halted);
  CHECK(guest.done() == 3000 * kInsnsPerRound + 1);
  CHECK(guest.dword(0x3000) == 3000);
}

TEST_CASE("a repeated string instruction with a breakpoint stops once, and counts as without") {
  // mov ecx, 20000; mov edi, 10000h; rep stosb; hlt
  DebuggedGuest guest({0xb9, 0x20, 0x4e, 0, 0, 0xbf, 0, 0, 1, 0, 0xf3, 0xaa, 0xf4});
  INFO(guest.name);
  guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + 10);
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == kCode + 10);
  REQUIRE(guest.resume() == Exit::Halted);
  const u64 with = guest.done();
  guest.debug().clear();
  guest.cpu.s.halted = false;
  guest.cpu.s.rip = kCode;
  REQUIRE(guest.resume() == Exit::Halted);
  CHECK(guest.done() == 2 * with);
}

TEST_CASE("code that rewrites itself at a breakpoint runs what is there, and stops there") {
  // again: inc byte [1008h]; add edx, 0 (whose immediate is that byte); dec ecx; jnz again; hlt
  DebuggedGuest guest({0xfe, 0x05, 0x08, 0x10, 0, 0, 0x83, 0xc2, 0, 0x49, 0x75, 0xf4, 0xf4}, 100);
  INFO(guest.name);
  guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + 6);
  u32 sum = 0;
  for (u32 round = 1; round <= 100; ++round) {
    REQUIRE(guest.resume() == Exit::Debug);
    REQUIRE(guest.cpu.s.gpr[kRdx] == sum);
    REQUIRE(guest.byte(kCode + 8) == round);
    sum += round;
  }
  REQUIRE(guest.resume() == Exit::Halted);
  CHECK(guest.cpu.s.gpr[kRdx] == sum);
}

TEST_CASE("the guest's own debug registers and flags stay as they are") {
  DebuggedGuest guest;
  INFO(guest.name);
  guest.debug().insert_breakpoint(DebugSpace::Linear, kCode + 7);
  guest.debug().insert_watchpoint({.address = 0x3000, .size = 4});
  const auto before = guest.cpu.s.dr;
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.dr == before);
  CHECK_FALSE(guest.cpu.s.rflags & kTf);
  CHECK(guest.byte(kCode + 7) == 0x03);
}

TEST_CASE("held interrupts wait") {
  struct Pic : Board {
    std::optional<u8> acknowledge_interrupt() override { return u8{3}; }
  };
  DebuggedGuest guest;
  INFO(guest.name);
  Pic pic;
  CpuCore fresh(guest.model, guest.memory, pic, 0);
  ArchiveWriter writer;
  guest.cpu.s.rflags |= kIf;
  guest.cpu.visit(writer);
  const std::vector<u8> state = writer.take();
  ArchiveReader reader(state);
  fresh.visit(reader);
  REQUIRE_FALSE(reader.failed());
  fresh.debug().hold_interrupts(true);
  fresh.set_interrupt_request(true);
  REQUIRE(fresh.run(1) == Exit::BudgetSpent);
  CHECK(fresh.s.rip == kCode + 1);
  fresh.debug().hold_interrupts(false);
  REQUIRE(fresh.run(1) == Exit::Halted);  // the handler is HLT
  CHECK(fresh.s.rip >= kHandlers);
}

namespace {

struct Recorder : CpuObserver {
  explicit Recorder(CpuCore& cpu) : m_cpu(cpu) {}
  void port_accessed(u16 port, unsigned size, bool write, u32 value) override {
    note(write ? "out " + std::to_string(port) + "=" + std::to_string(value) : "in " + std::to_string(port));
  }
  void msr_accessed(u32 index, bool write, u64 value) override { note((write ? "wrmsr " : "rdmsr ") + std::to_string(index)); }
  void control_written(unsigned number, u64 value) override { note("cr" + std::to_string(number)); }
  void interrupt_delivered(u8 vector, bool external, u32 error_code) override { note("vector " + std::to_string(vector)); }
  void mode_changed(CpuMode before, CpuMode now) override { note(std::string(cpu_mode_name(before)) + " to " + cpu_mode_name(now)); }
  void note(std::string text) {
    events.push_back(std::move(text));
    m_cpu.debug().request_stop({.kind = DebugStop::Kind::Event});
    m_cpu.request_exit();
  }
  std::vector<std::string> events;

 private:
  CpuCore& m_cpu;
};

}  // namespace

TEST_CASE("observers see ports, registers and interrupts, and may stop behind them") {
  // mov al, 7; out 80h, al; mov ecx, c0000080h; rdmsr; mov eax, cr0; mov cr0, eax; int 5
  DebuggedGuest guest({0xb0, 0x07, 0xe6, 0x80, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0xcd, 0x05, 0xf4});
  INFO(guest.name);
  Recorder recorder(guest.cpu);
  guest.cpu.add_observer(recorder, kEventPort | kEventMsr | kEventControl | kEventInterrupt | kEventMode);
  const u32 after[] = {kCode + 4, kCode + 11, kCode + 17};
  for (const u32 rip : after) {
    REQUIRE(guest.resume() == Exit::Debug);
    CHECK(guest.cpu.s.rip == rip);
    CHECK(guest.debug().take_stop()->kind == DebugStop::Kind::Event);
  }
  REQUIRE(guest.resume() == Exit::Debug);
  CHECK(guest.cpu.s.rip == kHandlers + 5 * 16);
  CHECK(recorder.events == std::vector<std::string>{"out 128=7", "rdmsr 3221225600", "cr0", "vector 5"});
  guest.cpu.remove_observer(recorder);
}

namespace {

// Keeps what it is told; what is undone is forgotten.
struct AccessList : CpuObserver {
  explicit AccessList(CpuCore& observed) : cpu(observed) {}
  struct Access {
    u64 rip, linear, size;
    bool write;
    bool operator==(const Access&) const = default;
  };
  void memory_accessed(u64 linear, bool write, std::span<const u8> data) override {
    accesses.push_back({cpu.s.insn ? cpu.insn_rip() : cpu.s.rip, linear, data.size(), write});
    if (data.size() == 4 && linear == 0x3010 && write) {
      u32 value;
      std::memcpy(&value, data.data(), 4);
      counted.push_back(value);
    }
  }
  void accesses_undone() override {
    while (!accesses.empty() && accesses.back().rip == cpu.s.rip) accesses.pop_back();
  }
  CpuCore& cpu;
  std::vector<Access> accesses;
  std::vector<u32> counted;
};

}  // namespace

TEST_CASE("an observer is told every access to observed pages, in order, in every engine") {
  const std::vector<u8> code = {
      0xa3, 0x00, 0x30, 0, 0,                    // 00 mov [3000h], eax
      0x03, 0x15, 0x04, 0x30, 0, 0,              // 05 add edx, [3004h]
      0x66, 0x83, 0x05, 0xfe, 0x3f, 0, 0, 2,     // 0b add word [3ffeh], 2
      0x53, 0x5e,                                // 13 push ebx; 14 pop esi
      0x86, 0x05, 0x08, 0x30, 0, 0,              // 15 xchg al, [3008h]
      0xf0, 0xff, 0x05, 0x10, 0x30, 0, 0,        // 1b lock inc dword [3010h]
      0x89, 0x0d, 0xfe, 0x3f, 0, 0,              // 22 mov [3ffeh], ecx: across two pages
      0xdb, 0x2d, 0x20, 0x30, 0, 0,              // 28 fld tbyte [3020h]
      0xdb, 0x3d, 0x30, 0x30, 0, 0,              // 2e fstp tbyte [3030h]
      0x0f, 0x10, 0x05, 0x40, 0x30, 0, 0,        // 34 movups xmm0, [3040h]
      0x0f, 0x11, 0x05, 0x50, 0x30, 0, 0,        // 3b movups [3050h], xmm0
      0xbe, 0x60, 0x30, 0, 0,                    // 42 mov esi, 3060h
      0xbf, 0x70, 0x30, 0, 0,                    // 47 mov edi, 3070h
      0x51, 0xb9, 2, 0, 0, 0, 0xf3, 0xa5, 0x59,  // 4c push ecx; 4d mov ecx, 2; 52 rep movsd; 54 pop ecx
      0x8b, 0x1d, 0x00, 0x90, 0, 0,              // 55 mov ebx, [9000h]: on a page that is not observed
      0x49, 0x75, 0xa2, 0xf4};                   // 5b dec ecx; 5c jnz 00; 5e hlt
  // What the manual says each of them accesses (SDM Vol. 2).
  using Access = AccessList::Access;
  const std::vector<Access> round = {
      {kCode + 0x00, 0x3000, 4, true},  {kCode + 0x05, 0x3004, 4, false},  {kCode + 0x0b, 0x3ffe, 2, false},  {kCode + 0x0b, 0x3ffe, 2, true},
      {kCode + 0x13, 0x5fec, 4, true},  {kCode + 0x14, 0x5fec, 4, false},  {kCode + 0x15, 0x3008, 1, false},  {kCode + 0x15, 0x3008, 1, true},
      {kCode + 0x1b, 0x3010, 4, false}, {kCode + 0x1b, 0x3010, 4, true},   {kCode + 0x22, 0x3ffe, 4, true},   {kCode + 0x28, 0x3020, 10, false},
      {kCode + 0x2e, 0x3030, 10, true}, {kCode + 0x34, 0x3040, 16, false}, {kCode + 0x3b, 0x3050, 16, true},  {kCode + 0x4c, 0x5fec, 4, true},
      {kCode + 0x52, 0x3060, 4, false}, {kCode + 0x52, 0x3070, 4, true},   {kCode + 0x52, 0x3064, 4, false},  {kCode + 0x52, 0x3074, 4, true},
      {kCode + 0x54, 0x5fec, 4, false}};
  constexpr u32 kRounds = 400;
  DebuggedGuest guest(code, kRounds);
  INFO(guest.name);
  guest.cpu.s.gpr[kRsp] = 0x5ff0;
  guest.cpu.s.cr4 |= kCr4Osfxsr;
  guest.cpu.s.x87.control = 0x37f;
  guest.cpu.s.x87.valid = 0;
  guest.cpu.update_mode();
  const bool hot_before = GENERATE(false, true);
  if (hot_before) guest.cpu.run(200 * 21);
  guest.cpu.s.gpr[kRcx] = kRounds;
  guest.cpu.s.gpr[kRsp] = 0x5ff0;
  guest.cpu.s.rip = kCode;
  guest.memory.write_value<u32>(GuestPhysAddr(0x3010), 0);
  AccessList list(guest.cpu);
  guest.cpu.add_observer(list, kEventMemory);
  guest.debug().observe_memory(0x3000, 0x5fff);
  REQUIRE(guest.resume() == Exit::Halted);
  for (usize i = 0; i < list.accesses.size(); ++i) {
    INFO(i << ": " << std::hex << list.accesses[i].rip << " " << list.accesses[i].linear << " " << list.accesses[i].size);
    REQUIRE(list.accesses[i] == round[i % round.size()]);
  }
  CHECK(list.accesses.size() == round.size() * kRounds);
  for (u32 i = 0; i < kRounds; ++i) REQUIRE(list.counted[i] == i + 1);
  CHECK(guest.dword(0x3010) == kRounds);
  guest.cpu.remove_observer(list);
  guest.debug().ignore_memory();
  guest.cpu.s.rip = kCode;
  guest.cpu.s.halted = false;
  guest.cpu.s.gpr[kRcx] = 3;
  REQUIRE(guest.resume() == Exit::Halted);
  CHECK(guest.dword(0x3010) == kRounds + 3);
  CHECK(list.accesses.size() == round.size() * kRounds);
}

TEST_CASE("the CPU's own accesses are told, and an instruction that faults is told of again when it comes again") {
  // int 3: reads the vector's descriptor and the code segment's, pushes EFLAGS, CS and EIP; the handler is HLT.
  DebuggedGuest guest({0xcc});
  INFO(guest.name);
  guest.cpu.s.gpr[kRsp] = 0x5ff0;
  AccessList list(guest.cpu);
  guest.cpu.add_observer(list, kEventMemory);
  guest.debug().observe_memory(0, 0xffff);
  REQUIRE(guest.resume() == Exit::Halted);
  const auto told = [&](u64 first, u64 last, bool write) {
    u64 bytes = 0;
    for (const auto& access : list.accesses)
      if (access.write == write && access.linear >= first && access.linear <= last) bytes += access.size;
    return bytes;
  };
  CHECK(told(kIdt + 8 * 3, kIdt + 8 * 3 + 7, false) == 8);
  CHECK(told(kGdt + 8, kGdt + 15, false) >= 8);
  CHECK(told(0x5ff0 - 12, 0x5fef, true) == 12);
}
