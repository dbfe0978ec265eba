// What every device is: a name, a reset, and one visit() over its guest-visible state.
#pragma once

#include <string_view>

#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

enum class ResetKind : u8 {
  PowerOn,  // everything, as after switching on
  System,   // RESET line: as PowerOn, except what the datasheet keeps (RTC memory, RAM)
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;  // unique in the machine: "pit8254", "uart16550.0"
  virtual void reset(ResetKind kind) = 0;
  // Names the whole guest-visible state; afterwards, when loading, the device rebuilds what it derives from it
  // (timers, output lines, bus mappings).
  virtual void visit(Archive& archive) = 0;
};

}  // namespace vellum
