// The CPU behind Cpu: state, memory access with faults, event delivery, the run loop. Callouts work on this.
#pragma once

#include <array>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "cpu/block_cache.h"
#include "cpu/counters.h"
#include "cpu/cpu.h"
#include "cpu/decoder.h"
#include "cpu/exceptions.h"
#include "cpu/flags.h"
#include "cpu/state.h"
#include "cpu/translator.h"

namespace vellum {

// Whose rights a VMM access to guest memory uses.
enum class Rights : u8 {
  Current,     // those of CPL and EFLAGS.AC: ordinary operands
  Supervisor,  // implicit supervisor accesses: descriptor tables, TSS, inner stacks (SDM Vol. 3A 4.6.1)
};

// How an event came about; decides return address, error code and privilege checks. SDM Vol. 3A 6.3, 6.4.
enum class EventKind : u8 {
  Exception,
  External,            // INTR
  Nmi,
  SoftwareInterrupt,   // INT n, and INT3, INTO as traps
  PrivilegedSoftware,  // ICEBP (INT1): no DPL check
};

class CpuCore final : public Cpu, public MemoryListener {
 public:
  CpuCore(const CpuModel& model, AddressSpace& memory, CpuEnvironment& environment, unsigned index);

  // Cpu.
  void reset() override;
  void init() override;
  Exit run(u64 budget) override;
  u64 retired() const override;
  void set_interrupt_request(bool level) override;
  void raise_nmi() override;
  void raise_smi() override;
  void set_a20(bool enabled) override;
  bool has_work() const override;
  void settle() override;
  u64 register_hash() const override;
  void request_exit() override;
  CpuState& state() override { return s; }
  std::string describe_registers() const override;
  void add_observer(CpuObserver& observer, u32 events) override;
  void remove_observer(CpuObserver& observer) override;
  void visit(Archive& archive) override;

  // MemoryListener.
  void code_written(u64 ram_offset, u64 size) override { blocks.written(ram_offset, size); }
  void layout_changed() override { m_layout_changed = true; flush_tlb(); }
  void writes_watched(u64 ram_offset, u64 size) override { tlb.protect_host_pages(memory.ram().host(ram_offset), size); }

  // Faults. None of these returns: the instruction (or event delivery) in progress has not changed the state yet, and
  // the run loop delivers the exception at its address.
  [[noreturn]] void raise(Vector vector, u32 error_code = 0);
  [[noreturn]] void raise_page_fault(u64 linear, u32 error_code);
  [[noreturn]] void raise_general_protection(u32 error_code = 0) { raise(Vector::GeneralProtection, error_code); }

  // Data accesses by linear address; sizes 1 to 8 and structs up to 64 bytes, any alignment.
  void read_bytes(u64 linear, void* data, unsigned size, Rights rights = Rights::Current);
  void write_bytes(u64 linear, const void* data, unsigned size, Rights rights = Rights::Current);
  // Faults now if a write of these bytes would fault later (and sets A and D).
  void probe_write(u64 linear, unsigned size, Rights rights = Rights::Current);
  template <class T>
  T read_linear(u64 linear, Rights rights = Rights::Current) {
    T value{};
    read_bytes(linear, &value, sizeof(T), rights);
    return value;
  }
  template <class T>
  void write_linear(u64 linear, T value, Rights rights = Rights::Current) {
    write_bytes(linear, &value, sizeof(T), rights);
  }
  // Adds the segment's base and makes its checks (limit, type, null, canonical form); #SS for SS, else #GP.
  u64 segment_linear(unsigned segment, u64 offset, unsigned size, AccessType access);
  // The memory operand of a bound instruction.
  u64 operand_linear(const BoundInsn& insn, unsigned size, AccessType access);
  u64 operand_offset(const BoundInsn& insn) const;
  // RIP as callouts see it: s.rip holds the next instruction's; this one's is
  u64 insn_rip() const { return s.code_base + s.insn->offset; }

  // After any change of segment registers, CPL, CR0, CR4, EFER, EFLAGS.(VM, AC, TF), DR7: recomputes what is derived
  // (mode key, TLB context, paging controls, single-step need).
  void update_mode();
  // The same after a change of EFLAGS.AC alone below CPL 3.
  void update_tlb_context();
  // After setting a shadow, TF, DR7 or pending_debug: whether the next instruction must run alone. After setting IF or
  // unblocking NMI: asks for the run loop when something was waiting for it.
  void update_step_attention();
  // A software interrupt or a task switch took the place of the single-step trap of the instruction in progress.
  void suppress_trap() { m_trap_suppressed = true; }
  // STI: maskable interrupts wait until the next instruction is done.
  void begin_interrupt_shadow();
  bool in_interrupt_shadow() const { return s.interrupt_shadow || m_shadow_retired == retired(); }
  // Whether the RIP is known to lie in this page of RAM now.
  bool maps_code(u64 rip, u64 ram_page) const;
  void flush_tlb();              // all entries
  void flush_tlb_non_global();   // of all process contexts
  // A new CR3 in 64-bit mode. `keep`: what is known of its process context stays valid, SDM Vol. 3A 4.10.4.1.
  void switch_address_space(u64 cr3, bool keep);
  // All non-global entries of a process context that is not the current one.
  void forget_address_space(u64 pcid);
  void flush_tlb_page(u64 linear);

