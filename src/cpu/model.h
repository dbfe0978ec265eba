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
  Fsgsbase, Bmi1, Avx2, Smep, Bmi2, Erms, Invpcid, Rdseed, Adx, Smap, Clflushopt, Clwb, Sha, SpecCtrl, ArchCapabilities, Umip, Pku, La57, Vaes,
  Vpclmulqdq, Rdpid, Fsrm, TscAdjust, Pks, KvmPvIpi,
  LahfLm, Lzcnt, Prefetchw, Syscall, Nx, Pdpe1gb, Rdtscp, Lm,
  Xsaveopt, Xsavec, Xgetbv1, Xsaves, Arat, Invtsc,
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
  u8 family = 6, model = 0, stepping = 0;
  u32 max_leaf = 1, max_extended_leaf = 0;  // 0: no extended leaves
  u8 physical_address_bits = 32;
  FeatureSet features;
  // Set by the machine; with 0 the leaves 15h, 16h and 40000010h say nothing.
  u64 tsc_frequency_hz = 0;
  u64 bus_frequency_hz = 0;  // what the local APIC's timer counts

  bool has(Feature feature) const { return features[static_cast<usize>(feature)]; }
  // The static part of CPUID, SDM Vol. 2A "CPUID"; the CPU fills in what depends on its state (OSXSAVE, APIC ID, XSAVE
  // sizes).
  CpuidResult cpuid(u32 leaf, u32 subleaf) const;
};

// The XSAVE state components that a model has, as bits of XCR0, and the size in bytes of the area for `components` in
// the standard and in the compacted format, SDM Vol. 1 13.4.
inline constexpr u64 kXcr0X87 = 1, kXcr0Sse = 2, kXcr0Avx = 4, kXcr0Pkru = 1 << 9;
inline constexpr u32 kXsaveHeaderEnd = 576, kXsaveAvxOffset = 576, kXsaveAvxSize = 256, kXsavePkruOffset = 2688, kXsavePkruSize = 8;
u64 supported_xcr0(const CpuModel& model);
u32 xsave_area_size(u64 components);
u32 xsavec_area_size(u64 components);
// Where the compacted format of `components` has a component behind the header.
u32 xsavec_offset(u64 component, u64 components);

// Features that this CPU implements; no model has others.
const FeatureSet& implemented_features();

// Parses "MODEL,+feature,-feature,feature=on|off" and the properties vendor, family, model, stepping, model-id and
// phys-bits. A feature brings those that it needs, and takes with it those that need it. Errors name the nearest valid
// model or feature.
Result<CpuModel> parse_cpu_model(std::string_view text);
std::span<const std::string_view> cpu_model_names();
std::span<const std::string_view> cpu_feature_names();
// The text of "-cpu help".
std::string cpu_model_help();

}  // namespace vellum
