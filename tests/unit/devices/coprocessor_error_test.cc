// FERR# and IRQ 13 as the PIIX3 datasheet describes the Coprocessor Error Register.
#include <catch2/catch.hpp>

#include "devices/coprocessor_error.h"

using namespace vellum;

namespace {
struct Pin : InterruptSink {
  void set_input(unsigned, bool value) override { level = value; }
  bool level = false;
};
}  // namespace

TEST_CASE("FERR# raises IRQ 13, a write to port F0h lowers it, and only a new FERR# raises it again") {
  Pin irq13;
  CoprocessorError logic{InterruptLine(irq13, 13)};
  logic.set_ferr(true);
  CHECK(irq13.level);
  logic.write_port(0xf0, 1, 0);
  CHECK_FALSE(irq13.level);
  logic.set_ferr(true);
  CHECK_FALSE(irq13.level);
  logic.set_ferr(false);
  logic.set_ferr(true);
  CHECK(irq13.level);
}

TEST_CASE("IRQ 13 stays when FERR# goes before the handler wrote port F0h") {
  Pin irq13;
  CoprocessorError logic{InterruptLine(irq13, 13)};
  logic.set_ferr(true);
  logic.set_ferr(false);
  CHECK(irq13.level);
}
