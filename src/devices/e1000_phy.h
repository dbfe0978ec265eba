// The PHY inside the 82540EM: its registers behind the management interface.
#pragma once

#include <array>

#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

// Sources: IEEE 802.3, 22.2.4 and 40.5; 8254x manual (317453), 13.4.6 to 13.4.32 (the PHY is Marvell's 88E1011). The link partner offers
// 1000BASE-T full duplex; negotiation takes no time.
class E1000Phy {
 public:
  static constexpr usize kRegisters = 32;

  void reset();
  u16 read(unsigned index, bool link) const;
  void write(unsigned index, u16 value);
  // What is sent comes back.
  bool loopback() const;
  void visit(Archive& archive);

 private:
  std::array<u16, kRegisters> m_registers{};
};

}  // namespace vellum
