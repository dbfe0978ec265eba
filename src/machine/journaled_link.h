// A card's cable whose incoming frames go through the journal, and whose outgoing ones are not sent twice.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "devices/ethernet.h"
#include "machine/machine.h"

namespace vellum {

// Stands between a card and the host's end, which must outlive it. Without a host's end only recorded frames come. Frames that the card
// has no room for wait here, a limited number of them; so do frames that come while the machine stands still.
class JournaledLink final : public NetworkBackend, private RunObserver {
 public:
  // `name` is the port's, such as "network0".
  JournaledLink(Machine& machine, const std::string& name, NetworkBackend* host);
  ~JournaledLink() override;

  void send(std::span<const u8> frame) override;
  void room_available() override { pump(); }
  std::string describe() const override;

 private:
  void arrive(std::span<const u8> frame);
  void deliver(std::span<const u8> frame);
  void pump();
  void machine_started() override { pump(); }

  Machine& m_machine;
  NetworkBackend* m_host;
  InputPort& m_port;
  std::deque<std::vector<u8>> m_waiting;
  bool m_pumping = false;
  u64 m_sent = 0, m_received = 0, m_lost = 0;
};

}  // namespace vellum
