// The option ROMs as the build has embedded them.
#include "devices/boot_roms.h"

#include "linux_boot_rom.h"
#include "protected_boot_rom.h"

namespace vellum {

std::span<const u8> linux_boot_rom() { return kLinuxBootRom; }
std::span<const u8> protected_boot_rom() { return kProtectedBootRom; }

}  // namespace vellum
