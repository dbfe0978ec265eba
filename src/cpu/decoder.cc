// Decoding: prefixes, opcode, ModRM, displacement, immediates, SDM Vol. 2A chapter 2.
#include "cpu/decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/opcodes.h"
#include "state/assert.h"

namespace vellum {

namespace {

enum PrefixSlot : unsigned { kSlotNone, kSlot66, kSlotF3, kSlotF2 };

int specificity(const RowSpec& row) {
  return (row.rex_b_clear || row.rm >= 0 ? 8 : 0) + (row.prefix != PrefixRule::Any ? 4 : 0) + (row.rex_w >= 0 ? 2 : 0) +
         (row.reg >= 0 ? 1 : 0);
}

bool prefix_allowed(PrefixRule rule, unsigned slot) {
  switch (rule) {
    case PrefixRule::Any: return true;
    case PrefixRule::None: return slot == kSlotNone;
    case PrefixRule::P66: return slot == kSlot66;
    case PrefixRule::PF3: return slot == kSlotF3;
    case PrefixRule::PF2: return slot == kSlotF2;
    case PrefixRule::NoF: return slot == kSlotNone || slot == kSlot66;
  }
  __builtin_unreachable();
}

bool uses_vvvv(const RowSpec& row) {
  for (const OperandSpec& operand : row.operands)
    if (operand.kind == OperandKind::GprVvvv || operand.kind == OperandKind::XmmVvvv) return true;
  return false;
}

// What decoding asks of a row beside its operands.
enum Trait : u16 {
  kTraitRexBClear = 1, kTraitVvvv = 2, kTraitModrm = 4, kTraitOpcodeRegister = 8, kTraitForce64 = 16, kTraitDefault64 = 32,
  kTraitMandatory66 = 64, kTraitVsib = 128, kTraitLockable = 256, kTraitNoReal = 512,
};

// Immediates and the like behind ModRM: none, or one number of so many bytes, or whatever the operands say.
enum class Immediate : u8 { None, Byte, SignedByte, Word, Dword, OperandSize, WordOrDword, Several };

Immediate immediate_of(OperandSpec operand) {
  switch (operand.kind) {
    case OperandKind::Immediate:
    case OperandKind::Relative:
      switch (operand.width) {
        case OperandWidth::B: return operand.kind == OperandKind::Relative ? Immediate::SignedByte : Immediate::Byte;
        case OperandWidth::SignedB: return Immediate::SignedByte;
        case OperandWidth::W: return Immediate::Word;
        case OperandWidth::D: return Immediate::Dword;
        case OperandWidth::V: return Immediate::OperandSize;
        default: return Immediate::WordOrDword;
      }
    case OperandKind::AbsoluteOffset:
    case OperandKind::FarPointer:
    case OperandKind::XmmInImmediate: return Immediate::Several;
    default: return Immediate::None;
  }
}

Immediate immediate_of(const RowSpec& row) {
  Immediate found = Immediate::None;
  for (const OperandSpec& operand : row.operands) {
    const Immediate one = immediate_of(operand);
    if (one == Immediate::None) continue;
    if (found != Immediate::None) return Immediate::Several;
    found = one;
  }
  return found;
}

// Reads bytes until the end of what is given, or the architectural limit; behind it are zeroes.
class Reader {
 public:
  explicit Reader(std::span<const u8> bytes) : m_bytes(bytes.data()), m_readable(bytes.size()), m_size(std::min<usize>(bytes.size(), kMaxInsnLength)) {}

