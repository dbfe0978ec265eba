// ATA hard disk: the command set.
#include "devices/ata_disk.h"

#include <algorithm>
#include <cstring>

#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// ATA/ATAPI-6 (T13/1410D) clause 8, command codes; obsolete ones that BIOSes and DOS drivers use from ATA-1.
enum Command : u8 {
  kNop = 0x00, kRecalibrate = 0x10, kRecalibrateLast = 0x1f, kReadSectors = 0x20, kReadSectorsNoRetry = 0x21,
  kReadSectorsExt = 0x24, kReadDmaExt = 0x25, kReadNativeMaxExt = 0x27, kReadMultipleExt = 0x29, kWriteSectors = 0x30,
  kWriteSectorsNoRetry = 0x31, kWriteSectorsExt = 0x34, kWriteDmaExt = 0x35, kWriteMultipleExt = 0x39,
  kWriteVerify = 0x3c, kReadVerify = 0x40, kReadVerifyNoRetry = 0x41, kReadVerifyExt = 0x42, kSeek = 0x70,
  kSeekLast = 0x7f, kInitializeParameters = 0x91, kStandbyImmediateOld = 0x94, kIdleImmediateOld = 0x95,
  kStandbyOld = 0x96, kIdleOld = 0x97, kCheckPowerOld = 0x98, kSleepOld = 0x99, kSmart = 0xb0, kReadMultiple = 0xc4,
  kWriteMultiple = 0xc5, kSetMultiple = 0xc6, kReadDma = 0xc8, kReadDmaNoRetry = 0xc9, kWriteDma = 0xca,
  kWriteDmaNoRetry = 0xcb, kStandbyImmediate = 0xe0, kIdleImmediate = 0xe1, kStandby = 0xe2, kIdle = 0xe3,
  kCheckPower = 0xe5, kSleep = 0xe6, kFlushCache = 0xe7, kFlushCacheExt = 0xea, kIdentify = 0xec, kSetFeatures = 0xef,
  kReadNativeMax = 0xf8,
};
constexpr u8 kPowerActive = 0xff, kPowerIdle = 0x80, kPowerStandby = 0x00;
constexpr u8 kSmartKeyMid = 0x4f, kSmartKeyHigh = 0xc2;  // 8.54
constexpr u32 kMaxMultiple = 16;                          // sectors, IDENTIFY word 47
constexpr u64 kLba28Sectors = 0x0fffffff, kLba48Limit = u64{1} << 48;
}  // namespace
}  // namespace spec

namespace {

constexpr usize kBufferSize = 128 * 1024;

// Strings stand in IDENTIFY data with the first character in the high byte of a word (ATA-6 3.2.9).
void put_string(u8* words, usize length, const std::string& text) {
  for (usize i = 0; i < length; ++i) words[i ^ 1] = i < text.size() ? static_cast<u8>(text[i]) : ' ';
}

u8 checksum(std::span<const u8> data) {
  u8 sum = 0;
  for (const u8 byte : data) sum += byte;
  return static_cast<u8>(-sum);
}

}  // namespace

DiskGeometry default_disk_geometry(u64 sectors) {
  return {.cylinders = static_cast<u32>(std::clamp<u64>(sectors / (16 * 63), 1, 16383)), .heads = 16, .sectors = 63};
}

AtaDisk::AtaDisk(std::unique_ptr<BlockDevice> medium, std::string serial)
    : AtaDisk(std::move(medium), DiskGeometry{}, std::move(serial)) {}

AtaDisk::AtaDisk(std::unique_ptr<BlockDevice> medium, DiskGeometry geometry, std::string serial, std::string model)
    : IdeDrive(kBufferSize),
      m_medium(std::move(medium)),
      m_serial(std::move(serial)),
      m_model(std::move(model)),
      m_sectors(std::min(m_medium->size() / kSectorSize, spec::kLba48Limit)),
      m_geometry(geometry.heads ? geometry : default_disk_geometry(m_sectors)) {
  drive_reset(true);
  set_signature();
}

