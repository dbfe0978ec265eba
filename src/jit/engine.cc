// Engines as translators of a CPU's blocks.
#include "jit/engine.h"

#include "cpu/core.h"
#include "jit/baseline.h"
#include "jit/perf_files.h"
#include "jit/stencil.h"
#include "jit/translation_log.h"

namespace vellum {

namespace {

class TranslatingEngine final : public Translator {
 public:
  TranslatingEngine(CpuCore& core, const EngineOptions& options, std::unique_ptr<CodeCache> cache)
      : m_core(core), m_cache(std::move(cache)), m_baseline(*m_cache, m_statistics) {
    for (const auto& observer : options.observers) m_baseline.add_observer(observer);
  }

  void block_made(Block& block) override {
    if (m_baseline.translate(block)) return;
    // The cache is full: this block runs in the interpreter, and behind it everything starts afresh.
    m_core.request_code_flush();
  }
  void block_linked(Block& block) override { m_baseline.link(block); }
  void block_stale(Block& block) override {
    ++m_statistics.stale_blocks;
    m_baseline.close(block);
  }
  void blocks_cleared() override {
    ++m_statistics.flushes;
    m_cache->truncate(0);
  }
  const Statistics& statistics() const { return m_statistics; }
  bool shares_code(const Block&, const Block&) const override { return false; }

 private:
  CpuCore& m_core;
  std::unique_ptr<CodeCache> m_cache;
  Statistics m_statistics;
  Baseline m_baseline;
};

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
  static constexpr std::string_view kNames[] = {"interpreter", "baseline"};
  return kNames;
}

Engine default_engine() { return have_stencils() ? Engine::Baseline : Engine::Interpreter; }

Result<void> use_engine(Cpu& cpu, const EngineOptions& options) {
  auto& core = static_cast<CpuCore&>(cpu);
  if (options.engine == Engine::Interpreter) {
    core.set_translator(nullptr);
    return {};
  }
  if (!have_stencils())
    return std::unexpected(Error{"-engine baseline: no stencils for this host's instruction set; use -engine interpreter"});
  auto cache = CodeCache::create(options.code_cache_size, options.perf_map ? CodeCache::Backing::Anonymous : CodeCache::Backing::File);
  if (!cache) return std::unexpected(cache.error());
  EngineOptions chosen = options;
  if (auto added = add_observers(core, chosen); !added) return added;
  core.set_translator(std::make_unique<TranslatingEngine>(core, chosen, std::move(*cache)));
  return {};
}

const Statistics* engine_statistics(Cpu& cpu) {
  const auto* engine = dynamic_cast<const TranslatingEngine*>(static_cast<CpuCore&>(cpu).blocks.translator());
  return engine ? &engine->statistics() : nullptr;
}

}  // namespace vellum
