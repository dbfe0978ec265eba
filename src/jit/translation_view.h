// What becomes of guest code, for people: guest instructions, callouts, and the host code of each tier beside them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cpu/cpu.h"
#include "cpu/disassembler.h"
#include "state/error.h"

namespace vellum {

enum TranslationPart : u32 {
  kShowGuest = 1,
  kShowCallouts = 2,
  kShowIr = 4,            // LLVM's, as it is lifted
  kShowOptimizedIr = 8,
  kShowBaseline = 16,
  kShowOptimized = 32,    // host code of the optimizing tier
  kShowAll = 63,
};
// A comma-separated list of guest, callouts, ir, optimized-ir, baseline, optimized and all. `what` names the option in errors.
Result<u32> parse_translation_parts(std::string_view what, std::string_view text);
std::span<const std::string_view> translation_part_names();
// Those that this build has.
u32 default_translation_parts();

struct TranslationRequest {
  std::span<const u8> code;
  u64 address = 0;               // of the first byte, as a linear address
  CpuModel model;
  u32 mode = 0;                  // BlockMode bits
  u32 parts = kShowGuest;
  AssemblySyntax syntax = AssemblySyntax::Att;
};
// The mode of an ordinary program of that code size: flat segments, FPU and vector units on; 16 bits: real mode.
u32 usual_mode(CodeSize code_size);
// Text of several lines. An error says which part this build cannot show.
Result<std::string> show_translation(const TranslationRequest& request);
// Of a running guest's code at a linear address under its present mapping and mode.
Result<std::string> show_guest_translation(Cpu& cpu, u64 address, u64 length, u32 parts, AssemblySyntax syntax);

}  // namespace vellum
