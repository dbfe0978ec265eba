// Floppy controller 82077AA in AT mode.
#include "devices/floppy_82077aa.h"

#include <algorithm>
#include <cstring>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// Intel 82077AA datasheet (order number 290166): section 2 registers, section 5 commands, section 6 status registers.
constexpr u8 kDorReset = 0x04, kDorGate = 0x08;
constexpr u8 kMsrRequest = 0x80, kMsrToHost = 0x40, kMsrNonDma = 0x20, kMsrBusy = 0x10;
constexpr u8 kDsrReset = 0x80;
constexpr u8 kSt0Abnormal = 0x40, kSt0Invalid = 0x80, kSt0Polling = 0xc0, kSt0SeekEnd = 0x20, kSt0EquipmentCheck = 0x10;
constexpr u8 kSt1EndOfCylinder = 0x80, kSt1DataError = 0x20, kSt1Overrun = 0x10, kSt1NoData = 0x04,
             kSt1NotWritable = 0x02, kSt1MissingMark = 0x01;
constexpr u8 kSt2ControlMark = 0x40, kSt2DataError = 0x20, kSt2WrongCylinder = 0x10, kSt2ScanEqual = 0x08,
             kSt2ScanNotSatisfied = 0x04;
constexpr u8 kSt3WriteProtected = 0x40, kSt3Ready = 0x20, kSt3Track0 = 0x10, kSt3TwoSided = 0x08;
constexpr u8 kMultiTrack = 0x80, kMfm = 0x40, kSkip = 0x20;  // in the command byte
constexpr u8 kConfigureImpliedSeek = 0x40, kConfigurePollOff = 0x10, kConfigureDefault = 0x20;
constexpr u8 kPerpendicularOverwrite = 0x80;
constexpr u8 kSizeCode512 = 2;
constexpr u8 kVersion = 0x90;

enum Command : u8 {  // the command byte's low five bits, table 5-1
  kReadTrack = 0x02,
  kSpecify = 0x03,
  kSenseDrive = 0x04,
  kWriteData = 0x05,
  kReadData = 0x06,
  kRecalibrate = 0x07,
  kSenseInterrupt = 0x08,
  kWriteDeleted = 0x09,
  kReadId = 0x0a,
  kReadDeleted = 0x0c,
  kFormat = 0x0d,
  kDumpRegisters = 0x0e,
  kSeek = 0x0f,
  kVersionCommand = 0x10,
  kScanEqual = 0x11,
  kPerpendicular = 0x12,
  kConfigure = 0x13,
  kLock = 0x14,
  kVerify = 0x16,
  kScanLow = 0x19,
  kScanHigh = 0x1d,
};
constexpr u8 command_length(u8 command) {
  switch (command & 0x1f) {
    case kReadTrack:
    case kWriteData:
    case kReadData:
    case kWriteDeleted:
    case kReadDeleted:
    case kScanEqual:
    case kScanLow:
    case kScanHigh:
    case kVerify: return 9;
    case kFormat: return 6;
    case kConfigure: return 4;
    case kSpecify:
    case kSeek: return 3;
    case kSenseDrive:
    case kRecalibrate:
    case kReadId:
    case kPerpendicular: return 2;
    default: return 1;
  }
}

// Delays. Seeks take what SPECIFY programs; sectors come faster than a disk turns, which no driver can tell from a
// lucky start, and a drive without a turning disk fails in finite time, while a real one lets the driver time out.
constexpr Ticks kResetTime = 20'000, kSectorTime = 250'000, kNoMediumTime = 100'000'000;
}  // namespace
}  // namespace spec

namespace {

constexpr FloppyGeometry kFormats[] = {
    {40, 1, 8, 2, FloppyDriveType::Inch5_360K},   {40, 1, 9, 2, FloppyDriveType::Inch5_360K},
    {40, 2, 8, 2, FloppyDriveType::Inch5_360K},   {40, 2, 9, 2, FloppyDriveType::Inch5_360K},
    {80, 2, 9, 2, FloppyDriveType::Inch3_720K},   {80, 2, 15, 0, FloppyDriveType::Inch5_1200K},
    {80, 2, 18, 0, FloppyDriveType::Inch3_1440K}, {80, 2, 21, 0, FloppyDriveType::Inch3_1440K},
    {82, 2, 21, 0, FloppyDriveType::Inch3_1440K}, {80, 2, 36, 3, FloppyDriveType::Inch3_2880K},
};

bool fits(FloppyDriveType medium, FloppyDriveType drive) {
  using enum FloppyDriveType;
  switch (drive) {
    case None: return false;
    case Inch5_360K: return medium == Inch5_360K;
    case Inch5_1200K: return medium == Inch5_360K || medium == Inch5_1200K;
    case Inch3_720K: return medium == Inch3_720K;
    case Inch3_1440K: return medium == Inch3_720K || medium == Inch3_1440K;
    case Inch3_2880K: return medium == Inch3_720K || medium == Inch3_1440K || medium == Inch3_2880K;
  }
  return false;
}

}  // namespace

