// UHCI and the tablet, driven as the UHCI Design Guide 1.1, USB 1.1 and HID 1.11 tell a driver to.
#include <catch2/catch.hpp>

#include "devices/uhci.h"
#include "devices/usb_tablet.h"
#include "fakes.h"

using namespace vellum;

namespace {

// A driver with one queue of transfer descriptors, which every frame leads to.
struct Driver {
  static constexpr u16 kBase = 0xc000;
  static constexpr u32 kFrameList = 0x10000, kQueue = 0x20000, kDescriptors = 0x21000, kBuffers = 0x30000;
  static constexpr u32 kIn = 0x69, kOut = 0xe1, kSetup = 0x2d;

  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(4 << 20));
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  ManualClock clock;
  UsbTablet tablet{clock};
  Uhci uhci{clock};
  bool interrupt = false;
  unsigned count = 0;  // descriptors in the queue

  Driver() {
    memory.map_ram("ram", GuestPhysAddr(0), 4 << 20, 0);
    uhci.attach(0, tablet);
    pci.attach(uhci, 1, 2);
    pci.set_interrupt_router([this](u8, u8 pin, bool level) {
      CHECK(pin == 3);  // INTD#
      interrupt = level;
    });
    uhci.reset(ResetKind::PowerOn);
    uhci.write_config(0x20, 4, kBase);
    uhci.write_config(0x04, 2, 5);
    for (unsigned i = 0; i < 1024; ++i) put(kFrameList + 4 * i, kQueue | 2);
    put(kQueue, 1);
    put(kQueue + 4, 1);
    out32(0x08, kFrameList);
  }
  u16 in(unsigned offset) { return static_cast<u16>(ports.read(static_cast<u16>(kBase + offset), 2)); }
  void out(unsigned offset, u16 value) { ports.write(static_cast<u16>(kBase + offset), 2, value); }
  void out32(unsigned offset, u32 value) { ports.write(static_cast<u16>(kBase + offset), 4, value); }
  void put(u32 address, u32 value) { memory.write_value<u32>(GuestPhysAddr(address), value); }
  u32 get(u32 address) { return memory.read_value<u32>(GuestPhysAddr(address)); }
  void frames(unsigned number) { clock.advance(Ticks{1'000'000} * number); }

  void enable_port() {
    out(0x10, 0x0200);
    frames(50);
    out(0x10, 0x0000);
    out(0x10, 0x000e);  // enabled; both changes seen
  }
  // Appends a descriptor; returns its address. Control bits: active, three errors, and `more`.
  u32 descriptor(u32 pid, u8 address, u8 endpoint, unsigned length, u32 more = 0) {
    const u32 at = kDescriptors + 32 * count;
    put(at, 1);
    put(at + 4, 0x18800000 | more);
    put(at + 8, pid | u32{address} << 8 | u32{endpoint} << 15 | ((length - 1) & 0x7ff) << 21);
    put(at + 12, kBuffers + 64 * count);
    if (count > 0) put(at - 32, at | 4);  // depth first
    ++count;
    return at;
  }
  void start(unsigned number = 5) {
    put(kQueue + 4, kDescriptors);
    out(0x00, 0x0001);
    frames(number);
  }
  u32 status(unsigned index) { return get(kDescriptors + 32 * index + 4); }
  void clear() {
    out(0x00, 0);
    put(kQueue + 4, 1);
    count = 0;
    out(0x02, 0x1f);
  }
  // A control transfer with data from the device; the bytes that came.
  std::vector<u8> control_in(u8 address, std::array<u8, 8> request, unsigned length) {
    for (unsigned i = 0; i < 8; ++i) memory.write_value<u8>(GuestPhysAddr(kBuffers + i), request[i]);
    descriptor(kSetup, address, 0, 8);
    const unsigned pieces = (length + 7) / 8;
    for (unsigned i = 0; i < pieces; ++i) descriptor(kIn, address, 0, std::min(8u, length - 8 * i), 1u << 29);
    descriptor(kOut, address, 0, 0, 1u << 24);
    start();
    std::vector<u8> data;
    for (unsigned i = 1; i <= pieces; ++i) {
      if (status(i) & 0x00c00000) break;  // not done, or stalled
      const unsigned got = (status(i) + 1) & 0x7ff;
      for (unsigned j = 0; j < got; ++j) data.push_back(memory.read_value<u8>(GuestPhysAddr(kBuffers + 64 * i + j)));
    }
    clear();
    return data;
  }
  bool control_out(u8 address, std::array<u8, 8> request) {
    for (unsigned i = 0; i < 8; ++i) memory.write_value<u8>(GuestPhysAddr(kBuffers + i), request[i]);
    descriptor(kSetup, address, 0, 8);
    descriptor(kIn, address, 0, 0, 1u << 24);
    start();
    const bool done = (status(1) & 0x00c00000) == 0;
    clear();
    return done;
  }
  void configure() {
    enable_port();
    REQUIRE(control_out(0, {0, 5, 9, 0, 0, 0, 0, 0}));
    REQUIRE(control_out(9, {0, 9, 1, 0, 0, 0, 0, 0}));
  }
  std::vector<u8> poll() {
    descriptor(kIn, 9, 1, 8);
    start(2);
    std::vector<u8> data;
    if (!(status(0) & 0x00800000))
      for (unsigned i = 0; i < ((status(0) + 1) & 0x7ff); ++i) data.push_back(memory.read_value<u8>(GuestPhysAddr(kBuffers + i)));
    clear();
    return data;
  }
};

}  // namespace