std::string AtaDisk::describe() const {
  return fmt::format("{} ({}, {} sectors{})", m_medium->path(), m_model, m_sectors,
                     m_medium->read_only() ? ", read-only" : "");
}

void AtaDisk::set_signature() {
  m_state.count[0] = m_state.low[0] = 1;
  m_state.mid[0] = m_state.high[0] = 0;
  m_state.device = 0;
}

void AtaDisk::drive_reset(bool hard) {
  m_disk.remaining = 0;
  m_disk.sleeping = false;
  m_disk.power_mode = spec::kPowerActive;
  if (hard || !m_disk.keep_settings) {
    m_disk.multiple = 0;
    m_disk.heads = m_geometry.heads;
    m_disk.sectors_per_track = m_geometry.sectors;
    m_disk.write_cache = m_disk.look_ahead = true;
  }
  if (hard) m_disk = {.heads = m_geometry.heads, .sectors_per_track = m_geometry.sectors};
}

void AtaDisk::execute(u8 command) {
  using namespace spec;
  if (m_disk.sleeping) {  // ATA-6 6.10.4.4: only a reset ends sleep
    m_state.status = 0;
    return;
  }
  if (command >= kRecalibrate && command <= kRecalibrateLast) return complete();
  if (command >= kSeek && command <= kSeekLast) {
    m_state.count[0] = 1;
    return verify(Width::Lba28);
  }
  switch (command) {
    case kReadSectors:
    case kReadSectorsNoRetry: return start_read(Width::Lba28, false);
    case kReadSectorsExt: return start_read(Width::Lba48, false);
    case kReadMultiple: return start_read(Width::Lba28, true);
    case kReadMultipleExt: return start_read(Width::Lba48, true);
    case kWriteSectors:
    case kWriteSectorsNoRetry:
    case kWriteVerify: return start_write(Width::Lba28, false);
    case kWriteSectorsExt: return start_write(Width::Lba48, false);
    case kWriteMultiple: return start_write(Width::Lba28, true);
    case kWriteMultipleExt: return start_write(Width::Lba48, true);
    case kReadDma:
    case kReadDmaNoRetry: return start_dma_command(Width::Lba28, true);
    case kReadDmaExt: return start_dma_command(Width::Lba48, true);
    case kWriteDma:
    case kWriteDmaNoRetry: return start_dma_command(Width::Lba28, false);
    case kWriteDmaExt: return start_dma_command(Width::Lba48, false);
    case kReadVerify:
    case kReadVerifyNoRetry: return verify(Width::Lba28);
    case kReadVerifyExt: return verify(Width::Lba48);
    case kReadNativeMax: return read_native_max(Width::Lba28);
    case kReadNativeMaxExt: return read_native_max(Width::Lba48);
    case kInitializeParameters:
      // 8.16 of ATA-5: logical sectors per track in Sector Count, highest head in Device.
      if (m_state.count[0] == 0) return abort_command();
      m_disk.sectors_per_track = m_state.count[0];
      m_disk.heads = (m_state.device & 0xfu) + 1;
      return complete();
    case kSetMultiple: {
      const u32 sectors = m_state.count[0];
      if (sectors > kMaxMultiple || (sectors & (sectors - 1)) != 0) return abort_command();
      m_disk.multiple = sectors;
      return complete();
    }
    case kIdentify:
      identify();
      return start_pio_in(kSectorSize);
    case kSetFeatures: return set_features();
    case kSmart: return smart();
    case kFlushCache:
    case kFlushCacheExt:
      if (auto done = m_medium->flush(); !done) {
        log(LogItem::Unsupported, "{}", done.error().message);
        return abort_command();
      }
      return complete();
    case kStandbyImmediate:
    case kStandbyImmediateOld:
    case kStandby:
    case kStandbyOld:
      m_disk.power_mode = kPowerStandby;
      return complete();
    case kIdleImmediate:
    case kIdleImmediateOld:
    case kIdle:
    case kIdleOld:
      m_disk.power_mode = kPowerIdle;
      return complete();
    case kCheckPower:
    case kCheckPowerOld:
      m_state.count[0] = m_disk.power_mode;
      return complete();
    case kSleep:
    case kSleepOld:
      m_disk.sleeping = true;
      return complete();
    default:
      // NOP and the PACKET commands are aborted by definition (8.22, 8.23), others because they are optional.
      log(LogItem::Disk, "ATA command {:#04x} aborted", command);
      return abort_command();
  }
}

