// Images of more than a register's size in guest memory: all of it is reachable, or nothing changes.
#pragma once

#include <algorithm>

#include "cpu/callouts/callouts.h"

namespace vellum::callouts {

inline u64 image_address(const CpuCore& cpu, u64 linear, unsigned offset) {
  return cpu.s.code64() ? linear + offset : static_cast<u32>(linear + offset);
}

inline void read_image(CpuCore& cpu, u64 linear, u8* data, unsigned size) {
  for (unsigned done = 0; done < size; done += 8)
    cpu.read_bytes(image_address(cpu, linear, done), data + done, std::min(8u, size - done));
}

// At most one page long. When the caller has probed a larger range, this cannot fault.
inline void write_image(CpuCore& cpu, u64 linear, const u8* data, unsigned size) {
  cpu.probe_write(linear, size);
  for (unsigned done = 0; done < size; done += 8)
    cpu.write_bytes(image_address(cpu, linear, done), data + done, std::min(8u, size - done));
}

}  // namespace vellum::callouts
