// Wiring of the PC board.
#include "machine/pc_board.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cpu/state.h"
#include "devices/a20_gate.h"
#include "devices/ac97.h"
#include "devices/acpi_tables.h"
#include "devices/apic_bus.h"
#include "devices/audio.h"
#include "devices/ata_disk.h"
#include "devices/atapi_cdrom.h"
#include "devices/coprocessor_error.h"
#include "devices/debug_console.h"
#include "devices/dma8237.h"
#include "devices/dma_channel.h"
#include "devices/e820.h"
#include "devices/floppy_82077aa.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/ide.h"
#include "devices/ioapic.h"
#include "devices/isa_debug_exit.h"
#include "devices/local_apic.h"
#include "devices/parallel_port.h"
#include "devices/pc_testdev.h"
#include "devices/pc_speaker.h"
#include "devices/pci.h"
#include "devices/pic8259.h"
#include "devices/piix3.h"
#include "devices/piix4_pm.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/rtc_mc146818.h"
#include "devices/sb16.h"
#include "devices/smbios_tables.h"
#include "devices/system_control_port.h"
#include "devices/uart16550.h"
#include "devices/uhci.h"
#include "devices/usb_storage.h"
#include "devices/usb_tablet.h"
#include "devices/vga.h"
#include "machine/disk_translation.h"
#include "machine/pc_cmos.h"
#include "state/assert.h"

