// Known differences to Capstone 4.0.2.
#include "known_capstone_errors.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "cpu/opcodes.h"

namespace {

// Instruction-set extensions that are not part of the opcode table yet.
bool in_missing_extension(const cs_insn& insn) {
  static constexpr uint8_t kGroups[] = {X86_GRP_3DNOW, X86_GRP_AVX512, X86_GRP_FMA4, X86_GRP_XOP, X86_GRP_TBM, X86_GRP_SSE4A, X86_GRP_VM, X86_GRP_RTM,
                                        X86_GRP_HLE, X86_GRP_SGX, X86_GRP_VLX, X86_GRP_CDI, X86_GRP_ERI, X86_GRP_PFI,
                                        X86_GRP_DQI, X86_GRP_BWI};
  for (unsigned i = 0; i < insn.detail->groups_count; ++i)
    for (const uint8_t group : kGroups)
      if (insn.detail->groups[i] == group) return true;
  return false;
}

// The bytes as a decoder sees them: prefixes, then opcode.
struct Parsed {
  bool operand_prefix = false, repeat = false, rex_w = false;
  const vellum::u8* opcode;
};

Parsed parse(const vellum::u8* bytes, unsigned bits) {
  Parsed parsed;
  const vellum::u8* end = bytes + vellum::kMaxInsnLength - 2;
  for (; bytes < end; ++bytes) {
    const vellum::u8 byte = *bytes;
    if (bits == 64 && (byte & 0xf0) == 0x40) {
      parsed.rex_w = byte & 8;
      continue;
    }
    if (byte == 0x66) parsed.operand_prefix = true;
    else if (byte == 0xf2 || byte == 0xf3) parsed.repeat = true;
    else if (byte != 0x67 && byte != 0xf0 && byte != 0x26 && byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x64 && byte != 0x65)
      break;
    parsed.rex_w = false;
  }
  parsed.opcode = bytes;
  return parsed;
}

bool bytes_contain(const vellum::u8* bytes, const vellum::u8* opcode, vellum::u8 prefix) {
  return std::find(bytes, opcode, prefix) != opcode;
}
bool bytes_contain_lock(const vellum::u8* bytes, const vellum::u8* opcode) { return bytes_contain(bytes, opcode, 0xf0); }

// Whether every row of a three-byte VEX opcode has W0.
bool needs_clear_w(const vellum::u8* vex) {
  using namespace vellum;
  const unsigned map = vex[1] & 31;
  constexpr OpcodeMap kMaps[] = {OpcodeMap::Vex0F, OpcodeMap::Vex0F38, OpcodeMap::Vex0F3A};
  constexpr PrefixRule kPrefixes[] = {PrefixRule::None, PrefixRule::P66, PrefixRule::PF3, PrefixRule::PF2};
  if (map < 1 || map > 3) return false;
  bool known = false;
  for (const RowSpec& row : opcode_rows()) {
    if (!row.vex || row.map != kMaps[map - 1] || row.opcode != vex[3] || row.prefix != kPrefixes[vex[2] & 3]) continue;
    if (row.rex_w != 0) return false;
    known = true;
  }
  return known;
}

bool mnemonic_is(const cs_insn* insn, std::initializer_list<const char*> names) {
  if (!insn) return false;
  for (const char* name : names)
    if (std::strcmp(insn->mnemonic, name) == 0) return true;
  return false;
}

}  // namespace

