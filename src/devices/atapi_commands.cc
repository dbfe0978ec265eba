// ATAPI CD-ROM drive: the packet commands (MMC-3, SFF-8020i, SPC-2).
#include <algorithm>

#include "devices/atapi_cdrom.h"
#include "devices/cd_frame.h"
#include "devices/scsi.h"
#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// Operation codes, MMC-3 clause 6 and SPC-2.
enum Operation : u8 {
  kTestUnitReady = 0x00, kRequestSense = 0x03, kInquiry = 0x12, kModeSense6 = 0x1a, kStartStopUnit = 0x1b,
  kPreventAllow = 0x1e, kReadCapacity = 0x25, kRead10 = 0x28, kSeek10 = 0x2b, kSynchronizeCache = 0x35,
  kReadSubChannel = 0x42, kReadToc = 0x43, kReadHeader = 0x44, kGetConfiguration = 0x46, kGetEventStatus = 0x4a,
  kStopPlay = 0x4e, kReadDiscInformation = 0x51, kReadTrackInformation = 0x52, kModeSense10 = 0x5a, kRead12 = 0xa8,
  kReadDvdStructure = 0xad, kReadCdMsf = 0xb9, kSetCdSpeed = 0xbb, kMechanismStatus = 0xbd, kReadCd = 0xbe,
};
using namespace scsi;
constexpr u8 kIllegalMode = 0x64;  // additional sense code, MMC-3
constexpr u8 kReasonCommand = 0x01, kReasonToHost = 0x02;
constexpr u16 kProfileCdRom = 0x0008, kProfileDvdRom = 0x0010;
constexpr u8 kLeadOut = 0xaa;
constexpr u8 kDataTrack = 0x14;  // ADR 1, control: data track
}  // namespace

// What may run although a unit attention waits (SPC-2 5.9.6, MMC-3 4.1.5).
static bool ignores_attention(u8 operation) {
  return operation == kRequestSense || operation == kInquiry || operation == kGetConfiguration ||
         operation == kGetEventStatus;
}
}  // namespace spec

namespace {

void put_address(ScsiBytes& bytes, u32 block, bool msf) {
  if (!msf) {
    bytes.doubleword(block);
    return;
  }
  const CdTime time = cd_time(block);
  bytes.byte(0).byte(time.minute).byte(time.second).byte(time.frame);
}

}  // namespace

u32 AtapiCdrom::packet_field(unsigned offset, unsigned bytes) const {
  u32 value = 0;
  for (unsigned i = 0; i < bytes; ++i) value = value << 8 | m_packet.packet[offset + i];
  return value;
}

