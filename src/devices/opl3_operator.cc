// The arithmetic of an OPL operator: logarithms of sines, added attenuations, and powers of two back.
#include "devices/opl3_operator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace vellum {

namespace {

// A quarter of a sine, as -log2 in units of 1/256; and 2^x in 10 bits behind the point ("OPLx decapsulated").
struct Tables {
  std::array<u16, 256> log_sine;
  std::array<u16, 256> power;
  Tables() {
    for (unsigned i = 0; i < 256; ++i) {
      log_sine[i] = static_cast<u16>(std::lround(-std::log2(std::sin((i + 0.5) * std::numbers::pi / 512)) * 256));
      power[i] = static_cast<u16>(std::lround((std::exp2(i / 256.0) - 1) * 1024));
    }
  }
};
const Tables kTables;

constexpr u32 kSilence = 0x1000;        // an attenuation beyond all that is heard
constexpr u32 kGreatestAttenuation = 0x1ff;

// MULT in halves, YMF262 manual, registers 20h-35h.
constexpr u8 kMultiples[16] = {1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 20, 24, 24, 30, 30};
// Key scale level at the highest octave, by the top four bits of the frequency number, in 3/4 dB (the manual's table).
constexpr u8 kKeyScale[16] = {0, 32, 40, 45, 48, 51, 53, 55, 56, 58, 59, 60, 61, 62, 63, 64};
// How the register's values 0 to 3 scale it: not, 3, 1.5 and 6 dB an octave.
constexpr u8 kKeyScaleShift[4] = {8, 1, 2, 0};

// In which of eight steps the envelope moves, by the lower two bits of the rate, and for fast rates by how much.
constexpr u8 kSlowSteps[4][8] = {{0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 1, 1, 0, 1}, {0, 1, 1, 1, 0, 1, 1, 1}, {0, 1, 1, 1, 1, 1, 1, 1}};
constexpr u8 kFastSteps[4][8] = {{1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 2, 1, 1, 1, 2}, {1, 2, 1, 2, 1, 2, 1, 2}, {1, 2, 2, 2, 1, 2, 2, 2}};

unsigned envelope_step(unsigned rate, u64 clock) {
  const unsigned high = rate >> 2, low = rate & 3;
  if (high == 0) return 0;
  if (high <= 12) {
    const unsigned shift = 12 - high;
    if (clock & ((u64{1} << shift) - 1)) return 0;
    return kSlowSteps[low][clock >> shift & 7];
  }
  if (high == 15) return 4;
  return unsigned{kFastSteps[low][clock & 7]} << (high - 13);
}

}  // namespace

void OplLow::advance(bool deep_tremolo) {
  ++samples;
  // 3.7 Hz: 210 steps of 64 samples up to 4.8 dB and down again; 6.1 Hz: eight steps of 1024 samples.
  const u64 step = samples / 64 % 210;
  const u64 triangle = step < 105 ? step : 210 - step;
  tremolo = static_cast<u8>(triangle >> (deep_tremolo ? 2 : 4));
  vibrato = static_cast<u8>(samples >> 10 & 7);
  const u32 bit = (noise >> 14 ^ noise) & 1;
  noise = noise >> 1 | bit << 22;
}

void OplOperator::set_pitch(u16 number, u8 block, bool note_select) {
  m_number = number;
  m_block = block;
  const u8 code = static_cast<u8>(block << 1 | (number >> (note_select ? 8 : 9) & 1));
  m_rate_offset = settings.scale_rate ? code : code >> 2;
}

void OplOperator::key(bool down) {
  if (down == m_down) return;
  m_down = down;
  if (down) {
    m_stage = Stage::Attack;
    m_phase = 0;
    // The fastest attacks take no time.
    if (rate(settings.attack) >= 60) {
      m_attenuation = 0;
      m_stage = Stage::Decay;
    }
  } else if (m_stage != Stage::Off) {
    m_stage = Stage::Release;
  }
}

unsigned OplOperator::rate(u8 value) const { return value == 0 ? 0 : std::min(4u * value + m_rate_offset, 63u); }

