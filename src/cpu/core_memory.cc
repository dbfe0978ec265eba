// Guest memory as the CPU sees it: translation into the TLB, slow paths, page crossings, MMIO, writes to code.
#include <algorithm>
#include <span>

#include "cpu/core.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/memory_order.h"
#include "cpu/opcodes.h"
#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

bool canonical(u64 linear, bool five_levels) {
  const unsigned shift = five_levels ? 7 : 16;
  return static_cast<u64>(static_cast<i64>(linear << shift) >> shift) == linear;
}

TlbContext context_for(const CpuState& s, Rights rights) {
  if (rights == Rights::Supervisor) return TlbContext::Supervisor;
  if (s.cpl == 3) return TlbContext::User;
  return (s.cr4 & kCr4Smap) && !(s.rflags & kAc) ? TlbContext::Supervisor : TlbContext::SupervisorAc;
}

}  // namespace

// What one access touches: bytes of one page, or of two.
struct CpuCore::Pieces {
  struct Piece {
    GuestPhysAddr physical;
    PageTarget target;
    unsigned size;
  };
  Piece piece[2];
  unsigned count = 0;

  std::span<const Piece> all() const { return {piece, count}; }
};

void CpuCore::flush_tlb() {
  tlb.flush_all();
  clear_jump_cache();
  std::ranges::fill(m_executable_pages, 0);
  m_executable_regions = 0;
}

void CpuCore::flush_tlb_non_global() {
  tlb.flush_non_global();
  m_address_spaces.fill({});
  clear_jump_cache_half(0);
  if (m_upper_half_local) clear_jump_cache_half(1);
}

// The jump cache's generation stands for what is known of a context's lower half: the translations that it rests on are
// those that a processor would have kept, too. In the upper half all contexts share what is global.
void CpuCore::switch_address_space(u64 cr3, bool keep) {
  m_address_spaces[address_space_slot(s.cr3)] = {s.cr3, s.jump_generation[0]};
  const AddressSpaceRecord& record = m_address_spaces[address_space_slot(cr3)];
  const bool kept = keep && record.cr3 == cr3;
  const u32 generation = record.generation;
  s.cr3 = cr3;
  tlb.switch_user_table(address_space_slot(cr3), kept);
  if (m_upper_half_local) clear_jump_cache_half(1);
  if (kept) {
    s.jump_generation[0] = generation;
    s.update_jump_key();
  } else {
    clear_jump_cache_half(0);
  }
}

void CpuCore::forget_address_space(u64 pcid) {
  AddressSpaceRecord& record = m_address_spaces[address_space_slot(pcid)];
  if ((record.cr3 & 0xfff) == pcid) record = {};
}

void CpuCore::flush_tlb_page(u64 linear) {
  tlb.flush_page(linear);
  if (m_lower_half_global) m_address_spaces.fill({});
  if (!may_hold_code(linear)) return;
  if (s.code64()) clear_jump_cache_half(linear >> 63);
  else clear_jump_cache();  // RIPs of 32 bits are not linear addresses
}

// Every translation through which code is found was entered into the TLB as executable, or walked for code.
void CpuCore::note_executable(u64 linear, bool large) {
  const u64 bit = executable_page_bit(linear);
  m_executable_pages[bit / 64] |= u64{1} << (bit & 63);
  if (large) m_executable_regions |= u64{1} << (linear >> 30 & 63);
}

bool CpuCore::may_hold_code(u64 linear) const {
  const u64 bit = executable_page_bit(linear);
  return (m_executable_pages[bit / 64] >> (bit & 63) & 1) || (m_executable_regions >> (linear >> 30 & 63) & 1);
}

void CpuCore::clear_jump_cache() {
  m_address_spaces.fill({});
  m_lower_half_global = false;
  clear_jump_cache_half(0);
  clear_jump_cache_half(1);
}

