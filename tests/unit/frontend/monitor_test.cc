// The monitor's commands on a machine of fakes, and its line editor.
#include <catch2/catch.hpp>

#include <unistd.h>

#include "frontend/key_names.h"
#include "frontend/monitor.h"
#include "machine/fake_parts.h"

using namespace vellum;

namespace {

struct FakeTerminal : CharacterBackend {
  void send(std::span<const u8> data) override { text.append(data.begin(), data.end()); }
  void type(std::string_view keys) { receive({reinterpret_cast<const u8*>(keys.data()), keys.size()}); }
  std::string text;
};

struct Bench {
  vellum::test::FakeMachine fake;
  FakeTerminal terminal;
  Debugger debugger{*fake.machine};
  Monitor monitor{*fake.machine, terminal};
  Bench() { monitor.use_debugger(debugger); }
};

}  // namespace

TEST_CASE("stop, cont, status and quit") {
  Bench bench;
  CHECK(bench.monitor.execute("info status") == "VM status: paused\n");
  CHECK(bench.monitor.execute("cont").empty());
  CHECK(bench.monitor.execute("info status") == "VM status: running\n");
  bench.monitor.execute("stop");
  CHECK_FALSE(bench.fake.machine->running());
  bench.monitor.execute("quit");
  CHECK(bench.fake.machine->run() == 0);
}

TEST_CASE("reset, power button and keys reach the board") {
  Bench bench;
  bench.monitor.execute("system_reset");
  bench.monitor.execute("system_powerdown");
  bench.fake.machine->run_instructions(1);
  CHECK(bench.fake.board->resets == 2);
  CHECK(bench.fake.board->power_button == 1);
  bench.monitor.execute("sendkey ctrl-c");
  using Keys = std::vector<std::pair<KeyCode, bool>>;
  CHECK(bench.fake.board->keys ==
        Keys{{KeyCode::LeftControl, true}, {KeyCode::C, true}, {KeyCode::C, false}, {KeyCode::LeftControl, false}});
  CHECK(bench.monitor.execute("sendkey ctrl-delet") == "unknown key 'delet'; did you mean 'delete'?\n");
}

TEST_CASE("change and eject reach the board with what was asked for") {
  Bench bench;
  CHECK(bench.monitor.execute("change cd \"a b.iso\"").empty());
  CHECK(bench.monitor.execute("change -f cd x raw readonly=on snapshot=on").empty());
  CHECK(bench.monitor.execute("eject cd").empty());
  CHECK(bench.monitor.execute("eject -f cd").empty());
  CHECK(bench.fake.board->media == "change cd a b.iso '';change cd x 'raw' read-only snapshot force;eject cd;eject cd force;");
  CHECK(bench.monitor.execute("change hd x") == "no such drive\n");
  CHECK(bench.monitor.execute("change cd x rwa") == "change: unknown value 'rwa'; did you mean 'raw'?\n");
  CHECK(bench.monitor.execute("eject cd now") == "usage: eject [-f] DRIVE\n");
  CHECK(bench.monitor.execute("change -f cd").starts_with("usage: change"));
}

TEST_CASE("mouse_move and mouse_button move a mouse by counts and a tablet to places") {
  Bench bench;
  CHECK(bench.monitor.execute("mouse_move -5 7 1").empty());
  CHECK(bench.fake.board->pointer == "by -5 7 1 0");
  CHECK(bench.monitor.execute("mouse_button 6").empty());
  CHECK(bench.fake.board->pointer == "by 0 0 0 6");
  bench.fake.board->tablet = true;
  CHECK(bench.monitor.execute("mouse_move 100 32767").empty());
  CHECK(bench.fake.board->pointer == "to 100 32767 0 6");
  CHECK(bench.monitor.execute("mouse_button 2").empty());  // the middle one
  CHECK(bench.fake.board->pointer == "to 100 32767 0 4");
  CHECK(bench.monitor.execute("mouse_move -1 0") == "mouse_move: the guest has a tablet: places are 0 to 32767\n");
}

TEST_CASE("a mistyped command, a wrong topic and a wrong number of arguments are explained") {
  Bench bench;
  CHECK(bench.monitor.execute("qiut") == "unknown command 'qiut'; did you mean 'quit'?\n");
  CHECK(bench.monitor.execute("info registrs") == "unknown topic 'registrs'; did you mean 'registers'?\n");
  CHECK(bench.monitor.execute("savevm") == "usage: savevm FILE\n");
  CHECK(bench.monitor.execute("stop now") == "usage: stop\n");
  CHECK(bench.monitor.execute("   ").empty());
}

TEST_CASE("info topics come from CPU, memory and board") {
  Bench bench;
  CHECK(bench.monitor.execute("info registers") == "RIP=0000\n");
  CHECK(bench.monitor.execute("info mtree").find("ram") != std::string::npos);
  CHECK(bench.monitor.execute("info pci") == "no PCI\n");
}

TEST_CASE("savevm and loadvm go through a file, and errors are printed") {
  Bench bench;
  char name[] = "/tmp/vellum-monitor-XXXXXX";
  close(mkstemp(name));
  bench.fake.machine->run_instructions(5000);
  const u64 hash = bench.fake.machine->state_hash();
  CHECK(bench.monitor.execute(fmt::format("savevm \"{}\"", name)).empty());
  bench.fake.machine->run_instructions(5000);
  CHECK(bench.monitor.execute(fmt::format("loadvm {}", name)).empty());
  CHECK(bench.fake.machine->state_hash() == hash);
  CHECK(bench.monitor.execute("loadvm /nonexistent") == "/nonexistent: cannot open the snapshot: No such file or directory\n");
  unlink(name);
}

TEST_CASE("xp shows physical memory") {
  Bench bench;
  const u8 data[] = {1, 2, 3, 4, 5, 6, 7, 8};
  bench.fake.machine->memory().write(GuestPhysAddr(0x1000), data);
  CHECK(bench.monitor.execute("xp /2xw 0x1000") == "0000000000001000: 0x04030201 0x08070605\n");
  CHECK(bench.monitor.execute("xp /3b 4098") == "0000000000001002: 0x03 0x04 0x05\n");
}

TEST_CASE("help names every command") {
  Bench bench;
  const std::string help = bench.monitor.execute("help");
  for (const auto name : Monitor::command_names()) CHECK(help.find(std::string(name)) != std::string::npos);
}

TEST_CASE("the line editor echoes, erases, remembers and completes") {
  Bench bench;
  bench.terminal.type("info statsu\b\bus\r");
  CHECK(bench.terminal.text.ends_with("VM status: paused\r\n(vellum) "));
  bench.terminal.text.clear();
  bench.terminal.type("\x1b[A\r");
  CHECK(bench.terminal.text == "info status\r\nVM status: paused\r\n(vellum) ");
  bench.terminal.text.clear();
  bench.terminal.type("info stat\t\r");
  CHECK(bench.terminal.text == "info status\r\nVM status: paused\r\n(vellum) ");
}
