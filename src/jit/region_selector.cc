// From a trace of blocks to a region.
#include "jit/region_selector.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "cpu/interpreter/handlers.h"
#include "cpu/jump_cache.h"
#include "cpu/opcodes.h"

namespace vellum {

namespace {

// The cost of compiling grows faster than the region. What does not come back to its start is worth less of it.
constexpr unsigned kMaxInsns = 200, kMaxStraightInsns = 100, kMaxBlocks = 64;
// A block joins if it runs at least once in so many entries of the region, and a target if once in so many of its block.
constexpr unsigned kRarest = 8;
// Instructions that a region runs already gain this part of what others do.
constexpr u64 kGainAgain = 4;
constexpr unsigned kMaxIndirectTargets = 4;
// An instruction for which the baseline calls a function, and a region does not, gains as much by being optimized as so many others.
constexpr u32 kCalledGain = 10;

// A block at a RIP.
struct Node {
  Block* block;
  i64 delta;
  u32 count = 0;             // how often it ran
  std::map<i64, u32> after;  // what ran behind it: deltas, and how often
  int number = -1;           // in the region
};

u64 wrapped(u64 value, unsigned size) {
  return size == 8 ? value : size == 4 ? static_cast<u32>(value) : static_cast<u16>(value);
}

// What a region cannot hold: code across pages, code whose RIP is not its linear address, and code of another mode.
bool fits(const Block& block, const Block& head) {
  return block.count != kStaleCount && !block.crosses_page && block.chainable && block.code_size && block.mode == head.mode;
}

using Nodes = std::map<i64, Node>;  // by delta

// Where control goes behind a block, as far as a region can follow it.
struct Ways {
  std::optional<i64> taken, next;  // deltas
  bool indirect = false;
};

Ways ways_of(const Node& node, u64 head_rip) {
  const Block& block = *node.block;
  const unsigned position = block.real_count - 1u;
  const BoundInsn& last = block.insns[position];
  if (!is_variant(block.variants()[position])) return {};
  const u64 end = head_rip + static_cast<u64>(node.delta) - block.page_offset() + last.offset + last.length;
  const auto delta = [&](u64 rip, unsigned size) { return static_cast<i64>(wrapped(rip, size) - head_rip); };
  Ways ways;
  switch (interpreter_row(last.row).flow) {
    case Flow::Conditional:
      ways.next = delta(end, last.code_size_bytes);
      [[fallthrough]];
    case Flow::Direct: ways.taken = delta(end + static_cast<u64>(last.immediate()), last.operand_size); break;
    case Flow::Next:
    case Flow::String: ways.next = delta(end, last.code_size_bytes); break;
    case Flow::Indirect: ways.indirect = true; break;
    case Flow::Callout: break;
  }
  return ways;
}

Nodes nodes_of(std::span<const TraceStep> trace) {
  Nodes nodes;
  Node* before = nullptr;
  std::map<u64, u64> ram_page_of;  // by linear page
  for (const TraceStep& step : trace) {
    if (!step.block || !fits(*step.block, *trace[0].block)) {
      before = nullptr;
      continue;
    }
    const i64 delta = static_cast<i64>(step.rip - trace[0].rip);
    const u64 ram_page = step.block->ram_offset & ~kPageMask;
    if (ram_page_of.try_emplace(step.rip & ~kPageMask, ram_page).first->second != ram_page) {  // mapped anew meanwhile
      before = nullptr;
      continue;
    }
    Node& node = nodes.try_emplace(delta, Node{step.block, delta}).first->second;
    if (node.block != step.block) {  // made anew meanwhile
      before = nullptr;
      continue;
    }
    ++node.count;
    if (before) ++before->after[delta];
    before = &node;
  }
  return nodes;
}

// Often enough, in the order of how often.
std::vector<Node*> choose(Nodes& nodes, u64 head_rip) {
  Node& head = nodes.at(0);
  const bool loop = head.count > 1;
  const unsigned limit = loop ? kMaxInsns : kMaxStraightInsns;
  std::vector<Node*> chosen, edge{&head};
  unsigned insns = 0;
  while (!edge.empty() && chosen.size() < kMaxBlocks) {
    const auto most = std::ranges::max_element(edge, {}, [](const Node* node) { return node->count; });
    Node* node = *most;
    edge.erase(most);
    if (!chosen.empty() && insns + node->block->real_count > limit) continue;
    insns += node->block->real_count;
    node->number = static_cast<int>(chosen.size());
    chosen.push_back(node);
    const Ways ways = ways_of(*node, head_rip);
    for (const auto& [delta, times] : node->after) {
      if (!ways.indirect && ways.taken != delta && ways.next != delta) continue;
      Node& next = nodes.at(delta);
      const bool known = next.number >= 0 || std::ranges::find(edge, &next) != edge.end();
      if (!known && times * kRarest >= head.count) edge.push_back(&next);
    }
  }
  return chosen;
}

// Whether the baseline leaves it to a function: x87, and what ciphers are made of.
bool is_called(u16 row) {
  constexpr Feature kCiphers[] = {Feature::Aes, Feature::Vaes, Feature::Sha, Feature::Pclmulqdq, Feature::Vpclmulqdq};
  return interpreter_row(row).x87.any || std::ranges::find(kCiphers, opcode_rows()[row].feature) != std::end(kCiphers);
}

RegionBlock copy_of(const Node& node, const Nodes& nodes, u64 head_rip) {
  const Block& block = *node.block;
  RegionBlock copy;
  copy.original = &block;
  copy.delta = node.delta;
  copy.count = block.real_count;
  copy.insns.assign(block.insns, block.insns + block.real_count + 1);
  copy.variants.assign(block.variants(), block.variants() + block.real_count);
  for (unsigned position = 0; position < block.real_count; ++position)
    set_handler(copy.insns[position], interpreter_handler(block, position));
  set_handler(copy.insns[block.real_count], interpreter_fall_through);

  const Ways ways = ways_of(node, head_rip);
  const auto times = [&](i64 delta) {
    const auto found = node.after.find(delta);
    return found == node.after.end() ? 0 : found->second;
  };
  const auto number = [&](i64 delta) {
    const auto found = nodes.find(delta);
    return found == nodes.end() ? -1 : found->second.number;
  };
  if (ways.taken) {
    copy.taken = number(*ways.taken);
    copy.taken_weight = times(*ways.taken);
  }
  if (ways.next) {
    copy.next = number(*ways.next);
    copy.next_weight = times(*ways.next);
  }
  if (ways.indirect) {
    std::vector<std::pair<u32, int>> targets;
    for (const auto& [delta, how_often] : node.after)
      if (number(delta) >= 0 && how_often * kRarest >= node.count) targets.push_back({how_often, number(delta)});
    std::ranges::sort(targets, std::greater());
    if (targets.size() > kMaxIndirectTargets) targets.resize(kMaxIndirectTargets);
    for (const auto& [how_often, target] : targets) copy.indirect.push_back(target);
  }
  return copy;
}

}  // namespace

u64 gain_of(const Block& block) {
  u64 gain = 0;
  for (unsigned i = 0; i < block.real_count; ++i) gain += is_variant(block.variants()[i]) && is_called(block.insns[i].row) ? kCalledGain : 1;
  return gain;
}

Selection select_region(std::span<const TraceStep> trace, const std::function<bool(const Block&)>& is_compiled) {
  Selection selection;
  if (trace.empty() || !trace[0].block || !fits(*trace[0].block, *trace[0].block)) return selection;
  if (!is_variant(trace[0].block->variants()[0])) return selection;  // a callout: nothing would run before the region is left
  Nodes nodes = nodes_of(trace);
  std::map<u64, bool> pages{{trace[0].rip & ~kPageMask, true}};
  u64 ran = 0;
  for (const Node* node : choose(nodes, trace[0].rip)) {
    ran += u64{node->count} * gain_of(*node->block) / (is_compiled(*node->block) ? kGainAgain : 1);
    selection.blocks.push_back(node->block);
    selection.region.blocks.push_back(copy_of(*node, nodes, trace[0].rip));
    if (pages.try_emplace((trace[0].rip + static_cast<u64>(node->delta)) & ~kPageMask, true).second)
      selection.mapping.push_back({node->delta, node->block});
  }
  selection.insns_per_entry = ran / nodes.at(0).count;
  return selection;
}

bool mapping_holds(const CpuCore& core, std::span<const MappingCheck> checks, u64 rip) {
  return std::ranges::all_of(checks, [&](const MappingCheck& check) {
    const u64 place = rip + static_cast<u64>(check.delta);
    const JumpCacheEntry* const entry = find_jump(&core.s, place);
    return (entry && entry->block == check.block) || core.maps_code(place, check.block->ram_offset & ~kPageMask);
  });
}

}  // namespace vellum
