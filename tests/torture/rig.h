// A whole PC in this process, put back to the same state before each case, so that any case can be replayed alone.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "machine/machine.h"
#include "machine/pc_board.h"
#include "storage/memory_disk.h"

namespace vellum::torture {

using Random = std::mt19937_64;

// True once in `n` times.
inline bool once_in(Random& random, unsigned n) { return random() % n == 0; }
// A number whose magnitude is random too, with the edges of every width among them.
u64 interesting_number(Random& random);

// Where the guest's tables stand; all below the code.
inline constexpr u64 kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kDoubleFaultTss = 0x3200, kLdt = 0x3400,
                     kHandlers = 0x4000, kBuffer = 0x5000, kFaultStack = 0x6f00, kInnerStack = 0x7800, kCode = 0x7c00,
                     kPageTables = 0x10000, kSmmHandler = 0x38000;
inline constexpr u64 kMemorySize = 16 << 20;

enum class Mode : u8 { Real, Protected, Paged, Long };

class Rig {
 public:
  Rig();

  Machine& machine() { return *m_machine; }
  // Everything as at power-on: memory, devices, CPU, disks, virtual time.
  void restart();
  // The CPU in that mode at kCode with flat segments, an identity mapping of the first 4 GiB, and descriptor tables.
  // `faults` says what exceptions do: go on one byte (or `skip`) further, or hit whatever the IDT happens to hold.
  struct Start {
    Mode mode = Mode::Real;
    bool forgiving = true;
    u8 skip = 1;
    bool user = false;
  };
  void enter(const Start& start, Random& random);
  void put(u64 address, const std::vector<u8>& bytes);
  // The code runs for as many virtual nanoseconds: an instruction takes one, a halt lasts until the next event.
  void run(u64 ticks);
  // Saves the state and loads it again: no guest may bring the machine into a state that it would not load itself.
  // Returns what went wrong.
  std::string save_and_load();

 private:
  void build();
  void enter_real(const Start& start, Random& random);
  void enter_protected(const Start& start);
  void enter_long(const Start& start);

  EventLoop m_events;
  std::unique_ptr<Machine> m_machine;
  std::vector<MemoryDisk*> m_disks;
  Machine::States m_power_on_state;
};

}  // namespace vellum::torture
