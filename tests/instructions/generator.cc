// Random instructions of a row: prefixes, ModRM, SIB, displacements, immediates, and registers that make their memory
// operands hit the data pages.
#include "instructions/generator.h"

#include <algorithm>
#include <cstring>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"

namespace vellum::instructions {

namespace {

bool has_operand(const RowSpec& row, OperandKind kind) {
  return std::ranges::any_of(row.operands, [kind](const OperandSpec& operand) { return operand.kind == kind; });
}
bool is_string(const RowSpec& row) {
  return has_operand(row, OperandKind::StringSource) || has_operand(row, OperandKind::StringDestination);
}
bool is_branch(u16 row) {
  const Flow flow = interpreter_row(row).flow;
  return flow == Flow::Direct || flow == Flow::Conditional || flow == Flow::Indirect;
}
bool flat(Environment environment) { return environment == Environment::Long64 || environment == Environment::Flat32; }

}  // namespace

struct Generator::Builder {
  Random random;
  const Decoder& decoder;
  const GeneratorOptions& options;
  TestCase test;
  u16 pinned = 0;  // registers whose value something relies on

  bool bits64() const { return test.environment == Environment::Long64; }

  void pin(unsigned index, u64 value) {
    test.override_mask = static_cast<u16>(test.override_mask | 1u << index);
    test.overrides[index] = value;
    pinned = static_cast<u16>(pinned | 1u << index);
  }
  bool is_pinned(unsigned index) const { return pinned & (1u << index); }

  // An offset into the data pages, most of the time well inside them.
  u32 data_offset(unsigned alignment_percent) {
    u32 offset;
    switch (random.below(20)) {
      case 0:
        offset = 0x1000 * (1 + random.below(3)) - random.below(20);
        break;  // about a page's end
      case 1:
        offset = static_cast<u32>(kWritableSize) - random.below(20);
        break;
      case 2:
        offset = static_cast<u32>(kWritableSize) + random.below(0x1000);
        break;
      case 3:
        offset = random.below(2) ? static_cast<u32>(kDataSize) - random.below(20) : 0u - random.below(20);
        break;
      default:
        offset = 0x100 + random.below(static_cast<u32>(kWritableSize) - 0x300);
    }
    if (random.chance(alignment_percent)) offset &= ~15u;
    return offset;
  }
  // The segment-relative address of a data offset.
  u64 data_address(u32 offset, bool es = false) {
    const u64 linear = kDataBase + static_cast<u64>(static_cast<i64>(static_cast<i32>(offset)));
    if (flat(test.environment)) return linear;
    return linear - (es ? kEsSegment.base : kDsSegment.base);
  }

  struct Encoding {
    std::vector<u8> bytes;
    int rip_displacement = -1;  // position of a displacement that counts from the instruction's end
    u64 rip_target = 0;
  };

  bool add_instruction(u16 index);
  void memory_operand(const RowSpec& row, Encoding& encoding, u8& rex, u8 reg_field, unsigned address_size, bool gs,
                      bool es, std::vector<u8>& tail);
  void immediate(std::vector<u8>& bytes, unsigned size, u64 value) {
    for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<u8>(value >> (8 * i)));
  }
  u64 random_immediate() {
    switch (random.below(4)) {
      case 0:
        return random.below(70);
      case 1:
        return u64{1} << random.below(64);
      case 2:
        return ~u64{0} - random.below(130);
      default:
        return random.next();
    }
  }
};

