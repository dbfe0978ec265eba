// The run loop, faults, and decoding into blocks.
#include "cpu/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

#include "cpu/floating_environment.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/jump_cache.h"
#include "cpu/opcodes.h"
#include "state/assert.h"
#include "state/log.h"

namespace vellum {

std::unique_ptr<Cpu> Cpu::create(const CpuModel& model, AddressSpace& memory, CpuEnvironment& environment,
                                 unsigned index) {
  return std::make_unique<CpuCore>(model, memory, environment, index);
}

CpuCore::CpuCore(const CpuModel& cpu_model, AddressSpace& address_space, CpuEnvironment& env, unsigned cpu_index)
    : model(cpu_model),
      memory(address_space),
      environment(env),
      decoder(cpu_model),
      blocks(address_space.ram()),
      index(cpu_index),
      m_jump_cache(kJumpCacheSize),
      m_code_places(address_space.ram().size() / kPageSize),
      m_once(new u8[Block::memory_size(kMaxBlockInsns, kMaxBlockInsns * kMaxInsnLength)]) {
  s.core = this;
  s.jump_cache = m_jump_cache.data();
  s.code_places = m_code_places.data();
  s.paging.physical_address_bits = model.physical_address_bits;
  counters.callouts.resize(opcode_rows().size());
  s.paging.gigabyte_pages = model.has(Feature::Pdpe1gb);
  s.paging.pse36 = model.has(Feature::Pse36);
  clear_jump_cache();
  memory.add_listener(*this);
  reset();
}

// --- Inputs -----------------------------------------------------------------------------------------------------------

namespace {

void set_attention(CpuState& s, u32 bits) { s.ask_for_attention(bits); }
void clear_attention(CpuState& s, u32 bits) { __atomic_fetch_and(&s.attention, ~bits, __ATOMIC_RELAXED); }

}  // namespace

void CpuCore::set_interrupt_request(bool level) {
  s.interrupt_request = level;
  if (level && (s.rflags & kIf)) set_attention(s, kAttentionInterrupt);  // with IF clear, the callout that sets it looks
}

void CpuCore::raise_nmi() {
  s.nmi_pending = true;
  set_attention(s, kAttentionNmi);
}

void CpuCore::raise_smi() {
  s.smi_pending = true;
  set_attention(s, kAttentionSmi);
}

void CpuCore::request_exit() { set_attention(s, kAttentionExit); }

void CpuCore::set_a20(bool enabled) {
  s.paging.a20_mask = enabled ? ~u64{0} : ~(u64{1} << 20);
  flush_tlb();
}

bool CpuCore::has_work() const {
  if (!s.halted) return true;
  return (s.interrupt_request && (s.rflags & kIf)) || (s.nmi_pending && !s.nmi_blocked) || (s.smi_pending && !s.in_smm) ||
         s.init_pending;
}

void CpuCore::set_translator(std::unique_ptr<Translator> translator) {
  blocks.clear();
  forget_jump_cache();
  m_translator = std::move(translator);
  blocks.set_translator(m_translator.get());
}

// --- Counting ---------------------------------------------------------------------------------------------------------

u64 CpuCore::retired() const {
  i64 unspent = s.budget + s.budget_aside;
  if (const BoundInsn* insn = s.insn) unspent += Block::of(insn)->real_count - insn->position - 1;
  return m_retired_before + static_cast<u64>(m_budget_given - unspent);
}

// --- Faults -----------------------------------------------------------------------------------------------------------

void CpuCore::raise(Vector vector, u32 error_code) {
  m_fault = {vector, error_code, s.cr2};
  std::longjmp(m_recovery, kRecoverFault);
}

void CpuCore::raise_page_fault(u64 linear, u32 error_code) {
  log(LogItem::Mmu, "page fault at {:#x}, error code {:#x}, rip {:#x}", linear, error_code, s.rip);
  m_fault = {Vector::PageFault, error_code, linear};
  std::longjmp(m_recovery, kRecoverFault);
}

void CpuCore::leave_insn() {
  if (const BoundInsn* insn = s.insn) {
    s.rip = s.code_base + insn->offset;
    s.budget += Block::of(insn)->real_count - insn->position;
    if (is_once(Block::of(insn))) --counters.single_insns;
    s.insn = nullptr;
  }
}

namespace {

// SDM Vol. 3A table 6-5.
enum class FaultClass { Benign, Contributory, PageFault };
FaultClass fault_class(int vector) {
  switch (vector) {
    case 0: case 10: case 11: case 12: case 13: return FaultClass::Contributory;
    case 14: return FaultClass::PageFault;
    default: return FaultClass::Benign;
  }
}

// A handler whose first instruction faults, and the like: no instruction retires, so no budget would ever end the run.
constexpr u64 kDeliveriesUntilStuck = 1000;

}  // namespace

void CpuCore::count_delivery() {
  const u64 now = retired();
  m_deliveries = now == m_retired_at_delivery ? m_deliveries + 1 : 0;
  m_retired_at_delivery = now;
}

// Delivers m_fault. A fault during the delivery comes back here through the recovery point, SDM Vol. 3A table 6-5.
void CpuCore::deliver_fault() {
  ++counters.exceptions;
  count_delivery();
  const FaultClass second = fault_class(static_cast<int>(m_fault.vector));
  if (m_delivering >= 0) {
    const FaultClass first = fault_class(m_delivering);
    if (m_delivering == static_cast<int>(Vector::DoubleFault)) {
      log(LogItem::Interrupts, "triple fault at rip {:#x}", s.rip);
      observe(kEventTripleFault, [](CpuObserver& observer) { observer.triple_fault(); });
      m_delivering = -1;
      m_exit = Exit::Shutdown;
      return;
    }
    const bool doubled = (first == FaultClass::Contributory && second == FaultClass::Contributory) ||
                         (first == FaultClass::PageFault && second != FaultClass::Benign);
    if (doubled) {
      m_fault.vector = Vector::DoubleFault;
      m_fault.error_code = 0;
    }
  }
  if (m_fault.vector == Vector::PageFault) s.cr2 = m_fault.cr2;
  m_delivering = static_cast<int>(m_fault.vector);
  log(LogItem::Interrupts, "exception {} error code {:#x} at {:#x}:{:#x}, cr2 {:#x}", m_delivering, m_fault.error_code,
      s.segment[kCs].selector, s.rip, s.cr2);
  // Faults push RF set, so that the instruction does not hit its code breakpoint again, SDM Vol. 3B 18.3.1.1.
  s.rflags |= m_fault.vector == Vector::Debug ? 0 : kRf;
  s.interrupt_shadow = s.stack_shadow = false;
  m_shadow_retired = kNoShadow;
  deliver_event(static_cast<u8>(m_fault.vector), EventKind::Exception,
                has_error_code(m_fault.vector) && s.protected_mode(), m_fault.error_code);
  m_delivering = -1;
}

// --- Run loop ---------------------------------------------------------------------------------------------------------

Exit CpuCore::run(u64 budget) {
  enter_guest_fp(s);
  Exit exit = Exit::BudgetSpent;
  for (; budget > kLargestBudget && exit == Exit::BudgetSpent; budget -= kLargestBudget) exit = run_loop(kLargestBudget);
  if (exit == Exit::BudgetSpent) exit = run_loop(budget);
  leave_guest_fp(s);
  return exit;
}

// An instruction can be followed by as many interrupts as there are vectors, each of which allows the next.
void CpuCore::settle() {
  constexpr unsigned kMost = 256;
  for (unsigned i = 0; i < kMost; ++i) {
    const u64 rip = s.rip, deliveries = counters.interrupts + counters.exceptions;
    const Exit exit = run(0);
    if (exit != Exit::Requested && s.rip == rip && counters.interrupts + counters.exceptions == deliveries) return;
  }
}

Exit CpuCore::run_loop(u64 budget) {
  VELLUM_ASSERT(budget <= kLargestBudget);
  m_retired_before = retired();
  m_budget_given = static_cast<i64>(budget);
  s.budget = m_budget_given;
  s.budget_aside = 0;
  m_exit = Exit::BudgetSpent;
  apply_debug_changes();

  // A fault anywhere below lands here with the state complete, but for the instruction's address and the budget.
  switch (setjmp(m_recovery)) {
    case kRecoverFault:
      leave_insn();
      m_debug.forget_access();  // the instruction that made it is not done
      deliver_fault();
      if (m_exit == Exit::Shutdown) return m_exit;
      break;
    case kRecoverSplit:
      leave_insn();
      observe(kEventMemory, [](CpuObserver& observer) { observer.accesses_undone(); });
      execute(lookup_once(s.rip), s.rip);
      break;
    default:
      break;
  }

  while (true) {
    if (m_layout_changed) {
      m_layout_changed = false;
      clear_jump_cache();
    }
    if (m_code_flush) {
      m_code_flush = false;
      blocks.clear();
      forget_jump_cache();
    }
    if (m_eviction) evict_blocks();
    bool single_step = false;
    if (__atomic_load_n(&s.attention, __ATOMIC_RELAXED) || s.event_pending()) {
      if (handle_attention()) return m_exit;
      single_step = s.attention & kAttentionStep;
    }
    if (m_debug.stop_pending()) return Exit::Debug;
    if (s.halted) return Exit::Halted;
    s.budget += std::exchange(s.budget_aside, 0);
    if (s.budget <= 0) return Exit::BudgetSpent;
    if (m_debug.has_breakpoints() && stops_at_breakpoint()) return Exit::Debug;
    if (m_deliveries >= kDeliveriesUntilStuck) {
      m_deliveries = 0;
      return Exit::Stuck;
    }
    if (single_step) {
      step();
      continue;
    }
    const u64 known_blocks = counters.blocks_decoded;
    Block* block = lookup(s.rip);
    if (m_way_out.insn) link_way_out(*block, counters.blocks_decoded != known_blocks);
    if (block->count > s.budget) block = lookup_once(s.rip);  // the last few of the budget go one by one
    if ((__atomic_load_n(&s.attention, __ATOMIC_RELAXED) & kAttentionTrace) && m_translator && !is_once(block))
      m_translator->block_entered(*block, s.rip);
    execute(block, s.rip);
  }
}

// A process that finds the code of others at addresses of its own finds it here once; from then on the ways lead there by themselves.
void CpuCore::link_way_out(Block& to, bool is_new) {
  const WayOut out = std::exchange(m_way_out, {});
  if (is_new || out.target != s.rip) return;  // most code runs once
  const JumpCacheEntry* const cached = find_jump(&s, s.rip);
  Block& from = *Block::of(out.insn);
  if (!cached || cached->block != &to || is_once(&from) || from.count == kStaleCount) return;
  if (!is_far(out.way)) link_near(from, out.way, out.target, to);
  else if (m_translator) m_translator->site_found(out.insn, out.way, out.target, to);
}

void CpuCore::link_near(Block& from, Way way, u64 target, Block& to) {
  const u64 place = target - s.code_base;
  const bool same_page = place < kPageSize;
  const bool fit = from.chainable && to.chainable && to.ram_offset == (from.ram_offset & ~kPageMask) + place;
  if (same_page && fit && to.count != kStaleCount) {
    if (!to.crosses_page) blocks.link(from, way, to);
    else if (Translator* translator = blocks.translator()) translator->way_refused(from, way);  // where its second page is mapped must be looked up each time
  }
  if (!same_page && way == Way::Taken) from.taken_leaves_page = true;
}

void CpuCore::execute(Block* block, u64 rip) {
  if (log_enabled(LogItem::Exec)) [[unlikely]] log_entry(*block, rip);
  if (is_once(block)) ++counters.single_insns;
  m_way_out = {};  // whoever steps had not looked for a block
  s.code_base = rip - block->page_offset();
  // Attention that is left over here wants to see every block.
  s.begin_slice(__atomic_load_n(&s.attention, __ATOMIC_RELAXED) ? block->count : kSliceInsns);
  // As if from another block, so that whoever counts entries sees this one, too, and what has taken the block's place runs.
  if (!is_once(block)) return block->entry(&s, block->insns);
  s.budget -= block->count;
  handler_of(block->insns[0])(&s, block->insns);
}

void CpuCore::log_entry(const Block& block, u64 rip) const {
  log(LogItem::Exec, "{:04x}:{:#x}, {} instruction{}{}", s.segment[kCs].selector, rip, block.real_count, block.real_count == 1 ? "" : "s",
      block.code_size ? ", translated" : "");
}

namespace {
constexpr u64 kDr6Fixed = 0xffff0ff0, kDr6SingleStep = u64{1} << 14;
}

// Takes what asked for attention, in the order of SDM Vol. 3A table 6-2.
bool CpuCore::handle_attention() {
  if (m_shadow_retired == retired()) {  // something happens right behind STI: from now on the shadow is real
    m_shadow_retired = kNoShadow;
    s.interrupt_shadow = true;
    set_attention(s, kAttentionStep);
  }
  // These are doorbells: what they announce stays in the state until it can be taken. One that rings between two accesses, one to
  // read and one to clear, would be lost.
  constexpr u32 kDoorbells = kAttentionExit | kAttentionInterrupt | kAttentionNmi | kAttentionSmi | kAttentionInit | kAttentionTranslator;
  const u32 attention = __atomic_fetch_and(&s.attention, ~kDoorbells, __ATOMIC_RELAXED);
  if ((attention & kAttentionTranslator) && m_translator) m_translator->attend();
  if (attention & kAttentionExit) {
    m_exit = m_debug.stop_pending() ? Exit::Debug : Exit::Requested;
    return true;
  }
  if (s.init_pending) {
    s.init_pending = false;
    init();
  }
  const bool held = m_debug.holds_interrupts();
  if (s.smi_pending && !s.in_smm && !held) {
    s.smi_pending = false;
    enter_smm();  // wakes from HLT, and remembers it for RSM
  }
  if (s.pending_debug && !s.stack_shadow) {
    s.dr[6] = (s.dr[6] & ~u64{15}) | kDr6Fixed | s.pending_debug;
    s.pending_debug = 0;
    s.halted = false;
    update_step_attention();
    raise(Vector::Debug);
  }
  if (s.nmi_pending && !s.nmi_blocked && !s.stack_shadow && !s.interrupt_shadow && !held) {
    s.nmi_pending = false;
    s.halted = false;
    count_delivery();
    m_delivering = static_cast<int>(Vector::Nmi);
    ++counters.interrupts;
    log(LogItem::Interrupts, "NMI at {:#x}", s.rip);
    deliver_event(static_cast<u8>(Vector::Nmi), EventKind::Nmi, false, 0);
    s.nmi_blocked = true;
    m_delivering = -1;
  }
  if (s.interrupt_request && (s.rflags & kIf) && !s.interrupt_shadow && !s.stack_shadow && !held) {
    if (const auto vector = environment.acknowledge_interrupt()) {
      s.halted = false;
      count_delivery();
      ++counters.interrupts;
      m_delivering = *vector >= 32 ? 32 : 1;  // an external interrupt is benign whatever its vector, table 6-5
      log(LogItem::Interrupts, "interrupt {:#x} at {:#x}:{:#x}", *vector, s.segment[kCs].selector, s.rip);
      deliver_event(*vector, EventKind::External, false, 0);
      m_delivering = -1;
    }
  }
  return false;
}

void CpuCore::update_step_attention() {
  const bool breakpoints = (s.dr[7] & 0xff) != 0;
  const bool step = s.interrupt_shadow || s.stack_shadow || (s.rflags & kTf) || s.pending_debug || breakpoints;
  if (step != ((__atomic_load_n(&s.attention, __ATOMIC_RELAXED) & kAttentionStep) != 0)) {
    if (step) set_attention(s, kAttentionStep);
    else clear_attention(s, kAttentionStep);
  }
  // Events that waited until the state lets them in ring again.
  if (s.interrupt_request && (s.rflags & kIf)) set_attention(s, kAttentionInterrupt);
  if (s.nmi_pending && !s.nmi_blocked) set_attention(s, kAttentionNmi);
  if (s.smi_pending && !s.in_smm) set_attention(s, kAttentionSmi);
}

// Most often nothing is waiting, and the shadow ends unseen: then only its place is noted, which costs no single step.
void CpuCore::begin_interrupt_shadow() {
  if (__atomic_load_n(&s.attention, __ATOMIC_RELAXED) == 0 && !s.interrupt_request) {
    m_shadow_retired = retired();
    return;
  }
  s.interrupt_shadow = true;
  update_step_attention();
}

// DR7's enabled instruction breakpoints, SDM Vol. 3B 18.2.4; sets DR6 when one matches.
bool CpuCore::code_breakpoint_hit() {
  u64 hits = 0;
  const u64 linear = code_address(s.rip);
  for (unsigned i = 0; i < 4; ++i) {
    const bool enabled = (s.dr[7] >> (2 * i)) & 3;
    const bool execute_kind = ((s.dr[7] >> (16 + 4 * i)) & 15) == 0;
    if (enabled && execute_kind && s.dr[i] == linear) hits |= u64{1} << i;
  }
  if (hits) s.dr[6] = (s.dr[6] & ~u64{15}) | kDr6Fixed | hits;
  return hits != 0;
}

// Data breakpoints are traps: the hit is remembered, and delivered behind the instruction.
void CpuCore::check_watchpoints(u64 linear, unsigned size, bool write) {
  for (unsigned i = 0; i < 4; ++i) {
    if (!((s.dr[7] >> (2 * i)) & 3)) continue;
    const unsigned kind = (s.dr[7] >> (16 + 4 * i)) & 3;
    if (kind == 0 || kind == 2 || (kind == 1 && !write)) continue;
    constexpr u64 kLengths[] = {1, 2, 8, 4};
    const u64 length = kLengths[(s.dr[7] >> (18 + 4 * i)) & 3];
    const u64 start = s.dr[i] & ~(length - 1);
    if (linear < start + length && start < linear + size) s.pending_debug |= u64{1} << i;
  }
  if (s.pending_debug) set_attention(s, kAttentionStep);
}

// One instruction with everything that may stand around it: shadows, TF, breakpoints.
void CpuCore::step() {
  const bool shadow = s.interrupt_shadow, stack_shadow = s.stack_shadow;
  const bool resume = s.rflags & kRf, trap = s.rflags & kTf;
  if (!resume && !stack_shadow && (s.dr[7] & 0xff) && code_breakpoint_hit()) raise(Vector::Debug);
  m_trap_suppressed = false;
  execute(lookup_once(s.rip), s.rip);
  if (resume) s.rflags &= ~u32{kRf};
  if (shadow) s.interrupt_shadow = false;
  if (stack_shadow) s.stack_shadow = false;
  // MOV SS is no place for a single-step trap; the instruction behind it has its own, SDM Vol. 3A 6.8.3.
  if (trap && !m_trap_suppressed && !s.stack_shadow) s.pending_debug |= kDr6SingleStep;
  update_step_attention();
}

}  // namespace vellum