void CpuCore::clear_jump_cache_half(unsigned half) {
  m_newest_generation = (m_newest_generation + 1) & ((1u << kJumpGenerationBits) - 1);
  if (m_newest_generation == 0) {  // wrapped: entries of the first generations would come alive again
    forget_jump_cache();
    m_address_spaces.fill({});
    s.jump_generation.fill(++m_newest_generation);  // 0 is nobody's
    m_code_flush = true;  // and so would regions that were found to fit the mapping
  }
  s.jump_generation[half] = m_newest_generation;
  if (half == 1) m_upper_half_local = false;
  s.update_jump_key();
}

void CpuCore::forget_jump_cache() {
  for (JumpCacheEntry& entry : m_jump_cache) entry = {~u64{0}, ~u64{0}, nullptr, nullptr};
  m_code_places.clear();
  m_way_out = {};
}

// SDM Vol. 3A 3.4, 3.4.2.1, 5.3; 64-bit mode Vol. 3A 5.3.1.
u64 CpuCore::segment_linear(unsigned index, u64 offset, unsigned size, AccessType access) {
  const SegmentRegister& segment = s.segment[index];
  if (s.code64()) return index >= kFs ? segment.base + offset : offset;
  const Vector vector = index == kSs ? Vector::StackFault : Vector::GeneralProtection;
  if (s.protected_mode() && !s.v86()) {
    if (!segment.usable) raise(vector, 0);
    if (access == AccessType::Write ? !segment.writable() : !segment.readable()) raise(vector, 0);
  }
  const u64 last = offset + size - 1;
  if (segment.expand_down() && s.protected_mode()) {
    const u64 top = segment.big() ? 0xffffffff : 0xffff;
    if (offset <= segment.limit || last > top) raise(vector, 0);
  } else if (last > segment.limit) {
    raise(vector, 0);
  }
  return static_cast<u32>(segment.base + offset);
}

u64 CpuCore::operand_offset(const BoundInsn& insn) const {
  const u64* slots = s.gpr.data();
  const u64 offset = slots[insn.base] + (slots[insn.index] << insn.scale) + static_cast<u64>(i64{insn.displacement});
  return offset & slots[insn.address_mask_slot];
}

u64 CpuCore::operand_linear(const BoundInsn& insn, unsigned size, AccessType access) {
  return segment_linear(insn.segment, operand_offset(insn), size, access);
}

PageTarget CpuCore::target_of(const Translation& translation) const { return memory.lookup(translation.page); }

namespace {

// Whether such an access of the instruction in progress is a stack reference, which raises #SS where others raise #GP: one
// through SS, or the implicit one of PUSH, CALL, ENTER and their like. Where there is a memory operand beside it, PUSH and
// CALL read that and write the stack, POP does the reverse, and JMP only reads. SDM Vol. 3A 3.3.7.1 and 6.15.
bool stack_reference(const CpuState& s, AccessType type) {
  if (s.insn->segment == kSs) return true;
  const RowSpec& row = opcode_rows()[s.insn->row];
  if (!(row.attributes & (kDefault64 | kForce64))) return false;
  const bool pops = std::string_view(row.mnemonic) == "pop";
  return !s.insn->memory || (type == AccessType::Write) != pops;
}

}  // namespace

// Flat segments need no limit check on the fast path: only an access across 4 GiB exceeds their limit.
void CpuCore::check_flat_limit(u64 linear, unsigned size, AccessType type, Rights rights) {
  if (linear + size - 1 <= 0xffffffff || rights != Rights::Current) return;
  if (!s.insn || s.code64() || !(s.mode & kModeFlatData)) return;
  if (s.insn->memory && s.insn->segment_mode != SegmentMode::Flat) return;  // checked by segment_linear()
  raise(stack_reference(s, type) ? Vector::StackFault : Vector::GeneralProtection, 0);
}

