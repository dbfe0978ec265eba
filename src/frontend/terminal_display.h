// The guest's text screen on the terminal that Vellum runs in, and that terminal's keys to the guest.
#pragma once

#include <memory>

#include "frontend/display.h"
#include "machine/event_loop.h"

namespace vellum {

std::unique_ptr<Display> make_terminal_display(DisplayControl& control, EventLoop& events);

}  // namespace vellum
