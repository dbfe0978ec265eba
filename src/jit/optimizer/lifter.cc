// From a region's instructions to one LLVM function: the bitcode of their semantics inlined, and the parts of CpuState that
// they use as values instead of memory.
#include "jit/optimizer/lifter.h"

#include <algorithm>
#include <bitset>
#include <optional>

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

namespace vellum {

namespace {

constexpr unsigned kMaxSlots = 128;
using SlotSet = std::bitset<kMaxSlots>;

constexpr u32 kVectorBegin = offsetof(CpuState, vector), kVectorEnd = kVectorBegin + sizeof(CpuState::vector);
constexpr u32 kX87Begin = offsetof(CpuState, x87), kX87End = kX87Begin + sizeof(X87State);

// What a slot always holds, if that is known.
std::optional<u64> constant_slot(u32 offset) {
  switch (offset / 8) {
    case kZeroSlot: return 0;
    case kExcessSlot: return 8192;
    case kDeficitSlot: return -u64{8192};
    case kAddressMaskSlot: return 0xffff;
    case kAddressMaskSlot + 1: return 0xffffffff;
    case kAddressMaskSlot + 2: return ~u64{0};
    default: return std::nullopt;
  }
}

// Helpers that need the state complete but leave it alone, apart from faults.
bool only_observes(llvm::StringRef name) { return name.contains("engine_"); }
// Functions that touch nothing of the state but what no slot holds, and never fault.
bool minds_no_slot(llvm::StringRef name) { return name.contains("sync_mxcsr"); }

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

bool is_lifetime_marker(const llvm::Instruction& instruction) {
  return instruction.isLifetimeStartOrEnd() || llvm::isa<llvm::DbgInfoIntrinsic>(instruction);
}

}  // namespace

// The slot that an offset belongs to, apart from the vector registers' width; nullopt: memory.
struct Lifter::SlotShape {
  u32 offset, size;
  bool read_only;
};
std::optional<Lifter::SlotShape> Lifter::shape_at(u32 offset) const {
  constexpr u32 kFlagsBegin = offsetof(CpuState, flag_operation), kFlagsEnd = offsetof(CpuState, flag_b) + 8;
  constexpr u32 kGprEnd = (kCodeBaseSlot + 1) * 8;
  if (offset < kGprEnd) return SlotShape{offset & ~7u, 8, offset / 8 == kZeroSlot};
  if (offset >= kExcessSlot * 8u && offset < (kAddressMaskSlot + 3) * 8u) return SlotShape{offset & ~7u, 8, true};
  if (offset >= kFlagsBegin && offset < kFlagsEnd) return SlotShape{offset & ~7u, 8, false};
  if (offset >= offsetof(CpuState, rflags) && offset < offsetof(CpuState, rflags) + 4) return SlotShape{offsetof(CpuState, rflags), 4, false};
  if (offset >= offsetof(CpuState, budget) && offset < offsetof(CpuState, budget) + 8) return SlotShape{offsetof(CpuState, budget), 8, false};
  if (offset >= offsetof(CpuState, tlb) && offset < offsetof(CpuState, tlb) + 8) return SlotShape{offsetof(CpuState, tlb), 8, true};
  if (offset >= kVectorBegin && offset < kVectorEnd)
    return SlotShape{kVectorBegin + (offset - kVectorBegin) / u32{sizeof(VectorRegister)} * u32{sizeof(VectorRegister)}, 16, false};
  for (unsigned segment = kEs; segment <= kGs; ++segment) {
    const u32 base = static_cast<u32>(offsetof(CpuState, segment) + segment * sizeof(SegmentRegister) + offsetof(SegmentRegister, base));
    if (offset >= base && offset < base + 8) return SlotShape{base, 8, true};
    const u32 selector = static_cast<u32>(offsetof(CpuState, segment) + segment * sizeof(SegmentRegister) + offsetof(SegmentRegister, selector));
    if (offset >= selector && offset < selector + 2) return SlotShape{selector, 2, true};
  }
  return offset >= kX87Begin && offset < kX87End ? x87_shape_at(offset) : std::nullopt;
}

// The x87 registers are values where TOP is known: each access then has a place of its own.
std::optional<Lifter::SlotShape> Lifter::x87_shape_at(u32 offset) const {
  if (!m_uses_x87) return std::nullopt;
  constexpr u32 kRegistersEnd = kX87Begin + sizeof(X87State::registers);
  if (offset < kRegistersEnd) {
    if (!m_x87_stack_known) return std::nullopt;
    const u32 begin = kX87Begin + (offset - kX87Begin) / u32{sizeof(X87Register)} * u32{sizeof(X87Register)};
    constexpr u32 kSignExponent = offsetof(X87Register, sign_exponent);
    if (offset < begin + kSignExponent) return SlotShape{begin, kSignExponent, false};
    if (offset < begin + kSignExponent + 2) return SlotShape{begin + kSignExponent, 2, false};
    return std::nullopt;
  }
  const auto field = [&](usize begin, u32 size) { return offset >= kX87Begin + begin && offset < kX87Begin + begin + size; };
#define VELLUM_X87_FIELD(name) \
  if (field(offsetof(X87State, name), sizeof(X87State::name))) \
    return SlotShape{kX87Begin + u32{offsetof(X87State, name)}, u32{sizeof(X87State::name)}, false};
  VELLUM_X87_FIELD(control)
  VELLUM_X87_FIELD(status)
  VELLUM_X87_FIELD(valid)
  VELLUM_X87_FIELD(last_instruction)
  VELLUM_X87_FIELD(last_data)
  VELLUM_X87_FIELD(last_code_selector)
  VELLUM_X87_FIELD(last_data_selector)
#undef VELLUM_X87_FIELD
  return std::nullopt;
}

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
    return bitcode_variant(block.variants[last]) >= 0 && opcode_rows()[block.insns[last].row].mnemonic == mnemonic;
  };
  std::vector<int> sites;
  for (const RegionBlock& block : m_region.blocks) {
    if (!is(block, "call")) continue;
    const BoundInsn& call = block.insns[block.count - 1];
    const i64 delta = block.delta + call.offset + call.length;
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
  for (const RegionBlock& block : m_region.blocks)
    for (u32 i = 0; i < block.count; ++i) {
      m_uses_x87 |= interpreter_row(block.insns[i].row).x87.any;
      uses_mmx |= opcode_rows()[block.insns[i].row].has(kUsesMmx);
    }
  if (!m_uses_x87 || uses_mmx) return;
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
  auto* attention = b.CreateAlignedLoad(m_i32, state_field(b, offsetof(CpuState, attention)), llvm::Align(4));
  attention->setAtomic(llvm::AtomicOrdering::Monotonic);
  auto* unmasked = b.CreateAlignedLoad(m_i8, state_field(b, offsetof(CpuState, sse_unmasked)), llvm::Align(1));
  llvm::Value* ok = b.CreateICmpSGE(budget, number(longest_path(0)));
  ok = b.CreateAnd(ok, b.CreateICmpEQ(b.CreateOr(attention, b.CreateZExt(unmasked, m_i32)), b.getInt32(0)));
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
  b.CreateCondBr(ok, m_bodies[0], refused, llvm::MDBuilder(m_context).createBranchWeights(100000, 1));
  b.SetInsertPoint(refused);
  auto* fallback = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.fallback)), m_pointer);
  tail_call(b, fallback, m_region.blocks[0].original->insns);
}

