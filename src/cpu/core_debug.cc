// The CPU's side of debugging: cutting blocks at breakpoints, stopping there, seeing watched accesses, telling observers.
#include <algorithm>

#include "cpu/core.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"

namespace vellum {

namespace {

// Debuggers take all breakpoints back and set them again at every stop: a cut that is not wanted stays for so many instructions.
constexpr u64 kCutsOutlive = 1'000'000;

}  // namespace

// --- What the debugger asks -------------------------------------------------------------------------------------------

void DebugControl::insert_breakpoint(DebugSpace space, u64 address) {
  u32& count = (space == DebugSpace::Linear ? m_linear : m_physical)[address];
  if (count++) return;
  if (space == DebugSpace::Linear) ++m_linear_pages[address & ~kPageMask];
  m_changed = true;
}

bool DebugControl::remove_breakpoint(DebugSpace space, u64 address) {
  Counted& all = space == DebugSpace::Linear ? m_linear : m_physical;
  const auto found = all.find(address);
  if (found == all.end()) return false;
  if (--found->second) return true;
  all.erase(found);
  if (space == DebugSpace::Linear && --m_linear_pages[address & ~kPageMask] == 0) m_linear_pages.erase(address & ~kPageMask);
  return true;  // the cut goes later
}

void DebugControl::insert_watchpoint(const Watchpoint& watchpoint) {
  m_watchpoints.push_back(watchpoint);
  m_changed = true;
}

bool DebugControl::remove_watchpoint(const Watchpoint& watchpoint) {
  const auto found = std::ranges::find(m_watchpoints, watchpoint);
  if (found == m_watchpoints.end()) return false;
  m_watchpoints.erase(found);
  m_changed = true;
  return true;
}

void DebugControl::clear() {
  m_linear.clear();
  m_physical.clear();
  m_linear_pages.clear();
  m_changed = m_changed || !m_watchpoints.empty();
  m_watchpoints.clear();
  m_hold_interrupts = false;
  m_stop.reset();
}

u8 DebugControl::watched_on_page(u64 linear, u64 physical) const {
  u8 accesses = 0;
  for (const Watchpoint& watchpoint : m_watchpoints) {
    const u64 page = (watchpoint.space == DebugSpace::Linear ? linear : physical) & ~kPageMask;
    if (watchpoint.address <= (page | kPageMask) && page <= watchpoint.address + (watchpoint.size - 1)) accesses |= watchpoint.accesses;
  }
  return accesses;
}

// --- Breakpoints ------------------------------------------------------------------------------------------------------

void CpuCore::apply_debug_changes() {
  if (m_debug.m_changed) {
    m_debug.m_changed = false;
    flush_tlb();  // every page comes by again: translate() and fetch_page() know what is wanted now
    for (const auto& [address, count] : m_debug.m_physical) {
      const PageTarget target = memory.lookup(GuestPhysAddr(address & ~kPageMask));
      if (target.read == RegionKind::Ram || target.read == RegionKind::Rom)
        cut_blocks({target.read_ram_offset + (address & kPageMask), DebugSpace::Physical, address});
    }
  }
  if (m_debug.m_cuts.empty() || retired() - m_debug.m_cuts_checked < kCutsOutlive) return;
  m_debug.m_cuts_checked = retired();
  std::erase_if(m_debug.m_cuts, [&](const DebugControl::Cut& cut) {
    if (m_debug.wanted(cut)) return false;
    const bool shared = std::ranges::count(m_debug.m_cuts, cut.ram_offset, &DebugControl::Cut::ram_offset) > 1;
    if (!shared) {
      blocks.set_cut(cut.ram_offset, false);
      // What ends here and what begins here may be one block again.
      blocks.forget(cut.ram_offset);
      if (cut.ram_offset & kPageMask) blocks.forget(cut.ram_offset - 1);
    }
    return true;
  });
}

void CpuCore::cut_blocks(const DebugControl::Cut& cut) {
  const auto same = [&](const DebugControl::Cut& other) { return other.ram_offset == cut.ram_offset && other.space == cut.space && other.address == cut.address; };
  if (std::ranges::any_of(m_debug.m_cuts, same)) return;
  m_debug.m_cuts.push_back(cut);
  if (blocks.is_cut(cut.ram_offset)) return;
  blocks.set_cut(cut.ram_offset, true);
  blocks.forget(cut.ram_offset);
}

// Code on a linear page with breakpoints was found on this page of RAM. Comes only between blocks.
void CpuCore::cut_page(u64 linear_page, u64 ram_page) {
  for (const auto& [address, count] : m_debug.m_linear)
    if ((address & ~kPageMask) == linear_page) cut_blocks({ram_page + (address & kPageMask), DebugSpace::Linear, address});
}

// Whether the instruction at RIP, which could be fetched, has a breakpoint. Raises the fetch's faults if it cannot.
bool CpuCore::stops_at_breakpoint() {
  const u64 linear = code_address(s.rip), now = retired();
  DebugSpace space = DebugSpace::Linear;
  u64 address = linear;
  if (!m_debug.m_linear.contains(linear)) {
    if (m_debug.m_physical.empty()) return false;
    const auto physical = walk_quietly(memory, s.paging, linear);
    if (!physical || !m_debug.m_physical.contains(physical->value)) return false;
    space = DebugSpace::Physical;
    address = physical->value;
  }
  const Block* block = lookup_once(s.rip);
  // A repeated string instruction comes back once for every chunk; it is stopped at when it begins.
  const bool repeated = is_variant(block->variants()[0]) && interpreter_row(block->insns[0].row).flow == Flow::String &&
                        (block->insns[0].prefixes & (kPrefixRep | kPrefixRepne));
  const bool goes_on = repeated && m_debug.m_repeat_linear == linear && m_debug.m_repeat_retired + 1 == now;
  if (repeated) {
    m_debug.m_repeat_linear = linear;
    m_debug.m_repeat_retired = now;
  }
  if (goes_on || m_debug.passes(linear, now)) return false;
  m_debug.request_stop({.kind = DebugStop::Kind::Breakpoint, .space = space, .address = address});
  return true;
}

// --- Watchpoints ------------------------------------------------------------------------------------------------------

// An access that is about to be made, with all its faults behind it. The instruction that makes it runs alone, so that the
// CPU stops right behind it; repeated string instructions and callouts are the last of their blocks anyway, and must not start
// again: a chunk would be of another length, and a port be read twice.
void CpuCore::check_watched(u64 linear, std::optional<u64> physical, unsigned size, u8 accesses) {
  for (const Watchpoint& watchpoint : m_debug.m_watchpoints) {
    if (!(watchpoint.accesses & accesses)) continue;
    if (watchpoint.space == DebugSpace::Physical && !physical) continue;
    const u64 first = watchpoint.space == DebugSpace::Linear ? linear : *physical;
    if (first > watchpoint.address + (watchpoint.size - 1) || watchpoint.address > first + (size - 1)) continue;
    if (const BoundInsn* insn = s.insn) {
      const Block* block = Block::of(insn);
      if (!is_once(block) && is_variant(block->variants()[insn->position]) && !is_repeated_string(*insn)) std::longjmp(m_recovery, kRecoverSplit);
    }
    m_debug.request_stop({.kind = DebugStop::Kind::Watchpoint,
                          .space = watchpoint.space,
                          .address = std::max(first, watchpoint.address),
                          .watchpoint = watchpoint,
                          .accesses = accesses});
    request_exit();
    s.end_slice();
    return;
  }
}

// --- Observers --------------------------------------------------------------------------------------------------------

void CpuCore::add_observer(CpuObserver& observer, u32 events) {
  remove_observer(observer);
  m_observers.push_back({&observer, events});
  m_observed |= events;
  m_observed_mode = cpu_mode();
}

void CpuCore::remove_observer(CpuObserver& observer) {
  std::erase_if(m_observers, [&](const ObserverEntry& entry) { return entry.observer == &observer; });
  m_observed = 0;
  for (const ObserverEntry& entry : m_observers) m_observed |= entry.events;
}

void CpuCore::observe_mode() {
  const CpuMode now = cpu_mode();
  if (now == m_observed_mode) return;
  const CpuMode before = std::exchange(m_observed_mode, now);
  observe(kEventMode, [&](CpuObserver& observer) { observer.mode_changed(before, now); });
}

CpuMode CpuCore::cpu_mode() const {
  if (!s.protected_mode()) return CpuMode::Real;
  if (s.v86()) return CpuMode::Virtual8086;
  if (s.long_mode()) return s.segment[kCs].long_mode() ? CpuMode::Long64 : CpuMode::Compatibility;
  return s.segment[kCs].big() ? CpuMode::Protected32 : CpuMode::Protected16;
}

const char* cpu_mode_name(CpuMode mode) {
  switch (mode) {
    case CpuMode::Real: return "real mode";
    case CpuMode::Virtual8086: return "virtual-8086 mode";
    case CpuMode::Protected16: return "16-bit protected mode";
    case CpuMode::Protected32: return "32-bit protected mode";
    case CpuMode::Compatibility: return "compatibility mode";
    case CpuMode::Long64: return "64-bit mode";
  }
  return "";
}

}  // namespace vellum
