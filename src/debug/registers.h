// The registers that a debugger sees: names, sizes and places, one list for gdb's target description, the monitor and gdb's packets.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/core.h"

namespace vellum {

struct DebugRegister {
  std::string name;
  unsigned bytes;
  const char* type;     // in the terms of gdb's target descriptions
  const char* feature;  // likewise
  const char* group;    // likewise; empty: gdb's own choice
  // `data` has `bytes` bytes, little-endian. A value that no processor could hold is refused; what is reserved is left out.
  std::function<void(CpuCore&, std::span<u8> data)> read;
  std::function<bool(CpuCore&, std::span<const u8> data)> write;
};

// The list is the same in every mode of the CPU: what does not exist in one is just not used by code in it. `rip` (and `eip`)
// is the linear address of the next instruction, which is what breakpoints and disassembly need in every mode; `ip` is the
// offset in CS.
const std::vector<DebugRegister>& debug_registers();
// The number of a register, or -1.
int debug_register_number(std::string_view name);
// Bytes of all together.
usize debug_register_bytes();
// gdb's target.xml for them.
std::string target_description();

}  // namespace vellum
