// The USB tablet: descriptors, the control endpoint, reports.
#include "devices/usb_tablet.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace vellum {

namespace {

namespace spec {
// USB 1.1 table 9-4 and 9-5, HID 1.11 7.1 and 7.2.
enum Request : u8 {
  kGetStatus = 0, kClearFeature = 1, kSetFeature = 3, kSetAddress = 5, kGetDescriptor = 6, kGetConfiguration = 8,
  kSetConfiguration = 9, kGetInterface = 10, kSetInterface = 11,
};
enum ClassRequest : u8 { kGetReport = 1, kGetIdle = 2, kGetProtocol = 3, kSetReport = 9, kSetIdle = 10, kSetProtocol = 11 };
enum Descriptor : u8 { kDevice = 1, kConfiguration = 2, kString = 3, kHid = 0x21, kHidReport = 0x22 };
constexpr u8 kToHost = 0x80, kTypeMask = 0x60, kClass = 0x20, kRecipientMask = 0x1f, kEndpoint = 2;
constexpr u8 kInEndpoint = 0x81;
constexpr u16 kFeatureHalt = 0, kFeatureWakeup = 1;
constexpr u8 kControlPacket = 8;
}  // namespace spec

// HID 1.11 appendix E, Usage Tables 1.12: a mouse whose X and Y are absolute, five buttons and a wheel.
constexpr u8 kReportDescriptor[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01,              // Generic Desktop, Mouse: application collection
    0x09, 0x01, 0xa1, 0x00,                          // Pointer: physical collection
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05,              // Buttons 1 to 5
    0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01,  // one bit each
    0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01,  // three bits of padding
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31,              // X, Y
    0x15, 0x00, 0x26, 0xff, 0x7f, 0x35, 0x00, 0x46, 0xff, 0x7f,  // 0 to 32767
    0x75, 0x10, 0x95, 0x02, 0x81, 0x02,              // 16 bits, absolute
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00,  // Wheel, -127 to 127
    0x75, 0x08, 0x95, 0x01, 0x81, 0x06,              // 8 bits, relative
    0xc0, 0xc0,
};

// Table 9-7. The identity is the one under which guests know emulated tablets.
constexpr u8 kDeviceDescriptor[] = {18, spec::kDevice, 0x10, 0x01, 0, 0, 0, spec::kControlPacket, 0x27, 0x06, 0x01, 0x00, 0x00, 0x01, 1, 2, 3, 1};
constexpr u8 kHidDescriptor[] = {9, spec::kHid, 0x11, 0x01, 0, 1, spec::kHidReport, sizeof(kReportDescriptor), 0};
constexpr u8 kPollingInterval = 8;  // milliseconds

std::vector<u8> configuration_descriptor() {
  std::vector<u8> bytes = {9, spec::kConfiguration, 0, 0, 1, 1, 0, 0xa0, 50,  // bus powered, remote wakeup, 100 mA
                           9, 4, 0, 0, 1, 3, 0, 0, 0};                        // interface 0: HID, no boot protocol
  bytes.insert(bytes.end(), std::begin(kHidDescriptor), std::end(kHidDescriptor));
  const u8 endpoint[] = {7, 5, spec::kInEndpoint, 3, 8, 0, kPollingInterval};
  bytes.insert(bytes.end(), std::begin(endpoint), std::end(endpoint));
  bytes[2] = static_cast<u8>(bytes.size());
  return bytes;
}

std::vector<u8> string_descriptor(std::string_view text) {
  std::vector<u8> bytes = {static_cast<u8>(2 + 2 * text.size()), spec::kString};
  for (const char c : text) bytes.insert(bytes.end(), {static_cast<u8>(c), 0});
  return bytes;
}

constexpr Ticks kListening = 500'000'000;  // a driver that has not asked for so long does not listen

}  // namespace

std::array<u8, UsbTablet::kReportSize> UsbTablet::Report::bytes() const {
  return {buttons, static_cast<u8>(x), static_cast<u8>(x >> 8), static_cast<u8>(y), static_cast<u8>(y >> 8), static_cast<u8>(wheel)};
}

void UsbTablet::Report::visit(Archive& archive) {
  auto& [buttons_, x_, y_, wheel_] = *this;
  archive("buttons", buttons_)("x", x_)("y", y_)("wheel", wheel_);
  archive.require(x_ <= kGreatestPlace && y_ <= kGreatestPlace, "tablet place");
}

void UsbTablet::reset(ResetKind) { m_state = {}; }

void UsbTablet::bus_reset() {
  const Report current = m_state.current;
  m_state = {};
  m_state.current = current;
}

