// What tells one image from another without reading all of it.
#pragma once

#include <string>

#include "state/error.h"
#include "storage/block_device.h"

namespace vellum {

// "size=BYTES checksum=HEX", and " mtime=NANOSECONDS" (of the file at path()) when the medium is so large that the checksum covers
// samples of it only. Two media with the same text are the same, unless somebody means to deceive.
Result<std::string> medium_fingerprint(BlockDevice& medium);

}  // namespace vellum
