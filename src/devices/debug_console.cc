// The debug console port.
#include "devices/debug_console.h"

namespace vellum {

namespace {
constexpr u8 kReadback = 0xe9;
}

DebugConsole::DebugConsole(std::string name, CharacterBackend* backend) : m_name(std::move(name)), m_backend(backend) {}

u32 DebugConsole::read_port(u16, unsigned) { return kReadback; }

void DebugConsole::write_port(u16, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if (m_backend) m_backend->send({&byte, 1});
}

}  // namespace vellum
