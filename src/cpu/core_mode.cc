// What is derived from the control state, reset, the snapshot visitor, and the register dump.
#include <fmt/format.h>

#include "cpu/core.h"
#include "cpu/floating_environment.h"

namespace vellum {

namespace {

bool covers_everything(const SegmentRegister& segment) {
  return segment.usable && segment.base == 0 && segment.limit == 0xffffffff && !segment.expand_down();
}

u32 block_mode(const CpuState& s) {
  const bool real = !s.protected_mode() || s.v86();
  u32 mode = 0;
  if (s.code64()) {
    mode = static_cast<u32>(CodeSize::Bits64) | kModeFlatData;
  } else {
    const SegmentRegister& cs = s.segment[kCs];
    const SegmentRegister& ss = s.segment[kSs];
    mode = static_cast<u32>(cs.big() ? CodeSize::Bits32 : CodeSize::Bits16);
    const bool code_flat = covers_everything(cs);
    const auto flat = [](const SegmentRegister& segment) { return covers_everything(segment) && segment.writable(); };
    if (code_flat && (real || (cs.is_code() && cs.readable())) && flat(s.segment[kDs]) && flat(s.segment[kEs]) && flat(ss))
      mode |= kModeFlatData;
    if (!code_flat) mode |= kModeCheckedCode;
    if (ss.big()) mode |= kModeStack32;
  }
  if (real) mode |= kModeReal;
  if (s.cr0 & (kCr0Em | kCr0Ts)) mode |= kModeX87Trap | kModeMmxTrap;
  if ((s.cr0 & (kCr0Em | kCr0Ts)) || !(s.cr4 & kCr4Osfxsr)) mode |= kModeSseTrap;
  if ((s.cr0 & kCr0Ts) || !s.avx_enabled()) mode |= kModeAvxTrap;
  if ((s.mxcsr & kMxcsrMasks) != kMxcsrMasks) mode |= kModeSseUnmasked;
  return mode;
}

// Data breakpoints in DR7: enabled (locally or globally), with a condition other than execution.
bool data_breakpoints(u64 dr7) {
  for (unsigned i = 0; i < 4; ++i)
    if (((dr7 >> (2 * i)) & 3) && ((dr7 >> (16 + 4 * i)) & 3) != 0) return true;
  return false;
}

TlbContext tlb_context(const CpuState& s) {
  const bool alignment_checked = (s.cr0 & kCr0Am) && (s.rflags & kAc) && s.cpl == 3;
  if (alignment_checked || data_breakpoints(s.dr[7])) return TlbContext::AlwaysSlow;
  if (s.cpl == 3) return TlbContext::User;
  return (s.cr4 & kCr4Smap) && !(s.rflags & kAc) ? TlbContext::Supervisor : TlbContext::SupervisorAc;
}

void update_paging(CpuState& s) {
  PagingControls& paging = s.paging;
  if (!(s.cr0 & kCr0Pg)) paging.mode = PagingMode::None;
  else if (!(s.cr4 & kCr4Pae)) paging.mode = PagingMode::Bits32;
  else if (!s.long_mode()) paging.mode = PagingMode::Pae;
  else paging.mode = s.cr4 & kCr4La57 ? PagingMode::Level5 : PagingMode::Level4;
  paging.write_protect = s.cr0 & kCr0Wp;
  paging.page_size_extension = s.cr4 & kCr4Pse;
  paging.global_pages = s.cr4 & kCr4Pge;
  paging.no_execute = s.efer & kEferNxe;
  paging.smep = s.cr4 & kCr4Smep;
  paging.smap = s.cr4 & kCr4Smap;
  paging.protection_keys = (s.cr4 & kCr4Pke) && s.long_mode();
  paging.pkru = s.pkru;
  paging.supervisor_keys = (s.cr4 & kCr4Pks) && s.long_mode();
  paging.pkrs = s.pkrs;
  paging.cr3 = s.cr3;
}

// A place's key holds of the mode what a RIP means: the size of code, where it wraps; and who may fetch. It stands where the RIP of a
// page's first byte has zeros and copies of bit 56, its sign. Bit 63 stays the sign: no RIP that is not canonical makes the stamp of
// one that is.
u64 place_key_of(u32 generation, u32 mode) {
  constexpr unsigned kModeBits = 3, kLowBits = kPageBits;
  static_assert(kModeCodeSizeMask == 3 && kJumpGenerationBits + kModeBits == kLowBits + 6);
  const u64 key = u64{generation} << kModeBits | (mode & kModeCodeSizeMask) << 1 | ((mode & kEntryUser) != 0);
  return (key & kPageMask) | key >> kLowBits << 57;
}

}  // namespace

// In a jump's key the generation stands between the code segment's slot and the user bit of `mode`.
void CpuState::update_jump_key() {
  for (unsigned half = 0; half < 2; ++half) {
    jump_key[half] = static_cast<u64>(jump_generation[half]) << kJumpGenerationShift | mode;
    place_key[half] = place_key_of(jump_generation[half], mode);
  }
}

// Where CS has a base, one RIP means different code; each base and limit has a slot of its own in the key, and a slot's
// change empties the jump cache.
unsigned CpuCore::code_segment_slot() {
  const SegmentRegister& cs = s.segment[kCs];
  const unsigned slot = static_cast<unsigned>((cs.base >> 4) ^ (cs.base >> 12) ^ cs.limit) % kCodeSegments;
  CodeSegment& held = m_code_segments[slot];
  if (held.base != cs.base || held.limit != cs.limit) {
    held = {cs.base, cs.limit};
    clear_jump_cache();
  }
  return slot;
}

void CpuCore::update_mode() {
  update_paging(s);
  s.mode = block_mode(s);
  if (s.mode & kModeCheckedCode) s.mode |= kEntryCodeSegment * code_segment_slot();
  if (s.cpl == 3) s.mode |= kEntryUser;
  s.update_jump_key();
  update_tlb_context();
  update_step_attention();
  if (m_observed & kEventMode) [[unlikely]] observe_mode();
}

void CpuCore::update_tlb_context() { s.tlb = tlb.table(tlb_context(s)); }

// --- Reset ------------------------------------------------------------------------------------------------------------

namespace {

SegmentRegister reset_segment(u16 selector, u64 base, u16 attributes) {
  return {.selector = selector, .attributes = attributes, .limit = 0xffff, .base = base, .usable = true};
}

}  // namespace

// SDM Vol. 3A table 9-1: what both RESET and INIT set.
void CpuCore::init() {
  s.gpr.fill(0);
  s.gpr[kRdx] = (static_cast<u32>(model.family & 15) << 8) | (static_cast<u32>(model.model & 15) << 4) |
                (static_cast<u32>(model.model >> 4) << 16) | model.stepping;
  s.rip = 0xfff0;
  write_rflags(s, 2);
  for (const unsigned index : {kEs, kSs, kDs, kFs, kGs}) s.segment[index] = reset_segment(0, 0, 0x93);
  s.segment[kCs] = reset_segment(0xf000, 0xffff0000, 0x9b);
  s.segment[kLdtr] = reset_segment(0, 0, 0x82);
  s.segment[kTr] = reset_segment(0, 0, 0x8b);
  s.gdtr = s.idtr = {.base = 0, .limit = 0xffff};
  s.cr0 = (s.cr0 & (kCr0Cd | kCr0Nw)) | kCr0Et;
  s.cr2 = s.cr3 = s.cr4 = 0;
  s.efer = 0;
  s.dr = {};
  s.dr[6] = 0xffff0ff0;
  s.dr[7] = 0x400;
  s.pkru = s.pkrs = 0;
  s.cpl = 0;
  s.debugctl = 0;
  s.kernel_gs_base = 0;
  if (s.in_smm) {
    s.in_smm = false;
    environment.set_smm(false);
  }
  s.paging.pdpte = {};

  s.halted = s.interrupt_shadow = s.stack_shadow = s.nmi_blocked = false;
  m_shadow_retired = kNoShadow;
  s.nmi_pending = s.smi_pending = s.init_pending = false;
  s.pending_debug = 0;
  __atomic_fetch_and(&s.attention, ~u32{kAttentionNmi | kAttentionSmi | kAttentionInit | kAttentionStep}, __ATOMIC_RELAXED);
  m_delivering = -1;
  update_mode();
  flush_tlb();
  clear_jump_cache();
}

void CpuCore::reset() {
  s.cr0 = kCr0Cd | kCr0Nw;
  s.vector = {};
  write_mxcsr(s, kMxcsrReset);
  s.x87 = X87State{};
  s.x87.control = 0x0040;  // table 9-1; FNINIT makes it 037F
  s.x87.valid = 0xff;
  s.xcr0 = 1;
  s.tsc_aux = 0;
  // A CPU that never ran is being constructed: its board is not complete, and the counter stands at 0.
  s.tsc_offset = m_budget_given ? u64{0} - environment.time_stamp_counter() : 0;
  s.tsc_adjust = 0;
  s.star = s.lstar = s.cstar = s.fmask = 0;
  s.sysenter_cs = s.sysenter_esp = s.sysenter_eip = 0;
  s.pat = 0x0007040600070406;
  s.misc_enable = 1;
  s.smbase = 0x30000;
  s.mcg_status = s.xss = s.feature_control = s.spec_ctrl = 0;
  s.mtrr_def_type = 0;
  s.mtrr_fixed = {};
  s.mtrr_variable = {};
  s.mc_banks = {};
  init();
}

// --- Snapshots --------------------------------------------------------------------------------------------------------

namespace {

void visit_segment(Archive& archive, std::string_view name, SegmentRegister& segment) {
  archive.begin(name);
  auto& [selector, attributes, limit, base, usable] = segment;
  archive("selector", selector)("attributes", attributes)("limit", limit)("base", base)("usable", usable);
  archive.end();
}

void visit_table(Archive& archive, std::string_view name, DescriptorTableRegister& table) {
  archive.begin(name);
  auto& [base, limit] = table;
  archive("base", base)("limit", limit);
  archive.end();
}

}  // namespace

void CpuCore::visit(Archive& archive) {
  archive("gpr", s.gpr)("rip", s.rip);
  u32 rflags = read_rflags(s);
  archive("rflags", rflags);
  archive.begin("vector");
  for (VectorRegister& vector : s.vector) archive("", vector.qword);
  archive.end();
  archive("mxcsr", s.mxcsr);
  archive.begin("x87");
  for (X87Register& x87 : s.x87.registers) archive("significand", x87.significand)("sign_exponent", x87.sign_exponent);
  archive("control", s.x87.control)("status", s.x87.status)("valid", s.x87.valid)("last_opcode", s.x87.last_opcode);
  archive("last_instruction", s.x87.last_instruction)("last_data", s.x87.last_data);
  archive("last_code_selector", s.x87.last_code_selector)("last_data_selector", s.x87.last_data_selector);
  archive.end();
  static constexpr const char* kSegmentNames[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
  for (unsigned i = 0; i < kSegmentCount; ++i) visit_segment(archive, kSegmentNames[i], s.segment[i]);
  visit_table(archive, "gdtr", s.gdtr);
  visit_table(archive, "idtr", s.idtr);
  archive("cr0", s.cr0)("cr2", s.cr2)("cr3", s.cr3)("cr4", s.cr4)("efer", s.efer)("xcr0", s.xcr0)("dr", s.dr);
  archive("pkru", s.pkru)("pkrs", s.pkrs)("cpl", s.cpl)("in_smm", s.in_smm);
  archive.require(s.cpl <= 3, "CPL");
  archive("pdpte", s.paging.pdpte)("a20_mask", s.paging.a20_mask);
  archive.require((s.paging.a20_mask | (u64{1} << 20)) == ~u64{0}, "A20 mask");

  archive("tsc_offset", s.tsc_offset)("tsc_adjust", s.tsc_adjust)("tsc_aux", s.tsc_aux);
  archive("star", s.star)("lstar", s.lstar)("cstar", s.cstar)("fmask", s.fmask)("kernel_gs_base", s.kernel_gs_base);
  archive("sysenter_cs", s.sysenter_cs)("sysenter_esp", s.sysenter_esp)("sysenter_eip", s.sysenter_eip);
  archive("pat", s.pat)("misc_enable", s.misc_enable)("debugctl", s.debugctl)("smbase", s.smbase);
  archive("mcg_status", s.mcg_status)("xss", s.xss)("feature_control", s.feature_control)("spec_ctrl", s.spec_ctrl);
  archive("mtrr_def_type", s.mtrr_def_type)("mtrr_fixed", s.mtrr_fixed)("mtrr_variable", s.mtrr_variable);
  archive("mc_banks", s.mc_banks);

  bool interrupt_shadow = in_interrupt_shadow();
  archive("halted", s.halted)("interrupt_shadow", interrupt_shadow)("stack_shadow", s.stack_shadow);
  archive("nmi_blocked", s.nmi_blocked)("nmi_pending", s.nmi_pending)("smi_pending", s.smi_pending);
  archive("init_pending", s.init_pending)("interrupt_request", s.interrupt_request)("pending_debug", s.pending_debug);
  u64 retired_count = retired();
  archive("retired", retired_count)("deliveries", m_deliveries)("retired_at_delivery", m_retired_at_delivery);

  if (!archive.loading()) return;
  s.interrupt_shadow = interrupt_shadow;
  m_shadow_retired = kNoShadow;
  write_rflags(s, rflags & 0x3f7fd7);
  s.x87.control &= 0x1f7f;
  s.mxcsr &= 0xffff;
  // What the control registers can hold together, SDM Vol. 3A 2.5 and 4.1.1; everything else is masked by its users.
  archive.require(!(s.cr0 & kCr0Pg) || (s.cr0 & kCr0Pe), "CR0.PG without CR0.PE");
  archive.require(!(s.efer & kEferLma) || ((s.efer & kEferLme) && (s.cr0 & kCr0Pg) && (s.cr4 & kCr4Pae)), "EFER.LMA");
  if (archive.failed()) {
    // The caller puts back what was there; until then the state only has to be harmless.
    s.cpl &= 3;
    s.paging.a20_mask = ~u64{0};
    s.efer &= ~kEferLma;
    s.cr0 &= ~kCr0Pg;
  }
  s.insn = nullptr;
  s.budget = s.budget_aside = m_budget_given = 0;
  m_retired_before = retired_count;
  m_delivering = -1;
  u32 attention = s.attention & kAttentionExit;
  if (s.interrupt_request) attention |= kAttentionInterrupt;
  if (s.nmi_pending) attention |= kAttentionNmi;
  if (s.smi_pending) attention |= kAttentionSmi;
  if (s.init_pending) attention |= kAttentionInit;
  __atomic_store_n(&s.attention, attention, __ATOMIC_RELAXED);
  blocks.clear();
  update_mode();
  flush_tlb();
  forget_jump_cache();
}

u64 CpuCore::register_hash() const {
  ArchiveHasher hasher;
  u32 flags = read_rflags(s);
  u64 rip = s.rip;
  for (u64 value : s.gpr) hasher.scalar("", &value, sizeof(value));
  hasher.scalar("", &rip, sizeof(rip));
  hasher.scalar("", &flags, sizeof(flags));
  return hasher.hash();
}

// --- Register dump ----------------------------------------------------------------------------------------------------

namespace {

std::string describe_segment(const char* name, const SegmentRegister& segment, bool wide) {
  static constexpr const char* kSystemNames[2][16] = {
      {"Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16", "Reserved",
       "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32"},
      {"<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
       "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64"}};
  std::string line = wide ? fmt::format("{:<3}={:04x} {:016x} {:08x} {:08x}", name, segment.selector, segment.base,
                                        segment.limit, static_cast<u32>(segment.attributes) << 8)
                          : fmt::format("{:<3}={:04x} {:08x} {:08x} {:08x}", name, segment.selector,
                                        static_cast<u32>(segment.base), segment.limit,
                                        static_cast<u32>(segment.attributes) << 8);
  if (segment.present() && segment.usable) {
    line += fmt::format(" DPL={} ", segment.dpl());
    const u8 type = segment.type();
    if (!segment.code_or_data()) {
      line += kSystemNames[wide][type];
    } else if (segment.is_code()) {
      line += fmt::format("CS{} [{}{}{}]", segment.long_mode() ? "64" : segment.big() ? "32" : "16", type & 4 ? 'C' : '-',
                          type & 2 ? 'R' : '-', type & 1 ? 'A' : '-');
    } else {
      line += fmt::format("{} [{}{}{}]", wide || !segment.big() ? "DS  " : "DS  ", type & 4 ? 'E' : '-',
                          type & 2 ? 'W' : '-', type & 1 ? 'A' : '-');
    }
  }
  return line + "\n";
}

}  // namespace

std::string CpuCore::describe_registers() const {
  const bool wide = s.long_mode();
  const u32 flags = read_rflags(s);
  std::string out;
  static constexpr const char* kNames32[] = {"EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP", "ESP"};
  static constexpr const char* kNames64[] = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP"};
  static constexpr u8 kOrder[] = {kRax, kRbx, kRcx, kRdx, kRsi, kRdi, kRbp, kRsp};
  for (unsigned i = 0; i < (wide ? 16u : 8u); ++i) {
    if (!wide) out += fmt::format("{}={:08x}", kNames32[i], static_cast<u32>(s.gpr[kOrder[i]]));
    else if (i < 8) out += fmt::format("{}={:016x}", kNames64[i], s.gpr[kOrder[i]]);
    else out += fmt::format("{:<3}={:016x}", fmt::format("R{}", i), s.gpr[i]);
    out += i % 4 == 3 ? '\n' : ' ';
  }
  const auto letter = [flags](u32 bit, char name) { return flags & bit ? name : '-'; };
  const std::string flag_text = fmt::format("[{}{}{}{}{}{}{}]", letter(kDf, 'D'), letter(kOf, 'O'), letter(kSf, 'S'),
                                            letter(kZf, 'Z'), letter(kAf, 'A'), letter(kPf, 'P'), letter(kCf, 'C'));
  const bool a20 = s.paging.a20_mask == ~u64{0};
  if (wide) out += fmt::format("RIP={:016x} RFL={:08x} ", s.rip, flags);
  else out += fmt::format("EIP={:08x} EFL={:08x} ", static_cast<u32>(s.rip), flags);
  out += fmt::format("{} CPL={} II={} A20={} SMM={} HLT={}\n", flag_text, s.cpl, in_interrupt_shadow() || s.stack_shadow ? 1 : 0,
                     a20 ? 1 : 0, s.in_smm ? 1 : 0, s.halted ? 1 : 0);
  static constexpr const char* kSegmentNames[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"};
  for (unsigned i = 0; i < kSegmentCount; ++i) out += describe_segment(kSegmentNames[i], s.segment[i], wide);
  if (wide) {
    out += fmt::format("GDT=     {:016x} {:08x}\nIDT=     {:016x} {:08x}\n", s.gdtr.base, s.gdtr.limit, s.idtr.base, s.idtr.limit);
    out += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x}\n", static_cast<u32>(s.cr0), s.cr2, s.cr3,
                       static_cast<u32>(s.cr4));
    out += fmt::format("DR0={:016x} DR1={:016x} DR2={:016x} DR3={:016x} \nDR6={:016x} DR7={:016x}\n", s.dr[0], s.dr[1],
                       s.dr[2], s.dr[3], s.dr[6], s.dr[7]);
  } else {
    out += fmt::format("GDT=     {:08x} {:08x}\nIDT=     {:08x} {:08x}\n", static_cast<u32>(s.gdtr.base), s.gdtr.limit,
                       static_cast<u32>(s.idtr.base), s.idtr.limit);
    out += fmt::format("CR0={:08x} CR2={:08x} CR3={:08x} CR4={:08x}\n", static_cast<u32>(s.cr0), static_cast<u32>(s.cr2),
                       static_cast<u32>(s.cr3), static_cast<u32>(s.cr4));
    out += fmt::format("DR0={:08x} DR1={:08x} DR2={:08x} DR3={:08x} \nDR6={:08x} DR7={:08x}\n", static_cast<u32>(s.dr[0]),
                       static_cast<u32>(s.dr[1]), static_cast<u32>(s.dr[2]), static_cast<u32>(s.dr[3]),
                       static_cast<u32>(s.dr[6]), static_cast<u32>(s.dr[7]));
  }
  out += fmt::format("EFER={:016x}\n", s.efer);
  out += fmt::format("FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}\n", s.x87.control, s.x87.status,
                     (s.x87.status >> 11) & 7, s.x87.valid, s.mxcsr);
  for (unsigned i = 0; i < 8; ++i)
    out += fmt::format("FPR{}={:016x} {:04x}{}", i, s.x87.registers[i].significand, s.x87.registers[i].sign_exponent,
                       i % 2 ? '\n' : ' ');
  for (unsigned i = 0; i < (wide ? 16u : 8u); ++i)
    out += fmt::format("XMM{:02}={:016x}{:016x}{}", i, s.vector[i].qword[1], s.vector[i].qword[0], i % 2 ? '\n' : ' ');
  return out;
}

}  // namespace vellum
