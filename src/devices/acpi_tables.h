// ACPI tables of the board, and the commands by which firmware places and links them.
#pragma once

#include <string>
#include <vector>

#include "devices/fw_cfg.h"
#include "state/integers.h"

namespace vellum {

struct AcpiConfiguration {
  unsigned cpus = 1;
  bool hpet = true;
  u64 ram_below_4g = 0;  // PCI memory space begins here (at least at 1 GiB) and ends at the IOAPIC
};

// Adds the files etc/acpi/tables, etc/acpi/rsdp and etc/table-loader.
void add_acpi_tables(FwCfg& fw_cfg, const AcpiConfiguration& configuration);

}  // namespace vellum
