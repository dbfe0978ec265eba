// Breakpoints of every kind, steps and the debugging commands, on a real CPU.
#include <catch2/catch.hpp>

#include "debug/debug_commands.h"
#include "debug/small_machine.h"

using namespace vellum;
using vellum::test::SmallMachine;

namespace {

// 1000 mov eax, 1; 1005 out 80h, al; 1007 call 1020h; 100c mov [3000h], eax; 1011 mov ecx, c0000080h; 1016 rdmsr; 1018 mov eax, cr0;
// 101b mov cr0, eax; 101e jmp 101eh; 1020 inc eax; ret
const std::vector<u8> kProgram = {0xb8, 1, 0, 0, 0, 0xe6, 0x80, 0xe8, 0x14, 0, 0, 0, 0xa3, 0, 0x30, 0, 0, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0f, 0x20,
                                  0xc0, 0x0f, 0x22, 0xc0, 0xeb, 0xfe, 0x40, 0xc3};

struct Bench : SmallMachine {
  explicit Bench(const std::vector<u8>& code = kProgram) : SmallMachine(code) {
    debugger.on_stop = [this](const std::string& text) { told = text; };
    debugger.symbols().add("start", 0x1000, 0x20);
    debugger.symbols().add("increment", 0x1020, 2);
  }
  std::string execute(std::string_view line) {
    std::vector<std::string> words;
    while (!line.empty()) {
      words.emplace_back(line.substr(0, line.find(' ')));
      line.remove_prefix(std::min(line.size(), words.back().size() + 1));
    }
    return commands.execute(words).value_or("(no such command)");
  }
  // Goes on until something stops it; where.
  u64 go_on() {
    debugger.go_on();
    run(debugger);
    return cpu().s.rip;
  }
  Debugger debugger{*machine};
  DebugCommands commands{debugger};
  std::string told;
};

}  // namespace

TEST_CASE("each kind of breakpoint stops behind its event, or before its instruction") {
  struct Case {
    const char* command;
    u32 rip;
    const char* told;
  };
  const Case c = GENERATE(Case{"break 0x1007", 0x1007, "breakpoint 1: at 0x1007 <start+0x7>\n"}, Case{"break increment", 0x1020, "breakpoint 1: at 0x1020 <increment>\n"},
                          Case{"break phys 0x100c", 0x100c, "breakpoint 1: at physical 0x100c\n"},
                          Case{"break port 0x80", 0x1007, "breakpoint 1: 1 bytes 0x1 to port 0x80\n"},
                          Case{"break port 0x70-0x90 write", 0x1007, "breakpoint 1: 1 bytes 0x1 to port 0x80\n"},
                          Case{"break watch 0x3000 4", 0x1011, "breakpoint 1: write of 0x3000\n"},
                          Case{"break access 0x3002 1", 0x1011, "breakpoint 1: write of 0x3002\n"},
                          Case{"break mmio 0x3001-0x3001", 0x1011, "breakpoint 1: write of 0x3001\n"},
                          Case{"break msr 0xc0000080 read", 0x1018, "breakpoint 1: MSR 0xc0000080 read as 0x0\n"},
                          Case{"break cr 0", 0x101e, "breakpoint 1: CR0 set to 0x60000011\n"});
  Bench bench;
  INFO(c.command);
  CHECK(bench.execute(c.command).starts_with("breakpoint 1: "));
  CHECK(bench.go_on() == c.rip);
  CHECK(bench.told.starts_with(c.told));
  CHECK(bench.debugger.breakpoints()[0].hits == 1);
  CHECK(bench.execute("delete 1").empty());
  CHECK(bench.debugger.breakpoints().empty());
}

TEST_CASE("what does not fit stops nothing") {
  Bench bench;
  for (const char* command : {"break port 0x80 read", "break msr 0xc0000080 write", "break read 0x3000 4", "break vector 0x20-0x2f", "break mode", "break 0x1021", "break cr 3"}) {
    INFO(command);
    CHECK(bench.execute(command).starts_with("breakpoint"));
  }
  bench.execute("delete 6");  // 1021h is an instruction: RET
  bench.go_on();
  CHECK(bench.cpu().s.rip == 0x101e);
  CHECK(bench.told.empty());
}

TEST_CASE("steps go into calls, next goes over them, until goes to a place") {
  Bench bench;
  const auto step = [&](const char* command) {
    bench.execute(command);
    bench.run(bench.debugger);
    return bench.cpu().s.rip;
  };
  CHECK(step("step") == 0x1005);
  CHECK(step("step 2") == 0x1020);
  CHECK(bench.told == "0008:1020 <increment>:  incl %eax\n");
  CHECK(step("until 0x100c") == 0x100c);
  bench.cpu().s.rip = 0x1007;
  CHECK(step("next") == 0x100c);
  CHECK(step("next") == 0x1011);
  CHECK(bench.debugger.breakpoints().empty());
}

TEST_CASE("text on a serial line is found in what the guest writes to its data register") {
  // mov dx, 3f8h; mov al, 'O'; out dx, al; mov al, 'K'; out dx, al; jmp $
  Bench bench({0xba, 0xf8, 0x03, 0, 0, 0xb0, 'O', 0xee, 0xb0, 'K', 0xee, 0xeb, 0xfe});
  // Nothing answers at the line control register: as if DLAB were set, which it must not be.
  struct LineControl : PortHandler {
    u32 read_port(u16, unsigned) override { return 3; }
    void write_port(u16, unsigned, u32) override {}
  } line_control;
  bench.machine->ports().map("line control", 0x3fb, 1, line_control);
  CHECK(bench.commands.execute(std::vector<std::string>{"break", "serial", "OK"}) == "breakpoint 1: \"OK\" on serial line 0\n");
  CHECK(bench.go_on() == 0x100b);
}

TEST_CASE("registers, memory and code are shown and changed") {
  Bench bench;
  CHECK(bench.execute("print increment+0x10").starts_with("0x1030 4144"));
  CHECK(bench.execute("set $eax 0x1234").empty());
  CHECK(bench.execute("print $rax").starts_with("0x1234"));
  CHECK(bench.execute("print $pc") == bench.execute("print $rip"));
  CHECK(bench.execute("print $sp+8") == bench.execute("print $rsp+8"));
  CHECK(bench.execute("set 0x3000/w 0x11223344").empty());
  CHECK(bench.execute("x /2hx 0x3000") == "0000000000003000: 0x3344 0x1122\n");
  CHECK(bench.execute("x /4bd 0x3000") == "0000000000003000: 68 51 34 17\n");
  CHECK(bench.execute("xp /1w 0x3000") == "0000000000003000: 0x11223344\n");
  CHECK(bench.execute("disas increment 2") == "increment:\n   0x1020:  40                             incl %eax\n   0x1021:  c3                             retl\n");
  CHECK(bench.execute("disas /16 0x1000 1") == "start:\n=> 0x1000:  b8 01 00                       movw $1, %ax\n");
  CHECK(bench.execute("x /1w 0x10000000") == "no memory at 0x10000000\n");
  CHECK(bench.execute("break nowhere") == "break: 'nowhere' is no number, symbol or $register\n");
  CHECK(bench.execute("set $cr0 0x80000000") == "set: $cr0 cannot hold 0x80000000 now\n");
}
