// Bytes from the host to the journal, and from there to the device.
#include "machine/journaled_line.h"

namespace vellum {

JournaledLine::JournaledLine(InputJournal& journal, const std::string& name, CharacterBackend& host)
    : m_journal(journal),
      m_host(host),
      m_bytes(journal.add_port(name, [this](std::span<const u8> data) { receive(data); })),
      m_break(journal.add_port(name + " break", [this](std::span<const u8>) { receive_break(); })) {
  m_host.can_receive = [this] { return room(); };
  m_host.receive = [this](std::span<const u8> data) { m_bytes.submit(data); };
  m_host.receive_break = [this] { m_break.submit({}); };
}

JournaledLine::~JournaledLine() {
  m_host.can_receive = [] { return usize{0}; };
  m_host.receive = [](std::span<const u8>) {};
  m_host.receive_break = [] {};
}

usize JournaledLine::room() const {
  if (m_journal.input_closed()) return 0;
  const usize room = can_receive();
  return room > m_bytes.waiting() ? room - m_bytes.waiting() : 0;
}

void JournaledLine::send(std::span<const u8> data) {
  if (!m_journal.in_past()) m_host.send(data);
}

void JournaledLine::room_available() { m_host.room_available(); }

}  // namespace vellum
