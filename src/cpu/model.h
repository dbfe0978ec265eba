// CPU models: which features exist and what CPUID says of them.
#pragma once

#include <array>
#include <bitset>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// Features that -cpu can switch; names are spelled as QEMU spells them (cpu/model.cc has the table with CPUID bits).
enum class Feature : u8 {
  Base,  // always there: 80486 and below
  Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Clflush, Mmx, Fxsr, Sse, Sse2,
  Sse3, Pclmulqdq, Monitor, Ssse3, Fma, Cx16, Pcid, Sse41, Sse42, X2apic, Movbe, Popcnt, TscDeadline, Aes, Xsave, Avx,
  F16c, Rdrand, Hypervisor,
  Fsgsbase, Bmi1, Avx2, Smep, Bmi2, Erms, Invpcid, Rdseed, Adx, Smap, Clflushopt, Clwb, Sha, Umip, Pku, La57, Vaes,
  Vpclmulqdq, Rdpid, Fsrm,
  LahfLm, Lzcnt, Prefetchw, Syscall, Nx, Pdpe1gb, Rdtscp, Lm,
  Xsaveopt, Xsavec, Xgetbv1, Xsaves, Arat,
  Count
};

using FeatureSet = std::bitset<static_cast<usize>(Feature::Count)>;

struct CpuidResult {
  u32 eax, ebx, ecx, edx;
};

struct CpuModel {
  std::string name;
  std::string vendor;  // 12 characters
  std::string brand;   // up to 48 characters
  u8 family, model, stepping;
  u32 max_leaf, max_extended_leaf;
  u8 physical_address_bits;
  FeatureSet features;

  bool has(Feature feature) const { return features[static_cast<usize>(feature)]; }
  // The static part of CPUID; the CPU fills in what depends on its state (OSXSAVE, APIC ID, XSAVE sizes).
  CpuidResult cpuid(u32 leaf, u32 subleaf) const;
};

// Parses "MODEL,+feature,-feature,feature=on|off". Errors name the nearest valid model or feature.
Result<CpuModel> parse_cpu_model(std::string_view text);
std::span<const std::string_view> cpu_model_names();

}  // namespace vellum
