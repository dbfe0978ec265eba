// 82371SB (PIIX3) function 0: the ISA bridge with PCI interrupt routing, the ISA interrupt lines, reset control.
#pragma once

#include <functional>

#include "devices/pci.h"

namespace vellum {

// As an InterruptSink it takes the ISA devices' lines: pin n is IRQ n; pin kSci is the ACPI interrupt, which shares
// IRQ 9. A line to the outside (8259 and IOAPIC alike) is high while any of its sources is.
class Piix3 final : public PciDevice, public PortHandler, public InterruptSink {
 public:
  static constexpr unsigned kSci = 16;
  enum class ResetRequest : u8 { Hard, Soft };  // system reset, or INIT# of the CPU only

  // `interrupts` gets the 16 ISA interrupt levels: the board passes pin n on to the 8259 pair's IRQ n and to the
  // IOAPIC's input n (IRQ 0 to input 2). `on_reset` is called for writes to the reset control register.
  Piix3(PciBus& bus, InterruptSink& interrupts, std::function<void(ResetRequest)> on_reset);
  ~Piix3() override;

  // The bus's interrupt router (the constructor installs it): slot is device << 3 | function, pin 0 is INTA#.
  void route(u8 slot, u8 pin, bool level);
  // Which PIRQ (0 = PIRQA#) a function's pin is wired to on this board.
  static unsigned pirq_of(u8 slot, u8 pin) { return ((slot >> 3) + pin + 3u) & 3; }  // (device - 1 + pin) & 3

  void set_input(unsigned pin, bool level) override;

  std::string_view name() const override { return "piix3"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 protected:
  void config_written(unsigned offset, unsigned size) override;

 private:
  enum class Drive : u8 { Changed, All };
  void update(Drive drive);

  // Wiring.
  PortBus& m_ports;
  PortBus::Id m_mapping;
  InterruptSink& m_interrupts;
  std::function<void(ResetRequest)> m_on_reset;
  // Derived.
  u16 m_levels = 0;  // what the outside lines were last set to
  // Guest-visible state, beside the configuration space.
  struct State {
    u32 isa_inputs = 0;                              // bit n: IRQ n; bit 16: SCI
    std::array<std::array<u64, 4>, 4> pirq_sources{};  // per PIRQ, bit `slot`: that function asserts it
    u8 reset_control = 0;
  } m_state;
};

}  // namespace vellum
