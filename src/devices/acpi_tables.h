// ACPI tables of the board, and the commands by which firmware places and links them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "devices/fw_cfg.h"
#include "state/integers.h"

namespace vellum {

struct AcpiConfiguration {
  unsigned cpus = 1;
  u64 ram_below_4g = 0;  // PCI memory space begins here (at least at 2 GiB) and ends at the IOAPIC
  // Devices that the board may leave out.
  bool hpet = true, com1 = true, com2 = true, parallel = true, floppy = true;
  // Where the power management ports are; asked for when the firmware fetches the tables, as it is the firmware that
  // places them (SeaBIOS at 600h, OVMF at B000h).
  std::function<u16()> pm_base;
};

// Adds the files etc/acpi/tables, etc/acpi/rsdp and etc/table-loader.
void add_acpi_tables(FwCfg& fw_cfg, AcpiConfiguration configuration);

}  // namespace vellum
