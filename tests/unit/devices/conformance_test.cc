// What every device must do, whatever it is: reset, save, load, and survive any guest and any snapshot.
#include <catch2/catch.hpp>
#include <sstream>

#include "devices/ac97.h"
#include "devices/ata_disk.h"
#include "devices/atapi_cdrom.h"
#include "devices/coprocessor_error.h"
#include "devices/debug_console.h"
#include "devices/dma8237.h"
#include "devices/e1000.h"
#include "devices/floppy_82077aa.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/ide.h"
#include "devices/ioapic.h"
#include "devices/isa_debug_exit.h"
#include "devices/local_apic.h"
#include "devices/ne2000.h"
#include "devices/parallel_port.h"
#include "devices/pc_testdev.h"
#include "devices/pic8259.h"
#include "devices/piix3.h"
#include "devices/piix4_pm.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/rtc_mc146818.h"
#include "devices/sb16.h"
#include "devices/system_control_port.h"
#include "devices/uart16550.h"
#include "devices/uhci.h"
#include "devices/usb_storage.h"
#include "devices/usb_tablet.h"
#include "devices/vga.h"
#include "devices/virtio_net.h"
#include "storage/memory_disk.h"
#include "bench.h"
#include "fake_apic_cpu.h"

using namespace vellum;

namespace {

// The i8042 with its devices: registers are poked through it, whichever of the three is under test.
Bench& keyboard_controller(Bench& b, Device* (*choose)(I8042&, Ps2Keyboard&, Ps2Mouse&)) {
  auto& keyboard = b.make<Ps2Keyboard>(b.clock);
  auto& mouse = b.make<Ps2Mouse>(b.clock);
  auto& controller = b.make<I8042>(b.clock, keyboard, mouse, I8042::Wiring{b.line(1), b.line(12), {}, {}});
  b.test(controller).map({{0x60, 1}, {0x64, 1}}).host([&](std::mt19937_64& random) {
    keyboard.key(static_cast<KeyCode>(random() % 256), random() % 2);
    mouse.move(static_cast<int>(random()), static_cast<int>(random()), static_cast<int>(random()), random() & 0xff);
  });
  return b.test(*choose(controller, keyboard, mouse));
}

std::unique_ptr<BlockDevice> medium(usize size) { return std::make_unique<MemoryDisk>(std::vector<u8>(size)); }

void make_floppy(Bench& b) {
  auto& channel = b.make<Dma8237Channel>(b.make<Dma8237Pair>(b.memory), 2);
  auto& floppy = b.make<Floppy82077aa>(b.ports, b.clock, b.line(6), channel);
  floppy.set_drive_type(0, FloppyDriveType::Inch3_1440K);
  REQUIRE(floppy.insert(0, medium(1'474'560), false));
  b.test(floppy).at_ports({{0x3f0, 6}, {0x3f7, 1}});
}

// The bus master's ports are where a random BAR4 puts them only by chance: its tests are the function's own.
void make_ide(Bench& b) {
  auto& ide = b.make<Piix3Ide>(b.ports, b.line(14), b.line(15));
  ide.attach_drive(0, 0, std::make_unique<AtaDisk>(medium(1 << 20), "S"));
  ide.attach_drive(1, 0, std::make_unique<AtapiCdrom>(medium(1 << 20)));
  b.function(ide).test(ide).at_ports({{0x1f0, 8}, {0x3f6, 1}, {0x170, 8}, {0x376, 1}});
}

void make_vga(Bench& b) {
  auto& vga = b.make<Vga>(b.memory, b.ports, b.clock, 8 << 20, 1 << 20);
  b.function(vga).test(vga).at_ports({{0x3b0, 48}, {0x1ce, 3}}).at_memory({0xa0000, 0x20000});
}

Bench& pci_function(Bench& b, PciDevice& device) { return b.test(device).function(device); }

LocalApic& local_apic(Bench& b, ApicBus& bus) {
  return b.make<LocalApic>(b.memory, b.clock, bus, b.make<FakeApicCpu>(), LocalApic::Options{},
                           LocalApic::Callbacks{[] { return u8{0x20}; }, [&b] { return b.clock.now(); },
                                                [](u64 tsc) { return tsc; }});
}

// A file that the guest may write and one that it may not.
Bench& fw_cfg(Bench& b) {
  auto& device = b.make<FwCfg>(b.memory, b.ports);
  device.add_file("opt/writable", std::vector<u8>(64), [](std::span<const u8>) {});
  device.add_file("opt/fixed", std::vector<u8>(64, 0x5a));
  return b.test(device).at_ports({{0x510, 2}, {0x514, 8}}).at_memory({0, 64});
}

void make_hpet(Bench& b) {
  b.test(b.make<Hpet>(b.memory, b.clock, b.lines, b.lines)).at_memory({Hpet::kDefaultBase, 0x400});
}

void make_ioapic(Bench& b) {
  b.test(b.make<IoApic>(b.memory, b.make<ApicBus>())).at_memory({IoApic::kDefaultBase, 0x50});
}

void make_piix4_pm(Bench& b) {
  auto& function = b.make<Piix4Pm>(b.pci, b.clock, b.line(9), Piix4Pm::Callbacks{});
  pci_function(b, function).at_ports({{0xb2, 2}, {0xafe0, 4}, {0xb000, 64}});
}

void make_testdev(Bench& b) {
  b.test(b.make<PcTestdev>(b.lines)).map({{0xe0, 12}, {0x2000, 24}});
  b.map_memory({PcTestdev::kMemoryBase, PcTestdev::kMemorySize});
}

void make_port61(Bench& b) {
  auto& pit = b.make<Pit8254>(b.clock, b.line());
  b.test(b.make<SystemControlPort>(b.clock, pit, b.line(2))).map({{0x61, 1}});
}

void make_uart(Bench& b) {
  b.test(b.make<Uart16550>("uart", b.clock, b.line(4), &b.backend)).map({{0x3f8, 8}});
  b.host([&b](std::mt19937_64& random) {
    const u64 bytes = random();
    b.backend.receive({reinterpret_cast<const u8*>(&bytes), random() % 9});
  });
}

// Frames come at any time, and the card reads and writes wherever the guest tells it to.
void send_noise(NetworkBackend& cable, std::mt19937_64& random) {
  std::vector<u8> frame(14 + random() % 1600);
  for (u8& byte : frame) byte = static_cast<u8>(random());
  if (random() % 2) std::fill_n(frame.begin(), 6, u8{0xff});
  if (cable.can_receive(frame.size())) cable.receive(frame);
}

void make_e1000(Bench& b) {
  auto& cable = b.make<FakeNetwork>();
  auto& card = b.make<E1000>("e1000", b.clock, MacAddress{0x52, 0x54, 0, 1, 2, 3}, &cable);
  b.function(card).test(card).map_memory({0x20000000, 0x6000});
  card.write_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandBusMaster);
  b.host([&cable](std::mt19937_64& random) { send_noise(cable, random); });
}

