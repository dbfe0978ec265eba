// System-management mode: entry with the 64-bit state save map, and RSM. AMD64 Architecture Programmer's Manual Vol. 2
// chapter 10, whose map (revision 64h) firmware expects of this machine; SDM Vol. 3C chapter 31.
#include "cpu/callouts/descriptors.h"
#include "state/log.h"

namespace vellum {

using namespace callouts;

namespace {

// Offsets from SMBASE, APM Vol. 2 table 10-1. What that table leaves reserved holds state of ours.
namespace spec {
constexpr u64 kSegments = 0xfe00;  // ES CS SS DS FS GS: selector, attributes, limit, base in 16 bytes each
constexpr u64 kGdtr = 0xfe60, kLdtr = 0xfe70, kIdtr = 0xfe80, kTr = 0xfe90;
constexpr u64 kAutoHaltRestart = 0xfec9, kNmiMask = 0xfeca, kCpl = 0xfecb, kShadows = 0xfecc, kPendingDebug = 0xfece;
constexpr u64 kEfer = 0xfed0, kRevision = 0xfefc, kSmbase = 0xff00;
constexpr u64 kCr4 = 0xff48, kCr3 = 0xff50, kCr0 = 0xff58, kDr7 = 0xff60, kDr6 = 0xff68, kRflags = 0xff70, kRip = 0xff78;
constexpr u64 kGprs = 0xff80;      // R15 down to R8, then:
constexpr u8 kGprOrder[16] = {15, 14, 13, 12, 11, 10, 9, 8, kRdi, kRsi, kRbp, kRsp, kRbx, kRdx, kRcx, kRax};
constexpr u32 kRevisionValue = 0x00020064;  // SMBASE can be relocated; the 64-bit map
}  // namespace spec

struct SaveArea {
  AddressSpace& memory;
  u64 base;
  u64 a20_mask;

  GuestPhysAddr at(u64 offset) const { return GuestPhysAddr(((base + offset) & 0xffffffff) & a20_mask); }
  template <class T>
  T get(u64 offset) const { return memory.read_value<T>(at(offset)); }
  template <class T>
  void put(u64 offset, T value) const { memory.write_value<T>(at(offset), value); }

