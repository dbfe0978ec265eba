// Recorded runs, played again: equal states at the end under every engine, and clear words when they are not or the file is damaged.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "machine/journal_file.h"
#include "mini_pc.h"
#include "temporary_file.h"

using namespace vellum;
using vellum::test::MiniPc;
using vellum::test::TemporaryFile;

namespace {

// A run of some milliseconds with input in it; returns the hash of its end.
u64 record(const std::string& path, ClockMode clock) {
  MiniPc pc(clock);
  pc.machine->seed_random(42);
  auto file = JournalFile::create(path, "test");
  REQUIRE(file);
  pc.machine->inputs().keep_in(std::move(*file));
  pc.machine->run_instructions(2'000'000);
  pc.type("hello");
  pc.machine->board().key(KeyCode::A, true);
  pc.machine->run_instructions(3'000'000);
  pc.machine->board().key(KeyCode::A, false);
  pc.type("world");
  pc.machine->run_instructions(3'000'000);
  CHECK(pc.counter(MiniPc::kInput) != 0);
  pc.machine->request_end(7);
  const u64 hash = pc.machine->state_hash();
  CHECK(pc.machine->finish_journal() == std::nullopt);
  return hash;
}

struct Replay {
  explicit Replay(const std::string& path, ClockMode clock, EngineOptions engine = {.engine = Engine::Interpreter}) : pc(clock, engine) {
    auto journal = read_journal(path);
    REQUIRE(journal);
    CHECK(journal->header == "test");
    pc.machine->seed_random(42);
    REQUIRE(pc.machine->inputs().play(std::move(journal->events), pc.machine->inputs().port_names()));
  }
  int run() {
    pc.machine->start();
    return pc.machine->run();
  }
  MiniPc pc;
};

}  // namespace

TEST_CASE("a recorded run ends in the same state when it is played, in each engine and with each clock") {
  const auto clock = GENERATE(ClockMode::Instructions, ClockMode::Paced);
  TemporaryFile file;
  const u64 hash = record(file.path, clock);
  for (usize i = 0; i < engine_names().size(); ++i) {
    CAPTURE(engine_names()[i]);
    Replay replay(file.path, clock, {.engine = static_cast<Engine>(i)});
    CHECK(replay.run() == 7);
    CHECK(replay.pc.now() == 8'000'000);
    CHECK(replay.pc.machine->state_hash() == hash);
    REQUIRE(replay.pc.machine->replay_end());
    CHECK(!replay.pc.machine->replay_end()->departed);
  }
}

TEST_CASE("input of the host does nothing while a recording is played") {
  TemporaryFile file;
  record(file.path, ClockMode::Instructions);
  Replay replay(file.path, ClockMode::Instructions);
  replay.pc.machine->run_instructions(1'000'000);
  CHECK(replay.pc.line.can_receive() == 0);
  replay.pc.machine->board().key(KeyCode::B, true);
  CHECK(replay.run() == 7);
  CHECK(!replay.pc.machine->replay_end()->departed);
}

TEST_CASE("a run that is not the one that was recorded is noticed, and the place is named") {
  TemporaryFile file;
  record(file.path, ClockMode::Paced);
  Replay replay(file.path, ClockMode::Paced);
  replay.pc.machine->run_instructions(4'000'000);
  // As if a translation had gone wrong.
  replay.pc.machine->memory().write_value<u32>(GuestPhysAddr(MiniPc::kLoops), 12345);
  replay.run();
  REQUIRE(replay.pc.machine->replay_end());
  CHECK(replay.pc.machine->replay_end()->departed);
  CHECK(replay.pc.machine->replay_end()->message.contains("after "));
  // At the end at the latest: how often a run is looked at that follows the host depends on how fast that is.
  CHECK(replay.pc.now() <= 8'000'000);
}

TEST_CASE("a recording that was cut off anywhere plays up to there or says that nothing is in it") {
  TemporaryFile file;
  record(file.path, ClockMode::Instructions);
  const auto whole = file.contents();
  for (usize size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    file.set({whole.begin(), whole.begin() + static_cast<long>(size)});
    const auto journal = read_journal(file.path);
    if (!journal) {
      CHECK(journal.error().message.contains(file.path));
      continue;
    }
    CHECK(journal->header == "test");
  }
  file.set({whole.begin(), whole.end() - 1});
  Replay replay(file.path, ClockMode::Instructions);
  CHECK(replay.run() == 0);
  CHECK(replay.pc.machine->replay_end()->message.contains("killed"));
}

TEST_CASE("each damaged byte of a recording is noticed") {
  TemporaryFile file;
  record(file.path, ClockMode::Instructions);
  const auto whole = file.contents();
  for (usize at = 0; at < whole.size(); ++at) {
    CAPTURE(at);
    auto damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    file.set(damaged);
    CHECK(!read_journal(file.path));
  }
}

TEST_CASE("events that make no sense end the replay with words") {
  const auto events = GENERATE(std::vector<u8>{9, 0}, std::vector<u8>{1, 0, 99, 0}, std::vector<u8>{1, 0, 0, 200, 1}, std::vector<u8>{2, 0, 0, 0, 0, 0},
                               std::vector<u8>{1}, std::vector<u8>(30, 0xff));
  MiniPc pc;
  REQUIRE(pc.machine->inputs().play(events, pc.machine->inputs().port_names()));
  pc.machine->start();
  pc.machine->run();
  REQUIRE(pc.machine->replay_end());
  CHECK(pc.machine->replay_end()->departed);
  CHECK(pc.machine->replay_end()->message.contains("damaged"));
}

TEST_CASE("a recording with input for something that this machine has not is refused") {
  MiniPc pc;
  const auto played = pc.machine->inputs().play({}, {"keyboard", "theremin"});
  REQUIRE(!played);
  CHECK(played.error().message.contains("theremin"));
}

TEST_CASE("what cannot be read or written is named with its reason") {
  CHECK(read_journal("/nowhere/file").error().message.contains("/nowhere/file: cannot open"));
  CHECK(read_journal("/tmp").error().message.contains("/tmp: not a regular file"));
  CHECK(JournalFile::create("/nowhere/file", "").error().message.contains("/nowhere/file: cannot create"));
  TemporaryFile file;
  file.set({'M', 'Z'});
  CHECK(read_journal(file.path).error().message.contains("no recording"));
}
