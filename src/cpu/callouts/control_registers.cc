// Control and debug registers, TLB invalidation, caches, HLT, MONITOR and MWAIT, SDM Vol. 3A chapter 2, Vol. 3B 18.2.
#include "cpu/callouts/descriptors.h"
#include "state/log.h"

namespace vellum::callouts {

namespace {

constexpr u64 kCr0Defined = kCr0Pe | kCr0Mp | kCr0Em | kCr0Ts | kCr0Et | kCr0Ne | kCr0Wp | kCr0Am | u64{kCr0Nw} |
                            u64{kCr0Cd} | kCr0Pg;

// The CR4 bits that this model has; all others are reserved.
u64 cr4_defined(const CpuModel& model) {
  struct Bit {
    Feature feature;
    u64 bit;
  };
  static constexpr Bit kBits[] = {
      {Feature::Vme, kCr4Vme | kCr4Pvi}, {Feature::Tsc, kCr4Tsd}, {Feature::De, kCr4De}, {Feature::Pse, kCr4Pse},
      {Feature::Pae, kCr4Pae}, {Feature::Mce, kCr4Mce}, {Feature::Pge, kCr4Pge}, {Feature::Fxsr, kCr4Osfxsr},
      {Feature::Sse, kCr4Osxmmexcpt}, {Feature::Umip, kCr4Umip}, {Feature::La57, kCr4La57},
      {Feature::Fsgsbase, kCr4Fsgsbase}, {Feature::Pcid, kCr4Pcide}, {Feature::Xsave, kCr4Osxsave},
      {Feature::Smep, kCr4Smep}, {Feature::Smap, kCr4Smap}, {Feature::Pku, kCr4Pke},
      {Feature::Pks, kCr4Pks}};
  u64 bits = kCr4Pce;
  for (const Bit& bit : kBits)
    if (model.has(bit.feature)) bits |= bit.bit;
  return bits;
}

u64 physical_address_mask(const CpuCore& cpu) { return (u64{1} << cpu.model.physical_address_bits) - 1; }

unsigned control_size(const CpuCore& cpu) { return cpu.s.code64() ? 8 : 4; }

}  // namespace

bool read_pdptes(CpuCore& cpu, u64 cr3, std::array<u64, 4>& pdptes) {
  const u64 reserved = ~physical_address_mask(cpu) | 0x1e6;
  for (unsigned i = 0; i < 4; ++i) {
    const u64 address = ((cr3 & 0xffffffe0) + 8 * i) & cpu.s.paging.a20_mask;
    const u64 entry = cpu.memory.read_value<u64>(GuestPhysAddr(address));
    if ((entry & 1) && (entry & reserved)) return false;
    pdptes[i] = entry;
  }
  return true;
}

namespace {

// SDM Vol. 2B "MOV - Move to/from Control Registers", Vol. 3A 2.5, 4.1.2, 9.8.5.
void write_cr0(CpuCore& cpu, u64 value) {
  CpuState& s = cpu.s;
  if (value >> 32) cpu.raise_general_protection();
  if ((value & kCr0Pg) && !(value & kCr0Pe)) cpu.raise_general_protection();
  if ((value & kCr0Nw) && !(value & kCr0Cd)) cpu.raise_general_protection();
  value = (value & kCr0Defined) | kCr0Et;
  const u64 changed = value ^ s.cr0;
  const bool paging_on = (changed & kCr0Pg) && (value & kCr0Pg);
  const bool paging_off = (changed & kCr0Pg) && !(value & kCr0Pg);
  bool load_pdptes = s.paging.mode == PagingMode::Pae && (changed & (kCr0Cd | kCr0Nw));
  if (paging_on) {
    if (s.efer & kEferLme) {
      if (!(s.cr4 & kCr4Pae) || s.segment[kCs].long_mode()) cpu.raise_general_protection();
      if (!(s.segment[kTr].type() & 8)) cpu.raise_general_protection();  // a 16-bit TSS
    } else if (s.cr4 & kCr4Pae) {
      load_pdptes = true;
    }
  }
  if (paging_off && ((s.cr4 & kCr4Pcide) || s.code64())) cpu.raise_general_protection();
  if (load_pdptes) {
    std::array<u64, 4> pdptes;
    if (!read_pdptes(cpu, s.cr3, pdptes)) cpu.raise_general_protection();
    s.paging.pdpte = pdptes;
  }

  s.cr0 = value;
  if (paging_on && (s.efer & kEferLme)) s.efer |= kEferLma;
  if (paging_off) s.efer &= ~kEferLma;
  cpu.update_mode();
  // Cached translations depend on all of these; WP is folded into the TLB's write permission.
  if (changed & (kCr0Pg | kCr0Wp | kCr0Pe)) cpu.flush_tlb();
}

void write_cr3(CpuCore& cpu, u64 value) {
  CpuState& s = cpu.s;
  if (s.long_mode()) {
    const bool contexts = s.cr4 & kCr4Pcide, keep = contexts && (value >> 63);
    if (contexts) value &= ~(u64{1} << 63);
    if (value & ~physical_address_mask(cpu)) cpu.raise_general_protection();
    if (contexts) {
      if (!keep || value != s.cr3) cpu.switch_address_space(value, keep);
      s.paging.cr3 = value;
      return;
    }
  } else {
    value = static_cast<u32>(value);
    if (s.paging.mode == PagingMode::Pae) {
      std::array<u64, 4> pdptes;
      if (!read_pdptes(cpu, value, pdptes)) cpu.raise_general_protection();
      s.paging.pdpte = pdptes;
    }
  }
  s.cr3 = value;
  s.paging.cr3 = value;
  cpu.flush_tlb_non_global();
}

void write_cr4(CpuCore& cpu, u64 value) {
  CpuState& s = cpu.s;
  if (value & ~cr4_defined(cpu.model)) {
    log(LogItem::Unsupported, "CR4 bits {:#x} that this CPU model lacks", value & ~cr4_defined(cpu.model));
    cpu.raise_general_protection();
  }
  const u64 changed = value ^ s.cr4;
  if (s.long_mode() && (!(value & kCr4Pae) || (changed & kCr4La57))) cpu.raise_general_protection();
  if ((changed & value & kCr4Pcide) && (!s.long_mode() || (s.cr3 & 0xfff))) cpu.raise_general_protection();
  constexpr u64 kPdpteBits = kCr4Pae | kCr4Pge | kCr4Pse | kCr4Smep;
  if ((s.cr0 & kCr0Pg) && !s.long_mode() && (value & kCr4Pae) && (changed & kPdpteBits)) {
    std::array<u64, 4> pdptes;
    if (!read_pdptes(cpu, s.cr3, pdptes)) cpu.raise_general_protection();
    s.paging.pdpte = pdptes;
  }
  s.cr4 = value;
  cpu.update_mode();
  constexpr u64 kFlushBits = kPdpteBits | kCr4Pcide | kCr4La57 | kCr4Smap | kCr4Pke | kCr4Pks;
  if (changed & kFlushBits) cpu.flush_tlb();
}

}  // namespace

namespace {

void observe_control(CpuCore& cpu, unsigned index, u64 value) {
  cpu.observe(kEventControl, [&](CpuObserver& observer) { observer.control_written(index, value); });
}

}  // namespace

VELLUM_CALLOUT(move_to_control) {
  CpuState& s = cpu.s;
  const unsigned index = insn.operand[0];
  if (index != 0 && index != 2 && index != 3 && index != 4 && !(index == 8 && s.code64()))
    cpu.raise(Vector::InvalidOpcode);
  require_privilege(cpu);
  const u64 value = read_register(s, insn.operand[1], control_size(cpu));
  switch (index) {
    case 0: write_cr0(cpu, value); break;
    case 2: s.cr2 = value; break;
    case 3: write_cr3(cpu, value); break;
    case 4: write_cr4(cpu, value); break;
    default:
      if (value > 15) cpu.raise_general_protection();
      cpu.environment.set_task_priority(static_cast<u8>(value));
  }
  observe_control(cpu, index, value);
}

VELLUM_CALLOUT(move_from_control) {
  CpuState& s = cpu.s;
  const unsigned index = insn.operand[1];
  u64 value = 0;
  switch (index) {
    case 0: value = s.cr0; break;
    case 2: value = s.cr2; break;
    case 3: value = s.cr3; break;
    case 4: value = s.cr4; break;
    case 8:
      if (s.code64()) break;
      [[fallthrough]];
    default: cpu.raise(Vector::InvalidOpcode);
  }
  require_privilege(cpu);
  if (index == 8) value = cpu.environment.task_priority();
  write_register(s, insn.operand[0], control_size(cpu), value);
}

namespace {

constexpr u64 kDr6Writable = 0xe00f, kDr6Fixed = 0xffff0ff0;
constexpr u64 kDr7Writable = 0xffff23ff, kDr7Fixed = 0x400, kDr7GeneralDetect = 0x2000;

// DR4 and DR5 are DR6 and DR7, or do not exist, SDM Vol. 3B 18.2.2.
unsigned debug_register(CpuCore& cpu, unsigned index) {
  if (index > 7) cpu.raise(Vector::InvalidOpcode);
  if (index == 4 || index == 5) {
    if (cpu.s.cr4 & kCr4De) cpu.raise(Vector::InvalidOpcode);
    index += 2;
  }
  require_privilege(cpu);
  if (cpu.s.dr[7] & kDr7GeneralDetect) {
    cpu.s.dr[6] |= u64{1} << 13;  // BD
    cpu.s.dr[7] &= ~kDr7GeneralDetect;
    cpu.raise(Vector::Debug);
  }
  return index;
}

}  // namespace

VELLUM_CALLOUT(move_to_debug) {
  CpuState& s = cpu.s;
  const unsigned index = debug_register(cpu, insn.operand[0]);
  const u64 value = read_register(s, insn.operand[1], control_size(cpu));
  if (index < 4) {
    s.dr[index] = value;
  } else {
    if (value >> 32) cpu.raise_general_protection();
    s.dr[index] = index == 6 ? (value & kDr6Writable) | kDr6Fixed : (value & kDr7Writable) | kDr7Fixed;
  }
  cpu.update_mode();
}

VELLUM_CALLOUT(move_from_debug) {
  const unsigned index = debug_register(cpu, insn.operand[1]);
  write_register(cpu.s, insn.operand[0], control_size(cpu), cpu.s.dr[index]);
}

VELLUM_CALLOUT(load_machine_status) {
  require_privilege(cpu);
  const u64 value = read_rm(cpu, insn, 0, 2);
  // LMSW sets PE but cannot clear it, SDM Vol. 2A "LMSW".
  write_cr0(cpu, (cpu.s.cr0 & ~u64{kCr0Mp | kCr0Em | kCr0Ts}) | (value & (kCr0Pe | kCr0Mp | kCr0Em | kCr0Ts)));
  observe_control(cpu, 0, cpu.s.cr0);
}

VELLUM_CALLOUT(store_machine_status) {
  if ((cpu.s.cr4 & kCr4Umip) && cpu.s.cpl == 3) cpu.raise_general_protection();
  write_rm(cpu, insn, 0, insn.memory ? 2 : insn.operand_size, cpu.s.cr0);
}

VELLUM_CALLOUT(clear_task_switched) {
  (void)insn;
  require_privilege(cpu);
  cpu.s.cr0 &= ~kCr0Ts;
  cpu.update_mode();
  observe_control(cpu, 0, cpu.s.cr0);
}

VELLUM_CALLOUT(invalidate_page) {
  require_privilege(cpu);
  u64 linear = cpu.operand_offset(insn);
  if (cpu.s.code64()) {
    if (insn.segment >= kFs) linear += cpu.s.segment[insn.segment].base;
  } else {
    linear = static_cast<u32>(linear + cpu.s.segment[insn.segment].base);
  }
  cpu.flush_tlb_page(linear);
}

VELLUM_CALLOUT(invalidate_pcid) {
  require_privilege(cpu);
  const unsigned size = control_size(cpu);
  const u64 type = read_register(cpu.s, insn.operand[0], size);
  u64 descriptor[2];
  cpu.read_bytes(cpu.operand_linear(insn, 16, AccessType::Read), descriptor, 16);
  const u64 pcid = descriptor[0];
  if (type > 3 || (type < 2 && (pcid >> 12)) || (!(cpu.s.cr4 & kCr4Pcide) && type < 2 && pcid != 0) ||
      (type == 0 && !canonical_in_register(cpu.model, descriptor[1])))
    cpu.raise_general_protection();
  const bool current = pcid == (cpu.s.cr4 & kCr4Pcide ? cpu.s.cr3 & 0xfff : 0);
  if (type == 0 && current) cpu.flush_tlb_page(descriptor[1]);
  else if (type == 1 && current) cpu.switch_address_space(cpu.s.cr3, false);
  else if (type < 2) cpu.forget_address_space(pcid);
  if (type == 3) cpu.flush_tlb_non_global();
  if (type == 2) cpu.flush_tlb();
}

VELLUM_CALLOUT(invalidate_caches) {
  (void)insn;
  require_privilege(cpu);
}

namespace {

// The run loop sees the halt once the callout returns to it, which attention makes it do.
void stop_until_event(CpuState& s) {
  s.halted = true;
  s.ask_for_attention(kAttentionStep);
}

}  // namespace

VELLUM_CALLOUT(halt) {
  (void)insn;
  require_privilege(cpu);
  stop_until_event(cpu.s);
}

VELLUM_CALLOUT(monitor) {
  CpuState& s = cpu.s;
  if (s.cpl != 0) cpu.raise(Vector::InvalidOpcode);
  if (s.gpr[kRcx] & (s.code64() ? ~u64{0} : 0xffffffff)) cpu.raise_general_protection();
  const u64 offset = s.gpr[kRax] & insn.address_mask();
  const unsigned segment = insn.prefixes & kPrefixSegment ? insn.segment : u8{kDs};
  cpu.read_linear<u8>(cpu.segment_linear(segment, offset, 1, AccessType::Read));
}

// A store to the monitored line is not waited for: MWAIT may wake at any time, SDM Vol. 2B "MWAIT", and does so at once,
// unless it is used as HLT is.
VELLUM_CALLOUT(monitor_wait) {
  (void)insn;
  CpuState& s = cpu.s;
  if (s.cpl != 0) cpu.raise(Vector::InvalidOpcode);
  const u64 extensions = s.gpr[kRcx] & (s.code64() ? ~u64{0} : 0xffffffff);
  if (extensions > 1) cpu.raise_general_protection();
  if (s.rflags & kIf) stop_until_event(s);
}

}  // namespace vellum::callouts
