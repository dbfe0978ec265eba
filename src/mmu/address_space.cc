// Mappings, flattened into sorted runs whenever they change.
#include "mmu/address_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

AddressSpace::Id AddressSpace::map_ram(std::string name, GuestPhysAddr base, u64 size, u64 ram_offset, int priority,
                                       Access access) {
  VELLUM_ASSERT((base.value & kPageMask) == 0 && (size & kPageMask) == 0 && size > 0);
  VELLUM_ASSERT(ram_offset + size <= m_ram.size());
  const auto kind = access == Access::ReadOnly ? RegionKind::Rom : RegionKind::Ram;
  m_mappings.push_back(std::make_unique<Mapping>(m_next_id, std::move(name), base.value, size, priority, kind, access,
                                                 ram_offset, nullptr));
  rebuild();
  return m_next_id++;
}

AddressSpace::Id AddressSpace::map_mmio(std::string name, GuestPhysAddr base, u64 size, MmioHandler& handler,
                                        int priority) {
  VELLUM_ASSERT(size > 0);
  m_mappings.push_back(std::make_unique<Mapping>(m_next_id, std::move(name), base.value, size, priority,
                                                 RegionKind::Mmio, Access::ReadWrite, 0, &handler));
  rebuild();
  return m_next_id++;
}

void AddressSpace::unmap(Id id) {
  std::erase_if(m_mappings, [id](const auto& mapping) { return mapping->id == id; });
  rebuild();
}

void AddressSpace::rebuild() {
  std::vector<u64> edges;
  for (const auto& mapping : m_mappings) {
    edges.push_back(mapping->base);
    edges.push_back(mapping->base + mapping->size);
  }
  std::ranges::sort(edges);
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  m_flat.clear();
  for (usize i = 0; i + 1 < edges.size(); ++i) {
    const Mapping* reader = nullptr;
    const Mapping* writer = nullptr;
    for (const auto& mapping : m_mappings) {
      if (edges[i] < mapping->base || edges[i] - mapping->base >= mapping->size) continue;
      if (mapping->access != Access::WriteOnly && (!reader || mapping->priority >= reader->priority)) reader = mapping.get();
      // A ROM hides what lies below it from writes as well: a store to it is lost, not passed on.
      if (!writer || mapping->priority >= writer->priority) writer = mapping.get();
    }
    if (!reader && !writer) continue;
    if (!m_flat.empty() && m_flat.back().end == edges[i] && m_flat.back().reader == reader && m_flat.back().writer == writer)
      m_flat.back().end = edges[i + 1];
    else
      m_flat.push_back({edges[i], edges[i + 1], reader, writer});
  }
  m_ram_runs = {};
  for (const Flat& run : m_flat) {
    if (!run.reader || run.reader->kind != RegionKind::Ram) continue;
    RamRun candidate{run.base, run.end - run.base, m_ram.host(run.reader->ram_offset + (run.base - run.reader->base))};
    for (RamRun& kept : m_ram_runs)
      if (candidate.size > kept.size) std::swap(candidate, kept);
  }
  for (auto* listener : m_listeners) listener->layout_changed();
}

void AddressSpace::watch_for_display(u64 ram_offset, u64 size) {
  for (u64 page = 0; page < size; page += kPageSize) m_ram.set_flag(ram_offset + page, kPageCleanDisplay);
  for (auto* listener : m_listeners) listener->writes_watched(ram_offset, size);
}

void AddressSpace::contents_replaced() {
  for (u64 page = 0; page < m_ram.size(); page += kPageSize) {
    m_ram.clear_flag(page, kPageCleanDisplay);
    if (m_ram.flags(page) & kPageHoldsCode)
      for (auto* listener : m_listeners) listener->code_written(page, kPageSize);
  }
  for (auto* listener : m_listeners) listener->layout_changed();
}

void AddressSpace::flags_set() {
  for (auto* listener : m_listeners) listener->writes_watched(0, m_ram.size());
}

const AddressSpace::Flat* AddressSpace::find(u64 address) const {
  auto after = std::ranges::upper_bound(m_flat, address, {}, &Flat::base);
  if (after == m_flat.begin()) return nullptr;
  const Flat& run = *std::prev(after);
  return address < run.end ? &run : nullptr;
}

PageTarget AddressSpace::lookup(GuestPhysAddr address) const {
  PageTarget target;
  const u64 page = address.value & ~kPageMask;
  const Flat* run = find(page);
  if (run && run->end >= page + kPageSize) {
    if (const Mapping* reader = run->reader) {
      target.read = reader->kind;
      target.read_ram_offset = reader->ram_offset + (page - reader->base);
    }
    if (const Mapping* writer = run->writer) {
      target.write = writer->kind;
      target.write_ram_offset = writer->ram_offset + (page - writer->base);
    }
    return target;
  }
  // A page shared by several regions is served access by access.
  target.read = target.write = RegionKind::Mmio;
  return target;
}

