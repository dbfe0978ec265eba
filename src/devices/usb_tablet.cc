// The USB tablet: descriptors, requests of the class, reports.
#include "devices/usb_tablet.h"

#include <algorithm>

namespace vellum {

namespace {

namespace spec {
// HID 1.11 7.1 and 7.2.
enum ClassRequest : u8 { kGetReport = 1, kGetIdle = 2, kGetProtocol = 3, kSetReport = 9, kSetIdle = 10, kSetProtocol = 11 };
enum Descriptor : u8 { kDevice = 1, kConfiguration = 2, kInterface = 4, kEndpoint = 5, kHid = 0x21, kHidReport = 0x22 };
constexpr u8 kInEndpoint = 0x81;
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
constexpr u8 kPollingInterval = 8;  // milliseconds
constexpr u8 kConfigurationDescriptor[] = {
    9, spec::kConfiguration, 34, 0, 1, 1, 0, 0xa0, 50,                          // bus powered, remote wakeup, 100 mA
    9, spec::kInterface, 0, 0, 1, 3, 0, 0, 0,                                   // interface 0: HID, no boot protocol
    9, spec::kHid, 0x11, 0x01, 0, 1, spec::kHidReport, sizeof(kReportDescriptor), 0,
    7, spec::kEndpoint, spec::kInEndpoint, 3, 8, 0, kPollingInterval,           // interrupt, 8 bytes
};
static_assert(sizeof(kConfigurationDescriptor) == 34);
constexpr auto kHidDescriptor = std::span(kConfigurationDescriptor).subspan(18, 9);

constexpr Ticks kListening = 500'000'000;  // a driver that has not asked for so long does not listen

}  // namespace

UsbTablet::UsbTablet(VirtualClock& clock)
    : UsbFunction({.device = kDeviceDescriptor, .configuration = kConfigurationDescriptor, .strings = {"Vellum", "Vellum USB Tablet", "1"}}),
      m_clock(clock) {}

std::array<u8, UsbTablet::kReportSize> UsbTablet::Report::bytes() const {
  return {buttons, static_cast<u8>(x), static_cast<u8>(x >> 8), static_cast<u8>(y), static_cast<u8>(y >> 8), static_cast<u8>(wheel)};
}

void UsbTablet::Report::visit(Archive& archive) {
  auto& [buttons_, x_, y_, wheel_] = *this;
  archive("buttons", buttons_)("x", x_)("y", y_)("wheel", wheel_);
  archive.require(x_ <= kGreatestPlace && y_ <= kGreatestPlace, "tablet place");
}

void UsbTablet::reset(ResetKind) {
  reset_control();
  m_state = {};
}

void UsbTablet::function_reset() {
  const Report current = m_state.current;
  m_state = {};
  m_state.current = current;
}

void UsbTablet::visit(Archive& archive) {
  auto& [idle_rate, protocol, current, reports, last_poll, last_report, polled] = m_state;
  visit_control(archive);
  archive("idle_rate", idle_rate)("protocol", protocol)("current", current)("reports", reports);
  archive("last_poll", last_poll)("last_report", last_report)("polled", polled);
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
  return is_configured() && m_state.polled && m_clock.now() - m_state.last_poll < kListening;
}

UsbAnswer UsbTablet::transfer(UsbToken, u8, std::span<u8> data) {
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

std::span<const u8> UsbTablet::class_descriptor(u8 type) const {
  if (type == spec::kHid) return kHidDescriptor;
  if (type == spec::kHidReport) return kReportDescriptor;
  return {};
}

bool UsbTablet::class_request(u8 type, u8 request, u16 value, u16) {
  State& s = m_state;
  const bool sends = request == spec::kGetReport || request == spec::kGetIdle || request == spec::kGetProtocol;
  if (sends != ((type & 0x80) != 0)) return false;
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
