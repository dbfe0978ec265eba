// From counters to regions, and back when the guest changes its code.
#include "jit/tiers.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "cpu/interpreter/handlers.h"
#include "jit/sites.h"
#include "state/assert.h"
#include "state/log.h"

namespace vellum {

// One region: chosen, being compiled, or installed.
struct Tiers::RegionRecord {
  u64 ticket;
  std::vector<Block*> blocks;
  std::vector<MappingCheck> mapping;
  u64 rip = 0;  // of the first block
  const void* code = nullptr;
  RegionValidity validity;  // when the mapping was last found to hold
  // To be compiled once more if the loops in it run long enough.
  std::optional<Region> promotable;
  u64 interruptions = 0, noticed_interruptions = 0;
  u64 insns_run = 0;  // in its loops, by samples
};

// Regions' code comes from the compiling thread, so it has a cache of its own.
class Tiers::RegionMemory final : public CodeMemory {
 public:
  explicit RegionMemory(std::unique_ptr<CodeCache> cache);
  Place allocate(usize size, usize alignment) override {
    const std::lock_guard lock(m_mutex);
    u32 offset = m_cache->allocate(size + alignment);
    if (offset == CodeCache::kFull && m_next_free) {
      m_cache->use_segment(next());
      m_next_free = false;
      offset = m_cache->allocate(size + alignment);
    }
    if (offset == CodeCache::kFull) return {};
    const u32 aligned = static_cast<u32>((offset + alignment - 1) & ~(alignment - 1));
    return {m_cache->writable(aligned), m_cache->executable(aligned)};
  }
  void publish(const Place& place, usize size) override { m_cache->publish(m_cache->offset_of(place.executable), size); }
  void clear() {
    const std::lock_guard lock(m_mutex);
    m_cache->use_segment(0);
    m_next_free = true;
  }
  bool has_room() override {
    const std::lock_guard lock(m_mutex);
    return m_next_free;  // wherever the segment in use ends, the region fits into the next
  }
  // Whether code lies in the segment that comes next.
  bool is_next(const void* code) const { return m_cache->segment_of(code) == next(); }
  // Nothing there is used any more. Only while no region is being compiled.
  void free_next() {
    const std::lock_guard lock(m_mutex);
    m_next_free = true;
  }

