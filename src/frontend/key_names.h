// Names of keys as the monitor's sendkey takes them.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/key_code.h"
#include "state/error.h"

namespace vellum {

// "ctrl-alt-delete": the keys in the order in which they go down. Names are those of QEMU's sendkey.
Result<std::vector<KeyCode>> parse_keys(std::string_view text);

}  // namespace vellum
