// One x86 CPU: the interface through which the machine runs it.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "cpu/debug_control.h"
#include "cpu/environment.h"
#include "cpu/exits.h"
#include "cpu/model.h"
#include "cpu/observer.h"
#include "mmu/address_space.h"
#include "state/archive.h"

namespace vellum {

struct CpuState;

class Cpu {
 public:
  // `model` says which features exist. `index` is the CPU's number (its initial APIC ID).
  static std::unique_ptr<Cpu> create(const CpuModel& model, AddressSpace& memory, CpuEnvironment& environment,
                                     unsigned index);
  virtual ~Cpu() = default;

  // RESET# (power-on or system reset) and INIT# (keeps caches, MSRs, x87 and SSE state), SDM Vol. 3A table 10-1.
  virtual void reset() = 0;
  virtual void init() = 0;

  // Runs guest code until exactly `budget` instructions have retired or another exit ends it. An interrupt delivery does
  // not count; a chunk of a repeated string instruction counts as one.
  virtual Exit run(u64 budget) = 0;
  // Instructions retired since power-on, exact at every moment at which the environment is called.
  virtual u64 retired() const = 0;

  // Inputs. interrupt_request is a level (from the local APIC or the 8259); NMI and SMI are edges and are latched.
  virtual void set_interrupt_request(bool level) = 0;
  virtual void raise_nmi() = 0;
  virtual void raise_smi() = 0;
  virtual void set_a20(bool enabled) = 0;
  // True when run() would not return Halted at once.
  virtual bool has_work() const = 0;

  // Delivers the interrupts that can be delivered now, without running an instruction: from then on the instruction count says
  // everything about where the CPU is. run() looks for events where its budget ends, but not where it was asked to return.
  virtual void settle() = 0;
  // A hash of the general registers, RIP and RFLAGS: cheap, to find out that two runs are no longer the same.
  virtual u64 register_hash() const = 0;

  // Makes run() return Exit::Requested soon. Async-signal-safe, from any thread.
  virtual void request_exit() = 0;

  // What a debugger asks of this CPU. It may be changed while the CPU does not run, and is no part of the guest's state.
  DebugControl& debug() { return m_debug; }
  // Calls `observer` for these events (CpuEvents) from now on; one that is added again has its events replaced.
  virtual void add_observer(CpuObserver& observer, u32 events) {}
  virtual void remove_observer(CpuObserver& observer) {}

  virtual CpuState& state() = 0;
  virtual std::string describe_registers() const = 0;  // as `info registers` prints them
  virtual void visit(Archive& archive) = 0;

 protected:
  DebugControl m_debug;
};

}  // namespace vellum
