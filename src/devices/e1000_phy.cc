// Registers of the PHY.
#include "devices/e1000_phy.h"

namespace vellum {

namespace {

namespace spec {
// IEEE 802.3, table 22-6, and what Marvell added (manual, 13.4.6 ff.).
constexpr unsigned kControl = 0, kStatus = 1, kIdentity1 = 2, kIdentity2 = 3, kAdvertised = 4, kPartner = 5, kExpansion = 6, kGigabitControl = 9,
                   kGigabitStatus = 10, kExtendedStatus = 15, kSpecificControl = 16, kSpecificStatus = 17, kExtendedControl = 20;
constexpr u16 kReset = 0x8000, kLoopback = 0x4000, kRestartNegotiation = 0x0200;
constexpr u16 kNegotiated = 0x0020, kLink = 0x0004;
// Speed 1000, full duplex, resolved; link.
constexpr u16 kResolved = 0x8000 | 0x2000 | 0x0800, kSpecificLink = 0x0400;

constexpr std::array<u16, E1000Phy::kRegisters> kDefaults = [] {
  std::array<u16, E1000Phy::kRegisters> values{};
  values[kControl] = 0x1140;       // negotiation on, full duplex, 1000 Mbit/s
  values[kStatus] = 0x7949;        // all speeds of twisted pair, extended registers
  values[kIdentity1] = 0x0141;
  values[kIdentity2] = 0x0c20;
  values[kAdvertised] = 0x0de1;
  values[kPartner] = 0xc1e1;       // everything up to 100BASE-TX, acknowledged, a next page
  values[kExpansion] = 0x000f;
  values[7] = 0x2001;
  values[kGigabitControl] = 0x0e00;
  values[kGigabitStatus] = 0x3c00;  // both receivers well, the partner is capable of 1000BASE-T
  values[kExtendedStatus] = 0x3000;
  values[kSpecificControl] = 0x0068;
  values[kExtendedControl] = 0x0d60;
  return values;
}();

constexpr u32 kReadOnly = 1u << kStatus | 1u << kIdentity1 | 1u << kIdentity2 | 1u << kPartner | 1u << kExpansion | 1u << 8 | 1u << kGigabitStatus |
                          1u << kExtendedStatus | 1u << kSpecificStatus | 1u << 19 | 1u << 21;
}  // namespace spec

}  // namespace

void E1000Phy::reset() { m_registers = spec::kDefaults; }

bool E1000Phy::loopback() const { return m_registers[spec::kControl] & spec::kLoopback; }

u16 E1000Phy::read(unsigned index, bool link) const {
  const u16 value = m_registers[index % kRegisters];
  switch (index % kRegisters) {
    case spec::kStatus: return link ? value | spec::kNegotiated | spec::kLink : value;
    case spec::kPartner:
    case spec::kGigabitStatus: return link ? value : 0;
    case spec::kExpansion: return link ? value : value & 0x000c;
    case spec::kSpecificStatus: return link ? spec::kResolved | spec::kSpecificLink : 0;
    default: return value;
  }
}

void E1000Phy::write(unsigned index, u16 value) {
  index %= kRegisters;
  if (spec::kReadOnly >> index & 1) return;
  if (index != spec::kControl) {
    m_registers[index] = value;
    return;
  }
  // 22.2.4.1.1, 22.2.4.1.7: both clear themselves.
  if (value & spec::kReset) {
    const u16 others = value & static_cast<u16>(~(spec::kReset | spec::kRestartNegotiation));
    reset();
    m_registers[spec::kControl] = others;
    return;
  }
  m_registers[spec::kControl] = value & static_cast<u16>(~spec::kRestartNegotiation);
}

void E1000Phy::visit(Archive& archive) { archive("registers", m_registers); }

}  // namespace vellum
