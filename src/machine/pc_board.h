// The PC board: Intel 440FX and PIIX3, with everything that firmware and operating systems expect of such a PC.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/character_backend.h"
#include "devices/ethernet.h"
#include "machine/board.h"
#include "machine/linux_boot.h"
#include "machine/journaled_line.h"
#include "machine/journaled_link.h"
#include "machine/machine.h"
#include "machine/typed_keys.h"
#include "state/error.h"
#include "storage/block_device.h"

namespace vellum {

class AtapiCdrom;
class E1000;
class AudioMixer;
class AudioSink;
class PcSpeaker;
class CoprocessorError;
class Hpet;
class I440fx;
class IoApic;
class LocalApic;
class ApicBus;
class A20Gate;
class FwCfg;
class Floppy82077aa;
class PciBus;
class Piix3;
class Piix3Ide;
class Piix4Pm;
class Pic8259Pair;
class Pit8254;
class Ps2Keyboard;
class Ps2Mouse;
class RtcMc146818;
class SystemControlPort;
class UsbStorage;
class UsbTablet;
class Vga;
enum class DiskTranslation : u8;
class Dma8237Channel;

// What is plugged into the board. Everything that names a host file has been opened before.
struct PcConfig {
  struct IdeSlot {
    bool present = false;
    bool cdrom = false;
    std::unique_ptr<BlockDevice> medium;  // null: a CD-ROM drive without a disc
  };
  struct Serial {
    bool present = false;
    CharacterBackend* backend = nullptr;  // null: nothing connected
  };
  struct NetworkCard {
    enum class Model : u8 { E1000, Ne2kPci, Ne2kIsa, VirtioNet };
    Model model = Model::E1000;
    MacAddress address{};
    bool connected = false;             // there is a cable
    NetworkBackend* backend = nullptr;  // its far end; null: nobody is there, and only recorded frames come
    std::vector<u8> rom;                // at most 256 KiB; empty: none
    u16 port = 0x300;                   // of an ISA card
    u8 irq = 9;
  };
  std::vector<u8> bios;      // 64 KiB to 16 MiB, a multiple of 64 KiB
  std::vector<u8> vga_bios;  // at most 256 KiB; empty: none
  std::optional<KernelRequest> kernel;
  std::array<IdeSlot, 4> ide;  // primary master, primary slave, secondary master, secondary slave
  std::array<std::unique_ptr<BlockDevice>, 2> floppies;
  std::array<Serial, 4> serial;
  CharacterBackend* debug_console = nullptr;  // ports E9h and 402h
  std::string boot_order = "cad";             // letters as -boot order= takes them
  bool boot_menu = false;
  bool text_only = false;                     // firmware shall show its messages on the first serial line
  std::optional<u16> debug_exit_port;
  u16 debug_exit_size = 2;
  bool sb16 = false, ac97 = false;
  std::vector<NetworkCard> network;  // at most eight
  AudioSink* audio = nullptr;  // where sound goes; null: nowhere
  bool usb = false;         // the PIIX3's USB controller
  bool usb_tablet = false;  // a tablet on it
  // Disks on it, each null when there is no medium in it. With the tablet no more than the controller's ports.
  std::vector<std::unique_ptr<BlockDevice>> usb_disks;
  bool test_device = false;
  bool snapshot = false;  // -snapshot: writes to media that are inserted later are forgotten too
  u64 rtc_base = 0;  // what the clock shows at power-on, in seconds since 1970-01-01
};

class PcBoard final : public Board {
 public:
  // The bytes of GuestRam that a PC with this much memory and these ROMs needs.
  static u64 ram_mapping_size(u64 memory_size, const PcConfig& config);
  // Builds the board into a machine that was created with that size, and powers the machine on.
  static Result<void> build(Machine& machine, PcConfig config);
  ~PcBoard() override;

  std::string_view name() const override { return "pc"; }
  std::optional<u8> acknowledge_interrupt(unsigned cpu) override;
  u8 task_priority(unsigned cpu) override;
  void set_task_priority(unsigned cpu, u8 priority) override;
  void time_stamp_counter_written(unsigned cpu) override;
  bool read_apic_msr(unsigned cpu, u32 index, u64& value) override;
  bool write_apic_msr(unsigned cpu, u32 index, u64 value) override;
  void set_smm(unsigned cpu, bool active) override;
  bool send_interrupt(u32 apic_id, u32 command) override;
  void set_ferr(unsigned cpu, bool level) override;
  void cpu_initialised(unsigned cpu) override;
  void press_power_button() override;
  void key(KeyCode code, bool down) override;
  void move_pointer(int dx, int dy, int wheel, u8 buttons) override;
  bool pointer_is_absolute() const override;
  void place_pointer(u16 x, u16 y, int wheel, u8 buttons) override;
  std::vector<std::string> removable_drives() override;
  Result<void> change_medium(std::string_view drive, ImageOptions image, bool force) override;
  Result<void> eject_medium(std::string_view drive, bool force) override;
  ScreenSource* screen() override;
  void reset(ResetKind kind) override;
  std::vector<BlockDevice*> inserted_media() override;
  Result<void> flush_disks() override;
  std::optional<std::string> describe(std::string_view topic) override;

