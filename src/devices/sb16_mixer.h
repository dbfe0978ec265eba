// The Sound Blaster 16's mixer, CT1745: volumes, and which interrupt and DMA channels the card uses.
#pragma once

#include <array>

#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

// Source: Creative Labs, "Sound Blaster Series Hardware Programming Guide", 2nd edition, chapter 4.
class Sb16Mixer {
 public:
  void reset();
  void visit(Archive& archive);

  void select(u8 index) { m_state.index = index; }
  u8 selected() const { return m_state.index; }
  // `interrupts`: the status that register 82h shows.
  u8 read(u8 interrupts) const;
  void write(u8 value);

  struct Volume {
    float left, right;
  };
  Volume voice() const { return volume(0x32); }
  Volume synthesizer() const { return volume(0x34); }
  unsigned irq() const;     // 2 (on an AT: 9), 5, 7 or 10
  unsigned dma8() const;    // 0, 1 or 3
  unsigned dma16() const;   // 5, 6 or 7; the 8-bit channel when none is chosen

 private:
  Volume volume(u8 index) const;

  // Guest-visible state.
  struct State {
    u8 index = 0;
    std::array<u8, 256> registers{};
  } m_state;
};

}  // namespace vellum
