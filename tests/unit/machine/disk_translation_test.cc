// Geometry from partition tables against INT 13h's limits and the translations of the BIOS EDD specification.
#include <catch2/catch.hpp>

#include <array>

#include "machine/disk_translation.h"

using namespace vellum;

namespace {

using Sector = std::array<u8, 512>;
constexpr u64 kMiB = 2048;  // sectors

// A disk with one partition that begins on the second track and ends with a cylinder of this geometry.
Sector partitioned(u32 heads, u32 sectors, u32 cylinders) {
  Sector data{};
  data[510] = 0x55;
  data[511] = 0xaa;
  u8* entry = data.data() + 446;
  const auto put_chs = [&](unsigned at, u32 cylinder, u32 head, u32 sector) {
    entry[at] = static_cast<u8>(head);
    entry[at + 1] = static_cast<u8>(sector | (cylinder >> 8 & 3) << 6);
    entry[at + 2] = static_cast<u8>(cylinder);
  };
  const auto put32 = [&](unsigned at, u32 value) {
    for (unsigned i = 0; i < 4; ++i) entry[at + i] = static_cast<u8>(value >> (8 * i));
  };
  put_chs(1, 0, 1, 1);
  put_chs(5, std::min(cylinders - 1, 1023u), heads - 1, sectors);
  entry[4] = 6;
  put32(8, sectors);
  put32(12, cylinders * heads * sectors - sectors);
  return data;
}

}  // namespace

TEST_CASE("an empty disk has the default geometry, translated only when INT 13h cannot name its cylinders") {
  const Sector empty{};
  auto disk = choose_disk_translation(400 * kMiB, empty);
  CHECK(disk.translation == DiskTranslation::None);
  CHECK(disk.physical.heads == 16);
  CHECK(choose_disk_translation(2000 * kMiB, empty).translation == DiskTranslation::BitShift);
  CHECK(choose_disk_translation(20000 * kMiB, empty).translation == DiskTranslation::LbaAssisted);
}

TEST_CASE("a small old disk reports the geometry under which it was partitioned") {
  // 20 MB: 615 cylinders, 4 heads, 17 sectors, the AT's drive type 2.
  const auto disk = choose_disk_translation(615 * 4 * 17, partitioned(4, 17, 615));
  CHECK(disk.physical.cylinders == 615);
  CHECK(disk.physical.heads == 4);
  CHECK(disk.physical.sectors == 17);
  CHECK(disk.translation == DiskTranslation::None);
}

TEST_CASE("the translation follows the number of heads that the partition table counts in") {
  // 2000 MiB are 4063 cylinders of 16 heads: 1015 of 64 by shifting, and 64 by LBA assistance as well.
  CHECK(choose_disk_translation(2000 * kMiB, partitioned(64, 63, 1015)).translation == DiskTranslation::BitShift);
  // 4000 MiB are 8126 cylinders of 16: 1015 of 128 by shifting, 128 by LBA assistance.
  CHECK(choose_disk_translation(4000 * kMiB, partitioned(128, 63, 1015)).translation == DiskTranslation::BitShift);
  // 6000 MiB: 12190 cylinders; shifting ends at 1523 of 128, LBA assistance has 255 heads.
  CHECK(choose_disk_translation(6000 * kMiB, partitioned(255, 63, 764)).translation == DiskTranslation::LbaAssisted);
}

TEST_CASE("a table that contradicts itself, a GUID table and heads that no BIOS makes change nothing") {
  const u64 size = 2000 * kMiB;
  const auto usual = choose_disk_translation(size, Sector{}).translation;
  auto table = partitioned(255, 63, 200);
  CHECK(choose_disk_translation(size, table).translation == usual);
  table = partitioned(64, 63, 1015);
  table[446 + 8] = 77;
  CHECK(choose_disk_translation(size, table).translation == usual);
  table = partitioned(64, 63, 1015);
  table[446 + 4] = 0xee;
  CHECK(choose_disk_translation(size, table).physical.heads == 16);
  Sector noise;
  for (usize i = 0; i < noise.size(); ++i) noise[i] = static_cast<u8>(i * 37 + 11);
  noise[510] = 0x55;
  noise[511] = 0xaa;
  CHECK(choose_disk_translation(size, noise).translation == usual);
}