Result<FloppyGeometry> floppy_geometry(u64 bytes) {
  for (const auto& format : kFormats)
    if (format.bytes() == bytes) return format;
  for (const auto& format : kFormats)
    if (format.drive >= FloppyDriveType::Inch3_1440K && format.bytes() >= bytes) return format;
  return failure(
      fmt::format("{} bytes are too many for a floppy disk: the largest format holds 2949120 (2880 KiB)", bytes));
}

Floppy82077aa::Floppy82077aa(PortBus& ports, VirtualClock& clock, InterruptLine irq, DmaChannel& dma, u16 base)
    : m_ports(ports),
      m_clock(clock),
      m_irq(irq),
      m_dma(dma),
      m_base(base),
      m_transfer_timer(clock, [this] { transfer_due(); }),
      m_reset_timer(clock, [this] { reset_done(); }),
      m_seek_timers{Timer(clock, [this] { seek_done(0); }), Timer(clock, [this] { seek_done(1); }),
                    Timer(clock, [this] { seek_done(2); }), Timer(clock, [this] { seek_done(3); })} {
  m_mappings[0] = ports.map("floppy82077aa", base, 6, *this);
  m_mappings[1] = ports.map("floppy82077aa", static_cast<u16>(base + 7), 1, *this);
}

Floppy82077aa::~Floppy82077aa() {
  for (const auto id : m_mappings) m_ports.unmap(id);
}

void Floppy82077aa::set_drive_type(unsigned drive, FloppyDriveType type) { m_drives[drive].type = type; }

Result<void> Floppy82077aa::accepts(unsigned drive, const BlockDevice& medium) const {
  VELLUM_ASSERT(drive < kDrives);
  const auto geometry = floppy_geometry(medium.size());
  if (!geometry)
    return failure(fmt::format("cannot use '{}' as a floppy disk: {}", medium.path(), geometry.error().message));
  if (fits(geometry->drive, m_drives[drive].type)) return {};
  return failure(fmt::format("'{}' does not fit into floppy drive {}: its {} KiB belong to another kind of drive",
                             medium.path(), static_cast<char>('A' + drive), geometry->bytes() / 1024));
}

Result<void> Floppy82077aa::insert(unsigned drive, std::unique_ptr<BlockDevice> medium, bool adapt) {
  VELLUM_ASSERT(drive < kDrives);
  const auto accepted = accepts(drive, *medium);
  const auto geometry = floppy_geometry(medium->size());
  if (!accepted && (!adapt || !geometry)) return accepted;
  Drive& into = m_drives[drive];
  if (!accepted) into.type = geometry->drive;
  into.medium = std::move(medium);
  into.geometry = *geometry;
  m_state.units[drive].disk_changed = true;
  return {};
}

void Floppy82077aa::eject(unsigned drive) {
  VELLUM_ASSERT(drive < kDrives);
  m_drives[drive].medium.reset();
  m_drives[drive].geometry = {};
  m_state.units[drive].disk_changed = true;
}

const Floppy82077aa::Drive& Floppy82077aa::drive() const {
  static const Drive kNone{};
  return m_state.unit < kDrives ? m_drives[m_state.unit] : kNone;
}

void Floppy82077aa::reset(ResetKind kind) {
  m_transfer_timer.cancel();
  m_reset_timer.cancel();
  for (auto& timer : m_seek_timers) timer.cancel();
  // The drives are parts of their own: the RESET line moves no head and closes no door.
  const auto units = m_state.units;
  m_state = {};
  if (kind != ResetKind::PowerOn) {
    for (unsigned unit = 0; unit < kUnits; ++unit) {
      m_state.units[unit].track = units[unit].track;
      m_state.units[unit].disk_changed = units[unit].disk_changed;
    }
  }
  m_irq.lower();
}

void Floppy82077aa::Unit::visit(Archive& archive) {
  archive("cylinder", cylinder)("track", track)("target", target)("status", status)("seeking", seeking);
  archive("disk_changed", disk_changed)("medium_size", medium_size);
}

