// Snapshots in memory, and exact execution from them.
#include "debug/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "state/assert.h"

namespace vellum {

namespace {

// Instructions. On the way to a place in the past, snapshots are left behind this far before it, so that the next steps back
// from there have a short way.
constexpr u64 kApproaches[] = {3'000'000, 200'000, 10'000};
constexpr usize kMostSnapshots = 400;
constexpr u64 kLongestInterval = 2'000'000'000;

bool all_zeroes(const u8* page) {
  return std::all_of(reinterpret_cast<const u64*>(page), reinterpret_cast<const u64*>(page + kPageSize), [](u64 word) { return word == 0; });
}

}  // namespace

// While the machine runs to a place that somebody asked for, nobody else may ask for another.
class Timeline::Travel {
 public:
  explicit Travel(Timeline& timeline) : m_timeline(timeline) {
    m_timeline.m_travelling = true;
    m_timeline.m_machine.serve_host(false);
  }
  ~Travel() {
    m_timeline.m_travelling = false;
    m_timeline.m_machine.serve_host(true);
  }
  Travel(const Travel&) = delete;

 private:
  Timeline& m_timeline;
};

Timeline::Timeline(Machine& machine, Limits limits) : m_machine(machine), m_limits(limits), m_interval(limits.interval) {}

Timeline::~Timeline() {
  if (m_enabled) m_machine.call_at(this, 0, {});
}

Result<void> Timeline::possible() const {
  if (m_machine.config().clock == ClockMode::Realtime)
    return failure("time follows the host, so nothing can be run again as it was: start with -clock instructions, -record or -replay to go back");
  for (const BlockDevice* medium : m_machine.board().inserted_media())
    if (!medium->keeps_history())
      return failure(fmt::format("what the guest writes to {} cannot be taken back: start with -snapshot to go back", medium->path()));
  return {};
}

Result<void> Timeline::enable() {
  restart_if_replaced();
  if (m_enabled) return {};
  if (auto can = possible(); !can) return can;
  m_enabled = true;
  m_restarts = m_machine.inputs().restarts();
  const auto snapshot = m_snapshots.try_emplace(now()).first;
  for_each_used_page(m_machine.ram(), [&](u64 offset) { keep_page(snapshot, offset, m_machine.ram().host(offset)); });
  for (u64 offset = 0; offset < m_machine.ram().size(); offset += kPageSize) mark_clean(offset);
  m_base = now();
  take_snapshot();
  plan_next();
  return {};
}

u64 Timeline::earliest() const { return m_snapshots.empty() ? now() : m_snapshots.begin()->first; }
u64 Timeline::now() const { return m_machine.cpu().retired(); }
u64 Timeline::furthest() const { return std::max(now(), m_machine.inputs().furthest()); }

// ---- Snapshots

const u8* Timeline::version_at(u64 offset, u64 count) const {
  const auto versions = m_versions.find(offset);
  if (versions == m_versions.end()) return nullptr;
  const auto after = versions->second.upper_bound(count);
  return after == versions->second.begin() ? nullptr : std::prev(after)->second.get();
}

void Timeline::put_version(Snapshots::iterator snapshot, u64 offset, Page page) {
  if (page) ++m_pages_kept;
  auto [version, added] = m_versions[offset].try_emplace(snapshot->first);
  if (version->second) --m_pages_kept;
  version->second = std::move(page);
  if (added) snapshot->second.pages.push_back(offset);
}

void Timeline::keep_page(Snapshots::iterator snapshot, u64 offset, const u8* contents) {
  const u8* before = version_at(offset, snapshot->first);
  const bool zero = all_zeroes(contents);
  if (before ? std::memcmp(before, contents, kPageSize) == 0 : zero) return;
  // What the next snapshot took over from the ones before this one it has to say for itself now.
  if (const auto next = std::next(snapshot); next != m_snapshots.end()) {
    const auto versions = m_versions.find(offset);
    if (versions == m_versions.end() || !versions->second.contains(next->first)) {
      Page page;
      if (before) page.reset(new u8[kPageSize]), std::memcpy(page.get(), before, kPageSize);
      put_version(next, offset, std::move(page));
    }
  }
  Page page;
  if (!zero) page.reset(new u8[kPageSize]), std::memcpy(page.get(), contents, kPageSize);
  put_version(snapshot, offset, std::move(page));
}

// Of the present state; a snapshot of the same count is replaced.
void Timeline::take_snapshot() {
  const u64 started = host_nanoseconds();
  GuestRam& ram = m_machine.ram();
  const auto snapshot = m_snapshots.try_emplace(now()).first;
  for (u64 offset = 0; offset < ram.size(); offset += kPageSize) {
    if (ram.flags(offset) & kPageCleanSnapshot) continue;
    keep_page(snapshot, offset, ram.host(offset));
    mark_clean(offset);
  }
  m_machine.memory().flags_set();
  m_base = snapshot->first;
  snapshot->second.states = m_machine.save_state();
  snapshot->second.input = m_machine.inputs().position();
  snapshot->second.media.clear();
  for (BlockDevice* medium : m_machine.board().inserted_media()) snapshot->second.media.emplace_back(medium, medium->save_contents());
  // A medium that was changed since is not there any more to go back to.
  const auto same_media = [&](const Snapshot& other) { return std::ranges::equal(other.media, snapshot->second.media, {}, [](const auto& m) { return m.first; }, [](const auto& m) { return m.first; }); };
  while (!same_media(m_snapshots.begin()->second)) drop(m_snapshots.begin());
  thin();
  const u64 ended = host_nanoseconds();
  const auto ran = static_cast<double>(started - m_last_snapshot_ended), took = static_cast<double>(ended - started);
  if (took > m_limits.most_overhead * ran) m_interval = std::min(m_interval * 2, kLongestInterval);
  else if (took < m_limits.most_overhead / 4 * ran) m_interval = std::max(m_interval / 2, m_limits.interval);
  m_last_snapshot_ended = ended;
}

// The next snapshot is taken behind the last, where the machine has not been yet.
void Timeline::plan_next() {
  m_machine.call_at(this, std::max(furthest(), m_snapshots.rbegin()->first + m_interval), [this] {
    restart_if_replaced();
    if (!m_enabled) return;
    if (!m_travelling && now() >= m_snapshots.rbegin()->first + m_interval) take_snapshot();
    plan_next();
  });
}

// Forgets a snapshot; what it kept for later ones goes to the next.
void Timeline::drop(Snapshots::iterator snapshot) {
  const auto next = std::next(snapshot);
  for (const u64 offset : snapshot->second.pages) {
    auto& versions = m_versions[offset];
    const auto version = versions.find(snapshot->first);
    Page page = std::move(version->second);
    if (page) --m_pages_kept;
    versions.erase(version);
    if (next != m_snapshots.end() && !versions.contains(next->first)) put_version(next, offset, std::move(page));
    else if (versions.empty()) m_versions.erase(offset);
  }
  m_snapshots.erase(snapshot);
}

// Drops snapshots while there are too many or they take too much: the one that is missed least, which leaves the smallest gap for its
// distance from the furthest place.
void Timeline::thin() {
  while (m_snapshots.size() > 2 && (m_snapshots.size() > kMostSnapshots || m_pages_kept * kPageSize > m_limits.memory)) {
    auto least = m_snapshots.end();
    double least_loss = 0;
    for (auto snapshot = std::next(m_snapshots.begin()); std::next(snapshot) != m_snapshots.end(); ++snapshot) {
      if (snapshot->first == m_base) continue;
      const auto gap = static_cast<double>(std::next(snapshot)->first - std::prev(snapshot)->first);
      const double loss = gap / static_cast<double>(furthest() - snapshot->first + m_limits.interval);
      if (least == m_snapshots.end() || loss < least_loss) least = snapshot, least_loss = loss;
    }
    // Only the two ends and the base are left: the past gets shorter.
    if (least == m_snapshots.end()) least = m_snapshots.begin()->first == m_base ? std::next(m_snapshots.begin()) : m_snapshots.begin();
    drop(least);
  }
}

void Timeline::mark_clean(u64 offset) { m_machine.ram().set_flag(offset, kPageCleanSnapshot); }

// ---- Travelling

Result<void> Timeline::restore(Snapshots::iterator snapshot) {
  Snapshot& state = snapshot->second;
  const auto media = m_machine.board().inserted_media();
  if (!std::ranges::equal(state.media, media, {}, [](const auto& medium) { return medium.first; }))
    return failure(fmt::format("a medium was changed since instruction {}; before that one cannot go back", snapshot->first));
  const u64 reached = now();
  if (auto loaded = m_machine.load_state(state.states); !loaded) return loaded;
  for (const auto& [medium, contents] : state.media)
    if (contents) medium->load_contents(contents);
  // Pages that were written since the base, and those that differ between the base and this snapshot.
  GuestRam& ram = m_machine.ram();
  const auto put_back = [&](u64 offset) {
    if (const u8* page = version_at(offset, snapshot->first)) std::memcpy(ram.host(offset), page, kPageSize);
    else if (!ram.page_is_zero(offset)) std::memset(ram.host(offset), 0, kPageSize);
    mark_clean(offset);
  };
  for (u64 offset = 0; offset < ram.size(); offset += kPageSize)
    if (!(ram.flags(offset) & kPageCleanSnapshot)) put_back(offset);
  const u64 from = std::min(m_base, snapshot->first), to = std::max(m_base, snapshot->first);
  for (auto other = m_snapshots.upper_bound(from); other != m_snapshots.end() && other->first <= to; ++other)
    for (const u64 offset : other->second.pages) put_back(offset);
  m_base = snapshot->first;
  m_machine.memory().contents_replaced();
  m_machine.inputs().go_to(state.input, reached);
  return {};
}

Result<void> Timeline::run_to(u64 count) {
  if (now() < count) m_machine.run_instructions(count - now());
  if (now() == count) return {};
  return failure(fmt::format("the machine {} after {} instructions", m_machine.ended() ? "ended" : "stopped", now()));
}

// Runs to a place in the known part of the run, leaving snapshots behind.
Result<void> Timeline::approach(u64 count) {
  const u64 start = now();
  for (const u64 distance : kApproaches) {
    // Where the way is not much longer than the distance, a snapshot saves little.
    if (count < start + 2 * distance || count - distance <= now()) continue;
    if (auto done = run_to(count - distance); !done) return done;
    take_snapshot();
  }
  return run_to(count);
}

Result<void> Timeline::go_to(u64 count) {
  if (auto enabled = enable(); !enabled) return enabled;
  if (m_travelling) return failure("the machine is on its way to another place already");
  if (count < earliest()) return failure(fmt::format("instruction {} lies before the first that is kept, {}", count, earliest()));
  Travel travel(*this);
  const auto snapshot = std::prev(m_snapshots.upper_bound(count));
  if (count < now() || snapshot->first > now())
    if (auto restored = restore(snapshot); !restored) return restored;
  auto done = count < furthest() ? approach(count) : run_to(count);
  plan_next();
  return done;
}

Result<std::optional<u64>> Timeline::find_last(const RunForward& run_forward, std::optional<u64> before) {
  if (auto enabled = enable(); !enabled) return std::unexpected(enabled.error());
  if (m_travelling) return failure("the machine is on its way to another place already");
  u64 end = before.value_or(now());
  std::optional<u64> last;
  {
    Travel travel(*this);
    while (!last && end > earliest()) {
      const auto snapshot = std::prev(m_snapshots.lower_bound(end));
      const u64 start = snapshot->first;
      if (auto restored = restore(snapshot); !restored) return std::unexpected(restored.error());
      Start from = Start::Here;
      while (const auto place = run_forward(end, from)) {
        last = place;
        from = Start::Behind;
        if (m_machine.ended()) break;
      }
      end = start;
    }
  }
  if (auto done = go_to(last.value_or(earliest())); !done) return std::unexpected(done.error());
  return last;
}

Result<void> Timeline::branch() {
  restart_if_replaced();
  if (!m_enabled) return {};
  if (!m_machine.inputs().forget_future())
    return failure("a recorded run cannot be changed; the change holds until you go to another place, and what follows departs from the recording");
  while (m_snapshots.rbegin()->first > now()) drop(std::prev(m_snapshots.end()));
  take_snapshot();
  plan_next();
  return {};
}

// The machine's state was replaced by another's (loadvm): what was before it is void.
void Timeline::restart_if_replaced() {
  if (!m_enabled || m_restarts == m_machine.inputs().restarts()) return;
  m_snapshots.clear();
  m_versions.clear();
  m_pages_kept = 0;
  m_enabled = false;
  if (auto enabled = enable(); !enabled) m_machine.call_at(this, 0, {});
}

std::string Timeline::describe() const {
  if (!m_enabled) return "no snapshots are taken\n";
  return fmt::format("at instruction {} of {}; {} snapshots from {} on, {} MiB\n", now(), furthest(), m_snapshots.size(), earliest(), memory_used() >> 20);
}

}  // namespace vellum
