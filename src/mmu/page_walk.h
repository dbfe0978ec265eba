// The page walker: all paging modes of x86, with accessed and dirty bits and the error codes of #PF.
#pragma once

#include <array>
#include <expected>
#include <optional>

#include "mmu/address.h"
#include "mmu/address_space.h"

namespace vellum {

enum class PagingMode : u8 { None, Bits32, Pae, Level4, Level5 };

// The control state that translation depends on, SDM Vol. 3A 4.1. Kept up to date by the CPU when it writes CR0, CR3,
// CR4, EFER, PKRU or IA32_PKRS.
struct PagingControls {
  PagingMode mode = PagingMode::None;
  bool write_protect = false;       // CR0.WP
  bool page_size_extension = false; // CR4.PSE (32-bit paging only)
  bool global_pages = false;        // CR4.PGE
  bool no_execute = false;          // EFER.NXE
  bool smep = false, smap = false;
  bool protection_keys = false;     // CR4.PKE
  bool gigabyte_pages = false;      // CPUID Pdpe1gb
  bool pse36 = false;
  bool supervisor_keys = false;     // CR4.PKS
  u32 pkru = 0, pkrs = 0;
  u64 cr3 = 0;
  std::array<u64, 4> pdpte{};       // PAE: loaded by MOV to CR3, SDM Vol. 3A 4.4.1
  unsigned physical_address_bits = 40;
  u64 a20_mask = ~u64{0};           // applied to every physical address
};

enum class AccessType : u8 { Read, Write, Execute };

struct PageAccess {
  AccessType type = AccessType::Read;
  bool user = false;       // made with CPL 3 and not an implicit supervisor access
  bool smap_in_force = true;  // CR4.SMAP accesses to user pages fault: false when EFLAGS.AC is set for an explicit access
};

struct Translation {
  GuestPhysAddr page;      // of the 4 KiB page that holds the address
  bool user_read = false, user_write = false;              // what CPL 3 may do
  bool supervisor_write = false;                           // given CR0.WP
  bool user_execute = false, supervisor_execute = false;   // given NX and SMEP
  bool user_page = false;  // U/S set at all levels: SMAP applies to supervisor accesses
  bool dirty = false;      // D is set: writes need no further walk
  bool global = false;
  bool large = false;      // mapped by an entry above the lowest level
  bool key_read = true, key_write = true;   // what PKRU or IA32_PKRS grants to data accesses
};

struct PageFault {
  u32 error_code = 0;  // SDM Vol. 3A 4.7
};

// Translates `linear` for `access`, setting accessed bits (and the dirty bit for a write) in the guest's tables.
std::expected<Translation, PageFault> walk(AddressSpace& memory, const PagingControls& controls, u64 linear,
                                           PageAccess access);
// The same without side effects or permission checks, for debuggers; empty when nothing is mapped.
std::optional<GuestPhysAddr> walk_quietly(AddressSpace& memory, const PagingControls& controls, u64 linear);

}  // namespace vellum
