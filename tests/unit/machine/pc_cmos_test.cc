// CMOS RAM contents against the IBM PC AT Technical Reference and what SeaBIOS reads.
#include <catch2/catch.hpp>

#include <map>

#include "machine/pc_cmos.h"

using namespace vellum;

namespace {

std::map<int, int> contents(const PcCmos& cmos) {
  std::map<int, int> result;
  for (const auto& [index, value] : cmos.bytes()) result[index] = value;
  return result;
}

constexpr u64 kMiB = 1 << 20;

}  // namespace

TEST_CASE("memory sizes: base, extended, above 16 MiB in 64 KiB units, above 4 GiB in 64 KiB units") {
  PcCmos cmos;
  cmos.below_4g = 3072 * kMiB;
  cmos.above_4g = 1024 * kMiB;
  auto bytes = contents(cmos);
  CHECK((bytes[0x16] << 8 | bytes[0x15]) == 640);
  CHECK((bytes[0x18] << 8 | bytes[0x17]) == 0xffff);  // more KiB than fit
  CHECK((bytes[0x31] << 8 | bytes[0x30]) == 0xffff);
  CHECK((bytes[0x35] << 8 | bytes[0x34]) == (3072 - 16) * 16);
  CHECK((bytes[0x5d] << 16 | bytes[0x5c] << 8 | bytes[0x5b]) == 1024 * 16);
}

TEST_CASE("a machine with 8 MiB has 7168 KiB of extended memory and none above 16 MiB") {
  PcCmos cmos;
  cmos.below_4g = 8 * kMiB;
  auto bytes = contents(cmos);
  CHECK((bytes[0x18] << 8 | bytes[0x17]) == 7168);
  CHECK((bytes[0x35] << 8 | bytes[0x34]) == 0);
}

TEST_CASE("floppy types and the equipment byte") {
  PcCmos cmos;
  cmos.floppy_types = {4, 2};
  auto bytes = contents(cmos);
  CHECK(bytes[0x10] == 0x42);
  CHECK(bytes[0x14] == 0x47);  // two drives, coprocessor, mouse
  cmos.floppy_types = {0, 0};
  cmos.math_coprocessor = false;
  bytes = contents(cmos);
  CHECK(bytes[0x10] == 0);
  CHECK(bytes[0x14] == 0x04);
}

TEST_CASE("boot order: three nibbles") {
  PcCmos cmos;
  cmos.boot_order = "dca";
  auto bytes = contents(cmos);
  CHECK(bytes[0x3d] == 0x23);
  CHECK(bytes[0x38] == 0x10);
  cmos.boot_order = "n";
  bytes = contents(cmos);
  CHECK(bytes[0x3d] == 0x04);
  CHECK(bytes[0x38] == 0x00);
}

TEST_CASE("disks: type 47 with its geometry, and the translation") {
  PcCmos cmos;
  cmos.disks[0] = {.present = true, .cylinders = 16383, .heads = 16, .sectors = 63, .translation = 1};
  cmos.disks[1] = {.present = true, .cylinders = 100, .heads = 16, .sectors = 63};
  cmos.disks[2] = {.present = true, .cylinders = 4000, .heads = 16, .sectors = 63, .translation = 2};
  auto bytes = contents(cmos);
  CHECK(bytes[0x12] == 0xff);
  CHECK(bytes[0x19] == 47);
  CHECK(bytes[0x1a] == 47);
  CHECK((bytes[0x1c] << 8 | bytes[0x1b]) == 16383);
  CHECK(bytes[0x1d] == 16);
  CHECK(bytes[0x20] == 0xc8);
  CHECK(bytes[0x23] == 63);
  CHECK((bytes[0x25] << 8 | bytes[0x24]) == 100);
  CHECK(bytes[0x39] == (1 | 0 << 2 | 2 << 4));
}
