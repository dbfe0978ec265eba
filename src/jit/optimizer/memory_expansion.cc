// Turns opaque accesses to guest memory into a look into the software TLB and, out of the way, a helper's call.
#include "jit/optimizer/memory_expansion.h"

#include <llvm/Analysis/ScalarEvolutionExpressions.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/MDBuilder.h>
#include <llvm/IR/ValueHandle.h>
#include <llvm/Transforms/Utils/BasicBlockUtils.h>
#include <llvm/Transforms/Utils/PromoteMemToReg.h>

#include "cpu/interpreter/handlers.h"
#include "cpu/memory_order.h"
#include "cpu/state.h"

namespace vellum {

namespace {

using llvm::Value;

constexpr i64 kGroupSpan = 256;  // bytes: accesses off one base this close share a check

// A page that accesses likely to stay on it remember: kept in values, it needs no look into the TLB. Forgotten after every
// helper's call, as that may change permissions; nothing else does while a region runs.
constexpr unsigned kMaxCachedPages = 6;
constexpr i64 kSmallStep = 512;  // bytes per iteration: an address that steps so far stays on its page for a while

constexpr i64 kNearby = 1024;    // bytes between accesses off one base that share a cached page

// What a page cache holds before it is filled: no canonical address matches the tag, and if the guest hits it all the same it
// finds this memory.
alignas(4096) u8 nobodys_page[2 * kPageSize];
constexpr u64 kNobodysTag = 0x9d3a'57c1'6e2b'4000;

class MemoryExpansion {
 public:
  MemoryExpansion(LiftedRegion& region, const Region& source, const SemanticsLibrary& library, llvm::LoopInfo& loops,
                  llvm::ScalarEvolution& evolution);
  ExpansionCounts run();

 private:
  struct Access {
    llvm::CallInst* call;
    OpaqueKind kind;
    unsigned size;
    unsigned group = 0;
    i64 offset = 0;  // from the group's base
  };
  // Accesses of one block off one base.
  struct Group {
    llvm::WeakTrackingVH base;  // follows a base that is itself a load, when that is expanded
    i64 low, high;
    bool write = false, read = false;
    unsigned members = 0;
    Value* host = nullptr;  // of `low`, once its check has been made
    int page = -1;          // index into m_pages
  };
  struct CachedPage {
    Value* base;  // of the accesses; nullptr: the stack
    i64 offset;   // of the first access from there; those far from it are on another page
    bool write;
    unsigned groups = 0;
    llvm::AllocaInst *tag = nullptr, *addend = nullptr;  // linear address of the page; from there to the host's
  };
  struct Check {
    llvm::BasicBlock *fast, *slow;
    Value* host;  // in `fast`
  };

  void collect();
  void choose_pages();
  int page_for(const Group& group, const Access& access);
  void forget_pages(llvm::IRBuilder<>& b);
  void expand(Access& access);
  void expand_shared(Access& access);
  void replace_load(llvm::CallInst* call, Value* value);
  Check check(llvm::IRBuilder<>& b, Value* linear, u64 size, bool write, bool read, int page);
  Value* access_host(llvm::IRBuilder<>& b, const Access& access, Value* host);
  Value* ordered_access(llvm::IRBuilder<>& b, llvm::Type* type, Value* host, u64 size, Value* stored);
  Value* call_helper(llvm::IRBuilder<>& b, const Access& access);
  void store_state(llvm::IRBuilder<>& b, const llvm::CallInst& call);
  llvm::FunctionCallee helper(const char* name, llvm::Type* result, std::vector<llvm::Type*> arguments);
  void call_x87_helper(llvm::IRBuilder<>& b, const char* name);
  llvm::CallInst* call_cold(llvm::IRBuilder<>& b, const char* name, llvm::Type* result, std::vector<Value*> arguments);
  Value* field(llvm::IRBuilder<>& b, u64 offset) { return b.CreateConstInBoundsGEP1_64(m_i8, m_state, offset); }
  llvm::Constant* number(u64 value) { return llvm::ConstantInt::get(m_i64, value); }
  llvm::AllocaInst* buffer();
  // The type in which the access's value is wanted: a float where an integer would only be moved over.
  llvm::Type* wanted_type(const Access& access) const;

