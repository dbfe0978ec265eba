// PIIX3 IDE: port decoding, drive selection, interrupts and the bus master.
#include "devices/ide.h"

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// Intel 82371SB (PIIX3) datasheet, order number 290550, sections 2.3 (configuration) and 2.7 (bus master I/O).
constexpr unsigned kIdeTiming = 0x40;         // IDETIM, 16 bits for each channel; bit 15: decode enable
constexpr unsigned kSlaveIdeTiming = 0x44;    // SIDETIM
constexpr u16 kDecodeEnable = 0x8000;
constexpr unsigned kBusMasterBar = 4, kBusMasterSize = 16;
constexpr u8 kCommandStart = 0x01, kCommandToMemory = 0x08;                          // BMIC
constexpr u8 kStatusActive = 0x01, kStatusError = 0x02, kStatusInterrupt = 0x04, kStatusCapable = 0x60;  // BMIS
constexpr u32 kEndOfTable = 0x8000'0000;      // PRD entry, second doubleword
constexpr std::array<u16, 2> kCommandBlock = {0x1f0, 0x170}, kControlBlock = {0x3f6, 0x376};
// No drive: pull-ups hold the bus high, and DD7 has a pull-down (ATA-6 table 4, note 6), so that BSY reads as zero.
constexpr u8 kEmptyBus = 0x7f;
}  // namespace
}  // namespace spec

// Walks a channel's PRD table; its place in it is part of the channel's state, so that a transfer can go on later.
class Piix3Ide::PrdTable : public IdeDma {
 public:
  PrdTable(Piix3Ide& ide, Channel& channel) : m_ide(ide), m_channel(channel) {}

  usize to_memory(std::span<const u8> data) override {
    return move(data.size(), [&](GuestPhysAddr address, usize done, usize part) {
      m_ide.dma_write(address, data.subspan(done, part));
    });
  }
  usize from_memory(std::span<u8> data) override {
    return move(data.size(), [&](GuestPhysAddr address, usize done, usize part) {
      m_ide.dma_read(address, data.subspan(done, part));
    });
  }

 private:
  template <class Mover>
  usize move(usize size, Mover&& mover) {
    usize done = 0;
    while (done < size) {
      if (m_channel.left == 0 && !next_entry()) break;
      const usize part = std::min<usize>(size - done, m_channel.left);
      mover(GuestPhysAddr(m_channel.address), done, part);
      m_channel.address += static_cast<u32>(part);
      m_channel.left -= static_cast<u32>(part);
      done += part;
    }
    return done;
  }
  bool next_entry() {
    if (m_channel.last) {
      m_channel.status &= static_cast<u8>(~spec::kStatusActive);
      return false;
    }
    u8 entry[8];
    m_ide.dma_read(GuestPhysAddr(m_channel.entry), entry);
    const auto doubleword = [&entry](unsigned at) {
      return u32{entry[at]} | u32{entry[at + 1]} << 8 | u32{entry[at + 2]} << 16 | u32{entry[at + 3]} << 24;
    };
    m_channel.entry += 8;
    m_channel.address = doubleword(0) & ~1u;
    m_channel.left = doubleword(4) & 0xfffe;
    if (m_channel.left == 0) m_channel.left = 0x10000;
    m_channel.last = doubleword(4) & spec::kEndOfTable;
    return true;
  }

  Piix3Ide& m_ide;
  Channel& m_channel;
};

Piix3Ide::Piix3Ide(PortBus& ports, InterruptLine primary, InterruptLine secondary)
    : PciDevice({.vendor = 0x8086, .device = 0x7010, .revision = 0, .class_code = 0x010180}),
      m_ports(ports),
      m_lines{primary, secondary} {
  declare_io_bar(spec::kBusMasterBar, spec::kBusMasterSize, m_bus_master, "ide bus master");
  make_writable(spec::kIdeTiming, 4, 0xf3fff3ff);
  make_writable(spec::kSlaveIdeTiming, 1, 0xff);
  for (unsigned channel = 0; channel < kChannels; ++channel) {
    m_mappings[2 * channel] = ports.map("ide", spec::kCommandBlock[channel], 8, *this);
    m_mappings[2 * channel + 1] = ports.map("ide control", spec::kControlBlock[channel], 1, *this);
  }
}

Piix3Ide::~Piix3Ide() {
  for (const auto id : m_mappings) m_ports.unmap(id);
}

void Piix3Ide::attach_drive(unsigned channel, unsigned position, std::unique_ptr<IdeDrive> drive) {
  VELLUM_ASSERT(channel < kChannels && position < kDrives);
  drive->set_position(position != 0);
  m_drives[channel][position] = std::move(drive);
}

