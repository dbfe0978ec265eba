// Walks all of the guest's page tables, SDM Vol. 3A chapter 4, without setting anything in them.
#include "debug/guest_tables.h"

#include <fmt/format.h>

#include <optional>

namespace vellum {

namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80, kNoExecute = u64{1} << 63;
constexpr u64 kFrame = 0x000f'ffff'ffff'f000;
// Tables that name each other in circles map as much as they say; that much nobody reads.
constexpr u64 kMostEntries = 4'000'000;

class Walker {
 public:
  // `take` gets each range in turn, and returns whether it wants more.
  Walker(CpuCore& cpu, std::function<bool(const MappedRange&)> take) : m_cpu(cpu), m_take(std::move(take)) {}

  void run() {
    const PagingControls& paging = m_cpu.s.paging;
    switch (paging.mode) {
      case PagingMode::None: found(0, u64{1} << 32, kWritable | kUser); break;
      case PagingMode::Bits32:
        for (u64 i = 0; i < 1024; ++i) {
          const u64 entry = read32(paging.cr3 & 0xfffff000, i);
          if (!(entry & kPresent)) continue;
          const u64 linear = i << 22;
          if ((entry & kLarge) && paging.page_size_extension) {
            found(linear, u64{1} << 22, entry & (kWritable | kUser));
          } else {
            for (u64 j = 0; j < 1024; ++j) {
              const u64 page = read32(entry & 0xfffff000, j);
              if (page & kPresent) found(linear | j << 12, kPageSize, page & entry & (kWritable | kUser));
            }
          }
        }
        break;
      case PagingMode::Pae:
        for (u64 i = 0; i < 4; ++i)
          if (paging.pdpte[i] & kPresent) table(paging.pdpte[i] & kFrame, 21, i << 30, kWritable | kUser, false);
        break;
      case PagingMode::Level4: table(paging.cr3 & kFrame, 39, 0, kWritable | kUser, false); break;
      case PagingMode::Level5: table(paging.cr3 & kFrame, 48, 0, kWritable | kUser, false); break;
    }
    end_range();
  }

 private:
  u64 read32(u64 table, u64 index) { return m_cpu.memory.read_value<u32>(GuestPhysAddr((table + 4 * index) & m_cpu.s.paging.a20_mask)); }

  void table(u64 address, unsigned shift, u64 linear, u64 rights, bool no_execute) {
    for (u64 i = 0; i < 512; ++i) {
      if (m_done || ++m_entries > kMostEntries) return;
      const u64 entry = m_cpu.memory.read_value<u64>(GuestPhysAddr((address + 8 * i) & m_cpu.s.paging.a20_mask));
      if (!(entry & kPresent)) continue;
      u64 at = linear | i << shift;
      const unsigned top = m_cpu.s.paging.mode == PagingMode::Level5 ? 56 : 47;
      if (m_cpu.s.long_mode() && (at >> top & 1)) at |= ~u64{0} << top;
      const u64 now = rights & entry;
      const bool forbidden = no_execute || (m_cpu.s.paging.no_execute && (entry & kNoExecute));
      if (shift == 12 || ((entry & kLarge) && shift <= 30)) found(at, u64{1} << shift, now | (forbidden ? kNoExecute : 0));
      else table(entry & kFrame, shift - 9, at, now, forbidden);
    }
  }

  void found(u64 linear, u64 size, u64 rights) {
    if (m_size && m_start + m_size == linear && m_rights == rights) {
      m_size += size;
      return;
    }
    end_range();
    m_start = linear;
    m_size = size;
    m_rights = rights;
  }

  void end_range() {
    if (m_size && !m_done)
      m_done = !m_take({.first = m_start, .last = m_start + (m_size - 1), .mapped = true, .user = (m_rights & kUser) != 0, .write = (m_rights & kWritable) != 0,
                        .execute = !(m_rights & kNoExecute)});
    m_size = 0;
  }

  CpuCore& m_cpu;
  std::function<bool(const MappedRange&)> m_take;
  bool m_done = false;
  u64 m_entries = 0;
  u64 m_start = 0, m_size = 0, m_rights = 0;
};

}  // namespace

MappedRange mapped_range(CpuCore& cpu, u64 linear) {
  MappedRange found{.first = 0, .last = ~u64{0}};
  Walker(cpu, [&](const MappedRange& range) {
    if (range.last < linear) return found.first = range.last + 1, true;
    if (range.first <= linear) found = range;
    else found.last = range.first - 1;
    return false;
  }).run();
  return found;
}

std::string describe_mappings(CpuCore& cpu, usize most_lines) {
  if (cpu.s.paging.mode == PagingMode::None) return "paging is off: linear addresses are physical\n";
  std::string text;
  usize lines = 0;
  Walker(cpu, [&](const MappedRange& range) {
    if (lines++ == most_lines) return text += "(and more)\n", false;
    text += fmt::format("{:016x}-{:016x} {:>14x} {}{}{}\n", range.first, range.last, range.last - range.first + 1, range.user ? 'u' : '-', range.write ? "rw" : "r-",
                        range.execute ? 'x' : '-');
    return true;
  }).run();
  return text.empty() ? "nothing is mapped\n" : text;
}

std::string describe_tlb(CpuCore& cpu, usize most_lines) {
  std::string text;
  usize lines = 0;
  const u8* ram = cpu.memory.ram().host(0);
  for (usize slot = 0; slot < kTlbSize; ++slot) {
    const TlbEntry& entry = cpu.s.tlb[slot];
    const u64 none = Tlb::invalid_tag(slot);
    if (entry.read_tag == none && entry.write_tag == none && entry.execute_tag == none) continue;
    if (lines++ == most_lines) return text + "(and more)\n";
    const u64 linear = entry.read_tag != none ? entry.read_tag : entry.write_tag != none ? entry.write_tag : entry.execute_tag;
    text += fmt::format("{:016x}: RAM offset {:09x} {}{}{}\n", linear, static_cast<u64>(entry.host - ram), entry.read_tag != none ? 'r' : '-',
                        entry.write_tag != none ? 'w' : '-', entry.execute_tag != none ? 'x' : '-');
  }
  return text.empty() ? "the TLB is empty\n" : text;
}

}  // namespace vellum