void Lifter::emit_block(int index) {
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  if (m_checked[static_cast<usize>(index)]) {
    llvm::IRBuilder<> b(m_heads[static_cast<usize>(index)]);
    auto* budget = b.CreateLoad(m_i64, m_budget);
    auto* weights = llvm::MDBuilder(m_context).createBranchWeights(100000, 1);
    auto* enough = llvm::BasicBlock::Create(m_context, "enough", m_function, m_bodies[static_cast<usize>(index)]);
    auto* refused = llvm::BasicBlock::Create(m_context, "refused", m_function);
    b.CreateCondBr(b.CreateICmpSGE(budget, number(longest_path(index))), enough, refused, weights);
    b.SetInsertPoint(enough);
    if (m_region.passes) count_pass(b, index);
    auto* attention = b.CreateAlignedLoad(m_i32, state_field(b, offsetof(CpuState, attention)), llvm::Align(4));
    attention->setAtomic(llvm::AtomicOrdering::Monotonic);
    b.CreateCondBr(b.CreateICmpEQ(attention, b.getInt32(0)), m_bodies[static_cast<usize>(index)], refused, weights);
    b.SetInsertPoint(refused);
    return_to_run_loop(b, b.CreateAdd(m_entry_base, number(static_cast<u64>(block.delta))));
  }
  llvm::IRBuilder<> b(m_bodies[static_cast<usize>(index)]);
  b.CreateStore(b.CreateSub(b.CreateLoad(m_i64, m_budget), number(block.count)), m_budget);
  b.CreateStore(b.CreateAdd(m_entry_base, number(static_cast<u64>(block.delta))), m_code_base);
  if (m_region.executed) {
    auto* counter = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.executed)), m_pointer);
    b.CreateAlignedStore(b.CreateAdd(b.CreateAlignedLoad(m_i64, counter, llvm::Align(8)), number(block.count)), counter, llvm::Align(8));
  }
  emit_insns(index, b);
}

