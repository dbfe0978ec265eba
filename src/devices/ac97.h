// AC'97 audio of the Intel 82801AA (ICH): bus master controller and a codec.
#pragma once

#include <array>

#include "devices/audio.h"
#include "devices/pci.h"

namespace vellum {

// Sources: Intel 82801AA/AB datasheet (290655), chapter 13; Audio Codec '97 component specification, revision 2.1.
class Ac97 final : public PciDevice {
 public:
  Ac97(VirtualClock& clock, AudioMixer* mixer);

  std::string_view name() const override { return "ac97"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

 private:
  static constexpr unsigned kChannels = 3;  // PCM in, PCM out, microphone
  static constexpr unsigned kPcmOut = 1;

  // The codec's registers, BAR 0, and the bus master's, BAR 1.
  struct MixerPorts final : PortHandler {
    Ac97& card;
    explicit MixerPorts(Ac97& owner) : card(owner) {}
    u32 read_port(u16 port, unsigned size) override;
    void write_port(u16 port, unsigned size, u32 value) override;
    unsigned max_port_size() const override { return 4; }
  };
  struct MasterPorts final : PortHandler {
    Ac97& card;
    explicit MasterPorts(Ac97& owner) : card(owner) {}
    u32 read_port(u16 port, unsigned size) override { return card.read_master(port & 0x3f, size); }
    void write_port(u16 port, unsigned size, u32 value) override { card.write_master(port & 0x3f, size, value); }
    unsigned max_port_size() const override { return 4; }
  };
  struct Channel {
    u32 descriptors = 0;                 // BDBAR
    u8 current = 0, last_valid = 0, prefetched = 0;
    u16 status = 1;                      // SR; bit 0: halted
    u8 control = 0;
    u32 address = 0;                     // of what is left of the buffer at hand
    u16 left = 0;                        // PICB: samples
    u16 flags = 0;                       // of its descriptor
    SampleClock pace;
    void visit(Archive& archive);
  };

  void reset_codec();
  void write_codec(unsigned index, u16 value);
  u32 read_master(unsigned offset, unsigned size);
  void write_master(unsigned offset, unsigned size, u32 value);
  void write_control(unsigned index, u8 value);
  void reset_channel(unsigned index);
  void load_buffer(Channel& channel);
  void run(unsigned index);
  void buffer_done(Channel& channel);
  void resume(unsigned index);
  u32 rate_of(unsigned index) const;
  bool running(const Channel& channel) const;
  void arm(unsigned index);
  void update_interrupt();
  void update_volume();
  u32 global_status() const;

  // Wiring.
  VirtualClock& m_clock;
  AudioStream m_stream;
  MixerPorts m_mixer_ports{*this};
  MasterPorts m_master_ports{*this};
  std::array<Timer, kChannels> m_timers;
  // Guest-visible state, beside the configuration space.
  struct State {
    std::array<u16, 64> codec{};
    std::array<Channel, kChannels> channels;
    u32 global_control = 0;
    u8 access_semaphore = 0;
  } m_state;
};

}  // namespace vellum
