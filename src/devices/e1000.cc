// Registers and interrupts of the 82540EM.
#include "devices/e1000.h"

#include <fmt/format.h>

#include <algorithm>

#include "devices/e1000_registers.h"
#include "state/assert.h"
#include "state/log.h"

namespace vellum {

using namespace e1000;

namespace {

namespace spec {
constexpr u32 kMemorySize = 0x20000;
// IOADDR and IODATA take eight ports; the base address register asks for more (manual, 4.1.1).
constexpr unsigned kPortSize = 64;
// 13.4.22, 13.4.33: bits that exist.
constexpr u32 kReceiveControlMask = 0x07f7f7fe, kTransmitControlMask = 0x03fffffa;
constexpr u32 kRingLengthMask = 0xfff80, kRingPointerMask = 0xffff, kRingBaseMask = 0xfffffff0;
// 5.3, table 5-2: what the EEPROM's control words make of CTRL at reset: full duplex, 1000 Mbit/s.
constexpr u32 kControlDefault = kFullDuplex | kSpeed1000;
// 13.4.2: speed, and what autodetection says; transmission is not paused, the clock is good.
constexpr u32 kStatusFixed = kFullDuplex | 0x2u << 6 | 0x2u << 8 | 1u << 10;
// Nanoseconds of the delay timers (13.4.30) and of the interrupt throttle (13.4.18).
constexpr Ticks kDelayUnit = 1024, kThrottleUnit = 256;
constexpr u32 kFlushNow = 1u << 31;

// Registers that only remember what is written, and what they are after a reset. Flow control, wake-up and fine tuning of
// FIFOs have no effect here: the wire never blocks, and the machine does not sleep.
struct Plain {
  u32 offset, writable, initial;
};
constexpr Plain kPlain[] = {
    {0x0018, 0x00ffffff, 0},           // CTRL_EXT
    {0x001c, 0xffffffff, 0},           // FLA
    {0x0028, 0xffffffff, 0x00c28001},  // FCAL
    {0x002c, 0x0000ffff, 0x00000100},  // FCAH
    {0x0030, 0x0000ffff, 0x00008808},  // FCT
    {kVlanType, 0x0000ffff, 0x8100},
    {0x0170, 0x0000ffff, 0},           // FCTTV
    {0x0178, 0xc000ffff, 0},           // TXCW
    {0x0180, 0, 0},                    // RXCW
    {0x0410, 0x3fffffff, 0x00602008},  // TIPG
    {0x0448, 0xffffffff, 0},           // TBT
    {0x0458, 0x0000ffff, 0},           // AIT
    {0x0e00, 0xffffffff, 0x07068302},  // LEDCTL
    {0x1000, 0x0000007f, 0x00100030},  // PBA: 48 KiB for reception; the upper half follows
    {0x2160, 0x8000fff8, 0},           // FCRTL
    {0x2168, 0x0000fff8, 0},           // FCRTH
    {0x2410, 0x00001fff, 0},           // RDFH
    {0x2418, 0x00001fff, 0},           // RDFT
    {0x2420, 0x00001fff, 0},           // RDFHS
    {0x2428, 0x00001fff, 0},           // RDFTS
    {0x2430, 0x00001fff, 0},           // RDFPC
    {kReceiveDelay, 0x0000ffff, 0},
    {0x2828, 0x013f3f3f, 0x00010000},  // RXDCTL
    {kReceiveAbsolute, 0x0000ffff, 0},
    {kSmallPacket, 0x00000fff, 0},
    {0x3000, 0x00000001, 0},           // TXDMAC
    {0x3410, 0x00001fff, 0},           // TDFH
    {0x3418, 0x00001fff, 0},           // TDFT
    {0x3420, 0x00001fff, 0},           // TDFHS
    {0x3428, 0x00001fff, 0},           // TDFTS
    {0x3430, 0x00001fff, 0},           // TDFPC
    {kTransmitDelay, 0x0000ffff, 0},
    {0x3828, 0xffffffff, 0},           // TXDCTL
    {kTransmitAbsolute, 0x0000ffff, 0},
    {0x3830, 0xffffffff, 0},           // TSPMT
    {kReceiveChecksum, 0x000003ff, 0},
    {0x5800, 0x0000000f, 0},           // WUC
    {0x5808, 0x000fffff, 0},           // WUFC
    {0x5810, 0, 0},                    // WUS
    {0x5820, 0xffffffff, 0},           // MANC
    {0x5838, 0x0001000f, 0},           // IPAV
    {0x5840, 0xffffffff, 0},           // IP4AT
    {0x5848, 0xffffffff, 0},
    {0x5850, 0xffffffff, 0},
    {0x5858, 0xffffffff, 0},
    {0x5900, 0x00000fff, 0},           // WUPL
};

const Plain* find_plain(u32 offset) {
  const auto found = std::ranges::find(kPlain, offset, &Plain::offset);
  return found == std::end(kPlain) ? nullptr : found;
}
}  // namespace spec

}  // namespace

E1000::E1000(std::string name, VirtualClock& clock, const MacAddress& address, NetworkBackend* backend)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x100e,
                 .revision = 2,
                 .class_code = 0x020000,
                 .subsystem_vendor = 0x8086,
                 .subsystem = 0x001e,
                 .interrupt_pin = 1}),
      m_name(std::move(name)),
      m_clock(clock),
      m_backend(backend),
      m_throttle_timer(clock, [this] { update_interrupt(); }),
      m_transmit_timer(clock, [this] { transmit(); }),
      m_transmit_delay(clock, [this] { raise(kTransmitWrittenBack); }),
      m_receive_delay(clock, [this] { raise(kReceiveTimer); }),
      m_eeprom(address) {
  static_assert(std::size(spec::kPlain) == kPlainRegisters);
  declare_memory_bar(0, spec::kMemorySize, *this, "e1000 registers");
  declare_io_bar(2, spec::kPortSize, m_window, "e1000 window");
  if (!m_backend) return;
  m_backend->can_receive = [this](usize size) { return can_receive(size); };
  m_backend->receive = [this](std::span<const u8> frame) { receive(frame); };
}

