// ATAPI CD-ROM against ATA/ATAPI-6, SFF-8020i and MMC-3.
#include <catch2/catch.hpp>

#include <algorithm>

#include "devices/cd_frame.h"
#include "ide_fixture.h"

using namespace vellum;

namespace {

struct CdFixture : IdeFixture {
  explicit CdFixture(unsigned frames = 40, bool clear_attention = true) {
    add_cdrom(1, 0, frames);
    start();
    if (clear_attention) {
      packet({0x00});
      packet({0x03, 0, 0, 0, 18});
      data(18);
    }
  }
  void packet(std::vector<u8> bytes, u16 limit = 0xfffe, bool dma = false) {
    bytes.resize(12);
    out(0x176, 0xa0);
    out(0x171, dma ? 1 : 0);
    out(0x174, limit & 0xff);
    out(0x175, limit >> 8);
    out(0x177, 0xa0);
    for (unsigned i = 0; i < 12; i += 2) out16(0x170, bytes[i] | bytes[i + 1] << 8);
  }
  std::vector<u8> data(unsigned bytes) { return read_pio(bytes, 0x170); }
  u16 byte_count() { return static_cast<u16>(in(0x174) | in(0x175) << 8); }
  std::vector<u8> sense() {
    packet({0x03, 0, 0, 0, 18});
    return data(18);
  }
  std::vector<u8> disc(unsigned frame, unsigned count = 1) {
    std::vector<u8> bytes(count * 2048);
    REQUIRE(cdrom->medium()->read(u64{frame} * 2048, bytes));
    return bytes;
  }
};

}  // namespace

TEST_CASE("a packet device shows its signature with DRDY clear, also after it refused IDENTIFY DEVICE (9.12, 8.15.4)") {
  CdFixture f(40, false);
  CHECK(f.in(0x177) == 0x00);
  CHECK(f.in(0x174) == 0x14);
  CHECK(f.in(0x175) == 0xeb);
  f.out(0x174, 0);
  f.out(0x177, 0xec);
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.in(0x174) == 0x14);
  CHECK(f.in(0x175) == 0xeb);
}

TEST_CASE("IDENTIFY PACKET DEVICE says CD-ROM with 12-byte packets") {
  CdFixture f;
  f.out(0x177, 0xa1);
  CHECK(f.in(0x177) == 0x58);
  const auto data = f.data(512);
  CHECK((data[0] | data[1] << 8) == 0x85c0);
  CHECK(f.in(0x177) == 0x50);
}

TEST_CASE("PACKET: DRQ without an interrupt for the packet, then data and status with one each (9.8)") {
  CdFixture f;
  const unsigned before = f.lines.rises[15];
  f.out(0x174, 0xfe);
  f.out(0x175, 0xff);
  f.out(0x177, 0xa0);
  CHECK(f.in(0x177) == 0x58);
  CHECK(f.in(0x172) == 0x01);  // CoD
  CHECK(f.lines.rises[15] == before);
  for (const u16 word : {0x0012, 0x0000, 0x0024, 0, 0, 0}) f.out16(0x170, word);
  CHECK(f.lines.rises[15] == before + 1);
  CHECK(f.in(0x172) == 0x02);  // IO
  CHECK(f.byte_count() == 36);
  CHECK(f.in(0x177) == 0x58);
  const auto data = f.data(36);
  CHECK(data[0] == 0x05);
  CHECK(data[1] == 0x80);
  CHECK(f.lines.rises[15] == before + 2);
  CHECK(f.in(0x172) == 0x03);
  CHECK(f.in(0x177) == 0x50);
}

TEST_CASE("after a reset the first command meets a unit attention that REQUEST SENSE explains (SPC-2 5.9.6)") {
  CdFixture f(40, false);
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.in(0x171) >> 4 == 6);
  const auto sense = f.sense();
  CHECK(sense[2] == 6);
  CHECK(sense[12] == 0x29);
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x50);
}

TEST_CASE("READ(10) by PIO comes in blocks of at most the byte count limit") {
  CdFixture f;
  f.packet({0x28, 0, 0, 0, 0, 3, 0, 0, 2}, 3000);
  std::vector<u8> data;
  CHECK(f.byte_count() == 3000);
  auto part = f.data(3000);
  data.insert(data.end(), part.begin(), part.end());
  CHECK(f.in(0x177) == 0x58);
  CHECK(f.byte_count() == 1096);
  part = f.data(1096);
  data.insert(data.end(), part.begin(), part.end());
  CHECK(f.in(0x177) == 0x50);
  CHECK(data == f.disc(3, 2));
}

