// PIIX3 IDE and ATA disks against ATA/ATAPI-6 and the 82371SB datasheet.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "ide_fixture.h"

using namespace vellum;

namespace {

std::vector<u8> sector(const MemoryDisk& disk, u64 number, unsigned count = 1) {
  auto& data = const_cast<MemoryDisk&>(disk).data();
  return {data.begin() + static_cast<long>(number * 512), data.begin() + static_cast<long>((number + count) * 512)};
}
u16 word(const std::vector<u8>& data, unsigned index) {
  return static_cast<u16>(data[2 * index] | data[2 * index + 1] << 8);
}

}  // namespace

TEST_CASE("after a reset an ATA device shows its signature and is ready (ATA-6 9.12)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.in(0x1f1) == 0x01);
  CHECK(f.in(0x1f2) == 0x01);
  CHECK(f.in(0x1f3) == 0x01);
  CHECK(f.in(0x1f4) == 0x00);
  CHECK(f.in(0x1f5) == 0x00);
}

TEST_CASE("an empty channel floats with BSY low; an absent device 1 reads as zero") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  CHECK(f.in(0x177) == 0x7f);
  CHECK(f.in(0x376) == 0x7f);
  f.out(0x1f6, 0xb0);
  f.out(0x1f2, 0x55);
  CHECK(f.in(0x1f7) == 0);
  CHECK(f.in(0x1f2) == 0);
}

TEST_CASE("IDENTIFY DEVICE fills the words that drivers read (ATA-6 8.15, table 26)") {
  IdeFixture f;
  f.add_disk(0, 0, 300'000);
  f.start();
  f.lba28(0, 0, 0xec);
  CHECK(f.in(0x3f6) == 0x58);
  CHECK(f.lines.level[14]);
  CHECK(f.in(0x1f7) == 0x58);
  CHECK_FALSE(f.lines.level[14]);  // reading Status clears INTRQ
  const auto data = f.read_pio(512);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK_FALSE(f.lines.level[14]);  // no interrupt after the last block of a PIO read
  CHECK(word(data, 0) == 0x0040);
  CHECK(word(data, 1) == 297);
  CHECK(word(data, 3) == 16);
  CHECK(word(data, 6) == 63);
  CHECK(data[21] == 'S');
  CHECK(data[20] == 'E');
  CHECK(word(data, 47) == 0x8010);
  CHECK((word(data, 49) & 0x0300) == 0x0300);
  CHECK(word(data, 60) + (u32{word(data, 61)} << 16) == 300'000);
  CHECK((word(data, 83) & 0xc400) == 0x4400);
  CHECK((word(data, 88) & 0x3f) == 0x3f);
  CHECK(word(data, 100) + (u32{word(data, 101)} << 16) == 300'000);
  u8 sum = 0;
  for (const u8 byte : data) sum += byte;
  CHECK(sum == 0);
}

TEST_CASE("READ SECTORS raises one interrupt for each sector and keeps the address of the last (9.5)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.lba28(10, 2, 0x20);
  CHECK(f.lines.rises[14] == 1);
  CHECK(f.in(0x1f7) == 0x58);
  CHECK(f.read_pio(512) == sector(*f.disk, 10));
  CHECK(f.lines.rises[14] == 2);
  CHECK(f.in(0x1f7) == 0x58);
  CHECK(f.read_pio(512) == sector(*f.disk, 11));
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.lines.rises[14] == 2);
  CHECK(f.in(0x1f3) == 11);
  CHECK(f.in(0x1f2) == 0);
}

TEST_CASE("WRITE SECTORS asks for the first sector without an interrupt and interrupts after each (9.6)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.lba28(5, 2, 0x30);
  CHECK(f.in(0x3f6) == 0x58);
  CHECK(f.lines.rises[14] == 0);
  for (unsigned i = 0; i < 256; ++i) f.out16(0x1f0, 0x1111);
  CHECK(f.lines.rises[14] == 1);
  CHECK(f.in(0x1f7) == 0x58);
  for (unsigned i = 0; i < 256; ++i) f.out16(0x1f0, 0x2222);
  CHECK(f.lines.rises[14] == 2);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(sector(*f.disk, 5) == std::vector<u8>(512, 0x11));
  CHECK(sector(*f.disk, 6) == std::vector<u8>(512, 0x22));
}

TEST_CASE("READ MULTIPLE moves blocks of the set size, the last one shorter; without SET MULTIPLE it is aborted") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.lba28(0, 5, 0xc4);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x04);
  f.lba28(0, 3, 0xc6);  // not a power of two
  CHECK(f.in(0x1f7) == 0x51);
  f.lba28(0, 4, 0xc6);
  CHECK(f.in(0x1f7) == 0x50);
  const unsigned before = f.lines.rises[14];
  f.lba28(0, 5, 0xc4);
  f.in(0x1f7);
  CHECK(f.read_pio(4 * 512) == sector(*f.disk, 0, 4));
  CHECK(f.in(0x1f7) == 0x58);
  CHECK(f.read_pio(512) == sector(*f.disk, 4));
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.lines.rises[14] == before + 2);
}

