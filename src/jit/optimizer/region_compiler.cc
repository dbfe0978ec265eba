// Compiles regions with LLVM: lift, simplify, expand memory accesses, generate code, load it.
#include "jit/optimizer/region_compiler.h"

#include <fstream>
#include <ctime>
#include <mutex>

#include <llvm/Analysis/AssumptionCache.h>
#include <llvm/ExecutionEngine/RTDyldMemoryManager.h>
#include <llvm/ExecutionEngine/RuntimeDyld.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/SmallVectorMemoryBuffer.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include "jit/optimizer/host_code.h"
#include "jit/optimizer/host_symbols.h"
#include "jit/optimizer/lifter.h"
#include "jit/optimizer/memory_expansion.h"
#include "jit/optimizer/region_helpers.h"
#include "jit/optimizer/sinking.h"

namespace vellum {

namespace {

// CPU time of this thread: others share the machine.
u64 now_ns() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

// Loads an object's sections into CodeMemory and gives it the addresses of what it calls.
class Loader final : public llvm::RuntimeDyld::MemoryManager, public llvm::JITSymbolResolver {
 public:
  Loader(CodeMemory& memory, const llvm::StringMap<const void*>& symbols) : m_memory(memory), m_symbols(symbols) {}

  u8* allocateCodeSection(uintptr_t size, unsigned alignment, unsigned, llvm::StringRef) override {
    u8* section = take(size, alignment);
    if (size > m_code_size) {
      m_code = m_places.back().place.executable;
      m_code_size = size;
    }
    return section;
  }
  u8* allocateDataSection(uintptr_t size, unsigned alignment, unsigned, llvm::StringRef, bool) override {
    return take(size, alignment);
  }
  void registerEHFrames(u8*, u64, size_t) override {}
  void deregisterEHFrames() override {}
  bool finalizeMemory(std::string*) override { return false; }
  void notifyObjectLoaded(llvm::RuntimeDyld&, const llvm::object::ObjectFile&) override {}

  void lookup(const LookupSet& names, OnResolvedFunction resolved) override {
    LookupResult result;
    for (const llvm::StringRef name : names) {
      const auto found = m_symbols.find(name);
      if (found == m_symbols.end()) {
        resolved(llvm::make_error<llvm::StringError>("no function " + name, llvm::inconvertibleErrorCode()));
        return;
      }
      result[name] = llvm::JITEvaluatedSymbol(reinterpret_cast<u64>(found->second), llvm::JITSymbolFlags::Exported);
    }
    resolved(std::move(result));
  }
  llvm::Expected<LookupSet> getResponsibilitySet(const LookupSet& names) override { return names; }

  // Tells the linker where the sections will run.
  void place_sections(llvm::RuntimeDyld& linker) {
    for (const Section& section : m_places)
      linker.mapSectionAddress(section.place.writable, reinterpret_cast<u64>(section.place.executable));
  }
  void publish() {
    for (const Section& section : m_places) m_memory.publish(section.place, section.size);
  }
  bool exhausted() const { return m_exhausted; }
  const u8* code() const { return m_code; }
  usize code_size() const { return m_code_size; }

 private:
  u8* take(usize size, usize alignment) {
    const CodeMemory::Place place = m_memory.allocate(size, alignment ? alignment : 16);
    if (place.writable) {
      m_places.push_back({place, size});
      return place.writable;
    }
    m_exhausted = true;
    m_spare.push_back(std::make_unique<u8[]>(size + 64));  // so that the loader can finish; the result is thrown away
    m_places.push_back({{m_spare.back().get(), m_spare.back().get()}, 0});
    return m_spare.back().get();
  }

