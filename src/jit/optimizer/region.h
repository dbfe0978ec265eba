// What the optimizing translator compiles: blocks that run one after another often, and how control goes between them.
#pragma once

#include <vector>

#include "cpu/block.h"
#include "jit/code_generator.h"

namespace vellum {

struct RegionBlock {
  const Block* original = nullptr;  // only its address matters: helpers find the running instruction by it
  i64 delta = 0;                    // this block's RIP minus the entry block's
  std::vector<BoundInsn> insns;     // its instructions and the terminator, with the interpreter's handlers
  std::vector<u8> variants;         // by position: handler_index(), or kNoVariant
  u32 count = 0;                    // instructions
  int taken = -1, next = -1;        // successors inside the region, by index; -1: none
  std::vector<int> indirect;        // where an indirect transfer at the end may go inside the region, the likeliest first
  u32 taken_weight = 0, next_weight = 0;  // how often each way was seen to be gone
};

// Where a region on several pages was last found to be mapped as it was when it was chosen.
struct RegionValidity {
  u64 key = ~u64{0};  // CpuState::jump_key of the entry block's half
  u64 rip = 0;        // of the entry block
};

struct Region {
  std::vector<RegionBlock> blocks;  // the first is the entry
  // Where the x87 registers are used: which is at the top, and which are not empty (X87State::valid). With others the region
  // does not run. Whoever only wants to look at code finds half of them in use.
  u8 x87_top = 0, x87_valid = 0x0f;
  X87Code x87_code = X87Code::Fitting;
  // Enters the entry block some other way, like Block::entry: where the region cannot run.
  Handler fallback = nullptr;
  // Unless nullptr: the region runs only under this key and at this RIP. Otherwise it goes on in `revalidate`, which may set
  // them and enter the region again.
  const RegionValidity* validity = nullptr;
  Handler revalidate = nullptr;
  // Unless nullptr: counts how often the run loop took over at a loop head, as it does when a slice of time is over. `interrupted`
  // is told so then, with the state complete, and returns to the run loop.
  u64* interruptions = nullptr;
  Handler interrupted = nullptr;
  bool promoted = false;  // it runs so long that the best code is worth its price
  // Where the instructions that run in it are counted, if anywhere; a block's all when it is entered.
  u64* executed = nullptr;

  unsigned instructions() const {
    unsigned count = 0;
    for (const RegionBlock& block : blocks) count += block.count;
    return count;
  }
  // Few enough that values may stay out of memory until the region is left, and pages be remembered. In larger regions
  // such values only wait in the stack frame, and every place that must write them back costs time to compile.
  bool is_small() const { return instructions() <= 32; }
};

}  // namespace vellum
