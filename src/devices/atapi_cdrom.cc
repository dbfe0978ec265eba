// ATAPI CD-ROM drive: the ATA side, the data phases of packet commands, and the user's hand at the tray.
#include "devices/atapi_cdrom.h"

#include <algorithm>
#include <cstring>

#include "devices/cd_frame.h"
#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// ATA/ATAPI-6 clause 8 (packet devices).
enum Command : u8 {
  kDeviceReset = 0x08, kReadSectors = 0x20, kPacket = 0xa0, kIdentifyPacket = 0xa1, kStandbyImmediate = 0xe0,
  kIdleImmediate = 0xe1, kCheckPower = 0xe5, kSleep = 0xe6, kFlushCache = 0xe7, kIdentify = 0xec, kSetFeatures = 0xef,
};
constexpr u8 kFeatureDma = 0x01;
// Interrupt Reason, in the Sector Count register (7.11): what the data register carries.
constexpr u8 kReasonCommand = 0x01, kReasonToHost = 0x02;
constexpr u8 kAttentionMediumChanged = 0x28, kAttentionReset = 0x29;
// Media event codes, MMC-3 6.6.1.4.
constexpr u8 kEventEjectRequest = 1, kEventNewMedia = 2, kEventMediaRemoval = 3;
}  // namespace
}  // namespace spec

namespace {

constexpr usize kBufferSize = 64 * 1024;

void put_string(u8* words, usize length, const std::string& text) {
  for (usize i = 0; i < length; ++i) words[i ^ 1] = i < text.size() ? static_cast<u8>(text[i]) : ' ';
}

}  // namespace

AtapiCdrom::AtapiCdrom(std::unique_ptr<BlockDevice> medium, std::string serial, std::string model)
    : IdeDrive(kBufferSize), m_medium(std::move(medium)), m_serial(std::move(serial)), m_model(std::move(model)) {
  drive_reset(true);
  set_signature();
}

std::string AtapiCdrom::describe() const {
  return fmt::format("{} ({}{}{})", m_medium ? m_medium->path() : "empty", m_model, m_packet.tray_open ? ", open" : "",
                     m_packet.locked ? ", locked" : "");
}

void AtapiCdrom::insert(std::unique_ptr<BlockDevice> medium) {
  m_medium = std::move(medium);
  m_packet.tray_open = false;
  m_packet.unit_attention = spec::kAttentionMediumChanged;
  m_packet.media_event = spec::kEventNewMedia;
}

bool AtapiCdrom::eject(bool force) {
  if (m_packet.locked && !force) {
    m_packet.media_event = spec::kEventEjectRequest;
    return false;
  }
  // A disc that the guest has ejected itself is taken from the open tray.
  if (!m_packet.tray_open) m_packet.media_event = spec::kEventMediaRemoval;
  m_medium.reset();
  m_packet.locked = false;
  m_packet.tray_open = true;
  return true;
}

void AtapiCdrom::set_signature() {
  m_state.count[0] = m_state.low[0] = 1;
  m_state.mid[0] = 0x14;
  m_state.high[0] = 0xeb;
  m_state.device = 0;
  m_state.status = 0;  // a packet device clears DRDY until its first command (9.12)
}

void AtapiCdrom::drive_reset(bool hard) {
  m_packet.data_length = m_packet.data_done = 0;
  if (!hard) return;
  const bool open = m_packet.tray_open;
  m_packet = {};
  m_packet.tray_open = open && !m_medium;  // an open tray with a disc in it closes
  m_packet.unit_attention = spec::kAttentionReset;
}

void AtapiCdrom::reject_with_signature() {
  // 8.15.4: packet devices abort IDENTIFY DEVICE and READ SECTORS, and show what they are.
  const u8 device = m_state.device;
  set_signature();
  m_state.device = device & ata::kDeviceSecond;
  abort_command();
}

