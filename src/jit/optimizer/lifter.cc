// From a region's instructions to one LLVM function: the bitcode of their semantics inlined, one block after another.
#include "jit/optimizer/lifter.h"

#include <algorithm>

#include <llvm/IR/CFG.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/MDBuilder.h>

#include <llvm/Transforms/Utils/BasicBlockUtils.h>
#include <llvm/Transforms/Utils/Local.h>
#include <llvm/Transforms/Utils/PromoteMemToReg.h>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "cpu/x87_arithmetic.h"
#include "jit/bitcode/bitcode_table.h"
#include "jit/optimizer/byte_moves.h"
#include "jit/optimizer/host_code.h"

namespace vellum {

namespace {

constexpr u32 kX87Begin = offsetof(CpuState, x87);

// The register stack behind an instruction, by the one in front of it.
u64 x87_stack_behind(const BoundInsn& insn, u64 stack) {
  const X87Effect effect = interpreter_row(insn.row).x87;
  if (!effect.any || stack == kUnknownX87Stack) return stack;
  const unsigned top = stack & 7;
  u64 valid = stack >> 8;
  const auto bit = [&](unsigned i) { return u64{1} << ((top + i) & 7); };
  if (effect.tags == X87Tags::Fills) valid |= bit(static_cast<unsigned>(insn.operand[0]));
  if (effect.tags == X87Tags::Empties) valid &= ~bit(static_cast<unsigned>(insn.operand[0]));
  if (effect.tags != X87Tags::Alone) {
    if (effect.step < 0) valid |= bit(7);
    for (int i = 0; i < effect.step; ++i) valid &= ~bit(static_cast<unsigned>(i));
  }
  return ((top + static_cast<unsigned>(effect.step)) & 7) | valid << 8;
}

}  // namespace

Lifter::Lifter(SemanticsLibrary& library, const Region& region)
    : m_library(library), m_region(region), m_context(library.module().getContext()) {
  m_i8 = llvm::Type::getInt8Ty(m_context);
  m_i32 = llvm::Type::getInt32Ty(m_context);
  m_i64 = llvm::Type::getInt64Ty(m_context);
  m_pointer = llvm::PointerType::get(m_context, 0);
}

llvm::Constant* Lifter::number(u64 value) { return llvm::ConstantInt::get(m_i64, value); }

llvm::Value* Lifter::state_field(llvm::IRBuilderBase& b, u64 offset) {
  return offset ? b.CreateConstInBoundsGEP1_64(m_i8, m_state, offset) : m_state;
}

// Loops and paths -----------------------------------------------------------------------------------------------------

template <class Function>
void Lifter::for_successors(usize index, Function function) const {
  const RegionBlock& block = m_region.blocks[index];
  if (block.taken >= 0) function(block.taken);
  if (block.next >= 0) function(block.next);
  for (const int target : m_indirect[index]) function(target);
}

// Returns may go behind every call in the region.
void Lifter::find_returns() {
  const auto is = [](const RegionBlock& block, std::string_view mnemonic) {
    const u32 last = block.count - 1;
    return bitcode_variant(block.variants[last], false) >= 0 && opcode_rows()[block.insns[last].row].mnemonic == mnemonic;
  };
  std::vector<int> sites;
  for (const RegionBlock& block : m_region.blocks) {
    if (!is(block, "call")) continue;
    const BoundInsn& call = block.insns[block.count - 1];
    const i64 delta = block.delta - block.insns[0].offset + call.offset + call.length;
    for (usize i = 0; i < m_region.blocks.size(); ++i)
      if (m_region.blocks[i].delta == delta && std::ranges::find(sites, static_cast<int>(i)) == sites.end()) sites.push_back(static_cast<int>(i));
  }
  for (const RegionBlock& block : m_region.blocks) {
    m_indirect.push_back(block.indirect);
    if (is(block, "ret") && block.indirect.empty()) m_indirect.back() = sites;
  }
}

// Marks the targets of back edges: there the budget and attention are looked at.
void Lifter::find_loop_heads() {
  const auto count = m_region.blocks.size();
  m_checked.assign(count, false);
  m_checked[0] = true;
  enum : u8 { White, Grey, Black };
  std::vector<u8> color(count, White);
  const auto visit = [&](auto& self, int index) -> void {
    color[static_cast<usize>(index)] = Grey;
    for_successors(static_cast<usize>(index), [&](int successor) {
      if (color[static_cast<usize>(successor)] == Grey) m_checked[static_cast<usize>(successor)] = m_result.loops = true;
      else if (color[static_cast<usize>(successor)] == White) self(self, successor);
    });
    color[static_cast<usize>(index)] = Black;
  };
  visit(visit, 0);
}

// Follows the x87 register stack through the region, to which every instruction does the same wherever it comes from. MMX
// instructions set TOP, and use the registers by other names.
void Lifter::find_x87_stacks() {
  m_x87_stack.assign(m_region.blocks.size(), kUnknownX87Stack);
  bool uses_mmx = false;
  unsigned count = 0;
  for (const RegionBlock& block : m_region.blocks)
    for (u32 i = 0; i < block.count; ++i) {
      count += interpreter_row(block.insns[i].row).x87.any;
      uses_mmx |= opcode_rows()[block.insns[i].row].has(kUsesMmx);
    }
  m_uses_x87 = count > 0;
  if (!m_uses_x87 || uses_mmx) return;
  choose_x87(count);
  if (m_result.x87_on_host) return;
  m_x87_stack[0] = m_region.x87_top | u64{m_region.x87_valid} << 8;
  std::vector<usize> pending{0};
  bool agree = true;
  while (!pending.empty()) {
    const usize index = pending.back();
    pending.pop_back();
    const RegionBlock& block = m_region.blocks[index];
    u64 stack = m_x87_stack[index];
    for (u32 i = 0; i < block.count; ++i) stack = x87_stack_behind(block.insns[i], stack);
    for_successors(index, [&](int successor) {
      u64& known = m_x87_stack[static_cast<usize>(successor)];
      if (known == kUnknownX87Stack) {
        known = stack;
        pending.push_back(static_cast<usize>(successor));
      } else if (known != stack) {
        agree = false;
      }
    });
  }
  m_x87_stack_known = agree;
}

void Lifter::choose_x87(unsigned count) {
  // An instruction takes about 45 cycles by integers, bringing the state there and back 240.
  const bool enough = count >= (m_result.loops ? 4u : 8u);
  m_result.x87_on_host = host_code::kHasX87 && (m_region.x87_code == X87Code::Host || (m_region.x87_code == X87Code::Fitting && enough));
}

void Lifter::call_x87_helper(llvm::IRBuilderBase& b, const char* name) {
  b.CreateCall(m_library.module().getOrInsertFunction(name, llvm::FunctionType::get(b.getVoidTy(), {m_pointer}, false)), {m_state})->setDoesNotThrow();
}

// Instructions that may run from here on before the next check. Covering them all lets blocks between go unchecked.
u64 Lifter::longest_path(int index) {
  u64& known = m_path[static_cast<usize>(index)];
  if (known) return known;
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  u64 longest = 0;
  for_successors(static_cast<usize>(index), [&](int successor) {
    if (!m_checked[static_cast<usize>(successor)]) longest = std::max(longest, longest_path(successor));
  });
  return known = block.count + longest;
}

// Emission ------------------------------------------------------------------------------------------------------------

std::expected<LiftedRegion, std::string> Lifter::lift() {
  auto* type = llvm::FunctionType::get(llvm::Type::getVoidTy(m_context), {m_pointer, m_pointer}, false);
  m_function = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, "region", m_library.module());
  m_function->setCallingConv(llvm::CallingConv::PreserveNone);
  m_function->addFnAttr(llvm::Attribute::NoUnwind);
  m_function->addFnAttr(llvm::Attribute::StrictFP);
  m_result.function = m_function;
  m_state = m_function->getArg(0);
  m_spill_marker = llvm::cast<llvm::Function>(
      m_library.module().getOrInsertFunction("vellum_spill", llvm::FunctionType::get(llvm::Type::getVoidTy(m_context), false)).getCallee());
  m_exit_marker = llvm::cast<llvm::Function>(
      m_library.module().getOrInsertFunction("vellum_exit", llvm::FunctionType::get(llvm::Type::getVoidTy(m_context), false)).getCallee());

