// CT1745 registers, with the older cards' names for the same volumes.
#include "devices/sb16_mixer.h"

#include <cmath>

namespace vellum {

namespace {

namespace spec {
constexpr u8 kReset = 0x00, kVoice4 = 0x04, kMicrophone3 = 0x0a, kMaster4 = 0x22, kSynthesizer4 = 0x26, kCd4 = 0x28, kLine4 = 0x2e;
constexpr u8 kMaster = 0x30, kVoice = 0x32, kSynthesizer = 0x34, kCd = 0x36, kLine = 0x38, kMicrophone = 0x3a, kSpeaker = 0x3b,
             kOutputSwitches = 0x3c, kInputLeft = 0x3d, kInputRight = 0x3e, kOutputGain = 0x41, kTreble = 0x44, kBass = 0x46,
             kInterruptSetup = 0x80, kDmaSetup = 0x81, kInterruptStatus = 0x82;
}  // namespace spec

// A register of two volumes of four bits, and the pair of registers of five bits that holds them.
struct Old {
  u8 index, pair;
};
constexpr Old kOld[] = {{spec::kVoice4, spec::kVoice}, {spec::kMaster4, spec::kMaster}, {spec::kSynthesizer4, spec::kSynthesizer},
                        {spec::kCd4, spec::kCd}, {spec::kLine4, spec::kLine}};

}  // namespace

void Sb16Mixer::reset() {
  // Table 4-2; the choice of interrupt and DMA channels is the card's setup, not the mixer's.
  const u8 interrupt = m_state.registers[spec::kInterruptSetup], dma = m_state.registers[spec::kDmaSetup];
  m_state.registers = {};
  auto& r = m_state.registers;
  for (const u8 index : {spec::kMaster, spec::kVoice, spec::kSynthesizer}) r[index] = r[index + 1] = 24 << 3;
  r[spec::kOutputSwitches] = 0x1f;
  r[spec::kInputLeft] = 0x15;
  r[spec::kInputRight] = 0x0b;
  for (const u8 index : {spec::kTreble, spec::kBass}) r[index] = r[index + 1] = 0x80;
  r[spec::kInterruptSetup] = interrupt;
  r[spec::kDmaSetup] = dma;
}

void Sb16Mixer::visit(Archive& archive) {
  auto& [index, registers] = m_state;
  archive("index", index)("registers", registers);
}

u8 Sb16Mixer::read(u8 interrupts) const {
  const auto& r = m_state.registers;
  const u8 index = m_state.index;
  for (const Old& old : kOld)
    if (index == old.index) return static_cast<u8>((r[old.pair] & 0xf0) | r[old.pair + 1] >> 4);
  if (index == spec::kMicrophone3) return r[spec::kMicrophone] >> 5;
  if (index == spec::kInterruptStatus) return interrupts;
  return r[index];
}

void Sb16Mixer::write(u8 value) {
  auto& r = m_state.registers;
  const u8 index = m_state.index;
  if (index == spec::kReset) return reset();
  for (const Old& old : kOld) {
    if (index != old.index) continue;
    r[old.pair] = (value & 0xf0) | 0x08;
    r[old.pair + 1] = static_cast<u8>(value << 4 | 0x08);
    return;
  }
  switch (index) {
    case spec::kMicrophone3: r[spec::kMicrophone] = static_cast<u8>((value & 7) << 5); break;
    case spec::kInterruptStatus: break;
    case spec::kInterruptSetup: r[index] = value & 0x0f; break;
    case spec::kDmaSetup: r[index] = value & 0xeb; break;
    default:
      if (index >= spec::kMaster && index <= spec::kMicrophone) r[index] = value & 0xf8;
      else if (index == spec::kSpeaker) r[index] = value & 0xc0;
      else if (index > spec::kSpeaker && index <= spec::kBass + 1) r[index] = value;
  }
}

Sb16Mixer::Volume Sb16Mixer::volume(u8 index) const {
  // Five bits in steps of 2 dB from -62 to 0; the output gain doubles once, twice or three times, 6 dB each.
  const auto side = [this](u8 source, u8 master, u8 gain) {
    const auto& r = m_state.registers;
    const float decibels = static_cast<float>(r[source] >> 3) * 2 - 62 + static_cast<float>(r[master] >> 3) * 2 - 62 + static_cast<float>(r[gain] >> 6) * 6;
    return r[source] >> 3 == 0 && r[master] >> 3 == 0 ? 0.0f : std::pow(10.0f, decibels / 20);
  };
  return {side(index, spec::kMaster, spec::kOutputGain), side(static_cast<u8>(index + 1), spec::kMaster + 1, spec::kOutputGain + 1)};
}

unsigned Sb16Mixer::irq() const {
  const u8 value = m_state.registers[spec::kInterruptSetup];
  return value & 1 ? 2 : value & 4 ? 7 : value & 8 ? 10 : 5;
}

unsigned Sb16Mixer::dma8() const {
  const u8 value = m_state.registers[spec::kDmaSetup];
  return value & 1 ? 0 : value & 8 ? 3 : 1;
}

unsigned Sb16Mixer::dma16() const {
  const u8 value = m_state.registers[spec::kDmaSetup];
  return value & 0x20 ? 5 : value & 0x40 ? 6 : value & 0x80 ? 7 : dma8();
}

}  // namespace vellum
