// Reads a disk's geometry out of its partition table.
#include "machine/disk_translation.h"

#include <algorithm>
#include <optional>

namespace vellum {

namespace {

constexpr u32 kMostCylinders = 1024, kMostSectors = 63, kMostPhysicalHeads = 16;  // what INT 13h and ATA can name

struct Chs {
  u32 cylinder, head, sector;
};

Chs chs_at(std::span<const u8, 512> data, usize offset) {
  return {(data[offset + 1] & 0xc0u) << 2 | data[offset + 2], data[offset], data[offset + 1] & 0x3fu};
}

u32 lba_at(std::span<const u8, 512> data, usize offset) {
  return data[offset] | data[offset + 1] << 8 | data[offset + 2] << 16 | u32{data[offset + 3]} << 24;
}

// Partitions end with a cylinder, at the last head and sector; where one does not, nothing can be told. Both ends must
// say the same in CHS as in LBA, unless they lie behind what CHS can express.
std::optional<DiskGeometry> partitioned_geometry(std::span<const u8, 512> boot_sector) {
  constexpr usize kTable = 446, kEntrySize = 16;
  if (boot_sector[510] != 0x55 || boot_sector[511] != 0xaa) return std::nullopt;
  for (usize entry = kTable; entry < kTable + 4 * kEntrySize; entry += kEntrySize) {
    const u8 type = boot_sector[entry + 4];
    const u32 start = lba_at(boot_sector, entry + 8), count = lba_at(boot_sector, entry + 12);
    if (type == 0 || type == 0xee || count == 0) continue;  // EEh: protects a GUID partition table
    const Chs first = chs_at(boot_sector, entry + 1), last = chs_at(boot_sector, entry + 5);
    const u32 heads = last.head + 1, sectors = last.sector;
    if (sectors == 0 || heads < 2) continue;
    const auto agrees = [&](const Chs& chs, u64 lba) {
      if (lba >= u64{kMostCylinders} * heads * sectors) return true;
      return chs.sector >= 1 && (u64{chs.cylinder} * heads + chs.head) * sectors + chs.sector - 1 == lba;
    };
    if (agrees(first, start) && agrees(last, u64{start} + count - 1)) return DiskGeometry{.cylinders = 0, .heads = heads, .sectors = sectors};
  }
  return std::nullopt;
}

// Phoenix, "BIOS Enhanced Disk Drive Specification" 3.0, appendix: heads by LBA-assisted translation.
u32 lba_assisted_heads(u64 sectors) {
  const u64 heads = sectors / kMostSectors / kMostCylinders;
  return heads > 128 ? 255 : heads > 64 ? 128 : heads > 32 ? 64 : heads > 16 ? 32 : 16;
}

// The same: cylinders are halved and heads doubled until the cylinders fit.
u32 bit_shifted_heads(DiskGeometry geometry) {
  while (geometry.cylinders > kMostCylinders && geometry.heads <= 64) {
    geometry.cylinders /= 2;
    geometry.heads *= 2;
  }
  return geometry.heads;
}

DiskTranslation usual_translation(const DiskGeometry& geometry) {
  if (geometry.cylinders <= kMostCylinders) return DiskTranslation::None;
  // 8192 cylinders of 16 heads are the most that shifting brings below 1024.
  return geometry.cylinders * geometry.heads <= 8192 * kMostPhysicalHeads ? DiskTranslation::BitShift : DiskTranslation::LbaAssisted;
}

}  // namespace

BiosDisk choose_disk_translation(u64 sectors, std::span<const u8, 512> boot_sector) {
  BiosDisk disk{.physical = default_disk_geometry(sectors)};
  disk.translation = usual_translation(disk.physical);
  const auto wanted = partitioned_geometry(boot_sector);
  if (!wanted) return disk;
  if (wanted->heads <= kMostPhysicalHeads) {
    // A disk that needed no translation: the drive itself had this geometry.
    const u64 cylinders = sectors / (u64{wanted->heads} * wanted->sectors);
    if (cylinders >= 1 && cylinders <= kMostCylinders)
      return {.physical = {static_cast<u32>(cylinders), wanted->heads, wanted->sectors}, .translation = DiskTranslation::None};
    return disk;
  }
  if (wanted->sectors != kMostSectors) return disk;
  if (wanted->heads == bit_shifted_heads(disk.physical)) disk.translation = DiskTranslation::BitShift;
  else if (wanted->heads == lba_assisted_heads(sectors)) disk.translation = DiskTranslation::LbaAssisted;
  return disk;
}

}  // namespace vellum