  find_returns();
  find_loop_heads();
  find_x87_stacks();
  m_path.assign(m_region.blocks.size(), 0);
  emit_entry();
  for (usize i = 0; i < m_region.blocks.size(); ++i) emit_block(static_cast<int>(i));
  const auto fail = [&](std::string message) -> std::unexpected<std::string> {
    m_function->eraseFromParent();
    return std::unexpected(std::move(message));
  };
  const auto exclude = [&](const InlinedInsn& insn) {
    m_library.exclude(insn.row, insn.variant);
    return fail(m_error);
  };
  for (const InlinedInsn& insn : m_inlined) {
    if (insn.placed) continue;
    m_error = "an instruction calls too deep";
    return exclude(insn);
  }
  leave_for_handlers();
  llvm::removeUnreachableBlocks(*m_function);
  // Values are written back at blocks' ends: where nothing else ends them they are one.
  for (llvm::BasicBlock& block : llvm::make_early_inc_range(*m_function)) llvm::MergeBlockIntoPredecessor(&block);
  for (const InlinedInsn& insn : m_inlined)
    if (!collect_accesses(insn)) return exclude(insn);
  make_slots();
  for (const Access& access : m_accesses) {
    if (rewrite(access)) continue;
    m_error = "an access to the state has an unexpected shape";
    return exclude(*access.insn);
  }
  for (const InlinedInsn& insn : m_inlined) {
    insn.shadow->replaceAllUsesWith(m_state);
    insn.shadow->eraseFromParent();
  }
  track_state();
  {
    std::vector<llvm::AllocaInst*> variables;
    for (const Slot& slot : m_result.slots) variables.push_back(slot.variable);
    llvm::DominatorTree dominators(*m_function);
    llvm::PromoteMemToReg(variables, dominators);
    for (Slot& slot : m_result.slots) slot.variable = nullptr;
  }
  fold_conditions(*m_function, m_library, Unknown::Keep);
  return std::move(m_result);
}