TEST_CASE("CHS addresses follow INITIALIZE DEVICE PARAMETERS") {
  IdeFixture f;
  f.add_disk(0, 0, 1000);
  f.start();
  f.out(0x1f6, 0xa3);  // 4 heads
  f.out(0x1f2, 10);    // 10 sectors per track
  f.out(0x1f7, 0x91);
  CHECK(f.in(0x1f7) == 0x50);
  f.out(0x1f6, 0xa2);  // head 2
  f.out(0x1f2, 1);
  f.out(0x1f3, 3);
  f.out(0x1f4, 5);
  f.out(0x1f5, 0);
  f.out(0x1f7, 0x20);
  CHECK(f.read_pio(512) == sector(*f.disk, (5 * 4 + 2) * 10 + 2));
  f.out(0x1f3, 11);  // no such sector
  f.out(0x1f7, 0x20);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x10);
}

TEST_CASE("48-bit addresses go through two-deep registers that HOB reads back (6.20)") {
  IdeFixture f;
  f.add_disk(0, 0, 70'000);
  f.start();
  f.out(0x1f6, 0x40);
  f.out(0x1f2, 0x00);
  f.out(0x1f3, 0x00);
  f.out(0x1f4, 0x12);
  f.out(0x1f5, 0x34);
  f.out(0x1f2, 0x01);
  f.out(0x1f3, 0x05);
  f.out(0x1f4, 0x00);
  f.out(0x1f5, 0x00);
  CHECK(f.in(0x1f4) == 0x00);
  f.out(0x3f6, 0x80);
  CHECK(f.in(0x1f4) == 0x12);
  CHECK(f.in(0x1f5) == 0x34);
  f.out(0x1f4, 0x01);  // any write to the command block clears HOB
  CHECK(f.in(0x1f4) == 0x01);
  // LBA 000000010005h
  f.out(0x1f4, 0);
  f.out(0x1f4, 0);
  f.out(0x1f5, 0);
  f.out(0x1f5, 1);
  f.out(0x1f7, 0x24);
  CHECK(f.in(0x1f7) == 0x58);
  CHECK(f.read_pio(512) == sector(*f.disk, 0x10005));
}

TEST_CASE("a read that runs over the end stops with ID NOT FOUND") {
  IdeFixture f;
  f.add_disk(0, 0, 10);
  f.start();
  f.lba28(10, 1, 0x20);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x10);
  f.lba28(9, 2, 0x20);
  CHECK(f.in(0x1f7) == 0x58);
  f.read_pio(512);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x10);
  CHECK(f.in(0x1f3) == 10);
}

