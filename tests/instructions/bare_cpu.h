// What the bare machines of tests have in common: where tables and descriptors lie, what stands in them, and how a
// MachineState gets into a CPU.
#pragma once

#include "cpu/core.h"
#include "instructions/test_case.h"

namespace vellum::instructions {

// Guest-physical layout of what the CPU needs around a test: tables, descriptor tables, a stack and handlers. Machines add
// what they have besides between 0xe000 and the stack.
inline constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kCodePt = 0x4000, kDataPt = 0x5000, kKernelPdpt = 0x6000,
                     kKernelPd = 0x7000, kGdt = 0x8000, kIdt = 0x9000, kTss = 0xa000, kHandlers = 0xb000, kStackTop = 0x18000;
inline constexpr u64 kKernel = 0xffff800000000000;  // linear address of the physical address 0; the lower half is the test's
inline constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kLarge = 0x80, kNoExecute = u64{1} << 63;
inline constexpr unsigned kHandlerSpacing = 16;

template <class T>
void put(AddressSpace& memory, u64 physical, T value) {
  memory.write_value(GuestPhysAddr(physical), value);
}

// Maps the test's pages at kCodeBase and kDataBase to these physical addresses, and the first 2 MiB at kKernel.
enum class CodePages : u8 { ReadOnly, Writable };
void build_page_tables(AddressSpace& memory, u64 code, u64 data, CodePages code_pages);
// A GDT with the kernel's segments, the stack for faults, and a gate of every vector to kHandlers + its number * kHandlerSpacing.
void build_descriptor_tables(AddressSpace& memory);

// Control and table registers for 64-bit mode with these tables; `more_cr4` is added.
void enter_long_mode(CpuState& s, u64 more_cr4);
// The selectors of flat 32-bit code; those of other environments are the same everywhere.
struct FlatSelectors {
  u16 code, data;
};
void load_user_segments(CpuState& s, Environment environment, FlatSelectors flat);
// General registers, x87, SSE and AVX, but for MXCSR.
void load_registers(CpuState& s, const MachineState& state);

}  // namespace vellum::instructions
