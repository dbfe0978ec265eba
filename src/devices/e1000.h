// Intel 82540EM: a gigabit Ethernet controller on PCI ("e1000", PRO/1000 MT Desktop).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "devices/e1000_eeprom.h"
#include "devices/e1000_phy.h"
#include "devices/ethernet.h"
#include "devices/pci.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (Intel 317453, "the manual"). Interrupts come by
// INTA#. Frames leave at the pace of a gigabit wire.
class E1000 final : public PciDevice, public MmioHandler {
 public:
  // `backend` may be null: the cable is unplugged.
  E1000(std::string name, VirtualClock& clock, const MacAddress& address, NetworkBackend* backend);
  ~E1000() override;

  // Before the machine runs: the option ROM lies at `rom_offset` in guest RAM.
  void set_rom(u64 rom_offset, u32 size);
  std::string describe() const;  // a line for `info network`

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;

 private:
  // IOADDR and IODATA: the same registers by way of ports.
  struct Window final : PortHandler {
    E1000& card;
    explicit Window(E1000& owner) : card(owner) {}
    u32 read_port(u16 port, unsigned size) override;
    void write_port(u16 port, unsigned size, u32 value) override;
    unsigned max_port_size() const override { return 4; }
  };
  struct Ring {
    u64 base = 0;
    u32 length = 0, head = 0, tail = 0;  // bytes; descriptors
    u32 count() const { return length / 16; }
    bool valid() const { return head < count() && tail < count(); }
    u32 filled() const { return head <= tail ? tail - head : count() - head + tail; }
    void visit(Archive& archive);
  };
  // What a context descriptor said, manual table 3-21.
  struct Context {
    u8 ip_start = 0, ip_offset = 0, transport_start = 0, transport_offset = 0, header_length = 0;
    u16 ip_end = 0, transport_end = 0, segment_size = 0;
    bool tcp = false, ipv4 = false;
    void visit(Archive& archive);
  };
  // The frame (or the segmented message) that descriptors have brought so far.
  struct Packet {
    std::vector<u8> data;
    bool started = false, segmented = false, too_long = false, tagged = false;
    u8 options = 0;     // POPTS of its first descriptor
    u16 tag = 0;
    u32 segments = 0, sent = 0;  // segments that have left, bytes of payload in them
    void visit(Archive& archive);
  };
  static constexpr usize kPlainRegisters = 46;

  // e1000.cc
  u32 read_register(u32 offset);
  void write_register(u32 offset, u32 value);
  bool write_ring(Ring& ring, u32 offset, u32 value);
  void read_management(u32 value);
  void reset_controller();
  bool link_up() const;
  u32 status() const;
  void raise(u32 causes);
  void raise_later(u32 cause, Timer& timer, Ticks& limit, u32 delay, u32 absolute);
  void update_interrupt();
  u32 plain(u32 offset) const;
  void count(u32 offset, u64 by = 1);
  void count_long(u32 offset, u64 by);
  // e1000_transmit.cc
  void transmit();
  usize process_descriptor(std::array<u8, 16>& descriptor);
  usize load_context(const std::array<u8, 16>& descriptor);
  usize append(u64 address, u32 length);
  usize send_segments(bool last);
  usize send_segment(std::span<const u8> payload, bool last);
  usize send_packet();
  usize send_frame(std::span<u8> frame, const Context* context);
  // e1000_receive.cc
  bool can_receive(usize size) const;
  void receive(std::span<const u8> frame);
  bool accepts(std::span<const u8> frame, bool& inexact) const;
  bool vlan_passes(u16 tag) const;
  void write_frame(std::span<const u8> frame, u16 packet_sum, u8 status, u8 errors, u16 tag);
  usize receive_buffer_size() const;
  void count_frame(u32 first_size_bucket, usize size);
  // Both sides. A card does not answer its own accesses to memory, so none of them reaches its registers.
  void fetch(u64 address, std::span<u8> data);
  void store(u64 address, std::span<const u8> data);

  // Configuration.
  const std::string m_name;
  // Wiring.
  VirtualClock& m_clock;
  NetworkBackend* m_backend;
  Window m_window{*this};
  Timer m_throttle_timer, m_transmit_timer, m_transmit_delay, m_receive_delay;
  // Derived.
  bool m_mastering = false;
  // Guest-visible state, beside the configuration space.
  struct State {
    u32 control = 0, eeprom_control = 0, eeprom_read = 0, management = 0, cause = 0, mask = 0, throttle = 0, receive_control = 0,
        transmit_control = 0, io_address = 0;
    Ring receive_ring, transmit_ring;
    std::array<u32, kPlainRegisters> plain{};  // of those that only remember what was written
    std::array<u32, 128> multicast{}, vlan{};
    std::array<u32, 32> addresses{};
    std::array<u32, 64> statistics{};
    Ticks next_interrupt = 0, receive_limit = 0, transmit_limit = 0;
    bool asserted = false;
    Context checksum, segmentation;  // 3.3.6: a context of its own for each use
    Packet packet;
  } m_state;
  E1000Eeprom m_eeprom;
  E1000Phy m_phy;
};

}  // namespace vellum
