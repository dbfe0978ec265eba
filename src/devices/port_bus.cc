// The I/O port space: a table of 65,536 owners.
#include "devices/port_bus.h"

#include <fmt/format.h>

#include <algorithm>

#include "state/log.h"

namespace vellum {

PortBus::Id PortBus::map(std::string name, u16 first, unsigned count, PortHandler& handler) {
  m_mappings.push_back(std::make_unique<Mapping>(m_next_id, std::move(name), first, count, &handler));
  rebuild();
  return m_next_id++;
}

void PortBus::unmap(Id id) {
  std::erase_if(m_mappings, [id](const auto& mapping) { return mapping->id == id; });
  rebuild();
}

void PortBus::rebuild() {
  std::ranges::fill(m_owner, nullptr);
  for (const auto& mapping : m_mappings)
    for (unsigned i = 0; i < mapping->count && mapping->first + i < m_owner.size(); ++i)
      m_owner[mapping->first + i] = mapping->handler;
}

u32 PortBus::read(u16 port, unsigned size) {
  PortHandler* owner = m_owner[port];
  if (!owner && size == 1) {
    log(LogItem::Ports, "read of unassigned port {:#x}", port);
    return 0xff;
  }
  if (owner && size <= owner->max_port_size()) return owner->read_port(port, size);
  const unsigned half = size / 2;
  const u32 low = read(port, half);
  return low | read(static_cast<u16>(port + half), half) << (8 * half);
}

void PortBus::write(u16 port, unsigned size, u32 value) {
  PortHandler* owner = m_owner[port];
  if (!owner && size == 1) {
    log(LogItem::Ports, "write of {:#x} to unassigned port {:#x}", value, port);
    return;
  }
  if (owner && size <= owner->max_port_size()) return owner->write_port(port, size, value);
  const unsigned half = size / 2;
  write(port, half, value & ((1u << (8 * half)) - 1));
  write(static_cast<u16>(port + half), half, value >> (8 * half));
}

std::string PortBus::describe() const {
  std::string text;
  for (const auto& mapping : m_mappings)
    text += fmt::format("{:04x}-{:04x} {}\n", mapping->first, mapping->first + mapping->count - 1, mapping->name);
  return text;
}

}  // namespace vellum