// Walks the tables, raises what they say, and enters the result into the TLB when the page is plain memory.
Translation CpuCore::translate(u64 linear, AccessType type, Rights rights) {
  if (s.long_mode() && s.paging.mode != PagingMode::None && !canonical(linear, s.cr4 & kCr4La57)) {
    const bool stack = type != AccessType::Execute && rights == Rights::Current && s.insn && stack_reference(s, type);
    raise(stack ? Vector::StackFault : Vector::GeneralProtection, 0);
  }
  ++(type == AccessType::Execute ? counters.fetch_walks : counters.data_walks);
  observe(kEventPageWalk, [&](CpuObserver& observer) { observer.page_walked(linear); });
  const TlbContext context = context_for(s, rights);
  const bool user = context == TlbContext::User;
  const bool smap_in_force = context == TlbContext::Supervisor;
  const auto walked = walk(memory, s.paging, linear, {type, user, smap_in_force});
  if (!walked) raise_page_fault(linear, walked.error().error_code);
  const Translation& translation = *walked;
  if (type == AccessType::Execute || translation.user_execute || translation.supervisor_execute) note_executable(linear, translation.large);

  if (rights == Rights::Current && s.tlb == tlb.table(TlbContext::AlwaysSlow) && type != AccessType::Execute)
    return translation;
  const PageTarget target = memory.lookup(translation.page);
  if (target.read != RegionKind::Ram && target.read != RegionKind::Rom) return translation;
  bool read, write, execute;
  if (user) {
    read = translation.user_read && translation.key_read;
    write = translation.user_write && translation.key_write;
    execute = translation.user_execute;
  } else {
    const bool smap_forbids = smap_in_force && translation.user_page && (s.cr4 & kCr4Smap);
    read = !smap_forbids && translation.key_read;
    write = !smap_forbids && translation.supervisor_write && translation.key_write;
    execute = translation.supervisor_execute;
  }
  if (m_debug.has_watchpoints()) [[unlikely]] {
    const u8 watched_accesses = m_debug.watched_on_page(linear, translation.page.value);
    read = read && !(watched_accesses & kWatchRead);
    write = write && !(watched_accesses & kWatchWrite);
  }
  if (m_debug.observes_memory_at(linear)) [[unlikely]] read = write = false;
  // A page with breakpoints counts as code only when it was cut, which a fetch does.
  if (type != AccessType::Execute && m_debug.has_breakpoints_on(linear)) execute = false;
  write = write && translation.dirty && target.write == RegionKind::Ram && target.write_ram_offset == target.read_ram_offset;
  const bool watched = write && memory.ram().flags(target.read_ram_offset) != 0;
  tlb.insert(context, linear, memory.ram().host(target.read_ram_offset), read, write && !watched, execute, translation.global,
             translation.large, watched);
  return translation;
}

// Makes the accesses of pieces known to check_watched().
void CpuCore::check_watched(u64 linear, const Pieces& pieces, u8 accesses) {
  for (const Pieces::Piece& piece : pieces.all()) {
    check_watched(linear, piece.physical.value, piece.size, accesses);
    linear = linear_sum(linear, piece.size);
  }
}

// What the access has set off is seen before the next block.
void CpuCore::look_behind_mmio() {
  if (__atomic_load_n(&s.attention, __ATOMIC_RELAXED)) s.end_slice();
}

// An access to MMIO must happen with exact state, as the last of its block: if it is not, the instruction starts again
// alone, and the block is cut behind it from now on. Host code of several blocks may go on without looking up in between:
// there even the last one runs alone.
void CpuCore::split_block_for_mmio() {
  const BoundInsn* insn = s.insn;
  if (!insn) return;
  const Block* block = Block::of(insn);
  if (insn->position + 1 == block->real_count) {
    const Translator* translator = blocks.translator();
    if (!translator || !is_variant(block->variants()[insn->position]) || is_repeated_string(*insn) || !translator->shares_code(*block, *block)) return;
    std::longjmp(m_recovery, kRecoverSplit);
  }
  const u64 ram_offset = block->ram_offset_of(insn->position);
  blocks.mark_mmio(ram_offset);
  blocks.forget(ram_offset);
  std::longjmp(m_recovery, kRecoverSplit);
}

