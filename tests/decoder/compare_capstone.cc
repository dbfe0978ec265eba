// The decoder against Capstone: random byte strings, or the code bytes of a file, in all three code sizes. Compares
// validity, length and operands; differences that are Capstone's are recognized by known_capstone_errors().
//   compare-capstone [--count N] [--seed S] [--file PATH] [--bits 16|32|64] [--show N]
#include <capstone/capstone.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "cpu/decoder.h"
#include "cpu/opcodes.h"
#include "known_capstone_errors.h"

using namespace vellum;

namespace {

const char* const kGpr8[] = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"};
const char* const kGpr8High[] = {"ah", "ch", "dh", "bh"};
const char* const kGpr16[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
const char* const kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};

std::string gpr_name(unsigned number, unsigned size, bool rex) {
  if (number >= 8) return fmt::format("r{}{}", number, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
  switch (size) {
    case 1: return number >= 4 && !rex ? kGpr8High[number - 4] : kGpr8[number];
    case 2: return kGpr16[number];
    case 4: return std::string("e") + kGpr16[number];
    default: return std::string("r") + kGpr16[number];
  }
}

unsigned width_of(OperandWidth width, unsigned operand_size) {
  switch (width) {
    case OperandWidth::B: return 1;
    case OperandWidth::W: return 2;
    case OperandWidth::D: return 4;
    case OperandWidth::Q: return 8;
    case OperandWidth::Y: return operand_size == 8 ? 8 : 4;
    case OperandWidth::Z: return operand_size == 2 ? 2 : 4;
    case OperandWidth::X: return 16;
    case OperandWidth::QQ: return 32;
    case OperandWidth::T: return 10;
    default: return operand_size;
  }
}

std::string slot_name(u8 slot, unsigned address_size) {
  if (slot == kZeroSlot) return "";
  if (slot == kCodeBaseSlot) return address_size == 8 ? "rip" : "eip";
  return gpr_name(slot, address_size, true);
}

// Operands as text, in one form for both decoders: "reg", "#imm", "[base+index*scale+disp]".
std::string memory_text(const std::string& base, const std::string& index, unsigned scale, i64 displacement,
                        unsigned address_size) {
  const u64 mask = address_size == 8 ? ~u64{0} : address_size == 4 ? 0xffffffff : 0xffff;
  return fmt::format("[{}+{}*{}+{:x}]", base, index, index.empty() ? 1 : scale, static_cast<u64>(displacement) & mask);
}

std::vector<std::string> our_operands(const Insn& insn, unsigned code_bits) {
  const RowSpec& row = opcode_rows()[insn.row];
  std::vector<std::string> result;
  const bool rex = insn.prefixes & kPrefixRex;
  unsigned immediates = 0;
  bool system_register = false;
  for (const OperandSpec& operand : row.operands)
    system_register |= operand.kind == OperandKind::Control || operand.kind == OperandKind::Debug;
  for (const OperandSpec& operand : row.operands) {
    // MOV to and from control and debug registers is as wide as the mode, SDM Vol. 2B "MOV".
    const unsigned size = system_register ? (code_bits == 64 ? 8 : 4) : width_of(operand.width, insn.operand_size);
    const auto vector = [&](unsigned number, bool ymm) { return fmt::format("{}mm{}", ymm ? 'y' : 'x', number); };
    const bool ymm = operand.width == OperandWidth::QQ;
    const auto memory = [&] {
      const OperandSpec& vsib = row.operands[3];
      const std::string index = row.has(kVsib) ? vector(insn.vector_index, vsib.width == OperandWidth::QQ)
                                               : slot_name(insn.index, insn.address_size);
      return memory_text(slot_name(insn.base, insn.address_size), index,
                         1u << insn.scale, insn.displacement, insn.address_size);
    };
    switch (operand.kind) {
      case OperandKind::None: break;
      case OperandKind::GprOrMemory: result.push_back(insn.memory ? memory() : gpr_name(insn.rm, size, rex)); break;
      case OperandKind::Gpr: result.push_back(gpr_name(insn.reg, size, rex)); break;
      case OperandKind::GprInModrm:
      case OperandKind::GprInOpcode: result.push_back(gpr_name(insn.rm, size, rex)); break;
      case OperandKind::Memory:
      case OperandKind::AbsoluteOffset: result.push_back(memory()); break;
      case OperandKind::XmmInReg: result.push_back(vector(insn.reg, ymm)); break;
      case OperandKind::XmmOrMemory: result.push_back(insn.memory ? memory() : vector(insn.rm, ymm)); break;
      case OperandKind::XmmInModrm: result.push_back(vector(insn.rm, ymm)); break;
      case OperandKind::XmmVvvv: result.push_back(vector(insn.vvvv, ymm)); break;
      case OperandKind::XmmInImmediate: result.push_back(vector(static_cast<unsigned>(insn.immediate >> 4), ymm)); break;
      case OperandKind::XmmVsibIndex: break;  // part of the memory operand
      case OperandKind::GprVvvv: result.push_back(gpr_name(insn.vvvv, size, rex)); break;
      case OperandKind::MmxInReg: result.push_back(fmt::format("mm{}", insn.reg & 7)); break;
      case OperandKind::MmxOrMemory: result.push_back(insn.memory ? memory() : fmt::format("mm{}", insn.rm & 7)); break;
      case OperandKind::MmxInModrm: result.push_back(fmt::format("mm{}", insn.rm & 7)); break;
      case OperandKind::Segment: result.push_back((insn.reg & 7) < 6 ? kSegments[insn.reg & 7] : "?"); break;
      case OperandKind::Control: result.push_back(fmt::format("cr{}", insn.reg)); break;
      case OperandKind::Debug: result.push_back(fmt::format("dr{}", insn.reg)); break;
      case OperandKind::Immediate: {
        const u64 mask = size >= 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1;
        const u64 value = immediates++ ? insn.immediate2 : static_cast<u64>(insn.immediate);
        result.push_back(fmt::format("#{:x}", value & mask));
        break;
      }
      case OperandKind::Relative: {
        const u64 mask = insn.operand_size == 8 ? ~u64{0} : insn.operand_size == 4 ? 0xffffffff : 0xffff;
        result.push_back(fmt::format("#{:x}", (static_cast<u64>(insn.immediate) + insn.length) & mask));
        break;
      }
      case OperandKind::FixedAl: result.push_back("al"); break;
      case OperandKind::FixedCl: result.push_back("cl"); break;
      case OperandKind::FixedDx: result.push_back("dx"); break;
      case OperandKind::FixedAx: result.push_back("ax"); break;
      case OperandKind::FixedRax: result.push_back(gpr_name(0, insn.operand_size, rex)); break;
      case OperandKind::FixedOne: result.push_back("#1"); break;
      default: result.push_back("*"); break;  // compared by length only: string, far pointer, x87
    }
  }
  return result;
}

std::vector<std::string> capstone_operands(csh handle, const cs_insn& insn) {
  std::vector<std::string> result;
  const cs_x86& x86 = insn.detail->x86;
  for (unsigned i = 0; i < x86.op_count; ++i) {
    const cs_x86_op& operand = x86.operands[i];
    const auto name = [&](unsigned reg) -> std::string {
      return reg == X86_REG_INVALID || reg == X86_REG_EIZ || reg == X86_REG_RIZ ? "" : cs_reg_name(handle, reg);
    };
    switch (operand.type) {
      case X86_OP_REG: result.push_back(name(operand.reg)); break;
      case X86_OP_IMM: {
        const u64 mask = operand.size >= 8 || operand.size == 0 ? ~u64{0} : (u64{1} << (8 * operand.size)) - 1;
        result.push_back(fmt::format("#{:x}", static_cast<u64>(operand.imm) & mask));
        break;
      }
      case X86_OP_MEM:
        result.push_back(memory_text(name(operand.mem.base), name(operand.mem.index), operand.mem.scale, operand.mem.disp,
                                     x86.addr_size));
        break;
      default: result.push_back("?"); break;
    }
  }
  return result;
}

bool operands_agree(const std::vector<std::string>& ours, const std::vector<std::string>& theirs) {
  usize i = 0;
  for (const std::string& operand : ours) {
    if (operand == "*") return true;  // from here on the two name implicit operands differently
    if (i >= theirs.size()) return false;
    if (operand != theirs[i]) {
      // Immediates: the two may print them at different widths.
      if (operand[0] == '#' && theirs[i][0] == '#') {
        const u64 a = std::strtoull(operand.c_str() + 1, nullptr, 16), b = std::strtoull(theirs[i].c_str() + 1, nullptr, 16);
        if ((a ^ b) << 56 == 0 && (static_cast<u8>(a) == a || static_cast<u8>(b) == b)) { ++i; continue; }
        if (static_cast<u32>(a) == static_cast<u32>(b) && (a >> 32 == 0 || b >> 32 == 0)) { ++i; continue; }
        if (static_cast<u16>(a) == static_cast<u16>(b) && (a >> 16 == 0 || b >> 16 == 0)) { ++i; continue; }
      }
      return false;
    }
    ++i;
  }
  return true;
}

std::string join(const std::vector<std::string>& parts) { return fmt::format("{}", fmt::join(parts, ", ")); }

}  // namespace

int main(int argc, char** argv) {
  u64 count = 1'000'000, seed = 1, show = 20;
  unsigned only_bits = 0;
  std::string file;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--count") count = std::strtoull(argv[i + 1], nullptr, 10);
    else if (option == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
    else if (option == "--show") show = std::strtoull(argv[i + 1], nullptr, 10);
    else if (option == "--bits") only_bits = static_cast<unsigned>(std::atoi(argv[i + 1]));
    else if (option == "--file") file = argv[i + 1];
    else {
      fmt::print(stderr, "unknown option {}\n", option);
      return 2;
    }
  }
  const auto model = parse_cpu_model("max");
  if (!model) return 2;
  const Decoder decoder(*model);
  std::vector<u8> content;
  if (!file.empty()) {
    std::ifstream stream(file, std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(stream), {});
    if (content.size() < kMaxInsnLength) {
      fmt::print(stderr, "{}: too short\n", file);
      return 2;
    }
  }

  u64 compared = 0, agreed = 0, known = 0, different = 0;
  std::map<std::string, u64> kinds;
  for (const unsigned bits : {16u, 32u, 64u}) {
    if (only_bits && bits != only_bits) continue;
    csh handle;
    cs_open(CS_ARCH_X86, bits == 16 ? CS_MODE_16 : bits == 32 ? CS_MODE_32 : CS_MODE_64, &handle);
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    cs_insn* theirs = cs_malloc(handle);
    const CodeSize size = bits == 16 ? CodeSize::Bits16 : bits == 32 ? CodeSize::Bits32 : CodeSize::Bits64;
    std::mt19937_64 random(seed + bits);
    u64 position = 0;
    const u64 cases = file.empty() ? count / (only_bits ? 1 : 3) : ~u64{0};
    for (u64 n = 0; n < cases; ++n) {
      u8 bytes[kMaxInsnLength + 1];
      if (file.empty()) {
        for (unsigned i = 0; i < 16; i += 8) {
          const u64 word = random();
          std::memcpy(bytes + i, &word, 8);
        }
        // Uniform bytes rarely reach the three-byte maps and mandatory prefixes.
        const u64 steer = random();
        unsigned at = 0;
        if ((steer & 7) == 0) bytes[at++] = static_cast<u8>("\x66\xf2\xf3\x67"[(steer >> 3) & 3]);
        if (bits == 64 && (steer & 0x60) == 0x20) bytes[at++] = static_cast<u8>(0x40 | ((steer >> 8) & 15));
        if (((steer >> 12) & 3) == 0) {
          bytes[at++] = 0x0f;
          if (((steer >> 14) & 3) == 0) bytes[at++] = (steer >> 16) & 1 ? 0x38 : 0x3a;
        } else if (((steer >> 20) & 3) == 0) {  // VEX with a map that exists
          bytes[at] = 0xc4;
          bytes[at + 1] = static_cast<u8>((bytes[at + 1] & 0xe0) | (1 + (steer >> 22) % 3) | (bits == 64 ? 0 : 0xc0));
          if (steer >> 40 & 1) bytes[at + 2] |= 0x78;  // no register in VEX.vvvv
        }
      } else {
        if (position + kMaxInsnLength > content.size()) break;
        std::memcpy(bytes, content.data() + position, kMaxInsnLength);
      }
      Insn ours;
      const DecodeStatus status = decoder.decode({bytes, kMaxInsnLength}, size, false, ours);
      const u8* code = bytes;
      size_t left = kMaxInsnLength;
      u64 address = 0;
      const bool valid = cs_disasm_iter(handle, &code, &left, &address, theirs);
      ++compared;
      std::string difference;
      std::vector<std::string> our_list, their_list;
      if ((status == DecodeStatus::Ok) != valid) {
        difference = valid ? fmt::format("we refuse {}", theirs->mnemonic) : fmt::format("we accept {}", opcode_rows()[ours.row].mnemonic);
      } else if (valid) {
        our_list = our_operands(ours, bits);
        their_list = capstone_operands(handle, *theirs);
        // XCHG and TEST are symmetric; the two print them in either order.
        const std::string_view mnemonic = opcode_rows()[ours.row].mnemonic;
        if ((mnemonic == "xchg" || mnemonic == "test") && our_list.size() == 2 && their_list.size() == 2 &&
            our_list[0] != their_list[0])
          std::swap(our_list[0], our_list[1]);
        if (ours.length != theirs->size) difference = fmt::format("length of {}", theirs->mnemonic);
        else if (!operands_agree(our_list, their_list)) difference = fmt::format("operands of {}", theirs->mnemonic);
      }
      position += valid ? theirs->size : 1;
      if (difference.empty()) {
        ++agreed;
        continue;
      }
      const KnownError* reason = known_capstone_error(bytes, bits, status == DecodeStatus::Ok ? &ours : nullptr, valid ? theirs : nullptr);
      if (reason) {
        ++known;
        ++kinds[std::string("known: ") + reason->reason];
        continue;
      }
      ++different;
      ++kinds[difference];
      if (different <= show) {
        std::string hex;
        for (unsigned i = 0; i < kMaxInsnLength; ++i) hex += fmt::format("{:02x} ", bytes[i]);
        fmt::print("{} bits: {}: {}\n  ours: {} {} length {}\n  capstone: {} {} ({}) length {}\n", bits, hex, difference,
                   status == DecodeStatus::Ok ? opcode_rows()[ours.row].mnemonic : "invalid", join(our_list), ours.length,
                   valid ? theirs->mnemonic : "invalid", valid ? theirs->op_str : "", join(their_list), valid ? theirs->size : 0);
      }
    }
    cs_free(theirs, 1);
    cs_close(&handle);
  }
  std::vector<std::pair<u64, std::string>> sorted;
  for (const auto& [kind, number] : kinds) sorted.emplace_back(number, kind);
  std::ranges::sort(sorted, std::greater<>());
  for (usize i = 0; i < sorted.size() && i < 60; ++i) fmt::print("{:10} {}\n", sorted[i].first, sorted[i].second);
  fmt::print("{} compared, {} agree, {} differ by known errors of Capstone, {} differ\n", compared, agreed, known, different);
  return different ? 1 : 0;
}