// ModRM, SIB and displacement into `tail`, with the base register set so that the address hits.
void Generator::Builder::memory_operand(const RowSpec& row, Encoding& encoding, u8& rex, u8 reg_field,
                                        unsigned address_size, bool gs, bool es, std::vector<u8>& tail) {
  const u32 offset = data_offset(row.has(kAligned) ? 85 : 30);
  u64 target = data_address(offset, es);
  if (gs && bits64()) target -= kGsBase;
  const u8 mod = static_cast<u8>(random.below(3));
  const u8 reg = static_cast<u8>(reg_field << 3);
  const bool vsib = row.has(kVsib);
  const auto displacement = [&](unsigned size) {
    const u64 value = random.chance(50) ? random.below(64) : random.next();
    return static_cast<i64>(value << (64 - 8 * size)) >> (64 - 8 * size);
  };
  if (address_size == 2) {
    constexpr u8 bases[] = {kRbx, kRbx, kRbp, kRbp, kRsi, kRdi, kRbp, kRbx};
    constexpr u8 indices[] = {kRsi, kRdi, kRsi, kRdi, 16, 16, 16, 16};
    const u8 rm = static_cast<u8>(random.below(8));
    tail.push_back(static_cast<u8>(mod << 6 | reg | rm));
    if (mod == 0 && rm == 6) {
      immediate(tail, 2, target);
      return;
    }
    i64 disp = mod == 0 ? 0 : displacement(mod);
    u64 index_value = 0;
    const auto pin16 = [&](unsigned number, u64 value) {
      if (is_pinned(number)) return;
      pin(number, (random.next() & 0xffff0000) | (value & 0xffff));
    };
    if (indices[rm] != 16) {
      if (!is_pinned(indices[rm])) pin16(indices[rm], random.below(0x200));
      index_value = test.overrides[indices[rm]];
    }
    if (is_pinned(bases[rm]) && mod == 2)
      disp = static_cast<i16>(target - test.overrides[bases[rm]] - index_value);
    else
      pin16(bases[rm], target - index_value - static_cast<u64>(disp));
    if (mod) immediate(tail, mod, static_cast<u64>(disp));
    return;
  }

  const u64 mask = address_size == 4 ? 0xffffffff : ~u64{0};
  u8 rm = static_cast<u8>(random.below(8));
  if (random.chance(20) || vsib) rm = 4;
  tail.push_back(static_cast<u8>(mod << 6 | reg | rm));
  u64 sum = 0;
  u8 base = rm;
  if (rm == 4) {
    base = static_cast<u8>(random.below(8));
    u8 index = static_cast<u8>(random.below(8));
    const u8 scale = static_cast<u8>(random.below(4));
    const unsigned number = index | (rex & 2 ? 8u : 0u), base_number = base | (rex & 1 ? 8u : 0u);
    if (!vsib && number == base_number && random.chance(90)) {
      index = 4;
      rex &= 0xfd;
    }
    tail.push_back(static_cast<u8>(scale << 6 | index << 3 | base));
    const unsigned used = index | (rex & 2 ? 8u : 0u);
    if (vsib) {
      const bool quadwords = (row.opcode & 1) != 0;  // 91, 93: VPGATHERQD and its kin
      test.index_register = static_cast<u8>(used);
      test.index_size = quadwords ? 8 : 4;
    } else if (used != 4) {
      if (!is_pinned(used))
        pin(used, random.chance(70) ? random.below(0x100) : bits64() ? random.next() : random.next() & 0xffffffff);
      sum = test.overrides[used] << scale;
    }
  }
  if (base == 5 && mod == 0) {
    if (rm == 5 && bits64()) {
      encoding.rip_displacement = static_cast<int>(tail.size());
      encoding.rip_target = target;
      immediate(tail, 4, 0);
    } else {
      immediate(tail, 4, (target - sum) & mask);
    }
    return;
  }
  const unsigned number = base | (rex & 1 ? 8u : 0u);
  const unsigned size = mod == 1 ? 1 : 4;
  i64 disp = mod == 0 ? 0 : displacement(size);
  if (is_pinned(number)) {
    if (mod == 2) disp = static_cast<i32>((target - sum - test.overrides[number]) & mask);
  } else {
    u64 value = (target - sum - static_cast<u64>(disp)) & mask;
    if (address_size == 4 && bits64()) value |= random.next() << 32;
    if (number == kRsp && !bits64()) value &= 0xffffffff;
    pin(number, value);
  }
  if (mod) immediate(tail, size, static_cast<u64>(disp));
}

