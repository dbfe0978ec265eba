// A CPU in 64-bit mode with identity-mapped memory, and regions made from its blocks.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include <sys/mman.h>

#include "cpu/core.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "jit/optimizer/region_compiler.h"
#include "../cpu/x87_fixture.h"

namespace vellum {

// Code memory near the program's text.
class TestCodeMemory final : public CodeMemory {
 public:
  TestCodeMemory() {
    const u64 text = reinterpret_cast<u64>(&interpreter_leave) & ~u64{0xfffff};
    for (u64 distance = 0x4000000; distance < 0x40000000 && !m_next; distance += 0x1000000) {
      void* memory = ::mmap(reinterpret_cast<void*>(text + distance), kSize, PROT_READ | PROT_WRITE | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (memory != MAP_FAILED) m_next = static_cast<u8*>(memory);
    }
    m_end = m_next + kSize;
  }
  Place allocate(usize size, usize alignment) override {
    u8* start = reinterpret_cast<u8*>((reinterpret_cast<u64>(m_next) + alignment - 1) & ~(alignment - 1));
    if (start + size > m_end) return {};
    m_next = start + size;
    return {start, start};
  }
  void publish(const Place&, usize) override {}

 private:
  static constexpr usize kSize = 8 << 20;
  u8* m_next = nullptr;
  u8* m_end = nullptr;
};

struct LongModeGuest {
  static constexpr u64 kRamSize = 16 << 20, kTables = 0x100000, kCodeAt = 0x200000, kDataAt = 0x400000, kStackTop = 0x380000;
  static constexpr u64 kGdtAt = 0x110000, kIdtAt = 0x111000, kHandlersAt = 0x112000;

  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(kRamSize));
  AddressSpace memory{*ram};
  Board board;
  CpuModel model = *parse_cpu_model("max");
  CpuCore cpu{model, memory, board, 0};

