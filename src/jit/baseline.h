// The baseline translator: a block's stencils, copied one behind the other and patched.
#pragma once

#include <memory>
#include <vector>

#include "cpu/translator.h"
#include "jit/code_cache.h"
#include "jit/glue.h"
#include "jit/statistics.h"
#include "jit/translation_observer.h"

namespace vellum {

// Host code of a block:
//   entry      charges the budget, and leaves where that does not cover the block
//   body       the instructions' stencils; one without a stencil jumps to its interpreter's handler, which comes back to
//              the next one's code through BoundInsn::handler
//   exits      to the successors; they find and link them when they are first used. On the same page a conditional branch leads to
//              the block by itself where it is taken and goes forward, and the exit for when it is not stands last, so that the
//              block behind it may follow without a jump. Those to other pages compare what they were linked for (jit/sites.h).
//              Those backward and to other pages count how often they were taken, if asked for: at their target (Block::heat)
//   return     behind a call: where the return comes in, an exit to the block behind the call
// Out of the way, on some hosts at the other end of the code cache's segment:
//   arrival    if blocks are counted: Block::jump_entry, for who does not count by itself. From here, or instead of coming here,
//              those who are counted go on at the entry, or where the block was redirected to
//   cold parts of the stencils
//   tails      of the exits: how they find successors on the same page, and the cold parts of the others
//   prepare    for those who come from outside: loads what stencils hand on, and goes to the arrival (Block::entry), the entry
//              (plain_entry()) or the first instruction
// Whether entries of blocks are counted, those by backward jumps, from other pages other than by returns, and through the jump cache.
enum class Counting : u8 {
  None,
  InPlace,  // *Block::heat, which must lie within 2 GiB of the code, is counted down, and whoever looks there sees it
  Handler,  // the counter, a handler, is run each time, and goes on at plain_entry()
};

class Baseline {
 public:
  Baseline(CodeCache& cache, Statistics& statistics, Counting counting, Handler counter = nullptr)
      : m_cache(cache), m_statistics(statistics), m_counting(counting), m_counter(counter) {}

  enum class Outcome : u8 {
    Translated,
    Full,     // no room in the code cache's segment
    TooLong,  // for any segment
  };
  // Sets entry, handlers and places of code. The handlers must be the interpreter's.
  Outcome translate(Block& block);
  // Leads an exit straight to its successor on the same page, once that is known; of sites, to where their successor is now entered.
  void link(Block& block, Way way);
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
  // Whoever is counted goes on at `target` (an address in the code cache or the program) instead, if by a link, once it is linked
  // again; with nullptr, in the block itself.
  void redirect(Block& block, const void* target);
  // Is told of every block translated from now on.
  void add_observer(std::shared_ptr<TranslationObserver> observer) { m_observers.push_back(std::move(observer)); }
  // Enters the block from anywhere, uncounted.
  const void* plain_entry(const Block& block) const;

  struct Piece;

 private:
  void put(Piece piece, u32 place);
  bool counts() const { return m_counting != Counting::None; }
  bool counts_in_place() const { return m_counting == Counting::InPlace; }
  const void* linked_entry(const Block& block) const;
  const void* counted_entry(const Block& block) const;
  const void* counted_target(const Block& block) const;
  u32 arrival_size() const;
  void put_arrival(const Block& block, const void* target = nullptr);
  u32 exit_tail(const Block& block, Way way) const;
  void put_tail(const Block& block, Way way, Piece piece);
  void lead(const Block& block, Way way, const void* to, const i32* heat);
  void lead_site(Glue which, u32 place, const void* to);
  static Piece enter_piece(const Block& block);
  u32 enter_cold(const Block& block) const;
  void open_return_site(Block& block);
  CodeCache& m_cache;
  Statistics& m_statistics;
  std::vector<std::shared_ptr<TranslationObserver>> m_observers;
  Counting m_counting;
  Handler m_counter;
};

}  // namespace vellum
