// gdb's remote protocol, packet by packet ("Debugging with GDB", appendix E); tests/debug has gdb itself.
#include <catch2/catch.hpp>

#include "debug/gdb_stub.h"
#include "debug/registers.h"
#include "debug/small_machine.h"

using namespace vellum;
using vellum::test::SmallMachine;

namespace {

struct Bench : SmallMachine {
  // inc eax; mov [3000h], eax; jmp start
  Bench() : SmallMachine({0x40, 0xa3, 0, 0x30, 0, 0, 0xeb, 0xf8}) { stub.connected(); }
  std::string raw(std::string_view bytes) {
    sent.clear();
    stub.receive({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
    return sent;
  }
  // The data of the answer to a packet; what runs, runs until it stops.
  std::string ask(std::string_view data) {
    u8 sum = 0;
    for (const char c : data) sum = static_cast<u8>(sum + static_cast<u8>(c));
    raw(fmt::format("${}#{:02x}", data, sum));
    while (machine->running()) run(stub);
    const auto start = sent.rfind('$'), end = sent.rfind('#');
    return start == std::string::npos ? "(none)" : sent.substr(start + 1, end - start - 1);
  }
  std::string sent;
  GdbStub stub{*machine, {.send = [this](std::string_view bytes) { sent += bytes; }, .monitor = [](std::string_view line) { return "did " + std::string(line); }}};
};

}  // namespace

TEST_CASE("frames: checksums, acknowledgements, repetition, no-ack mode") {
  Bench bench;
  CHECK(bench.raw("$?#3f") == "+$T02thread:1;#d4");
  CHECK(bench.raw("$?#00") == "-");
  CHECK(bench.raw("-") == "$T02thread:1;#d4");  // the last answer again
  CHECK(bench.ask("QStartNoAckMode") == "OK");
  CHECK(bench.raw("$?#3f") == "$T02thread:1;#d4");
}

TEST_CASE("registers: one by one and all together, under both names") {
  Bench bench;
  CHECK(bench.ask("p10") == "0010000000000000");
  CHECK(bench.ask("P0=8877665544332211") == "OK");
  CHECK(bench.cpu().s.gpr[kRax] == 0x1122334455667788);
  CHECK(bench.ask(fmt::format("p{:x}", debug_register_number("eax"))) == "88776655");
  const std::string all = bench.ask("g");
  CHECK(all.size() == 2 * debug_register_bytes());
  CHECK(all.starts_with("8877665544332211"));
  CHECK(bench.ask("G" + all) == "OK");
  // All registers or none: not the first few, of which the last may be half a one.
  CHECK(bench.ask("G00000000") == "E16");
  CHECK(bench.ask("G" + all + "00") == "E16");
  CHECK(bench.ask("g") == all);
  CHECK(bench.ask("pffff") == "E16");
  CHECK(bench.ask("P0=00") == "E16");
}

TEST_CASE("memory, by text and binary, linear and physical") {
  Bench bench;
  CHECK(bench.ask("M4000,2:1234") == "OK");
  CHECK(bench.ask("m4000,2") == "1234");
  CHECK(bench.ask("X4002,2:}\x03}\x5d") == "OK");  // '#' and '}', escaped
  CHECK(bench.ask("m4002,2") == "237d");
  CHECK(bench.ask("m40000000,4") == "E0e");
  CHECK(bench.ask("m3ffffe,4") == "0000");  // as far as there is memory
  CHECK(bench.ask("Qqemu.PhyMemMode:1") == "OK");
  CHECK(bench.ask("m4000,2") == "1234");
}

TEST_CASE("running: steps, breakpoints and watchpoints say where they stopped") {
  Bench bench;
  CHECK(bench.ask("qSupported:swbreak+;hwbreak+").contains("PacketSize=10000"));
  CHECK(bench.ask("vCont;s:1") == "T05thread:1;");
  CHECK(bench.cpu().s.rip == 0x1001);
  CHECK(bench.ask("Z0,1000,1") == "OK");
  CHECK(bench.ask("vCont;c") == "T05thread:1;swbreak:;");
  CHECK(bench.cpu().s.rip == 0x1000);
  CHECK(bench.ask("vCont;c") == "T05thread:1;swbreak:;");  // once around
  CHECK(bench.ask("z0,1000,1") == "OK");
  CHECK(bench.ask("Z2,3002,1") == "OK");
  CHECK(bench.ask("vCont;c") == "T05thread:1;watch:3002;");
  CHECK(bench.cpu().s.rip == 0x1006);
  CHECK(bench.ask("vCont;r1000,1008:1;c") == "T05thread:1;watch:3002;");  // within the range, until something else stops it
}

TEST_CASE("questions: description, threads, monitor, what is not known") {
  Bench bench;
  CHECK(bench.ask("qXfer:features:read:target.xml:0,20").starts_with("m<?xml"));
  CHECK(bench.ask("qXfer:features:read:target.xml:100000,20") == "l");
  CHECK(bench.ask("qfThreadInfo") == "m1");
  CHECK(bench.ask("T2") == "E16");
  bench.ask("qRcmd,6869");
  CHECK(bench.sent.contains("$O646964206869#"));
  CHECK(bench.ask("vMustReplyEmpty").empty());
  CHECK(bench.ask("bc").starts_with("E."));
}
