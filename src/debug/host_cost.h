// What the guest's code costs as host code: bytes for each instruction, the regions that it is part of, and where it is overwritten.
#pragma once

#include <functional>
#include <unordered_map>

#include "jit/translation_observer.h"
#include "state/integers.h"

namespace vellum {

class HostCost final : public TranslationObserver {
 public:
  // Of one instruction in its block's code; several versions at one place (for other modes, or of other bytes) count as the last.
  struct Baseline {
    u32 hot = 0, cold = 0;  // bytes that usually run, and those for what is rare
    bool handler = false;   // it calls the interpreter's handler
  };
  // Of the region compiled last that has the instruction.
  struct Region {
    u32 bytes = 0, insns = 0;  // host bytes, guest instructions
  };

  void block_translated(const Block& block, std::span<const CodePart> parts, const BlockCode& code) override;
  void region_translated(u64 rip, std::span<Block* const> blocks, std::span<const u8> code) override;
  void block_overwritten(const Block& block) override;

  // Of the instruction that begins at this place in RAM, or nullptr.
  const Baseline* baseline(u64 ram_offset) const { return find(m_baseline, ram_offset); }
  const Region* region(u64 ram_offset) const { return find(m_regions, ram_offset); }
  // Is told of each block of code that the guest overwrites.
  std::function<void(u64 ram_offset)> on_overwritten = [](u64) {};

 private:
  // A guest decides how much there is; what comes later has no cost then.
  static constexpr usize kMost = 1'000'000;
  template <class T>
  static const T* find(const std::unordered_map<u64, T>& all, u64 ram_offset) {
    const auto found = all.find(ram_offset);
    return found == all.end() ? nullptr : &found->second;
  }
  std::unordered_map<u64, Baseline> m_baseline;
  std::unordered_map<u64, Region> m_regions;
};

}  // namespace vellum
