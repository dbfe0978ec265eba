// The port space: widths are split as the ISA bridge does, unassigned ports float high.
#include <catch2/catch.hpp>

#include "devices/port_bus.h"

using namespace vellum;

namespace {

struct ByteWide : PortHandler {
  std::vector<std::pair<u16, u32>> writes;
  u32 read_port(u16 port, unsigned) override { return port & 0xff; }
  void write_port(u16 port, unsigned, u32 value) override { writes.emplace_back(port, value); }
};

}  // namespace

TEST_CASE("an unassigned port reads all-ones at every width") {
  PortBus bus;
  CHECK(bus.read(0x80, 1) == 0xff);
  CHECK(bus.read(0x80, 2) == 0xffff);
  CHECK(bus.read(0x80, 4) == 0xffffffff);
}

TEST_CASE("a wide access to a byte-wide device becomes byte accesses, low byte first") {
  PortBus bus;
  ByteWide device;
  bus.map("device", 0x40, 4, device);
  CHECK(bus.read(0x40, 4) == 0x43424140);
  bus.write(0x40, 2, 0xbbaa);
  CHECK(device.writes == std::vector<std::pair<u16, u32>>{{0x40, 0xaa}, {0x41, 0xbb}});
}

TEST_CASE("a later mapping hides an earlier one until it is unmapped") {
  PortBus bus;
  ByteWide below, above;
  bus.map("below", 0x100, 8, below);
  const auto id = bus.map("above", 0x104, 1, above);
  bus.write(0x104, 1, 1);
  bus.unmap(id);
  bus.write(0x104, 1, 2);
  CHECK(above.writes.size() == 1);
  CHECK(below.writes.size() == 1);
}

TEST_CASE("an access that runs over the end of the port space wraps") {
  PortBus bus;
  CHECK(bus.read(0xffff, 2) == 0xffff);
}
