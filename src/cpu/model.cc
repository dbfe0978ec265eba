// CPU models: the table of features with their CPUID bits, the named models, and the leaves. SDM Vol. 2A "CPUID".
#include "cpu/model.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <initializer_list>
#include <optional>

#include "state/assert.h"
#include "state/nearest.h"

namespace vellum {

namespace {

enum class CpuidRegister : u8 { Eax, Ebx, Ecx, Edx };

struct FeatureInfo {
  Feature feature;
  std::string_view name;
  u32 leaf, subleaf;
  CpuidRegister reg;
  u8 bit;
  std::initializer_list<Feature> needs;
};

using enum CpuidRegister;
using F = Feature;

// In the order of the leaves. `needs` are direct requirements: SDM Vol. 1 chapters 12 to 14; for paging Vol. 3A 4.1.4.
const FeatureInfo kFeatures[] = {
    {F::Fpu, "fpu", 1, 0, Edx, 0, {}},
    {F::Vme, "vme", 1, 0, Edx, 1, {}},
    {F::De, "de", 1, 0, Edx, 2, {}},
    {F::Pse, "pse", 1, 0, Edx, 3, {}},
    {F::Tsc, "tsc", 1, 0, Edx, 4, {}},
    {F::Msr, "msr", 1, 0, Edx, 5, {}},
    {F::Pae, "pae", 1, 0, Edx, 6, {}},
    {F::Mce, "mce", 1, 0, Edx, 7, {}},
    {F::Cx8, "cx8", 1, 0, Edx, 8, {}},
    {F::Apic, "apic", 1, 0, Edx, 9, {F::Msr}},
    {F::Sep, "sep", 1, 0, Edx, 11, {F::Msr}},
    {F::Mtrr, "mtrr", 1, 0, Edx, 12, {F::Msr}},
    {F::Pge, "pge", 1, 0, Edx, 13, {}},
    {F::Mca, "mca", 1, 0, Edx, 14, {F::Mce, F::Msr}},
    {F::Cmov, "cmov", 1, 0, Edx, 15, {}},
    {F::Pat, "pat", 1, 0, Edx, 16, {F::Msr}},
    {F::Pse36, "pse36", 1, 0, Edx, 17, {F::Pse}},
    {F::Clflush, "clflush", 1, 0, Edx, 19, {}},
    {F::Mmx, "mmx", 1, 0, Edx, 23, {F::Fpu}},
    {F::Fxsr, "fxsr", 1, 0, Edx, 24, {F::Fpu}},
    {F::Sse, "sse", 1, 0, Edx, 25, {F::Fxsr, F::Mmx}},
    {F::Sse2, "sse2", 1, 0, Edx, 26, {F::Sse}},
    {F::Sse3, "sse3", 1, 0, Ecx, 0, {F::Sse2}},
    {F::Pclmulqdq, "pclmulqdq", 1, 0, Ecx, 1, {F::Sse2}},
    {F::Monitor, "monitor", 1, 0, Ecx, 3, {}},
    {F::Ssse3, "ssse3", 1, 0, Ecx, 9, {F::Sse3}},
    {F::Fma, "fma", 1, 0, Ecx, 12, {F::Avx}},
    {F::Cx16, "cx16", 1, 0, Ecx, 13, {F::Cx8, F::Lm}},
    {F::Pcid, "pcid", 1, 0, Ecx, 17, {F::Lm, F::Pge}},
    {F::Sse41, "sse4.1", 1, 0, Ecx, 19, {F::Ssse3}},
    {F::Sse42, "sse4.2", 1, 0, Ecx, 20, {F::Sse41}},
    {F::X2apic, "x2apic", 1, 0, Ecx, 21, {F::Apic}},
    {F::Movbe, "movbe", 1, 0, Ecx, 22, {}},
    {F::Popcnt, "popcnt", 1, 0, Ecx, 23, {}},
    {F::TscDeadline, "tsc-deadline", 1, 0, Ecx, 24, {F::Apic, F::Tsc}},
    {F::Aes, "aes", 1, 0, Ecx, 25, {F::Sse2}},
    {F::Xsave, "xsave", 1, 0, Ecx, 26, {F::Fxsr}},
    {F::Avx, "avx", 1, 0, Ecx, 28, {F::Xsave, F::Sse42}},
    {F::F16c, "f16c", 1, 0, Ecx, 29, {F::Avx}},
    {F::Rdrand, "rdrand", 1, 0, Ecx, 30, {}},
    {F::Hypervisor, "hypervisor", 1, 0, Ecx, 31, {}},
    {F::Arat, "arat", 6, 0, Eax, 2, {F::Apic}},
    {F::Fsgsbase, "fsgsbase", 7, 0, Ebx, 0, {F::Lm}},
    {F::TscAdjust, "tsc-adjust", 7, 0, Ebx, 1, {F::Tsc, F::Msr}},
    {F::Bmi1, "bmi1", 7, 0, Ebx, 3, {}},
    {F::Avx2, "avx2", 7, 0, Ebx, 5, {F::Avx}},
    {F::Smep, "smep", 7, 0, Ebx, 7, {}},
    {F::Bmi2, "bmi2", 7, 0, Ebx, 8, {}},
    {F::Erms, "erms", 7, 0, Ebx, 9, {}},
    {F::Invpcid, "invpcid", 7, 0, Ebx, 10, {}},
    {F::Rdseed, "rdseed", 7, 0, Ebx, 18, {}},
    {F::Adx, "adx", 7, 0, Ebx, 19, {}},
    {F::Smap, "smap", 7, 0, Ebx, 20, {}},
    {F::Clflushopt, "clflushopt", 7, 0, Ebx, 23, {F::Clflush}},
    {F::Clwb, "clwb", 7, 0, Ebx, 24, {F::Clflush}},
    {F::Sha, "sha-ni", 7, 0, Ebx, 29, {F::Sse2}},
    {F::Umip, "umip", 7, 0, Ecx, 2, {}},
    {F::Pku, "pku", 7, 0, Ecx, 3, {F::Lm, F::Xsave}},
    {F::Vaes, "vaes", 7, 0, Ecx, 9, {F::Aes, F::Avx}},
    {F::Vpclmulqdq, "vpclmulqdq", 7, 0, Ecx, 10, {F::Pclmulqdq, F::Avx}},
    {F::La57, "la57", 7, 0, Ecx, 16, {F::Lm}},
    {F::Rdpid, "rdpid", 7, 0, Ecx, 22, {}},
    {F::Pks, "pks", 7, 0, Ecx, 31, {F::Lm}},
    {F::Fsrm, "fsrm", 7, 0, Edx, 4, {F::Erms}},
    {F::SpecCtrl, "spec-ctrl", 7, 0, Edx, 26, {F::Msr}},
    {F::ArchCapabilities, "arch-capabilities", 7, 0, Edx, 29, {F::Msr}},
    {F::Xsaveopt, "xsaveopt", 0xd, 1, Eax, 0, {F::Xsave}},
    {F::Xsavec, "xsavec", 0xd, 1, Eax, 1, {F::Xsave}},
    {F::Xgetbv1, "xgetbv1", 0xd, 1, Eax, 2, {F::Xsave}},
    {F::Xsaves, "xsaves", 0xd, 1, Eax, 3, {F::Xsavec}},
    {F::KvmPvIpi, "kvm-pv-ipi", 0x40000001, 0, Eax, 11, {F::Hypervisor, F::Apic}},
    {F::LahfLm, "lahf-lm", 0x80000001, 0, Ecx, 0, {F::Lm}},
    {F::Lzcnt, "lzcnt", 0x80000001, 0, Ecx, 5, {}},
    {F::Prefetchw, "3dnowprefetch", 0x80000001, 0, Ecx, 8, {}},
    {F::Syscall, "syscall", 0x80000001, 0, Edx, 11, {F::Msr}},
    {F::Nx, "nx", 0x80000001, 0, Edx, 20, {F::Pae, F::Msr}},
    {F::Pdpe1gb, "pdpe1gb", 0x80000001, 0, Edx, 26, {F::Lm}},
    {F::Rdtscp, "rdtscp", 0x80000001, 0, Edx, 27, {F::Tsc}},
    {F::Lm, "lm", 0x80000001, 0, Edx, 29, {F::Pae, F::Msr, F::Sse2}},
    {F::Invtsc, "invtsc", 0x80000007, 0, Edx, 8, {F::Tsc}},
};

// Other spellings that users of QEMU know; "_" counts as "-" in any name.
struct Alias {
  std::string_view alias, name;
};
constexpr Alias kFeatureAliases[] = {{"sse4-1", "sse4.1"}, {"sse4-2", "sse4.2"}, {"abm", "lzcnt"}, {"pni", "sse3"},
                                     {"cmpxchg8b", "cx8"}, {"cmpxchg16b", "cx16"}, {"prefetchw", "3dnowprefetch"},
                                     {"xd", "nx"}, {"i64", "lm"}, {"sha", "sha-ni"},
                                     {"tsc-deadline-timer", "tsc-deadline"}};
constexpr Alias kModelAliases[] = {{"i486", "486"}, {"qemu32", "pentium3"}, {"kvm32", "pentium3"},
                                   {"core2duo", "core2"},
                                   {"Conroe", "core2"}, {"Penryn", "core2"}, {"qemu64", "nehalem"}, {"kvm64", "core2"},
                                   {"Nehalem", "nehalem"}, {"Westmere", "nehalem"}, {"Haswell", "haswell"},
                                   {"host", "max"}};

template <class... Sets>
FeatureSet set_of(std::initializer_list<Feature> features, const Sets&... others) {
  FeatureSet set;
  for (const Feature feature : features) set.set(static_cast<usize>(feature));
  return (set | ... | others);
}

// What each generation had, in so far as its CPUID tells, Intel's AP-485 and the processors' datasheets.
const FeatureSet k486 = set_of({F::Fpu, F::Vme, F::Pse});
const FeatureSet kPentium = set_of({F::De, F::Tsc, F::Msr, F::Mce, F::Cx8, F::Apic, F::Mmx}, k486);
const FeatureSet kPentium3 =
    set_of({F::Pae, F::Sep, F::Mtrr, F::Pge, F::Mca, F::Cmov, F::Pat, F::Pse36, F::Fxsr, F::Sse}, kPentium);
const FeatureSet kCore2 = set_of({F::Clflush, F::Sse2, F::Sse3, F::Ssse3, F::Cx16, F::Monitor, F::LahfLm, F::Syscall,
                                  F::Nx, F::Lm, F::Hypervisor, F::Prefetchw}, kPentium3);
const FeatureSet kNehalem = set_of({F::Sse41, F::Sse42, F::Popcnt, F::Rdtscp, F::X2apic, F::Invtsc, F::Arat}, kCore2);
const FeatureSet kHaswell =
    set_of({F::Pclmulqdq, F::Aes, F::Fma, F::Pcid, F::Movbe, F::TscDeadline, F::Xsave, F::Avx, F::F16c, F::Rdrand,
            F::Fsgsbase, F::TscAdjust, F::Bmi1, F::Avx2, F::Smep, F::Bmi2, F::Erms, F::Invpcid, F::Lzcnt, F::Pdpe1gb, F::Xsaveopt},
           kNehalem);

struct ModelInfo {
  std::string_view name, brand;
  u8 family, model, stepping;
  u32 max_leaf, max_extended_leaf;
  u8 physical_address_bits;
  FeatureSet features;
};

// "max": family, model and stepping of a client Skylake, so that guests choose their paths for a current CPU.
const ModelInfo kModels[] = {
    {"486", "", 4, 8, 0, 1, 0, 32, k486},
    {"pentium", "", 5, 4, 3, 1, 0, 32, kPentium},
    {"pentium3", "", 6, 8, 3, 2, 0, 36, kPentium3},
    {"core2", "Intel(R) Core(TM)2 Duo CPU (Vellum)", 6, 15, 11, 10, 0x80000008, 40, kCore2},
    {"nehalem", "Intel Core i7 9xx (Nehalem, Vellum)", 6, 26, 3, 0xb, 0x80000008, 40, kNehalem},
    {"haswell", "Intel Core Processor (Haswell, Vellum)", 6, 60, 4, 0xd, 0x80000008, 40, kHaswell},
    {"max", "Vellum Virtual CPU", 6, 94, 3, 0x16, 0x80000008, 40, FeatureSet().set()},
};
// Implemented, and yet in no model: 5-level paging changes what addresses are canonical, which old guests do not
// expect; guests that find MONITOR idle by MWAIT, which takes more of the host than HLT.
// With hypercalls CPUID says KVM, of which guests may expect more than there is.
const FeatureSet kOnlyOnRequest = set_of({F::La57, F::Monitor, F::KvmPvIpi});

const FeatureInfo& info_of(Feature feature) {
  const auto* info = std::ranges::find(kFeatures, feature, &FeatureInfo::feature);
  VELLUM_ASSERT(info != std::end(kFeatures));
  return *info;
}

bool has(const FeatureSet& set, Feature feature) { return set[static_cast<usize>(feature)]; }

void switch_on(FeatureSet& set, Feature feature) {
  set.set(static_cast<usize>(feature));
  for (const Feature needed : info_of(feature).needs)
    if (!has(set, needed)) switch_on(set, needed);
}

void switch_off(FeatureSet& set, Feature feature) {
  set.reset(static_cast<usize>(feature));
  for (const FeatureInfo& info : kFeatures) {
    const bool needs_it = std::ranges::find(info.needs, feature) != info.needs.end();
    if (needs_it && has(set, info.feature)) switch_off(set, info.feature);
  }
}

std::string normalized(std::string_view name) {
  std::string result(name);
  std::ranges::replace(result, '_', '-');
  for (const Alias& alias : kFeatureAliases)
    if (result == alias.alias) return std::string(alias.name);
  return result;
}

Result<Feature> feature_named(std::string_view name) {
  const std::string wanted = normalized(name);
  for (const FeatureInfo& info : kFeatures)
    if (wanted == info.name) return info.feature;
  const std::string_view near = nearest_name(wanted, cpu_feature_names());
  if (near.empty()) return failure(fmt::format("-cpu: unknown feature '{}' (try -cpu help)", name));
  return failure(fmt::format("-cpu: unknown feature '{}'; did you mean '{}'?", name, near));
}

Result<void> set_feature(CpuModel& model, std::string_view name, bool on) {
  const Result<Feature> feature = feature_named(name);
  if (!feature) return std::unexpected(feature.error());
  if (!on) {
    switch_off(model.features, *feature);
    return {};
  }
  switch_on(model.features, *feature);
  return {};
}

constexpr std::string_view kProperties[] = {"vendor", "family", "model", "stepping", "model-id", "phys-bits"};

Result<void> set_property(CpuModel& model, std::string_view name, std::string_view value) {
  if (name == "vendor") {
    if (value.size() != 12) return failure(fmt::format("-cpu: vendor '{}' must have 12 characters", value));
    model.vendor = value;
    return {};
  }
  if (name == "model-id") {
    if (value.size() > 48) return failure("-cpu: model-id must have at most 48 characters");
    model.brand = value;
    return {};
  }
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size())
    return failure(fmt::format("-cpu: {}='{}' is not a number", name, value));
  const auto limited = [&](unsigned least, unsigned most, u8& field) -> Result<void> {
    if (number < least || number > most)
      return failure(fmt::format("-cpu: {}={} is not between {} and {}", name, number, least, most));
    field = static_cast<u8>(number);
    return {};
  };
  if (name == "family") return limited(4, 15, model.family);
  if (name == "model") return limited(0, 255, model.model);
  if (name == "stepping") return limited(0, 15, model.stepping);
  return limited(32, 52, model.physical_address_bits);
}

void set_bits(const CpuModel& model, u32 leaf, u32 subleaf, CpuidResult& result) {
  for (const FeatureInfo& info : kFeatures) {
    if (info.leaf != leaf || info.subleaf != subleaf || !model.has(info.feature)) continue;
    const u32 bit = u32{1} << info.bit;
    switch (info.reg) {
      case Eax: result.eax |= bit; break;
      case Ebx: result.ebx |= bit; break;
      case Ecx: result.ecx |= bit; break;
      case Edx: result.edx |= bit; break;
    }
  }
}

u32 word(std::string_view text, usize offset) {
  u32 value = 0;
  for (usize i = 0; i < 4; ++i)
    if (offset + i < text.size()) value |= u32{static_cast<u8>(text[offset + i])} << (8 * i);
  return value;
}

u32 signature(const CpuModel& model) {
  return (u32{model.model} >> 4) << 16 | u32{model.family} << 8 | (u32{model.model} & 15) << 4 | model.stepping;
}

// Deterministic cache parameters, leaf 4. One thread, one core.
CpuidResult cache_leaf(u32 subleaf) {
  struct Cache {
    u32 type, level, ways, sets, flags;
  };
  static constexpr Cache caches[] = {
      {1, 1, 8, 64, 0},     // L1D 32 KiB
      {2, 1, 8, 64, 0},     // L1I 32 KiB
      {3, 2, 8, 512, 0},    // L2 256 KiB
      {3, 3, 16, 8192, 2},  // L3 8 MiB, inclusive
  };
  if (subleaf >= std::size(caches)) return {};
  const Cache& cache = caches[subleaf];
  constexpr u32 kLine = 64, kSelfInitializing = 0x100;
  return {cache.type | cache.level << 5 | kSelfInitializing, (cache.ways - 1) << 22 | (kLine - 1), cache.sets - 1,
          cache.flags};
}

}  // namespace

