// SMBIOS structures that describe the machine to firmware, operating system and inventory tools.
#pragma once

#include <array>
#include <string>

#include "devices/fw_cfg.h"
#include "state/integers.h"

namespace vellum {

enum class SmbiosEntryPoint : u8 { Smbios2, Smbios3 };  // 2.8 with a 32-bit anchor, or 3.0 with a 64-bit one

struct SmbiosConfiguration {
  u64 ram_below_4g = 0, ram_above_4g = 0;
  unsigned cpus = 1;
  std::string cpu_name = "Vellum x86 CPU";
  u32 cpu_signature = 0, cpu_features = 0;  // CPUID.01H EAX and EDX
  std::string version;                      // of the program
  std::array<u8, 16> uuid{};
  SmbiosEntryPoint entry_point = SmbiosEntryPoint::Smbios2;
};

// Adds the files etc/smbios/smbios-tables and etc/smbios/smbios-anchor.
void add_smbios_tables(FwCfg& fw_cfg, const SmbiosConfiguration& configuration);

}  // namespace vellum
