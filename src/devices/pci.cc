// PCI configuration space, base address registers, and configuration mechanism 1.
#include "devices/pci.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// PCI Local Bus Specification 3.0, 3.2.2.3.2: CONFIG_ADDRESS and CONFIG_DATA.
constexpr u16 kConfigAddress = 0xcf8, kConfigData = 0xcfc;
constexpr u32 kAddressEnable = 0x80000000, kAddressImplemented = 0x80fffffc;
// 6.2.3
constexpr u16 kStatusInterrupt = 8;
// 6.2.5: type bits of a base address register, and the ROM's enable bit (6.2.5.2).
constexpr u32 kBarIo = 1, kBarPrefetchable = 8, kRomEnable = 1;
constexpr u8 kMultifunction = 0x80;
}  // namespace spec

// Main memory (priority 0) answers before PCI, as the host bridge claims its addresses first: a guest cannot hide RAM
// behind a base address register.
constexpr int kBarPriority = -1;

}  // namespace

PciDevice::PciDevice(PciIdentity identity) : m_identity(identity) {
  set_config(pci::kVendorId, 2, identity.vendor);
  set_config(pci::kDeviceId, 2, identity.device);
  set_config(pci::kRevision, 1, identity.revision);
  for (unsigned i = 0; i < 3; ++i) set_config(pci::kClassCode + i, 1, identity.class_code >> (8 * i));
  set_config(pci::kHeaderType, 1, identity.multifunction ? spec::kMultifunction : 0);
  set_config(pci::kSubsystemVendorId, 2, identity.subsystem_vendor);
  set_config(pci::kSubsystemId, 2, identity.subsystem);
  set_config(pci::kInterruptPin, 1, identity.interrupt_pin);
  make_writable(pci::kCommand, 2,
                pci::kCommandIo | pci::kCommandMemory | pci::kCommandBusMaster | pci::kCommandInterruptDisable | 0x140);
  make_writable(0x0c, 2, 0xffff);  // cache line size, latency timer
  make_writable(pci::kInterruptLine, 1, 0xff);
}

PciDevice::~PciDevice() {
  if (!m_bus) return;
  for (auto& bar : m_bars) unmap_bar(bar);
  std::erase(m_bus->m_devices, this);
}

u32 PciDevice::read_config(unsigned offset, unsigned size) const {
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned at = offset + i;
    u8 byte = at < m_config.size() ? m_config[at] : 0xff;
    if (at == pci::kStatus && m_interrupt_level) byte |= spec::kStatusInterrupt;
    value |= static_cast<u32>(byte) << (8 * i);
  }
  return value;
}

void PciDevice::write_config(unsigned offset, unsigned size, u32 value) {
  if (offset + size > m_config.size()) return;
  for (unsigned i = 0; i < size; ++i) {
    const u8 mask = m_writable[offset + i];
    m_config[offset + i] = static_cast<u8>((m_config[offset + i] & ~mask) | ((value >> (8 * i)) & mask));
  }
  if (offset < pci::kRomBar + 4) {
    update_bars();
    update_interrupt();
  }
  config_written(offset, size);
}

void PciDevice::set_config(unsigned offset, unsigned size, u32 value) {
  VELLUM_ASSERT(offset + size <= m_config.size());
  for (unsigned i = 0; i < size; ++i) {
    m_config[offset + i] = static_cast<u8>(value >> (8 * i));
    if (!m_bus) m_defaults[offset + i] = m_config[offset + i];  // what a constructor stores is the reset value
  }
}

void PciDevice::make_writable(unsigned offset, unsigned size, u32 mask) {
  VELLUM_ASSERT(offset + size <= m_writable.size());
  for (unsigned i = 0; i < size; ++i) m_writable[offset + i] |= static_cast<u8>(mask >> (8 * i));
}

void PciDevice::declare_bar(unsigned index, Bar bar, u32 type_bits) {
  VELLUM_ASSERT(index < m_bars.size() && std::has_single_bit(bar.size) && bar.size < (u64{1} << 32));
  const unsigned offset = bar_offset(index);
  set_config(offset, 4, type_bits);
  make_writable(offset, 4, static_cast<u32>(~(bar.size - 1)) | (bar.kind == Bar::Kind::Rom ? spec::kRomEnable : 0));
  m_bars[index] = std::move(bar);
}

void PciDevice::declare_io_bar(unsigned index, unsigned size, PortHandler& handler, std::string name) {
  VELLUM_ASSERT(size >= 4 && size <= 256);  // 6.2.5.1: at most 256 bytes per I/O register
  declare_bar(index, {.kind = Bar::Kind::Io, .size = size, .ports = &handler, .name = std::move(name)}, spec::kBarIo);
}

