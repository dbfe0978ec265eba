// CMOS RAM contents of a PC.
#include "machine/pc_cmos.h"

#include <algorithm>

namespace vellum {

namespace {

constexpr u8 kFloppyTypes = 0x10, kDiskTypes = 0x12, kEquipment = 0x14, kBaseMemory = 0x15, kExtendedMemory = 0x17,
             kDiskType0 = 0x19, kDiskParameters0 = 0x1b, kDiskParameters1 = 0x24, kExtendedMemory2 = 0x30,
             kMemoryAbove16M = 0x34, kBootFlags1 = 0x38, kDiskTranslation = 0x39, kBootFlags2 = 0x3d,
             kMemoryAbove4G = 0x5b, kSmpCpus = 0x5f;
constexpr u8 kUserDefinedDisk = 47;

u8 boot_code(char letter) {
  switch (letter) {
    case 'a':
    case 'b': return 1;
    case 'c': return 2;
    case 'd': return 3;
    case 'n': return 4;
    default: return 0;
  }
}

}  // namespace

std::vector<std::pair<u8, u8>> PcCmos::bytes() const {
  std::vector<std::pair<u8, u8>> result;
  const auto put = [&](u8 index, u64 value) { result.emplace_back(index, static_cast<u8>(value)); };
  const auto put16 = [&](u8 index, u64 value) {
    const u64 clamped = std::min<u64>(value, 0xffff);
    put(index, clamped);
    put(static_cast<u8>(index + 1), clamped >> 8);
  };

  put16(kBaseMemory, std::min<u64>(below_4g >> 10, 640));
  const u64 extended = below_4g > (1u << 20) ? (below_4g - (1u << 20)) >> 10 : 0;
  put16(kExtendedMemory, extended);
  put16(kExtendedMemory2, extended);
  put16(kMemoryAbove16M, below_4g > (16u << 20) ? (below_4g - (16u << 20)) >> 16 : 0);
  const u64 above = above_4g >> 16;
  for (unsigned i = 0; i < 3; ++i) put(static_cast<u8>(kMemoryAbove4G + i), above >> (8 * i));
  put(kSmpCpus, cpus - 1);

  put(kFloppyTypes, (floppy_types[0] << 4) | floppy_types[1]);
  const unsigned floppies = (floppy_types[0] != 0) + (floppy_types[1] != 0);
  u8 equipment = 0x04;  // a PS/2 mouse
  if (math_coprocessor) equipment |= 0x02;
  if (floppies) equipment |= static_cast<u8>(0x01 | (floppies - 1) << 6);
  put(kEquipment, equipment);

  std::array<u8, 3> boot{};
  for (usize i = 0; i < boot.size() && i < boot_order.size(); ++i) boot[i] = boot_code(boot_order[i]);
  put(kBootFlags2, boot[1] << 4 | boot[0]);
  put(kBootFlags1, boot[2] << 4);

  u8 types = 0, translations = 0;
  for (unsigned i = 0; i < 4; ++i)
    if (disks[i].present) translations |= static_cast<u8>((disks[i].translation & 3) << (2 * i));
  for (unsigned i = 0; i < 2; ++i) {
    const Disk& disk = disks[i];
    if (!disk.present) continue;
    types |= i == 0 ? 0xf0 : 0x0f;
    put(static_cast<u8>(kDiskType0 + i), kUserDefinedDisk);
    const u8 base = i == 0 ? kDiskParameters0 : kDiskParameters1;
    const u8 parameters[] = {static_cast<u8>(disk.cylinders), static_cast<u8>(disk.cylinders >> 8),
                             static_cast<u8>(disk.heads), 0xff, 0xff,  // no write precompensation
                             static_cast<u8>(0xc0 | (disk.heads > 8) << 3), static_cast<u8>(disk.cylinders),
                             static_cast<u8>(disk.cylinders >> 8), static_cast<u8>(disk.sectors)};
    for (unsigned byte = 0; byte < std::size(parameters); ++byte) put(static_cast<u8>(base + byte), parameters[byte]);
  }
  put(kDiskTypes, types);
  put(kDiskTranslation, translations);
  return result;
}

}  // namespace vellum
