// The software TLB: linear page to host memory, checked with one compare per access.
#pragma once

#include <array>
#include <vector>

#include "mmu/address.h"
#include "state/integers.h"

namespace vellum {

// x = address ^ tag; x <= 4096 - size says at once that the page matches and the access stays inside it; then host[x]
// is the data. A tag that permits nothing differs from every address of its slot in an index bit.
struct TlbEntry {
  u64 read_tag;
  u64 write_tag;
  u64 execute_tag;
  u8* host;  // start of the page in host memory
};

inline constexpr unsigned kTlbBits = 12;
inline constexpr usize kTlbSize = usize{1} << kTlbBits;

// Whose accesses an entry serves; the CPU switches tables as CPL and EFLAGS.AC change.
enum class TlbContext : u8 {
  User,           // CPL 3
  Supervisor,     // CPL < 3 with SMAP in force
  SupervisorAc,   // CPL < 3 without SMAP, or with EFLAGS.AC set
  AlwaysSlow,     // never filled: every access must be looked at (alignment checks, data breakpoints)
  Count
};

class Tlb {
 public:
  Tlb();
  TlbEntry* table(TlbContext context) { return m_tables[static_cast<usize>(context)].entries.data(); }
  const TlbEntry* table(TlbContext context) const { return m_tables[static_cast<usize>(context)].entries.data(); }
  // Of an entry that is in use.
  bool is_global(TlbContext context, u64 linear) const {
    return m_tables[static_cast<usize>(context)].attributes[slot(linear)] & kGlobal;
  }
  static usize slot(u64 linear) { return (linear >> kPageBits) & (kTlbSize - 1); }
  static u64 invalid_tag(usize slot) { return static_cast<u64>(slot ^ 1) << kPageBits; }

  // Enters a translation, replacing what its slot held. Permissions that are false keep their old tag when the slot
  // holds the same page, so that a page may be entered for reading first and for writing later.
  // With `watched`, writes are permitted, but somebody wants to see each.
  void insert(TlbContext context, u64 linear, u8* host, bool read, bool write, bool execute, bool global, bool large, bool watched);

  void flush_all();
  void flush_non_global();
  // INVLPG: every translation of the page that contains `linear`, in all contexts, whatever its size.
  void flush_page(u64 linear);
  // Takes the write permission from every entry that maps this host page (code was found there, or it must be logged):
  // writes are watched from now on.
  void protect_host_page(const u8* host);
  // Where `size` bytes at `linear` are when writes there are permitted and watched and they lie in one page, or nullptr.
  // `entries` is one of the tables.
  u8* watched_host(const TlbEntry* entries, u64 linear, u64 size) const {
    const TlbEntry& entry = entries[slot(linear)];
    const u64 x = linear ^ entry.read_tag;
    if (x > kPageSize - size) return nullptr;
    const auto& table = *reinterpret_cast<const Table*>(entries);
    return table.attributes[slot(linear)] & kWatched ? entry.host + x : nullptr;
  }
  // Nobody wants to see writes to a watched page any more.
  static void permit_writes(TlbEntry* entries, u64 linear) { entries[slot(linear)].write_tag = linear & ~kPageMask; }

 private:
  static constexpr u8 kUsed = 1, kGlobal = 2, kLarge = 4, kWatched = 8;
  struct Table {
    std::array<TlbEntry, kTlbSize> entries;
    std::array<u8, kTlbSize> attributes;
    std::vector<u16> used;
  };
  void clear(Table& table, usize slot);
  std::array<Table, static_cast<usize>(TlbContext::Count)> m_tables;
};

}  // namespace vellum
