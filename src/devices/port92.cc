// Port 92h.
#include "devices/port92.h"

namespace vellum {

namespace {
namespace spec {
constexpr u8 kReset = 0x01, kA20 = 0x02;
}
}  // namespace

Port92::Port92(std::function<void(bool)> set_a20, std::function<void()> reset)
    : m_set_a20(std::move(set_a20)), m_reset(std::move(reset)) {}

void Port92::reset(ResetKind) {
  m_state = State{};
  if (m_set_a20) m_set_a20(false);
}

void Port92::visit(Archive& archive) {
  auto& [value] = m_state;
  archive("value", value);
  if (archive.loading() && !archive.failed() && m_set_a20) m_set_a20(value & spec::kA20);
}

u32 Port92::read_port(u16, unsigned) { return m_state.value; }

void Port92::write_port(u16, unsigned, u32 value) {
  const u8 before = m_state.value;
  m_state.value = static_cast<u8>(value);
  if (m_set_a20) m_set_a20(value & spec::kA20);
  if ((value & ~before & spec::kReset) && m_reset) m_reset();
}

}  // namespace vellum
