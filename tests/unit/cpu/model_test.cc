// CPU models: CPUID bits are those of SDM Vol. 2A "CPUID", tables 3-8 to 3-23, and only implemented features show.
#include <catch2/catch.hpp>

#include "cpu/model.h"

using namespace vellum;

namespace {

CpuModel parsed(std::string_view text) {
  const Result<CpuModel> model = parse_cpu_model(text);
  INFO(text);
  INFO((model ? "" : model.error().message));
  REQUIRE(model.has_value());
  return *model;
}

std::string error_of(std::string_view text) {
  const Result<CpuModel> model = parse_cpu_model(text);
  REQUIRE_FALSE(model.has_value());
  return model.error().message;
}

struct Bit {
  Feature feature;
  u32 leaf, subleaf;
  u32 CpuidResult::*reg;
  unsigned bit;
};

bool shown(const CpuModel& model, const Bit& bit) {
  return (model.cpuid(bit.leaf, bit.subleaf).*bit.reg >> bit.bit) & 1;
}

constexpr auto eax = &CpuidResult::eax, ebx = &CpuidResult::ebx, ecx = &CpuidResult::ecx, edx = &CpuidResult::edx;

}  // namespace

TEST_CASE("a feature's bit stands where the manual says, and goes with the feature") {
  const Bit bit = GENERATE(values<Bit>({
      {Feature::Fpu, 1, 0, edx, 0}, {Feature::Pse, 1, 0, edx, 3}, {Feature::Tsc, 1, 0, edx, 4},
      {Feature::Msr, 1, 0, edx, 5}, {Feature::Pae, 1, 0, edx, 6}, {Feature::Cx8, 1, 0, edx, 8},
      {Feature::Apic, 1, 0, edx, 9}, {Feature::Sep, 1, 0, edx, 11}, {Feature::Mtrr, 1, 0, edx, 12},
      {Feature::Pge, 1, 0, edx, 13}, {Feature::Cmov, 1, 0, edx, 15}, {Feature::Pat, 1, 0, edx, 16},
      {Feature::Pse36, 1, 0, edx, 17}, {Feature::Clflush, 1, 0, edx, 19}, {Feature::Mmx, 1, 0, edx, 23},
      {Feature::Fxsr, 1, 0, edx, 24}, {Feature::Sse, 1, 0, edx, 25}, {Feature::Sse2, 1, 0, edx, 26},
      {Feature::Sse3, 1, 0, ecx, 0}, {Feature::Pclmulqdq, 1, 0, ecx, 1}, {Feature::Ssse3, 1, 0, ecx, 9},
      {Feature::Cx16, 1, 0, ecx, 13}, {Feature::Pcid, 1, 0, ecx, 17}, {Feature::Sse41, 1, 0, ecx, 19},
      {Feature::Sse42, 1, 0, ecx, 20}, {Feature::X2apic, 1, 0, ecx, 21}, {Feature::Movbe, 1, 0, ecx, 22},
      {Feature::Popcnt, 1, 0, ecx, 23}, {Feature::TscDeadline, 1, 0, ecx, 24}, {Feature::Aes, 1, 0, ecx, 25},
      {Feature::Fma, 1, 0, ecx, 12}, {Feature::Avx, 1, 0, ecx, 28}, {Feature::F16c, 1, 0, ecx, 29},
      {Feature::Avx2, 7, 0, ebx, 5}, {Feature::Vaes, 7, 0, ecx, 9}, {Feature::Vpclmulqdq, 7, 0, ecx, 10},
      {Feature::Xsave, 1, 0, ecx, 26}, {Feature::Rdrand, 1, 0, ecx, 30}, {Feature::Hypervisor, 1, 0, ecx, 31},
      {Feature::Arat, 6, 0, eax, 2}, {Feature::Fsgsbase, 7, 0, ebx, 0}, {Feature::Bmi1, 7, 0, ebx, 3},
      {Feature::Smep, 7, 0, ebx, 7}, {Feature::Bmi2, 7, 0, ebx, 8}, {Feature::Erms, 7, 0, ebx, 9},
      {Feature::Invpcid, 7, 0, ebx, 10}, {Feature::Rdseed, 7, 0, ebx, 18}, {Feature::Adx, 7, 0, ebx, 19},
      {Feature::Smap, 7, 0, ebx, 20}, {Feature::Clflushopt, 7, 0, ebx, 23}, {Feature::Clwb, 7, 0, ebx, 24},
      {Feature::Sha, 7, 0, ebx, 29}, {Feature::Umip, 7, 0, ecx, 2}, {Feature::Rdpid, 7, 0, ecx, 22},
      {Feature::Fsrm, 7, 0, edx, 4}, {Feature::SpecCtrl, 7, 0, edx, 26}, {Feature::ArchCapabilities, 7, 0, edx, 29}, {Feature::Xsaveopt, 0xd, 1, eax, 0}, {Feature::Xsavec, 0xd, 1, eax, 1},
      {Feature::Xgetbv1, 0xd, 1, eax, 2}, {Feature::Xsaves, 0xd, 1, eax, 3},
      {Feature::LahfLm, 0x80000001, 0, ecx, 0}, {Feature::Lzcnt, 0x80000001, 0, ecx, 5},
      {Feature::Prefetchw, 0x80000001, 0, ecx, 8}, {Feature::Syscall, 0x80000001, 0, edx, 11},
      {Feature::Nx, 0x80000001, 0, edx, 20}, {Feature::Pdpe1gb, 0x80000001, 0, edx, 26},
      {Feature::Rdtscp, 0x80000001, 0, edx, 27}, {Feature::Lm, 0x80000001, 0, edx, 29},
      {Feature::Invtsc, 0x80000007, 0, edx, 8},
  }));
  CAPTURE(bit.leaf, bit.subleaf, bit.bit);
  CpuModel model = parsed("max");
  CHECK(model.has(bit.feature));
  CHECK(shown(model, bit));
  model.features.reset(static_cast<usize>(bit.feature));
  CHECK_FALSE(shown(model, bit));
}

