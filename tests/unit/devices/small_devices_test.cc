// Ports 61h and 92h, the A20 gate, debug console, isa-debug-exit, pc-testdev and the parallel port.
#include <catch2/catch.hpp>

#include "devices/a20_gate.h"
#include "devices/debug_console.h"
#include "devices/isa_debug_exit.h"
#include "devices/parallel_port.h"
#include "devices/pc_testdev.h"
#include "devices/port92.h"
#include "devices/system_control_port.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Port61 {
  ManualClock clock;
  FakeLines lines;
  Pit8254 pit{clock, lines.line(0)};
  SystemControlPort port{clock, pit, lines.line(1)};
  u8 in() { return static_cast<u8>(port.read_port(0x61, 1)); }
  void out(u8 value) { port.write_port(0x61, 1, value); }
};

}  // namespace

TEST_CASE("port 61h: bits 3:0 read back, bit 4 toggles with each refresh of 15.085 us") {
  Port61 p;
  p.out(0xff);
  CHECK((p.in() & 0x0f) == 0x0f);
  unsigned toggles = 0;
  u8 last = p.in() & 0x10;
  for (int i = 0; i < 1000; ++i) {
    p.clock.advance(1'000);
    const u8 now = p.in() & 0x10;
    toggles += now != last;
    last = now;
  }
  CHECK(toggles == 1'000'000 / 15'085);
}

TEST_CASE("port 61h: bit 0 is counter 2's gate, bit 5 its output") {
  Port61 p;
  p.pit.write_port(0x43, 1, 0xb0);
  p.pit.write_port(0x42, 1, 10);
  p.pit.write_port(0x42, 1, 0);
  p.clock.advance(1'000'000);
  CHECK((p.in() & 0x20) == 0);
  p.out(0x01);
  p.clock.advance(1'000'000);
  CHECK((p.in() & 0x20) == 0x20);
  CHECK_FALSE(p.port.speaker_enabled());
  p.out(0x03);
  CHECK(p.port.speaker_enabled());
}

TEST_CASE("port 61h: SERR# and IOCHK# raise NMI until their source is disabled, unless NMI is masked") {
  Port61 p;
  p.port.reset(ResetKind::PowerOn);
  p.port.report_system_error();
  CHECK_FALSE(p.lines.level[1]);
  p.port.set_nmi_mask(false);
  CHECK(p.lines.level[1]);
  CHECK((p.in() & 0xc0) == 0x80);
  p.out(0x04);
  CHECK_FALSE(p.lines.level[1]);
  CHECK((p.in() & 0xc0) == 0x00);
  p.port.report_system_error();
  CHECK_FALSE(p.lines.level[1]);
  p.port.report_io_channel_check();
  CHECK(p.lines.level[1]);
  CHECK((p.in() & 0xc0) == 0x40);
  p.out(0x08);
  CHECK((p.in() & 0xc0) == 0x00);
}

TEST_CASE("A20 passes when the keyboard controller or port 92h lets it") {
  std::vector<bool> changes;
  A20Gate gate([&](bool enabled) { changes.push_back(enabled); });
  CHECK(gate.enabled());
  gate.set_port92(true);
  gate.set_keyboard_controller(false);
  CHECK(gate.enabled());
  CHECK(changes.empty());
  gate.set_port92(false);
  CHECK_FALSE(gate.enabled());
  gate.set_keyboard_controller(true);
  CHECK(changes == std::vector<bool>{false, true});
}

TEST_CASE("port 92h: bit 1 is A20, bit 0 resets when it rises") {
  bool a20 = true;
  unsigned resets = 0;
  Port92 port([&](bool level) { a20 = level; }, [&] { ++resets; });
  port.reset(ResetKind::PowerOn);
  CHECK_FALSE(a20);
  port.write_port(0x92, 1, 0x02);
  CHECK(a20);
  CHECK(port.read_port(0x92, 1) == 0x02);
  port.write_port(0x92, 1, 0x03);
  port.write_port(0x92, 1, 0x03);
  CHECK(resets == 1);
}

TEST_CASE("debug console: writes reach the backend, reads give E9h") {
  FakeBackend backend;
  DebugConsole console("debugcon", &backend);
  console.write_port(0x402, 1, 'V');
  CHECK(backend.sent == "V");
  CHECK(console.read_port(0x402, 1) == 0xe9);
  DebugConsole unconnected("debugcon", nullptr);
  unconnected.write_port(0x402, 1, 'V');
}

TEST_CASE("isa-debug-exit: the status is twice the value plus one") {
  int status = -1;
  IsaDebugExit device([&](int value) { status = value; });
  device.write_port(0xf4, 4, 0x10);
  CHECK(status == 0x21);
  CHECK(device.read_port(0xf4, 1) == 0);
}

TEST_CASE("pc-testdev: the register at E0h is written and read at every width, and byte by byte at E8h") {
  FakeLines lines;
  PcTestdev device(lines);
  device.write_port(0xe0, 4, 0x12345678);
  CHECK(device.read_port(0xe0, 4) == 0x12345678);
  CHECK(device.read_port(0xe1, 1) == 0x56);
  CHECK(device.read_port(0xe2, 2) == 0x1234);
  device.write_port(0xe2, 1, 0xab);
  CHECK(device.read_port(0xe8, 4) == 0x12ab5678);
  device.write_port(0xe4, 4, 0xdeadbeef);
  CHECK(device.read_port(0xe0, 4) == 0x12ab5678);
}

TEST_CASE("pc-testdev: ports from 2000h drive interrupt lines") {
  FakeLines lines;
  PcTestdev device(lines);
  device.write_port(0x2005, 1, 1);
  device.write_port(0x2017, 4, 1);
  CHECK(lines.level[5]);
  CHECK(lines.level[23]);
  device.write_port(0x2005, 1, 0);
  CHECK_FALSE(lines.level[5]);
  device.reset(ResetKind::System);
  CHECK_FALSE(lines.level[23]);
}

TEST_CASE("pc-testdev: 64 KiB of memory-mapped bytes") {
  FakeLines lines;
  PcTestdev device(lines);
  device.write_mmio(0xfff8, 8, 0x1122334455667788);
  CHECK(device.read_mmio(0xfffc, 4) == 0x11223344);
  CHECK(device.read_mmio(0x0, 8) == 0);
}

TEST_CASE("parallel port: each strobe sends the data byte and interrupts when enabled") {
  FakeLines lines;
  FakeBackend printer;
  ParallelPort port("parallel", lines.line(7), &printer);
  port.write_port(0x378, 1, 'P');
  port.write_port(0x37a, 1, 0x0d);
  port.write_port(0x37a, 1, 0x0c);
  CHECK(printer.sent == "P");
  CHECK(lines.rises[7] == 0);
  port.write_port(0x37a, 1, 0x1d);
  CHECK(printer.sent == "PP");
  CHECK(lines.rises[7] == 1);
  CHECK(port.read_port(0x378, 1) == 'P');
  CHECK(port.read_port(0x379, 1) == 0xdf);
  CHECK(port.read_port(0x37a, 1) == 0xdd);
}

TEST_CASE("parallel port: without a printer the status floats") {
  ParallelPort port("parallel", {}, nullptr);
  CHECK(port.read_port(0x379, 1) == 0x7f);
}
