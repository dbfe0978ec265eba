// How callouts reach operands and stacks: by a bound instruction's fields, at run time.
#pragma once

#include <cstring>

#include "cpu/callouts/callouts.h"

namespace vellum::callouts {

inline u64 truncate(u64 value, unsigned size) {
  return size == 8 ? value : size == 4 ? static_cast<u32>(value) : size == 2 ? static_cast<u16>(value) : static_cast<u8>(value);
}

inline u64 read_register(const CpuState& s, u16 offset, unsigned size) {
  u64 value = 0;
  std::memcpy(&value, reinterpret_cast<const char*>(&s) + offset, size);
  return value;
}
// A 32-bit write clears the upper half, SDM Vol. 1 3.4.1.1.
inline void write_register(CpuState& s, u16 offset, unsigned size, u64 value) {
  if (size == 4) {
    value = static_cast<u32>(value);
    size = 8;
  }
  std::memcpy(reinterpret_cast<char*>(&s) + offset, &value, size);
}
inline void write_gpr(CpuState& s, unsigned index, unsigned size, u64 value) {
  write_register(s, gpr_offset(index), size, value);
}

inline u64 read_memory(CpuCore& cpu, u64 linear, unsigned size, Rights rights = Rights::Current) {
  u64 value = 0;
  cpu.read_bytes(linear, &value, size, rights);
  return value;
}

// The r/m operand at place `n`.
inline u64 read_rm(CpuCore& cpu, const BoundInsn& insn, unsigned n, unsigned size) {
  if (!insn.memory) return read_register(cpu.s, insn.operand[n], size);
  return read_memory(cpu, cpu.operand_linear(insn, size, AccessType::Read), size);
}
inline void write_rm(CpuCore& cpu, const BoundInsn& insn, unsigned n, unsigned size, u64 value) {
  if (!insn.memory) return write_register(cpu.s, insn.operand[n], size, value);
  cpu.write_bytes(cpu.operand_linear(insn, size, AccessType::Write), &value, size);
}

inline bool canonical(const CpuState& s, u64 address) {
  const unsigned bits = s.cr4 & kCr4La57 ? 57 : 48;
  return static_cast<u64>(static_cast<i64>(address << (64 - bits)) >> (64 - bits)) == address;
}

inline bool is_amd(const CpuModel& model) { return model.vendor == "AuthenticAMD" || model.vendor == "HygonGenuine"; }

// Bases and entry points that registers hold are checked against the width that the CPU has, whatever CR4.LA57 says: 5-Level
// Paging and 5-Level EPT White Paper (335252).
inline bool canonical_in_register(const CpuModel& model, u64 address) {
  const unsigned bits = model.has(Feature::La57) ? 57 : 48;
  return static_cast<u64>(static_cast<i64>(address << (64 - bits)) >> (64 - bits)) == address;
}

inline void require_privilege(CpuCore& cpu) {
  if (cpu.s.cpl != 0) cpu.raise_general_protection();
}

// Whether `size` bytes at `offset` lie inside the segment, SDM Vol. 3A 5.3.
inline bool covers(const SegmentRegister& segment, u64 offset, unsigned size) {
  if (segment.expand_down()) {
    const u64 top = segment.big() ? 0xffffffff : 0xffff;
    return offset > segment.limit && offset + size - 1 <= top;
  }
  return offset + size - 1 <= segment.limit;
}

// A stack in the making: pushes and pops move the cursor only; commit() changes rSP when nothing can fault any more.
class StackCursor {
 public:
  // The current stack.
  explicit StackCursor(CpuCore& cpu, u32 fault_code = 0)
      : m_cpu(cpu), m_ss(cpu.s.segment[kSs]), m_pointer(cpu.s.gpr[kRsp]), m_rights(Rights::Current),
        m_flat64(cpu.s.code64()), m_fault_code(fault_code) {}
  // Another stack: its segment (ignored with `flat64`), and the error code of #SS for it.
  StackCursor(CpuCore& cpu, const SegmentRegister& ss, u64 pointer, Rights rights, bool flat64, u32 fault_code)
      : m_cpu(cpu), m_ss(ss), m_pointer(pointer), m_rights(rights), m_flat64(flat64), m_fault_code(fault_code) {}

  u64 mask() const { return m_flat64 ? ~u64{0} : m_ss.big() ? 0xffffffff : 0xffff; }
  u64 pointer() const { return m_pointer; }
  void skip(u64 bytes) { move_to(m_pointer + bytes); }

  void push(u64 value, unsigned size) { push(value, size, size); }
  // Moves the pointer by `size`, of which `written` bytes are stored.
  void push(u64 value, unsigned size, unsigned written) {
    move_to(m_pointer - size);
    m_cpu.write_bytes(linear(0, written, true), &value, written, m_rights);
  }
  u64 pop(unsigned size) {
    const u64 value = read_memory(m_cpu, linear(0, size, false), size, m_rights);
    move_to(m_pointer + size);
    return value;
  }
  u64 peek(u64 offset, unsigned size) {
    return read_memory(m_cpu, linear(offset, size, false), size, m_rights);
  }
  // Faults if the `bytes` below the pointer cannot all be pushed.
  void require_room(u64 bytes) {
    const u64 pointer = m_pointer;
    move_to(m_pointer - bytes);
    linear(0, static_cast<unsigned>(bytes), true);
    m_pointer = pointer;
  }
  void commit() {
    u64& rsp = m_cpu.s.gpr[kRsp];
    const u64 bits = mask();
    rsp = bits == 0xffff ? (rsp & ~bits) | (m_pointer & bits) : m_pointer & bits;
  }

 private:
  void move_to(u64 pointer) { m_pointer = (m_pointer & ~mask()) | (pointer & mask()); }
  u64 linear(u64 offset, unsigned size, bool write) {
    const u64 address = (m_pointer + offset) & mask();
    if (m_flat64) {
      if (!canonical(m_cpu.s, address) || !canonical(m_cpu.s, address + size - 1))
        m_cpu.raise(Vector::StackFault, m_fault_code);
      return address;
    }
    if (!m_ss.usable || (write && !m_ss.writable() && !real_like()) || !covers(m_ss, address, size))
      m_cpu.raise(Vector::StackFault, m_fault_code);
    return static_cast<u32>(m_ss.base + address);
  }
  bool real_like() const { return !m_cpu.s.protected_mode() || m_cpu.s.v86(); }

  CpuCore& m_cpu;
  SegmentRegister m_ss;
  u64 m_pointer;
  Rights m_rights;
  bool m_flat64;
  u32 m_fault_code;
};

}  // namespace vellum::callouts