void Piix3Ide::reset(ResetKind) {
  reset_config();
  // The datasheet's reset value is zero, with firmware to set decode enable. Here the channels are decoded from the
  // start, as if the board's firmware had done so: OVMF leaves the register as it finds it.
  set_config(spec::kIdeTiming, 2, spec::kDecodeEnable);
  set_config(spec::kIdeTiming + 2, 2, spec::kDecodeEnable);
  for (unsigned channel = 0; channel < kChannels; ++channel) {
    m_state.channels[channel] = {};
    for (auto& drive : m_drives[channel])
      if (drive) drive->hard_reset();
    m_lines[channel].lower();
  }
}

void Piix3Ide::Channel::visit(Archive& archive) {
  archive("second", second)("control", control)("interrupt", interrupt)("command", command)("status", status);
  archive("table", table)("entry", entry)("address", address)("left", left)("last", last);
  archive.require(left <= 0x10000, "length of a DMA region");
}

void Piix3Ide::visit(Archive& archive) {
  auto& [channels] = m_state;
  archive.begin("config");
  visit_config(archive);
  archive.end();
  archive("channels", channels);
  for (unsigned channel = 0; channel < kChannels; ++channel) {
    for (unsigned position = 0; position < kDrives; ++position) {
      auto& drive = m_drives[channel][position];
      bool present = drive != nullptr;
      archive("present", present);
      archive.require(present == (drive != nullptr), "drives attached");
      if (drive) archive("drive", *drive);
    }
    if (archive.loading()) m_lines[channel].set(m_state.channels[channel].interrupt);
  }
}

bool Piix3Ide::decoded(unsigned channel) const {
  return (read_config(pci::kCommand, 2) & pci::kCommandIo) &&
         (read_config(spec::kIdeTiming + 2 * channel, 2) & spec::kDecodeEnable);
}

IdeDrive* Piix3Ide::selected(unsigned channel) const {
  return m_drives[channel][m_state.channels[channel].second ? 1 : 0].get();
}

void Piix3Ide::config_written(unsigned offset, unsigned) {
  // Switching bus mastering on lets a transfer go on that waited for it.
  if (offset <= pci::kCommand + 1u)
    for (unsigned channel = 0; channel < kChannels; ++channel) run_dma(channel);
}

u32 Piix3Ide::read_port(u16 port, unsigned size) {
  const unsigned channel = port & 0x80 ? 0 : 1;
  const bool control = port >= 0x300;
  if (!control && (port & 7) == 0 && size > 1) {
    IdeDrive* drive = selected(channel);
    if (!drive || !decoded(channel)) return 0xffffffffu >> (32 - 8 * size);
    const u32 value = drive->read_data(size);
    update_interrupt(channel);
    return value;
  }
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    u32 byte;
    if (control ? i != 0 : (port & 7) + i > 7) byte = m_ports.read(at, 1);
    else if (!decoded(channel)) byte = 0xff;
    else if (control) byte = read_status(channel);
    else byte = read_command_block(channel, at & 7);
    value |= byte << (8 * i);
  }
  return value;
}

void Piix3Ide::write_port(u16 port, unsigned size, u32 value) {
  const unsigned channel = port & 0x80 ? 0 : 1;
  const bool control = port >= 0x300;
  if (!control && (port & 7) == 0 && size > 1) {
    IdeDrive* drive = selected(channel);
    if (!drive || !decoded(channel)) return;
    drive->write_data(size, value);
    run_dma(channel);  // the packet of a PACKET command may have started a DMA transfer
    update_interrupt(channel);
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    const u8 byte = static_cast<u8>(value >> (8 * i));
    if (control ? i != 0 : (port & 7) + i > 7) m_ports.write(at, 1, byte);
    else if (!decoded(channel)) continue;
    else if (control) write_control(channel, byte);
    else write_command_block(channel, at & 7, byte);
  }
}

u8 Piix3Ide::read_status(unsigned channel) const {
  const auto& drives = m_drives[channel];
  if (const IdeDrive* drive = selected(channel)) {
    // BSY stands for as long as SRST does (ATA-6 9.2).
    if (m_state.channels[channel].control & ata::kControlSoftReset) return ata::kStatusBusy;
    return drive->status();
  }
  // Device 0 answers for an absent device 1 with zero (ATA-6 9.16.1); nobody answers for an absent device 0.
  return m_state.channels[channel].second && drives[0] ? 0 : spec::kEmptyBus;
}

u8 Piix3Ide::read_command_block(unsigned channel, unsigned offset) {
  IdeDrive* drive = selected(channel);
  if (offset == 7) {
    const u8 status = read_status(channel);
    if (drive) drive->acknowledge();
    update_interrupt(channel);
    return status;
  }
  // An absent device 1 reads as zero in all registers: what ATA-6 asks of packet devices there, and what keeps drivers
  // from taking device 0's registers for a second drive.
  if (!drive) return m_state.channels[channel].second && m_drives[channel][0] ? 0 : spec::kEmptyBus;
  if (offset == 0) {
    const u8 value = static_cast<u8>(drive->read_data(2));
    update_interrupt(channel);
    return value;
  }
  return drive->read_register(static_cast<AtaRegister>(offset),
                              m_state.channels[channel].control & ata::kControlHighOrderByte);
}

