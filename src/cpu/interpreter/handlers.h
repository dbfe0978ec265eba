// From rows and semantics to the interpreter's handlers: which specializations exist, and how each continues.
#pragma once

#include <span>
#include <vector>

#include "cpu/block.h"
#include "cpu/core.h"
#include "cpu/interpreter/binding.h"
#include "cpu/jump_cache.h"
#include "cpu/row_forms.h"

namespace vellum {

// Every specialization of one row. Index by handler_index().
struct RowHandlers {
  Handler variant[96];
  FlagEffect flags;
  FlagProducer producer;
  FlagProducers known_producers;  // after which it has variants of its own
  Flow flow;
  Callout callout;
  bool never_faults;  // in register form: its semantics says so
  bool count_decides; // flags are read (kept) only when the count is 0
  bool calls, returns;  // a transfer that leaves its return address on the stack, or takes it from there
  X87Effect x87;
};

// What selects a variant, apart from the row.
struct VariantChoice {
  unsigned width;        // 0, 1, 2 for operand size 2, 4, 8
  bool memory;
  bool locked;
  bool plain_address;    // Form::plain_address; only the semantics that ask for it have these
  bool flags_dead;
  FlagProducer producer;
  Repeat repeat;
};
// Widths (3) × {register, memory, locked memory, memory at a plain address} (4) × {normal, flags dead, after subtract, after logic,
// repeat equal or after a sum or borrow, repeat not equal or after kept or explicit flags} (6), rounded to 96.
constexpr unsigned producer_place(FlagProducer producer) {
  switch (producer) {
    case FlagProducer::Unknown: return 0;
    case FlagProducer::Subtract: return 2;
    case FlagProducer::Logic: return 3;
    case FlagProducer::Sum:
    case FlagProducer::Borrow: return 4;
    case FlagProducer::Kept:
    case FlagProducer::Explicit: return 5;
  }
  __builtin_unreachable();
}
constexpr unsigned handler_index(const VariantChoice& choice) {
  const unsigned place = choice.locked ? 2 : choice.plain_address ? 3 : choice.memory ? 1 : 0;
  unsigned extra = 0;
  if (choice.repeat != Repeat::No) extra = choice.repeat == Repeat::WhileEqual ? 4 : 5;
  else if (choice.flags_dead) extra = 1;
  else extra = producer_place(choice.producer);
  return (choice.width * 4 + place) * 6 + extra;
}

// The variant for a decoded instruction, before anything is known of the flags around it; core_decode.cc.
VariantChoice variant_for(const RowSpec& row, const Insn& insn);

// Continuations; interpreter.cc.
[[clang::preserve_none]] void interpreter_taken_slow(CpuState* s, const BoundInsn* insn);
[[clang::preserve_none]] void interpreter_next_slow(CpuState* s, const BoundInsn* insn);
[[clang::preserve_none]] void interpreter_callout(CpuState* s, const BoundInsn* insn);
[[clang::preserve_none]] void interpreter_fall_through(CpuState* s, const BoundInsn* insn);
[[clang::preserve_none]] void interpreter_invalid_opcode(CpuState* s, const BoundInsn* insn);
[[clang::preserve_none]] void interpreter_fpu_unavailable(CpuState* s, const BoundInsn* insn);

// Enters `block`, with s->code_base set, as it is when it comes from a block on the same page, or leaves when the budget does not
// cover it.
#define VELLUM_ENTER_BLOCK(s, block)                                                    \
  do {                                                                                  \
    const Block* entered = (block);                                                     \
    const i64 left = (s)->budget - entered->count;                                      \
    if (left < 0) [[unlikely]]                                                          \
      [[clang::musttail]] return interpreter_leave((s), entered->insns);                \
    (s)->budget = left;                                                                 \
    [[clang::musttail]] return handler_of(entered->insns[0])((s), entered->insns);          \
  } while (false)

#define VELLUM_ENTER_BLOCK_AT(s, block, rip)                                            \
  do {                                                                                  \
    const Block* at_rip = (block);                                                      \
    (s)->code_base = (rip) - at_rip->page_offset();                                     \
    VELLUM_ENTER_BLOCK(s, at_rip);                                                      \
  } while (false)

// Goes to `target` through the jump cache.
#define VELLUM_GO_TO(s, insn, target)                                                   \
  do {                                                                                  \
    const u64 go_to_rip = (target);                                                     \
    const JumpCacheEntry* const cached = find_jump(s, go_to_rip);                       \
    if (!cached) [[unlikely]] return go_on_at(s, go_to_rip);                            \
    VELLUM_ENTER_BLOCK_AT(s, cached->block, go_to_rip);                                 \
  } while (false)

template <class Semantics, Form F>
[[clang::preserve_none]] void handler_next(CpuState* s, const BoundInsn* insn) {
  Context<InterpreterBinding, F> c(s, insn);
  Semantics::op(c);
  [[clang::musttail]] return handler_of(insn[1])(s, insn + 1);
}

template <class Semantics, Form F>
[[clang::preserve_none]] void handler_direct(CpuState* s, const BoundInsn* insn) {
  Context<InterpreterBinding, F> c(s, insn);
  Semantics::op(c);
  c.check_direct_target();
  const Block* block = Block::of(insn);
  if (const Block* taken = block->taken) VELLUM_ENTER_BLOCK(s, taken);
  if (block->taken_leaves_page) VELLUM_GO_TO(s, insn, c.target_rip());
  [[clang::musttail]] return interpreter_taken_slow(s, insn);
}

template <class Semantics, Form F>
[[clang::preserve_none]] void handler_conditional(CpuState* s, const BoundInsn* insn) {
  Context<InterpreterBinding, F> c(s, insn);
  if (Semantics::op(c)) {
    c.check_direct_target();
    if (const Block* taken = Block::of(insn)->taken) VELLUM_ENTER_BLOCK(s, taken);
    [[clang::musttail]] return interpreter_taken_slow(s, insn);
  }
  if (const Block* next = Block::of(insn)->next) VELLUM_ENTER_BLOCK(s, next);
  [[clang::musttail]] return interpreter_next_slow(s, insn);
}

template <class Semantics, Form F>
[[clang::preserve_none]] void handler_indirect(CpuState* s, const BoundInsn* insn) {
  Context<InterpreterBinding, F> c(s, insn);
  const u64 target = Semantics::op(c);
  c.check_target(target);
  VELLUM_GO_TO(s, insn, target);
}

// One chunk of a string instruction; op() makes one iteration and advances rSI/rDI. A repeated one is a block of its
// own: when it is not done, control comes back to it, past the run loop's checks.
inline constexpr unsigned kStringChunk = 4096;

template <class Semantics, Form F>
[[clang::preserve_none]] void handler_string(CpuState* s, const BoundInsn* insn) {
  Context<InterpreterBinding, F> c(s, insn);
  if constexpr (F.repeat == Repeat::No) {
    Semantics::op(c);
    [[clang::musttail]] return handler_of(insn[1])(s, insn + 1);
  } else {
    if (c.template run_string<Semantics, F>(c)) {
      if (const Block* next = Block::of(insn)->next) VELLUM_ENTER_BLOCK(s, next);
      [[clang::musttail]] return interpreter_next_slow(s, insn);
    }
    // A chunk may take as long as thousands of instructions.
    if (__atomic_load_n(&s->attention, __ATOMIC_RELAXED)) [[unlikely]] return go_on_at(s, c.this_rip());
    VELLUM_GO_TO(s, insn, c.this_rip());
  }
}

namespace handler_detail {

using namespace row_forms;

template <class S, Form F>
constexpr Handler handler_for() {
  constexpr Flow flow = flow_of<S>();
  if constexpr (flow == Flow::Next) return &handler_next<S, F>;
  else if constexpr (flow == Flow::Direct) return &handler_direct<S, F>;
  else if constexpr (flow == Flow::Conditional) return &handler_conditional<S, F>;
  else if constexpr (flow == Flow::Indirect) return &handler_indirect<S, F>;
  else if constexpr (flow == Flow::String) return &handler_string<S, F>;
  else return &interpreter_callout;
}

// kRow is a type with `static constexpr RowSpec kSpec` and `using Semantics`.
template <class Row, u8 OperandSize, bool Memory, bool Locked, bool Plain = false>
constexpr void fill_place(RowHandlers& handlers, unsigned width) {
  using S = typename Row::Semantics;
  constexpr Form form = form_of(Row::kSpec, OperandSize, Memory, Locked, Plain);
  VariantChoice choice{width, Memory, Locked, Plain, false, FlagProducer::Unknown, Repeat::No};
  handlers.variant[handler_index(choice)] = handler_for<S, form>();
  if constexpr (flags_of<S>().written != 0 && flow_of<S>() == Flow::Next) {
    constexpr Form dead = [] { Form f = form_of(Row::kSpec, OperandSize, Memory, Locked, Plain); f.flags_dead = true; return f; }();
    choice.flags_dead = true;
    handlers.variant[handler_index(choice)] = handler_for<S, dead>();
    choice.flags_dead = false;
  }
  const auto fill_after = [&]<FlagProducer Producer>() {
    if constexpr (known_producers_of<S>() & flag_producers(Producer)) {
      constexpr Form after = [] { Form f = form_of(Row::kSpec, OperandSize, Memory, Locked, Plain); f.producer = Producer; return f; }();
      choice.producer = Producer;
      handlers.variant[handler_index(choice)] = handler_for<S, after>();
      choice.producer = FlagProducer::Unknown;
    }
  };
  fill_after.template operator()<FlagProducer::Subtract>();
  fill_after.template operator()<FlagProducer::Logic>();
  fill_after.template operator()<FlagProducer::Sum>();
  fill_after.template operator()<FlagProducer::Borrow>();
  fill_after.template operator()<FlagProducer::Kept>();
  fill_after.template operator()<FlagProducer::Explicit>();
  if constexpr (flow_of<S>() == Flow::String) {
    constexpr Form equal = [] { Form f = form_of(Row::kSpec, OperandSize, Memory, Locked, Plain); f.repeat = Repeat::WhileEqual; return f; }();
    constexpr Form not_equal = [] { Form f = form_of(Row::kSpec, OperandSize, Memory, Locked, Plain); f.repeat = Repeat::WhileNotEqual; return f; }();
    choice.repeat = Repeat::WhileEqual;
    handlers.variant[handler_index(choice)] = handler_for<S, equal>();
    choice.repeat = Repeat::WhileNotEqual;
    handlers.variant[handler_index(choice)] = handler_for<S, not_equal>();
  }
}

template <class Row, u8 OperandSize>
constexpr void fill_width(RowHandlers& handlers, unsigned width) {
  if constexpr (has_place(Row::kSpec, false)) fill_place<Row, OperandSize, false, false>(handlers, width);
  if constexpr (has_place(Row::kSpec, true)) {
    fill_place<Row, OperandSize, true, false>(handlers, width);
    if constexpr (requires { Row::Semantics::kCommon; }) fill_place<Row, OperandSize, true, false, true>(handlers, width);
    if constexpr (Row::kSpec.has(kLock) || Row::kSpec.has(kImplicitLock)) fill_place<Row, OperandSize, true, true>(handlers, width);
  }
}

template <class S>
constexpr Callout callout_of() {
  if constexpr (requires { S::kCallout; }) return S::kCallout;
  else return nullptr;
}

}  // namespace handler_detail

// A semantics that is a function of the VMM.
template <Callout Function>
struct CalloutTo {
  static constexpr Flow kFlow = Flow::Callout;
  static constexpr Callout kCallout = Function;
};

template <class Row>
constexpr RowHandlers row_handlers() {
  using namespace handler_detail;
  using S = typename Row::Semantics;
  RowHandlers handlers{};
  handlers.flags = flags_of<S>();
  handlers.producer = producer_of<S>();
  handlers.known_producers = flow_of<S>() == Flow::Callout ? FlagProducers{} : known_producers_of<S>();
  handlers.flow = flow_of<S>();
  handlers.callout = callout_of<S>();
  handlers.never_faults = never_faults<S>() && !Row::kSpec.has(kUsesMmx);  // MMX reports x87 exceptions
  handlers.count_decides = count_decides<S>();
  handlers.calls = requires { S::kCalls; };
  handlers.returns = requires { S::kReturns; };
  handlers.x87 = x87_effect<S>();
  if constexpr (flow_of<S>() != Flow::Callout) {
    fill_width<Row, 2>(handlers, 0);
    fill_width<Row, 4>(handlers, 1);
    fill_width<Row, 8>(handlers, 2);
  }
  return handlers;
}

// One group's handlers, in the order of its .def file; each group is a translation unit.
#define VELLUM_DECLARE_GROUP(group) std::span<const RowHandlers> interpreter_handlers_##group();
VELLUM_DECLARE_GROUP(integer)
VELLUM_DECLARE_GROUP(control_flow)
VELLUM_DECLARE_GROUP(strings)
VELLUM_DECLARE_GROUP(system)
VELLUM_DECLARE_GROUP(x87)
VELLUM_DECLARE_GROUP(mmx)
VELLUM_DECLARE_GROUP(sse)
VELLUM_DECLARE_GROUP(sse_float)
VELLUM_DECLARE_GROUP(crypto)
VELLUM_DECLARE_GROUP(avx)
VELLUM_DECLARE_GROUP(avx_float)
VELLUM_DECLARE_GROUP(fma)

// What decoding chose for an instruction of a block.
Handler interpreter_handler(const Block& block, unsigned position);
// The handlers of a row of opcode_rows().
extern const std::vector<const RowHandlers*> interpreter_rows;
inline const RowHandlers& interpreter_row(u16 row) { return *interpreter_rows[row]; }

// These are the last of their block, run outside of regions, and look up before they go on. A chunk that started again would
// be longer than in another engine.
inline bool is_repeated_string(const BoundInsn& insn) {
  return (insn.prefixes & (kPrefixRep | kPrefixRepne)) && interpreter_row(insn.row).flow == Flow::String;
}

}  // namespace vellum
