// Register allocation: values in the order of how often they are used for each position that they occupy take the first
// register that is free wherever they live; the others live in the frame, from where most instructions take them directly.
#include <algorithm>
#include <map>

#include "jit/optimizer/x86_64/machine_code.h"

namespace vellum::x86_64 {

namespace {

constexpr usize kFavorites = 3;

struct Range {
  u32 from, to;  // positions; `to` is the first one behind
};

class Allocator {
 public:
  explicit Allocator(const MachineCode& code) : m_code(code), m_count(code.is_vector.size()) {}
  Allocation run();

 private:
  using Bits = std::vector<u64>;
  static bool test(const Bits& bits, usize i) { return bits[i / 64] >> (i % 64) & 1; }
  static void set(Bits& bits, usize i) { bits[i / 64] |= u64{1} << (i % 64); }
  static void reset(Bits& bits, usize i) { bits[i / 64] &= ~(u64{1} << (i % 64)); }

  void find_live();
  void find_ranges();
  void coalesce();
  void assign();
  ValueId leader(ValueId id) const {
    while (m_leader[static_cast<usize>(id)] != id) id = m_leader[static_cast<usize>(id)];
    return id;
  }
  template <class Function>
  static bool for_words(const std::vector<Range>& ranges, Function function);
  static bool is_free(const Bits& bits, const std::vector<Range>& ranges);
  static void occupy(Bits& bits, const std::vector<Range>& ranges);
  static bool overlap(const std::vector<Range>& a, const std::vector<Range>& b);

  const MachineCode& m_code;
  usize m_count;
  std::vector<Bits> m_live_out;             // by block
  std::vector<std::vector<Range>> m_ranges;  // by value, the last first
  std::vector<double> m_uses;               // by value: how often it is read and written
  std::vector<ValueId> m_leader;            // by value: the one that stands for all which share its place
  // By value: whose registers would save a move, the operand's and a user's.
  std::vector<ValueId> m_hint, m_user_hint;
  Allocation m_result;
};

// Which values are live at the end of each block.
void Allocator::find_live() {
  const usize words = (m_count + 63) / 64, blocks = m_code.blocks.size();
  std::vector<Bits> read(blocks, Bits(words)), written(blocks, Bits(words)), live_in(blocks, Bits(words));
  m_live_out.assign(blocks, Bits(words));
  for (usize b = 0; b < blocks; ++b)
    for (u32 i = m_code.blocks[b].first; i < m_code.blocks[b].last; ++i) {
      m_code.for_uses(m_code.insns[i], [&](ValueId id) {
        if (!test(written[b], static_cast<usize>(id))) set(read[b], static_cast<usize>(id));
      });
      m_code.for_results(m_code.insns[i], [&](ValueId id) { set(written[b], static_cast<usize>(id)); });
    }
  for (bool changed = true; changed;) {
    changed = false;
    for (usize b = blocks; b-- > 0;) {
      Bits& out = m_live_out[b];
      for (const u32 successor : m_code.blocks[b].successors)
        for (usize w = 0; w < words; ++w) out[w] |= live_in[successor][w];
      for (usize w = 0; w < words; ++w) {
        const u64 in = read[b][w] | (out[w] & ~written[b][w]);
        changed |= in != live_in[b][w];
        live_in[b][w] = in;
      }
    }
  }
}

void Allocator::find_ranges() {
  m_ranges.resize(m_count);
  m_uses.assign(m_count, 0);
  m_hint.assign(m_count, kNoValue);
  m_user_hint.assign(m_count, kNoValue);
  for (usize b = m_code.blocks.size(); b-- > 0;) {
    const MachineBlock& block = m_code.blocks[b];
    const u32 start = 2 * block.first, end = 2 * block.last;
    if (start == end) continue;
    Bits& live = m_live_out[b];
    const auto add = [&](ValueId id, u32 to) {
      std::vector<Range>& ranges = m_ranges[static_cast<usize>(id)];
      if (!ranges.empty() && ranges.back().from == to) ranges.back().from = start;
      else ranges.push_back({start, to});
    };
    for (usize w = 0; w < live.size(); ++w)
      for (u64 bits = live[w]; bits; bits &= bits - 1) add(static_cast<ValueId>(w * 64 + static_cast<usize>(__builtin_ctzll(bits))), end);
    for (u32 i = block.last; i-- > block.first;) {
      const Insn& insn = m_code.insns[i];
      m_code.for_results(insn, [&](ValueId id) {
        const usize v = static_cast<usize>(id);
        m_uses[v] += block.frequency;
        if (test(live, v)) {
          m_ranges[v].back().from = 2 * i + 1;
          reset(live, v);
        } else {
          m_ranges[v].push_back({2 * i + 1, 2 * i + 2});  // nobody reads it, but something is written
        }
      });
      m_code.for_uses(insn, [&](ValueId id) {
        const usize v = static_cast<usize>(id);
        m_uses[v] += block.frequency;
        if (test(live, v)) return;
        add(id, 2 * i + 1);
        set(live, v);
      });
      if (insn.result != kNoValue && insn.a.is_value()) {
        ValueId &of_result = m_hint[static_cast<usize>(insn.result)], &of_operand = m_user_hint[static_cast<usize>(insn.a.index)];
        if (of_result == kNoValue) of_result = insn.a.index;
        if (of_operand == kNoValue) of_operand = insn.result;
      }
    }
  }
}

bool Allocator::overlap(const std::vector<Range>& a, const std::vector<Range>& b) {
  for (usize i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i].from >= b[j].to) ++i;
    else if (b[j].from >= a[i].to) ++j;
    else return true;
  }
  return false;
}

