// -record and -replay: what a recording says of the machine that it belongs to.
#pragma once

#include <string>
#include <vector>

#include "machine/machine_clock.h"
#include "machine/pc_board.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// The header of a journal file: one "key=value" a line.
struct RecordingHeader {
  ClockMode clock = ClockMode::Instructions;
  u64 seed = 0;        // of Machine::seed_random()
  u64 rtc_base = 0;
  std::vector<std::string> ports;
  // What must be the same: the machine's configuration and what was put into it.
  std::string machine;

  std::string text() const;
  static Result<RecordingHeader> parse(const std::string& text);
};

// What is put into a machine from outside before it starts, as lines: checksums of firmware, kernel and media, and options that
// the guest can see. `config` is not changed; its media are read.
Result<std::string> describe_contents(PcConfig& config);

// The first difference between two such texts, for a message: "the recording has A, this machine has B"; empty: none.
std::string first_difference(const std::string& recorded, const std::string& present);

}  // namespace vellum
