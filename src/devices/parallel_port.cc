// The parallel port.
#include "devices/parallel_port.h"

namespace vellum {

namespace {

// IBM PC Technical Reference, "Parallel Printer Adapter"; bit 5 of control from IEEE 1284 bidirectional ports.
namespace spec {
constexpr u8 kControlStrobe = 0x01, kControlInterruptEnable = 0x10, kControlInput = 0x20;
constexpr u8 kStatusReady = 0xdf;        // not busy, ACK# high, selected, no error; unused bits high
constexpr u8 kStatusDisconnected = 0x7f; // inputs float high, of which BUSY is inverted
}  // namespace spec

}  // namespace

ParallelPort::ParallelPort(std::string name, InterruptLine irq, CharacterBackend* backend)
    : m_name(std::move(name)), m_irq(irq), m_backend(backend) {}

void ParallelPort::reset(ResetKind) {
  m_state = State{};
  m_irq.lower();
}

void ParallelPort::visit(Archive& archive) {
  auto& [data, control] = m_state;
  archive("data", data)("control", control);
}

u32 ParallelPort::read_port(u16 port, unsigned) {
  switch (port & 3) {
    case 0: return m_state.control & spec::kControlInput ? 0xff : m_state.data;
    case 1: return m_backend ? spec::kStatusReady : spec::kStatusDisconnected;
    case 2: return 0xc0 | m_state.control;
    default: return 0xff;
  }
}

void ParallelPort::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if ((port & 3) == 0) m_state.data = byte;
  if ((port & 3) != 2) return;
  const u8 before = m_state.control;
  m_state.control = byte & 0x3f;
  if (!(byte & spec::kControlInterruptEnable)) m_irq.lower();
  // The printer takes the byte with the strobe. The interrupt line follows ACK#, which rises again when it has.
  if (!(byte & ~before & spec::kControlStrobe) || !m_backend) return;
  m_backend->send({&m_state.data, 1});
  if (!(byte & spec::kControlInterruptEnable)) return;
  m_irq.lower();
  m_irq.raise();
}

}  // namespace vellum