bool Generator::Builder::add_instruction(u16 index) {
  const RowSpec& row = opcode_rows()[index];
  const bool string = is_string(row);
  const std::string_view mnemonic = row.mnemonic;
  const u16 pinned_before = pinned;
  const TestCase before = test;
  Encoding encoding;
  std::vector<u8> prefixes;

  // Choices that everything else depends on.
  const bool sized = !row.vex && row.prefix != PrefixRule::None && !(bits64() && row.has(kForce64));
  const bool operand_prefix = row.prefix == PrefixRule::P66 || (sized && random.chance(20));
  const bool address_prefix = random.chance(has_operand(row, OperandKind::AbsoluteOffset) ? 2 : 8);
  const bool bits16 = test.environment == Environment::Segmented16;
  const unsigned address_size = bits64() ? (address_prefix ? 4 : 8) : bits16 != address_prefix ? 2 : 4;
  bool memory = row.has_modrm && row.modrm_rule != ModrmRule::Register &&
                (row.modrm_rule == ModrmRule::Memory || random.chance(45));
  const bool absolute = has_operand(row, OperandKind::AbsoluteOffset);
  u8 segment = 0;
  if (random.chance(memory || absolute || string ? 12 : 3)) {
    constexpr u8 choices64[] = {0x65, 0x65, 0x3e, 0x2e}, choices32[] = {0x26, 0x26, 0x2e, 0x36, 0x3e};
    segment = bits64() ? choices64[random.below(4)] : choices32[random.below(5)];
  }
  bool repeat = false;
  if (!row.vex) {
    if (operand_prefix) prefixes.push_back(0x66);
    if (row.prefix == PrefixRule::PF3) prefixes.push_back(0xf3);
    if (row.prefix == PrefixRule::PF2) prefixes.push_back(0xf2);
    if ((row.has(kRep) || row.has(kRepe)) && random.chance(60)) {
      prefixes.push_back(random.chance(60) ? 0xf3 : 0xf2);
      repeat = true;
    }
    if (row.has(kLock) ? memory && random.chance(25) : random.chance(1)) prefixes.push_back(0xf0);
  }
  if (address_prefix) prefixes.push_back(0x67);
  if (segment) prefixes.push_back(segment);
  for (usize i = prefixes.size(); i > 1; --i) std::swap(prefixes[i - 1], prefixes[random.below(static_cast<u32>(i))]);

  u8 rex = 0;
  if (bits64()) {
    if (random.chance(60)) rex = static_cast<u8>(0x40 | random.below(16));
    if (row.rex_w == 1) rex |= 0x48;
    if (row.rex_w == 0) rex &= 0xf7;
    if (row.rex_b_clear) rex &= 0xfe;
  } else if (row.rex_w == 1 && !row.vex) {
    return false;
  }

  const auto width_of = [&](OperandWidth width) -> unsigned {
    const unsigned operand_size = bits64()                                                      ? ((rex & 8)                                         ? 8
                                                                                                   : row.has(kForce64)                               ? 8
                                                                                                   : operand_prefix && row.prefix != PrefixRule::P66 ? 2
                                                                                                   : row.has(kDefault64)                             ? 8
                                                                                                                                                     : 4)
                                  : bits16 != (operand_prefix && row.prefix != PrefixRule::P66) ? 2
                                                                                                : 4;
    switch (width) {
      case OperandWidth::B:
      case OperandWidth::SignedB:
        return 1;
      case OperandWidth::W:
        return 2;
      case OperandWidth::D:
        return 4;
      case OperandWidth::V:
        return operand_size;
      default:
        return operand_size == 2 ? 2 : 4;
    }
  };

  // What instructions use without naming it.
  const bool stack = mnemonic == "push" || mnemonic == "pop" || mnemonic == "call" || mnemonic == "ret" ||
                     mnemonic == "enter" || mnemonic == "leave" || mnemonic == "pusha" || mnemonic == "popa";
  if (!is_pinned(kRsp)) {
    u64 value = data_address(stack ? data_offset(50) : 0x800 + 8 * random.below(0x100));
    if (bits16) value = (value & 0xffff) | (random.next() & 0xffff0000);
    pin(kRsp, value);
  }
  if ((mnemonic == "leave" || mnemonic == "enter") && !is_pinned(kRbp))
    pin(kRbp, data_address(data_offset(50)) | (bits16 ? random.next() & 0xffff0000 : 0));
  if (string) {
    for (const bool destination : {false, true}) {
      const unsigned number = destination ? kRdi : kRsi;
      const bool es = destination || segment == 0x26;
      u64 value = data_address(data_offset(30), es) - (!destination && segment == 0x65 && bits64() ? kGsBase : 0);
      if (address_size == 2) value = (value & 0xffff) | (random.next() & 0xffff0000);
      if (address_size == 4 && bits64()) value = static_cast<u32>(value) | random.next() << 32;
      if (!is_pinned(number)) pin(number, value);
    }
    if (repeat && !is_pinned(kRcx)) {
      u64 count = random.below(random.chance(80) ? 12 : 300);
      if (address_size == 2) count |= random.next() & 0xffff0000;
      if (address_size == 4 && bits64()) count |= random.next() << 32;
      pin(kRcx, count);
    }
  }
  if ((mnemonic.starts_with("maskmov") || mnemonic == "vmaskmovdqu") && !is_pinned(kRdi))
    pin(kRdi, data_address(data_offset(0)) - (segment == 0x65 && bits64() ? kGsBase : 0));
  if (row.has(kVsib) && test.index_size) return false;
  if (mnemonic == "xlat" && !is_pinned(kRbx))
    pin(kRbx, data_address(data_offset(0)) - (segment == 0x65 && bits64() ? kGsBase : 0));
  if ((mnemonic.starts_with("loop") || mnemonic == "jcxz") && random.chance(60) && !is_pinned(kRcx))
    pin(kRcx, random.below(3));
  const bool small_count = std::ranges::find(options.small_counts, mnemonic) != options.small_counts.end();
  if (small_count && width_of(OperandWidth::V) == 2 && has_operand(row, OperandKind::FixedCl)) {
    if (is_pinned(kRcx) || !test.code.empty()) return false;
    pin(kRcx, (random.next() & 0xffffffe0) | random.below(16));
  }
  if ((mnemonic == "div" || mnemonic == "idiv") && random.chance(70) && !is_pinned(kRdx)) {
    pin(kRdx, random.chance(50) ? 0 : visible(test.environment, ~u64{0}));
    if (random.chance(50) && !is_pinned(kRax)) pin(kRax, random.below(0x10000));
  }

  // The opcode and what follows it.
  std::vector<u8> tail;
  u8 reg_field = row.reg >= 0 ? static_cast<u8>(row.reg) : static_cast<u8>(random.below(8));
  if (row.has_modrm) {
    if (row.rm >= 0 || !memory) {
      const u8 rm = row.rm >= 0 ? static_cast<u8>(row.rm) : static_cast<u8>(random.below(8));
      tail.push_back(static_cast<u8>(0xc0 | reg_field << 3 | rm));
    } else {
      const bool bit_string = mnemonic.starts_with("bt") && !has_operand(row, OperandKind::Immediate);
      if (bit_string && random.chance(85)) {
        const unsigned number = reg_field | (rex & 4 ? 8u : 0u);
        if (!is_pinned(number))
          pin(number, visible(test.environment, static_cast<u64>(static_cast<i64>(random.below(0x4000)) - 0x2000)));
      }
      memory_operand(row, encoding, rex, reg_field, address_size, segment == 0x65, segment == 0x26, tail);
    }
  }
  if (absolute)
    immediate(tail, address_size,
              data_address(data_offset(30), segment == 0x26) - (segment == 0x65 && bits64() ? kGsBase : 0));

  std::vector<u8>& bytes = encoding.bytes;
  bytes = prefixes;
  const u8 opcode = static_cast<u8>(row.opcode + (row.register_in_opcode ? random.below(8) : 0));
  if (row.vex) {
    const bool uses_vvvv = has_operand(row, OperandKind::GprVvvv) || has_operand(row, OperandKind::XmmVvvv);
    const u8 vvvv = uses_vvvv ? static_cast<u8>(random.below(bits64() ? 16 : 8)) : 0;
    const bool only_w0 = std::ranges::find(options.w0_outside_64, mnemonic) != options.w0_outside_64.end();
    const u8 w = row.rex_w == 1 || (row.rex_w < 0 && (bits64() ? (rex & 8) != 0 : !only_w0 && random.chance(10))) ? 1 : 0;
    const u8 l = row.vex_l >= 0 ? static_cast<u8>(row.vex_l) : static_cast<u8>(random.below(2));
    const u8 pp = row.prefix == PrefixRule::P66   ? 1
                  : row.prefix == PrefixRule::PF3 ? 2
                  : row.prefix == PrefixRule::PF2 ? 3
                                                  : 0;
    const u8 last_byte = static_cast<u8>((~vvvv & 15) << 3 | l << 2 | pp);
    const u8 map = row.map == OpcodeMap::Vex0F ? 1 : row.map == OpcodeMap::Vex0F38 ? 2 : 3;
    if (map == 1 && w == 0 && (rex & 3) == 0 && random.chance(70)) {
      bytes.insert(bytes.end(), {0xc5, static_cast<u8>((rex & 4 ? 0 : 0x80) | last_byte)});
    } else {
      const u8 first = static_cast<u8>((rex & 4 ? 0 : 0x80) | (rex & 2 ? 0 : 0x40) | (rex & 1 ? 0 : 0x20) | map);
      bytes.insert(bytes.end(), {0xc4, first, static_cast<u8>(w << 7 | last_byte)});
    }
  } else {
    if (rex) bytes.push_back(rex);
    if (row.map != OpcodeMap::OneByte) bytes.push_back(0x0f);
    if (row.map == OpcodeMap::ThreeByte38) bytes.push_back(0x38);
    if (row.map == OpcodeMap::ThreeByte3A) bytes.push_back(0x3a);
  }
  bytes.push_back(opcode);
  const usize tail_position = bytes.size();
  bytes.insert(bytes.end(), tail.begin(), tail.end());

  int relative_position = -1;
  unsigned relative_size = 0;
  for (const OperandSpec& operand : row.operands) {
    if (operand.kind == OperandKind::Immediate) {
      u64 value = random_immediate();
      if (mnemonic == "enter")
        value = operand.width == OperandWidth::W ? random.below(random.chance(80) ? 0x100 : 0x10000)
                : random.chance(80)              ? random.below(5)
                                                 : random.next();
      if (small_count && width_of(OperandWidth::V) == 2) value = random.below(16);
      if (mnemonic == "ret") value = random.chance(80) ? random.below(64) : random.next();
      const unsigned size = operand.width == OperandWidth::V ? width_of(OperandWidth::V) : width_of(operand.width);
      immediate(bytes, size, value);
    } else if (operand.kind == OperandKind::XmmInImmediate) {
      immediate(bytes, 1, random.next());
    } else if (operand.kind == OperandKind::Relative) {
      relative_position = static_cast<int>(bytes.size());
      relative_size = operand.width == OperandWidth::B ? 1 : width_of(OperandWidth::Z);
      immediate(bytes, relative_size, 0);
    } else if (operand.kind == OperandKind::FarPointer) {
      return false;
    }
  }
  if (bytes.size() > kMaxInsnLength) {
    test = before;
    pinned = pinned_before;
    return false;
  }

  const u64 start_offset = test.code_offset + test.code.size();
  const u64 code_base = flat(test.environment) ? kCodeBase : 0;
  const u64 next_rip = code_base + start_offset + bytes.size();
  if (encoding.rip_displacement >= 0) {
    const u64 value = encoding.rip_target - next_rip;
    for (unsigned i = 0; i < 4; ++i)
      bytes[tail_position + static_cast<unsigned>(encoding.rip_displacement) + i] = static_cast<u8>(value >> (8 * i));
  }
  // Branches leave the case's own bytes: into the filler, or far away.
  const auto inside = [&](u64 offset) {
    return offset + 16 > test.code_offset && offset < start_offset + bytes.size() + 2;
  };
  const auto branch_target = [&] {
    u64 offset;
    do offset = random.below(static_cast<u32>(kCodeSize));
    while (inside(offset));
    return code_base + offset;
  };
  if (relative_position >= 0) {
    u64 displacement;
    do {
      if (relative_size == 1)
        displacement = static_cast<u64>(static_cast<i64>(static_cast<i8>(random.next())));
      else if (random.chance(80))
        displacement = branch_target() - next_rip;
      else
        displacement = random.next();
    } while (inside((next_rip + displacement - code_base) & 0xffff));
    for (unsigned i = 0; i < relative_size; ++i)
      bytes[static_cast<unsigned>(relative_position) + i] = static_cast<u8>(displacement >> (8 * i));
  }

  // The decoder must agree that this is the row; otherwise another row's encoding was hit.
  std::vector<u8> padded = bytes;
  padded.resize(bytes.size() + kMaxInsnLength, kFiller);
  Insn insn;
  const CodeSize code_size = bits64() ? CodeSize::Bits64 : bits16 ? CodeSize::Bits16 : CodeSize::Bits32;
  const DecodeStatus status = decoder.decode(padded, code_size, false, insn);
  const bool lock_refused = status == DecodeStatus::Invalid && std::ranges::find(prefixes, 0xf0) != prefixes.end();
  if (!lock_refused && (status != DecodeStatus::Ok || insn.row != index || insn.length != bytes.size())) {
    test = before;
    pinned = pinned_before;
    return false;
  }

  if (status == DecodeStatus::Ok) {
    // An indirect branch's destination, and the other memory operands' bytes, mostly sensible.
    const bool indirect = is_branch(index) && relative_position < 0;
    const auto patch_at = [&](u64 address, u64 value, unsigned size, u64 base) {
      const u64 offset = address + base - kDataBase;
      if (offset >= kDataSize || offset + size > kDataSize || !test.patch.empty()) return;
      test.patch_offset = static_cast<u16>(offset);
      for (unsigned i = 0; i < size; ++i) test.patch.push_back(static_cast<u8>(value >> (8 * i)));
    };
    if (indirect) {
      const u64 target = random.chance(85)   ? branch_target()
                         : random.chance(50) ? 0x00800000 + random.below(0x1000)
                                             : u64{1} << 47 | random.next() << 48;
      if (mnemonic == "ret") {
        const u64 top = bits16 ? test.overrides[kRsp] & 0xffff : test.overrides[kRsp];
        patch_at(top, target, insn.operand_size, flat(test.environment) ? 0 : kSsSegment.base);
      } else if (insn.memory) {
        u64 address = static_cast<u64>(insn.displacement);
        const auto reg_value = [&](u8 slot) { return slot < 16 && is_pinned(slot) ? test.overrides[slot] : 0; };
        if (insn.base == kCodeBaseSlot)
          address += next_rip;
        else
          address += reg_value(insn.base) + (reg_value(insn.index) << insn.scale);
        if (insn.address_size < 8) address &= insn.address_size == 4 ? 0xffffffff : 0xffff;
        u64 base = 0;
        if (!flat(test.environment)) base = insn.segment == kEs ? kEsSegment.base : kDsSegment.base;
        if (bits64() && insn.segment == kGs) base = kGsBase;
        patch_at(address, target, insn.operand_size, base);
      } else if (!is_pinned(insn.rm)) {
        pin(insn.rm, visible(test.environment, target));
      }
    }
    if (mnemonic == "cmpxchg" && random.chance(50) && !insn.memory && !is_pinned(kRax) && !is_pinned(insn.rm)) {
      const u64 value = visible(test.environment, random_immediate());
      pin(kRax, value);
      if (!is_pinned(insn.rm)) pin(insn.rm, value);
    }
    if (mnemonic.starts_with("cmpxchg") && insn.memory && random.chance(60) && insn.base < 16 && test.patch.empty() &&
        insn.index == kZeroSlot && is_pinned(insn.base) && flat(test.environment) && insn.segment != kGs) {
      u64 address = test.overrides[insn.base] + static_cast<u64>(insn.displacement);
      if (insn.address_size == 4) address = static_cast<u32>(address);
      const u64 low = random_immediate(), high = random_immediate();
      const u64 offset = address - kDataBase;
      if (offset < kDataSize && offset + 16 <= kDataSize && !is_pinned(kRax) && !is_pinned(kRdx)) {
        test.patch_offset = static_cast<u16>(offset);
        const bool pair = mnemonic == "cmpxchg8b";
        immediate(test.patch, pair ? 4 : 8, low);
        immediate(test.patch, pair ? 4 : 8, high);
        pin(kRax, visible(test.environment, low));
        pin(kRdx, visible(test.environment, high));
      }
    }
  }
  test.code.insert(test.code.end(), bytes.begin(), bytes.end());
  return true;
}

