// PCI: configuration space with base address registers, the bus that routes to it, interrupt pins.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "mmu/address_space.h"

namespace vellum {

class PciBus;

// Configuration space offsets, PCI Local Bus Specification 3.0, 6.1.
namespace pci {
inline constexpr unsigned kVendorId = 0x00, kDeviceId = 0x02, kCommand = 0x04, kStatus = 0x06, kRevision = 0x08,
                          kClassCode = 0x09, kHeaderType = 0x0e, kBar0 = 0x10, kSubsystemVendorId = 0x2c,
                          kSubsystemId = 0x2e, kRomBar = 0x30, kCapabilities = 0x34, kInterruptLine = 0x3c,
                          kInterruptPin = 0x3d;
inline constexpr u16 kCommandIo = 1, kCommandMemory = 2, kCommandBusMaster = 4, kCommandInterruptDisable = 0x400;
}  // namespace pci

struct PciIdentity {
  u16 vendor, device;
  u8 revision;
  u32 class_code;  // 24 bits: class, subclass, programming interface
  u16 subsystem_vendor, subsystem;
  bool multifunction = false;
  u8 interrupt_pin = 0;  // 0 none, 1 INTA# … 4 INTD#
};

// One function. Derived devices declare their BARs in the constructor; the base class maps and unmaps them as the guest
// programs BARs and the command register, and keeps the writable bits.
class PciDevice : public Device {
 public:
  PciDevice(PciIdentity identity);
  ~PciDevice() override;

  u8 device_number() const { return m_slot >> 3; }
  u8 function() const { return m_slot & 7; }

  // Configuration accesses; offset is aligned to size (1, 2 or 4). A derived device that reacts to its own registers
  // overrides config_written(), which runs after the writable bits have been stored.
  u32 read_config(unsigned offset, unsigned size) const;
  void write_config(unsigned offset, unsigned size, u32 value);

 protected:
  void declare_io_bar(unsigned index, unsigned size, PortHandler& handler, std::string name);
  void declare_memory_bar(unsigned index, u64 size, MmioHandler& handler, std::string name, bool prefetchable = false);
  // A BAR of guest RAM (a frame buffer) at ram_offset.
  void declare_ram_bar(unsigned index, u64 size, u64 ram_offset, std::string name);
  // The expansion ROM BAR, over ROM contents at ram_offset.
  void declare_rom_bar(u64 size, u64 ram_offset, std::string name);
  // Makes bits of the configuration space writable by the guest.
  void make_writable(unsigned offset, unsigned size, u32 mask);
  void set_config(unsigned offset, unsigned size, u32 value);  // the device's own stores, unmasked; also reset values
  virtual void config_written(unsigned offset, unsigned size) {}
  // Runs before the guest reads; a register whose value is made by looking at it is set here.
  virtual void config_reading(unsigned offset, unsigned size) {}
  // The level of the function's INTx pin (as its interrupt_pin says), routed by the bus.
  void set_interrupt(bool level);

  bool bus_master_enabled() const { return read_config(pci::kCommand, 2) & pci::kCommandBusMaster; }
  // DMA, refused (reads all-ones) while bus mastering is off.
  void dma_read(GuestPhysAddr address, std::span<u8> data);
  void dma_write(GuestPhysAddr address, std::span<const u8> data);

  // Derived classes call these from their reset() and visit().
  void reset_config();
  void visit_config(Archive& archive);

 private:
  friend class PciBus;
  struct Bar {
    enum class Kind : u8 { None, Io, Memory, Ram, Rom } kind = Kind::None;
    u64 size = 0;
    PortHandler* ports = nullptr;
    MmioHandler* mmio = nullptr;
    u64 ram_offset = 0;
    std::string name;
    u32 mapping = 0;   // id in the bus's PortBus or AddressSpace; 0 when not mapped
    u64 mapped_at = 0;
  };
  static constexpr unsigned kRomIndex = 6;  // in m_bars, behind the six ordinary ones
  static unsigned bar_offset(unsigned index) { return index == kRomIndex ? pci::kRomBar : pci::kBar0 + 4 * index; }
  void declare_bar(unsigned index, Bar bar, u32 type_bits);
  u64 wanted_address(unsigned index) const;  // 0: not to be mapped
  void update_bars();
  void unmap_bar(Bar& bar);
  bool interrupt_wanted() const;
  void update_interrupt();

  // Configuration.
  const PciIdentity m_identity;
  std::array<Bar, 7> m_bars;
  std::array<u8, 256> m_writable{};
  std::array<u8, 256> m_defaults{};
  // Wiring.
  PciBus* m_bus = nullptr;
  u8 m_slot = 0;
  // Guest-visible state.
  std::array<u8, 256> m_config{};
  bool m_interrupt_level = false;
  // Derived.
  bool m_routed_level = false;
};

// Bus 0 behind configuration mechanism 1 (ports CF8h/CFCh), PCI 3.0, 3.2.2.3.2.
class PciBus : public Device, public PortHandler {
 public:
  // Called with the function's slot (device << 3 | function), its pin (0 = INTA#) and level; the south bridge routes it.
  using InterruptRouter = std::function<void(u8 slot, u8 pin, bool level)>;

  PciBus(AddressSpace& memory, PortBus& ports);
  ~PciBus() override;
  void attach(PciDevice& device, u8 device_number, u8 function);
  void set_interrupt_router(InterruptRouter router) { m_router = std::move(router); }
  // Called for a device's DMA writes to the message-signalled interrupt range FEE0_0000h-FEEF_FFFFh.
  using MessageHandler = std::function<void(u64 address, u32 data)>;
  void set_message_handler(MessageHandler handler) { m_message_handler = std::move(handler); }
  PciDevice* find(u8 slot) const;
  std::span<PciDevice* const> devices() const { return m_devices; }
  std::string describe() const;  // as `info pci` prints it

  std::string_view name() const override { return "pci"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;  // the address register only: functions visit themselves

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

  AddressSpace& memory() { return m_memory; }
  PortBus& ports() { return m_ports; }

 private:
  friend class PciDevice;
  AddressSpace& m_memory;
  PortBus& m_ports;
  InterruptRouter m_router;
  MessageHandler m_message_handler;
  std::array<PortBus::Id, 2> m_mappings;
  std::vector<PciDevice*> m_devices;
  u32 m_address = 0;
};

}  // namespace vellum