void UsbTablet::visit(Archive& archive) {
  auto& [address_, next_address, configuration, halted, wakeup_enabled, idle_rate, protocol, stage, length, position, reply_, current,
         reports, last_poll, last_report, polled] = m_state;
  archive("address", address_)("next_address", next_address)("configuration", configuration)("halted", halted);
  archive("wakeup_enabled", wakeup_enabled)("idle_rate", idle_rate)("protocol", protocol)("stage", stage);
  archive("length", length)("position", position)("reply", reply_)("current", current)("reports", reports);
  archive("last_poll", last_poll)("last_report", last_report)("polled", polled);
  archive.require(stage < Stage::Count, "tablet control stage");
  archive.require(position <= length && (stage != Stage::DataIn || length <= reply_.size()), "tablet control data");
  archive.require(reports.size() <= kQueueLimit, "tablet reports");
}

void UsbTablet::place(u16 x, u16 y, int wheel, u8 buttons) {
  Report report{.buttons = static_cast<u8>(buttons & 0x1f),
                .x = std::min(x, kGreatestPlace),
                .y = std::min(y, kGreatestPlace),
                .wheel = static_cast<i8>(std::clamp(wheel, -127, 127))};
  auto& reports = m_state.reports;
  // Movement alone may replace movement that nobody has taken yet; each change of the buttons stays a report.
  const Report& last = reports.empty() ? m_state.current : reports.back();
  if (report.buttons == last.buttons && report.wheel == 0 && report.x == last.x && report.y == last.y) return;
  const u8 before = reports.size() >= 2 ? reports[reports.size() - 2].buttons : m_state.current.buttons;
  const bool only_moved = !reports.empty() && report.buttons == last.buttons && last.buttons == before && last.wheel == 0;
  if (only_moved || reports.size() == kQueueLimit) reports.back() = report;
  else reports.push_back(report);
}

bool UsbTablet::listened_to() const {
  return m_state.configuration != 0 && m_state.polled && m_clock.now() - m_state.last_poll < kListening;
}

UsbAnswer UsbTablet::transact(UsbToken token, u8 endpoint, std::span<u8> data) {
  using Kind = UsbAnswer::Kind;
  if (endpoint == 0) return token == UsbToken::Setup ? setup(data) : control(token, data);
  if (endpoint != 1 || token != UsbToken::In || m_state.configuration == 0) return {Kind::Silence};
  return m_state.halted ? UsbAnswer{Kind::Stall} : interrupt(data);
}

UsbAnswer UsbTablet::interrupt(std::span<u8> data) {
  State& s = m_state;
  const Ticks now = m_clock.now();
  s.last_poll = now;
  s.polled = true;
  if (!s.reports.empty()) {
    s.current = s.reports.front();
    s.reports.pop_front();
  } else {
    // HID 1.11 7.2.4: without news only when the idle rate, in units of 4 ms, says so.
    const Ticks period = Ticks{s.idle_rate} * 4'000'000;
    if (period == 0 || now - s.last_report < period) return {UsbAnswer::Kind::NotReady};
    s.current.wheel = 0;
  }
  s.last_report = now;
  const auto bytes = s.current.bytes();
  std::copy_n(bytes.begin(), std::min(bytes.size(), data.size()), data.begin());
  return {UsbAnswer::Kind::Done, bytes.size()};
}

void UsbTablet::reply(std::span<const u8> data) {
  // A device gives no more than it was asked for (9.3.5); s.length holds that.
  m_state.length = static_cast<u16>(std::min<usize>({data.size(), m_state.length, kReplySize}));
  std::copy_n(data.begin(), m_state.length, m_state.reply.begin());
}

UsbAnswer UsbTablet::setup(std::span<const u8> packet) {
  State& s = m_state;
  s.stage = Stage::Idle;
  s.position = 0;
  if (packet.size() != 8) return {UsbAnswer::Kind::Silence};  // no device takes a setup packet of another length (8.5.2)
  const u8 type = packet[0], request = packet[1];
  const u16 value = static_cast<u16>(packet[2] | packet[3] << 8), index = static_cast<u16>(packet[4] | packet[5] << 8);
  s.length = static_cast<u16>(packet[6] | packet[7] << 8);
  const bool to_host = type & spec::kToHost, no_data = s.length == 0;
  const bool known = (type & spec::kTypeMask) == 0            ? standard_request(type, request, value, index)
                     : (type & spec::kTypeMask) == spec::kClass ? class_request(type, request, value)
                                                                : false;
  // 8.5.2: a request that is not understood is answered by STALL in its data or status stage, never in setup itself.
  if (!known) s.stage = Stage::Stalled;
  else if (no_data) s.stage = Stage::StatusIn;
  else s.stage = to_host ? Stage::DataIn : Stage::DataOut;
  return {UsbAnswer::Kind::Done, 8};
}

