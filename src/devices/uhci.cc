// The UHCI: registers, root ports, and the schedule of transfers that it walks every millisecond.
#include "devices/uhci.h"

#include <algorithm>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// UHCI Design Guide 1.1, 2.1: I/O registers.
constexpr unsigned kSize = 32;
constexpr unsigned kCommand = 0x00, kStatus = 0x02, kInterruptEnable = 0x04, kFrame = 0x06, kFrameList = 0x08,
                   kStartOfFrame = 0x0c, kPort1 = 0x10, kPort2 = 0x12;
constexpr u16 kRun = 0x01, kHostReset = 0x02, kGlobalReset = 0x04, kCommandMask = 0x00fd;
constexpr u16 kInterrupt = 0x01, kErrorInterrupt = 0x02, kResumeDetect = 0x04, kSystemError = 0x08, kProcessError = 0x10,
              kHalted = 0x20;
constexpr u16 kEnableError = 0x01, kEnableResume = 0x02, kEnableCompleted = 0x04, kEnableShort = 0x08;
// 2.1.7: PORTSC.
constexpr u16 kConnected = 0x0001, kConnectChange = 0x0002, kEnabled = 0x0004, kEnableChange = 0x0008, kLineIdleFull = 0x0010,
              kAlwaysOne = 0x0080, kPortReset = 0x0200, kPortWritable = 0x1244;
// 3.2: transfer descriptor.
constexpr u32 kTerminate = 1, kQueue = 2, kDepthFirst = 4, kPointer = 0xfffffff0;
constexpr u32 kActualLength = 0x7ff, kTimeout = 1u << 18, kNak = 1u << 19, kBabble = 1u << 20, kStalled = 1u << 22,
              kActive = 1u << 23, kOnComplete = 1u << 24, kErrorsShift = 27, kErrors = 3u << kErrorsShift,
              kShortPacketDetect = 1u << 29;
constexpr u32 kNoData = 0x7ff, kLongest = 0x4ff;  // of the token's length field, which is one less than the length
constexpr Ticks kFrameTime = 1'000'000;
// PIIX3 2.4: serial bus release number, legacy support.
constexpr unsigned kReleaseNumber = 0x60, kLegacySupport = 0xc0;
}  // namespace spec

// A frame has 1500 byte times at 12 Mbit/s; a transaction costs its data and about 13 of them for tokens, handshake and
// gaps (USB 1.1, 5.11.3). Fetches cost a controller time too, so no frame follows more links than this.
constexpr usize kFrameBytes = 1500, kTransactionBytes = 13, kMostLinks = 512;
// A host that was away for longer does not get all its frames back.
constexpr Ticks kGreatestDelay = 50'000'000;

}  // namespace

Uhci::Uhci(VirtualClock& clock)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x7020,
                 .revision = 1,
                 .class_code = 0x0c0300,
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100,
                 .interrupt_pin = 4}),
      m_clock(clock),
      m_frame_timer(clock, [this] { run_frame(); }) {
  set_config(spec::kReleaseNumber, 1, 0x10);
  set_config(spec::kLegacySupport, 2, 0x2000);
  make_writable(spec::kLegacySupport, 2, 0x20bf);
  declare_io_bar(4, spec::kSize, *this, "uhci");
}

void Uhci::attach(unsigned port, UsbDevice& device) {
  VELLUM_ASSERT(port < kPorts && !m_attached[port]);
  m_attached[port] = &device;
}

void Uhci::controller_reset() {
  m_frame_timer.cancel();
  m_state = {};
  m_state.status = spec::kHalted;
  // 2.1.1: as if every device had been unplugged and plugged in again.
  for (unsigned i = 0; i < kPorts; ++i) {
    m_state.ports[i] = spec::kAlwaysOne;
    if (!m_attached[i]) continue;
    m_state.ports[i] |= spec::kConnected | spec::kConnectChange | spec::kLineIdleFull;
    m_attached[i]->bus_reset();
  }
}

void Uhci::reset(ResetKind) {
  reset_config();
  controller_reset();
  update_interrupt();
}

