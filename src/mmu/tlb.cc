// Filling and flushing the software TLB. Flushes cost what was filled since the last one, not the table's size.
#include "mmu/tlb.h"

#include <algorithm>
#include <span>
#include <utility>

namespace vellum {

namespace {

// Large pages are at most this big, and aligned to their size.
constexpr unsigned kLargestPageBits = 30;
constexpr u64 kNoPage = ~u64{0};
u64 region_bit(u64 linear) { return u64{1} << ((linear >> kLargestPageBits) & 63); }

bool holds(const TlbEntry& entry, u64 page) { return entry.read_tag == page || entry.write_tag == page || entry.execute_tag == page; }

}  // namespace

Tlb::Tlb() : m_tables(kTables) {
  for (Table& table : m_tables)
    for (usize slot = 0; slot < kTlbSize; ++slot) clear(table, slot);
}

void Tlb::clear(Table& table, usize slot) {
  const u64 tag = invalid_tag(slot);
  table.entries[slot] = {tag, tag, tag, nullptr};
  table.attributes[slot] &= kListedLocal | kListedGlobal;
}

void Tlb::list_slot(Table& table, usize slot, bool global) {
  const u8 listed = global ? kListedGlobal : kListedLocal;
  if (table.attributes[slot] & listed) return;
  List& list = global ? table.global : table.local;
  list.slots[list.count++] = static_cast<u16>(slot);
  table.attributes[slot] |= listed;
}

void Tlb::set_aside(Table& table, usize slot) {
  const TlbEntry& entry = table.entries[slot];
  const u64 nothing = invalid_tag(slot);
  const u64 page = entry.read_tag != nothing ? entry.read_tag : entry.write_tag != nothing ? entry.write_tag : entry.execute_tag;
  if (page == nothing) return;
  table.victims[table.next_victim] = {page, entry, static_cast<u8>(table.attributes[slot] & (kGlobal | kLarge | kWatched))};
  table.next_victim = (table.next_victim + 1) % Table::kVictims;
  table.victim_count = std::min(table.victim_count + 1, Table::kVictims);
}

bool Tlb::restore(TlbEntry* entries, u64 linear) {
  Table& table = table_at(entries);
  const u64 page = linear & ~kPageMask;
  for (Table::Victim& victim : std::span(table.victims.data(), table.victim_count)) {
    if (victim.page != page) continue;
    const usize index = slot(linear);
    if (holds(table.entries[index], page)) return false;  // it was walked for once more
    if (slot(table.stack.page) == index) table.stack = {};
    const Table::Victim found = victim;
    // The two change places.
    victim.page = kNoPage;
    const u32 count = table.victim_count, next = std::exchange(table.next_victim, static_cast<u32>(&victim - table.victims.data()));
    set_aside(table, index);
    table.victim_count = count;
    table.next_victim = next;
    list_slot(table, index, found.attributes & kGlobal);
    table.entries[index] = found.entry;
    table.attributes[index] = static_cast<u8>((table.attributes[index] & (kListedLocal | kListedGlobal)) | found.attributes);
    return true;
  }
  return false;
}

bool Tlb::keep_stack(TlbEntry* entries, u64 linear, bool write) {
  const TlbEntry& entry = entries[slot(linear)];
  const u64 page = linear & ~kPageMask;
  const bool readable = entry.read_tag == page, writable = readable && entry.write_tag == page;
  if (!(write ? writable : readable)) return false;
  table_at(entries).stack = {page, StackTranslation::kLimit, writable ? StackTranslation::kLimit : 0, entry.host};
  return true;
}

void Tlb::insert(TlbContext context, u64 linear, u8* host, bool read, bool write, bool execute, bool global, bool large, bool watched) {
  Table& table = table_of(context);
  const usize index = slot(linear);
  const u64 page = linear & ~kPageMask;
  TlbEntry& entry = table.entries[index];
  u8& attributes = table.attributes[index];
  list_slot(table, index, global);
  if (slot(table.stack.page) == index) table.stack = {};
  if (!holds(entry, page)) {
    for (Table::Victim& victim : std::span(table.victims.data(), table.victim_count))
      if (victim.page == page) victim.page = kNoPage;  // this one is newer
    set_aside(table, index);
  }
  if (!holds(entry, page) || entry.host != host) clear(table, index);
  if (read) entry.read_tag = page;
  if (write) entry.write_tag = page;
  if (execute) entry.execute_tag = page;
  entry.host = host;
  attributes = static_cast<u8>((attributes & (kListedLocal | kListedGlobal | kWatched)) | (global ? kGlobal : 0) | (large ? kLarge : 0) |
                               (watched ? kWatched : 0));
  if (large) table.large_regions |= region_bit(linear);
}

void Tlb::flush(List& list, Table& table) {
  for (u32 i = 0; i < list.count; ++i) {
    clear(table, list.slots[i]);
    table.attributes[list.slots[i]] = 0;
  }
  list.count = 0;
  forget_kept(table);
}

void Tlb::flush_local(Table& table) {
  for (u32 i = 0; i < table.local.count; ++i) {
    const u16 index = table.local.slots[i];
    if (!(table.attributes[index] & kGlobal)) clear(table, index);
    table.attributes[index] &= static_cast<u8>(~kListedLocal);
  }
  table.local.count = 0;
  forget_kept(table);
}

void Tlb::flush_all() {
  for (Table& table : m_tables) {
    flush(table.local, table);
    flush(table.global, table);
    table.large_regions = 0;
  }
}

void Tlb::flush_non_global() {
  for (Table& table : m_tables) flush_local(table);
}

void Tlb::switch_user_table(unsigned number, bool kept) {
  flush_local(table_of(TlbContext::Supervisor));
  flush_local(table_of(TlbContext::SupervisorAc));
  m_user = user_table(number);
  if (!kept) flush_local(table_of(TlbContext::User));
}

void Tlb::flush_page(u64 linear) {
  const u64 page = linear & ~kPageMask;
  for (Table& table : m_tables) {
    forget_kept(table);
    if (holds(table.entries[slot(linear)], page)) clear(table, slot(linear));
    if (!(table.large_regions & region_bit(linear))) continue;
    // A 4 KiB piece of a large page cannot tell where that page begins, so all of these that are near go.
    for (const List* list : {&table.local, &table.global}) {
      for (u32 i = 0; i < list->count; ++i) {
        const u16 index = list->slots[i];
        const TlbEntry& entry = table.entries[index];
        const auto near = [&](u64 tag) { return (tag ^ linear) >> kLargestPageBits == 0; };
        if ((table.attributes[index] & kLarge) && (near(entry.read_tag) || near(entry.write_tag) || near(entry.execute_tag)))
          clear(table, index);
      }
    }
    table.large_regions &= ~region_bit(linear);
  }
}

void Tlb::protect_host_pages(const u8* host, u64 size) {
  for (Table& table : m_tables) {
    forget_kept(table);
    for (const List* list : {&table.local, &table.global})
      for (u32 i = 0; i < list->count; ++i) {
        const u16 index = list->slots[i];
        if (TlbEntry& entry = table.entries[index]; reinterpret_cast<u64>(entry.host) - reinterpret_cast<u64>(host) < size && entry.write_tag != invalid_tag(index)) {
          entry.write_tag = invalid_tag(index);
          table.attributes[index] |= kWatched;
        }
      }
  }
}

}  // namespace vellum