// Instructions of x86 that put their result in the place of an operand.
bool changes_operand(const Insn& insn) {
  switch (insn.op) {
    case Op::Arithmetic: return static_cast<Arithmetic>(insn.extra) != Arithmetic::Add;  // LEA
    case Op::Shift:
    case Op::SwapBytes:
    case Op::Negate: return true;
    default: return false;
  }
}

// Values that are moved to one another, and never live at the same time, share a place.
void Allocator::coalesce() {
  m_leader.resize(m_count);
  for (usize i = 0; i < m_count; ++i) m_leader[i] = static_cast<ValueId>(i);
  struct Pair {
    ValueId to, from;
    double frequency;
  };
  std::vector<Pair> pairs;
  for (const MachineBlock& block : m_code.blocks)
    for (u32 i = block.first; i < block.last; ++i)
      if (const Insn& insn = m_code.insns[i]; insn.op == Op::ParallelMove) {
        for (const MoveValue& move : m_code.moves[insn.extra])
          if (move.from.is_value() && move.from.index != kState) pairs.push_back({move.to, move.from.index, block.frequency});
      } else if ((insn.op == Op::Move || (insn.op == Op::VectorMove && insn.size == 16)) && insn.a.is_value() && insn.a.index != kState) {
        pairs.push_back({insn.result, insn.a.index, block.frequency});
      } else if (changes_operand(insn) && insn.a.is_value() && insn.a.index != kState) {
        pairs.push_back({insn.result, insn.a.index, block.frequency});
      }
  std::ranges::stable_sort(pairs, std::greater(), &Pair::frequency);
  for (const Pair& pair : pairs) {
    const ValueId to = leader(pair.to), from = leader(pair.from);
    if (to == from) continue;
    std::vector<Range>&a = m_ranges[static_cast<usize>(to)], &b = m_ranges[static_cast<usize>(from)];
    if (overlap(a, b)) continue;
    std::vector<Range> both(a.size() + b.size());
    std::ranges::merge(a, b, both.begin(), [](const Range& x, const Range& y) { return x.from > y.from; });
    a = std::move(both);
    b.clear();
    m_uses[static_cast<usize>(to)] += m_uses[static_cast<usize>(from)];
    for (std::vector<ValueId>* hints : {&m_hint, &m_user_hint})
      if ((*hints)[static_cast<usize>(to)] == kNoValue) (*hints)[static_cast<usize>(to)] = (*hints)[static_cast<usize>(from)];
    m_leader[static_cast<usize>(from)] = to;
  }
}

