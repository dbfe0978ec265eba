// The CPU inputs that a local APIC drives, counted.
#pragma once

#include <vector>

#include "devices/local_apic.h"

namespace vellum {

struct FakeApicCpu : ApicCpu {
  bool request = false;
  unsigned nmis = 0, smis = 0, inits = 0;
  std::vector<u8> start_ups;
  void set_interrupt_request(bool level) override { request = level; }
  void raise_nmi() override { ++nmis; }
  void raise_smi() override { ++smis; }
  void raise_init() override { ++inits; }
  void start_up(u8 vector) override { start_ups.push_back(vector); }
};

}  // namespace vellum