  // Delivers an event through the IDT (or IVT), SDM Vol. 3A 6.12, 6.14, 20.3 (callouts/interrupts.cc). The state has
  // s.rip at the address to be pushed. Faults are raised before anything of the state has changed.
  void deliver_event(u8 vector, EventKind kind, bool has_error_code, u32 error_code);
  void enter_smm();              // callouts/smm.cc
  CpuidResult cpuid(u32 leaf, u32 subleaf);
  CpuMode cpu_mode() const;
  // Tells those who observe `event`.
  template <class Function>
  void observe(CpuEvents event, Function function) {
    if (!(m_observed & event)) [[likely]] return;
    for (const ObserverEntry& entry : m_observers)
      if (entry.events & event) function(*entry.observer);
  }

  CpuState s;
  CpuModel model;
  AddressSpace& memory;
  CpuEnvironment& environment;
  Tlb tlb;
  Decoder decoder;
  BlockCache blocks;
  unsigned index;
  CpuCounters counters;

  // --- for the engines ---
  // One memory access by an instruction whose fast path missed.
  void load_slow(u64 linear, void* data, unsigned size);
  void store_slow(u64 linear, const void* data, unsigned size);
  // The host address of `size` bytes writable in one RAM page, or nullptr when they cross pages or are not RAM.
  u8* writable_host(u64 linear, unsigned size);
  // The block at RIP under the current mapping; raises the fetch's faults.
  Block* lookup(u64 rip);
  // A block of the one instruction at RIP, for single use.
  Block* lookup_once(u64 rip);
  void clear_jump_cache();
  void forget_jump_cache();  // entries of other generations too, which keep addresses of blocks
  void clear_jump_cache_half(unsigned half);
  // Blocks made so far are forgotten, those to come are the translator's (nullptr: the interpreter runs all).
  void set_translator(std::unique_ptr<Translator> translator);
  // Forgets all blocks before the next is entered through the run loop.
  void request_code_flush() { m_code_flush = true; }
  // Evicts the oldest blocks before the next is entered through the run loop.
  void request_eviction() { m_eviction = true; }
  // Control leaves a block by this way, and goes on at `target` through the run loop, because the jump cache does not know it.
  void leave_by(const BoundInsn* insn, Way way, u64 target) { m_way_out = {insn, way, target}; }
  // Lets a way lead to its successor on the same page from now on, if it may.
  void link_near(Block& from, Way way, u64 target, Block& to);
  // A block that runs now, on the page at CpuState::code_base, has another entry.
  void entry_moved(const Block& block);

 private:
  struct FetchPage {
    const u8* host;   // nullptr: neither RAM nor ROM, and ram_offset is the guest-physical address
    u64 ram_offset;
    bool global;      // its translation outlives a new CR3
  };
  FetchPage fetch_page(u64 linear);
  enum class Decoding : u8 { Cached, Once };
  Block* decode_block(u64 rip, const FetchPage& page, u64 linear, unsigned limit, Decoding decoding);
  void protect_code_page(u64 ram_offset);
  void make_current(Block& block);
  void evict_blocks();
  u64 checked_code_address(u64 rip);
  u64 linear_sum(u64 linear, u64 bytes) const;
  void check_flat_limit(u64 linear, unsigned size, AccessType type, Rights rights);
  void check_alignment(u64 linear, unsigned size, Rights rights);
  struct Pieces;
  Pieces pieces_of(u64 linear, unsigned size, AccessType type, Rights rights);
  void read_slow(u64 linear, void* data, unsigned size, Rights rights);
  void write_slow(u64 linear, const void* data, unsigned size, Rights rights);
  void note_ram_write(u64 ram_offset, unsigned size);
  u8* watched_write(TlbEntry* entries, u64 linear, unsigned size);
  TlbEntry* table_for(Rights rights);
  void bind(const Insn& insn, BoundInsn& bound, u16 offset, unsigned position) const;
  void foresee(u64 rip, u64 ram_offset);
  Translation translate(u64 linear, AccessType type, Rights rights);
  PageTarget target_of(const Translation& translation) const;
  void split_block_for_mmio();
  void look_behind_mmio();
  Exit run_loop(u64 budget);
  void execute(Block* block, u64 rip);
  void link_way_out(Block& to, bool is_new);
  bool is_once(const Block* block) const { return reinterpret_cast<const u8*>(block) == m_once.get(); }
  void log_entry(const Block& block, u64 rip) const;
  bool handle_attention();       // true: run() must return m_exit
  void leave_insn();             // moves s.rip to the instruction that faulted and refunds the budget
  void deliver_fault();
  void count_delivery();
  u64 code_address(u64 rip) const;
  void check_watchpoints(u64 linear, unsigned size, bool write);
  bool code_breakpoint_hit();
  // Debugger (core_debug.cc).
  void apply_debug_changes();
  void cut_blocks(const DebugControl::Cut& cut);
  void cut_page(u64 linear_page, u64 ram_page);
  bool stops_at_breakpoint();
  void check_watched(u64 linear, std::optional<u64> physical, unsigned size, u8 accesses);
  void check_watched(u64 linear, const Pieces& pieces, u8 accesses);
  void observe_mode();
  void step();