namespace {

// Splits a register-sized access into the power-of-two pieces that a bus makes of it.
template <class Function>
void for_bus_pieces(GuestPhysAddr address, unsigned size, Function function) {
  for (unsigned done = 0; done < size;) {
    unsigned part = 8;
    while (part > size - done || ((address.value + done) & (part - 1))) part /= 2;
    function(address + done, done, part);
    done += part;
  }
}

}  // namespace

void CpuCore::check_alignment(u64 linear, unsigned size, Rights rights) {
  if (rights == Rights::Current && s.cpl == 3 && (s.rflags & kAc) && (s.cr0 & kCr0Am)) {
    const unsigned alignment = size >= 16 ? 16 : size >= 8 ? 8 : size;
    if (linear & (alignment - 1)) raise(Vector::AlignmentCheck, 0);
  }
}

// Makes every check and raises every fault of the access, before any of its bytes is touched.
CpuCore::Pieces CpuCore::pieces_of(u64 linear, unsigned size, AccessType type, Rights rights) {
  VELLUM_ASSERT(size <= kPageSize);
  check_flat_limit(linear, size, type, rights);
  check_alignment(linear, size, rights);
  Pieces pieces;
  for (unsigned done = 0; done < size;) {
    const u64 address = linear_sum(linear, done);
    const unsigned part = std::min<unsigned>(size - done, static_cast<unsigned>(kPageSize - (address & kPageMask)));
    const Translation translation = translate(address, type, rights);
    pieces.piece[pieces.count++] = {translation.page + (address & kPageMask), target_of(translation), part};
    done += part;
  }
  return pieces;
}

void CpuCore::read_slow(u64 linear, void* data, unsigned size, Rights rights) {
  TlbEntry* const entries = table_for(rights);
  if (tlb.restore(entries, linear)) {
    const TlbEntry& entry = entries[Tlb::slot(linear)];
    if (const u64 x = linear ^ entry.read_tag; x <= kPageSize - size) return ordered_read(data, entry.host + x, size);
  }
  const Pieces pieces = pieces_of(linear, size, AccessType::Read, rights);
  if (m_debug.has_watchpoints()) [[unlikely]] check_watched(linear, pieces, kWatchRead);
  if (rights == Rights::Current && (s.dr[7] & 0xff)) check_watchpoints(linear, size, false);
  u8* out = static_cast<u8*>(data);
  for (const Pieces::Piece& piece : pieces.all()) {
    if (piece.target.read == RegionKind::Ram || piece.target.read == RegionKind::Rom) {
      ordered_read(out, memory.ram().host(piece.target.read_ram_offset + piece.physical.offset()), piece.size);
    } else {
      split_block_for_mmio();
      for_bus_pieces(piece.physical, piece.size, [&](GuestPhysAddr address, unsigned offset, unsigned part) {
        const u64 value = memory.read_slow(address, part);
        observe(kEventMmio, [&](CpuObserver& observer) { observer.mmio_accessed(address.value, part, false, value); });
        std::memcpy(out + offset, &value, part);
      });
      look_behind_mmio();
    }
    out += piece.size;
  }
  // Pages that nobody asked for come here, too, while the TLB does not have them.
  observe(kEventMemory, [&](CpuObserver& observer) {
    if (m_debug.observes_memory_at(linear) || m_debug.observes_memory_at(linear_sum(linear, size - 1))) observer.memory_accessed(linear, false, {static_cast<const u8*>(data), size});
  });
}