void Floppy82077aa::visit(Archive& archive) {
  auto& [phase, dor, tape, rate, fifo, fifo_length, fifo_position, interrupt, reset_polls, units, specify, configure,
         precompensation, perpendicular, lock, transfer, command, unit, head, c, h, r, n, end_of_track, data_length,
         format_left, format_filler, host_turn, wanted_seen, scan_status, position, length, buffer] = m_state;
  for (unsigned i = 0; i < kDrives && !archive.loading(); ++i)
    units[i].medium_size = m_drives[i].medium ? m_drives[i].medium->size() : 0;
  archive("phase", phase)("dor", dor)("tape", tape)("rate", rate)("fifo", fifo)("fifo_length", fifo_length);
  archive("fifo_position", fifo_position)("interrupt", interrupt)("reset_polls", reset_polls)("units", units);
  archive("specify", specify)("configure", configure)("precompensation", precompensation);
  archive("perpendicular", perpendicular)("lock", lock)("transfer", transfer)("command", command)("unit", unit);
  archive("head", head)("c", c)("h", h)("r", r)("n", n)("end_of_track", end_of_track)("data_length", data_length);
  archive("format_left", format_left)("format_filler", format_filler)("host_turn", host_turn);
  archive("wanted_seen", wanted_seen)("scan_status", scan_status)("position", position)("length", length);
  archive("buffer", buffer);
  archive.require(phase < Phase::Count && transfer < Transfer::Count, "floppy phase");
  archive.require(fifo_length <= fifo.size() && fifo_position <= fifo_length, "floppy FIFO");
  archive.require(phase != Phase::Result || fifo_position < fifo_length, "floppy result phase without a result");
  archive.require(phase != Phase::Command || fifo_position < fifo_length, "floppy command phase without a command");
  archive.require(length <= buffer.size() && position <= length, "floppy buffer");
  archive.require(!host_turn || position < length, "floppy data phase without data");
  archive.require(unit < kUnits && head < 2 && reset_polls <= kUnits && rate < 4, "floppy drive");
  archive("transfer_timer", m_transfer_timer)("reset_timer", m_reset_timer);
  for (auto& timer : m_seek_timers) archive("seek_timer", timer);
  // Another disk than when the state was saved: somebody has changed it, which the guest must see.
  if (archive.loading() && !archive.failed())
    for (unsigned i = 0; i < kDrives; ++i)
      if (units[i].medium_size != (m_drives[i].medium ? m_drives[i].medium->size() : 0)) units[i].disk_changed = true;
  if (archive.loading()) m_irq.set(interrupt && (dor & spec::kDorGate));
}

void Floppy82077aa::set_interrupt(bool level) {
  m_state.interrupt = level;
  m_irq.set(level && (m_state.dor & spec::kDorGate));
}

u8 Floppy82077aa::main_status() const {
  u8 status = 0;
  for (unsigned unit = 0; unit < kUnits; ++unit)
    if (m_state.units[unit].seeking) status |= static_cast<u8>(1 << unit);
  switch (m_state.phase) {
    case Phase::Reset: return 0;
    case Phase::Idle: return status | spec::kMsrRequest;
    case Phase::Command: return status | spec::kMsrRequest | spec::kMsrBusy;
    case Phase::Result: return status | spec::kMsrRequest | spec::kMsrToHost | spec::kMsrBusy;
    case Phase::Execution:
      status |= spec::kMsrBusy;
      if (m_state.specify[1] & 1) status |= spec::kMsrNonDma;
      if (m_state.host_turn) {
        status |= spec::kMsrRequest;
        if (m_state.transfer == Transfer::Read) status |= spec::kMsrToHost;
      }
      return status;
    case Phase::Count: break;
  }
  return status;
}

u8 Floppy82077aa::digital_input() const {
  // 2.1.8: DSKCHG of the selected drive; the other bits belong to the hard disk's controller on an AT.
  const unsigned unit = m_state.dor & 3;
  return unit < kDrives && m_drives[unit].type != FloppyDriveType::None && m_state.units[unit].disk_changed ? 0x80 : 0;
}

u32 Floppy82077aa::read_port(u16 port, unsigned) {
  switch (port - m_base) {
    case 2: return m_state.dor;
    case 3: return m_state.tape;
    case 4: return main_status();
    case 5: return read_fifo();
    case 7: return digital_input();
    default: return 0xff;  // status registers A and B exist in PS/2 mode only
  }
}

void Floppy82077aa::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  switch (port - m_base) {
    case 2: return write_dor(byte);
    case 3: m_state.tape = byte & 3; break;
    case 4:
      m_state.rate = byte & 3;
      if ((byte & spec::kDsrReset) && (m_state.dor & spec::kDorReset)) {
        enter_reset();
        leave_reset();  // this bit clears itself
      }
      break;
    case 5: return write_fifo(byte);
    case 7: m_state.rate = byte & 3; break;
    default: break;
  }
}

