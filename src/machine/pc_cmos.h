// The bytes of CMOS RAM by which a PC's firmware learns about memory, drives and boot order.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "state/integers.h"

namespace vellum {

// Registers 10h-33h: IBM PC AT Technical Reference, "Real-Time Clock/CMOS RAM". 34h and up: as SeaBIOS reads them
// (its src/hw/rtc.h).
struct PcCmos {
  struct Disk {
    bool present = false;
    u32 cylinders = 0, heads = 0, sectors = 0;
    u8 translation = 0;  // DiskTranslation
  };
  u64 below_4g = 0, above_4g = 0;  // bytes of memory
  unsigned cpus = 1;
  bool math_coprocessor = true;
  std::string boot_order = "cad";  // a, b floppy; c disk; d CD-ROM; n network
  std::array<u8, 2> floppy_types{};
  std::array<Disk, 4> disks;

  std::vector<std::pair<u8, u8>> bytes() const;  // register, value
};

}  // namespace vellum
