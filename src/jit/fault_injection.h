// Makes one translation wrong on purpose, so that a test can show that a wrong translation is found.
#pragma once

#include <optional>
#include <span>

#include "cpu/block.h"
#include "jit/engine.h"
#include "jit/optimizer/region.h"

namespace vellum {

// The host code of one block is made from fields that have been changed: an immediate or a displacement with its lowest bit
// turned. All other tiers are right: the interpreter, and either the regions with the block or its code by the baseline.
class FaultInjection {
 public:
  // In the baseline, the `wanted`th block that has such a field, counted from 1; in regions, such a block of the `wanted`th that
  // has one. It is the same block again whenever it is translated again, alone or in another region.
  FaultInjection(FaultedTier tier, u64 wanted) : m_tier(tier), m_wanted(wanted) {}

  // Around the baseline's translation of each block.
  void begin(Block& block);
  void end(Block& block);
  // In front of the compilation of each region.
  void change(Region& region);

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
  // Which instruction of these can be made wrong, if any.
  static std::optional<unsigned> find(std::span<const BoundInsn> insns, const u8* variants);
  static void turn(BoundInsn& insn);
  FaultedTier m_tier;
  u64 m_wanted;
  u64 m_seen = 0;
  std::optional<Place> m_place;
  std::optional<Change> m_change;
};

}  // namespace vellum