void Floppy82077aa::write_dor(u8 value) {
  const u8 before = m_state.dor;
  m_state.dor = value;
  if (!(value & spec::kDorReset)) enter_reset();
  else if (!(before & spec::kDorReset)) leave_reset();
  m_irq.set(m_state.interrupt && (value & spec::kDorGate));
}

void Floppy82077aa::enter_reset() {
  m_transfer_timer.cancel();
  m_reset_timer.cancel();
  for (auto& timer : m_seek_timers) timer.cancel();
  for (auto& unit : m_state.units) {
    unit.seeking = false;
    unit.status = 0;
  }
  m_state.phase = Phase::Reset;
  m_state.transfer = Transfer::None;
  m_state.fifo_length = m_state.fifo_position = 0;
  m_state.host_turn = false;
  m_state.position = m_state.length = 0;
  m_state.reset_polls = 0;
  // Section 4.3: a software reset keeps SPECIFY; CONFIGURE's values unless LOCK is off; GAP and WGATE go.
  if (!m_state.lock) {
    m_state.configure = spec::kConfigureDefault;
    m_state.precompensation = 0;
  }
  m_state.perpendicular &= 0x3c;
  set_interrupt(false);
}

void Floppy82077aa::leave_reset() { m_reset_timer.arm(m_clock.now() + spec::kResetTime); }

void Floppy82077aa::reset_done() {
  if (m_state.phase != Phase::Reset) return;
  m_state.phase = Phase::Idle;
  if (m_state.configure & spec::kConfigurePollOff) return;
  m_state.reset_polls = kUnits;
  set_interrupt(true);
}