void CpuCore::write_slow(u64 linear, const void* data, unsigned size, Rights rights) {
  TlbEntry* const entries = table_for(rights);
  if (tlb.restore(entries, linear)) {
    const TlbEntry& entry = entries[Tlb::slot(linear)];
    if (const u64 x = linear ^ entry.write_tag; x <= kPageSize - size) return ordered_write(entry.host + x, data, size);
  }
  if (u8* host = watched_write(entries, linear, size)) return ordered_write(host, data, size);
  const Pieces pieces = pieces_of(linear, size, AccessType::Write, rights);
  const u8* in = static_cast<const u8*>(data);
  for (const Pieces::Piece& piece : pieces.all())
    if (piece.target.write == RegionKind::Mmio || piece.target.write == RegionKind::Hole) split_block_for_mmio();
  if (m_debug.has_watchpoints()) [[unlikely]] check_watched(linear, pieces, kWatchWrite);
  if (rights == Rights::Current && (s.dr[7] & 0xff)) check_watchpoints(linear, size, true);
  observe(kEventMemory, [&](CpuObserver& observer) {
    if (m_debug.observes_memory_at(linear) || m_debug.observes_memory_at(linear_sum(linear, size - 1))) observer.memory_accessed(linear, true, {in, size});
  });
  for (const Pieces::Piece& piece : pieces.all()) {
    if (piece.target.write == RegionKind::Ram) {
      const u64 offset = piece.target.write_ram_offset + piece.physical.offset();
      if (memory.ram().flags(offset)) note_ram_write(offset, piece.size);
      ordered_write(memory.ram().host(offset), in, piece.size);
    } else if (piece.target.write != RegionKind::Rom) {
      for_bus_pieces(piece.physical, piece.size, [&](GuestPhysAddr address, unsigned offset, unsigned part) {
        u64 value = 0;
        std::memcpy(&value, in + offset, part);
        observe(kEventMmio, [&](CpuObserver& observer) { observer.mmio_accessed(address.value, part, true, value); });
        memory.write_slow(address, part, value);
      });
      look_behind_mmio();
    }
    in += piece.size;
  }
}

// A page with flags is about to be written: blocks made from these bytes go stale, and it is no longer clean. When no
// flag is left the next miss of the TLB makes it writable.
void CpuCore::note_ram_write(u64 ram_offset, unsigned size) {
  GuestRam& ram = memory.ram();
  ram.clear_flag(ram_offset, kPageCleanDisplay);
  ram.clear_flag(ram_offset, kPageCleanSnapshot);
  if (!(ram.flags(ram_offset) & kPageHoldsCode)) return;
  // Host code cannot be stopped behind the instruction that overwrites it, and an instruction whose flags nobody reads
  // may have dropped them although what it puts in the next one's place does: the block stops in front, and the
  // instruction runs alone. A callout ends its block and returns to no host code.
  if (const BoundInsn* insn = s.insn) {
    const Block* running = Block::of(insn);
    if (is_variant(running->variants()[insn->position]) && !is_repeated_string(*insn) && blocks.overwrites(*running, insn->position, ram_offset, size))
      std::longjmp(m_recovery, kRecoverSplit);
  }
  blocks.written(ram_offset, size);
}

u64 CpuCore::linear_sum(u64 linear, u64 bytes) const {
  return s.code64() || s.paging.mode >= PagingMode::Level4 ? linear + bytes : static_cast<u32>(linear + bytes);
}

// A write that is only slow because somebody watches the page: the place, when that has been told, or nullptr.
u8* CpuCore::watched_write(TlbEntry* entries, u64 linear, unsigned size) {
  u8* host = tlb.watched_host(entries, linear, size);
  if (!host) return nullptr;
  const u64 offset = static_cast<u64>(host - memory.ram().host(0));
  if (memory.ram().flags(offset)) note_ram_write(offset, size);
  if (!memory.ram().flags(offset)) Tlb::permit_writes(entries, linear);
  return host;
}

void CpuCore::load_slow(u64 linear, void* data, unsigned size) { read_slow(linear, data, size, Rights::Current); }

void CpuCore::store_slow(u64 linear, const void* data, unsigned size) { write_slow(linear, data, size, Rights::Current); }

