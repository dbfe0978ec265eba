// The Sound Blaster 16's ports, DSP commands and interrupts.
#include "devices/sb16.h"

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// Programming Guide, appendix A: I/O ports, relative to the base.
constexpr unsigned kMixerIndex = 0x4, kMixerData = 0x5, kReset = 0x6, kReadData = 0xa, kWriteCommand = 0xc, kReadStatus = 0xe, kAcknowledge16 = 0xf;
constexpr u8 kReady = 0xaa, kDataAvailable = 0x80, kVersionMajor = 4, kVersionMinor = 5;
// Chapter 6: DSP commands.
enum Command : u8 {
  kStatus4 = 0x04, kSetCspRegister = 0x0e, kGetCspRegister = 0x0f, kDirectOutput = 0x10, kPlay = 0x14, kPlay2 = 0x16, kPlay2Reference = 0x17,
  kPlayAuto = 0x1c, kPlay2Auto = 0x1f, kDirectInput = 0x20, kRecord = 0x24, kRecordAuto = 0x2c, kTimeConstant = 0x40,
  kOutputRate = 0x41, kInputRate = 0x42, kContinueAuto8 = 0x45, kContinueAuto16 = 0x47, kBlockSize = 0x48, kPlay4 = 0x74, kPlay4Reference = 0x75,
  kPlay26 = 0x76, kPlay26Reference = 0x77, kPlay4Auto = 0x7d, kPlay26Auto = 0x7f, kSilence = 0x80, kPlayFastAuto = 0x90,
  kPlayFast = 0x91, kRecordFastAuto = 0x98, kRecordFast = 0x99, kPause8 = 0xd0, kSpeakerOn = 0xd1, kSpeakerOff = 0xd3, kContinue8 = 0xd4,
  kPause16 = 0xd5, kContinue16 = 0xd6, kSpeakerStatus = 0xd8, kExitAuto16 = 0xd9, kExitAuto8 = 0xda, kIdentify = 0xe0, kVersion = 0xe1,
  kCopyright = 0xe3, kWriteTest = 0xe4, kReadTest = 0xe8, kInterrupt8 = 0xf2, kInterrupt16 = 0xf3, kZero = 0xf8,
};
constexpr u8 kGenericRecord = 0x08, kGenericAuto = 0x04, kModeStereo = 0x20, kModeSigned = 0x10;
// MPU-401: Roland, "MPU-401 Technical Reference Manual", and what UART mode leaves of it.
constexpr u8 kMpuReset = 0xff, kMpuUart = 0x3f, kMpuAcknowledge = 0xfe, kMpuNoData = 0x80, kMpuBusy = 0x40;
}  // namespace spec

constexpr u32 kLowestRate = 4000, kHighestRate = 48000;  // the DSP takes 5000 to 45000, with some tolerance
// Samples are moved this often, or at the end of a block.
constexpr u32 kPiecesPerSecond = 500;
// Audio goes ahead of the mixer by that much, a little more than one such piece, in milliseconds.
constexpr u32 kLead = 4;

}  // namespace

Sb16::Sb16(PortBus& ports, VirtualClock& clock, Dma8237Pair& dma, std::function<void(unsigned, bool)> set_irq, AudioMixer* mixer)
    : m_ports(ports), m_clock(clock), m_dma(dma), m_set_irq(std::move(set_irq)), m_stream(mixer), m_opl(clock, mixer), m_timer(clock, [this] {
        dma_due();
        arm();
      }) {
  m_mappings = {ports.map("sb16", kBase, 16, *this), ports.map("sb16 synthesizer", kSynthesizerBase, 4, *this), ports.map("sb16 mpu-401", kMpuBase, 2, *this)};
}

Sb16::~Sb16() {
  for (const auto id : m_mappings) m_ports.unmap(id);
}

void Sb16::reset(ResetKind) {
  m_timer.cancel();
  m_state = {};
  m_mixer = {};
  m_mixer.reset();
  m_opl.reset();
  m_stream.clear();
  update_volumes();
  update_interrupt();
}