// Promotes the region where a loop in it has been gone through often enough.
void Lifter::count_pass(llvm::IRBuilder<>& b, int index) {
  const RegionBlock& block = m_region.blocks[static_cast<usize>(index)];
  auto* counter = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.passes)), m_pointer);
  auto* left = b.CreateSub(b.CreateAlignedLoad(m_i64, counter, llvm::Align(8)), number(1));
  b.CreateAlignedStore(left, counter, llvm::Align(8));
  auto* more = llvm::BasicBlock::Create(m_context, "more", m_function);
  auto* passed = llvm::BasicBlock::Create(m_context, "passed", m_function);
  b.CreateCondBr(b.CreateICmpSGE(left, number(0)), more, passed, llvm::MDBuilder(m_context).createBranchWeights(100000, 1));
  b.SetInsertPoint(passed);
  b.CreateStore(b.CreateAdd(m_entry_base, number(static_cast<u64>(block.delta))), m_code_base);
  b.CreateCall(m_spill_marker);
  tail_call(b, llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_region.passed)), m_pointer), block.original->insns);
  b.SetInsertPoint(more);
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

void Lifter::return_to_run_loop(llvm::IRBuilder<>& b, llvm::Value* rip) {
  b.CreateCall(m_exit_marker);
  b.CreateAlignedStore(rip, state_field(b, offsetof(CpuState, rip)), llvm::Align(8));
  b.CreateAlignedStore(llvm::ConstantPointerNull::get(llvm::PointerType::get(m_context, 0)), state_field(b, offsetof(CpuState, insn)), llvm::Align(8));
  b.CreateRetVoid();
}

// A RIP `offset` bytes behind the running block's first byte.
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
    return kind == OpaqueKind::None && m_library.materialize(callee) ? BodyPlacer::Treatment::Place : BodyPlacer::Treatment::Keep;
  };
  const bool done = m_library.placer().place(function, arguments, b.GetInsertBlock(), *m_entry, treat, placed);
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
    llvm::Function* function = m_library.find(insn.row, variant);
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
          auto* rip = b.CreateAdd(m_entry_base, number(static_cast<u64>(m_region.blocks[static_cast<usize>(target)].delta)));
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

// Slots ---------------------------------------------------------------------------------------------------------------