TEST_CASE("no bit shows for what is not implemented") {
  const CpuModel model = parsed("max");
  CHECK((model.cpuid(7, 0).ebx & (1u << 4 | 1u << 11 | 1u << 16)) == 0);  // HLE, RTM, AVX512F
  CHECK((model.cpuid(7, 0).ecx & (1u << 8)) == 0);                        // GFNI
  CHECK((model.features & ~implemented_features()).none());
}

TEST_CASE("every model has implemented features only") {
  const std::string name(GENERATE(from_range(cpu_model_names())));
  const CpuModel model = parsed(name);
  CHECK((model.features & ~implemented_features()).none());
  CHECK(model.has(Feature::Base));
  CHECK(model.cpuid(0, 0).eax == model.max_leaf);
}

TEST_CASE("vendor and brand are spelled in the leaves") {
  const CpuModel model = parsed("max");
  const CpuidResult vendor = model.cpuid(0, 0);
  CHECK(vendor.ebx == 0x756e6547);  // "Genu"
  CHECK(vendor.edx == 0x49656e69);  // "ineI"
  CHECK(vendor.ecx == 0x6c65746e);  // "ntel"
  CHECK(model.cpuid(0x80000002, 0).eax == 0x6c6c6556);  // "Vell"
}

TEST_CASE("a feature switched off takes those with it that need it") {
  const CpuModel model = parsed("max,-sse2");
  CHECK_FALSE(model.has(Feature::Sse2));
  CHECK_FALSE(model.has(Feature::Sse42));
  CHECK_FALSE(model.has(Feature::Aes));
  CHECK_FALSE(model.has(Feature::Lm));
  CHECK(model.has(Feature::Sse));
}

TEST_CASE("max and haswell are x86-64-v3") {
  const CpuModel model = parsed(GENERATE("max", "haswell"));
  CHECK((model.cpuid(1, 0).ecx & 0x36d83201) == 0x36d83201);  // SSE3 to SSE4.2, FMA, CX16, MOVBE, POPCNT, XSAVE, AVX, F16C
  CHECK((model.cpuid(7, 0).ebx & 0x128) == 0x128);            // BMI1, AVX2, BMI2
  CHECK((model.cpuid(0x80000001, 0).ecx & 0x21) == 0x21);     // LAHF in 64-bit mode, LZCNT
}

