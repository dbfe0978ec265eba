// Model-specific registers (SDM Vol. 4), the time-stamp counter, performance counters, processor ID, random numbers.
#include "cpu/callouts/operands.h"
#include "state/log.h"

namespace vellum::callouts {

namespace {

namespace spec {
// SDM Vol. 4 table 2-2.
constexpr u32 kTsc = 0x10, kPlatformId = 0x17, kApicBase = 0x1b, kFeatureControl = 0x3a, kTscAdjust = 0x3b,
              kSpecCtrl = 0x48, kPredCmd = 0x49, kArchCapabilities = 0x10a, kUpdateTrigger = 0x79,
              kUpdateSignature = 0x8b, kMtrrCap = 0xfe, kSysenterCs = 0x174, kSysenterEsp = 0x175, kSysenterEip = 0x176,
              kMcgCap = 0x179, kMcgStatus = 0x17a, kMcgCtl = 0x17b, kMiscEnable = 0x1a0, kDebugCtl = 0x1d9,
              kLastBranchFrom = 0x1db, kLastInterruptTo = 0x1de, kMtrrVariable = 0x200, kMtrrFix64k = 0x250,
              kMtrrFix16k80000 = 0x258, kMtrrFix16kA0000 = 0x259, kMtrrFix4k = 0x268, kPat = 0x277,
              kMtrrDefType = 0x2ff, kMcBanks = 0x400, kTscDeadline = 0x6e0, kPkrs = 0x6e1, kX2apicFirst = 0x800,
              kX2apicLast = 0x8ff,
              kXss = 0xda0, kEfer = 0xc0000080, kStar = 0xc0000081, kLstar = 0xc0000082, kCstar = 0xc0000083,
              kFmask = 0xc0000084, kFsBase = 0xc0000100, kGsBase = 0xc0000101, kKernelGsBase = 0xc0000102,
              kTscAux = 0xc0000103;
// AMD64 Architecture Programmer's Manual Vol. 2 appendix A: PerfEvtSel0-3 and PerfCtr0-3 (which no CPUID bit announces;
// these count nothing), SYSCFG, HWCR, interrupt pending, OSVW.
constexpr u32 kAmdRegisters[] = {0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003, 0xc0010004, 0xc0010005, 0xc0010006,
                                 0xc0010007, 0xc0010010, 0xc0010015, 0xc001001f, 0xc0010055, 0xc0010140, 0xc0010141};
}  // namespace spec

constexpr u64 kMcgCapValue = 10 | (1 << 8);     // ten banks, MCG_CTL present
constexpr u64 kMtrrCapValue = 8 | (1 << 8) | (1 << 10);  // eight variable ranges, fixed ranges, write combining
constexpr u64 kSyntheticUpdate = u64{1} << 32;  // microcode revision 1

// What a CPU that executes nothing speculatively may say: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
// PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. It spares
// guests their countermeasures: page-table isolation above all, which would flush the TLB twice in each system call.
constexpr u64 kArchCapabilitiesValue = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 |
                                       1 << 14 | 1 << 15 | 1 << 20 | 1 << 24 | 1 << 26 | 1 << 27 | u64{1} << 62;

bool is_amd_register(const CpuModel& model, u32 index) {
  if (!is_amd(model)) return false;
  for (const u32 known : spec::kAmdRegisters)
    if (known == index) return true;
  return false;
}

// The fixed-range MTRRs lie in three runs.
int fixed_mtrr(u32 index) {
  if (index == spec::kMtrrFix64k) return 0;
  if (index == spec::kMtrrFix16k80000) return 1;
  if (index == spec::kMtrrFix16kA0000) return 2;
  if (index >= spec::kMtrrFix4k && index < spec::kMtrrFix4k + 8) return static_cast<int>(3 + index - spec::kMtrrFix4k);
  return -1;
}

bool memory_type_valid(u64 type) { return type == 0 || type == 1 || (type >= 4 && type <= 6); }
bool each_byte_memory_type(u64 value, bool pat) {
  for (unsigned i = 0; i < 8; ++i) {
    const u64 type = (value >> (8 * i)) & 0xff;
    if (!memory_type_valid(type) && !(pat && type == 7)) return false;
  }
  return true;
}

u64 time_stamp(CpuCore& cpu) { return cpu.environment.time_stamp_counter() + cpu.s.tsc_offset; }

// False: no such register.
bool read(CpuCore& cpu, u32 index, u64& value) {
  CpuState& s = cpu.s;
  value = 0;
  switch (index) {
    case spec::kTsc: value = time_stamp(cpu); return true;
    case spec::kPlatformId: return true;
    case spec::kApicBase:
    case spec::kTscDeadline: return cpu.environment.read_apic_msr(index, value);
    case spec::kFeatureControl: value = s.feature_control; return true;
    case spec::kTscAdjust: value = s.tsc_adjust; return cpu.model.has(Feature::TscAdjust);
    case spec::kPkrs: value = s.pkrs; return cpu.model.has(Feature::Pks);
    case spec::kSpecCtrl: value = s.spec_ctrl; return cpu.model.has(Feature::SpecCtrl);
    case spec::kArchCapabilities: value = kArchCapabilitiesValue; return cpu.model.has(Feature::ArchCapabilities);
    case spec::kUpdateSignature: value = kSyntheticUpdate; return true;
    case spec::kMtrrCap: value = kMtrrCapValue; return cpu.model.has(Feature::Mtrr);
    case spec::kSysenterCs: value = s.sysenter_cs; return cpu.model.has(Feature::Sep);
    case spec::kSysenterEsp: value = s.sysenter_esp; return cpu.model.has(Feature::Sep);
    case spec::kSysenterEip: value = s.sysenter_eip; return cpu.model.has(Feature::Sep);
    case spec::kMcgCap: value = kMcgCapValue; return cpu.model.has(Feature::Mca);
    case spec::kMcgStatus: value = s.mcg_status; return cpu.model.has(Feature::Mca);
    case spec::kMcgCtl: value = ~u64{0}; return cpu.model.has(Feature::Mca);
    case spec::kMiscEnable: value = s.misc_enable; return true;
    case spec::kDebugCtl: value = s.debugctl; return true;
    case spec::kPat: value = s.pat; return cpu.model.has(Feature::Pat);
    case spec::kMtrrDefType: value = s.mtrr_def_type; return cpu.model.has(Feature::Mtrr);
    case spec::kXss: value = s.xss; return cpu.model.has(Feature::Xsaves);
    case spec::kEfer: value = s.efer; return cpu.model.has(Feature::Syscall) || cpu.model.has(Feature::Lm) || cpu.model.has(Feature::Nx);
    case spec::kStar: value = s.star; return cpu.model.has(Feature::Syscall);
    case spec::kLstar: value = s.lstar; return cpu.model.has(Feature::Lm);
    case spec::kCstar: value = s.cstar; return cpu.model.has(Feature::Lm);
    case spec::kFmask: value = s.fmask; return cpu.model.has(Feature::Lm);
    case spec::kFsBase: value = s.segment[kFs].base; return cpu.model.has(Feature::Lm);
    case spec::kGsBase: value = s.segment[kGs].base; return cpu.model.has(Feature::Lm);
    case spec::kKernelGsBase: value = s.kernel_gs_base; return cpu.model.has(Feature::Lm);
    case spec::kTscAux: value = s.tsc_aux; return cpu.model.has(Feature::Rdtscp) || cpu.model.has(Feature::Rdpid);
    default: break;
  }
  if (index >= spec::kLastBranchFrom && index <= spec::kLastInterruptTo) return true;
  if (index >= spec::kX2apicFirst && index <= spec::kX2apicLast) return cpu.environment.read_apic_msr(index, value);
  if (index >= spec::kMtrrVariable && index < spec::kMtrrVariable + s.mtrr_variable.size()) {
    value = s.mtrr_variable[index - spec::kMtrrVariable];
    return cpu.model.has(Feature::Mtrr);
  }
  if (const int fixed = fixed_mtrr(index); fixed >= 0) {
    value = s.mtrr_fixed[static_cast<usize>(fixed)];
    return cpu.model.has(Feature::Mtrr);
  }
  if (index >= spec::kMcBanks && index < spec::kMcBanks + s.mc_banks.size()) {
    value = s.mc_banks[index - spec::kMcBanks];
    return cpu.model.has(Feature::Mca);
  }
  return is_amd_register(cpu.model, index);
}

bool write_efer(CpuCore& cpu, u64 value) {
  CpuState& s = cpu.s;
  u64 defined = kEferLma;
  if (cpu.model.has(Feature::Syscall)) defined |= kEferSce;
  if (cpu.model.has(Feature::Lm)) defined |= kEferLme;
  if (cpu.model.has(Feature::Nx)) defined |= kEferNxe;
  if (value & ~defined) return false;
  if (((value ^ s.efer) & kEferLme) && (s.cr0 & kCr0Pg)) return false;
  const u64 changed = (value ^ s.efer) & ~kEferLma;
  s.efer = (value & ~kEferLma) | (s.efer & kEferLma);
  cpu.update_mode();
  if (changed & kEferNxe) cpu.flush_tlb();
  return true;
}

// IA32_TSC_ADJUST follows every write to the counter, and the counter every write to it, SDM Vol. 3B 18.17.3.
bool adjust_time_stamp(CpuCore& cpu, u64 difference) {
  cpu.s.tsc_offset += difference;
  cpu.s.tsc_adjust += difference;
  cpu.environment.time_stamp_counter_written();
  return true;
}

// False: no such register, or not with this value.
bool write(CpuCore& cpu, u32 index, u64 value) {
  CpuState& s = cpu.s;
  u64 old = 0;
  const auto set = [&](u64& target, bool valid = true) {
    if (valid) target = value;
    return valid;
  };
  switch (index) {
    case spec::kTsc: return adjust_time_stamp(cpu, value - time_stamp(cpu));
    case spec::kApicBase:
    case spec::kTscDeadline: return cpu.environment.write_apic_msr(index, value);
    case spec::kPredCmd: return cpu.model.has(Feature::SpecCtrl) && !(value & ~u64{1});  // nothing is predicted
    case spec::kUpdateTrigger:
    case spec::kUpdateSignature: return true;  // microcode updates are accepted and do nothing
    default: break;
  }
  if (index >= spec::kX2apicFirst && index <= spec::kX2apicLast) return cpu.environment.write_apic_msr(index, value);
  if (!read(cpu, index, old)) return false;
  switch (index) {
    case spec::kSpecCtrl: return set(s.spec_ctrl, !(value & ~u64{0x403}));  // IBRS, STIBP, BHI_DIS_S
    case spec::kArchCapabilities: return false;
    case spec::kFeatureControl: return !(s.feature_control & 1) && set(s.feature_control);  // bit 0 locks it
    case spec::kTscAdjust: return adjust_time_stamp(cpu, value - s.tsc_adjust);
    case spec::kPkrs:
      if (value >> 32) return false;
      s.pkrs = s.paging.pkrs = static_cast<u32>(value);
      cpu.flush_tlb();
      return true;
    case spec::kSysenterCs: s.sysenter_cs = static_cast<u32>(value); return true;
    case spec::kSysenterEsp: return set(s.sysenter_esp, canonical_in_register(cpu.model, value));
    case spec::kSysenterEip: return set(s.sysenter_eip, canonical_in_register(cpu.model, value));
    case spec::kMcgStatus: return set(s.mcg_status, value == 0 || value <= 7);
    case spec::kMcgCtl: return value == 0 || value == ~u64{0};
    case spec::kMiscEnable: return set(s.misc_enable);
    case spec::kDebugCtl:
      if (value & ~u64{3}) log(LogItem::Unsupported, "IA32_DEBUGCTL {:#x}", value);
      return set(s.debugctl, !(value & ~u64{0xffc3}));
    case spec::kPat: return set(s.pat, each_byte_memory_type(value, true));
    case spec::kMtrrDefType: return set(s.mtrr_def_type, !(value & ~u64{0xcff}) && memory_type_valid(value & 0xff));
    case spec::kXss: return set(s.xss, value == 0);
    case spec::kEfer: return write_efer(cpu, value);
    case spec::kStar: return set(s.star);
    case spec::kLstar: return set(s.lstar, canonical_in_register(cpu.model, value));
    case spec::kCstar: return set(s.cstar, canonical_in_register(cpu.model, value));
    case spec::kFmask: return set(s.fmask, !(value >> 32));
    case spec::kFsBase: return set(s.segment[kFs].base, canonical_in_register(cpu.model, value));
    case spec::kGsBase: return set(s.segment[kGs].base, canonical_in_register(cpu.model, value));
    case spec::kKernelGsBase: return set(s.kernel_gs_base, canonical_in_register(cpu.model, value));
    case spec::kTscAux: return set(s.tsc_aux, !(value >> 32));
    case spec::kPlatformId:
    case spec::kMtrrCap:
    case spec::kMcgCap: return false;
    default: break;
  }
  if (index >= spec::kMtrrVariable && index < spec::kMtrrVariable + s.mtrr_variable.size()) {
    const u64 physical = (u64{1} << cpu.model.physical_address_bits) - 1;
    const bool mask = index & 1;
    const bool valid = !(value & ~physical) && !(value & (mask ? 0x7ff : 0xf00)) && (mask || memory_type_valid(value & 0xff));
    return set(s.mtrr_variable[index - spec::kMtrrVariable], valid);
  }
  if (const int fixed = fixed_mtrr(index); fixed >= 0)
    return set(s.mtrr_fixed[static_cast<usize>(fixed)], each_byte_memory_type(value, false));
  if (index >= spec::kMcBanks && index < spec::kMcBanks + s.mc_banks.size()) {
    // CTL takes all zeros or all ones, and STATUS can only be cleared, SDM Vol. 3B 16.3.2. ADDR and MISC take any value:
    // AMD64 APM Vol. 2 9.3.2, and the processors that virtual machines run on.
    const unsigned kind = index % 4;
    const bool valid = kind >= 2 || value == 0 || (kind == 0 && value == ~u64{0});
    return set(s.mc_banks[index - spec::kMcBanks], valid);
  }
  return true;  // the last-branch and AMD registers read as zero
}

void write_pair(CpuState& s, u64 value) {
  s.gpr[kRax] = static_cast<u32>(value);
  s.gpr[kRdx] = value >> 32;
}

void read_time_stamp_pair(CpuCore& cpu) {
  if ((cpu.s.cr4 & kCr4Tsd) && cpu.s.cpl != 0) cpu.raise_general_protection();
  write_pair(cpu.s, time_stamp(cpu));
}

}  // namespace

VELLUM_CALLOUT(read_msr) {
  (void)insn;
  require_privilege(cpu);
  const u32 index = static_cast<u32>(cpu.s.gpr[kRcx]);
  u64 value = 0;
  if (!read(cpu, index, value)) {
    log(LogItem::GuestErrors, "RDMSR {:#x}: #GP", index);
    cpu.raise_general_protection();
  }
  cpu.observe(kEventMsr, [&](CpuObserver& observer) { observer.msr_accessed(index, false, value); });
  write_pair(cpu.s, value);
}

VELLUM_CALLOUT(write_msr) {
  (void)insn;
  require_privilege(cpu);
  const u32 index = static_cast<u32>(cpu.s.gpr[kRcx]);
  const u64 value = static_cast<u32>(cpu.s.gpr[kRax]) | (cpu.s.gpr[kRdx] << 32);
  if (!write(cpu, index, value)) {
    log(LogItem::GuestErrors, "WRMSR {:#x} = {:#x}: #GP", index, value);
    cpu.raise_general_protection();
  }
  cpu.observe(kEventMsr, [&](CpuObserver& observer) { observer.msr_accessed(index, true, value); });
}

VELLUM_CALLOUT(read_time_stamp) {
  (void)insn;
  read_time_stamp_pair(cpu);
}

VELLUM_CALLOUT(read_time_stamp_and_id) {
  (void)insn;
  read_time_stamp_pair(cpu);
  cpu.s.gpr[kRcx] = static_cast<u32>(cpu.s.tsc_aux);
}

VELLUM_CALLOUT(read_performance_counter) {
  (void)insn;
  cpu.raise_general_protection();  // CPUID announces no counters, so every index is out of range
}

VELLUM_CALLOUT(read_processor_id) {
  write_register(cpu.s, insn.operand[0], cpu.s.code64() ? 8 : 4, cpu.s.tsc_aux);
}

VELLUM_CALLOUT(read_random) {
  CpuState& s = cpu.s;
  write_register(s, insn.operand[0], insn.operand_size, cpu.environment.random());
  write_rflags(s, (read_rflags(s) & ~kArithmeticFlags) | kCf);
}

}  // namespace vellum::callouts