void PciDevice::declare_memory_bar(unsigned index, u64 size, MmioHandler& handler, std::string name,
                                   bool prefetchable) {
  VELLUM_ASSERT(size >= 16);
  declare_bar(index, {.kind = Bar::Kind::Memory, .size = size, .mmio = &handler, .name = std::move(name)},
              prefetchable ? spec::kBarPrefetchable : 0);
}

void PciDevice::declare_ram_bar(unsigned index, u64 size, u64 ram_offset, std::string name) {
  VELLUM_ASSERT(size >= kPageSize);
  declare_bar(index, {.kind = Bar::Kind::Ram, .size = size, .ram_offset = ram_offset, .name = std::move(name)},
              spec::kBarPrefetchable);
}

void PciDevice::declare_rom_bar(u64 size, u64 ram_offset, std::string name) {
  VELLUM_ASSERT(size >= kPageSize);
  declare_bar(kRomIndex, {.kind = Bar::Kind::Rom, .size = size, .ram_offset = ram_offset, .name = std::move(name)}, 0);
}

u64 PciDevice::wanted_address(unsigned index) const {
  const Bar& bar = m_bars[index];
  const u32 command = read_config(pci::kCommand, 2);
  const u32 value = read_config(bar_offset(index), 4);
  const u64 base = value & ~(bar.size - 1);
  const u64 end = base + bar.size;
  if (base == 0) return 0;  // not assigned
  switch (bar.kind) {
    case Bar::Kind::None: return 0;
    case Bar::Kind::Io: return (command & pci::kCommandIo) && end <= 0x10000 ? base : 0;
    case Bar::Kind::Rom:
      if (!(value & spec::kRomEnable)) return 0;
      [[fallthrough]];
    case Bar::Kind::Memory:
    case Bar::Kind::Ram:
      // A range that ends at 4 GiB is the all-ones value written to learn the size, not an address.
      return (command & pci::kCommandMemory) && end < (u64{1} << 32) ? base : 0;
  }
  return 0;
}

void PciDevice::unmap_bar(Bar& bar) {
  if (!bar.mapped_at) return;
  if (bar.kind == Bar::Kind::Io) m_bus->m_ports.unmap(bar.mapping);
  else m_bus->m_memory.unmap(bar.mapping);
  bar.mapped_at = 0;
}

void PciDevice::update_bars() {
  if (!m_bus) return;
  for (unsigned index = 0; index < m_bars.size(); ++index) {
    Bar& bar = m_bars[index];
    if (bar.kind == Bar::Kind::None) continue;
    const u64 wanted = wanted_address(index);
    if (wanted == bar.mapped_at) continue;
    unmap_bar(bar);
    if (!wanted) continue;
    log(LogItem::Pci, "{}: {} at {:#x}, {:#x} bytes", name(), bar.name, wanted, bar.size);
    AddressSpace& memory = m_bus->m_memory;
    switch (bar.kind) {
      case Bar::Kind::None: break;
      case Bar::Kind::Io:
        bar.mapping = m_bus->m_ports.map(bar.name, static_cast<u16>(wanted), static_cast<unsigned>(bar.size), *bar.ports);
        break;
      case Bar::Kind::Memory:
        bar.mapping = memory.map_mmio(bar.name, GuestPhysAddr(wanted), bar.size, *bar.mmio, kBarPriority);
        break;
      case Bar::Kind::Ram:
        bar.mapping = memory.map_ram(bar.name, GuestPhysAddr(wanted), bar.size, bar.ram_offset, kBarPriority);
        break;
      case Bar::Kind::Rom:
        bar.mapping = memory.map_ram(bar.name, GuestPhysAddr(wanted), bar.size, bar.ram_offset, kBarPriority,
                                     AddressSpace::Access::ReadOnly);
        break;
    }
    bar.mapped_at = wanted;
  }
}

void PciDevice::set_interrupt(bool level) {
  m_interrupt_level = level;
  update_interrupt();
}

bool PciDevice::interrupt_wanted() const {
  return m_interrupt_level && !(read_config(pci::kCommand, 2) & pci::kCommandInterruptDisable);
}

void PciDevice::update_interrupt() {
  const bool level = interrupt_wanted();
  if (level == m_routed_level) return;
  m_routed_level = level;
  if (m_bus && m_bus->m_router && m_identity.interrupt_pin)
    m_bus->m_router(m_slot, static_cast<u8>(m_identity.interrupt_pin - 1), level);
}

void PciDevice::dma_read(GuestPhysAddr address, std::span<u8> data) {
  if (m_bus && bus_master_enabled()) return m_bus->m_memory.read(address, data);
  std::ranges::fill(data, 0xff);
}

void PciDevice::dma_write(GuestPhysAddr address, std::span<const u8> data) {
  if (!m_bus || !bus_master_enabled()) return;
  if (address.value >> 20 == 0xfee && data.size() == 4 && m_bus->m_message_handler) {
    const u32 value = data[0] | data[1] << 8 | data[2] << 16 | static_cast<u32>(data[3]) << 24;
    return m_bus->m_message_handler(address.value, value);
  }
  m_bus->m_memory.write(address, data);
}

