// Floppy disk controller Intel 82077AA with up to two drives of its cable (drives A: and B:).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "devices/device.h"
#include "devices/dma_channel.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"
#include "storage/block_device.h"

namespace vellum {

// The values are those of the CMOS's drive type byte (register 10h).
enum class FloppyDriveType : u8 { None = 0, Inch5_360K = 1, Inch5_1200K = 2, Inch3_720K = 3, Inch3_1440K = 4,
                                  Inch3_2880K = 5 };

struct FloppyGeometry {
  u8 cylinders = 0, heads = 0, sectors = 0;  // sectors of 512 bytes
  u8 data_rate = 0;                          // as in CCR: 0 500, 1 300, 2 250, 3 1000 kbit/s
  FloppyDriveType drive = FloppyDriveType::None;  // the drive that such a medium belongs to
  u64 bytes() const { return u64{512} * cylinders * heads * sectors; }
};
// The standard format of an image of `bytes`; another size is taken for the smallest 3.5 inch high density format that
// holds it (the rest reads as zeroes), and is an error when none does.
Result<FloppyGeometry> floppy_geometry(u64 bytes);

class Floppy82077aa : public Device, public PortHandler {
 public:
  static constexpr unsigned kDrives = 2;

  // Maps base+0..5 and base+7 (base+6 is the IDE controller's).
  Floppy82077aa(PortBus& ports, VirtualClock& clock, InterruptLine irq, DmaChannel& dma, u16 base = 0x3f0);
  ~Floppy82077aa() override;

  // Before the machine runs: the kind of drive. An inserted medium must fit it; a drive of type None does not exist.
  void set_drive_type(unsigned drive, FloppyDriveType type);
  FloppyDriveType drive_type(unsigned drive) const { return m_drives[drive].type; }
  // The user's side: changes the medium and sets the disk change line. insert() makes a drive of type None or one too
  // small for the medium into the medium's own kind when the machine has not run yet (`adapt`).
  // Whether insert() without `adapt` will take it; the error says why not.
  Result<void> accepts(unsigned drive, const BlockDevice& medium) const;
  Result<void> insert(unsigned drive, std::unique_ptr<BlockDevice> medium, bool adapt);
  void eject(unsigned drive);
  BlockDevice* medium(unsigned drive) const { return m_drives[drive].medium.get(); }

  std::string_view name() const override { return "floppy82077aa"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  enum class Phase : u8 { Reset, Idle, Command, Execution, Result, Count };
  enum class Transfer : u8 { None, Read, Write, Format, Scan, Verify, ReadId, Count };
  struct Drive {
    FloppyDriveType type = FloppyDriveType::None;
    std::unique_ptr<BlockDevice> medium;
    FloppyGeometry geometry;
  };
  static constexpr usize kSectorBytes = 512, kUnits = 4;

  u8 main_status() const;
  u8 digital_input() const;
  u8 read_fifo();
  void write_fifo(u8 value);
  void write_dor(u8 value);
  void enter_reset();
  void leave_reset();
  void reset_done();
  void set_interrupt(bool level);
  Ticks step_time() const;

  // A command whose bytes are complete.
  void execute();
  void finish(std::span<const u8> result, bool interrupt);
  void start_seek(unsigned unit, unsigned cylinder, u8 status);
  void seek_done(unsigned unit);
  void sense_interrupt();
  void sense_drive();
  void dump_registers();

  // Data commands: the timer brings sector after sector under the head.
  void start_transfer(Transfer kind);
  void transfer_due();
  bool find_sector();             // false after the command ended with an error
  void move_sector();             // between the buffer and the DMA channel or the host
  void sector_moved(bool terminal_count);
  bool next_sector();             // steps the address; false: the last sector of the cylinder was at hand
  void end_transfer(u8 st0, u8 st1, u8 st2);
  void format_sector();
  void arm_transfer(Ticks delay) { m_transfer_timer.arm(m_clock.now() + delay); }
  u8 media_fault() const;         // 0, or the ST1 bit that the medium's state gives
  bool double_steps() const;      // a 40-track disk in an 80-track drive
  u8 cylinder_under_head() const;
  std::optional<u64> sector_offset(u8 cylinder, u8 head, u8 sector) const;
  const Drive& drive() const;

  // Configuration.
  std::array<Drive, kDrives> m_drives;
  // Wiring.
  PortBus& m_ports;
  VirtualClock& m_clock;
  InterruptLine m_irq;
  DmaChannel& m_dma;
  u16 m_base;
  std::array<PortBus::Id, 2> m_mappings{};
  // Guest-visible state.
  Timer m_transfer_timer;
  Timer m_reset_timer;
  std::array<Timer, kUnits> m_seek_timers;
  struct Unit {                   // one of the four drives that the controller could have
    u8 cylinder = 0;              // PCN: where the controller believes the head to be
    u8 track = 0;                 // where the head is
    u8 target = 0;
    u8 status = 0;                // ST0 that SENSE INTERRUPT STATUS has to report; 0: none
    bool seeking = false;
    bool disk_changed = true;
    u64 medium_size = 0;          // bytes, when it was saved; 0: no medium
    void visit(Archive& archive);
  };
  struct State {
    Phase phase = Phase::Reset;
    u8 dor = 0, tape = 0, rate = 2;
    std::array<u8, 16> fifo{};    // command or result bytes
    u8 fifo_length = 0, fifo_position = 0;
    bool interrupt = false;
    u8 reset_polls = 0;           // SENSE INTERRUPT STATUS answers still owed after a reset
    std::array<Unit, kUnits> units;
    // SPECIFY, CONFIGURE, PERPENDICULAR MODE, LOCK
    std::array<u8, 2> specify{};
    u8 configure = 0x20, precompensation = 0, perpendicular = 0;
    bool lock = false;
    // The data command at hand.
    Transfer transfer = Transfer::None;
    u8 command = 0, unit = 0, head = 0;
    u8 c = 0, h = 0, r = 0, n = 0, end_of_track = 0, data_length = 0;
    u8 format_left = 0, format_filler = 0;
    bool host_turn = false;       // non-DMA: the host has to read or write the buffer
    bool wanted_seen = false;     // READ TRACK: the sector that was asked for came by
    u8 scan_status = 0;
    u16 position = 0, length = 0;  // in buffer
    std::array<u8, kSectorBytes> buffer{};
  } m_state;
};

}  // namespace vellum
