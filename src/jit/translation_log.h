// Translated code in the log: -d op, out_asm and tiers.
#pragma once

#include <functional>
#include <memory>

#include "cpu/core.h"
#include "cpu/disassembler.h"
#include "jit/translation_observer.h"

namespace vellum {

class TranslationLog final : public TranslationObserver {
 public:
  // Blocks are named by the RIP at which `core` is about to enter them.
  explicit TranslationLog(const CpuCore& core) : m_core(core), m_host(Disassembler::for_host()) {}
  // Whether any of the items is on.
  static bool wanted();
  void region_translated(u64 rip, std::span<Block* const> blocks, std::span<const u8> code) override;
  void block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode& code) override;

 private:
  // `is_own`: whether an address lies within the block or region.
  void log_code(std::span<const u8> code, const std::function<bool(u64)>& is_own) const;

  const CpuCore& m_core;
  Disassembler m_host;
};

}  // namespace vellum