template <class Function>
bool Allocator::for_words(const std::vector<Range>& ranges, Function function) {
  for (const Range& range : ranges)
    for (u32 w = range.from / 64; w <= (range.to - 1) / 64; ++w) {
      u64 mask = ~u64{0};
      if (w == range.from / 64) mask &= ~u64{0} << (range.from % 64);
      if (w == (range.to - 1) / 64) mask &= ~u64{0} >> (63 - (range.to - 1) % 64);
      if (!function(w, mask)) return false;
    }
  return true;
}
bool Allocator::is_free(const Bits& bits, const std::vector<Range>& ranges) {
  return for_words(ranges, [&](u32 w, u64 mask) { return !(bits[w] & mask); });
}
void Allocator::occupy(Bits& bits, const std::vector<Range>& ranges) {
  for_words(ranges, [&](u32 w, u64 mask) {
    bits[w] |= mask;
    return true;
  });
}

void Allocator::assign() {
  const usize words = m_code.insns.size() / 32 + 1;
  std::vector<u8> general, vectors;
  for (const Register r : kAllocatable) general.push_back(r);
  for (u8 r = 0; r < kAllocatableVectors; ++r) vectors.push_back(r);
  for (Bits& bits : m_result.occupied) bits.assign(words, 0);
  m_result.reg.assign(m_count, -1);
  m_result.slot.assign(m_count, -1);
  m_result.reg[kState] = kStateRegister;
  struct Candidate {
    usize id;
    double weight;
  };
  std::vector<Candidate> candidates;
  for (usize v = 1; v < m_count; ++v) {
    if (m_ranges[v].empty()) continue;
    u32 length = 0;
    for (const Range& range : m_ranges[v]) length += range.to - range.from;
    candidates.push_back({v, m_uses[v] / (length + 4)});
  }
  std::ranges::sort(candidates, std::greater(), &Candidate::weight);
  // A few that are used everywhere go first, as the page table's cache is: short ones always find something besides them.
  const auto uses_of = [&](const Candidate& candidate) { return m_code.is_vector[candidate.id] ? 0 : m_uses[candidate.id]; };
  for (usize i = 0; i < std::min(kFavorites, candidates.size()); ++i) {
    const auto most = std::ranges::max_element(candidates.begin() + static_cast<std::ptrdiff_t>(i), candidates.end(), {}, uses_of);
    std::rotate(candidates.begin() + static_cast<std::ptrdiff_t>(i), most, most + 1);
  }
  std::vector<Bits> slots_of_kind[2];
  for (const Candidate& candidate : candidates) {
    const usize v = candidate.id;
    const bool vector = m_code.is_vector[v];
    const std::vector<Range>& ranges = m_ranges[v];
    const auto occupied = [&](u8 r) -> Bits& { return m_result.occupied[r + (vector ? kRegisters : 0u)]; };
    i8& chosen = m_result.reg[v];
    for (const ValueId related : {m_hint[v], m_user_hint[v]}) {
      if (chosen >= 0 || related <= kState || m_code.is_vector[static_cast<usize>(related)] != vector) continue;
      if (const i8 hint = m_result.reg[static_cast<usize>(leader(related))]; hint >= 0 && is_free(occupied(static_cast<u8>(hint)), ranges)) chosen = hint;
    }
    for (const u8 r : vector ? vectors : general) {
      if (chosen >= 0) break;
      if (is_free(occupied(r), ranges)) chosen = static_cast<i8>(r);
    }
    if (chosen >= 0) {
      occupy(occupied(static_cast<u8>(chosen)), ranges);
      continue;
    }
    std::vector<Bits>& slots = slots_of_kind[vector];
    usize slot = 0;
    while (slot < slots.size() && !is_free(slots[slot], ranges)) ++slot;
    if (slot == slots.size()) slots.push_back(Bits(words));
    occupy(slots[slot], ranges);
    m_result.slot[v] = static_cast<i32>(slot);
  }
  m_result.slots = static_cast<u32>(slots_of_kind[false].size());
  m_result.vector_slots = static_cast<u32>(slots_of_kind[true].size());
  for (usize v = 1; v < m_count; ++v) {
    const usize whose = static_cast<usize>(leader(static_cast<ValueId>(v)));
    m_result.reg[v] = m_result.reg[whose];
    m_result.slot[v] = m_result.slot[whose];
  }
}

