// Decoding: prefixes, opcode, ModRM, displacement, immediates, SDM Vol. 2A chapter 2.
#include "cpu/decoder.h"

#include <algorithm>
#include <cstring>

#include "cpu/opcodes.h"

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

// Reads bytes until the end of what is given, or the architectural limit.
struct Reader {
  std::span<const u8> bytes;
  usize position = 0;
  bool overrun = false;

  u8 byte() {
    if (position >= bytes.size()) {
      overrun = true;
      ++position;
      return 0;
    }
    return bytes[position++];
  }
  u64 little_endian(unsigned size) {
    u64 value = 0;
    if (position + size <= bytes.size()) {
      std::memcpy(&value, bytes.data() + position, size);
    } else {
      overrun = true;
    }
    position += size;
    return value;
  }
  i64 sign_extended(unsigned size) {
    const unsigned shift = 64 - 8 * size;
    return static_cast<i64>(little_endian(size) << shift) >> shift;
  }
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
    if (base == 5 && mod == 0) {
      insn.base = (rm == 5 && bits64) ? kCodeBaseSlot : kZeroSlot;
      insn.displacement = reader.sign_extended(4);
    } else {
      insn.base = static_cast<u8>(base | (base_extended ? 8 : 0));
      if (insn.base == kRsp || insn.base == kRbp) default_segment = kSs;
      if (mod == 1) insn.displacement = reader.sign_extended(1);
      if (mod == 2) insn.displacement = reader.sign_extended(4);
    }
  }
  if (!segment_override) insn.segment = default_segment;
}

}  // namespace

Decoder::Decoder(const CpuModel& model) : m_table(kSlots), m_candidates(1) {
  const auto rows = opcode_rows();
  for (usize i = 0; i < rows.size(); ++i)
    if (model.has(rows[i].feature) || rows[i].feature == Feature::Base || rows[i].has(kHintNop)) enter(static_cast<u16>(i));
}

void Decoder::enter(u16 index) {
  const RowSpec& row = opcode_rows()[index];
  const unsigned opcodes = row.register_in_opcode ? 8 : 1;
  for (unsigned o = 0; o < opcodes; ++o) {
    const u8 opcode = static_cast<u8>(row.opcode + o);
    if (row.has_modrm) m_has_modrm[static_cast<usize>(row.map)][opcode] = true;
    for (const bool bits64 : {false, true}) {
      if (row.has(bits64 ? kNo64 : kOnly64)) continue;
      for (unsigned prefix = 0; prefix < 4; ++prefix) {
        if (!prefix_allowed(row.prefix, prefix)) continue;
        for (const bool reg_form : {false, true}) {
          if (row.modrm_rule == ModrmRule::Memory && reg_form) continue;
          if (row.modrm_rule == ModrmRule::Register && !reg_form) continue;
          for (unsigned reg = 0; reg < 8; ++reg) {
            if (row.reg >= 0 && static_cast<unsigned>(row.reg) != reg) continue;
            // Keep each slot's candidates ordered, most specific first.
            u32* link = &m_table[slot(bits64, row.map, opcode, prefix, reg_form, reg)];
            while (*link && specificity(opcode_rows()[m_candidates[*link].row]) >= specificity(row))
              link = &m_candidates[*link].next;
            const u32 rest = *link;
            *link = static_cast<u32>(m_candidates.size());
            m_candidates.push_back({index, rest});
          }
        }
      }
    }
  }
}

