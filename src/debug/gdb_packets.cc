// Parsing and framing; a client may send anything.
#include "debug/gdb_packets.h"

#include <fmt/format.h>

namespace vellum {

namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void GdbPackets::reset() {
  m_state = State::Idle;
  m_data.clear();
  m_last.clear();
  m_acknowledge = true;
}

void GdbPackets::receive(std::span<const u8> bytes) {
  for (const u8 byte : bytes) {
    const char c = static_cast<char>(byte);
    switch (m_state) {
      case State::Idle:
        if (c == '$') {
          m_state = State::Data;
          m_data.clear();
          m_checksum = 0;
        } else if (byte == 3) {
          m_handlers.interrupt();
        } else if (c == '-' && m_acknowledge && !m_last.empty()) {
          m_handlers.send(m_last);
        }
        break;
      case State::Data:
        if (c == '$') {  // the one before broke off
          m_data.clear();
          m_checksum = 0;
        } else if (c == '#') {
          m_state = State::FirstDigit;
        } else {
          m_checksum = static_cast<u8>(m_checksum + byte);
          if (m_data.size() <= kGdbPacketSize) m_data += c;
        }
        break;
      case State::FirstDigit:
        m_digit = c;
        m_state = State::SecondDigit;
        break;
      case State::SecondDigit: {
        m_state = State::Idle;
        const bool good = digit(m_digit) >= 0 && digit(c) >= 0 && digit(m_digit) * 16 + digit(c) == m_checksum;
        // Without acknowledgements the connection is known to be reliable.
        if (m_acknowledge) m_handlers.send(good ? "+" : "-");
        if ((good || !m_acknowledge) && m_data.size() <= kGdbPacketSize) packet_complete();
        break;
      }
    }
  }
}

void GdbPackets::packet_complete() {
  std::string data;
  for (usize i = 0; i < m_data.size(); ++i)
    data += m_data[i] == '}' && i + 1 < m_data.size() ? static_cast<char>(m_data[++i] ^ 0x20) : m_data[i];
  m_handlers.packet(data);
}

void GdbPackets::send(std::string_view data) {
  u8 checksum = 0;
  for (const char c : data) checksum = static_cast<u8>(checksum + static_cast<u8>(c));
  m_last = fmt::format("${}#{:02x}", data, checksum);
  m_handlers.send(m_last);
}

std::string gdb_escape(std::string_view data) {
  std::string out;
  for (const char c : data) {
    if (c == '#' || c == '$' || c == '}' || c == '*') {
      out += '}';
      out += static_cast<char>(c ^ 0x20);
    } else {
      out += c;
    }
  }
  return out;
}

std::string gdb_hex(std::span<const u8> data) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out(data.size() * 2, '0');
  for (usize i = 0; i < data.size(); ++i) {
    out[2 * i] = kDigits[data[i] >> 4];
    out[2 * i + 1] = kDigits[data[i] & 15];
  }
  return out;
}

bool gdb_unhex(std::string_view text, std::string& data) {
  if (text.size() % 2) return false;
  data.clear();
  for (usize i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    data += static_cast<char>(high * 16 + low);
  }
  return true;
}

}  // namespace vellum