Allocation Allocator::run() {
  find_live();
  find_ranges();
  coalesce();
  assign();
  return std::move(m_result);
}

// Splitting ------------------------------------------------------------------------------------------------------------

// A value's part within one group of blocks, which may get a register where the whole did not.
struct Split {
  ValueId whole, part;
};

// Groups of blocks that are entered at their first one only and have no loop.
class Splitter {
 public:
  Splitter(MachineCode& code, const Allocation& allocation) : m_code(code), m_allocation(allocation) {}
  std::vector<Split> run();

 private:
  struct Use {
    u32 block, insn;
  };
  struct InGroup {
    std::vector<Use> uses;
    Use result{};
    unsigned results = 0;
    bool moved = false;  // a parallel move writes it
  };

  void find_groups();
  u32 common_dominator(u32 a, u32 b) const;
  void split(ValueId id, const InGroup& where);
  void insert();

  MachineCode& m_code;
  const Allocation& m_allocation;
  std::vector<u32> m_group, m_dominator;  // by block: the group's first block; the immediate dominator within it
  std::vector<u32> m_uses;                // by value, everywhere
  std::vector<std::pair<u32, Insn>> m_insertions;  // in front of the instruction
  std::vector<Split> m_splits;
};

void Splitter::find_groups() {
  const usize count = m_code.blocks.size();
  std::vector<std::vector<u32>> predecessors(count);
  for (u32 b = 0; b < count; ++b)
    for (const u32 successor : m_code.blocks[b].successors) predecessors[successor].push_back(b);
  m_group.resize(count);
  m_dominator.resize(count);
  for (u32 b = 0; b < count; ++b) {
    m_group[b] = m_dominator[b] = b;
    if (b == 0 || predecessors[b].empty()) continue;
    const bool inside = std::ranges::all_of(predecessors[b], [&](u32 p) { return p < b && m_group[p] == m_group[predecessors[b][0]]; });
    if (!inside) continue;
    m_group[b] = m_group[predecessors[b][0]];
    u32 dominator = predecessors[b][0];
    for (const u32 p : predecessors[b]) dominator = common_dominator(dominator, p);
    m_dominator[b] = dominator;
  }
}

u32 Splitter::common_dominator(u32 a, u32 b) const {
  while (a != b) {
    if (a < b) std::swap(a, b);
    a = m_dominator[a];
  }
  return a;
}

void Splitter::split(ValueId id, const InGroup& where) {
  const usize uses_here = where.uses.size();
  if (where.moved || where.results > 1 || uses_here + where.results < 2) return;
  u32 block = where.results ? where.result.block : where.uses[0].block;
  if (!where.results)
    for (const Use& use : where.uses) block = common_dominator(block, use.block);
  double saved = 0;  // loads, for each entry of the region
  for (const Use& use : where.uses) saved += m_code.blocks[use.block].frequency;
  if (saved <= m_code.blocks[block].frequency && !where.results) return;
  const ValueId part = static_cast<ValueId>(m_code.is_vector.size());
  const bool vector = m_code.is_vector[static_cast<usize>(id)];
  Insn move;
  move.op = vector ? Op::VectorMove : Op::Move;
  move.size = vector ? m_code.vector_bytes : u8{8};
  if (where.results) {
    Insn& insn = m_code.insns[where.result.insn];
    for (ValueId* result : {&insn.result, &insn.second, &insn.third})
      if (*result == id) *result = part;
    if (m_uses[static_cast<usize>(id)] > uses_here) {
      move.result = id;
      move.a = Operand::value(part);
      m_insertions.push_back({where.result.insn + 1, move});
    }
  } else {
    u32 at = where.uses[0].insn;
    // In front of the first use there, and of all the jumps at its end: the first of several may be the way to another use.
    u32 jumps = m_code.blocks[block].last;
    while (jumps > m_code.blocks[block].first && (m_code.insns[jumps - 1].op == Op::Branch || m_code.insns[jumps - 1].op == Op::Jump)) --jumps;
    at = block == where.uses[0].block ? std::min(at, jumps) : jumps;
    move.result = part;
    move.a = Operand::value(id);
    m_insertions.push_back({at, move});
  }
  m_code.is_vector.push_back(vector);
  for (const Use& use : where.uses)
    m_code.change_uses(m_code.insns[use.insn], [&](ValueId& used) {
      if (used == id) used = part;
    });
  m_splits.push_back({id, part});
}

