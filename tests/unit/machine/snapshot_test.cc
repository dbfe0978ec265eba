// Snapshot files: save, load, run on; and every kind of damage.
#include <catch2/catch.hpp>

#include <fstream>
#include <iterator>
#include <random>

#include <sys/stat.h>
#include <unistd.h>

#include "machine/snapshot.h"
#include "temporary_file.h"
#include "machine/fake_parts.h"

using namespace vellum;
using vellum::test::FakeMachine;
using vellum::test::TemporaryFile;

namespace {

void fill(FakeMachine& fake, u64 seed) {
  std::mt19937_64 random(seed);
  for (u64 offset = 0; offset < fake.machine->ram().size(); offset += 3 * kPageSize)
    fake.machine->ram().host(offset)[random() % kPageSize] = static_cast<u8>(random() | 1);
}

}  // namespace

TEST_CASE("a machine saved, loaded and run on has the same state hash as one that just ran on") {
  TemporaryFile file;
  FakeMachine original;
  fill(original, 1);
  original.machine->run_instructions(12'345);
  REQUIRE(save_snapshot(*original.machine, file.path));
  CHECK(original.board->flushes == 1);
  original.machine->run_instructions(5'000);

  FakeMachine other;
  fill(other, 2);
  other.machine->run_instructions(99);
  REQUIRE(load_snapshot(*other.machine, file.path));
  CHECK(other.machine->clock().now() == 12'345);
  other.machine->run_instructions(5'000);
  CHECK(other.machine->state_hash() == original.machine->state_hash());
  CHECK(other.device->ticks() == 17);
}

TEST_CASE("the state hash sees a changed byte of memory and a changed device") {
  FakeMachine one, two;
  CHECK(one.machine->state_hash() == two.machine->state_hash());
  one.machine->ram().host(0x1234)[0] = 1;
  const u64 with_byte = one.machine->state_hash();
  CHECK(with_byte != two.machine->state_hash());
  one.device->set_limited(3);
  CHECK(one.machine->state_hash() != with_byte);
}

TEST_CASE("zero pages take no place in the file") {
  TemporaryFile file;
  FakeMachine fake(ClockMode::Instructions, u64{8} << 30);
  REQUIRE(save_snapshot(*fake.machine, file.path));
  CHECK(file.contents().size() < 4096);
}

TEST_CASE("every truncation and every flipped byte is refused, and the machine stays as it was") {
  TemporaryFile file;
  FakeMachine saved;
  saved.machine->ram().host(0)[5] = 1;
  saved.machine->run_instructions(1234);
  REQUIRE(save_snapshot(*saved.machine, file.path));
  const auto good = file.contents();
  REQUIRE(good.size() < 4096);

  FakeMachine fake;
  fill(fake, 3);
  fake.machine->run_instructions(77);
  const u64 before = fake.machine->state_hash();
  usize accepted = 0;
  for (usize size = 0; size < good.size(); ++size) {
    file.set({good.begin(), good.begin() + static_cast<long>(size)});
    accepted += load_snapshot(*fake.machine, file.path).has_value();
  }
  for (usize at = 0; at < good.size(); ++at) {
    auto damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    file.set(damaged);
    accepted += load_snapshot(*fake.machine, file.path).has_value();
  }
  auto longer = good;
  longer.push_back(0);
  file.set(longer);
  accepted += load_snapshot(*fake.machine, file.path).has_value();
  CHECK(accepted == 0);
  CHECK(fake.machine->state_hash() == before);
}

TEST_CASE("a value that the device refuses leaves every part as it was") {
  TemporaryFile file;
  FakeMachine saved;
  saved.machine->run_instructions(5000);
  saved.device->set_limited(8);
  REQUIRE(save_snapshot(*saved.machine, file.path));
  FakeMachine fake;
  fake.machine->run_instructions(77);
  const u64 before = fake.machine->state_hash();
  const auto loaded = load_snapshot(*fake.machine, file.path);
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().message == file.path + ": fake-device: invalid value: limited");
  CHECK(fake.machine->state_hash() == before);
}

TEST_CASE("a snapshot of another machine is refused with the difference") {
  TemporaryFile file;
  FakeMachine saved(ClockMode::Instructions, 8 << 20);
  REQUIRE(save_snapshot(*saved.machine, file.path));
  FakeMachine fake;
  const auto loaded = load_snapshot(*fake.machine, file.path);
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().message ==
        file.path + ": the snapshot belongs to another machine: it has memory=8388608, this machine has memory=4194304");
}

TEST_CASE("a missing snapshot, a directory and a file of another kind are refused by name") {
  FakeMachine fake;
  CHECK(load_snapshot(*fake.machine, "/nonexistent/x").error().message ==
        "/nonexistent/x: cannot open the snapshot: No such file or directory");
  CHECK(load_snapshot(*fake.machine, "/tmp").error().message == "/tmp: not a regular file");
  CHECK(load_snapshot(*fake.machine, "/bin/sh").error().message == "/bin/sh: this is no Vellum snapshot");
}

TEST_CASE("a save that fails leaves no file behind") {
  FakeMachine fake;
  const auto saved = save_snapshot(*fake.machine, "/nonexistent/directory/file");
  REQUIRE_FALSE(saved);
  CHECK(saved.error().message == "/nonexistent/directory/file: cannot create the snapshot: No such file or directory");
}
