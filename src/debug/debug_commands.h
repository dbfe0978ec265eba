// The monitor's commands for looking at the guest and for stopping it; the monitor asks here for what it does not know itself.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "debug/reverse.h"
#include "state/error.h"

namespace vellum {

class DebugCommands {
 public:
  explicit DebugCommands(Debugger& debugger) : m_debugger(debugger) {}
  // With this the commands that go backwards work.
  void use_reverse(Reverse& reverse) { m_reverse = &reverse; }

  // Runs a command, given in words, and returns what it prints; empty: it is none of these.
  std::optional<std::string> execute(std::span<const std::string> words);
  // What `info TOPIC` shows; empty: no such topic here.
  std::optional<std::string> describe(std::span<const std::string> words);

  struct Help {
    std::string_view name, arguments, summary, details;
  };
  static std::span<const Help> help();
  struct Topic {
    std::string_view name, summary;
  };
  static std::span<const Topic> topics();
  // What the word that begins with `prefix` behind this command may be.
  std::vector<std::string> complete(std::string_view command, std::string_view prefix) const;

  // A number (decimal, 0x), a symbol, or a register ($rip), with further ones added or subtracted: "start_kernel+0x10".
  Result<u64> address(std::string_view text);

 private:
  using Words = std::span<const std::string>;
  Result<std::string> examine(Words words, DebugSpace space);
  Result<std::string> disassemble(Words words);
  std::string instructions_text(DebugSpace space, u64& at, u64 count, CodeSize size);
  Result<std::string> change_breakpoint(Words words);
  Result<Breakpoint> parse_breakpoint(Words words);
  Result<std::string> delete_breakpoints(Words words);
  Result<std::string> list_breakpoints();
  Result<std::string> set_value(Words words);
  Result<std::string> print_value(Words words);
  Result<std::string> go_back(Words words);
  Result<std::string> trace(Words words);
  std::string irq_state();
  std::string devices(std::string_view wanted);
  std::string block_statistics();

  Debugger& m_debugger;
  Reverse* m_reverse = nullptr;
  std::optional<u64> m_next_examined[2];  // by DebugSpace; nothing yet: the next instruction
};

}  // namespace vellum
