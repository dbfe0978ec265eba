// How the six arithmetic flags are to be computed from what the last flag-writing instruction left behind.
#pragma once

#include "state/integers.h"

namespace vellum {

// Operands and result are kept sign-extended to 64 bits, so that CF, ZF, SF and the signed conditions become plain
// 64-bit compares whatever the operand size was.
enum class FlagOperation : u8 {
  Explicit,   // flag_a holds the RFLAGS bits themselves
  Add,        // result = a + b
  AddCarry,   // result = a + b + CF
  SubtractBorrow,
  Logic,      // CF = OF = AF = 0
  Increment,  // flag_a = CF (0 or 1), flag_b = the most negative value of the operand size, sign-extended
  Decrement,  // likewise
  Result,     // ZF, SF, PF from the result; flag_a holds CF, AF and OF as RFLAGS bits
  // a - b, of so many bits. Nobody writes flag_result, since few conditions need the difference: who does computes it.
  Subtract64,
  Subtract32,
  Subtract16,
  Subtract8,
  Count
};

// Subtractions of all sizes are the last.
constexpr bool is_difference(FlagOperation operation) { return operation >= FlagOperation::Subtract64; }
template <class T>
constexpr FlagOperation subtraction_of() {
  return sizeof(T) == 8 ? FlagOperation::Subtract64 : sizeof(T) == 4 ? FlagOperation::Subtract32 : sizeof(T) == 2 ? FlagOperation::Subtract16 : FlagOperation::Subtract8;
}

}  // namespace vellum
