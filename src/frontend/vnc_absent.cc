// Stands in for the VNC server in a build without libvncserver.
#include "frontend/vnc_display.h"
#include "state/assert.h"

namespace vellum {

bool has_vnc_display() { return false; }

std::unique_ptr<Display> make_vnc_display(VncOptions, DisplayControl&) { VELLUM_ASSERT(!"this build has no VNC server"); }

}  // namespace vellum
