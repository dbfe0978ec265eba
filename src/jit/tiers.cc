// From counters to regions, and back when the guest changes its code.
#include "jit/tiers.h"

#include <algorithm>

#include "cpu/interpreter/handlers.h"
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
};

// Regions' code comes from the compiling thread, so it has a cache of its own.
class Tiers::RegionMemory final : public CodeMemory {
 public:
  explicit RegionMemory(std::unique_ptr<CodeCache> cache) : m_cache(std::move(cache)) {}
  Place allocate(usize size, usize alignment) override {
    const std::lock_guard lock(m_mutex);
    const u32 offset = m_cache->allocate(size + alignment);
    if (offset == CodeCache::kFull) return {};
    const u32 aligned = static_cast<u32>((offset + alignment - 1) & ~(alignment - 1));
    return {m_cache->writable(aligned), m_cache->executable(aligned)};
  }
  void publish(const Place& place, usize size) override { m_cache->publish(m_cache->offset_of(place.executable), size); }
  void clear() {
    const std::lock_guard lock(m_mutex);
    m_cache->truncate(0);
  }
  bool almost_full() {
    const std::lock_guard lock(m_mutex);
    return m_cache->used() > m_cache->size() / 8 * 7;
  }

 private:
  std::mutex m_mutex;
  std::unique_ptr<CodeCache> m_cache;
};

namespace {

// A region whose code the guest changed this often is left to the baseline, until the cache is emptied.
constexpr unsigned kMaxFailures = 3;
// How soon a block that could not be compiled is looked at again: never.
constexpr u32 kNever = 0;

// What a hot block's counting runs. Goes on in the block's own code.
VELLUM_HANDLER_ABI void count_spent(CpuState* s, const BoundInsn* insns) {
  Block* block = Block::of(insns);
  auto& tiers = static_cast<Tiers&>(*s->core->blocks.translator());
  tiers.block_hot(*block);
  [[clang::musttail]] return reinterpret_cast<Handler>(const_cast<void*>(tiers.enter_region(*block)))(s, insns);
}

// Where a region on several pages goes when it does not know whether they are mapped as they were.
VELLUM_HANDLER_ABI void revalidate_region(CpuState* s, const BoundInsn* insns) {
  auto& tiers = static_cast<Tiers&>(*s->core->blocks.translator());
  const void* code = tiers.enter_region(*Block::of(insns));
  [[clang::musttail]] return reinterpret_cast<Handler>(const_cast<void*>(code))(s, insns);
}

}  // namespace

Tiers::Tiers(CpuCore& core, const EngineOptions& options, std::unique_ptr<CodeCache> baseline_code, std::unique_ptr<CodeCache> region_code)
    : m_core(core),
      m_options(options),
      m_baseline_code(std::move(baseline_code)),
      m_region_memory(std::make_unique<RegionMemory>(std::move(region_code))),
      m_baseline(*m_baseline_code, m_statistics, options.engine == Engine::Baseline ? nullptr : count_spent) {
  for (const auto& observer : options.observers) m_baseline.add_observer(observer);
  if (options.engine == Engine::Baseline) return;
  m_compiler = std::make_unique<CompileThread>(*m_region_memory, [&state = core.s] {
    __atomic_fetch_or(&state.attention, kAttentionTranslator, __ATOMIC_RELAXED);
  });
}

Tiers::~Tiers() = default;

void Tiers::block_made(Block& block) {
  block.heat = m_options.hot_entries;
  // When the cache is full the block runs in the interpreter, and behind it everything starts afresh.
  if (!m_baseline.translate(block)) m_core.request_code_flush();
}

void Tiers::block_linked(Block& block) { m_baseline.link(block); }

void Tiers::block_stale(Block& block) {
  ++m_statistics.stale_blocks;
  m_baseline.close(block);
  const auto found = m_regions_of.find(&block);
  if (found == m_regions_of.end()) return;
  for (const u64 ticket : std::vector(found->second)) {
    RegionRecord& record = *m_regions.at(ticket);
    ++m_failures[record.blocks[0]->ram_offset];
    log(LogItem::Tiers, "region at {:#x}: its code was overwritten", record.blocks[0]->ram_offset);
    retire(record);
  }
}