u32 AtapiCdrom::frames() const {
  if (!m_medium || m_packet.tray_open) return 0;
  return static_cast<u32>(
      std::min<u64>((m_medium->size() + kCdUserDataSize - 1) / kCdUserDataSize, 0xffff'ff00));
}

void AtapiCdrom::packet_error(u8 sense_key, u8 code, u8 qualifier) {
  m_packet.sense_key = sense_key;
  m_packet.sense_code = code;
  m_packet.sense_qualifier = qualifier;
  m_packet.data_length = m_packet.data_done = 0;
  m_state.count[0] = spec::kReasonCommand | spec::kReasonToHost;
  abort_command(static_cast<u8>(sense_key << 4 | ata::kErrorAbort));
}

void AtapiCdrom::packet_done() {
  m_state.count[0] = spec::kReasonCommand | spec::kReasonToHost;
  complete();
}

void AtapiCdrom::reply(std::span<const u8> data, u32 allocation_length) {
  const usize length = std::min<usize>({data.size(), allocation_length, kReplySize});
  std::copy_n(data.begin(), length, m_packet.reply.begin());
  m_packet.source = Source::Reply;
  m_packet.data_length = length;
  m_packet.data_done = 0;
  serve();
}

bool AtapiCdrom::medium_ready() {
  if (m_medium && !m_packet.tray_open) return true;
  packet_error(spec::kNotReady, spec::kNoMedium, m_packet.tray_open ? 2 : 1);
  return false;
}

bool AtapiCdrom::frames_exist(u64 frame, u64 count) {
  if (frame + count <= frames() && frame < frames()) return true;
  packet_error(spec::kIllegalRequest, spec::kOutOfRange);
  return false;
}

void AtapiCdrom::read_frames(u32 frame, u32 count, u8 parts) {
  if (!medium_ready()) return;
  if (count == 0) return packet_done();
  if (!frames_exist(frame, count)) return;
  if (parts == 0) return packet_done();
  m_packet.source = Source::Medium;
  m_packet.frame = frame;
  m_packet.frame_parts = parts;
  m_packet.data_length = u64{cd_frame_length(parts)} * count;
  m_packet.data_done = 0;
  serve();
}

void AtapiCdrom::execute_packet() {
  using namespace spec;
  const auto& packet = m_packet.packet;
  const u8 operation = packet[0];
  m_packet.data_length = m_packet.data_done = 0;
  if (m_packet.unit_attention && !ignores_attention(operation)) {
    const u8 code = m_packet.unit_attention;
    m_packet.unit_attention = 0;
    return packet_error(kUnitAttention, code);
  }
  if (operation != kRequestSense) m_packet.sense_key = m_packet.sense_code = m_packet.sense_qualifier = 0;
  switch (operation) {
    case kTestUnitReady:
      if (medium_ready()) packet_done();
      return;
    case kRequestSense: return request_sense();
    case kInquiry: return inquiry();
    case kModeSense6: return mode_sense(false);
    case kModeSense10: return mode_sense(true);
    case kStartStopUnit: return start_stop_unit();
    case kPreventAllow: return prevent_allow();
    case kReadCapacity: {
      if (!medium_ready()) return;
      ScsiBytes data;
      data.doubleword(frames() - 1).doubleword(kCdUserDataSize);
      return reply(data, 8);
    }
    case kRead10: return read_frames(packet_field(2, 4), packet_field(7, 2), kCdUserData);
    case kRead12: return read_frames(packet_field(2, 4), packet_field(6, 4), kCdUserData);
    case kReadCd: return read_cd(false);
    case kReadCdMsf: return read_cd(true);
    case kSeek10:
      if (medium_ready() && frames_exist(packet_field(2, 4), 1)) packet_done();
      return;
    case kSynchronizeCache:
    case kStopPlay:
    case kSetCdSpeed: return packet_done();
    case kReadSubChannel: return read_sub_channel();
    case kReadToc: return read_toc();
    case kReadHeader: {
      if (!medium_ready() || !frames_exist(packet_field(2, 4), 1)) return;
      ScsiBytes data;
      data.byte(1).zeroes(3);  // mode 1
      put_address(data, packet_field(2, 4), packet[1] & 2);
      return reply(data, packet_field(7, 2));
    }
    case kGetConfiguration: return get_configuration();
    case kGetEventStatus: return get_event_status();
    case kReadDiscInformation: return read_disc_information();
    case kReadTrackInformation: return read_track_information();
    case kReadDvdStructure: return read_dvd_structure();
    case kMechanismStatus: return mechanism_status();
    default:
      log(LogItem::Disk, "packet command {:#04x} is not one of a CD-ROM drive", operation);
      return packet_error(kIllegalRequest, kInvalidOperation);
  }
}

void AtapiCdrom::request_sense() {
  // SPC-2 7.20: a waiting unit attention is reported here too, and so is cleared.
  if (m_packet.sense_key == 0 && m_packet.unit_attention) {
    m_packet.sense_key = spec::kUnitAttention;
    m_packet.sense_code = m_packet.unit_attention;
    m_packet.sense_qualifier = 0;
    m_packet.unit_attention = 0;
  }
  ScsiBytes data;
  data.byte(0x70).byte(0).byte(m_packet.sense_key).zeroes(4).byte(10).zeroes(4);
  data.byte(m_packet.sense_code).byte(m_packet.sense_qualifier).zeroes(4);
  m_packet.sense_key = m_packet.sense_code = m_packet.sense_qualifier = 0;
  reply(data, m_packet.packet[4]);
}

void AtapiCdrom::inquiry() {
  if (m_packet.packet[1] & 3) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  ScsiBytes data;
  // SFF-8020i 10.8.1: CD-ROM, removable, no ANSI version, ATAPI version 2, response format 1.
  data.byte(0x05).byte(0x80).byte(0x00).byte(0x21).byte(31).zeroes(3);
  data.text("VELLUM", 8).text("DVD-ROM", 16).text("1.0", 4);
  reply(data, m_packet.packet[4]);
}

void AtapiCdrom::read_toc() {
  const auto& packet = m_packet.packet;
  const bool msf = packet[1] & 2;
  // SFF-8020i keeps the format in byte 9's upper bits, MMC in byte 2.
  const unsigned format = packet[2] & 0xf ? packet[2] & 0xf : packet[9] >> 6;
  const u8 start = packet[6];
  if (!medium_ready()) return;
  ScsiBytes data;
  data.word(0).byte(1).byte(1);
  switch (format) {
    case 0:  // tracks
      if (start > 1 && start != spec::kLeadOut) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
      if (start <= 1) {
        data.byte(0).byte(spec::kDataTrack).byte(1).byte(0);
        put_address(data, 0, msf);
      }
      data.byte(0).byte(spec::kDataTrack).byte(spec::kLeadOut).byte(0);
      put_address(data, frames(), msf);
      break;
    case 1:  // sessions
      data.byte(0).byte(spec::kDataTrack).byte(1).byte(0);
      put_address(data, 0, msf);
      break;
    case 2: {  // the raw lead-in, MMC-3 6.31.3.4
      const auto entry = [&data](u8 point, u8 minute, u8 second, u8 frame) {
        data.byte(1).byte(spec::kDataTrack).byte(0).byte(point).zeroes(4).byte(minute).byte(second).byte(frame);
      };
      entry(0xa0, 1, 0, 0);
      entry(0xa1, 1, 0, 0);
      const CdTime end = cd_time(frames()), first = cd_time(0);
      entry(0xa2, end.minute, end.second, end.frame);
      entry(1, first.minute, first.second, first.frame);
      break;
    }
    default: return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  }
  data.set_length(0, 2);
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::read_sub_channel() {
  const auto& packet = m_packet.packet;
  if (!medium_ready()) return;
  ScsiBytes data;
  data.byte(0).byte(0x15).word(0);  // no current audio status
  if (packet[2] & 0x40) {
    switch (packet[3]) {
      case 1:  // current position
        data.byte(1).byte(spec::kDataTrack).byte(1).byte(1);
        put_address(data, 0, packet[1] & 2);
        put_address(data, 0, packet[1] & 2);
        break;
      case 2:  // media catalogue number: none
      case 3:  // ISRC: none
        data.byte(packet[3]).byte(packet[3] == 3 ? spec::kDataTrack : 0).byte(packet[3] == 3 ? 1 : 0).zeroes(17);
        break;
      default: return packet_error(spec::kIllegalRequest, spec::kInvalidField);
    }
    data.set_length(2, 2);
  }
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::get_configuration() {
  const unsigned request = m_packet.packet[1] & 3;
  const u32 first = packet_field(2, 2);
  if (request == 3) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  const bool present = frames() != 0;
  const u16 profile = !present ? 0 : dvd() ? spec::kProfileDvdRom : spec::kProfileCdRom;
  ScsiBytes data;
  data.doubleword(0).word(0).word(profile);
  // MMC-3 5.3: each feature as code, version << 2 | persistent << 1 | current, length, fields.
  const auto wanted = [&](u32 code, bool current) {
    if (request == 2) return code == first;
    return code >= first && (request == 0 || current);
  };
  const auto feature = [&](u32 code, unsigned version, bool persistent, bool current, const ScsiBytes& fields) {
    if (!wanted(code, current)) return;
    const std::span<const u8> content = fields;
    data.word(code)
        .byte(version << 2 | (persistent ? 2u : 0) | (current ? 1u : 0))
        .byte(static_cast<u32>(content.size()));
    for (const u8 byte : content) data.byte(byte);
  };
  const bool is_cd = profile == spec::kProfileCdRom, is_dvd = profile == spec::kProfileDvdRom;
  feature(0x0000, 0, true, true,
          ScsiBytes().word(spec::kProfileDvdRom).byte(is_dvd).byte(0).word(spec::kProfileCdRom).byte(is_cd).byte(0));
  feature(0x0001, 0, true, true, ScsiBytes().doubleword(2));                          // core: ATAPI
  feature(0x0003, 0, true, true, ScsiBytes().byte(0x29).zeroes(3));                   // removable: tray, eject, lock
  feature(0x0010, 0, false, present, ScsiBytes().doubleword(kCdUserDataSize).word(1).zeroes(2));  // random readable
  feature(0x001e, 1, false, is_cd, ScsiBytes().zeroes(4));                            // CD read
  feature(0x001f, 0, false, is_dvd, ScsiBytes());                                     // DVD read
  feature(0x0100, 0, true, true, ScsiBytes());                                        // power management
  data.set_length(0, 4);
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::get_event_status() {
  constexpr u8 kMediaClass = 4;
  if (!(m_packet.packet[1] & 1))  // only polling is possible without command queueing
    return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  ScsiBytes data;
  if (m_packet.packet[4] & (1 << kMediaClass)) {
    const bool present = m_medium && !m_packet.tray_open;
    data.word(0).byte(kMediaClass).byte(1 << kMediaClass);
    data.byte(m_packet.media_event).byte((m_packet.tray_open ? 1u : 0) | (present ? 2u : 0)).zeroes(2);
    m_packet.media_event = 0;
  } else {
    data.word(0).byte(0x80).byte(1 << kMediaClass);  // no event available
  }
  data.set_length(0, 2);
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::mode_sense(bool ten) {
  const u8 page = m_packet.packet[2] & 0x3f;
  if (m_packet.packet[2] >> 6 == 3) return packet_error(spec::kIllegalRequest, spec::kSavingUnsupported);
  const bool changeable = m_packet.packet[2] >> 6 == 1;  // a mask: nothing can be changed
  ScsiBytes data;
  // Header: length, medium type (120 mm data disc, door open, no disc), no block descriptors.
  const u8 medium = m_packet.tray_open ? 0x71 : !m_medium ? 0x70 : 0x01;
  if (ten) data.word(0).byte(medium).zeroes(5);
  else data.byte(0).byte(medium).zeroes(2);
  const usize header = data.size();
  const auto add = [&](u8 code, const ScsiBytes& fields) {
    if (page != code && page != 0x3f) return;
    const std::span<const u8> content = fields;
    data.byte(code).byte(static_cast<u32>(content.size()));
    for (const u8 byte : content) data.byte(changeable ? 0 : byte);
  };
  add(0x01, ScsiBytes().byte(0).byte(5).zeroes(4));          // read error recovery: 5 retries
  add(0x0d, ScsiBytes().byte(0).byte(0x0d).word(60).word(75));  // CD: seconds in a minute, frames in a second
  add(0x0e, ScsiBytes().byte(4).zeroes(5).zeroes(8));        // audio control: immediate
  // Capabilities and mechanical status, MMC-3 5.5.10, page 2Ah: reads CD-R, CD-RW, DVD-ROM; writes nothing; mode 2
  // forms, multisession; lock, eject, tray; speeds in kB/s.
  add(0x2a, ScsiBytes()
                .byte(0x0b).byte(0x00).byte(0x70).byte(0x00)
                .byte(0x29u | (m_packet.locked ? 2u : 0)).byte(0x00)
                .word(8467).word(256).word(512).word(8467).zeroes(2).zeroes(4));
  if (data.size() == header) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  data.set_length(0, ten ? 2 : 1);
  reply(data, ten ? packet_field(7, 2) : m_packet.packet[4]);
}

void AtapiCdrom::mechanism_status() {
  ScsiBytes data;
  data.byte(0).byte(m_packet.tray_open ? 0x10 : 0).triple(0).byte(1).word(0);
  reply(data, packet_field(8, 2));
}

void AtapiCdrom::read_disc_information() {
  if (!medium_ready()) return;
  ScsiBytes data;
  // MMC-3 6.25: complete disc, complete last session, one session with one track.
  data.word(0).byte(0x0e).byte(1).byte(1).byte(1).byte(1).byte(0x20).byte(0).zeroes(3).zeroes(4);
  data.doubleword(0xffffffff).doubleword(0xffffffff).zeroes(8).byte(0).byte(0);
  data.set_length(0, 2);
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::read_track_information() {
  if (!medium_ready()) return;
  const unsigned kind = m_packet.packet[1] & 3;
  const u32 where = packet_field(2, 4);
  const bool exists = kind == 0 ? where < frames() : kind == 3 ? false : where <= 1;
  if (!exists) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  ScsiBytes data;
  data.word(0).byte(1).byte(1).byte(0).byte(0x04).byte(0x01).byte(0);  // track 1, session 1, data, mode 1
  data.doubleword(0).doubleword(0).doubleword(0).doubleword(0).doubleword(frames());
  data.doubleword(0).zeroes(4);
  data.set_length(0, 2);
  reply(data, packet_field(7, 2));
}

void AtapiCdrom::read_cd(bool msf) {
  const auto& packet = m_packet.packet;
  u32 frame, count;
  if (msf) {
    const auto block = [&packet](unsigned at) {
      return (packet[at] * 60u + packet[at + 1]) * 75u + packet[at + 2];
    };
    const u32 first = block(3), end = block(6);
    if (first < 150 || end < first) return packet_error(spec::kIllegalRequest, spec::kInvalidField);
    frame = first - 150;
    count = end - first;
  } else {
    frame = packet_field(2, 4);
    count = packet_field(6, 3);
  }
  const unsigned type = packet[1] >> 2 & 7;
  if (type != 0 && type != 2) return packet_error(spec::kIllegalRequest, spec::kIllegalMode);  // 2: mode 1
  if ((packet[9] & 0x06) || (packet[10] & 7))  // C2 pointers and sub-channels are not on an image
    return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  read_frames(frame, count, packet[9] & (kCdSync | kCdHeader | kCdUserData | kCdCorrection));
}

void AtapiCdrom::read_dvd_structure() {
  if (!medium_ready()) return;
  if (!dvd() || m_packet.packet[6] != 0 || m_packet.packet[1] != 0)
    return packet_error(spec::kIllegalRequest, m_packet.packet[1] != 0 || dvd() ? spec::kInvalidField : 0x30);
  ScsiBytes data;
  data.word(0).word(0);
  switch (m_packet.packet[7]) {
    case 0:  // physical format, MMC-3 table 272: DVD-ROM, 120 mm, one layer, starting at 30000h
      data.byte(0x01).byte(0x0f).byte(0x01).byte(0x00).doubleword(0x30000).doubleword(0x30000 + frames() - 1);
      data.doubleword(0).zeroes(4);
      break;
    case 1: data.zeroes(4); break;  // copyright: none
    default: return packet_error(spec::kIllegalRequest, spec::kInvalidField);
  }
  data.set_length(0, 2);
  reply(data, packet_field(8, 2));
}

void AtapiCdrom::start_stop_unit() {
  const u8 action = m_packet.packet[4];
  if ((action & 0xf0) == 0 && (action & 2)) {  // load or eject; power conditions change nothing here
    if (!(action & 1)) {
      if (m_packet.locked) return packet_error(spec::kIllegalRequest, spec::kRemovalPrevented, 2);
      if (!m_packet.tray_open) m_packet.media_event = 3;
      m_packet.tray_open = true;
    } else if (m_packet.tray_open) {
      m_packet.tray_open = false;
      if (m_medium) {
        m_packet.unit_attention = 0x28;
        m_packet.media_event = 2;
      }
    }
  }
  packet_done();
}

void AtapiCdrom::prevent_allow() {
  m_packet.locked = m_packet.packet[4] & 1;
  packet_done();
}

}  // namespace vellum
