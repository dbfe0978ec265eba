// Capstone's handle, and the names of jump targets.
#include "cpu/disassembler.h"

#include <capstone/capstone.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "state/assert.h"

namespace vellum {

struct Disassembler::Handle {
  csh engine = 0;
  csh engine32 = 0;  // for 16-bit code
  cs_insn* insn = nullptr;
  u8 least_length;  // of an instruction, bytes: what is skipped of those that Capstone does not know

  Handle(cs_arch architecture, cs_mode mode, AssemblySyntax syntax) : least_length(architecture == CS_ARCH_ARM64 ? 4 : 1) {
    // Debian's Capstone has both architectures that Vellum runs on.
    VELLUM_ASSERT(cs_open(architecture, mode, &engine) == CS_ERR_OK);
    if (architecture == CS_ARCH_X86)
      cs_option(engine, CS_OPT_SYNTAX, syntax == AssemblySyntax::Att ? CS_OPT_SYNTAX_ATT : CS_OPT_SYNTAX_INTEL);
    cs_option(engine, CS_OPT_DETAIL, CS_OPT_ON);
    if (architecture == CS_ARCH_X86 && mode == CS_MODE_16) {
      VELLUM_ASSERT(cs_open(architecture, CS_MODE_32, &engine32) == CS_ERR_OK);
      cs_option(engine32, CS_OPT_SYNTAX, syntax == AssemblySyntax::Att ? CS_OPT_SYNTAX_ATT : CS_OPT_SYNTAX_INTEL);
      cs_option(engine32, CS_OPT_DETAIL, CS_OPT_ON);
    }
    insn = cs_malloc(engine);
  }
  Handle(const Handle&) = delete;
  ~Handle() {
    cs_free(insn, 1);
    cs_close(&engine);
    if (engine32) cs_close(&engine32);
  }
};

namespace {

cs_mode guest_mode(CodeSize size) {
  switch (size) {
    case CodeSize::Bits16: return CS_MODE_16;
    case CodeSize::Bits32: return CS_MODE_32;
    default: return CS_MODE_64;
  }
}

// An instruction of 16-bit code whose prefix 66h, F2h, F3h or VEX is part of its opcode, as one of 32-bit code. Capstone 4 does not see such
// prefixes in 16-bit code: it takes MOVSS for MOVUPS and knows no POPCNT.
struct As32Bit {
  std::vector<u8> bytes;  // empty: it is no such instruction
  int longer = 0;         // by so many prefixes
};

As32Bit as_32_bit(std::span<const u8> code) {
  bool operand_size = false, address_size = false;
  u8 repeat = 0;
  std::vector<u8> prefixes;  // but those two
  usize at = 0;
  for (; at < code.size() && at < kMaxInsnLength; ++at) {
    const u8 byte = code[at];
    if (byte == 0x66) operand_size = true;
    else if (byte == 0x67) address_size = true;
    else if (byte == 0xf2 || byte == 0xf3) prefixes.push_back(repeat = byte);
    else if (byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 || byte == 0x65 || byte == 0xf0) prefixes.push_back(byte);
    else break;
  }
  const auto rest = code.subspan(at);
  if (rest.size() < 2) return {};
  // SDM Vol. 2 2.3.1: where LES and LDS would have a register as their operand, a VEX prefix begins.
  const bool vex = (rest[0] == 0xc4 || rest[0] == 0xc5) && (rest[1] & 0xc0) == 0xc0;
  if (!vex && (rest[0] != 0x0f || (!operand_size && !repeat))) return {};
  // SDM Vol. 2 appendix A, tables.
  const u8 opcode = rest[1], third = rest.size() > 2 ? rest[2] : 0;
  const bool general = !vex && ((repeat == 0xf3 && (opcode == 0xb8 || opcode == 0xbc || opcode == 0xbd)) || (repeat == 0xf2 && opcode == 0x38 && (third == 0xf0 || third == 0xf1)));
  const bool vector = vex || (opcode >= 0x10 && opcode <= 0x17) || (opcode >= 0x28 && opcode <= 0x2f) || (opcode >= 0x50 && opcode <= 0x7f) || opcode == 0xae || opcode == 0xc2 ||
                      (opcode >= 0xc4 && opcode <= 0xc6) || opcode >= 0xd0 || opcode == 0x3a || (opcode == 0x38 && third != 0xf0 && third != 0xf1);
  if (!general && !vector) return {};
  const usize before = at;
  As32Bit result{.bytes = std::move(prefixes)};
  // The other sizes of addresses and, in general registers, of operands.
  if (operand_size != general) result.bytes.insert(result.bytes.begin(), 0x66);
  if (!address_size) result.bytes.insert(result.bytes.begin(), 0x67);
  result.longer = static_cast<int>(result.bytes.size()) - static_cast<int>(before);
  result.bytes.insert(result.bytes.end(), rest.begin(), rest.end());
  return result;
}

// Where a direct jump or call goes; false for everything else.
bool direct_target(csh engine, const cs_insn& insn, u64& target) {
  if (!cs_insn_group(engine, &insn, CS_GRP_JUMP) && !cs_insn_group(engine, &insn, CS_GRP_CALL)) return false;
#if defined(__aarch64__)
  const cs_arm64& detail = insn.detail->arm64;
  for (unsigned i = 0; i < detail.op_count; ++i)
    if (detail.operands[i].type == ARM64_OP_IMM) return target = static_cast<u64>(detail.operands[i].imm), true;
#else
  const cs_x86& detail = insn.detail->x86;
  if (detail.op_count == 1 && detail.operands[0].type == X86_OP_IMM) return target = static_cast<u64>(detail.operands[0].imm), true;
#endif
  return false;
}

}  // namespace

Disassembler::Disassembler(std::unique_ptr<Handle> handle) : m_handle(std::move(handle)) {}
Disassembler::Disassembler(CodeSize code_size, AssemblySyntax syntax)
    : m_handle(std::make_unique<Handle>(CS_ARCH_X86, guest_mode(code_size), syntax)) {}
Disassembler::Disassembler(Disassembler&&) noexcept = default;
Disassembler::~Disassembler() = default;

Disassembler Disassembler::for_host(AssemblySyntax syntax) {
#if defined(__aarch64__)
  return Disassembler(std::make_unique<Handle>(CS_ARCH_ARM64, CS_MODE_ARM, syntax));
#else
  return Disassembler(std::make_unique<Handle>(CS_ARCH_X86, CS_MODE_64, syntax));
#endif
}

DisassembledInsn Disassembler::one(std::span<const u8> code, u64 address, const NameOf& name_of) const {
  DisassembledInsn result{.address = address};
  u64 next = address;
  cs_insn& insn = *m_handle->insn;
  if (m_handle->engine32) {
    const As32Bit other = as_32_bit(code);
    const u8* bytes = other.bytes.data();
    size_t left = other.bytes.size();
    if (left && cs_disasm_iter(m_handle->engine32, &bytes, &left, &next, &insn)) {
      result.length = static_cast<u8>(static_cast<int>(insn.size) - other.longer);
      result.text = fmt::format("{} {}", insn.mnemonic, insn.op_str);
      return result;
    }
    next = address;
  }
  const u8* bytes = code.data();
  size_t left = code.size();
  if (!cs_disasm_iter(m_handle->engine, &bytes, &left, &next, &insn)) {
    result.length = static_cast<u8>(std::min<usize>(m_handle->least_length, code.size()));
    result.text = "(bad)";
    return result;
  }
  result.length = static_cast<u8>(insn.size);
  std::string operands = insn.op_str;
  u64 target = 0;
  if (name_of && direct_target(m_handle->engine, insn, target))
    if (std::string name = name_of(target); !name.empty()) operands = std::move(name);
  result.text = operands.empty() ? std::string(insn.mnemonic) : fmt::format("{} {}", insn.mnemonic, operands);
  return result;
}

unsigned Disassembler::count(std::span<const u8> code) const {
  unsigned number = 0;
  while (!code.empty()) {
    code = code.subspan(one(code, 0).length);
    ++number;
  }
  return number;
}

std::string hex_bytes(std::span<const u8> bytes) { return fmt::format("{:02x}", fmt::join(bytes, " ")); }

}  // namespace vellum
