// One row of the opcode table: an encoding in the manual's notation, parsed and checked at compile time.
#pragma once

#include <array>
#include <string_view>

#include "cpu/model.h"
#include "state/integers.h"

namespace vellum {

// Notation of `encoding` (SDM Vol. 2A 3.1.1.1):
//   prefixes   NP (none of 66, F3, F2), 66, F3, F2 (mandatory), NFx (no F3, F2); without one, any prefix may stand
//   REX.W, W0  the REX.W bit must be set, or clear
//   bytes      00, 0F A2, 0F 38 00, 0F 3A 0F
//   /r /0…/7   a ModRM byte follows; the digit is its reg field
//   +r, +i     on the last byte: its low three bits are a register (for +i that byte is the ModRM byte of an x87 opcode)
//   D9 E0      on D8…DF, and behind 0F 01, 0F AE, 0F C7 …: a further byte is the exact ModRM byte
//   REX.B0     REX.B must be clear (NOP)
//   VEX.       VEX-encoded: L (LZ, L0, 128; L1, 256; LIG), 66, F3 or F2 where one is implied, the map 0F, 0F38 or 0F3A,
//              W0, W1 or nothing, joined by dots as in "VEX.LZ.F2.0F38 F7 /r"
//   mem, reg   ModRM must name memory, or a register (also implied by operands M, and R, U, N)
// Notation of `operands` (SDM Vol. 2D, appendix A.2): a kind, then a size.
//   E r/m GPR  G reg GPR  M memory only  R r/m register only  Z GPR in the opcode's low bits  B VEX.vvvv
//   V reg XMM  W r/m XMM or memory  U r/m XMM only  P reg MMX  Q r/m MMX or memory  N r/m MMX only  H VEX.vvvv XMM
//   L XMM in the upper half of an immediate byte  K XMM that is the index of a VSIB byte (XMM stands for YMM, too)
//   S segment  C control  D debug register  I immediate  J relative target  O absolute offset  A far pointer
//   X memory at DS:rSI  Y memory at ES:rDI  F ST(i) by the opcode
//   AL CL DX AX eAX(rAX of operand size) 1    fixed
//   sizes: b w d q v(16/32/64 by operand size) y(32, or 64 with REX.W) z(16, or 32) x(16 bytes) qq(32 bytes) t(10 bytes)
//          bs(byte, sign-extended) p(far pointer) n(no access: LEA, or the semantics know)
enum class OpcodeMap : u8 { OneByte, TwoByte, ThreeByte38, ThreeByte3A, Vex0F, Vex0F38, Vex0F3A, Count };
enum class PrefixRule : u8 { Any, None, P66, PF3, PF2, NoF };
enum class ModrmRule : u8 { Any, Memory, Register };

enum class OperandKind : u8 {
  None, GprOrMemory, Gpr, Memory, GprInModrm, GprInOpcode, XmmInReg, XmmOrMemory, XmmInModrm, MmxInReg, MmxOrMemory,
  MmxInModrm, Segment, Control, Debug, Immediate, Relative, AbsoluteOffset, FarPointer, StringSource,
  StringDestination, X87Register, FixedAl, FixedCl, FixedDx, FixedAx, FixedRax, FixedOne, GprVvvv, XmmVvvv, XmmInImmediate,
  XmmVsibIndex,
};

enum class OperandWidth : u8 { None, B, W, D, Q, V, Y, Z, X, QQ, T, SignedB, Far, NoAccess };

struct OperandSpec {
  OperandKind kind = OperandKind::None;
  OperandWidth width = OperandWidth::None;
};

enum RowAttribute : u32 {
  kNo64 = 1,           // #UD in 64-bit mode
  kOnly64 = 2,         // #UD outside 64-bit mode (SYSCALL on some models, SWAPGS …)
  kDefault64 = 4,      // operand size is 64 in 64-bit mode without REX.W (push, pop, enter …)
  kForce64 = 8,        // operand size is 64 in 64-bit mode whatever the prefixes (near branches)
  kLock = 16,          // LOCK is allowed with a memory destination
  kRep = 32,           // F3 repeats (movs, stos, lods, ins, outs)
  kRepe = 64,          // F3 repeats while equal, F2 while not equal (cmps, scas)
  kAligned = 128,      // memory operand must be aligned to its size (checked by the semantics' access)
  kUsesX87 = 256,      // #NM by CR0.EM/TS, and a pending x87 exception is reported first
  kUsesMmx = 512,      // likewise, and #UD with CR0.EM
  kUsesSse = 1024,     // #UD by CR0.EM or !CR4.OSFXSR, #NM by CR0.TS
  kPrivileged = 2048,  // #GP(0) when CPL > 0 (checked by the callout)
  kNoReal = 4096,      // #UD in real and virtual-8086 mode
  kX87NoWait = 8192,   // FNSTSW, FNINIT …: does not report a pending exception
  kEndsBlock = 16384,  // may change the mode, the mapping or the flow
  kImplicitLock = 32768, // XCHG with memory
  kHintNop = 65536,    // reserved for hints: never #UD for a feature
  kUsesAvx = 131072,   // #UD unless CR4.OSXSAVE and XCR0 enable SSE and AVX state, #NM by CR0.TS
  kVsib = 262144,      // ModRM names a VSIB byte; destination, mask and index must be three registers, SDM Vol. 2A 2.3.12
};

struct RowSpec {
  const char* mnemonic = nullptr;
  const char* encoding = nullptr;
  const char* operand_text = nullptr;
  Feature feature = Feature::Base;
  u32 attributes = 0;