  struct Section {
    CodeMemory::Place place;
    usize size;
  };
  CodeMemory& m_memory;
  const llvm::StringMap<const void*>& m_symbols;
  std::vector<Section> m_places;
  const u8* m_code = nullptr;
  usize m_code_size = 0;
  bool m_exhausted = false;
  std::vector<std::unique_ptr<u8[]>> m_spare;
};

std::string text_of(const llvm::Function& function) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  function.print(stream);
  return text;
}

// LLVM has no other way to say these.
template <class T>
void set_option(llvm::StringRef name, T value) {
  auto& options = llvm::cl::getRegisteredOptions();
  if (const auto found = options.find(name); found != options.end()) static_cast<llvm::cl::opt<T>*>(found->second)->setValue(value);
}

// What of the code generator costs more time than its code saves; docs/performance.md has the figures.
void leave_out_passes() {
  set_option("disable-lsr", true);  // makes more values than registers can hold
  set_option("disable-x86-domain-reassignment", true);
  set_option("enable-misched", false);
}

constexpr unsigned kLiftAttempts = 16;

class Compiler final : public RegionCompiler {
 public:
  explicit Compiler(CodeMemory& memory) : m_memory(memory) {}
  std::expected<void, std::string> prepare(const RegionTarget& wanted);
  std::expected<CompiledRegion, std::string> compile(const Region& region) override;
  void dump_to(std::string directory) override { m_dump = std::move(directory); }
  void keep_texts(RegionTexts* texts) override { m_texts = texts; }

 private:
  void run(llvm::FunctionPassManager& passes, llvm::Function& function);
  std::expected<void, std::string> generate_with_llvm(llvm::Function& function, const Region& region, CompiledRegion& result);
  std::unique_ptr<llvm::Module> extract(llvm::Function& function);
  void write_dump(const llvm::Module& module, const llvm::SmallVectorImpl<char>& object);

  CodeMemory& m_memory;
  llvm::LLVMContext m_context;
  std::unique_ptr<SemanticsLibrary> m_library;
  std::unique_ptr<llvm::TargetMachine> m_target;
  llvm::LoopAnalysisManager m_loop_analyses;
  llvm::FunctionAnalysisManager m_function_analyses;
  llvm::CGSCCAnalysisManager m_scc_analyses;
  llvm::ModuleAnalysisManager m_module_analyses;
  llvm::FunctionPassManager m_before, m_after, m_before_quick, m_after_quick;
  llvm::StringMap<const void*> m_symbols;
  std::string m_dump;
  RegionTexts* m_texts = nullptr;
  CodeGenerator m_generator = CodeGenerator::Fitting;
  unsigned m_dumped = 0;
};

std::expected<void, std::string> Compiler::prepare(const RegionTarget& wanted) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser();  // the semantics have a few instructions without a builtin
    leave_out_passes();
  });
  auto library = SemanticsLibrary::load(m_context);
  if (!library) return std::unexpected(library.error());
  m_library = std::move(*library);

  const std::string triple = m_library->module().getTargetTriple();
  std::string error;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target) return std::unexpected(error);
  std::string cpu = wanted.cpu, features = wanted.features;
  m_generator = wanted.generator;
  const auto host_features = llvm::sys::getHostCPUFeatures();
  if (const char* lacking = host_code::lacks(host_features)) return std::unexpected(std::string("the optimizing translator needs a host with ") + lacking);
  if (cpu.empty()) {
    cpu = llvm::sys::getHostCPUName();
    for (const auto& feature : host_features)
      features += (features.empty() ? "" : ",") + std::string(feature.getValue() ? "+" : "-") + feature.getKey().str();
  }
  // The level below the default generates a sixth faster, and its code measured no slower.
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  m_target.reset(target->createTargetMachine(triple, cpu, features, options, llvm::Reloc::PIC_,
                                             llvm::CodeModel::Small, llvm::CodeGenOptLevel::Less, true));
  m_library->set_target(*m_target->getMCSubtargetInfo());

  llvm::PassBuilder builder(m_target.get());
  builder.registerModuleAnalyses(m_module_analyses);
  builder.registerCGSCCAnalyses(m_scc_analyses);
  builder.registerFunctionAnalyses(m_function_analyses);
  builder.registerLoopAnalyses(m_loop_analyses);
  builder.crossRegisterProxies(m_loop_analyses, m_function_analyses, m_scc_analyses, m_module_analyses);
  // What instcombine does more than instsimplify, the quick generator's selection does as well, but for a few percent of the code.
  const std::pair<llvm::FunctionPassManager*, const char*> pipelines[] = {
      {&m_before, "sroa<modify-cfg>,early-cse,instcombine<no-verify-fixpoint>,simplifycfg"},
      {&m_after, "instcombine<no-verify-fixpoint>,simplifycfg"},
      {&m_before_quick, "sroa<modify-cfg>,early-cse,instsimplify,simplifycfg"},
      {&m_after_quick, "instsimplify,simplifycfg"}};
  for (const auto& [passes, text] : pipelines)
    if (auto e = builder.parsePassPipeline(*passes, text)) return std::unexpected(llvm::toString(std::move(e)));
  for (usize i = 0; i < kSemanticsSymbolCount; ++i) m_symbols[kSemanticsSymbols[i].name] = kSemanticsSymbols[i].address;
  for (const auto& symbols : {region_helpers(), host_code::helpers()})
    for (const HostSymbol& symbol : symbols) m_symbols[symbol.name] = symbol.address;
  return {};
}

