// What the CPU needs from the board around it. The machine implements it; the CPU knows no device.
#pragma once

#include <optional>

#include "state/integers.h"

namespace vellum {

class CpuEnvironment {
 public:
  virtual ~CpuEnvironment() = default;

  // I/O ports; size 1, 2 or 4 bytes.
  virtual u32 read_port(u16 port, unsigned size) = 0;
  virtual void write_port(u16 port, unsigned size, u32 value) = 0;

  // The INTA cycle: the vector of the highest-priority pending interrupt (from the local APIC or the 8259s). Empty when
  // the request went away in the meantime.
  virtual std::optional<u8> acknowledge_interrupt() = 0;

  // Time-stamp counter as hardware counts it, before the CPU adds its own offset (WRMSR to IA32_TIME_STAMP_COUNTER).
  virtual u64 time_stamp_counter() = 0;
  // The guest moved the counter: deadlines given in its terms are at other times now.
  virtual void time_stamp_counter_written() {}

  // Local APIC by CR8 and MSR. read/write_apic_msr serve IA32_APIC_BASE (1Bh), IA32_TSC_DEADLINE (6E0h) and x2APIC
  // (800h-8FFh); false: the access raises #GP(0).
  virtual u8 task_priority() = 0;  // CR8: bits 3:0
  virtual void set_task_priority(u8 priority) = 0;
  virtual bool read_apic_msr(u32 index, u64& value) = 0;
  virtual bool write_apic_msr(u32 index, u64 value) = 0;

  // Sends what an interrupt command register's low half says to the CPU with this APIC id; false: there is none.
  virtual bool send_interrupt(u32 apic_id, u32 command) { return false; }

  // SMM was entered or left: SMRAM becomes visible or hidden.
  virtual void set_smm(bool active) = 0;

  // The x87 FPU's error pin: an unmasked exception is pending and CR0.NE is 0. On a PC it leads to IRQ 13; a board that
  // has no such wire leaves it out.
  virtual void set_ferr(bool level) {}

  // Entropy for RDRAND and RDSEED; recorded runs and -clock instructions make it repeatable.
  virtual u64 random() = 0;
};

}  // namespace vellum