TEST_CASE("READ DMA scatters over the PRD table, sets the interrupt bit and clears active (82371SB bus master)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.prd(0x1000, {{0x20000, 512}, {0x30000, 1024}});
  f.ports.write(f.kBusMaster + 4, 4, 0x1000);
  f.out(f.kBusMaster, 0x08);
  f.out(f.kBusMaster + 2, 0x06);
  f.lba28(20, 3, 0xc8);
  CHECK(f.in(0x3f6) == 0x58);
  CHECK(f.lines.rises[14] == 0);
  f.out(f.kBusMaster, 0x09);
  CHECK(f.lines.level[14]);
  CHECK(f.in(f.kBusMaster + 2) == 0x04);
  CHECK(f.in(0x1f7) == 0x50);
  f.out(f.kBusMaster, 0x08);
  f.out(f.kBusMaster + 2, 0x04);
  CHECK(f.in(f.kBusMaster + 2) == 0);
  std::vector<u8> data(1536);
  f.memory.read(GuestPhysAddr(0x20000), std::span(data).first(512));
  f.memory.read(GuestPhysAddr(0x30000), std::span(data).subspan(512));
  CHECK(data == sector(*f.disk, 20, 3));
}

TEST_CASE("a PRD table longer than the transfer leaves the bus master active with the interrupt set") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.prd(0x1000, {{0x20000, 4096}});
  f.ports.write(f.kBusMaster + 4, 4, 0x1000);
  f.out(f.kBusMaster, 0x09);
  f.lba28(20, 1, 0xc8);
  CHECK(f.in(f.kBusMaster + 2) == 0x05);
}

TEST_CASE("a PRD table shorter than the transfer ends it without an interrupt; a second start goes on") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.prd(0x1000, {{0x20000, 512}});
  f.ports.write(f.kBusMaster + 4, 4, 0x1000);
  f.lba28(20, 2, 0xc8);
  f.out(f.kBusMaster, 0x09);
  CHECK(f.in(f.kBusMaster + 2) == 0x00);
  CHECK_FALSE(f.lines.level[14]);
  f.out(f.kBusMaster, 0x08);
  f.out(f.kBusMaster, 0x09);
  CHECK(f.in(f.kBusMaster + 2) == 0x04);
  std::vector<u8> data(512);
  f.memory.read(GuestPhysAddr(0x20000), data);
  CHECK(data == sector(*f.disk, 21));
}

TEST_CASE("WRITE DMA EXT gathers memory onto the disk") {
  IdeFixture f;
  f.add_disk(0, 0, 600);
  f.start();
  std::vector<u8> data(300 * 512);
  for (usize i = 0; i < data.size(); ++i) data[i] = static_cast<u8>(i * 13);
  f.memory.write(GuestPhysAddr(0x100000), data);
  f.prd(0x1000, {{0x100000, 0}, {0x110000, 0}, {0x120000, 300 * 512 - 0x20000}});
  f.ports.write(f.kBusMaster + 4, 4, 0x1000);
  f.out(0x1f6, 0x40);
  f.out(0x1f2, 1);
  f.out(0x1f2, 300 - 256);
  for (const u16 port : {0x1f3, 0x1f4, 0x1f5}) {
    f.out(port, 0);
    f.out(port, 0);
  }
  f.out(0x1f7, 0x35);
  f.out(f.kBusMaster, 0x01);
  CHECK(f.in(f.kBusMaster + 2) == 0x04);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(sector(*f.disk, 0, 300) == data);
}

TEST_CASE("DMA waits while bus mastering is off in the command register") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.ide.write_config(0x04, 2, 1);
  f.prd(0x1000, {{0x20000, 512}});
  f.ports.write(f.kBusMaster + 4, 4, 0x1000);
  f.lba28(3, 1, 0xc8);
  f.out(f.kBusMaster, 0x09);
  CHECK_FALSE(f.lines.level[14]);
  f.ide.write_config(0x04, 2, 5);
  CHECK(f.lines.level[14]);
}

TEST_CASE("nIEN holds the interrupt back; it appears when nIEN is cleared (7.8)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.out(0x3f6, 0x02);
  f.lba28(0, 1, 0x40);
  CHECK_FALSE(f.lines.level[14]);
  f.out(0x3f6, 0x00);
  CHECK(f.lines.level[14]);
}