bool AtaDisk::take_address(Width width) {
  const State& s = m_state;
  m_disk.width = width;
  m_disk.power_mode = spec::kPowerActive;
  m_disk.chs = width == Width::Lba28 && !(s.device & ata::kDeviceLba);
  if (width == Width::Lba48) {
    const u32 count = u32{s.count[1]} << 8 | s.count[0];
    m_disk.remaining = count ? count : 65536;
    m_disk.sector = u64{s.high[1]} << 40 | u64{s.mid[1]} << 32 | u64{s.low[1]} << 24 | u64{s.high[0]} << 16 |
                    u64{s.mid[0]} << 8 | s.low[0];
  } else {
    m_disk.remaining = s.count[0] ? s.count[0] : 256;
    if (m_disk.chs) {
      const u32 cylinder = u32{s.high[0]} << 8 | s.mid[0], head = s.device & 0xf, sector = s.low[0];
      if (sector == 0 || sector > m_disk.sectors_per_track || head >= m_disk.heads) {
        abort_command(ata::kErrorIdNotFound);
        return false;
      }
      m_disk.sector = (u64{cylinder} * m_disk.heads + head) * m_disk.sectors_per_track + sector - 1;
    } else {
      m_disk.sector = u64{s.device & 0xfu} << 24 | u64{s.high[0]} << 16 | u64{s.mid[0]} << 8 | s.low[0];
    }
  }
  if (m_disk.sector >= m_sectors) {
    abort_command(ata::kErrorIdNotFound);
    return false;
  }
  return true;
}

void AtaDisk::put_address(u64 sector) {
  State& s = m_state;
  const auto byte = [](u64 value, unsigned index) { return static_cast<u8>(value >> (8 * index)); };
  if (m_disk.chs) {
    const u64 track = sector / m_disk.sectors_per_track, cylinder = track / m_disk.heads;
    s.low[0] = static_cast<u8>(sector % m_disk.sectors_per_track + 1);
    s.mid[0] = byte(cylinder, 0);
    s.high[0] = byte(cylinder, 1);
    s.device = static_cast<u8>((s.device & 0xf0) | (track % m_disk.heads));
    return;
  }
  s.low[0] = byte(sector, 0);
  s.mid[0] = byte(sector, 1);
  s.high[0] = byte(sector, 2);
  if (m_disk.width == Width::Lba28) {
    s.device = static_cast<u8>((s.device & 0xf0) | (byte(sector, 3) & 0xf));
  } else {
    s.low[1] = byte(sector, 3);
    s.mid[1] = byte(sector, 4);
    s.high[1] = byte(sector, 5);
  }
}

void AtaDisk::advance(u32 sectors) {
  sectors = std::min(sectors, m_disk.remaining);
  m_disk.sector += sectors;
  m_disk.remaining -= sectors;
  put_address(m_disk.sector - (sectors ? 1 : 0));
  m_state.count[0] = static_cast<u8>(m_disk.remaining);
  if (m_disk.width == Width::Lba48) m_state.count[1] = static_cast<u8>(m_disk.remaining >> 8);
}

u32 AtaDisk::block_sectors() const { return std::min(m_disk.block_sectors, m_disk.remaining); }

