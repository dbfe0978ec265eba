// The host's ends of network cables: a network in this program, a tap interface, a socket to another emulator.
#pragma once

#include <memory>

#include "devices/ethernet.h"
#include "frontend/network_options.h"
#include "machine/event_loop.h"
#include "state/error.h"

namespace vellum {

class HostNetwork : public NetworkBackend {
 public:
  // Takes hold of the host's side; until then what is sent is lost.
  virtual Result<void> open() = 0;
};

// Whether this build has the network of -netdev user (it needs libslirp).
bool has_user_network();

// Not yet open. Kind::User only if has_user_network().
std::unique_ptr<HostNetwork> make_network(EventLoop& events, const NetdevSpec& spec);
// user_network.cc
std::unique_ptr<HostNetwork> make_user_network(EventLoop& events, const NetdevSpec& spec);

}  // namespace vellum
