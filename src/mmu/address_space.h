// The guest-physical address space: RAM, ROM, MMIO and holes, and all accesses to it that do not go through a TLB.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmu/address.h"
#include "mmu/guest_ram.h"
#include "state/integers.h"

namespace vellum {

// A device's registers in memory. `offset` counts bytes from the start of the mapping. Accesses arrive naturally
// aligned with size 1, 2, 4 or 8, at most max_mmio_size(); wider or unaligned ones are split (little-endian).
class MmioHandler {
 public:
  virtual ~MmioHandler() = default;
  virtual u64 read_mmio(u64 offset, unsigned size) = 0;
  virtual void write_mmio(u64 offset, unsigned size, u64 value) = 0;
  virtual unsigned max_mmio_size() const { return 4; }
};

// Who must learn that guest memory changed or moved behind its back (code caches, TLBs).
class MemoryListener {
 public:
  virtual ~MemoryListener() = default;
  // Bytes of RAM that hold code were written by something other than the CPU's own store path (DMA, loader).
  virtual void code_written(u64 ram_offset, u64 size) = 0;
  // The layout changed: every cached translation is void.
  virtual void layout_changed() = 0;
  // Somebody wants to learn of the next store to each of these pages of RAM: no translation may permit one unseen.
  virtual void writes_watched(u64 ram_offset, u64 size) = 0;
};

enum class RegionKind : u8 { Hole, Ram, Rom, Mmio };

// What answers at one guest-physical page. Ram: read and write `ram_offset`; Rom: read `ram_offset`, writes are lost
// (or go to `write_ram_offset`'s RAM for PAM's write-only shadowing); Mmio: ask the address space.
struct PageTarget {
  RegionKind read = RegionKind::Hole;
  RegionKind write = RegionKind::Hole;
  u64 read_ram_offset = 0;   // into GuestRam, when read is Ram or Rom
  u64 write_ram_offset = 0;  // into GuestRam, when write is Ram
};

// Mappings have priorities; where several cover a page, the highest answers. Boundaries are whole pages, except for
// MMIO, which may be any size (a page with several MMIO regions asks each by address).
class AddressSpace {
 public:
  explicit AddressSpace(GuestRam& ram) : m_ram(ram) {}

  using Id = u32;
  // Access that the mapping gives. ReadOnly: ROM. ReadRamWriteElsewhere is made of two mappings.
  enum class Access : u8 { ReadWrite, ReadOnly, WriteOnly };

  Id map_ram(std::string name, GuestPhysAddr base, u64 size, u64 ram_offset, int priority = 0,
             Access access = Access::ReadWrite);
  Id map_mmio(std::string name, GuestPhysAddr base, u64 size, MmioHandler& handler, int priority = 1);
  void unmap(Id id);

  // One page as the TLB needs it. Thread: the machine's.
  PageTarget lookup(GuestPhysAddr address) const;

  // The host address at which `address` can be read, quickly, when it lies in one of the largest runs of RAM (page
  // tables do), else nullptr: that says nothing about what is there. Valid to the end of the page.
  const u8* ram_host(GuestPhysAddr address) const {
    for (const RamRun& run : m_ram_runs)
      if (address.value - run.base < run.size) return run.host + (address.value - run.base);
    return nullptr;
  }

  // CPU-side accesses that miss RAM (MMIO, ROM writes, holes). size 1, 2, 4, 8; must not cross a page.
  u64 read_slow(GuestPhysAddr address, unsigned size);
  void write_slow(GuestPhysAddr address, unsigned size, u64 value);

  // DMA and firmware accesses of any length. Holes read all-ones; writes to ROM and holes are lost.
  void read(GuestPhysAddr address, std::span<u8> data);
  void write(GuestPhysAddr address, std::span<const u8> data);
  // A device that changes bytes of RAM by host pointer (display memory) tells of it here: page flags and listeners.
  void ram_written(u64 ram_offset, u64 size);
  // Sets kPageCleanDisplay for these pages (whole ones); the next store to each clears it again, whoever makes it.
  void watch_for_display(u64 ram_offset, u64 size);
  template <class T>
  T read_value(GuestPhysAddr address) {
    T value{};
    read(address, {reinterpret_cast<u8*>(&value), sizeof(value)});
    return value;
  }
  template <class T>
  void write_value(GuestPhysAddr address, T value) {
    write(address, {reinterpret_cast<const u8*>(&value), sizeof(value)});
  }

  GuestRam& ram() { return m_ram; }
  // Tells every listener that RAM contents were replaced as a whole (a snapshot was loaded): no translation and no decoded
  // code is valid any longer.
  void contents_replaced();
  // Tells every listener that page flags were set: writes to these pages have to be looked at from now on.
  void flags_set();
  void add_listener(MemoryListener& listener) { m_listeners.push_back(&listener); }

  // One line per mapping, as `info mtree` prints it.
  std::string describe() const;

 private:
  struct Mapping {
    Id id;
    std::string name;
    u64 base, size;
    int priority;
    RegionKind kind;
    Access access;
    u64 ram_offset;
    MmioHandler* handler;
  };
  struct Flat {  // a run of addresses answered by one mapping for reads and one for writes; nullptr is a hole
    u64 base, end;
    const Mapping* reader;
    const Mapping* writer;
  };
  void rebuild();
  const Flat* find(u64 address) const;

  GuestRam& m_ram;
  Id m_next_id = 1;
  std::vector<std::unique_ptr<Mapping>> m_mappings;
  std::vector<Flat> m_flat;
  struct RamRun {
    u64 base = 0, size = 0;
    const u8* host = nullptr;
  };
  std::array<RamRun, 3> m_ram_runs{};  // the largest runs of readable RAM, largest first
  std::vector<MemoryListener*> m_listeners;
};

}  // namespace vellum