const FeatureSet& implemented_features() {
  static const FeatureSet set = [] {
    FeatureSet result;
    result.set(static_cast<usize>(Feature::Base));
    for (const FeatureInfo& info : kFeatures)
      result.set(static_cast<usize>(info.feature));
    return result;
  }();
  return set;
}

std::span<const std::string_view> cpu_model_names() {
  static const auto names = [] {
    std::vector<std::string_view> result;
    for (const ModelInfo& info : kModels) result.push_back(info.name);
    return result;
  }();
  return names;
}

std::span<const std::string_view> cpu_feature_names() {
  static const auto names = [] {
    std::vector<std::string_view> result;
    for (const FeatureInfo& info : kFeatures) result.push_back(info.name);
    return result;
  }();
  return names;
}

std::string cpu_model_help() {
  std::string text = "CPU models:\n";
  for (const ModelInfo& info : kModels) {
    text += fmt::format("  {:<10}{}", info.name, info.name == "max" ? "everything that is implemented (the default)"
                                                                    : info.brand);
    text += '\n';
  }
  text += "\nFeatures, switched by +NAME, -NAME, NAME=on or NAME=off:\n";
  std::string line = " ";
  for (const FeatureInfo& feature : kFeatures) {
    if (line.size() + feature.name.size() > 78) {
      text += line + '\n';
      line = " ";
    }
    line += fmt::format(" {}", feature.name);
  }
  text += line + "\n\nProperties: vendor, family, model, stepping, model-id, phys-bits\n";
  return text;
}

