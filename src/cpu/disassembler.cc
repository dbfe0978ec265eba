// Capstone's handle, and the names of jump targets.
#include "cpu/disassembler.h"

#include <capstone/capstone.h>
#include <fmt/format.h>

#include <algorithm>

#include "state/assert.h"

namespace vellum {

struct Disassembler::Handle {
  csh engine = 0;
  cs_insn* insn = nullptr;
  u8 least_length;  // of an instruction, bytes: what is skipped of those that Capstone does not know

  Handle(cs_arch architecture, cs_mode mode, AssemblySyntax syntax) : least_length(architecture == CS_ARCH_ARM64 ? 4 : 1) {
    // Debian's Capstone has both architectures that Vellum runs on.
    VELLUM_ASSERT(cs_open(architecture, mode, &engine) == CS_ERR_OK);
    if (architecture == CS_ARCH_X86)
      cs_option(engine, CS_OPT_SYNTAX, syntax == AssemblySyntax::Att ? CS_OPT_SYNTAX_ATT : CS_OPT_SYNTAX_INTEL);
    cs_option(engine, CS_OPT_DETAIL, CS_OPT_ON);
    insn = cs_malloc(engine);
  }
  Handle(const Handle&) = delete;
  ~Handle() {
    cs_free(insn, 1);
    cs_close(&engine);
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
  const u8* bytes = code.data();
  size_t left = code.size();
  u64 next = address;
  cs_insn& insn = *m_handle->insn;
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
