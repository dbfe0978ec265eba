// The A20 gate: address line 20 passes when the keyboard controller or port 92h lets it.
#pragma once

#include <functional>
#include <utility>

#include "devices/device.h"

namespace vellum {

// 82371SB PIIX3 datasheet (290550), 2.5: A20M# is the OR of A20GATE (keyboard controller) and port 92h bit 1.
// The gate has no state of its own: its inputs are outputs of the two devices, which drive it again when they are
// reset or loaded.
class A20Gate {
 public:
  // `changed` is called with the new state whenever it changes. Initially the line passes.
  explicit A20Gate(std::function<void(bool enabled)> changed) : m_changed(std::move(changed)) {}
  void set_keyboard_controller(bool level) { set(m_keyboard_controller, level); }
  void set_port92(bool level) { set(m_port92, level); }
  bool enabled() const { return m_keyboard_controller || m_port92; }

 private:
  void set(bool& input, bool level) {
    const bool before = enabled();
    input = level;
    if (enabled() != before && m_changed) m_changed(enabled());
  }
  std::function<void(bool)> m_changed;
  bool m_keyboard_controller = true;
  bool m_port92 = false;
};

}  // namespace vellum
