// The 82540EM's EEPROM: 64 words on a Microwire bus (93C46), read bit by bit or by the controller.
#pragma once

#include <array>

#include "devices/ethernet.h"
#include "state/archive.h"

namespace vellum {

// Sources: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453), chapter 5; the instruction set of the
// 93C46 (Microchip 93C46A/B/C datasheet, 2.0).
class E1000Eeprom {
 public:
  static constexpr usize kWords = 64;

  // What Intel's tools would have put there for a card with this address.
  explicit E1000Eeprom(const MacAddress& address);

  u16 word(usize index) const { return index < kWords ? m_words[index] : 0xffff; }
  // The levels of chip select, clock and data in.
  void set_pins(bool select, bool clock, bool data);
  bool data_out() const { return m_state.output; }
  // The bus is idle; contents stay.
  void reset_bus() { m_state = {}; }
  void visit(Archive& archive);

 private:
  void clock_rises(bool data);
  void command_complete();
  void store();

  std::array<u16, kWords> m_words{};
  bool m_write_enabled = false;
  struct State {
    bool select = false, clock = false, output = true;
    u8 received = 0;      // bits since the start bit, and that itself
    u32 shift = 0;        // them
    u8 opcode = 0, address = 0;
    u8 data_bits = 0;     // to be shifted out or in still
    u16 data = 0;
    bool writing = false;
  } m_state;
};

}  // namespace vellum
