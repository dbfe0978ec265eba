// Transcendental functions for hosts without an x87 unit, of finite values, by MPFR.
#pragma once

#include "cpu/exact_number.h"

namespace vellum::exact {

// Each result has 128 bits and a sticky bit, so that rounding it once more is right. None is zero for the arguments named.
enum class Function : u8 { TwoToXMinusOne, Sine, Cosine, Tangent };
Number evaluate(Function function, const Number& x);  // |x| < 2^63
// The angle of the point (x, y), in (-pi, pi).
Number arctangent(const Number& y, const Number& x);
Number pi_multiple(bool negative, unsigned quarters);  // of pi: 1 to 4 quarters
// y * log2(x) for positive x other than 1; y * log2(x + 1) for x > -1.
Number y_log2_x(const Number& y, const Number& x);
Number y_log2_x_plus_one(const Number& y, const Number& x);

}  // namespace vellum::exact
