// Our own option ROMs that boot a kernel from fw_cfg; sources in roms/.
#pragma once

#include <span>

#include "state/integers.h"

namespace vellum {

std::span<const u8> linux_boot_rom();      // bzImage, by its 16-bit entry
std::span<const u8> protected_boot_rom();  // multiboot 1 and PVH

}  // namespace vellum
