// Stands in for the user-mode network in a build without libslirp.
#include "frontend/network_backends.h"
#include "state/assert.h"

namespace vellum {

bool has_user_network() { return false; }

std::unique_ptr<HostNetwork> make_user_network(EventLoop&, const NetdevSpec&) { VELLUM_ASSERT(!"this build has no libslirp"); }

}  // namespace vellum
