// Contents of the EEPROM, and its serial protocol.
#include "devices/e1000_eeprom.h"

#include <algorithm>

namespace vellum {

namespace {

namespace spec {
// Manual, table 5-2: the address, and the words that the controller loads at reset.
constexpr usize kInitControl1 = 0x0a, kSubsystemId = 0x0b, kSubsystemVendor = 0x0c, kDeviceId = 0x0d, kVendorId = 0x0e, kInitControl2 = 0x0f,
                kChecksum = 0x3f;
// 5.6.35: all 64 words add up to this.
constexpr u16 kSum = 0xbaba;
// 93C46: a start bit, two bits of opcode, six of address.
constexpr unsigned kCommandBits = 9, kDataBits = 16;
constexpr u8 kExtended = 0, kWrite = 1, kRead = 2, kErase = 3;
// Of the extended opcodes the upper two address bits say which.
constexpr u8 kWriteDisable = 0, kWriteAll = 1, kEraseAll = 2, kWriteEnable = 3;
}  // namespace spec

}  // namespace

E1000Eeprom::E1000Eeprom(const MacAddress& address) {
  for (usize i = 0; i < 3; ++i) m_words[i] = static_cast<u16>(address[2 * i] | address[2 * i + 1] << 8);
  m_words[3] = 0x0000;  // compatibility: nothing special
  m_words[5] = 0xffff;  // image version: none
  m_words[8] = m_words[9] = 0xffff;  // printed board assembly: none
  m_words[spec::kInitControl1] = 0x4408;  // signature 01b; load device and subsystem IDs
  m_words[spec::kSubsystemId] = 0x001e;   // PRO/1000 MT Desktop
  m_words[spec::kSubsystemVendor] = m_words[spec::kVendorId] = 0x8086;
  m_words[spec::kDeviceId] = 0x100e;
  m_words[spec::kInitControl2] = 0x3040;
  u16 sum = 0;
  for (usize i = 0; i < spec::kChecksum; ++i) sum = static_cast<u16>(sum + m_words[i]);
  m_words[spec::kChecksum] = static_cast<u16>(spec::kSum - sum);
}

void E1000Eeprom::set_pins(bool select, bool clock, bool data) {
  if (!select) {
    if (m_state.select && m_state.writing && m_state.data_bits == 0) store();
    m_state = {};
    m_state.clock = clock;
    return;
  }
  const bool rises = clock && !m_state.clock;
  m_state.select = true;
  m_state.clock = clock;
  if (rises) clock_rises(data);
}

void E1000Eeprom::clock_rises(bool data) {
  State& s = m_state;
  if (s.received < spec::kCommandBits) {
    if (s.received == 0 && !data) return;  // zeroes before the start bit do not count
    s.shift = s.shift << 1 | data;
    if (++s.received == spec::kCommandBits) command_complete();
    return;
  }
  if (s.data_bits == 0) {
    if (s.opcode != spec::kRead) return;
    // 2.7: reading goes on with the next word.
    s.address = (s.address + 1) % kWords;
    s.data = word(s.address);
    s.data_bits = spec::kDataBits;
  }
  --s.data_bits;
  if (s.opcode == spec::kRead) s.output = s.data >> s.data_bits & 1;
  else s.data = static_cast<u16>(s.data << 1 | data);
}

void E1000Eeprom::command_complete() {
  State& s = m_state;
  s.opcode = s.shift >> 6 & 3;
  s.address = s.shift & 0x3f;
  switch (s.opcode) {
    case spec::kRead:
      s.output = false;  // 2.7: a zero comes before the data
      s.data = word(s.address);
      s.data_bits = spec::kDataBits;
      break;
    case spec::kWrite:
      s.writing = true;
      s.data_bits = spec::kDataBits;
      break;
    case spec::kErase:
      s.writing = true;
      s.data = 0xffff;
      break;
    case spec::kExtended:
      switch (s.address >> 4) {
        case spec::kWriteEnable: m_write_enabled = true; break;
        case spec::kWriteDisable: m_write_enabled = false; break;
        case spec::kWriteAll:
          s.writing = true;
          s.data_bits = spec::kDataBits;
          break;
        case spec::kEraseAll:
          s.writing = true;
          s.data = 0xffff;
          break;
      }
      break;
  }
}

// 2.4: the cell is programmed when chip select falls behind the last bit. That it takes milliseconds shows nowhere: data out says
// "ready" at the next selection.
void E1000Eeprom::store() {
  if (!m_write_enabled) return;
  if (m_state.opcode == spec::kExtended) m_words.fill(m_state.data);
  else m_words[m_state.address] = m_state.data;
}

void E1000Eeprom::visit(Archive& archive) {
  auto& [select, clock, output, received, shift, opcode, address, data_bits, data, writing] = m_state;
  archive("words", m_words)("write_enabled", m_write_enabled);
  archive("select", select)("clock", clock)("output", output)("received", received)("shift", shift)("opcode", opcode)("address", address);
  archive("data_bits", data_bits)("data", data)("writing", writing);
  archive.require(received <= spec::kCommandBits && opcode < 4 && address < kWords && data_bits <= spec::kDataBits, "82540EM EEPROM");
}

}  // namespace vellum