  usize position() const { return m_position; }
  bool overrun() const { return m_position > m_size; }
  u8 byte() {
    const u8 value = peek();
    ++m_position;
    return value;
  }
  u8 peek() const { return m_position < m_size ? m_bytes[m_position] : 0; }
  void skip(unsigned size) { m_position += size; }
  void back() { --m_position; }
  u64 little_endian(unsigned size) {
    const u64 value = ahead() & ~u64{0} >> (64 - 8 * size);
    m_position += size;
    return value;
  }
  i64 sign_extended(unsigned size) {
    const unsigned shift = 64 - 8 * size;
    return static_cast<i64>(little_endian(size) << shift) >> shift;
  }
  // The next eight bytes, without going on.
  u64 ahead() const {
    u64 value = 0;
    if (m_position + sizeof(value) <= m_readable) [[likely]] std::memcpy(&value, m_bytes + m_position, sizeof(value));
    else if (m_position < m_readable) std::memcpy(&value, m_bytes + m_position, m_readable - m_position);
    return value;
  }

 private:
  const u8* m_bytes;
  usize m_readable, m_size, m_position = 0;
};

// 16-bit addressing forms, SDM Vol. 2A table 2-1.
constexpr u8 kBase16[] = {kRbx, kRbx, kRbp, kRbp, kRsi, kRdi, kRbp, kRbx};
constexpr u8 kIndex16[] = {kRsi, kRdi, kRsi, kRdi, kZeroSlot, kZeroSlot, kZeroSlot, kZeroSlot};

void decode_memory(Reader& reader, Insn& insn, u8 rex, bool segment_override, bool bits64, bool vsib) {
  const u8 mod = insn.modrm >> 6, rm = insn.modrm & 7;
  insn.memory = true;
  u8 default_segment = kDs;
  if (insn.address_size == 2) {
    insn.base = kBase16[rm];
    insn.index = kIndex16[rm];
    if (mod == 0 && rm == 6) {
      insn.base = kZeroSlot;
      insn.displacement = static_cast<i64>(reader.little_endian(2));
    } else {
      if (insn.base == kRbp) default_segment = kSs;
      if (mod == 1) insn.displacement = reader.sign_extended(1);
      if (mod == 2) insn.displacement = reader.sign_extended(2);
    }
  } else {
    u8 base = rm;
    bool base_extended = rex & 1;
    if (rm == 4) {
      const u8 sib = reader.byte();
      base = sib & 7;
      const u8 index = static_cast<u8>(((sib >> 3) & 7) | ((rex & 2) ? 8 : 0));
      if (vsib) {
        insn.vector_index = index;
        insn.scale = sib >> 6;
      } else if (index != 4) {
        insn.index = index;
        insn.scale = sib >> 6;
      }
    }
    const u32 ahead = static_cast<u32>(reader.ahead());
    if (base == 5 && mod == 0) {
      insn.base = (rm == 5 && bits64) ? kCodeBaseSlot : kZeroSlot;
      insn.displacement = static_cast<i32>(ahead);
      reader.skip(4);
    } else {
      insn.base = static_cast<u8>(base | (base_extended ? 8 : 0));
      if (insn.base == kRsp || insn.base == kRbp) default_segment = kSs;
      insn.displacement = mod == 0 ? 0 : mod == 1 ? static_cast<i8>(ahead) : static_cast<i32>(ahead);
      reader.skip(mod == 2 ? 4 : mod);
    }
  }
  if (!segment_override) insn.segment = default_segment;
}

i64 read_immediate(Reader& reader, Immediate kind, unsigned operand_size) {
  switch (kind) {
    case Immediate::Byte: return reader.byte();
    case Immediate::SignedByte: return reader.sign_extended(1);
    case Immediate::Word: return static_cast<i64>(reader.little_endian(2));
    case Immediate::Dword: return reader.sign_extended(4);
    case Immediate::OperandSize: return reader.sign_extended(operand_size);
    default: return reader.sign_extended(operand_size == 2 ? 2 : 4);
  }
}

// All immediates of a row that has several, or one of a rare kind.
void decode_immediates(Reader& reader, Insn& insn, bool bits64) {
  bool first = true;
  for (const OperandSpec& operand : opcode_rows()[insn.row].operands) {
    switch (operand.kind) {
      case OperandKind::Immediate:
      case OperandKind::Relative: {
        const i64 value = read_immediate(reader, immediate_of(operand), insn.operand_size);
        if (first) insn.immediate = value;
        else insn.immediate2 = static_cast<u16>(value);
        first = false;
        break;
      }
      case OperandKind::AbsoluteOffset:
        insn.memory = true;
        insn.displacement = static_cast<i64>(reader.little_endian(insn.address_size));
        break;
      case OperandKind::FarPointer:
        insn.immediate = static_cast<i64>(reader.little_endian(insn.operand_size == 2 ? 2 : 4));
        insn.immediate2 = static_cast<u16>(reader.little_endian(2));
        break;
      case OperandKind::XmmInImmediate:
        insn.immediate = static_cast<i64>(reader.little_endian(1) & (bits64 ? 0xff : 0x7f));
        break;
      default:
        break;
    }
  }
}

// Of legacy prefixes, and REX.
bool is_prefix(u8 byte, bool bits64) {
  enum : u8 { kLegacy = 1, kRexPrefix = 2 };
  static constexpr auto kKinds = [] {
    std::array<u8, 256> kinds{};
    for (const u8 prefix : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3}) kinds[prefix] = kLegacy;
    for (unsigned prefix = 0x40; prefix < 0x50; ++prefix) kinds[prefix] = kRexPrefix;
    return kinds;
  }();
  return kKinds[byte] & (bits64 ? kLegacy | kRexPrefix : kLegacy);
}

}  // namespace

