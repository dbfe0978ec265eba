// The page walker, SDM Vol. 3A chapter 4.
#include "mmu/page_walk.h"

#include <cstring>

namespace vellum {

namespace {

namespace entry {
// Bits of paging-structure entries, SDM Vol. 3A tables 4-4 to 4-20.
constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kPageSize = 0x80, kGlobal = 0x100,
              kExecuteDisable = u64{1} << 63;
constexpr u64 kAddress = 0x000f'ffff'ffff'f000;
constexpr unsigned kKeyShift = 59;
}  // namespace entry

// Error code of #PF, SDM Vol. 3A 4.7.
constexpr u32 kFaultPresent = 1, kFaultWrite = 2, kFaultUser = 4, kFaultReserved = 8, kFaultFetch = 16, kFaultKey = 32;

constexpr unsigned kMaxLevels = 5;

// What following the tables has found.
struct Path {
  bool present = false;   // all entries are
  bool reserved = false;  // one of them has a reserved bit set
  u64 rights = 0;         // writable and user: set at all levels
  u64 disable = 0;        // execute-disable: set at some level
  u64 leaf = 0;
  unsigned leaf_shift = 0;  // log2 of the page's size
  u64 frame = 0;            // its physical address
  unsigned count = 0;       // entries that have an accessed bit, the leaf last
  u64 address[kMaxLevels];
  u64 value[kMaxLevels];
};

template <class T>
inline T read_entry(AddressSpace& memory, u64 address) {
  if (const u8* host = memory.ram_host(GuestPhysAddr(address))) [[likely]] {
    T value;
    std::memcpy(&value, host, sizeof(T));
    return value;
  }
  return memory.read_value<T>(GuestPhysAddr(address));
}

// 32-bit paging, 4.3.
void follow_32(AddressSpace& memory, const PagingControls& controls, u32 linear, Path& path) {
  path.rights = entry::kWritable | entry::kUser;
  const u64 directory_address = ((controls.cr3 & 0xffff'f000) | (linear >> 22) * 4) & controls.a20_mask;
  const u32 directory = read_entry<u32>(memory, directory_address);
  path.address[0] = directory_address;
  path.value[0] = directory;
  path.count = 1;
  if (!(directory & entry::kPresent)) return;
  path.rights &= directory;
  if ((directory & entry::kPageSize) && controls.page_size_extension) {
    path.present = true;
    path.leaf = directory;
    path.leaf_shift = 22;
    // PSE-36 puts bits 32 and up of the address, at most up to bit 39, into bits 13 and up; table 4-4.
    unsigned high_bits = 0;
    if (controls.pse36 && controls.physical_address_bits > 32)
      high_bits = controls.physical_address_bits < 40 ? controls.physical_address_bits - 32 : 8;
    const u32 high = (directory >> 13) & ((1u << high_bits) - 1);
    path.reserved = (directory & 0x003f'e000) >> (13 + high_bits) != 0;
    path.frame = (directory & 0xffc0'0000) | u64{high} << 32;
    return;
  }
  const u64 table_address = ((directory & 0xffff'f000) | ((linear >> 12) & 0x3ff) * 4) & controls.a20_mask;
  const u32 table = read_entry<u32>(memory, table_address);
  path.address[1] = table_address;
  path.value[1] = table;
  path.count = 2;
  if (!(table & entry::kPresent)) return;
  path.rights &= table;
  path.present = true;
  path.leaf = table;
  path.leaf_shift = 12;
  path.frame = table & 0xffff'f000;
}

// Tables of 512 entries of 64 bits: PAE below its PDPTEs (4.4), 4-level and 5-level paging (4.5).
inline void follow_64(AddressSpace& memory, const PagingControls& controls, u64 linear, u64 table, unsigned levels,
                      u64 reserved, Path& path) {
  path.rights = entry::kWritable | entry::kUser;
  const u64 a20_mask = controls.a20_mask;
  for (unsigned level = levels; level > 0; --level) {
    const unsigned shift = 3 + 9 * level;
    const u64 address = (table | ((linear >> shift) & 0x1ff) * 8) & a20_mask;
    const u64 value = read_entry<u64>(memory, address);
    path.address[path.count] = address;
    path.value[path.count] = value;
    ++path.count;
    if (!(value & entry::kPresent)) return;
    if (value & reserved) [[unlikely]] {
      path.reserved = true;
      return;
    }
    path.rights &= value;
    path.disable |= value;
    if (level == 1 || (value & entry::kPageSize)) {
      // Level 2 and 3 map pages of 2 MiB and 1 GiB, 4.5.4; above, bit 7 is reserved.
      if (level > 3 || (level == 3 && !controls.gigabyte_pages)) [[unlikely]] {
        path.reserved = true;
        return;
      }
      const u64 offset_bits = (u64{1} << shift) - 1;
      // Bit 12 of a large page's entry is its PAT bit; the bits between it and the address are reserved.
      if (level > 1 && (value & offset_bits & ~u64{0x1fff})) [[unlikely]] {
        path.reserved = true;
        return;
      }
      path.present = true;
      path.leaf = value;
      path.leaf_shift = shift;
      path.frame = value & entry::kAddress & ~offset_bits;
      return;
    }
    table = value & entry::kAddress;
  }
}

inline Path follow(AddressSpace& memory, const PagingControls& controls, u64 linear) {
  Path path;
  const u64 above = ~u64{0} << controls.physical_address_bits;
  const u64 no_execute = controls.no_execute ? 0 : entry::kExecuteDisable;
  switch (controls.mode) {
    case PagingMode::None:
      break;
    case PagingMode::Bits32:
      follow_32(memory, controls, static_cast<u32>(linear), path);
      break;
    case PagingMode::Pae: {
      // The PDPTEs are registers, their reserved bits were checked when they were loaded, 4.4.1.
      const u64 pointer = controls.pdpte[(linear >> 30) & 3];
      if (!(pointer & entry::kPresent)) break;
      const u64 reserved = (above & ~entry::kExecuteDisable) | no_execute;
      follow_64(memory, controls, static_cast<u32>(linear), pointer & entry::kAddress, 2, reserved, path);
      break;
    }
    case PagingMode::Level4:
    case PagingMode::Level5: {
      const u64 reserved = (above & entry::kAddress) | no_execute;
      const unsigned levels = controls.mode == PagingMode::Level4 ? 4 : 5;
      follow_64(memory, controls, linear, controls.cr3 & entry::kAddress, levels, reserved, path);
      break;
    }
  }
  return path;
}

[[gnu::cold, gnu::noinline]] PageFault fault(const PagingControls& controls, PageAccess access, u32 cause) {
  if (access.type == AccessType::Write) cause |= kFaultWrite;
  if (access.user) cause |= kFaultUser;
  // The I/D bit exists with SMEP or with XD, 4.7.
  const bool pae = controls.mode != PagingMode::Bits32;
  if (access.type == AccessType::Execute && (controls.smep || (pae && controls.no_execute))) cause |= kFaultFetch;
  return {cause};
}

[[gnu::cold, gnu::noinline]] void set_bits(AddressSpace& memory, u64 address, u64 value) {
  memory.write_value(GuestPhysAddr(address), static_cast<u32>(value));  // both flags stand in the low half
}

}  // namespace

std::expected<Translation, PageFault> walk(AddressSpace& memory, const PagingControls& controls, u64 linear,
                                           PageAccess access) {
  Translation result;
  if (controls.mode == PagingMode::None) {
    result.page = GuestPhysAddr(linear & ~kPageMask & controls.a20_mask);
    result.user_read = result.user_write = result.supervisor_write = true;
    result.user_execute = result.supervisor_execute = result.dirty = true;
    return result;
  }
  const Path path = follow(memory, controls, linear);
  if (path.reserved) [[unlikely]] return std::unexpected(fault(controls, access, kFaultPresent | kFaultReserved));
  if (!path.present) [[unlikely]] return std::unexpected(fault(controls, access, 0));

  // Access rights, 4.6.
  const bool user_page = path.rights & entry::kUser;
  const bool writable = path.rights & entry::kWritable;
  const bool executable = !(path.disable & entry::kExecuteDisable);
  result.user_page = user_page;
  result.user_read = user_page;
  result.user_write = user_page && writable;
  result.supervisor_write = writable || !controls.write_protect;
  result.user_execute = user_page && executable;
  result.supervisor_execute = executable && !(controls.smep && user_page);
  // Protection keys guard data accesses: PKRU those to user pages, IA32_PKRS those to supervisor pages, 4.6.2.
  if (user_page ? controls.protection_keys : controls.supervisor_keys) {
    const unsigned key = (path.leaf >> entry::kKeyShift) & 15;
    const u32 rights = (user_page ? controls.pkru : controls.pkrs) >> (2 * key);
    result.key_read = !(rights & 1);
    result.key_write = !(rights & 1) && (!(rights & 2) || (!access.user && !controls.write_protect));
  }

  bool allowed, key_allowed = true;
  switch (access.type) {
    case AccessType::Execute:
      allowed = access.user ? result.user_execute : result.supervisor_execute;
      break;
    case AccessType::Read:
      allowed = access.user ? result.user_read : true;
      key_allowed = result.key_read;
      break;
    case AccessType::Write:
      allowed = access.user ? result.user_write : result.supervisor_write;
      key_allowed = result.key_write;
      break;
  }
  if (access.type != AccessType::Execute && !access.user && user_page && controls.smap && access.smap_in_force)
    allowed = false;
  if (!allowed || !key_allowed) [[unlikely]]
    return std::unexpected(fault(controls, access, kFaultPresent | (key_allowed ? 0 : kFaultKey)));

  // Accessed and dirty flags, 4.8.
  const unsigned leaf = path.count - 1;
  for (unsigned i = 0; i < leaf; ++i)
    if (!(path.value[i] & entry::kAccessed)) [[unlikely]]
      set_bits(memory, path.address[i], path.value[i] | entry::kAccessed);
  const u64 wanted = access.type == AccessType::Write ? entry::kAccessed | entry::kDirty : entry::kAccessed;
  if ((path.leaf & wanted) != wanted) [[unlikely]] set_bits(memory, path.address[leaf], path.leaf | wanted);

  const u64 inside = linear & ((u64{1} << path.leaf_shift) - 1) & ~kPageMask;
  result.page = GuestPhysAddr((path.frame | inside) & controls.a20_mask);
  result.dirty = (path.leaf & entry::kDirty) || access.type == AccessType::Write;
  result.global = controls.global_pages && (path.leaf & entry::kGlobal);
  result.large = path.leaf_shift > kPageBits;
  return result;
}

std::optional<GuestPhysAddr> walk_quietly(AddressSpace& memory, const PagingControls& controls, u64 linear) {
  if (controls.mode == PagingMode::None) return GuestPhysAddr(linear & controls.a20_mask);
  const Path path = follow(memory, controls, linear);
  if (!path.present || path.reserved) return std::nullopt;
  return GuestPhysAddr((path.frame | (linear & ((u64{1} << path.leaf_shift) - 1))) & controls.a20_mask);
}

}  // namespace vellum