void make_ne2000(Bench& b) {
  auto& cable = b.make<FakeNetwork>();
  auto& card = b.make<Ne2000Isa>("ne2k_isa", b.clock, b.line(9), MacAddress{0x52, 0x54, 0, 1, 2, 3}, &cable);
  b.test(card).map({{0x300, 32}});
  b.host([&cable](std::mt19937_64& random) { send_noise(cable, random); });
}

void make_ne2000_pci(Bench& b) {
  auto& cable = b.make<FakeNetwork>();
  auto& card = b.make<Ne2000Pci>("ne2k_pci", b.clock, MacAddress{0x52, 0x54, 0, 1, 2, 3}, &cable);
  b.function(card).test(card).map({{0x300, 32}});
  b.host([&cable](std::mt19937_64& random) { send_noise(cable, random); });
}

void make_virtio_net(Bench& b) {
  auto& cable = b.make<FakeNetwork>();
  auto& card = b.make<VirtioNet>("virtio_net", MacAddress{0x52, 0x54, 0, 1, 2, 3}, &cable);
  b.function(card).test(card).map_memory({0x20000000, 0x4000});
  card.write_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandBusMaster);
  b.at_memory({0x20000000, 0x40}).at_memory({0x20003000, 8}).host([&cable](std::mt19937_64& random) { send_noise(cable, random); });
}

