// Pictures written as PNG files.
#pragma once

#include <string>

#include "devices/screen_source.h"
#include "state/error.h"

namespace vellum {

// Writes the frame as it is, one pixel of the file for each of the frame; the file says how wide a pixel is shown (pHYs). A
// file that is there is replaced. After an error nothing is left of the new file.
Result<void> write_png(const std::string& path, const ScreenFrame& frame);

}  // namespace vellum
