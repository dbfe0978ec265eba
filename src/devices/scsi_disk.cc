// The SCSI disk's commands (SPC-3, SBC-2), sense data, and the user's hand at the drive.
#include "devices/scsi_disk.h"

#include <algorithm>

#include "devices/scsi.h"
#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// Operation codes, SPC-3 table 38 and SBC-2 table 11; READ FORMAT CAPACITIES is MMC's, and drivers of removable disks use it.
enum Operation : u8 {
  kTestUnitReady = 0x00, kRequestSense = 0x03, kRead6 = 0x08, kWrite6 = 0x0a, kInquiry = 0x12, kModeSense6 = 0x1a,
  kStartStopUnit = 0x1b, kPreventAllow = 0x1e, kReadFormatCapacities = 0x23, kReadCapacity10 = 0x25, kRead10 = 0x28,
  kWrite10 = 0x2a, kVerify10 = 0x2f, kSynchronizeCache10 = 0x35, kModeSense10 = 0x5a, kRead16 = 0x88, kWrite16 = 0x8a,
  kVerify16 = 0x8f, kSynchronizeCache16 = 0x91, kServiceActionIn16 = 0x9e, kReportLuns = 0xa0, kRead12 = 0xa8,
  kWrite12 = 0xaa, kVerify12 = 0xaf,
};
constexpr u8 kReadCapacity16 = 0x10;  // service action
constexpr u8 kForceUnitAccess = 0x08;
}  // namespace

// SPC-3 6.4.1, 6.21, 6.27: what runs although a unit attention waits.
static bool ignores_attention(u8 operation) {
  return operation == kInquiry || operation == kRequestSense || operation == kReportLuns;
}
}  // namespace spec

using namespace scsi;

namespace {
constexpr std::string_view kVendor = "VELLUM", kProduct = "USB DISK", kRevision = "1.0";
}

ScsiDisk::ScsiDisk(std::unique_ptr<BlockDevice> medium, std::string serial) : m_medium(std::move(medium)), m_serial(std::move(serial)) {
  power_on();
}

void ScsiDisk::insert(std::unique_ptr<BlockDevice> medium) {
  m_medium = std::move(medium);
  m_state.ejected = m_state.stopped = false;
  m_state.unit_attention = kMediumChanged;
}

bool ScsiDisk::eject(bool force) {
  if (m_state.locked && !force) return false;
  // A command that is under way ends where it stands.
  if (m_state.source != Source::Reply && data_left()) fail(kNotReady, kNoMedium);
  m_medium.reset();
  m_state.ejected = m_state.locked = false;
  return true;
}

std::string ScsiDisk::describe() const {
  return fmt::format("{} (USB disk{}{}{})", m_medium ? m_medium->path() : "empty", m_medium && m_medium->read_only() ? ", read-only" : "",
                     m_state.ejected ? ", ejected" : "", m_state.locked ? ", locked" : "");
}

Result<void> ScsiDisk::flush() { return m_medium ? m_medium->flush() : Result<void>{}; }

void ScsiDisk::reset() {
  abandon();
  m_state.failed = m_state.locked = m_state.stopped = false;
  m_state.sense_key = m_state.sense_code = m_state.sense_qualifier = 0;
  m_state.unit_attention = kWasReset;
}

void ScsiDisk::power_on() {
  m_state = {};
  m_state.unit_attention = kWasReset;
}