E1000::~E1000() {
  if (!m_backend) return;
  m_backend->can_receive = [](usize) { return true; };
  m_backend->receive = [](std::span<const u8>) {};
}

void E1000::set_rom(u64 rom_offset, u32 size) { declare_rom_bar(size, rom_offset, "e1000 rom"); }

std::string E1000::describe() const {
  MacAddress address;
  for (usize i = 0; i < address.size(); ++i) address[i] = static_cast<u8>(m_eeprom.word(i / 2) >> (8 * (i % 2)));
  return fmt::format("{}: {}, 82540EM, {}, {}", m_name, format_mac_address(address), link_up() ? "link up" : "no link",
                     m_state.receive_control & kReceiveEnable ? "driver listens" : "no driver listens");
}

void E1000::reset_controller() {
  m_throttle_timer.cancel();
  m_transmit_timer.cancel();
  m_transmit_delay.cancel();
  m_receive_delay.cancel();
  m_eeprom.reset_bus();
  const bool asserted = m_state.asserted;
  m_state = {};
  m_state.asserted = asserted;
  m_state.control = spec::kControlDefault;
  for (usize i = 0; i < kPlainRegisters; ++i) m_state.plain[i] = spec::kPlain[i].initial;
  // 5.6.1: the address comes from the EEPROM.
  m_state.addresses[0] = m_eeprom.word(0) | u32{m_eeprom.word(1)} << 16;
  m_state.addresses[1] = m_eeprom.word(2) | kAddressValid;
  update_interrupt();
}

void E1000::reset(ResetKind) {
  reset_config();
  m_state.asserted = false;
  m_phy.reset();
  reset_controller();
}

void E1000::Ring::visit(Archive& archive) {
  auto& [base_, length_, head_, tail_] = *this;
  archive("base", base_)("length", length_)("head", head_)("tail", tail_);
  archive.require((length_ & ~spec::kRingLengthMask) == 0, "82540EM ring");
}

void E1000::Context::visit(Archive& archive) {
  auto& [ip_start_, ip_offset_, transport_start_, transport_offset_, header_length_, ip_end_, transport_end_, segment_size_, tcp_, ipv4_] = *this;
  archive("ip_start", ip_start_)("ip_offset", ip_offset_)("transport_start", transport_start_)("transport_offset", transport_offset_);
  archive("header_length", header_length_)("ip_end", ip_end_)("transport_end", transport_end_)("segment_size", segment_size_);
  archive("tcp", tcp_)("ipv4", ipv4_);
}

