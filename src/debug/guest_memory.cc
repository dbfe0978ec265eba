// Page by page, through the guest's tables as they are.
#include "debug/guest_memory.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "state/assert.h"

namespace vellum {

CpuCore& core_of(Machine& machine, unsigned index) {
  auto* core = dynamic_cast<CpuCore*>(&machine.cpu(index));
  VELLUM_ASSERT(core);
  return *core;
}

namespace {

std::optional<GuestPhysAddr> physical_of(CpuCore& cpu, DebugSpace space, u64 address) {
  if (space == DebugSpace::Physical) return GuestPhysAddr(address);
  if (!cpu.s.long_mode()) return walk_quietly(cpu.memory, cpu.s.paging, static_cast<u32>(address));
  const unsigned shift = cpu.s.cr4 & kCr4La57 ? 7 : 16;
  if (static_cast<u64>(static_cast<i64>(address << shift) >> shift) != address) return std::nullopt;
  return walk_quietly(cpu.memory, cpu.s.paging, address);
}

// Calls access(host, part) for what lies in RAM or ROM, page by page; how many bytes that were.
template <class Function>
usize for_pages(CpuCore& cpu, DebugSpace space, u64 address, usize size, Function access) {
  usize done = 0;
  while (done < size) {
    const u64 at = address + done;
    const auto physical = physical_of(cpu, space, at);
    if (!physical) break;
    const PageTarget target = cpu.memory.lookup(GuestPhysAddr(physical->value & ~kPageMask));
    if (target.read != RegionKind::Ram && target.read != RegionKind::Rom) break;
    const usize part = std::min<usize>(size - done, kPageSize - (at & kPageMask));
    access(target.read_ram_offset + (physical->value & kPageMask), done, part);
    done += part;
  }
  return done;
}

}  // namespace

usize read_guest(CpuCore& cpu, DebugSpace space, u64 address, std::span<u8> data) {
  return for_pages(cpu, space, address, data.size(), [&](u64 ram_offset, usize done, usize part) {
    std::memcpy(data.data() + done, cpu.memory.ram().host(ram_offset), part);
  });
}

usize write_guest(CpuCore& cpu, DebugSpace space, u64 address, std::span<const u8> data) {
  return for_pages(cpu, space, address, data.size(), [&](u64 ram_offset, usize done, usize part) {
    std::memcpy(cpu.memory.ram().host(ram_offset), data.data() + done, part);
    cpu.memory.ram_written(ram_offset, part);
  });
}

u64 linear_pc(const CpuState& s) { return s.code64() ? s.rip : static_cast<u32>(s.segment[kCs].base + s.rip); }

u64 linear_in_progress(const CpuCore& cpu) {
  const CpuState& s = cpu.s;
  if (!s.insn) return linear_pc(s);
  return s.code64() ? cpu.insn_rip() : static_cast<u32>(s.segment[kCs].base + cpu.insn_rip());
}

void set_linear_pc(CpuState& s, u64 linear) { s.rip = s.code64() ? linear : static_cast<u32>(linear - s.segment[kCs].base); }

}  // namespace vellum
