// The PS/2 mouse: commands, sampling, packets.
#include "devices/ps2_mouse.h"

#include <algorithm>
#include <cstdlib>

namespace vellum {

namespace {

// IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft's IntelliMouse extensions.
namespace spec {
enum Command : u8 {
  kScaling1 = 0xe6, kScaling2 = 0xe7, kResolution = 0xe8, kStatus = 0xe9, kStream = 0xea, kReadData = 0xeb,
  kLeaveWrap = 0xec, kWrap = 0xee, kRemote = 0xf0, kIdentify = 0xf2, kSampleRate = 0xf3, kEnable = 0xf4,
  kDisable = 0xf5, kDefaults = 0xf6, kResend = 0xfe, kReset = 0xff,
};
constexpr u8 kWheelIdentity = 3, kFiveButtonIdentity = 4;
constexpr u8 kAlwaysOne = 0x08, kXSign = 0x10, kYSign = 0x20;
constexpr std::array<u8, 3> kWheelKnock = {200, 100, 80}, kFiveButtonKnock = {200, 200, 80};
constexpr Ticks kSelfTestTime = 5'000'000;  // as short as the keyboard's, for the same reason
constexpr i32 kMovementLimit = 1 << 16;     // what the counters hold for a guest that does not ask
constexpr usize kStepLimit = 16;            // likewise; what comes then changes the last step
}  // namespace spec

// 2:1 scaling in stream mode: 0, 1, 1, 3, 6, 9, then twice the count.
i32 scaled(i32 count) {
  constexpr u8 kTable[6] = {0, 1, 1, 3, 6, 9};
  const i32 size = std::abs(count);
  const i32 result = size < 6 ? kTable[size] : 2 * size;
  return count < 0 ? -result : result;
}

}  // namespace

Ps2Mouse::Ps2Mouse(VirtualClock& clock)
    : m_clock(clock), m_sample_timer(clock, [this] { sample(); }), m_self_test_timer(clock, [this] {
        self_test_done();
      }) {}

void Ps2Mouse::reset(ResetKind) {
  reset_queue();
  m_sample_timer.cancel();
  m_self_test_timer.cancel();
  m_state = State{};
}

void Ps2Mouse::visit(Archive& archive) {
  auto& [mode, wrap, reporting_, scaling_2_1, resolution, sample_rate, identity, pending_command, last_rates, steps,
         buttons, reported_buttons, last_packet, last_length] = m_state;
  archive("mode", mode)("wrap", wrap)("reporting", reporting_)("scaling_2_1", scaling_2_1)("resolution", resolution);
  archive("sample_rate", sample_rate)("identity", identity)("pending_command", pending_command);
  archive("last_rates", last_rates)("steps", steps)("buttons", buttons)("reported_buttons", reported_buttons);
  archive("last_packet", last_packet)("last_length", last_length);
  archive("sample_timer", m_sample_timer)("self_test_timer", m_self_test_timer);
  visit_queue(archive);
  archive.require(mode <= Mode::Remote && resolution <= 3 && sample_rate >= 1, "mouse settings");
  archive.require(steps.size() <= spec::kStepLimit, "mouse steps");
  archive.require(last_length <= last_packet.size(), "mouse packet");
}

void Ps2Mouse::Step::visit(Archive& archive) {
  auto& [x_, y_, z_, buttons_] = *this;
  archive("x", x_)("y", y_)("z", z_)("buttons", buttons_);
  const auto in_range = [](i32 value) { return value >= -spec::kMovementLimit && value <= spec::kMovementLimit; };
  archive.require(in_range(x_) && in_range(y_) && in_range(z_), "mouse movement");
}

void Ps2Mouse::set_defaults() {
  m_state.mode = Mode::Stream;
  m_state.wrap = m_state.reporting = m_state.scaling_2_1 = false;
  m_state.resolution = 2;
  m_state.sample_rate = 100;
  m_state.steps.clear();
}

Ticks Ps2Mouse::period() const { return kTicksPerSecond / m_state.sample_rate; }

void Ps2Mouse::move(int dx, int dy, int wheel, u8 buttons) {
  m_state.buttons = buttons & 0x1f;
  // Movement while nobody listens would come as one jump later.
  if (m_state.mode == Mode::Stream && !m_state.reporting) return;
  record(dx, dy, wheel);
  if (!m_sample_timer.armed()) sample();
}

void Ps2Mouse::record(int dx, int dy, int wheel) {
  auto& steps = m_state.steps;
  const u8 buttons = m_state.buttons;
  // Movement adds up, but not across a change of the buttons: a click belongs to the place where it was made.
  const u8 before = steps.size() >= 2 ? steps[steps.size() - 2].buttons : m_state.reported_buttons;
  const bool only_moves = !steps.empty() && steps.back().buttons == before && before == buttons;
  if (!only_moves && steps.size() < spec::kStepLimit) steps.emplace_back();
  Step& step = steps.back();
  const auto add = [](i32& counter, int change) {
    counter = static_cast<i32>(std::clamp<i64>(i64{counter} + change, -spec::kMovementLimit, spec::kMovementLimit));
  };
  add(step.x, dx);
  add(step.y, -std::clamp(dy, -spec::kMovementLimit, spec::kMovementLimit));  // the mouse counts y upwards
  add(step.z, -std::clamp(wheel, -spec::kMovementLimit, spec::kMovementLimit));  // and its wheel towards the user
  step.buttons = buttons;
}

bool Ps2Mouse::is_news(const Step& step) const {
  const u8 visible = m_state.identity == spec::kFiveButtonIdentity ? 0x1f : 0x07;
  return step.x || step.y || (m_state.identity && step.z) || ((step.buttons ^ m_state.reported_buttons) & visible);
}

bool Ps2Mouse::has_news() {
  while (!m_state.steps.empty() && !is_news(m_state.steps.front())) m_state.steps.pop_front();
  return !m_state.steps.empty();
}

// Stream mode: reports what is new, then not before the next sample.
void Ps2Mouse::sample() {
  if (m_state.mode != Mode::Stream || !m_state.reporting || m_state.wrap || m_self_test_timer.armed()) return;
  if (!has_news()) return;
  if (queued() == 0) send_packet();  // else the host is behind, and movement adds up
  m_sample_timer.arm(m_clock.now() + period());
}

void Ps2Mouse::send_packet() {
  auto& state = m_state;
  Step step = has_news() ? state.steps.front() : Step{.buttons = state.buttons};
  const i32 dx = std::clamp(step.x, -255, 255);
  const i32 dy = std::clamp(step.y, -255, 255);
  const i32 dz = state.identity ? std::clamp(step.z, -7, 7) : 0;
  state.reported_buttons = step.buttons;
  if (!state.steps.empty()) {
    // What did not fit is left for the next packet; a mouse without a wheel forgets it.
    state.steps.front() = {step.x - dx, step.y - dy, state.identity ? step.z - dz : 0, step.buttons};
    if (!is_news(state.steps.front())) state.steps.pop_front();
  }
  const bool scaling = state.scaling_2_1 && state.mode == Mode::Stream;
  const i32 x = std::clamp(scaling ? scaled(dx) : dx, -255, 255);
  const i32 y = std::clamp(scaling ? scaled(dy) : dy, -255, 255);
  state.last_packet = {static_cast<u8>(spec::kAlwaysOne | (step.buttons & 7) | (x < 0 ? spec::kXSign : 0) |
                                       (y < 0 ? spec::kYSign : 0)),
                       static_cast<u8>(x), static_cast<u8>(y), static_cast<u8>(dz)};
  // Five-button packets hold the wheel in four bits and the two buttons above it.
  if (state.identity == spec::kFiveButtonIdentity)
    state.last_packet[3] = static_cast<u8>((dz & 0xf) | (step.buttons >> 3 & 3) << 4);
  state.last_length = state.identity ? 4 : 3;
  report(state.last_length);
}

void Ps2Mouse::report(u8 count) {
  for (u8 i = 0; i < count; ++i) queue(m_state.last_packet[i]);
}

void Ps2Mouse::self_test_done() {
  queue(kSelfTestPassed);
  queue(0);  // the identity after reset
}

void Ps2Mouse::note_rate(u8 rate) {
  auto& rates = m_state.last_rates;
  rates = {rates[1], rates[2], rate};
  if (rates == spec::kWheelKnock) m_state.identity = std::max(m_state.identity, spec::kWheelIdentity);
  if (rates == spec::kFiveButtonKnock && m_state.identity) m_state.identity = spec::kFiveButtonIdentity;
}

void Ps2Mouse::argument(u8 byte) {
  const u8 command = m_state.pending_command;
  m_state.pending_command = 0;
  if (command == spec::kResolution) {
    if (byte > 3) return queue(kResend);
    m_state.resolution = byte;
  } else {
    if (byte == 0) return queue(kResend);
    m_state.sample_rate = byte;
    note_rate(byte);
  }
  queue(kAcknowledge);
}

void Ps2Mouse::command(u8 byte) {
  switch (byte) {
    case spec::kScaling1: m_state.scaling_2_1 = false; break;
    case spec::kScaling2: m_state.scaling_2_1 = true; break;
    case spec::kResolution:
    case spec::kSampleRate: m_state.pending_command = byte; break;
    case spec::kStatus: {
      queue(kAcknowledge);
      const u8 buttons = m_state.buttons;
      queue(static_cast<u8>((m_state.mode == Mode::Remote ? 0x40 : 0) | (m_state.reporting ? 0x20 : 0) |
                            (m_state.scaling_2_1 ? 0x10 : 0) | (buttons & kLeft ? 4 : 0) | (buttons & kMiddle ? 2 : 0) |
                            (buttons & kRight ? 1 : 0)));
      queue(m_state.resolution);
      queue(m_state.sample_rate);
      return;
    }
    case spec::kStream: m_state.mode = Mode::Stream; break;
    case spec::kRemote: m_state.mode = Mode::Remote; break;
    case spec::kReadData:
      queue(kAcknowledge);
      return send_packet();
    case spec::kWrap: m_state.wrap = true; break;
    case spec::kLeaveWrap: break;
    case spec::kIdentify:
      queue(kAcknowledge);
      return queue(m_state.identity);
    case spec::kEnable: m_state.reporting = true; break;
    case spec::kDisable: m_state.reporting = false; break;
    case spec::kDefaults: set_defaults(); break;
    case spec::kResend: return m_state.last_length ? report(m_state.last_length) : queue(last_sent());
    case spec::kReset:
      set_defaults();
      m_state.identity = 0;
      m_state.last_rates = {};
      m_state.last_length = 0;
      m_self_test_timer.arm(m_clock.now() + spec::kSelfTestTime);
      break;
    default: return queue(kResend);
  }
  queue(kAcknowledge);
}

void Ps2Mouse::receive(u8 byte) {
  clear_queue();  // a command stops what is being sent
  if (m_state.wrap) {
    if (byte != spec::kReset && byte != spec::kLeaveWrap) return queue(byte);
    m_state.wrap = false;
  }
  if (m_state.pending_command) return argument(byte);
  command(byte);
}

}  // namespace vellum
