// Who wants to know what happens in a CPU: events that debuggers stop at and traces record.
#pragma once

#include <span>

#include "state/integers.h"

namespace vellum {

// What a CPU's code can run as; changes of it are events.
enum class CpuMode : u8 { Real, Virtual8086, Protected16, Protected32, Compatibility, Long64 };
const char* cpu_mode_name(CpuMode mode);

// Bits for which an observer is called; what nobody observes costs one test.
enum CpuEvents : u32 {
  kEventPort = 1,
  kEventMmio = 2,
  kEventMsr = 4,
  kEventControl = 8,
  kEventInterrupt = 16,
  kEventMode = 32,
  kEventTripleFault = 64,
  kEventPageWalk = 128,
  kEventMemory = 256,  // on the pages that DebugControl::observe_memory() names
};

// Called with the state as the access or event finds it: RIP may be that of the next instruction already. An observer must not
// change the guest.
class CpuObserver {
 public:
  virtual ~CpuObserver() = default;
  // Behind a read, with what was read; before a write.
  virtual void port_accessed(u16 port, unsigned size, bool write, u32 value) {}
  virtual void mmio_accessed(u64 physical, unsigned size, bool write, u64 value) {}
  virtual void msr_accessed(u32 index, bool write, u64 value) {}
  // MOV to CR0, CR3, CR4 or CR8, LMSW, CLTS, behind the write.
  virtual void control_written(unsigned number, u64 value) {}
  // An exception, interrupt or software interrupt is about to be delivered through the IDT. `external`: INTR or NMI.
  virtual void interrupt_delivered(u8 vector, bool external, u32 error_code) {}
  virtual void mode_changed(CpuMode before, CpuMode now) {}
  virtual void triple_fault() {}
  // The TLB did not have this address, and the page tables are about to be walked for it.
  virtual void page_walked(u64 linear) {}
  // A read or write of data, by the instruction in progress or by the CPU for its own ends (tables, stacks of interrupts):
  // behind a read, before a write, with all faults behind it. Page tables' entries and code are not among them.
  virtual void memory_accessed(u64 linear, bool write, std::span<const u8> data) {}
  // The instruction in progress begins anew, for reasons of the emulator's own: what it has accessed so far did not happen.
  virtual void accesses_undone() {}
};

}  // namespace vellum
