// Transcendental functions for hosts without an x87 unit, of finite values, by MPFR.
#include "cpu/x87_transcendental.h"

#include <fenv.h>
#include <mpfr.h>

#include <cstring>

namespace vellum::exact {

namespace {

static_assert(GMP_NUMB_BITS == 64);

constexpr mpfr_prec_t kWorking = 256, kResult = 128;

// MPFR may use the host's floating-point unit, which now rounds as the guest says and gathers the guest's flags.
class HostEnvironment {
 public:
  HostEnvironment() {
    fegetenv(&m_saved);
    fesetenv(FE_DFL_ENV);
  }
  ~HostEnvironment() { fesetenv(&m_saved); }
  HostEnvironment(const HostEnvironment&) = delete;
  HostEnvironment& operator=(const HostEnvironment&) = delete;

 private:
  fenv_t m_saved;
};

class Real {
 public:
  explicit Real(mpfr_prec_t precision = kWorking) { mpfr_init2(m_value, precision); }
  explicit Real(const Number& n) : Real() {
    mpfr_set_ui_2exp(m_value, static_cast<unsigned long>(n.significand >> 64), n.exponent - 63, MPFR_RNDN);
    if (n.negative) mpfr_neg(m_value, m_value, MPFR_RNDN);
  }
  ~Real() { mpfr_clear(m_value); }
  Real(const Real&) = delete;
  Real& operator=(const Real&) = delete;
  operator mpfr_ptr() { return m_value; }

  // Neither zero nor special.
  Number number(bool inexact) {
    Real shortened(kResult);
    if (mpfr_set(shortened, m_value, MPFR_RNDZ) != 0) inexact = true;
    Number n{mpfr_signbit(shortened.m_value) != 0, static_cast<i32>(mpfr_get_exp(shortened.m_value)) - 1, 0, inexact};
    std::memcpy(&n.significand, mpfr_custom_get_significand(shortened.m_value), sizeof(n.significand));
    return n;
  }

 private:
  mpfr_t m_value;
};

Number times_log2(const Number& y, Real& natural_logarithm) {
  Real factor(y), log_of_two;
  mpfr_const_log2(log_of_two, MPFR_RNDN);
  mpfr_div(natural_logarithm, natural_logarithm, log_of_two, MPFR_RNDN);
  mpfr_mul(factor, factor, natural_logarithm, MPFR_RNDZ);
  return factor.number(true);
}

bool is_power_of_two(const Number& n) { return n.significand << 1 == 0; }

// The FPU reduces arguments with 66 bits of pi (SDM Vol. 1 8.3.8), to [-pi/4, pi/4] and the quadrant that is returned.
long reduce(Real& value) {
  Real half_pi;
  mpfr_set_ui_2exp(half_pi, 0xc90f'daa2'2168'c234, 2, MPFR_RNDN);
  mpfr_add_ui(half_pi, half_pi, 3, MPFR_RNDN);
  mpfr_div_2ui(half_pi, half_pi, 65, MPFR_RNDN);
  long quadrant;
  mpfr_remquo(value, &quadrant, value, half_pi, MPFR_RNDN);
  return quadrant & 3;
}

// Rounded toward zero, so that a result next to its argument stays on its side of it.
Number trigonometric(Function function, Real& value) {
  const long quadrant = reduce(value);
  if (function == Function::Tangent) {
    mpfr_tan(value, value, MPFR_RNDZ);
    if (quadrant & 1) mpfr_si_div(value, -1, value, MPFR_RNDZ);
    return value.number(true);
  }
  const bool use_cosine = ((quadrant & 1) != 0) != (function == Function::Cosine);
  const bool negate = function == Function::Sine ? quadrant >= 2 : quadrant == 1 || quadrant == 2;
  if (use_cosine) mpfr_cos(value, value, MPFR_RNDZ);
  else mpfr_sin(value, value, MPFR_RNDZ);
  Number n = value.number(true);
  if (negate) n.negative = !n.negative;
  return n;
}

}  // namespace

Number evaluate(Function function, const Number& x) {
  HostEnvironment environment;
  Real value(x);
  if (function != Function::TwoToXMinusOne) return trigonometric(function, value);
  Real log_of_two;
  mpfr_const_log2(log_of_two, MPFR_RNDN);
  mpfr_mul(value, value, log_of_two, MPFR_RNDN);
  mpfr_expm1(value, value, MPFR_RNDZ);
  return value.number(true);
}

Number arctangent(const Number& y, const Number& x) {
  HostEnvironment environment;
  Real ordinate(y), abscissa(x);
  const bool inexact = mpfr_atan2(ordinate, ordinate, abscissa, MPFR_RNDZ) != 0;
  return ordinate.number(inexact);
}

Number pi_multiple(bool negative, unsigned quarters) {
  HostEnvironment environment;
  Real value;
  mpfr_const_pi(value, MPFR_RNDZ);
  mpfr_mul_ui(value, value, quarters, MPFR_RNDZ);
  Number n = value.number(true);
  n.exponent -= 2;
  n.negative = negative;
  return n;
}

Number y_log2_x(const Number& y, const Number& x) {
  HostEnvironment environment;
  if (is_power_of_two(x))
    return multiply(y, from_integer(x.exponent < 0, static_cast<u64>(x.exponent < 0 ? -x.exponent : x.exponent)));
  Real value(x);
  mpfr_log(value, value, MPFR_RNDN);
  return times_log2(y, value);
}

Number y_log2_x_plus_one(const Number& y, const Number& x) {
  HostEnvironment environment;
  Real value(x);
  mpfr_log1p(value, value, MPFR_RNDN);
  return times_log2(y, value);
}

}  // namespace vellum::exact