 private:
  unsigned next() const { return (m_cache->segment() + 1) % m_cache->segments(); }
  std::mutex m_mutex;
  std::unique_ptr<CodeCache> m_cache;
  bool m_next_free = true;
};

namespace {

// With each time that the guest changes its code a region waits twice as long for the next try, up to this many times.
constexpr unsigned kMostFailures = 10;
// Code that was written this often, each time otherwise, gets host code only when it has run for a while as it is.
// Interpreting it that often takes about as long as translating it.
constexpr unsigned kRewrittenOften = 2;
constexpr i32 kProofEntries = 50;
// Code memory is reused in segments. More of them lose less at once, fewer waste less at their ends.
constexpr u64 kLeastSegment = 256 << 10;
constexpr u64 kMostSegments = 8;
unsigned segments_for(u64 size) { return static_cast<unsigned>(std::clamp<u64>(size / kLeastSegment, 2, kMostSegments)); }
// A block has host code of its own that is longer than this: arrival, entry, an exit. By far, as nearly all are.
constexpr u64 kLeastBlockCode = 64;
u64 heats_per_segment(u64 code_size) { return code_size / segments_for(code_size) / kLeastBlockCode; }
// How soon a block that could not be compiled is looked at again: never, or after 2^31 entries.
constexpr i32 kNever = std::numeric_limits<i32>::max();
constexpr u64 kMaxHeat = u64{1} << 30;
// Steps of a trace: enough to meet what is rare in a loop, few enough to cost less than a region of two instructions.
// Who asks for regions soon gets short ones, and who asks at the first entry a region of that block.
constexpr usize kMinTraceLength = 16, kMaxTraceLength = 1024;
usize trace_length(u32 hot_entries) { return hot_entries < 2 ? 1 : std::clamp<usize>(hot_entries / 2, kMinTraceLength, kMaxTraceLength); }
// Instructions that gain about as much by running optimized as compiling one costs.
constexpr u64 kInsnsPerCompiledInsn = 400'000;

// Where blocks must become hot at the very entry that makes them so. Goes on in the block's own code.
VELLUM_HANDLER_ABI void count_entry(CpuState* s, const BoundInsn* insns) {
  Block* block = Block::of(insns);
  auto& tiers = static_cast<Tiers&>(*s->core->blocks.translator());
  if (*block->heat == kNever || --*block->heat > 0) [[clang::musttail]] return reinterpret_cast<Handler>(const_cast<void*>(tiers.plain_entry(*block)))(s, insns);
  tiers.block_hot(*block);
  if (__atomic_load_n(&s->attention, __ATOMIC_RELAXED)) s->end_slice();  // the trace begins with this block, a region with its next entry
  [[clang::musttail]] return reinterpret_cast<Handler>(const_cast<void*>(tiers.enter_region(*block)))(s, insns);
}

// In the place of the first instruction's handler, where a block must prove itself.
VELLUM_HANDLER_ABI void count_proof(CpuState* s, const BoundInsn* insns) {
  Block* block = Block::of(insns);
  if (--*block->heat > 0) [[clang::musttail]] return interpreter_handler(*block, 0)(s, insns);
  static_cast<Tiers&>(*s->core->blocks.translator()).block_proven(*block);
  // Full caches leave the block as it is, and a proof of one entry more would be due at once.
  const Handler handler = handler_of(*insns) == count_proof ? interpreter_handler(*block, 0) : handler_of(*insns);
  [[clang::musttail]] return handler(s, insns);
}

// Where the run loop takes over from a region's loops.
VELLUM_HANDLER_ABI void region_interrupted(CpuState* s, const BoundInsn* insns) {
  static_cast<Tiers&>(*s->core->blocks.translator()).region_interrupted(*Block::of(insns));
}

// Where a region on several pages goes when it does not know whether they are mapped as they were.
VELLUM_HANDLER_ABI void revalidate_region(CpuState* s, const BoundInsn* insns) {
  auto& tiers = static_cast<Tiers&>(*s->core->blocks.translator());
  const void* code = tiers.enter_region(*Block::of(insns));
  [[clang::musttail]] return reinterpret_cast<Handler>(const_cast<void*>(code))(s, insns);
}

}  // namespace

Tiers::RegionMemory::RegionMemory(std::unique_ptr<CodeCache> cache) : m_cache(std::move(cache)) {
  m_cache->set_segments(segments_for(m_cache->size()));
}

Tiers::Tiers(CpuCore& core, const EngineOptions& options, std::unique_ptr<CodeCache> baseline_code, std::unique_ptr<CodeCache> region_code)
    : m_core(core),
      m_options(options),
      m_baseline_code(std::move(baseline_code)),
      m_region_memory(std::make_unique<RegionMemory>(std::move(region_code))),
      m_baseline(*m_baseline_code, m_statistics,
                 options.engine == Engine::Baseline ? Counting::None : options.must_pay ? Counting::InPlace : Counting::Handler, count_entry) {
  const unsigned segments = segments_for(m_baseline_code->size());
  m_baseline_code->set_segments(segments);
  core.blocks.set_segments(segments);
  for (const auto& observer : options.observers) m_baseline.add_observer(observer);
  if (options.inject_fault) m_fault.emplace(options.faulted_tier, options.inject_fault);
  forget_returns();
  if (options.engine == Engine::Baseline) return;
  m_statistics.counts_tiers = options.count_tiers;
  m_compiler = std::make_unique<CompileThread>(*m_region_memory, m_options.generator, m_options.inject_delay, [&state = core.s] { state.ask_for_attention(kAttentionTranslator); });
}

Tiers::~Tiers() = default;

u64 Tiers::counters_size(u64 code_size) { return heats_per_segment(code_size) * segments_for(code_size) * sizeof(i32); }

void Tiers::block_made(Block& block) {
  if (block.rewrites < kRewrittenOften) return translate(block);
  ++m_statistics.unproven_blocks;
  await_proof(block, kProofEntries);
}

// How often a block is entered before somebody looks what it is part of: sooner where there is more to gain.
i32 Tiers::first_heat(const Block& block) const {
  if (!m_options.must_pay) return static_cast<i32>(std::min<u64>(m_options.hot_entries, kMaxHeat));
  return static_cast<i32>(u64{m_options.hot_entries} * block.real_count / gain_of(block));
}

void Tiers::translate(Block& block) {
  const u64 heats = heats_per_segment(m_baseline_code->size());
  VELLUM_ASSERT(m_heats_used < heats);
  block.heat = reinterpret_cast<i32*>(m_baseline_code->data()) + m_core.blocks.segment() * heats + m_heats_used;
  *block.heat = first_heat(block);
  if (m_fault) m_fault->begin(block);
  const Baseline::Outcome outcome = m_baseline.translate(block);
  if (m_fault) m_fault->end(block);
  switch (outcome) {
    case Baseline::Outcome::Translated: ++m_heats_used; break;
    case Baseline::Outcome::TooLong: block.heat = &block.own_heat; break;
    case Baseline::Outcome::Full:
      // The interpreter runs it now. Behind that the oldest segment is evicted, and the next entry finds room.
      m_core.request_eviction();
      await_proof(block, 1);
  }
}

void Tiers::await_proof(Block& block, i32 entries) {
  block.heat = &block.own_heat;
  *block.heat = entries;
  set_handler(block.insns[0], count_proof);
}

void Tiers::block_proven(Block& block) {
  set_handler(block.insns[0], interpreter_handler(block, 0));
  m_core.s.rip = rip_of(block);  // by which observers name what is translated
  translate(block);
  if (!block.code_size) return;
  for (const Way way : {Way::Taken, Way::Next}) m_baseline.link(block, way);
  m_core.blocks.relink(block);
  m_core.entry_moved(block);
}

void Tiers::block_linked(Block& block, Way way) { m_baseline.link(block, way); }

void Tiers::link_site(Block& from, Way way, u64 target, Block& to) {
  if (from.link(way)) m_core.blocks.unlink(from, way);
  if (m_baseline.link_site(from, way, m_core.s, target, to)) m_core.blocks.link(from, way, to);
}

void Tiers::give_up_site(Block& from, Way way) {
  if (from.link(way)) m_core.blocks.unlink(from, way);
  else m_baseline.unlink(from, way);
}

// What calls have written leads into code that is no more.
void Tiers::forget_returns() { m_core.s.returns.fill(reinterpret_cast<const void*>(&return_unknown)); }

void Tiers::block_unlinked(Block& block, Way way) { m_baseline.unlink(block, way); }

void Tiers::block_revived(Block& block) {
  const bool redirected = block.redirected;
  m_baseline.open(block);
  if (redirected) m_core.blocks.relink(block);
  if (*block.heat > static_cast<i32>(kMaxHeat)) *block.heat = first_heat(block);
}

void Tiers::block_stale(Block& block) {
  ++m_statistics.stale_blocks;
  m_entered.erase(&block);
  for (TraceStep& step : m_trace)
    if (step.block == &block) step.block = nullptr;
  if (!m_core.blocks.evicting(&block)) {  // nobody will lead to an evicted one
    m_baseline.close(block);
    for (const auto& observer : m_options.observers) observer->block_overwritten(block);
  }
  const auto found = m_regions_of.find(&block);
  if (found == m_regions_of.end()) return;
  for (const u64 ticket : std::vector(found->second)) {
    RegionRecord& record = *m_regions.at(ticket);
    if (!m_core.blocks.evicting(&block)) {
      Failures& failures = m_failures[record.blocks[0]->ram_offset];
      failures.waiting = 1u << std::min(++failures.count, kMostFailures);
      log(LogItem::Tiers, "region at {:#x}: its code was overwritten", record.blocks[0]->ram_offset);
    }
    Block& head = *record.blocks[0];
    retire(record);
    count_again(head);
  }
}

void Tiers::blocks_cleared() {
  ++m_statistics.flushes;
  if (m_compiler) m_compiler->drain();
  m_regions.clear();
  m_regions_of.clear();
  m_region_at.clear();
  m_failures.clear();
  m_entered.clear();
  m_trace.clear();
  m_region_memory->clear();
  m_baseline_code->use_segment(0);
  m_heats_used = 0;
  forget_returns();
}

void Tiers::segment_evicted(unsigned segment) {
  if (m_core.blocks.evicted() != m_statistics.blocks_evicted) ++m_statistics.segments_evicted;
  m_statistics.blocks_evicted = m_core.blocks.evicted();
  m_baseline_code->use_segment(segment);
  m_heats_used = 0;
  forget_returns();
}

bool Tiers::shares_code(const Block& running, const Block& written) const {
  const auto found = m_regions_of.find(&running);
  if (found == m_regions_of.end()) return false;
  for (const u64 ticket : found->second)
    if (const auto& blocks = m_regions.at(ticket)->blocks; std::ranges::find(blocks, &written) != blocks.end()) return true;
  return false;
}

// Whether a region that holds the block is still being compiled.
bool Tiers::is_pending(const Block& block) const {
  const auto found = m_regions_of.find(&block);
  return found != m_regions_of.end() && std::ranges::any_of(found->second, [&](u64 ticket) { return !m_regions.at(ticket)->code; });
}

// Lets the block be entered so often before it is hot again.
void Tiers::give_heat(Block& block, u64 entries) {
  *block.heat = static_cast<i32>(std::min<u64>(entries, kMaxHeat));
  m_entered[&block] += static_cast<u64>(*block.heat);
}

void Tiers::slice_ended(Block& block) {
  if (*block.heat <= 0) block_hot(block);
}

void Tiers::block_hot(Block& block) {
  const i64 seen_late = -i64{*block.heat};
  *block.heat = kNever;
  if (m_region_at.contains(&block)) return;
  if (log_enabled(LogItem::Exec)) return;  // inside a region nobody sees blocks being entered
  m_entered.try_emplace(&block, first_heat(block)).first->second += static_cast<u64>(seen_late);
  if (const auto failed = m_failures.find(block.ram_offset); failed != m_failures.end() && failed->second.waiting > 0) {
    --failed->second.waiting;
    give_heat(block, m_options.hot_entries);
  } else if (!m_trace.empty() || is_pending(block)) {
    give_heat(block, m_options.hot_entries);
  } else {
    begin_trace(block, rip_of(block));
  }
}

// From now on the run loop gets to see every block.
void Tiers::begin_trace(Block& head, u64 rip) {
  m_trace.reserve(kMaxTraceLength);
  m_trace.push_back({rip, &head});
  m_trace_events = m_core.counters.interrupts + m_core.counters.exceptions;
  m_trace_begun = false;
  m_trace_x87_top = (m_core.s.x87.status >> 11) & 7;
  m_trace_x87_valid = m_core.s.x87.valid;
  if (trace_length(m_options.hot_entries) == 1) return end_trace();
  m_core.s.ask_for_attention(kAttentionTrace);
}

void Tiers::block_entered(Block& block, u64 rip) {
  if (m_trace.empty()) {
    __atomic_fetch_and(&m_core.s.attention, ~u32{kAttentionTrace}, __ATOMIC_RELAXED);
    return;
  }
  const u64 events = m_core.counters.interrupts + m_core.counters.exceptions;
  if (events != m_trace_events) m_trace.push_back({0, nullptr});
  m_trace_events = events;
  // The head is on its way in when it asks for the trace.
  if (m_trace_begun || &block != m_trace[0].block) m_trace.push_back({rip, &block});
  m_trace_begun = true;
  if (m_trace.size() >= trace_length(m_options.hot_entries)) end_trace();
}

void Tiers::end_trace() {
  __atomic_fetch_and(&m_core.s.attention, ~u32{kAttentionTrace}, __ATOMIC_RELAXED);
  const std::vector<TraceStep> trace = std::exchange(m_trace, {});
  ++m_statistics.traces;
  if (!trace[0].block) return;
  Block& head = *trace[0].block;
  Selection selection = select_region(trace, [&](const Block& block) { return m_regions_of.contains(&block); });
  if (selection.blocks.empty()) return;
  selection.region.x87_top = m_trace_x87_top;
  selection.region.x87_valid = m_trace_x87_valid;
  // Compiling pays once the region has run for about as long without it.
  const u64 wanted = selection.region.instructions() * kInsnsPerCompiledInsn / std::max<u64>(selection.insns_per_entry, 1);
  const u64 entered = m_entered[&head];
  if (m_options.must_pay && entered < wanted) return give_heat(head, wanted - entered);
  compile(std::move(selection), trace[0].rip);
}

void Tiers::compile(Selection selection, u64 rip) {
  Block& head = *selection.blocks[0];
  auto record = std::make_unique<RegionRecord>();
  const u64 ticket = record->ticket = m_next_ticket++;
  record->blocks = std::move(selection.blocks);
  record->mapping = std::move(selection.mapping);
  record->rip = rip;
  selection.region.x87_code = m_options.x87_code;
  if (m_fault) m_fault->change(selection.region);
  if (m_options.count_tiers) selection.region.executed = &m_statistics.region_insns_run;
  for (const Block* part : record->blocks) {
    auto& tickets = m_regions_of[part];
    if (std::ranges::find(tickets, ticket) == tickets.end()) tickets.push_back(ticket);  // twice in it: mapped twice
  }
  selection.region.fallback = reinterpret_cast<Handler>(const_cast<void*>(m_baseline.plain_entry(head)));
  if (!record->mapping.empty()) {
    selection.region.validity = &record->validity;
    selection.region.revalidate = revalidate_region;
  }
  log(LogItem::Tiers, "region {}: {} blocks from {:#x}", ticket, record->blocks.size(), rip);
  if (m_options.generator == CodeGenerator::Fitting && selection.region.is_small()) {
    selection.region.interruptions = &record->interruptions;
    selection.region.interrupted = vellum::region_interrupted;
    record->promotable = selection.region;
  }
  m_regions.emplace(ticket, std::move(record));
  ++m_statistics.regions_chosen;
  submit(ticket, std::move(selection.region));
}

void Tiers::submit(u64 ticket, Region region) {
  m_compiler->submit(ticket, std::move(region));
  if (!m_options.wait_for_compiler) return;
  while (!m_compiler->finish()) attend();
  attend();
}

// Each is a sample of what runs, which stands for the instructions since the one before. Where slices end elsewhere in between
// that may be many, so there is a limit.
void Tiers::region_interrupted(Block& block) {
  constexpr u64 kLargestSample = 2'000'000;  // about a slice of the machine's
  const u64 now = m_core.retired(), sample = std::min(now - std::exchange(m_last_interruption, now), kLargestSample);
  const auto found = m_regions_of.find(&block);
  if (found == m_regions_of.end()) return;
  for (const u64 ticket : std::vector(found->second)) {
    const auto known = m_regions.find(ticket);
    if (known == m_regions.end()) continue;  // evicted to make room for the one before
    RegionRecord& record = *known->second;
    if (std::exchange(record.noticed_interruptions, record.interruptions) == record.interruptions) continue;  // another region with the block
    record.insns_run += sample;
    if (!record.promotable || record.insns_run < m_options.passes_until_promoted * record.promotable->instructions()) continue;
    record.promotable->interruptions = nullptr;
    record.promotable->promoted = true;
    log(LogItem::Tiers, "region {}: its loops run long, and it is compiled again", ticket);
    ++m_statistics.regions_promoted;
    submit(ticket, *std::exchange(record.promotable, std::nullopt));
  }
}

void Tiers::attend() {
  if (!m_compiler) return;
  install_results();
  // Where there is no room the compiling thread has stopped, and tells so with its last result.
  if (m_region_memory->has_room() || !m_compiler->idle()) return;
  install_results();
  evict_regions();
  m_compiler->resume();
}

// Frees the oldest regions' memory for the next. None is running: the guest is between two blocks.
void Tiers::evict_regions() {
  std::vector<RegionRecord*> evicted;
  for (const auto& [ticket, record] : m_regions)
    if (record->code && m_region_memory->is_next(record->code)) evicted.push_back(record.get());
  log(LogItem::Tiers, "{} regions are evicted", evicted.size());
  for (RegionRecord* record : evicted) {
    Block& head = *record->blocks[0];
    retire(*record);
    count_again(head);
  }
  ++m_statistics.region_segments_evicted;
  m_region_memory->free_next();
}

void Tiers::install_results() {
  for (auto& result : m_compiler->take_results()) {
    m_statistics.compile_nanoseconds += result.nanoseconds;
    const auto found = m_regions.find(result.ticket);
    if (found == m_regions.end()) continue;  // its code has changed meanwhile
    for (std::string_view rest = result.texts.optimized; !rest.empty();) {
      const auto line = rest.substr(0, rest.find('\n'));
      log(LogItem::Op, "region {}: {}", result.ticket, line);
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    if (result.code) {
      install(*found->second, *result.code);
    } else {
      log(LogItem::Tiers, "region {}: {}", result.ticket, result.code.error());
      ++m_statistics.regions_failed;
      if (!found->second->code) retire(*found->second);
    }
  }
}

void Tiers::install(RegionRecord& record, const CompiledRegion& code) {
  Block& head = *record.blocks[0];
  record.code = reinterpret_cast<const void*>(code.entry);
  if (!code.statistics.quick) record.promotable.reset();  // LLVM's already
  m_region_at[&head] = record.ticket;
  ++m_statistics.regions;
  m_statistics.quick_regions += code.statistics.quick;
  m_statistics.region_insns += code.statistics.instructions;
  m_statistics.lift_nanoseconds += code.statistics.lift_ns;
  m_statistics.simplify_nanoseconds += code.statistics.simplify_ns;
  m_statistics.generate_nanoseconds += code.statistics.generate_ns;
  m_statistics.region_bytes += code.code_size;
  for (const auto& observer : m_options.observers) observer->region_translated(record.rip, record.blocks, {code.code, code.code_size});
  log(LogItem::Tiers, "region {}: {} instructions, {} bytes by {}, compiled in {} us", record.ticket, code.statistics.instructions, code.code_size,
      code.statistics.quick ? "the quick generator" : "LLVM", (code.statistics.lift_ns + code.statistics.simplify_ns + code.statistics.generate_ns) / 1000);
  redirect(head, record.code);
}

void Tiers::redirect(Block& head, const void* code) {
  m_baseline.redirect(head, code);
  m_core.blocks.relink(head);
}

void Tiers::retire(RegionRecord& record) {
  for (const Block* block : record.blocks) {
    auto& tickets = m_regions_of[block];
    std::erase(tickets, record.ticket);
    if (tickets.empty()) m_regions_of.erase(block);
  }
  Block& head = *record.blocks[0];
  m_compiler->cancel(record.ticket);
  if (record.code) {
    m_region_at.erase(&head);
    if (head.count != kStaleCount) redirect(head, nullptr);
  }
  m_regions.erase(record.ticket);
}

// The head of a region that is no more may become that of another.
void Tiers::count_again(Block& head) {
  if (head.count == kStaleCount) return;
  m_entered.erase(&head);
  *head.heat = first_heat(head);
}

const void* Tiers::enter_region(Block& block) {
  const auto found = m_region_at.find(&block);
  if (found == m_region_at.end()) return m_baseline.plain_entry(block);
  RegionRecord& record = *m_regions.at(found->second);
  const CpuState& s = m_core.s;
  if (!mapping_holds(m_core, record.mapping, rip_of(block))) return m_baseline.plain_entry(block);
  record.validity = {s.jump_key_of(s.code_base), s.code_base};
  return record.code;
}

}  // namespace vellum