void Sb16::visit(Archive& archive) {
  auto& [in_reset, answers, last_answer, command, argument_count, arguments, rate, speaker, test, csp_register, csp, block, interrupts, run,
         coding, sixteen, stereo, signed_samples, automatic, paused, last_block, reference, length, left, pace, adpcm_sample, adpcm_scale,
         mpu_answers, mpu_uart] = m_state;
  archive("mixer", m_mixer)("opl3", m_opl);
  archive("in_reset", in_reset)("answers", answers)("last_answer", last_answer)("command", command)("argument_count", argument_count);
  archive("arguments", arguments)("rate", rate)("speaker", speaker)("test", test)("csp_register", csp_register)("csp", csp)("block", block);
  archive("interrupts", interrupts)("run", run)("coding", coding)("sixteen", sixteen)("stereo", stereo)("signed_samples", signed_samples);
  archive("automatic", automatic)("paused", paused)("last_block", last_block)("reference", reference)("length", length)("left", left);
  archive("pace", pace)("adpcm_sample", adpcm_sample)("adpcm_scale", adpcm_scale)("mpu_answers", mpu_answers)("mpu_uart", mpu_uart);
  archive("timer", m_timer);
  archive.require(answers.size() <= kAnswers && mpu_answers.size() <= kAnswers, "sound card answers");
  archive.require(run < Run::Count && coding < Coding::Count, "sound card transfer");
  archive.require(rate >= kLowestRate && rate <= kHighestRate, "sound card rate");
  archive.require(argument_count < arguments.size() && argument_count <= arguments_of(command), "sound card command");
  archive.require(length <= 0x40000 && left <= length && (run == Run::None || left > 0), "sound card block");
  archive.require(adpcm_scale <= 64, "sound card ADPCM");
  if (archive.loading() && !archive.failed()) {
    m_stream.clear();
    m_stream.set_rate(m_state.rate);
    update_volumes();
    update_interrupt();
  }
}

void Sb16::update_volumes() {
  const auto voice = m_mixer.voice(), synthesizer = m_mixer.synthesizer();
  m_stream.set_volume(voice.left, voice.right);
  m_opl.set_volume(synthesizer.left, synthesizer.right);
}

void Sb16::update_interrupt() {
  const unsigned irq = m_mixer.irq() == 2 ? 9 : m_mixer.irq();  // an AT's IRQ 9 is where a PC had IRQ 2
  const unsigned wanted = m_state.interrupts ? irq : 0;
  if (wanted == m_driven_irq) return;
  if (m_driven_irq) m_set_irq(m_driven_irq, false);
  m_driven_irq = wanted;
  if (wanted) m_set_irq(wanted, true);
}

void Sb16::raise(u8 interrupt) {
  m_state.interrupts |= interrupt;
  update_interrupt();
}

void Sb16::lower(u8 interrupt) {
  m_state.interrupts &= static_cast<u8>(~interrupt);
  update_interrupt();
}

// ---- Ports

u32 Sb16::read_port(u16 port, unsigned) {
  if (port >= kSynthesizerBase) return m_opl.read(port - kSynthesizerBase);
  if (port >= kMpuBase) return read_mpu(port - kMpuBase);
  switch (port - kBase) {
    case 0x0:
    case 0x8: return m_opl.read(0);
    case spec::kMixerIndex: return m_mixer.selected();
    case spec::kMixerData: return m_mixer.read(m_state.interrupts);
    case spec::kReadData: return read_data();
    case spec::kWriteCommand: return 0x7f;  // never busy
    case spec::kReadStatus:
      lower(kDma8);
      return m_state.answers.empty() ? 0x7f : 0x7f | spec::kDataAvailable;
    case spec::kAcknowledge16: lower(kDma16); return 0xff;
    default: return 0xff;
  }
}