void Compiler::run(llvm::FunctionPassManager& passes, llvm::Function& function) {
  passes.run(function, m_function_analyses);
  m_function_analyses.clear();
}

// Floats that were put into vectors as integers: as above, in the vector's own register file.
void insert_floats(llvm::Function& function) {
  std::vector<llvm::InsertElementInst*> inserts;
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& instruction : block)
      if (auto* insert = llvm::dyn_cast<llvm::InsertElementInst>(&instruction); insert && insert->getType()->getElementType()->isIntegerTy(64) &&
          llvm::isa<llvm::ConstantInt>(insert->getOperand(2)))
        inserts.push_back(insert);
  for (llvm::InsertElementInst* insert : inserts) {
    llvm::IRBuilder<> b(insert);
    const unsigned count = llvm::cast<llvm::FixedVectorType>(insert->getType())->getNumElements();
    auto* vector = insert->getOperand(0);
    auto* value = insert->getOperand(1);
    u64 index = llvm::cast<llvm::ConstantInt>(insert->getOperand(2))->getZExtValue();
    auto* zero_extended = llvm::dyn_cast<llvm::ZExtInst>(value);
    const bool single = zero_extended && zero_extended->getSrcTy()->isIntegerTy(32) && llvm::isa<llvm::ConstantAggregateZero>(vector);
    if (zero_extended && !single) continue;
    llvm::Type* type = single ? b.getFloatTy() : b.getDoubleTy();
    if (single) value = zero_extended->getOperand(0), index *= 2;
    auto* floats = llvm::FixedVectorType::get(type, single ? 2 * count : count);
    auto* result = b.CreateInsertElement(b.CreateBitCast(vector, floats), b.CreateBitCast(value, type), index);
    insert->replaceAllUsesWith(b.CreateBitCast(result, insert->getType()));
    insert->eraseFromParent();
  }
}

// Values that merge as integers but are wanted as floats move between register files twice: lets them merge as floats.
void keep_floats(llvm::Function& function) {
  std::vector<llvm::PHINode*> phis;
  for (llvm::BasicBlock& block : function)
    for (llvm::PHINode& phi : block.phis())
      if (phi.getType()->isIntegerTy(64) || phi.getType()->isIntegerTy(32)) phis.push_back(&phi);
  for (llvm::PHINode* phi : phis) {
    llvm::Type* type = nullptr;
    for (const llvm::User* user : phi->users())
      if (const auto* cast = llvm::dyn_cast<llvm::BitCastInst>(user); cast && cast->getDestTy()->isFloatingPointTy()) type = cast->getDestTy();
    const bool from_float = llvm::any_of(phi->incoming_values(), [&](const llvm::Use& value) {
      const auto* cast = llvm::dyn_cast<llvm::BitCastInst>(value.get());
      return cast && cast->getSrcTy() == type;
    });
    if (!type || !from_float) continue;
    auto* replacement = llvm::PHINode::Create(type, phi->getNumIncomingValues(), "", phi->getIterator());
    for (unsigned i = 0; i < phi->getNumIncomingValues(); ++i) {
      llvm::Value* value = phi->getIncomingValue(i);
      auto* cast = llvm::dyn_cast<llvm::BitCastInst>(value);
      if (cast && cast->getSrcTy() == type) value = cast->getOperand(0);
      else value = llvm::IRBuilder<>(phi->getIncomingBlock(i)->getTerminator()).CreateBitCast(value, type);
      replacement->addIncoming(value, phi->getIncomingBlock(i));
    }
    for (llvm::User* user : llvm::make_early_inc_range(phi->users()))
      if (auto* cast = llvm::dyn_cast<llvm::BitCastInst>(user); cast && cast->getType() == type) {
        cast->replaceAllUsesWith(replacement);
        cast->eraseFromParent();
      }
    llvm::IRBuilder<> b(&*phi->getParent()->getFirstInsertionPt());
    phi->replaceAllUsesWith(b.CreateBitCast(replacement, phi->getType()));
    phi->eraseFromParent();
  }
}