Ticks Floppy82077aa::step_time() const {
  // SPECIFY, "step rate time": 16 - SRT milliseconds at 500 kbit/s, scaled by the data rate.
  constexpr Ticks kUnit[] = {1'000'000, 1'667'000, 2'000'000, 500'000};
  return (16 - (m_state.specify[0] >> 4)) * kUnit[m_state.rate];
}

u8 Floppy82077aa::read_fifo() {
  State& s = m_state;
  if (s.phase == Phase::Result) {
    if (s.fifo_position == 0) set_interrupt(false);
    const u8 value = s.fifo[s.fifo_position++];
    if (s.fifo_position >= s.fifo_length) {
      s.phase = Phase::Idle;
      s.fifo_position = s.fifo_length = 0;
    }
    return value;
  }
  if (s.phase == Phase::Execution && s.host_turn && s.transfer == Transfer::Read) {
    const u8 value = s.buffer[s.position++];
    set_interrupt(false);
    if (s.position < s.length) {
      set_interrupt(true);
    } else {
      s.host_turn = false;
      sector_moved(false);
    }
    return value;
  }
  return 0;
}

void Floppy82077aa::write_fifo(u8 value) {
  State& s = m_state;
  switch (s.phase) {
    case Phase::Idle:
      s.fifo[0] = value;
      s.fifo_position = 1;
      s.fifo_length = spec::command_length(value);
      s.phase = Phase::Command;
      break;
    case Phase::Command: s.fifo[s.fifo_position++] = value; break;
    case Phase::Execution:
      if (s.host_turn && s.transfer != Transfer::Read) {
        s.buffer[s.position++] = value;
        set_interrupt(false);
        if (s.position < s.length) {
          set_interrupt(true);
        } else {
          s.host_turn = false;
          sector_moved(false);
        }
      }
      return;
    case Phase::Reset:
    case Phase::Result:
    case Phase::Count: return;
  }
  if (s.fifo_position == s.fifo_length) execute();
}

void Floppy82077aa::finish(std::span<const u8> result, bool interrupt) {
  State& s = m_state;
  s.fifo_position = 0;
  s.fifo_length = static_cast<u8>(result.size());
  std::ranges::copy(result, s.fifo.begin());
  s.phase = result.empty() ? Phase::Idle : Phase::Result;
  if (interrupt) set_interrupt(true);
}

void Floppy82077aa::execute() {
  State& s = m_state;
  const u8 command = s.fifo[0];
  const auto none = std::span<const u8>();
  s.command = command;
  switch (command & 0x1f) {
    case spec::kReadData:
    case spec::kReadDeleted:
    case spec::kReadTrack: return start_transfer(Transfer::Read);
    case spec::kWriteData:
    case spec::kWriteDeleted: return start_transfer(Transfer::Write);
    case spec::kScanEqual:
    case spec::kScanLow:
    case spec::kScanHigh: return start_transfer(Transfer::Scan);
    case spec::kVerify: return start_transfer(Transfer::Verify);
    case spec::kFormat: return start_transfer(Transfer::Format);
    case spec::kReadId: return start_transfer(Transfer::ReadId);
    case spec::kSpecify:
      s.specify = {s.fifo[1], s.fifo[2]};
      return finish(none, false);
    case spec::kSenseDrive: return sense_drive();
    case spec::kSenseInterrupt: return sense_interrupt();
    case spec::kRecalibrate: {
      const unsigned unit = s.fifo[1] & 3;
      // Without a drive no TRACK 0 signal comes, however often the controller steps.
      const bool exists = unit < kDrives && m_drives[unit].type != FloppyDriveType::None;
      start_seek(unit, 0,
                 static_cast<u8>(spec::kSt0SeekEnd | unit |
                                 (exists ? 0 : spec::kSt0Abnormal | spec::kSt0EquipmentCheck)));
      s.units[unit].cylinder = 0;
      return finish(none, false);
    }
    case spec::kSeek: {
      const unsigned unit = s.fifo[1] & 3;
      const u8 status = static_cast<u8>(spec::kSt0SeekEnd | (s.fifo[1] & 7));
      unsigned target = s.fifo[2];
      if (command & 0x80) {  // relative seek, 5.2.10: the head moves, towards the spindle when DIR is set
        const unsigned from = s.units[unit].cylinder;
        target = command & 0x40 ? from + target : from - std::min(from, target);
        target = std::min(target, 255u);
      }
      start_seek(unit, target, status);
      return finish(none, false);
    }
    case spec::kDumpRegisters: return dump_registers();
    case spec::kVersionCommand: return finish(std::array{spec::kVersion}, false);
    case spec::kPerpendicular:
      if (s.fifo[1] & spec::kPerpendicularOverwrite) s.perpendicular = s.fifo[1] & 0x3f;
      else s.perpendicular = static_cast<u8>((s.perpendicular & 0x3c) | (s.fifo[1] & 3));
      return finish(none, false);
    case spec::kConfigure:
      s.configure = s.fifo[2] & 0x7f;
      s.precompensation = s.fifo[3];
      return finish(none, false);
    case spec::kLock:
      s.lock = command & 0x80;
      return finish(std::array{static_cast<u8>(s.lock ? 0x10 : 0)}, false);
    default:
      log(LogItem::GuestErrors, "floppy controller command {:#04x} does not exist", command);
      return finish(std::array{spec::kSt0Invalid}, false);
  }
}

void Floppy82077aa::start_seek(unsigned unit, unsigned cylinder, u8 status) {
  Unit& u = m_state.units[unit];
  const unsigned distance = cylinder > u.track ? cylinder - u.track : u.track - cylinder;
  u.target = static_cast<u8>(cylinder);
  u.status = 0;
  u.seeking = true;
  m_seek_timers[unit].arm(m_clock.now() + std::max(distance, 1u) * step_time());
  // What seek_done() reports stands ready behind the seeking flag.
  u.status = status;
}

void Floppy82077aa::seek_done(unsigned unit) {
  Unit& u = m_state.units[unit];
  if (!u.seeking) return;
  u.seeking = false;
  // A step with a disk in the drive clears the drive's change line.
  if (u.track != u.target && unit < kDrives && m_drives[unit].medium) u.disk_changed = false;
  constexpr u8 kInnermostTrack = 84;  // where the head stops
  u.track = std::min(u.target, kInnermostTrack);
  u.cylinder = u.target;
  set_interrupt(true);
}

void Floppy82077aa::sense_interrupt() {
  State& s = m_state;
  set_interrupt(false);
  if (s.reset_polls) {
    const unsigned unit = kUnits - s.reset_polls--;
    return finish(std::array{static_cast<u8>(spec::kSt0Polling | unit), s.units[unit].cylinder}, false);
  }
  for (auto& unit : s.units) {
    if (unit.seeking || !unit.status) continue;
    const std::array<u8, 2> result = {unit.status, unit.cylinder};
    unit.status = 0;
    const bool more = std::ranges::any_of(s.units, [](const Unit& u) { return !u.seeking && u.status; });
    return finish(result, more);
  }
  finish(std::array{spec::kSt0Invalid}, false);
}

void Floppy82077aa::sense_drive() {
  State& s = m_state;
  s.unit = s.fifo[1] & 3;
  u8 status = static_cast<u8>(spec::kSt3Ready | spec::kSt3TwoSided | (s.fifo[1] & 7));
  const bool exists = drive().type != FloppyDriveType::None;
  if (exists && s.units[s.unit].track == 0) status |= spec::kSt3Track0;
  // The write protect sensor sees no hole where no disk is.
  if (!drive().medium || drive().medium->read_only()) status |= spec::kSt3WriteProtected;
  finish(std::array{status}, false);
}

void Floppy82077aa::dump_registers() {
  State& s = m_state;
  const std::array<u8, 10> result = {s.units[0].cylinder,
                                     s.units[1].cylinder,
                                     s.units[2].cylinder,
                                     s.units[3].cylinder,
                                     s.specify[0],
                                     s.specify[1],
                                     s.end_of_track,
                                     static_cast<u8>((s.lock ? 0x80 : 0) | s.perpendicular),
                                     s.configure,
                                     s.precompensation};
  finish(result, false);
}

bool Floppy82077aa::double_steps() const {
  return drive().type == FloppyDriveType::Inch5_1200K && drive().geometry.drive == FloppyDriveType::Inch5_360K;
}

u8 Floppy82077aa::cylinder_under_head() const {
  const u8 track = m_state.units[m_state.unit].track;
  return double_steps() ? track / 2 : track;
}

u8 Floppy82077aa::media_fault() const {
  const State& s = m_state;
  const Drive& d = drive();
  const bool motor = s.dor >> (4 + s.unit) & 1;
  // No address marks: nothing turns, another encoding or data rate, no such side, or a track of other width.
  if (!d.medium || !motor || s.head >= d.geometry.heads) return spec::kSt1MissingMark;
  if (!(s.command & spec::kMfm) && s.transfer != Transfer::Format) return spec::kSt1MissingMark;
  const bool narrow = double_steps();
  const u8 rate = narrow ? 1 : d.geometry.data_rate;  // 360 rpm make 300 kbit/s of 250
  if (s.rate != rate) return spec::kSt1MissingMark;
  const unsigned track = s.units[s.unit].track;
  if (narrow ? track % 2 != 0 || track / 2 >= d.geometry.cylinders : track >= d.geometry.cylinders)
    return spec::kSt1MissingMark;
  return 0;
}

std::optional<u64> Floppy82077aa::sector_offset(u8 cylinder, u8 head, u8 sector) const {
  const FloppyGeometry& g = drive().geometry;
  if (cylinder >= g.cylinders || head >= g.heads || sector == 0 || sector > g.sectors) return std::nullopt;
  return ((u64{cylinder} * g.heads + head) * g.sectors + sector - 1) * kSectorBytes;
}

void Floppy82077aa::start_transfer(Transfer kind) {
  State& s = m_state;
  s.transfer = kind;
  s.phase = Phase::Execution;
  s.unit = s.fifo[1] & 3;
  s.head = s.fifo[1] >> 2 & 1;
  s.host_turn = s.wanted_seen = false;
  s.scan_status = 0;
  s.position = s.length = 0;
  if (kind == Transfer::Format) {
    s.n = s.fifo[2];
    s.format_left = s.fifo[3];
    s.format_filler = s.fifo[5];
  } else if (kind != Transfer::ReadId) {
    s.c = s.fifo[2];
    s.h = s.fifo[3];
    s.r = s.fifo[4];
    s.n = s.fifo[5];
    s.end_of_track = s.fifo[6];
    s.data_length = s.fifo[8];
    if (s.configure & spec::kConfigureImpliedSeek) {
      Unit& unit = s.units[s.unit];
      if (unit.track != s.c && drive().medium) unit.disk_changed = false;
      unit.track = unit.cylinder = s.c;
    }
  }
  arm_transfer(media_fault() ? spec::kNoMediumTime : spec::kSectorTime);
}

void Floppy82077aa::transfer_due() {
  State& s = m_state;
  if (s.phase != Phase::Execution || s.host_turn) return;
  if (const u8 fault = media_fault()) return end_transfer(spec::kSt0Abnormal, fault, 0);
  const Drive& d = drive();
  const bool writes = s.transfer == Transfer::Write || s.transfer == Transfer::Format;
  if (writes && d.medium->read_only()) return end_transfer(spec::kSt0Abnormal, spec::kSt1NotWritable, 0);
  if (s.transfer == Transfer::ReadId) {
    s.c = cylinder_under_head();
    s.h = s.head;
    s.r = 1;
    s.n = spec::kSizeCode512;
    return end_transfer(0, 0, 0);
  }
  if (s.transfer == Transfer::Format) {
    if (s.n != spec::kSizeCode512) {
      log(LogItem::Unsupported, "floppy format with sectors of {} bytes: images hold sectors of 512",
          128u << (s.n & 7));
      return end_transfer(spec::kSt0Abnormal, spec::kSt1NotWritable, 0);
    }
    if (s.format_left == 0) return end_transfer(0, 0, 0);
    s.position = 0;
    s.length = 4;
    return move_sector();
  }
  if (!find_sector()) return;
  s.position = 0;
  s.length = kSectorBytes;
  // Images hold no deleted address marks: READ DELETED DATA meets normal sectors only, which it marks or skips (5.1.2).
  if ((s.command & 0x1f) == spec::kReadDeleted && (s.command & spec::kSkip)) return sector_moved(false);
  if (s.transfer == Transfer::Verify) return sector_moved(false);
  move_sector();
}

bool Floppy82077aa::find_sector() {
  State& s = m_state;
  const Drive& d = drive();
  const u8 track = cylinder_under_head();
  u8 wanted = s.r;
  if ((s.command & 0x1f) == spec::kReadTrack) {
    // Sectors in the order in which they come after the index mark; the address only decides over ND.
    if (s.position == 0 && s.length == 0) {
      s.wanted_seen =
          s.c == track && s.h == s.head && s.n == spec::kSizeCode512 && s.r >= 1 && s.r <= d.geometry.sectors;
      s.r = 1;
    }
    wanted = s.r;
  } else if (s.c != track) {
    end_transfer(spec::kSt0Abnormal, spec::kSt1NoData, spec::kSt2WrongCylinder);
    return false;
  } else if (s.h != s.head || s.n != spec::kSizeCode512) {
    end_transfer(spec::kSt0Abnormal, spec::kSt1NoData, 0);
    return false;
  }
  const auto offset = sector_offset(track, s.head, wanted);
  if (!offset) {
    end_transfer(spec::kSt0Abnormal, spec::kSt1NoData, 0);
    return false;
  }
  if (s.transfer == Transfer::Write) return true;
  // An image shorter than its format reads as zeroes behind its end.
  s.buffer.fill(0);
  if (*offset + kSectorBytes <= d.medium->size()) {
    if (auto done = d.medium->read(*offset, s.buffer); !done) {
      log(LogItem::Unsupported, "{}", done.error().message);
      end_transfer(spec::kSt0Abnormal, spec::kSt1DataError, spec::kSt2DataError);
      return false;
    }
  }
  return true;
}

void Floppy82077aa::move_sector() {
  State& s = m_state;
  const bool non_dma = s.specify[1] & 1;
  if (non_dma) {
    if (s.transfer == Transfer::Scan) {
      log(LogItem::Unsupported, "floppy SCAN without DMA");
      return end_transfer(spec::kSt0Abnormal, spec::kSt1Overrun, 0);
    }
    s.host_turn = true;
    return set_interrupt(true);
  }
  std::array<u8, kSectorBytes> host{};
  const bool to_memory = s.transfer == Transfer::Read;
  const std::span<u8> data =
      s.transfer == Transfer::Scan ? std::span<u8>(host) : std::span<u8>(s.buffer).first(s.length);
  // A sector that TC cuts short is filled up with zeroes (5.1.3).
  if (!to_memory) std::ranges::fill(data, u8{0});
  const DmaResult moved = m_dma.transfer(data, to_memory ? DmaDirection::ToMemory : DmaDirection::FromMemory);
  if (!moved.terminal_count && moved.transferred < data.size())
    return end_transfer(spec::kSt0Abnormal, spec::kSt1Overrun, 0);
  if (s.transfer == Transfer::Scan) {
    // 5.1.7: FFh from either side matches everything.
    bool equal = true, low = true, high = true;
    for (usize i = 0; i < moved.transferred; ++i) {
      if (host[i] == 0xff || s.buffer[i] == 0xff || host[i] == s.buffer[i]) continue;
      equal = false;
      if (s.buffer[i] > host[i]) low = false;
      else high = false;
    }
    const u8 command = s.command & 0x1f;
    const bool satisfied = command == spec::kScanEqual ? equal : command == spec::kScanLow ? low : high;
    s.scan_status = equal ? spec::kSt2ScanEqual : satisfied ? 0 : spec::kSt2ScanNotSatisfied;
    if (satisfied) {
      next_sector();
      return end_transfer(0, 0, s.scan_status);
    }
  }
  s.position = s.length;
  sector_moved(moved.terminal_count);
}

void Floppy82077aa::sector_moved(bool terminal_count) {
  State& s = m_state;
  if (s.transfer == Transfer::Format) return format_sector();
  if (s.transfer == Transfer::Write) {
    const Drive& d = drive();
    const auto offset = sector_offset(s.c, s.head, s.r);
    // The disk may have been taken out while the host filled the buffer.
    if (!d.medium || !offset || d.medium->read_only())
      return end_transfer(spec::kSt0Abnormal, spec::kSt1MissingMark, 0);
    if (*offset + kSectorBytes > d.medium->size()) {
      log(LogItem::Unsupported, "floppy write behind the end of an image that is shorter than its format");
      return end_transfer(spec::kSt0Abnormal, spec::kSt1NotWritable, 0);
    }
    if (auto done = d.medium->write(*offset, s.buffer); !done) {
      log(LogItem::Unsupported, "{}", done.error().message);
      return end_transfer(spec::kSt0Abnormal, spec::kSt1DataError, spec::kSt2DataError);
    }
  }
  const u8 command = s.command & 0x1f;
  const u8 no_data = command == spec::kReadTrack && !s.wanted_seen ? spec::kSt1NoData : 0;
  if (command == spec::kReadDeleted && !(s.command & spec::kSkip)) {
    next_sector();
    return end_transfer(0, 0, spec::kSt2ControlMark);
  }
  // VERIFY with EC set counts the sectors itself (5.1.5).
  const bool counted = s.transfer == Transfer::Verify && (s.fifo[1] & 0x80);
  if (counted && s.data_length) --s.data_length;
  if (terminal_count || (counted && s.data_length == 0)) {
    next_sector();
    return end_transfer(no_data ? spec::kSt0Abnormal : 0, no_data, s.scan_status);
  }
  if (!next_sector()) {
    // Without TC the command runs into the end of the cylinder, an error; VERIFY without EC and SCAN end there.
    const bool regular = s.transfer == Transfer::Verify || s.transfer == Transfer::Scan;
    return end_transfer(regular ? 0 : spec::kSt0Abnormal,
                        static_cast<u8>((regular ? 0 : spec::kSt1EndOfCylinder) | no_data), s.scan_status);
  }
  arm_transfer(spec::kSectorTime);
}

bool Floppy82077aa::next_sector() {
  State& s = m_state;
  // 5.1.1, table "result phase": behind the last sector of the track the other side follows with MT, else the cylinder.
  const u8 step = s.transfer == Transfer::Scan && s.data_length == 2 ? 2 : 1;
  if (s.r < s.end_of_track && s.r + step <= s.end_of_track) {
    s.r = static_cast<u8>(s.r + step);
    return true;
  }
  s.r = 1;
  const bool multi_track = (s.command & spec::kMultiTrack) && (s.command & 0x1f) != spec::kReadTrack;
  if (!multi_track) {
    ++s.c;
    return false;
  }
  s.h ^= 1;
  if (s.head == 0) {
    s.head = 1;
    return true;
  }
  ++s.c;
  return false;
}

void Floppy82077aa::format_sector() {
  State& s = m_state;
  const Drive& d = drive();
  s.c = s.buffer[0];
  s.h = s.buffer[1];
  s.r = s.buffer[2];
  // An image can hold the sectors of its own format only; addresses that no standard format has are written nowhere.
  const auto offset = s.h == s.head && s.buffer[3] == spec::kSizeCode512 && s.c == cylinder_under_head()
                          ? sector_offset(s.c, s.head, s.r)
                          : std::nullopt;
  if (!d.medium || d.medium->read_only()) return end_transfer(spec::kSt0Abnormal, spec::kSt1NotWritable, 0);
  if (offset && *offset + kSectorBytes <= d.medium->size()) {
    s.buffer.fill(s.format_filler);
    if (auto done = d.medium->write(*offset, s.buffer); !done) {
      log(LogItem::Unsupported, "{}", done.error().message);
      return end_transfer(spec::kSt0Abnormal, spec::kSt1DataError, spec::kSt2DataError);
    }
  } else {
    log(LogItem::Unsupported, "floppy format of sector {}/{}/{}, which the image's format has not", s.c, s.h, s.r);
  }
  if (s.format_left && --s.format_left) return arm_transfer(spec::kSectorTime);
  end_transfer(0, 0, 0);
}

void Floppy82077aa::end_transfer(u8 st0, u8 st1, u8 st2) {
  State& s = m_state;
  m_transfer_timer.cancel();
  s.transfer = Transfer::None;
  s.host_turn = false;
  s.position = s.length = 0;
  const std::array<u8, 7> result = {static_cast<u8>(st0 | s.head << 2 | s.unit), st1, st2, s.c, s.h, s.r, s.n};
  finish(result, true);
}

}  // namespace vellum