Decoder::Decoder(const CpuModel& model) : m_lists(1), m_candidates{{kNoRow, 0, -1, -1, -1, 0}} {
  std::vector<std::vector<u16>> rows_of(kOpcodes);
  const auto rows = opcode_rows();
  for (usize i = 0; i < rows.size(); ++i) {
    const RowSpec& row = rows[i];
    if (!model.has(row.feature) && row.feature != Feature::Base && !row.has(kHintNop)) continue;
    for (unsigned o = 0; o < (row.register_in_opcode ? 8 : 1); ++o)
      rows_of[static_cast<usize>(row.map) * 256 + static_cast<u8>(row.opcode + o)].push_back(static_cast<u16>(i));
  }
  for (usize opcode = 0; opcode < kOpcodes; ++opcode) {
    if (rows_of[opcode].empty()) continue;
    const bool has_modrm = std::ranges::any_of(rows_of[opcode], [&](u16 row) { return rows[row].has_modrm; });
    for (const bool bits64 : {false, true}) {
      m_opcodes[bits64][opcode].has_modrm = has_modrm;
      enter(m_opcodes[bits64][opcode], bits64, rows_of[opcode]);
    }
  }
}

// Makes the lists of an opcode from the rows that begin with it.
void Decoder::enter(Opcode& opcode, bool bits64, std::span<const u16> rows) {
  constexpr unsigned kPrefixes = 4, kForms = 2, kRegs = 8;
  u16 lists[kPrefixes][kForms][kRegs];
  const usize first = m_candidates.size();
  std::vector<u16> chosen;
  bool by_prefix = false, by_form = false, by_reg = false;
  for (unsigned prefix = 0; prefix < kPrefixes; ++prefix) {
    for (unsigned form = 0; form < kForms; ++form) {
      for (unsigned reg = 0; reg < kRegs; ++reg) {
        chosen.clear();
        for (const u16 number : rows) {
          const RowSpec& row = opcode_rows()[number];
          if (row.has(bits64 ? kNo64 : kOnly64) || !prefix_allowed(row.prefix, prefix) || row.modrm_rule == (form ? ModrmRule::Memory : ModrmRule::Register) ||
              (row.reg >= 0 && static_cast<unsigned>(row.reg) != reg))
            continue;
          const auto place = std::ranges::find_if(chosen, [&](u16 other) { return specificity(opcode_rows()[other]) < specificity(row); });
          chosen.insert(place, number);
        }
        const u16 list = lists[prefix][form][reg] = list_of(chosen, first);
        by_prefix |= list != lists[0][form][reg];
        by_form |= list != lists[prefix][0][reg];
        by_reg |= list != lists[prefix][form][0];
      }
    }
  }
  const unsigned prefixes = by_prefix ? kPrefixes : 1, forms = by_form ? kForms : 1, regs = by_reg ? kRegs : 1;
  opcode.by_reg = by_reg;
  opcode.by_form = static_cast<u8>(by_form ? regs : 0);
  opcode.by_prefix = static_cast<u8>(by_prefix ? regs * forms : 0);
  VELLUM_ASSERT(m_lists.size() + prefixes * forms * regs <= 0xffff);
  opcode.first = static_cast<u16>(m_lists.size());
  for (unsigned prefix = 0; prefix < prefixes; ++prefix)
    for (unsigned form = 0; form < forms; ++form) m_lists.insert(m_lists.end(), lists[prefix][form], lists[prefix][form] + regs);
}

