// One channel of the DMA controllers, as the device that requests transfers on it sees it.
#pragma once

#include <span>

#include "devices/dma8237.h"

namespace vellum {

// What Dma8237Pair::transfer() promises, for one channel.
class DmaChannel {
 public:
  virtual ~DmaChannel() = default;
  virtual DmaResult transfer(std::span<u8> data, DmaDirection direction) = 0;
};

class Dma8237Channel final : public DmaChannel {
 public:
  Dma8237Channel(Dma8237Pair& controllers, unsigned channel) : m_controllers(controllers), m_channel(channel) {}
  DmaResult transfer(std::span<u8> data, DmaDirection direction) override {
    return m_controllers.transfer(m_channel, data, direction);
  }

 private:
  Dma8237Pair& m_controllers;
  unsigned m_channel;
};

}  // namespace vellum
