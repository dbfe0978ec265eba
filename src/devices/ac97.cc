// AC'97: codec registers, buffer descriptors, and samples by virtual time.
#include "devices/ac97.h"

#include <algorithm>
#include <cmath>

#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// 82801AA datasheet, 13.2: bus master registers of a channel, and the global ones.
constexpr unsigned kDescriptors = 0x0, kCurrent = 0x4, kLastValid = 0x5, kStatus = 0x6, kPosition = 0x8, kPrefetched = 0xa, kControl = 0xb;
constexpr unsigned kGlobalControl = 0x2c, kGlobalStatus = 0x30, kSemaphore = 0x34;
constexpr u16 kHalted = 0x01, kAtLast = 0x02, kLastDone = 0x04, kBufferDone = 0x08, kFifoError = 0x10, kStatusCleared = 0x1c;
constexpr u8 kRun = 0x01, kReset = 0x02, kEnableLast = 0x04, kEnableFifo = 0x08, kEnableBuffer = 0x10;
constexpr u16 kInterruptOnDone = 0x8000, kUnderrunZero = 0x4000;
constexpr u32 kNotColdReset = 0x02, kWarmReset = 0x04, kGlobalControlMask = 0x3f, kPrimaryReady = 0x100;
constexpr u32 kInterruptBits[] = {0x20, 0x40, 0x80};  // PCM in, PCM out, microphone
// AC'97 2.1, 5.7: codec registers, by their word number.
constexpr unsigned kResetRegister = 0x00 / 2, kMaster = 0x02 / 2, kPcmOutVolume = 0x18 / 2, kPowerdown = 0x26 / 2, kExtendedId = 0x28 / 2,
                   kExtendedControl = 0x2a / 2, kFrontRate = 0x2c / 2, kAdcRate = 0x32 / 2, kMicrophoneRate = 0x34 / 2, kVendor1 = 0x7c / 2, kVendor2 = 0x7e / 2;
constexpr u16 kMute = 0x8000, kVariableRate = 0x0001, kVariableMicrophone = 0x0008, kAllReady = 0x000f;
}  // namespace spec

constexpr u32 kLowestRate = 4000, kHighestRate = 48000;
constexpr u32 kPiecesPerSecond = 500;
constexpr u32 kLead = 4;  // milliseconds, see AudioStream::set_lead()

}  // namespace

Ac97::Ac97(VirtualClock& clock, AudioMixer* mixer)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x2415,
                 .revision = 1,
                 .class_code = 0x040100,
                 .subsystem_vendor = 0x8086,
                 .subsystem = 0,
                 .interrupt_pin = 1}),
      m_clock(clock),
      m_stream(mixer),
      m_timers{Timer(clock, [this] { run(0), arm(0); }), Timer(clock, [this] { run(1), arm(1); }), Timer(clock, [this] { run(2), arm(2); })} {
  declare_io_bar(0, 256, m_mixer_ports, "ac97 codec");
  declare_io_bar(1, 64, m_master_ports, "ac97 bus master");
}

void Ac97::reset_codec() {
  auto& codec = m_state.codec;
  codec = {};
  // 5.7.2: all inputs and outputs muted, at 0 dB or +0 of their ranges.
  codec[spec::kMaster] = codec[0x04 / 2] = codec[0x06 / 2] = spec::kMute;
  codec[0x0c / 2] = codec[0x0e / 2] = 0x8008;
  for (unsigned at = 0x10; at <= 0x18; at += 2) codec[at / 2] = 0x8808;
  codec[0x1c / 2] = spec::kMute;
  codec[spec::kPowerdown] = spec::kAllReady;
  codec[spec::kExtendedId] = spec::kVariableRate | spec::kVariableMicrophone;
  codec[spec::kFrontRate] = codec[spec::kAdcRate] = codec[spec::kMicrophoneRate] = 48000;
  codec[spec::kVendor1] = 0x8384;  // SigmaTel STAC9700, a plain two-channel codec
  codec[spec::kVendor2] = 0x7600;
  update_volume();
}

void Ac97::reset_channel(unsigned index) {
  m_timers[index].cancel();
  m_state.channels[index] = {};
}

void Ac97::reset(ResetKind) {
  reset_config();
  m_state = {};
  for (unsigned i = 0; i < kChannels; ++i) reset_channel(i);
  reset_codec();
  m_stream.clear();
  update_interrupt();
}

