// Address types: a mix-up of linear and physical addresses would be a bug that no test need find.
#pragma once

#include <compare>

#include "state/integers.h"

namespace vellum {

inline constexpr unsigned kPageBits = 12;
inline constexpr u64 kPageSize = u64{1} << kPageBits;
inline constexpr u64 kPageMask = kPageSize - 1;

// A guest-physical address in bytes.
struct GuestPhysAddr {
  u64 value = 0;
  constexpr GuestPhysAddr() = default;
  constexpr explicit GuestPhysAddr(u64 v) : value(v) {}
  constexpr auto operator<=>(const GuestPhysAddr&) const = default;
  constexpr GuestPhysAddr operator+(u64 bytes) const { return GuestPhysAddr(value + bytes); }
  constexpr u64 page() const { return value >> kPageBits; }
  constexpr u64 offset() const { return value & kPageMask; }
};

}  // namespace vellum
