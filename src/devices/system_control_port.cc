// Port 61h.
#include "devices/system_control_port.h"

namespace vellum {

namespace {

// PIIX3, 4.1.5.1.
namespace spec {
constexpr u8 kGate2 = 0x01, kSpeaker = 0x02, kDisableSystemError = 0x04, kDisableChannelCheck = 0x08, kRefresh = 0x10, kOut2 = 0x20,
             kChannelCheck = 0x40, kSystemError = 0x80;
// Counter 1 requests a refresh every 18 clocks (15.085 us); bit 4 toggles with each.
constexpr u64 kRefreshClocks = 18;
}  // namespace spec

}  // namespace

SystemControlPort::SystemControlPort(VirtualClock& clock, Pit8254& pit, InterruptLine nmi)
    : m_clock(clock), m_pit(pit), m_nmi(nmi) {}

void SystemControlPort::reset(ResetKind) {
  m_state = State{};
  m_pit.set_gate2(false);
  if (enable_speaker) enable_speaker(false);
  update_nmi();
}

void SystemControlPort::visit(Archive& archive) {
  auto& [control, system_error, io_channel_check, nmi_masked] = m_state;
  archive("control", control)("system_error", system_error)("io_channel_check", io_channel_check);
  archive("nmi_masked", nmi_masked);
  archive.require(control <= 0xf, "port 61h");
  if (archive.loading() && !archive.failed()) {
    if (enable_speaker) enable_speaker(control & spec::kSpeaker);
    update_nmi();
  }
}

void SystemControlPort::update_nmi() {
  m_nmi.set(!m_state.nmi_masked && (m_state.system_error || m_state.io_channel_check));
}

void SystemControlPort::report_system_error() {
  if (!(m_state.control & spec::kDisableSystemError)) m_state.system_error = true;
  update_nmi();
}

void SystemControlPort::report_io_channel_check() {
  if (!(m_state.control & spec::kDisableChannelCheck)) m_state.io_channel_check = true;
  update_nmi();
}

void SystemControlPort::set_nmi_mask(bool masked) {
  m_state.nmi_masked = masked;
  update_nmi();
}

u32 SystemControlPort::read_port(u16, unsigned) {
  const u64 refreshes = multiply_divide(m_clock.now(), Pit8254::kFrequency, kTicksPerSecond * spec::kRefreshClocks);
  u8 value = m_state.control;
  if (refreshes & 1) value |= spec::kRefresh;
  if (m_pit.output(2)) value |= spec::kOut2;
  if (m_state.io_channel_check) value |= spec::kChannelCheck;
  if (m_state.system_error) value |= spec::kSystemError;
  return value;
}

void SystemControlPort::write_port(u16, unsigned, u32 value) {
  m_state.control = value & 0xf;
  m_pit.set_gate2(value & spec::kGate2);
  if (enable_speaker) enable_speaker(value & spec::kSpeaker);
  if (value & spec::kDisableSystemError) m_state.system_error = false;
  if (value & spec::kDisableChannelCheck) m_state.io_channel_check = false;
  update_nmi();
}

}  // namespace vellum
