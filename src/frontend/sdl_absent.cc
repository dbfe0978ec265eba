// The window in a build without SDL: there is none.
#include "frontend/sdl_window.h"
#include "state/assert.h"

namespace vellum {

bool has_sdl_window() { return false; }
bool host_has_display() { return false; }

std::unique_ptr<Display> make_sdl_window(DisplayControl&, const DisplaySpec&, std::vector<u8>) { VELLUM_ASSERT(!"this build has no window"); }

}  // namespace vellum