void ScsiDisk::visit(Archive& archive) {
  auto& [command, source, data_length, data_done, first_block, reply_, block, force_access, failed_, sense_key, sense_code, sense_qualifier,
         information, information_valid, unit_attention, medium_size, ejected, stopped, locked] = m_state;
  const u64 present_size = m_medium ? m_medium->size() : 0;
  if (!archive.loading()) medium_size = present_size;
  archive("command", command)("source", source)("data_length", data_length)("data_done", data_done)("first_block", first_block);
  archive("reply", reply_)("block", block)("force_access", force_access)("failed", failed_)("sense_key", sense_key);
  archive("sense_code", sense_code)("sense_qualifier", sense_qualifier)("information", information);
  archive("information_valid", information_valid)("unit_attention", unit_attention)("medium_size", medium_size);
  archive("ejected", ejected)("stopped", stopped)("locked", locked);
  archive.require(source < Source::Count, "source of a SCSI disk's data");
  archive.require(data_done <= data_length && data_length <= u64{0xffffffff} * kSectorSize, "position in a SCSI disk's data");
  archive.require(source != Source::Reply || data_length <= reply_.size(), "length of a SCSI disk's reply");
  archive.require(source == Source::Reply || data_length == data_done || data_length % kSectorSize == 0, "length of a SCSI disk's data");
  // Another medium than when the state was saved: somebody has changed it, which the guest must see.
  if (archive.loading() && !archive.failed() && medium_size != present_size) {
    ejected = false;
    if (m_medium) unit_attention = kMediumChanged;
  }
}

// ---- The data of a command

ScsiDisk::Direction ScsiDisk::direction() const {
  if (data_left() == 0) return Direction::None;
  return m_state.source == Source::Write || m_state.source == Source::Compare ? Direction::Out : Direction::In;
}

void ScsiDisk::fail(u8 sense_key, u8 code, u8 qualifier) {
  State& s = m_state;
  s.failed = true;
  s.sense_key = sense_key;
  s.sense_code = code;
  s.sense_qualifier = qualifier;
  s.information_valid = s.source != Source::Reply && data_left();
  s.information = static_cast<u32>(std::min<u64>(s.first_block + s.data_done / kSectorSize, 0xffffffff));
  abandon();
}

void ScsiDisk::invalid_field() { fail(kIllegalRequest, kInvalidField); }

void ScsiDisk::reply(std::span<const u8> data, u64 allocation_length) {
  const usize length = std::min<u64>({data.size(), allocation_length, kReplySize});
  std::copy_n(data.begin(), length, m_state.reply.begin());
  m_state.source = Source::Reply;
  m_state.data_length = length;
}

bool ScsiDisk::load_block() {
  const u64 block = m_state.first_block + m_state.data_done / kSectorSize;
  if (block >= blocks()) return fail(kNotReady, kNoMedium), false;  // the medium is another one since the command began
  if (auto done = m_medium->read(block * kSectorSize, m_state.block); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    fail(kMediumError, kReadError);
    return false;
  }
  return true;
}

usize ScsiDisk::give(std::span<u8> data) {
  State& s = m_state;
  usize given = 0;
  while (given < data.size() && data_left() && direction() == Direction::In) {
    const u8* from = s.reply.data() + s.data_done;
    usize part = std::min<u64>(data.size() - given, data_left());
    if (s.source == Source::Read) {
      const usize offset = s.data_done % kSectorSize;
      if (offset == 0 && !load_block()) break;
      part = std::min<usize>(part, kSectorSize - offset);
      from = s.block.data() + offset;
    }
    std::copy_n(from, part, data.begin() + static_cast<std::ptrdiff_t>(given));
    s.data_done += part;
    given += part;
  }
  return given;
}

void ScsiDisk::take(std::span<const u8> data) {
  State& s = m_state;
  while (!data.empty() && direction() == Direction::Out) {
    const usize offset = s.data_done % kSectorSize, part = std::min({data.size(), kSectorSize - offset, static_cast<usize>(data_left())});
    std::copy_n(data.begin(), part, s.block.begin() + static_cast<std::ptrdiff_t>(offset));
    data = data.subspan(part);
    if (offset + part < kSectorSize) {
      s.data_done += part;
      return;
    }
    s.data_done -= offset;  // an error is this block's
    store_block();
    if (s.failed) return;
    s.data_done += kSectorSize;
    if (data_left() == 0) end_of_block();
  }
}

