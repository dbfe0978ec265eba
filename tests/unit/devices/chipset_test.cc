// 82441FX host bridge (PAM, SMRAM) and PIIX3 (interrupt routing, reset control).
#include <catch2/catch.hpp>

#include "bench.h"
#include "devices/i440fx.h"
#include "devices/piix3.h"

using namespace vellum;

namespace {

// 2 MiB of RAM at 0; C0000h-FFFFFh of what lies below PAM reads as ROM full of EEh, kept at 15 MiB of the mapping.
struct Bridge {
  std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(16u << 20).value());
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  I440fx bridge{memory, {.below_4g = 2u << 20, .above_4g = 1u << 20, .high_ram_offset = 2u << 20}};
  Bridge() {
    std::memset(ram->host(15u << 20), 0xee, 0x40000);
    memory.map_ram("rom", GuestPhysAddr(0xc0000), 0x40000, 15u << 20, 1, AddressSpace::Access::ReadOnly);
    pci.attach(bridge, 0, 0);
    bridge.reset(ResetKind::PowerOn);
  }
  u8 read(u64 address) { return memory.read_value<u8>(GuestPhysAddr(address)); }
  void write(u64 address, u8 value) { memory.write_value<u8>(GuestPhysAddr(address), value); }
};

}  // namespace

TEST_CASE("i440fx: main memory lies below 640 KiB, from 1 MiB, and from 4 GiB") {
  Bridge b;
  b.write(0x9ffff, 1);
  b.write(0x100000, 2);
  b.write(u64{1} << 32, 3);
  CHECK(b.read(0x9ffff) == 1);
  CHECK(b.read(0x100000) == 2);
  CHECK(b.ram->host(2u << 20)[0] == 3);
  CHECK(b.read(0xa0000) == 0xff);
  CHECK(b.read(2u << 20) == 0xff);
}

TEST_CASE("i440fx: after reset C0000h-FFFFFh goes to the bus, reads and writes (3.2.18)") {
  Bridge b;
  b.write(0xf0000, 1);
  CHECK(b.read(0xf0000) == 0xee);
  CHECK(b.ram->host(0xf0000)[0] == 0);
}

TEST_CASE("i440fx: a segment's attributes direct reads and writes separately (3.2.18)") {
  struct Case {
    const char* name;
    unsigned config_offset;
    u8 shift;
    u64 base, last;
  };
  const auto segment = GENERATE(Case{"F0000", 0x59, 4, 0xf0000, 0xfffff}, Case{"C0000", 0x5a, 0, 0xc0000, 0xc3fff},
                                Case{"C4000", 0x5a, 4, 0xc4000, 0xc7fff}, Case{"C8000", 0x5b, 0, 0xc8000, 0xcbfff},
                                Case{"D4000", 0x5c, 4, 0xd4000, 0xd7fff}, Case{"DC000", 0x5d, 4, 0xdc000, 0xdffff},
                                Case{"E0000", 0x5e, 0, 0xe0000, 0xe3fff}, Case{"EC000", 0x5f, 4, 0xec000, 0xeffff});
  CAPTURE(segment.name);
  Bridge b;
  const auto set = [&](u8 attributes) {
    b.bridge.write_config(segment.config_offset, 1, static_cast<u32>(attributes) << segment.shift);
  };
  set(2);  // write enable only: ROM is read, RAM is written
  b.write(segment.base, 0x11);
  b.write(segment.last, 0x12);
  CHECK(b.read(segment.base) == 0xee);
  set(1);  // read enable only: the shadow is write-protected
  b.write(segment.base, 0x22);
  CHECK(b.read(segment.base) == 0x11);
  CHECK(b.read(segment.last) == 0x12);
  set(3);
  b.write(segment.base, 0x33);
  CHECK(b.read(segment.base) == 0x33);
  if (segment.last < 0xfffff) CHECK(b.read(segment.last + 1) == 0xee);
  set(0);
  CHECK(b.read(segment.base) == 0xee);
}

TEST_CASE("i440fx: SMRAM shows in SMM only, unless opened (3.2.21)") {
  Bridge b;
  b.bridge.write_config(0x72, 1, 0x08 | 0x40);  // G_SMRAME, D_OPEN
  b.write(0xa8000, 0x5a);
  b.bridge.write_config(0x72, 1, 0x08);
  CHECK(b.read(0xa8000) == 0xff);
  b.bridge.set_smm(true);
  CHECK(b.read(0xa8000) == 0x5a);
  b.bridge.set_smm(false);
  CHECK(b.read(0xa8000) == 0xff);
}

TEST_CASE("i440fx: without G_SMRAME there is no SMRAM even in SMM (3.2.21)") {
  Bridge b;
  b.bridge.set_smm(true);
  CHECK_FALSE(b.bridge.smram_visible());
}

