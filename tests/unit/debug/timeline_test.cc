// Going back and forth in a run, and that everything is there as it was.
#include "debug/timeline.h"

#include <unistd.h>

#include "machine/snapshot.h"
#include "mini_pc.h"

using namespace vellum;
using vellum::test::MiniPc;

namespace {

constexpr Timeline::Limits kDense{.interval = 100'000, .most_overhead = 1e9};

}  // namespace

TEST_CASE("going back and on again leads to the same states, in each engine") {
  const auto engine = GENERATE(range(usize{0}, engine_names().size()));
  CAPTURE(engine_names()[engine]);
  MiniPc pc(ClockMode::Instructions, {.engine = static_cast<Engine>(engine), .hot_entries = 50});
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  std::map<u64, u64> hashes;
  for (const u64 count : {0, 1, 50'000, 123'456, 400'000, 777'777, 1'500'000}) {
    pc.machine->run_instructions(count - pc.now());
    hashes[count] = pc.machine->state_hash();
  }
  CHECK(pc.counter(MiniPc::kInterrupts) > 1);
  CHECK(timeline.snapshot_count() > 1);
  for (const u64 count : {777'777, 50'000, 1'500'000, 1, 400'000, 123'456, 0, 777'777}) {
    CAPTURE(count);
    REQUIRE(timeline.go_to(count));
    CHECK(timeline.now() == count);
    CHECK(pc.machine->state_hash() == hashes[count]);
  }
  CHECK(timeline.furthest() == 1'500'000);
}

TEST_CASE("every count near one in the past is reached, and each is the one before plus an instruction") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(600'000);
  std::vector<u64> backwards;
  for (u64 count = 600'000; count > 599'960; --count) {
    REQUIRE(timeline.go_to(count));
    backwards.push_back(pc.machine->state_hash());
  }
  MiniPc other;
  other.machine->run_instructions(599'961);
  for (usize i = backwards.size(); i-- > 0;) {
    CAPTURE(i);
    CHECK(other.machine->state_hash() == backwards[i]);
    other.machine->run_instructions(1);
  }
}

TEST_CASE("input comes again where it came, and what the guest sends is not sent twice") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(3'000'000);
  pc.type("AB");
  pc.machine->run_instructions(5'000'000);
  const u64 hash = pc.machine->state_hash();
  const auto sent = pc.line.sent;
  CHECK(pc.counter(MiniPc::kInput) != 0);
  REQUIRE(timeline.go_to(2'900'000));
  CHECK(pc.counter(MiniPc::kInput) == 0);
  CHECK(pc.line.can_receive() == 0);
  REQUIRE(timeline.go_to(8'000'000));
  CHECK(pc.machine->state_hash() == hash);
  CHECK(pc.line.sent == sent);
  pc.machine->run_instructions(2'000'000);
  CHECK(pc.line.sent.size() > sent.size());
  CHECK(pc.line.can_receive() > 0);
}

TEST_CASE("what was written to a disk is taken back and comes again") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  BlockDevice& disk = *pc.machine->board().inserted_media()[0];
  std::vector<u8> data(512, 0x55), read(512);
  pc.machine->run_instructions(250'000);
  // Not by the guest: going forwards does not bring it again.
  REQUIRE(disk.write(1024, data));
  pc.machine->run_instructions(250'000);
  REQUIRE(timeline.go_to(200'000));
  REQUIRE(disk.read(1024, read));
  CHECK(read == std::vector<u8>(512, 0));
  REQUIRE(timeline.go_to(500'000));
}

TEST_CASE("the last place where something happens is found") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(4'000'000);
  const u32 interrupts = pc.counter(MiniPc::kInterrupts);
  REQUIRE(interrupts > 2);
  const auto changes = [&](u64 limit, Timeline::Start) -> std::optional<u64> {
    const u32 before = pc.counter(MiniPc::kInterrupts);
    while (pc.now() < limit) {
      pc.machine->run_instructions(1);
      if (pc.counter(MiniPc::kInterrupts) != before && pc.now() < limit) return pc.now();
    }
    return std::nullopt;
  };
  auto place = timeline.find_last(changes);
  REQUIRE(place);
  REQUIRE(*place);
  CHECK(pc.now() == **place);
  CHECK(pc.counter(MiniPc::kInterrupts) == interrupts);
  REQUIRE(timeline.go_to(**place - 1));
  CHECK(pc.counter(MiniPc::kInterrupts) == interrupts - 1);
  auto nothing = timeline.find_last([&](u64 limit, Timeline::Start) { return pc.machine->run_instructions(limit - pc.now()), std::optional<u64>(); });
  REQUIRE(nothing);
  CHECK(!*nothing);
  CHECK(pc.now() == timeline.earliest());
}

TEST_CASE("memory stays within its bound, and what is kept stays right") {
  MiniPc pc;
  MiniPc other;
  Timeline timeline(*pc.machine, {.memory = 60 * kPageSize, .interval = 20'000, .most_overhead = 1e9});
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(3'000'000);
  CHECK(timeline.memory_used() <= 60 * kPageSize);
  CHECK(timeline.snapshot_count() > 3);
  const u64 early = timeline.earliest();
  REQUIRE(timeline.go_to(early + 1000));
  other.machine->run_instructions(early + 1000);
  CHECK(pc.machine->state_hash() == other.machine->state_hash());
  REQUIRE(timeline.go_to(2'345'678));
  other.machine->run_instructions(2'345'678 - other.now());
  CHECK(pc.machine->state_hash() == other.machine->state_hash());
}

TEST_CASE("a change by the user is kept for what follows and does not reach into the past") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(500'000);
  REQUIRE(timeline.go_to(250'000));
  pc.machine->memory().write_value<u32>(GuestPhysAddr(0x8000), 0xabcd);
  REQUIRE(timeline.branch());
  CHECK(timeline.furthest() == 250'000);
  pc.machine->run_instructions(300'000);
  CHECK(pc.counter(0x8000) == 0xabcd);
  REQUIRE(timeline.go_to(249'999));
  CHECK(pc.counter(0x8000) == 0);
  REQUIRE(timeline.go_to(250'001));
  CHECK(pc.counter(0x8000) == 0xabcd);
}

TEST_CASE("who cannot go back is told why") {
  MiniPc real_time(ClockMode::Realtime);
  Timeline timeline(*real_time.machine);
  const auto enabled = timeline.enable();
  REQUIRE(!enabled);
  CHECK(enabled.error().message.contains("-clock instructions"));

  MiniPc written(ClockMode::Instructions, {.engine = Engine::Interpreter}, false);
  Timeline other(*written.machine);
  const auto no_overlay = other.enable();
  REQUIRE(!no_overlay);
  CHECK(no_overlay.error().message.contains("-snapshot"));

  MiniPc pc;
  Timeline late(*pc.machine);
  pc.machine->run_instructions(100);
  REQUIRE(late.enable());
  CHECK(late.go_to(99).error().message.contains("before the first"));
}

TEST_CASE("after another state was loaded from a file, going back ends there") {
  MiniPc pc;
  Timeline timeline(*pc.machine, kDense);
  REQUIRE(timeline.enable());
  pc.machine->run_instructions(300'000);
  const std::string path = "/tmp/vellum-timeline-test-" + std::to_string(getpid());
  REQUIRE(save_snapshot(*pc.machine, path));
  pc.machine->run_instructions(300'000);
  REQUIRE(load_snapshot(*pc.machine, path));
  unlink(path.c_str());
  REQUIRE(!timeline.go_to(299'999));
  CHECK(timeline.earliest() == 300'000);
  pc.machine->run_instructions(250'000);
  const u64 hash = pc.machine->state_hash();
  REQUIRE(timeline.go_to(400'000));
  REQUIRE(timeline.go_to(550'000));
  CHECK(pc.machine->state_hash() == hash);
}
