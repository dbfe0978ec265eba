// Port 61h, "NMI status and control" of the ISA bridge: counter 2's gate, speaker, refresh toggle, NMI sources.
#pragma once

#include <functional>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/pit8254.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: 82371SB PIIX3 datasheet (290550), 4.1.5.1 "NMISC".
class SystemControlPort : public Device, public PortHandler {
 public:
  // `nmi` is the level of NMI to the CPU.
  SystemControlPort(VirtualClock& clock, Pit8254& pit, InterruptLine nmi);

  // SERR# and IOCHK#: latched until the guest disables and enables the source again (bits 2 and 3).
  void report_system_error();
  void report_io_channel_check();
  // Port 70h bit 7: true keeps NMI low. Connect RtcMc146818's nmi_mask callback to it.
  void set_nmi_mask(bool masked);
  bool speaker_enabled() const { return m_state.control & 2; }
  // Called with bit 1, which lets counter 2's output through to the speaker.
  std::function<void(bool)> enable_speaker;

  std::string_view name() const override { return "port61"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  void update_nmi();

  // Wiring.
  VirtualClock& m_clock;
  Pit8254& m_pit;
  InterruptLine m_nmi;
  // Guest-visible state.
  struct State {
    u8 control = 0;  // bits 3:0 as written
    bool system_error = false;
    bool io_channel_check = false;
    bool nmi_masked = true;
  } m_state;
};

}  // namespace vellum