void Ac97::Channel::visit(Archive& archive) {
  auto& [descriptors_, current_, last_valid_, prefetched_, status_, control_, address_, left_, flags_, pace_] = *this;
  archive("descriptors", descriptors_)("current", current_)("last_valid", last_valid_)("prefetched", prefetched_);
  archive("status", status_)("control", control_)("address", address_)("left", left_)("flags", flags_)("pace", pace_);
  archive.require(current_ < 32 && last_valid_ < 32 && prefetched_ < 32, "AC97 descriptor");
}

void Ac97::visit(Archive& archive) {
  auto& [codec, channels, global_control, access_semaphore] = m_state;
  visit_config(archive);
  archive("codec", codec)("channels", channels)("global_control", global_control)("access_semaphore", access_semaphore);
  archive("timers", m_timers);
  for (const unsigned at : {spec::kFrontRate, spec::kAdcRate, spec::kMicrophoneRate})
    archive.require(codec[at] >= kLowestRate && codec[at] <= kHighestRate, "AC97 rate");
  if (archive.loading() && !archive.failed()) {
    m_stream.clear();
    m_stream.set_rate(rate_of(kPcmOut));
    update_volume();
    update_interrupt();
  }
}

// ---- The codec

u32 Ac97::MixerPorts::read_port(u16 port, unsigned size) {
  card.m_state.access_semaphore = 0;  // 13.2.9: an access to the codec ends with it
  const unsigned offset = port & 0x7f;
  const auto word = [this](unsigned at) -> u32 { return card.m_state.codec[at / 2 & 63]; };
  if (size == 4) return word(offset) | word(offset + 2) << 16;
  return size == 2 ? word(offset) : word(offset) >> (8 * (offset & 1)) & 0xff;
}

void Ac97::MixerPorts::write_port(u16 port, unsigned size, u32 value) {
  card.m_state.access_semaphore = 0;
  if (size == 1) return;  // 13.1.1: registers of the codec are written as words
  const unsigned offset = port & 0x7e;
  card.write_codec(offset / 2, static_cast<u16>(value));
  if (size == 4) card.write_codec((offset / 2 + 1) & 63, static_cast<u16>(value >> 16));
}

void Ac97::write_codec(unsigned index, u16 value) {
  auto& codec = m_state.codec;
  switch (index) {
    case spec::kResetRegister: return reset_codec();
    case spec::kMaster:
    case 0x04 / 2: codec[index] = value & 0x9f1f; break;  // five bits a side, none for +: this codec has no sixth
    case 0x06 / 2: codec[index] = value & 0x801f; break;
    case 0x0a / 2: codec[index] = value & 0x801e; break;
    case 0x0c / 2: codec[index] = value & 0x801f; break;
    case 0x0e / 2: codec[index] = value & 0x805f; break;
    case 0x10 / 2:
    case 0x12 / 2:
    case 0x14 / 2:
    case 0x16 / 2:
    case spec::kPcmOutVolume: codec[index] = value & 0x9f1f; break;
    case 0x1a / 2: codec[index] = value & 0x0707; break;
    case 0x1c / 2: codec[index] = value & 0x8f0f; break;
    case 0x20 / 2: codec[index] = value & 0xa380; break;
    case spec::kPowerdown: codec[index] = static_cast<u16>((value & 0xff00) | spec::kAllReady); break;
    case spec::kExtendedControl:
      codec[index] = value & (spec::kVariableRate | spec::kVariableMicrophone);
      // 5.7.9: without variable rate all runs at 48 kHz.
      if (!(value & spec::kVariableRate)) codec[spec::kFrontRate] = codec[spec::kAdcRate] = 48000;
      if (!(value & spec::kVariableMicrophone)) codec[spec::kMicrophoneRate] = 48000;
      break;
    case spec::kFrontRate:
    case spec::kAdcRate:
    case spec::kMicrophoneRate: {
      const u16 needed = index == spec::kMicrophoneRate ? spec::kVariableMicrophone : spec::kVariableRate;
      if (codec[spec::kExtendedControl] & needed) codec[index] = static_cast<u16>(std::clamp<u32>(value, kLowestRate, kHighestRate));
      break;
    }
    default: break;  // read-only or not there
  }
  update_volume();
}

void Ac97::update_volume() {
  // 5.7.2, 5.7.3: master 0 to -46.5 dB, PCM +12 to -34.5 dB, in steps of 1.5 dB.
  const auto side = [this](unsigned shift) {
    const u16 master = m_state.codec[spec::kMaster], pcm = m_state.codec[spec::kPcmOutVolume];
    if ((master | pcm) & spec::kMute) return 0.0f;
    const int steps = 8 - (pcm >> shift & 0x1f) - (master >> shift & 0x1f);
    return static_cast<float>(std::pow(10.0, steps * 1.5 / 20));
  };
  m_stream.set_volume(side(8), side(0));
}

