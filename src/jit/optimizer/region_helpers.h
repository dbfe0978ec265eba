// What optimized code calls out of line.
#pragma once

#include <span>

#include "cpu/insn.h"
#include "jit/optimizer/host_symbols.h"

namespace vellum {

// The helpers by the names that optimized code uses; they preserve most registers.
//   u64 region_load(s, insn, linear, size)                up to 8 bytes
//   void region_load_bytes(s, insn, linear, size, data)
//   void region_store(s, insn, linear, size, value)
//   void region_store_bytes(s, insn, linear, size, data)
//   u8* region_update(s, insn, linear, size)              engine_update_host()
//   u8* region_page(s, insn, linear, low, what)           host address of `low` for several accesses, of which that to
//                                                         `linear` is next, or nullptr
//   void region_exit(s, insn)                             goes on at s->rip; a Handler
std::span<const HostSymbol> region_helpers();

}  // namespace vellum
