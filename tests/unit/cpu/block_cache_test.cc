// What happens to blocks when their bytes are overwritten, come back, or when memory is used up.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <string>

#include "cpu/block_cache.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/jump_cache.h"
#include "cpu/translator.h"

using namespace vellum;

namespace {

// Writes down what it is told.
class Listener final : public Translator {
 public:
  void block_made(Block&) override {}
  void block_linked(Block&, Way) override { told += "linked "; }
  void block_unlinked(Block&, Way way) override { told += way == Way::Taken ? "unlinked-taken " : "unlinked-next "; }
  void way_refused(Block&, Way) override {}
  void block_stale(Block&) override { ++stale; }
  void block_revived(Block&) override { told += "revived "; }
  void segment_evicted(unsigned segment) override { told += "segment-" + std::to_string(segment) + " "; }
  void blocks_cleared() override { told += "cleared "; }
  void site_found(const BoundInsn*, Way, u64, Block&) override {}
  void block_entered(Block&, u64) override {}
  void attend() override {}
  bool shares_code(const Block&, const Block&) const override { return false; }
  std::string told;
  unsigned stale = 0;
};

constexpr u64 kPlace = 0x3040;
constexpr u32 kMode = 7;

struct Fixture {
  Fixture() : ram(std::move(*GuestRam::create(1 << 20))), blocks(*ram) { blocks.set_translator(&listener); }
  // A block of one instruction of `length` bytes, which are in memory already.
  Block* make(u64 place, u16 length = 4, u32 mode = kMode) {
    Block* block = blocks.allocate(place, mode, 1, length);
    if (!block) return nullptr;
    block->count = block->real_count = 1;
    block->byte_length = length;
    block->crosses_page = false;
    for (unsigned i = 0; i < 2; ++i) block->insns[i] = BoundInsn{}, block->insns[i].position = i & 63, set_handler(block->insns[i], interpreter_callout);
    std::memcpy(block->bytes(), ram->host(place), length);
    blocks.make_current(*block);
    return block;
  }
  // As the guest does: the cache is told first.
  void write(u64 place, u32 value) {
    blocks.written(place, 4);
    std::memcpy(ram->host(place), &value, 4);
  }
  bool holds_code(u64 place) const { return ram->flags(place) & kPageHoldsCode; }

  std::unique_ptr<GuestRam> ram;
  BlockCache blocks;
  Listener listener;
};

}  // namespace

TEST_CASE("a block whose bytes are written back is the same block again, with its handlers") {
  Fixture f;
  f.write(kPlace, 1);
  Block* block = f.make(kPlace);
  f.write(kPlace, 2);
  CHECK(f.blocks.find(kPlace, kMode) == nullptr);
  CHECK(f.blocks.find_stale(kPlace, kMode) == nullptr);
  CHECK(handler_of(block->insns[0]) == leave_stale_block);
  f.write(kPlace, 1);
  REQUIRE(f.blocks.find_stale(kPlace, kMode) == block);
  f.blocks.make_current(*block);
  CHECK(f.blocks.find(kPlace, kMode) == block);
  CHECK(block->count == 1);
  CHECK(handler_of(block->insns[0]) == interpreter_callout);
  CHECK(f.listener.told == "revived ");
  CHECK(f.blocks.invalidated() == 1);
  CHECK(f.blocks.revived() == 1);
}

TEST_CASE("a revived block is invalidated by the next write as any other") {
  Fixture f;
  Block* block = f.make(kPlace);
  f.write(kPlace, 0);
  f.blocks.make_current(*block);
  f.write(kPlace + 2, 0);
  CHECK(f.blocks.find(kPlace, kMode) == nullptr);
  CHECK(f.listener.stale == 2);
}

TEST_CASE("a block of another mode is not revived") {
  Fixture f;
  f.make(kPlace);
  f.write(kPlace, 0);
  CHECK(f.blocks.find_stale(kPlace, kMode + 1) == nullptr);
}

TEST_CASE("several versions of one place are known at once") {
  Fixture f;
  Block* versions[3];
  for (u32 value = 0; value < 3; ++value) f.write(kPlace, value), versions[value] = f.make(kPlace);
  CHECK(versions[2]->rewrites == 2);
  for (u32 value = 0; value < 3; ++value) {
    f.write(kPlace, value);
    REQUIRE(f.blocks.find_stale(kPlace, kMode) == versions[value]);
    f.blocks.make_current(*versions[value]);
  }
}

