// Local APIC, IOAPIC and their bus (Intel SDM Vol. 3A chapter 11; 82093AA datasheet).
#include <catch2/catch.hpp>

#include "bench.h"
#include "devices/ioapic.h"
#include "devices/local_apic.h"
#include "fake_apic_cpu.h"

using namespace vellum;

namespace {

constexpr u64 kBase = 0xfee00000;

struct Fixture {
  Bench bench;
  ApicBus bus;
  FakeApicCpu cpu0, cpu1;
  unsigned pic_acknowledged = 0;
  LocalApic::Callbacks callbacks{[this] { ++pic_acknowledged; return u8{0x70}; }, [this] { return bench.clock.now(); },
                                 [](u64 tsc) { return tsc; }};
  LocalApic apic0{bench.memory, bench.clock, bus, cpu0, {.id = 0}, callbacks};
  LocalApic apic1{bench.memory, bench.clock, bus, cpu1, {.id = 1, .bootstrap = false}, callbacks};
  IoApic io_apic{bench.memory, bus};
  LocalApic* current = &apic0;

  Fixture() {
    on(apic0).write(0xf0, 0x1ff);  // software enable
    on(apic1).write(0xf0, 0x1ff);
    on(apic0);
  }
  Fixture& on(LocalApic& apic) {
    current = &apic;
    bus.set_running(&apic);
    return *this;
  }
  u32 read(u64 offset) { return static_cast<u32>(bench.memory.read_slow(GuestPhysAddr(kBase + offset), 4)); }
  void write(u64 offset, u32 value) { bench.memory.write_slow(GuestPhysAddr(kBase + offset), 4, value); }
  void ipi(u32 high, u32 low) {
    write(0x310, high);
    write(0x300, low);
  }
  void io_write(u8 index, u32 value) {
    bench.memory.write_slow(GuestPhysAddr(0xfec00000), 4, index);
    bench.memory.write_slow(GuestPhysAddr(0xfec00010), 4, value);
  }
  u32 io_read(u8 index) {
    bench.memory.write_slow(GuestPhysAddr(0xfec00000), 4, index);
    return static_cast<u32>(bench.memory.read_slow(GuestPhysAddr(0xfec00010), 4));
  }
  void redirect(unsigned pin, u32 low, u32 high = 0) {
    io_write(static_cast<u8>(0x11 + 2 * pin), high);
    io_write(static_cast<u8>(0x10 + 2 * pin), low);
  }
  u64 msr(LocalApic& apic, u32 index) {
    u64 value = 0;
    REQUIRE(apic.read_msr(index, value));
    return value;
  }
};

}  // namespace

TEST_CASE("apic: state after power-up (11.4.7.1)") {
  Bench bench;
  ApicBus bus;
  FakeApicCpu cpu;
  LocalApic apic(bench.memory, bench.clock, bus, cpu, {.id = 3, .bootstrap = false}, {});
  const auto read = [&](u64 offset) { return bench.memory.read_slow(GuestPhysAddr(kBase + offset), 4); };
  CHECK(read(0x20) == 0x03000000);
  CHECK(read(0xd0) == 0);
  CHECK(read(0xe0) == 0xffffffff);
  CHECK(read(0xf0) == 0xff);
  CHECK(read(0x80) == 0);
  CHECK(read(0x320) == 0x10000);
  CHECK(read(0x350) == 0x10000);
  CHECK(read(0x370) == 0x10000);
  CHECK((read(0x30) & 0xff) >= 0x10);
  u64 base = 0;
  REQUIRE(apic.read_msr(0x1b, base));
  CHECK(base == (kBase | 0x800));  // enabled, not the bootstrap processor
}

