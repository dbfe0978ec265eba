// Floppy disk controller Intel 82077AA with up to two drives of its cable (drives A: and B:).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

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
// The standard format of an image of `bytes`; for other sizes the smallest standard one that holds it (the rest reads
// as zeroes), or an error line when none does.
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
  Result<void> insert(unsigned drive, std::unique_ptr<BlockDevice> medium, bool adapt);
  void eject(unsigned drive);
  BlockDevice* medium(unsigned drive) const { return m_drives[drive].medium.get(); }

  std::string_view name() const override { return "floppy82077aa"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  enum class Phase : u8 { Idle, Command, Execution, Result, Count };
  enum class Transfer : u8 { None, Read, Write, Format, Scan, Count };
  struct Drive {
    FloppyDriveType type = FloppyDriveType::None;
    std::unique_ptr<BlockDevice> medium;
    FloppyGeometry geometry;
  };
  static constexpr usize kFifoSize = 16, kLongestTransfer = 16 * 1024;

  u8 main_status() const;
  u8 read_fifo();
  void write_fifo(u8 value);
  void write_dor(u8 value);
  u8 digital_input() const;
  void controller_reset(bool hardware);
  void reset_done();
  void execute();
  void finish(std::span<const u8> result, bool interrupt);
  void set_interrupt(bool level);
  unsigned data_rate() const;
  Ticks step_time() const;
  Ticks byte_time() const;

  void specify();
  void recalibrate();
  void seek(u8 cylinder);
  void relative_seek();
  void seek_done(unsigned drive);
  void sense_interrupt();
  void sense_drive();
  void read_id();
  void start_transfer(Transfer kind);
  void transfer_due();
  bool begin_sector();
  void sector_done();
  bool next_sector();
  void end_transfer(u8 st0, u8 st1, u8 st2);
  void format_track_entry();
  void dump_registers();
  bool drive_ready(unsigned drive) const;
  std::optional<u64> sector_offset(unsigned drive, u8 cylinder, u8 head, u8 sector) const;

  // Configuration.
  std::array<Drive, kDrives> m_drives;
  // Wiring.
  PortBus& m_ports;
  VirtualClock& m_clock;
  InterruptLine m_irq;
  DmaChannel& m_dma;
  u16 m_base;
  std::array<PortBus::Id, 2> m_mappings{};
  // Derived.
  Timer m_transfer_timer;
  Timer m_reset_timer;
  std::array<Timer, 4> m_seek_timers;
  // Guest-visible state.
  struct State {
    Phase phase = Phase::Idle;
    u8 dor = 0, dsr = 2, ccr = 2, tape = 0;
    std::array<u8, 16> fifo{};          // command or result bytes
    u8 fifo_length = 0, fifo_position = 0;
    bool interrupt = false;
    std::array<u8, 4> cylinder{};       // PCN: where the controller believes each head to be
    std::array<u8, 4> track{};          // where the drive's head really is
    std::array<bool, 4> seeking{};
    std::array<u8, 4> seek_status{};    // ST0 to report by SENSE INTERRUPT STATUS; 0: none
    std::array<u8, 4> seek_target{};
    std::array<bool, 4> disk_changed{};
    u8 reset_polls = 0;                 // SENSE INTERRUPT STATUS answers still owed after a reset
    // SPECIFY, CONFIGURE, PERPENDICULAR MODE, LOCK
    u8 specify[2] = {0, 0};
    u8 configure = 0, precompensation = 0, perpendicular = 0;
    bool lock = false;
    // The data command at hand.
    Transfer transfer = Transfer::None;
    u8 command = 0, drive = 0, head = 0;
    u8 c = 0, h = 0, r = 0, n = 0, end_of_track = 0, data_length = 0, scan_step = 1;
    u8 format_left = 0, format_filler = 0;
    bool non_dma = false, data_ready = false, deleted_mark = false, track_mode = false;
    u8 scan_result = 0;
    u32 position = 0, length = 0;       // in buffer
    std::vector<u8> buffer;
  } m_state;
};

}  // namespace vellum