Result<CpuModel> parse_cpu_model(std::string_view text) {
  const usize comma = text.find(',');
  std::string_view name = text.substr(0, comma);
  std::string_view rest = comma == text.npos ? std::string_view() : text.substr(comma + 1);
  for (const Alias& alias : kModelAliases)
    if (name == alias.alias) name = alias.name;
  const auto* found = std::ranges::find(kModels, name, &ModelInfo::name);
  if (found == std::end(kModels)) {
    const std::string_view near = nearest_name(name, cpu_model_names());
    if (near.empty()) return failure(fmt::format("-cpu: unknown model '{}' (try -cpu help)", name));
    return failure(fmt::format("-cpu: unknown model '{}'; did you mean '{}'?", name, near));
  }
  CpuModel model;
  model.name = found->name;
  model.vendor = "GenuineIntel";
  model.brand = found->brand;
  model.family = found->family;
  model.model = found->model;
  model.stepping = found->stepping;
  model.max_leaf = found->max_leaf;
  model.max_extended_leaf = found->max_extended_leaf;
  model.physical_address_bits = found->physical_address_bits;
  model.features = (found->features & implemented_features() & ~kOnlyOnRequest).set(static_cast<usize>(Feature::Base));
  while (!rest.empty()) {
    const usize end = rest.find(',');
    const std::string_view item = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    Result<void> done;
    if (item.starts_with('+') || item.starts_with('-')) {
      done = set_feature(model, item.substr(1), item[0] == '+');
    } else if (const usize equals = item.find('='); equals != item.npos) {
      const std::string_view key = item.substr(0, equals), value = item.substr(equals + 1);
      if (std::ranges::find(kProperties, key) != std::end(kProperties)) done = set_property(model, key, value);
      else if (value == "on" || value == "off") done = set_feature(model, key, value == "on");
      else if (feature_named(key)) done = failure(fmt::format("-cpu: {} must be 'on' or 'off', not '{}'", key, value));
      else done = std::unexpected(feature_named(key).error());
    } else {
      done = set_feature(model, item, true);
    }
    if (!done) return std::unexpected(done.error());
  }
  return model;
}

