// Makes one translation wrong on purpose, so that a test can show that a wrong translation is found.
#pragma once

#include <optional>

#include "cpu/block.h"

namespace vellum {

// The host code of one block is made from fields that have been changed: an immediate or a displacement with its lowest bit
// turned. The interpreter, and regions compiled from the block, are right.
class FaultInjection {
 public:
  // The `wanted`th block that has such a field, counted from 1; the same block again whenever it is translated again.
  explicit FaultInjection(u64 wanted) : m_wanted(wanted) {}

  // Around the translation of each block.
  void begin(Block& block);
  void end(Block& block);

 private:
  struct Place {
    u64 ram_offset;
    u32 mode;
    bool operator==(const Place&) const = default;
  };
  struct Change {
    unsigned position;
    i32 immediate, displacement;  // as they were
  };
  u64 m_wanted;
  u64 m_seen = 0;
  std::optional<Place> m_place;
  std::optional<Change> m_change;
};

}  // namespace vellum