// Follows the state's pointer through the inlined code. What cannot be followed cannot be lifted. Accesses outside the slots
// go to memory as they are.
bool Lifter::collect_accesses(const InlinedInsn& insn) {
  const llvm::DataLayout& layout = m_library.module().getDataLayout();
  const auto refuse = [&](const llvm::Instruction& at) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    at.print(stream);
    m_error = "state is used in a way that cannot be followed: " + text;
    return false;
  };
  struct Pointer {
    llvm::Value* value;
    u64 offset;
  };
  std::vector<Pointer> pending{{insn.shadow, 0}};
  llvm::DenseMap<const llvm::CallInst*, bool> seen;
  while (!pending.empty()) {
    const Pointer pointer = pending.back();
    pending.pop_back();
    const bool in_x87 = pointer.offset >= kX87Begin && pointer.offset < kX87End;
    for (llvm::User* user : pointer.value->users()) {
      auto* instruction = llvm::cast<llvm::Instruction>(user);
      if (auto* gep = llvm::dyn_cast<llvm::GetElementPtrInst>(instruction)) {
        llvm::APInt offset(64, pointer.offset);
        if (gep->accumulateConstantOffset(layout, offset)) pending.push_back({gep, offset.getZExtValue()});
        else if (!in_x87 || m_x87_stack_known) return refuse(*instruction);
        continue;
      }
      if (auto* load = llvm::dyn_cast<llvm::LoadInst>(instruction)) {
        const u32 size = static_cast<u32>(layout.getTypeStoreSize(load->getType()));
        if (shape_at(static_cast<u32>(pointer.offset))) m_accesses.push_back({load, static_cast<u32>(pointer.offset), size, &insn});
        continue;
      }
      if (auto* store = llvm::dyn_cast<llvm::StoreInst>(instruction)) {
        if (store->getValueOperand() == pointer.value) return refuse(*instruction);
        const u32 size = static_cast<u32>(layout.getTypeStoreSize(store->getValueOperand()->getType()));
        if (shape_at(static_cast<u32>(pointer.offset))) m_accesses.push_back({store, static_cast<u32>(pointer.offset), size, &insn});
        continue;
      }
      if (is_lifetime_marker(*instruction)) continue;
      if (auto* call = llvm::dyn_cast<llvm::CallInst>(instruction)) {
        const llvm::Function* callee = call->getCalledFunction();
        if (!callee || callee->getName().contains("write_mxcsr")) return refuse(*instruction);
        if (callee->isIntrinsic()) {
          if (!in_x87 || m_x87_stack_known) return refuse(*instruction);
          continue;
        }
        if (m_library.opaque(*callee).kind != OpaqueKind::None || minds_no_slot(callee->getName())) continue;
        if (!seen.insert({call, true}).second) continue;
        (only_observes(callee->getName()) ? m_observing : m_synchronizing).push_back(call);
        continue;
      }
      if (!in_x87 || m_x87_stack_known) return refuse(*instruction);
    }
  }
  return true;
}

int Lifter::slot_at(u32 offset, u32 size) const {
  for (usize i = 0; i < m_result.slots.size(); ++i) {
    const Slot& slot = m_result.slots[i];
    if (offset >= slot.offset && offset + size <= slot.offset + slot.size) return static_cast<int>(i);
  }
  return -1;
}

void Lifter::make_slots() {
  llvm::IRBuilder<> b(&m_entry->front());
  auto* f64 = llvm::Type::getDoubleTy(m_context);
  // Vector registers are as wide as the widest access to any part of them.
  llvm::DenseMap<u32, u32> width;
  for (const Access& access : m_accesses) {
    const SlotShape shape = *shape_at(access.offset);
    u32 size = shape.size;
    if (shape.offset >= kVectorBegin && shape.offset < kVectorEnd)
      while (access.offset + access.size > shape.offset + size) size *= 2;
    u32& known = width[shape.offset];
    known = std::max(known, size);
  }
  std::vector<std::pair<u32, u32>> ordered(width.begin(), width.end());
  std::ranges::sort(ordered);
  for (const auto& [offset, size] : ordered) {
    if (slot_at(offset, 1) >= 0) continue;
    const SlotShape shape = *shape_at(offset);
    Slot slot{offset, size, shape.read_only, nullptr, nullptr};
    if (offset == offsetof(CpuState, tlb)) slot.type = m_pointer;
    else if (offset >= kVectorBegin && offset < kVectorEnd) slot.type = llvm::FixedVectorType::get(f64, size / 8);
    else slot.type = llvm::Type::getIntNTy(m_context, size * 8);
    m_result.wide_vectors |= offset >= kVectorBegin && offset < kVectorEnd && size > 16;
    slot.variable = b.CreateAlloca(slot.type);
    m_slot_of[slot.variable] = static_cast<u16>(m_result.slots.size());
    m_result.slots.push_back(slot);
  }
}

