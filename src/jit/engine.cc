// Engines as translators of a CPU's blocks.
#include "jit/engine.h"

#include "cpu/core.h"
#include "jit/perf_files.h"
#include "jit/stencil.h"
#include "jit/tiers.h"
#include "jit/translation_log.h"

namespace vellum {

namespace {

// Those that options and log ask for.
Result<void> add_observers(const CpuCore& core, EngineOptions& options) {
  if (TranslationLog::wanted()) options.observers.push_back(std::make_shared<TranslationLog>(core));
  for (const auto& [wanted, make] : {std::pair(options.perf_map, &make_perf_map), std::pair(options.jit_dump, &make_jit_dump)}) {
    if (!wanted) continue;
    auto file = make(core);
    if (!file) return std::unexpected(file.error());
    options.observers.push_back(std::move(*file));
  }
  return {};
}

}  // namespace

std::span<const std::string_view> engine_names() {
  static constexpr std::string_view kNames[] = {"interpreter", "baseline", "llvm", "tiered"};
  return kNames;
}

Engine default_engine() { return !have_stencils() ? Engine::Interpreter : have_optimizer() ? Engine::Tiered : Engine::Baseline; }

Result<void> use_engine(Cpu& cpu, const EngineOptions& options) {
  auto& core = static_cast<CpuCore&>(cpu);
  if (options.engine == Engine::Interpreter) {
    core.set_translator(nullptr);
    return {};
  }
  if (!have_stencils())
    return std::unexpected(Error{"-engine: no stencils for this host's instruction set; use -engine interpreter"});
  if (options.engine != Engine::Baseline && !have_optimizer())
    return std::unexpected(Error{"-engine: this Vellum was built without LLVM, or the host lacks AVX2; use -engine baseline"});
  // Compiling costs about as much as millions of entries save.
  constexpr u32 kHotAtOnce = 2'000, kHotInBackground = 100'000;
  EngineOptions chosen = options;
  if (chosen.engine == Engine::Llvm) chosen.wait_for_compiler = true;
  if (chosen.engine == Engine::Llvm || !kHasQuickGenerator) chosen.generator = CodeGenerator::Llvm;
  chosen.must_pay = !chosen.hot_entries && !chosen.wait_for_compiler;
  if (!chosen.hot_entries) chosen.hot_entries = chosen.engine == Engine::Llvm ? kHotAtOnce : kHotInBackground;
  if (auto added = add_observers(core, chosen); !added) return added;
  const auto backing = options.perf_map ? CodeCache::Backing::Anonymous : CodeCache::Backing::File;
  auto baseline_code = CodeCache::create(options.code_cache_size, backing, Tiers::counters_size(options.code_cache_size));
  if (!baseline_code) return std::unexpected(baseline_code.error());
  auto region_code = CodeCache::create(options.code_cache_size, backing);
  if (!region_code) return std::unexpected(region_code.error());
  core.set_translator(std::make_unique<Tiers>(core, chosen, std::move(*baseline_code), std::move(*region_code)));
  return {};
}

const Statistics* engine_statistics(Cpu& cpu) {
  const auto* engine = dynamic_cast<const Tiers*>(static_cast<CpuCore&>(cpu).blocks.translator());
  return engine ? &engine->statistics() : nullptr;
}

}  // namespace vellum
