// Copying and patching stencils.
#include "jit/baseline.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <optional>

#include "cpu/opcodes.h"
#include "jit/glue.h"
#include "jit/sites.h"
#include "jit/stencil.h"
#include "state/assert.h"

namespace vellum {

// A stencil on its way into the code cache.
struct Baseline::Piece {
  StencilRef ref;
  const BoundInsn* insn = nullptr;
  const void* handler = nullptr;  // of glue: where it goes
  int position = -1;              // of the instruction whose code it is
  std::optional<Way> way;         // of an exit
  BoundInsn* entered_by = nullptr;  // whose handler leads here
  bool has_value = false;         // of glue: what its immediate or target offset is
  u64 value = 0;
  const i32* heat = nullptr;      // of what counts: where
  bool is_tail = false;           // of an exit: it is nothing but its tail
  const void* missed = nullptr;   // of a linked site: where it goes when it leads elsewhere
  const CodePlace* site_place = nullptr;
  u64 site_distance = 0, site_key_offset = 0;
  u32 hot = 0, cold = 0;          // offsets into the code cache
  u32 room = 0;                   // bytes from there, of the hot one
};

namespace {

using Piece = Baseline::Piece;

// The mode whose stencils fit, or none. An unusual address size or segment also changes instructions that reach memory
// or count without a memory operand, as XLAT, MASKMOVQ and LOOP do.
std::optional<StencilMode> mode_of(const BoundInsn& insn, u32 block_mode) {
  if ((block_mode & kModeCodeSizeMask) == static_cast<u32>(CodeSize::Bits64)) {
    if (insn.address_size != 8) return {};
    if (insn.segment_mode == SegmentMode::Flat) return StencilMode::Long;
    return insn.memory ? std::optional(StencilMode::LongBased) : std::nullopt;
  }
  constexpr u32 kFlat = static_cast<u32>(CodeSize::Bits32) | kModeFlatData | kModeStack32;
  if ((block_mode & (kModeCodeSizeMask | kModeFlatData | kModeStack32 | kModeCheckedCode | kModeReal)) != kFlat) return {};
  if (insn.segment_mode != SegmentMode::Flat || insn.address_size != 4) return {};
  return StencilMode::Flat32;
}

bool is_transfer(Flow flow) { return flow == Flow::Direct || flow == Flow::Conditional || flow == Flow::Indirect; }

bool is_as_needed(const BoundInsn& insn, u8 needs) {
  if (needs & kBriefNoDisplacement && insn.displacement != 0) return false;
  if (needs & kBriefSmallDisplacement && insn.displacement != static_cast<i8>(insn.displacement)) return false;
  if (needs & kBriefSameRegister && insn.operand[0] != insn.operand[1]) return false;
  return !(needs & kBriefSmallImmediate) || static_cast<u64>(insn.immediate()) < 0x80;
}

StencilRef in_briefest_form(StencilRef ref, const BoundInsn& insn) {
  while (ref && ref.stencil->brief != kNoStencil && is_as_needed(insn, ref.stencil->brief_needs)) ref.stencil = &ref.group->stencils[ref.stencil->brief];
  return ref;
}

// `may_hand_flags`: the instruction in front of it has a stencil.
StencilRef stencil_of(const Block& block, unsigned position, bool may_hand_flags) {
  const BoundInsn& insn = block.insns[position];
  u8 variant = block.variants()[position];
  if (!is_variant(variant)) return {};
  const RowSpec& spec = opcode_rows()[insn.row];
  if ((block.mode & kModeSseUnmasked) && (spec.attributes & (kUsesSse | kUsesAvx))) return {};  // stencils take exceptions for masked
  const auto mode = mode_of(insn, block.mode);
  if (!mode) return {};
  const RowHandlers& row = interpreter_row(insn.row);
  // Transfers with another operand size than the code's are rare: their targets are cut to 16 bits.
  if (is_transfer(row.flow) && insn.operand_size != insn.code_size_bytes) return {};
  // A jump of nearly 2 GiB: counted from the block's start it does not fit into a hole.
  const i64 target = i64{insn.offset} + insn.length + insn.immediate();
  if (is_transfer(row.flow) && row.flow != Flow::Indirect && target != static_cast<i32>(target)) return {};
  if (may_hand_flags && row.flags.read && !row.flags.written && is_behind_producer(variant) && interpreter_row(block.insns[position - 1].row).flags.written)
    variant = handed_variant(variant);
  if (*mode == StencilMode::Long && insn.memory) {
    if (insn.index == kZeroSlot && insn.base == kRsp)
      if (const StencilRef ref = find_stencil(insn.row, StencilMode::LongStack, variant)) return ref;
    if (insn.index == kZeroSlot)
      if (const StencilRef ref = find_stencil(insn.row, StencilMode::LongPlain, variant)) return ref;
    const auto scaled = static_cast<StencilMode>(static_cast<u8>(StencilMode::LongScale1) + insn.scale);
    if (const StencilRef ref = find_stencil(insn.row, scaled, variant)) return ref;
  }
  return find_stencil(insn.row, *mode, variant);
}

// A field of a fixed-width instruction, and a distance in instructions.
void insert(u8* place, unsigned low, unsigned width, u64 value) {
  u32 insn;
  std::memcpy(&insn, place, 4);
  const u32 mask = ((u32{1} << width) - 1) << low;
  insn = (insn & ~mask) | (static_cast<u32>(value << low) & mask);
  std::memcpy(place, &insn, 4);
}
void insert_distance(u8* place, unsigned low, unsigned width, u64 bytes) {
  const i64 distance = static_cast<i64>(bytes) / 4;
  VELLUM_ASSERT((bytes & 3) == 0 && distance >= -(i64{1} << (width - 1)) && distance < i64{1} << (width - 1));
  insert(place, low, width, static_cast<u64>(distance));
}
void store_rarely(u8* place, u64 runs_at, PatchKind kind, u64 value) {
  switch (kind) {
    case PatchKind::Absolute8:
    case PatchKind::Absolute32:
    case PatchKind::Absolute64:
    case PatchKind::Relative32: break;
    case PatchKind::Absolute16: std::memcpy(place, &value, 2); break;
    case PatchKind::MoveUnsigned: VELLUM_ASSERT(value < 0x10000); [[fallthrough]];
    case PatchKind::Move0: insert(place, 5, 16, value); break;
    case PatchKind::Move1: insert(place, 5, 16, value >> 16); break;
    case PatchKind::Move2: insert(place, 5, 16, value >> 32); break;
    case PatchKind::Move3: insert(place, 5, 16, value >> 48); break;
    case PatchKind::Branch26: insert_distance(place, 0, 26, value - runs_at); break;
    case PatchKind::Branch19: insert_distance(place, 5, 19, value - runs_at); break;
    case PatchKind::Branch14: insert_distance(place, 5, 14, value - runs_at); break;
  }
}
// `runs_at`: where the host will run what is stored at `place`.
[[gnu::always_inline]] inline void store(u8* place, u64 runs_at, PatchKind kind, u64 value) {
  // All but a few, on x86-64. Compilers would jump through a table, and where that leads is hard to foretell.
  auto left = static_cast<unsigned>(kind);
  const auto is = [&left](PatchKind one) {
    asm("" : "+r"(left));
    return left == static_cast<unsigned>(one);
  };
  if (is(PatchKind::Relative32)) {
    value -= runs_at;
    VELLUM_ASSERT(static_cast<i64>(value) == static_cast<i32>(value));
    std::memcpy(place, &value, 4);
  } else if (is(PatchKind::Absolute8)) {
    std::memcpy(place, &value, 1);
  } else if (is(PatchKind::Absolute32)) {
    std::memcpy(place, &value, 4);
  } else if (is(PatchKind::Absolute64)) {
    std::memcpy(place, &value, 8);
  } else {
    store_rarely(place, runs_at, kind, value);
  }
}

// Where a stencil goes on: code right behind it, and the exit for a taken transfer.
struct Ways {
  const u8* next;
  const u8* taken;
};

// What the holes of a piece are filled with, by Hole. All of them are made first: which holes a stencil has is hard to foretell.
class HoleValues {
 public:
  HoleValues(const CodeCache& cache, const Piece& piece, const Ways& ways) {
    const auto set = [this](Hole hole, u64 value) { m_values[static_cast<usize>(hole)] = value; };
    const auto address = [](const void* place) { return reinterpret_cast<u64>(place); };
    set(Hole::Insn, address(piece.insn));
    if (const BoundInsn* insn = piece.insn; insn && piece.position >= 0) {
      const u64 end = u64{insn->offset} + insn->length;
      for (unsigned i = 0; i < 4; ++i) {
        m_values[static_cast<usize>(Hole::Operand0) + i] = insn->operand[i];
        m_values[static_cast<usize>(Hole::Gpr0) + i] = insn->operand[i];
      }
      set(Hole::Immediate, static_cast<u64>(insn->immediate()));
      set(Hole::Immediate2, insn->immediate2());
      set(Hole::Wide, insn->wide());
      set(Hole::Base, u64{insn->base} * 8);
      set(Hole::Index, u64{insn->index} * 8);
      set(Hole::Scale, insn->scale);
      set(Hole::Displacement, static_cast<u64>(i64{insn->displacement}));
      set(Hole::Segment, insn->segment);
      set(Hole::SegmentBase, offsetof(CpuState, segment) + insn->segment * sizeof(SegmentRegister) + offsetof(SegmentRegister, base));
      set(Hole::Offset, insn->offset);
      set(Hole::EndOffset, end);
      set(Hole::TargetOffset, end + static_cast<u64>(insn->immediate()));
    } else {  // glue
      for (const Hole hole : {Hole::Immediate, Hole::Wide, Hole::TargetOffset}) set(hole, piece.value);
      set(Hole::Heat, address(piece.heat));
      set(Hole::SitePlace, address(piece.site_place));
      set(Hole::SiteDistance, piece.site_distance);
      set(Hole::SiteKeyOffset, piece.site_key_offset);
      set(Hole::Missed, address(piece.missed));
    }
    set(Hole::Hot, address(cache.executable(piece.hot)));
    set(Hole::Cold, address(cache.executable(piece.cold)));
    for (const Hole hole : {Hole::Continue, Hole::Next, Hole::Indirect}) set(hole, address(ways.next));
    set(Hole::Taken, address(ways.taken));
    set(Hole::Handler, address(piece.handler));
    set(Hole::Constant, address(piece.ref.group->constants));
  }
  u64 operator[](Hole hole) const { return m_values[static_cast<usize>(hole)]; }