void AtapiCdrom::execute(u8 command) {
  using namespace spec;
  switch (command) {
    case kPacket:
      m_packet.dma = m_state.features[0] & kFeatureDma;
      m_packet.byte_count_limit = u32{m_state.high[0]} << 8 | m_state.mid[0];
      // An odd limit and zero make no block that could be told from the last one: the largest even one is meant.
      if (m_packet.byte_count_limit == 0 || m_packet.byte_count_limit == 0xffff) m_packet.byte_count_limit = 0xfffe;
      m_packet.byte_count_limit = std::max(m_packet.byte_count_limit & ~1u, 2u);
      m_state.count[0] = kReasonCommand;
      return start_packet();
    case kIdentifyPacket:
      identify_packet();
      return start_pio_in(512);
    case kDeviceReset: {
      const u8 device = m_state.device;
      drive_reset(false);
      m_state.error = 1;
      set_signature();
      m_state.device = device & ata::kDeviceSecond;
      return;  // no interrupt (8.7)
    }
    case kIdentify:
    case kReadSectors: return reject_with_signature();
    case kSetFeatures: return set_features();
    case kCheckPower:
      m_state.count[0] = 0xff;
      return complete();
    case kStandbyImmediate:
    case kIdleImmediate:
    case kSleep:
    case kFlushCache: return complete();
    default:
      log(LogItem::Disk, "ATAPI drive: ATA command {:#04x} aborted", command);
      return abort_command();
  }
}

void AtapiCdrom::block_done() {
  if (m_state.phase == Phase::Packet) {
    std::copy_n(m_state.buffer.begin(), kPacketSize, m_packet.packet.begin());
    complete(false);
    return execute_packet();
  }
  if (m_state.command != spec::kPacket) return complete(false);
  serve();
}

void AtapiCdrom::serve() {
  if (data_left() == 0) return packet_done();
  if (m_packet.dma) return start_dma(true);
  const usize length = std::min<u64>(m_packet.byte_count_limit, data_left());
  if (!fill(std::span(m_state.buffer).first(length))) return;
  m_state.count[0] = spec::kReasonToHost;
  m_state.mid[0] = static_cast<u8>(length);
  m_state.high[0] = static_cast<u8>(length >> 8);
  start_pio_in(length);
}

usize AtapiCdrom::next_dma_piece() {
  const usize length = std::min<u64>(m_state.buffer.size(), data_left());
  return fill(std::span(m_state.buffer).first(length)) ? length : 0;
}

void AtapiCdrom::dma_piece_done(usize) {}

void AtapiCdrom::dma_finished() { packet_done(); }

bool AtapiCdrom::fill(std::span<u8> data) {
  const u64 start = m_packet.data_done;
  m_packet.data_done += data.size();
  if (m_packet.source == Source::Reply) {
    for (usize i = 0; i < data.size(); ++i) data[i] = start + i < kReplySize ? m_packet.reply[start + i] : u8{0};
    return true;
  }
  const u32 frame_length = cd_frame_length(m_packet.frame_parts);
  std::array<u8, kCdFrameSize> frame;
  for (usize done = 0; done < data.size();) {
    const u64 block = m_packet.frame + (start + done) / frame_length;
    const usize within = (start + done) % frame_length;
    // User data alone goes straight from the medium, as many whole frames as there are.
    const bool plain = m_packet.frame_parts == kCdUserData;
    usize part = std::min<usize>(data.size() - done, frame_length - within);
    const bool direct = plain && within == 0 && data.size() - done >= frame_length;
    if (direct) part = (data.size() - done) / frame_length * frame_length;
    const u64 offset = block * kCdUserDataSize;
    const std::span<u8> into =
        direct ? data.subspan(done, part) : std::span<u8>(frame).subspan(plain ? 0 : 16, kCdUserDataSize);
    // The image may be cut inside its last frame, and the disc may have been taken out between two blocks.
    const u64 size = m_medium ? m_medium->size() : 0;
    const usize there = offset < size ? std::min<u64>(into.size(), size - offset) : 0;
    std::memset(into.data() + there, 0, into.size() - there);
    auto result = m_medium ? m_medium->read(offset, into.first(there)) : Result<void>(failure("no medium"));
    if (!result) {
      log(LogItem::Disk, "{}", result.error().message);
      m_packet.data_length = m_packet.data_done = 0;
      packet_error(m_medium ? 3 : 2, m_medium ? 0x11 : 0x3a);  // unrecovered read error, or no medium
      return false;
    }
    if (!direct) {
      if (!plain) {
        complete_cd_frame(frame, static_cast<u32>(block));
        select_cd_parts(frame, m_packet.frame_parts);
      }
      std::memcpy(data.data() + done, frame.data() + within, part);
    }
    done += part;
  }
  return true;
}