TEST_CASE("apic: a fixed IPI to itself is requested, served and ended (11.8.4)") {
  Fixture f;
  f.ipi(0, 0x40000 | 0x61);  // shorthand self
  CHECK(f.cpu0.request);
  CHECK(f.read(0x230) == 0x2);  // IRR bit 61h
  CHECK(f.apic0.acknowledge() == 0x61);
  CHECK_FALSE(f.cpu0.request);
  CHECK(f.read(0x230) == 0);
  CHECK(f.read(0x130) == 0x2);  // ISR
  CHECK(f.read(0xa0) == 0x60);  // PPR
  f.write(0xb0, 0);
  CHECK(f.read(0x130) == 0);
  CHECK(f.read(0xa0) == 0);
}

TEST_CASE("apic: a vector waits for its priority class to exceed the processor priority (11.8.3.1)") {
  Fixture f;
  f.write(0x80, 0x60);  // TPR
  f.ipi(0, 0x40000 | 0x6f);
  CHECK_FALSE(f.cpu0.request);
  CHECK_FALSE(f.apic0.acknowledge().has_value());
  f.ipi(0, 0x40000 | 0x70);
  CHECK(f.cpu0.request);
  CHECK(f.apic0.acknowledge() == 0x70);
  f.write(0xb0, 0);
  f.apic0.set_task_priority(5);  // CR8
  CHECK(f.read(0x80) == 0x50);
  CHECK(f.cpu0.request);
  CHECK(f.apic0.acknowledge() == 0x6f);
}

TEST_CASE("apic: a higher vector interrupts the service of a lower one and EOI ends the higher first") {
  Fixture f;
  f.ipi(0, 0x40000 | 0x41);
  CHECK(f.apic0.acknowledge() == 0x41);
  f.ipi(0, 0x40000 | 0x51);
  f.ipi(0, 0x40000 | 0x31);
  CHECK(f.apic0.acknowledge() == 0x51);
  f.write(0xb0, 0);
  CHECK(f.read(0xa0) == 0x40);
  CHECK_FALSE(f.cpu0.request);
  f.write(0xb0, 0);
  CHECK(f.apic0.acknowledge() == 0x31);
}

