// Guest programs that no one would write: random bytes, and random but plausible system code.
#pragma once

#include <vector>

#include "rig.h"

namespace vellum::torture {

std::vector<u8> random_bytes(Random& random, usize size);

// Instructions that reach far into the CPU: control, debug and model-specific registers, descriptor tables, far
// transfers, ports, strings, divisions, x87, SSE and state images, with operands at the edges.
std::vector<u8> system_code(Random& random, Mode mode, usize size);

// A port, a model-specific register, and a physical address that something on the board answers (mostly).
u16 interesting_port(Random& random);
u32 interesting_msr(Random& random);
u64 interesting_physical_address(Random& random);

}  // namespace vellum::torture