void Uhci::visit(Archive& archive) {
  auto& [command, status, interrupt_enable, frame, frame_list, start_of_frame, ports, completed, short_packet] = m_state;
  visit_config(archive);
  archive("command", command)("status", status)("interrupt_enable", interrupt_enable)("frame", frame);
  archive("frame_list", frame_list)("start_of_frame", start_of_frame)("ports", ports)("completed", completed);
  archive("short_packet", short_packet)("frame_timer", m_frame_timer);
  archive.require(frame < 2048, "USB frame number");
  for (unsigned i = 0; i < kPorts; ++i)
    archive.require(((ports[i] & spec::kConnected) != 0) == (m_attached[i] != nullptr), "USB devices attached");
  if (archive.loading() && !archive.failed()) update_interrupt();
}

void Uhci::update_interrupt() {
  const State& s = m_state;
  set_interrupt((s.completed && (s.interrupt_enable & spec::kEnableCompleted)) ||
                (s.short_packet && (s.interrupt_enable & spec::kEnableShort)) ||
                ((s.status & spec::kErrorInterrupt) && (s.interrupt_enable & spec::kEnableError)) ||
                ((s.status & spec::kResumeDetect) && (s.interrupt_enable & spec::kEnableResume)) ||
                (s.status & (spec::kSystemError | spec::kProcessError)));
}

u16 Uhci::read_register(unsigned offset) const {
  switch (offset) {
    case spec::kCommand: return m_state.command;
    case spec::kStatus: return m_state.status;
    case spec::kInterruptEnable: return m_state.interrupt_enable;
    case spec::kFrame: return m_state.frame;
    case spec::kFrameList: return static_cast<u16>(m_state.frame_list);
    case spec::kFrameList + 2: return static_cast<u16>(m_state.frame_list >> 16);
    case spec::kStartOfFrame: return m_state.start_of_frame;
    case spec::kPort1: return m_state.ports[0];
    case spec::kPort2: return m_state.ports[1];
    default: return 0xff7f;  // where a third port would be: bit 7 tells drivers that there is none
  }
}

u32 Uhci::read_port(u16 port, unsigned size) {
  const unsigned offset = port & (spec::kSize - 1);
  if (size == 4) return read_register(offset & ~1u) | u32{read_register((offset & ~1u) + 2)} << 16;
  const u16 value = read_register(offset & ~1u);
  return size == 2 ? value : static_cast<u8>(value >> (8 * (offset & 1)));
}

void Uhci::write_port(u16 port, unsigned size, u32 value) {
  const unsigned offset = port & (spec::kSize - 1);
  if (size == 1) {
    // Bits that are cleared by ones must not be written back with what they read as.
    const unsigned aligned = offset & ~1u, shift = 8 * (offset & 1);
    const bool clears = aligned == spec::kStatus || aligned == spec::kPort1 || aligned == spec::kPort2;
    u16 whole = read_register(aligned);
    if (clears) whole &= aligned == spec::kStatus ? 0 : static_cast<u16>(~(spec::kConnectChange | spec::kEnableChange));
    return write_register(aligned, static_cast<u16>((whole & ~(0xffu << shift)) | (value & 0xff) << shift));
  }
  write_register(offset & ~1u, static_cast<u16>(value));
  if (size == 4) write_register((offset & ~1u) + 2, static_cast<u16>(value >> 16));
}

void Uhci::write_register(unsigned offset, u16 value) {
  State& s = m_state;
  switch (offset) {
    case spec::kCommand: write_command(value); break;
    case spec::kStatus:
      s.status &= static_cast<u16>(~(value & 0x1f));
      if (value & spec::kInterrupt) s.completed = s.short_packet = false;
      break;
    case spec::kInterruptEnable: s.interrupt_enable = value & 0x0f; break;
    case spec::kFrame:
      if (s.status & spec::kHalted) s.frame = value & 0x7ff;  // 2.1.4: not while it runs
      break;
    case spec::kFrameList: s.frame_list = (s.frame_list & 0xffff0000) | (value & 0xf000); break;
    case spec::kFrameList + 2: s.frame_list = (s.frame_list & 0xffff) | u32{value} << 16; break;
    case spec::kStartOfFrame: s.start_of_frame = value & 0x7f; break;
    case spec::kPort1: write_port_control(0, value); break;
    case spec::kPort2: write_port_control(1, value); break;
    default: break;
  }
  update_interrupt();
}

