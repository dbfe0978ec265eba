// The closed list of reasons for which Cpu::run() returns.
#pragma once

#include "state/integers.h"

namespace vellum {

enum class Exit : u8 {
  BudgetSpent,  // exactly as many instructions as asked for were retired
  Requested,    // request_exit() was called, from any thread
  Debug,        // a breakpoint, watchpoint or observer: DebugControl::take_stop() says which
  Halted,       // HLT (or MWAIT) with nothing to wake it: call run() again after an interrupt became pending
  Shutdown,     // triple fault: the board resets the machine
  Stuck,        // exceptions follow each other without an instruction between them: only time can bring a change
};

}  // namespace vellum
