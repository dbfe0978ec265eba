// One line for each operation and for each instruction of host code.
#include "jit/translation_log.h"

#include "jit/operation_text.h"
#include "state/log.h"

namespace vellum {

bool TranslationLog::wanted() {
  return log_enabled(LogItem::Op) || log_enabled(LogItem::OutAsm) || log_enabled(LogItem::Tiers);
}

void TranslationLog::block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode& code) {
  const u64 rip = m_core.s.rip, page = rip - block.page_offset();
  const auto is_insn = [](const CodePart& part) { return part.kind == CodePart::Kind::Stencil || part.kind == CodePart::Kind::Handler; };
  log(LogItem::Tiers, "block {:#x}: {} instructions, baseline, {} bytes", rip, block.real_count, block.code_size + block.cold_size);
  if (log_enabled(LogItem::Op)) {
    log(LogItem::Op, "block {:#x}, {}", rip, describe_mode(block.mode));
    for (const CodePart& part : parts)
      if (is_insn(part)) log(LogItem::Op, "{:#x}: {}", page + block.insns[part.position].offset, describe_operation(block, part.position, part.handler));
  }
  if (log_enabled(LogItem::OutAsm)) {
    log(LogItem::OutAsm, "block {:#x}: {} bytes at {} and {} at {}", rip, code.hot.size(), static_cast<const void*>(code.hot.data()), code.cold.size(),
        static_cast<const void*>(code.cold.data()));
    const auto is_own = [&code](u64 address) { return code.contains(address); };
    for (const CodePart& part : parts) {
      if (part.kind == CodePart::Kind::Entry) log(LogItem::OutAsm, " entry");
      if (part.kind == CodePart::Kind::Exit) log(LogItem::OutAsm, " exit");
      if (is_insn(part)) log(LogItem::OutAsm, " guest {:#x}", page + block.insns[part.position].offset);
      log_code(code.hot.subspan(part.hot, part.hot_size), is_own);
    }
    for (const CodePart& part : parts) {
      if (part.cold_size == 0) continue;
      if (is_insn(part)) log(LogItem::OutAsm, " guest {:#x}, out of the way", page + block.insns[part.position].offset);
      else log(LogItem::OutAsm, " {}, out of the way", part.kind == CodePart::Kind::Entry ? "entry" : "exit");
      log_code(code.cold.subspan(part.cold, part.cold_size), is_own);
    }
  }
}

void TranslationLog::region_translated(u64 rip, std::span<Block* const>, std::span<const u8> code) {
  if (!log_enabled(LogItem::OutAsm)) return;
  log(LogItem::OutAsm, "region {:#x}: {} bytes at {}", rip, code.size(), static_cast<const void*>(code.data()));
  log_code(code, [code](u64 address) { return address - reinterpret_cast<u64>(code.data()) < code.size(); });
}

void TranslationLog::log_code(std::span<const u8> code, const std::function<bool(u64)>& is_own) const {
  while (!code.empty()) {
    const u64 at = reinterpret_cast<u64>(code.data());
    const DisassembledInsn insn = m_host.one(code, at, [&](u64 target) {
      if (is_own(target)) return fmt::format("{:#x}", target);
      const std::string name = host_function_name(reinterpret_cast<const void*>(target));
      return name.empty() ? fmt::format("{:#x}", target) : name;
    });
    log(LogItem::OutAsm, "{:#x}:  {:<30} {}", at, hex_bytes(code.first(insn.length)), insn.text);
    code = code.subspan(insn.length);
  }
}

}  // namespace vellum