void Piix3Ide::write_command_block(unsigned channel, unsigned offset, u8 value) {
  Channel& state = m_state.channels[channel];
  state.control &= static_cast<u8>(~ata::kControlHighOrderByte);  // 7.8: any write to the command block clears HOB
  if (state.control & ata::kControlSoftReset) return;
  if (offset == 0) {
    if (IdeDrive* drive = selected(channel)) drive->write_data(2, value);
  } else if (offset == 7) {
    constexpr u8 kExecuteDiagnostic = 0x90;
    if (value == kExecuteDiagnostic) {
      state.second = false;
      for (auto& drive : m_drives[channel])
        if (drive) drive->execute_diagnostic();
    } else if (IdeDrive* drive = selected(channel)) {
      drive->acknowledge();  // INTRQ falls even if this command raises it again at once: the PIC must see an edge
      update_interrupt(channel);
      log(LogItem::Disk, "channel {} drive {}: command {:#04x}", channel, state.second ? 1 : 0, value);
      drive->write_command(value);
    }
  } else {
    // Both drives hear every register write; each keeps its own task file.
    if (offset == 6) state.second = value & ata::kDeviceSecond;
    for (auto& drive : m_drives[channel])
      if (drive) drive->write_register(static_cast<AtaRegister>(offset), value);
  }
  run_dma(channel);
  update_interrupt(channel);
}

void Piix3Ide::write_control(unsigned channel, u8 value) {
  Channel& state = m_state.channels[channel];
  const bool was_reset = state.control & ata::kControlSoftReset;
  state.control = value;
  if (!was_reset && (value & ata::kControlSoftReset)) {
    state.second = false;
    for (auto& drive : m_drives[channel])
      if (drive) drive->soft_reset();
  }
  update_interrupt(channel);
}

void Piix3Ide::update_interrupt(unsigned channel) {
  Channel& state = m_state.channels[channel];
  const IdeDrive* drive = selected(channel);
  const bool level = drive && drive->interrupt() && !(state.control & ata::kControlInterruptDisable);
  if (level == state.interrupt) return;
  state.interrupt = level;
  if (level) state.status |= spec::kStatusInterrupt;  // BMIS bit 2 is set by INTRQ's rising edge
  m_lines[channel].set(level);
}

void Piix3Ide::run_dma(unsigned channel) {
  Channel& state = m_state.channels[channel];
  IdeDrive* drive = selected(channel);
  if (!drive || !drive->dma_requested() || !(state.status & spec::kStatusActive) || !bus_master_enabled()) return;
  const bool to_memory = state.command & spec::kCommandToMemory;
  if (to_memory != drive->dma_to_memory()) {
    log(LogItem::GuestErrors, "IDE bus master started against the direction of the drive's command");
    return;
  }
  PrdTable table(*this, state);
  drive->run_dma(table);
  // Active falls when the region marked end-of-table has been moved.
  if (state.last && state.left == 0) state.status &= static_cast<u8>(~spec::kStatusActive);
  update_interrupt(channel);
}

u8 Piix3Ide::read_bus_master(unsigned offset) {
  const Channel& state = m_state.channels[offset >> 3];
  switch (offset & 7) {
    case 0: return state.command;
    case 2: return state.status;
    case 4:
    case 5:
    case 6:
    case 7: return static_cast<u8>(state.table >> (8 * (offset & 3)));
    default: return 0;
  }
}

void Piix3Ide::write_bus_master(unsigned offset, u8 value) {
  const unsigned index = offset >> 3;
  Channel& state = m_state.channels[index];
  switch (offset & 7) {
    case 0: {
      const u8 before = state.command;
      state.command = value & (spec::kCommandStart | spec::kCommandToMemory);
      if (!(before & spec::kCommandStart) && (value & spec::kCommandStart)) {
        state.status |= spec::kStatusActive;
        state.entry = state.table;
        state.left = 0;
        state.last = false;
        run_dma(index);
      } else if (!(value & spec::kCommandStart)) {
        state.status &= static_cast<u8>(~spec::kStatusActive);
      }
      break;
    }
    case 2: {
      const u8 cleared = value & (spec::kStatusError | spec::kStatusInterrupt);
      state.status = static_cast<u8>((state.status & ~(cleared | spec::kStatusCapable)) |
                                     (value & spec::kStatusCapable));
      break;
    }
    case 4:
    case 5:
    case 6:
    case 7: {
      const unsigned shift = 8 * (offset & 3);
      state.table = (state.table & ~(0xffu << shift)) | u32{value} << shift;
      state.table &= ~3u;
      break;
    }
    default: break;
  }
}

u32 Piix3Ide::BusMasterPorts::read_port(u16 port, unsigned) {
  return m_ide.read_bus_master(port & (spec::kBusMasterSize - 1));
}

void Piix3Ide::BusMasterPorts::write_port(u16 port, unsigned, u32 value) {
  m_ide.write_bus_master(port & (spec::kBusMasterSize - 1), static_cast<u8>(value));
}

}  // namespace vellum
