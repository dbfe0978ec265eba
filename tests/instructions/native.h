// Runs a test case on the host's own CPU: x86-64 Linux only.
#pragma once

#include <memory>
#include <string>

#include "instructions/test_case.h"

namespace vellum::instructions {

class NativeCpu {
 public:
  // Empty, with the reason in `why`, where the host cannot do it.
  static std::unique_ptr<NativeCpu> create(std::string& why);
  virtual ~NativeCpu() = default;
  virtual bool supports(Environment environment) const = 0;
  virtual void run(const TestCase& test, Outcome& outcome) = 0;
};

// CPUID of the host; zeroes on other architectures.
struct HostCpuid {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};
HostCpuid host_cpuid(u32 leaf, u32 subleaf);
bool host_is_amd();

}  // namespace vellum::instructions