  LiftedRegion& m_region;
  const SemanticsLibrary& m_library;
  llvm::LoopInfo& m_loops;
  llvm::ScalarEvolution& m_evolution;
  llvm::DenseMap<u64, const BoundInsn*> m_insns;  // by the original's address
  llvm::DenseMap<u64, Handler> m_handlers;        // likewise: the interpreter's
  std::vector<CachedPage> m_pages;
  llvm::Function& m_function;
  llvm::LLVMContext& m_context;
  llvm::Module& m_module;
  bool m_small;  // Region::is_small()
  llvm::Type *m_i8, *m_i32, *m_i64, *m_pointer;
  Value* m_state;
  Value* m_tlb = nullptr;
  llvm::AllocaInst* m_buffer = nullptr;
  llvm::MDNode* m_likely;
  std::vector<Access> m_accesses;
  std::vector<Group> m_groups;
  ExpansionCounts m_counts;
};

MemoryExpansion::MemoryExpansion(LiftedRegion& region, const Region& source, const SemanticsLibrary& library,
                                 llvm::LoopInfo& loops, llvm::ScalarEvolution& evolution)
    : m_region(region), m_library(library), m_loops(loops), m_evolution(evolution), m_function(*region.function), m_context(m_function.getContext()),
      m_module(*m_function.getParent()), m_small(source.is_small()) {
  m_i8 = llvm::Type::getInt8Ty(m_context);
  m_i32 = llvm::Type::getInt32Ty(m_context);
  m_i64 = llvm::Type::getInt64Ty(m_context);
  m_pointer = llvm::PointerType::get(m_context, 0);
  m_state = m_function.getArg(0);
  m_likely = llvm::MDBuilder(m_context).createBranchWeights(100000, 1);
  for (const RegionBlock& block : source.blocks)
    for (u32 i = 0; i < block.count; ++i) {
      const u64 address = reinterpret_cast<u64>(block.original->insns + i);
      const BoundInsn& insn = block.insns[i];
      const RowHandlers& row = interpreter_row(insn.row);
      m_insns[address] = &insn;
      m_handlers[address] = block.variants[i] < std::size(row.variant) ? row.variant[block.variants[i]] : handler_of(insn);
    }
}

ExpansionCounts MemoryExpansion::run() {
  collect();
  if (m_accesses.empty()) return {};
  llvm::IRBuilder<> b(&*m_function.getEntryBlock().getFirstInsertionPt());
  m_tlb = b.CreateAlignedLoad(m_pointer, field(b, offsetof(CpuState, tlb)), llvm::Align(8));
  if (m_small) choose_pages();
  for (Access& access : m_accesses) {
    if (m_groups[access.group].members > 1) expand_shared(access);
    else expand(access);
  }
  if (!m_pages.empty()) {
    std::vector<llvm::AllocaInst*> variables;
    for (const CachedPage& page : m_pages) variables.insert(variables.end(), {page.tag, page.addend});
    llvm::DominatorTree dominators(m_function);
    llvm::PromoteMemToReg(variables, dominators);
  }
  m_counts.cached_pages = static_cast<unsigned>(m_pages.size());
  m_counts.accesses = static_cast<unsigned>(m_accesses.size());
  return m_counts;
}

// linear = base + offset
Value* split_address(Value* linear, i64& offset) {
  offset = 0;
  if (auto* constant = llvm::dyn_cast<llvm::ConstantInt>(linear)) {
    offset = constant->getSExtValue() & 4095;
    return llvm::ConstantInt::get(linear->getType(), static_cast<u64>(constant->getSExtValue() - offset));
  }
  // Pushes make chains of these.
  while (auto* operation = llvm::dyn_cast<llvm::BinaryOperator>(linear)) {
    auto* constant = llvm::dyn_cast<llvm::ConstantInt>(operation->getOperand(1));
    if (!constant || constant->getType() != linear->getType()) break;
    const bool sum = operation->getOpcode() == llvm::Instruction::Add ||
                     (operation->getOpcode() == llvm::Instruction::Or && llvm::cast<llvm::PossiblyDisjointInst>(operation)->isDisjoint());
    if (!sum && operation->getOpcode() != llvm::Instruction::Sub) break;
    offset += sum ? constant->getSExtValue() : -constant->getSExtValue();
    linear = operation->getOperand(0);
  }
  return linear;
}

void MemoryExpansion::collect() {
  for (llvm::BasicBlock& block : m_function) {
    const usize first_group = m_groups.size();
    for (llvm::Instruction& instruction : block) {
      auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction);
      if (!call || !call->getCalledFunction()) continue;
      const Opaque opaque = m_library.opaque(*call->getCalledFunction());
      if (opaque.kind != OpaqueKind::Load && opaque.kind != OpaqueKind::Store && opaque.kind != OpaqueKind::Update) continue;
      Access access{call, opaque.kind, opaque.size};
      Value* base = split_address(call->getArgOperand(2), access.offset);
      usize group = m_groups.size();
      if (opaque.kind != OpaqueKind::Update)
        for (usize i = m_groups.size(); i-- > first_group;)
          if (m_groups[i].base == base) {
            const i64 low = std::min(m_groups[i].low, access.offset), high = std::max(m_groups[i].high, access.offset + i64{opaque.size});
            if (high - low <= kGroupSpan) {
              group = i;
              m_groups[i].low = low;
              m_groups[i].high = high;
            }
            break;
          }
      if (group == m_groups.size()) m_groups.push_back({base, access.offset, access.offset + i64{opaque.size}});
      // An update has a check of its own, and nothing behind it joins it.
      if (opaque.kind == OpaqueKind::Update) m_groups[group].base = nullptr;
      m_groups[group].write |= opaque.kind == OpaqueKind::Store;
      m_groups[group].read |= opaque.kind == OpaqueKind::Load;
      ++m_groups[group].members;
      access.group = static_cast<unsigned>(group);
      m_accesses.push_back(access);
    }
  }
}

// Which cached page a group of accesses uses; -1: none.
int MemoryExpansion::page_for(const Group& group, const Access& access) {
  Value* linear = access.call->getArgOperand(2);
  bool stack = false;
  if (auto* address = llvm::dyn_cast<llvm::ConstantExpr>(access.call->getArgOperand(1)))
    if (auto* number = llvm::dyn_cast<llvm::ConstantInt>(address->getOperand(0)))
      if (const BoundInsn* insn = m_insns.lookup(number->getZExtValue())) stack = !insn->memory || insn->base == kRsp;
  const bool write = stack || group.write;
  Value* base = stack ? nullptr : static_cast<Value*>(group.base);
  const i64 offset = stack ? 0 : group.low;
  if (!stack) {
    const llvm::Loop* loop = m_loops.getLoopFor(access.call->getParent());
    if (!loop || !base) return -1;
    const llvm::SCEV* address = m_evolution.getSCEV(linear);
    if (!m_evolution.isLoopInvariant(address, loop)) {
      const auto* steps = llvm::dyn_cast<llvm::SCEVAddRecExpr>(address);
      if (!steps || steps->getLoop() != loop || !steps->isAffine()) return -1;
      const auto* step = llvm::dyn_cast<llvm::SCEVConstant>(steps->getStepRecurrence(m_evolution));
      if (!step || step->getAPInt().abs().ugt(kSmallStep)) return -1;
    }
  }
  for (usize i = 0; i < m_pages.size(); ++i)
    if (m_pages[i].base == base && m_pages[i].write == write && std::abs(m_pages[i].offset - offset) < kNearby) return static_cast<int>(i);
  if (m_pages.size() >= kMaxCachedPages) return -1;
  m_pages.push_back({base, offset, write});
  return static_cast<int>(m_pages.size()) - 1;
}

void MemoryExpansion::choose_pages() {
  for (const Access& access : m_accesses) {
    Group& group = m_groups[access.group];
    if (group.page >= 0 || access.kind == OpaqueKind::Update) continue;
    group.page = page_for(group, access);
    if (group.page >= 0) ++m_pages[static_cast<usize>(group.page)].groups;
  }
  llvm::IRBuilder<> b(&*m_function.getEntryBlock().getFirstInsertionPt());
  for (CachedPage& page : m_pages) {
    page.tag = b.CreateAlloca(m_i64);
    page.addend = b.CreateAlloca(m_i64);
    b.CreateStore(number(kNobodysTag), page.tag);
    b.CreateStore(number(reinterpret_cast<u64>(nobodys_page) - kNobodysTag), page.addend);
  }
}

void MemoryExpansion::forget_pages(llvm::IRBuilder<>& b) {
  for (const CachedPage& page : m_pages) {
    b.CreateStore(number(kNobodysTag), page.tag);
    b.CreateStore(number(reinterpret_cast<u64>(nobodys_page) - kNobodysTag), page.addend);
  }
}

MemoryExpansion::Check MemoryExpansion::check(llvm::IRBuilder<>& b, Value* linear, u64 size, bool write, bool read, int page) {
  ++m_counts.checks;
  static_assert(sizeof(TlbEntry) == 32);
  if (page >= 0) {
    const CachedPage& cached = m_pages[static_cast<usize>(page)];
    llvm::BasicBlock* here = b.GetInsertBlock();
    auto* fast = llvm::BasicBlock::Create(m_context, "fast", &m_function, here->getNextNode());
    auto* look = llvm::BasicBlock::Create(m_context, "look", &m_function);
    Value* x = b.CreateXor(linear, b.CreateLoad(m_i64, cached.tag));
    b.CreateCondBr(b.CreateICmpULE(x, number(kPageSize - size)), fast, look, llvm::MDBuilder(m_context).createBranchWeights(200, 1));
    b.SetInsertPoint(look);
    const Check full = check(b, linear, size, cached.write, true, -1);
    --m_counts.checks;
    b.SetInsertPoint(full.fast);
    Value* addend = b.CreateSub(b.CreatePtrToInt(full.host, m_i64), linear);
    b.CreateStore(b.CreateAnd(linear, number(~kPageMask)), cached.tag);
    b.CreateStore(addend, cached.addend);
    b.CreateBr(fast);
    b.SetInsertPoint(fast);
    return {fast, full.slow, b.CreateIntToPtr(b.CreateAdd(b.CreateLoad(m_i64, cached.addend), linear), m_pointer)};
  }
  Value* entry = b.CreateInBoundsGEP(m_i8, m_tlb, b.CreateAnd(b.CreateLShr(linear, kPageBits - 5), number((kTlbSize - 1) * sizeof(TlbEntry))));
  const auto tag_at = [&](u64 offset) {
    return b.CreateAlignedLoad(m_i64, offset ? b.CreateConstInBoundsGEP1_64(m_i8, entry, offset) : entry, llvm::Align(8));
  };
  Value* tag = tag_at(write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag));
  Value* x = b.CreateXor(linear, tag);
  Value* hit = b.CreateICmpULE(x, number(kPageSize - size));
  llvm::BasicBlock* here = b.GetInsertBlock();
  auto* fast = llvm::BasicBlock::Create(m_context, "fast", &m_function, here->getNextNode());
  auto* slow = llvm::BasicBlock::Create(m_context, "slow", &m_function);
  if (write && read) {
    auto* both = llvm::BasicBlock::Create(m_context, "both", &m_function, fast);
    b.CreateCondBr(hit, both, slow, m_likely);
    b.SetInsertPoint(both);
    b.CreateCondBr(b.CreateICmpEQ(tag_at(offsetof(TlbEntry, read_tag)), tag), fast, slow, m_likely);
  } else {
    b.CreateCondBr(hit, fast, slow, m_likely);
  }
  b.SetInsertPoint(fast);
  Value* host = b.CreateAlignedLoad(m_pointer, b.CreateConstInBoundsGEP1_64(m_i8, entry, offsetof(TlbEntry, host)), llvm::Align(8));
  return {fast, slow, b.CreateInBoundsGEP(m_i8, host, x)};
}