TEST_CASE("the controller is PIIX3 function 2 with INTD#, USB release 1.0 and a 32-byte BAR 4") {
  Driver d;
  CHECK(d.uhci.read_config(0, 4) == 0x70208086);
  CHECK(d.uhci.read_config(8, 4) >> 8 == 0x0c0300);
  CHECK(d.uhci.read_config(0x3d, 1) == 4);
  CHECK(d.uhci.read_config(0x60, 1) == 0x10);
  d.uhci.write_config(0x20, 4, 0xffffffff);
  CHECK(d.uhci.read_config(0x20, 4) == 0xffffffe1);
}

TEST_CASE("ports: a device is there, a reset disables, an empty port cannot be enabled (2.1.7)") {
  Driver d;
  CHECK((d.in(0x10) & 0x0193) == 0x0093);  // connected, changed, full speed, bit 7
  CHECK((d.in(0x12) & 0x0003) == 0);
  CHECK((d.in(0x14) & 0x0080) == 0);  // no third port
  d.out(0x10, 0x0002);
  CHECK((d.in(0x10) & 0x0002) == 0);
  d.out(0x10, 0x0004);
  CHECK(d.in(0x10) & 0x0004);
  d.out(0x10, 0x0204);
  CHECK((d.in(0x10) & 0x0004) == 0);
  d.out(0x12, 0x0004);
  CHECK((d.in(0x12) & 0x0004) == 0);
}

TEST_CASE("the frame number counts milliseconds while the controller runs, and can be set while it is halted (2.1.4)") {
  Driver d;
  CHECK(d.in(0x02) == 0x20);
  d.out(0x06, 100);
  d.out(0x00, 1);
  CHECK(d.in(0x02) == 0);
  d.frames(10);
  CHECK(d.in(0x06) == 110);
  d.out(0x06, 5);
  CHECK(d.in(0x06) == 110);
  d.out(0x00, 0);
  CHECK(d.in(0x02) == 0x20);
  d.frames(10);
  CHECK(d.in(0x06) == 110);
}

TEST_CASE("the device descriptor comes in packets of eight, as far as it was asked for (USB 1.1, 9.4.3)") {
  Driver d;
  d.enable_port();
  const auto whole = d.control_in(0, {0x80, 6, 0, 1, 0, 0, 18, 0}, 18);
  REQUIRE(whole.size() == 18);
  CHECK(whole[0] == 18);
  CHECK(whole[1] == 1);
  CHECK(whole[7] == 8);   // packets of eight
  CHECK(whole[17] == 1);  // one configuration
  CHECK(d.control_in(0, {0x80, 6, 0, 1, 0, 0, 8, 0}, 8) == std::vector<u8>(whole.begin(), whole.begin() + 8));
}

TEST_CASE("the configuration holds interface, HID and endpoint descriptors and counts itself") {
  Driver d;
  d.enable_port();
  const auto data = d.control_in(0, {0x80, 6, 0, 2, 0, 0, 255, 0}, 255);
  REQUIRE(data.size() == 34);
  CHECK((data[2] | data[3] << 8) == 34);
  CHECK(data[9 + 5] == 3);        // HID
  CHECK(data[18 + 1] == 0x21);
  CHECK(data[27 + 2] == 0x81);    // endpoint 1 in
  CHECK(data[27 + 3] == 3);       // interrupt
  const unsigned report_length = data[18 + 7] | data[18 + 8] << 8;
  CHECK(d.control_in(0, {0x81, 6, 0, 0x22, 0, 0, 255, 0}, 255).size() == report_length);
}

TEST_CASE("a new address holds behind the status stage; at the old one nobody answers (9.4.6)") {
  Driver d;
  d.enable_port();
  REQUIRE(d.control_out(0, {0, 5, 9, 0, 0, 0, 0, 0}));
  CHECK_FALSE(d.control_out(0, {0, 9, 1, 0, 0, 0, 0, 0}));
  CHECK(d.control_out(9, {0, 9, 1, 0, 0, 0, 0, 0}));
  CHECK(d.control_in(9, {0x80, 8, 0, 0, 0, 0, 1, 0}, 1) == std::vector<u8>{1});
}

TEST_CASE("silence counts the errors down to a failure, an interrupt and a stopped queue (3.2.2)") {
  Driver d;
  d.out(0x04, 0x01);
  d.descriptor(Driver::kIn, 77, 0, 8);
  d.start(2);
  CHECK((d.status(0) & 0x00800000) != 0);
  CHECK((d.status(0) >> 27 & 3) == 1);
  CHECK_FALSE(d.interrupt);
  d.frames(1);
  CHECK((d.status(0) & 0x00c40000) == 0x00440000);  // stalled by time-outs, no longer active
  CHECK(d.in(0x02) == 0x02);
  CHECK(d.interrupt);
  d.out(0x02, 0x02);
  CHECK_FALSE(d.interrupt);
}