TEST_CASE("apic: a software-disabled APIC masks its entries and takes no vectors (11.4.7.2)") {
  Fixture f;
  f.write(0x320, 0x40);
  f.write(0xf0, 0xff);
  CHECK(f.read(0x320) == 0x10040);
  f.write(0x320, 0x40);
  CHECK(f.read(0x320) == 0x10040);
  f.ipi(0, 0x40000 | 0x61);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("apic: INIT, SIPI, NMI and SMI reach the CPU they are sent to") {
  Fixture f;
  f.ipi(0x01000000, 0x4500);
  f.ipi(0x01000000, 0x4608);
  f.ipi(0x01000000, 0x4400);
  f.ipi(0x01000000, 0x4200);
  CHECK(f.cpu1.inits == 1);
  CHECK(f.cpu1.start_ups == std::vector<u8>{8});
  CHECK(f.cpu1.nmis == 1);
  CHECK(f.cpu1.smis == 1);
  CHECK(f.cpu0.inits + f.cpu0.nmis + f.cpu0.smis == 0);
}

TEST_CASE("apic: INIT level de-assert does nothing (11.6.1)") {
  Fixture f;
  f.ipi(0x01000000, 0x8500);
  CHECK(f.cpu1.inits == 0);
}

TEST_CASE("apic: the shorthands address all and all but the sender (11.6.1)") {
  Fixture f;
  f.ipi(0, 0xc0000 | 0x4400);
  CHECK(f.cpu0.nmis == 0);
  CHECK(f.cpu1.nmis == 1);
  f.ipi(0, 0x80000 | 0x4400);
  CHECK(f.cpu0.nmis == 1);
  CHECK(f.cpu1.nmis == 2);
}

TEST_CASE("apic: logical destinations in the flat and the cluster model (11.6.2.2)") {
  Fixture f;
  f.write(0xd0, 0x01000000);
  f.on(f.apic1).write(0xd0, 0x02000000);
  f.on(f.apic0);
  f.ipi(0x02000000, 0x800 | 0x400);
  CHECK(f.cpu0.nmis == 0);
  CHECK(f.cpu1.nmis == 1);
  f.ipi(0x03000000, 0x800 | 0x400);
  CHECK(f.cpu0.nmis == 1);
  CHECK(f.cpu1.nmis == 2);
  f.write(0xe0, 0x0fffffff);
  f.write(0xd0, 0x11000000);
  f.on(f.apic1).write(0xe0, 0x0fffffff);
  f.on(f.apic1).write(0xd0, 0x21000000);
  f.on(f.apic0);
  f.ipi(0x21000000, 0x800 | 0x400);
  CHECK(f.cpu0.nmis == 1);
  CHECK(f.cpu1.nmis == 3);
}

TEST_CASE("apic: lowest priority goes to the CPU with the lower priority") {
  Fixture f;
  f.write(0xd0, 0x01000000);
  f.write(0x80, 0x80);
  f.on(f.apic1).write(0xd0, 0x02000000);
  f.on(f.apic0);
  f.ipi(0x03000000, 0x800 | 0x100 | 0x91);
  CHECK_FALSE(f.cpu0.request);
  CHECK(f.cpu1.request);
}

TEST_CASE("apic: an illegal vector is an error, readable after a write to the ESR (11.5.3)") {
  Fixture f;
  f.write(0x370, 0xf1);
  f.ipi(0, 0x40000 | 0x05);
  CHECK(f.read(0x280) == 0);
  f.write(0x280, 0);
  CHECK(f.read(0x280) == 0x20);
  CHECK(f.apic0.acknowledge() == 0xf1);
  f.write(0x280, 0);
  CHECK(f.read(0x280) == 0);
}

TEST_CASE("apic timer: one-shot counts down at 1 GHz divided, and interrupts once (11.5.4)") {
  Fixture f;
  f.write(0x320, 0x40);
  f.write(0x3e0, 0x3);  // by 16
  f.write(0x380, 1000);
  f.bench.clock.advance(8000);
  CHECK(f.read(0x390) == 500);
  CHECK_FALSE(f.cpu0.request);
  f.bench.clock.advance(8000);
  CHECK(f.read(0x390) == 0);
  CHECK(f.apic0.acknowledge() == 0x40);
  f.write(0xb0, 0);
  f.bench.clock.advance(1'000'000);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("apic timer: a one-shot count that has ended does not start again when the mode becomes periodic (11.5.4)") {
  Fixture f;
  u32 before = 1, after = 1;
  // Fires at the moment at which the count ends, but ahead of the APIC's own timer.
  Timer guest(f.bench.clock, [&] {
    before = f.read(0x390);
    f.write(0x320, 0x20040);
    after = f.read(0x390);
  });
  guest.arm(10'000);
  f.write(0x320, 0x40);
  f.write(0x3e0, 0xb);
  f.write(0x380, 10'000);
  f.bench.clock.advance(10'000);
  CHECK(before == 0);
  CHECK(after == 0);
  CHECK(f.apic0.acknowledge() == 0x40);
  f.bench.clock.advance(100'000);
  CHECK(f.read(0x390) == 0);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("apic timer: every divider of the divide configuration register (11.5.4, figure 11-10)") {
  const auto [code, divider] = GENERATE(table<u32, unsigned>(
      {{0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xa, 128}, {0xb, 1}}));
  CAPTURE(code, divider);
  Fixture f;
  f.write(0x3e0, code);
  f.write(0x380, 1'000'000);
  f.bench.clock.advance(128'000);
  CHECK(f.read(0x390) == 1'000'000 - 128'000 / divider);
}

TEST_CASE("apic timer: periodic reloads without drifting; a masked one only counts") {
  Fixture f;
  f.write(0x320, 0x20040);
  f.write(0x3e0, 0xb);
  f.write(0x380, 10'000);
  f.bench.clock.advance(10'000);
  CHECK(f.apic0.acknowledge() == 0x40);
  f.write(0xb0, 0);
  f.bench.clock.advance(9'999);
  CHECK(f.read(0x390) == 1);
  CHECK_FALSE(f.cpu0.request);
  f.bench.clock.advance(1);
  CHECK(f.apic0.acknowledge() == 0x40);
  f.write(0xb0, 0);
  f.write(0x320, 0x30040);
  f.bench.clock.advance(10'000);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("apic timer: a count of 0 stops it") {
  Fixture f;
  f.write(0x320, 0x20040);
  f.write(0x380, 10'000);
  f.write(0x380, 0);
  f.bench.clock.advance(1'000'000);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("apic timer: TSC-deadline fires when the counter reaches it, then reads 0 (11.5.4.1)") {
  Fixture f;
  REQUIRE(f.apic0.write_msr(0x6e0, 5000));
  CHECK(f.msr(f.apic0, 0x6e0) == 0);  // not in that mode
  f.write(0x320, 0x40040);
  f.write(0x380, 77);
  CHECK(f.read(0x380) == 0);
  REQUIRE(f.apic0.write_msr(0x6e0, 5000));
  CHECK(f.msr(f.apic0, 0x6e0) == 5000);
  f.bench.clock.advance(4999);
  CHECK_FALSE(f.cpu0.request);
  f.bench.clock.advance(1);
  CHECK(f.apic0.acknowledge() == 0x40);
  CHECK(f.msr(f.apic0, 0x6e0) == 0);
  f.write(0xb0, 0);
  REQUIRE(f.apic0.write_msr(0x6e0, 100));  // in the past: at once
  f.bench.clock.advance(0);
  CHECK(f.cpu0.request);
}

TEST_CASE("apic: the 8259 passes through LINT0 as ExtINT, and when the APIC is globally disabled (11.4.3)") {
  Fixture f;
  f.apic0.set_input(0, true);
  f.write(0x350, 0x10000);
  CHECK_FALSE(f.cpu0.request);
  f.write(0x350, 0x700);
  CHECK(f.cpu0.request);
  CHECK(f.apic0.acknowledge() == 0x70);
  CHECK(f.pic_acknowledged == 1);
  f.write(0x350, 0x10700);
  CHECK_FALSE(f.cpu0.request);
  REQUIRE(f.apic0.write_msr(0x1b, kBase | 0x100));
  CHECK(f.cpu0.request);
}

TEST_CASE("apic: LINT1 as NMI raises an NMI on its edge") {
  Fixture f;
  f.write(0x360, 0x400);
  f.apic0.set_input(1, true);
  f.apic0.set_input(1, true);
  CHECK(f.cpu0.nmis == 1);
  f.write(0x360, 0x10400);
  f.apic0.set_input(1, false);
  f.apic0.set_input(1, true);
  CHECK(f.cpu0.nmis == 1);
}

TEST_CASE("apic: the base can be moved, and a disabled APIC does not answer (11.4.4, 11.4.5)") {
  Fixture f;
  REQUIRE(f.apic1.write_msr(0x1b, 0));
  REQUIRE(f.apic0.write_msr(0x1b, 0xfed40000 | 0x900));
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xfed40030), 4) == f.apic0.read_mmio(0x30, 4));
  CHECK(f.read(0x30) == 0xffffffff);
  CHECK((f.msr(f.apic0, 0x1b) & 0x100) == 0x100);
}

TEST_CASE("apic: reserved bits and forbidden transitions of IA32_APIC_BASE raise #GP (11.12.5.1)") {
  Fixture f;
  CHECK_FALSE(f.apic0.write_msr(0x1b, kBase | 0x800 | 1));
  CHECK_FALSE(f.apic0.write_msr(0x1b, kBase | 0x800 | u64{1} << 50));
  CHECK_FALSE(f.apic0.write_msr(0x1b, kBase | 0x400));  // EXTD without EN
  REQUIRE(f.apic0.write_msr(0x1b, kBase | 0xc00));
  CHECK_FALSE(f.apic0.write_msr(0x1b, kBase | 0x800));  // back to xAPIC
  REQUIRE(f.apic0.write_msr(0x1b, kBase));
  CHECK_FALSE(f.apic0.write_msr(0x1b, kBase | 0xc00));  // from disabled to x2APIC
  REQUIRE(f.apic0.write_msr(0x1b, kBase | 0x800));
}

TEST_CASE("x2apic: registers by MSR, the derived logical id, no MMIO (11.12)") {
  Fixture f;
  u64 value = 0;
  CHECK_FALSE(f.apic1.read_msr(0x802, value));  // not in x2APIC mode
  REQUIRE(f.apic1.write_msr(0x1b, kBase | 0xc00));
  CHECK(f.msr(f.apic1, 0x802) == 1);
  CHECK(f.msr(f.apic1, 0x80d) == 0x00000002);
  CHECK_FALSE(f.apic1.write_msr(0x80d, 4));
  CHECK_FALSE(f.apic1.read_msr(0x80e, value));  // no DFR
  CHECK_FALSE(f.apic1.read_msr(0x831, value));  // no ICR high
  CHECK_FALSE(f.apic1.read_msr(0x80b, value));  // EOI is write-only
  CHECK_FALSE(f.apic1.write_msr(0x80b, 1));
  CHECK(f.apic1.write_msr(0x80b, 0));
  CHECK_FALSE(f.apic1.write_msr(0x808, 0x100));
  CHECK_FALSE(f.apic1.write_msr(0x83f, 0x100));
  REQUIRE(f.apic1.write_msr(0x83f, 0x55));
  CHECK(f.apic1.acknowledge() == 0x55);
}

TEST_CASE("x2apic: the ICR is one 64-bit register with a 32-bit destination (11.12.9)") {
  Fixture f;
  REQUIRE(f.apic0.write_msr(0x1b, kBase | 0xd00));
  REQUIRE(f.apic1.write_msr(0x1b, kBase | 0xc00));
  REQUIRE(f.apic0.write_msr(0x830, u64{1} << 32 | 0x4400));
  CHECK(f.cpu1.nmis == 1);
  CHECK(f.msr(f.apic0, 0x830) == (u64{1} << 32 | 0x4400));
  REQUIRE(f.apic0.write_msr(0x830, u64{0xffffffff} << 32 | 0x4400));
  CHECK(f.cpu0.nmis == 1);
  CHECK(f.cpu1.nmis == 2);
}

TEST_CASE("ioapic: identification and the redirection table after reset (3.2)") {
  Fixture f;
  CHECK((f.io_read(1) >> 16 & 0xff) == 23);
  CHECK(f.io_read(0x10) == 0x10000);
  CHECK(f.io_read(0x3e) == 0x10000);
  f.io_write(0, 0x0f000000);
  CHECK(f.io_read(0) == 0x0f000000);
}

TEST_CASE("ioapic: an edge is delivered once; one on a masked input is lost") {
  Fixture f;
  f.redirect(4, 0x34);
  f.io_apic.set_input(4, true);
  CHECK(f.apic0.acknowledge() == 0x34);
  f.write(0xb0, 0);
  CHECK_FALSE(f.cpu0.request);
  f.io_apic.set_input(4, false);
  f.redirect(4, 0x10034);
  f.io_apic.set_input(4, true);
  f.redirect(4, 0x34);
  CHECK_FALSE(f.cpu0.request);
}

TEST_CASE("ioapic: a level is delivered again after EOI as long as it is high, and remote IRR tells") {
  Fixture f;
  f.redirect(11, 0x8000 | 0x4b);
  f.io_apic.set_input(11, true);
  CHECK((f.io_read(0x26) & 0x4000) == 0x4000);
  CHECK(f.apic0.acknowledge() == 0x4b);
  CHECK(f.read(0x1a0) == 0x800);  // TMR bit 4Bh
  CHECK_FALSE(f.cpu0.request);
  f.write(0xb0, 0);
  CHECK(f.cpu0.request);
  CHECK(f.apic0.acknowledge() == 0x4b);
  f.io_apic.set_input(11, false);
  f.write(0xb0, 0);
  CHECK_FALSE(f.cpu0.request);
  CHECK((f.io_read(0x26) & 0x4000) == 0);
}

TEST_CASE("ioapic: with EOI broadcasts suppressed the EOI register ends a level interrupt") {
  Fixture f;
  f.write(0xf0, 0x11ff);
  f.redirect(11, 0x8000 | 0x4b);
  f.io_apic.set_input(11, true);
  REQUIRE(f.apic0.acknowledge() == 0x4b);
  f.io_apic.set_input(11, false);
  f.write(0xb0, 0);
  CHECK((f.io_read(0x26) & 0x4000) == 0x4000);
  f.bench.memory.write_slow(GuestPhysAddr(0xfec00040), 4, 0x4b);
  CHECK((f.io_read(0x26) & 0x4000) == 0);
}

TEST_CASE("ioapic: an unmasked level input that is already high is delivered at once") {
  Fixture f;
  f.io_apic.set_input(10, true);
  f.redirect(10, 0x8000 | 0x5a);
  CHECK(f.apic0.acknowledge() == 0x5a);
}

TEST_CASE("ioapic: a physical destination selects the CPU") {
  Fixture f;
  f.redirect(3, 0x33, 0x01000000);
  f.io_apic.set_input(3, true);
  CHECK_FALSE(f.cpu0.request);
  CHECK(f.cpu1.request);
}

TEST_CASE("a message-signalled interrupt carries vector and destination (11.11)") {
  Fixture f;
  f.bus.deliver_msi(0xfee01000, 0x0041);
  CHECK_FALSE(f.cpu0.request);
  CHECK(f.apic1.acknowledge() == 0x41);
  f.bus.deliver_msi(0xfee00000, 0x0400);
  CHECK(f.cpu0.nmis == 1);
}

TEST_CASE("apic: a loaded state requests, and its timer runs on") {
  Fixture f, copy;
  f.write(0x320, 0x40);
  f.write(0x3e0, 0xb);
  f.write(0x380, 10'000);
  f.ipi(0, 0x40000 | 0x61);
  REQUIRE(load(copy.apic0, saved(f.apic0)));
  CHECK(copy.cpu0.request);
  CHECK(copy.apic0.acknowledge() == 0x61);
  copy.write(0xb0, 0);
  copy.bench.clock.advance(10'000);
  CHECK(copy.apic0.acknowledge() == 0x40);
}

TEST_CASE("apic: the descriptions name what is requested, routed and masked") {
  Fixture f;
  f.write(0x350, 0x700);          // LINT0: ExtINT
  f.write(0x320, 0x20000 | 0x31);  // the timer: periodic
  f.write(0x3e0, 0x3);             // divided by 16
  f.write(0x380, 1000);
  f.write(0x80, 0x70);
  f.ipi(0, 0x40000 | 0x61);
  const std::string apic = f.apic0.describe();
  CHECK(apic.starts_with("local APIC 0: xAPIC mode at 0xfee00000, enabled by software, spurious vector 0xff\n"));
  CHECK(apic.find("task priority 0x70, processor priority 0x70") != apic.npos);
  CHECK(apic.find("requested: 0x61; in service: none") != apic.npos);
  CHECK(apic.find("\n  timer: fixed, vector 0x31, periodic\n") != apic.npos);
  CHECK(apic.find("\n  LINT0: ExtINT\n") != apic.npos);
  CHECK(apic.find("\n  timer: count 1000 of 1000, divided by 16\n") != apic.npos);
  CHECK(apic.find("LINT1") == apic.npos);  // masked

  f.redirect(9, 0x8000 | 0x49, 1u << 24);
  f.io_apic.set_input(9, true);
  const std::string io_apic = f.io_apic.describe();
  CHECK(io_apic.find("  pin 9: vector 0x49, fixed, level-triggered, to APIC 0x1, asserted, waits for its EOI\n") != io_apic.npos);
  CHECK(io_apic.find("  masked: 0 1 2 3 4 5 6 7 8 10 ") != io_apic.npos);
}
