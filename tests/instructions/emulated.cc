// The interpreter's side of an instruction test.
#include "instructions/emulated.h"

#include <algorithm>
#include <cstring>

#include "cpu/bare_environment.h"
#include "cpu/flags.h"
#include "instructions/bare_cpu.h"

namespace vellum::instructions {

namespace {

constexpr u64 kRamSize = 0x400000, kCodePages = 0x200000, kDataPages = 0x210000;
// In the host's local descriptor table, native.cc.
constexpr FlatSelectors kFlat{0x07, 0x0f};
// More than any case needs, the programs among them; a chunk of a repeated string instruction counts as one.
constexpr u64 kBudget = 100'000;

}  // namespace

class EmulatedCpu::Board final : public BareEnvironment {
 public:
  u64 time_stamp_counter() override { return ++m_time; }
  u64 random() override { return ++m_time * 0x9e3779b97f4a7c15; }

 private:
  u64 m_time = 0;
};

CpuModel model_for_tests() {
  CpuModel model = *parse_cpu_model("max");
  model.features.set(static_cast<usize>(Feature::Base));
  return model;
}

EmulatedCpu::EmulatedCpu(const CpuModel& model, Engine engine, u32 hot_entries, X87Code x87_code) {
  m_ram = std::move(*GuestRam::create(kRamSize));
  m_memory = std::make_unique<AddressSpace>(*m_ram);
  m_memory->map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
  m_board = std::make_unique<Board>();
  m_cpu = std::make_unique<CpuCore>(model, *m_memory, *m_board, 0);
  // Regions of one instruction are LLVM's otherwise.
  const CodeGenerator generator = engine == Engine::Tiered ? CodeGenerator::Quick : CodeGenerator::Fitting;
  if (const auto done = use_engine(*m_cpu, {.engine = engine, .hot_entries = hot_entries, .generator = generator, .x87_code = x87_code, .wait_for_compiler = engine == Engine::Tiered}); !done) throw std::runtime_error(done.error().message);
  build_tables();

  enter_long_mode(m_cpu->s, 0);
  load_user_segments(m_cpu->s, Environment::Long64, kFlat);
  m_cpu->update_mode();
}

EmulatedCpu::~EmulatedCpu() = default;

void EmulatedCpu::build_tables() {
  build_page_tables(*m_memory, kCodePages, kDataPages, CodePages::ReadOnly);
  build_descriptor_tables(*m_memory);
  for (u64 vector = 0; vector < 256; ++vector) put<u8>(*m_memory, kHandlers + vector * kHandlerSpacing, 0xf4);
  m_code.assign(kCodeSize, kFiller);
  m_memory->write(GuestPhysAddr(kCodePages), m_code);
}

// Writes only what changes: what is translated of the same program, begun elsewhere, is used again.
void EmulatedCpu::place_code(const TestCase& test) {
  std::vector<u8> code(kCodeSize, kFiller);
  std::ranges::copy(test.code, code.begin() + test.code_offset);
  const auto first = std::ranges::mismatch(code, m_code).in1 - code.begin();
  if (first == static_cast<i64>(kCodeSize)) return;
  i64 last = static_cast<i64>(kCodeSize);
  while (code[static_cast<usize>(last - 1)] == m_code[static_cast<usize>(last - 1)]) --last;
  m_memory->write(GuestPhysAddr(kCodePages + static_cast<u64>(first)), std::span(code).subspan(static_cast<usize>(first), static_cast<usize>(last - first)));
  m_code = std::move(code);
  // An engine remembers where code changes all the time, and gives up; other code starts afresh.
  constexpr i64 kJump = 5;
  if (last - first > kJump && m_cpu->blocks.translator()) m_cpu->request_code_flush();
}

void EmulatedCpu::run(const TestCase& test, Outcome& outcome) {
  u8* data = m_ram->host(kDataPages);
  if (!m_memory_valid || m_memory_seed != test.memory_seed) {
    m_pristine.resize(kDataSize);
    fill_memory(test.memory_seed, m_pristine);
    std::memcpy(data, m_pristine.data(), kDataSize);
    m_memory_seed = test.memory_seed;
    m_memory_valid = true;
  }
  const MachineState before = initial_state(test);
  place_code(test);
  if (!test.patch.empty()) {
    std::memcpy(data + test.patch_offset, test.patch.data(), test.patch.size());
    std::memcpy(m_pristine.data() + test.patch_offset, test.patch.data(), test.patch.size());
  }

  CpuState& s = m_cpu->s;
  load_registers(s, before);
  s.rip = before.rip;
  write_rflags(s, before.rflags);
  s.mxcsr = before.vector.mxcsr;
  s.halted = s.interrupt_shadow = s.stack_shadow = false;
  s.cr2 = 0;
  load_user_segments(s, test.environment, kFlat);
  m_cpu->update_mode();

  const Exit exit = m_cpu->run(kBudget);

  MachineState& state = outcome.state;
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = s.gpr[i];
  outcome.error_code = 0;
  outcome.fault_address = 0;
  if (exit == Exit::Halted && s.cpl == 0) {
    // The handler's frame: error code if there is one, RIP, CS, RFLAGS, RSP, SS.
    outcome.vector = static_cast<u8>((s.rip - kKernel - kHandlers) / kHandlerSpacing);
    u64 frame = s.gpr[kRsp] - kKernel;
    const auto pop = [&] {
      const u64 value = m_memory->read_value<u64>(GuestPhysAddr(frame));
      frame += 8;
      return value;
    };
    if (has_error_code(static_cast<Vector>(outcome.vector))) outcome.error_code = static_cast<u32>(pop());
    state.rip = pop();
    pop();
    state.rflags = static_cast<u32>(pop());
    state.gpr[kRsp] = pop();
    if (outcome.vector == 14) outcome.fault_address = s.cr2;
  } else {
    outcome.vector = kHung;
    state.rip = s.rip;
    state.rflags = read_rflags(s);
  }
  for (u64& value : state.gpr) value = visible(test.environment, value);
  state.rip = visible(test.environment, state.rip);
  state.vector.control = s.x87.control;
  state.vector.status = s.x87.status;
  state.vector.tags = s.x87.valid;
  state.vector.mxcsr = s.mxcsr;
  const unsigned new_top = s.x87.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    const X87Register& source = s.x87.registers[(new_top + i) & 7];
    std::memcpy(state.vector.st[i].data(), &source.significand, 8);
    std::memcpy(state.vector.st[i].data() + 8, &source.sign_exponent, 2);
  }
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(state.vector.xmm[i].data(), s.vector[i].qword, 16);
    std::memcpy(state.vector.ymm_high[i].data(), s.vector[i].qword + 2, 16);
  }

  outcome.memory.clear();
  if (std::memcmp(data, m_pristine.data(), kDataSize) != 0) {
    for (usize i = 0; i < kDataSize; ++i) {
      if (data[i] == m_pristine[i]) continue;
      outcome.memory.push_back({static_cast<u16>(i), data[i]});
      data[i] = m_pristine[i];
    }
  }
  if (!test.patch.empty()) m_memory_valid = false;
}

void recognize_stop(const TestCase& test, Outcome& outcome) {
  const bool flat = test.environment == Environment::Long64 || test.environment == Environment::Flat32;
  const u64 offset = outcome.state.rip - (flat ? kCodeBase : 0);
  if (outcome.vector != 13 || outcome.error_code != 0 || offset >= kCodeSize) return;
  if (offset >= test.code_offset && offset < test.code_offset + test.code.size()) return;
  outcome.vector = kStopped;
}

}  // namespace vellum::instructions