// Part of a slot's value as `type`, from byte `inner` on.
llvm::Value* Lifter::read_part(llvm::IRBuilderBase& b, const Slot& slot, u32 inner, llvm::Type* type) {
  llvm::Value* whole = b.CreateLoad(slot.type, slot.variable);
  const llvm::DataLayout& layout = m_library.module().getDataLayout();
  const u64 bits = layout.getTypeSizeInBits(type), slot_bits = slot.size * 8;
  if (slot.type->isPointerTy()) return inner == 0 && type->isPointerTy() ? whole : nullptr;
  if (slot.type->isIntegerTy()) {
    if (inner) whole = b.CreateLShr(whole, llvm::ConstantInt::get(slot.type, inner * 8));
    if (bits < slot_bits) whole = b.CreateTrunc(whole, llvm::Type::getIntNTy(m_context, static_cast<unsigned>(bits)));
    if (type->isPointerTy()) return b.CreateIntToPtr(whole, type);
    return b.CreateBitCast(whole, type);
  }
  if (bits == slot_bits) return b.CreateBitCast(whole, type);
  if (bits < 64 || inner % 8) {  // floats, or smaller integers
    if (bits > 64 || inner % (bits / 8)) return nullptr;
    auto* element = bits == 32 ? llvm::Type::getFloatTy(m_context) : llvm::Type::getIntNTy(m_context, static_cast<unsigned>(bits));
    auto* lanes = llvm::FixedVectorType::get(element, static_cast<unsigned>(slot_bits / bits));
    return b.CreateBitCast(b.CreateExtractElement(b.CreateBitCast(whole, lanes), inner * 8 / bits), type);
  }
  if (bits == 64) return b.CreateBitCast(b.CreateExtractElement(whole, u64{inner / 8}), type);
  if (bits % 64) return nullptr;
  std::vector<int> mask;
  for (u32 i = 0; i < bits / 64; ++i) mask.push_back(static_cast<int>(inner / 8 + i));
  return b.CreateBitCast(b.CreateShuffleVector(whole, mask), type);
}

// The slot's value `old` with the part from byte `inner` on replaced.
llvm::Value* Lifter::replace_part(llvm::IRBuilderBase& b, const Slot& slot, llvm::Value* old, u32 inner, llvm::Value* value) {
  const llvm::DataLayout& layout = m_library.module().getDataLayout();
  llvm::Type* type = value->getType();
  const u64 bits = layout.getTypeSizeInBits(type), slot_bits = slot.size * 8;
  if (slot.type->isPointerTy()) return nullptr;
  if (slot.type->isIntegerTy()) {
    auto* integer = llvm::Type::getIntNTy(m_context, static_cast<unsigned>(bits));
    value = type->isPointerTy() ? b.CreatePtrToInt(value, integer) : b.CreateBitCast(value, integer);
    if (bits == slot_bits) return value;
    const llvm::APInt mask = llvm::APInt::getBitsSet(slot.size * 8, inner * 8, static_cast<unsigned>(inner * 8 + bits));
    value = b.CreateShl(b.CreateZExt(value, slot.type), inner * 8);
    return b.CreateOr(b.CreateAnd(old, llvm::ConstantInt::get(m_context, ~mask)), value);
  }
  if (bits == slot_bits) return b.CreateBitCast(value, slot.type);
  if (bits < 64 || inner % 8) {
    if (bits > 64 || inner % (bits / 8)) return nullptr;
    auto* element = bits == 32 ? llvm::Type::getFloatTy(m_context) : llvm::Type::getIntNTy(m_context, static_cast<unsigned>(bits));
    auto* lanes = llvm::FixedVectorType::get(element, static_cast<unsigned>(slot_bits / bits));
    return b.CreateBitCast(b.CreateInsertElement(b.CreateBitCast(old, lanes), b.CreateBitCast(value, element), inner * 8 / bits), slot.type);
  }
  auto* f64 = llvm::Type::getDoubleTy(m_context);
  if (bits == 64) return b.CreateInsertElement(old, b.CreateBitCast(value, f64), u64{inner / 8});
  if (bits % 64) return nullptr;
  const unsigned count = static_cast<unsigned>(bits / 64), total = slot.size / 8;
  value = b.CreateBitCast(value, llvm::FixedVectorType::get(f64, count));
  std::vector<int> widen, merge;
  for (unsigned i = 0; i < total; ++i) widen.push_back(i < count ? static_cast<int>(i) : -1);
  for (unsigned i = 0; i < total; ++i)
    merge.push_back(static_cast<int>(i >= inner / 8 && i < inner / 8 + count ? total + i - inner / 8 : i));
  return b.CreateShuffleVector(old, b.CreateShuffleVector(value, widen), merge);
}

