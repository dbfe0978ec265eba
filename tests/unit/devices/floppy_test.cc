// Floppy controller against the Intel 82077AA datasheet (290166).
#include <catch2/catch.hpp>

#include <deque>

#include "devices/floppy_82077aa.h"
#include "storage/memory_disk.h"

using namespace vellum;

namespace {

struct FakeDma : DmaChannel {
  std::vector<u8> memory;
  usize limit = 0;  // bytes until TC
  bool masked = false;
  DmaResult transfer(std::span<u8> data, DmaDirection direction) override {
    if (masked) return {0, false};
    usize moved = 0;
    while (moved < data.size() && position < limit) {
      if (direction == DmaDirection::ToMemory) memory.push_back(data[moved++]);
      else data[moved++] = memory[position];
      ++position;
    }
    return {moved, position == limit};
  }
  usize position = 0;
};

struct Line : InterruptSink {
  bool level = false;
  unsigned rises = 0;
  void set_input(unsigned, bool high) override {
    rises += high && !level;
    level = high;
  }
};

struct Fixture {
  PortBus ports;
  ManualClock clock;
  Line irq;
  FakeDma dma;
  Floppy82077aa floppy{ports, clock, InterruptLine(irq, 6), dma};
  MemoryDisk* disk = nullptr;