llvm::Type* MemoryExpansion::wanted_type(const Access& access) const {
  if (access.kind == OpaqueKind::Store) {
    Value* value = access.call->getArgOperand(3);
    if (auto* cast = llvm::dyn_cast<llvm::BitCastInst>(value)) return cast->getSrcTy();
    return value->getType();
  }
  llvm::Type* type = access.call->getType();
  for (const llvm::User* user : access.call->users())
    if (auto* cast = llvm::dyn_cast<llvm::BitCastInst>(user); cast && type->isIntegerTy() && cast->getDestTy()->isFloatingPointTy())
      return cast->getDestTy();
  return type;
}

Value* MemoryExpansion::access_host(llvm::IRBuilder<>& b, const Access& access, Value* host) {
  llvm::Type* type = wanted_type(access);
  if (access.kind == OpaqueKind::Load) {
    if (!kHostIsTso) return ordered_access(b, type, host, access.size, nullptr);
    return b.CreateAlignedLoad(type, host, llvm::Align(1));
  }
  Value* value = access.call->getArgOperand(3);
  if (type != value->getType()) value = llvm::cast<llvm::BitCastInst>(value)->getOperand(0);
  if (!kHostIsTso) return ordered_access(b, type, host, access.size, value);
  b.CreateAlignedStore(value, host, llvm::Align(1));
  return nullptr;
}