// The list of these rows; those from `first` on may have it already.
u16 Decoder::list_of(std::span<const u16> rows, usize first) {
  if (rows.empty()) return 0;
  for (usize at = first; at < m_candidates.size();) {
    usize end = at;
    while (m_candidates[end].row != kNoRow) ++end;
    if (std::ranges::equal(std::span(m_candidates).subspan(at, end - at), rows, {}, &Candidate::row)) return static_cast<u16>(at);
    at = end + 1;
  }
  const usize list = m_candidates.size();
  for (const u16 number : rows) {
    const RowSpec& row = opcode_rows()[number];
    const std::pair<bool, Trait> traits[] = {
        {row.rex_b_clear, kTraitRexBClear}, {uses_vvvv(row), kTraitVvvv}, {row.has_modrm, kTraitModrm},
        {row.register_in_opcode, kTraitOpcodeRegister}, {row.has(kForce64), kTraitForce64}, {row.has(kDefault64), kTraitDefault64},
        {row.prefix == PrefixRule::P66, kTraitMandatory66}, {row.has(kVsib), kTraitVsib}, {row.has(kLock), kTraitLockable}, {row.has(kNoReal), kTraitNoReal}};
    Candidate candidate{number, 0, row.rm, row.rex_w, row.vex_l, static_cast<u8>(immediate_of(row))};
    for (const auto& [has, trait] : traits) candidate.traits = static_cast<u16>(candidate.traits | (has ? trait : 0));
    m_candidates.push_back(candidate);
  }
  m_candidates.push_back(m_candidates[0]);
  VELLUM_ASSERT(m_candidates.size() <= 0xffff);
  return static_cast<u16>(list);
}

