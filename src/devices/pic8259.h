// The two cascaded 8259A interrupt controllers of the PC, with the edge/level registers of the PIIX3.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"

namespace vellum {

// Sources: Intel 8259A datasheet (order number 231468-003); 82371SB PIIX3 datasheet (290550), 4.1.4 "ELCR".
// Ports: 20h-21h (master), A0h-A1h (slave), 4D0h-4D1h (ELCR). Input pins 0..15 are IRQ0..IRQ15; pin 2 is the cascade
// and ignores its input.
class Pic8259Pair : public Device, public PortHandler, public InterruptSink {
 public:
  // `intr` is the master's INT output (to the CPU's INTR, or LINT0 of the local APIC). It is a level.
  explicit Pic8259Pair(InterruptLine intr);

  // Whether INT is asserted.
  bool pending() const { return m_intr_level; }
  // Both INTA cycles: the vector of the highest request, which goes into service. A request that went away in between
  // gives the spurious vector of IR7 of the chip that was asked, with nothing in service.
  u8 acknowledge();

  std::string describe() const;  // lines for `info pic`

  std::string_view name() const override { return "pic8259"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  void set_input(unsigned pin, bool level) override;

 private:
  // Which word the next write to the odd port is (Figure 6, "Initialization Sequence").
  enum class Expects : u8 { Ocw1, Icw2, Icw3, Icw4 };

  struct Chip {
    u8 pins = 0;              // levels of IR0..IR7
    u8 request = 0;           // IRR
    u8 service = 0;           // ISR
    u8 mask = 0;              // IMR
    u8 level_triggered = 0;   // ELCR
    u8 vector_base = 0;       // ICW2, T7..T3
    u8 icw1 = 0, icw3 = 0, icw4 = 0;
    u8 lowest_priority = 7;   // the IR that has the lowest priority: 7 unless rotated
    Expects expects = Expects::Ocw1;
    bool read_service = false;  // OCW3 RIS
    bool poll = false;
    bool special_mask = false;
    bool rotate_on_auto_eoi = false;
    void visit(Archive& archive);
  };

  bool is_level(const Chip& chip, unsigned ir) const;
  std::optional<unsigned> highest_request(const Chip& chip, bool is_master) const;
  void set_pin(Chip& chip, unsigned ir, bool level);
  void put_in_service(Chip& chip, unsigned ir);
  void end_of_interrupt(Chip& chip, u8 ocw2);
  void write_command(Chip& chip, bool is_master, u8 value);
  void write_data(Chip& chip, u8 value);
  u8 read_command(Chip& chip, bool is_master);
  u8 poll(Chip& chip, bool is_master);
  void clear_for_icw1(Chip& chip);
  void update();

  // Wiring.
  InterruptLine m_intr;
  // Derived.
  bool m_intr_level = false;
  // Guest-visible state.
  struct State {
    Chip master, slave;
  } m_state;
};

}  // namespace vellum
