// PIIX4 power management (datasheet 290562, chapter 7; ACPI 6.3, 4.8).
#include <catch2/catch.hpp>

#include "bench.h"
#include "devices/piix4_pm.h"

using namespace vellum;

namespace {

constexpr u16 kBase = 0x600;

struct Fixture {
  Bench bench;
  unsigned power_offs = 0, smis = 0;
  Piix4Pm pm{bench.pci, bench.clock, bench.line(9), {[this] { ++power_offs; }, [this] { ++smis; }}};
  Fixture() {
    bench.pci.attach(pm, 1, 3);
    pm.reset(ResetKind::PowerOn);
    pm.write_config(0x40, 4, kBase);
    pm.write_config(0x80, 1, 1);
  }
  u32 in(unsigned offset, unsigned size) { return bench.ports.read(static_cast<u16>(kBase + offset), size); }
  void out(unsigned offset, unsigned size, u32 value) { bench.ports.write(static_cast<u16>(kBase + offset), size, value); }
};

}  // namespace

TEST_CASE("piix4: the ports are where PMBA says, once PMIOSE enables them (7.1)") {
  Fixture f;
  CHECK(f.pm.read_config(0x40, 4) == (kBase | 1));
  CHECK(f.in(4, 2) == 0);
  CHECK(f.pm.pm_base() == kBase);
  f.pm.write_config(0x80, 1, 0);
  CHECK(f.in(4, 2) == 0xffff);
  CHECK(f.pm.pm_base() == 0);
}

TEST_CASE("piix4: the timer counts 3.579545 MHz in 24 bits (7.2.4)") {
  Fixture f;
  f.bench.clock.advance(kTicksPerSecond);
  CHECK(f.in(8, 4) == 3579545);
  f.bench.clock.advance(4 * kTicksPerSecond);
  CHECK(f.in(8, 4) == (5 * 3579545 & 0xffffff));
}

TEST_CASE("piix4: the timer's top bit sets the status when it changes, and interrupts if enabled (7.2.1)") {
  Fixture f;
  f.out(4, 2, 1);  // SCI_EN
  f.out(2, 2, 1);  // TMROF_EN
  f.bench.clock.advance(2 * kTicksPerSecond);  // bit 23 rises after 2.34 s
  CHECK((f.in(0, 2) & 1) == 0);
  CHECK_FALSE(f.bench.lines.level[9]);
  f.bench.clock.advance(kTicksPerSecond / 2);
  CHECK(f.bench.lines.level[9]);
  CHECK((f.in(0, 2) & 1) == 1);
  f.out(0, 2, 1);
  CHECK_FALSE(f.bench.lines.level[9]);
  f.bench.clock.advance(5 * kTicksPerSecond / 2);  // and falls after 4.69 s
  CHECK(f.bench.lines.level[9]);
}

TEST_CASE("piix4: the power button interrupts when enabled, and its status is cleared by a 1 (7.2.1)") {
  Fixture f;
  f.out(4, 2, 1);
  f.pm.press_power_button();
  CHECK_FALSE(f.bench.lines.level[9]);
  f.out(2, 2, 0x100);
  CHECK(f.bench.lines.level[9]);
  f.out(0, 2, 0x100);
  CHECK_FALSE(f.bench.lines.level[9]);
}

TEST_CASE("piix4: the ACPI commands at the SMI command port switch SCI_EN") {
  Fixture f;
  f.bench.ports.write(0xb2, 1, Piix4Pm::kAcpiEnable);
  CHECK((f.in(4, 2) & 1) == 1);
  f.bench.ports.write(0xb2, 1, Piix4Pm::kAcpiDisable);
  CHECK((f.in(4, 2) & 1) == 0);
}

TEST_CASE("piix4: a write to APMC raises an SMI if both APMC_EN and SMI_EN allow it") {
  Fixture f;
  f.bench.ports.write(0xb2, 1, 0);
  f.pm.write_config(0x58, 4, 1 << 25);
  f.bench.ports.write(0xb2, 1, 0);
  CHECK(f.smis == 0);
  f.out(0x28, 4, 1);
  f.bench.ports.write(0xb2, 1, 0);
  CHECK(f.smis == 1);
}

TEST_CASE("piix4: the APM status byte keeps what firmware and handler pass in it") {
  Fixture f;
  f.bench.ports.write(0xb3, 1, 0xa5);
  CHECK(f.bench.ports.read(0xb3, 1) == 0xa5);
}

TEST_CASE("piix4: sleep type 0 with SLP_EN switches the power off (7.2.3)") {
  Fixture f;
  f.out(4, 2, 0x1401);  // another type, not enabled
  CHECK(f.power_offs == 0);
  f.out(4, 2, 0x2001);
  CHECK(f.power_offs == 1);
  CHECK((f.in(4, 2) & 0x2000) == 0);  // SLP_EN reads 0
}

TEST_CASE("piix4: general purpose event enables can be written, statuses are cleared by ones") {
  Fixture f;
  f.bench.ports.write(0xafe2, 2, 0x1234);
  CHECK(f.bench.ports.read(0xafe2, 2) == 0x1234);
  CHECK(f.bench.ports.read(0xafe0, 2) == 0);
}

TEST_CASE("piix4: an SMBus transfer to an absent device ends at once with a device error (7.3.1)") {
  Fixture f;
  f.pm.write_config(0x90, 4, 0x700);
  f.pm.write_config(0xd2, 1, 1);
  f.bench.ports.write(0x704, 1, 0xa1);
  f.bench.ports.write(0x702, 1, 0x48);
  CHECK(f.bench.ports.read(0x700, 1) == 4);
  f.bench.ports.write(0x700, 1, 4);
  CHECK(f.bench.ports.read(0x700, 1) == 0);
}

TEST_CASE("piix4: a loaded state has its ports and its interrupt line") {
  Fixture f, copy;
  f.out(4, 2, 1);
  f.out(2, 2, 0x100);
  f.pm.press_power_button();
  copy.pm.write_config(0x80, 1, 0);
  REQUIRE(load(copy.pm, saved(f.pm)));
  CHECK(copy.in(2, 2) == 0x100);
  CHECK(copy.bench.lines.level[9]);
}
