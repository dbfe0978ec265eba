// Building the PC, putting it back, and the modes in which guest code starts.
#include "rig.h"

#include <algorithm>
#include <cstring>

#include "cpu/core.h"
#include "cpu/cpu.h"
#include "state/assert.h"

namespace vellum::torture {

namespace {

constexpr u64 kBiosOffset = kMemorySize;  // in GuestRam
constexpr u16 kRomHandler = 0xe000;       // in the BIOS segment

// A line that nobody reads.
class Nowhere final : public CharacterBackend {
 public:
  void send(std::span<const u8>) override {}
};
Nowhere g_nowhere;

template <class T>
void store(u8* memory, u64 address, T value) {
  std::memcpy(memory + address, &value, sizeof(value));
}

std::vector<u8> bios() {
  std::vector<u8> image(64 << 10, 0xf4);
  const u8 reset_vector[] = {0xea, 0x00, 0x7c, 0x00, 0x00};  // jmp 0:7c00: after a reset the guest's code runs again
  std::copy(std::begin(reset_vector), std::end(reset_vector), image.begin() + 0xfff0);
  const u8 go_on[] = {0x55, 0x89, 0xe5, 0xff, 0x46, 0x02, 0x5d, 0xcf};  // push bp; mov bp, sp; inc word [bp+2]; pop bp; iret
  std::copy(std::begin(go_on), std::end(go_on), image.begin() + kRomHandler);
  return image;
}

bool pushes_error_code(unsigned vector) { return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21; }

std::string printed(const Machine::StatePart& part) {
  ArchivePrinter printer;
  part.visit(printer);
  return printer.text();
}

// The lines of two texts that differ.
std::string difference(std::string_view before, std::string_view after) {
  std::string text;
  while (!before.empty() && !after.empty()) {
    const auto line = before.substr(0, before.find('\n')), other = after.substr(0, after.find('\n'));
    if (line != other) text += fmt::format(" {} was {};", other, line);
    before.remove_prefix(std::min(line.size() + 1, before.size()));
    after.remove_prefix(std::min(other.size() + 1, after.size()));
  }
  return text;
}

u64 code_data_descriptor(u8 access, u8 flags) { return 0xffff | u64{access} << 40 | u64{flags} << 52 | u64{0xf} << 48; }
u64 system_descriptor(u8 type, u64 base, u32 limit) {
  return (limit & 0xffff) | (base & 0xffffff) << 16 | u64{0x80u | type} << 40 | u64{limit >> 16} << 48 |
         (base >> 24 & 0xff) << 56;
}

// Selectors of the GDT that enter_protected() and enter_long() share.
enum Selector : u16 {
  kCode32 = 0x08, kData32 = 0x10, kCode64 = 0x18, kTssSelector = 0x20, kCode16 = 0x30, kData16 = 0x38,
  kUserCode32 = 0x40, kUserData32 = 0x48, kUserCode64 = 0x50, kDoubleFaultSelector = 0x58, kLdtSelector = 0x60,
  kCallGate = 0x70, kGdtEnd = 0x80,
};

void write_gdt(u8* memory, bool long_mode) {
  store(memory, kGdt + kCode32, code_data_descriptor(0x9b, 0xc));
  store(memory, kGdt + kData32, code_data_descriptor(0x93, 0xc));
  store(memory, kGdt + kCode64, code_data_descriptor(0x9b, 0xa));
  store(memory, kGdt + kTssSelector, system_descriptor(0xb, kTss, 0x1ff));
  store(memory, kGdt + kCode16, code_data_descriptor(0x9b, 0));
  store(memory, kGdt + kData16, code_data_descriptor(0x93, 0));
  store(memory, kGdt + kUserCode32, code_data_descriptor(0xfb, 0xc));
  store(memory, kGdt + kUserData32, code_data_descriptor(0xf3, 0xc));
  store(memory, kGdt + kUserCode64, code_data_descriptor(0xfb, 0xa));
  store(memory, kGdt + kDoubleFaultSelector, system_descriptor(0x9, kDoubleFaultTss, 0x67));
  store(memory, kGdt + kLdtSelector, system_descriptor(0x2, kLdt, 0xff));
  const u16 target = long_mode ? kCode64 : kCode32;
  store(memory, kGdt + kCallGate, u64{kCode} | u64{target} << 16 | u64{0xec} << 40);
}

SegmentRegister flat(u16 selector, u16 attributes) {
  return {.selector = selector, .attributes = attributes, .limit = 0xffffffff, .base = 0, .usable = true};
}

void set_segments(CpuState& s, u16 code, u16 code_attributes, u16 data, u16 data_attributes, u8 cpl) {
  s.segment[kCs] = flat(static_cast<u16>(code | cpl), code_attributes);
  for (const unsigned index : {kEs, kSs, kDs, kFs, kGs}) s.segment[index] = flat(static_cast<u16>(data | cpl), data_attributes);
  s.segment[kTr] = {.selector = kTssSelector, .attributes = 0x8b, .limit = 0x1ff, .base = kTss, .usable = true};
  s.segment[kLdtr] = {.selector = kLdtSelector, .attributes = 0x82, .limit = 0xff, .base = kLdt, .usable = true};
  s.gdtr = {.base = kGdt, .limit = kGdtEnd - 1};
  s.cpl = cpl;
}

}  // namespace

u64 interesting_number(Random& random) {
  constexpr u64 kEdges[] = {0, 1, ~u64{0}, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                            u64{1} << 63, ~u64{0} >> 1, 0x00007fffffffffff, 0x0000800000000000, 0xffff800000000000,
                            0xfee00000, 0xa0000, 0xb8000, 0xfed00000, 0xfec00000, kCode, kBuffer, kGdt, kIdt, kPageTables};
  switch (random() % 4) {
    case 0: return kEdges[random() % std::size(kEdges)];
    case 1: return kEdges[random() % std::size(kEdges)] + random() % 17 - 8;
    case 2: return u64{1} << random() % 64;
    default: return random() >> random() % 64;
  }
}

Rig::Rig() { build(); }

void Rig::build() {
  m_machine.reset();
  m_disks.clear();
  const auto medium = [this](usize size) {
    auto disk = std::make_unique<MemoryDisk>(std::vector<u8>(size));
    m_disks.push_back(disk.get());
    return disk;
  };
  PcConfig config;
  config.bios = bios();
  config.ide[0] = {.present = true, .cdrom = false, .medium = medium(256 << 10)};
  config.ide[2] = {.present = true, .cdrom = true, .medium = medium(256 << 10)};
  config.ide[3] = {.present = true, .cdrom = true, .medium = nullptr};
  config.floppies[0] = medium(1'474'560);
  for (auto& serial : config.serial) serial = {.present = true, .backend = &g_nowhere};
  config.debug_console = &g_nowhere;
  config.debug_exit_port = 0x501;
  config.test_device = true;

  auto model = parse_cpu_model("max");
  VELLUM_ASSERT(model.has_value());
  model->tsc_frequency_hz = kTscFrequency;
  MachineConfig machine_config{.cpu_model = *model,
                               .memory_size = kMemorySize,
                               .ram_mapping_size = PcBoard::ram_mapping_size(kMemorySize, config),
                               .clock = ClockMode::Instructions};
  auto machine = Machine::create(std::move(machine_config), m_events, &Cpu::create);
  VELLUM_ASSERT(machine.has_value());
  m_machine = std::move(*machine);
  VELLUM_ASSERT(PcBoard::build(*m_machine, std::move(config)).has_value());
  m_power_on_state = m_machine->save_state();
}

void Rig::restart() {
  // A machine that the guest switched off, or whose reset is still to come, is replaced.
  m_machine->run_instructions(0);
  if (m_machine->ended()) build();
  m_machine->power_on();
  GuestRam& ram = m_machine->ram();
  ram.discard(0, ram.size());
  const auto image = bios();
  std::copy(image.begin(), image.end(), ram.host(kBiosOffset));
  for (MemoryDisk* disk : m_disks) std::ranges::fill(disk->data(), u8{0});
  VELLUM_ASSERT(m_machine->load_state(m_power_on_state).has_value());
  m_machine->inputs().restart();
  m_machine->memory().contents_replaced();
}

std::string Rig::save_and_load() {
  std::vector<std::string> before;
  for (auto& part : m_machine->state_parts()) before.push_back(printed(part));
  const auto saved = m_machine->save_state();
  if (auto loaded = m_machine->load_state(saved); !loaded) return "the machine does not load its own state: " + loaded.error().message;
  const auto again = m_machine->save_state();
  std::string problem;
  const auto parts = m_machine->state_parts();
  for (usize i = 0; i < parts.size(); ++i)
    if (again.at(parts[i].name) != saved.at(parts[i].name))
      problem += fmt::format(" {} is another after saving and loading:{}", parts[i].name, difference(before[i], printed(parts[i])));
  return problem;
}

void Rig::put(u64 address, const std::vector<u8>& bytes) { m_machine->memory().write(GuestPhysAddr(address), bytes); }

void Rig::run(u64 ticks) {
  Machine& machine = *m_machine;
  // Time that passes in a halt is cheap; of the rest there is a limit.
  constexpr u64 kStep = 5'000;
  for (unsigned busy = 0; ticks > 0 && busy < 4 && !machine.ended();) {
    const u64 step = machine.cpu().has_work() ? std::min(ticks, kStep) : ticks;
    busy += machine.cpu().has_work();
    ticks -= step;
    const u64 goal = machine.clock().now() + step;
    Timer end(machine.clock(), [&] { machine.stop(); });
    end.arm(goal);
    machine.run_instructions(kStep);
    if (machine.clock().now() < goal) ticks += goal - machine.clock().now();
  }
}

void Rig::enter(const Start& start, Random& random) {
  GuestRam& ram = m_machine->ram();
  CpuState& s = m_machine->cpu().state();
  store(ram.host(0), kSmmHandler, u16{0xaa0f});  // rsm
  for (unsigned i = 0; i < 16; ++i) s.gpr[i] = once_in(random, 3) ? kBuffer + random() % 0x800 : interesting_number(random);
  s.gpr[kRsp] = kCode;
  s.rip = kCode;
  switch (start.mode) {
    case Mode::Real: enter_real(start, random); break;
    case Mode::Protected:
    case Mode::Paged: enter_protected(start); break;
    case Mode::Long: enter_long(start); break;
  }
  m_machine->memory().contents_replaced();
  s.core->update_mode();
  s.core->flush_tlb();
}

void Rig::enter_real(const Start& start, Random& random) {
  u8* memory = m_machine->ram().host(0);
  CpuState& s = m_machine->cpu().state();
  for (u64& value : s.gpr) value &= 0xffffffff;
  for (unsigned vector = 0; vector < 256; ++vector) {
    const u32 entry = start.forgiving ? 0xf0000000u | kRomHandler : static_cast<u32>(random());
    store(memory, vector * 4, entry);
  }
  s.segment[kCs].selector = 0;
  s.segment[kCs].base = 0;
}

void Rig::enter_protected(const Start& start) {
  u8* memory = m_machine->ram().host(0);
  CpuState& s = m_machine->cpu().state();
  for (u64& value : s.gpr) value &= 0xffffffff;
  write_gdt(memory, false);
  const u8 go_on[] = {0x83, 0x04, 0x24, start.skip, 0xcf};                               // add dword [esp], skip; iret
  const u8 go_on_with_error[] = {0x83, 0xc4, 0x04, 0x83, 0x04, 0x24, start.skip, 0xcf};  // add esp, 4 before it
  std::memcpy(memory + kHandlers, go_on, sizeof(go_on));
  std::memcpy(memory + kHandlers + 16, go_on_with_error, sizeof(go_on_with_error));
  if (start.forgiving)
    for (unsigned vector = 0; vector < 256; ++vector) {
      const u32 handler = static_cast<u32>(kHandlers) + (pushes_error_code(vector) ? 16 : 0);
      const u8 type = vector & 1 ? 0xef : 0xee;  // trap and interrupt gates that user code may use
      store(memory, kIdt + vector * 8, u64{handler} | u64{kCode32} << 16 | u64{type} << 40);
    }
  // A double fault finds a good stack by its task gate.
  store(memory, kIdt + 8 * 8, u64{kDoubleFaultSelector} << 16 | u64{0xe5} << 40);
  constexpr u32 kEip = 0x20, kEflags = 0x24, kEsp = 0x38, kSegments = 0x48, kCr3 = 0x1c;
  store(memory, kDoubleFaultTss + kEip, static_cast<u32>(kCode));
  store(memory, kDoubleFaultTss + kEflags, u32{2});
  store(memory, kDoubleFaultTss + kEsp, static_cast<u32>(kFaultStack));
  store(memory, kDoubleFaultTss + kCr3, static_cast<u32>(kPageTables));
  for (unsigned i = 0; i < 6; ++i) store(memory, kDoubleFaultTss + kSegments + 4 * i, u32{i == 1 ? kCode32 : kData32});
  store(memory, kTss + 4, static_cast<u32>(kInnerStack));  // ESP0 and SS0
  store(memory, kTss + 8, u32{kData32});
  s.idtr = {.base = kIdt, .limit = 0x7ff};
  const u8 cpl = start.user ? 3 : 0;
  const u16 privilege = start.user ? 0x60 : 0;
  set_segments(s, start.user ? kUserCode32 : kCode32, 0xc09b | privilege, start.user ? kUserData32 : kData32,
               0xc093 | privilege, cpl);
  s.cr0 = (s.cr0 & ~(kCr0Cd | kCr0Nw)) | kCr0Pe | kCr0Ne;
  s.cr4 = kCr4Osfxsr | kCr4Osxmmexcpt | kCr4Pse | kCr4Osxsave;
  for (u32 i = 0; i < 1024; ++i) store(memory, kPageTables + 4 * i, i << 22 | 0x87);
  s.cr3 = kPageTables;
  if (start.mode == Mode::Paged) s.cr0 |= kCr0Pg;
}

void Rig::enter_long(const Start& start) {
  u8* memory = m_machine->ram().host(0);
  CpuState& s = m_machine->cpu().state();
  write_gdt(memory, true);
  const u8 go_on[] = {0x48, 0x83, 0x04, 0x24, start.skip, 0x48, 0xcf};  // add qword [rsp], skip; iretq
  const u8 go_on_with_error[] = {0x48, 0x83, 0xc4, 0x08, 0x48, 0x83, 0x04, 0x24, start.skip, 0x48, 0xcf};
  std::memcpy(memory + kHandlers, go_on, sizeof(go_on));
  std::memcpy(memory + kHandlers + 16, go_on_with_error, sizeof(go_on_with_error));
  for (unsigned i = 0; i < 3; ++i) store(memory, kTss + 4 + 8 * i, kInnerStack);
  store(memory, kTss + 0x24, kFaultStack);
  if (start.forgiving)
    for (unsigned vector = 0; vector < 256; ++vector) {
      const u64 handler = kHandlers + (pushes_error_code(vector) ? 16 : 0);
      const u8 type = vector & 1 ? 0xef : 0xee;
      const u64 ist = vector < 32;
      store(memory, kIdt + vector * 16, handler | u64{kCode64} << 16 | ist << 32 | u64{type} << 40);
    }
  s.idtr = {.base = kIdt, .limit = 0xfff};
  const u8 cpl = start.user ? 3 : 0;
  const u16 privilege = start.user ? 0x60 : 0;
  set_segments(s, start.user ? kUserCode64 : kCode64, 0xa09b | privilege, start.user ? kUserData32 : kData32,
               0xc093 | privilege, cpl);
  constexpr u64 kTable = 7, kLarge = 0x87;
  store(memory, kPageTables, (kPageTables + 0x1000) | kTable);
  for (u64 i = 0; i < 4; ++i) store(memory, kPageTables + 0x1000 + 8 * i, (kPageTables + 0x2000 + i * 0x1000) | kTable);
  for (u64 i = 0; i < 2048; ++i) store(memory, kPageTables + 0x2000 + 8 * i, i << 21 | kLarge);
  s.cr0 = (s.cr0 & ~(kCr0Cd | kCr0Nw)) | kCr0Pe | kCr0Ne | kCr0Pg;
  s.cr3 = kPageTables;
  s.cr4 = kCr4Osfxsr | kCr4Osxmmexcpt | kCr4Pae | kCr4Osxsave | kCr4Fsgsbase;
  s.efer = kEferSce | kEferLme | kEferLma;
}

}  // namespace vellum::torture