void Lifter::emit_entry() {
  m_entry = llvm::BasicBlock::Create(m_context, "entry", m_function);
  llvm::IRBuilder<> b(m_entry);
  m_budget = b.CreateAlloca(m_i64);
  m_code_base = b.CreateAlloca(m_i64);
  const auto slot = [&](u32 offset, llvm::AllocaInst* variable) {
    m_slot_of[variable] = static_cast<u16>(m_result.slots.size());
    m_result.slots.push_back({offset, 8, false, m_i64, variable});
  };
  slot(offsetof(CpuState, budget), m_budget);
  slot(kCodeBaseSlot * 8, m_code_base);
  m_entry_base = b.CreateAlignedLoad(m_i64, state_field(b, kCodeBaseSlot * 8), llvm::Align(8));
  for (usize i = 0; i < m_region.blocks.size(); ++i) {
    m_bodies.push_back(llvm::BasicBlock::Create(m_context, "body", m_function));
    m_heads.push_back(m_checked[i] ? llvm::BasicBlock::Create(m_context, "head", m_function) : m_bodies.back());
  }
  if (m_region.validity) {
    const auto field = [&](const u64* place) {
      return b.CreateAlignedLoad(m_i64, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(place)), m_pointer), llvm::Align(8));
    };
    auto* key = field(&m_region.validity->key);
    auto* rip = field(&m_region.validity->rip);
    auto* half = b.CreateGEP(m_i64, state_field(b, offsetof(CpuState, jump_key)), b.CreateLShr(m_entry_base, 63));
    auto* now = b.CreateAlignedLoad(m_i64, half, llvm::Align(8));
    auto* valid = llvm::BasicBlock::Create(m_context, "valid", m_function);
    auto* moved = llvm::BasicBlock::Create(m_context, "moved", m_function);
    auto* same = b.CreateICmpEQ(b.CreateOr(b.CreateXor(key, now), b.CreateXor(rip, m_entry_base)), number(0));
    b.CreateCondBr(same, valid, moved, llvm::MDBuilder(m_context).createBranchWeights(100000, 1));
    b.SetInsertPoint(moved);
    tail_call(b, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.revalidate)), m_pointer), m_region.blocks[0].original->insns);
    b.SetInsertPoint(valid);
  }
  // The state is still complete in memory: whatever forbids the region, the entry block runs as if there were none.
  auto* budget = b.CreateAlignedLoad(m_i64, state_field(b, offsetof(CpuState, budget)), llvm::Align(8));
  auto* unmasked = b.CreateAlignedLoad(m_i8, state_field(b, offsetof(CpuState, sse_unmasked)), llvm::Align(1));
  llvm::Value* ok = b.CreateAnd(may_run(b, budget, longest_path(0)), b.CreateICmpEQ(unmasked, b.getInt8(0)));
  if (m_uses_x87) {
    // All exceptions masked, none pending, and the register stack as the region expects it.
    static_assert(offsetof(X87State, status) == offsetof(X87State, control) + 2 && offsetof(X87State, control) % 4 == 0);
    auto* words = b.CreateAlignedLoad(m_i32, state_field(b, kX87Begin + offsetof(X87State, control)), llvm::Align(4));
    const u32 examined = x87::kExceptions | (x87::kSummary | (m_x87_stack_known ? 0x3800u : 0u)) << 16;
    const u32 wanted = x87::kExceptions | (m_x87_stack_known ? u32{m_region.x87_top} << 27 : 0u);
    ok = b.CreateAnd(ok, b.CreateICmpEQ(b.CreateAnd(words, b.getInt32(examined)), b.getInt32(wanted)));
    if (m_x87_stack_known) {
      auto* valid = b.CreateAlignedLoad(m_i8, state_field(b, kX87Begin + offsetof(X87State, valid)), llvm::Align(1));
      ok = b.CreateAnd(ok, b.CreateICmpEQ(valid, b.getInt8(m_region.x87_valid)));
    }
  }
  auto* refused = llvm::BasicBlock::Create(m_context, "refused", m_function);
  // The slots' variables are filled right behind these checks.
  m_entry_end = b.GetInsertBlock();
  auto* first = m_bodies[0];
  if (m_result.x87_on_host || m_checked[0]) {
    llvm::IRBuilder<> entering(first = llvm::BasicBlock::Create(m_context, "first", m_function));
    if (m_result.x87_on_host) call_x87_helper(entering, "region_x87_enter");
    if (m_checked[0]) charge(entering, 0);
    entering.CreateBr(m_bodies[0]);
  }
  b.CreateCondBr(ok, first, refused, llvm::MDBuilder(m_context).createBranchWeights(100000, 1));
  b.SetInsertPoint(refused);
  auto* fallback = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.fallback)), m_pointer);
  tail_call(b, fallback, m_region.blocks[0].original->insns);
}

