// Backwards is forwards from a snapshot, often enough.
#include "debug/reverse.h"

#include <algorithm>

namespace vellum {

// While one lives, nothing that the user asked to stop at stops the machine.
class Reverse::Quiet {
 public:
  explicit Quiet(Debugger& debugger, bool quiet = true) : m_debugger(debugger), m_before(debugger.quiet()) { m_debugger.set_quiet(quiet); }
  ~Quiet() { m_debugger.set_quiet(m_before); }
  Quiet(const Quiet&) = delete;

 private:
  Debugger& m_debugger;
  bool m_before;
};

Result<bool> Reverse::step(u64 instructions) {
  if (auto done = possible(); !done) return std::unexpected(done.error());
  const Quiet quiet(m_debugger);
  const u64 now = m_timeline.now(), earliest = m_timeline.earliest();
  const bool enough = now - earliest >= instructions;
  if (auto done = m_timeline.go_to(enough ? now - instructions : earliest); !done) return std::unexpected(done.error());
  return enough;
}

Result<void> Reverse::go_to(u64 instruction) {
  if (auto done = possible(); !done) return done;
  const Quiet quiet(m_debugger);
  return m_timeline.go_to(instruction);
}

// The last stop on the way to `limit`: all others come before it, so nobody has to know of them one by one.
std::optional<u64> Reverse::last_stop(u64 limit, Timeline::Start start) {
  Machine& machine = m_debugger.machine();
  CpuCore& cpu = m_debugger.cpu();
  const Quiet loud(m_debugger, false);
  std::optional<u64> last;
  bool pass = start == Timeline::Start::Behind;
  while (cpu.retired() < limit && !machine.ended()) {
    if (pass) cpu.debug().pass_here(linear_pc(cpu.s), cpu.retired());
    const u64 before = cpu.retired();
    machine.run_instructions(limit - before);
    const auto cause = machine.take_stop_cause();
    pass = cause && cause->kind == StopCause::Kind::Debug && cause->debug;
    if (!pass) {
      if (cpu.retired() == before) break;  // it does not go on from here
      continue;
    }
    // What an instruction did is found where that instruction begins.
    const bool behind = cause->debug->kind != DebugStop::Kind::Breakpoint;
    const u64 place = behind ? std::max(cpu.retired(), m_timeline.earliest() + 1) - 1 : cpu.retired();
    if (place >= limit) break;
    last = place;
    m_found = cause->debug;
  }
  return last;
}

Result<std::optional<DebugStop>> Reverse::go_on() {
  if (auto done = possible(); !done) return std::unexpected(done.error());
  const Quiet quiet(m_debugger);
  m_found.reset();
  const auto place = m_timeline.find_last([this](u64 limit, Timeline::Start start) { return last_stop(limit, start); });
  if (!place) return std::unexpected(place.error());
  return *place ? m_found : std::nullopt;
}

void Reverse::changed() {
  // In a recording that cannot be: the change holds until the next way back.
  if (m_timeline.enabled()) (void)m_timeline.branch();
}

}  // namespace vellum