// ordered_load() and ordered_store() of cpu/memory_order.h, in front of an instruction. `stored`: nullptr for a load.
Value* MemoryExpansion::ordered_access(llvm::IRBuilder<>& b, llvm::Type* type, Value* host, u64 size, Value* stored) {
  if (stored && size <= 8 && type->isVectorTy()) {
    type = b.getIntNTy(static_cast<unsigned>(size * 8));
    stored = b.CreateBitCast(stored, type);
  }
  const auto single = [&](llvm::IRBuilder<>& at) -> Value* {
    if (stored) {
      at.CreateAlignedStore(stored, host, llvm::Align(size))->setAtomic(llvm::AtomicOrdering::Release);
      return nullptr;
    }
    llvm::LoadInst* load = at.CreateAlignedLoad(type, host, llvm::Align(size));
    load->setAtomic(llvm::AtomicOrdering::Acquire);
    return load;
  };
  const auto fenced = [&](llvm::IRBuilder<>& at) -> Value* {
    if (stored) {
      at.CreateFence(llvm::AtomicOrdering::Release);
      at.CreateAlignedStore(stored, host, llvm::Align(1));
      return nullptr;
    }
    Value* load = at.CreateAlignedLoad(type, host, llvm::Align(1));
    at.CreateFence(llvm::AtomicOrdering::Acquire);
    return load;
  };
  if (size == 1) return single(b);
  if (size > 8) return fenced(b);
  llvm::Instruction *aligned = nullptr, *unaligned = nullptr, *behind = &*b.GetInsertPoint();
  Value* low_bits = b.CreateAnd(b.CreatePtrToInt(host, m_i64), number(size - 1));
  llvm::SplitBlockAndInsertIfThenElse(b.CreateICmpEQ(low_bits, number(0)), behind, &aligned, &unaligned, m_likely);
  llvm::IRBuilder<> likely(aligned), unlikely(unaligned);
  Value* whole = single(likely);
  Value* parts = fenced(unlikely);
  b.SetInsertPoint(behind);
  if (stored) return nullptr;
  llvm::PHINode* value = llvm::IRBuilder<>(&behind->getParent()->front()).CreatePHI(type, 2);
  value->addIncoming(whole, aligned->getParent());
  value->addIncoming(parts, unaligned->getParent());
  return value;
}