u8* CpuCore::writable_host(u64 linear, unsigned size) {
  if (tlb.restore(s.tlb, linear)) {
    const TlbEntry& entry = s.tlb[Tlb::slot(linear)];
    if (const u64 x = linear ^ entry.write_tag; x <= kPageSize - size) return entry.host + x;
  }
  if (u8* host = watched_write(s.tlb, linear, size)) return host;
  check_flat_limit(linear, size, AccessType::Write, Rights::Current);
  check_alignment(linear, size, Rights::Current);
  if ((linear & kPageMask) + size > kPageSize) {
    probe_write(linear, size);
    return nullptr;
  }
  const Translation translation = translate(linear, AccessType::Write, Rights::Current);
  const PageTarget target = target_of(translation);
  if (target.write != RegionKind::Ram || target.read != RegionKind::Ram ||
      target.write_ram_offset != target.read_ram_offset) {
    if (target.write != RegionKind::Ram || target.read == RegionKind::Mmio) split_block_for_mmio();
    return nullptr;
  }
  if (m_debug.has_watchpoints()) [[unlikely]]
    check_watched(linear, translation.page.value + (linear & kPageMask), size, kWatchRead | kWatchWrite);
  if (m_debug.observes_memory_at(linear)) [[unlikely]] return nullptr;  // what is written there is known only to a store
  if (s.dr[7] & 0xff) check_watchpoints(linear, size, true);
  const u64 offset = target.write_ram_offset + (linear & kPageMask);
  if (memory.ram().flags(offset)) note_ram_write(offset, size);
  return memory.ram().host(offset);
}

void CpuCore::probe_write(u64 linear, unsigned size, Rights rights) {
  translate(linear, AccessType::Write, rights);
  const u64 last = linear_sum(linear, size - 1);
  if ((linear ^ last) & ~kPageMask) translate(last & ~kPageMask, AccessType::Write, rights);
}

TlbEntry* CpuCore::table_for(Rights rights) {
  return rights == Rights::Current ? s.tlb : tlb.table(TlbContext::Supervisor);
}

void CpuCore::read_bytes(u64 linear, void* data, unsigned size, Rights rights) {
  const TlbEntry& entry = table_for(rights)[Tlb::slot(linear)];
  const u64 x = linear ^ entry.read_tag;
  if (x <= kPageSize - size) [[likely]] {
    ordered_read(data, entry.host + x, size);
    return;
  }
  read_slow(linear, data, size, rights);
}

void CpuCore::write_bytes(u64 linear, const void* data, unsigned size, Rights rights) {
  const TlbEntry& entry = table_for(rights)[Tlb::slot(linear)];
  const u64 x = linear ^ entry.write_tag;
  if (x <= kPageSize - size) [[likely]] {
    ordered_write(entry.host + x, data, size);
    return;
  }
  write_slow(linear, data, size, rights);
}

// --- Fetching code ----------------------------------------------------------------------------------------------------

CpuCore::FetchPage CpuCore::fetch_page(u64 linear) {
  const TlbContext context = context_for(s, Rights::Current);
  const TlbEntry& entry = tlb.table(context)[Tlb::slot(linear)];
  const u8* ram = memory.ram().host(0);
  const auto known = [&] { return (linear & ~kPageMask) == entry.execute_tag; };
  if (known() || (tlb.restore(tlb.table(context), linear) && known()))
    return {entry.host, static_cast<u64>(entry.host - ram), tlb.is_global(context, linear)};
  const Translation translation = translate(linear, AccessType::Execute, Rights::Current);
  const PageTarget target = target_of(translation);
  if (target.read == RegionKind::Ram || target.read == RegionKind::Rom) {
    if (m_debug.has_breakpoints_on(linear)) [[unlikely]] cut_page(linear & ~kPageMask, target.read_ram_offset);
    return {memory.ram().host(target.read_ram_offset), target.read_ram_offset, translation.global};
  }
  return {nullptr, translation.page.value, false};
}

bool CpuCore::maps_code(u64 rip, u64 ram_page) const {
  const u64 linear = code_address(rip);
  const TlbEntry& entry = tlb.table(context_for(s, Rights::Current))[Tlb::slot(linear)];
  return (linear & ~kPageMask) == entry.execute_tag && entry.host == memory.ram().host(ram_page);
}

u64 CpuCore::code_address(u64 rip) const {
  return s.code64() ? rip : static_cast<u32>(s.segment[kCs].base + rip);
}

}  // namespace vellum
