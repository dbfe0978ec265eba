// vellum trace summarize and vellum trace export.
#include "frontend/trace_command.h"

#include <cstdio>
#include <string>

#include "debug/trace_events.h"
#include "frontend/message.h"

namespace vellum {

int run_trace_command(std::span<const std::string_view> arguments) {
  constexpr int kStartError = 1, kUsageError = 2;
  constexpr std::string_view kUsage =
      "usage: vellum trace summarize FILE          tables of what a binary trace has (made by -trace EVENTS,format=binary)\n"
      "       vellum trace export FILE OUT.json    the trace for Perfetto's UI (ui.perfetto.dev)\n";
  if (arguments.size() == 1 && (arguments[0] == "-help" || arguments[0] == "--help")) {
    fmt::print("{}", kUsage);
    return 0;
  }
  if (arguments.size() == 2 && arguments[0] == "summarize") {
    const auto text = summarize_trace(std::string(arguments[1]));
    if (text) fmt::print("{}", *text);
    else tell_user("{}", text.error().message);
    return text ? 0 : kStartError;
  }
  if (arguments.size() == 3 && arguments[0] == "export") {
    const auto done = export_trace(std::string(arguments[1]), std::string(arguments[2]));
    if (!done) tell_user("{}", done.error().message);
    return done ? 0 : kStartError;
  }
  std::fputs(std::string(kUsage).c_str(), stderr);
  return kUsageError;
}

}  // namespace vellum
