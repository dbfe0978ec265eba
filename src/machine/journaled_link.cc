// Frames from the host to the journal, and from there to the card.
#include "machine/journaled_link.h"

#include <fmt/format.h>

namespace vellum {

namespace {

// As many as a long burst of a gigabit wire has in a few milliseconds; more than that real cards and switches lose as well.
constexpr usize kMostWaiting = 1024;

bool is_frame(std::span<const u8> data) { return data.size() >= ethernet::kHeaderSize && data.size() <= ethernet::kLongestFrame; }

}  // namespace

JournaledLink::JournaledLink(Machine& machine, const std::string& name, NetworkBackend* host)
    : m_machine(machine), m_host(host), m_port(machine.inputs().add_port(name, [this](std::span<const u8> frame) { deliver(frame); })) {
  m_machine.add_run_observer(*this);
  if (m_host) m_host->receive = [this](std::span<const u8> frame) { arrive(frame); };
}

JournaledLink::~JournaledLink() {
  m_machine.remove_run_observer(*this);
  if (m_host) m_host->receive = [](std::span<const u8>) {};
}

void JournaledLink::send(std::span<const u8> frame) {
  if (!is_frame(frame)) return;
  ++m_sent;
  if (m_host && !m_machine.inputs().in_past()) m_host->send(frame);
}

void JournaledLink::arrive(std::span<const u8> frame) {
  if (!is_frame(frame) || m_machine.inputs().input_closed()) return;
  if (m_waiting.size() >= kMostWaiting) {
    ++m_lost;
    return;
  }
  m_waiting.emplace_back(frame.begin(), frame.end());
  pump();
}

void JournaledLink::deliver(std::span<const u8> frame) {
  if (!is_frame(frame)) return;  // of a recording that was tampered with
  ++m_received;
  receive(frame);
  pump();
}

// One frame at a time is on its way through the journal: whether the card has room for the next shows behind it.
void JournaledLink::pump() {
  if (m_pumping) return;
  if (m_machine.inputs().input_closed()) return m_waiting.clear();
  m_pumping = true;
  while (!m_waiting.empty() && m_machine.running() && m_port.waiting() == 0 && can_receive(m_waiting.front().size())) {
    const std::vector<u8> frame = std::move(m_waiting.front());
    m_waiting.pop_front();
    m_port.submit(frame);
  }
  m_pumping = false;
}

std::string JournaledLink::describe() const {
  return fmt::format("{}; {} frames sent, {} received, {} lost", m_host ? m_host->describe() : "a recording", m_sent, m_received, m_lost);
}

}  // namespace vellum
