// Registers, remote DMA, and the ring of pages of the DP8390.
#include "devices/dp8390.h"

#include <fmt/format.h>

#include <algorithm>

namespace vellum {

namespace {

namespace spec {
// Datasheet, "Internal Registers". Page 0, for reading and writing.
constexpr unsigned kCommand = 0x0, kPageStart = 0x1, kPageStop = 0x2, kBoundary = 0x3, kTransmitPage = 0x4, kTransmitCount = 0x5, kInterrupts = 0x7,
                   kRemoteAddress = 0x8, kRemoteCount = 0xa, kReceiveControl = 0xc, kTransmitControl = 0xd, kDataControl = 0xe, kMask = 0xf;
constexpr unsigned kLocalAddress = 0x1, kTransmitStatus = 0x4, kIdentity = 0xa, kReceiveStatus = 0xc, kMissedCounter = 0xf;
// Page 1.
constexpr unsigned kPhysical = 0x1, kCurrent = 0x7, kMulticast = 0x8;
// Command register.
constexpr u8 kStop = 0x01, kStart = 0x02, kTransmit = 0x04, kRemote = 0x38, kRemoteRead = 0x08, kRemoteWrite = 0x10, kSendPacket = 0x18, kRemoteAbort = 0x20;
constexpr unsigned kPageShift = 6;
// Interrupt status.
constexpr u8 kReceived = 0x01, kTransmitted = 0x02, kTransmitError = 0x08, kOverwrite = 0x10, kRemoteDone = 0x40, kResetState = 0x80, kMaskable = 0x7f;
// Receive configuration. Runts and errors do not come on this wire.
constexpr u8 kBroadcast = 0x04, kGroups = 0x08, kPromiscuous = 0x10, kMonitor = 0x20;
// Transmit configuration: loopback modes. Data configuration: transfers of words.
constexpr u8 kLoopback = 0x06, kWords = 0x01;
constexpr u8 kReceiveGood = 0x01, kGroupAddress = 0x20, kReceiverOff = 0x40;
constexpr u8 kTransmitGood = 0x01, kAborted = 0x08;
// The NE2000's ports behind the registers.
constexpr unsigned kDataPort = 0x10, kResetPort = 0x18;
constexpr usize kPage = 256, kHeader = 4;
constexpr Ticks kTicksPerByte = 800;                    // 10 Mbit/s
constexpr usize kOverhead = 8 + 4 + 12;                 // preamble, check sequence, gap: IEEE 802.3, 4.4.2
constexpr usize kLongest = 1518 - ethernet::kCheckSize; // no driver of these cards knows longer frames
constexpr u8 kPromMark = 0x57;                          // "W": a card with 16 bits
}  // namespace spec

Ticks wire_time(usize frame) { return (std::max(frame, ethernet::kShortestFrame) + spec::kOverhead) * spec::kTicksPerByte; }

}  // namespace

Dp8390::Dp8390(VirtualClock& clock, const MacAddress& address, NetworkBackend* backend, std::function<void(bool)> set_interrupt, std::array<u8, 2> identity)
    : m_address(address), m_identity(identity), m_clock(clock), m_backend(backend), m_set_interrupt(std::move(set_interrupt)), m_transmit_timer(clock, [this] { transmitted(); }),
      m_receive_timer(clock, [this] {
        if (m_backend) m_backend->room_available();
      }) {
  if (!m_backend) return;
  // A ring that is full is no reason to wait: the card loses what comes then.
  m_backend->can_receive = [this](usize) { return !m_receive_timer.armed(); };
  m_backend->receive = [this](std::span<const u8> frame) { receive(frame); };
}

Dp8390::~Dp8390() {
  if (!m_backend) return;
  m_backend->can_receive = [](usize) { return true; };
  m_backend->receive = [](std::span<const u8>) {};
}

std::string Dp8390::describe() const {
  return fmt::format("{}, {}", format_mac_address(m_address), m_state.command & spec::kStart ? "driver listens" : "no driver listens");
}

void Dp8390::reset() {
  m_transmit_timer.cancel();
  m_receive_timer.cancel();
  m_state = {};
  m_state.command = spec::kStop | spec::kRemoteAbort;
  m_state.interrupts = spec::kResetState;
  update_interrupt();
}

void Dp8390::visit(Archive& archive) {
  auto& [command, page_start, page_stop, boundary, current, transmit_page, transmit_status, receive_status, interrupts, mask, data_control, receive_control,
         transmit_control, missed, transmit_count, remote_address, remote_count, physical, multicast, memory] = m_state;
  archive("command", command)("page_start", page_start)("page_stop", page_stop)("boundary", boundary)("current", current)("transmit_page", transmit_page);
  archive("transmit_status", transmit_status)("receive_status", receive_status)("interrupts", interrupts)("mask", mask)("data_control", data_control);
  archive("receive_control", receive_control)("transmit_control", transmit_control)("missed", missed)("transmit_count", transmit_count);
  archive("remote_address", remote_address)("remote_count", remote_count)("physical", physical)("multicast", multicast)("memory", memory);
  archive("transmit_timer", m_transmit_timer)("receive_timer", m_receive_timer);
  if (archive.loading() && !archive.failed()) update_interrupt();
}

void Dp8390::raise(u8 causes) {
  m_state.interrupts |= causes;
  update_interrupt();
}

void Dp8390::update_interrupt() { m_set_interrupt(m_state.interrupts & m_state.mask & spec::kMaskable); }

// ---- Ports

u32 Dp8390::read(unsigned offset, unsigned size) {
  offset %= kPorts;
  if (offset >= spec::kResetPort) {
    reset();
    return ~0u >> (32 - 8 * size);
  }
  if (offset >= spec::kDataPort) return read_data(size);
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= u32{read_register((offset + i) % spec::kDataPort)} << (8 * i);
  return value;
}

void Dp8390::write(unsigned offset, unsigned size, u32 value) {
  offset %= kPorts;
  if (offset >= spec::kResetPort) return;
  if (offset >= spec::kDataPort) return write_data(size, value);
  for (unsigned i = 0; i < size; ++i) write_register((offset + i) % spec::kDataPort, static_cast<u8>(value >> (8 * i)));
}

u8 Dp8390::read_register(unsigned index) {
  if (index == spec::kCommand) return m_state.command;
  switch (m_state.command >> spec::kPageShift) {
    case 0:
      switch (index) {
        case spec::kLocalAddress: return 0;
        case spec::kLocalAddress + 1: return m_state.current;
        case spec::kBoundary: return m_state.boundary;
        case spec::kTransmitStatus: return m_state.transmit_status;
        case spec::kInterrupts: return m_state.interrupts;
        case spec::kRemoteAddress: return static_cast<u8>(m_state.remote_address);
        case spec::kRemoteAddress + 1: return static_cast<u8>(m_state.remote_address >> 8);
        case spec::kIdentity:
        case spec::kIdentity + 1: return m_identity[index - spec::kIdentity];
        case spec::kReceiveStatus: return m_state.receive_status;
        case spec::kMissedCounter: return std::exchange(m_state.missed, u8{0});
        default: return 0;  // collisions and errors do not happen on this wire
      }
    case 1:
      if (index == spec::kCurrent) return m_state.current;
      return index >= spec::kMulticast ? m_state.multicast[index - spec::kMulticast] : m_state.physical[index - spec::kPhysical];
    case 2:
      switch (index) {
        case spec::kPageStart: return m_state.page_start;
        case spec::kPageStop: return m_state.page_stop;
        case spec::kTransmitPage: return m_state.transmit_page;
        case spec::kReceiveControl: return m_state.receive_control;
        case spec::kTransmitControl: return m_state.transmit_control;
        case spec::kDataControl: return m_state.data_control;
        case spec::kMask: return m_state.mask;
        default: return 0;
      }
    default: return 0;  // Realtek's configuration: nothing is set by its EEPROM
  }
}

void Dp8390::write_register(unsigned index, u8 value) {
  const auto byte_of = [value](u16& word, unsigned which) { word = static_cast<u16>(which ? (word & 0xff) | value << 8 : (word & 0xff00) | value); };
  if (index == spec::kCommand) return write_command(value);
  switch (m_state.command >> spec::kPageShift) {
    case 0:
      switch (index) {
        case spec::kPageStart: m_state.page_start = value; break;
        case spec::kPageStop: m_state.page_stop = value; break;
        case spec::kBoundary: m_state.boundary = value; break;
        case spec::kTransmitPage: m_state.transmit_page = value; break;
        case spec::kTransmitCount:
        case spec::kTransmitCount + 1: byte_of(m_state.transmit_count, index - spec::kTransmitCount); break;
        case spec::kInterrupts:
          m_state.interrupts &= static_cast<u8>(~(value & spec::kMaskable));
          update_interrupt();
          break;
        case spec::kRemoteAddress:
        case spec::kRemoteAddress + 1: byte_of(m_state.remote_address, index - spec::kRemoteAddress); break;
        case spec::kRemoteCount:
        case spec::kRemoteCount + 1: byte_of(m_state.remote_count, index - spec::kRemoteCount); break;
        case spec::kReceiveControl: m_state.receive_control = value & 0x3f; break;
        case spec::kTransmitControl: m_state.transmit_control = value & 0x1f; break;
        case spec::kDataControl: m_state.data_control = value & 0x7f; break;
        case spec::kMask:
          m_state.mask = value & spec::kMaskable;
          update_interrupt();
          break;
        default: break;
      }
      break;
    case 1:
      if (index == spec::kCurrent) m_state.current = value;
      else if (index >= spec::kMulticast) m_state.multicast[index - spec::kMulticast] = value;
      else m_state.physical[index - spec::kPhysical] = value;
      break;
    default: break;  // page 2 is for diagnosis, page 3 Realtek's configuration
  }
}

void Dp8390::write_command(u8 value) {
  const u8 transmitting = m_state.command & spec::kTransmit;
  // A command with neither bit goes on as before: drivers turn pages so.
  constexpr u8 kState = spec::kStart | spec::kStop;
  if (!(value & kState)) value |= m_state.command & kState;
  m_state.command = static_cast<u8>((value & ~spec::kTransmit) | transmitting);
  if (value & spec::kStop) {
    m_state.interrupts |= spec::kResetState;
  } else if (value & spec::kStart) {
    m_state.interrupts &= static_cast<u8>(~spec::kResetState);
  }
  switch (value & spec::kRemote) {
    case spec::kSendPacket: {
      // "Remote DMA, send packet": the oldest packet of the ring, whose header tells how long it is.
      const u16 header = static_cast<u16>(m_state.boundary << 8);
      m_state.remote_address = header;
      m_state.remote_count = static_cast<u16>(read_memory(static_cast<u16>(header + 2)) | read_memory(static_cast<u16>(header + 3)) << 8);
      m_state.boundary = read_memory(static_cast<u16>(header + 1));
      [[fallthrough]];
    }
    case spec::kRemoteRead:
    case spec::kRemoteWrite:
      if (m_state.remote_count == 0) raise(spec::kRemoteDone);
      break;
    default: break;
  }
  if ((value & spec::kTransmit) && !transmitting && !(value & spec::kStop)) transmit();
}

// ---- Remote DMA: the data port

u8 Dp8390::read_memory(u16 address) const {
  // The address PROM has eight bits on a bus of sixteen, so each byte stands twice.
  if (address < spec::kPage) {
    const usize index = address % kPromSize / 2;
    return index < m_address.size() ? m_address[index] : index >= 14 ? spec::kPromMark : u8{0};
  }
  return address >= kMemoryStart && address < kMemoryStart + kMemorySize ? m_state.memory[address - kMemoryStart] : u8{0xff};
}

void Dp8390::write_memory(u16 address, u8 value) {
  if (address >= kMemoryStart && address < kMemoryStart + kMemorySize) m_state.memory[address - kMemoryStart] = value;
}

// Moves on by an access of this size; returns the bytes of it that count.
unsigned Dp8390::advance_remote(unsigned size) {
  const unsigned step = m_state.data_control & spec::kWords ? std::max(size, 2u) : size;
  m_state.remote_address = static_cast<u16>(m_state.remote_address + step);
  if (m_state.remote_address == m_state.page_stop << 8) m_state.remote_address = static_cast<u16>(m_state.page_start << 8);
  m_state.remote_count = static_cast<u16>(m_state.remote_count - std::min<unsigned>(step, m_state.remote_count));
  if (m_state.remote_count == 0) {
    m_state.command = static_cast<u8>((m_state.command & ~spec::kRemote) | spec::kRemoteAbort);
    raise(spec::kRemoteDone);
  }
  return step;
}

u32 Dp8390::read_data(unsigned size) {
  const u8 remote = m_state.command & spec::kRemote;
  if (m_state.remote_count == 0 || (remote != spec::kRemoteRead && remote != spec::kSendPacket)) return ~0u >> (32 - 8 * size);
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= u32{read_memory(static_cast<u16>(m_state.remote_address + i))} << (8 * i);
  advance_remote(size);
  return value;
}

void Dp8390::write_data(unsigned size, u32 value) {
  if (m_state.remote_count == 0 || (m_state.command & spec::kRemote) != spec::kRemoteWrite) return;
  for (unsigned i = 0; i < std::min<unsigned>(size, m_state.remote_count); ++i) write_memory(static_cast<u16>(m_state.remote_address + i), static_cast<u8>(value >> (8 * i)));
  advance_remote(size);
}

// ---- Frames

void Dp8390::transmit() {
  m_state.command |= spec::kTransmit;
  std::vector<u8> frame(std::min<usize>(m_state.transmit_count, spec::kLongest));
  for (usize i = 0; i < frame.size(); ++i) frame[i] = read_memory(static_cast<u16>((m_state.transmit_page << 8) + i));
  m_transmit_timer.arm(m_clock.now() + wire_time(m_state.transmit_count));
  // In the loopback modes nothing leaves the chip.
  if (frame.size() < ethernet::kHeaderSize || (m_state.transmit_control & spec::kLoopback) || !m_backend) return;
  if (m_state.transmit_count > spec::kLongest) return;
  m_backend->send(frame);
}

void Dp8390::transmitted() {
  m_state.command &= static_cast<u8>(~spec::kTransmit);
  const bool jabber = m_state.transmit_count > spec::kLongest;
  m_state.transmit_status = jabber ? spec::kAborted : spec::kTransmitGood;
  raise(jabber ? spec::kTransmitError : spec::kTransmitted);
}

bool Dp8390::listens() const {
  return (m_state.command & spec::kStart) && !(m_state.command & spec::kStop) && !(m_state.transmit_control & spec::kLoopback);
}

// Pages from the current one up to the boundary, which is not written over. A ring that is none has no room.
usize Dp8390::free_pages() const {
  const auto& s = m_state;
  if (s.page_start >= s.page_stop || s.current < s.page_start || s.current >= s.page_stop) return 0;
  const usize pages = s.page_stop - s.page_start;
  // The chip compares pages with the boundary, so one outside of the ring holds nothing back. Drivers that keep it one page behind the
  // next frame write the page in front of the ring where they mean its last one.
  const u8 boundary = s.boundary + 1 == s.page_start ? static_cast<u8>(s.page_stop - 1) : s.boundary;
  if (boundary < s.page_start || boundary >= s.page_stop) return pages;
  return boundary > s.current ? boundary - s.current : pages - (s.current - boundary);
}

bool Dp8390::accepts(std::span<const u8> frame, bool& group) const {
  const u8 control = m_state.receive_control;
  group = ethernet::is_multicast(frame);
  if (!group) return (control & spec::kPromiscuous) || std::ranges::equal(frame.first(6), m_state.physical);
  if (std::ranges::equal(frame.first(6), ethernet::kBroadcast)) return control & spec::kBroadcast;
  const u32 hash = multicast_hash(frame.first(6)) >> 26;
  return (control & spec::kGroups) && (m_state.multicast[hash >> 3] >> (hash & 7) & 1);
}

void Dp8390::receive(std::span<const u8> received) {
  if (!listens() || received.size() < ethernet::kHeaderSize || received.size() > spec::kLongest) return;
  m_receive_timer.arm(m_clock.now() + wire_time(received.size()));
  bool group = false;
  if (!accepts(received, group)) return;
  std::vector<u8> frame(received.begin(), received.end());
  if (frame.size() < ethernet::kShortestFrame) frame.resize(ethernet::kShortestFrame);
  m_state.receive_status = static_cast<u8>(spec::kReceiveGood | (group ? spec::kGroupAddress : 0));
  if (m_state.receive_control & spec::kMonitor) {
    m_state.receive_status |= spec::kReceiverOff;
    if (m_state.missed < 0xff) ++m_state.missed;
    return;
  }
  const u32 check = ethernet_check(frame);
  for (unsigned i = 0; i < ethernet::kCheckSize; ++i) frame.push_back(static_cast<u8>(check >> (8 * i)));
  const usize pages = (frame.size() + spec::kHeader + spec::kPage - 1) / spec::kPage;
  if (free_pages() <= pages) {
    if (m_state.missed < 0xff) ++m_state.missed;
    return raise(spec::kOverwrite);
  }
  u16 address = static_cast<u16>(m_state.current << 8);
  const auto put = [&](u8 byte) {
    write_memory(address++, byte);
    if (address == m_state.page_stop << 8) address = static_cast<u16>(m_state.page_start << 8);
  };
  const usize span = m_state.page_stop - m_state.page_start;
  const u8 next = static_cast<u8>(m_state.page_start + (m_state.current - m_state.page_start + pages) % span);
  // "Storage format of received packets": status, next page, count. The check sequence lies behind the data.
  put(m_state.receive_status);
  put(next);
  put(static_cast<u8>(frame.size()));
  put(static_cast<u8>(frame.size() >> 8));
  for (const u8 byte : frame) put(byte);
  m_state.current = next;
  raise(spec::kReceived);
}

}  // namespace vellum