void PciDevice::reset_config() {
  m_config = m_defaults;
  m_interrupt_level = false;
  update_bars();
  update_interrupt();
}

void PciDevice::visit_config(Archive& archive) {
  archive("config", m_config)("interrupt_level", m_interrupt_level);
  if (!archive.loading()) return;
  update_bars();
  m_routed_level = !interrupt_wanted();  // the router is told again, whatever it knows
  update_interrupt();
}

PciBus::PciBus(AddressSpace& memory, PortBus& ports) : m_memory(memory), m_ports(ports) {
  m_mappings = {ports.map("pci-config-address", spec::kConfigAddress, 4, *this),
                ports.map("pci-config-data", spec::kConfigData, 4, *this)};
}

PciBus::~PciBus() {
  for (auto* device : m_devices) {
    for (auto& bar : device->m_bars) device->unmap_bar(bar);
    device->m_bus = nullptr;
  }
  for (auto mapping : m_mappings) m_ports.unmap(mapping);
}

void PciBus::attach(PciDevice& device, u8 device_number, u8 function) {
  const u8 slot = static_cast<u8>(device_number << 3 | function);
  VELLUM_ASSERT(device_number < 32 && function < 8 && !find(slot) && !device.m_bus);
  device.m_bus = this;
  device.m_slot = slot;
  m_devices.push_back(&device);
  std::ranges::sort(m_devices, {}, &PciDevice::m_slot);
  device.update_bars();
}

PciDevice* PciBus::find(u8 slot) const {
  const auto found = std::ranges::find(m_devices, slot, &PciDevice::m_slot);
  return found == m_devices.end() ? nullptr : *found;
}

void PciBus::reset(ResetKind) { m_address = 0; }

void PciBus::visit(Archive& archive) {
  archive("address", m_address);
  m_address &= spec::kAddressImplemented;
}

u32 PciBus::read_port(u16 port, unsigned size) {
  if (port < spec::kConfigData) {
    // Only a doubleword access is one to CONFIG_ADDRESS; others pass to the bus, where nothing answers.
    return port == spec::kConfigAddress && size == 4 ? m_address : ~0u >> (32 - 8 * size);
  }
  u32 value = 0;
  PciDevice* device = nullptr;
  if ((m_address & spec::kAddressEnable) && ((m_address >> 16) & 0xff) == 0) device = find((m_address >> 8) & 0xff);
  if (device) device->config_reading((m_address & 0xfc) + (port - spec::kConfigData), size);
  for (unsigned i = 0; i < size; ++i) {
    const unsigned byte = port - spec::kConfigData + i;
    const u32 data = device && byte < 4 ? device->read_config((m_address & 0xfc) + byte, 1) : 0xff;
    value |= data << (8 * i);
  }
  return value;
}

void PciBus::write_port(u16 port, unsigned size, u32 value) {
  if (port < spec::kConfigData) {
    if (port == spec::kConfigAddress && size == 4) m_address = value & spec::kAddressImplemented;
    return;
  }
  if (!(m_address & spec::kAddressEnable) || ((m_address >> 16) & 0xff) != 0) return;
  PciDevice* device = find((m_address >> 8) & 0xff);
  if (!device) return;
  const unsigned byte = port - spec::kConfigData;
  const unsigned offset = (m_address & 0xfc) + byte;
  log(LogItem::Pci, "{}: config[{:#x}] = {:#x} ({} bytes)", device->name(), offset, value, size);
  if ((byte & (size - 1)) == 0) return device->write_config(offset, size, value);
  for (unsigned i = 0; i < size && byte + i < 4; ++i) device->write_config(offset + i, 1, (value >> (8 * i)) & 0xff);
}

std::string PciBus::describe() const {
  std::string text;
  for (const auto* device : m_devices) {
    const auto config = [&](unsigned offset, unsigned size) { return device->read_config(offset, size); };
    text += fmt::format("00:{:02x}.{} {} {:04x}:{:04x} class {:04x}", device->device_number(), device->function(),
                        device->name(), config(0, 2), config(2, 2), config(0x0a, 2));
    if (config(pci::kInterruptPin, 1))
      text += fmt::format(", INT{}# IRQ {}", static_cast<char>('A' + config(pci::kInterruptPin, 1) - 1),
                          config(pci::kInterruptLine, 1));
    text += '\n';
    for (const auto& bar : device->m_bars)
      if (bar.mapped_at)
        text += fmt::format("    {} at {:#x}, {:#x} bytes: {}\n", bar.kind == PciDevice::Bar::Kind::Io ? "I/O" : "memory",
                            bar.mapped_at, bar.size, bar.name);
  }
  return text;
}

}  // namespace vellum
