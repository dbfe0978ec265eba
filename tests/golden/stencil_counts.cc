// Host instructions and bytes of each opcode row's stencils, held against a file in the tree: a regression shows in review.
//   stencil-counts FILE           fails with the lines that differ
//   stencil-counts --write FILE   writes it anew
#include <fmt/format.h>

#include <string>
#include <vector>

#include "cpu/disassembler.h"
#include "cpu/opcodes.h"
#include "golden_file.h"
#include "jit/glue.h"
#include "jit/stencil.h"

using namespace vellum;

namespace {

StencilSet g_set = StencilSet::Portable;

struct Totals {
  u64 stencils = 0, insns = 0, hot = 0, brief_insns = 0, brief_hot = 0, cold = 0;
};

const Disassembler& host() {
  static const Disassembler disassembler = Disassembler::for_host();
  return disassembler;
}

unsigned insns_of(const StencilGroup& group, const Stencil& stencil) { return host().count({group.code + stencil.code, stencil.hot_size}); }

// "4/19": instructions and bytes of the part that is run; "~3/12" those of its briefest form; "+20" the bytes that are out of the way.
std::string size_of(const StencilRef& ref, Totals& totals) {
  const Stencil& stencil = *ref.stencil;
  const unsigned insns = insns_of(*ref.group, stencil);
  ++totals.stencils;
  totals.insns += insns;
  totals.hot += stencil.hot_size;
  totals.cold += stencil.cold_size;
  std::string text = fmt::format("{}/{}", insns, stencil.hot_size);
  const Stencil* brief = &stencil;
  while (brief->brief != kNoStencil) brief = &ref.group->stencils[brief->brief];
  if (brief != &stencil) text += fmt::format("~{}/{}", insns_of(*ref.group, *brief), brief->hot_size);
  totals.brief_insns += insns_of(*ref.group, *brief);
  totals.brief_hot += brief->hot_size;
  if (stencil.cold_size) text += fmt::format("+{}", stencil.cold_size);
  return text;
}

struct Place {
  const char* name;
  bool memory, plain;
};
constexpr Place kPlaces[] = {{"r", false, false}, {"m", true, false}, {"p", true, true}};

struct Extra {
  const char* name;
  bool flags_dead;
  FlagProducer producer;
};
// Strings have repetitions where others have the last two, and conditions what is handed to them.
constexpr Extra kExtras[] = {{"", false, FlagProducer::Unknown}, {"-", true, FlagProducer::Unknown},
                             {"s", false, FlagProducer::Subtract}, {"l", false, FlagProducer::Logic},
                             {"c", false, FlagProducer::Sum}, {"k", false, FlagProducer::Kept}};

// A plain address is a variant, or a mode; so is a scaled index, of which 4 stands for all.
StencilRef stencil_at(u16 row, StencilMode mode, VariantChoice choice) {
  if (const StencilRef ref = find_stencil(g_set, row, mode, static_cast<u8>(handler_index(choice)))) return ref;
  if (mode != StencilMode::Long || !choice.memory) return {};
  const StencilMode other = choice.plain_address ? StencilMode::LongPlain : StencilMode::LongScale4;
  choice.plain_address = false;
  return find_stencil(g_set, row, other, static_cast<u8>(handler_index(choice)));
}

// One field for each mode, place and kind of variant; operand sizes that have the same counts share one.
std::string line_of(u16 row, Totals& totals) {
  std::string text;
  for (const auto [mode, mode_name] : {std::pair(StencilMode::Long, "64"), std::pair(StencilMode::Flat32, "32")})
    for (const Place& place : kPlaces)
      for (const Extra& extra : kExtras) {
        if (producer_place(extra.producer) > producer_place(FlagProducer::Logic) && !interpreter_row(row).flags.written) continue;
        std::vector<std::pair<std::string, std::string>> by_size;  // operand sizes, counts
        const Stencil* last = nullptr;
        for (unsigned width = 0; width < 3; ++width) {
          const VariantChoice choice{width, place.memory, false, place.plain, extra.flags_dead, extra.producer, Repeat::No};
          const StencilRef ref = stencil_at(row, mode, choice);
          if (!ref || (mode == StencilMode::Flat32 && width == 2)) continue;
          const std::string size = fmt::format("{}", 2u << width);
          if (ref.stencil == last) {
            by_size.back().first += size;
            continue;
          }
          last = ref.stencil;
          std::string counts = size_of(ref, totals);
          if (!by_size.empty() && by_size.back().second == counts) by_size.back().first += size;
          else by_size.emplace_back(size, std::move(counts));
        }
        for (const auto& [sizes, counts] : by_size) text += fmt::format(" {}{}{}{}:{}", mode_name, place.name, sizes == "248" ? "" : sizes, extra.name, counts);
      }
  return text;
}

std::vector<std::string> golden_lines() {
  std::vector<std::string> lines = {
      golden::made_by("stencil-counts"),
      "# A field is MODE PLACE [OPERAND SIZES] [VARIANT] : INSTRUCTIONS / BYTES [~ THE SAME FOR SMALL IMMEDIATES AND NO DISPLACEMENT] [+ BYTES OUT OF THE WAY].",
      "# Place: r register, m memory with an index, p memory without one. Variant: - flags dead, s flags of a subtraction, l of a logic operation, c of a sum (or a difference with borrow), k kept in one word.",
  };
  Totals totals;
#define VELLUM_GLUE_LINE(name) lines.push_back(fmt::format("({}): {}", #name, size_of(find_glue(Glue::name), totals)));
  if (g_set == StencilSet::Portable) {
    VELLUM_GLUE(VELLUM_GLUE_LINE)
  }
  unsigned handlers = 0;
  golden::RowNames names;
  for (usize row = 0; row < opcode_rows().size(); ++row) {
    if (interpreter_row(static_cast<u16>(row)).flow == Flow::Callout) continue;  // docs/callouts.md has these
    const std::string counts = line_of(static_cast<u16>(row), totals);
    if (counts.empty()) ++handlers;
    if (counts.empty() && g_set == StencilSet::Avx2) continue;
    lines.push_back(fmt::format("{}:{}", names.next(static_cast<u16>(row)), counts.empty() ? " handler" : counts));
  }
  const std::string sum = fmt::format("# {} stencils: {} instructions, {} bytes ~ {}, {} + {}", totals.stencils, totals.insns, totals.hot, totals.brief_insns, totals.brief_hot, totals.cold);
  lines.push_back(g_set == StencilSet::Portable ? fmt::format("{}; {} rows run their handler", sum, handlers) : sum);
  return lines;
}

}  // namespace

// "--set avx2" in front: of what hosts with AVX2 run instead, whatever this one has.
int main(int argc, char** argv) {
  if (!have_stencils()) {
    fmt::print("no stencils for this host\n");
    return golden::kSkipped;
  }
  if (argc > 2 && std::string_view(argv[1]) == "--set") {
    g_set = std::string_view(argv[2]) == "avx2" ? StencilSet::Avx2 : StencilSet::Portable;
    argv[2] = argv[0];
    argc -= 2;
    argv += 2;
  }
  return golden::judge(argc, argv, golden_lines);
}