TEST_CASE("READ(12) by DMA") {
  CdFixture f(100);
  f.prd(0x1000, {{0x100000, 0}, {0x110000, 0}, {0x120000, 0}});
  f.ports.write(f.kBusMaster + 8 + 4, 4, 0x1000);
  f.packet({0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 96}, 0, true);
  f.out(f.kBusMaster + 8, 0x09);
  CHECK(f.lines.level[15]);
  CHECK(f.in(f.kBusMaster + 8 + 2) == 0x04);
  CHECK(f.in(0x177) == 0x50);
  std::vector<u8> data(96 * 2048);
  f.memory.read(GuestPhysAddr(0x100000), data);
  CHECK(data == f.disc(1, 96));
}

TEST_CASE("READ CAPACITY gives the last block; reading behind it is an illegal request") {
  CdFixture f;
  f.packet({0x25});
  CHECK(f.data(8) == std::vector<u8>{0, 0, 0, 39, 0, 0, 8, 0});
  f.packet({0x28, 0, 0, 0, 0, 39, 0, 0, 2});
  CHECK(f.in(0x177) == 0x51);
  const auto sense = f.sense();
  CHECK(sense[2] == 5);
  CHECK(sense[12] == 0x21);
}

TEST_CASE("READ TOC formats 0, 1 and 2 (MMC-3 6.31)") {
  CdFixture f;
  f.packet({0x43, 0, 0, 0, 0, 0, 0, 0, 100});
  CHECK(f.data(20) ==
        std::vector<u8>{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 40});
  f.packet({0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100});
  CHECK(f.data(12) == std::vector<u8>{0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 2, 40});
  f.packet({0x43, 0, 1, 0, 0, 0, 0, 0, 100});
  CHECK(f.data(12) == std::vector<u8>{0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0});
  f.packet({0x43, 2, 2, 0, 0, 0, 0, 0, 100});
  CHECK(f.byte_count() == 4 + 4 * 11);
  f.data(48);
  f.packet({0x43, 0, 0, 0, 0, 0, 5, 0, 100});  // no track 5
  CHECK(f.in(0x177) == 0x51);
}

TEST_CASE("an allocation length shorter than the data cuts it; zero returns none and is no error") {
  CdFixture f;
  f.packet({0x43, 0, 0, 0, 0, 0, 0, 0, 4});
  CHECK(f.byte_count() == 4);
  f.data(4);
  CHECK(f.in(0x177) == 0x50);
  f.packet({0x43});
  CHECK(f.in(0x177) == 0x50);
}

TEST_CASE("an empty drive is not ready: no medium") {
  CdFixture f(0);
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x51);
  const auto sense = f.sense();
  CHECK(sense[2] == 2);
  CHECK(sense[12] == 0x3a);
}

TEST_CASE("changing the disc raises a unit attention and a media event (MMC-3 6.6)") {
  CdFixture f;
  CHECK(f.cdrom->eject());
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8) == std::vector<u8>{0, 6, 4, 0x10, 3, 1, 0, 0});
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.sense()[12] == 0x3a);
  f.cdrom->insert(std::make_unique<MemoryDisk>(std::vector<u8>(5 * 2048), true));
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.sense()[12] == 0x28);
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 2);
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 0);
}

TEST_CASE("a locked tray neither opens for the guest nor for the user") {
  CdFixture f;
  f.packet({0x1e, 0, 0, 0, 1});
  f.packet({0x1b, 0, 0, 0, 2});
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.sense()[12] == 0x53);
  CHECK_FALSE(f.cdrom->eject());
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 1);
  f.packet({0x1e, 0, 0, 0, 0});
  f.packet({0x1b, 0, 0, 0, 2});
  CHECK(f.in(0x177) == 0x50);
  CHECK(f.cdrom->tray_open());
}

TEST_CASE("the eject button on a locked tray asks the guest once; after it let go, the disc comes out (MMC-3 6.6.1.4)") {
  CdFixture f;
  f.packet({0x1e, 0, 0, 0, 1});
  CHECK(f.cdrom->locked());
  CHECK_FALSE(f.cdrom->eject());
  CHECK(f.cdrom->medium() != nullptr);
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8) == std::vector<u8>{0, 6, 4, 0x10, 1, 2, 0, 0});  // eject request; medium present, door closed
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 0);
  f.packet({0x1e, 0, 0, 0, 0});
  f.packet({0x1b, 0, 0, 0, 2});
  CHECK(f.cdrom->tray_open());
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 3);
  CHECK(f.cdrom->eject());  // from the open tray: no further removal
  f.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
  CHECK(f.data(8)[4] == 0);
  f.packet({0x00});
  CHECK(f.sense()[13] == 2);  // no medium, tray open
}