TestCase Generator::make_one(u64 seed, u16 row, Environment environment, u16 code_offset) {
  Builder builder{Random(seed), m_decoder, m_options, {}, 0};
  builder.test.environment = environment;
  builder.test.code_offset = code_offset;
  builder.add_instruction(row);
  return builder.test;
}

TestCase Generator::make(u64 seed, u16& row) {
  Builder builder{Random(seed), m_decoder, m_options, {}, 0};
  Random& random = builder.random;
  while (true) {
    builder.test = {};
    builder.pinned = 0;
    TestCase& test = builder.test;
    row = m_options.rows[random.below(static_cast<u32>(m_options.rows.size()))];
    test.environment = m_options.environments[random.below(static_cast<u32>(m_options.environments.size()))];
    const RowSpec& spec = opcode_rows()[row];
    if (spec.has(kNo64) && test.environment == Environment::Long64) continue;
    if (spec.has(kOnly64) && test.environment != Environment::Long64) continue;
    test.state_seed = random.next() >> 16;
    test.memory_seed = m_options.memory_seed;
    test.rflags = 0x202 | (static_cast<u32>(random.next()) & (kArithmeticFlags | (random.chance(30) ? u32{kDf} : 0u)));
    test.code_offset = static_cast<u16>(0x400 + random.below(0x800));
    if (random.chance(5)) test.code_offset = static_cast<u16>(0x1000 - random.below(16));
    // A quarter of the cases are short sequences, so that blocks, dead flags and fused conditions are met.
    const unsigned before = random.chance(25) ? 1 + random.below(3) : 0;
    for (unsigned i = 0; i < before; ++i) {
      const u16 other = m_options.rows[random.below(static_cast<u32>(m_options.rows.size()))];
      const RowSpec& other_spec = opcode_rows()[other];
      if (is_branch(other) || std::ranges::find(m_options.last_only, other) != m_options.last_only.end() ||
          (other_spec.has(kNo64) && test.environment == Environment::Long64) ||
          (other_spec.has(kOnly64) && test.environment != Environment::Long64))
        continue;
      builder.add_instruction(other);
    }
    for (unsigned attempt = 0; attempt < 20; ++attempt)
      if (builder.add_instruction(row)) return test;
  }
}

}  // namespace vellum::instructions