llvm::AllocaInst* MemoryExpansion::buffer() {
  if (!m_buffer) {
    llvm::IRBuilder<> b(&*m_function.getEntryBlock().getFirstInsertionPt());
    m_buffer = b.CreateAlloca(llvm::FixedVectorType::get(m_i64, 4));
    m_buffer->setAlignment(llvm::Align(32));
  }
  return m_buffer;
}

llvm::CallInst* MemoryExpansion::call_cold(llvm::IRBuilder<>& b, const char* name, llvm::Type* result, std::vector<Value*> arguments) {
  // Not preserve_all: with AVX-512 hosts random programs lost vector registers and flags over such calls.
  std::vector<llvm::Type*> types;
  for (const Value* argument : arguments) types.push_back(argument->getType());
  const auto callee = m_module.getOrInsertFunction(name, llvm::FunctionType::get(result, types, false));
  llvm::CallInst* call = b.CreateCall(callee, arguments);
  call->setCallingConv(llvm::CallingConv::PreserveMost);
  call->addFnAttr(llvm::Attribute::Cold);
  call->setDoesNotThrow();
  return call;
}

void MemoryExpansion::store_state(llvm::IRBuilder<>& b, const llvm::CallInst& call) {
  const auto bundle = call.getOperandBundle(kStateBundle);
  const u64 id = llvm::cast<llvm::ConstantInt>(bundle->Inputs[0])->getZExtValue();
  const std::vector<u16>& slots = m_region.spills[id];
  for (usize i = 0; i < slots.size(); ++i) {
    const Slot& slot = m_region.slots[slots[i]];
    b.CreateAlignedStore(bundle->Inputs[i + 1].get(), field(b, slot.offset), llvm::Align(slot.size));
  }
}

