// Finding and making blocks: decode, bind operands to offsets, choose handlers.
#include <algorithm>
#include <array>
#include <new>
#include <vector>

#include "cpu/core.h"
#include "cpu/disassembler.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "cpu/translator.h"
#include "state/log.h"

namespace vellum {

namespace {

CodeSize code_size(u32 mode) { return static_cast<CodeSize>(mode & kModeCodeSizeMask); }

constexpr u16 kVectorOffset = offsetof(CpuState, vector), kMmxOffset = offsetof(CpuState, x87.registers);

// Where the number of an operand's register stands, by Insn.
enum class Source : u8 { None, Reg, Rm, RmUnlessMemory, Vvvv, UpperImmediate, VectorIndex, ModrmRm, Count };

// How a row's operands become offsets: base + number << shift.
struct RowBinding {
  struct Operand {
    Source source = Source::None;
    u8 mask = 15;        // of the number
    u8 shift = 0;
    bool byte = false;   // a byte register: without REX numbers 4 to 7 are AH, CH, DH, BH; SDM Vol. 2A table 3-1
    u16 base = 0;
  };
  std::array<Operand, 4> operands;
  bool wide = false;          // with an operand size of 8 the immediate has 64 bits
  bool absolute = false;      // an absolute offset
  bool immediate2 = false;    // in the fourth operand's place
};

RowBinding::Operand binding_of(OperandSpec operand) {
  const bool byte = operand.width == OperandWidth::B;
  constexpr u8 kGprShift = 3, kVectorShift = 6, kMmxShift = 4;
  static_assert(gpr_offset(1) == 1 << kGprShift && sizeof(VectorRegister) == 1 << kVectorShift && sizeof(X87Register) == 1 << kMmxShift);
  switch (operand.kind) {
    case OperandKind::Gpr: return {Source::Reg, 15, kGprShift, byte, 0};
    case OperandKind::GprOrMemory: return {Source::RmUnlessMemory, 15, kGprShift, byte, 0};
    case OperandKind::GprInModrm:
    case OperandKind::GprInOpcode: return {Source::Rm, 15, kGprShift, byte, 0};
    case OperandKind::GprVvvv: return {Source::Vvvv, 15, kGprShift, byte, 0};
    case OperandKind::XmmVvvv: return {Source::Vvvv, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::XmmInImmediate: return {Source::UpperImmediate, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::XmmVsibIndex: return {Source::VectorIndex, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::XmmInReg: return {Source::Reg, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::XmmOrMemory: return {Source::RmUnlessMemory, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::XmmInModrm: return {Source::Rm, 15, kVectorShift, false, kVectorOffset};
    case OperandKind::MmxInReg: return {Source::Reg, 7, kMmxShift, false, kMmxOffset};
    case OperandKind::MmxOrMemory: return {Source::RmUnlessMemory, 7, kMmxShift, false, kMmxOffset};
    case OperandKind::MmxInModrm: return {Source::Rm, 7, kMmxShift, false, kMmxOffset};
    case OperandKind::Segment: return {Source::Reg, 7, 0, false, 0};
    case OperandKind::Control:
    case OperandKind::Debug: return {Source::Reg, 15, 0, false, 0};
    case OperandKind::X87Register: return {Source::ModrmRm, 7, 0, false, 0};
    case OperandKind::FixedCl: return {Source::None, 0, 0, false, gpr_offset(kRcx)};
    case OperandKind::FixedDx: return {Source::None, 0, 0, false, gpr_offset(kRdx)};
    default: return {};
  }
}

const RowBinding& row_binding(u16 row) {
  static const std::vector<RowBinding> bindings = [] {
    std::vector<RowBinding> made;
    for (const RowSpec& spec : opcode_rows()) {
      RowBinding binding;
      bool second = false;
      for (unsigned i = 0; i < 4; ++i) {
        const OperandSpec operand = spec.operands[i];
        binding.operands[i] = binding_of(operand);
        binding.wide |= operand.kind == OperandKind::Immediate && operand.width == OperandWidth::V;
        binding.absolute |= operand.kind == OperandKind::AbsoluteOffset;
        second |= operand.kind == OperandKind::FarPointer || (i > 0 && operand.kind == OperandKind::Immediate);
      }
      binding.immediate2 = second && spec.operands[3].kind == OperandKind::None;
      made.push_back(binding);
    }
    return made;
  }();
  return bindings[row];
}

}  // namespace

void CpuCore::bind(const Insn& insn, BoundInsn& bound, u16 offset, unsigned position) const {
  const RowBinding& row = row_binding(insn.row);
  const bool bits64 = code_size(s.mode) == CodeSize::Bits64;
  const u8 numbers[] = {0, insn.reg, insn.rm, insn.rm, insn.vvvv, static_cast<u8>(insn.immediate >> 4), insn.vector_index, static_cast<u8>(insn.modrm & 7)};
  static_assert(std::size(numbers) == static_cast<usize>(Source::Count));
  for (unsigned i = 0; i < 4; ++i) {
    const RowBinding::Operand& operand = row.operands[i];
    const unsigned number = numbers[static_cast<usize>(operand.source)] & operand.mask;
    unsigned place = operand.base + (number << operand.shift);
    if (operand.byte && number >= 4 && number < 8 && !(insn.prefixes & kPrefixRex)) place = gpr_offset(number - 4) + 1u;
    if (operand.source == Source::RmUnlessMemory && insn.memory) place = 0;
    bound.operand[i] = static_cast<u16>(place);
  }
  const bool wide = (row.wide && insn.operand_size == 8) || row.absolute;
  if (row.immediate2) bound.operand[3] = insn.immediate2;
  const bool absolute = insn.memory && wide;
  const u64 value = static_cast<u64>(absolute ? insn.displacement : insn.immediate);
  bound.immediate_low = static_cast<i32>(value);
  bound.base = insn.base;
  bound.index = insn.index;
  i64 displacement = insn.displacement + (insn.base == kCodeBaseSlot ? offset + insn.length : 0);
  if (displacement != static_cast<i32>(displacement) && insn.base == kCodeBaseSlot) {
    // RIP-relative operands have no index.
    bound.index = displacement > 0 ? kExcessSlot : kDeficitSlot;
    displacement += displacement > 0 ? -8192 : 8192;
  }
  bound.displacement = static_cast<i32>(wide ? static_cast<i64>(value >> 32) : displacement);
  bound.address_mask_slot = static_cast<u8>(kAddressMaskSlot + (insn.address_size >> 2));
  bound.row = insn.row;
  bound.offset = offset;
  bound.position = static_cast<u8>(position & 63);
  bound.length = insn.length;
  bound.scale = insn.scale;
  bound.segment = insn.segment;
  if (bits64) bound.segment_mode = insn.segment >= kFs ? SegmentMode::BaseOnly : SegmentMode::Flat;
  else if ((s.mode & kModeFlatData) && (insn.segment == kDs || insn.segment == kSs || insn.segment == kEs)) bound.segment_mode = SegmentMode::Flat;
  else bound.segment_mode = SegmentMode::Checked;
  if (bits64) bound.stack_mode = StackMode::Flat64;
  else if ((s.mode & kModeFlatData) && (s.mode & kModeStack32)) bound.stack_mode = StackMode::Flat32;
  else bound.stack_mode = StackMode::Checked;
  bound.operand_size = insn.operand_size;
  bound.address_size = insn.address_size;
  bound.prefixes = insn.prefixes;
  bound.memory = insn.memory;
  bound.code_size_bytes = static_cast<u8>(2u << (s.mode & kModeCodeSizeMask));
}

VariantChoice variant_for(const RowSpec& row, const Insn& insn) {
  VariantChoice choice{};
  choice.width = insn.operand_size == 2 ? 0 : insn.operand_size == 4 ? 1 : 2;
  choice.memory = insn.memory;
  choice.locked = insn.memory && ((insn.prefixes & kPrefixLock) || row.has(kImplicitLock));
  if (insn.prefixes & (kPrefixRep | kPrefixRepne)) {
    if (row.has(kRepe)) choice.repeat = insn.prefixes & kPrefixRep ? Repeat::WhileEqual : Repeat::WhileNotEqual;
    else if (row.has(kRep)) choice.repeat = Repeat::WhileEqual;  // F2 repeats these too, SDM Vol. 2B "REP"
  }
  return choice;
}

namespace {

// A shift whose count is surely not 0 after masking: an immediate with one of its low five bits.
bool shifts_by_immediate(const Insn& insn) {
  for (const OperandSpec& operand : opcode_rows()[insn.row].operands)
    if (operand.kind == OperandKind::Immediate) return (insn.immediate & 31) != 0;
  return false;
}

// In 64-bit code: Form::plain_address.
bool has_plain_address(const Insn& insn) {
  constexpr i64 kFar = i64{1} << 30;  // a RIP-relative displacement that far may need a second slot (bind())
  const bool near = insn.displacement > -kFar && insn.displacement < kFar;
  return insn.memory && insn.address_size == 8 && insn.index == kZeroSlot && insn.segment < kFs &&
         (insn.base != kCodeBaseSlot || near);
}

void log_insn(std::span<const u8> bytes, CodeSize size, u64 address) {
  static const Disassembler disassemblers[] = {Disassembler(CodeSize::Bits16), Disassembler(CodeSize::Bits32), Disassembler(CodeSize::Bits64)};
  const DisassembledInsn insn = disassemblers[static_cast<unsigned>(size)].one(bytes, address);
  log(LogItem::InAsm, "{:#x}:  {:<30} {}", address, hex_bytes(bytes), insn.text);
}

bool is_relative_transfer(Flow flow) { return flow == Flow::Direct || flow == Flow::Conditional; }

FlagProducer known_producer(FlagProducers known, FlagProducer producer) {
  const auto knows = [known](FlagProducer one) { return (known >> static_cast<unsigned>(one) & 1) != 0; };
  if (producer == FlagProducer::Explicit && !knows(producer)) producer = FlagProducer::Kept;
  return knows(producer) ? producer : FlagProducer::Unknown;
}

bool trapped(const RowSpec& row, u32 mode) {
  return (row.has(kUsesX87) && (mode & kModeX87Trap)) || (row.has(kUsesMmx) && (mode & kModeMmxTrap)) ||
         (row.has(kUsesSse) && (mode & kModeSseTrap)) || (row.has(kUsesAvx) && (mode & kModeAvxTrap));
}

}  // namespace

// Asks for the host's cache lines in which a block would be found.
void CpuCore::foresee(u64 rip, u64 ram_offset) {
  __builtin_prefetch(&m_jump_cache[jump_cache_slot(rip)], 1);
  blocks.foresee(ram_offset, s.mode & kBlockModeMask);
}

Block* CpuCore::decode_block(u64 rip, const FetchPage& page, u64 linear, unsigned limit, Decoding decoding) {
  alignas(Insn) u8 memory_of_insns[kMaxBlockInsns * sizeof(Insn)];  // made as they are decoded
  Insn* const insns = reinterpret_cast<Insn*>(memory_of_insns);
  VariantChoice choices[kMaxBlockInsns];
  u16 offsets[kMaxBlockInsns + 1];
  Handler special[kMaxBlockInsns];
  const RowHandlers* rows[kMaxBlockInsns];  // where there is nothing special
  unsigned count = 0;
  u16 offset = 0;
  bool crosses = false, ended = false;
  u64 second_page = 0;
  const u64 in_page = linear & kPageMask;
  const bool real = s.mode & kModeReal;

  while (count < limit && !ended) {
    if ((s.mode & kModeCheckedCode) && rip + offset > s.segment[kCs].limit) {
      if (count == 0) raise_general_protection();
      break;
    }
    if (in_page + offset >= kPageSize) break;
    if (count > 0 && blocks.is_cut(page.ram_offset + in_page + offset)) break;
    Insn& insn = *new (&insns[count]) Insn;
    u8 buffer[kMaxInsnLength + 1];
    std::span<const u8> bytes;
    if (page.host) {
      bytes = {page.host + in_page + offset, kPageSize - in_page - offset};
    } else {  // code in MMIO or a hole: one instruction at a time
      memory.read(GuestPhysAddr(page.ram_offset + in_page), {buffer, kMaxInsnLength});
      bytes = {buffer, kMaxInsnLength};
    }
    DecodeStatus status = decoder.decode(bytes, code_size(s.mode), real, insn);
    if (status == DecodeStatus::NeedMore) {
      if (count > 0) break;
      const u64 next_linear = linear_sum(linear & ~kPageMask, kPageSize);
      const FetchPage second = fetch_page(next_linear);
      const usize first_part = bytes.size();
      std::memcpy(buffer, bytes.data(), first_part);
      if (second.host) std::memcpy(buffer + first_part, second.host, kMaxInsnLength - first_part);
      else memory.read(GuestPhysAddr(second.ram_offset), {buffer + first_part, kMaxInsnLength - first_part});
      status = decoder.decode({buffer, kMaxInsnLength}, code_size(s.mode), real, insn);
      crosses = insn.length > first_part;
      second_page = second.ram_offset;
      if (!second.host) decoding = Decoding::Once;
      ended = true;
    }
    if (status == DecodeStatus::TooLong || status == DecodeStatus::NeedMore) {
      if (count == 0) raise_general_protection();
      break;
    }
    if ((s.mode & kModeCheckedCode) && rip + offset + insn.length - 1 > s.segment[kCs].limit) {
      if (count == 0) raise_general_protection();
      break;
    }
    special[count] = nullptr;
    offsets[count] = offset;
    if (status == DecodeStatus::Invalid) {
      special[count] = interpreter_invalid_opcode;
      ended = true;
    } else {
      const RowSpec& row = opcode_rows()[insn.row];
      const RowHandlers& handlers = *(rows[count] = &interpreter_row(insn.row));
      choices[count] = variant_for(row, insn);
      if (trapped(row, s.mode)) {
        special[count] = interpreter_fpu_unavailable;
        ended = true;
      } else if (handlers.flow == Flow::Callout) {
        special[count] = interpreter_callout;
        ended = true;
      } else if (handlers.flow != Flow::Next && !(handlers.flow == Flow::String && choices[count].repeat == Repeat::No)) {
        ended = true;
      }
      ended = ended || row.has(kEndsBlock) || (page.host && blocks.ends_block(page.ram_offset + in_page + offset));
    }
    if (log_enabled(LogItem::InAsm) && decoding == Decoding::Cached && page.host) [[unlikely]]
      log_insn(count == 0 && crosses ? std::span<const u8>(buffer, insn.length) : bytes.first(insn.length), code_size(s.mode), rip + offset);
    offset = static_cast<u16>(offset + insn.length);
    ++count;
    if (!page.host) break;
  }
  offsets[count] = offset;
  const bool cached = decoding == Decoding::Cached && page.host;
  if (cached) {  // while the host makes the block it can fetch what looking for the next one needs
    foresee(rip + offset, page.ram_offset + in_page + offset);
    const Insn& last = insns[count - 1];
    if (!special[count - 1] && is_relative_transfer(rows[count - 1]->flow))
      foresee(rip + offset + static_cast<u64>(last.immediate), page.ram_offset + in_page + offset + static_cast<u64>(last.immediate));
  }

  if (code_size(s.mode) == CodeSize::Bits64) {
    for (unsigned i = 0; i < count; ++i) {
      if (special[i] || !has_plain_address(insns[i]) || choices[i].locked) continue;
      choices[i].plain_address = true;
      if (!rows[i]->variant[handler_index(choices[i])]) choices[i].plain_address = false;
    }
  }

  // Who reads the flags: behind the block anybody may.
  bool dead = false;
  for (unsigned i = count; i-- > 0;) {
    if (special[i]) {
      dead = false;
      continue;
    }
    const RowHandlers& handlers = *rows[i];
    const bool overwrites = handlers.flags.written == kArithmeticFlags && handlers.flow == Flow::Next;
    if (handlers.flags.written && handlers.flow == Flow::Next && dead) choices[i].flags_dead = true;
    // Who replaces some flags reads the others only to keep them.
    const u32 read = choices[i].flags_dead ? handlers.flags.read & handlers.flags.written : handlers.flags.read;
    const bool reads = read && !(handlers.count_decides && shifts_by_immediate(insns[i]));
    if (reads || insns[i].memory || !handlers.never_faults) dead = false;
    else if (overwrites) dead = true;
  }
  FlagProducer producer = FlagProducer::Unknown;
  for (unsigned i = 0; i < count; ++i) {
    if (special[i]) continue;
    const RowHandlers& handlers = *rows[i];
    if (handlers.known_producers) choices[i].producer = known_producer(handlers.known_producers, producer);
    if (handlers.flags.written) producer = handlers.producer;
  }

  Block* block = nullptr;
  if (cached) {
    const u64 ram_offset = page.ram_offset + in_page;
    block = blocks.allocate(ram_offset, s.mode & kBlockModeMask, count, offset);
    if (!block) {
      evict_blocks();
      block = blocks.allocate(ram_offset, s.mode & kBlockModeMask, count, offset);
    }
  } else {
    block = reinterpret_cast<Block*>(m_once.get());
    block->mode = s.mode & kBlockModeMask;
    block->ram_offset = page.ram_offset + in_page;
    block->taken = block->next = block->far_link[0] = block->far_link[1] = block->hash_next = nullptr;
    block->linkers = 0;
    block->rewrites = 0;
  }
  block->count = static_cast<i32>(count);
  block->real_count = static_cast<u16>(count);
  block->byte_length = offset;
  block->cut = page.host && blocks.is_cut(page.ram_offset + in_page);
  block->chainable = cached && !(s.mode & kModeCheckedCode) && !block->cut;
  block->taken_leaves_page = false;
  block->crosses_page = crosses;
  block->second_page = second_page;
  block->entry = interpreter_enter;
  block->jump_entry = interpreter_jump_enter;
  block->code_offset = block->code_size = block->cold_offset = block->cold_size = block->own_heat = 0;
  block->forget_exits();
  block->branches_itself = block->redirected = false;
  block->heat = &block->own_heat;
  for (unsigned i = 0; i < count; ++i) {
    BoundInsn& bound = block->insns[i];
    bind(insns[i], bound, static_cast<u16>(in_page + offsets[i]), i);
    Handler handler = special[i];
    const unsigned variant = special[i] ? 0 : handler_index(choices[i]);
    if (!handler) handler = rows[i]->variant[variant];
    if (!handler) {
      log(LogItem::Unsupported, "no handler for {} at {:#x}", describe_row(opcode_rows()[insns[i].row]), rip + offsets[i]);
      handler = interpreter_invalid_opcode;
    }
    set_handler(bound, handler);
    block->variants()[i] = special[i] == interpreter_callout ? kNoVariant : special[i] == interpreter_invalid_opcode ? kInvalidVariant : special[i] ? kUnavailableVariant : static_cast<u8>(variant);
  }
  BoundInsn& terminator = block->insns[count];
  terminator = BoundInsn{};
  set_handler(terminator, interpreter_fall_through);
  terminator.offset = static_cast<u16>(in_page + offset);
  terminator.position = static_cast<u8>(count & 63);
  terminator.operand_size = terminator.code_size_bytes = static_cast<u8>(2u << (s.mode & kModeCodeSizeMask));
  if (cached) {
    ++counters.blocks_decoded;
    counters.insns_decoded += count;
    const u64 in_first = std::min<u64>(offset, kPageSize - in_page);
    std::memcpy(block->bytes(), page.host + in_page, in_first);
    if (crosses) std::memcpy(block->bytes() + in_first, memory.ram().host(second_page), offset - in_first);
    make_current(*block);
    if (Translator* translator = blocks.translator()) translator->block_made(*block);
  }
  return block;
}

// From now on stores to the page must be seen.
void CpuCore::protect_code_page(u64 ram_offset) {
  if (!(memory.ram().flags(ram_offset) & kPageHoldsCode)) tlb.protect_host_pages(memory.ram().host(ram_offset & ~kPageMask), kPageSize);
}

void CpuCore::make_current(Block& block) {
  protect_code_page(block.ram_offset);
  if (block.crosses_page) protect_code_page(block.second_page);
  blocks.make_current(block);
}

void CpuCore::evict_blocks() {
  m_eviction = false;
  m_way_out = {};
  blocks.evict();
  for (JumpCacheEntry& entry : m_jump_cache)
    if (entry.block && blocks.evicting(entry.block)) entry = {~u64{0}, ~u64{0}, nullptr, nullptr};
}

void CpuCore::entry_moved(const Block& block) {
  JumpCacheEntry& entry = m_jump_cache[jump_cache_slot(s.code_base + block.page_offset())];
  if (entry.block == &block) entry.entry = reinterpret_cast<void*>(block.jump_entry);
}

Block* CpuCore::lookup(u64 rip) {
  JumpCacheEntry& entry = m_jump_cache[jump_cache_slot(rip)];
  if (entry.rip == rip && entry.key == s.jump_key_of(rip) && entry.block->count != kStaleCount) {
    entry.entry = reinterpret_cast<void*>(entry.block->jump_entry);
    return entry.block;
  }
  const u64 linear = checked_code_address(rip);
  const FetchPage page = fetch_page(linear);
  const u64 ram_offset = page.ram_offset + (linear & kPageMask);
  const u32 mode = s.mode & kBlockModeMask;
  // The jump cache's entry may be of another generation only: what it remembers is most often what is mapped again.
  const bool remembered = entry.rip == rip && entry.block && page.host && entry.block->count != kStaleCount && entry.block->ram_offset == ram_offset &&
                          entry.block->mode == mode;
  Block* block = remembered ? entry.block : page.host ? blocks.find(ram_offset, mode) : nullptr;
  if (page.host && !block) block = blocks.find_stale(ram_offset, mode);
  FetchPage last = page;  // that the block ends on
  const auto fetch_last = [&] { last = fetch_page(linear_sum(linear & ~kPageMask, kPageSize)); };
  if (block && block->crosses_page) {
    fetch_last();
    if (!last.host || last.ram_offset != block->second_page) block = nullptr;
  }
  if (block && (s.mode & kModeCheckedCode) && rip + block->byte_length - 1 > s.segment[kCs].limit)
    return decode_block(rip, page, linear, 1, Decoding::Once);
  if (!block) {
    block = decode_block(rip, page, linear, kMaxBlockInsns, Decoding::Cached);
    if (block->crosses_page) fetch_last();
  } else if (block->count == kStaleCount) {
    make_current(*block);
  }
  // What the jump cache does not know is neither linked nor entered but by the run loop, which logs it.
  if (!is_once(block) && !block->cut && !log_enabled(LogItem::Exec)) {
    entry = {rip, s.jump_key_of(rip), block, reinterpret_cast<void*>(block->jump_entry)};
    note_code_place(&s, block->ram_offset, rip);
    if (rip >> 63) m_upper_half_local |= !page.global || !last.global;
    else m_lower_half_global |= page.global || last.global;
  }
  return block;
}

Block* CpuCore::lookup_once(u64 rip) {
  const u64 linear = checked_code_address(rip);
  return decode_block(rip, fetch_page(linear), linear, 1, Decoding::Once);
}

// The linear address of RIP, after the checks of a fetch: canonical form, or CS's limit.
u64 CpuCore::checked_code_address(u64 rip) {
  if (s.code64()) {
    const unsigned shift = s.cr4 & kCr4La57 ? 7 : 16;
    if (static_cast<u64>(static_cast<i64>(rip << shift) >> shift) != rip) raise_general_protection();
  } else if (rip > s.segment[kCs].limit) {
    raise_general_protection();
  }
  return code_address(rip);
}

}  // namespace vellum