void Splitter::insert() {
  std::ranges::stable_sort(m_insertions, {}, [](const auto& insertion) { return insertion.first; });
  std::vector<Insn> insns;
  insns.reserve(m_code.insns.size() + m_insertions.size());
  usize next = 0;
  for (MachineBlock& block : m_code.blocks) {
    const u32 first = static_cast<u32>(insns.size());
    for (u32 i = block.first; i < block.last; ++i) {
      while (next < m_insertions.size() && m_insertions[next].first == i) insns.push_back(m_insertions[next++].second);
      insns.push_back(m_code.insns[i]);
    }
    block.first = first;
    block.last = static_cast<u32>(insns.size());
  }
  m_code.insns = std::move(insns);
}

std::vector<Split> Splitter::run() {
  find_groups();
  m_uses.assign(m_code.is_vector.size(), 0);
  std::map<std::pair<u32, ValueId>, InGroup> found;
  for (u32 b = 0; b < m_code.blocks.size(); ++b)
    for (u32 i = m_code.blocks[b].first; i < m_code.blocks[b].last; ++i) {
      const Insn& insn = m_code.insns[i];
      const auto in_frame = [&](ValueId id) { return m_allocation.reg[static_cast<usize>(id)] < 0; };
      m_code.for_uses(insn, [&](ValueId id) {
        if (!in_frame(id)) return;
        std::vector<Use>& uses = found[{m_group[b], id}].uses;
        if (!uses.empty() && uses.back().insn == i) return;  // twice in one
        uses.push_back({b, i});
        ++m_uses[static_cast<usize>(id)];
      });
      m_code.for_results(insn, [&](ValueId id) {
        if (!in_frame(id)) return;
        InGroup& where = found[{m_group[b], id}];
        where.result = {b, i};
        ++where.results;
        where.moved |= insn.op == Op::ParallelMove;
      });
    }
  for (const auto& [key, where] : found) split(key.second, where);
  insert();
  return std::move(m_splits);
}

std::vector<Split> split_values(MachineCode& code, const Allocation& allocation) { return Splitter(code, allocation).run(); }

}  // namespace

Allocation allocate(MachineCode& code) {
  const Allocation first = Allocator(code).run();
  if (first.slots + first.vector_slots == 0) return first;
  const std::vector<Split> splits = split_values(code, first);
  if (splits.empty()) return first;
  const Allocation second = Allocator(code).run();
  // Those that found no register after all are one value again, and so are those whose whole found one, too.
  std::vector<ValueId> original(code.is_vector.size(), kNoValue);
  bool undone = false;
  for (const Split& split : splits)
    if (second.reg[static_cast<usize>(split.part)] < 0 || second.reg[static_cast<usize>(split.whole)] >= 0) {
      original[static_cast<usize>(split.part)] = split.whole;
      undone = true;
    }
  if (!undone) return second;
  const auto undo = [&](ValueId& id) {
    if (id >= 0 && original[static_cast<usize>(id)] != kNoValue) id = original[static_cast<usize>(id)];
  };
  for (Insn& insn : code.insns) {
    code.change_uses(insn, undo);
    for (ValueId* id : {&insn.result, &insn.second, &insn.third}) undo(*id);
  }
  return Allocator(code).run();
}

}  // namespace vellum::x86_64