void Tiers::blocks_cleared() {
  ++m_statistics.flushes;
  if (m_compiler) m_compiler->drain();
  m_regions.clear();
  m_regions_of.clear();
  m_region_at.clear();
  m_failures.clear();
  m_region_memory->clear();
  m_baseline_code->truncate(0);
}

bool Tiers::shares_code(const Block& running, const Block& written) const {
  const auto found = m_regions_of.find(&running);
  if (found == m_regions_of.end()) return false;
  for (const u64 ticket : found->second)
    if (const auto& blocks = m_regions.at(ticket)->blocks; std::ranges::find(blocks, &written) != blocks.end()) return true;
  return false;
}

void Tiers::block_hot(Block& block) {
  block.heat = kNever;
  if (m_region_at.contains(&block)) return;
  if (log_enabled(LogItem::Exec)) return;  // inside a region nobody sees blocks being entered
  if (const auto failed = m_failures.find(block.ram_offset); failed != m_failures.end() && failed->second >= kMaxFailures) return;
  if (m_region_memory->almost_full()) {
    m_core.request_code_flush();
    return;
  }
  Selection selection = select_region(m_core, block, m_core.s.code_base);
  if (selection.blocks.empty()) return;
  auto record = std::make_unique<RegionRecord>();
  const u64 ticket = record->ticket = m_next_ticket++;
  record->blocks = std::move(selection.blocks);
  record->mapping = std::move(selection.mapping);
  record->rip = m_core.s.code_base;
  if (m_options.count_tiers) selection.region.executed = &m_statistics.region_insns_run;
  for (const Block* part : record->blocks) {
    auto& tickets = m_regions_of[part];
    if (std::ranges::find(tickets, ticket) == tickets.end()) tickets.push_back(ticket);  // twice in it: mapped twice
  }
  selection.region.fallback = reinterpret_cast<Handler>(const_cast<void*>(m_baseline.plain_entry(block)));
  if (!record->mapping.empty()) {
    selection.region.validity = &record->validity;
    selection.region.revalidate = revalidate_region;
  }
  log(LogItem::Tiers, "region {}: {} blocks from {:#x}", ticket, record->blocks.size(), m_core.s.code_base);
  m_regions.emplace(ticket, std::move(record));
  ++m_statistics.regions_chosen;
  m_compiler->submit(ticket, std::move(selection.region));
  if (m_options.wait_for_compiler) {
    m_compiler->finish();
    attend();
  }
}

void Tiers::attend() {
  if (!m_compiler) return;
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
      retire(*found->second);
    }
  }
}

void Tiers::install(RegionRecord& record, const CompiledRegion& code) {
  Block& head = *record.blocks[0];
  record.code = reinterpret_cast<const void*>(code.entry);
  m_region_at[&head] = record.ticket;
  ++m_statistics.regions;
  m_statistics.region_insns += code.statistics.instructions;
  m_statistics.region_bytes += code.code_size;
  for (const auto& observer : m_options.observers) observer->region_translated(record.rip, {code.code, code.code_size});
  log(LogItem::Tiers, "region {}: {} instructions, {} bytes", record.ticket, code.statistics.instructions, code.code_size);
  m_baseline.redirect(head, record.code);
}

void Tiers::retire(RegionRecord& record) {
  for (const Block* block : record.blocks) {
    auto& tickets = m_regions_of[block];
    std::erase(tickets, record.ticket);
    if (tickets.empty()) m_regions_of.erase(block);
  }
  Block& head = *record.blocks[0];
  if (record.code) {
    m_region_at.erase(&head);
    if (head.count != kStaleCount) m_baseline.redirect(head, nullptr);
  }
  m_regions.erase(record.ticket);
}

const void* Tiers::enter_region(Block& block) {
  const auto found = m_region_at.find(&block);
  if (found == m_region_at.end()) return m_baseline.plain_entry(block);
  RegionRecord& record = *m_regions.at(found->second);
  const CpuState& s = m_core.s;
  if (!mapping_holds(s, record.mapping, s.code_base)) return m_baseline.plain_entry(block);
  record.validity = {s.jump_key, s.code_base};
  return record.code;
}

}  // namespace vellum
