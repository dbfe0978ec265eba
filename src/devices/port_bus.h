// The I/O port space.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "state/integers.h"

namespace vellum {

// A device's ports. `port` is the absolute port number. Accesses arrive with size 1, 2 or 4, at most max_port_size();
// wider ones are split into consecutive ports, low byte first, as the ISA bridge does.
class PortHandler {
 public:
  virtual ~PortHandler() = default;
  virtual u32 read_port(u16 port, unsigned size) = 0;
  virtual void write_port(u16 port, unsigned size, u32 value) = 0;
  virtual unsigned max_port_size() const { return 1; }
};

// Unassigned ports read all-ones and swallow writes.
class PortBus {
 public:
  using Id = u32;
  PortBus() : m_owner(65536, nullptr) {}
  // A later mapping hides an earlier one on the ports that both claim, until it is unmapped.
  Id map(std::string name, u16 first, unsigned count, PortHandler& handler);
  void unmap(Id id);

  u32 read(u16 port, unsigned size);
  void write(u16 port, unsigned size, u32 value);

  std::string describe() const;

 private:
  struct Mapping {
    Id id;
    std::string name;
    u16 first;
    unsigned count;
    PortHandler* handler;
  };
  void rebuild();
  Id m_next_id = 1;
  std::vector<std::unique_ptr<Mapping>> m_mappings;
  std::vector<PortHandler*> m_owner;
};

}  // namespace vellum
