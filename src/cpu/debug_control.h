// What a debugger asks of one CPU: where and at which accesses to stop, and why it stopped. No guest byte or register is touched.
#pragma once

#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "state/integers.h"

namespace vellum {

// Which addresses a breakpoint or watchpoint is given in. A linear one holds in every address space; a physical one wherever
// its byte is mapped.
enum class DebugSpace : u8 { Linear, Physical };

// Bits of a watchpoint's accesses.
enum WatchedAccess : u8 { kWatchRead = 1, kWatchWrite = 2 };

struct Watchpoint {
  DebugSpace space = DebugSpace::Linear;
  u64 address = 0;
  u64 size = 1;  // bytes, at least 1
  u8 accesses = kWatchWrite;
  bool operator==(const Watchpoint&) const = default;
};

// Why the CPU stopped.
struct DebugStop {
  enum class Kind : u8 {
    Breakpoint,  // the instruction at `address` (linear, or physical as `space` says) is next
    Watchpoint,  // the instruction just done, or the delivery of an event, touched `watchpoint` at `address`
    Event,       // an observer asked for it (DebugControl::request_stop)
  };
  Kind kind = Kind::Event;
  DebugSpace space = DebugSpace::Linear;
  u64 address = 0;
  Watchpoint watchpoint;
  u8 accesses = 0;  // WatchedAccess bits that were seen
};

// Breakpoints and watchpoints may be set and taken back whenever the CPU does not run. The same one may be set several times
// and is there until it was taken back as often.
//
// The CPU finds a linear breakpoint's physical place when its page is next mapped for code. Blocks are cut there ("cuts"): the
// block that begins with it is never linked nor known to the jump cache, so that only the run loop enters it, in every engine.
// All other code runs as if there were no debugger.
class DebugControl {
 public:
  void insert_breakpoint(DebugSpace space, u64 address);
  bool remove_breakpoint(DebugSpace space, u64 address);  // false: there is none
  void insert_watchpoint(const Watchpoint& watchpoint);
  bool remove_watchpoint(const Watchpoint& watchpoint);
  // From now on every data access to pages that have some of these linear addresses is told to those who observe kEventMemory.
  // Accesses to other pages cost nothing.
  void observe_memory(u64 first, u64 last) { m_observed_memory = {first, last}, m_changed = true; }
  void ignore_memory() { m_observed_memory.reset(), m_changed = true; }
  void clear();

  // While disabled nothing of this stops the CPU: it is on its way to a place that somebody asked for.
  void enable(bool enabled) {
    m_changed = m_changed || (enabled && !m_enabled);
    m_enabled = enabled;
  }
  // The breakpoint at the place where the CPU stands now is passed by once: for going on behind a stop.
  void pass_here(u64 linear, u64 retired) { m_passed_linear = linear, m_passed_retired = retired; }
  // While set no interrupt, NMI or SMI is taken: a step stays in the code that is looked at.
  void hold_interrupts(bool hold) { m_hold_interrupts = hold; }
  bool holds_interrupts() const { return m_hold_interrupts; }

  // Asks for a stop at the next instruction boundary; the first reason counts. Cpu::request_exit() must follow.
  void request_stop(const DebugStop& stop) {
    if (!m_stop) m_stop = stop;
  }
  // The reason of an Exit::Debug; it is gone with this.
  std::optional<DebugStop> take_stop() { return std::exchange(m_stop, std::nullopt); }
  // The watched access was made by an instruction that faulted, and will be made again.
  void forget_access() {
    if (m_stop && m_stop->kind == DebugStop::Kind::Watchpoint) m_stop.reset();
  }
  bool stop_pending() const { return m_stop.has_value(); }

 private:
  friend class CpuCore;
  struct Cut {
    u64 ram_offset;
    DebugSpace space;
    u64 address;  // of the breakpoint it is there for
  };
  bool has_breakpoints() const { return m_enabled && (!m_linear.empty() || !m_physical.empty()); }
  bool has_breakpoints_on(u64 linear) const { return m_enabled && !m_linear_pages.empty() && m_linear_pages.contains(linear & ~u64{4095}); }
  bool has_watchpoints() const { return m_enabled && !m_watchpoints.empty(); }
  bool observes_memory_at(u64 linear) const {
    return m_observed_memory && m_observed_memory->first <= (linear | 4095) && (linear & ~u64{4095}) <= m_observed_memory->last;
  }
  bool wanted(const Cut& cut) const { return (cut.space == DebugSpace::Linear ? m_linear : m_physical).contains(cut.address); }
  bool passes(u64 linear, u64 retired) const { return linear == m_passed_linear && retired == m_passed_retired; }
  // Accesses that somebody wants to see on this page.
  u8 watched_on_page(u64 linear, u64 physical) const;

  using Counted = std::unordered_map<u64, u32>;
  Counted m_linear, m_physical;  // breakpoints, and how often each is set
  Counted m_linear_pages;        // how many of m_linear each page has
  std::vector<Watchpoint> m_watchpoints;
  struct Addresses {
    u64 first, last;
  };
  std::optional<Addresses> m_observed_memory;
  bool m_enabled = true;
  bool m_changed = false;        // since the CPU last looked
  std::vector<Cut> m_cuts;
  u64 m_cuts_checked = 0;        // retired instructions when unwanted cuts were last looked for
  u64 m_passed_linear = 0, m_passed_retired = ~u64{0};
  u64 m_repeat_linear = 0, m_repeat_retired = ~u64{0};  // a repeated string instruction was let through there
  bool m_hold_interrupts = false;
  std::optional<DebugStop> m_stop;
};

}  // namespace vellum