TEST_CASE("SRST shows BSY while it is set and the signature after it, and selects device 0 (9.2)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.add_disk(0, 1, 100);
  f.start();
  f.lba28(7, 1, 0x20, 1);
  f.out(0x3f6, 0x04);
  CHECK(f.in(0x1f7) == 0x80);
  f.out(0x3f6, 0x00);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.in(0x1f1) == 0x01);
  CHECK((f.in(0x1f6) & 0x10) == 0);
  CHECK(f.in16(0x1f0) == 0xffff);
}

TEST_CASE("EXECUTE DEVICE DIAGNOSTIC reports both devices through device 0's code and one interrupt (8.11)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.add_disk(0, 1, 100);
  f.start();
  f.out(0x1f6, 0xb0);
  f.out(0x1f7, 0x90);
  CHECK(f.lines.rises[14] == 1);
  CHECK((f.in(0x1f6) & 0x10) == 0);
  CHECK(f.in(0x1f1) == 0x01);
  CHECK(f.in(0x1f7) == 0x50);
}

TEST_CASE("an interrupt that the host did not acknowledge falls with the next command and makes a new edge") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.lba28(0, 1, 0x40);
  f.lba28(0, 1, 0x40);
  CHECK(f.lines.rises[14] == 2);
}

TEST_CASE("unknown commands and NOP are aborted; power and SMART commands answer") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.out(0x1f7, 0x00);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x04);
  f.out(0x1f7, 0xa1);  // IDENTIFY PACKET DEVICE on a disk
  CHECK(f.in(0x1f7) == 0x51);
  f.out(0x1f7, 0xe0);
  f.out(0x1f7, 0xe5);
  CHECK(f.in(0x1f2) == 0x00);
  f.lba28(0, 1, 0x40);
  f.out(0x1f7, 0xe5);
  CHECK(f.in(0x1f2) == 0xff);
  f.out(0x1f1, 0xda);
  f.out(0x1f4, 0x4f);
  f.out(0x1f5, 0xc2);
  f.out(0x1f7, 0xb0);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.in(0x1f4) == 0x4f);
  f.out(0x1f4, 0);
  f.out(0x1f7, 0xb0);
  CHECK(f.in(0x1f7) == 0x51);
}

TEST_CASE("READ NATIVE MAX ADDRESS gives the last sector") {
  IdeFixture f;
  f.add_disk(0, 0, 70'000);
  f.start();
  f.lba28(0, 0, 0xf8);
  CHECK((f.in(0x1f3) | f.in(0x1f4) << 8 | f.in(0x1f5) << 16) == 69'999);
}

TEST_CASE("FLUSH CACHE reaches the medium; a read-only disk aborts writes") {
  IdeFixture f;
  f.add_disk(0, 0, 100, true);
  f.start();
  f.out(0x1f7, 0xe7);
  CHECK(f.in(0x1f7) == 0x50);
  CHECK(f.disk->flushes() == 1);
  f.lba28(0, 1, 0x30);
  CHECK(f.in(0x1f7) == 0x51);
  CHECK(f.in(0x1f1) == 0x04);
}

TEST_CASE("SET FEATURES selects a transfer mode that IDENTIFY then shows (8.46.11)") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.out(0x1f1, 0x03);
  f.out(0x1f2, 0x22);
  f.out(0x1f7, 0xef);
  CHECK(f.in(0x1f7) == 0x50);
  f.out(0x1f7, 0xec);
  const auto data = f.read_pio(512);
  CHECK(word(data, 63) == 0x0407);
  CHECK(word(data, 88) == 0x003f);
  f.out(0x1f2, 0x46);  // Ultra DMA 6
  f.out(0x1f7, 0xef);
  CHECK(f.in(0x1f7) == 0x51);
}

TEST_CASE("the channels answer only while decoded: IDETIM bit 15 and I/O space enable") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.ide.write_config(0x40, 2, 0);
  CHECK(f.in(0x1f7) == 0xff);
  f.ide.write_config(0x40, 2, 0x8000);
  CHECK(f.in(0x1f7) == 0x50);
  f.ide.write_config(0x04, 2, 0);
  CHECK(f.in(0x1f7) == 0xff);
}

