// IN, OUT, INS, OUTS and the I/O permission bitmap, SDM Vol. 1 chapter 19.
#include "cpu/callouts/operands.h"

namespace vellum::callouts {

namespace {

// SDM Vol. 1 19.5: with CPL above IOPL, or in V86 mode, the TSS's bitmap decides.
void check_port(CpuCore& cpu, u16 port, unsigned size) {
  const CpuState& s = cpu.s;
  if (!s.protected_mode() || (s.cpl <= ((s.rflags >> 12) & 3) && !s.v86())) return;
  const SegmentRegister& tr = s.segment[kTr];
  if (!tr.usable || !(tr.type() & 8) || tr.limit < 0x67) cpu.raise_general_protection();
  const u32 offset = cpu.read_linear<u16>(tr.base + 0x66, Rights::Supervisor) + port / 8u;
  if (offset + 1 > tr.limit) cpu.raise_general_protection();
  const u16 bits = cpu.read_linear<u16>(tr.base + offset, Rights::Supervisor);
  if ((bits >> (port & 7)) & ((1u << size) - 1)) cpu.raise_general_protection();
}

template <unsigned Size>
unsigned port_size(const BoundInsn& insn) {
  return Size ? Size : insn.operand_size == 2 ? 2 : 4;
}

u32 read_observed(CpuCore& cpu, u16 port, unsigned size) {
  const u32 value = cpu.environment.read_port(port, size);
  cpu.observe(kEventPort, [&](CpuObserver& observer) { observer.port_accessed(port, size, false, value); });
  return value;
}

void write_observed(CpuCore& cpu, u16 port, unsigned size, u32 value) {
  cpu.observe(kEventPort, [&](CpuObserver& observer) { observer.port_accessed(port, size, true, value); });
  cpu.environment.write_port(port, size, value);
}

void input(CpuCore& cpu, u16 port, unsigned size) {
  check_port(cpu, port, size);
  write_gpr(cpu.s, kRax, size, read_observed(cpu, port, size));
}

void output(CpuCore& cpu, u16 port, unsigned size) {
  check_port(cpu, port, size);
  write_observed(cpu, port, size, static_cast<u32>(truncate(cpu.s.gpr[kRax], size)));
}

// A repeated string instruction does at most this many iterations before the run loop looks up.
constexpr unsigned kChunk = 1024;
// What comes at any time from other threads must not decide how long a chunk is, which counts as one instruction.
constexpr u32 kAttentionOfHost = kAttentionExit | kAttentionTranslator | kAttentionTrace;

// Runs `iteration` as REP says; each one is complete, with its registers, before the next starts.
template <class Iteration>
void repeat(CpuCore& cpu, const BoundInsn& insn, Iteration iteration) {
  CpuState& s = cpu.s;
  if (!(insn.prefixes & (kPrefixRep | kPrefixRepne))) return iteration();
  for (unsigned i = 0; i < kChunk; ++i) {
    const u64 count = s.gpr[kRcx] & insn.address_mask();
    if (count == 0) return;
    iteration();
    write_gpr(s, kRcx, insn.address_size, count - 1);
    if (count == 1) return;
    if (__atomic_load_n(&s.attention, __ATOMIC_RELAXED) & ~kAttentionOfHost) break;
  }
  s.rip = cpu.insn_rip();
}

void advance(CpuState& s, const BoundInsn& insn, unsigned index, unsigned size) {
  const u64 step = s.rflags & kDf ? u64{0} - size : size;
  write_gpr(s, index, insn.address_size, (s.gpr[index] + step) & insn.address_mask());
}

}  // namespace

template <unsigned Size>
VELLUM_CALLOUT(input_immediate) { input(cpu, static_cast<u8>(insn.immediate()), port_size<Size>(insn)); }
template <unsigned Size>
VELLUM_CALLOUT(input_dx) { input(cpu, static_cast<u16>(cpu.s.gpr[kRdx]), port_size<Size>(insn)); }
template <unsigned Size>
VELLUM_CALLOUT(output_immediate) { output(cpu, static_cast<u8>(insn.immediate()), port_size<Size>(insn)); }
template <unsigned Size>
VELLUM_CALLOUT(output_dx) { output(cpu, static_cast<u16>(cpu.s.gpr[kRdx]), port_size<Size>(insn)); }

template <unsigned Size>
VELLUM_CALLOUT(input_string) {
  const unsigned size = port_size<Size>(insn);
  const u16 port = static_cast<u16>(cpu.s.gpr[kRdx]);
  check_port(cpu, port, size);
  repeat(cpu, insn, [&] {
    CpuState& s = cpu.s;
    const u64 linear = cpu.segment_linear(kEs, s.gpr[kRdi] & insn.address_mask(), size, AccessType::Write);
    // The port must not be read when the store would fault.
    if ((linear ^ s.tlb[Tlb::slot(linear)].write_tag) > kPageSize - size) cpu.probe_write(linear, size);
    const u32 value = read_observed(cpu, port, size);
    cpu.write_bytes(linear, &value, size);
    advance(s, insn, kRdi, size);
  });
}

template <unsigned Size>
VELLUM_CALLOUT(output_string) {
  const unsigned size = port_size<Size>(insn);
  const u16 port = static_cast<u16>(cpu.s.gpr[kRdx]);
  const unsigned segment = insn.prefixes & kPrefixSegment ? insn.segment : u8{kDs};
  check_port(cpu, port, size);
  repeat(cpu, insn, [&] {
    CpuState& s = cpu.s;
    const u64 linear = cpu.segment_linear(segment, s.gpr[kRsi] & insn.address_mask(), size, AccessType::Read);
    const u32 value = static_cast<u32>(read_memory(cpu, linear, size));
    write_observed(cpu, port, size, value);
    advance(s, insn, kRsi, size);
  });
}

#define VELLUM_INSTANTIATE(name)                            \
  template void name<0>(CpuCore&, const BoundInsn&);        \
  template void name<1>(CpuCore&, const BoundInsn&);
VELLUM_INSTANTIATE(input_immediate)
VELLUM_INSTANTIATE(input_dx)
VELLUM_INSTANTIATE(output_immediate)
VELLUM_INSTANTIATE(output_dx)
VELLUM_INSTANTIATE(input_string)
VELLUM_INSTANTIATE(output_string)

}  // namespace vellum::callouts
