// Host instructions of a region that holds one guest instruction of each opcode row, beyond those of one with NOP, for a CPU
// that is the same everywhere, held against a file in the tree: a regression shows in review.
//   region-counts GENERATOR FILE           fails with the lines that differ; GENERATOR is llvm or quick
//   region-counts GENERATOR --write FILE   writes it anew
#include <fmt/format.h>

#include <optional>

#include "cpu/decoder.h"
#include "cpu/disassembler.h"
#include "cpu/opcodes.h"
#include "golden_file.h"
#include "instructions/generator.h"
#include "jit/long_mode_guest.h"

using namespace vellum;

namespace {

constexpr u64 kSpacing = 32;  // bytes between two instructions

struct Place {
  bool memory;
  unsigned operand_size;  // bytes
};

// The encodings of rows that are measured: of those that the generator of the instruction tests finds, the shortest.
class Encodings {
 public:
  explicit Encodings(const CpuModel& model) : m_decoder(model), m_generator(model, {}) {}

  std::optional<std::vector<u8>> find(u16 row, const Place& place) {
    constexpr u64 kTries = 200;
    std::optional<std::vector<u8>> best;
    for (u64 seed = 1; seed <= kTries; ++seed) {
      const std::vector<u8> code = m_generator.make_one(seed, row, instructions::Environment::Long64, 0).code;
      if (code.empty() || (best && std::pair(best->size(), *best) <= std::pair(code.size(), code))) continue;
      std::vector<u8> padded = code;
      padded.resize(code.size() + kMaxInsnLength, 0xf4);
      Insn insn;
      if (m_decoder.decode(padded, CodeSize::Bits64, false, insn) != DecodeStatus::Ok || insn.row != row || insn.length != code.size()) continue;
      if (insn.memory != place.memory || insn.operand_size != place.operand_size || (insn.prefixes & (kPrefixLock | kPrefixSegment))) continue;
      best = code;
    }
    return best;
  }

 private:
  Decoder m_decoder;
  instructions::Generator m_generator;
};

class Counter {
 public:
  Counter(RegionCompiler& compiler, bool wants_quick) : m_compiler(compiler), m_wants_quick(wants_quick) {
    CpuState& s = m_guest.cpu.s;
    s.cr4 |= kCr4Osxsave;
    s.xcr0 = kXcr0X87 | kXcr0Sse | kXcr0Avx;
    m_guest.cpu.update_mode();
  }

  // Host instructions of the region; 0 when the optimizing tier leaves the instruction to its handler, or the quick generator
  // to LLVM.
  unsigned count(std::span<const u8> code) {
    m_guest.memory.write(GuestPhysAddr(m_at), code);
    m_guest.memory.write_value<u8>(GuestPhysAddr(m_at + code.size()), 0xf4);
    const Region region = make_region(m_guest.cpu, m_at, 1);
    m_at += kSpacing;
    if (region.blocks[0].variants[0] == kNoVariant) return 0;
    const auto compiled = m_compiler.compile(region);
    if (!compiled || compiled->statistics.instructions == 0) return 0;
    if (m_wants_quick && !compiled->statistics.quick) return 0;
    return m_host.count({compiled->code, compiled->code_size});
  }

 private:
  RegionCompiler& m_compiler;
  bool m_wants_quick;
  LongModeGuest m_guest{std::span<const u8>()};
  u64 m_at = LongModeGuest::kCodeAt;
  const Disassembler m_host = Disassembler::for_host();
};

std::vector<std::string> golden_lines(RegionCompiler& compiler, const RegionTarget& target) {
  const bool quick = target.generator == CodeGenerator::Quick;
  std::vector<std::string> lines = {
      golden::made_by("region-counts"),
      fmt::format("# For {}, by {}. A field is PLACE OPERAND SIZES : HOST INSTRUCTIONS of a region with that instruction alone, less those of a", target.cpu, quick ? "the quick code generator" : "LLVM"),
      "# region with NOP, which stand first: the ways in and out. Place: r register, m memory.",
  };
  CpuModel model = *parse_cpu_model("max");
  model.features.set(static_cast<usize>(Feature::Base));
  Encodings encodings(model);
  Counter counter(compiler, quick);
  golden::RowNames names;
  const u8 nop[] = {0x90};
  const int empty = static_cast<int>(counter.count(nop));
  lines.push_back(fmt::format("(nop): {}", empty));
  u64 regions = 0, insns = 0, handlers = 0;
  for (u16 row = 0; row < opcode_rows().size(); ++row) {
    if (interpreter_row(row).flow == Flow::Callout) continue;  // docs/callouts.md has these
    std::string text;
    const std::string name = names.next(row);
    for (const bool memory : {false, true}) {
      std::string last;  // operand sizes that have the same count share a field
      for (const unsigned size : {4u, 8u}) {
        const auto code = encodings.find(row, {memory, size});
        if (!code) continue;
        const unsigned count = counter.count(*code);
        const std::string figure = count ? fmt::format("{}", static_cast<int>(count) - empty) : quick ? "other" : "handler";
        if (count) ++regions;
        else ++handlers;
        insns += count;
        if (figure == last) text.insert(text.rfind(':'), std::to_string(size));
        else text += fmt::format(" {}{}:{}", memory ? 'm' : 'r', size, figure);
        last = figure;
      }
    }
    if (!text.empty()) lines.push_back(name + ":" + text);  // others have no encoding in 64-bit mode
  }
  lines.push_back(fmt::format("# {} regions: {} instructions; {} {}", regions, insns, handlers, quick ? "are LLVM's, or run a handler" : "run a handler"));
  return lines;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view generator = argc > 1 ? argv[1] : "";
  if (generator != "llvm" && generator != "quick") {
    fmt::print(stderr, "usage: region-counts llvm|quick [--write] FILE\n");
    return 2;
  }
  const RegionTarget target{"x86-64-v3", "", generator == "quick" ? CodeGenerator::Quick : CodeGenerator::Llvm};
  TestCodeMemory memory;
  const auto compiler = RegionCompiler::create(memory, target);
  if (!compiler) {
    fmt::print("no optimizing tier: {}\n", compiler.error());
    return golden::kSkipped;
  }
  return golden::judge(argc - 1, argv + 1, [&] { return golden_lines(**compiler, target); });
}
