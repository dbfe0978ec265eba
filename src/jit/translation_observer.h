// Who looks at translated code: logs, the files for perf, vellum translate.
#pragma once

#include <span>

#include "cpu/block.h"

namespace vellum {

// A piece of a block's host code. Offsets count bytes from the begin of BlockCode's parts.
struct CodePart {
  enum class Kind : u8 {
    Entry,
    Stencil,  // the instruction at `position`
    Handler,  // likewise: it runs its interpreter's handler
    Exit,     // a way to a successor
  };
  Kind kind;
  u8 position;          // of the instruction; of an exit: that of the instruction it belongs to
  const void* handler;  // Handler: where it goes; else nullptr
  u32 hot, hot_size;
  u32 cold, cold_size;
};

// A block's host code at the addresses where it runs: what runs often, and what is out of the way.
struct BlockCode {
  std::span<const u8> hot, cold;
  bool contains(u64 address) const {
    const auto in = [address](std::span<const u8> part) { return address - reinterpret_cast<u64>(part.data()) < part.size(); };
    return in(hot) || in(cold);
  }
};

class TranslationObserver {
 public:
  virtual ~TranslationObserver() = default;
  // `code` is all of the block's host code, as it is before any exit was linked.
  virtual void block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode& code) = 0;
  // Optimized code for these blocks, the first of them at `rip`, is about to be used.
  virtual void region_translated(u64 rip, std::span<Block* const> blocks, std::span<const u8> code) {}
  // The guest is about to overwrite bytes of the block, or somebody wants it made anew.
  virtual void block_overwritten(const Block& block) {}
};

}  // namespace vellum
