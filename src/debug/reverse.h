// Going backwards in a run: one instruction, or to the last place at which a breakpoint or watchpoint would have stopped it.
#pragma once

#include <optional>

#include "debug/debugger.h"
#include "debug/timeline.h"

namespace vellum {

class Reverse {
 public:
  Reverse(Debugger& debugger, Timeline& timeline) : m_debugger(debugger), m_timeline(timeline) {}

  // Whether this run can be gone back in at all. Snapshots are taken from the first time on that this is asked.
  Result<void> possible() { return m_timeline.enable(); }
  // False: less than that many instructions lie behind; the machine is at the first place that is known.
  Result<bool> step(u64 instructions);
  // To where the machine would have stopped last: in front of a breakpoint's instruction, and in front of the instruction that
  // made a watched access, so that memory is what it was before. Empty: nothing stopped it, and the machine is at the first place.
  Result<std::optional<DebugStop>> go_on();
  // To the instruction with this number.
  Result<void> go_to(u64 instruction);
  std::string describe() const { return m_timeline.describe(); }
  // A register or memory was changed: the future is another from here on.
  void changed();

 private:
  class Quiet;
  std::optional<u64> last_stop(u64 limit, Timeline::Start start);

  Debugger& m_debugger;
  Timeline& m_timeline;
  std::optional<DebugStop> m_found;  // what was met last
};

}  // namespace vellum
