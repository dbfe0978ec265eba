// What a graphics adapter shows, as every display and screenshot takes it.
#pragma once

#include <span>
#include <vector>

#include "devices/vga_text.h"
#include "state/integers.h"

namespace vellum {

// One picture. A pixel is 0x00RRGGBB, rows from top to bottom without gaps.
struct ScreenFrame {
  u32 width = 0, height = 0;
  // Width of a pixel as the monitor shows it, divided by its height: 1 for square ones.
  double pixel_aspect = 1;
  std::vector<u32> pixels;
};

struct ScreenRectangle {
  u32 x = 0, y = 0, width = 0, height = 0;
  bool operator==(const ScreenRectangle&) const = default;
};

class ScreenSource {
 public:
  virtual ~ScreenSource() = default;
  // Brings frame() up to date with what the guest shows now, and returns the parts that changed since the last call (all of
  // it when the size changed). The span lives until the next call. Thread: the machine's.
  virtual std::span<const ScreenRectangle> refresh() = 0;
  virtual const ScreenFrame& frame() const = 0;
  // The text screen as it is now; without rows in a graphics mode.
  virtual TextScreen text() const = 0;
};

}  // namespace vellum