void Sb16::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if (port >= kSynthesizerBase) return m_opl.write(port - kSynthesizerBase, byte);
  if (port >= kMpuBase) return write_mpu(port - kMpuBase, byte);
  switch (port - kBase) {
    case 0x0:
    case 0x1:
    case 0x2:
    case 0x3: return m_opl.write(port - kBase, byte);
    case 0x8:
    case 0x9: return m_opl.write(port - kBase - 8, byte);
    case spec::kMixerIndex: return m_mixer.select(byte);
    case spec::kMixerData:
      m_mixer.write(byte);
      update_volumes();
      return update_interrupt();
    case spec::kReset: {
      const bool before = std::exchange(m_state.in_reset, byte & 1);
      if (before && !m_state.in_reset) {
        reset_dsp();
        answer({spec::kReady});
      }
      return;
    }
    case spec::kWriteCommand:
      if (!m_state.in_reset) write_command(byte);
      return;
    default: return;
  }
}

u8 Sb16::read_data() {
  if (m_state.answers.empty()) return m_state.last_answer;
  m_state.last_answer = m_state.answers.front();
  m_state.answers.pop_front();
  return m_state.last_answer;
}

void Sb16::answer(std::initializer_list<u8> bytes) {
  for (const u8 byte : bytes)
    if (m_state.answers.size() < kAnswers) m_state.answers.push_back(byte);
}

void Sb16::answer_text(std::string_view text) {
  for (const char c : text) answer({static_cast<u8>(c)});
  answer({0});
}

u8 Sb16::read_mpu(unsigned offset) {
  auto& answers = m_state.mpu_answers;
  if (offset == 1) return static_cast<u8>((answers.empty() ? spec::kMpuNoData : 0) | 0x3f);
  lower(kMpu);
  if (answers.empty()) return spec::kMpuAcknowledge;
  const u8 value = answers.front();
  answers.pop_front();
  return value;
}

void Sb16::write_mpu(unsigned offset, u8 value) {
  if (offset == 0) return;  // nothing is plugged into MIDI OUT
  // In UART mode only the reset is heard, and it is not acknowledged.
  const bool acknowledged = !m_state.mpu_uart;
  if (value == spec::kMpuReset) m_state.mpu_uart = false;
  else if (m_state.mpu_uart) return;
  else if (value == spec::kMpuUart) m_state.mpu_uart = true;
  if (!acknowledged || m_state.mpu_answers.size() >= kAnswers) return;
  m_state.mpu_answers.push_back(spec::kMpuAcknowledge);
  raise(kMpu);
}

// ---- DSP commands

void Sb16::reset_dsp() {
  m_timer.cancel();
  State fresh;
  fresh.in_reset = m_state.in_reset;
  fresh.mpu_answers = m_state.mpu_answers;
  fresh.mpu_uart = m_state.mpu_uart;
  fresh.interrupts = m_state.interrupts & kMpu;
  m_state = std::move(fresh);
  update_interrupt();
}

unsigned Sb16::arguments_of(u8 command) {
  if (command >= 0xb0 && command <= 0xcf) return 3;
  switch (command) {
    case 0xe2:
    case 0xf9:
    case spec::kGetCspRegister:
    case spec::kDirectOutput:
    case 0x38:
    case spec::kTimeConstant:
    case spec::kIdentify:
    case spec::kWriteTest: return 1;
    case 0x05:
    case spec::kSetCspRegister:
    case spec::kPlay:
    case 0x15:
    case spec::kPlay2:
    case spec::kPlay2Reference:
    case spec::kRecord:
    case spec::kOutputRate:
    case spec::kInputRate:
    case spec::kBlockSize:
    case spec::kPlay4:
    case spec::kPlay4Reference:
    case spec::kPlay26:
    case spec::kPlay26Reference:
    case spec::kSilence: return 2;
    case spec::kStatus4: return 1;
    default: return 0;
  }
}

void Sb16::write_command(u8 value) {
  State& s = m_state;
  if (s.command == 0) {
    s.command = value;
    s.argument_count = 0;
  } else {
    s.arguments[s.argument_count++] = value;
  }
  if (s.argument_count < arguments_of(s.command)) return;
  if (s.command != 0) execute();
  s.command = 0;
  s.argument_count = 0;
}

