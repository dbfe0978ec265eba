// What an ATA disk and an ATAPI drive have in common: task file, status, interrupt, and the data phase.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/device.h"
#include "state/archive.h"
#include "storage/block_device.h"

namespace vellum {

// ATA/ATAPI-6 (T13/1410D), clause 7: register bits.
namespace ata {
inline constexpr u8 kStatusBusy = 0x80, kStatusReady = 0x40, kStatusFault = 0x20, kStatusSeekComplete = 0x10,
                    kStatusDataRequest = 0x08, kStatusCorrected = 0x04, kStatusIndex = 0x02, kStatusError = 0x01;
inline constexpr u8 kErrorUncorrectable = 0x40, kErrorMediaChanged = 0x20, kErrorIdNotFound = 0x10,
                    kErrorMediaChangeRequest = 0x08, kErrorAbort = 0x04, kErrorNoMedia = 0x02;
inline constexpr u8 kControlInterruptDisable = 0x02, kControlSoftReset = 0x04, kControlHighOrderByte = 0x80;
inline constexpr u8 kDeviceLba = 0x40, kDeviceSecond = 0x10;
}  // namespace ata

// Offsets in the command block (1F0h + n).
enum class AtaRegister : u8 { Data, Error, SectorCount, LbaLow, LbaMid, LbaHigh, Device, Status };

// Guest memory as a drive's DMA sees it: the bus master's PRD table behind it. Both return how many bytes were moved;
// fewer than asked for means the table ended or the bus master stopped.
class IdeDma {
 public:
  virtual ~IdeDma() = default;
  virtual usize to_memory(std::span<const u8> data) = 0;
  virtual usize from_memory(std::span<u8> data) = 0;
};

class IdeDrive {
 public:
  virtual ~IdeDrive() = default;

  // -- the channel's side -------------------------------------------------------------------------------------------
  void set_position(bool second) { m_second = second; }
  void write_register(AtaRegister reg, u8 value);
  u8 read_register(AtaRegister reg, bool high_order_byte) const;
  u8 status() const { return m_state.status; }
  void write_command(u8 command);
  // One data register access of `size` bytes (2 or 4).
  u32 read_data(unsigned size);
  void write_data(unsigned size, u32 value);
  // INTRQ as the drive drives it while selected (nIEN is the channel's to apply).
  bool interrupt() const { return m_state.interrupt; }
  void acknowledge() { m_state.interrupt = false; }
  // DMARQ: a DMA command waits for the bus master.
  bool dma_requested() const { return m_state.phase == Phase::DmaIn || m_state.phase == Phase::DmaOut; }
  bool dma_to_memory() const { return m_state.phase == Phase::DmaIn; }
  // Moves what the command asks for; the drive then has left the DMA phase, unless the PRD table was too short.
  void run_dma(IdeDma& dma);
  // Software reset (SRST), hardware reset; sets the signature.
  void soft_reset();
  void hard_reset();
  // EXECUTE DEVICE DIAGNOSTIC: both drives perform it, whichever is selected.
  void execute_diagnostic();

  void visit(Archive& archive);

  virtual std::string describe() const = 0;  // one line for `info block`
  virtual Result<void> flush() = 0;          // at shutdown

 protected:
  // Where the drive stands in a command (ATA/ATAPI-6 clause 9's protocols).
  enum class Phase : u8 {
    Idle,
    PioIn,     // DRQ: the host reads buffer[position, end)
    PioOut,    // DRQ: the host writes it
    Packet,    // DRQ: the host writes a command packet
    DmaIn,     // DMARQ: the bus master fetches from the drive
    DmaOut,
    Count
  };

  explicit IdeDrive(usize buffer_size) { m_state.buffer.resize(buffer_size); }

  // -- the command set's side ---------------------------------------------------------------------------------------
  virtual void execute(u8 command) = 0;
  // The host has taken or filled the buffer of a DRQ block.
  virtual void block_done() = 0;
  // DMA, drive to host: fills the buffer with the next piece and returns its length. Host to drive: returns the length
  // of the next piece wanted. 0: nothing more is to be moved. An error ends the command from inside.
  virtual usize next_dma_piece() = 0;
  // The piece has been moved (host to drive: its bytes stand in the buffer). An error ends the command from inside.
  virtual void dma_piece_done(usize length) = 0;
  // All pieces are done; ends the command.
  virtual void dma_finished() = 0;
  // What a reset or EXECUTE DEVICE DIAGNOSTIC leaves in the task file (9.12), and DRDY, which packet devices clear.
  virtual void set_signature() = 0;
  virtual void drive_reset(bool hard) = 0;
  virtual void visit_drive(Archive& archive) = 0;

  void start_pio_in(usize length, bool interrupt = true);
  void start_pio_out(usize length, bool interrupt);
  void start_dma(bool to_memory);
  void start_packet();  // DRQ for the command packet of a PACKET command
  // Ends the command: DRDY, no DRQ; most commands end with an interrupt.
  void complete(bool interrupt = true);
  void abort_command(u8 error = ata::kErrorAbort);

  struct State {
    // Task file; [0] what was written last, [1] what stood there before (the "previous content", 6.20).
    u8 features[2] = {}, count[2] = {}, low[2] = {}, mid[2] = {}, high[2] = {};
    u8 device = 0;
    u8 error = 1;
    u8 status = ata::kStatusReady | ata::kStatusSeekComplete;
    u8 command = 0;
    bool interrupt = false;
    Phase phase = Phase::Idle;
    u32 position = 0;        // in buffer
    u32 end = 0;             // bytes of it in use
    std::vector<u8> buffer;  // of constant size
  } m_state;
  bool m_second = false;

 private:
  void idle();
};

}  // namespace vellum