u64 supported_xcr0(const CpuModel& model) {
  if (!model.has(Feature::Xsave)) return 0;
  return kXcr0X87 | (model.has(Feature::Sse) ? kXcr0Sse : 0) | (model.has(Feature::Avx) ? kXcr0Avx : 0) |
         (model.has(Feature::Pku) ? kXcr0Pkru : 0);
}

u32 xsave_area_size(u64 components) {
  if (components & kXcr0Pkru) return kXsavePkruOffset + kXsavePkruSize;
  return components & kXcr0Avx ? kXsaveAvxOffset + kXsaveAvxSize : kXsaveHeaderEnd;
}

u32 xsavec_offset(u64 component, u64 components) {
  return kXsaveHeaderEnd + (component == kXcr0Pkru && (components & kXcr0Avx) ? kXsaveAvxSize : 0);
}

u32 xsavec_area_size(u64 components) {
  return xsavec_offset(kXcr0Pkru, components) + (components & kXcr0Pkru ? kXsavePkruSize : 0);
}

CpuidResult CpuModel::cpuid(u32 leaf, u32 subleaf) const {
  const bool extended = leaf >= 0x80000000;
  const bool hypervisor = leaf >= 0x40000000 && leaf <= 0x40000010 && has(Feature::Hypervisor);
  // Above the limit, Intel CPUs answer as for the highest basic leaf.
  if (!hypervisor && ((!extended && leaf > max_leaf) || (extended && leaf > max_extended_leaf))) leaf = max_leaf;

  CpuidResult result{};
  switch (leaf) {
    case 0:
      return {max_leaf, word(vendor, 0), word(vendor, 8), word(vendor, 4)};
    case 1:
      result.eax = signature(*this);
      result.ebx = 1 << 16;                                     // one logical processor
      if (has(Feature::Clflush)) result.ebx |= 8 << 8;          // line size in 8 bytes
      break;
    case 2:
      if (max_leaf < 4) return {0x03020101, 0, 0, 0x0c040843};  // TLBs; L1 16 + 16 KiB, L2 512 KiB, 32-byte lines
      return {0x76036301, 0x00f0b5ff, 0, 0x00c30000};           // TLBs; caches: see leaf 4
    case 4:
      return cache_leaf(subleaf);
    case 5:
      if (has(Feature::Monitor)) return {64, 64, 3, 0x10};      // line size; interrupts break MWAIT; C1
      break;
    case 7:
      // Subleaf 2 has BHI_CTRL: with it guests need not clear the branch history by software in each system call.
      if (has(Feature::SpecCtrl) && subleaf == 0) result.eax = 2;
      if (has(Feature::SpecCtrl) && subleaf == 2) result.edx = 1 << 4;
      break;
    case 0xb:
      // Two levels, SMT and core, of one processor each.
      if (subleaf == 0) return {0, 1, 0x100, 0};
      if (subleaf == 1) return {0, 1, 0x201, 0};
      return {0, 0, subleaf & 0xff, 0};
    case 0xd:
      if (!has(Feature::Xsave)) return {};
      if (subleaf == 0) return {static_cast<u32>(supported_xcr0(*this)), 0, xsave_area_size(supported_xcr0(*this)), 0};
      if (subleaf == 2 && has(Feature::Avx)) return {kXsaveAvxSize, kXsaveAvxOffset, 0, 0};
      if (subleaf == 9 && has(Feature::Pku)) return {kXsavePkruSize, kXsavePkruOffset, 0, 0};
      break;
    case 0x15:
      // The core crystal feeds the local APIC's timer as well, SDM Vol. 3A 10.5.4.
      if (tsc_frequency_hz && bus_frequency_hz && bus_frequency_hz <= 0xffffffff) {
        u64 numerator = tsc_frequency_hz, denominator = bus_frequency_hz;
        for (u64 a = numerator, b = denominator; ;) {
          if (b == 0) { numerator /= a; denominator /= a; break; }
          const u64 remainder = a % b;
          a = b;
          b = remainder;
        }
        if (numerator <= 0xffffffff)
          return {static_cast<u32>(denominator), static_cast<u32>(numerator), static_cast<u32>(bus_frequency_hz), 0};
      }
      break;
    case 0x16:
      if (tsc_frequency_hz && bus_frequency_hz) {
        const u32 mhz = static_cast<u32>(tsc_frequency_hz / 1'000'000) & 0xffff;
        return {mhz, mhz, static_cast<u32>(bus_frequency_hz / 1'000'000) & 0xffff, 0};
      }
      break;
    case 0x40000000:
      if (has(Feature::KvmPvIpi)) return {0x40000010, word("KVMKVMKVM", 0), word("KVMKVMKVM", 4), word("KVMKVMKVM", 8)};
      return {0x40000010, word("VellumVellum", 0), word("VellumVellum", 4), word("VellumVellum", 8)};
    case 0x40000010:  // kHz of TSC and of the local APIC's timer, as several hypervisors report them
      return {static_cast<u32>(tsc_frequency_hz / 1000), static_cast<u32>(bus_frequency_hz / 1000), 0, 0};
    case 0x80000000:
      return {max_extended_leaf, 0, 0, 0};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const usize offset = (leaf - 0x80000002) * 16;
      return {word(brand, offset), word(brand, offset + 4), word(brand, offset + 8), word(brand, offset + 12)};
    }
    case 0x80000006:
      return {0, 0, 256 << 16 | 6 << 12 | 64, 0};  // L2: 256 KiB, 8 ways, 64-byte lines
    case 0x80000008: {
      const u32 linear = !has(Feature::Lm) ? 32 : has(Feature::La57) ? 57 : 48;
      return {physical_address_bits | linear << 8, 0, 0, 0};
    }
    default:
      break;
  }
  set_bits(*this, leaf, leaf == 7 || leaf == 0xd ? subleaf : 0, result);
  return result;
}

}  // namespace vellum
