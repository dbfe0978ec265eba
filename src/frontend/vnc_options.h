// What follows -display vnc=: an address and keys.
#pragma once

#include <string>
#include <string_view>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

struct VncOptions {
  std::string unix_path;             // a unix socket; empty: TCP
  std::string host = "localhost";    // only from this machine, unless the user names another address
  u16 port = 5900;
  std::string password;              // empty: none
};

// "HOST:DISPLAY", ":DISPLAY" or "unix:PATH", then password=TEXT or password-file=FILE (its first line).
Result<VncOptions> parse_vnc_options(std::string_view text);

}  // namespace vellum
