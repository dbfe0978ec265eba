// The PC board's network cards and their cables.
#include <algorithm>
#include <cstring>

#include "devices/e1000.h"
#include "devices/ne2000.h"
#include "devices/pci.h"
#include "devices/piix3.h"
#include "devices/virtio_net.h"
#include "machine/pc_board.h"
#include "state/assert.h"

namespace vellum {

namespace {

// Devices on the bus that cards get in their order: those that nothing else has.
constexpr u8 kSlots[] = {3, 5, 6, 7, 8, 9, 10, 11};

// An option ROM says for which device it is, and firmware looks (PCI Firmware Specification 3.0, 5.1); iPXE's are for several, so the
// card's own identity is put there. Byte 6, which nothing uses, keeps the checksum right.
void adapt_rom(std::span<u8> rom, const PciDevice& card) {
  constexpr usize kStructurePointer = 0x18, kIdentity = 4, kFreeByte = 6;
  if (rom.size() < 0x1a) return;
  const usize structure = rom[kStructurePointer] | rom[kStructurePointer + 1] << 8;
  if (structure + 8 > rom.size() || std::memcmp(&rom[structure], "PCIR", 4) != 0) return;
  for (unsigned i = 0; i < 4; ++i) {
    u8& byte = rom[structure + kIdentity + i];
    const u8 wanted = static_cast<u8>(card.read_config(pci::kVendorId + i, 1));
    rom[kFreeByte] = static_cast<u8>(rom[kFreeByte] + byte - wanted);
    byte = wanted;
  }
}

}  // namespace

void PcBoard::add_network() {
  VELLUM_ASSERT(m_config.network.size() <= std::size(kSlots));
  for (usize i = 0; i < m_config.network.size(); ++i) {
    const PcConfig::NetworkCard& config = m_config.network[i];
    Network& network = m_network.emplace_back();
    if (config.connected) network.link = std::make_unique<JournaledLink>(m_machine, fmt::format("network{}", i), config.backend);
    const auto put = [&](auto card) -> auto& {
      auto& added = m_machine.add(std::move(card));
      if (!config.rom.empty()) {
        const std::span<u8> rom(m_machine.ram().host(m_layout.network_roms[i]), config.rom.size());
        std::ranges::copy(config.rom, rom.begin());
        adapt_rom(rom, added);
        added.set_rom(m_layout.network_roms[i], static_cast<u32>(rom_size(config.rom)));
      }
      network.describe_card = [&added] { return added.describe(); };
      m_pci->attach(added, kSlots[i], 0);
      return added;
    };
    switch (config.model) {
      case PcConfig::NetworkCard::Model::E1000:
        put(std::make_unique<E1000>(fmt::format("e1000.{}", i), m_machine.clock(), config.address, network.link.get()));
        break;
      case PcConfig::NetworkCard::Model::Ne2kPci:
        put(std::make_unique<Ne2000Pci>(fmt::format("ne2k_pci.{}", i), m_machine.clock(), config.address, network.link.get()));
        break;
      case PcConfig::NetworkCard::Model::Ne2kIsa: {
        const std::string name = fmt::format("ne2k_isa.{}", i);
        auto& card = m_machine.add(std::make_unique<Ne2000Isa>(name, m_machine.clock(), InterruptLine(*m_isa_bridge, config.irq), config.address, network.link.get()));
        m_machine.ports().map(name, config.port, Dp8390::kPorts, card);
        network.describe_card = [&card] { return card.describe(); };
        break;
      }
      case PcConfig::NetworkCard::Model::VirtioNet:
        put(std::make_unique<VirtioNet>(fmt::format("virtio_net.{}", i), config.address, network.link.get()));
        break;
    }
  }
}

std::string PcBoard::describe_network() {
  std::string text;
  for (usize i = 0; i < m_network.size(); ++i)
    text += fmt::format("{}\n    network{}: {}\n", m_network[i].describe_card(), i, m_network[i].link ? m_network[i].link->describe() : "no cable");
  return text.empty() ? "no network cards\n" : text;
}

}  // namespace vellum
