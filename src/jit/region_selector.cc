// Walking the links between blocks.
#include "jit/region_selector.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

#include "cpu/interpreter/handlers.h"
#include "cpu/jump_cache.h"
#include "cpu/opcodes.h"

namespace vellum {

namespace {

// The cost of compiling grows faster than the region; the prototype found about 150 instructions a good limit.
constexpr unsigned kMaxInsns = 160, kMaxBlocks = 48, kMaxExplored = 160;

// A block at a RIP; the same block may stand at two where its page is mapped twice.
struct Node {
  Block* block;
  i64 delta;
  int taken = -1, next = -1;  // indices of nodes
  int behind_call = -1;       // where its call returns to
  int indirect = -1;          // where its indirect transfer goes at present
  bool returns = false;       // ends with RET
  std::vector<int> from;
  bool returns_to_head = false;
};

u64 wrapped(u64 value, unsigned size) {
  return size == 8 ? value : size == 4 ? static_cast<u32>(value) : static_cast<u16>(value);
}

Block* known(const CpuState& s, u64 rip) {
  const JumpCacheEntry& entry = s.jump_cache[jump_cache_slot(rip)];
  return entry.rip == rip && entry.key == s.jump_key_of(rip) && entry.block->count != kStaleCount ? entry.block : nullptr;
}

class Explorer {
 public:
  Explorer(const CpuState& s, Block& head, u64 rip) : m_s(s), m_rip(rip) {
    node(&head, 0);
    for (usize i = 0; i < m_nodes.size() && m_nodes.size() < kMaxExplored; ++i) follow(static_cast<int>(i));
    // Whatever returns may return behind any of the calls.
    for (usize i = 0; i < m_nodes.size(); ++i) {
      const int site = m_nodes[i].behind_call;
      if (site < 0) continue;
      for (usize k = 0; k < m_nodes.size(); ++k)
        if (m_nodes[k].returns) m_nodes[static_cast<usize>(site)].from.push_back(static_cast<int>(k));
    }
    if (!m_nodes.empty()) mark_loop();
  }
  std::vector<Node>& nodes() { return m_nodes; }

 private:
  int node(Block* block, i64 delta) {
    // What a region cannot hold: code across pages, and code whose RIP is not its linear address.
    if (!block || block->count == kStaleCount || block->crosses_page || !block->chainable || !block->code_size) return -1;
    const auto [place, added] = m_index.try_emplace({block, delta}, static_cast<int>(m_nodes.size()));
    if (added) m_nodes.push_back({block, delta});
    return place->second;
  }
  // The block at a RIP, on this page by its link, elsewhere by the jump cache.
  int successor(const Node& from, Block* linked, u64 offset, unsigned size) {
    if (linked) {
      const i64 distance = static_cast<i64>(linked->ram_offset) - static_cast<i64>(from.block->ram_offset);
      return node(linked, from.delta + distance);
    }
    const u64 rip = wrapped(m_rip + static_cast<u64>(from.delta) + offset, size);
    Block* block = known(m_s, rip);
    const bool same_mode = block && block->mode == from.block->mode;
    return same_mode ? node(block, static_cast<i64>(rip - m_rip)) : -1;
  }
  // Where an indirect transfer through a word at a fixed place goes: calls of shared libraries.
  int present_target(const Node& from, const BoundInsn& insn) {
    const bool fixed = insn.memory && insn.index == kZeroSlot && (insn.base == kCodeBaseSlot || insn.base == kZeroSlot);
    if (!fixed || insn.segment_mode != SegmentMode::Flat || insn.code_size_bytes == 2) return -1;
    const u64 base = insn.base == kCodeBaseSlot ? m_rip + static_cast<u64>(from.delta) : 0;
    const u64 linear = (base + static_cast<u64>(i64{insn.displacement})) & insn.address_mask();
    const TlbEntry& entry = m_s.tlb[Tlb::slot(linear)];
    const u64 x = linear ^ entry.read_tag;
    if (x > kPageSize - insn.code_size_bytes) return -1;
    u64 target = 0;
    std::memcpy(&target, entry.host + x, insn.code_size_bytes);
    Block* block = known(m_s, target);
    return block && block->mode == from.block->mode ? node(block, static_cast<i64>(target - m_rip)) : -1;
  }
  void follow(int index) {
    const Node from = m_nodes[static_cast<usize>(index)];
    const Block& block = *from.block;
    const BoundInsn& last = block.insns[block.real_count - 1];
    const u8 variant = block.variants()[block.real_count - 1];
    int taken = -1, next = -1, behind_call = -1, indirect = -1;
    bool returns = false;
    const u64 end = u64{last.offset} + last.length;
    if (is_variant(variant)) {
      const std::string_view mnemonic = opcode_rows()[last.row].mnemonic;
      if (mnemonic == "call") behind_call = successor(from, nullptr, end, last.code_size_bytes);
      returns = mnemonic == "ret";
      switch (interpreter_row(last.row).flow) {
        case Flow::Conditional:
          next = successor(from, block.next, end, last.code_size_bytes);
          [[fallthrough]];
        case Flow::Direct:
          taken = successor(from, block.taken, end + static_cast<u64>(last.immediate()), last.operand_size);
          break;
        case Flow::Next: next = successor(from, block.next, end, last.code_size_bytes); break;
        case Flow::String: next = block.next ? successor(from, block.next, end, last.code_size_bytes) : -1; break;
        case Flow::Indirect: indirect = present_target(from, last); break;
        case Flow::Callout: break;
      }
    }
    Node& node = m_nodes[static_cast<usize>(index)];
    node.taken = taken;
    node.next = next;
    node.behind_call = behind_call;
    node.indirect = indirect;
    if (indirect >= 0) m_nodes[static_cast<usize>(indirect)].from.push_back(index);
    node.returns = returns;
    if (taken >= 0) m_nodes[static_cast<usize>(taken)].from.push_back(index);
    if (next >= 0) m_nodes[static_cast<usize>(next)].from.push_back(index);
  }
  void mark_loop() {
    std::vector<int> pending{0};
    while (!pending.empty()) {
      const int index = pending.back();
      pending.pop_back();
      for (const int from : m_nodes[static_cast<usize>(index)].from) {
        Node& node = m_nodes[static_cast<usize>(from)];
        if (node.returns_to_head) continue;
        node.returns_to_head = true;
        pending.push_back(from);
      }
    }
  }