// ---- The bus master

u32 Ac97::rate_of(unsigned index) const {
  constexpr unsigned kRates[] = {spec::kAdcRate, spec::kFrontRate, spec::kMicrophoneRate};
  return m_state.codec[kRates[index]];
}

bool Ac97::running(const Channel& channel) const { return (channel.control & spec::kRun) && !(channel.status & spec::kHalted); }

u32 Ac97::global_status() const {
  u32 value = m_state.global_control & spec::kNotColdReset ? spec::kPrimaryReady : 0;
  for (unsigned i = 0; i < kChannels; ++i) {
    const Channel& channel = m_state.channels[i];
    if (((channel.status & spec::kLastDone) && (channel.control & spec::kEnableLast)) ||
        ((channel.status & spec::kBufferDone) && (channel.control & spec::kEnableBuffer)) ||
        ((channel.status & spec::kFifoError) && (channel.control & spec::kEnableFifo)))
      value |= spec::kInterruptBits[i];
  }
  return value;
}

void Ac97::update_interrupt() { set_interrupt(global_status() & 0xe0); }

u32 Ac97::read_master(unsigned offset, unsigned size) {
  const auto byte = [this](unsigned at) -> u32 {
    const auto part = [at](u32 value, unsigned base) { return value >> (8 * (at - base)) & 0xff; };
    if (at >= spec::kGlobalControl && at < spec::kGlobalControl + 4) return part(m_state.global_control, spec::kGlobalControl);
    if (at >= spec::kGlobalStatus && at < spec::kGlobalStatus + 4) return part(global_status(), spec::kGlobalStatus);
    if (at == spec::kSemaphore) return std::exchange(m_state.access_semaphore, u8{1});
    if (at >= 0x10 * kChannels) return 0;
    const Channel& channel = m_state.channels[at >> 4];
    switch (const unsigned within = at & 0xf) {
      case 0:
      case 1:
      case 2:
      case 3: return part(channel.descriptors, at & 0x30);
      case spec::kCurrent: return channel.current;
      case spec::kLastValid: return channel.last_valid;
      case spec::kStatus:
      case spec::kStatus + 1: return channel.status >> (8 * (within - spec::kStatus)) & 0xff;
      case spec::kPosition:
      case spec::kPosition + 1: return channel.left >> (8 * (within - spec::kPosition)) & 0xff;
      case spec::kPrefetched: return channel.prefetched;
      case spec::kControl: return channel.control;
      default: return 0;
    }
  };
  // Positions are those of now, not of the last piece.
  if (offset < 0x10 * kChannels) {
    run(offset >> 4);
    arm(offset >> 4);
  }
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= byte((offset + i) & 0x3f) << (8 * i);
  return value;
}

void Ac97::write_master(unsigned offset, unsigned size, u32 value) {
  if (offset == spec::kGlobalControl && size == 4) {
    // Leaving the cold reset, and a warm one, start the link anew; both end by themselves at once.
    if (!(m_state.global_control & spec::kNotColdReset) && (value & spec::kNotColdReset)) reset_codec();
    m_state.global_control = value & spec::kGlobalControlMask & ~spec::kWarmReset;
    return update_interrupt();
  }
  if (offset == spec::kSemaphore) {
    m_state.access_semaphore = value & 1;
    return;
  }
  if (offset >= 0x10 * kChannels) return;
  const unsigned index = offset >> 4;
  Channel& channel = m_state.channels[index];
  run(index);
  // Wider writes are made of the registers in them.
  for (unsigned done = 0; done < size;) {
    const unsigned at = (offset & 0xf) + done;
    const u32 rest = value >> (8 * done);
    if (at == spec::kDescriptors && size - done >= 4) {
      channel.descriptors = rest & ~7u;
      done += 4;
    } else if (at == spec::kStatus) {
      channel.status &= static_cast<u16>(~(rest & spec::kStatusCleared));
      done += 2;
    } else {
      if (at == spec::kLastValid) {
        channel.last_valid = rest & 0x1f;
        resume(index);
      } else if (at == spec::kControl) {
        write_control(index, static_cast<u8>(rest));
      }
      ++done;
    }
  }
  arm(index);
  update_interrupt();
}

