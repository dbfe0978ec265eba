// Translated code in the log: -d op, out_asm and tiers.
#pragma once

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
  void block_translated(const Block& block, std::span<const CodePart> parts, std::span<const u8> code) override;

 private:
  void log_code(u64 size, u32 offset, std::span<const u8> code) const;

  const CpuCore& m_core;
  Disassembler m_host;
};

}  // namespace vellum
