// The frame of gdb's remote protocol: packets, checksums, escapes, acknowledgements ("Debugging with GDB", E.1).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "state/integers.h"

namespace vellum {

// The longest packet, either way; what is longer is not answered.
inline constexpr usize kGdbPacketSize = 0x10000;

class GdbPackets {
 public:
  struct Handlers {
    std::function<void(std::string_view data)> packet;  // unescaped
    std::function<void()> interrupt;                     // Ctrl-C
    std::function<void(std::string_view bytes)> send;    // to the client
  };
  explicit GdbPackets(Handlers handlers) : m_handlers(std::move(handlers)) {}

  void receive(std::span<const u8> bytes);
  void send(std::string_view data);
  // Acknowledgements end with the next packet sent.
  void stop_acknowledging() { m_acknowledge = false; }
  void reset();

 private:
  void packet_complete();

  Handlers m_handlers;
  enum class State : u8 { Idle, Data, FirstDigit, SecondDigit } m_state = State::Idle;
  std::string m_data;     // as received
  char m_digit = 0;
  u8 m_checksum = 0;
  bool m_acknowledge = true;
  std::string m_last;     // what was sent last, framed
};

// What binary data must be escaped for.
std::string gdb_escape(std::string_view data);
std::string gdb_hex(std::span<const u8> data);
// False when it is not two digits a byte.
bool gdb_unhex(std::string_view text, std::string& data);

}  // namespace vellum