void Sb16::execute() {
  using namespace spec;
  State& s = m_state;
  const u8 command = s.command;
  const auto set_rate = [&s](u32 rate) { s.rate = std::clamp(rate, kLowestRate, kHighestRate); };
  if (command >= 0xb0 && command <= 0xcf) {
    // 6-30: the generic transfers of DSP 4: command, mode, length in samples less one.
    const u8 mode = s.arguments[0];
    s.stereo = mode & kModeStereo;
    s.signed_samples = mode & kModeSigned;
    return start_dma(command & kGenericRecord ? Run::Record : Run::Play, command < 0xc0, command & kGenericAuto, argument16(1) + 1);
  }
  switch (command) {
    case kStatus4: break;  // the CSP, a programmable processor that many cards lack: there is none
    case kSetCspRegister: s.csp[s.arguments[0]] = s.arguments[1]; break;
    case kGetCspRegister: answer({s.csp[s.arguments[0]]}); break;
    case kDirectOutput: return play_direct(s.arguments[0]);
    case kPlay:
    case 0x15:
    case kPlayFast: return start_old(Run::Play, false, command == kPlayFast ? s.block + 1 : argument16(0) + 1);
    case kPlayAuto:
    case kPlayFastAuto: return start_old(Run::Play, true, s.block + 1);
    case kRecord:
    case kRecordFast: return start_old(Run::Record, false, command == kRecordFast ? s.block + 1 : argument16(0) + 1);
    case kRecordAuto:
    case kRecordFastAuto: return start_old(Run::Record, true, s.block + 1);
    case kPlay2:
    case kPlay2Reference: return start_adpcm(Coding::Adpcm2, command & 1, false, argument16(0) + 1);
    case kPlay4:
    case kPlay4Reference: return start_adpcm(Coding::Adpcm4, command & 1, false, argument16(0) + 1);
    case kPlay26:
    case kPlay26Reference: return start_adpcm(Coding::Adpcm26, command & 1, false, argument16(0) + 1);
    case kPlay2Auto: return start_adpcm(Coding::Adpcm2, true, true, s.block + 1);
    case kPlay4Auto: return start_adpcm(Coding::Adpcm4, true, true, s.block + 1);
    case kPlay26Auto: return start_adpcm(Coding::Adpcm26, true, true, s.block + 1);
    case kDirectInput: answer({0x80}); break;  // silence: nothing is plugged in
    case kTimeConstant: set_rate(1'000'000 / (256 - s.arguments[0])); break;
    case kOutputRate:
    case kInputRate: set_rate(u32{s.arguments[0]} << 8 | s.arguments[1]); break;
    case kBlockSize: s.block = argument16(0); break;
    case kSilence:
      s.stereo = false;
      return start_dma(Run::Silence, false, false, argument16(0) + 1);
    case kPause8: return pause(false, true);
    case kContinue8: return pause(false, false);
    case kPause16: return pause(true, true);
    case kContinue16: return pause(true, false);
    case kContinueAuto8:
    case kContinueAuto16:
      if (s.run != Run::None && s.sixteen == (command == kContinueAuto16)) s.last_block = false;
      break;
    case kExitAuto8:
    case kExitAuto16:
      if (s.run != Run::None && s.sixteen == (command == kExitAuto16)) s.last_block = true;
      break;
    case kSpeakerOn: s.speaker = true; break;  // 6-26: the SB16 always lets sound through, and only remembers this
    case kSpeakerOff: s.speaker = false; break;
    case kSpeakerStatus: answer({static_cast<u8>(s.speaker ? 0xff : 0)}); break;
    case kIdentify: answer({static_cast<u8>(~s.arguments[0])}); break;
    case kVersion: answer({kVersionMajor, kVersionMinor}); break;
    case kCopyright: answer_text("COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992."); break;
    case kWriteTest: s.test = s.arguments[0]; break;
    case kReadTest: answer({s.test}); break;
    case kInterrupt8: raise(kDma8); break;
    case kInterrupt16: raise(kDma16); break;
    case kZero: answer({0}); break;
    case 0x05:
    case 0x38: break;  // CSP codec parameter; a byte to MIDI OUT
    case 0xe2:
    case 0xf9: break;  // undocumented: a test of DMA, and of the DSP's memory
    default: log(LogItem::Unsupported, "Sound Blaster DSP command {:#04x}", command);
  }
}