const KnownError* known_capstone_error(const vellum::u8* bytes, unsigned bits, const vellum::Insn* ours, const cs_insn* theirs) {
  static constexpr KnownError kMissing{"an extension that Vellum does not offer"};
  static constexpr KnownError kRepeatOnMmx{
      "F2 or F3 in front of an MMX or SSE opcode that has no such form: #UD on silicon, ignored by Capstone"};
  static constexpr KnownError kOperandPrefix16{"16-bit code: 66 as a mandatory prefix is taken for an operand size"};
  static constexpr KnownError kSyscall{"SYSCALL and SYSRET outside 64-bit mode are AMD's; Intel CPUs raise #UD"};
  static constexpr KnownError kGetsec{"GETSEC belongs to SMX, which is not offered"};
  static constexpr KnownError kUd{"UD0 and UD1 have a ModRM byte (SDM Vol. 2B \"UD\")"};
  static constexpr KnownError kHint{"0F 0D and 0F 18 to 0F 1F are hints for every ModRM (SDM Vol. 2B \"NOP\", AMD APM Vol. 3 \"PREFETCH\")"};
  static constexpr KnownError kSegment{"segment registers 6 and 7: decoded, and refused by the instruction itself"};
  static constexpr KnownError kSelectorWidth{"a selector operand is 16 bits whatever the operand size"};
  static constexpr KnownError kMovsxd{"MOVSXD without REX.W has a 32-bit destination"};
  static constexpr KnownError kPorts{"REX.W does not widen IN and OUT beyond EAX"};
  static constexpr KnownError kEnter{"ENTER's second immediate is an unsigned byte"};

  static constexpr KnownError kRepeat16{"16-bit code: a mandatory F2 or F3 is ignored"};
  static constexpr KnownError kBranch66{"64-bit near branches with 66 keep a 32-bit displacement on Intel CPUs; Capstone follows AMD"};
  static constexpr KnownError kBranch16{"16-bit code with 66: the target is not wrapped to the operand size"};
  static constexpr KnownError kLockedLoad{"LOCK needs a memory destination"};
  static constexpr KnownError kPrefixed66{"66 in front of an opcode that is defined without it only: #UD on silicon"};
  static constexpr KnownError kFence{"fences ignore ModRM.rm"};
  static constexpr KnownError kXchg{"XCHG with 66 prints the wrong width of the accumulator"};

  static constexpr KnownError kAddressPrefix{"67 is taken for an operand-size prefix of a branch or of an MMX operation"};
  static constexpr KnownError kPseudo{"CMPPS, VCMPPS and their kin are printed with the predicate in the mnemonic"};
  static constexpr KnownError kDecimal{"AAM and AAD are printed without their immediate"};
  static constexpr KnownError kRexW{"REX.W in front of C2, C3 is taken for a longer instruction"};
  static constexpr KnownError kOff{"MONITOR, SGX, RTM, PadLock and VIA extensions are not offered"};
  static constexpr KnownError kSystem64{"SWAPGS exists in 64-bit mode only"};
  static constexpr KnownError kRepeatIgnored{"F2 or F3 changes nothing here; Capstone drops the operand size or refuses"};
  static constexpr KnownError kPkru{"RDPKRU and WRPKRU are unknown to Capstone 4"};

  static constexpr KnownError kMandatoryNotLast{"a mandatory prefix with another prefix or REX.W behind it is ignored"};
  static constexpr KnownError kInvpcid{"INVPCID's register is as wide as the mode"};

  static constexpr KnownError kVaes{"VAES and VPCLMULQDQ on YMM are unknown to Capstone 4"};
  static constexpr KnownError kBroadcast{"VBROADCASTI128 is unknown to Capstone 4"};
  static constexpr KnownError kVexW{"outside 64-bit mode VEX.W does not widen general registers"};
  static constexpr KnownError kPrefixedVex{"66, F2, F3, LOCK or REX in front of VEX is #UD (SDM Vol. 2A 2.3.2 to 2.3.4)"};
  static constexpr KnownError kVexW1{"VEX.W where the encoding has W0 is #UD (SDM Vol. 2A 2.3.5, silicon)"};
  static constexpr KnownError kGather{"VSIB with 16-bit addresses, or with registers that coincide, is #UD (SDM Vol. 2C \"VGATHERDPS\")"};
  static constexpr KnownError kFourthOperand{"outside 64-bit mode bit 7 of an immediate that names a register is ignored"};

  const Parsed parsed = parse(bytes, bits);
  const vellum::u8* op = parsed.opcode;
  if (ours && theirs && (op[0] == 0xc4 ? op[3] : op[2]) == 0xc2 && std::strncmp(theirs->mnemonic, "vcmp", 4) == 0) return &kPseudo;
  if (op[0] == 0xc4 && ours) {
    const unsigned map = op[1] & 31, opcode = op[3];
    if (!theirs && (op[2] & 4) && ((map == 2 && opcode >= 0xdc && opcode <= 0xdf) || (map == 3 && opcode == 0x44))) return &kVaes;
    if (!theirs && map == 2 && opcode == 0x5a) return &kBroadcast;
    if (theirs && bits != 64 && (op[2] & 0x80) && map == 3 && (opcode == 0x16 || opcode == 0x22)) return &kVexW;
    if (theirs && bits != 64 && map == 3 && opcode >= 0x4a && opcode <= 0x4c) return &kFourthOperand;
  }
  if (!ours && theirs) {
    if (in_missing_extension(*theirs)) return &kMissing;
    if (op[0] == 0xc4 || op[0] == 0xc5) {
      if (parsed.operand_prefix || parsed.repeat || bytes_contain_lock(bytes, op)) return &kPrefixedVex;
      if (op[0] == 0xc4 && (op[2] & 0x80) && needs_clear_w(op)) return &kVexW1;
      if (op[0] == 0xc4 && (op[1] & 31) == 2 && op[3] >= 0x90 && op[3] <= 0x93) return &kGather;
    }
    if (mnemonic_is(theirs, {"getsec"})) return &kGetsec;
    if (bits != 64 && mnemonic_is(theirs, {"syscall", "sysret"})) return &kSyscall;
    if (parsed.repeat && op[0] == 0x0f) return &kRepeatOnMmx;
    if (mnemonic_is(theirs, {"mwait", "monitor", "enclu", "encls", "xtest", "xend", "xabort", "xbegin", "montmul", "xstorerng",
                             "xstore", "xsha1", "xsha256", "xcryptecb", "xcryptcbc", "xcryptctr", "xcryptcfb", "xcryptofb",
                             "clgi", "stgi", "skinit", "monitorx", "mwaitx", "clzero", "xrstors", "xrstors64", "pconfig"}))
      return &kOff;
    if (bits != 64 && mnemonic_is(theirs, {"swapgs"})) return &kSystem64;
    if (std::strncmp(theirs->mnemonic, "lock ", 5) == 0 || bytes_contain_lock(bytes, op)) return &kLockedLoad;
  }
  if (ours && !theirs && op[0] == 0x0f && op[1] == 0x01 && (op[2] == 0xee || op[2] == 0xef)) return &kPkru;
  if (op[0] == 0xd4 || op[0] == 0xd5) return &kDecimal;
  if (ours && theirs && (op[1] == 0xc2) && std::strncmp(theirs->mnemonic, "cmp", 3) == 0) return &kPseudo;
  const bool near_branch = op[0] == 0xe8 || op[0] == 0xe9 || op[0] == 0xeb || op[0] == 0xc2 || op[0] == 0xc3 || (op[0] & 0xf0) == 0x70 ||
                           (op[0] & 0xfc) == 0xe0 || (op[0] == 0x0f && (op[1] & 0xf0) == 0x80) || op[0] == 0xff || op[0] == 0xc7;
  if (parsed.operand_prefix && near_branch) return bits == 64 ? &kBranch66 : &kBranch16;
  if (near_branch && bytes_contain(bytes, op, 0x67)) return &kAddressPrefix;
  if (bits == 64 && parsed.rex_w && (op[0] == 0xc2 || op[0] == 0xca)) return &kRexW;
  if (!ours && theirs && parsed.operand_prefix && op[0] == 0x0f && (op[1] == 0x77 || op[1] == 0x52 || op[1] == 0x53 || op[1] == 0xc3 || op[1] == 0x12 || op[1] == 0x16 || op[1] == 0x38 || op[1] == 0x3a || op[1] == 0xae || op[1] == 0xc7 || op[1] == 0x01))
    return &kPrefixed66;
  if (ours && op[0] == 0x0f && op[1] == 0xae && op[2] >= 0xe8) return &kFence;
  if (parsed.operand_prefix && (op[0] & 0xf8) == 0x90) return &kXchg;
  if (op[0] == 0x0f && (op[1] == 0xff || op[1] == 0xb9)) return &kUd;
  if (op[0] == 0x0f && (op[1] == 0x0d || (op[1] >= 0x18 && op[1] <= 0x1f))) return &kHint;
  if (op[0] == 0x8e || op[0] == 0x8c) return ((op[1] >> 3) & 7) >= 6 ? &kSegment : &kSelectorWidth;
  if (op[0] == 0x0f && (op[1] == 2 || op[1] == 3)) return &kSelectorWidth;
  if (bits == 64 && op[0] == 0x63) return &kMovsxd;
  if (op[0] == 0xc8) return &kEnter;
  if (parsed.rex_w && (op[0] & 0xf4) == 0xe4) return &kPorts;
  if (bits == 16 && parsed.operand_prefix && op[0] == 0x0f) return &kOperandPrefix16;
  if (bits == 16 && parsed.repeat && op[0] == 0x0f) return &kRepeat16;
  if (op[0] == 0x0f && bytes_contain(bytes, op, 0x67)) return &kAddressPrefix;
  if (op[0] == 0x0f && op[1] == 0x38 && op[2] == 0x82) return &kInvpcid;
  if (op[0] == 0x0f && (parsed.operand_prefix || parsed.repeat) && op - bytes >= 2) return &kMandatoryNotLast;
  if (op[0] != 0x0f && parsed.repeat && parsed.operand_prefix) return &kRepeatIgnored;
  return nullptr;
}