DecodeStatus Decoder::decode(std::span<const u8> bytes, CodeSize code_size, bool real_mode, Insn& insn) const {
  insn = Insn{};
  const bool bits64 = code_size == CodeSize::Bits64;
  Reader reader(bytes);
  const auto short_status = [&] {
    return reader.position() > kMaxInsnLength ? DecodeStatus::TooLong : DecodeStatus::NeedMore;
  };

  u8 rex = 0;
  bool segment_override = false, operand_prefix = false, address_prefix = false;
  unsigned repeat_slot = 0;
  u8 opcode;
  while (true) {
    // A REX that is not the last prefix is ignored. Whether there is one is hard to foretell: no branch depends on it.
    opcode = reader.byte();
    const bool has_rex = bits64 & ((opcode & 0xf0) == 0x40);
    rex = has_rex ? opcode : u8{0};
    const u8 next = reader.peek();
    opcode = has_rex ? next : opcode;
    reader.skip(has_rex);
    if (reader.overrun()) return short_status();
    if (!is_prefix(opcode, bits64)) [[likely]] break;
    if (bits64 && (opcode & 0xf0) == 0x40) {
      reader.back();
      continue;
    }
    switch (opcode) {
      case 0x26: case 0x2e: case 0x36: case 0x3e:
        // ES, CS, SS, DS overrides do nothing in 64-bit mode, SDM Vol. 2A 2.1.1; they also leave FS or GS in force.
        if (!bits64) {
          insn.segment = static_cast<u8>((opcode >> 3) & 3);
          segment_override = true;
        }
        break;
      case 0x64: case 0x65:
        insn.segment = static_cast<u8>(opcode - 0x64 + kFs);
        segment_override = true;
        break;
      case 0x66: operand_prefix = true; break;
      case 0x67: address_prefix = true; break;
      case 0xf0: insn.prefixes |= kPrefixLock; break;
      case 0xf2: repeat_slot = kSlotF2; insn.prefixes = static_cast<u8>((insn.prefixes & ~kPrefixRep) | kPrefixRepne); break;
      default: repeat_slot = kSlotF3; insn.prefixes = static_cast<u8>((insn.prefixes & ~kPrefixRepne) | kPrefixRep); break;
    }
  }
  if (operand_prefix) insn.prefixes |= kPrefixOperandSize;
  if (segment_override) insn.prefixes |= kPrefixSegment;
  if (rex) insn.prefixes |= kPrefixRex;
  if (rex & 8) insn.prefixes |= kPrefixRexW;

  OpcodeMap map = OpcodeMap::OneByte;
  bool vex = false, vex_l = false;
  unsigned vex_prefix = 0;
  if (opcode == 0xc4 || opcode == 0xc5) {
    // Outside 64-bit mode these are LES and LDS, unless the next byte would be a ModRM byte that names a register; real
    // and virtual-8086 mode have no VEX. SDM Vol. 2A 2.3.5.
    const u8 behind = reader.byte();
    if (reader.overrun()) return short_status();
    reader.back();
    vex = bits64 || (behind >= 0xc0 && !real_mode);
  }
  if (vex) {
    // SDM Vol. 2A 2.3.2 to 2.3.5: no LOCK, 66, F3, F2 or REX before it; R, X, B, vvvv are inverted.
    const u8 first = reader.byte();
    u8 second = first;
    map = OpcodeMap::Vex0F;
    unsigned map_number = 1;
    const bool illegal = rex || operand_prefix || repeat_slot || (insn.prefixes & kPrefixLock);
    rex = first & 0x80 ? 0 : 4;
    if (opcode == 0xc4) {
      second = reader.byte();
      map_number = first & 31;
      if (bits64) rex = static_cast<u8>((~first >> 5 & 7) | (second >> 7 << 3));
      else rex = static_cast<u8>(second >> 7 << 3);
    }
    rex = bits64 ? rex : rex & 8;
    insn.vvvv = static_cast<u8>(~second >> 3 & (bits64 ? 15 : 7));
    vex_l = second & 4;
    constexpr unsigned kPrefixOfPp[] = {kSlotNone, kSlot66, kSlotF3, kSlotF2};
    vex_prefix = kPrefixOfPp[second & 3];
    opcode = reader.byte();
    if (reader.overrun()) return short_status();
    insn.length = static_cast<u8>(reader.position());
    if (illegal || map_number == 0 || map_number > 3) return DecodeStatus::Invalid;
    map = map_number == 1 ? OpcodeMap::Vex0F : map_number == 2 ? OpcodeMap::Vex0F38 : OpcodeMap::Vex0F3A;
    insn.prefixes |= kPrefixRex;  // byte registers are SPL to DIL
    if (bits64 && (rex & 8)) insn.prefixes |= kPrefixRexW;
  } else if (opcode == 0x0f) {
    map = OpcodeMap::TwoByte;
    opcode = reader.byte();
    if (opcode == 0x38 || opcode == 0x3a) {
      map = opcode == 0x38 ? OpcodeMap::ThreeByte38 : OpcodeMap::ThreeByte3A;
      opcode = reader.byte();
    }
    if (reader.overrun()) return short_status();
  }

  const Opcode& begin = m_opcodes[bits64][static_cast<usize>(map) * 256 + opcode];
  const bool has_modrm = begin.has_modrm;
  if (has_modrm) {
    insn.modrm = reader.byte();
    if (reader.overrun()) return short_status();
    // MOV to and from control and debug registers ignores ModRM.mod, SDM Vol. 2B "MOV".
    if (map == OpcodeMap::TwoByte && (opcode & 0xfc) == 0x20) insn.modrm |= 0xc0;
  }
  const bool reg_form = has_modrm && (insn.modrm >> 6) == 3;
  const unsigned prefix_slot = vex ? vex_prefix : repeat_slot ? repeat_slot : operand_prefix ? kSlot66 : kSlotNone;

  const Candidate* candidate = &m_candidates[m_lists[begin.first + prefix_slot * begin.by_prefix + reg_form * begin.by_form + ((insn.modrm >> 3) & 7u) * begin.by_reg]];
  for (;; ++candidate) {
    if (candidate->row == kNoRow) break;
    if (candidate->rm >= 0 && candidate->rm != (insn.modrm & 7)) continue;
    if ((candidate->traits & kTraitRexBClear) && (rex & 1)) continue;
    if (candidate->vex_l >= 0 && candidate->vex_l != (vex_l ? 1 : 0)) continue;
    if (vex && insn.vvvv != 0 && !(candidate->traits & kTraitVvvv)) continue;
    if (candidate->rex_w >= 0 && candidate->rex_w != ((rex >> 3) & 1)) continue;
    break;
  }
  insn.length = static_cast<u8>(reader.position());
  if (candidate->row == kNoRow) return DecodeStatus::Invalid;
  insn.row = candidate->row;
  const auto has = [traits = candidate->traits](Trait trait) { return (traits & trait) != 0; };

  const bool bits32 = code_size == CodeSize::Bits32;
  // A mandatory 66 is part of the opcode (as VEX.pp always is), and does not make operands 16 bits wide.
  const bool operand_override = operand_prefix && !has(kTraitMandatory66);
  if (bits64) {
    insn.address_size = address_prefix ? 4 : 8;
    insn.operand_size = (rex & 8) || has(kTraitForce64) ? 8 : operand_override ? 2 : has(kTraitDefault64) ? 8 : 4;
  } else {
    insn.address_size = bits32 != address_prefix ? 4 : 2;
    insn.operand_size = vex || bits32 != operand_override ? 4 : 2;
  }

  if (has_modrm && has(kTraitModrm)) {
    insn.reg = static_cast<u8>(((insn.modrm >> 3) & 7) | ((rex & 4) ? 8 : 0));
    if (reg_form) insn.rm = static_cast<u8>((insn.modrm & 7) | ((rex & 1) ? 8 : 0));
    else decode_memory(reader, insn, rex, segment_override, bits64, has(kTraitVsib));
  } else if (has(kTraitOpcodeRegister)) {
    insn.rm = static_cast<u8>((opcode & 7) | ((rex & 1) ? 8 : 0));
  }

  const auto immediate = static_cast<Immediate>(candidate->immediate);
  if (immediate == Immediate::Several) decode_immediates(reader, insn, bits64);
  else if (immediate != Immediate::None) insn.immediate = read_immediate(reader, immediate, insn.operand_size);
  if (reader.position() > kMaxInsnLength) return DecodeStatus::TooLong;
  if (reader.overrun()) return DecodeStatus::NeedMore;
  insn.length = static_cast<u8>(reader.position());
  if ((insn.prefixes & kPrefixLock) && !(has(kTraitLockable) && insn.memory)) return DecodeStatus::Invalid;
  if (real_mode && has(kTraitNoReal)) return DecodeStatus::Invalid;
  if (has(kTraitVsib) && ((insn.modrm & 7) != 4 || insn.address_size == 2 || insn.reg == insn.vvvv ||
                          insn.reg == insn.vector_index || insn.vvvv == insn.vector_index))
    return DecodeStatus::Invalid;
  return DecodeStatus::Ok;
}

}  // namespace vellum