// Moves the function into a module of its own, with declarations and constants that it uses.
std::unique_ptr<llvm::Module> Compiler::extract(llvm::Function& function) {
  auto module = std::make_unique<llvm::Module>("region", m_context);
  module->setDataLayout(m_library->module().getDataLayout());
  module->setTargetTriple(m_library->module().getTargetTriple());
  module->setPICLevel(llvm::PICLevel::SmallPIC);
  function.removeFromParent();
  module->getFunctionList().push_back(&function);
  const auto moved = [&](llvm::GlobalValue* global) -> llvm::Constant* {
    if (auto* callee = llvm::dyn_cast<llvm::Function>(global)) {
      auto* copy = llvm::cast<llvm::Function>(module->getOrInsertFunction(callee->getName(), callee->getFunctionType(), callee->getAttributes()).getCallee());
      copy->setDSOLocal(true);
      return copy;
    }
    auto* variable = llvm::cast<llvm::GlobalVariable>(global);
    if (llvm::GlobalVariable* known = module->getNamedGlobal(variable->getName()); known && variable->hasName()) return known;
    auto* copy = new llvm::GlobalVariable(*module, variable->getValueType(), true, llvm::GlobalValue::PrivateLinkage,
                                          variable->hasInitializer() ? variable->getInitializer() : nullptr, variable->getName());
    copy->setAlignment(variable->getAlign());
    return copy;
  };
  llvm::DenseMap<llvm::GlobalValue*, llvm::Constant*> known;
  const auto replacement = [&](llvm::GlobalValue* global) {
    llvm::Constant*& to = known[global];
    if (!to) to = moved(global);
    return to;
  };
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& instruction : block)
      for (llvm::Use& operand : instruction.operands()) {
        if (auto* global = llvm::dyn_cast<llvm::GlobalValue>(operand.get())) {
          if (global->getParent() != module.get()) operand.set(replacement(global));
        } else if (auto* expression = llvm::dyn_cast<llvm::ConstantExpr>(operand.get())) {
          // An address inside a table.
          for (const llvm::Use& inner : expression->operands())
            if (auto* global = llvm::dyn_cast<llvm::GlobalValue>(inner.get()); global && global->getParent() != module.get()) {
              llvm::SmallVector<llvm::Constant*, 4> operands;
              for (const llvm::Use& each : expression->operands())
                operands.push_back(each.get() == global ? replacement(global) : llvm::cast<llvm::Constant>(each.get()));
              operand.set(expression->getWithOperands(operands));
              break;
            }
        }
      }
  return module;
}

void Compiler::write_dump(const llvm::Module& module, const llvm::SmallVectorImpl<char>& object) {
  const std::string name = m_dump + "/region" + std::to_string(m_dumped++);
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  std::ofstream(name + ".ll") << text;
  std::ofstream(name + ".o", std::ios::binary).write(object.data(), static_cast<std::streamsize>(object.size()));
}