// The tablet is reached through the controller; both are poked, whichever is under test.
Bench& usb(Bench& b, Device* (*choose)(Uhci&, UsbTablet&)) {
  auto& tablet = b.make<UsbTablet>(b.clock);
  auto& controller = b.make<Uhci>(b.clock);
  controller.attach(0, tablet);
  b.function(controller);
  b.test(controller).map({{0x300, 32}}).host([&](std::mt19937_64& random) {
    tablet.place(static_cast<u16>(random()), static_cast<u16>(random()), static_cast<int>(random()), random() & 0xff);
    const u64 noise = random();
    std::array<u8, 8> packet;
    for (unsigned i = 0; i < 8; ++i) packet[i] = static_cast<u8>(noise >> (8 * i)) & (random() % 2 ? 0xff : 0x83);
    constexpr UsbToken kTokens[] = {UsbToken::Setup, UsbToken::In, UsbToken::Out};
    tablet.transact(kTokens[random() % 3], random() % 2, std::span(packet).first(random() % 4 ? 8 : random() % 9));
  });
  return b.test(*choose(controller, tablet));
}

// Mostly wrappers that make sense, so that the commands are reached; the medium is changed for one like it.
Bench& usb_storage(Bench& b) {
  auto& storage = b.make<UsbStorage>(0, medium(64 << 10));
  auto& controller = b.make<Uhci>(b.clock);
  controller.attach(0, storage);
  b.function(controller).test(controller).map({{0x300, 32}});
  return b.test(storage).host([&](std::mt19937_64& random) {
    const auto send = [&](UsbToken token, u8 endpoint, std::span<u8> data) { storage.transact(token, endpoint, data); };
    std::array<u8, 64> packet;
    const auto request = [&](std::array<u8, 8> bytes) {
      send(UsbToken::Setup, 0, bytes);
      send(UsbToken::In, 0, packet);
    };
    switch (random() % 12) {
      case 0: return request({0, 9, 1, 0, 0, 0, 0, 0});
      case 1: return request({0x02, 1, 0, 0, static_cast<u8>(random() % 2 ? 0x81 : 0x02), 0, 0, 0});
      case 2: return request({0x21, 0xff, 0, 0, 0, 0, 0, 0});
      case 3: return storage.disk().eject(true), storage.disk().insert(medium(64 << 10));
      default: break;
    }
    constexpr u8 kCommands[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x5a, 0x88, 0x8a, 0x8f, 0x91, 0x9e, 0xa0, 0xa8, 0xaa, 0xaf};
    for (u8& byte : packet) byte = random() % 4 ? 0 : static_cast<u8>(random());
    constexpr u8 kSignature[] = {0x55, 0x53, 0x42, 0x43};
    std::copy_n(kSignature, 4, packet.begin());
    packet[12] &= 0x80;
    packet[13] = 0;
    packet[14] = static_cast<u8>(random() % 18);
    packet[15] = random() % 8 ? kCommands[random() % std::size(kCommands)] : packet[15];
    send(UsbToken::Out, 2, std::span(packet).first(random() % 16 ? 31 : random() % 65));
    for (unsigned i = random() % 24; i > 0; --i) send(random() % 2 ? UsbToken::In : UsbToken::Out, random() % 2 ? 1 : 2, std::span(packet).first(random() % 4 ? 64 : random() % 65));
    request({0x02, 1, 0, 0, 0x81, 0, 0, 0});
    send(UsbToken::In, 1, packet);
  });
}

struct Silence : AudioSink {
  void play(std::span<const i16>) override {}
};

void make_sb16(Bench& b) {
  auto& dma = b.make<Dma8237Pair>(b.memory);
  b.ports.map("dma", 0, 16, dma);
  b.ports.map("dma pages", 0x80, 16, dma);
  auto& mixer = b.make<AudioMixer>(b.clock, b.make<Silence>());
  auto& card = b.make<Sb16>(b.ports, b.clock, dma, [&b](unsigned irq, bool level) { b.lines.set_input(irq, level); }, &mixer);
  b.test(card).at_ports({{0x220, 16}, {0x220, 16}, {0x330, 2}, {0x388, 4}, {0, 16}, {0x80, 16}});
}

void make_ac97(Bench& b) {
  auto& mixer = b.make<AudioMixer>(b.clock, b.make<Silence>());
  auto& card = b.make<Ac97>(b.clock, &mixer);
  b.function(card).test(card).at_ports({{0xc000, 64}, {0xc400, 64}});
  card.write_config(0x10, 4, 0xc400);
  card.write_config(0x14, 4, 0xc000);
  card.write_config(0x04, 2, 5);
}

