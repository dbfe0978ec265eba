// Fuzz target: the bytes are a recorded run that a PC plays: the file, or (first byte odd) header and events of one whose checksums hold.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "devices/character_backend.h"
#include "frontend/recording.h"
#include "machine/journal_file.h"
#include "machine/machine.h"
#include "machine/pc_board.h"
#include "memory_file.h"
#include "state/log.h"

using namespace vellum;

namespace {

constexpr u64 kMemory = 1 << 20;

class Silence final : public CharacterBackend {
 public:
  void send(std::span<const u8>) override {}
};

struct Pc {
  EventLoop events;
  Silence line;
  std::unique_ptr<Machine> machine;

  explicit Pc(ClockMode clock) {
    // At the reset vector: in $0x64, %al; in $0x60, %al; jmp back. So the keyboard's controller has room for more.
    PcConfig config;
    config.bios.assign(64 << 10, 0x90);
    constexpr u8 kCode[] = {0xe4, 0x64, 0xe4, 0x60, 0xeb, 0xfa};
    std::ranges::copy(kCode, config.bios.end() - 16);
    config.serial[0] = {.present = true, .backend = &line};
    config.ide[2] = {.present = true, .cdrom = true, .medium = nullptr};
    config.usb = config.usb_tablet = config.snapshot = true;
    auto made = Machine::create({.cpu_model = *parse_cpu_model("max"), .memory_size = kMemory, .ram_mapping_size = PcBoard::ram_mapping_size(kMemory, config), .clock = clock},
                                events, &Cpu::create);
    if (!made) std::abort();
    machine = std::move(*made);
    if (!PcBoard::build(*machine, std::move(config))) std::abort();
  }
};

// What a recording of a machine like this one might be, as its writer makes it.
void write_recording(const std::string& path, std::string_view text, std::span<const u8> events) {
  auto file = JournalFile::create(path, std::string(text));
  if (!file) std::abort();
  (*file)->append(events);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  if (size < 1) return 0;
  g_log_mask = 0;
  static test::MemoryFile file;
  const u8 choice = data[0];
  const std::span<const u8> bytes(data + 1, size - 1);
  if (choice & 1) {
    // The description of the machine ends with a zero byte; without one, all are events.
    const auto zero = choice & 2 ? std::ranges::find(bytes, 0) : bytes.end();
    const auto split = zero == bytes.end() ? 0 : zero - bytes.begin();
    write_recording(file.path(), {reinterpret_cast<const char*>(bytes.data()), static_cast<usize>(split)}, bytes.subspan(static_cast<usize>(split)));
  } else {
    file.set(bytes);
  }
  auto journal = read_journal(file.path());
  if (!journal) return 0;
  const auto header = RecordingHeader::parse(journal->header);
  if (!header && (choice & 2)) return 0;
  // An event that changes a medium names a file of this computer: none is to be opened.
  if (std::ranges::find(journal->events, u8{'/'}) != journal->events.end()) return 0;
  Pc pc(header ? header->clock : choice & 4 ? ClockMode::Paced : ClockMode::Instructions);
  if (!pc.machine->inputs().play(std::move(journal->events), header ? header->ports : pc.machine->inputs().port_names())) return 0;
  pc.machine->on_replay_end([](const Machine::ReplayEnd&) {});
  pc.machine->serve_host(false);
  pc.machine->run_instructions(20'000);
  pc.machine->finish_journal();
  return 0;
}
