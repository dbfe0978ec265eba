// A Sound Blaster 16: DSP 4.05, mixer CT1745, OPL3, and an MPU-401 in UART mode without anything behind it.
#pragma once

#include <array>
#include <deque>
#include <functional>

#include "devices/audio.h"
#include "devices/device.h"
#include "devices/dma8237.h"
#include "devices/opl3.h"
#include "devices/port_bus.h"
#include "devices/sb16_mixer.h"

namespace vellum {

// Source: Creative Labs, "Sound Blaster Series Hardware Programming Guide", 2nd edition.
class Sb16 final : public Device, public PortHandler {
 public:
  static constexpr u16 kBase = 0x220, kMpuBase = 0x330, kSynthesizerBase = 0x388;

  // Maps its ports. `set_irq` drives an ISA interrupt line of this number.
  Sb16(PortBus& ports, VirtualClock& clock, Dma8237Pair& dma, std::function<void(unsigned irq, bool level)> set_irq, AudioMixer* mixer);
  ~Sb16() override;

  std::string_view name() const override { return "sb16"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  enum Interrupt : u8 { kDma8 = 1, kDma16 = 2, kMpu = 4 };  // as register 82h of the mixer shows them
  // What the DSP moves by DMA, or waits for in silence.
  enum class Run : u8 { None, Play, Record, Silence, Count };
  enum class Coding : u8 { Linear, Adpcm2, Adpcm26, Adpcm4, Count };
  static constexpr usize kAnswers = 64;

  void reset_dsp();
  u8 read_data();
  void write_command(u8 value);
  void execute();
  void answer(std::initializer_list<u8> bytes);
  void answer_text(std::string_view text);
  static unsigned arguments_of(u8 command);
  u32 argument16(unsigned at) const { return m_state.arguments[at] | m_state.arguments[at + 1] << 8; }

  // DMA.
  void start_dma(Run run, bool sixteen, bool automatic, u32 samples);
  void start_adpcm(Coding coding, bool reference, bool automatic, u32 bytes);
  void start_old(Run run, bool automatic, u32 bytes);
  void dma_due();
  void arm();
  void play_direct(u8 sample);
  void play_unit(std::span<const u8> unit);
  void play_adpcm(u8 byte);
  void play_nibble(unsigned bits, unsigned value);
  void pause(bool sixteen, bool paused);
  void end_block();
  usize unit_size() const;             // bytes that are due together
  u32 unit_rate() const;               // how often

  void raise(u8 interrupt);
  void lower(u8 interrupt);
  void update_interrupt();
  void update_volumes();
  u8 read_mpu(unsigned offset);
  void write_mpu(unsigned offset, u8 value);

  // Wiring.
  PortBus& m_ports;
  VirtualClock& m_clock;
  Dma8237Pair& m_dma;
  std::function<void(unsigned, bool)> m_set_irq;
  std::array<PortBus::Id, 3> m_mappings{};
  AudioStream m_stream;
  Opl3 m_opl;
  Timer m_timer;
  // Derived.
  Ticks m_direct_time = 0;             // when the last sample of command 10h came, and which it was
  float m_direct_level = 0;
  unsigned m_driven_irq = 0;           // the line that is held high; 0: none
  // Guest-visible state.
  Sb16Mixer m_mixer;
  struct State {
    bool in_reset = false;             // port 2x6h has a one in it
    std::deque<u8> answers;
    u8 last_answer = 0;
    u8 command = 0;                    // whose arguments come; 0: none
    u8 argument_count = 0;
    std::array<u8, 3> arguments{};
    u32 rate = 11025;                  // frames a second, as set last
    bool speaker = false;
    u8 test = 0, csp_register = 0;
    std::array<u8, 256> csp{};
    u32 block = 0;                     // 48h: bytes of a block, less one
    u8 interrupts = 0;
    // The transfer at hand.
    Run run = Run::None;
    Coding coding = Coding::Linear;
    bool sixteen = false, stereo = false, signed_samples = false, automatic = false, paused = false, last_block = false;
    bool reference = false;            // ADPCM: the next byte is the first sample itself
    u32 length = 0, left = 0;          // of a block and of the one at hand, in bytes
    SampleClock pace;
    u8 adpcm_sample = 0x80, adpcm_scale = 0;
    // MPU-401
    std::deque<u8> mpu_answers;
    bool mpu_uart = false;
  } m_state;
};

}  // namespace vellum