// Nobody says at which rate these samples come: each holds until the next.
void Sb16::play_direct(u8 sample) {
  const Ticks now = m_clock.now();
  const u64 frames = now > m_direct_time ? multiply_divide(now, kAudioRate, kTicksPerSecond) - multiply_divide(m_direct_time, kAudioRate, kTicksPerSecond) : 0;
  constexpr u64 kLongest = kAudioRate / 100;
  m_stream.set_rate(kAudioRate);
  m_stream.set_lead(kAudioRate * kLead / 1000);
  for (u64 i = 0; i < frames && frames <= kLongest; ++i) m_stream.push({m_direct_level, m_direct_level});
  m_direct_time = now;
  m_direct_level = (static_cast<float>(sample) - 128) / 128;
}

// ---- DMA

usize Sb16::unit_size() const {
  const State& s = m_state;
  if (s.coding != Coding::Linear) return 1;
  return (s.sixteen ? 2u : 1u) * (s.stereo ? 2u : 1u);
}

u32 Sb16::unit_rate() const {
  switch (m_state.coding) {
    case Coding::Adpcm2: return std::max(m_state.rate / 4, 1u);
    case Coding::Adpcm26: return std::max(m_state.rate / 3, 1u);
    case Coding::Adpcm4: return std::max(m_state.rate / 2, 1u);
    default: return m_state.rate;
  }
}

void Sb16::start_old(Run run, bool automatic, u32 bytes) {
  m_state.signed_samples = m_state.stereo = false;
  start_dma(run, false, automatic, bytes);
}

void Sb16::start_adpcm(Coding coding, bool reference, bool automatic, u32 bytes) {
  m_state.stereo = false;
  start_dma(Run::Play, false, automatic, bytes);
  m_state.coding = coding;
  m_state.reference = reference;
  m_state.pace.start(m_clock.now(), unit_rate());
  arm();
}

void Sb16::start_dma(Run run, bool sixteen, bool automatic, u32 samples) {
  State& s = m_state;
  s.run = run;
  s.coding = Coding::Linear;
  s.sixteen = sixteen;
  s.automatic = automatic;
  s.paused = s.last_block = s.reference = false;
  s.length = s.left = samples * (sixteen ? 2 : 1);
  s.pace.start(m_clock.now(), unit_rate());
  m_stream.set_rate(s.rate);
  m_stream.set_lead(s.rate * kLead / 1000);
  arm();
}

void Sb16::pause(bool sixteen, bool paused) {
  State& s = m_state;
  if (s.run == Run::None || s.sixteen != sixteen || s.paused == paused) return;
  if (paused) dma_due();
  s.paused = paused;
  if (!paused) s.pace.start(m_clock.now(), unit_rate());
  arm();
}

void Sb16::arm() {
  State& s = m_state;
  if (s.run == Run::None || s.paused) return m_timer.cancel();
  const u64 block = (s.left + unit_size() - 1) / unit_size();
  m_timer.arm(s.pace.deadline(std::min<u64>(block, std::max(unit_rate() / kPiecesPerSecond, 1u))));
}