void Lifter::emit_block(int index) {
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  if (m_checked[static_cast<usize>(index)]) {
    // Those who come here or from the entry have been charged when the body begins, so that one subtraction does for both.
    llvm::IRBuilder<> b(m_heads[static_cast<usize>(index)]);
    auto* left = charge(b, index);
    auto* weights = llvm::MDBuilder(m_context).createBranchWeights(100000, 1);
    auto* refused = llvm::BasicBlock::Create(m_context, "refused", m_function);
    b.CreateCondBr(may_run(b, left, longest_path(index) - block.count), m_bodies[static_cast<usize>(index)], refused, weights);
    b.SetInsertPoint(refused);
    b.CreateStore(b.CreateSub(left, number(-u64{block.count})), m_budget);  // said so, nobody keeps what it was
    return_to_run_loop(b, index);
  }
  llvm::IRBuilder<> b(m_bodies[static_cast<usize>(index)]);
  if (!m_checked[static_cast<usize>(index)]) charge(b, index);
  b.CreateStore(b.CreateAdd(m_entry_base, number(distance_of(block) - block.insns[0].offset)), m_code_base);
  if (m_region.executed) {
    auto* counter = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.executed)), m_pointer);
    b.CreateAlignedStore(b.CreateAdd(b.CreateAlignedLoad(m_i64, counter, llvm::Align(8)), number(block.count)), counter, llvm::Align(8));
  }
  emit_insns(index, b);
}

// Takes the block's instructions from the budget; what is left of it.
llvm::Value* Lifter::charge(llvm::IRBuilder<>& b, int index) {
  auto* left = b.CreateSub(b.CreateLoad(m_i64, m_budget), number(m_region.blocks[static_cast<usize>(index)].count));
  b.CreateStore(left, m_budget);
  return left;
}

// Whether `count` more instructions may run: the budget covers them, and no attention is asked for.
llvm::Value* Lifter::may_run(llvm::IRBuilder<>& b, llvm::Value* budget, u64 count) {
  auto* floor = b.CreateAlignedLoad(m_i64, state_field(b, offsetof(CpuState, budget_floor)), llvm::Align(8));
  floor->setAtomic(llvm::AtomicOrdering::Monotonic);
  return b.CreateICmpSGE(b.CreateSub(budget, number(count)), floor);
}

void Lifter::go_to(llvm::IRBuilder<>& b, int block) { b.CreateBr(m_heads[static_cast<usize>(block)]); }

void Lifter::tail_call(llvm::IRBuilder<>& b, llvm::Value* callee, const BoundInsn* insn) {
  auto* address = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(insn)), m_pointer);
  auto* call = b.CreateCall(m_function->getFunctionType(), callee, {m_state, address});
  call->setCallingConv(llvm::CallingConv::PreserveNone);
  call->setTailCallKind(llvm::CallInst::TCK_MustTail);
  b.CreateRetVoid();
}

