// PIIX3 function 2: the USB host controller (UHCI), with two ports.
#pragma once

#include <array>

#include "devices/pci.h"
#include "devices/usb_device.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Sources: Intel, "Universal Host Controller Interface (UHCI) Design Guide" 1.1; 82371SB (PIIX3) datasheet 290550, 2.4 and 2.6.
class Uhci final : public PciDevice, public PortHandler {
 public:
  static constexpr unsigned kPorts = 2;

  explicit Uhci(VirtualClock& clock);

  // Before the machine runs: plugs a full-speed device in. It must outlive the controller, and is reset and visited by the
  // board as a device.
  void attach(unsigned port, UsbDevice& device);

  std::string_view name() const override { return "uhci"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

 private:
  // What a transfer descriptor did, and so where the schedule goes on (figure 3-3 of the guide).
  enum class Outcome : u8 { Inactive, Completed, ShortPacket, Retry, Failed, Fatal };

  u16 read_register(unsigned offset) const;
  void write_register(unsigned offset, u16 value);
  void write_command(u16 value);
  void write_port_control(unsigned port, u16 value);
  void controller_reset();
  void run_frame();
  void run_schedule();
  Outcome run_descriptor(u32 address, u32& link, usize& bytes);
  UsbDevice* find(u8 address) const;
  void halt();
  void update_interrupt();
  u32 read_memory(u32 address);
  void write_memory(u32 address, u32 value);

  // Wiring.
  VirtualClock& m_clock;
  Timer m_frame_timer;
  std::array<UsbDevice*, kPorts> m_attached{};
  // Guest-visible state, beside the configuration space.
  struct State {
    u16 command = 0, status = 0, interrupt_enable = 0, frame = 0;
    u32 frame_list = 0;
    u8 start_of_frame = 64;
    std::array<u16, kPorts> ports{};
    // USBINT stands for two events that are enabled separately.
    bool completed = false, short_packet = false;
  } m_state;
};

}  // namespace vellum