TEST_CASE("a transfer in the middle survives saving and loading") {
  IdeFixture f;
  f.add_disk(0, 0, 100);
  f.start();
  f.lba28(10, 2, 0x20);
  f.in(0x1f7);
  auto first = f.read_pio(100);
  ArchiveWriter writer;
  f.ide.visit(writer);
  IdeFixture g;
  g.add_disk(0, 0, 100);
  g.start();
  ArchiveReader reader(writer.data());
  g.ide.visit(reader);
  REQUIRE_FALSE(reader.failed());
  const auto rest = g.read_pio(412);
  first.insert(first.end(), rest.begin(), rest.end());
  CHECK(first == sector(*g.disk, 10));
  CHECK(g.lines.level[14]);
}

TEST_CASE("random commands, tables and disc changes end in bounds and leave a state that saves and loads") {
  IdeFixture f, g;
  for (IdeFixture* each : {&f, &g}) {
    each->add_disk(0, 0, 300);
    each->add_disk(0, 1, 7);
    each->add_cdrom(1, 0, 50);
    each->start();
  }
  std::mt19937 random(7);
  const u8 commands[] = {0x08, 0x20, 0x24, 0x25, 0x27, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0x42, 0x70, 0x90, 0x91, 0xa0,
                         0xa1, 0xb0, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe5, 0xe7, 0xec, 0xef, 0xf8};
  const u8 packets[] = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x42, 0x43, 0x44, 0x46,
                        0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xad, 0xb9, 0xbd, 0xbe};
  const auto any = [&](u32 limit) { return static_cast<u32>(random() % limit); };
  unsigned refused = 0;
  for (unsigned i = 0; i < 20'000; ++i) {
    const u16 base = any(2) ? 0x1f0 : 0x170;
    const u16 master = static_cast<u16>(f.kBusMaster + (base == 0x1f0 ? 0 : 8));
    for (u16 reg = 1; reg < 7; ++reg)
      if (any(2)) f.out(static_cast<u16>(base + reg), any(3) ? any(4) : any(256));
    if (any(4) == 0) {
      std::vector<std::pair<u32, u32>> regions(any(4) + 1);
      for (auto& region : regions) region = {any(2) ? any(0x300000) : static_cast<u32>(random()), any(0x10000)};
      f.prd(0x1000, regions);
      f.ports.write(static_cast<u16>(master + 4), 4, any(8) ? 0x1000 : static_cast<u32>(random()));
    }
    if (any(2)) f.out(master, any(16));
    if (any(3) == 0) f.out(static_cast<u16>(base + 0x206), any(64) ? any(2) * 2 : any(256));
    f.out(static_cast<u16>(base + 7), commands[any(std::size(commands))]);
    if (base == 0x170) {
      u8 packet[12];
      for (auto& byte : packet) byte = static_cast<u8>(any(3) ? any(4) : any(256));
      packet[0] = packets[any(std::size(packets))];
      for (unsigned j = 0; j < 12; j += 2) f.out16(base, packet[j] | packet[j + 1] << 8);
    }
    for (u32 j = any(600); j > 0; --j) {
      if (any(2)) f.ports.write(base, any(2) ? 2 : 4, static_cast<u32>(random()));
      else f.ports.read(base, any(2) ? 2 : 4);
    }
    if (any(2)) f.out(master, any(16));
    if (any(500) == 0) f.cdrom->eject(any(2));
    if (any(500) == 0) f.cdrom->insert(std::make_unique<MemoryDisk>(std::vector<u8>((any(40) + 1) * 2048), true));
    if (i % 100 == 0) {
      ArchiveWriter writer;
      f.ide.visit(writer);
      ArchiveReader reader(writer.data());
      g.ide.visit(reader);
      refused += reader.failed();
    }
  }
  CHECK(refused == 0);
}
