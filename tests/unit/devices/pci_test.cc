// PCI configuration mechanism 1, base address registers, interrupt pins (PCI Local Bus Specification 3.0).
#include <catch2/catch.hpp>

#include "bench.h"

using namespace vellum;

namespace {

struct Registers : MmioHandler, PortHandler {
  u64 written = 0;
  u64 read_mmio(u64 offset, unsigned) override { return 0x10 + offset; }
  void write_mmio(u64, unsigned, u64 value) override { written = value; }
  u32 read_port(u16 port, unsigned) override { return port & 0xff; }
  void write_port(u16, unsigned, u32 value) override { written = value; }
};

struct Card : PciDevice {
  explicit Card(Registers& registers, u8 pin = 1)
      : PciDevice({.vendor = 0x1234, .device = 0x5678, .revision = 9, .class_code = 0x020000, .subsystem_vendor = 0xaaaa,
                   .subsystem = 0xbbbb, .interrupt_pin = pin}) {
    declare_memory_bar(0, 0x1000, registers, "memory");
    declare_io_bar(1, 0x20, registers, "ports");
    declare_rom_bar(0x2000, 0x100000, "rom");
    reset_config();
  }
  std::string_view name() const override { return "card"; }
  void reset(ResetKind) override { reset_config(); }
  void visit(Archive& archive) override { visit_config(archive); }
  using PciDevice::dma_read;
  using PciDevice::dma_write;
  using PciDevice::set_interrupt;
};

struct Fixture {
  Bench bench;
  Registers registers;
  Card card{registers};
  std::vector<std::tuple<unsigned, unsigned, bool>> routed;
  Fixture() {
    bench.pci.attach(card, 4, 0);
    bench.pci.set_interrupt_router([this](u8 slot, u8 pin, bool level) { routed.emplace_back(slot, pin, level); });
  }
  void select(unsigned offset) { bench.ports.write(0xcf8, 4, 0x80000000 | 4 << 11 | offset); }
  u32 config(unsigned offset) {
    select(offset);
    return bench.ports.read(0xcfc, 4);
  }
  void config(unsigned offset, u32 value) {
    select(offset);
    bench.ports.write(0xcfc, 4, value);
  }
};

}  // namespace

TEST_CASE("CONFIG_ADDRESS latches doublewords only and reads back its implemented bits (3.2.2.3.2)") {
  Fixture f;
  f.bench.ports.write(0xcf8, 4, 0xffffffff);
  CHECK(f.bench.ports.read(0xcf8, 4) == 0x80fffffc);
  f.bench.ports.write(0xcf8, 1, 0);
  CHECK(f.bench.ports.read(0xcf8, 4) == 0x80fffffc);
}

TEST_CASE("an absent function and another bus read all-ones") {
  Fixture f;
  f.bench.ports.write(0xcf8, 4, 0x80000000 | 5 << 11);
  CHECK(f.bench.ports.read(0xcfc, 4) == 0xffffffff);
  f.bench.ports.write(0xcf8, 4, 0x80010000 | 4 << 11);
  CHECK(f.bench.ports.read(0xcfc, 4) == 0xffffffff);
  f.bench.ports.write(0xcf8, 4, 4 << 11);  // not enabled
  CHECK(f.bench.ports.read(0xcfc, 4) == 0xffffffff);
}

TEST_CASE("configuration space is read by doubleword, word and byte") {
  Fixture f;
  CHECK(f.config(0) == 0x56781234);
  CHECK(f.bench.ports.read(0xcfe, 2) == 0x5678);
  CHECK(f.bench.ports.read(0xcff, 1) == 0x56);
  CHECK(f.config(0x08) == 0x02000009);
  CHECK(f.config(0x2c) == 0xbbbbaaaa);
}

TEST_CASE("identification cannot be written") {
  Fixture f;
  f.config(0, 0);
  f.config(8, 0);
  CHECK(f.config(0) == 0x56781234);
  CHECK(f.config(8) == 0x02000009);
}