namespace vellum {

namespace {

constexpr u64 k4GiB = u64{1} << 32;
// Memory that would reach into this range is split: PCI devices need addresses below 4 GiB.
constexpr u64 kLargestUnsplit = 0xe0000000;
constexpr u64 kBelow4gWhenSplit = 0xc0000000;
// The last 128 KiB of the BIOS also appear below 1 MiB, where the 440FX's PAM registers shadow them.
constexpr u64 kLowBiosSize = 0x20000;
constexpr int kRomPriority = 1;

constexpr u8 kSlotHostBridge = 0, kSlotSouthBridge = 1, kSlotVga = 2, kSlotAc97 = 4;

u64 align_up(u64 value, u64 alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace

// Pin n: IRQ n for n below 16, global system interrupt n above. IRQ 0 is wired to IOAPIC input 2, as the ACPI tables say.
// A wired OR of the chipset's lines and of those that the test device drives.
class PcBoard::IsaInterrupts final : public InterruptSink {
 public:
  IsaInterrupts(Pic8259Pair& pic, IoApic* io_apic) : m_pic(pic), m_io_apic(io_apic), m_test_device(*this) {}
  void set_input(unsigned pin, bool level) override {
    set_level(m_chipset_levels, pin, level);
    drive(pin);
  }
  InterruptSink& test_device() { return m_test_device; }

 private:
  static constexpr unsigned kPins = 24;
  class TestDevice final : public InterruptSink {
   public:
    explicit TestDevice(IsaInterrupts& interrupts) : m_interrupts(interrupts) {}
    void set_input(unsigned pin, bool level) override {
      set_level(m_levels, pin, level);
      m_interrupts.drive(pin);
    }
    bool level(unsigned pin) const { return m_levels >> pin & 1; }

   private:
    IsaInterrupts& m_interrupts;
    u32 m_levels = 0;
  };

  static void set_level(u32& levels, unsigned pin, bool level) {
    if (pin >= kPins) return;
    levels = level ? levels | 1u << pin : levels & ~(1u << pin);
  }
  void drive(unsigned pin) {
    if (pin >= kPins) return;
    const bool level = (m_chipset_levels >> pin & 1) || m_test_device.level(pin);
    if (pin < 16) m_pic.set_input(pin, level);
    // IRQ 2 is the cascade: on the IOAPIC its input is IRQ 0's.
    if (m_io_apic && pin != 2) m_io_apic->set_input(pin == 0 ? 2 : pin, level);
  }

  Pic8259Pair& m_pic;
  IoApic* m_io_apic;
  u32 m_chipset_levels = 0;
  TestDevice m_test_device;
};

// A wired OR. Devices drive their levels again when they are reset or loaded, so it has no state of its own.
class PcBoard::SharedInterrupt final : public InterruptSink {
 public:
  explicit SharedInterrupt(InterruptLine output) : m_output(output) {}
  void set_input(unsigned pin, bool level) override {
    m_levels = level ? m_levels | 1u << pin : m_levels & ~(1u << pin);
    m_output.set(m_levels != 0);
  }

 private:
  InterruptLine m_output;
  u32 m_levels = 0;
};

// NMI: to LINT1 of the local APIC, or the CPU's NMI pin (an edge) when there is none.
class PcBoard::NmiInput final : public InterruptSink {
 public:
  NmiInput(Cpu& cpu, LocalApic* apic) : m_cpu(cpu), m_apic(apic) {}
  void set_input(unsigned, bool level) override {
    if (m_apic) m_apic->set_input(1, level);
    else if (level && !m_level) m_cpu.raise_nmi();
    m_level = level;
  }

 private:
  Cpu& m_cpu;
  LocalApic* m_apic;
  bool m_level = false;
};

// INT of the 8259s to the CPU's INTR pin, on a machine whose CPU has no local APIC.
class PcBoard::DirectInterrupt final : public InterruptSink {
 public:
  explicit DirectInterrupt(Cpu& cpu) : m_cpu(cpu) {}
  void set_input(unsigned, bool level) override { m_cpu.set_interrupt_request(level); }

 private:
  Cpu& m_cpu;
};

// What the local APIC drives.
class PcBoard::CpuInputs final : public ApicCpu {
 public:
  CpuInputs(Machine& machine, unsigned index) : m_machine(machine), m_index(index) {}
  void set_interrupt_request(bool level) override { m_machine.cpu(m_index).set_interrupt_request(level); }
  void raise_nmi() override { m_machine.cpu(m_index).raise_nmi(); }
  void raise_smi() override { m_machine.cpu(m_index).raise_smi(); }
  void raise_init() override { m_machine.request_init(m_index); }
  // The bootstrap processor never waits for a start-up message, and ignores it: SDM Vol. 3A 9.4.
  void start_up(u8) override {}

 private:
  Machine& m_machine;
  unsigned m_index;
};

u64 PcBoard::rom_size(std::span<const u8> rom) { return rom.empty() ? 0 : std::bit_ceil(align_up(rom.size(), kPageSize)); }

PcBoard::Layout PcBoard::layout(u64 memory_size, const PcConfig& config) {
  Layout layout{};
  layout.below_4g = memory_size >= kLargestUnsplit ? kBelow4gWhenSplit : memory_size;
  layout.above_4g = memory_size - layout.below_4g;
  layout.bios = align_up(memory_size, 2u << 20);
  layout.bios_size = config.bios.size();
  layout.vga_bios = layout.bios + layout.bios_size;
  layout.vga_bios_size = rom_size(config.vga_bios);
  u64 roms_end = layout.vga_bios + layout.vga_bios_size;
  for (const auto& card : config.network) {
    layout.network_roms.push_back(roms_end);
    roms_end += rom_size(card.rom);
  }
  layout.video_memory = align_up(roms_end, 2u << 20);
  layout.total = layout.video_memory + Vga::kDefaultVramSize;
  return layout;
}

u64 PcBoard::ram_mapping_size(u64 memory_size, const PcConfig& config) { return layout(memory_size, config).total; }

Result<void> PcBoard::build(Machine& machine, PcConfig config) {
  VELLUM_ASSERT(machine.config().cpu_count == 1);
  auto* board = new PcBoard(machine, std::move(config));
  machine.set_board(std::unique_ptr<Board>(board));
  board->map_roms();
  board->add_interrupt_controllers();
  board->add_chipset();
  board->add_isa_devices();
  board->add_network();
  board->add_serial_ports();
  board->add_input_ports();
  if (auto added = board->add_disks(); !added) return added;
  board->add_test_devices();
  board->preset_cmos();
  if (auto added = board->add_firmware_configuration(); !added) return added;
  machine.power_on();
  return {};
}

PcBoard::PcBoard(Machine& machine, PcConfig config)
    : m_config(std::move(config)), m_layout(layout(machine.config().memory_size, m_config)), m_machine(machine) {
  VELLUM_ASSERT(machine.ram().size() == m_layout.total);
}

PcBoard::~PcBoard() = default;

void PcBoard::map_roms() {
  GuestRam& ram = m_machine.ram();
  std::memcpy(ram.host(m_layout.bios), m_config.bios.data(), m_config.bios.size());
  if (!m_config.vga_bios.empty())
    std::memcpy(ram.host(m_layout.vga_bios), m_config.vga_bios.data(), m_config.vga_bios.size());
  AddressSpace& memory = m_machine.memory();
  memory.map_ram("bios", GuestPhysAddr(k4GiB - m_layout.bios_size), m_layout.bios_size, m_layout.bios, kRomPriority,
                 AddressSpace::Access::ReadOnly);
  const u64 low = std::min(m_layout.bios_size, kLowBiosSize);
  memory.map_ram("bios below 1 MiB", GuestPhysAddr(0x100000 - low), low, m_layout.bios + m_layout.bios_size - low,
                 kRomPriority, AddressSpace::Access::ReadOnly);
}

void PcBoard::add_interrupt_controllers() {
  Cpu& cpu = m_machine.cpu();
  const CpuModel& model = m_machine.config().cpu_model;
  AddressSpace& memory = m_machine.memory();
  PortBus& ports = m_machine.ports();
  if (model.has(Feature::Apic)) {
    m_apic_bus = std::make_unique<ApicBus>();
    m_cpu_inputs = std::make_unique<CpuInputs>(m_machine, 0);
    LocalApic::Options options;
    options.x2apic = model.has(Feature::X2apic);
    options.tsc_deadline = model.has(Feature::TscDeadline);
    options.physical_address_bits = model.physical_address_bits;
    static_assert(kTscFrequency == kTicksPerSecond);
    LocalApic::Callbacks callbacks{
        .acknowledge_pic = [this] { return m_pic->acknowledge(); },
        .read_tsc = [this] { return guest_tsc(); },
        .tsc_to_ticks =
            [this](u64 tsc) {
              const u64 guest = guest_tsc();
              return tsc > guest ? m_machine.clock().now() + (tsc - guest) : Ticks{0};
            },
    };
    m_local_apic = &m_machine.add(std::make_unique<LocalApic>(memory, m_machine.clock(), *m_apic_bus, *m_cpu_inputs,
                                                              options, std::move(callbacks)));
    m_io_apic = &m_machine.add(std::make_unique<IoApic>(memory, *m_apic_bus));
    m_pic = &m_machine.add(std::make_unique<Pic8259Pair>(InterruptLine(*m_local_apic, 0)));
  } else {
    m_direct_interrupt = std::make_unique<DirectInterrupt>(cpu);
    m_pic = &m_machine.add(std::make_unique<Pic8259Pair>(InterruptLine(*m_direct_interrupt, 0)));
  }
  ports.map("pic8259 master", 0x20, 2, *m_pic);
  ports.map("pic8259 slave", 0xa0, 2, *m_pic);
  ports.map("pic8259 elcr", 0x4d0, 2, *m_pic);
  m_isa_interrupts = std::make_unique<IsaInterrupts>(*m_pic, m_io_apic);
  m_nmi_input = std::make_unique<NmiInput>(cpu, m_local_apic);
}

u64 PcBoard::guest_tsc() const { return m_machine.clock().now() + m_machine.cpu().state().tsc_offset; }

void PcBoard::add_chipset() {
  AddressSpace& memory = m_machine.memory();
  PortBus& ports = m_machine.ports();
  VirtualClock& clock = m_machine.clock();
  m_pci = &m_machine.add(std::make_unique<PciBus>(memory, ports));
  if (m_apic_bus)
    m_pci->set_message_handler([this](u64 address, u32 data) { m_apic_bus->deliver_msi(address, data); });

  m_host_bridge = &m_machine.add(std::make_unique<I440fx>(
      memory, RamLayout{.below_4g = m_layout.below_4g, .above_4g = m_layout.above_4g, .ram_offset = 0,
                        .high_ram_offset = m_layout.below_4g}));
  m_pci->attach(*m_host_bridge, kSlotHostBridge, 0);

  m_isa_bridge = &m_machine.add(std::make_unique<Piix3>(*m_pci, *m_isa_interrupts, [this](Piix3::ResetRequest request) {
    if (request == Piix3::ResetRequest::Hard) m_machine.request_reset();
    else m_machine.request_init(0);
  }));
  m_pci->attach(*m_isa_bridge, kSlotSouthBridge, 0);

  m_ide = &m_machine.add(std::make_unique<Piix3Ide>(ports, InterruptLine(*m_isa_bridge, 14), InterruptLine(*m_isa_bridge, 15)));
  m_pci->attach(*m_ide, kSlotSouthBridge, 1);

  if (m_config.usb) {
    auto& usb = m_machine.add(std::make_unique<Uhci>(clock));
    unsigned port = 0;
    if (m_config.usb_tablet) {
      m_tablet = &m_machine.add(std::make_unique<UsbTablet>(clock));
      usb.attach(port++, *m_tablet);
    }
    for (auto& medium : m_config.usb_disks) {
      auto& disk = m_machine.add(std::make_unique<UsbStorage>(static_cast<unsigned>(m_usb_disks.size()), std::move(medium)));
      m_usb_disks.push_back(&disk);
      usb.attach(port++, disk);
    }
    m_pci->attach(usb, kSlotSouthBridge, 2);
  }

  m_power = &m_machine.add(std::make_unique<Piix4Pm>(
      *m_pci, clock, InterruptLine(*m_isa_bridge, Piix3::kSci),
      Piix4Pm::Callbacks{.power_off = [this] { m_machine.request_power_off(); },
                         .raise_smi = [this] { m_machine.cpu().raise_smi(); }}));
  m_pci->attach(*m_power, kSlotSouthBridge, 3);

  m_vga = &m_machine.add(std::make_unique<Vga>(memory, ports, clock, m_layout.video_memory, Vga::kDefaultVramSize));
  if (m_layout.vga_bios_size) m_vga->set_rom(m_layout.vga_bios, static_cast<u32>(m_layout.vga_bios_size));
  m_pci->attach(*m_vga, kSlotVga, 0);

  // The HPET stands between PIT and RTC and their IRQs; without an IOAPIC its own routes lead nowhere.
  m_hpet = &m_machine.add(std::make_unique<Hpet>(memory, clock, *m_isa_bridge, *m_isa_interrupts));
}

void PcBoard::add_isa_devices() {
  PortBus& ports = m_machine.ports();
  VirtualClock& clock = m_machine.clock();
  if (m_config.audio) m_audio = std::make_unique<AudioMixer>(clock, *m_config.audio);
  m_pit = &m_machine.add(std::make_unique<Pit8254>(clock, InterruptLine(*m_hpet, Hpet::kPit)));
  ports.map("pit8254", 0x40, 4, *m_pit);
  m_system_control = &m_machine.add(std::make_unique<SystemControlPort>(clock, *m_pit, InterruptLine(*m_nmi_input, 0)));
  ports.map("port61", 0x61, 1, *m_system_control);
  m_speaker = std::make_unique<PcSpeaker>(clock, *m_pit, m_audio.get());
  m_system_control->enable_speaker = [this](bool enabled) { m_speaker->set_enabled(enabled); };
  m_rtc = &m_machine.add(std::make_unique<RtcMc146818>(clock, InterruptLine(*m_hpet, Hpet::kRtc), m_config.rtc_base,
                                                       [this](bool masked) { m_system_control->set_nmi_mask(masked); }));
  ports.map("rtc_mc146818", 0x70, 4, *m_rtc);

  m_coprocessor_error = &m_machine.add(std::make_unique<CoprocessorError>(InterruptLine(*m_isa_bridge, 13)));
  ports.map("coprocessor_error", 0xf0, 2, *m_coprocessor_error);

  m_a20 = std::make_unique<A20Gate>([this](bool enabled) { m_machine.cpu().set_a20(enabled); });
  const auto reset = [this] { m_machine.request_reset(); };
  auto& port92 = m_machine.add(std::make_unique<Port92>([this](bool level) { m_a20->set_port92(level); }, reset));
  ports.map("port92", 0x92, 1, port92);
  m_keyboard = &m_machine.add(std::make_unique<Ps2Keyboard>(clock));
  m_mouse = &m_machine.add(std::make_unique<Ps2Mouse>(clock));
  auto& i8042 = m_machine.add(std::make_unique<I8042>(
      clock, *m_keyboard, *m_mouse,
      I8042::Wiring{.irq1 = InterruptLine(*m_isa_bridge, 1), .irq12 = InterruptLine(*m_isa_bridge, 12),
                    .set_a20 = [this](bool level) { m_a20->set_keyboard_controller(level); }, .reset = reset}));
  ports.map("i8042 data", 0x60, 1, i8042);
  ports.map("i8042 command", 0x64, 1, i8042);

  auto& dma = m_machine.add(std::make_unique<Dma8237Pair>(m_machine.memory()));
  ports.map("dma8237 channels 0-3", 0x00, 16, dma);
  ports.map("dma8237 channels 4-7", 0xc0, 32, dma);
  // Port 92h lies among the images of the page registers on real boards; here they end at 8Fh.
  ports.map("dma8237 pages", 0x80, 16, dma);
  m_floppy_dma = std::make_unique<Dma8237Channel>(dma, 2);
  m_floppy = &m_machine.add(std::make_unique<Floppy82077aa>(ports, clock, InterruptLine(*m_isa_bridge, 6), *m_floppy_dma));

  if (m_config.sb16)
    m_machine.add(std::make_unique<Sb16>(ports, clock, dma, [this](unsigned irq, bool level) { m_isa_bridge->set_input(irq, level); }, m_audio.get()));
  if (m_config.ac97) m_pci->attach(m_machine.add(std::make_unique<Ac97>(clock, m_audio.get())), kSlotAc97, 0);

  auto& printer = m_machine.add(std::make_unique<ParallelPort>("parallel0", InterruptLine(*m_isa_bridge, 7), nullptr));
  ports.map("parallel0", 0x378, 3, printer);
}

void PcBoard::add_serial_ports() {
  constexpr u16 kPorts[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
  constexpr unsigned kIrqs[] = {4, 3};
  for (unsigned i = 0; i < 2; ++i)
    m_serial_interrupts[i] = std::make_unique<SharedInterrupt>(InterruptLine(*m_isa_bridge, kIrqs[i]));
  for (unsigned i = 0; i < m_config.serial.size(); ++i) {
    if (!m_config.serial[i].present) continue;
    const std::string name = fmt::format("uart16550.{}", i);
    auto& uart = m_machine.add(std::make_unique<Uart16550>(
        name, m_machine.clock(), InterruptLine(*m_serial_interrupts[i % 2], i / 2), journaled(fmt::format("serial{}", i), m_config.serial[i].backend)));
    m_machine.ports().map(name, kPorts[i], 8, uart);
  }
}

Result<void> PcBoard::add_disks() {
  for (unsigned i = 0; i < m_config.ide.size(); ++i) {
    auto& slot = m_config.ide[i];
    if (!slot.present) continue;
    const std::string serial = fmt::format("VL{:05}", i + 1);
    std::unique_ptr<IdeDrive> drive;
    if (slot.cdrom) drive = std::make_unique<AtapiCdrom>(std::move(slot.medium), serial);
    else {
      std::array<u8, kSectorSize> boot_sector{};
      if (auto read = slot.medium->read(0, boot_sector); !read) return read;
      const BiosDisk disk = choose_disk_translation(slot.medium->size() / kSectorSize, boot_sector);
      m_disk_translations[i] = disk.translation;
      drive = std::make_unique<AtaDisk>(std::move(slot.medium), disk.physical, serial);
    }
    m_ide->attach_drive(i / 2, i % 2, std::move(drive));
  }
  // Drive A: is always there, as on every PC of this kind; drive B: when something is in it.
  m_floppy->set_drive_type(0, FloppyDriveType::Inch3_1440K);
  for (unsigned i = 0; i < m_config.floppies.size(); ++i) {
    if (!m_config.floppies[i]) continue;
    if (auto inserted = m_floppy->insert(i, std::move(m_config.floppies[i]), true); !inserted) return inserted;
  }
  return {};
}

void PcBoard::add_test_devices() {
  PortBus& ports = m_machine.ports();
  if (m_config.test_device) {
    auto& device = m_machine.add(std::make_unique<PcTestdev>(m_isa_interrupts->test_device()));
    ports.map("pc-testdev", 0xe0, 12, device);
    ports.map("pc-testdev lines", 0x2000, PcTestdev::kLines, device);
    m_machine.memory().map_mmio("pc-testdev", GuestPhysAddr(PcTestdev::kMemoryBase), PcTestdev::kMemorySize, device);
  }
  if (m_config.debug_exit_port) {
    auto& device = m_machine.add(std::make_unique<IsaDebugExit>([this](int status) { m_machine.request_end(status); }));
    ports.map("isa-debug-exit", *m_config.debug_exit_port, m_config.debug_exit_size, device);
  }
  if (m_config.debug_console) {
    auto& device = m_machine.add(std::make_unique<DebugConsole>("debugcon", journaled("debugcon", m_config.debug_console)));
    ports.map("debugcon", 0xe9, 1, device);
    ports.map("debugcon", 0x402, 1, device);
  }
}

void PcBoard::preset_cmos() {
  PcCmos cmos;
  cmos.below_4g = m_layout.below_4g;
  cmos.above_4g = m_layout.above_4g;
  cmos.cpus = m_machine.cpu_count();
  cmos.boot_order = m_config.boot_order;
  cmos.math_coprocessor = m_machine.config().cpu_model.has(Feature::Fpu);
  for (unsigned i = 0; i < 2; ++i) cmos.floppy_types[i] = static_cast<u8>(m_floppy->drive_type(i));
  for (unsigned i = 0; i < 4; ++i) {
    const auto* disk = dynamic_cast<AtaDisk*>(m_ide->drive(i / 2, i % 2));
    if (!disk) continue;
    const auto geometry = disk->geometry();
    cmos.disks[i] = {.present = true, .cylinders = geometry.cylinders, .heads = geometry.heads, .sectors = geometry.sectors,
                     .translation = static_cast<u8>(m_disk_translations[i])};
  }
  for (const auto& [index, value] : cmos.bytes()) m_rtc->preset(index, value);
}

Result<void> PcBoard::add_firmware_configuration() {
  m_fw_cfg = &m_machine.add(std::make_unique<FwCfg>(m_machine.memory(), m_machine.ports()));
  FwCfg& fw_cfg = *m_fw_cfg;
  const CpuModel& model = m_machine.config().cpu_model;
  const auto cpus = static_cast<u16>(m_machine.cpu_count());
  fw_cfg.add_u64(FwCfgKey::RamSize, m_machine.config().memory_size);
  fw_cfg.add_u16(FwCfgKey::CpuCount, cpus);
  fw_cfg.add_u16(FwCfgKey::MaxCpus, cpus);
  fw_cfg.add_u16(FwCfgKey::NoGraphic, m_config.text_only);
  fw_cfg.add_u16(FwCfgKey::BootMenu, m_config.boot_menu);
  fw_cfg.add_item(FwCfgKey::Uuid, std::vector<u8>(16));
  fw_cfg.add_u32(FwCfgKey::Irq0Override, 1);
  fw_cfg.add_file("etc/e820", make_e820_map(m_layout.below_4g, m_layout.above_4g).serialise());
  add_acpi_tables(fw_cfg, {.cpus = cpus,
                           .ram_below_4g = m_layout.below_4g,
                           .com1 = m_config.serial[0].present,
                           .com2 = m_config.serial[1].present,
                           .pm_base = [this] { return m_power->pm_base(); }});
  const CpuidResult identity = model.cpuid(1, 0);
  add_smbios_tables(fw_cfg, {.ram_below_4g = m_layout.below_4g,
                             .ram_above_4g = m_layout.above_4g,
                             .cpus = cpus,
                             .cpu_name = model.brand,
                             .cpu_signature = identity.eax,
                             .cpu_features = identity.edx,
                             .version = VELLUM_VERSION});
  if (m_config.kernel) {
    m_config.kernel->ram_below_4g = m_layout.below_4g;
    m_config.kernel->ram_above_4g = m_layout.above_4g;
    auto line = add_kernel(fw_cfg, std::move(*m_config.kernel));
    m_config.kernel.reset();
    if (!line) return std::unexpected(line.error());
    // Lines end with a newline, and the file with a zero byte.
    std::vector<u8> order(line->begin(), line->end());
    if (order.empty() || order.back() != '\n') order.push_back('\n');
    order.push_back(0);
    fw_cfg.add_file("bootorder", std::move(order));
  }
  return {};
}

std::optional<u8> PcBoard::acknowledge_interrupt(unsigned) {
  if (m_local_apic) return m_local_apic->acknowledge();
  if (!m_pic->pending()) return std::nullopt;
  return m_pic->acknowledge();
}

u8 PcBoard::task_priority(unsigned) { return m_local_apic ? m_local_apic->task_priority() : 0; }

void PcBoard::set_task_priority(unsigned, u8 priority) {
  if (m_local_apic) m_local_apic->set_task_priority(priority);
}

void PcBoard::time_stamp_counter_written(unsigned) {
  if (m_local_apic) m_local_apic->tsc_changed();
}

bool PcBoard::read_apic_msr(unsigned, u32 index, u64& value) { return m_local_apic && m_local_apic->read_msr(index, value); }

bool PcBoard::write_apic_msr(unsigned, u32 index, u64 value) { return m_local_apic && m_local_apic->write_msr(index, value); }

void PcBoard::set_smm(unsigned, bool active) { m_host_bridge->set_smm(active); }

bool PcBoard::send_interrupt(u32 apic_id, u32 command) {
  return m_apic_bus && m_apic_bus->deliver({.destination = apic_id,
                                            .x2apic_destination = true,
                                            .delivery = static_cast<ApicDelivery>((command >> 8) & 7),
                                            .vector = static_cast<u8>(command)});
}

void PcBoard::set_ferr(unsigned, bool level) { m_coprocessor_error->set_ferr(level); }

void PcBoard::cpu_initialised(unsigned) {
  if (m_local_apic) m_local_apic->init();
}

ScreenSource* PcBoard::screen() { return m_vga; }

void PcBoard::reset(ResetKind) {
  m_machine.cpu().set_a20(m_a20->enabled());
  m_typed_keys->forget_presses();
}

Result<void> PcBoard::flush_disks() {
  Result<void> result;
  for (unsigned i = 0; i < 4; ++i) {
    IdeDrive* drive = m_ide->drive(i / 2, i % 2);
    if (!drive) continue;
    if (auto flushed = drive->flush(); !flushed && result) result = flushed;
  }
  for (unsigned i = 0; i < 2; ++i) {
    BlockDevice* medium = m_floppy->medium(i);
    if (!medium) continue;
    if (auto flushed = medium->flush(); !flushed && result) result = flushed;
  }
  for (UsbStorage* disk : m_usb_disks)
    if (auto flushed = disk->disk().flush(); !flushed && result) result = flushed;
  return result;
}

std::optional<std::string> PcBoard::describe(std::string_view topic) {
  if (topic == "pci") return m_pci->describe();
  if (topic == "screen") return m_vga->text_screen();
  if (topic == "network") return describe_network();
  if (topic == "block") return describe_drives();
  if (topic == "pic") return m_pic->describe() + (m_io_apic ? m_io_apic->describe() : "");
  if (topic == "lapic") return m_local_apic ? m_local_apic->describe() : "this CPU has no local APIC\n";
  return std::nullopt;
}

}  // namespace vellum