void Sb16::dma_due() {
  State& s = m_state;
  const unsigned channel = s.sixteen ? m_mixer.dma16() : m_mixer.dma8();
  for (u64 due = s.pace.due(m_clock.now()); due > 0 && s.run != Run::None && !s.paused;) {
    std::array<u8, 256> buffer;
    const usize unit = unit_size();
    usize bytes = std::min<u64>({due * unit, s.left, buffer.size()});
    const auto data = std::span(buffer).first(bytes);
    // What is due has passed, whether it came or not: when the channel is masked, the sound has a hole.
    const usize units = std::max<usize>(bytes / unit, 1);
    s.pace.take(units);
    due -= std::min<u64>(units, due);
    if (s.run != Run::Silence) {
      std::ranges::fill(data, s.signed_samples || s.sixteen ? u8{0} : u8{0x80});
      usize moved = 0;
      while (moved < bytes) {
        const auto result = m_dma.transfer(channel, data.subspan(moved), s.run == Run::Play ? DmaDirection::FromMemory : DmaDirection::ToMemory);
        moved += result.transferred;
        if (result.transferred == 0) break;
      }
      bytes = moved;
      if (bytes == 0) return;  // the driver has not opened the channel yet
    }
    if (s.run == Run::Play)
      for (usize i = 0; i + unit <= bytes; i += unit) play_unit(data.subspan(i, unit));
    s.left -= static_cast<u32>(bytes);
    if (s.left == 0) end_block();
  }
}

void Sb16::end_block() {
  State& s = m_state;
  if (s.automatic && !s.last_block) {
    s.left = s.length;
  } else {
    s.run = Run::None;
  }
  raise(s.sixteen ? kDma16 : kDma8);
}

void Sb16::play_unit(std::span<const u8> unit) {
  const State& s = m_state;
  if (s.coding != Coding::Linear) return play_adpcm(unit[0]);
  const auto sample = [&](usize index) {
    if (s.sixteen) {
      const int value = unit[2 * index] | unit[2 * index + 1] << 8;
      return static_cast<float>(s.signed_samples ? static_cast<i16>(value) : value - 32768) / 32768;
    }
    return static_cast<float>(s.signed_samples ? static_cast<i8>(unit[index]) : unit[index] - 128) / 128;
  };
  const float left = sample(0);
  m_stream.push({left, s.stereo ? sample(1) : left});
}

void Sb16::play_adpcm(u8 byte) {
  State& s = m_state;
  if (s.reference) {
    s.reference = false;
    s.adpcm_sample = byte;
    s.adpcm_scale = 0;
    return;
  }
  switch (s.coding) {
    case Coding::Adpcm2:
      for (int shift = 6; shift >= 0; shift -= 2) play_nibble(2, byte >> shift & 3);
      break;
    case Coding::Adpcm26:
      play_nibble(3, byte >> 5 & 7);
      play_nibble(3, byte >> 2 & 7);
      play_nibble(3, (byte & 3) << 1);  // the third sample has two bits
      break;
    default:
      play_nibble(4, byte >> 4);
      play_nibble(4, byte & 0xf);
  }
}

// The top bit is the sign, the others a magnitude in units of the scale; one half is added so that a zero moves too, except
// at the finest scale. The greatest magnitudes widen the scale, zero narrows it.
void Sb16::play_nibble(unsigned bits, unsigned value) {
  State& s = m_state;
  const unsigned magnitude = value & ((1u << (bits - 1)) - 1), largest = (1u << (bits - 1)) - 1;
  const bool negative = value >> (bits - 1);
  const unsigned scale = 1u << s.adpcm_scale;
  // The widest scale of three bits is 5 and not 8 (Creative's published players).
  const bool odd = bits == 3 && s.adpcm_scale == 4;
  const int step = static_cast<int>(odd ? (2 * magnitude + 1) * 5 : (2 * magnitude + 1) * scale / 2);
  s.adpcm_sample = static_cast<u8>(std::clamp(s.adpcm_sample + (negative ? -step : step), 0, 255));
  const unsigned widest = bits == 4 ? 3 : bits == 3 ? 4 : 5;
  if (magnitude >= (bits == 4 ? 5u : largest) && s.adpcm_scale < widest) ++s.adpcm_scale;
  else if (magnitude == 0 && s.adpcm_scale > 0) --s.adpcm_scale;
  const float level = (static_cast<float>(s.adpcm_sample) - 128) / 128;
  m_stream.push({level, level});
}

}  // namespace vellum