TEST_CASE("an unknown request is stalled (8.5.2)") {
  Driver d;
  d.configure();
  CHECK_FALSE(d.control_out(9, {0, 77, 0, 0, 0, 0, 0, 0}));
  CHECK_FALSE(d.control_out(9, {0, 9, 5, 0, 0, 0, 0, 0}));
  CHECK(d.control_out(9, {0, 9, 1, 0, 0, 0, 0, 0}));
}

TEST_CASE("the tablet says NAK without news, then reports place, buttons and wheel in order") {
  Driver d;
  d.configure();
  CHECK(d.poll().empty());
  CHECK(d.tablet.listened_to());
  d.tablet.place(0x1234, 0x5678, 0, 0);
  d.tablet.place(0x1234, 0x5678, 0, UsbTablet::kLeft);
  d.tablet.place(0x1234, 0x5678, 0, 0);
  d.tablet.place(0x2000, 0x7fff, -2, UsbTablet::kRight);
  CHECK(d.poll() == std::vector<u8>{0, 0x34, 0x12, 0x78, 0x56, 0});
  CHECK(d.poll() == std::vector<u8>{1, 0x34, 0x12, 0x78, 0x56, 0});
  CHECK(d.poll() == std::vector<u8>{0, 0x34, 0x12, 0x78, 0x56, 0});
  CHECK(d.poll() == std::vector<u8>{2, 0x00, 0x20, 0xff, 0x7f, 0xfe});
  CHECK(d.poll().empty());
  d.frames(1000);
  CHECK_FALSE(d.tablet.listened_to());
}

TEST_CASE("movement that nobody has taken is replaced, clicks are kept") {
  Driver d;
  d.configure();
  for (u16 i = 1; i <= 1000; ++i) d.tablet.place(i, i, 0, 0);
  d.tablet.place(1000, 1000, 0, 1);
  d.tablet.place(1000, 1000, 0, 0);
  for (u16 i = 1; i <= 1000; ++i) d.tablet.place(i, 0, 0, 0);
  const auto first = d.poll();
  REQUIRE(first.size() == 6);
  CHECK((first[1] | first[2] << 8) == 1000);
  CHECK(d.poll()[0] == 1);
  CHECK(d.poll()[0] == 0);
  CHECK(d.poll() == std::vector<u8>{0, 0xe8, 0x03, 0, 0, 0});
  CHECK(d.poll().empty());
}

TEST_CASE("a descriptor with interrupt on complete raises USBINT once the driver has enabled it") {
  Driver d;
  d.configure();
  d.tablet.place(1, 2, 0, 0);
  d.descriptor(Driver::kIn, 9, 1, 8, 1u << 24);
  d.start(2);
  CHECK(d.in(0x02) & 1);
  CHECK_FALSE(d.interrupt);
  d.out(0x04, 0x04);
  CHECK(d.interrupt);
  d.out(0x02, 0x01);
  CHECK_FALSE(d.interrupt);
}

TEST_CASE("a report longer than the room for it is babble (3.2.2)") {
  Driver d;
  d.configure();
  d.tablet.place(1, 2, 0, 0);
  d.descriptor(Driver::kIn, 9, 1, 4);
  d.start(2);
  CHECK((d.status(0) & 0x00d00000) == 0x00500000);
}

TEST_CASE("an impossible token stops the controller with a process error (2.1.2)") {
  Driver d;
  d.descriptor(0x55, 9, 1, 4);
  d.start(2);
  CHECK(d.in(0x02) == 0x30);
  CHECK(d.interrupt);
}

TEST_CASE("queues and links that lead in a circle end with the frame") {
  Driver d;
  d.put(Driver::kQueue, (Driver::kQueue + 0x40) | 2);
  d.put(Driver::kQueue + 0x40, Driver::kQueue | 2);
  d.put(Driver::kQueue + 0x44, 1);
  d.put(Driver::kQueue + 4, (Driver::kQueue) | 2);
  d.out(0x00, 1);
  d.frames(3);
  d.put(Driver::kQueue, (Driver::kQueue + 0x100));  // a descriptor that is its own successor
  d.put(Driver::kQueue + 4, 1);
  d.put(Driver::kQueue + 0x100, Driver::kQueue + 0x100);
  d.put(Driver::kQueue + 0x104, 0);
  d.frames(3);
  CHECK(d.in(0x06) == 6);
}

TEST_CASE("a request that sends nothing back is stalled when it is made with the direction to the host (table 9-3)") {
  Driver d;
  d.configure();
  CHECK(d.control_in(9, {0xa1, 10, 0, 0, 0, 0, 0, 16}, 256).empty());  // SET_IDLE with 4096 bytes of data
  CHECK(d.control_in(9, {0x80, 9, 1, 0, 0, 0, 0, 16}, 256).empty());   // SET_CONFIGURATION
}
