// Guest memory as a debugger reads and writes it: by linear or physical address, without faults, accessed bits or side effects.
#pragma once

#include <span>

#include "cpu/core.h"
#include "machine/machine.h"

namespace vellum {

// The CPU behind a machine's interface. A machine with another kind of CPU has no debugger.
CpuCore& core_of(Machine& machine, unsigned index = 0);

// How many bytes from `address` on could be read: up to what is not mapped, or is a device's registers, which reading may
// change. ROM can be written too. Linear addresses are those of `cpu` as it is now; outside 64-bit mode the upper half of an
// address does not count.
usize read_guest(CpuCore& cpu, DebugSpace space, u64 address, std::span<u8> data);
usize write_guest(CpuCore& cpu, DebugSpace space, u64 address, std::span<const u8> data);

// RIP's linear address.
u64 linear_pc(const CpuState& s);
// The linear address of the instruction in progress; between two, RIP's.
u64 linear_in_progress(const CpuCore& cpu);
// Lets execution go on at this linear address.
void set_linear_pc(CpuState& s, u64 linear);

}  // namespace vellum
