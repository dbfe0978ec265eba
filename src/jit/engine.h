// The engines that run guest code, by the name that -engine gives them.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "cpu/cpu.h"
#include "jit/code_generator.h"
#include "jit/statistics.h"
#include "jit/translation_observer.h"
#include "state/error.h"

namespace vellum {

enum class Engine : u8 {
  Interpreter,
  Baseline,     // copy-and-patch, every block when it is first met
  Llvm,         // and every region after few entries by LLVM, while the guest waits
  Tiered,       // and hot regions by LLVM, in the background
};

// As -engine spells them, in the order of the enum.
std::span<const std::string_view> engine_names();

// The fastest that this host has.
Engine default_engine();

// On AArch64 several must lie within 128 MiB of the program.
#if defined(__x86_64__)
inline constexpr u64 kDefaultCodeCacheSize = u64{256} << 20;
#else
inline constexpr u64 kDefaultCodeCacheSize = u64{32} << 20;
#endif

// Whose code is made wrong on purpose.
enum class FaultedTier : u8 { Baseline, Region };

struct EngineOptions {
  Engine engine = default_engine();
  bool count_tiers = false;                  // instructions executed in regions, for -stats
  bool perf_map = false, jit_dump = false;   // files for perf; jit/perf_files.h
  std::vector<std::shared_ptr<TranslationObserver>> observers;  // are told of translated code; use_engine() adds its own
  u64 code_cache_size = kDefaultCodeCacheSize;  // bytes of host code; -tb-size
  u32 hot_entries = 0;                  // until a block is compiled by LLVM; 0: as the engine finds best, and when it pays
  CodeGenerator generator = CodeGenerator::Fitting;  // Llvm always has its own
  X87Code x87_code = X87Code::Fitting;
  // How often each instruction of a small region runs, on average, until LLVM compiles it again: then it would have gained about as
  // much as that costs, which is some 0.9 ms an instruction.
  u64 passes_until_promoted = 10'000'000;
  u64 inject_fault = 0;                 // the block, or region, of this number is translated wrongly; 0: none. See jit/fault_injection.h
  FaultedTier faulted_tier = FaultedTier::Baseline;
  u64 inject_delay = 0;                 // microseconds: the compiler's thread waits at random before and behind each region; for tests
  bool must_pay = false;                // of use_engine()'s choosing: see hot_entries
  bool wait_for_compiler = false;       // the guest stands still meanwhile (Llvm does so always)
};

// Gives the CPU its engine; it starts with an empty code cache. An error says why there is no memory for code.
Result<void> use_engine(Cpu& cpu, const EngineOptions& options);
// What its translator did; nullptr for the interpreter.
const Statistics* engine_statistics(Cpu& cpu);

}  // namespace vellum