void ScsiDisk::store_block() {
  const u64 block = m_state.first_block + m_state.data_done / kSectorSize;
  if (block >= blocks()) return fail(kNotReady, kNoMedium);
  if (m_state.source == Source::Compare) {
    std::array<u8, kSectorSize> present;
    if (auto done = m_medium->read(block * kSectorSize, present); !done) {
      log(LogItem::Unsupported, "{}", done.error().message);
      return fail(kMediumError, kReadError);
    }
    if (present != m_state.block) fail(kMiscompareKey, kMiscompare);
    return;
  }
  if (m_medium->read_only()) return fail(kDataProtect, kWriteProtected);
  if (auto done = m_medium->write(block * kSectorSize, m_state.block); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    fail(kMediumError, kWriteError);
  }
}

void ScsiDisk::end_of_block() {
  if (m_state.source != Source::Write || !m_state.force_access) return;
  if (auto done = m_medium->flush(); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    fail(kMediumError, kWriteError);
  }
}

// ---- Commands

u64 ScsiDisk::field(unsigned offset, unsigned bytes) const {
  u64 value = 0;
  for (unsigned i = 0; i < bytes; ++i) value = value << 8 | m_state.command[offset + i];
  return value;
}

ScsiDisk::Extent ScsiDisk::extent() const {
  switch (m_state.command[0] >> 5) {
    case 0: {
      const u64 count = field(4, 1);
      return {field(1, 3) & 0x1fffff, count ? count : 256};  // SBC-2 5.5: zero is 256 here, and nothing elsewhere
    }
    case 4: return {field(2, 8), field(10, 4)};
    case 5: return {field(2, 4), field(6, 4)};
    default: return {field(2, 4), field(7, 2)};
  }
}

bool ScsiDisk::medium_ready() {
  if (!medium_present()) return fail(kNotReady, kNoMedium), false;
  if (m_state.stopped) return fail(kNotReady, kBecomingReady, 2), false;  // initializing command required
  return true;
}

bool ScsiDisk::blocks_exist(Extent extent) {
  if (extent.block <= blocks() && extent.count <= blocks() - extent.block) return true;
  return fail(kIllegalRequest, kOutOfRange), false;
}

void ScsiDisk::start_blocks(Source source) {
  const Extent wanted = extent();
  if (!medium_ready() || !blocks_exist(wanted)) return;
  if (source == Source::Write && m_medium->read_only()) return fail(kDataProtect, kWriteProtected);
  m_state.source = source;
  m_state.first_block = wanted.block;
  m_state.data_length = wanted.count * kSectorSize;
  m_state.force_access = m_state.command[0] >> 5 != 0 && m_state.command[1] & spec::kForceUnitAccess;
}

void ScsiDisk::start(std::span<const u8> command) {
  using namespace spec;
  State& s = m_state;
  s.command = {};
  std::copy_n(command.begin(), std::min(command.size(), kCommandSize), s.command.begin());
  s.source = Source::Reply;
  s.data_length = s.data_done = 0;
  s.failed = s.force_access = false;
  const u8 operation = s.command[0];
  if (s.unit_attention && !ignores_attention(operation)) {
    const u8 code = s.unit_attention;
    s.unit_attention = 0;
    return fail(kUnitAttention, code);
  }
  if (operation == kRequestSense) return request_sense();
  s.sense_key = s.sense_code = s.sense_qualifier = 0;
  s.information_valid = false;
  switch (operation) {
    case kTestUnitReady: medium_ready(); return;
    case kInquiry: return inquiry();
    case kReportLuns: return report_luns();
    case kModeSense6: return mode_sense(false);
    case kModeSense10: return mode_sense(true);
    case kStartStopUnit: return start_stop_unit();
    case kPreventAllow: return prevent_allow();
    case kReadFormatCapacities: return read_format_capacities();
    case kReadCapacity10: return read_capacity();
    case kServiceActionIn16:
      if ((s.command[1] & 0x1f) != kReadCapacity16) return invalid_field();
      return read_capacity_16();
    case kRead6:
    case kRead10:
    case kRead12:
    case kRead16: return start_blocks(Source::Read);
    case kWrite6:
    case kWrite10:
    case kWrite12:
    case kWrite16: return start_blocks(Source::Write);
    case kVerify10:
    case kVerify12:
    case kVerify16: return verify();
    case kSynchronizeCache10:
    case kSynchronizeCache16: return synchronize_cache();
    default:
      log(LogItem::Disk, "SCSI command {:#04x} is not one of this disk", operation);
      return fail(kIllegalRequest, kInvalidOperation);
  }
}