  void put_segment(u64 offset, const SegmentRegister& segment) const {
    put<u16>(offset, segment.selector);
    put<u16>(offset + 2, segment.usable ? segment.attributes : static_cast<u16>(segment.attributes & ~0x80));
    put<u32>(offset + 4, segment.limit);
    put<u64>(offset + 8, segment.base);
  }
  SegmentRegister get_segment(u64 offset) const {
    SegmentRegister segment;
    segment.selector = get<u16>(offset);
    segment.attributes = get<u16>(offset + 2) & 0xf0ff;
    segment.limit = get<u32>(offset + 4);
    segment.base = get<u64>(offset + 8);
    segment.usable = segment.present();
    return segment;
  }
};

}  // namespace

void CpuCore::enter_smm() {
  log(LogItem::Interrupts, "SMI at {:#x}:{:#x}, SMBASE {:#x}", s.segment[kCs].selector, s.rip, s.smbase);
  environment.set_smm(true);
  const SaveArea area{memory, s.smbase, s.paging.a20_mask};
  for (unsigned i = 0; i < 6; ++i) area.put_segment(spec::kSegments + 16 * i, s.segment[i]);
  area.put_segment(spec::kGdtr, {.limit = s.gdtr.limit, .base = s.gdtr.base});
  area.put_segment(spec::kLdtr, s.segment[vellum::kLdtr]);
  area.put_segment(spec::kIdtr, {.limit = s.idtr.limit, .base = s.idtr.base});
  area.put_segment(spec::kTr, s.segment[vellum::kTr]);
  area.put<u8>(spec::kAutoHaltRestart, s.halted);
  area.put<u8>(spec::kNmiMask, s.nmi_blocked);
  area.put<u8>(spec::kCpl, s.cpl);
  area.put<u8>(spec::kShadows, static_cast<u8>((s.interrupt_shadow ? 1 : 0) | (s.stack_shadow ? 2 : 0)));
  area.put<u16>(spec::kPendingDebug, static_cast<u16>(s.pending_debug));
  area.put<u64>(spec::kEfer, s.efer);
  area.put<u32>(spec::kRevision, spec::kRevisionValue);
  area.put<u32>(spec::kSmbase, static_cast<u32>(s.smbase));
  area.put<u64>(spec::kCr4, s.cr4);
  area.put<u64>(spec::kCr3, s.cr3);
  area.put<u64>(spec::kCr0, s.cr0);
  area.put<u64>(spec::kDr7, s.dr[7]);
  area.put<u64>(spec::kDr6, s.dr[6]);
  area.put<u64>(spec::kRflags, read_rflags(s));
  area.put<u64>(spec::kRip, s.rip);
  for (unsigned i = 0; i < 16; ++i) area.put<u64>(spec::kGprs + 8 * i, s.gpr[spec::kGprOrder[i]]);

  // SDM Vol. 3C table 31-3.
  s.in_smm = true;
  s.nmi_blocked = true;
  s.halted = s.interrupt_shadow = s.stack_shadow = false;
  s.pending_debug = 0;
  write_rflags(s, 2);
  s.rip = 0x8000;
  s.cr0 &= ~(kCr0Pe | kCr0Em | kCr0Ts | kCr0Pg);
  s.cr4 = 0;
  s.efer = 0;
  s.dr[7] = 0x400;
  s.cpl = 0;
  for (const unsigned index : {kEs, kSs, kDs, kFs, kGs})
    s.segment[index] = {.selector = 0, .attributes = 0x8093, .limit = 0xffffffff, .base = 0, .usable = true};
  s.segment[kCs] = {.selector = static_cast<u16>(s.smbase >> 4), .attributes = 0x8093, .limit = 0xffffffff,
                    .base = s.smbase, .usable = true};
  update_mode();
  flush_tlb();
}

namespace callouts {

namespace {

// What RSM would put the CPU into a shutdown for, SDM Vol. 3C 31.3.2.
bool restorable(u64 cr0, u64 cr4, u64 efer) {
  if ((cr0 & kCr0Pg) && !(cr0 & kCr0Pe)) return false;
  if ((cr0 & kCr0Nw) && !(cr0 & kCr0Cd)) return false;
  if (efer & kEferLma) return (efer & kEferLme) && (cr0 & kCr0Pg) && (cr4 & kCr4Pae);
  return !((efer & kEferLme) && (cr0 & kCr0Pg));
}

}  // namespace

VELLUM_CALLOUT(resume_from_smm) {
  (void)insn;
  CpuState& s = cpu.s;
  if (!s.in_smm) cpu.raise(Vector::InvalidOpcode);
  const SaveArea area{cpu.memory, s.smbase, s.paging.a20_mask};
  const u64 cr0 = static_cast<u32>(area.get<u64>(spec::kCr0));
  const u64 cr4 = area.get<u64>(spec::kCr4) & 0x77ffff;
  const u64 efer = area.get<u64>(spec::kEfer) & (kEferSce | kEferLme | kEferLma | kEferNxe);
  if (!restorable(cr0, cr4, efer)) {
    // Shutdown: with an empty IDT the fault raised here becomes a triple fault.
    log(LogItem::GuestErrors, "RSM with CR0 {:#x}, CR4 {:#x}, EFER {:#x}: shutdown", cr0, cr4, efer);
    s.idtr.limit = 0;
    cpu.raise_general_protection();
  }
  for (unsigned i = 0; i < 6; ++i) s.segment[i] = area.get_segment(spec::kSegments + 16 * i);
  const SegmentRegister gdt = area.get_segment(spec::kGdtr), idt = area.get_segment(spec::kIdtr);
  s.gdtr = {.base = gdt.base, .limit = static_cast<u16>(gdt.limit)};
  s.idtr = {.base = idt.base, .limit = static_cast<u16>(idt.limit)};
  s.segment[kLdtr] = area.get_segment(spec::kLdtr);
  s.segment[kTr] = area.get_segment(spec::kTr);
  s.cr0 = cr0 | kCr0Et;
  s.cr4 = cr4;
  s.cr3 = area.get<u64>(spec::kCr3) & ((u64{1} << cpu.model.physical_address_bits) - 1);
  s.efer = efer;
  s.dr[6] = (area.get<u64>(spec::kDr6) & 0xe00f) | 0xffff0ff0;
  s.dr[7] = (area.get<u64>(spec::kDr7) & 0xffff23ff) | 0x400;
  write_rflags(s, static_cast<u32>(area.get<u64>(spec::kRflags)) & 0x3f7fd7);
  s.rip = area.get<u64>(spec::kRip);
  for (unsigned i = 0; i < 16; ++i) s.gpr[spec::kGprOrder[i]] = area.get<u64>(spec::kGprs + 8 * i);
  s.cpl = area.get<u8>(spec::kCpl) & 3;
  if (!s.protected_mode()) s.cpl = 0;
  s.nmi_blocked = area.get<u8>(spec::kNmiMask) & 1;
  const u8 shadows = area.get<u8>(spec::kShadows);
  s.interrupt_shadow = shadows & 1;
  s.stack_shadow = shadows & 2;
  s.pending_debug = area.get<u16>(spec::kPendingDebug) & 0xe00f;
  const bool halted = area.get<u8>(spec::kAutoHaltRestart) & 1;
  s.smbase = area.get<u32>(spec::kSmbase);
  if (!s.code64()) s.rip = static_cast<u32>(s.rip);

  s.in_smm = false;
  cpu.environment.set_smm(false);
  cpu.suppress_trap();
  cpu.update_mode();
  if (s.paging.mode == PagingMode::Pae) read_pdptes(cpu, s.cr3, s.paging.pdpte);
  cpu.flush_tlb();
  if (halted) {
    s.halted = true;
    s.ask_for_attention(kAttentionStep);
  }
}

}  // namespace callouts

}  // namespace vellum
