// The IDE function of the PIIX3 (82371SB): two channels at the legacy ports, with bus-master DMA.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "devices/ide_drive.h"
#include "devices/interrupt_line.h"
#include "devices/pci.h"
#include "devices/port_bus.h"

namespace vellum {

// 8086:7010. The board attaches it as function 1 of the PIIX3's slot. Legacy ports 1F0-1F7, 3F6 (IRQ14) and 170-177,
// 376 (IRQ15); bus master registers at BAR4.
class Piix3Ide : public PciDevice, public PortHandler {
 public:
  static constexpr unsigned kChannels = 2, kDrives = 2;

  Piix3Ide(PortBus& ports, InterruptLine primary, InterruptLine secondary);
  ~Piix3Ide() override;

  // Before the machine runs. channel 0 primary, 1 secondary; position 0 master, 1 slave.
  void attach_drive(unsigned channel, unsigned position, std::unique_ptr<IdeDrive> drive);
  IdeDrive* drive(unsigned channel, unsigned position) const { return m_drives[channel][position].get(); }

  std::string_view name() const override { return "ide"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

 protected:
  void config_written(unsigned offset, unsigned size) override;

 private:
  class BusMasterPorts : public PortHandler {
   public:
    explicit BusMasterPorts(Piix3Ide& ide) : m_ide(ide) {}
    u32 read_port(u16 port, unsigned size) override;
    void write_port(u16 port, unsigned size, u32 value) override;

   private:
    Piix3Ide& m_ide;
  };
  class PrdTable;

  bool decoded(unsigned channel) const;
  IdeDrive* selected(unsigned channel) const;
  u8 read_command_block(unsigned channel, unsigned offset);
  void write_command_block(unsigned channel, unsigned offset, u8 value);
  u8 read_status(unsigned channel) const;
  void write_control(unsigned channel, u8 value);
  void run_dma(unsigned channel);
  void update_interrupt(unsigned channel);
  u8 read_bus_master(unsigned offset);
  void write_bus_master(unsigned offset, u8 value);

  // Wiring.
  PortBus& m_ports;
  std::array<InterruptLine, kChannels> m_lines;
  BusMasterPorts m_bus_master{*this};
  std::array<PortBus::Id, 2 * kChannels> m_mappings{};
  std::array<std::array<std::unique_ptr<IdeDrive>, kDrives>, kChannels> m_drives;
  // Guest-visible state.
  struct Channel {
    bool second = false;    // Device register bit 4: which drive is selected
    u8 control = 0;         // Device Control register
    bool interrupt = false; // INTRQ as the bus master last saw it
    u8 command = 0;         // BMIC
    u8 status = 0;          // BMIS
    u32 table = 0;          // BMIDTP
    u32 entry = 0;          // address of the next PRD entry
    u32 address = 0;        // of the region at hand
    u32 left = 0;           // bytes of it not yet moved
    bool last = false;      // the region at hand was marked end of table
    void visit(Archive& archive);
  };
  struct State {
    std::array<Channel, kChannels> channels;
  } m_state;
};

}  // namespace vellum
