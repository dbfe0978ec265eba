// isa-debug-exit.
#include "devices/isa_debug_exit.h"

namespace vellum {

IsaDebugExit::IsaDebugExit(std::function<void(int)> exit) : m_exit(std::move(exit)) {}

u32 IsaDebugExit::read_port(u16, unsigned) { return 0; }

void IsaDebugExit::write_port(u16, unsigned, u32 value) {
  if (m_exit) m_exit(static_cast<int>(value << 1 | 1));
}

}  // namespace vellum
