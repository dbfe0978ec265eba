// Yamaha YMF262 (OPL3): FM synthesis with 18 voices, as it sits on sound cards.
#pragma once

#include <array>

#include "devices/audio.h"
#include "devices/opl3_operator.h"
#include "state/archive.h"

namespace vellum {

// Sources: YMF262 Application Manual (Yamaha catalog LSI-6MF262); for what it leaves open (the shapes of the logarithmic
// tables, the envelope's steps, the noise), measurements published about the chip: M. Gambrell and O. Niemitalo,
// "OPLx decapsulated", 2008.
class Opl3 {
 public:
  static constexpr u64 kMasterClock = 14318180, kDivider = 288;  // Hz; master clocks to a sample

  Opl3(VirtualClock& clock, AudioMixer* mixer);

  void reset();
  void visit(Archive& archive);
  // Ports 0 and 2 are the address registers of the two banks (0 reads the status), 1 and 3 the data.
  u8 read(unsigned port) const;
  void write(unsigned port, u8 value);
  void set_volume(float left, float right) { m_stream.set_volume(left, right); }

 private:
  static constexpr unsigned kChannels = 18, kOperators = 36;
  static constexpr unsigned kBank = 0x100;
  enum class Role : u8 { TwoOperators, FourOperators, SecondHalf, Rhythm };

  u8 status() const;
  void write_register(unsigned index, u8 value);
  void write_timer_control(u8 value);
  void apply(unsigned index);          // what follows from the register's value, in the generator
  void apply_operator(unsigned index);
  void apply_channel(unsigned channel);
  void apply_keys();
  void catch_up();
  AudioFrame next_frame();
  i32 channel_output(unsigned channel);
  i32 rhythm_output();
  Role role(unsigned channel) const;
  bool rhythm() const { return m_state.registers[0xbd] & 0x20; }
  bool opl3_mode() const { return m_state.registers[kBank + 0x05] & 1; }
  // Operators of a channel: its own two, and as `half` 1 those of the channel that it takes for four.
  OplOperator& op(unsigned channel, unsigned which) { return m_operators[operator_of(channel, which)]; }
  static unsigned operator_of(unsigned channel, unsigned which) {
    const unsigned within = channel % 9;
    return channel / 9 * 18 + within / 3 * 6 + within % 3 + 3 * which;
  }

  // Wiring.
  VirtualClock& m_clock;
  AudioStream m_stream;
  // Derived from the registers; where a note stands in its course is not saved.
  std::array<OplOperator, kOperators> m_operators;
  OplLow m_low;                        // tremolo, vibrato, the envelope's clock, noise
  Ticks m_origin = 0;
  u64 m_frames = 0;                    // made since m_origin
  // Guest-visible state.
  struct State {
    std::array<u8, 2 * kBank> registers{};
    u16 address = 0;                   // bit 8: the second bank
    std::array<Ticks, 2> timer_start{};
    std::array<bool, 2> timer_running{};
    std::array<Ticks, 2> cleared{};    // overflows before this time were acknowledged
  } m_state;
};

}  // namespace vellum
