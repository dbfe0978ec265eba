// Files that are read whole at the start: firmware, kernel, initial RAM disk.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// Reads a regular file of at most `limit` bytes. The error names `option`, the file, what is wrong and what to do.
Result<std::vector<u8>> read_whole_file(std::string_view option, const std::string& path, u64 limit);

// A firmware file: `name` itself when it exists, otherwise its first occurrence in the directories given, then in those
// where Debian's packages put firmware.
Result<std::string> find_firmware(std::string_view option, const std::string& name, std::span<const std::string> directories);

}  // namespace vellum