bool AtaDisk::read_medium(u64 sector, std::span<u8> data) {
  if (sector > m_sectors || data.size() / kSectorSize > m_sectors - sector) {
    put_address(m_sectors);
    abort_command(ata::kErrorIdNotFound);
    return false;
  }
  if (auto done = m_medium->read(sector * kSectorSize, data); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    put_address(sector);
    abort_command(ata::kErrorUncorrectable);
    return false;
  }
  return true;
}

bool AtaDisk::write_medium(u64 sector, std::span<const u8> data) {
  if (sector > m_sectors || data.size() / kSectorSize > m_sectors - sector) {
    put_address(m_sectors);
    abort_command(ata::kErrorIdNotFound);
    return false;
  }
  if (auto done = m_medium->write(sector * kSectorSize, data); !done) {
    log(LogItem::Unsupported, "{}", done.error().message);
    put_address(sector);
    abort_command(ata::kErrorUncorrectable);
    return false;
  }
  return true;
}

void AtaDisk::load_block() {
  const usize length = block_sectors() * kSectorSize;
  if (!read_medium(m_disk.sector, std::span(m_state.buffer).first(length))) return;
  start_pio_in(length);
}

void AtaDisk::start_read(Width width, bool multiple) {
  if (multiple && m_disk.multiple == 0) return abort_command();
  if (!take_address(width)) return;
  m_disk.block_sectors = multiple ? m_disk.multiple : 1;
  load_block();
}

void AtaDisk::start_write(Width width, bool multiple) {
  if ((multiple && m_disk.multiple == 0) || m_medium->read_only()) return abort_command();
  if (!take_address(width)) return;
  m_disk.block_sectors = multiple ? m_disk.multiple : 1;
  start_pio_out(block_sectors() * kSectorSize, false);  // no INTRQ for the first block (9.6)
}

void AtaDisk::start_dma_command(Width width, bool to_memory) {
  if (!to_memory && m_medium->read_only()) return abort_command();
  if (!take_address(width)) return;
  start_dma(to_memory);
}

void AtaDisk::verify(Width width) {
  if (!take_address(width)) return;
  if (m_disk.remaining > m_sectors - m_disk.sector) {
    put_address(m_sectors);
    return abort_command(ata::kErrorIdNotFound);
  }
  advance(m_disk.remaining);
  complete();
}

void AtaDisk::block_done() {
  const u32 sectors = block_sectors();
  if (m_state.phase == Phase::PioIn) {
    if (m_state.command != spec::kIdentify && m_state.command != spec::kSmart) {
      advance(sectors);
      if (m_disk.remaining) return load_block();
    }
    return complete(false);  // the host learnt of the last block by its own interrupt
  }
  if (m_state.phase == Phase::PioOut && m_state.command != spec::kSmart) {
    if (!write_medium(m_disk.sector, std::span(m_state.buffer).first(sectors * kSectorSize))) return;
    advance(sectors);
    if (m_disk.remaining) return start_pio_out(block_sectors() * kSectorSize, true);
  }
  complete();
}

usize AtaDisk::next_dma_piece() {
  if (m_disk.remaining == 0) return 0;
  if (m_disk.sector >= m_sectors) {
    put_address(m_sectors);
    abort_command(ata::kErrorIdNotFound);
    return 0;
  }
  const u64 sectors =
      std::min({u64{m_disk.remaining}, m_state.buffer.size() / kSectorSize, m_sectors - m_disk.sector});
  const usize length = sectors * kSectorSize;
  if (m_state.phase == Phase::DmaIn && !read_medium(m_disk.sector, std::span(m_state.buffer).first(length))) return 0;
  return length;
}

void AtaDisk::dma_piece_done(usize length) {
  if (m_state.phase == Phase::DmaOut && !write_medium(m_disk.sector, std::span(m_state.buffer).first(length))) return;
  advance(static_cast<u32>(length / kSectorSize));
}

void AtaDisk::dma_finished() { complete(); }

