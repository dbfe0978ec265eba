// The memory map that firmware passes on to the operating system (INT 15h AX=E820h).
#pragma once

#include <vector>

#include "state/integers.h"

namespace vellum {

enum class E820Type : u32 { Ram = 1, Reserved = 2, AcpiReclaim = 3, AcpiNvs = 4, Unusable = 5 };

class E820Map {
 public:
  void add(u64 base, u64 size, E820Type type);
  // The fw_cfg file etc/e820: packed little-endian {u64 base, u64 size, u32 type}.
  std::vector<u8> serialise() const;

 private:
  struct Entry {
    u64 base, size;
    E820Type type;
  };
  std::vector<Entry> m_entries;
};

// RAM below and above 4 GiB.
E820Map make_e820_map(u64 below_4g, u64 above_4g);

}  // namespace vellum
