// A board with nothing but the PIIX3's IDE function, as a driver sees it.
#pragma once

#include <memory>
#include <vector>

#include "devices/ata_disk.h"
#include "devices/atapi_cdrom.h"
#include "devices/ide.h"
#include "storage/memory_disk.h"

namespace vellum {

struct CountingSink : InterruptSink {
  bool level[16] = {};
  unsigned rises[16] = {};
  void set_input(unsigned pin, bool high) override {
    if (high && !level[pin]) ++rises[pin];
    level[pin] = high;
  }
};

struct IdeFixture {
  static constexpr u16 kBusMaster = 0xc000;
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(4 << 20));
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  CountingSink lines;
  Piix3Ide ide{ports, InterruptLine(lines, 14), InterruptLine(lines, 15)};
  MemoryDisk* disk = nullptr;
  AtapiCdrom* cdrom = nullptr;

  IdeFixture() {
    memory.map_ram("ram", GuestPhysAddr(0), 4 << 20, 0);
    pci.attach(ide, 1, 1);
  }
  // Resets, and does what firmware does: I/O decoding, bus mastering, BAR4.
  void start() {
    ide.reset(ResetKind::PowerOn);
    ide.write_config(0x20, 4, kBusMaster);
    ide.write_config(0x04, 2, 5);
  }
  void add_disk(unsigned channel, unsigned position, u64 sectors, bool read_only = false) {
    std::vector<u8> data(sectors * 512);
    for (u64 i = 0; i < sectors; ++i)
      for (unsigned j = 0; j < 512; ++j) data[i * 512 + j] = static_cast<u8>(i * 7 + j);
    auto medium = std::make_unique<MemoryDisk>(std::move(data), read_only);
    disk = medium.get();
    ide.attach_drive(channel, position, std::make_unique<AtaDisk>(std::move(medium), "SERIAL1"));
  }
  void add_cdrom(unsigned channel, unsigned position, unsigned frames) {
    std::unique_ptr<BlockDevice> medium;
    if (frames) {
      std::vector<u8> data(frames * 2048);
      for (usize i = 0; i < data.size(); ++i) data[i] = static_cast<u8>(i / 2048 * 3 + i);
      medium = std::make_unique<MemoryDisk>(std::move(data), true);
    }
    auto drive = std::make_unique<AtapiCdrom>(std::move(medium));
    cdrom = drive.get();
    ide.attach_drive(channel, position, std::move(drive));
  }

  u8 in(u16 port) { return static_cast<u8>(ports.read(port, 1)); }
  u16 in16(u16 port) { return static_cast<u16>(ports.read(port, 2)); }
  void out(u16 port, u32 value) { ports.write(port, 1, value); }
  void out16(u16 port, u32 value) { ports.write(port, 2, value); }
  void lba28(u32 lba, u8 count, u8 command, u8 drive = 0) {
    out(0x1f6, 0xe0 | drive << 4 | (lba >> 24 & 0xf));
    out(0x1f2, count);
    out(0x1f3, lba & 0xff);
    out(0x1f4, lba >> 8 & 0xff);
    out(0x1f5, lba >> 16 & 0xff);
    out(0x1f7, command);
  }
  std::vector<u8> read_pio(unsigned bytes, u16 base = 0x1f0) {
    std::vector<u8> data;
    for (unsigned i = 0; i < bytes; i += 2) {
      const u16 word = in16(base);
      data.push_back(static_cast<u8>(word));
      data.push_back(static_cast<u8>(word >> 8));
    }
    return data;
  }
  void prd(u32 table, std::vector<std::pair<u32, u32>> regions) {
    for (usize i = 0; i < regions.size(); ++i) {
      memory.write_value<u32>(GuestPhysAddr(table + 8 * i), regions[i].first);
      memory.write_value<u32>(GuestPhysAddr(table + 8 * i + 4),
                              (regions[i].second & 0xffff) | (i + 1 == regions.size() ? 0x80000000u : 0));
    }
  }
};

}  // namespace vellum
