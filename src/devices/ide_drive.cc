// The task file, the data register and DMA pacing that all IDE drives share.
#include "devices/ide_drive.h"

#include <algorithm>
#include <cstring>

namespace vellum {

namespace {
constexpr u8 kStatusIdle = ata::kStatusReady | ata::kStatusSeekComplete;
}

void IdeDrive::write_register(AtaRegister reg, u8 value) {
  // ATA-6 6.20: each register of the 48-bit feature set is a two-deep queue.
  const auto push = [value](u8 (&queue)[2]) {
    queue[1] = queue[0];
    queue[0] = value;
  };
  switch (reg) {
    case AtaRegister::Error: push(m_state.features); break;
    case AtaRegister::SectorCount: push(m_state.count); break;
    case AtaRegister::LbaLow: push(m_state.low); break;
    case AtaRegister::LbaMid: push(m_state.mid); break;
    case AtaRegister::LbaHigh: push(m_state.high); break;
    case AtaRegister::Device: m_state.device = value; break;
    case AtaRegister::Data:
    case AtaRegister::Status: break;
  }
}

u8 IdeDrive::read_register(AtaRegister reg, bool high_order_byte) const {
  const unsigned which = high_order_byte ? 1 : 0;
  switch (reg) {
    case AtaRegister::Error: return m_state.error;
    case AtaRegister::SectorCount: return m_state.count[which];
    case AtaRegister::LbaLow: return m_state.low[which];
    case AtaRegister::LbaMid: return m_state.mid[which];
    case AtaRegister::LbaHigh: return m_state.high[which];
    case AtaRegister::Device: return m_state.device | 0xa0;  // obsolete bits, always one (ATA-3)
    case AtaRegister::Data:
    case AtaRegister::Status: break;
  }
  return m_state.status;
}

void IdeDrive::idle() {
  m_state.phase = Phase::Idle;
  m_state.position = m_state.end = 0;
}

void IdeDrive::write_command(u8 command) {
  // Writing the Command register clears INTRQ (ATA-6 5.2.9), and ends a data phase that the host has given up.
  idle();
  m_state.interrupt = false;
  m_state.error = 0;
  m_state.status = kStatusIdle;
  m_state.command = command;
  execute(command);
}

void IdeDrive::start_pio_in(usize length, bool interrupt) {
  m_state.phase = Phase::PioIn;
  m_state.position = 0;
  m_state.end = static_cast<u32>(std::min(length, m_state.buffer.size()));
  m_state.status = kStatusIdle | ata::kStatusDataRequest;
  m_state.interrupt = interrupt;
}

void IdeDrive::start_pio_out(usize length, bool interrupt) {
  start_pio_in(length, interrupt);
  m_state.phase = Phase::PioOut;
}

void IdeDrive::start_packet() {
  start_pio_in(12, false);
  m_state.phase = Phase::Packet;
}

void IdeDrive::start_dma(bool to_memory) {
  m_state.phase = to_memory ? Phase::DmaIn : Phase::DmaOut;
  m_state.position = m_state.end = 0;
  m_state.status = kStatusIdle | ata::kStatusDataRequest;
}

void IdeDrive::complete(bool interrupt) {
  idle();
  m_state.status = kStatusIdle;
  m_state.interrupt = interrupt;
}

void IdeDrive::abort_command(u8 error) {
  idle();
  m_state.status = kStatusIdle | ata::kStatusError;
  m_state.error = error;
  m_state.interrupt = true;
}

u32 IdeDrive::read_data(unsigned size) {
  if (m_state.phase != Phase::PioIn) return 0xffffffffu >> (32 - 8 * size);
  u32 value = 0;
  const u32 part = std::min<u32>(size, m_state.end - m_state.position);
  std::memcpy(&value, m_state.buffer.data() + m_state.position, part);
  m_state.position += part;
  if (m_state.position == m_state.end) {
    m_state.status &= static_cast<u8>(~ata::kStatusDataRequest);
    block_done();
  }
  return value;
}

void IdeDrive::write_data(unsigned size, u32 value) {
  if (m_state.phase != Phase::PioOut && m_state.phase != Phase::Packet) return;
  const u32 part = std::min<u32>(size, m_state.end - m_state.position);
  std::memcpy(m_state.buffer.data() + m_state.position, &value, part);
  m_state.position += part;
  if (m_state.position == m_state.end) {
    m_state.status &= static_cast<u8>(~ata::kStatusDataRequest);
    block_done();
  }
}

void IdeDrive::run_dma(IdeDma& dma) {
  const Phase phase = m_state.phase;
  if (phase != Phase::DmaIn && phase != Phase::DmaOut) return;
  while (true) {
    if (m_state.position == m_state.end) {
      const usize length = std::min(next_dma_piece(), m_state.buffer.size());
      if (m_state.phase != phase) return;  // an error ended the command
      if (length == 0) return dma_finished();
      m_state.position = 0;
      m_state.end = static_cast<u32>(length);
    }
    const std::span<u8> piece(m_state.buffer.data() + m_state.position, m_state.end - m_state.position);
    const usize moved = phase == Phase::DmaIn ? dma.to_memory(piece) : dma.from_memory(piece);
    m_state.position += static_cast<u32>(std::min(moved, piece.size()));
    if (m_state.position != m_state.end) return;  // the PRD table ended first; the drive goes on waiting
    dma_piece_done(m_state.end);
    if (m_state.phase != phase) return;
  }
}

void IdeDrive::soft_reset() {
  idle();
  m_state.interrupt = false;
  m_state.error = 1;  // diagnostic code: passed
  m_state.status = kStatusIdle;
  drive_reset(false);
  set_signature();
}

void IdeDrive::hard_reset() {
  soft_reset();
  m_state.features[0] = m_state.features[1] = 0;
  m_state.count[1] = m_state.low[1] = m_state.mid[1] = m_state.high[1] = 0;
  m_state.command = 0;
  drive_reset(true);
  set_signature();
}

void IdeDrive::execute_diagnostic() {
  idle();
  m_state.error = 1;
  m_state.status = kStatusIdle;
  set_signature();
  m_state.interrupt = !m_second;  // ATA-6 9.10: device 0 asserts INTRQ for both
}

void IdeDrive::visit(Archive& archive) {
  auto& [features, count, low, mid, high, device, error, status, command, interrupt, phase, position, end, buffer] =
      m_state;
  archive("features", features)("count", count)("lba_low", low)("lba_mid", mid)("lba_high", high)("device", device);
  archive("error", error)("status", status)("command", command)("interrupt", interrupt)("phase", phase);
  archive("position", position)("end", end);
  archive.require(phase < Phase::Count, "drive phase");
  archive.require(end <= buffer.size() && position <= end, "drive buffer position");
  archive.require(phase == Phase::Idle || phase == Phase::DmaIn || phase == Phase::DmaOut || position < end,
                  "drive data phase without data");
  if (archive.loading() && archive.failed()) return;
  archive.bytes("buffer", std::span(buffer).first(end));
  archive.begin("drive");
  visit_drive(archive);
  archive.end();
}

}  // namespace vellum