 private:
  std::array<u64, static_cast<usize>(Hole::Constant) + 1> m_values;  // those that the piece has
};

u64 patch_value(const HoleValues& values, const StencilGroup& group, const StencilPatch& patch) {
  // The addend's upper half is the helper's number, the lower half the addend proper.
  if (patch.hole == Hole::Helper) [[unlikely]] return group.helpers[static_cast<u32>(patch.addend) >> 16] + static_cast<u64>(i64{static_cast<i16>(patch.addend)});
  return values[patch.hole] + static_cast<u64>(i64{patch.addend});
}

// memcpy() of a few bytes in line: of two pieces that overlap, or of many.
void copy(u8* to, const u8* from, usize size) {
  using Chunk [[gnu::vector_size(16)]] = u8;
  const auto move = [&]<class T>(T value, usize at) {
    std::memcpy(&value, from + at, sizeof value);
    std::memcpy(to + at, &value, sizeof value);
  };
  const auto ends = [&]<class T>(T) {
    move(T{}, 0);
    move(T{}, size - sizeof(T));
  };
  if (size >= sizeof(Chunk)) {
    for (usize at = 0; at + sizeof(Chunk) < size; at += sizeof(Chunk)) move(Chunk{}, at);
    move(Chunk{}, size - sizeof(Chunk));
  } else if (size >= 8) {
    ends(u64{});
  } else if (size >= 4) {
    ends(u32{});
  } else {
    for (usize at = 0; at < size; ++at) to[at] = from[at];
  }
}

void fill_hole(CodeCache& cache, PatchKind kind, u32 place, u64 value) {
  store(cache.writable(place), reinterpret_cast<u64>(cache.executable(place)), kind, value);
}

void fill(CodeCache& cache, const Piece& piece, const Ways& ways) {
  const StencilGroup& group = *piece.ref.group;
  const Stencil& stencil = *piece.ref.stencil;
  u8* const parts[] = {cache.writable(piece.hot), cache.writable(piece.cold)};
  copy(parts[0], group.code + stencil.code, stencil.hot_size);
  if (stencil.cold_size) copy(parts[1], group.code + stencil.code + stencil.hot_size, stencil.cold_size);
  if (!stencil.patch_count) return;
  const HoleValues values(cache, piece, ways);
  const u64 to_executable = reinterpret_cast<u64>(cache.executable(0)) - reinterpret_cast<u64>(cache.writable(0));
  for (const StencilPatch& patch : std::span(group.patches + stencil.first_patch, stencil.patch_count)) {
    u8* const place = parts[patch.offset / StencilPatch::kInCold] + patch.offset % StencilPatch::kInCold;
    store(place, reinterpret_cast<u64>(place) + to_executable, patch.kind, patch_value(values, group, patch));
  }
}

// What goes to a handler with the instruction.
Piece open_exit(const BoundInsn* insn, Handler find) {
  Piece piece;
  piece.ref = find_glue(Glue::CallHandler);
  piece.insn = insn;
  piece.handler = reinterpret_cast<const void*>(find);
  return piece;
}
Piece jump_to(const void* entry) {
  Piece piece;
  piece.ref = find_glue(Glue::GoToBlock);
  piece.handler = entry;
  return piece;
}
Piece counted_jump_to(const void* entry, const i32* heat) {
  Piece piece = jump_to(entry);
  piece.ref = find_glue(Glue::CountedJump);
  piece.heat = heat;
  return piece;
}
bool ends_with_transfer(const Block& block) {
  const u8 variant = const_cast<Block&>(block).variants()[block.real_count - 1];
  return is_variant(variant) && is_transfer(interpreter_row(block.insns[block.real_count - 1].row).flow);
}
// A transfer finds its successors by itself, other ways on by the terminator.
const BoundInsn* exit_insn(const Block& block) { return &block.insns[block.real_count - (ends_with_transfer(block) ? 1 : 0)]; }
// What finds a successor on the same page, and links it.
Piece finder_of(const Block& block, Way way) { return open_exit(exit_insn(block), way == Way::Taken ? interpreter_taken_slow : interpreter_next_slow); }
// FarNext is where the call at the block's end returns.
bool calls(const Block& block) { return ends_with_transfer(block) && interpreter_row(block.insns[block.real_count - 1].row).calls; }

// How control comes to a site: a direct one compares what it adds to RIP, the others the RIP that they are given.
enum class Arrival : u8 { Direct, Indirect, Return };
Arrival arrival_of(const Block& block, Way way) {
  if (way == Way::FarNext && calls(block)) return Arrival::Return;
  if (way == Way::FarTaken && ends_with_transfer(block) && interpreter_row(block.insns[block.real_count - 1].row).flow == Flow::Indirect) return Arrival::Indirect;
  return Arrival::Direct;
}
StencilFunction site_function(const Block& from, Way way) {
  switch (arrival_of(from, way)) {
    case Arrival::Return: return &site_return;
    case Arrival::Indirect: return &site_indirect;
    case Arrival::Direct: break;
  }
  return way == Way::FarTaken ? &site_taken : &site_next;
}

// To where a direct transfer of 64-bit code leads, through the jump cache. Nothing of the instruction is read, which may lie in
// memory that has long left the host's cache.
std::optional<Piece> passing_on(const BoundInsn* insn, bool is_taken) {
  if ((is_taken ? insn->operand_size : insn->code_size_bytes) != 8) return {};
  Piece piece;
  piece.ref = find_glue(Glue::PassRip);
  piece.has_value = true;
  piece.value = u64{insn->offset} + insn->length + (is_taken ? static_cast<u64>(insn->immediate()) : 0);
  piece.handler = reinterpret_cast<const void*>(&return_unknown);
  if (static_cast<i64>(piece.value) != static_cast<i32>(piece.value)) return {};
  return piece;
}

// A site that is not linked. A return's passes on the RIP, and nothing of its block once that is stale: then it may be gone when
// somebody returns.
Piece open_site(const Block& block, const BoundInsn* insn, Way way) {
  const bool given_up = block.site_misses[way == Way::FarNext] >= kMostSiteMisses;
  const Arrival arrival = arrival_of(block, way);
  if (arrival == Arrival::Direct && given_up)
    if (const std::optional<Piece> piece = passing_on(insn, way == Way::FarTaken)) return *piece;
  if (arrival == Arrival::Indirect && given_up) {
    Piece piece;
    piece.ref = find_glue(Glue::GoToRip);
    return piece;
  }
  if (arrival == Arrival::Direct) {
    Piece piece = open_exit(insn, nullptr);
    const auto handler = given_up ? (way == Way::FarTaken ? &given_up_taken : &given_up_next) : (way == Way::FarTaken ? &site_taken : &site_next);
    piece.handler = reinterpret_cast<const void*>(handler);
    return piece;
  }
  Piece piece;
  piece.ref = find_glue(Glue::OpenReturnSite);
  piece.insn = insn;
  if (arrival == Arrival::Indirect) piece.handler = reinterpret_cast<const void*>(&site_indirect);
  else piece.handler = reinterpret_cast<const void*>(block.count == kStaleCount || given_up ? &return_unknown : &site_return);
  return piece;
}

u32 hot_size(Glue which) { return find_glue(which).stencil->hot_size; }
u32 cold_size(Glue which) { return find_glue(which).stencil->cold_size; }

Glue linked_site(Arrival arrival, bool counted) {
  switch (arrival) {
    case Arrival::Return: break;  // who returns often is called often: that is counted
    case Arrival::Indirect: return counted ? Glue::CountedIndirectSite : Glue::ReturnSite;
    case Arrival::Direct: return counted ? Glue::CountedSite : Glue::GoToSite;
  }
  return Glue::ReturnSite;
}

// Bytes of an exit in all its forms. One on the same page is a jump, at first to its tail.
u32 exit_size(Way way, Arrival arrival, bool counted) {
  if (arrival == Arrival::Return) return std::max(hot_size(Glue::OpenReturnSite), hot_size(Glue::ReturnSite));
  const Glue linked = linked_site(arrival, counted);
  if (arrival == Arrival::Indirect) return std::max({hot_size(Glue::OpenReturnSite), hot_size(linked), hot_size(Glue::GoToRip)});
  if (!is_far(way)) return hot_size(counted ? Glue::CountedJump : Glue::GoToBlock);
  return std::max({hot_size(Glue::CallHandler), hot_size(Glue::PassRip), hot_size(linked)});
}

// The place of the distance that leads a conditional branch's stencil to where it is taken, in bytes from its hot part's begin, if it
// has one such place, and the host's branches reach everywhere.
std::optional<u16> branch_distance_of(const StencilRef& ref) {
  std::optional<u16> place;
  for (const StencilPatch& patch : std::span(ref.group->patches + ref.stencil->first_patch, ref.stencil->patch_count)) {
    if (patch.hole != Hole::Taken) continue;
    if (place || patch.kind != PatchKind::Relative32 || patch.offset & StencilPatch::kInCold) return {};
    place = patch.offset;
  }
  return place;
}

// What is rarely run lies far away, so that what runs fills the host's caches, if conditional branches reach there: AArch64's have
// 1 MiB at most.
CodeCache::Parts place_for(CodeCache& cache, u32 hot, u32 cold) {
#if defined(__aarch64__)
  const u32 start = cache.allocate(hot + cold);
  return {start, start == CodeCache::kFull ? start : start + hot};
#else
  return cache.allocate_parts(hot, cold);
#endif
}

// Bytes of what lies out of the way for each exit: of one on the same page, how its successor is found; of others, what
// their forms rarely run.
u32 tail_size() {
  static const u32 size = std::max({hot_size(Glue::CallHandler), hot_size(Glue::PassRip), cold_size(Glue::GoToSite), cold_size(Glue::CountedSite),
                                    cold_size(Glue::ReturnSite), cold_size(Glue::CountedIndirectSite), cold_size(Glue::GoToRip)});
  return size;
}

}  // namespace

Baseline::Piece Baseline::enter_piece(const Block& block) {
  Piece piece;
  piece.ref = find_glue(Glue::Enter);
  piece.insn = block.insns;
  piece.handler = reinterpret_cast<const void*>(&slice_spent);
  piece.has_value = true;
  piece.value = block.real_count;
  return piece;
}

Baseline::Outcome Baseline::translate(Block& block) {
  // Looking at the clock takes as long as translating half an instruction.
  constexpr u64 kTimedBlocks = 16;
  const bool timed = m_statistics.blocks % kTimedBlocks == 0;
  std::chrono::steady_clock::time_point started;
  if (timed) started = std::chrono::steady_clock::now();
  const unsigned count = block.real_count;
  // Made as they are used: there are many more than a block needs.
  alignas(Piece) u8 memory[(2 * kMaxBlockInsns + 8) * sizeof(Piece)];
  Piece* const pieces = reinterpret_cast<Piece*>(memory);
  unsigned used = 0;
  const auto add = [&](auto make) -> Piece& { return *new (&pieces[used++]) Piece(make()); };
  const auto add_glue = [&](Glue which) -> Piece& {
    Piece& piece = add([] { return Piece(); });
    piece.ref = find_glue(which);
    return piece;
  };
  add([&] { return enter_piece(block); });
  // An instruction behind one that runs its handler is reached through its own, which leads to its code, or is its handler.
  unsigned handlers = 0;
  bool behind_handler = false;
  int push_return = -1;
  for (unsigned i = 0; i < count; ++i) {
    const StencilRef ref = in_briefest_form(stencil_of(block, i, i > 0 && !behind_handler), block.insns[i]);
    const bool was_behind_handler = behind_handler;
    behind_handler = !ref;
    handlers += behind_handler;
    if (was_behind_handler && behind_handler) continue;
    if (was_behind_handler) add_glue(Glue::Prepare).entered_by = &block.insns[i];
    if (ref && interpreter_row(block.insns[i].row).calls) {
      push_return = static_cast<int>(used);
      add_glue(Glue::PushReturn).has_value = true;
    }
    Piece& piece = add([] { return Piece(); });
    piece.insn = &block.insns[i];
    piece.position = static_cast<int>(i);
    piece.ref = ref;
    if (!ref) {
      piece.ref = find_glue(Glue::CallHandler);
      piece.handler = reinterpret_cast<const void*>(handler_of(block.insns[i]));
    }
  }

  // The ways out. They keep room for all their forms.
  const BoundInsn& last = block.insns[count - 1];
  const bool last_runs_handler = behind_handler;
  const Flow flow = !is_variant(block.variants()[count - 1]) ? Flow::Callout : interpreter_row(last.row).flow;
  const bool repeated = flow == Flow::String && (last.prefixes & (kPrefixRep | kPrefixRepne)) && last_runs_handler;
  const auto add_exit = [&](bool is_taken, u64 offset) -> Piece& {
    const bool near = block.chainable && !block.crosses_page && offset < kPageSize;
    const Way way = near ? (is_taken ? Way::Taken : Way::Next) : is_taken ? Way::FarTaken : Way::FarNext;
    Piece& piece = add([&] { return near ? jump_to(nullptr) : open_site(block, exit_insn(block), way); });
    piece.way = way;
    if (near && counts_in_place() && offset <= block.page_offset()) piece.heat = block.heat;  // its target's, once it is known
    return piece;
  };
  Piece* taken_piece = nullptr;
  const Piece& last_piece = pieces[used - 1];
  std::optional<u16> branch_distance;
  block.branches_itself = false;
  const bool is_callout = block.variants()[count - 1] == kNoVariant;
  if (is_callout || (!is_transfer(flow) && flow != Flow::Callout && !repeated)) {
    if (last_runs_handler) add_glue(Glue::Prepare).entered_by = &block.insns[count];
    add_exit(false, block.insns[count].offset);
  } else if (is_transfer(flow) && !last_runs_handler) {
    const RowHandlers& row = interpreter_row(last.row);
    if (flow == Flow::Conditional) add_exit(false, u64{last.offset} + last.length);
    if (flow == Flow::Indirect) {
      if (!row.returns) {
        add([&] { return open_site(block, &last, Way::FarTaken); }).way = Way::FarTaken;
      } else {
        // One that also takes arguments from the stack leaves its place unknown.
        add_glue(last.immediate() ? Glue::GoToRip : Glue::GoToReturn);
      }
    } else {
      taken_piece = &add_exit(true, u64{last.offset} + last.length + static_cast<u64>(last.immediate()));
      if (flow == Flow::Conditional && !is_far(*taken_piece->way) && !taken_piece->heat) branch_distance = branch_distance_of(last_piece.ref);
      block.branches_itself = taken_piece->is_tail = branch_distance.has_value();
    }
    if (row.calls) {
      add([&] { return open_site(block, &last, Way::FarNext); }).way = Way::FarNext;
    }
  }

  u32 hot = 0, cold = 0;
  const auto size_of = [&](const Piece& piece) -> u32 {
    if (piece.is_tail) return 0;
    return piece.way ? exit_size(*piece.way, arrival_of(block, *piece.way), is_far(*piece.way) ? counts_in_place() : piece.heat != nullptr) : piece.ref.stencil->hot_size;
  };
  unsigned tails = 0;
  for (unsigned i = 0; i < used; ++i) {
    hot += pieces[i].room = size_of(pieces[i]);
    if (pieces[i].way) ++tails;
    else cold += pieces[i].ref.stencil->cold_size;
  }
  // Callouts go to the first instruction when they have entered the block.
  const bool enter_first = !pieces[1].handler;
  cold += arrival_size() + tails * tail_size() + hot_size(Glue::PrepareFirst) * (1 + counts() + enter_first);
  const auto [start, cold_start] = place_for(m_cache, hot, cold);
  if (start == CodeCache::kFull) return hot + cold > m_cache.segment_size() ? Outcome::TooLong : Outcome::Full;
  block.code_offset = start;
  block.code_size = hot;
  block.cold_offset = cold_start;
  block.cold_size = cold;
  std::ranges::fill(block.exits, u16{0});
  u32 hot_at = start, cold_at = cold_start + arrival_size();
  for (unsigned i = 0; i < used; ++i) {
    pieces[i].hot = hot_at;
    if (pieces[i].way) {
      block.exit(*pieces[i].way) = static_cast<u16>((pieces[i].is_tail ? last_piece.hot + *branch_distance : hot_at) - start);
    } else {
      pieces[i].cold = cold_at;
      cold_at += pieces[i].ref.stencil->cold_size;
    }
    hot_at += pieces[i].room;
  }
  const auto add_prepare = [&](const void* to) {
    Piece piece;
    piece.ref = find_glue(Glue::PrepareFirst);
    piece.hot = cold_at;
    piece.handler = to;
    fill(m_cache, piece, {});
    cold_at += piece.ref.stencil->hot_size;
    return reinterpret_cast<Handler>(const_cast<u8*>(m_cache.executable(piece.hot)));
  };
  if (enter_first) set_handler(block.insns[0], add_prepare(m_cache.executable(pieces[1].hot)));
  const u8* taken = taken_piece ? m_cache.executable(taken_piece->is_tail ? exit_tail(block, Way::Taken) : taken_piece->hot) : nullptr;
  if (push_return >= 0) pieces[push_return].value = reinterpret_cast<u64>(m_cache.executable(start + block.exit(Way::FarNext)));
  for (unsigned i = 0; i < used; ++i) {
    if (pieces[i].way) {
      pieces[i].cold = exit_tail(block, *pieces[i].way);
      if (!is_far(*pieces[i].way)) {
        pieces[i].handler = m_cache.executable(pieces[i].cold);
        Piece finder = finder_of(block, *pieces[i].way);
        finder.hot = pieces[i].cold;
        fill(m_cache, finder, {});
      }
      if (pieces[i].is_tail) continue;
    }
    fill(m_cache, pieces[i], {m_cache.executable(i + 1 < used ? pieces[i + 1].hot : start + hot), taken});
  }
  cold_at += tails * tail_size();
  if (counts()) put_arrival(block);
  block.entry = add_prepare(counted_entry(block));
  if (counts()) add_prepare(linked_entry(block));
  m_cache.publish(start, hot);
  m_cache.publish(cold_start, cold);

  for (unsigned i = 0; i < used; ++i)
    if (pieces[i].entered_by) set_handler(*pieces[i].entered_by, reinterpret_cast<Handler>(const_cast<u8*>(m_cache.executable(pieces[i].hot))));
  block.jump_entry = reinterpret_cast<Handler>(const_cast<void*>(counted_entry(block)));

  ++m_statistics.blocks;
  m_statistics.block_insns += count;
  m_statistics.handler_insns += handlers;
  m_statistics.block_bytes += hot + cold;
  if (timed) m_statistics.baseline_nanoseconds += kTimedBlocks * static_cast<u64>((std::chrono::steady_clock::now() - started).count());

  if (!m_observers.empty()) {
    std::vector<CodePart> parts;
    if (counts()) parts.push_back({.kind = CodePart::Kind::Entry, .position = 0, .handler = nullptr, .hot = 0, .hot_size = 0, .cold = 0, .cold_size = arrival_size()});
    int position = -1;  // of the last instruction seen
    // Those that run their handlers behind another one's have no code.
    const auto add_up_to = [&](i64 next, u32 at) {
      while (position + 1 < next)
        parts.push_back({.kind = CodePart::Kind::Handler, .position = static_cast<u8>(++position),
                         .handler = reinterpret_cast<const void*>(handler_of(block.insns[position])), .hot = at, .hot_size = 0, .cold = 0, .cold_size = 0});
    };
    const auto cold_size_of = [&](const Piece& piece) -> u32 {
      return piece.way && !is_far(*piece.way) ? finder_of(block, *piece.way).ref.stencil->hot_size : piece.ref.stencil->cold_size;
    };
    for (unsigned i = 0; i < used; ++i) {
      if (pieces[i].position >= 0) add_up_to(pieces[i].position, pieces[i].hot - start);
      if (pieces[i].entered_by) add_up_to(pieces[i].entered_by - block.insns, pieces[i].hot - start);
      if (pieces[i].position >= 0) position = pieces[i].position;
      if (static_cast<int>(i) == push_return) position = std::max(position, 0);  // no part of the entry
      const bool runs_handler = pieces[i].position >= 0 && pieces[i].handler;
      auto kind = position < 0 ? CodePart::Kind::Entry : CodePart::Kind::Exit;
      if (runs_handler || pieces[i].entered_by) kind = CodePart::Kind::Handler;
      else if (pieces[i].position >= 0) kind = CodePart::Kind::Stencil;
      parts.push_back({.kind = kind, .position = static_cast<u8>(std::max(position, 0)), .handler = runs_handler ? pieces[i].handler : nullptr,
                       .hot = pieces[i].hot - start, .hot_size = pieces[i].is_tail ? u32{0} : pieces[i].ref.stencil->hot_size,
                       .cold = pieces[i].cold - cold_start, .cold_size = cold_size_of(pieces[i])});
    }
    add_up_to(count, hot);
    for (const auto& observer : m_observers) observer->block_translated(block, parts, {{m_cache.executable(start), hot}, {m_cache.executable(cold_start), cold}});
  }
  return Outcome::Translated;
}

void Baseline::link(Block& block, Way way) {
  const u16 exit = block.exit(way);
  const Block* to = block.link(way);
  if (!block.code_size || !exit || !to || !to->code_size) return;
  if (is_far(way)) {
    const Arrival arrival = arrival_of(block, way);
    if (arrival != Arrival::Return) lead_site(linked_site(arrival, counts_in_place()), block.code_offset + exit, counted_target(*to));
    return;
  }
  // Backward jumps close loops: they are counted, and enter what has taken the block's place.
  const bool counted = to->ram_offset <= block.ram_offset;
  lead(block, way, counted ? counted_target(*to) : linked_entry(*to), counted && counts_in_place() ? to->heat : nullptr);
  ++m_statistics.links;
}

bool Baseline::link_site(Block& from, Way way, const CpuState& s, u64 target, const Block& to) {
  const u16 exit = from.exit(way);
  if (!exit) return false;
  // That the page is found tells nothing of a block that goes on on the next one, and not all of CS's limit.
  if (from.count == kStaleCount || to.mode != from.mode || to.crosses_page || (to.mode & kModeCheckedCode)) return false;
  const bool direct = arrival_of(from, way) == Arrival::Direct;
  // From the begin of the target's page to what the site compares.
  const u64 distance = (direct ? s.code_base : target) - page_begin(target);
  if (static_cast<i64>(distance) != static_cast<i32>(distance)) return false;
  const Arrival arrival = arrival_of(from, way);
  Piece piece;
  piece.ref = find_glue(linked_site(arrival, counts_in_place()));
  piece.insn = exit_insn(from);
  piece.heat = to.heat;
  piece.has_value = !direct;
  piece.value = s.mode;
  piece.site_place = s.code_places + to.ram_offset / kPageSize;
  piece.site_distance = distance;
  piece.site_key_offset = offsetof(CpuState, place_key) + (target >> 63) * sizeof(u64);
  piece.handler = arrival == Arrival::Return ? linked_entry(to) : counted_target(to);
  piece.missed = reinterpret_cast<const void*>(site_function(from, way));
  piece.cold = exit_tail(from, way);
  put(piece, from.code_offset + exit);
  ++m_statistics.site_links;
  return true;
}

void Baseline::pass_on(Block& block, Way way) {
  if (!block.code_size || !block.exit(way)) return;
  if (const std::optional<Piece> piece = passing_on(exit_insn(block), way == Way::Taken)) put_tail(block, way, *piece);
}

void Baseline::unlink(Block& block, Way way) {
  const u16 exit = block.exit(way);
  if (!block.code_size || !exit) return;
  if (!is_far(way)) return put_tail(block, way, finder_of(block, way));
  Piece piece = open_site(block, exit_insn(block), way);
  piece.cold = exit_tail(block, way);
  put(piece, block.code_offset + exit);
}

// The tails of all exits lie in the order of their ways, and behind them the entries that prepare what stencils hand on.
u32 Baseline::exit_tail(const Block& block, Way way) const {
  const auto behind = std::count_if(block.exits + static_cast<usize>(way), std::end(block.exits), [](u16 exit) { return exit != 0; });
  return block.cold_offset + block.cold_size - (counts() ? 2 : 1) * hot_size(Glue::PrepareFirst) - static_cast<u32>(behind) * tail_size();
}

// An exit on the same page, when it does not lead to a block: to its tail, which is this.
void Baseline::put_tail(const Block& block, Way way, Piece piece) {
  const u32 tail = exit_tail(block, way);
  put(piece, tail);
  lead(block, way, m_cache.executable(tail), nullptr);
}

// An exit on the same page goes there from now on.
void Baseline::lead(const Block& block, Way way, const void* to, const i32* heat) {
  const u32 place = block.code_offset + block.exit(way);
  if (way == Way::Taken && block.branches_itself) {
    constexpr u32 kSize = 4;  // the distance counts from its end
    fill_hole(m_cache, PatchKind::Relative32, place, reinterpret_cast<u64>(to) - kSize);
    return m_cache.publish(place, kSize);
  }
  if (heat) return put(counted_jump_to(to, heat), place);
  VELLUM_ASSERT(hot_size(Glue::GoOn) == hot_size(Glue::GoToBlock));
  Piece piece = jump_to(to);
  if (to == m_cache.executable(place + hot_size(Glue::GoToBlock))) piece.ref = find_glue(Glue::GoOn);
  put(piece, place);
}

// A linked site goes there from now on.
void Baseline::lead_site(Glue which, u32 place, const void* to) {
  const StencilRef ref = find_glue(which);
  for (const StencilPatch& patch : std::span(ref.group->patches + ref.stencil->first_patch, ref.stencil->patch_count))
    if (patch.hole == Hole::Handler && !(patch.offset & StencilPatch::kInCold)) fill_hole(m_cache, patch.kind, place + patch.offset, reinterpret_cast<u64>(to) + static_cast<u64>(i64{patch.addend}));
  m_cache.publish(place, ref.stencil->hot_size);
}

const void* Baseline::plain_entry(const Block& block) const {
  return m_cache.executable(block.cold_offset + block.cold_size) - hot_size(Glue::PrepareFirst);
}

// Where other blocks' stencils come in: those who are not counted, those who would have to be, and those who count by themselves.
const void* Baseline::linked_entry(const Block& block) const { return m_cache.executable(block.code_offset); }
const void* Baseline::counted_entry(const Block& block) const { return counts() ? m_cache.executable(block.cold_offset) : linked_entry(block); }
const void* Baseline::counted_target(const Block& block) const {
  return m_counting == Counting::Handler || block.redirected ? counted_entry(block) : linked_entry(block);
}

// What stands at the counted entry, at the begin of what is out of the way.
u32 Baseline::arrival_size() const { return counts() ? std::max(hot_size(Glue::CountedJump), hot_size(Glue::CallHandler)) : 0; }
void Baseline::put_arrival(const Block& block, const void* target) {
  Piece piece = counted_jump_to(linked_entry(block), block.heat);
  if (target || m_counting == Counting::Handler) {
    piece = open_exit(block.insns, m_counter);
    if (target) piece.handler = target;
  }
  put(piece, block.cold_offset);
}

void Baseline::put(Piece piece, u32 place) {
  piece.hot = place;
  fill(m_cache, piece, {m_cache.executable(place + piece.ref.stencil->hot_size), nullptr});
  m_cache.publish(place, piece.ref.stencil->hot_size);
  if (piece.ref.stencil->cold_size) m_cache.publish(piece.cold, piece.ref.stencil->cold_size);
}

// In the order in which translate() laid them.
u32 Baseline::enter_cold(const Block& block) const { return block.cold_offset + arrival_size(); }

// The entries lead to where the cold part of one was.
void Baseline::close(Block& block) {
  if (!block.code_size) return;
  VELLUM_ASSERT(hot_size(Glue::CallHandler) <= cold_size(Glue::Enter) && hot_size(Glue::GoToBlock) <= hot_size(Glue::Enter));
  put(open_exit(block.insns, interpreter_leave), enter_cold(block));
  const Piece leave = jump_to(m_cache.executable(enter_cold(block)));
  if (counts()) put(leave, m_cache.offset_of(counted_entry(block)));
  put(leave, m_cache.offset_of(linked_entry(block)));
  open_return_site(block);
}

// Somebody may return there whatever has become of the block.
void Baseline::open_return_site(Block& block) {
  if (!block.exit(Way::FarNext) || !calls(block)) return;
  block.site_misses[1] = 0;
  put(open_site(block, exit_insn(block), Way::FarNext), block.code_offset + block.exit(Way::FarNext));
}

void Baseline::open(Block& block) {
  if (!block.code_size) return;
  open_return_site(block);
  if (counts()) put_arrival(block);
  block.redirected = false;
  Piece enter = enter_piece(block);
  enter.cold = enter_cold(block);
  put(enter, m_cache.offset_of(linked_entry(block)));
}

void Baseline::redirect(Block& block, const void* target) {
  VELLUM_ASSERT(counts());
  block.redirected = target != nullptr;
  put_arrival(block, target);
}

}  // namespace vellum
