// 82441FX host bridge: maps main memory, the shadowable areas C0000h-FFFFFh (PAM) and SMRAM.
#pragma once

#include <vector>

#include "devices/pci.h"

namespace vellum {

// Where main memory lies in GuestRam and in the guest's address space. Sizes are multiples of 4 KiB.
struct RamLayout {
  u64 below_4g = 0;         // bytes from guest-physical 0
  u64 above_4g = 0;         // bytes from guest-physical 4 GiB
  u64 ram_offset = 0;       // GuestRam offset of guest-physical 0
  u64 high_ram_offset = 0;  // GuestRam offset of guest-physical 4 GiB
};

// The bridge's mappings have priority 2 (PAM) and 3 (SMRAM), main memory 0: the board maps ROM below 1 MiB (what is
// seen where PAM does not give RAM) and the VGA window with priority 1.
class I440fx final : public PciDevice {
 public:
  I440fx(AddressSpace& memory, const RamLayout& layout);
  ~I440fx() override;

  // SMIACT#: while active, SMRAM shows where the SMRAM register enables it.
  void set_smm(bool active);
  bool smram_visible() const { return m_smram_mapping != 0; }
  const RamLayout& layout() const { return m_layout; }

  std::string_view name() const override { return "i440fx"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

 protected:
  void config_written(unsigned offset, unsigned size) override;

 private:
  void map_main_memory();
  void update_pam();
  void update_smram();

  // Configuration.
  AddressSpace& m_memory;
  RamLayout m_layout;
  // Derived.
  struct Segment {
    AddressSpace::Id id = 0;
    u8 attributes = 0;  // bit 0 reads, bit 1 writes go to RAM
  };
  std::array<Segment, 13> m_segments{};
  std::vector<AddressSpace::Id> m_main;
  AddressSpace::Id m_smram_mapping = 0;
  // Guest-visible state, beside the configuration space.
  struct State {
    bool smm_active = false;
    u8 smram = 0x02;  // the SMRAM register as accepted (it can be locked)
  } m_state;
};

}  // namespace vellum