void E1000::Packet::visit(Archive& archive) {
  auto& [data_, started_, segmented_, too_long_, tagged_, options_, tag_, segments_, sent_] = *this;
  archive("data", data_)("started", started_)("segmented", segmented_)("too_long", too_long_)("tagged", tagged_)("options", options_);
  archive("tag", tag_)("segments", segments_)("sent", sent_);
  constexpr usize kMost = 0x20000;  // a segment of 64 KiB and what else a descriptor brings at once
  archive.require(data_.size() <= kMost, "82540EM packet");
}

void E1000::visit(Archive& archive) {
  auto& [control, eeprom_control, eeprom_read, management, cause, mask, throttle, receive_control, transmit_control, io_address, receive_ring,
         transmit_ring, plain_registers, multicast, vlan, addresses, statistics, next_interrupt, receive_limit, transmit_limit, asserted, checksum,
         segmentation, packet] = m_state;
  visit_config(archive);
  archive("control", control)("eeprom_control", eeprom_control)("eeprom_read", eeprom_read)("management", management)("cause", cause)("mask", mask);
  archive("throttle", throttle)("receive_control", receive_control)("transmit_control", transmit_control)("io_address", io_address);
  archive("receive_ring", receive_ring)("transmit_ring", transmit_ring)("plain", plain_registers)("multicast", multicast)("vlan", vlan);
  archive("addresses", addresses)("statistics", statistics)("next_interrupt", next_interrupt)("receive_limit", receive_limit);
  archive("transmit_limit", transmit_limit)("asserted", asserted)("checksum", checksum)("segmentation", segmentation)("packet", packet);
  archive("eeprom", m_eeprom)("phy", m_phy);
  archive("throttle_timer", m_throttle_timer)("transmit_timer", m_transmit_timer)("transmit_delay", m_transmit_delay)("receive_delay", m_receive_delay);
  if (archive.loading() && !archive.failed()) set_interrupt(asserted);
}

// ---- Access

void E1000::fetch(u64 address, std::span<u8> data) {
  m_mastering = true;
  dma_read(GuestPhysAddr(address), data);
  m_mastering = false;
}

void E1000::store(u64 address, std::span<const u8> data) {
  m_mastering = true;
  dma_write(GuestPhysAddr(address), data);
  m_mastering = false;
}

u64 E1000::read_mmio(u64 offset, unsigned size) {
  if (m_mastering) return ~u64{0};
  return read_register(static_cast<u32>(offset) & ~3u) >> (8 * (offset & 3)) & (~u64{0} >> (64 - 8 * size));
}

void E1000::write_mmio(u64 offset, unsigned size, u64 value) {
  if (m_mastering) return;
  // 13.3: registers are accessed as a whole.
  if (size == 4) write_register(static_cast<u32>(offset), static_cast<u32>(value));
  else log(LogItem::GuestErrors, "82540EM: write of {} bytes at {:#x}", size, offset);
}

u32 E1000::Window::read_port(u16 port, unsigned size) {
  if (card.m_mastering || size != 4 || (port & 3)) return ~0u >> (32 - 8 * size);
  switch (port & (spec::kPortSize - 1)) {
    case 0: return card.m_state.io_address;
    case 4: return card.read_register(card.m_state.io_address);
    default: return ~0u;
  }
}

void E1000::Window::write_port(u16 port, unsigned size, u32 value) {
  if (card.m_mastering || size != 4) return;  // 4.1.1: only as doublewords
  switch (port & (spec::kPortSize - 1)) {
    case 0: card.m_state.io_address = value & (spec::kMemorySize - 4); break;
    case 4: card.write_register(card.m_state.io_address, value); break;
    default: break;
  }
}

u32 E1000::plain(u32 offset) const {
  const auto* found = spec::find_plain(offset);
  VELLUM_ASSERT(found);
  return m_state.plain[static_cast<usize>(found - spec::kPlain)];
}

bool E1000::link_up() const { return m_backend && (m_state.control & kSetLinkUp); }

u32 E1000::status() const { return spec::kStatusFixed | (link_up() ? kLinkUp : 0); }

