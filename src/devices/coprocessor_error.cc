// FERR# and IRQ 13.
#include "devices/coprocessor_error.h"

namespace vellum {

void CoprocessorError::set_ferr(bool level) {
  if (level && !m_state.ferr) m_state.interrupt = true;
  m_state.ferr = level;
  m_irq13.set(m_state.interrupt);
}

void CoprocessorError::reset(ResetKind) {
  m_state = {};
  m_irq13.lower();
}

void CoprocessorError::visit(Archive& archive) {
  auto& [ferr, interrupt] = m_state;
  archive("ferr", ferr)("interrupt", interrupt);
  if (archive.loading()) m_irq13.set(interrupt);
}

void CoprocessorError::write_port(u16, unsigned, u32) {
  m_state.interrupt = false;
  m_irq13.lower();
}

}  // namespace vellum