  enum Recovery { kRecoverFault = 1, kRecoverSplit = 2 };  // what longjmp() to m_recovery means
  struct PendingFault {
    Vector vector;
    u32 error_code;
    u64 cr2;
  };
  std::jmp_buf m_recovery;
  PendingFault m_fault{};
  int m_delivering = -1;         // vector of the event being delivered, -1: none
  bool m_layout_changed = false, m_code_flush = false, m_eviction = false;
  bool m_upper_half_local = false;  // the jump cache holds a RIP of the upper half whose translation is not global
  bool m_lower_half_global = false; // and one of the lower half whose translation is
  // Process contexts that may come back as they were left, by PCID.
  struct AddressSpaceRecord {
    u64 cr3 = kNoAddressSpace;
    u32 generation = 0;  // of the lower half of the jump cache
  };
  static constexpr u64 kNoAddressSpace = ~u64{0};
  static unsigned address_space_slot(u64 cr3) { return cr3 & (Tlb::kUserTables - 1); }
  std::array<AddressSpaceRecord, Tlb::kUserTables> m_address_spaces{};
  u32 m_newest_generation = 0;
  std::unique_ptr<Translator> m_translator;
  struct ObserverEntry {
    CpuObserver* observer;
    u32 events;
  };
  std::vector<ObserverEntry> m_observers;
  u32 m_observed = 0;            // all of their events
  CpuMode m_observed_mode = CpuMode::Real;
  bool m_trap_suppressed = false;
  u64 m_deliveries = 0;          // events delivered since an instruction last retired
  u64 m_retired_at_delivery = 0;
  Exit m_exit = Exit::BudgetSpent;
  u64 m_retired_before = 0;      // instructions retired before the current budget was handed out
  i64 m_budget_given = 0;
  // How control last came to the run loop, if in search of a block.
  struct WayOut {
    const BoundInsn* insn = nullptr;
    Way way = Way::Next;
    u64 target = 0;
  };
  WayOut m_way_out;
  HostTable<JumpCacheEntry> m_jump_cache;
  HostTable<CodePlace> m_code_places;
  // What linear pages code may have been found on since all of the TLB was flushed, so that invalidating others leaves it
  // alone: bits by a hash of the page, and of large pages by the gigabyte's number.
  static constexpr unsigned kExecutablePageBits = 18;
  std::vector<u64> m_executable_pages = std::vector<u64>((u64{1} << kExecutablePageBits) / 64);
  u64 m_executable_regions = 0;
  static u64 executable_page_bit(u64 linear) { return (linear >> 12) * 0x9e3779b97f4a7c15u >> (64 - kExecutablePageBits); }
  void note_executable(u64 linear, bool large);
  bool may_hold_code(u64 linear) const;
  std::unique_ptr<u8[]> m_once;  // the block of lookup_once()
  // Code segments whose entries the jump cache holds, where RIP is not the linear address; one per hash slot.
  struct CodeSegment {
    u64 base;
    u32 limit;
  };
  static constexpr unsigned kCodeSegments = 256;
  std::array<CodeSegment, kCodeSegments> m_code_segments{};
  unsigned code_segment_slot();
  static constexpr u64 kNoShadow = ~u64{0};
  u64 m_shadow_retired = kNoShadow;  // STI was the instruction that made retired() this
};

// A callout: a function of the VMM that an instruction becomes. s.rip already holds the next instruction's address; a
// callout that transfers control sets it. Faults leave by raise(), which puts the address back.
using Callout = void (*)(CpuCore& cpu, const BoundInsn& insn);

}  // namespace vellum