u32 E1000::read_register(u32 offset) {
  const auto ring = [offset](const Ring& r, u32 first) -> u32 {
    switch (offset - first) {
      case kRingBase: return static_cast<u32>(r.base);
      case kRingBaseHigh: return static_cast<u32>(r.base >> 32);
      case kRingLength: return r.length;
      case kRingHead: return r.head;
      case kRingTail: return r.tail;
      default: return 0;
    }
  };
  switch (offset) {
    case kControl: return m_state.control;
    case kStatus: return status();
    case kEepromControl: {
      const u32 granted = m_state.eeprom_control & kEepromRequest ? kEepromGrant : 0;
      return m_state.eeprom_control | granted | kEepromPresent | (m_eeprom.data_out() ? kEepromDataOut : 0);
    }
    case kEepromRead: return m_state.eeprom_read;
    case kManagement: return m_state.management;
    case kCause: {
      const u32 cause = std::exchange(m_state.cause, 0u);
      update_interrupt();
      return cause;
    }
    case kThrottle: return m_state.throttle;
    case kMaskSet: return m_state.mask;
    case kReceiveControl: return m_state.receive_control;
    case kTransmitControl: return m_state.transmit_control;
    default: break;
  }
  if (offset >= kReceiveRing && offset < kReceiveRing + kRingSize) return ring(m_state.receive_ring, kReceiveRing);
  if (offset >= kTransmitRing && offset < kTransmitRing + kRingSize) return ring(m_state.transmit_ring, kTransmitRing);
  const auto within = [offset](u32 first, const auto& registers) { return offset >= first && offset < first + 4 * registers.size(); };
  // 13.7: reading clears them.
  if (within(kStatistics, m_state.statistics)) return std::exchange(m_state.statistics[(offset - kStatistics) / 4], 0u);
  if (within(kMulticast, m_state.multicast)) return m_state.multicast[(offset - kMulticast) / 4];
  if (within(kAddresses, m_state.addresses)) return m_state.addresses[(offset - kAddresses) / 4];
  if (within(kVlanFilter, m_state.vlan)) return m_state.vlan[(offset - kVlanFilter) / 4];
  return spec::find_plain(offset) ? plain(offset) : 0;
}

bool E1000::write_ring(Ring& ring, u32 offset, u32 value) {
  switch (offset) {
    case kRingBase: ring.base = (ring.base & ~u64{0xffffffff}) | (value & spec::kRingBaseMask); return true;
    case kRingBaseHigh: ring.base = (ring.base & 0xffffffff) | u64{value} << 32; return true;
    case kRingLength: ring.length = value & spec::kRingLengthMask; return true;
    case kRingHead: ring.head = value & spec::kRingPointerMask; return true;
    case kRingTail: ring.tail = value & spec::kRingPointerMask; return true;
    default: return false;
  }
}

void E1000::read_management(u32 value) {
  const unsigned phy = value >> 21 & 0x1f, index = value >> 16 & 0x1f;
  const u32 operation = value & (kManagementWrite | kManagementRead);
  u32 result = (value & ~(kManagementError | 0xffffu)) | kManagementReady;
  if (phy != 1) {
    result |= kManagementError | 0xffff;  // 13.4.7: the PHY inside has this address; nobody else answers
  } else if (operation == kManagementRead) {
    result |= m_phy.read(index, link_up());
  } else if (operation == kManagementWrite) {
    result |= value & 0xffff;
    m_phy.write(index, static_cast<u16>(value));
    // A new negotiation ends at once, with the same link.
    if (index == 0 && (value & 0x8200) && link_up()) raise(kLinkChange);
  } else {
    result |= kManagementError;
  }
  m_state.management = result;
  if (value & kManagementInterrupt) raise(kManagementDone);
}