 private:
  // Main memory, ROM, video BIOS and video memory, one after the other in GuestRam.
  struct Layout {
    u64 below_4g, above_4g;
    u64 bios, bios_size;
    u64 vga_bios, vga_bios_size;
    std::vector<u64> network_roms;
    u64 video_memory;
    u64 total;
  };
  class IsaInterrupts;    // IRQ levels to the 8259s and the IOAPIC
  class SharedInterrupt;  // several devices on one ISA line
  class NmiInput;
  class DirectInterrupt;
  class CpuInputs;

  PcBoard(Machine& machine, PcConfig config);
  // A drive with a changeable medium: a CD-ROM drive, a USB disk, or the floppy drive of this number.
  struct RemovableDrive {
    std::string name;
    AtapiCdrom* cdrom = nullptr;
    UsbStorage* usb_disk = nullptr;
    unsigned floppy = 0;
  };
  std::vector<RemovableDrive> find_removable_drives();
  Result<RemovableDrive> find_removable_drive(std::string_view name);
  static bool answers_to(const RemovableDrive& drive, std::string_view name);
  BlockDevice* medium_of(const RemovableDrive& drive);
  struct MediumRequest;
  Result<void> request_medium(const MediumRequest& request);
  Result<void> serve_medium(const MediumRequest& request);
  Result<void> change_medium_now(std::string_view drive, ImageOptions image, bool force);
  Result<void> eject_medium_now(std::string_view drive, bool force);
  std::string describe_drives();
  std::string describe_network();
  // A ROM's size as its base address register wants it: a power of two.
  static u64 rom_size(std::span<const u8> rom);
  static Layout layout(u64 memory_size, const PcConfig& config);
  u64 guest_tsc() const;
  // The device's end of a line that leads to `host`; nullptr: to nothing.
  CharacterBackend* journaled(const std::string& name, CharacterBackend* host);
  void map_roms();
  void add_interrupt_controllers();
  void add_chipset();
  void add_isa_devices();
  void add_network();
  void add_serial_ports();
  void add_input_ports();
  Result<void> add_disks();
  void add_test_devices();
  void preset_cmos();
  Result<void> add_firmware_configuration();

  // Configuration.
  PcConfig m_config;
  Layout m_layout;
  std::array<DiskTranslation, 4> m_disk_translations{};
  // Wiring; the machine owns what is a Device.
  Machine& m_machine;
  std::unique_ptr<ApicBus> m_apic_bus;
  std::unique_ptr<A20Gate> m_a20;
  std::unique_ptr<CpuInputs> m_cpu_inputs;
  std::unique_ptr<DirectInterrupt> m_direct_interrupt;
  std::unique_ptr<IsaInterrupts> m_isa_interrupts;
  std::unique_ptr<NmiInput> m_nmi_input;
  std::array<std::unique_ptr<SharedInterrupt>, 2> m_serial_interrupts;  // IRQ 4 and IRQ 3
  std::unique_ptr<Dma8237Channel> m_floppy_dma;
  // Where input from outside comes in, and the far ends of the lines it comes by.
  InputPort* m_keys = nullptr;
  std::unique_ptr<TypedKeys> m_typed_keys;
  InputPort* m_pointer = nullptr;
  InputPort* m_tablet_pointer = nullptr;
  InputPort* m_power_button = nullptr;
  InputPort* m_media_port = nullptr;
  Result<void> m_media_result;  // of the change of a medium that came in by the port last
  std::vector<std::unique_ptr<JournaledLine>> m_lines;
  // Each card's cable, null where there is none, and what the card says of itself.
  struct Network {
    std::unique_ptr<JournaledLink> link;
    std::function<std::string()> describe_card;
  };
  std::vector<Network> m_network;
  Pic8259Pair* m_pic = nullptr;
  LocalApic* m_local_apic = nullptr;  // null: the CPU model has none
  IoApic* m_io_apic = nullptr;
  std::unique_ptr<AudioMixer> m_audio;  // null: nobody listens
  std::unique_ptr<PcSpeaker> m_speaker;
  PciBus* m_pci = nullptr;
  I440fx* m_host_bridge = nullptr;
  Piix3* m_isa_bridge = nullptr;
  Piix3Ide* m_ide = nullptr;
  Piix4Pm* m_power = nullptr;
  Hpet* m_hpet = nullptr;
  Pit8254* m_pit = nullptr;
  RtcMc146818* m_rtc = nullptr;
  SystemControlPort* m_system_control = nullptr;
  CoprocessorError* m_coprocessor_error = nullptr;
  Ps2Keyboard* m_keyboard = nullptr;
  Ps2Mouse* m_mouse = nullptr;
  UsbTablet* m_tablet = nullptr;  // null: not plugged in
  std::vector<UsbStorage*> m_usb_disks;
  Floppy82077aa* m_floppy = nullptr;
  Vga* m_vga = nullptr;
  FwCfg* m_fw_cfg = nullptr;
};

}  // namespace vellum