void AtapiCdrom::set_features() {
  switch (m_state.features[0]) {
    case 0x03: {  // transfer mode, 8.46.11
      const u8 mode = m_state.count[0] & 7;
      switch (m_state.count[0] >> 3) {
        case 0x00: return mode <= 1 ? complete() : abort_command();
        case 0x01: return mode <= 4 ? complete() : abort_command();
        case 0x04:
          if (mode > 2) return abort_command();
          m_packet.transfer_mode_multiword = mode;
          m_packet.transfer_mode_ultra = 0xff;
          return complete();
        case 0x08:
          if (mode > 5) return abort_command();
          m_packet.transfer_mode_ultra = mode;
          m_packet.transfer_mode_multiword = 0xff;
          return complete();
        default: return abort_command();
      }
    }
    case 0x66:
    case 0xcc: return complete();
    default: return abort_command();
  }
}

void AtapiCdrom::identify_packet() {
  u8* data = m_state.buffer.data();
  std::memset(data, 0, 512);
  const auto word = [data](unsigned index, u32 value) {
    data[2 * index] = static_cast<u8>(value);
    data[2 * index + 1] = static_cast<u8>(value >> 8);
  };
  // ATA-6 table 28.
  word(0, 0x85c0);  // packet device, CD-ROM, removable, DRQ within 50 us, 12-byte packets
  put_string(data + 20, 20, m_serial);
  put_string(data + 46, 8, "1.0");
  put_string(data + 54, 40, m_model);
  word(49, 0x0b00);  // LBA, DMA, IORDY
  word(50, 0x4000);
  word(51, 0x0200);
  word(53, 0x0006);
  word(63, 0x0007u | (m_packet.transfer_mode_multiword <= 2 ? 0x100u << m_packet.transfer_mode_multiword : 0));
  word(64, 0x0003);
  for (unsigned i = 65; i <= 68; ++i) word(i, 0x0078);
  word(80, 0x0070);  // ATA/ATAPI-4 to -6
  word(82, 0x4210);  // NOP, DEVICE RESET, PACKET
  word(83, 0x4000);
  word(84, 0x4000);
  word(85, 0x4210);
  word(87, 0x4000);
  word(88, 0x003fu | (m_packet.transfer_mode_ultra <= 5 ? 0x100u << m_packet.transfer_mode_ultra : 0));
  word(93, m_second ? 0x6300 : 0x600b);
  data[510] = 0xa5;
  u8 sum = 0;
  for (unsigned i = 0; i < 511; ++i) sum += data[i];
  data[511] = static_cast<u8>(-sum);
}

void AtapiCdrom::visit_drive(Archive& archive) {
  auto& [packet, dma, byte_count_limit, source, data_length, data_done, reply, frame, frame_parts, sense_key,
         sense_code, sense_qualifier, unit_attention, media_event, medium_size, tray_open, locked, ultra, multiword] = m_packet;
  const u64 present_size = m_medium ? m_medium->size() : 0;
  if (!archive.loading()) medium_size = present_size;
  archive("packet", packet)("dma", dma)("byte_count_limit", byte_count_limit)("source", source);
  archive("data_length", data_length)("data_done", data_done)("reply", reply)("frame", frame);
  archive("frame_parts", frame_parts)("sense_key", sense_key)("sense_code", sense_code);
  archive("sense_qualifier", sense_qualifier)("unit_attention", unit_attention)("media_event", media_event);
  archive("medium_size", medium_size)("tray_open", tray_open)("locked", locked)("ultra", ultra)("multiword", multiword);
  archive.require(byte_count_limit <= 0xfffe && byte_count_limit % 2 == 0, "byte count limit");
  archive.require(source < Source::Count, "data source");
  archive.require(data_done <= data_length && data_length <= u64{kCdFrameSize} << 23, "data position");
  archive.require(data_length == 0 || source == Source::Reply || cd_frame_length(frame_parts) != 0, "parts of a frame");
  archive.require(data_done == data_length || dma || byte_count_limit >= 2, "byte count limit of a transfer");
  archive.require(m_state.phase != Phase::PioOut && m_state.phase != Phase::DmaOut, "a CD-ROM drive that is written");
  archive.require(m_state.phase != Phase::Packet || m_state.end == kPacketSize, "length of a packet");
  // Another disc than when the state was saved: somebody has changed it, which the guest must see.
  if (archive.loading() && !archive.failed() && medium_size != present_size) {
    if (m_medium) unit_attention = spec::kAttentionMediumChanged;
    media_event = m_medium ? spec::kEventNewMedia : spec::kEventMediaRemoval;
  }
}

}  // namespace vellum
