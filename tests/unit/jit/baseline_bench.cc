// What the baseline costs: the C library's code decoded and translated from its first byte to its last, once. Run it by hand.
//
// For each engine the least CPU time of some rounds, each with a new CPU, per guest instruction. Caches of the host are warm
// after the first blocks, as they are when a guest starts something large.
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>

#include "jit/engine.h"
#include "jit/long_mode_guest.h"
#include "jit/statistics.h"

using namespace vellum;

namespace {

constexpr unsigned kRounds = 15;

u64 thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

// The executable segment of the C library in this process.
std::span<const u8> library_code() {
  std::span<const u8> code;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* found) {
        if (!std::strstr(info->dlpi_name, "/libc.so")) return 0;
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& part = info->dlpi_phdr[i];
          if (part.p_type == PT_LOAD && (part.p_flags & PF_X))
            *static_cast<std::span<const u8>*>(found) = {reinterpret_cast<const u8*>(info->dlpi_addr + part.p_vaddr), part.p_memsz};
        }
        return 1;
      },
      &code);
  return code;
}

struct Cost {
  u64 nanoseconds = std::numeric_limits<u64>::max(), blocks = 0, insns = 0, bytes = 0;
};

Cost measure(std::span<const u8> code, Engine engine) {
  Cost cost;
  for (unsigned round = 0; round < kRounds; ++round) {
    LongModeGuest guest(code);
    if (const auto done = use_engine(guest.cpu, {.engine = engine}); !done) {
      fmt::print(stderr, "{}\n", done.error().message);
      std::exit(1);
    }
    const u64 end = LongModeGuest::kCodeAt + code.size();
    const u64 started = thread_nanoseconds();
    for (u64 rip = LongModeGuest::kCodeAt; rip < end;) {
      guest.cpu.s.rip = rip;
      rip += guest.cpu.lookup(rip)->byte_length;
    }
    cost.nanoseconds = std::min(cost.nanoseconds, thread_nanoseconds() - started);
    cost.blocks = guest.cpu.counters.blocks_decoded;
    cost.insns = guest.cpu.counters.insns_decoded;
    if (const Statistics* statistics = engine_statistics(guest.cpu)) cost.bytes = statistics->block_bytes;
  }
  return cost;
}

}  // namespace

int main() {
  const std::span<const u8> all = library_code();
  const std::span<const u8> code = all.first(std::min<usize>(all.size(), LongModeGuest::kStackTop - LongModeGuest::kCodeAt - 0x10000));
  const auto print = [](const char* what, const Cost& cost) {
    const auto each = [&](u64 number) { return static_cast<double>(number) / static_cast<double>(cost.insns); };
    fmt::print("{:<24}{} instructions in {} blocks, {:.1f} ns and {:.1f} bytes of host code each\n", what, cost.insns, cost.blocks,
               each(cost.nanoseconds), each(cost.bytes));
  };
  print("decoded", measure(code, Engine::Interpreter));
  print("decoded and translated", measure(code, Engine::Baseline));
}
