// A bare machine around one device under test: clock, memory, buses, lines, and where its registers are.
#pragma once

#include <concepts>
#include <initializer_list>
#include <memory>
#include <random>
#include <vector>

#include "devices/device.h"
#include "devices/pci.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"
#include "mmu/address_space.h"
#include "state/log.h"
#include "fakes.h"

namespace vellum {

class Bench {
 public:
  struct Range {
    u64 first, size;
  };

  static constexpr u64 kRamSize = 16u << 20;

  ManualClock clock;
  std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(kRamSize).value());
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  FakeLines lines;
  FakeBackend backend;

  Bench() {
    g_log_mask = 0;  // random accesses are one long list of guest errors
    memory.map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
    pci.reset(ResetKind::PowerOn);
  }
  ~Bench() {
    while (!m_parts.empty()) m_parts.pop_back();  // in reverse order of construction
  }

  InterruptLine line(unsigned pin = 0) { return lines.line(pin); }

  // Constructs a part that lives as long as the bench.
  template <class T, class... Args>
  T& make(Args&&... args) {
    auto part = std::make_shared<T>(std::forward<Args>(args)...);
    m_parts.push_back(part);
    if constexpr (std::derived_from<T, Device>) m_devices.push_back(part.get());
    return *part;
  }

  // Names the device under test; what follows says where a guest finds it.
  Bench& test(Device& device) {
    m_device = &device;
    return *this;
  }
  // Ports that the bench maps (a board's job) …
  Bench& map(std::initializer_list<Range> ranges) {
    auto& handler = dynamic_cast<PortHandler&>(*m_device);
    for (const Range& range : ranges)
      ports.map("device", static_cast<u16>(range.first), static_cast<unsigned>(range.size), handler);
    return at_ports(ranges);
  }
  // … or that the device maps itself.
  Bench& at_ports(std::initializer_list<Range> ranges) {
    m_ports.insert(m_ports.end(), ranges);
    return *this;
  }
  Bench& map_memory(Range range) {
    memory.map_mmio("device", GuestPhysAddr(range.first), range.size, dynamic_cast<MmioHandler&>(*m_device));
    return at_memory(range);
  }
  Bench& at_memory(Range range) {
    m_memory.push_back(range);
    return *this;
  }
  // A PCI function: its configuration space is poked too.
  Bench& function(PciDevice& function, u8 number = 3) {
    pci.attach(function, number, 0);
    m_function = &function;
    return *this;
  }
  // What the host may do to the device at any time (keys, bytes from a line).
  Bench& host(std::function<void(std::mt19937_64& random)> action) {
    m_host = std::move(action);
    return *this;
  }

  Device& device() { return *m_device; }
  // Resets every device on the bench, in the order of construction.
  void reset(ResetKind kind) {
    for (Device* device : m_devices) device->reset(kind);
  }

  // One random access to the device, or now and then some time.
  void poke(std::mt19937_64& random) {
    const u64 choice = random();
    const unsigned size = 1u << (choice >> 8) % 3;
    const u32 value = (choice & 0x10) ? static_cast<u32>(random()) : static_cast<u32>(random()) & 0xff;
    if (choice % 32 == 1 && m_host) return m_host(random);
    if (choice % 16 == 0) return clock.advance(random() % (u64{1} << random() % 24));
    std::vector<unsigned> kinds;
    if (!m_ports.empty()) kinds.insert(kinds.end(), 4, 0);
    if (!m_memory.empty()) kinds.insert(kinds.end(), 4, 1);
    if (m_function) kinds.push_back(2);
    if (kinds.empty()) return;
    switch (kinds[random() % kinds.size()]) {
      case 0: {
        const Range& range = m_ports[random() % m_ports.size()];
        const u16 port = static_cast<u16>(range.first + random() % range.size);
        if (choice & 1) ports.write(port, size, value);
        else ports.read(port, size);
        break;
      }
      case 1: {
        const Range& range = m_memory[random() % m_memory.size()];
        const unsigned wide = 1u << (choice >> 8) % 4;
        const GuestPhysAddr address(range.first + (random() % range.size & ~u64{wide - 1}));
        if (choice & 1) memory.write_slow(address, wide, value | random() << 32);
        else memory.read_slow(address, wide);
        break;
      }
      default: {
        const unsigned offset = static_cast<unsigned>(random() % 256) & ~(size - 1);
        if (choice & 1) m_function->write_config(offset, size, value);
        else m_function->read_config(offset, size);
      }
    }
  }

 private:
  std::vector<std::shared_ptr<void>> m_parts;
  std::vector<Device*> m_devices;
  Device* m_device = nullptr;
  std::vector<Range> m_ports, m_memory;
  PciDevice* m_function = nullptr;
  std::function<void(std::mt19937_64&)> m_host;
};

}  // namespace vellum
