// The translating engine: the baseline for every block, and optimized regions for those that run often.
#pragma once

#include <unordered_map>

#include "cpu/core.h"
#include "jit/baseline.h"
#include "jit/compile_thread.h"
#include "jit/engine.h"
#include "jit/fault_injection.h"
#include "jit/region_selector.h"
#include "jit/sites.h"

namespace vellum {

class Tiers final : public Translator {
 public:
  Tiers(CpuCore& core, const EngineOptions& options, std::unique_ptr<CodeCache> baseline_code, std::unique_ptr<CodeCache> region_code);
  ~Tiers() override;
  // Bytes behind a code cache of this size for the counters of its blocks.
  static u64 counters_size(u64 code_size);

  void block_made(Block& block) override;
  void block_linked(Block& block, Way way) override;
  void block_unlinked(Block& block, Way way) override;
  void way_refused(Block& block, Way way) override { m_baseline.pass_on(block, way); }
  void block_stale(Block& block) override;
  void block_revived(Block& block) override;
  void segment_evicted(unsigned segment) override;
  void blocks_cleared() override;
  void site_found(const BoundInsn* insn, Way way, u64 target, Block& to) override { vellum::link_site(&m_core.s, insn, way, target, &to); }
  void block_entered(Block& block, u64 rip) override;
  void attend() override;
  bool shares_code(const Block& running, const Block& written) const override;

  // The block was entered as often as makes it hot.
  void block_hot(Block& block);
  // A slice of instructions ends at the block's entry: a sample of what runs.
  void slice_ended(Block& block);
  const void* plain_entry(const Block& block) const { return m_baseline.plain_entry(block); }
  // The way is not linked any more, whatever is found there.
  void give_up_site(Block& from, Way way);
  // The target, whose RIP this is, is entered from `from` under the present key.
  void link_site(Block& from, Way way, u64 target, Block& to);
  // A block without host code is being entered, and has been often enough to deserve some.
  void block_proven(Block& block);
  // The run loop takes over at a loop head of a region that may be worth LLVM's time.
  void region_interrupted(Block& block);
  // Whether the region that starts with `block` may run now; its code, or the block's own.
  const void* enter_region(Block& block);

  const Statistics& statistics() const { return m_statistics; }

 private:
  struct RegionRecord;
  class RegionMemory;
  u64 rip_of(const Block& running) const { return m_core.s.code_base + running.page_offset(); }
  i32 first_heat(const Block& block) const;
  void give_heat(Block& block, u64 entries);
  void begin_trace(Block& head, u64 rip);
  void end_trace();
  bool is_pending(const Block& block) const;
  void compile(Selection selection, u64 rip);
  void submit(u64 ticket, Region region);
  void install(RegionRecord& record, const CompiledRegion& code);
  void retire(RegionRecord& record);
  void count_again(Block& head);
  void translate(Block& block);
  void await_proof(Block& block, i32 entries);
  void redirect(Block& head, const void* code);
  void install_results();
  void forget_returns();
  void evict_regions();

  CpuCore& m_core;
  EngineOptions m_options;
  Statistics m_statistics;
  std::unique_ptr<CodeCache> m_baseline_code;
  std::unique_ptr<RegionMemory> m_region_memory;
  // The counters of blocks with host code lie behind that code, many to a line of the host's cache: of a block that runs its code is
  // touched, and no more of it.
  u32 m_heats_used = 0;  // in the segment of new blocks
  Baseline m_baseline;
  std::optional<FaultInjection> m_fault;
  std::unordered_map<u64, std::unique_ptr<RegionRecord>> m_regions;       // by ticket
  std::unordered_map<const Block*, std::vector<u64>> m_regions_of;        // tickets of the regions that a block is part of
  std::unordered_map<const Block*, u64> m_region_at;                      // installed, by first block
  // Regions whose code the guest changed, by RAM offset of the first block.
  struct Failures {
    unsigned count = 0;
    unsigned waiting = 0;  // how often the block must get hot before the next try
  };
  std::unordered_map<u64, Failures> m_failures;
  std::unordered_map<const Block*, u64> m_entered;                        // when it gets hot the next time, of blocks that were hot before
  std::vector<TraceStep> m_trace;                                         // not empty: being recorded
  bool m_trace_begun = false;                                             // its head has been seen to be entered
  u8 m_trace_x87_top = 0, m_trace_x87_valid = 0;  // when it was asked for
  u64 m_trace_events = 0;                                                 // interrupts and exceptions before its last step
  u64 m_next_ticket = 1;
  u64 m_last_interruption = 0;  // of a region, in retired instructions
  std::unique_ptr<CompileThread> m_compiler;  // none: only the baseline
};

}  // namespace vellum
