// One channel of the 8237 DMA controllers, as the device that requests transfers on it sees it.
#pragma once

#include <span>

#include "state/integers.h"

namespace vellum {

struct DmaTransfer {
  usize count = 0;              // bytes that the controller moved; 0 when the channel is masked or set up otherwise
  bool terminal_count = false;  // TC was asserted with the last of them
};

// The device calls one of the two whenever it has data or wants data, with DREQ asserted for that long; the controller
// moves bytes until all are moved, TC ends the transfer, or the channel cannot go on (masked, disabled controller,
// wrong direction). A channel in verify mode counts and signals TC, but memory is neither read nor written.
class DmaChannel {
 public:
  virtual ~DmaChannel() = default;
  virtual DmaTransfer to_memory(std::span<const u8> data) = 0;  // the 8237's "write transfer"
  virtual DmaTransfer from_memory(std::span<u8> data) = 0;      // the 8237's "read transfer"
};

}  // namespace vellum
