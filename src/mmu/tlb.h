// The software TLB: linear page to host memory, checked with one compare per access.
#pragma once

#include <array>
#include <cstddef>

#include "mmu/address.h"
#include "mmu/host_pages.h"
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

// One page that needs no look into the table, in front of which it lies: the stack's. An access of up to 8 bytes at the linear
// address a is permitted if (a ^ page) is below the limit, which is 0 where nothing is permitted.
struct StackTranslation {
  static constexpr u64 kLimit = 4096 - 8 + 1;
  u64 page;
  u64 read_limit, write_limit;  // who may write may read
  u8* host;

  static const StackTranslation* of(const TlbEntry* entries) { return reinterpret_cast<const StackTranslation*>(entries) - 1; }
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
  // Processes have tables of their own, so that those that take turns find what they left. There are as many as an operating
  // system keeps process-context identifiers in use; Linux has six.
  static constexpr unsigned kUserTables = 8;

  Tlb();
  TlbEntry* table(TlbContext context) { return table_of(context).entries.data(); }
  const TlbEntry* table(TlbContext context) const { return table_of(context).entries.data(); }
  // Of an entry that is in use.
  bool is_global(TlbContext context, u64 linear) const {
    return table_of(context).attributes[slot(linear)] & kGlobal;
  }
  static usize slot(u64 linear) { return (linear >> kPageBits) & (kTlbSize - 1); }
  static u64 invalid_tag(usize slot) { return static_cast<u64>(slot ^ 1) << kPageBits; }

  // Enters a translation, replacing what its slot held. Permissions that are false keep their old tag when the slot
  // holds the same page, so that a page may be entered for reading first and for writing later.
  // With `watched`, writes are permitted, but somebody wants to see each.
  void insert(TlbContext context, u64 linear, u8* host, bool read, bool write, bool execute, bool global, bool large, bool watched);

  void flush_all();
  void flush_non_global();
  // Another process: its table for user code, as it was left if it is `kept`. Supervisors keep what is global.
  void switch_user_table(unsigned number, bool kept);
  // INVLPG: every translation of the page that contains `linear`, in all contexts, whatever its size.
  void flush_page(u64 linear);
  // Brings back what another page took the slot of `linear` from not long ago. False if that is not known.
  bool restore(TlbEntry* entries, u64 linear);
  // What the table says of this page is from now on its StackTranslation. True if it permits that access of the whole page.
  static bool keep_stack(TlbEntry* entries, u64 linear, bool write);
  // Takes the write permission from every entry that maps one of these host pages (code was found there, or it must be
  // logged): writes are watched from now on. Costs a look at every entry in use, however many pages there are.
  void protect_host_pages(const u8* host, u64 size);
  // Where `size` bytes at `linear` are when writes there are permitted and watched and they lie in one page, or nullptr.
  // `entries` is one of the tables.
  u8* watched_host(const TlbEntry* entries, u64 linear, u64 size) const {
    const TlbEntry& entry = entries[slot(linear)];
    const u64 x = linear ^ entry.read_tag;
    if (x > kPageSize - size) return nullptr;
    const Table& table = table_at(const_cast<TlbEntry*>(entries));
    return table.attributes[slot(linear)] & kWatched ? entry.host + x : nullptr;
  }
  // Nobody wants to see writes to a watched page any more.
  static void permit_writes(TlbEntry* entries, u64 linear) { entries[slot(linear)].write_tag = linear & ~kPageMask; }

 private:
  static constexpr u8 kGlobal = 1, kLarge = 2, kWatched = 4;
  static constexpr u8 kListedLocal = 8, kListedGlobal = 16;  // the slot stands in that list
  struct List {
    std::array<u16, kTlbSize> slots;
    u32 count;
  };
  struct alignas(64) Table {  // so that no entry of any table lies across two lines of the host's cache
    StackTranslation stack;  // no other than its slot holds: which accesses make a walk, and set A bits, is the same with it
    std::array<TlbEntry, kTlbSize> entries;
    std::array<u8, kTlbSize> attributes;
    List local, global;  // slots in use, by what they last held
    // Translations that lost their slot to another page: pages that are used in turn and share a slot cost no walk each time. Whatever
    // takes translations from the table takes all of these.
    static constexpr unsigned kVictims = 8;
    struct Victim {
      u64 page;
      TlbEntry entry;
      u8 attributes;
    };
    std::array<Victim, kVictims> victims;
    u32 victim_count, next_victim;
    u64 large_regions;   // bit n: pieces of large pages in gigabytes whose number ends with n may be held
  };
  // One of each context, of which User's is the first process's, then the other processes'.
  static constexpr usize kTables = static_cast<usize>(TlbContext::Count) + kUserTables - 1;
  static usize user_table(unsigned number) { return number ? static_cast<usize>(TlbContext::Count) + number - 1 : 0; }
  Table& table_of(TlbContext context) { return m_tables.data()[context == TlbContext::User ? m_user : static_cast<usize>(context)]; }
  const Table& table_of(TlbContext context) const { return const_cast<Tlb*>(this)->table_of(context); }
  static void clear(Table& table, usize slot);
  static void set_aside(Table& table, usize slot);  // what it holds
  static void list_slot(Table& table, usize slot, bool global);
  static Table& table_at(TlbEntry* entries) { return *reinterpret_cast<Table*>(reinterpret_cast<u8*>(entries) - offsetof(Table, entries)); }
  static void forget_kept(Table& table) {
    table.victim_count = table.next_victim = 0;
    table.stack = {};
  }
  static void flush(List& list, Table& table);
  static void flush_local(Table& table);
  HostTable<Table> m_tables;
  usize m_user = 0;  // index of the current process's table
};

}  // namespace vellum