UsbAnswer UsbTablet::control(UsbToken token, std::span<u8> data) {
  using Kind = UsbAnswer::Kind;
  State& s = m_state;
  switch (s.stage) {
    case Stage::DataIn:
      if (token == UsbToken::In) {
        const usize part = std::min<usize>(spec::kControlPacket, s.length - s.position);
        std::copy_n(s.reply.begin() + s.position, std::min(part, data.size()), data.begin());
        s.position = static_cast<u16>(s.position + part);
        return {Kind::Done, part};
      }
      s.stage = Stage::Idle;  // the host's empty packet is the status stage, also when it wants no more data
      return {Kind::Done, data.size()};
    case Stage::DataOut:
      if (token == UsbToken::Out) {
        s.position = static_cast<u16>(std::min<usize>(s.position + data.size(), s.length));
        return {Kind::Done, data.size()};
      }
      s.stage = Stage::Idle;
      return {Kind::Done, 0};
    case Stage::StatusIn:
      if (token != UsbToken::In) return {Kind::Stall};
      s.stage = Stage::Idle;
      s.address = s.next_address;
      return {Kind::Done, 0};
    case Stage::Stalled: return {Kind::Stall};
    case Stage::Idle:
    case Stage::Count: break;
  }
  return {Kind::Stall};
}

bool UsbTablet::get_descriptor(u8 type, u8 index) {
  switch (type) {
    case spec::kDevice: return reply(kDeviceDescriptor), true;
    case spec::kConfiguration: return reply(configuration_descriptor()), index == 0;
    case spec::kString:
      switch (index) {
        case 0: return reply(std::array<u8, 4>{4, spec::kString, 0x09, 0x04}), true;  // American English
        case 1: return reply(string_descriptor("Vellum")), true;
        case 2: return reply(string_descriptor("Vellum USB Tablet")), true;
        case 3: return reply(string_descriptor("1")), true;
        default: return false;
      }
    case spec::kHid: return reply(kHidDescriptor), true;
    case spec::kHidReport: return reply(kReportDescriptor), true;
    default: return false;
  }
}

bool UsbTablet::standard_request(u8 type, u8 request, u16 value, u16 index) {
  State& s = m_state;
  const bool endpoint = (type & spec::kRecipientMask) == spec::kEndpoint;
  switch (request) {
    case spec::kGetStatus: {
      const bool bit0 = endpoint && (index & 0xff) == spec::kInEndpoint && s.halted;
      const bool bit1 = (type & spec::kRecipientMask) == 0 && s.wakeup_enabled;
      return reply(std::array<u8, 2>{static_cast<u8>(bit0 | bit1 << 1), 0}), true;
    }
    case spec::kClearFeature:
    case spec::kSetFeature: {
      const bool set = request == spec::kSetFeature;
      if (endpoint && value == spec::kFeatureHalt && (index & 0xff) == spec::kInEndpoint) return s.halted = set, true;
      if (endpoint && value == spec::kFeatureHalt && (index & 0x7f) == 0) return true;
      if (!endpoint && value == spec::kFeatureWakeup) return s.wakeup_enabled = set, true;
      return false;
    }
    case spec::kSetAddress: return s.next_address = value & 0x7f, value < 0x80;
    case spec::kGetDescriptor: return get_descriptor(static_cast<u8>(value >> 8), static_cast<u8>(value));
    case spec::kGetConfiguration: return reply(std::span(&s.configuration, 1)), true;
    case spec::kSetConfiguration:
      if (value > 1) return false;
      s.configuration = static_cast<u8>(value);
      s.halted = false;
      return true;
    case spec::kGetInterface: return reply(std::array<u8, 1>{0}), s.configuration != 0;
    case spec::kSetInterface: return s.configuration != 0 && value == 0 && index == 0;
    default: return false;
  }
}

bool UsbTablet::class_request(u8, u8 request, u16 value) {
  State& s = m_state;
  switch (request) {
    case spec::kGetReport: return reply(s.current.bytes()), true;
    case spec::kGetIdle: return reply(std::span(&s.idle_rate, 1)), true;
    case spec::kGetProtocol: return reply(std::span(&s.protocol, 1)), true;
    case spec::kSetIdle: return s.idle_rate = static_cast<u8>(value >> 8), true;
    case spec::kSetProtocol: return s.protocol = static_cast<u8>(value & 1), true;
    case spec::kSetReport: return true;  // there is no output report: what comes is dropped
    default: return false;
  }
}

}  // namespace vellum