  // The first 16 MiB are mapped to themselves in 4 KiB pages; a fault ends in HLT.
  explicit LongModeGuest(std::span<const u8> code) {
    memory.map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
    write(kTables, kTables + 0x1003);
    write(kTables + 0x1000, kTables + 0x2003);
    for (u64 i = 0; i < 8; ++i) {
      write(kTables + 0x2000 + 8 * i, (kTables + 0x3000 + 0x1000 * i) | 3);
      for (u64 k = 0; k < 512; ++k) write(kTables + 0x3000 + 0x1000 * i + 8 * k, (i << 21) | (k << 12) | 3);
    }
    write(kGdtAt + 8, 0x00af'9b00'0000'ffff);
    write(kGdtAt + 16, 0x00cf'9300'0000'ffff);
    for (u64 vector = 0; vector < 32; ++vector) {
      const u64 handler = kHandlersAt + 16 * vector;
      write(kIdtAt + 16 * vector, (handler & 0xffff) | 8 << 16 | u64{0x8e00} << 32 | (handler >> 16) << 48);
      write(kIdtAt + 16 * vector + 8, 0);
      memory.write_value<u8>(GuestPhysAddr(handler), 0xf4);
    }
    memory.write(GuestPhysAddr(kCodeAt), code);
    cpu.reset();
    CpuState& s = cpu.s;
    s.cr0 = kCr0Pe | kCr0Ne | kCr0Et | kCr0Mp | kCr0Pg | kCr0Wp;
    s.cr4 = kCr4Pae | kCr4Osfxsr | kCr4Osxmmexcpt;
    s.efer = kEferLme | kEferLma | kEferSce;
    s.cr3 = kTables;
    for (unsigned i = kEs; i <= kGs; ++i) {
      s.segment[i] = {};
      s.segment[i].selector = i == kCs ? 8 : 16;
      s.segment[i].attributes = i == kCs ? 0xa09b : 0xc093;
      s.segment[i].limit = 0xffffffff;
      s.segment[i].usable = true;
    }
    s.gdtr = {kGdtAt, 23};
    s.idtr = {kIdtAt, 511};
    s.gpr[kRsp] = kStackTop;
    s.gpr[kRdi] = kDataAt;
    s.rip = kCodeAt;
    cpu.update_mode();
    cpu.flush_tlb();
  }
  void write(u64 address, u64 value) { memory.write_value<u64>(GuestPhysAddr(address), value); }
  bool stopped() const { return cpu.s.halted; }
};

// The variant of a bound instruction, from its handler.
inline u8 variant_of(const BoundInsn& insn) {
  const Handler handler = handler_of(insn);
  if (handler == &interpreter_callout || handler == &interpreter_invalid_opcode || handler == &interpreter_fpu_unavailable) return kNoVariant;
  const RowHandlers& row = interpreter_row(insn.row);
  for (unsigned i = 0; i < 96; ++i)
    if (row.variant[i] == handler) return static_cast<u8>(i);
  return kNoVariant;
}

// Regions entered through the first instruction's handler.
class InstalledRegions {
 public:
  struct Installed {
    Handler entry, first;
  };
  static std::map<const Block*, Installed>& all() {
    static std::map<const Block*, Installed> regions;
    return regions;
  }
  VELLUM_HANDLER_ABI static void enter(CpuState* s, const BoundInsn* insn) {
    const Block* block = Block::of(insn);
    s->budget += block->count;
    [[clang::musttail]] return all().at(block).entry(s, insn);
  }
  VELLUM_HANDLER_ABI static void fall_back(CpuState* s, const BoundInsn* insn) {
    const Block* block = Block::of(insn);
    const i64 left = s->budget - block->count;
    if (left < 0) [[clang::musttail]] return interpreter_leave(s, insn);
    s->budget = left;
    [[clang::musttail]] return all().at(block).first(s, insn);
  }
};

// Every block on the page that control may reach from `rip` by direct transfers, calls followed and returned from.
inline Region make_region(CpuCore& cpu, u64 rip, usize limit = 24) {
  Region region;
  region.fallback = &InstalledRegions::fall_back;
  std::map<u64, int> index;
  std::vector<u64> rips, returns;
  const auto add = [&](u64 to) -> int {
    if (const auto found = index.find(to); found != index.end()) return found->second;
    if (((to ^ rip) & ~kPageMask) || rips.size() >= limit) return -1;
    index[to] = static_cast<int>(rips.size());
    rips.push_back(to);
    return index[to];
  };
  add(rip);
  for (usize i = 0; i < rips.size(); ++i) {
    const u64 at = rips[i];
    const Block* block = cpu.lookup(at);
    RegionBlock made;
    made.original = block;
    made.delta = static_cast<i64>(at - rip);
    made.count = static_cast<u32>(block->count);
    for (u32 k = 0; k <= made.count; ++k) {
      made.insns.push_back(block->insns[k]);
      made.variants.push_back(k < made.count ? variant_of(block->insns[k]) : kNoVariant);
    }
    const BoundInsn& last = made.insns[made.count - 1];
    const u64 next = at - block->page_offset() + last.offset + last.length, taken = next + static_cast<u64>(last.immediate());
    const bool special = made.variants[made.count - 1] == kNoVariant;
    const Flow flow = special ? Flow::Callout : interpreter_row(last.row).flow;
    if (flow == Flow::Conditional || flow == Flow::Direct) made.taken = add(taken);
    if (flow == Flow::Conditional || flow == Flow::Next || flow == Flow::String) made.next = add(next);
    if (flow == Flow::Direct && std::string_view(opcode_rows()[last.row].mnemonic) == "call") {
      returns.push_back(next);
      add(next);
    }
    region.blocks.push_back(made);
  }
  std::vector<int> sites;
  for (const u64 site : returns)
    if (index.contains(site)) sites.push_back(index[site]);
  for (RegionBlock& block : region.blocks) {
    const BoundInsn& last = block.insns[block.count - 1];
    if (block.variants[block.count - 1] != kNoVariant && interpreter_row(last.row).flow == Flow::Indirect) block.indirect = sites;
  }
  return region;
}

inline void install(Block* block, Handler entry) {
  InstalledRegions::all()[block] = {entry, handler_of(block->insns[0])};
  set_handler(block->insns[0], &InstalledRegions::enter);
}

}  // namespace vellum
