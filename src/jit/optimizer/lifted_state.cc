// The parts of CpuState that a region's instructions use, as values instead of memory, and where they must be in memory.
#include <algorithm>
#include <bitset>
#include <optional>

#include <llvm/IR/CFG.h>
#include <llvm/IR/IntrinsicInst.h>

#include "cpu/interpreter/handlers.h"
#include "jit/optimizer/lifter.h"

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
  constexpr u32 kFlagsBegin = offsetof(CpuState, flag_result), kFlagsEnd = offsetof(CpuState, flag_b) + 8;
  constexpr u32 kGprEnd = (kCodeBaseSlot + 1) * 8;
  if (offset < kGprEnd) return SlotShape{offset & ~7u, 8, offset / 8 == kZeroSlot};
  if (offset >= kExcessSlot * 8u && offset < (kAddressMaskSlot + 3) * 8u) return SlotShape{offset & ~7u, 8, true};
  if (offset == offsetof(CpuState, flag_operation)) return SlotShape{offset, 1, false};
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

// The x87 state is in memory while `call` runs, and where that leaves the region from there on.
void Lifter::bracket_x87(llvm::CallInst* call, bool leaves) {
  if (!m_result.x87_on_host) return;
  llvm::IRBuilder<> before(call);
  call_x87_helper(before, "region_x87_leave");
  if (leaves || call->doesNotReturn()) return;
  llvm::IRBuilder<> behind(call->getNextNode());
  call_x87_helper(behind, "region_x87_enter");
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
          bracket_x87(step.call, callee == m_spill_marker || callee == m_exit_marker);
          if (callee == m_spill_marker || callee == m_exit_marker) step.call->eraseFromParent();
          break;
        }
        case Event::Synchronize:
          store_slots(step.call, list(now));
          bracket_x87(step.call, false);
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
