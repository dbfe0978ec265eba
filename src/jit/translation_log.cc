// One line for each operation and for each instruction of host code.
#include "jit/translation_log.h"

#include "jit/operation_text.h"
#include "state/log.h"

namespace vellum {

bool TranslationLog::wanted() {
  return log_enabled(LogItem::Op) || log_enabled(LogItem::OutAsm) || log_enabled(LogItem::Tiers);
}

void TranslationLog::block_translated(const Block& block, std::span<const CodePart> parts, std::span<const u8> code) {
  const u64 rip = m_core.s.rip, page = rip - block.page_offset();
  const auto is_insn = [](const CodePart& part) { return part.kind == CodePart::Kind::Stencil || part.kind == CodePart::Kind::Handler; };
  log(LogItem::Tiers, "block {:#x}: {} instructions, baseline, {} bytes", rip, block.real_count, block.code_size);
  if (log_enabled(LogItem::Op)) {
    log(LogItem::Op, "block {:#x}, {}", rip, describe_mode(block.mode));
    for (const CodePart& part : parts)
      if (is_insn(part)) log(LogItem::Op, "{:#x}: {}", page + block.insns[part.position].offset, describe_operation(block, part.position, part.handler));
  }
  if (log_enabled(LogItem::OutAsm)) {
    log(LogItem::OutAsm, "block {:#x}: {} bytes at {}", rip, code.size(), static_cast<const void*>(code.data()));
    for (const CodePart& part : parts) {
      if (part.kind == CodePart::Kind::Entry) log(LogItem::OutAsm, " entry");
      if (part.kind == CodePart::Kind::Exit) log(LogItem::OutAsm, " exit");
      if (is_insn(part)) log(LogItem::OutAsm, " guest {:#x}", page + block.insns[part.position].offset);
      log_code(code.size(), part.hot, code.subspan(part.hot, part.hot_size));
    }
    for (const CodePart& part : parts) {
      if (part.cold_size == 0) continue;
      if (is_insn(part)) log(LogItem::OutAsm, " guest {:#x}, out of the way", page + block.insns[part.position].offset);
      else log(LogItem::OutAsm, " {}, out of the way", part.kind == CodePart::Kind::Entry ? "entry" : "exit");
      log_code(code.size(), part.cold, code.subspan(part.cold, part.cold_size));
    }
  }
}

void TranslationLog::region_translated(u64 rip, std::span<Block* const>, std::span<const u8> code) {
  if (!log_enabled(LogItem::OutAsm)) return;
  log(LogItem::OutAsm, "region {:#x}: {} bytes at {}", rip, code.size(), static_cast<const void*>(code.data()));
  log_code(code.size(), 0, code);
}

void TranslationLog::log_code(u64 size, u32 offset, std::span<const u8> code) const {
  const u64 start = reinterpret_cast<u64>(code.data()) - offset;
  while (!code.empty()) {
    const u64 at = reinterpret_cast<u64>(code.data());
    const DisassembledInsn insn = m_host.one(code, at, [&](u64 target) {
      if (target - start < size) return fmt::format("{:#x}", target);
      const std::string name = host_function_name(reinterpret_cast<const void*>(target));
      return name.empty() ? fmt::format("{:#x}", target) : name;
    });
    log(LogItem::OutAsm, "{:#x}:  {:<30} {}", at, hex_bytes(code.first(insn.length)), insn.text);
    code = code.subspan(insn.length);
  }
}

}  // namespace vellum