TEST_CASE("i440fx: D_LCK clears D_OPEN and holds the register until reset (3.2.21)") {
  Bridge b;
  b.bridge.write_config(0x72, 1, 0x08 | 0x40 | 0x10);
  CHECK(b.bridge.read_config(0x72, 1) == 0x1a);
  b.bridge.write_config(0x72, 1, 0x40);
  CHECK(b.bridge.read_config(0x72, 1) == 0x1a);
  CHECK_FALSE(b.bridge.smram_visible());
  b.bridge.reset(ResetKind::System);
  CHECK(b.bridge.read_config(0x72, 1) == 0x02);
}

TEST_CASE("i440fx: a saved PAM and SMRAM setting is mapped again when loaded") {
  Bridge b, copy;
  b.bridge.write_config(0x59, 1, 0x30);
  b.bridge.write_config(0x72, 1, 0x48);
  REQUIRE(load(copy.bridge, saved(b.bridge)));
  copy.write(0xf0000, 7);
  CHECK(copy.read(0xf0000) == 7);
  CHECK(copy.bridge.smram_visible());
}

namespace {

struct South {
  Bench bench;
  std::vector<Piix3::ResetRequest> resets;
  Piix3 bridge{bench.pci, bench.lines, [this](Piix3::ResetRequest request) { resets.push_back(request); }};
  South() {
    bench.pci.attach(bridge, 1, 0);
    bridge.reset(ResetKind::PowerOn);
  }
};

}  // namespace

TEST_CASE("piix3: an interrupt line of a device goes to its ISA interrupt") {
  South s;
  s.bridge.set_input(4, true);
  CHECK(s.bench.lines.level[4]);
  s.bridge.set_input(4, false);
  CHECK_FALSE(s.bench.lines.level[4]);
}

TEST_CASE("piix3: a PCI interrupt reaches no IRQ until its PIRQ is routed (2.2.7)") {
  South s;
  s.bridge.route(1 << 3, 0, true);  // device 1, INTA#: PIRQA
  CHECK(std::ranges::none_of(s.bench.lines.level, std::identity{}));
  s.bridge.write_config(0x60, 1, 11);
  CHECK(s.bench.lines.level[11]);
  s.bridge.write_config(0x60, 1, 0x8b);
  CHECK_FALSE(s.bench.lines.level[11]);
}

TEST_CASE("piix3: pins of neighbouring devices rotate over the four PIRQs") {
  CHECK(Piix3::pirq_of(1 << 3, 0) == 0);
  CHECK(Piix3::pirq_of(2 << 3, 0) == 1);
  CHECK(Piix3::pirq_of(2 << 3, 3) == 0);
  CHECK(Piix3::pirq_of(5 << 3, 0) == 0);
}

TEST_CASE("piix3: a shared line stays high until its last source is low") {
  South s;
  s.bridge.write_config(0x60, 4, 0x0a0a0a0a);
  s.bridge.route(1 << 3, 0, true);
  s.bridge.route(5 << 3, 0, true);
  s.bridge.route(2 << 3, 0, true);
  s.bridge.route(1 << 3, 0, false);
  s.bridge.route(5 << 3, 0, false);
  CHECK(s.bench.lines.level[10]);
  s.bridge.route(2 << 3, 0, false);
  CHECK_FALSE(s.bench.lines.level[10]);
}

TEST_CASE("piix3: the ACPI interrupt shares IRQ 9 with a PCI interrupt") {
  South s;
  s.bridge.write_config(0x60, 1, 9);
  s.bridge.set_input(Piix3::kSci, true);
  s.bridge.route(1 << 3, 0, true);
  s.bridge.set_input(Piix3::kSci, false);
  CHECK(s.bench.lines.level[9]);
  s.bridge.route(1 << 3, 0, false);
  CHECK_FALSE(s.bench.lines.level[9]);
}

TEST_CASE("piix3: IRQs that cannot be steered to are not driven (2.2.7)") {
  South s;
  const unsigned irq = GENERATE(0u, 1u, 2u, 8u, 13u);
  s.bridge.write_config(0x60, 1, irq);
  s.bridge.route(1 << 3, 0, true);
  CHECK_FALSE(s.bench.lines.level[irq]);
}

TEST_CASE("piix3: the reset control register resets on a rising RCPU, hard or soft by SRST (2.5.4.1)") {
  South s;
  s.bench.ports.write(0xcf9, 1, 0x02);
  CHECK(s.resets.empty());
  s.bench.ports.write(0xcf9, 1, 0x06);
  s.bench.ports.write(0xcf9, 1, 0x00);
  s.bench.ports.write(0xcf9, 1, 0x04);
  CHECK(s.resets == std::vector{Piix3::ResetRequest::Hard, Piix3::ResetRequest::Soft});
}

TEST_CASE("piix3: the reset control register does not disturb CONFIG_ADDRESS, which shares its ports") {
  South s;
  s.bench.ports.write(0xcf8, 4, 0x80000800);
  CHECK(s.bench.ports.read(0xcf8, 4) == 0x80000800);
  CHECK(s.bench.ports.read(0xcfc, 4) == 0x70008086);
  CHECK(s.resets.empty());
}