void ScsiDisk::inquiry() {
  const u8 page = m_state.command[2];
  ScsiBytes data;
  if (m_state.command[1] & 1) {  // vital product data, SPC-3 7.6
    data.byte(0).byte(page).word(0);
    switch (page) {
      case 0x00: data.byte(0x00).byte(0x80).byte(0x83); break;
      case 0x80: data.text(m_serial, m_serial.size()); break;
      case 0x83:  // one identifier: ASCII, by vendor, of the logical unit
        data.byte(0x02).byte(0x01).byte(0).byte(static_cast<u32>(8 + m_serial.size())).text(kVendor, 8).text(m_serial, m_serial.size());
        break;
      default: return invalid_field();
    }
    data.set_length(2, 2);
    return reply(data, field(3, 2));
  }
  if (page != 0) return invalid_field();
  // SPC-3 6.4.2: direct access, removable medium, SPC-3, response format 2.
  data.byte(0x00).byte(0x80).byte(0x05).byte(0x02).byte(31).zeroes(3);
  data.text(kVendor, 8).text(kProduct, 16).text(kRevision, 4);
  reply(data, field(3, 2));
}

void ScsiDisk::request_sense() {
  State& s = m_state;
  if (s.command[1] & 1) return invalid_field();  // descriptor format
  if (s.sense_key == 0 && s.unit_attention) {
    s.sense_key = kUnitAttention;
    s.sense_code = s.unit_attention;
    s.unit_attention = 0;
  }
  ScsiBytes data;
  // SPC-3 4.5.3: fixed format, current.
  data.byte(0x70u | (s.information_valid ? 0x80u : 0)).byte(0).byte(s.sense_key).doubleword(s.information_valid ? s.information : 0).byte(10);
  data.zeroes(4).byte(s.sense_code).byte(s.sense_qualifier).zeroes(4);
  s.sense_key = s.sense_code = s.sense_qualifier = 0;
  s.information_valid = false;
  reply(data, s.command[4]);
}

void ScsiDisk::read_capacity() {
  if (!medium_ready()) return;
  if (!(m_state.command[8] & 1) && field(2, 4) != 0) return invalid_field();
  ScsiBytes data;
  data.doubleword(static_cast<u32>(std::min<u64>(blocks() - 1, 0xffffffff))).doubleword(kSectorSize);
  reply(data, 8);
}

void ScsiDisk::read_capacity_16() {
  if (!medium_ready()) return;
  if (!(m_state.command[14] & 1) && field(2, 8) != 0) return invalid_field();
  ScsiBytes data;
  data.quadword(blocks() - 1).doubleword(kSectorSize).zeroes(20);
  reply(data, field(10, 4));
}

void ScsiDisk::read_format_capacities() {
  // MMC-3 6.24: a list of one descriptor, of the medium (02h) or, without one, of the largest there is (03h).
  ScsiBytes data;
  data.zeroes(3).byte(8);
  data.doubleword(static_cast<u32>(medium_present() ? std::min<u64>(blocks(), 0xffffffff) : 0xffffffff));
  data.byte(medium_present() ? 2 : 3).triple(kSectorSize);
  reply(data, field(7, 2));
}

