// Fuzz target: the bytes are a reproducer of vellum compare, as text or (first byte odd) as changes to the state of a sound one.
#include <algorithm>
#include <string>

#include "cpu/bare_environment.h"
#include "debug/reproducer.h"
#include "mmu/guest_ram.h"
#include "state/log.h"

using namespace vellum;

namespace {

// Of a CPU at its reset in protected mode without paging, at the page that follows.
std::vector<u8> sound_state() {
  BareEnvironment environment;
  const auto ram = std::move(*GuestRam::create(kPageSize));
  AddressSpace memory(*ram);
  const auto cpu = Cpu::create(*parse_cpu_model("max"), memory, environment, 0);
  CpuState& s = cpu->state();
  s.cr0 |= kCr0Pe;
  s.segment[kCs].base = 0;
  s.rip = 0x1000;
  ArchiveWriter archive;
  cpu->visit(archive);
  return archive.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  if (size < 1) return 0;
  g_log_mask = 0;
  const u8 choice = data[0];
  ++data, --size;
  std::string text;
  if (choice & 1) {
    static const std::vector<u8> sound = sound_state();
    Reproducer reproducer{.cpu_option = "max", .instructions = 50, .state = sound, .expected = sound};
    // Position and value, until the position is past the end; what is left is the page.
    while (size >= 3 && (data[0] | data[1] << 8) < static_cast<int>(sound.size())) {
      reproducer.state[static_cast<usize>(data[0] | data[1] << 8)] = data[2];
      data += 3, size -= 3;
    }
    auto& page = reproducer.pages[0x1000];
    page.assign(data, data + std::min<usize>(size, kPageSize));
    page.resize(kPageSize, 0x90);
    text = reproducer.text();
  } else {
    text.assign(reinterpret_cast<const char*>(data), size);
  }
  auto reproducer = Reproducer::parse(text);
  if (!reproducer) return 0;
  reproducer->instructions = std::min<u64>(reproducer->instructions, 200);  // so that many inputs are tried
  const auto differs = reproducer->run({.engine = choice & 2 ? Engine::Baseline : Engine::Interpreter, .code_cache_size = 1 << 20});
  if (differs) Reproducer::parse(reproducer->text());
  return 0;
}