void MemoryExpansion::call_x87_helper(llvm::IRBuilder<>& b, const char* name) {
  if (!m_region.x87_on_host) return;
  b.CreateCall(m_module.getOrInsertFunction(name, llvm::FunctionType::get(b.getVoidTy(), {m_pointer}, false)), {m_state})->setDoesNotThrow();
}

// The access by a helper, with its result in the wanted type.
Value* MemoryExpansion::call_helper(llvm::IRBuilder<>& b, const Access& access) {
  store_state(b, *access.call);
  call_x87_helper(b, "region_x87_leave");
  Value *insn = access.call->getArgOperand(1), *linear = access.call->getArgOperand(2);
  Value* size = b.getInt32(access.size);
  llvm::Type* type = wanted_type(access);
  if (access.kind == OpaqueKind::Update) return call_cold(b, "region_update", m_pointer, {m_state, insn, linear, size});
  if (access.kind == OpaqueKind::Load) {
    if (access.size > 8) {
      call_cold(b, "region_load_bytes", llvm::Type::getVoidTy(m_context), {m_state, insn, linear, size, buffer()});
      return b.CreateAlignedLoad(type, buffer(), llvm::Align(16));
    }
    Value* value = call_cold(b, "region_load", m_i64, {m_state, insn, linear, size});
    return b.CreateBitCast(b.CreateTrunc(value, b.getIntNTy(access.size * 8)), type);
  }
  Value* value = access.call->getArgOperand(3);
  if (access.size > 8) {
    b.CreateAlignedStore(value, buffer(), llvm::Align(16));
    call_cold(b, "region_store_bytes", llvm::Type::getVoidTy(m_context), {m_state, insn, linear, size, buffer()});
  } else {
    call_cold(b, "region_store", llvm::Type::getVoidTy(m_context), {m_state, insn, linear, size, b.CreateZExt(value, m_i64)});
  }
  return nullptr;
}

// Gives the users of a load its value, which may have the wanted type already.
void MemoryExpansion::replace_load(llvm::CallInst* call, Value* value) {
  if (value->getType() != call->getType()) {
    for (llvm::User* user : llvm::make_early_inc_range(call->users()))
      if (auto* cast = llvm::dyn_cast<llvm::BitCastInst>(user); cast && cast->getType() == value->getType()) {
        cast->replaceAllUsesWith(value);
        cast->eraseFromParent();
      }
    value = llvm::IRBuilder<>(call).CreateBitCast(value, call->getType());
  }
  call->replaceAllUsesWith(value);
}

// One of several accesses off one base. Where the page of them all is not to be had (it is not in the TLB even after a walk,
// or they are on two) the first one's instruction leaves the region.
void MemoryExpansion::expand_shared(Access& access) {
  llvm::CallInst* call = access.call;
  Group& group = m_groups[access.group];
  if (!group.host) {
    llvm::BasicBlock* here = call->getParent();
    llvm::BasicBlock* join = here->splitBasicBlock(call);
    here->getTerminator()->eraseFromParent();
    llvm::IRBuilder<> b(here);
    const u64 span = static_cast<u64>(group.high - group.low);
    Value* low = b.CreateAdd(group.base, number(static_cast<u64>(group.low)));
    const Check checked = check(b, low, span, group.write, group.read, group.page);
    b.CreateBr(join);

    llvm::IRBuilder<> cold(checked.slow);
    store_state(cold, *call);
    Value *insn = call->getArgOperand(1), *linear = call->getArgOperand(2);
    const u32 what = access.size | static_cast<u32>(span) << 8 | u32{access.kind == OpaqueKind::Store} << 30 | u32{group.write} << 31;
    call_x87_helper(cold, "region_x87_leave");
    Value* walked = call_cold(cold, "region_page", m_pointer, {m_state, insn, linear, low, cold.getInt32(what)});
    forget_pages(cold);
    auto* away = llvm::BasicBlock::Create(m_context, "away", &m_function);
    llvm::BasicBlock* back = join;
    llvm::BasicBlock* found = checked.slow;
    if (m_region.x87_on_host) {
      found = back = llvm::BasicBlock::Create(m_context, "back", &m_function);
      llvm::IRBuilder<> entering(back);
      call_x87_helper(entering, "region_x87_enter");
      entering.CreateBr(join);
    }
    cold.CreateCondBr(cold.CreateIsNotNull(walked), back, away);
    llvm::IRBuilder<> leave(away);
    const auto* address = llvm::cast<llvm::ConstantInt>(llvm::cast<llvm::ConstantExpr>(insn)->getOperand(0));
    Value* handler = llvm::ConstantExpr::getIntToPtr(number(reinterpret_cast<u64>(m_handlers.lookup(address->getZExtValue()))), m_pointer);
    auto* gone = leave.CreateCall(m_function.getFunctionType(), handler, {m_state, insn});
    gone->setCallingConv(llvm::CallingConv::PreserveNone);
    gone->setTailCallKind(llvm::CallInst::TCK_MustTail);
    leave.CreateRetVoid();

    llvm::PHINode* host = llvm::IRBuilder<>(&join->front()).CreatePHI(m_pointer, 2);
    host->addIncoming(checked.host, checked.fast);
    host->addIncoming(walked, found);
    group.host = host;
  }
  llvm::IRBuilder<> b(call);
  Value* host = group.host;
  if (access.offset != group.low) host = b.CreateConstInBoundsGEP1_64(m_i8, host, static_cast<u64>(access.offset - group.low));
  if (Value* value = access_host(b, access, host)) replace_load(call, value);
  call->eraseFromParent();
}