std::expected<CompiledRegion, std::string> Compiler::compile(const Region& region) {
  CompiledRegion result;
  RegionStatistics& statistics = result.statistics;
  for (const RegionBlock& block : region.blocks) statistics.instructions += block.count;

  m_context.setDiscardValueNames(!m_texts && m_dump.empty());
  const u64 start = now_ns();
  std::expected<LiftedRegion, std::string> lifted = std::unexpected("not tried");
  for (unsigned attempt = 0; attempt < kLiftAttempts && !lifted; ++attempt) lifted = Lifter(*m_library, region).lift();
  if (!lifted) return std::unexpected(lifted.error());
  llvm::Function& function = *lifted->function;
  if (m_texts) m_texts->lifted = text_of(function);
  const u64 lift_done = now_ns();

  const bool quick = kHasQuickGenerator && (m_generator == CodeGenerator::Quick || (m_generator == CodeGenerator::Fitting && !region.promoted));
  run(quick ? m_before_quick : m_before, function);
  insert_floats(function);
  keep_floats(function);
  fold_conditions(function, *m_library, Unknown::Call);
  const ExpansionCounts counts = expand_memory(*lifted, region, *m_library, m_function_analyses.getResult<llvm::LoopAnalysis>(function),
                                               m_function_analyses.getResult<llvm::ScalarEvolutionAnalysis>(function));
  m_function_analyses.clear();
  sink_into_cold_blocks(function);
  statistics.cached_pages = counts.cached_pages;
  statistics.accesses = counts.accesses;
  statistics.checks = counts.checks;
  run(quick ? m_after_quick : m_after, function);
  const u64 simplify_done = now_ns();
  if (m_texts) m_texts->optimized = text_of(function);

  statistics.quick = quick && host_code::generate_quickly(function, m_symbols, m_memory, result);
  if (statistics.quick) {
    function.eraseFromParent();
  } else {
    if (quick) run(m_after, function);  // LLVM knows everything
    if (auto done = generate_with_llvm(function, region, result); !done) return std::unexpected(done.error());
  }
  statistics.code_size = result.code_size;
  statistics.lift_ns = lift_done - start;
  statistics.simplify_ns = simplify_done - lift_done;
  statistics.generate_ns = now_ns() - simplify_done;
  return result;
}

std::expected<void, std::string> Compiler::generate_with_llvm(llvm::Function& function, const Region& region, CompiledRegion& result) {
  host_code::place_x87(function);
  const std::unique_ptr<llvm::Module> module = extract(function);
  llvm::SmallVector<char, 0> object;
  {
    // Options are the whole program's, and a second compiler may serve somebody who only looks at code.
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    // Selecting instructions one by one takes half the time, and is worth it where the region is not a small loop.
    set_option("fast-isel", region.is_small() ? llvm::cl::BOU_FALSE : llvm::cl::BOU_TRUE);
    llvm::raw_svector_ostream stream(object);
    llvm::legacy::PassManager passes;
    llvm::MCContext* context = nullptr;
    if (m_target->addPassesToEmitMC(passes, context, stream, true)) return std::unexpected("this host has no code generator");
    if (!m_dump.empty()) passes.add(llvm::createVerifierPass());
    passes.run(*module);
  }
  if (!m_dump.empty()) write_dump(*module, object);

  Loader loader(m_memory, m_symbols);
  llvm::RuntimeDyld linker(loader, loader);
  auto file = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(llvm::StringRef(object.data(), object.size()), "region"));
  if (!file) return std::unexpected(llvm::toString(file.takeError()));
  linker.loadObject(**file);
  if (loader.exhausted()) return std::unexpected("no room for code");
  loader.place_sections(linker);
  linker.resolveRelocations();
  if (linker.hasError()) return std::unexpected(linker.getErrorString().str());
  loader.publish();
  result.entry = reinterpret_cast<Handler>(linker.getSymbol("region").getAddress());
  result.code = loader.code();
  result.code_size = loader.code_size();
  return {};
}

}  // namespace

std::expected<std::unique_ptr<RegionCompiler>, std::string> RegionCompiler::create(CodeMemory& memory, const RegionTarget& target) {
  auto compiler = std::make_unique<Compiler>(memory);
  if (auto ready = compiler->prepare(target); !ready) return std::unexpected(ready.error());
  return compiler;
}

}  // namespace vellum