void Uhci::write_command(u16 value) {
  State& s = m_state;
  if (value & spec::kHostReset) return controller_reset();  // the bit clears itself
  if ((s.command & spec::kGlobalReset) && !(value & spec::kGlobalReset))
    for (UsbDevice* device : m_attached)
      if (device) device->bus_reset();
  const bool was_running = s.command & spec::kRun;
  s.command = value & spec::kCommandMask;
  if (value & spec::kGlobalReset) s.command &= static_cast<u16>(~spec::kRun);
  if (!(s.command & spec::kRun)) return halt();
  if (was_running && m_frame_timer.armed()) return;
  s.status &= static_cast<u16>(~spec::kHalted);
  m_frame_timer.arm(m_clock.now() + spec::kFrameTime);
}

void Uhci::halt() {
  m_state.command &= static_cast<u16>(~spec::kRun);
  m_state.status |= spec::kHalted;
  m_frame_timer.cancel();
}

void Uhci::write_port_control(unsigned port, u16 value) {
  u16& state = m_state.ports[port];
  const u16 before = state;
  state = static_cast<u16>((state & ~spec::kPortWritable & ~(value & (spec::kConnectChange | spec::kEnableChange))) |
                           (value & spec::kPortWritable));
  if (!m_attached[port]) state &= static_cast<u16>(~spec::kEnabled);
  if (state & spec::kPortReset) state &= static_cast<u16>(~spec::kEnabled);
  if ((before & spec::kPortReset) && !(state & spec::kPortReset) && m_attached[port]) m_attached[port]->bus_reset();
}

UsbDevice* Uhci::find(u8 address) const {
  for (unsigned i = 0; i < kPorts; ++i)
    if (m_attached[i] && (m_state.ports[i] & spec::kEnabled) && m_attached[i]->address() == address) return m_attached[i];
  return nullptr;
}

u32 Uhci::read_memory(u32 address) {
  std::array<u8, 4> bytes;
  dma_read(GuestPhysAddr(address), bytes);
  return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | u32{bytes[3]} << 24;
}

void Uhci::write_memory(u32 address, u32 value) {
  const std::array<u8, 4> bytes = {static_cast<u8>(value), static_cast<u8>(value >> 8), static_cast<u8>(value >> 16),
                                   static_cast<u8>(value >> 24)};
  dma_write(GuestPhysAddr(address), bytes);
}

void Uhci::run_frame() {
  const Ticks now = m_clock.now();
  Ticks next = m_frame_timer.deadline() + spec::kFrameTime;
  if (next + kGreatestDelay < now) next = now + spec::kFrameTime;
  m_frame_timer.arm(next);
  run_schedule();
  m_state.frame = (m_state.frame + 1) & 0x7ff;
  update_interrupt();
}

void Uhci::run_schedule() {
  // The frame list has 1024 entries, the frame number one bit more (2.1.5).
  u32 link = read_memory(m_state.frame_list + 4 * (m_state.frame & 0x3ff));
  usize bytes = 0;
  // Drivers close the list of queues to a ring to use up the frame. A round in which nothing was done is the last.
  u32 ring_start = 0;
  bool progress = false;
  for (usize links = 0; links < kMostLinks && bytes < kFrameBytes && !(link & spec::kTerminate); ++links) {
    const u32 address = link & spec::kPointer;
    u32 next = 0;
    if (!(link & spec::kQueue)) {
      if (run_descriptor(address, next, bytes) == Outcome::Fatal) return;
      link = next;
      continue;
    }
    if (address == ring_start) {
      if (!progress) return;
      progress = false;
    } else if (ring_start == 0 || links % 64 == 0) {
      ring_start = address;
      progress = false;
    }
    link = read_memory(address);
    u32 element = read_memory(address + 4);
    // 3.4: descriptors of a queue, as long as they complete and ask for depth first. A queue's element that is itself a
    // queue is gone to as if it were a link.
    while (!(element & spec::kTerminate)) {
      if (element & spec::kQueue) {
        link = element;
        break;
      }
      if (++links >= kMostLinks || bytes >= kFrameBytes) return;
      const Outcome outcome = run_descriptor(element & spec::kPointer, next, bytes);
      if (outcome == Outcome::Fatal) return;
      if (outcome != Outcome::Completed) break;
      progress = true;
      element = next;
      write_memory(address + 4, element & ~spec::kDepthFirst);
      if (!(next & spec::kDepthFirst)) break;
    }
  }
}

