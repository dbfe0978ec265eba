// Compiles regions with LLVM. One per compiling thread: it shares nothing with the virtual CPU but the memory for code.
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "jit/code_generator.h"
#include "jit/optimizer/region.h"

namespace vellum {

// Memory for code near the program's text, so that calls between the two reach. It may be written in one place and run in
// another.
class CodeMemory {
 public:
  struct Place {
    u8* writable = nullptr;  // nullptr: there is no room
    const u8* executable = nullptr;
  };
  virtual ~CodeMemory() = default;
  // May be called from any compiling thread. Alignment is at most 64.
  virtual Place allocate(usize size, usize alignment) = 0;
  // Whether there is room for another region.
  virtual bool has_room() { return true; }
  // The bytes are complete and may be run.
  virtual void publish(const Place& place, usize size) = 0;
};

// CPU time of each phase.
struct RegionStatistics {
  u64 lift_ns = 0, simplify_ns = 0, generate_ns = 0;
  unsigned instructions = 0, accesses = 0, checks = 0, cached_pages = 0;
  usize code_size = 0;  // bytes
  bool quick = false;   // the quick generator made it
};

struct CompiledRegion {
  Handler entry = nullptr;  // like Block::entry of the region's first block
  const u8* code = nullptr; // where it lies, apart from its constants
  usize code_size = 0;      // bytes
  RegionStatistics statistics;
};

// A region in LLVM's language, for people: as it was lifted, and as code is generated from it.
struct RegionTexts {
  std::string lifted, optimized;
};

// A CPU as LLVM names it, with its features ("+avx2,-sse4a"); empty: the host's own.
struct RegionTarget {
  std::string cpu, features;
  CodeGenerator generator = CodeGenerator::Fitting;
};

class RegionCompiler {
 public:
  static std::expected<std::unique_ptr<RegionCompiler>, std::string> create(CodeMemory& memory, const RegionTarget& target = {});
  virtual ~RegionCompiler() = default;
  virtual std::expected<CompiledRegion, std::string> compile(const Region& region) = 0;
  // For development: the code of later regions is also written to `directory` (objects and LLVM's text).
  virtual void dump_to(std::string directory) = 0;
  // Regions are also printed to `texts` from now on; nullptr: no longer.
  virtual void keep_texts(RegionTexts* texts) = 0;
};

}  // namespace vellum