  OpcodeMap map = OpcodeMap::OneByte;
  u8 opcode = 0;            // with +r: the lowest of eight
  PrefixRule prefix = PrefixRule::Any;
  ModrmRule modrm_rule = ModrmRule::Any;
  bool has_modrm = false;
  bool register_in_opcode = false;
  i8 reg = -1;              // required ModRM.reg, or -1
  i8 rm = -1;               // required ModRM.rm (exact ModRM byte), or -1
  i8 rex_w = -1;            // also VEX.W
  bool rex_b_clear = false;
  bool vex = false;
  i8 vex_l = -1;            // required VEX.L, or -1
  std::array<OperandSpec, 4> operands{};

  constexpr bool has(RowAttribute attribute) const { return attributes & attribute; }
};

namespace opcode_row_detail {

[[noreturn]] inline void bad_row(const char*) { __builtin_trap(); }  // not constexpr: calling it fails the compilation

constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr OperandWidth parse_width(std::string_view text) {
  if (text == "") return OperandWidth::None;
  if (text == "b") return OperandWidth::B;
  if (text == "w") return OperandWidth::W;
  if (text == "d") return OperandWidth::D;
  if (text == "q") return OperandWidth::Q;
  if (text == "v") return OperandWidth::V;
  if (text == "y") return OperandWidth::Y;
  if (text == "z") return OperandWidth::Z;
  if (text == "x") return OperandWidth::X;
  if (text == "qq") return OperandWidth::QQ;
  if (text == "t") return OperandWidth::T;
  if (text == "bs") return OperandWidth::SignedB;
  if (text == "p") return OperandWidth::Far;
  if (text == "n") return OperandWidth::NoAccess;
  bad_row("unknown operand size");
}

constexpr OperandSpec parse_operand(std::string_view text) {
  using K = OperandKind;
  using W = OperandWidth;
  if (text == "AL") return {K::FixedAl, W::B};
  if (text == "CL") return {K::FixedCl, W::B};
  if (text == "DX") return {K::FixedDx, W::W};
  if (text == "AX") return {K::FixedAx, W::W};
  if (text == "eAX") return {K::FixedRax, W::V};
  if (text == "1") return {K::FixedOne, W::B};
  constexpr std::string_view letters = "EGMRZVWUPQNSCDIJOAXYFBHLK";
  constexpr K kinds[] = {K::GprOrMemory, K::Gpr, K::Memory, K::GprInModrm, K::GprInOpcode, K::XmmInReg, K::XmmOrMemory,
                         K::XmmInModrm, K::MmxInReg, K::MmxOrMemory, K::MmxInModrm, K::Segment, K::Control, K::Debug,
                         K::Immediate, K::Relative, K::AbsoluteOffset, K::FarPointer, K::StringSource,
                         K::StringDestination, K::X87Register, K::GprVvvv, K::XmmVvvv, K::XmmInImmediate,
                         K::XmmVsibIndex};
  for (usize i = 0; i < letters.size(); ++i)
    if (text[0] == letters[i]) return {kinds[i], parse_width(text.substr(1))};
  bad_row("unknown operand kind");
}

}  // namespace opcode_row_detail

namespace opcode_row_detail {

// "VEX.LZ.F2.0F38.W0", behind "VEX.".
constexpr void parse_vex(RowSpec& row, std::string_view text) {
  row.vex = true;
  row.prefix = PrefixRule::None;
  while (!text.empty()) {
    const usize dot = text.find('.');
    const std::string_view token = text.substr(0, dot);
    text = dot == text.npos ? std::string_view() : text.substr(dot + 1);
    if (token == "LZ" || token == "L0" || token == "128") row.vex_l = 0;
    else if (token == "L1" || token == "256") row.vex_l = 1;
    else if (token == "LIG") row.vex_l = -1;
    else if (token == "66") row.prefix = PrefixRule::P66;
    else if (token == "F3") row.prefix = PrefixRule::PF3;
    else if (token == "F2") row.prefix = PrefixRule::PF2;
    else if (token == "0F") row.map = OpcodeMap::Vex0F;
    else if (token == "0F38") row.map = OpcodeMap::Vex0F38;
    else if (token == "0F3A") row.map = OpcodeMap::Vex0F3A;
    else if (token == "W0") row.rex_w = 0;
    else if (token == "W1") row.rex_w = 1;
    else bad_row("unknown part of a VEX prefix");
  }
  if (row.map == OpcodeMap::OneByte) bad_row("VEX without a map");
}

}  // namespace opcode_row_detail

consteval RowSpec row_spec(const char* mnemonic, const char* encoding, const char* operand_text, Feature feature,
                           u32 attributes) {
  using namespace opcode_row_detail;
  RowSpec row;
  row.mnemonic = mnemonic;
  row.encoding = encoding;
  row.operand_text = operand_text;
  row.feature = feature;
  row.attributes = attributes;

  bool in_bytes = false, have_opcode = false;
  std::string_view rest = encoding;
  while (!rest.empty()) {
    const usize space = rest.find(' ');
    const std::string_view token = rest.substr(0, space);
    rest = space == rest.npos ? std::string_view() : rest.substr(space + 1);
    if (token == "NP") row.prefix = PrefixRule::None;
    else if (token == "NFx") row.prefix = PrefixRule::NoF;
    else if (token == "REX.W") row.rex_w = 1;
    else if (token == "W0") row.rex_w = 0;
    else if (token == "REX.B0") row.rex_b_clear = true;
    else if (token.starts_with("VEX.")) {
      parse_vex(row, token.substr(4));
      in_bytes = true;
    }
    else if (token == "mem") row.modrm_rule = ModrmRule::Memory;
    else if (token == "reg") row.modrm_rule = ModrmRule::Register;
    else if (!in_bytes && (token == "66" || token == "F3" || token == "F2") && !rest.empty())
      row.prefix = token == "66" ? PrefixRule::P66 : token == "F3" ? PrefixRule::PF3 : PrefixRule::PF2;
    else if (token[0] == '/') {
      row.has_modrm = true;
      if (token != "/r") row.reg = static_cast<i8>(hex_digit(token[1]));
    } else {
      const int high = hex_digit(token[0]), low = hex_digit(token[1]);
      if (high < 0 || low < 0) bad_row("not a byte");
      const u8 byte = static_cast<u8>(high * 16 + low);
      const std::string_view suffix = token.substr(2);
      in_bytes = true;
      if (!have_opcode && row.map == OpcodeMap::OneByte && byte == 0x0f) row.map = OpcodeMap::TwoByte;
      else if (!have_opcode && row.map == OpcodeMap::TwoByte && byte == 0x38) row.map = OpcodeMap::ThreeByte38;
      else if (!have_opcode && row.map == OpcodeMap::TwoByte && byte == 0x3a) row.map = OpcodeMap::ThreeByte3A;
      else if (!have_opcode) {
        have_opcode = true;
        row.opcode = byte;
        row.register_in_opcode = suffix == "+r";
      } else {
        row.has_modrm = true;
        row.modrm_rule = ModrmRule::Register;
        row.reg = static_cast<i8>((byte >> 3) & 7);
        if (suffix != "+i") row.rm = static_cast<i8>(byte & 7);
      }
    }
  }
  if (!have_opcode) bad_row("no opcode");

  std::string_view operands = operand_text;
  usize count = 0;
  while (!operands.empty()) {
    const usize comma = operands.find(',');
    if (count == row.operands.size()) bad_row("too many operands");
    const OperandSpec operand = parse_operand(operands.substr(0, comma));
    operands = comma == operands.npos ? std::string_view() : operands.substr(comma + 1);
    row.operands[count++] = operand;
    switch (operand.kind) {
      case OperandKind::Memory:
        if (!row.has_modrm) bad_row("memory operand without ModRM");
        row.modrm_rule = ModrmRule::Memory;
        break;
      case OperandKind::GprInModrm:
      case OperandKind::XmmInModrm:
      case OperandKind::MmxInModrm:
        if (!row.has_modrm) bad_row("register operand without ModRM");
        row.modrm_rule = ModrmRule::Register;
        break;
      case OperandKind::GprOrMemory:
      case OperandKind::XmmOrMemory:
      case OperandKind::MmxOrMemory:
      case OperandKind::Gpr:
      case OperandKind::XmmInReg:
      case OperandKind::MmxInReg:
      case OperandKind::Segment:
        if (operand.kind != OperandKind::Segment && !row.has_modrm) bad_row("ModRM operand without ModRM");
        break;
      default:
        break;
    }
  }
  return row;
}

}  // namespace vellum
