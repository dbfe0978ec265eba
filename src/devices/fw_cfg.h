// The firmware configuration device: named and numbered byte strings for the firmware, by ports 510h-51Bh and by DMA.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "devices/device.h"
#include "devices/port_bus.h"
#include "mmu/address_space.h"
#include "state/error.h"

namespace vellum {

// Keys of items without a name, QEMU docs/specs/fw_cfg and its users (SeaBIOS, OVMF).
enum class FwCfgKey : u16 {
  Signature = 0x00, Id = 0x01, Uuid = 0x02, RamSize = 0x03, NoGraphic = 0x04, CpuCount = 0x05, MachineId = 0x06,
  KernelAddress = 0x07, KernelSize = 0x08, KernelCommandLine = 0x09, InitrdAddress = 0x0a, InitrdSize = 0x0b,
  BootDevice = 0x0c, Numa = 0x0d, BootMenu = 0x0e, MaxCpus = 0x0f, KernelEntry = 0x10, KernelData = 0x11,
  InitrdData = 0x12, CommandLineAddress = 0x13, CommandLineSize = 0x14, CommandLineData = 0x15, SetupAddress = 0x16,
  SetupSize = 0x17, SetupData = 0x18, FileDirectory = 0x19, FirstFile = 0x20, AcpiTables = 0x8000,
  SmbiosEntries = 0x8001, Irq0Override = 0x8002, E820Table = 0x8003, HpetTable = 0x8004
};

class FwCfg final : public Device, public PortHandler {
 public:
  // Called after a DMA write changed a writable file.
  using WriteCallback = std::function<void(std::span<const u8> content)>;

  FwCfg(AddressSpace& memory, PortBus& ports);
  ~FwCfg() override;

  void add_item(FwCfgKey key, std::vector<u8> content);
  void add_string(FwCfgKey key, std::string_view text);  // with a terminating zero
  void add_u16(FwCfgKey key, u16 value);
  void add_u32(FwCfgKey key, u32 value);
  void add_u64(FwCfgKey key, u64 value);
  // A file of the directory; a name that exists is replaced. Names are at most 55 bytes long. With a callback the guest
  // may write it.
  void add_file(std::string name, std::vector<u8> content, WriteCallback on_write = nullptr);
  // Makes a file's content depend on how the guest has set up the machine: `refresh` is called when the guest selects the
  // file and returns it anew, with the same size.
  void refresh_on_select(std::string_view name, std::function<std::vector<u8>()> refresh);
  bool has_file(std::string_view name) const { return m_files.contains(std::string(name)); }
  // Content of a file or item as it is now; empty when there is none.
  std::span<const u8> file(std::string_view name) const;
  std::span<const u8> item(FwCfgKey key) const;

  std::string_view name() const override { return "fw-cfg"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;  // position and writable files; other content is configuration

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

 private:
  struct File {
    std::vector<u8> content, initial;
    WriteCallback on_write;
    std::function<std::vector<u8>()> refresh;
  };
  void build_directory();
  void select(u16 key);
  void refresh_selected();
  std::vector<u8>* selected();
  File* selected_file();
  void run_dma(u64 address);

  // Wiring.
  AddressSpace& m_memory;
  PortBus& m_ports;
  std::vector<PortBus::Id> m_mappings;
  // Configuration.
  std::map<u16, std::vector<u8>> m_items;
  std::map<std::string, File> m_files;  // sorted by name, as firmware expects of the directory
  // Derived.
  std::vector<File*> m_order;  // key FirstFile + index
  std::vector<u8> m_directory;
  // Guest-visible state.
  struct State {
    u16 selector = 0;
    u32 position = 0;
    u32 dma_high = 0;
  } m_state;
};

}  // namespace vellum
