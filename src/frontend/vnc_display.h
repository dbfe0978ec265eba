// A VNC server that shows the screen and takes keys and the pointer from its clients.
#pragma once

#include <memory>

#include "frontend/display.h"
#include "frontend/vnc_options.h"

namespace vellum {

// Whether this build has a VNC server at all (it needs libvncserver, which is under the GPL).
bool has_vnc_display();

// Only if has_vnc_display(). `control` must outlive the display.
std::unique_ptr<Display> make_vnc_display(VncOptions options, DisplayControl& control);

}  // namespace vellum