struct Candidate {
  const char* name;
  void (*make)(Bench& b);
};

// One line for each device; a new one belongs here.
const Candidate kCandidates[] = {
    {"debug_console", [](Bench& b) { b.test(b.make<DebugConsole>("debug_console", &b.backend)).map({{0x402, 1}}); }},
    {"e1000", make_e1000},
    {"virtio_net", make_virtio_net},
    {"ne2k_isa", make_ne2000},
    {"ne2k_pci", make_ne2000_pci},
    {"dma8237", [](Bench& b) { b.test(b.make<Dma8237Pair>(b.memory)).map({{0, 16}, {0x80, 16}, {0xc0, 32}}); }},
    {"floppy82077aa", make_floppy},
    {"ide", make_ide},
    {"fw_cfg", [](Bench& b) { fw_cfg(b); }},
    {"hpet", make_hpet},
    {"i440fx", [](Bench& b) { pci_function(b, b.make<I440fx>(b.memory, RamLayout{.below_4g = Bench::kRamSize})); }},
    {"i8042", [](Bench& b) { keyboard_controller(b, [](auto& c, auto&, auto&) -> Device* { return &c; }); }},
    {"ioapic", make_ioapic},
    {"isa_debug_exit", [](Bench& b) { b.test(b.make<IsaDebugExit>([](int) {})).map({{0xf4, 4}}); }},
    {"local_apic", [](Bench& b) { b.test(local_apic(b, b.make<ApicBus>())).at_memory({0xfee00000, 0x400}); }},
    {"parallel_port", [](Bench& b) { b.test(b.make<ParallelPort>("lpt", b.line(7), &b.backend)).map({{0x378, 3}}); }},
    {"pc_testdev", make_testdev},
    {"pci", [](Bench& b) { b.test(b.make<PciBus>(b.memory, b.ports)).at_ports({{0xcf8, 8}}); }},
    {"pic8259", [](Bench& b) { b.test(b.make<Pic8259Pair>(b.line())).map({{0x20, 2}, {0xa0, 2}, {0x4d0, 2}}); }},
    {"piix3", [](Bench& b) { pci_function(b, b.make<Piix3>(b.pci, b.lines, [](auto) {})).at_ports({{0xcf9, 1}}); }},
    {"piix4_pm", make_piix4_pm},
    {"pit8254", [](Bench& b) { b.test(b.make<Pit8254>(b.clock, b.line())).map({{0x40, 4}}); }},
    {"port61", make_port61},
    {"sb16", make_sb16},
    {"ac97", make_ac97},
    {"uhci", [](Bench& b) { usb(b, [](auto& controller, auto&) -> Device* { return &controller; }); }},
    {"usb_tablet", [](Bench& b) { usb(b, [](auto&, auto& tablet) -> Device* { return &tablet; }); }},
    {"usb_storage", [](Bench& b) { usb_storage(b); }},
    {"coprocessor_error",
     [](Bench& b) {
       auto& logic = b.make<CoprocessorError>(b.line(13));
       b.test(logic).map({{0xf0, 2}}).host([&](std::mt19937_64& random) { logic.set_ferr(random() & 1); });
     }},
    {"port92", [](Bench& b) { b.test(b.make<Port92>([](bool) {}, [] {})).map({{0x92, 1}}); }},
    {"ps2_keyboard", [](Bench& b) { keyboard_controller(b, [](auto&, auto& k, auto&) -> Device* { return &k; }); }},
    {"ps2_mouse", [](Bench& b) { keyboard_controller(b, [](auto&, auto&, auto& m) -> Device* { return &m; }); }},
    {"rtc_mc146818", [](Bench& b) { b.test(b.make<RtcMc146818>(b.clock, b.line(8), 1'700'000'000)).map({{0x70, 4}}); }},
    {"uart16550", make_uart},
    {"vga", make_vga},
};

struct Fixture {
  Bench bench;
  explicit Fixture(const Candidate& candidate, Ticks now = 0) {
    candidate.make(bench);
    bench.clock.advance(now);
    bench.reset(ResetKind::PowerOn);
  }
  Device& device() { return bench.device(); }
};

const Candidate& each_device() {
  const auto index = GENERATE(range<usize>(0, std::size(kCandidates)));
  return kCandidates[index];
}

// A device after `count` random accesses.
void poke(Fixture& fixture, std::mt19937_64& random, unsigned count) {
  for (unsigned i = 0; i < count; ++i) fixture.bench.poke(random);
}

constexpr Ticks kPowerOn = 3'141'592'653;

// A device's state apart from which of its timers were armed before those of others: each reset arms them anew.
std::string apart_from_order(Device& device) {
  std::stringstream lines(described(device));
  std::string kept;
  for (std::string line; std::getline(lines, line);)
    if (!line.contains("timer.sequence = ")) kept += line + '\n';
  return kept;
}

}  // namespace

TEST_CASE("resetting twice leaves the state that one reset leaves", "[conformance]") {
  const Candidate& candidate = each_device();
  const auto kind = GENERATE(ResetKind::PowerOn, ResetKind::System);
  CAPTURE(candidate.name, static_cast<int>(kind));
  Fixture fixture(candidate);
  std::mt19937_64 random(1);
  poke(fixture, random, 1000);
  fixture.bench.reset(kind);
  const auto once = apart_from_order(fixture.device());
  fixture.bench.reset(kind);
  CHECK(apart_from_order(fixture.device()) == once);
}

TEST_CASE("a power-on reset forgets what the guest did", "[conformance]") {
  const Candidate& candidate = each_device();
  if (std::string_view(candidate.name) == "ps2_keyboard") return;  // keys that are held down stay so
  CAPTURE(candidate.name);
  Fixture used(candidate, kPowerOn);
  std::mt19937_64 random(2);
  poke(used, random, 1000);
  used.bench.reset(ResetKind::PowerOn);
  Fixture fresh(candidate, used.bench.clock.now());
  CHECK(apart_from_order(used.device()) == apart_from_order(fresh.device()));
}

TEST_CASE("a saved state loads into a fresh device as an equal one", "[conformance]") {
  const Candidate& candidate = each_device();
  const auto accesses = GENERATE(0u, 10'000u);
  CAPTURE(candidate.name, accesses);
  Fixture original(candidate, kPowerOn);
  std::mt19937_64 random(3);
  poke(original, random, accesses);
  const auto data = saved(original.device());
  Fixture copy(candidate, original.bench.clock.now());
  REQUIRE(load(copy.device(), data));
  CHECK(described(copy.device()) == described(original.device()));
  CHECK(hash_of(copy.device()) == hash_of(original.device()));
}

TEST_CASE("saving does not change the device", "[conformance]") {
  const Candidate& candidate = each_device();
  CAPTURE(candidate.name);
  Fixture fixture(candidate);
  std::mt19937_64 random(4);
  poke(fixture, random, 1000);
  const auto first = saved(fixture.device());
  CHECK(saved(fixture.device()) == first);
}

TEST_CASE("a truncated state is refused", "[conformance]") {
  const Candidate& candidate = each_device();
  CAPTURE(candidate.name);
  Fixture original(candidate, kPowerOn);
  std::mt19937_64 random(5);
  poke(original, random, 1000);
  const auto data = saved(original.device());
  Fixture copy(candidate, original.bench.clock.now());
  const usize step = data.size() / 400 + 1;
  usize accepted = 0;
  for (usize length = 0; length < data.size(); length += step)
    accepted += load(copy.device(), std::span(data).first(length));
  CHECK(accepted == 0);
  CHECK(load(copy.device(), data));
}

TEST_CASE("a state with a flipped bit is refused or is a state that the device can live with", "[conformance]") {
  const Candidate& candidate = each_device();
  CAPTURE(candidate.name);
  Fixture original(candidate, kPowerOn);
  std::mt19937_64 random(6);
  poke(original, random, 1000);
  const auto data = saved(original.device());
  Fixture copy(candidate, original.bench.clock.now());
  for (unsigned i = 0; i < 400; ++i) {
    auto damaged = data;
    damaged[random() % damaged.size()] ^= static_cast<u8>(1u << random() % 8);
    // The machine puts back the state before a load that was refused.
    if (!load(copy.device(), damaged)) REQUIRE(load(copy.device(), data));
    poke(copy, random, 100);
    // Later times than the clock of the copy are what the devices refuse, so it must not fall behind.
    REQUIRE(copy.bench.clock.now() >= original.bench.clock.now());
    if (i % 50 == 49) copy.bench.reset(ResetKind::PowerOn);
  }
}
