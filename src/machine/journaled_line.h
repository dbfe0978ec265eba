// A serial line or console whose input goes through the journal, and whose output is not shown twice.
#pragma once

#include <string>

#include "devices/character_backend.h"
#include "machine/input_journal.h"

namespace vellum {

// Stands between a device and the backend on the host, which must outlive it.
class JournaledLine final : public CharacterBackend {
 public:
  // `name` is the port's, such as "serial0".
  JournaledLine(InputJournal& journal, const std::string& name, CharacterBackend& host);
  ~JournaledLine() override;

  void send(std::span<const u8> data) override;
  void room_available() override;

 private:
  usize room() const;
  InputJournal& m_journal;
  CharacterBackend& m_host;
  InputPort& m_bytes;
  InputPort& m_break;
};

}  // namespace vellum
