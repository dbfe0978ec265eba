// Fuzz target: the bytes are port accesses to the IDE channels and their bus master.
#include "devices/ata_disk.h"
#include "devices/atapi_cdrom.h"
#include "devices/ide.h"
#include "state/log.h"
#include "storage/memory_disk.h"

using namespace vellum;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  constexpr u16 kBusMaster = 0xc000;
  constexpr u64 kRamSize = 1 << 20;
  g_log_mask = 0;
  static auto ram = std::move(*GuestRam::create(kRamSize));
  AddressSpace memory(*ram);
  memory.map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
  PortBus ports;
  PciBus pci(memory, ports);
  Piix3Ide ide(ports, {}, {});
  pci.attach(ide, 1, 1);
  ide.attach_drive(0, 0, std::make_unique<AtaDisk>(std::make_unique<MemoryDisk>(std::vector<u8>(300 * 512)), "A"));
  ide.attach_drive(1, 0, std::make_unique<AtapiCdrom>(std::make_unique<MemoryDisk>(std::vector<u8>(50 * 2048), true)));
  ide.reset(ResetKind::PowerOn);
  ide.write_config(0x20, 4, kBusMaster);
  ide.write_config(0x04, 2, 5);
  // A table of regions over all of memory, which the transfers themselves may then change.
  for (u32 i = 0; i < 64; ++i) {
    memory.write_value<u32>(GuestPhysAddr(0x1000 + 8 * i), i * 0x4000);
    memory.write_value<u32>(GuestPhysAddr(0x1004 + 8 * i), i == 63 ? 0x8000'0000 : 0);
  }
  ports.write(kBusMaster + 4, 4, 0x1000);
  ports.write(kBusMaster + 12, 4, 0x1000);
  for (usize at = 0; at + 2 <= size; at += 2) {
    // Bits 0-4 the register, 5 read, 6 wide, 7 many times.
    const u8 what = data[at], value = data[at + 1], reg = what & 0x1f;
    u16 port;
    if (reg < 8) port = static_cast<u16>(0x1f0 + reg);
    else if (reg < 16) port = static_cast<u16>(0x170 + reg - 8);
    else port = static_cast<u16>(kBusMaster + reg - 16);
    const unsigned width = what & 0x40 ? 2 : 1;
    for (unsigned i = 0; i < (what & 0x80 ? 300u : 1u); ++i) {
      if (what & 0x20) ports.read(port, width);
      else ports.write(port, width, value);
    }
  }
  ArchiveWriter writer;
  ide.visit(writer);
  ArchiveReader reader(writer.data());
  ide.visit(reader);
  if (reader.failed()) __builtin_trap();
  return 0;
}
