// Variants, modes and host functions as text.
#include "jit/sites.h"
#include "jit/operation_text.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <cstdlib>
#include <unordered_map>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#if VELLUM_LLVM
#include "jit/optimizer/host_symbols.h"
#include "jit/optimizer/region_helpers.h"
#endif
#include "jit/stencil.h"

namespace vellum {

namespace {

bool is(const void* handler, Handler which) { return handler == reinterpret_cast<const void*>(which); }

// The inverse of handler_index().
std::string describe_variant(u16 row, u8 variant) {
  static constexpr const char* kPlaces[] = {"", ", memory", ", locked memory", ", memory at a plain address"};
  static constexpr const char* kExtras[] = {"", ", flags dead", ", flags of a subtraction", ", flags of a logic operation",
                                            ", carry of a sum or borrow", ", flags in one word"};
  static constexpr const char* kRepeats[] = {", repeated (while equal)", ", repeated while not equal"};
  const unsigned extra = variant % 6;
  const bool is_repeated = extra >= 4 && interpreter_row(row).flow == Flow::String;
  return fmt::format("operand size {}{}{}", 2u << variant / 24, kPlaces[variant / 6 % 4], is_repeated ? kRepeats[extra - 4] : kExtras[extra]);
}

// "vellum::engine_load_slow(vellum::CpuState*, …)" without namespace and parameters.
std::string plain_name(const char* symbol) {
  char* demangled = abi::__cxa_demangle(symbol, nullptr, nullptr, nullptr);
  std::string name = demangled ? demangled : symbol;
  std::free(demangled);
  if (const auto parameters = name.find('('); parameters != name.npos) name.resize(parameters);
  if (const auto space = name.find(' '); space != name.npos && space < name.find('<')) name.erase(0, space + 1);
  if (name.starts_with("vellum::")) name.erase(0, 8);
  return name;
}

std::unordered_map<const void*, std::string> make_names() {
  std::unordered_map<const void*, std::string> names;
  for (usize row = 0; row < opcode_rows().size(); ++row)
    for (const Handler handler : interpreter_row(static_cast<u16>(row)).variant)
      if (handler) names.try_emplace(reinterpret_cast<const void*>(handler), fmt::format("handler<{}>", semantics_name(static_cast<u16>(row))));
#define VELLUM_NAME(function) names[reinterpret_cast<const void*>(&function)] = #function;
  VELLUM_NAME(interpreter_leave)
  VELLUM_NAME(interpreter_enter)
  VELLUM_NAME(interpreter_jump_enter)
  VELLUM_NAME(interpreter_taken_slow)
  VELLUM_NAME(interpreter_next_slow)
  VELLUM_NAME(interpreter_callout)
  VELLUM_NAME(interpreter_fall_through)
  VELLUM_NAME(interpreter_invalid_opcode)
  VELLUM_NAME(interpreter_fpu_unavailable)
  VELLUM_NAME(leave_stale_block)
  VELLUM_NAME(site_taken)
  VELLUM_NAME(site_next)
  VELLUM_NAME(site_return)
  VELLUM_NAME(site_indirect)
  VELLUM_NAME(return_unknown)
  VELLUM_NAME(slice_spent)
#undef VELLUM_NAME
#if VELLUM_LLVM
  for (const HostSymbol& helper : region_helpers()) names.try_emplace(helper.address, helper.name);
  for (const HostSymbol& function : std::span(kSemanticsSymbols, kSemanticsSymbolCount)) names.try_emplace(function.address, plain_name(function.name));
#endif
  for (const StencilGroup* group : stencil_groups())
    for (usize i = 0; group->helper_names[i]; ++i)
      names.try_emplace(reinterpret_cast<const void*>(group->helpers[i]), plain_name(group->helper_names[i]));
  return names;
}

}  // namespace

std::string callout_name(const Block& block, unsigned position, const void* handler) {
  return is(handler, interpreter_callout) ? std::string(semantics_name(block.insns[position].row)) : std::string();
}

std::string describe_operation(const Block& block, unsigned position, const void* handler) {
  const u16 row = block.insns[position].row;
  if (is(handler, interpreter_invalid_opcode)) return "no instruction: #UD";
  const std::string name = describe_row(opcode_rows()[row]);
  if (is(handler, interpreter_callout)) return fmt::format("{}: callout {}", name, semantics_name(row));
  if (is(handler, interpreter_fpu_unavailable)) return fmt::format("{}: its unit is off, #NM or #UD", name);
  return fmt::format("{}: {}, {}", name, handler ? "interpreter's handler" : "stencil", describe_variant(row, block.variants()[position]));
}

std::string describe_mode(u32 mode) {
  std::string text;
  switch (static_cast<CodeSize>(mode & kModeCodeSizeMask)) {
    case CodeSize::Bits16: text = mode & kModeReal ? "16-bit real mode" : "16-bit"; break;
    case CodeSize::Bits32: text = "32-bit"; break;
    default: text = "64-bit"; break;
  }
  const bool bits64 = (mode & kModeCodeSizeMask) == static_cast<u32>(CodeSize::Bits64);
  if (!bits64 && !(mode & kModeFlatData)) text += ", segments";
  if (mode & kModeCheckedCode) text += ", CS limit checked";
  if (mode & kModeX87Trap) text += ", x87 off";
  if (mode & kModeSseTrap) text += ", SSE off";
  if (mode & kModeAvxTrap) text += ", AVX off";
  if (mode & kModeSseUnmasked) text += ", SSE exceptions unmasked";
  return text;
}

std::string host_function_name(const void* address) {
  static const auto names = make_names();
  const auto found = names.find(address);
  return found == names.end() ? std::string() : found->second;
}

}  // namespace vellum