void OplOperator::step_envelope(u64 clock) {
  const u32 sustain = settings.sustain == 15 ? 0x1f0 : u32{settings.sustain} << 4;
  switch (m_stage) {
    case Stage::Off:
    case Stage::Sustain: break;
    case Stage::Attack: {
      // An exponential: the step is a part of what is left.
      const u32 step = envelope_step(rate(settings.attack), clock);
      m_attenuation -= std::min(m_attenuation, ((m_attenuation + 1) * step + 7) >> 3);
      if (m_attenuation == 0) m_stage = Stage::Decay;
      break;
    }
    case Stage::Decay:
      m_attenuation += envelope_step(rate(settings.decay), clock);
      if (m_attenuation >= sustain) m_stage = settings.sustained ? Stage::Sustain : Stage::Release;
      break;
    case Stage::Release:
      m_attenuation += envelope_step(rate(settings.release), clock);
      break;
  }
  if (m_attenuation >= kGreatestAttenuation) {
    m_attenuation = kGreatestAttenuation;
    if (m_stage == Stage::Release) m_stage = Stage::Off;
  }
  // A percussive note that is still held decays by its release rate; a held note follows a changed setting.
  if (m_stage == Stage::Sustain && !settings.sustained) m_stage = Stage::Release;
}

void OplOperator::step_phase(const OplLow& low) {
  i32 number = m_number;
  if (settings.vibrato) {
    // 14 cents: a 128th of the frequency number's top three bits, along 0 1/2 1 1/2 0 -1/2 -1 -1/2; half as deep unless DVB.
    i32 depth = number >> 7 & 7;
    if ((low.vibrato & 3) == 0) depth = 0;
    else if (low.vibrato & 1) depth >>= 1;
    if (!low.deep_vibrato) depth >>= 1;
    number += low.vibrato & 4 ? -depth : depth;
  }
  const u32 base = (static_cast<u32>(number) << m_block) >> 1;
  m_phase = (m_phase + (base * kMultiples[settings.multiple] >> 1)) & 0x7ffff;
}

i32 OplOperator::wave(u8 waveform, u32 phase, u32 attenuation) {
  phase &= 0x3ff;
  const bool second_half = phase & 0x200;
  bool negative = false;
  u32 level = kSilence;
  const auto sine = [](u32 at) -> u32 { return kTables.log_sine[at & 0x100 ? ~at & 0xff : at & 0xff]; };
  switch (waveform) {  // the manual's figure for registers E0h-F5h
    case 0: level = sine(phase); negative = second_half; break;
    case 1: if (!second_half) level = sine(phase); break;
    case 2: level = sine(phase); break;
    case 3: if (!(phase & 0x100)) level = sine(phase); break;
    case 4:
      if (!second_half) level = sine(phase << 1);
      negative = (phase & 0x300) == 0x100;
      break;
    case 5: if (!second_half) level = sine(phase << 1); break;
    case 6: level = 0; negative = second_half; break;
    default:
      level = (second_half ? ~phase & 0x1ff : phase) << 3;
      negative = second_half;
  }
  level += attenuation << 3;
  if (level >= 0x1fff) return 0;
  const i32 value = static_cast<i32>(((1024u + kTables.power[~level & 0xff]) << 1) >> (level >> 8));
  return negative ? -value : value;
}

i32 OplOperator::sample_at(const OplLow& low, u32 phase) {
  m_before_last = m_last;
  if (m_stage == Stage::Off) {
    m_last = 0;
  } else {
    const i32 scale = (i32{kKeyScale[m_number >> 6]} << 2) - ((8 - m_block) << 5);
    const u32 key_scale = scale > 0 ? static_cast<u32>(scale) >> kKeyScaleShift[settings.key_scale_level] : 0;
    const u32 attenuation = m_attenuation + (u32{settings.level} << 2) + key_scale + (settings.tremolo ? low.tremolo : 0u);
    m_last = wave(settings.waveform, phase, std::min(attenuation, kGreatestAttenuation));
  }
  step_phase(low);
  step_envelope(low.samples);
  return m_last;
}

i32 OplOperator::sample(const OplLow& low, i32 modulation) { return sample_at(low, phase() + static_cast<u32>(modulation)); }

}  // namespace vellum