void Ac97::write_control(unsigned index, u8 value) {
  Channel& channel = m_state.channels[index];
  if (value & spec::kReset) {
    // 13.2.7: only while it does not run; registers but the interrupt enables return to their defaults.
    if (channel.control & spec::kRun) return;
    const u8 enables = channel.control & (spec::kEnableLast | spec::kEnableFifo | spec::kEnableBuffer);
    reset_channel(index);
    m_state.channels[index].control = enables;
    return;
  }
  const bool was_running = channel.control & spec::kRun;
  channel.control = value & 0x1d;
  if (!(value & spec::kRun)) {
    channel.status |= spec::kHalted;
  } else if (!was_running) {
    channel.status &= static_cast<u16>(~(spec::kHalted | spec::kAtLast));
    channel.pace.start(m_clock.now(), rate_of(index));
    if (index == kPcmOut) {
      m_stream.set_rate(rate_of(index));
      m_stream.set_lead(rate_of(index) * kLead / 1000);
    }
    // A channel that was only paused goes on in its buffer.
    if (channel.left == 0) load_buffer(channel);
  }
}

void Ac97::load_buffer(Channel& channel) {
  channel.current = channel.prefetched;
  channel.prefetched = (channel.current + 1) & 31;
  std::array<u8, 8> entry;
  dma_read(GuestPhysAddr(channel.descriptors + 8u * channel.current), entry);
  channel.address = (entry[0] | entry[1] << 8 | entry[2] << 16 | u32{entry[3]} << 24) & ~1u;
  channel.left = static_cast<u16>(entry[4] | entry[5] << 8);
  channel.flags = static_cast<u16>(entry[6] | entry[7] << 8);
  if (channel.current == channel.last_valid) channel.status |= spec::kAtLast;
  else channel.status &= static_cast<u16>(~spec::kAtLast);
}

void Ac97::resume(unsigned index) {
  // A channel that had come to its last buffer goes on when there is another.
  Channel& channel = m_state.channels[index];
  if (!(channel.control & spec::kRun) || !(channel.status & spec::kHalted) || channel.current == channel.last_valid) return;
  channel.status &= static_cast<u16>(~(spec::kHalted | spec::kAtLast));
  channel.pace.start(m_clock.now(), rate_of(index));
  load_buffer(channel);
}

void Ac97::buffer_done(Channel& channel) {
  if (channel.flags & spec::kInterruptOnDone) channel.status |= spec::kBufferDone;
  if (channel.current == channel.last_valid) {
    channel.status |= spec::kLastDone | spec::kAtLast | spec::kHalted;
    return;
  }
  load_buffer(channel);
}

void Ac97::arm(unsigned index) {
  const Channel& channel = m_state.channels[index];
  if (!running(channel)) return m_timers[index].cancel();
  const u64 frames = (channel.left + 1u) / 2;
  m_timers[index].arm(channel.pace.deadline(std::clamp<u64>(frames, 1, channel.pace.rate() / kPiecesPerSecond)));
}

void Ac97::run(unsigned index) {
  Channel& channel = m_state.channels[index];
  if (!running(channel)) return;
  std::array<u8, 1024> buffer;
  u64 due = channel.pace.due(m_clock.now());
  // Each buffer without samples costs a look at its descriptor: a list of nothing but those must come to an end.
  for (unsigned empty = 0; due > 0 && running(channel) && empty < 64;) {
    if (channel.left == 0) {
      buffer_done(channel);
      ++empty;
      continue;
    }
    const u64 frames = std::min<u64>({due, (channel.left + 1u) / 2, buffer.size() / 4});
    const usize samples = std::min<usize>(2 * frames, channel.left);
    const auto data = std::span(buffer).first(2 * samples);
    if (index == kPcmOut) {
      dma_read(GuestPhysAddr(channel.address), data);
      const auto sample = [&](usize at) { return static_cast<float>(static_cast<i16>(data[2 * at] | data[2 * at + 1] << 8)) / 32768; };
      for (usize i = 0; i + 1 < samples; i += 2) m_stream.push({sample(i), sample(i + 1)});
    } else {
      std::ranges::fill(data, u8{0});  // nothing is plugged into the inputs
      dma_write(GuestPhysAddr(channel.address), data);
    }
    channel.address += static_cast<u32>(data.size());
    channel.left = static_cast<u16>(channel.left - samples);
    channel.pace.take(frames);
    due -= frames;
    if (channel.left == 0) buffer_done(channel);
  }
  update_interrupt();
}

}  // namespace vellum
