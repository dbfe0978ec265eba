// The program: options, one session or subcommand, exit status.
#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/cpu.h"
#include "frontend/compare_command.h"
#include "frontend/message.h"
#include "frontend/monitor_client.h"
#include "frontend/options.h"
#include "frontend/session.h"
#include "frontend/trace_command.h"
#include "frontend/translate.h"

namespace {

// Exit statuses: what the user mistyped, and what could not be opened or started.
constexpr int kUsageError = 2, kStartError = 1;

int complain(const vellum::Error& error, int status) {
  vellum::tell_user("{}", error.message);
  return status;
}

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : kStartError;
}

// vellum profile [FILE.html[,every=N]] -- OPTIONS is -profile in front of the machine's options. Empty: it is written otherwise.
std::optional<std::vector<std::string_view>> profile_options(std::span<const std::string_view> arguments) {
  const auto divider = std::ranges::find(arguments, "--");
  const auto own = static_cast<std::size_t>(divider - arguments.begin());
  if (divider == arguments.end() || own > 1 || (own == 1 && arguments[0].starts_with("-"))) return std::nullopt;
  std::vector<std::string_view> options{"-profile", own ? arguments[0] : "profile.html"};
  options.insert(options.end(), divider + 1, arguments.end());
  return options;
}

constexpr std::string_view kProfileUsage =
    "usage: vellum profile [FILE.html[,every=N]] -- <options of the machine>\n"
    "Runs the machine, samples its code every N instructions (default 100003), and writes one page at the end (default profile.html):\n"
    "hot functions, annotated code, flame graph, tiers over time, callouts, TLB misses and overwritten code. -symbols gives the names.\n";

}  // namespace

int main(int argc, char** argv) {
  using namespace vellum;
  std::vector<std::string_view> arguments(argv + 1, argv + argc);
  // A disk image of that name is written ./translate.
  if (!arguments.empty() && arguments[0] == "translate") {
    const auto text = run_translate(std::span(arguments).subspan(1));
    if (text) return print(*text);
    tell_user("{}", text.error().message);
    return text.error().kind == TranslateError::Kind::Usage ? kUsageError : kStartError;
  }
  if (!arguments.empty() && arguments[0] == "compare") return run_compare(std::span(arguments).subspan(1));
  if (!arguments.empty() && arguments[0] == "trace") return run_trace_command(std::span(arguments).subspan(1));
  if (!arguments.empty() && arguments[0] == "monitor")
    return run_monitor_client(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  if (!arguments.empty() && arguments[0] == "profile") {
    if (arguments.size() == 2 && (arguments[1] == "-help" || arguments[1] == "--help")) return print(std::string(kProfileUsage));
    auto options = profile_options(std::span(arguments).subspan(1));
    if (!options) {
      std::fputs(std::string(kProfileUsage).c_str(), stderr);
      return kUsageError;
    }
    arguments = std::move(*options);
  }
  auto parsed = parse_options(arguments, static_cast<u64>(std::time(nullptr)));
  if (!parsed) return complain(parsed.error(), kUsageError);
  if (const auto* information = std::get_if<Information>(&*parsed)) return print(information->text);
  // Timers of an idle guest are as exact as the host can make them (the default slack is 50 microseconds).
  prctl(PR_SET_TIMERSLACK, 1);
  auto session = Session::create(std::get<Options>(*parsed), &Cpu::create);
  if (!session) return complain(session.error(), kStartError);
  return (*session)->run();
}