TEST_CASE("code that is different every time needs no more memory") {
  Fixture f;
  for (u32 value = 0; value < 10; ++value) f.write(kPlace, value), f.make(kPlace);
  const u64 used = f.blocks.bytes_used();
  for (u32 value = 10; value < 1000; ++value) f.write(kPlace, value), f.make(kPlace);
  CHECK(f.blocks.bytes_used() == used);
}

TEST_CASE("a forgotten block does not come back") {
  Fixture f;
  f.make(kPlace);
  f.blocks.forget(kPlace + 3);
  CHECK(f.blocks.find(kPlace, kMode) == nullptr);
  CHECK(f.blocks.find_stale(kPlace, kMode) == nullptr);
}

TEST_CASE("writes beside the code leave it alone, in its own 64 bytes too") {
  Fixture f;
  Block* block = f.make(kPlace + 8, 8);
  f.write(kPlace + 4, 1);
  f.write(kPlace + 16, 1);
  f.write(kPlace + 0x200, 1);
  CHECK(f.blocks.find(kPlace + 8, kMode) == block);
  CHECK(f.holds_code(kPlace));
}

TEST_CASE("a block that begins many bytes before the write is found") {
  Fixture f;
  f.make(kPlace, 700);
  f.write(kPlace + 696, 1);
  CHECK(f.blocks.find(kPlace, kMode) == nullptr);
}

TEST_CASE("a page without code is written freely, and one whose code comes and goes is watched") {
  Fixture f;
  f.make(kPlace);
  f.write(kPlace, 1);
  CHECK_FALSE(f.holds_code(kPlace));
  for (u32 value = 2; value < 2000; ++value) f.make(kPlace), f.write(kPlace, value);
  CHECK(f.holds_code(kPlace));
  for (u32 value = 0; value < 300; ++value) f.write(kPlace, value);
  CHECK_FALSE(f.holds_code(kPlace));
}

TEST_CASE("links to an overwritten block stay until another takes its place") {
  Fixture f;
  Block* from = f.make(kPlace);
  Block* to = f.make(kPlace + 0x40);
  f.blocks.link(*from, Way::Taken, *to);
  f.write(kPlace + 0x40, 1);
  CHECK(from->taken == to);
  f.make(kPlace + 0x40);
  CHECK(from->taken == nullptr);
  CHECK(f.listener.told == "linked unlinked-taken ");
}

TEST_CASE("the oldest segment is evicted, and what was linked to it looks anew") {
  Fixture f;
  f.blocks.set_segments(2);
  Block* old = f.make(kPlace);
  u64 place = 0x4000;
  u64 made = 1;
  while (f.make(place, 16)) place = place + 16 < (1 << 20) - 16 ? place + 16 : 0x4000, ++made;
  f.blocks.evict();  // the second segment, which is empty
  CHECK(f.blocks.evicted() == 0);
  CHECK(f.blocks.find(kPlace, kMode) == old);
  Block* young = f.make(kPlace + 0x40);
  f.blocks.link(*young, Way::Next, *old);
  f.blocks.link(*old, Way::Taken, *young);
  f.listener.told.clear();
  f.blocks.evict();
  CHECK(f.blocks.evicting(old));
  CHECK_FALSE(f.blocks.evicting(young));
  CHECK(f.blocks.evicted() == made);
  CHECK(f.blocks.find(kPlace, kMode) == nullptr);
  CHECK(f.blocks.find_stale(kPlace, kMode) == nullptr);
  CHECK(f.blocks.find(kPlace + 0x40, kMode) == young);
  CHECK(young->next == nullptr);
  CHECK(young->linkers == 0);
  CHECK(f.listener.told == "unlinked-next segment-0 ");
  CHECK(f.make(0x5000) != nullptr);
}

// A function that begins with PUSHF or CLI: the block behind that callout begins one byte on, and both are looked up at each call.
TEST_CASE("targets a byte or two apart do not take each other's place in the jump cache") {
  for (const u64 rip : {u64{0x1000}, u64{0xffffffff81a45ff0}, u64{0x7f0123456782}})
    for (u64 distance = 1; distance <= 16; ++distance) {
      CAPTURE(rip, distance);
      CHECK(jump_cache_slot(rip) != jump_cache_slot(rip + distance));
    }
}
