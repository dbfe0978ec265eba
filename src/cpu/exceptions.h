// Exception vectors, SDM Vol. 3A table 6-1.
#pragma once

#include "state/integers.h"

namespace vellum {

enum class Vector : u8 {
  DivideError = 0, Debug = 1, Nmi = 2, Breakpoint = 3, Overflow = 4, BoundRange = 5, InvalidOpcode = 6,
  DeviceNotAvailable = 7, DoubleFault = 8, InvalidTss = 10, SegmentNotPresent = 11, StackFault = 12,
  GeneralProtection = 13, PageFault = 14, X87FloatingPoint = 16, AlignmentCheck = 17, MachineCheck = 18,
  SimdFloatingPoint = 19,
};

inline constexpr bool has_error_code(Vector vector) {
  switch (vector) {
    case Vector::DoubleFault: case Vector::InvalidTss: case Vector::SegmentNotPresent: case Vector::StackFault:
    case Vector::GeneralProtection: case Vector::PageFault: case Vector::AlignmentCheck: return true;
    default: return false;
  }
}

}  // namespace vellum