void ScsiDisk::mode_sense(bool ten) {
  const u8 page = m_state.command[2] & 0x3f, control = m_state.command[2] >> 6, subpage = m_state.command[3];
  if (control == 3) return fail(kIllegalRequest, kSavingUnsupported);
  if (subpage != 0 && subpage != 0xff) return invalid_field();
  const bool changeable = control == 1;  // a mask: nothing can be changed
  const bool read_only = medium_present() && m_medium->read_only();
  const bool no_block_descriptor = m_state.command[1] & 0x08;
  const u32 specific = 0x10u | (read_only ? 0x80u : 0);  // SBC-2 6.3.1: DPO and FUA bits, write protection
  const u32 descriptor = no_block_descriptor ? 0 : 8;
  ScsiBytes data;
  if (ten) data.word(0).byte(0).byte(specific).word(0).word(descriptor);
  else data.byte(0).byte(0).byte(specific).byte(descriptor);
  if (descriptor) data.doubleword(static_cast<u32>(std::min<u64>(blocks(), 0xffffffff))).byte(0).triple(kSectorSize);
  bool known = page == 0x3f;
  const auto add = [&](u8 code, const ScsiBytes& fields) {
    if (page != code && page != 0x3f) return;
    known = true;
    const std::span<const u8> content = fields;
    data.byte(code).byte(static_cast<u32>(content.size()));
    for (const u8 byte : content) data.byte(changeable ? 0 : byte);
  };
  add(0x01, ScsiBytes().zeroes(10));                                  // read-write error recovery
  add(0x08, ScsiBytes().byte(read_only ? 0x00 : 0x04).zeroes(17));    // caching: writes are, until SYNCHRONIZE CACHE
  add(0x1c, ScsiBytes().zeroes(10));                                  // informational exceptions
  if (!known) return invalid_field();
  data.set_length(0, ten ? 2 : 1);
  reply(data, ten ? field(7, 2) : m_state.command[4]);
}

void ScsiDisk::start_stop_unit() {
  State& s = m_state;
  const u8 action = s.command[4];
  const bool load_eject = action & 2, start = action & 1;
  if (action & 0xf0) return;  // power conditions change nothing here
  if (!load_eject) {
    if (start && !medium_present()) return fail(kNotReady, kNoMedium);
    s.stopped = !start;
    return;
  }
  if (start) {
    if (!m_medium) return fail(kNotReady, kNoMedium);
    if (s.ejected) s.unit_attention = kMediumChanged;
    s.ejected = s.stopped = false;
    return;
  }
  if (s.locked) return fail(kIllegalRequest, kRemovalPrevented, 2);
  if (m_medium)
    if (auto done = m_medium->flush(); !done) {
      log(LogItem::Unsupported, "{}", done.error().message);
      return fail(kMediumError, kWriteError);
    }
  s.ejected = m_medium != nullptr;
}

void ScsiDisk::prevent_allow() { m_state.locked = m_state.command[4] & 1; }

void ScsiDisk::synchronize_cache() {
  // SBC-2 5.18: of no blocks means up to the last one.
  if (!medium_ready() || !blocks_exist(extent())) return;
  if (auto done = m_medium->flush(); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    fail(kMediumError, kWriteError);
  }
}

void ScsiDisk::verify() {
  switch (m_state.command[1] >> 1 & 3) {  // BYTCHK
    case 0:
      // What can be read is good, and an image can be.
      if (medium_ready()) blocks_exist(extent());
      return;
    case 1: return start_blocks(Source::Compare);
    default: return invalid_field();
  }
}

void ScsiDisk::report_luns() {
  constexpr u32 kLeastAllocation = 16;
  const u64 allocation = field(6, 4);
  if (allocation < kLeastAllocation || m_state.command[2] > 2) return invalid_field();
  ScsiBytes data;
  if (m_state.command[2] == 1) data.doubleword(0).doubleword(0);  // well known logical units: none
  else data.doubleword(8).doubleword(0).quadword(0);
  reply(data, allocation);
}

}  // namespace vellum