bool Lifter::rewrite(const Access& access) {
  const int index = slot_at(access.offset, access.size);
  if (index < 0) return false;
  const Slot& slot = m_result.slots[static_cast<usize>(index)];
  const u32 inner = access.offset - slot.offset;
  llvm::IRBuilder<> b(access.instruction);
  if (auto* load = llvm::dyn_cast<llvm::LoadInst>(access.instruction)) {
    llvm::Value* part = read_part(b, slot, inner, load->getType());
    if (!part) return false;
    load->replaceAllUsesWith(part);
  } else {
    if (slot.read_only) return false;
    llvm::Value* value = llvm::cast<llvm::StoreInst>(access.instruction)->getValueOperand();
    llvm::Value* whole = replace_part(b, slot, b.CreateLoad(slot.type, slot.variable), inner, value);
    if (!whole) return false;
    b.CreateStore(whole, slot.variable);
  }
  access.instruction->eraseFromParent();
  return true;
}

// State ---------------------------------------------------------------------------------------------------------------

void Lifter::store_slots(llvm::Instruction* before, const std::vector<u16>& slots) {
  llvm::IRBuilder<> b(before);
  for (const u16 index : slots) {
    const Slot& slot = m_result.slots[index];
    b.CreateAlignedStore(b.CreateLoad(slot.type, slot.variable), state_field(b, slot.offset), llvm::Align(slot.size));
  }
}

void Lifter::reload_slots(llvm::Instruction* behind) {
  llvm::IRBuilder<> b(behind->getNextNode());
  for (const Slot& slot : m_result.slots)
    if (!slot.read_only)
      b.CreateStore(b.CreateAlignedLoad(slot.type, state_field(b, slot.offset), llvm::Align(slot.size)), slot.variable);
}

namespace {

// Where a block's last stores go: in front of its terminator, and of the call that a tail call's return belongs to.
llvm::Instruction* last_of(llvm::BasicBlock& block) {
  if (llvm::CallInst* call = block.getTerminatingMustTailCall()) return call;
  return block.getTerminator();
}

}  // namespace