u64 AddressSpace::read_slow(GuestPhysAddr address, unsigned size) {
  const Flat* run = find(address.value);
  if (!run || !run->reader) {
    log(LogItem::Mmio, "read of {} bytes at unassigned {:#x}", size, address.value);
    return ~u64{0} >> (64 - 8 * size);
  }
  const Mapping& mapping = *run->reader;
  const u64 offset = address.value - mapping.base;
  if (mapping.kind != RegionKind::Mmio) {
    u64 value = 0;
    std::memcpy(&value, m_ram.host(mapping.ram_offset + offset), size);
    return value;
  }
  const unsigned widest = mapping.handler->max_mmio_size();
  if (size <= widest && (address.value & (size - 1)) == 0) return mapping.handler->read_mmio(offset, size);
  u64 value = 0;
  for (unsigned done = 0; done < size;) {
    unsigned part = widest;
    while (part > size - done || ((address.value + done) & (part - 1)) != 0) part /= 2;
    value |= read_slow(address + done, part) << (8 * done);
    done += part;
  }
  return value;
}

void AddressSpace::write_slow(GuestPhysAddr address, unsigned size, u64 value) {
  const Flat* run = find(address.value);
  if (!run || !run->writer) {
    log(LogItem::Mmio, "write of {} bytes at unassigned {:#x}", size, address.value);
    return;
  }
  const Mapping& mapping = *run->writer;
  const u64 offset = address.value - mapping.base;
  if (mapping.kind == RegionKind::Rom) return;
  if (mapping.kind == RegionKind::Ram) {
    write(address, {reinterpret_cast<const u8*>(&value), size});
    return;
  }
  const unsigned widest = mapping.handler->max_mmio_size();
  if (size <= widest && (address.value & (size - 1)) == 0) return mapping.handler->write_mmio(offset, size, value);
  for (unsigned done = 0; done < size;) {
    unsigned part = widest;
    while (part > size - done || ((address.value + done) & (part - 1)) != 0) part /= 2;
    write_slow(address + done, part, (value >> (8 * done)) & (~u64{0} >> (64 - 8 * part)));
    done += part;
  }
}

void AddressSpace::read(GuestPhysAddr address, std::span<u8> data) {
  while (!data.empty()) {
    const Flat* run = find(address.value);
    usize part = std::min<u64>(data.size(), kPageSize - address.offset());
    if (run) part = std::min<u64>(part, run->end - address.value);
    const Mapping* mapping = run ? run->reader : nullptr;
    if (!mapping) {
      if (!run) part = 1;  // a run may begin inside the page
      std::memset(data.data(), 0xff, part);
    } else if (mapping->kind == RegionKind::Mmio) {
      part = (address.value & 3) == 0 && part >= 4 ? 4 : 1;
      const u64 value = read_slow(address, part);
      std::memcpy(data.data(), &value, part);
    } else {
      std::memcpy(data.data(), m_ram.host(mapping->ram_offset + (address.value - mapping->base)), part);
    }
    address = address + part;
    data = data.subspan(part);
  }
}

void AddressSpace::ram_written(u64 ram_offset, u64 size) {
  while (size) {
    const u64 part = std::min(size, kPageSize - (ram_offset & kPageMask));
    if (const u8 flags = m_ram.flags(ram_offset)) {
      m_ram.clear_flag(ram_offset, kPageCleanDisplay);
      m_ram.clear_flag(ram_offset, kPageCleanSnapshot);
      if (flags & kPageHoldsCode)
        for (auto* listener : m_listeners) listener->code_written(ram_offset, part);
    }
    ram_offset += part;
    size -= part;
  }
}

void AddressSpace::write(GuestPhysAddr address, std::span<const u8> data) {
  while (!data.empty()) {
    const Flat* run = find(address.value);
    usize part = std::min<u64>(data.size(), kPageSize - address.offset());
    if (run) part = std::min<u64>(part, run->end - address.value);
    const Mapping* mapping = run ? run->writer : nullptr;
    if (!mapping) {
      if (!run) part = 1;
    } else if (mapping->kind == RegionKind::Mmio) {
      part = (address.value & 3) == 0 && part >= 4 ? 4 : 1;
      u64 value = 0;
      std::memcpy(&value, data.data(), part);
      write_slow(address, part, value);
    } else if (mapping->kind == RegionKind::Ram) {
      const u64 offset = mapping->ram_offset + (address.value - mapping->base);
      ram_written(offset, part);
      std::memcpy(m_ram.host(offset), data.data(), part);
    }
    address = address + part;
    data = data.subspan(part);
  }
}

std::string AddressSpace::describe() const {
  std::string text;
  for (const auto& run : m_flat) {
    const auto name = [](const Mapping* mapping) { return mapping ? std::string_view(mapping->name) : "hole"; };
    text += fmt::format("{:016x}-{:016x} {}", run.base, run.end - 1, name(run.reader));
    if (run.writer != run.reader) text += fmt::format(" (writes: {})", name(run.writer));
    else if (run.reader && run.reader->kind == RegionKind::Rom) text += " (rom)";
    text += '\n';
  }
  return text;
}

}  // namespace vellum
