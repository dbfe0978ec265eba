// The baseline translator: a block's stencils, copied one behind the other and patched.
#pragma once

#include <memory>
#include <vector>

#include "cpu/translator.h"
#include "jit/code_cache.h"
#include "jit/statistics.h"
#include "jit/translation_observer.h"

namespace vellum {

// Host code of a block:
//   counting   if asked for; Block::jump_entry is here, or at the entry
//   entry      charges the budget, and leaves where that does not cover the block
//   body       the instructions' stencils; one without a stencil jumps to its interpreter's handler, which comes back to
//              the next one's code through BoundInsn::handler
//   exits      to the successors; they find and link them when they are first used. Those to other pages compare what they
//              were linked for (jit/sites.h)
//   return     behind a call: where the return comes in, an exit to the block behind the call
// Out of the way, on some hosts at the other end of the code cache's segment:
//   cold parts of the stencils
//   tails      of the exits: how they find successors on the same page, and the cold parts of the others
//   prepare    for those who come from outside: loads what stencils hand on, and goes to the counting (Block::entry), the entry
//              (plain_entry()) or the first instruction
class Baseline {
 public:
  // With `counts`, blocks count down *Block::heat when they are entered by a backward jump or through the jump cache, and
  // run `counts` when it gets to 0; that goes on at plain_entry().
  Baseline(CodeCache& cache, Statistics& statistics, Handler counts) : m_cache(cache), m_statistics(statistics), m_counts(counts) {}

  enum class Outcome : u8 {
    Translated,
    Full,     // no room in the code cache's segment
    TooLong,  // for any segment
  };
  // Sets entry, handlers and places of code. The handlers must be the interpreter's.
  Outcome translate(Block& block);
  // Puts a direct jump into the exits whose successor on the same page is known.
  void link(Block& block);
  // Likewise into an exit to another page, or a return's way in, for when the target's page lies so far from the block (or
  // where the return goes). False where there is no such exit or its stencil cannot tell.
  bool link_site(Block& from, Way way, const CpuState& s, u64 target, const Block& to);
  // The exit to a successor on the same page goes through the jump cache from now on.
  void pass_on(Block& block, Way way);
  // Its exit to the successor looks for it again.
  void unlink(Block& block, Way way);
  // Nobody gets past its entry any more, until it is opened again.
  void close(Block& block);
  void open(Block& block);
  // Whoever would be counted goes on at `target` (an address in the code cache or the program) instead; with nullptr, in
  // the block itself, uncounted.
  void redirect(Block& block, const void* target);
  // Is told of every block translated from now on.
  void add_observer(std::shared_ptr<TranslationObserver> observer) { m_observers.push_back(std::move(observer)); }
  // Enters the block from anywhere, uncounted.
  const void* plain_entry(const Block& block) const;

  struct Piece;

 private:
  void put(Piece piece, u32 place);
  Piece count_piece(const Block& block) const;
  const void* counted_entry(const Block& block) const;
  const void* linked_entry(const Block& block) const;
  u32 exit_tail(const Block& block, Way way) const;
  void put_tail(const Block& block, Way way, Piece piece);
  static Piece enter_piece(const Block& block);
  u32 enter_cold(const Block& block) const;
  void open_return_site(Block& block);
  CodeCache& m_cache;
  Statistics& m_statistics;
  std::vector<std::shared_ptr<TranslationObserver>> m_observers;
  Handler m_counts;
};

}  // namespace vellum