// Finds out at each place that needs the state in memory which slots may differ from it, and puts them there or notes them.
void Lifter::track_state() {
  struct Step {
    Event event;
    u16 slot = 0;
    llvm::CallInst* call = nullptr;
  };
  struct BlockSteps {
    std::vector<Step> steps;
    SlotSet written, in, out;
    bool synchronizes = false;  // nothing of `in` reaches `out`
  };
  llvm::DenseMap<const llvm::CallInst*, Event> special;
  for (llvm::CallInst* call : m_synchronizing) special[call] = Event::Synchronize;
  for (llvm::CallInst* call : m_observing) special[call] = Event::Spill;

  // Registers that large regions write to memory at the end of each block. Flags change too often for that.
  SlotSet written_through;
  if (!m_region.is_small())
    for (usize i = 0; i < m_result.slots.size(); ++i) {
      const Slot& slot = m_result.slots[i];
      const bool vector = slot.offset >= kVectorBegin && slot.offset < kVectorEnd, x87 = slot.offset >= kX87Begin && slot.offset < kX87End;
      if (slot.offset < kZeroSlot * 8u || vector || x87) written_through.set(i);
    }

  SlotSet code_base;
  code_base.set(m_slot_of[m_code_base]);

  llvm::DenseMap<const llvm::BasicBlock*, usize> number_of;
  std::vector<BlockSteps> blocks;
  std::vector<llvm::BasicBlock*> order;
  for (llvm::BasicBlock& block : *m_function) {
    number_of[&block] = blocks.size();
    order.push_back(&block);
    BlockSteps& steps = blocks.emplace_back();
    for (llvm::Instruction& instruction : block) {
      if (auto* store = llvm::dyn_cast<llvm::StoreInst>(&instruction)) {
        const auto slot = m_slot_of.find(store->getPointerOperand());
        if (slot == m_slot_of.end()) continue;
        steps.steps.push_back({Event::Write, slot->second});
        steps.written.set(slot->second);
      } else if (auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction)) {
        const llvm::Function* callee = call->getCalledFunction();
        if (!callee) continue;
        if (callee == m_spill_marker || callee == m_exit_marker) {
          steps.steps.push_back({Event::Spill, 0, call});
        } else if (const auto found = special.find(call); found != special.end()) {
          steps.steps.push_back({found->second, 0, call});
          if (found->second == Event::Synchronize) {
            steps.synchronizes = true;
            steps.written.reset();
          }
        } else if (const OpaqueKind kind = m_library.opaque(*callee).kind;
                   kind == OpaqueKind::Load || kind == OpaqueKind::Store || kind == OpaqueKind::Update) {
          steps.steps.push_back({Event::Opaque, 0, call});
        }
      }
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (usize i = 0; i < blocks.size(); ++i) {
      BlockSteps& block = blocks[i];
      SlotSet in;
      for (const llvm::BasicBlock* predecessor : llvm::predecessors(order[i])) in |= blocks[number_of[predecessor]].out;
      const SlotSet out = (block.written | (block.synchronizes ? SlotSet() : in)) & ~written_through;
      changed |= in != block.in || out != block.out;
      block.in = in;
      block.out = out;
    }
  }
  const auto list = [&](const SlotSet& set) {
    std::vector<u16> slots;
    for (usize i = 0; i < m_result.slots.size(); ++i)
      if (set.test(i)) slots.push_back(static_cast<u16>(i));
    return slots;
  };
  for (usize i = 0; i < blocks.size(); ++i) {
    BlockSteps& block = blocks[i];
    SlotSet now = block.in;
    for (const Step& step : block.steps) {
      switch (step.event) {
        case Event::Write: now.set(step.slot); break;
        case Event::Spill: {
          const llvm::Function* callee = step.call->getCalledFunction();
          store_slots(step.call, list(callee == m_exit_marker ? now & ~code_base : now));
          now &= ~written_through;
          if (callee == m_spill_marker || callee == m_exit_marker) step.call->eraseFromParent();
          break;
        }
        case Event::Synchronize:
          store_slots(step.call, list(now));
          if (!step.call->doesNotReturn()) reload_slots(step.call);
          now.reset();
          break;
        case Event::Opaque: {
          llvm::IRBuilder<> b(step.call);
          std::vector<llvm::Value*> values{b.getInt32(static_cast<u32>(m_result.spills.size()))};
          m_result.spills.push_back(list(now));
          for (const u16 slot : m_result.spills.back())
            values.push_back(b.CreateLoad(m_result.slots[slot].type, m_result.slots[slot].variable));
          std::vector<llvm::Value*> arguments(step.call->arg_begin(), step.call->arg_end());
          auto* replacement = b.CreateCall(step.call->getCalledFunction(), arguments, {llvm::OperandBundleDef(kStateBundle, values)});
          replacement->setDoesNotThrow();
          step.call->replaceAllUsesWith(replacement);
          step.call->eraseFromParent();
          break;
        }
      }
    }
    store_slots(last_of(*order[i]), list(now & written_through));
  }
  llvm::IRBuilder<> b(m_entry_end->getTerminator());
  for (const Slot& slot : m_result.slots) {
    llvm::Value* value;
    if (const auto constant = constant_slot(slot.offset)) value = number(*constant);
    else value = b.CreateAlignedLoad(slot.type, state_field(b, slot.offset), llvm::Align(slot.size));
    b.CreateStore(value, slot.variable);
  }
}

void fold_conditions(llvm::Function& function, SemanticsLibrary& library, Unknown unknown) {
  std::vector<llvm::CallInst*> calls;
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& instruction : block)
      if (auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction); call && call->getCalledFunction()) {
        const OpaqueKind kind = library.opaque(*call->getCalledFunction()).kind;
        if (kind == OpaqueKind::Condition || kind == OpaqueKind::Flags) calls.push_back(call);
      }
  for (llvm::CallInst* call : calls) {
    const bool condition = library.opaque(*call->getCalledFunction()).kind == OpaqueKind::Condition;
    const bool known = llvm::isa<llvm::ConstantInt>(call->getArgOperand(condition ? 1 : 0));
    if (call->use_empty()) {
      call->eraseFromParent();
    } else if (known || unknown == Unknown::Call) {
      call->setCalledFunction(condition ? library.condition_body() : library.flags_body());
      if (known) library.placer().replace(*call, function.getEntryBlock());
    }
  }
}

}  // namespace vellum
