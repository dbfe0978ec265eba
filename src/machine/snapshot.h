// Snapshot files: the whole state of a machine, compressed, versioned and checksummed.
//
// A file is a header and a list of sections. Each section has a name, its size, its size uncompressed, and a CRC-32 of
// its compressed bytes; "configuration" comes first, then the state of each part, then pages of RAM, then "end".
#pragma once

#include <string>

#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

// Saves a machine that is between two instructions (called from its event loop, or while it is stopped). The file
// appears under `path` only when it is complete; one that was there before is replaced.
Result<void> save_snapshot(Machine& machine, const std::string& path);

// Loads a file saved from a machine of equal configuration. Everything is checked before anything is changed: after an
// error the machine is as it was.
Result<void> load_snapshot(Machine& machine, const std::string& path);

}  // namespace vellum