TEST_CASE("the XSAVE area has a place for the upper halves of YMM, as far as there is AVX") {
  CHECK((parsed("max").cpuid(0xd, 0).eax & 7) == 7);
  const CpuidResult component = parsed("max").cpuid(0xd, 2);
  CHECK(component.eax == 256);
  CHECK(component.ebx == 576);
  CHECK(parsed("haswell").cpuid(0xd, 0).ecx == 576 + 256);
  CHECK((parsed("max,-avx").cpuid(0xd, 0).eax & 7) == 3);
  CHECK(parsed("max,-avx").cpuid(0xd, 2).eax == 0);
  CHECK_FALSE(parsed("max,-avx").has(Feature::Fma));
}

TEST_CASE("a feature switched on brings those that it needs") {
  const CpuModel model = parsed("pentium3,+ssse3");
  CHECK(model.has(Feature::Sse3));
  CHECK(model.has(Feature::Sse2));
  CHECK_FALSE(model.has(Feature::Sse41));
}

TEST_CASE("features are spelled as users of QEMU spell them") {
  const std::string text = GENERATE("max,sse4_2=off", "max,-sse4.2", "max,-sse4-2", "max,sse4.2=off");
  CHECK_FALSE(parsed(text).has(Feature::Sse42));
}

TEST_CASE("errors name the nearest model or feature") {
  CHECK(error_of("haswel") == "-cpu: unknown model 'haswel'; did you mean 'haswell'?");
  CHECK(error_of("max,-popcnd") == "-cpu: unknown feature 'popcnd'; did you mean 'popcnt'?");
  CHECK(error_of("max,sse2=yes").find("'on' or 'off'") != std::string::npos);
  CHECK(error_of("max,family=99").find("between") != std::string::npos);
  CHECK(error_of("max,family=x").find("not a number") != std::string::npos);
  CHECK(error_of("max,vendor=x").find("12 characters") != std::string::npos);
}

TEST_CASE("a leaf above the limit answers as the highest basic leaf") {
  const CpuModel model = parsed("pentium");
  CHECK(model.cpuid(7, 0).edx == model.cpuid(1, 0).edx);
  CHECK(model.cpuid(0x80000000, 0).eax == model.cpuid(1, 0).eax);
}

TEST_CASE("the XSAVE leaf gives the sizes of SDM Vol. 1 13.4") {
  const CpuModel plain = parsed("max,-pku,-avx");
  CHECK(plain.cpuid(0xd, 0).eax == 3);
  CHECK(plain.cpuid(0xd, 0).ecx == 576);
  const CpuModel keys = parsed("max,+pku");
  CHECK(keys.cpuid(0xd, 0).eax == 0x207);
  CHECK(keys.cpuid(0xd, 0).ecx == 2696);
  CHECK(keys.cpuid(0xd, 9).eax == 8);
  CHECK(keys.cpuid(0xd, 9).ebx == 2688);
}

TEST_CASE("the TSC leaf multiplies the crystal to the TSC's frequency") {
  CpuModel model = parsed("max");
  CHECK(model.cpuid(0x15, 0).eax == 0);
  model.tsc_frequency_hz = 2'500'000'000;
  model.bus_frequency_hz = 1'000'000'000;
  const CpuidResult leaf = model.cpuid(0x15, 0);
  CHECK(leaf.eax == 2);
  CHECK(leaf.ebx == 5);
  CHECK(leaf.ecx == 1'000'000'000);
  CHECK(model.cpuid(0x16, 0).eax == 2500);
  CHECK(model.cpuid(0x40000010, 0).eax == 2'500'000);
}

TEST_CASE("address widths follow the paging features") {
  CHECK(parsed("max").cpuid(0x80000008, 0).eax == (40 | 48 << 8));
  CHECK(parsed("max,+la57,phys-bits=46").cpuid(0x80000008, 0).eax == (46 | 57 << 8));
}
