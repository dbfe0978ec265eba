// Filling and flushing the software TLB. Flushes cost what was filled since the last one, not the table's size.
#include "mmu/tlb.h"

namespace vellum {

Tlb::Tlb() {
  for (auto& table : m_tables) {
    for (usize slot = 0; slot < kTlbSize; ++slot) clear(table, slot);
    table.used.reserve(kTlbSize);
  }
}

void Tlb::clear(Table& table, usize slot) {
  const u64 tag = invalid_tag(slot);
  table.entries[slot] = {tag, tag, tag, nullptr};
  table.attributes[slot] = 0;
}

void Tlb::insert(TlbContext context, u64 linear, u8* host, bool read, bool write, bool execute, bool global, bool large, bool watched) {
  Table& table = m_tables[static_cast<usize>(context)];
  const usize index = slot(linear);
  const u64 page = linear & ~kPageMask;
  TlbEntry& entry = table.entries[index];
  u8& attributes = table.attributes[index];
  if (!(attributes & kUsed)) table.used.push_back(static_cast<u16>(index));
  const bool same_page = entry.read_tag == page || entry.write_tag == page || entry.execute_tag == page;
  if (!same_page || entry.host != host) clear(table, index);
  if (read) entry.read_tag = page;
  if (write) entry.write_tag = page;
  if (execute) entry.execute_tag = page;
  entry.host = host;
  attributes = static_cast<u8>(kUsed | (global ? kGlobal : 0) | (large ? kLarge : 0) | (watched ? kWatched : attributes & kWatched));
}

void Tlb::flush_all() {
  for (auto& table : m_tables) {
    for (const u16 index : table.used) clear(table, index);
    table.used.clear();
  }
}

void Tlb::flush_non_global() {
  for (auto& table : m_tables) {
    usize kept = 0;
    for (const u16 index : table.used) {
      if (table.attributes[index] & kGlobal) table.used[kept++] = index;
      else clear(table, index);
    }
    table.used.resize(kept);
  }
}

void Tlb::flush_page(u64 linear) {
  const u64 page = linear & ~kPageMask;
  for (auto& table : m_tables) {
    usize kept = 0;
    for (const u16 index : table.used) {
      const TlbEntry& entry = table.entries[index];
      const bool match = entry.read_tag == page || entry.write_tag == page || entry.execute_tag == page;
      // A 4 KiB piece of a large page cannot tell where that page begins, so all of these go.
      if (match || (table.attributes[index] & kLarge)) clear(table, index);
      else table.used[kept++] = index;
    }
    table.used.resize(kept);
  }
}

void Tlb::protect_host_page(const u8* host) {
  for (auto& table : m_tables)
    for (const u16 index : table.used)
      if (TlbEntry& entry = table.entries[index]; entry.host == host && entry.write_tag != invalid_tag(index)) {
        entry.write_tag = invalid_tag(index);
        table.attributes[index] |= kWatched;
      }
}

}  // namespace vellum