TEST_CASE("all-ones in a base address register reads back its size and type (6.2.5.1)") {
  Fixture f;
  f.config(0x10, 0xffffffff);
  f.config(0x14, 0xffffffff);
  f.config(0x30, 0xfffffffe);
  CHECK(f.config(0x10) == 0xfffff000);
  CHECK(f.config(0x14) == 0xffffffe1);
  CHECK(f.config(0x18) == 0);
  CHECK(f.config(0x30) == 0xffffe000);
}

TEST_CASE("a memory range answers only while the command register enables it, and follows its register") {
  Fixture f;
  f.config(0x10, 0xe0000000);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xe0000004), 4) == 0xffffffff);
  f.config(0x04, 2);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xe0000004), 4) == 0x14);
  f.config(0x10, 0xe0100000);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xe0000004), 4) == 0xffffffff);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xe0100004), 4) == 0x14);
  f.card.reset(ResetKind::System);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xe0100004), 4) == 0xffffffff);
}

TEST_CASE("sizing while decoding is enabled does not map the range at the end of the address space") {
  Fixture f;
  f.config(0x04, 2);
  f.config(0x10, 0xffffffff);
  CHECK(f.bench.memory.read_slow(GuestPhysAddr(0xfffff000), 4) == 0xffffffff);
}

TEST_CASE("a port range answers only while I/O space is enabled") {
  Fixture f;
  f.config(0x14, 0xc000);
  f.config(0x04, 1);
  CHECK(f.bench.ports.read(0xc012, 1) == 0x12);
  f.config(0x04, 0);
  CHECK(f.bench.ports.read(0xc012, 1) == 0xff);
}

TEST_CASE("the expansion ROM shows where its register says, if enabled there and by memory space (6.2.5.2)") {
  Fixture f;
  f.bench.ram->host(0x100000)[0] = 0x55;
  f.config(0x04, 2);
  f.config(0x30, 0xe0200000);
  CHECK(f.bench.memory.read_value<u8>(GuestPhysAddr(0xe0200000)) == 0xff);
  f.config(0x30, 0xe0200001);
  CHECK(f.bench.memory.read_value<u8>(GuestPhysAddr(0xe0200000)) == 0x55);
  f.bench.memory.write_value<u8>(GuestPhysAddr(0xe0200000), 1);
  CHECK(f.bench.memory.read_value<u8>(GuestPhysAddr(0xe0200000)) == 0x55);
}

TEST_CASE("a range programmed over main memory does not hide it") {
  Fixture f;
  f.bench.ram->host(0x200000)[0] = 0x77;
  f.config(0x10, 0x200000);
  f.config(0x04, 2);
  CHECK(f.bench.memory.read_value<u8>(GuestPhysAddr(0x200000)) == 0x77);
}

TEST_CASE("the interrupt pin is routed on changes, and held back by Interrupt Disable (6.2.2)") {
  Fixture f;
  f.card.set_interrupt(true);
  f.card.set_interrupt(true);
  CHECK(f.routed == std::vector<std::tuple<unsigned, unsigned, bool>>{{0x20, 0, true}});
  f.config(0x04, 0x400);
  CHECK(f.routed.back() == std::tuple(0x20u, 0u, false));
  CHECK((f.config(0x04) >> 16 & 8) == 8);  // Interrupt Status does not depend on it
  f.config(0x04, 0);
  CHECK(f.routed.back() == std::tuple(0x20u, 0u, true));
}

TEST_CASE("DMA needs bus mastering, and a write to FEExxxxxh is a message") {
  Fixture f;
  std::vector<std::pair<u64, u32>> messages;
  f.bench.pci.set_message_handler([&](u64 address, u32 data) { messages.emplace_back(address, data); });
  const std::array<u8, 4> data{1, 2, 3, 4};
  f.card.dma_write(GuestPhysAddr(0x1000), data);
  CHECK(f.bench.ram->host(0x1000)[0] == 0);
  f.config(0x04, 4);
  f.card.dma_write(GuestPhysAddr(0x1000), data);
  CHECK(f.bench.ram->host(0x1000)[3] == 4);
  f.card.dma_write(GuestPhysAddr(0xfee01000), data);
  CHECK(messages == std::vector<std::pair<u64, u32>>{{0xfee01000, 0x04030201}});
}