Uhci::Outcome Uhci::run_descriptor(u32 address, u32& link, usize& bytes) {
  link = read_memory(address);
  u32 control = read_memory(address + 4);
  if (!(control & spec::kActive)) return Outcome::Inactive;
  const u32 token = read_memory(address + 8), buffer = read_memory(address + 12);
  const auto kind = static_cast<UsbToken>(token & 0xff);
  const u32 length_field = token >> 21;
  const bool in = kind == UsbToken::In;
  if ((!in && kind != UsbToken::Out && kind != UsbToken::Setup) || (length_field > spec::kLongest && length_field != spec::kNoData)) {
    log(LogItem::GuestErrors, "UHCI: transfer descriptor at {:#x} with token {:#x}", address, token);
    m_state.status |= spec::kProcessError;
    halt();
    return Outcome::Fatal;
  }
  const usize length = (length_field + 1) & spec::kActualLength;
  std::array<u8, spec::kLongest + 1> storage;
  const auto data = std::span(storage).first(length);
  if (!in) dma_read(GuestPhysAddr(buffer), data);
  UsbDevice* device = find(token >> 8 & 0x7f);
  const UsbAnswer answer = device ? device->transact(kind, token >> 15 & 0xf, data) : UsbAnswer{UsbAnswer::Kind::Silence};
  bytes += kTransactionBytes;

  control &= ~(spec::kTimeout | spec::kNak | spec::kBabble);
  const auto fail = [&](u32 reason) {
    control = (control & ~spec::kActive) | spec::kStalled | reason;
    m_state.status |= spec::kErrorInterrupt;
    if (control & spec::kOnComplete) {
      m_state.status |= spec::kInterrupt;
      m_state.completed = true;
    }
    return Outcome::Failed;
  };
  Outcome outcome = Outcome::Retry;
  switch (answer.kind) {
    case UsbAnswer::Kind::NotReady: control |= spec::kNak; break;
    case UsbAnswer::Kind::Stall: outcome = fail(0); break;
    case UsbAnswer::Kind::Silence: {
      // 3.2.2: the error counter counts down to the failure; zero from the start means to try for ever.
      control |= spec::kTimeout;
      const u32 left = (control & spec::kErrors) >> spec::kErrorsShift;
      if (left != 0) control = (control & ~spec::kErrors) | (left - 1) << spec::kErrorsShift;
      if (left == 1) outcome = fail(spec::kTimeout);
      break;
    }
    case UsbAnswer::Kind::Done: {
      if (answer.length > length) {
        outcome = fail(spec::kBabble);
        break;
      }
      bytes += answer.length;
      if (in) dma_write(GuestPhysAddr(buffer), data.first(answer.length));
      control = (control & ~(spec::kActive | spec::kStalled | spec::kActualLength)) |
                (static_cast<u32>(answer.length - 1) & spec::kActualLength);
      const bool cut = in && (control & spec::kShortPacketDetect) && answer.length < length;
      outcome = cut ? Outcome::ShortPacket : Outcome::Completed;
      if (cut || (control & spec::kOnComplete)) m_state.status |= spec::kInterrupt;
      if (cut) m_state.short_packet = true;
      if (control & spec::kOnComplete) m_state.completed = true;
      break;
    }
  }
  write_memory(address + 4, control);
  return outcome;
}

}  // namespace vellum