// Goes on at a RIP outside the region.
void Lifter::leave(llvm::IRBuilder<>& b, llvm::Value* rip) {
  b.CreateCall(m_exit_marker);
  b.CreateAlignedStore(rip, state_field(b, offsetof(CpuState, rip)), llvm::Align(8));
  auto exit = m_library.module().getOrInsertFunction("region_exit", m_function->getFunctionType());
  llvm::cast<llvm::Function>(exit.getCallee())->setCallingConv(llvm::CallingConv::PreserveNone);
  tail_call(b, exit.getCallee(), nullptr);
}

// In front of a loop head that may not be passed now.
void Lifter::return_to_run_loop(llvm::IRBuilder<>& b, int index) {
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  b.CreateCall(m_exit_marker);
  b.CreateAlignedStore(b.CreateAdd(m_entry_base, number(distance_of(block))), state_field(b, offsetof(CpuState, rip)), llvm::Align(8));
  b.CreateAlignedStore(llvm::ConstantPointerNull::get(llvm::PointerType::get(m_context, 0)), state_field(b, offsetof(CpuState, insn)), llvm::Align(8));
  if (!m_region.interruptions) {
    b.CreateRetVoid();
    return;
  }
  auto* counter = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.interruptions)), m_pointer);
  b.CreateAlignedStore(b.CreateAdd(b.CreateAlignedLoad(m_i64, counter, llvm::Align(8)), number(1)), counter, llvm::Align(8));
  tail_call(b, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.interrupted)), m_pointer), block.original->insns);
}

// From CpuState::code_base as the region was entered to the block's first byte.
u64 Lifter::distance_of(const RegionBlock& block) const { return static_cast<u64>(block.delta + m_region.blocks[0].insns[0].offset); }

// A RIP by BoundInsn::offset and the like, of the running block.
llvm::Value* Lifter::rip_of(llvm::IRBuilderBase& b, u64 offset, unsigned code_size_bytes) {
  llvm::Value* rip = b.CreateAdd(b.CreateLoad(m_i64, m_code_base), number(offset));
  if (code_size_bytes == 8) return rip;
  return b.CreateAnd(rip, number(code_size_bytes == 4 ? 0xffffffff : 0xffff));
}

// An instruction's semantics at the end of the builder's block; the builder goes on where they end.
llvm::Value* Lifter::place_semantics(llvm::IRBuilder<>& b, llvm::Function& function, const RegionBlock& block, unsigned position, u64 x87_stack) {
  const BoundInsn& insn = block.insns[position];
  auto* shadow = new llvm::AllocaInst(m_i8, 0, "", m_entry->begin());
  auto* address = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(block.original->insns + position)), m_pointer);
  llvm::Value* arguments[] = {
      shadow, address, number(insn.operand[0]), number(insn.operand[1]), number(insn.operand[2]), number(insn.operand[3]),
      number(static_cast<u64>(insn.immediate())), number(insn.wide()), number(insn.immediate2()), number(insn.base),
      number(insn.index), number(insn.scale), number(static_cast<u64>(i64{insn.displacement})), number(insn.address_mask()),
      number(insn.segment), number(static_cast<u64>(insn.segment_mode)), number(static_cast<u64>(insn.stack_mode)),
      number(insn.operand_size), number(insn.address_size), number(insn.code_size_bytes), number(insn.offset),
      number(insn.length), number(x87_stack)};
  static_assert(std::size(arguments) == kBitcodeFields + 2);
  PlacedBody placed;
  const auto treat = [&](llvm::Function& callee) {
    const OpaqueKind kind = m_library.opaque(callee).kind;
    if (kind == OpaqueKind::Leave) return BodyPlacer::Treatment::Note;
    if (kind == OpaqueKind::ByteMove) return BodyPlacer::Treatment::Make;
    return kind == OpaqueKind::None && m_library.materialize(callee) ? BodyPlacer::Treatment::Place : BodyPlacer::Treatment::Keep;
  };
  const auto make = [&](llvm::Function& callee, llvm::ArrayRef<llvm::Value*> operands, llvm::BasicBlock* at) {
    const u64 immediate = llvm::cast<llvm::ConstantInt>(operands[2])->getZExtValue();
    return make_byte_move(m_library.opaque(callee).size, operands[0], operands[1], static_cast<u8>(immediate), at);
  };
  const bool done = m_library.placer().place(function, arguments, b.GetInsertBlock(), *m_entry, treat, make, placed);
  const BoundInsn* original = block.original->insns + position;
  const u8 variant = block.variants[position];
  for (llvm::CallInst* call : m_library.placer().take_noted()) m_leaves.push_back({call, interpreter_row(insn.row).variant[variant], original});
  m_inlined.push_back({shadow, original, insn.row, variant, done});
  b.SetInsertPoint(placed.end ? placed.end : llvm::BasicBlock::Create(m_context, "", m_function));  // the latter is never reached
  return placed.result ? placed.result : llvm::PoisonValue::get(function.getReturnType());
}

