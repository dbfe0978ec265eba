// The guest's screen in a window of the host's desktop, through SDL.
#pragma once

#include <memory>

#include "frontend/display.h"
#include "frontend/options.h"

namespace vellum {

// Whether this build has windows at all (it needs SDL 2).
bool has_sdl_window();

// Only if has_sdl_window(). A window on a thread of its own. `font`: 256 characters of 8x16 dots, for the monitor in the window; empty: none.
std::unique_ptr<Display> make_sdl_window(DisplayControl& control, const DisplaySpec& spec, std::vector<u8> font);

// Whether the host says that it has a display (X11 or Wayland).
bool host_has_display();

}  // namespace vellum
