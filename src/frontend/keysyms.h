// Keys by the names that X and VNC give to what is printed on them.
#pragma once

#include <optional>

#include "devices/key_code.h"
#include "state/integers.h"

namespace vellum {

// The key of a US keyboard that has this keysym (X11 protocol, appendix A), with or without Shift.
std::optional<KeyCode> key_of_keysym(u32 keysym);
// The key with this set 1 scan code; bit 7 stands for the prefix E0h, as VNC's extended key events have it.
std::optional<KeyCode> key_of_scan_code(u32 code);

}  // namespace vellum
