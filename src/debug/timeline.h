// Going to any instruction of a run, forwards and backwards: snapshots in memory, and exact execution from them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "machine/input_journal.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

// Works for every run that is a pure function of what is known: -clock instructions, a recording, a replay. While the
// machine runs, a snapshot of it is taken every now and then, of which RAM is kept as the pages written since the last;
// where there are too many of them, snapshots in the far past are thinned out first. The machine must be stopped (and its
// thread be the caller's) when a function here is called, unless it says otherwise.
class Timeline {
 public:
  struct Limits {
    u64 memory = u64{1} << 30;         // bytes of page copies, beyond which snapshots are dropped
    u64 interval = 20'000'000;         // instructions between snapshots, at least
    double most_overhead = 0.1;        // of the time that the machine runs, for taking snapshots
  };
  explicit Timeline(Machine& machine) : Timeline(machine, Limits()) {}
  Timeline(Machine& machine, Limits limits);
  ~Timeline();
  Timeline(const Timeline&) = delete;

  // Takes the first snapshot; from here on the run can be gone back to. Fails, with what the user can do, when time follows
  // the host, or when a drive is written to that has no overlay. May be called again without effect.
  Result<void> enable();
  bool enabled() const { return m_enabled; }

  // Instruction counts: the first that can be gone to, the present one, and the furthest that was ever reached.
  u64 earliest() const;
  u64 now() const;
  u64 furthest() const;

  // Makes the machine's state that at `count`: before the instruction with this number (the first is 0) is executed.
  // Forwards, a count behind furthest() runs the machine on as it is; the machine may end or stop on its way. Breakpoints do
  // not stop it: they must be off. Fails when count < earliest().
  Result<void> go_to(u64 count);

  // The last place before `before` (default: now) at which something happens. `run_forward(limit, here)` runs the machine from
  // where it is to instruction `limit` at most, and returns the count at which the thing happened, before `limit`, leaving the
  // machine there; empty when it did not happen and the machine is at `limit`. With Start::Here the place at which it starts
  // counts, too, with Start::Behind it does not. The machine is then at the place returned, or, when there is none, at earliest().
  enum class Start : u8 { Here, Behind };
  using RunForward = std::function<std::optional<u64>(u64 limit, Start start)>;
  Result<std::optional<u64>> find_last(const RunForward& run_forward, std::optional<u64> before = std::nullopt);

  // The user changed something (a register, memory): what was known of the future is void, and going back leads to the state
  // as it was changed, for counts from here on. Fails in recordings and replays, which know no such change.
  Result<void> branch();

  usize snapshot_count() const { return m_snapshots.size(); }
  u64 memory_used() const { return m_pages_kept * kPageSize; }
  std::string describe() const;  // for `info timeline`

 private:
  using Page = std::unique_ptr<u8[]>;  // null: all zeroes
  struct Snapshot {
    Machine::States states;
    InputJournal::Position input;
    std::vector<std::pair<BlockDevice*, std::shared_ptr<const BlockDevice::Contents>>> media;
    std::vector<u64> pages;  // that have a version of this snapshot
  };
  using Snapshots = std::map<u64, Snapshot>;  // by instruction count
  class Travel;
  void restart_if_replaced();
  Result<void> possible() const;
  void take_snapshot();
  void keep_page(Snapshots::iterator snapshot, u64 offset, const u8* contents);
  void put_version(Snapshots::iterator snapshot, u64 offset, Page page);
  const u8* version_at(u64 offset, u64 count) const;
  void mark_clean(u64 offset);
  void plan_next();
  Result<void> restore(Snapshots::iterator snapshot);
  Result<void> run_to(u64 count);
  Result<void> approach(u64 count);
  void drop(Snapshots::iterator snapshot);
  void thin();

  Machine& m_machine;
  Limits m_limits;
  bool m_enabled = false, m_travelling = false;
  Snapshots m_snapshots;
  // Of each page of RAM, by its offset: its contents at snapshots, by their instruction count. A page is at a snapshot as its
  // newest version at or before it says; before its first version it is all zeroes.
  std::unordered_map<u64, std::map<u64, Page>> m_versions;
  u64 m_pages_kept = 0;
  // The snapshot that RAM is equal to, but for the pages without kPageCleanSnapshot.
  u64 m_base = 0;
  u64 m_interval = 0;
  u64 m_restarts = 0;             // of the journal, when the first snapshot was taken
  u64 m_last_snapshot_ended = 0;  // host nanoseconds
};

}  // namespace vellum
