// The translating engine: the baseline for every block, and optimized regions for those that run often.
#pragma once

#include <unordered_map>

#include "cpu/core.h"
#include "jit/baseline.h"
#include "jit/compile_thread.h"
#include "jit/engine.h"
#include "jit/region_selector.h"

namespace vellum {

class Tiers final : public Translator {
 public:
  Tiers(CpuCore& core, const EngineOptions& options, std::unique_ptr<CodeCache> baseline_code, std::unique_ptr<CodeCache> region_code);
  ~Tiers() override;

  void block_made(Block& block) override;
  void block_linked(Block& block) override;
  void block_stale(Block& block) override;
  void blocks_cleared() override;
  void attend() override;
  bool shares_code(const Block& running, const Block& written) const override;

  // The block was entered as often as makes it hot; CpuState::code_base is its RIP.
  void block_hot(Block& block);
  // Whether the region that starts with `block` may run now; its code, or the block's own.
  const void* enter_region(Block& block);

  const Statistics& statistics() const { return m_statistics; }

 private:
  struct RegionRecord;
  class RegionMemory;
  void install(RegionRecord& record, const CompiledRegion& code);
  void retire(RegionRecord& record);

  CpuCore& m_core;
  EngineOptions m_options;
  Statistics m_statistics;
  std::unique_ptr<CodeCache> m_baseline_code;
  std::unique_ptr<RegionMemory> m_region_memory;
  Baseline m_baseline;
  std::unordered_map<u64, std::unique_ptr<RegionRecord>> m_regions;       // by ticket
  std::unordered_map<const Block*, std::vector<u64>> m_regions_of;        // tickets of the regions that a block is part of
  std::unordered_map<const Block*, u64> m_region_at;                      // installed, by first block
  std::unordered_map<u64, unsigned> m_failures;                           // regions given up, by RAM offset of the first block
  u64 m_next_ticket = 1;
  std::unique_ptr<CompileThread> m_compiler;  // none: only the baseline
};

}  // namespace vellum
