// The memory map for the firmware.
#include "devices/e820.h"

namespace vellum {

void E820Map::add(u64 base, u64 size, E820Type type) {
  if (size) m_entries.push_back({base, size, type});
}

std::vector<u8> E820Map::serialise() const {
  std::vector<u8> bytes;
  const auto append = [&](u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<u8>(value >> (8 * i)));
  };
  for (const auto& entry : m_entries) {
    append(entry.base, 8);
    append(entry.size, 8);
    append(static_cast<u32>(entry.type), 4);
  }
  return bytes;
}

E820Map make_e820_map(u64 below_4g, u64 above_4g) {
  E820Map map;
  map.add(0, below_4g, E820Type::Ram);
  map.add(u64{1} << 32, above_4g, E820Type::Ram);
  return map;
}

}  // namespace vellum
