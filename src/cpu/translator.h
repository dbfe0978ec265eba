// What a translating engine is told about decoded blocks. It gives them host code by setting Block::entry and the handlers
// of their instructions; the interpreter runs whatever has none.
#pragma once

#include "cpu/block.h"

namespace vellum {

class Translator {
 public:
  virtual ~Translator() = default;
  // A block was decoded and entered into the cache; its handlers are the interpreter's.
  virtual void block_made(Block& block) = 0;
  // A link to a successor on the same page was set (Block::taken or Block::next), or any link leads to other host code now.
  virtual void block_linked(Block& block, Way way) = 0;
  // A link was taken back (it is nullptr again): the way out must not go there any more.
  virtual void block_unlinked(Block& block, Way way) = 0;
  // A way to a successor on the same page that is never linked.
  virtual void way_refused(Block& block, Way way) = 0;
  // Its bytes are about to be overwritten, or it is being evicted: its code must not be entered again.
  virtual void block_stale(Block& block) = 0;
  // Its bytes are back, with its handlers and links: its code may be entered again. Comes only between blocks.
  virtual void block_revived(Block& block) = 0;
  // All blocks of the segment (BlockCache::segment()) are gone, and new ones come there. Comes only between blocks.
  virtual void segment_evicted(unsigned segment) = 0;
  // All blocks are gone. Comes only between blocks.
  virtual void blocks_cleared() = 0;
  // The run loop has found what a way to another page leads to; CpuState::code_base is still that of the block that it leaves.
  virtual void site_found(const BoundInsn* insn, Way way, u64 target, Block& to) = 0;
  // The run loop enters a block while kAttentionTrace is set.
  virtual void block_entered(Block& block, u64 rip) = 0;
  // The run loop saw kAttentionTranslator.
  virtual void attend() = 0;
  // Whether host code that runs for `running` was made from bytes of `written` too.
  virtual bool shares_code(const Block& running, const Block& written) const = 0;
};

}  // namespace vellum