void Lifter::emit_insns(int index, llvm::IRBuilder<>& b) {
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  u64 x87_stack = m_x87_stack_known ? m_x87_stack[static_cast<usize>(index)] : kUnknownX87Stack;
  for (unsigned i = 0; i < block.count; ++i) {
    const BoundInsn& insn = block.insns[i];
    const u8 variant = block.variants[i];
    llvm::Function* function = m_result.x87_on_host ? m_library.find_x87_on_host(insn.row, variant) : nullptr;
    if (!function) function = m_library.find(insn.row, variant);
    if (!function) {
      // The rest of the block runs without the region.
      const Handler handler = variant < std::size(interpreter_row(insn.row).variant) ? interpreter_row(insn.row).variant[variant] : handler_of(insn);
      b.CreateCall(m_spill_marker);
      tail_call(b, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(handler)), m_pointer), block.original->insns + i);
      return;
    }
    llvm::Value* result = place_semantics(b, *function, block, i, x87_stack);
    x87_stack = x87_stack_behind(insn, x87_stack);
    const u64 target_offset = u64{insn.offset} + insn.length + static_cast<u64>(insn.immediate());
    const u64 next_offset = u64{insn.offset} + insn.length;
    switch (interpreter_row(insn.row).flow) {
      case Flow::Next:
      case Flow::String:
      case Flow::Callout: break;
      case Flow::Direct:
        if (block.taken >= 0) go_to(b, block.taken);
        else leave(b, rip_of(b, target_offset, insn.operand_size));
        return;
      case Flow::Conditional: {
        auto* taken = llvm::BasicBlock::Create(m_context, "taken", m_function);
        auto* next = llvm::BasicBlock::Create(m_context, "next", m_function);
        llvm::MDNode* weights = nullptr;
        if (block.taken_weight + block.next_weight) weights = llvm::MDBuilder(m_context).createBranchWeights(block.taken_weight + 1, block.next_weight + 1);
        b.CreateCondBr(b.CreateICmpNE(result, number(0)), taken, next, weights);
        b.SetInsertPoint(taken);
        if (block.taken >= 0) go_to(b, block.taken);
        else leave(b, rip_of(b, target_offset, insn.operand_size));
        b.SetInsertPoint(next);
        if (block.next >= 0) go_to(b, block.next);
        else leave(b, rip_of(b, next_offset, insn.code_size_bytes));
        return;
      }
      case Flow::Indirect: {
        for (const int target : m_indirect[static_cast<usize>(index)]) {
          auto* other = llvm::BasicBlock::Create(m_context, "other", m_function);
          auto* rip = b.CreateAdd(m_entry_base, number(distance_of(m_region.blocks[static_cast<usize>(target)])));
          b.CreateCondBr(b.CreateICmpEQ(result, rip), m_heads[static_cast<usize>(target)], other);
          b.SetInsertPoint(other);
        }
        leave(b, result);
        return;
      }
    }
  }
  const BoundInsn& terminator = block.insns[block.count];
  if (block.next >= 0) go_to(b, block.next);
  else leave(b, rip_of(b, terminator.offset, terminator.code_size_bytes));
}

// Leaving -------------------------------------------------------------------------------------------------------------

// Where an instruction gives up, its handler goes on with it, as where a region lacks one.
void Lifter::leave_for_handlers() {
  for (const Leave& leave : m_leaves) {
    llvm::BasicBlock* block = leave.call->getParent();
    while (&block->back() != leave.call) block->back().eraseFromParent();
    leave.call->eraseFromParent();
    llvm::IRBuilder<> b(block);
    b.CreateCall(m_spill_marker);
    tail_call(b, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(leave.handler)), m_pointer), leave.original);
  }
}

}  // namespace vellum
