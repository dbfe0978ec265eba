// One operator of an OPL chip: phase, envelope, waveform.
#pragma once

#include "state/integers.h"

namespace vellum {

// What all operators share and that runs with every sample: low-frequency oscillators, the envelopes' clock, noise.
struct OplLow {
  u64 samples = 0;
  u32 noise = 1;
  u8 tremolo = 0;       // attenuation in steps of 3/16 dB
  u8 vibrato = 0;       // 0..7, the step of its wave
  bool deep_vibrato = false;
  void advance(bool deep_tremolo);
};

class OplOperator {
 public:
  // As registers 20h, 40h, 60h, 80h and E0h say.
  struct Settings {
    bool tremolo = false, vibrato = false, sustained = false, scale_rate = false;
    u8 multiple = 0, key_scale_level = 0, level = 0, attack = 0, decay = 0, sustain = 0, release = 0, waveform = 0;
  };
  Settings settings;

  void set_pitch(u16 number, u8 block, bool note_select);
  void key(bool down);
  bool silent() const { return m_stage == Stage::Off; }

  // The next sample in 13 bits with sign, the phase moved on by `modulation` (1024 to a turn).
  i32 sample(const OplLow& low, i32 modulation);
  // The same for a phase that rhythm sounds compute themselves.
  i32 sample_at(const OplLow& low, u32 phase);
  u32 phase() const { return m_phase >> 9; }  // 10 bits
  // The last two outputs, for feedback.
  i32 feedback_sum() const { return m_last + m_before_last; }

 private:
  enum class Stage : u8 { Off, Attack, Decay, Sustain, Release };
  void step_phase(const OplLow& low);
  void step_envelope(u64 clock);
  unsigned rate(u8 value) const;
  static i32 wave(u8 waveform, u32 phase, u32 attenuation);

  Stage m_stage = Stage::Off;
  bool m_down = false;
  u32 m_phase = 0;            // 19 bits
  u32 m_attenuation = 0x1ff;  // of the envelope, in 3/16 dB
  u16 m_number = 0;
  u8 m_block = 0, m_rate_offset = 0;
  i32 m_last = 0, m_before_last = 0;
};

}  // namespace vellum