void AtaDisk::read_native_max(Width width) {
  m_disk.width = width;
  m_disk.chs = false;
  put_address(width == Width::Lba28 ? std::min(m_sectors - 1, spec::kLba28Sectors - 1) : m_sectors - 1);
  complete();
}

void AtaDisk::set_features() {
  switch (m_state.features[0]) {
    case 0x02: m_disk.write_cache = true; return complete();
    case 0x82: {
      m_disk.write_cache = false;
      if (auto done = m_medium->flush(); !done) log(LogItem::Unsupported, "{}", done.error().message);
      return complete();
    }
    case 0x55: m_disk.look_ahead = false; return complete();
    case 0xaa: m_disk.look_ahead = true; return complete();
    case 0x66: m_disk.keep_settings = true; return complete();
    case 0xcc: m_disk.keep_settings = false; return complete();
    case 0x03: {  // transfer mode, 8.46.11: type in bits 7-3, mode in bits 2-0
      const u8 mode = m_state.count[0] & 7;
      switch (m_state.count[0] >> 3) {
        case 0x00: return mode <= 1 ? complete() : abort_command();
        case 0x01: return mode <= 4 ? complete() : abort_command();
        case 0x04:
          if (mode > 2) return abort_command();
          m_disk.transfer_mode_multiword = mode;
          m_disk.transfer_mode_ultra = 0xff;
          return complete();
        case 0x08:
          if (mode > 5) return abort_command();
          m_disk.transfer_mode_ultra = mode;
          m_disk.transfer_mode_multiword = 0xff;
          return complete();
        default: return abort_command();
      }
    }
    default: return abort_command();
  }
}

void AtaDisk::smart() {
  // 8.54: every subcommand carries a key.
  if (m_state.mid[0] != spec::kSmartKeyMid || m_state.high[0] != spec::kSmartKeyHigh) return abort_command();
  const u8 subcommand = m_state.features[0];
  if (!m_disk.smart_enabled && subcommand != 0xd8) return abort_command();
  const auto buffer = std::span(m_state.buffer).first(kSectorSize);
  switch (subcommand) {
    case 0xd8: m_disk.smart_enabled = true; return complete();
    case 0xd9: m_disk.smart_enabled = false; return complete();
    case 0xd2:              // attribute autosave
    case 0xd3:              // save attribute values
    case 0xd4:              // off-line immediate: nothing to test
    case 0xda: return complete();  // return status: the unchanged key means that no threshold is exceeded
    case 0xd0:              // read data: revision, and attribute 5 (reallocated sectors) at its best
    case 0xd1: {            // read thresholds
      std::ranges::fill(buffer, u8{0});
      buffer[0] = 0x10;
      buffer[2] = 5;
      if (subcommand == 0xd0) {
        buffer[3] = 0x03;  // pre-failure, updated on-line
        buffer[5] = buffer[6] = 100;
      } else {
        buffer[3] = 10;
      }
      buffer[511] = checksum(buffer.first(511));
      return start_pio_in(kSectorSize);
    }
    case 0xd5:  // read log: the directory and an empty error log
      if (m_state.low[0] > 1 || m_state.count[0] != 1) return abort_command();
      std::ranges::fill(buffer, u8{0});
      buffer[0] = 1;
      if (m_state.low[0] == 1) buffer[511] = checksum(buffer.first(511));
      return start_pio_in(kSectorSize);
    default: return abort_command();
  }
}