TEST_CASE("a disc taken out by force ends the transfer at hand with NOT READY") {
  CdFixture f;
  f.packet({0x1e, 0, 0, 0, 1});
  f.packet({0x28, 0, 0, 0, 0, 0, 0, 0, 2}, 2048);
  f.data(1024);
  CHECK(f.cdrom->eject(true));
  f.data(1024);
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.sense()[12] == 0x3a);
}

TEST_CASE("a state saved with another disc loads as a changed disc") {
  CdFixture f;
  ArchiveWriter writer;
  writer("ide", f.ide);
  f.cdrom->insert(std::make_unique<MemoryDisk>(std::vector<u8>(5 * 2048), true));
  ArchiveReader reader(writer.data());
  reader("ide", f.ide);
  REQUIRE_FALSE(reader.failed());
  f.packet({0x00});
  CHECK(f.in(0x177) == 0x51);
  CHECK(f.sense()[12] == 0x28);
  f.packet({0x25});
  CHECK(f.data(8)[3] == 4);
}

TEST_CASE("GET CONFIGURATION, MODE SENSE, MECHANISM STATUS and READ DISC INFORMATION have consistent lengths") {
  CdFixture f;
  f.packet({0x46, 0, 0, 0, 0, 0, 0, 1, 0});
  const u16 configuration = f.byte_count();
  auto data = f.data(configuration);
  CHECK((data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3]) == configuration - 4);
  CHECK(data[7] == 0x08);  // current profile: CD-ROM
  f.packet({0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0});
  const u16 mode = f.byte_count();
  data = f.data(mode);
  CHECK((data[0] << 8 | data[1]) == mode - 2);
  CHECK(data[8] == 0x2a);
  CHECK(data[9] == mode - 10);
  f.packet({0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8});
  CHECK(f.byte_count() == 8);
  f.data(8);
  f.packet({0x51, 0, 0, 0, 0, 0, 0, 1, 0});
  CHECK(f.byte_count() == 34);
}

TEST_CASE("READ CD returns the parts asked for; raw frames satisfy EDC and ECC (ECMA-130 14, Annex A)") {
  CdFixture f;
  f.packet({0xbe, 0, 0, 0, 0, 2, 0, 0, 1, 0x10});
  CHECK(f.byte_count() == 2048);
  CHECK(f.data(2048) == f.disc(2));
  f.packet({0xbe, 0, 0, 0, 0, 2, 0, 0, 1, 0xf8});
  CHECK(f.byte_count() == 2352);
  const auto raw = f.data(2352);
  CHECK(raw[0] == 0);
  CHECK(raw[1] == 0xff);
  CHECK(raw[12] == 0x00);
  CHECK(raw[13] == 0x02);
  CHECK(raw[14] == 0x02);
  CHECK(raw[15] == 1);
  const auto alpha = [](u8 v) { return static_cast<u8>(v << 1 ^ (v & 0x80 ? 0x1d : 0)); };
  // The syndromes of every P word of the even byte plane and of every Q word of the odd one are zero.
  unsigned wrong = 0;
  for (unsigned n = 0; n < 43; ++n) {
    u8 sum = 0, weighted = 0;
    for (unsigned m = 0; m < 26; ++m) {
      const u8 value = raw[12 + 2 * (43 * m + n)];
      sum ^= value;
      weighted = static_cast<u8>(alpha(weighted) ^ value);
    }
    wrong += (sum | weighted) != 0;
  }
  for (unsigned n = 0; n < 26; ++n) {
    u8 sum = 0, weighted = 0;
    for (unsigned m = 0; m < 45; ++m) {
      const unsigned at = m < 43 ? (44 * m + 43 * n) % 1118 : 1118 + 26 * (m - 43) + n;
      const u8 value = raw[12 + 2 * at + 1];
      sum ^= value;
      weighted = static_cast<u8>(alpha(weighted) ^ value);
    }
    wrong += (sum | weighted) != 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("DEVICE RESET ends a packet command without an interrupt (8.7)") {
  CdFixture f;
  f.packet({0x28, 0, 0, 0, 0, 3, 0, 0, 2});
  f.in(0x177);
  const unsigned before = f.lines.rises[15];
  f.out(0x177, 0x08);
  CHECK(f.in(0x177) == 0x00);
  CHECK(f.in(0x175) == 0xeb);
  CHECK(f.lines.rises[15] == before);
}