  explicit Fixture(u64 size = 1'474'560, FloppyDriveType type = FloppyDriveType::Inch3_1440K, bool read_only = false) {
    floppy.set_drive_type(0, type);
    if (size) insert(size, read_only);
    floppy.reset(ResetKind::PowerOn);
  }
  void insert(u64 size, bool read_only = false) {
    std::vector<u8> data(size);
    for (u64 i = 0; i < size; ++i) data[i] = static_cast<u8>(i / 512 * 5 + i);
    auto medium = std::make_unique<MemoryDisk>(std::move(data), read_only);
    disk = medium.get();
    REQUIRE(floppy.insert(0, std::move(medium), false));
  }
  u8 in(u16 port) { return static_cast<u8>(ports.read(port, 1)); }
  void out(u16 port, u8 value) { ports.write(port, 1, value); }
  void command(std::initializer_list<u8> bytes) {
    for (const u8 byte : bytes) {
      CHECK((in(0x3f4) & 0xc0) == 0x80);
      out(0x3f5, byte);
    }
  }
  std::vector<u8> result() {
    std::vector<u8> bytes;
    while ((in(0x3f4) & 0xd0) == 0xd0) bytes.push_back(in(0x3f5));
    return bytes;
  }
  // What a BIOS does: out of reset, sense four drives, set up, motor on, recalibrate.
  void start(bool recalibrated = true) {
    out(0x3f2, 0x0c);
    clock.advance(1'000'000);
    for (unsigned i = 0; i < 4; ++i) {
      command({0x08});
      result();
    }
    out(0x3f7, 0);
    command({0x03, 0xdf, 0x02});
    out(0x3f2, 0x1c);
    if (!recalibrated) return;
    command({0x07, 0});
    clock.advance(1'000'000'000);
    command({0x08});
    result();
  }
  void seek(u8 cylinder) {
    command({0x0f, 0, cylinder});
    clock.advance(1'000'000'000);
    command({0x08});
    CHECK(result() == std::vector<u8>{0x20, cylinder});
  }
  std::vector<u8> sectors(u64 first, unsigned count) {
    auto& data = disk->data();
    return {data.begin() + static_cast<long>(first * 512), data.begin() + static_cast<long>((first + count) * 512)};
  }
  void wait() { clock.advance(2'000'000'000); }
};

}  // namespace

TEST_CASE("leaving reset interrupts, and SENSE INTERRUPT STATUS answers for four drives (4.3, 5.2.4)") {
  Fixture f;
  CHECK(f.in(0x3f4) == 0);
  f.out(0x3f2, 0x0c);
  f.clock.advance(1'000'000);
  CHECK(f.irq.level);
  CHECK(f.in(0x3f4) == 0x80);
  for (u8 unit = 0; unit < 4; ++unit) {
    f.command({0x08});
    CHECK(f.result() == std::vector<u8>{static_cast<u8>(0xc0 | unit), 0});
  }
  CHECK_FALSE(f.irq.level);
  f.command({0x08});
  CHECK(f.result() == std::vector<u8>{0x80});
}

TEST_CASE("with polling switched off by CONFIGURE and locked, a reset does not interrupt") {
  Fixture f;
  f.start();
  f.command({0x13, 0, 0x10, 0});
  f.command({0x94});
  CHECK(f.result() == std::vector<u8>{0x10});
  const unsigned before = f.irq.rises;
  f.out(0x3f2, 0x00);
  f.out(0x3f2, 0x0c);
  f.clock.advance(1'000'000);
  CHECK(f.in(0x3f4) == 0x80);
  CHECK(f.irq.rises == before);
}

TEST_CASE("VERSION says 82077AA, an unknown command answers 80h") {
  Fixture f;
  f.start();
  f.command({0x10});
  CHECK(f.result() == std::vector<u8>{0x90});
  f.command({0x1f});
  CHECK(f.result() == std::vector<u8>{0x80});
}

TEST_CASE("SEEK shows the drive as busy, takes its step time and interrupts at the end") {
  Fixture f;
  f.start();
  f.command({0x0f, 0, 10});
  CHECK(f.in(0x3f4) == 0x81);
  CHECK_FALSE(f.irq.level);
  f.clock.advance(29'999'999);  // SRT 13: 3 ms a step
  CHECK_FALSE(f.irq.level);
  f.clock.advance(1);
  CHECK(f.irq.level);
  f.command({0x08});
  CHECK(f.result() == std::vector<u8>{0x20, 10});
  f.command({0x04, 0});
  CHECK(f.result() == std::vector<u8>{0x28});
  f.command({0x07, 0});
  f.wait();
  f.command({0x08});
  CHECK(f.result() == std::vector<u8>{0x20, 0});
  f.command({0x04, 0});
  CHECK(f.result() == std::vector<u8>{0x38});
}

TEST_CASE("RECALIBRATE of a drive that does not exist ends with an equipment check") {
  Fixture f;
  f.start();
  f.command({0x07, 1});
  f.wait();
  f.command({0x08});
  CHECK(f.result() == std::vector<u8>{0x71, 0});
}

TEST_CASE("READ DATA by DMA ends by TC and reports the following sector (5.1.1)") {
  Fixture f;
  f.start();
  f.seek(3);
  f.dma.limit = 2 * 512;
  f.command({0xe6, 0x00, 3, 0, 5, 2, 18, 0x1b, 0xff});
  CHECK((f.in(0x3f4) & 0xf0) == 0x10);
  f.wait();
  CHECK(f.irq.level);
  CHECK(f.result() == std::vector<u8>{0x00, 0, 0, 3, 0, 7, 2});
  CHECK_FALSE(f.irq.level);
  CHECK(f.dma.memory == f.sectors(3 * 36 + 4, 2));
}

TEST_CASE("MT goes on with the other side; the result after the last sector names the next cylinder") {
  Fixture f;
  f.start();
  f.dma.limit = 36 * 512;
  f.command({0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff});
  f.wait();
  CHECK(f.result() == std::vector<u8>{0x04, 0, 0, 1, 0, 1, 2});
  CHECK(f.dma.memory == f.sectors(0, 36));
}

TEST_CASE("without TC the transfer runs into the end of the cylinder") {
  Fixture f;
  f.start();
  f.dma.limit = 100'000;
  f.command({0x46, 0x04, 0, 1, 17, 2, 18, 0x1b, 0xff});
  f.wait();
  CHECK(f.result() == std::vector<u8>{0x44, 0x80, 0, 1, 1, 1, 2});
  CHECK(f.dma.memory == f.sectors(18 + 16, 2));
}

TEST_CASE("WRITE DATA by DMA writes whole sectors and fills up what TC cuts") {
  Fixture f;
  f.start();
  f.dma.memory.assign(700, 0x5a);
  f.dma.limit = 700;
  f.command({0x45, 0x00, 0, 0, 2, 2, 18, 0x1b, 0xff});
  f.wait();
  CHECK(f.result() == std::vector<u8>{0x00, 0, 0, 0, 0, 4, 2});
  std::vector<u8> expected(1024, 0);
  std::fill_n(expected.begin(), 700, u8{0x5a});
  CHECK(f.sectors(1, 2) == expected);
}

TEST_CASE("a write-protected disk is not written and shows in ST3") {
  Fixture f(1'474'560, FloppyDriveType::Inch3_1440K, true);
  f.start();
  f.dma.memory.assign(512, 0x5a);
  f.dma.limit = 512;
  f.command({0x45, 0x00, 0, 0, 2, 2, 18, 0x1b, 0xff});
  f.wait();
  const auto result = f.result();
  CHECK(result[0] == 0x40);
  CHECK(result[1] == 0x02);
  f.command({0x04, 0});
  CHECK(f.result() == std::vector<u8>{0x78});
}

TEST_CASE("a masked DMA channel makes an overrun") {
  Fixture f;
  f.start();
  f.dma.masked = true;
  f.command({0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff});
  f.wait();
  const auto result = f.result();
  CHECK(result[0] == 0x40);
  CHECK(result[1] == 0x10);
}

TEST_CASE("sectors that are not there: ND, with WC when the cylinder is another") {
  Fixture f;
  f.start();
  f.dma.limit = 512;
  f.command({0x46, 0x00, 0, 0, 19, 2, 18, 0x1b, 0xff});
  f.wait();
  CHECK(f.result()[1] == 0x04);
  f.command({0x46, 0x00, 7, 0, 1, 2, 18, 0x1b, 0xff});
  f.wait();
  const auto result = f.result();
  CHECK(result[1] == 0x04);
  CHECK(result[2] == 0x10);
}

TEST_CASE("READ ID finds an address mark only at the medium's data rate") {
  Fixture f(737'280);
  f.start();
  f.command({0x4a, 0});
  f.wait();
  CHECK(f.result()[1] == 0x01);
  f.out(0x3f7, 2);
  f.command({0x4a, 4});
  f.wait();
  CHECK(f.result() == std::vector<u8>{0x04, 0, 0, 0, 1, 1, 2});
}

TEST_CASE("an empty drive, and one whose motor is off, give no address mark") {
  Fixture f(0);
  f.start();
  f.command({0x4a, 0});
  f.wait();
  CHECK(f.result()[1] == 0x01);
  Fixture g;
  g.start();
  g.out(0x3f2, 0x0c);
  g.command({0x4a, 0});
  g.wait();
  CHECK(g.result()[1] == 0x01);
}

TEST_CASE("the disk change line stays until a step with a disk in the drive (2.1.8)") {
  Fixture f;
  f.start();
  CHECK(f.in(0x3f7) == 0x80);
  f.seek(1);
  CHECK(f.in(0x3f7) == 0x00);
  f.floppy.eject(0);
  CHECK(f.in(0x3f7) == 0x80);
  f.seek(0);
  CHECK(f.in(0x3f7) == 0x80);
  f.insert(1'474'560);
  f.seek(1);
  CHECK(f.in(0x3f7) == 0x00);
}

TEST_CASE("without DMA the host reads byte by byte while NDMA and RQM stand") {
  Fixture f;
  f.start();
  f.command({0x03, 0xdf, 0x03});
  f.command({0x46, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff});
  f.clock.advance(10'000'000);
  CHECK(f.irq.level);
  std::vector<u8> data;
  while (f.in(0x3f4) == 0xf0) data.push_back(f.in(0x3f5));
  CHECK(data == f.sectors(17, 1));
  const auto result = f.result();
  CHECK(result[0] == 0x40);
  CHECK(result[1] == 0x80);
}

TEST_CASE("FORMAT TRACK fills the sectors that the host names (5.1.6)") {
  Fixture f;
  f.start();
  for (u8 sector = 1; sector <= 18; ++sector)
    for (const u8 byte : {u8{0}, u8{1}, sector, u8{2}}) f.dma.memory.push_back(byte);
  f.dma.limit = 72;
  f.command({0x4d, 0x04, 2, 18, 0x54, 0xf6});
  f.wait();
  const auto result = f.result();
  CHECK(result[0] == 0x04);
  CHECK(result[1] == 0);
  CHECK(f.sectors(18, 18) == std::vector<u8>(18 * 512, 0xf6));
  CHECK(f.sectors(17, 1) != std::vector<u8>(512, 0xf6));
}

TEST_CASE("SCAN EQUAL compares and sets SH on a match, SN without one (5.1.7)") {
  Fixture f;
  f.start();
  f.dma.memory = f.sectors(0, 2);
  f.dma.limit = 100'000;
  f.command({0x51, 0x00, 0, 0, 1, 2, 2, 0x1b, 1});
  f.wait();
  CHECK((f.result()[2] & 0x0c) == 0x08);
  f.dma.memory.assign(1024, 0x77);
  f.dma.position = 0;
  f.command({0x51, 0x00, 0, 0, 1, 2, 2, 0x1b, 1});
  f.wait();
  CHECK((f.result()[2] & 0x0c) == 0x04);
}

TEST_CASE("DUMPREG returns what SPECIFY, CONFIGURE and LOCK set") {
  Fixture f;
  f.start();
  f.command({0x13, 0, 0x57, 0x12});
  f.command({0x94});
  f.result();
  f.seek(5);
  f.command({0x0e});
  CHECK(f.result() == std::vector<u8>{5, 0, 0, 0, 0xdf, 0x02, 0, 0x80, 0x57, 0x12});
}

TEST_CASE("geometries follow the image's size") {
  CHECK(floppy_geometry(368'640)->drive == FloppyDriveType::Inch5_360K);
  CHECK(floppy_geometry(737'280)->sectors == 9);
  CHECK(floppy_geometry(1'228'800)->sectors == 15);
  CHECK(floppy_geometry(1'474'560)->sectors == 18);
  CHECK(floppy_geometry(2'949'120)->data_rate == 3);
  CHECK(floppy_geometry(512)->sectors == 18);
  CHECK_FALSE(floppy_geometry(3'000'000));
}

TEST_CASE("a disk of another kind does not go into the drive unless the drive may adapt") {
  Fixture f(0);
  CHECK_FALSE(f.floppy.insert(0, std::make_unique<MemoryDisk>(std::vector<u8>(1'228'800)), false));
  REQUIRE(f.floppy.insert(0, std::make_unique<MemoryDisk>(std::vector<u8>(1'228'800)), true));
  CHECK(f.floppy.drive_type(0) == FloppyDriveType::Inch5_1200K);
}

TEST_CASE("a 360K disk in a 1.2M drive is read with double steps at 300 kbit/s") {
  Fixture f(368'640, FloppyDriveType::Inch5_1200K);
  f.start();
  f.out(0x3f7, 1);
  f.seek(6);
  f.dma.limit = 512;
  f.command({0x46, 0x00, 3, 0, 1, 2, 9, 0x1b, 0xff});
  f.wait();
  CHECK(f.result()[0] == 0);
  CHECK(f.dma.memory == f.sectors(3 * 18, 1));
}

TEST_CASE("a transfer in the middle survives saving and loading") {
  Fixture f, g;
  f.start();
  g.start();
  f.command({0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff});
  ArchiveWriter writer;
  f.floppy.visit(writer);
  ArchiveReader reader(writer.data());
  g.floppy.visit(reader);
  REQUIRE_FALSE(reader.failed());
  g.dma.limit = 512;
  g.wait();
  CHECK(g.irq.level);
  CHECK(g.result()[0] == 0);
  CHECK(g.dma.memory == g.sectors(0, 1));
}
