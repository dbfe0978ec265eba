// The OPL3: registers, timers, voices and rhythm.
#include "devices/opl3.h"

#include <algorithm>

namespace vellum {

namespace {

namespace spec {
// YMF262 Application Manual, "Register map".
constexpr unsigned kTimer1 = 0x02, kTimerControl = 0x04, kMode = 0x105, kFourOperators = 0x104, kNoteSelect = 0x08, kRhythm = 0xbd;
constexpr u8 kTimerReset = 0x80, kTimerMask1 = 0x40;
constexpr u8 kStatusInterrupt = 0x80, kStatusTimer1 = 0x40;
constexpr Ticks kTimer1Unit = 80'000, kTimer2Unit = 320'000;
}  // namespace spec

// Operator registers have holes: two rows of six in each group of 32.
int operator_at(unsigned offset) {
  if (offset > 0x15 || offset % 8 > 5) return -1;
  return static_cast<int>(offset / 8 * 6 + offset % 8);
}

}  // namespace

Opl3::Opl3(VirtualClock& clock, AudioMixer* mixer) : m_clock(clock), m_stream(mixer, [this] { catch_up(); }) {
  m_stream.set_rate(static_cast<double>(kMasterClock) / kDivider);
}

void Opl3::reset() {
  catch_up();
  m_state = {};
  m_operators = {};
  m_low = {};
}

void Opl3::visit(Archive& archive) {
  auto& [registers, address, timer_start, timer_running, cleared] = m_state;
  archive("registers", registers)("address", address)("timer_start", timer_start)("timer_running", timer_running);
  archive("cleared", cleared);
  archive.require(address < registers.size(), "OPL3 address");
  if (!archive.loading() || archive.failed()) return;
  m_operators = {};
  m_low = {};
  for (unsigned index = 0; index < registers.size(); ++index) apply(index);
  apply_keys();
}

u8 Opl3::status() const {
  u8 value = 0;
  for (unsigned timer = 0; timer < 2; ++timer) {
    if (!m_state.timer_running[timer] || (m_state.registers[spec::kTimerControl] & (spec::kTimerMask1 >> timer))) continue;
    const Ticks unit = timer == 0 ? spec::kTimer1Unit : spec::kTimer2Unit;
    const Ticks period = (256 - m_state.registers[spec::kTimer1 + timer]) * unit;
    const Ticks start = m_state.timer_start[timer], now = m_clock.now();
    if (now < start) continue;
    // The last overflow so far: has it been acknowledged?
    const Ticks overflow = start + (now - start) / period * period;
    if (overflow > start && overflow > m_state.cleared[timer]) value |= static_cast<u8>(spec::kStatusTimer1 >> timer);
  }
  return value ? value | spec::kStatusInterrupt : 0;
}

u8 Opl3::read(unsigned port) const { return port == 0 ? status() : 0xff; }

void Opl3::write(unsigned port, u8 value) {
  if (port == 0 || port == 2) {
    m_state.address = value;
    // Without NEW only the mode register of the second bank can be reached.
    if (port == 2 && (opl3_mode() || value == (spec::kMode & 0xff))) m_state.address |= kBank;
    return;
  }
  write_register(m_state.address, value);
}

void Opl3::write_timer_control(u8 value) {
  const Ticks now = m_clock.now();
  if (value & spec::kTimerReset) {  // clears the flags; the other bits do not count
    m_state.cleared = {now, now};
    return;
  }
  m_state.registers[spec::kTimerControl] = value;
  for (unsigned timer = 0; timer < 2; ++timer) {
    const bool run = value >> timer & 1;
    if (run && !m_state.timer_running[timer]) {
      m_state.timer_start[timer] = now;
      m_state.cleared[timer] = std::min(m_state.cleared[timer], now);
    }
    m_state.timer_running[timer] = run;
  }
}

void Opl3::write_register(unsigned index, u8 value) {
  if (index == spec::kTimerControl) return write_timer_control(value);
  catch_up();
  m_state.registers[index] = value;
  apply(index);
}

void Opl3::apply(unsigned index) {
  const unsigned low = index & 0xff;
  if ((low >= 0x20 && low < 0xa0) || low >= 0xe0) return apply_operator(index);
  if ((low >= 0xa0 && low <= 0xa8) || (low >= 0xb0 && low <= 0xb8)) {
    apply_channel(index / kBank * 9 + (low & 0xf));
    return apply_keys();
  }
  if (index == spec::kRhythm || index == spec::kFourOperators || index == spec::kMode || index == spec::kNoteSelect) {
    m_low.deep_vibrato = m_state.registers[spec::kRhythm] & 0x40;
    for (unsigned channel = 0; channel < kChannels; ++channel) apply_channel(channel);
    apply_keys();
  }
}

void Opl3::apply_operator(unsigned index) {
  const int within = operator_at(index & 0x1f);
  if (within < 0) return;
  const unsigned number = index / kBank * 18 + static_cast<unsigned>(within);
  const u8 value = m_state.registers[index];
  auto& settings = m_operators[number].settings;
  switch (index & 0xe0) {
    case 0x20:
      settings.tremolo = value & 0x80;
      settings.vibrato = value & 0x40;
      settings.sustained = value & 0x20;
      settings.scale_rate = value & 0x10;
      settings.multiple = value & 0xf;
      break;
    case 0x40:
      settings.key_scale_level = value >> 6;
      settings.level = value & 0x3f;
      break;
    case 0x60:
      settings.attack = value >> 4;
      settings.decay = value & 0xf;
      break;
    case 0x80:
      settings.sustain = value >> 4;
      settings.release = value & 0xf;
      break;
    default: settings.waveform = value & (opl3_mode() ? 7 : 3);
  }
  // The rate's offset depends on the pitch.
  apply_channel(number / 18 * 9 + number % 18 / 6 * 3 + number % 3);
}

Opl3::Role Opl3::role(unsigned channel) const {
  if (rhythm() && channel >= 6 && channel <= 8) return Role::Rhythm;
  const unsigned within = channel % 9;
  if (!opl3_mode() || within >= 6) return Role::TwoOperators;
  const bool joined = m_state.registers[spec::kFourOperators] >> (channel / 9 * 3 + within % 3) & 1;
  if (!joined) return Role::TwoOperators;
  return within < 3 ? Role::FourOperators : Role::SecondHalf;
}

void Opl3::apply_channel(unsigned channel) {
  // The second half of four operators has the pitch of the first.
  const unsigned source = role(channel) == Role::SecondHalf ? channel - 3 : channel;
  const unsigned base = source / 9 * kBank + source % 9;
  const u8 high = m_state.registers[base + 0xb0];
  const u16 number = static_cast<u16>(m_state.registers[base + 0xa0] | (high & 3) << 8);
  for (unsigned which = 0; which < 2; ++which)
    op(channel, which).set_pitch(number, high >> 2 & 7, m_state.registers[spec::kNoteSelect] & 0x40);
  if (role(channel) == Role::FourOperators) apply_channel(channel + 3);
}

void Opl3::apply_keys() {
  const u8 drums = rhythm() ? m_state.registers[spec::kRhythm] : 0;
  for (unsigned channel = 0; channel < kChannels; ++channel) {
    const unsigned source = role(channel) == Role::SecondHalf ? channel - 3 : channel;
    bool first = m_state.registers[source / 9 * kBank + 0xb0 + source % 9] & 0x20, second = first;
    if (channel == 6) first |= drums & 0x10, second |= drums & 0x10;  // bass drum
    if (channel == 7) first |= drums & 0x01, second |= drums & 0x08;  // hi-hat, snare drum
    if (channel == 8) first |= drums & 0x04, second |= drums & 0x02;  // tom-tom, top cymbal
    op(channel, 0).key(first);
    op(channel, 1).key(second);
  }
}

void Opl3::catch_up() {
  if (!m_stream.heard()) return;
  const Ticks now = m_clock.now();
  const auto frames_until = [this](Ticks time) { return multiply_divide(time - m_origin, kMasterClock, u64{kDivider} * kTicksPerSecond); };
  // Time has jumped: a state was loaded, or a guest slept that nobody listened to.
  if (now < m_origin || frames_until(now) > m_frames + kMasterClock / kDivider) {
    m_origin = now;
    m_frames = 0;
  }
  for (const u64 wanted = frames_until(now); m_frames < wanted; ++m_frames) m_stream.push(next_frame());
}

AudioFrame Opl3::next_frame() {
  constexpr float kScale = 1.0f / 32768;
  i32 left = 0, right = 0;
  m_low.deep_vibrato = m_state.registers[spec::kRhythm] & 0x40;
  for (unsigned channel = 0; channel < kChannels; ++channel) {
    const Role part = role(channel);
    if (part == Role::SecondHalf || part == Role::Rhythm) continue;
    const i32 value = channel_output(channel);
    // Four operators are heard where the second half's register says.
    const unsigned place = part == Role::FourOperators ? channel + 3 : channel;
    const u8 outputs = opl3_mode() ? m_state.registers[place / 9 * kBank + 0xc0 + place % 9] : 0x30;
    if (outputs & 0x10) left += value;
    if (outputs & 0x20) right += value;
  }
  if (rhythm()) {
    const i32 value = rhythm_output();
    left += value;
    right += value;
  }
  m_low.advance(m_state.registers[spec::kRhythm] & 0x80);
  return {static_cast<float>(std::clamp(left, -32768, 32767)) * kScale, static_cast<float>(std::clamp(right, -32768, 32767)) * kScale};
}

i32 Opl3::channel_output(unsigned channel) {
  const auto settings_of = [&](unsigned number) { return m_state.registers[number / 9 * kBank + 0xc0 + number % 9]; };
  const u8 setting = settings_of(channel);
  OplOperator &first = op(channel, 0), &second = op(channel, 1);
  const bool four = role(channel) == Role::FourOperators;
  if (first.silent() && second.silent() && !four) return 0;
  const u8 feedback = setting >> 1 & 7;
  // Registers C0h-C8h: no feedback, then a sixteenth of pi up to four times pi.
  const i32 out1 = first.sample(m_low, feedback ? first.feedback_sum() >> (9 - feedback) : 0);
  const bool parallel = setting & 1;
  if (!four) {
    const i32 out2 = second.sample(m_low, parallel ? 0 : out1);
    return parallel ? out1 + out2 : out2;
  }
  // The manual's four algorithms, by the connection bits of both halves.
  const bool parallel2 = settings_of(channel + 3) & 1;
  OplOperator &third = op(channel + 3, 0), &fourth = op(channel + 3, 1);
  if (!parallel && !parallel2) {
    const i32 out2 = second.sample(m_low, out1), out3 = third.sample(m_low, out2);
    return fourth.sample(m_low, out3);
  }
  if (!parallel) {
    const i32 out2 = second.sample(m_low, out1), out3 = third.sample(m_low, 0);
    return out2 + fourth.sample(m_low, out3);
  }
  const i32 out2 = second.sample(m_low, 0), out3 = third.sample(m_low, out2);
  if (!parallel2) return out1 + fourth.sample(m_low, out3);
  return out1 + out3 + fourth.sample(m_low, 0);
}

i32 Opl3::rhythm_output() {
  OplOperator &bass1 = op(6, 0), &bass2 = op(6, 1), &hi_hat = op(7, 0), &snare = op(7, 1), &tom = op(8, 0), &cymbal = op(8, 1);
  const u8 setting = m_state.registers[0xc6];
  const u8 feedback = setting >> 1 & 7;
  const i32 modulator = bass1.sample(m_low, feedback ? bass1.feedback_sum() >> (9 - feedback) : 0);
  i32 sum = bass2.sample(m_low, setting & 1 ? 0 : modulator);
  // Hi-hat, snare and cymbal take their phases from bits of two operators and from noise.
  const u32 h = hi_hat.phase(), c = cymbal.phase(), noise = m_low.noise & 1;
  const u32 ring = ((h >> 2 ^ h >> 7) | (h >> 3 ^ c >> 5) | (c >> 3 ^ c >> 5)) & 1;
  sum += hi_hat.sample_at(m_low, ring << 9 | (ring ^ noise ? 0xd0 : 0x34));
  sum += snare.sample_at(m_low, (h >> 8 & 1) << 9 | ((h >> 8 ^ noise) & 1) << 8);
  sum += tom.sample(m_low, 0);
  sum += cymbal.sample_at(m_low, ring << 9 | 0x80);
  return 2 * sum;  // rhythm sounds are twice as loud as voices
}

}  // namespace vellum
