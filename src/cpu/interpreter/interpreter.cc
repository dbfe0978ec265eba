// The interpreter's continuations and slow paths.
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "state/log.h"

namespace vellum {

[[clang::preserve_none]] void interpreter_leave(CpuState* s, const BoundInsn* insns) {
  const Block* block = Block::of(insns);
  const i64 left = s->budget + s->budget_aside;
  // At the end of a slice only: the block is entered again.
  if (s->budget_aside > 0 && left >= block->count && !__atomic_load_n(&s->attention, __ATOMIC_RELAXED)) {
    s->begin_slice(kSliceInsns);
    [[clang::musttail]] return block->entry(s, insns);
  }
  go_on_at(s, s->code_base + block->page_offset());
}

[[clang::preserve_none]] void interpreter_enter(CpuState* s, const BoundInsn* insns) {
  VELLUM_ENTER_BLOCK(s, Block::of(insns));
}

[[clang::preserve_none]] void interpreter_jump_enter(CpuState* s, const BoundInsn* rip) {
  VELLUM_ENTER_BLOCK(s, s->jump_cache[jump_cache_slot(reinterpret_cast<u64>(rip))].block);
}

[[clang::preserve_none]] void leave_stale_block(CpuState* s, const BoundInsn* insn) {
  const Block* block = Block::of(insn);
  s->rip = s->code_base + insn->offset;
  s->budget += block->real_count - insn->position;  // these were charged on entry but not run
  s->insn = nullptr;
}

namespace {

u64 wrapped(u64 value, unsigned size) {
  return size == 8 ? value : size == 4 ? static_cast<u32>(value) : static_cast<u16>(value);
}

// Links a successor on the same page, so that the next time control goes there directly.
Block* successor(CpuState* s, const BoundInsn* insn, u64 target, Way way) {
  const JumpCacheEntry* const cached = find_jump(s, target);
  if (!cached) {
    s->core->leave_by(insn, way, target);
    return nullptr;
  }
  s->core->link_near(*Block::of(insn), way, target, *cached->block);
  return cached->block;
}

}  // namespace

[[clang::preserve_none]] void interpreter_taken_slow(CpuState* s, const BoundInsn* insn) {
  const u64 target = wrapped(s->code_base + insn->offset + insn->length + static_cast<u64>(insn->immediate()), insn->operand_size);
  if (const Block* block = successor(s, insn, target, Way::Taken)) VELLUM_ENTER_BLOCK_AT(s, block, target);
  go_on_at(s, target);
}

[[clang::preserve_none]] void interpreter_next_slow(CpuState* s, const BoundInsn* insn) {
  const u64 target = wrapped(s->code_base + insn->offset + insn->length, insn->code_size_bytes);
  if (const Block* block = successor(s, insn, target, Way::Next)) VELLUM_ENTER_BLOCK_AT(s, block, target);
  go_on_at(s, target);
}

// The terminator of a block that ends without a transfer: its offset is that of the next instruction, its length 0.
[[clang::preserve_none]] void interpreter_fall_through(CpuState* s, const BoundInsn* insn) {
  if (const Block* next = Block::of(insn)->next) VELLUM_ENTER_BLOCK(s, next);
  [[clang::musttail]] return interpreter_next_slow(s, insn);
}

namespace {

[[gnu::noinline]] void log_callout(const CpuState& s, const BoundInsn& insn) {
  log(LogItem::Callouts, "{:04x}:{:#x}: {} for {}", s.segment[kCs].selector, s.code_base + insn.offset, semantics_name(insn.row), describe_row(opcode_rows()[insn.row]));
}

}  // namespace

[[clang::preserve_none]] void interpreter_callout(CpuState* s, const BoundInsn* insn) {
  s->insn = insn;
  const u64 next = wrapped(s->code_base + insn->offset + insn->length, insn->code_size_bytes), key = s->jump_key_of(next);
  s->rip = next;
  if (log_enabled(LogItem::Callouts)) [[unlikely]] log_callout(*s, *insn);
  ++s->core->counters.callouts[insn->row];
  interpreter_row(insn->row).callout(*s->core, *insn);
  s->insn = nullptr;
  // Whatever the callout changed (mode, mapping, RIP, pending events) is seen from here on.
  if (__atomic_load_n(&s->attention, __ATOMIC_RELAXED) || s->event_pending()) [[unlikely]] return;
  // Nothing that decides how the next instruction is found: the block's terminator goes on.
  if (s->rip == next && s->jump_key_of(next) == key) [[clang::musttail]] return handler_of(insn[1])(s, insn + 1);
  VELLUM_GO_TO(s, insn, s->rip);
}

Handler interpreter_handler(const Block& block, unsigned position) {
  const u8 variant = block.variants()[position];
  switch (variant) {
    case kNoVariant: return interpreter_callout;
    case kUnavailableVariant: return interpreter_fpu_unavailable;
    case kInvalidVariant: return interpreter_invalid_opcode;
    default: break;
  }
  const Handler handler = interpreter_row(block.insns[position].row).variant[variant];
  return handler ? handler : interpreter_invalid_opcode;
}

[[clang::preserve_none]] void interpreter_invalid_opcode(CpuState* s, const BoundInsn* insn) {
  engine_raise(s, insn, Vector::InvalidOpcode, 0);
}

// x87, MMX or SSE while CR0 or CR4 forbid it; SDM Vol. 3A tables 2-2 and 13-1.
[[clang::preserve_none]] void interpreter_fpu_unavailable(CpuState* s, const BoundInsn* insn) {
  const RowSpec& row = opcode_rows()[insn->row];
  const bool emulated = row.has(kUsesSse) || row.has(kUsesMmx);  // CR0.EM makes these #UD, and x87 #NM; AVX ignores it
  const bool invalid = (emulated && (s->cr0 & kCr0Em)) || (row.has(kUsesSse) && !(s->cr4 & kCr4Osfxsr)) ||
                       (row.has(kUsesAvx) && !s->avx_enabled());
  engine_raise(s, insn, invalid ? Vector::InvalidOpcode : Vector::DeviceNotAvailable, 0);
}

const std::vector<const RowHandlers*> interpreter_rows = [] {
  std::vector<const RowHandlers*> pointers;
#define VELLUM_ADD_GROUP(group) \
  for (const RowHandlers& handlers : interpreter_handlers_##group()) pointers.push_back(&handlers);
  VELLUM_OPCODE_GROUPS(VELLUM_ADD_GROUP)
#undef VELLUM_ADD_GROUP
  return pointers;
}();

}  // namespace vellum