void MemoryExpansion::expand(Access& access) {
  llvm::CallInst* call = access.call;
  const Group& group = m_groups[access.group];
  llvm::BasicBlock* here = call->getParent();
  llvm::BasicBlock* join = here->splitBasicBlock(call);
  here->getTerminator()->eraseFromParent();
  llvm::IRBuilder<> b(here);
  const bool write = access.kind != OpaqueKind::Load, update = access.kind == OpaqueKind::Update;
  const Check checked = check(b, call->getArgOperand(2), access.size, write, update, group.page);
  b.SetInsertPoint(b.CreateBr(join));
  Value* fast_value = update ? checked.host : access_host(b, access, checked.host);
  llvm::BasicBlock* fast = b.GetInsertBlock();

  llvm::IRBuilder<> cold(checked.slow);
  Value* slow_value = call_helper(cold, access);
  call_x87_helper(cold, "region_x87_enter");
  forget_pages(cold);
  Value* slow_in_place = update ? cold.CreateIsNotNull(slow_value) : nullptr;
  cold.CreateBr(join);

  llvm::IRBuilder<> after(&join->front());
  if (update) {
    llvm::PHINode* phi = after.CreatePHI(m_pointer, 2);
    phi->addIncoming(fast_value, fast);
    // Whether it works in place is known on the fast path: only the slow one branches.
    auto* branch = llvm::dyn_cast<llvm::BranchInst>(join->getTerminator());
    auto* compare = branch && branch->isConditional() ? llvm::dyn_cast<llvm::ICmpInst>(branch->getCondition()) : nullptr;
    const bool direct = compare && compare->getOperand(0) == call && llvm::isa<llvm::ConstantPointerNull>(compare->getOperand(1)) &&
                        compare->hasOneUse() && compare->isEquality() && call->getNextNode() == compare && compare->getNextNode() == branch;
    if (direct) {
      const bool if_null = compare->getPredicate() == llvm::CmpInst::ICMP_EQ;
      llvm::BasicBlock *in_place = branch->getSuccessor(if_null ? 1 : 0), *split = branch->getSuccessor(if_null ? 0 : 1);
      split->replacePhiUsesWith(join, checked.slow);
      branch->eraseFromParent();
      compare->eraseFromParent();
      llvm::BranchInst::Create(in_place, join);
      checked.slow->getTerminator()->eraseFromParent();
      llvm::BranchInst::Create(join, split, slow_in_place, checked.slow);
    }
    phi->addIncoming(slow_value, checked.slow);
    call->replaceAllUsesWith(phi);
  } else if (fast_value) {
    llvm::PHINode* phi = after.CreatePHI(fast_value->getType(), 2);
    phi->addIncoming(fast_value, fast);
    phi->addIncoming(slow_value, checked.slow);
    replace_load(call, phi);
  }
  call->eraseFromParent();
}

}  // namespace

ExpansionCounts expand_memory(LiftedRegion& region, const Region& source, const SemanticsLibrary& library, llvm::LoopInfo& loops,
                              llvm::ScalarEvolution& evolution) {
  return MemoryExpansion(region, source, library, loops, evolution).run();
}

}  // namespace vellum