void AtaDisk::identify() {
  u8* data = m_state.buffer.data();
  std::memset(data, 0, kSectorSize);
  const auto word = [data](unsigned index, u64 value) {
    data[2 * index] = static_cast<u8>(value);
    data[2 * index + 1] = static_cast<u8>(value >> 8);
  };
  const auto words = [&word](unsigned index, unsigned count, u64 value) {
    for (unsigned i = 0; i < count; ++i) word(index + i, value >> (16 * i));
  };
  // ATA-6 table 26; words 1, 3, 6, 54-58 as ATA-5 still defines them.
  word(0, 0x0040);
  word(1, m_geometry.cylinders);
  word(3, m_geometry.heads);
  word(6, m_geometry.sectors);
  put_string(data + 20, 20, m_serial);
  put_string(data + 46, 8, "1.0");
  put_string(data + 54, 40, m_model);
  word(47, 0x8000 | spec::kMaxMultiple);
  word(49, 0x0b00);  // LBA, DMA, IORDY
  word(50, 0x4000);
  word(51, 0x0200);  // PIO mode 2 timing for old hosts
  word(53, 0x0007);
  const u64 track_sectors = u64{m_disk.heads} * m_disk.sectors_per_track;
  const u64 cylinders = std::clamp<u64>(m_sectors / track_sectors, 1, 16383);
  word(54, cylinders);
  word(55, m_disk.heads);
  word(56, m_disk.sectors_per_track);
  words(57, 2, cylinders * track_sectors);
  word(59, m_disk.multiple ? 0x0100 | m_disk.multiple : 0);
  words(60, 2, std::min(m_sectors, spec::kLba28Sectors));
  word(63, 0x0007u | (m_disk.transfer_mode_multiword <= 2 ? 0x100u << m_disk.transfer_mode_multiword : 0));
  word(64, 0x0003);  // PIO modes 3 and 4
  words(65, 4, 0x0078'0078'0078'0078);  // cycle times of 120 ns
  word(80, 0x007e);  // ATA-1 to ATA/ATAPI-6
  word(82, 0x4069);  // NOP, look-ahead, write cache, power management, SMART
  word(83, 0x7400);  // FLUSH CACHE (EXT), 48-bit addresses
  word(84, 0x4000);
  word(85, 0x4008u | (m_disk.look_ahead ? 0x40u : 0) | (m_disk.write_cache ? 0x20u : 0) | m_disk.smart_enabled);
  word(86, 0x3400);
  word(87, 0x4000);
  word(88, 0x003fu | (m_disk.transfer_mode_ultra <= 5 ? 0x100u << m_disk.transfer_mode_ultra : 0));
  word(93, m_second ? 0x6300 : 0x600b);  // 80-conductor cable; device number by jumper
  words(100, 4, m_sectors);
  data[510] = 0xa5;
  data[511] = checksum({data, 511});
}

void AtaDisk::visit_drive(Archive& archive) {
  auto& [sector, remaining, block_sectors, width, chs, multiple, heads, sectors_per_track, write_cache, look_ahead,
         smart_enabled, keep_settings, ultra, multiword, power_mode, sleeping] = m_disk;
  archive("sector", sector)("remaining", remaining)("block_sectors", block_sectors)("width", width)("chs", chs);
  archive("multiple", multiple)("heads", heads)("sectors_per_track", sectors_per_track);
  archive("write_cache", write_cache)("look_ahead", look_ahead)("smart_enabled", smart_enabled);
  archive("keep_settings", keep_settings)("ultra", ultra)("multiword", multiword);
  archive("power_mode", power_mode)("sleeping", sleeping);
  archive.require(sector <= spec::kLba48Limit && remaining <= 65536, "disk address");
  archive.require(block_sectors >= 1 && block_sectors <= spec::kMaxMultiple && multiple <= spec::kMaxMultiple,
                  "sectors per block");
  archive.require(width <= Width::Lba48, "address width");
  archive.require(heads >= 1 && heads <= 16 && sectors_per_track >= 1 && sectors_per_track <= 255, "disk geometry");
  const bool moving = m_state.phase == Phase::PioIn || m_state.phase == Phase::PioOut;
  const bool single = m_state.command == spec::kIdentify || m_state.command == spec::kSmart;
  archive.require(!moving || single || (m_state.end == this->block_sectors() * kSectorSize), "length of a block");
  archive.require(m_state.phase != Phase::Packet, "a disk that waits for a packet");
  archive.require(m_state.end % kSectorSize == 0, "length of a transfer");
}

}  // namespace vellum
