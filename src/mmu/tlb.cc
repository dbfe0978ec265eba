// Filling and flushing the software TLB. Flushes cost what was filled since the last one, not the table's size.
#include "mmu/tlb.h"

namespace vellum {

namespace {

// Large pages are at most this big, and aligned to their size.
constexpr unsigned kLargestPageBits = 30;
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

void Tlb::insert(TlbContext context, u64 linear, u8* host, bool read, bool write, bool execute, bool global, bool large, bool watched) {
  Table& table = table_of(context);
  const usize index = slot(linear);
  const u64 page = linear & ~kPageMask;
  TlbEntry& entry = table.entries[index];
  u8& attributes = table.attributes[index];
  const u8 listed = global ? kListedGlobal : kListedLocal;
  if (!(attributes & listed)) {
    List& list = global ? table.global : table.local;
    list.slots[list.count++] = static_cast<u16>(index);
    attributes |= listed;
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
}

void Tlb::flush_local(Table& table) {
  for (u32 i = 0; i < table.local.count; ++i) {
    const u16 index = table.local.slots[i];
    if (!(table.attributes[index] & kGlobal)) clear(table, index);
    table.attributes[index] &= static_cast<u8>(~kListedLocal);
  }
  table.local.count = 0;
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
  for (Table& table : m_tables)
    for (const List* list : {&table.local, &table.global})
      for (u32 i = 0; i < list->count; ++i) {
        const u16 index = list->slots[i];
        if (TlbEntry& entry = table.entries[index]; reinterpret_cast<u64>(entry.host) - reinterpret_cast<u64>(host) < size && entry.write_tag != invalid_tag(index)) {
          entry.write_tag = invalid_tag(index);
          table.attributes[index] |= kWatched;
        }
      }
}

}  // namespace vellum