void E1000::write_register(u32 offset, u32 value) {
  switch (offset) {
    case kControl: {
      if (value & kPhyReset) m_phy.reset();
      if (value & kReset) return reset_controller();
      const bool was_up = link_up();
      m_state.control = value & ~kPhyReset;
      if (link_up() != was_up) raise(kLinkChange);
      return;
    }
    case kEepromControl:
      m_state.eeprom_control = value & (kEepromClock | kEepromSelect | kEepromDataIn | 0x30 | kEepromRequest);
      m_eeprom.set_pins(value & kEepromSelect, value & kEepromClock, value & kEepromDataIn);
      return;
    case kEepromRead:
      m_state.eeprom_read = value & 0xff00;
      if (value & kEepromStart) m_state.eeprom_read |= kEepromDone | u32{m_eeprom.word(value >> 8 & 0xff)} << 16;
      return;
    case kManagement: return read_management(value);
    case kCause:
      m_state.cause &= ~value;
      return update_interrupt();
    case kThrottle:
      m_state.throttle = value & 0xffff;
      return;
    case kCauseSet: return raise(value & kCauses);
    case kMaskSet:
      m_state.mask |= value & kCauses;
      return update_interrupt();
    case kMaskClear:
      m_state.mask &= ~value;
      return update_interrupt();
    case kReceiveControl:
      m_state.receive_control = value & spec::kReceiveControlMask;
      if (m_backend) m_backend->room_available();
      return;
    case kTransmitControl:
      m_state.transmit_control = value & spec::kTransmitControlMask;
      return transmit();
    default: break;
  }
  if (offset >= kReceiveRing && offset < kReceiveRing + kRingSize && write_ring(m_state.receive_ring, offset - kReceiveRing, value)) {
    if (offset - kReceiveRing == kRingTail && m_backend) m_backend->room_available();
    return;
  }
  if (offset >= kTransmitRing && offset < kTransmitRing + kRingSize && write_ring(m_state.transmit_ring, offset - kTransmitRing, value)) {
    if (offset - kTransmitRing == kRingTail) transmit();
    return;
  }
  const auto within = [offset](u32 first, const auto& registers) { return offset >= first && offset < first + 4 * registers.size(); };
  if (within(kMulticast, m_state.multicast)) {
    m_state.multicast[(offset - kMulticast) / 4] = value;
  } else if (within(kAddresses, m_state.addresses)) {
    // RAH: the upper 16 bits of the address, what it is compared with, and whether it is valid.
    const usize index = (offset - kAddresses) / 4;
    m_state.addresses[index] = index & 1 ? value & 0x8003ffff : value;
  } else if (within(kVlanFilter, m_state.vlan)) {
    m_state.vlan[(offset - kVlanFilter) / 4] = value;
  } else if (const auto* known = spec::find_plain(offset)) {
    u32& stored = m_state.plain[static_cast<usize>(known - spec::kPlain)];
    stored = (known->initial & ~known->writable) | (value & known->writable);
    // 13.4.30: what a delay holds back comes now.
    if (offset == kReceiveDelay && (value & spec::kFlushNow) && m_receive_delay.armed()) {
      m_receive_delay.cancel();
      raise(kReceiveTimer);
    }
  }
}

// ---- Interrupts

void E1000::raise(u32 causes) {
  m_state.cause |= causes;
  update_interrupt();
}

// 3.2.7.1: each event starts the delay anew, but not beyond the absolute one since the first. In units of 1.024 µs; 0: at once, no
// limit.
void E1000::raise_later(u32 cause, Timer& timer, Ticks& limit, u32 delay, u32 absolute) {
  if (delay == 0) return raise(cause);
  const Ticks now = m_clock.now();
  if (!timer.armed()) limit = absolute ? now + absolute * spec::kDelayUnit : ~Ticks{0};
  timer.arm(std::min(now + delay * spec::kDelayUnit, limit));
}

void E1000::update_interrupt() {
  const bool wanted = m_state.cause & m_state.mask;
  if (wanted == m_state.asserted) {
    if (!wanted) m_throttle_timer.cancel();
    return;
  }
  // 13.4.18: no two interrupts come closer to each other than this.
  if (wanted && m_state.throttle) {
    const Ticks now = m_clock.now();
    if (now < m_state.next_interrupt) {
      m_throttle_timer.arm(m_state.next_interrupt);
      return;
    }
    m_state.next_interrupt = now + m_state.throttle * spec::kThrottleUnit;
  }
  m_throttle_timer.cancel();
  m_state.asserted = wanted;
  set_interrupt(wanted);
}

// ---- Statistics

void E1000::count(u32 offset, u64 by) {
  u32& counter = m_state.statistics[(offset - kStatistics) / 4];
  counter = static_cast<u32>(std::min<u64>(u64{counter} + by, ~u32{0}));  // 13.7: they stop at their greatest value
}

void E1000::count_long(u32 offset, u64 by) {
  u32& low = m_state.statistics[(offset - kStatistics) / 4];
  u32& high = m_state.statistics[(offset - kStatistics) / 4 + 1];
  const u64 sum = (u64{high} << 32 | low) + by;
  low = static_cast<u32>(sum);
  high = static_cast<u32>(sum >> 32);
}

// 64 bytes, 65 to 127, 128 to 255, 256 to 511, 512 to 1023, and more; with the check sequence.
void E1000::count_frame(u32 first_size_bucket, usize size) {
  u32 bucket = 0;
  for (usize limit = 64; bucket < 5 && size > limit; limit = limit == 64 ? 127 : 2 * limit + 1) ++bucket;
  count(first_size_bucket + 4 * bucket);
}

}  // namespace vellum
