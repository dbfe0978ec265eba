// Which geometry a BIOS shall give a disk, so that it finds the partitions where another BIOS has put them.
#pragma once

#include <span>

#include "devices/ata_disk.h"

namespace vellum {

// How a BIOS makes more than 16 heads, and so fewer than 1024 cylinders, of a disk's geometry. The values are those that
// SeaBIOS reads from CMOS byte 39h.
enum class DiskTranslation : u8 { None = 0, LbaAssisted = 1, BitShift = 2 };

struct BiosDisk {
  DiskGeometry physical;  // what the drive shall report
  DiskTranslation translation = DiskTranslation::None;
};

// Chooses both for a disk of that many sectors. Boot sectors and DOS count in heads and cylinders, so the geometry under
// which a disk was partitioned has to come back: `boot_sector` (its first 512 bytes) tells, by the ends of its
// partitions. A disk without partitions gets the common default.
BiosDisk choose_disk_translation(u64 sectors, std::span<const u8, 512> boot_sector);

}  // namespace vellum
