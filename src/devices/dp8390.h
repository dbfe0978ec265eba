// National DP8390: the 10 Mbit/s network controller of the NE2000 and its kin, with their buffer memory and address PROM.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "devices/ethernet.h"
#include "devices/virtual_clock.h"
#include "state/archive.h"

namespace vellum {

// Sources: National DP8390D/NS32490D datasheet (1995), "the datasheet"; for the board around it, the 32 ports that Novell's NE2000 gave
// it: the controller's registers, the data port at 10h, and at 18h a port whose reading resets. A part of a card, not a device.
// Both ways frames take the wire's time: drivers look for frames first and acknowledge them then, and would miss one that comes at once.
class Dp8390 {
 public:
  static constexpr unsigned kPorts = 32;

  // `set_interrupt` drives the INT pin. `backend` may be null: the cable is unplugged. `identity`: what the two reserved registers of
  // page 0 read as (Realtek's chips are known by them).
  Dp8390(VirtualClock& clock, const MacAddress& address, NetworkBackend* backend, std::function<void(bool)> set_interrupt, std::array<u8, 2> identity);
  ~Dp8390();

  void reset();
  void visit(Archive& archive);
  // `offset` within the 32 ports; size 1, 2 or 4 (more than 1 at the data port only; elsewhere the bytes are separate registers).
  u32 read(unsigned offset, unsigned size);
  void write(unsigned offset, unsigned size, u32 value);
  std::string describe() const;

 private:
  static constexpr usize kMemorySize = 16 * 1024, kMemoryStart = 0x4000, kPromSize = 32;

  u8 read_register(unsigned index);
  void write_register(unsigned index, u8 value);
  void write_command(u8 value);
  u32 read_data(unsigned size);
  void write_data(unsigned size, u32 value);
  unsigned advance_remote(unsigned size);
  u8 read_memory(u16 address) const;
  void write_memory(u16 address, u8 value);
  void transmit();
  void transmitted();
  bool listens() const;
  bool accepts(std::span<const u8> frame, bool& group) const;
  void receive(std::span<const u8> frame);
  usize free_pages() const;
  void raise(u8 causes);
  void update_interrupt();

  // Configuration.
  const MacAddress m_address;
  const std::array<u8, 2> m_identity;
  // Wiring.
  VirtualClock& m_clock;
  NetworkBackend* m_backend;
  std::function<void(bool)> m_set_interrupt;
  Timer m_transmit_timer, m_receive_timer;
  // Guest-visible state.
  struct State {
    u8 command = 0, page_start = 0, page_stop = 0, boundary = 0, current = 0, transmit_page = 0, transmit_status = 0, receive_status = 0;
    u8 interrupts = 0, mask = 0, data_control = 0, receive_control = 0, transmit_control = 0, missed = 0;
    u16 transmit_count = 0, remote_address = 0, remote_count = 0;
    MacAddress physical{};
    std::array<u8, 8> multicast{};
    std::array<u8, kMemorySize> memory{};
  } m_state;
};

}  // namespace vellum
