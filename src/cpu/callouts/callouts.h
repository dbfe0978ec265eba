// Instructions that become functions of the VMM: everything that touches system state.
#pragma once

#include "cpu/core.h"
#include "cpu/semantics/context.h"

namespace vellum::semantics {}

namespace vellum::callouts {

// Each runs with the state complete and s.rip at the next instruction; see Callout in cpu/core.h.
#define VELLUM_CALLOUT(name) void name(CpuCore& cpu, const BoundInsn& insn)

VELLUM_CALLOUT(identify);  // CPUID

}  // namespace vellum::callouts