  const CpuState& m_s;
  u64 m_rip;
  std::vector<Node> m_nodes;
  std::map<std::pair<Block*, i64>, int> m_index;
};

}  // namespace

Selection select_region(const CpuCore& core, Block& head, u64 rip) {
  if (!is_variant(head.variants()[0])) return {};  // a callout: nothing would run before the region is left
  Explorer explorer(core.s, head, rip);
  std::vector<Node>& nodes = explorer.nodes();
  Selection selection;
  if (nodes.empty()) return selection;

  // The loop in the order in which it was met, then, if there is none, what follows.
  const bool loop = nodes[0].returns_to_head;
  std::vector<int> number(nodes.size(), -1);
  unsigned insns = 0;
  for (usize i = 0; i < nodes.size() && selection.blocks.size() < kMaxBlocks; ++i) {
    const Node& node = nodes[i];
    if (loop && !node.returns_to_head) continue;
    if (i > 0 && insns + node.block->real_count > kMaxInsns) continue;
    insns += node.block->real_count;
    number[i] = static_cast<int>(selection.blocks.size());
    selection.blocks.push_back(node.block);
  }
  std::map<u64, bool> pages{{rip & ~kPageMask, true}};
  for (usize i = 0; i < nodes.size(); ++i) {
    if (number[i] < 0) continue;
    const Node& node = nodes[i];
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
    if (node.taken >= 0) copy.taken = number[static_cast<usize>(node.taken)];
    if (node.next >= 0) copy.next = number[static_cast<usize>(node.next)];
    if (node.indirect >= 0 && number[static_cast<usize>(node.indirect)] >= 0) copy.indirect.push_back(number[static_cast<usize>(node.indirect)]);
    selection.region.blocks.push_back(std::move(copy));
    if (pages.try_emplace((rip + static_cast<u64>(node.delta)) & ~kPageMask, true).second)
      selection.mapping.push_back({node.delta, &block});
  }
  return selection;
}

bool mapping_holds(const CpuCore& core, std::span<const MappingCheck> checks, u64 rip) {
  return std::ranges::all_of(checks, [&](const MappingCheck& check) {
    const u64 place = rip + static_cast<u64>(check.delta);
    return known(core.s, place) == check.block || core.maps_code(place, check.block->ram_offset & ~kPageMask);
  });
}

}  // namespace vellum