DecodeStatus Decoder::decode(std::span<const u8> bytes, CodeSize code_size, bool real_mode, Insn& insn) const {
  insn = Insn{};
  const bool bits64 = code_size == CodeSize::Bits64;
  Reader reader{bytes.first(std::min<usize>(bytes.size(), kMaxInsnLength))};
  const auto short_status = [&] {
    return reader.position > kMaxInsnLength ? DecodeStatus::TooLong : DecodeStatus::NeedMore;
  };

  u8 rex = 0;
  bool segment_override = false, operand_prefix = false, address_prefix = false;
  unsigned repeat_slot = 0;
  u8 opcode;
  while (true) {
    opcode = reader.byte();
    if (reader.overrun) return short_status();
    if (bits64 && (opcode & 0xf0) == 0x40) {
      rex = opcode;
      continue;
    }
    bool legacy = true;
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
      case 0xf3: repeat_slot = kSlotF3; insn.prefixes = static_cast<u8>((insn.prefixes & ~kPrefixRepne) | kPrefixRep); break;
      default: legacy = false;
    }
    if (!legacy) break;
    rex = 0;  // a REX that is not the last prefix is ignored
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
    if (reader.position >= reader.bytes.size()) {
      reader.byte();
      return short_status();
    }
    vex = bits64 || (reader.bytes[reader.position] >= 0xc0 && !real_mode);
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
    if (reader.overrun) return short_status();
    insn.length = static_cast<u8>(reader.position);
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
    if (reader.overrun) return short_status();
  }

  const bool has_modrm = m_has_modrm[static_cast<usize>(map)][opcode];
  if (has_modrm) {
    insn.modrm = reader.byte();
    if (reader.overrun) return short_status();
    // MOV to and from control and debug registers ignores ModRM.mod, SDM Vol. 2B "MOV".
    if (map == OpcodeMap::TwoByte && (opcode & 0xfc) == 0x20) insn.modrm |= 0xc0;
  }
  const bool reg_form = has_modrm && (insn.modrm >> 6) == 3;
  const unsigned prefix_slot = vex ? vex_prefix : repeat_slot ? repeat_slot : operand_prefix ? kSlot66 : kSlotNone;

  const RowSpec* row = nullptr;
  for (u32 i = m_table[slot(bits64, map, opcode, prefix_slot, reg_form, (insn.modrm >> 3) & 7)]; i; i = m_candidates[i].next) {
    const RowSpec& candidate = opcode_rows()[m_candidates[i].row];
    if (candidate.rm >= 0 && candidate.rm != (insn.modrm & 7)) continue;
    if (candidate.rex_b_clear && (rex & 1)) continue;
    if (candidate.vex_l >= 0 && candidate.vex_l != (vex_l ? 1 : 0)) continue;
    if (vex && insn.vvvv != 0 && !uses_vvvv(candidate)) continue;
    if (candidate.rex_w >= 0 && candidate.rex_w != ((rex >> 3) & 1)) continue;
    insn.row = m_candidates[i].row;
    row = &candidate;
    break;
  }
  insn.length = static_cast<u8>(reader.position);
  if (!row) return DecodeStatus::Invalid;

  const bool bits32 = code_size == CodeSize::Bits32;
  // A mandatory 66 is part of the opcode (as VEX.pp always is), and does not make operands 16 bits wide.
  const bool operand_override = operand_prefix && row->prefix != PrefixRule::P66;
  if (bits64) {
    insn.address_size = address_prefix ? 4 : 8;
    insn.operand_size = (rex & 8) || row->has(kForce64) ? 8 : operand_override ? 2 : row->has(kDefault64) ? 8 : 4;
  } else {
    insn.address_size = bits32 != address_prefix ? 4 : 2;
    insn.operand_size = vex || bits32 != operand_override ? 4 : 2;
  }

  if (has_modrm && row->has_modrm) {
    insn.reg = static_cast<u8>(((insn.modrm >> 3) & 7) | ((rex & 4) ? 8 : 0));
    if (reg_form) insn.rm = static_cast<u8>((insn.modrm & 7) | ((rex & 1) ? 8 : 0));
    else decode_memory(reader, insn, rex, segment_override, bits64, row->has(kVsib));
  } else if (row->register_in_opcode) {
    insn.rm = static_cast<u8>((opcode & 7) | ((rex & 1) ? 8 : 0));
  }

  bool first = true;
  bool lockable = row->has(kLock) && insn.memory;
  for (const OperandSpec& operand : row->operands) {
    i64 value = 0;
    switch (operand.kind) {
      case OperandKind::Immediate:
      case OperandKind::Relative:
        switch (operand.width) {
          case OperandWidth::B:
            value = operand.kind == OperandKind::Relative ? reader.sign_extended(1) : static_cast<i64>(reader.little_endian(1));
            break;
          case OperandWidth::SignedB: value = reader.sign_extended(1); break;
          case OperandWidth::W: value = static_cast<i64>(reader.little_endian(2)); break;
          case OperandWidth::D: value = reader.sign_extended(4); break;
          case OperandWidth::V: value = reader.sign_extended(insn.operand_size); break;
          default: value = reader.sign_extended(insn.operand_size == 2 ? 2 : 4); break;
        }
        if (first) insn.immediate = value;
        else insn.immediate2 = static_cast<u16>(value);
        first = false;
        break;
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
  if (reader.position > kMaxInsnLength) return DecodeStatus::TooLong;
  if (reader.overrun) return DecodeStatus::NeedMore;
  insn.length = static_cast<u8>(reader.position);
  if ((insn.prefixes & kPrefixLock) && !lockable) return DecodeStatus::Invalid;
  if (real_mode && row->has(kNoReal)) return DecodeStatus::Invalid;
  if (row->has(kVsib) && ((insn.modrm & 7) != 4 || insn.address_size == 2 || insn.reg == insn.vvvv ||
                          insn.reg == insn.vector_index || insn.vvvv == insn.vector_index))
    return DecodeStatus::Invalid;
  return DecodeStatus::Ok;
}

}  // namespace vellum
