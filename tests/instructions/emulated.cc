// The interpreter's side of an instruction test.
#include "instructions/emulated.h"

#include <algorithm>
#include <cstring>

#include "cpu/flags.h"

namespace vellum::instructions {

namespace {

// Guest-physical layout of what the CPU needs around the test: tables, descriptor tables, a stack and handlers.
constexpr u64 kRamSize = 0x400000;
constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kCodePt = 0x4000, kDataPt = 0x5000, kKernelPdpt = 0x6000,
              kKernelPd = 0x7000;
constexpr u64 kKernel = 0xffff800000000000;  // linear address of the physical address 0; the lower half is the test's
constexpr u64 kGdt = 0x8000, kIdt = 0x9000, kTss = 0xa000, kHandlers = 0xb000, kStackTop = 0x18000;
constexpr u64 kCodePages = 0x200000, kDataPages = 0x210000;
constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kLarge = 0x80, kNoExecute = u64{1} << 63;
constexpr unsigned kHandlerSpacing = 16;
// More than any case needs, the programs among them; a chunk of a repeated string instruction counts as one.
constexpr u64 kBudget = 100'000;

}  // namespace

class EmulatedCpu::Board final : public CpuEnvironment {
 public:
  u32 read_port(u16, unsigned) override { return ~u32{0}; }
  void write_port(u16, unsigned, u32) override {}
  std::optional<u8> acknowledge_interrupt() override { return std::nullopt; }
  u64 time_stamp_counter() override { return ++m_time; }
  u8 task_priority() override { return 0; }
  void set_task_priority(u8) override {}
  bool read_apic_msr(u32, u64&) override { return false; }
  bool write_apic_msr(u32, u64) override { return false; }
  void set_smm(bool) override {}
  u64 random() override { return ++m_time * 0x9e3779b97f4a7c15; }

 private:
  u64 m_time = 0;
};

template <class T>
void EmulatedCpu::put(u64 physical, T value) {
  m_memory->write_value(GuestPhysAddr(physical), value);
}

EmulatedCpu::EmulatedCpu(const CpuModel& model, Engine engine, u32 hot_entries) {
  m_ram = std::move(*GuestRam::create(kRamSize));
  m_memory = std::make_unique<AddressSpace>(*m_ram);
  m_memory->map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
  m_board = std::make_unique<Board>();
  m_cpu = std::make_unique<CpuCore>(model, *m_memory, *m_board, 0);
  if (const auto done = use_engine(*m_cpu, {.engine = engine, .hot_entries = hot_entries}); !done) throw std::runtime_error(done.error().message);
  build_tables();

  CpuState& s = m_cpu->s;
  s.cr0 = kCr0Pe | kCr0Mp | kCr0Et | kCr0Ne | kCr0Wp | kCr0Am | kCr0Pg;
  s.cr3 = kPml4;
  s.cr4 = kCr4Pae | kCr4Osfxsr | kCr4Osxmmexcpt | kCr4Osxsave;
  s.xcr0 = kXcr0X87 | kXcr0Sse | kXcr0Avx;
  s.efer = kEferLme | kEferLma | kEferNxe | kEferSce;
  s.gdtr = {kKernel + kGdt, 0xfff};
  s.idtr = {kKernel + kIdt, 0xfff};
  s.segment[kTr] = {0x20, 0x8b, 0x67, kKernel + kTss, true};
  load_segments(Environment::Long64);
  m_cpu->update_mode();
}

EmulatedCpu::~EmulatedCpu() = default;

void EmulatedCpu::build_tables() {
  put<u64>(kPml4, kPdpt | kPresent | kWrite | kUser);
  put<u64>(kPdpt, kPd | kPresent | kWrite | kUser);
  put<u64>(kPml4 + 8 * 256, kKernelPdpt | kPresent | kWrite);
  put<u64>(kKernelPdpt, kKernelPd | kPresent | kWrite);
  put<u64>(kKernelPd, kPresent | kWrite | kLarge);
  put<u64>(kPd + 8 * (kCodeBase >> 21), kCodePt | kPresent | kWrite | kUser);
  put<u64>(kPd + 8 * (kDataBase >> 21), kDataPt | kPresent | kWrite | kUser);
  for (u64 page = 0; page < kCodeSize >> 12; ++page)
    put<u64>(kCodePt + 8 * page, (kCodePages + (page << 12)) | kPresent | kUser);
  for (u64 page = 0; page < kDataSize >> 12; ++page)
    put<u64>(kDataPt + 8 * page,
             (kDataPages + (page << 12)) | kPresent | kUser | kNoExecute | (page < kWritableSize >> 12 ? kWrite : 0));
  put<u64>(kGdt + 0x08, 0x00af9b000000ffff);  // 64-bit code
  put<u64>(kGdt + 0x10, 0x00cf93000000ffff);  // data
  put<u64>(kTss + 4, kKernel + kStackTop);    // RSP0
  for (u64 vector = 0; vector < 256; ++vector) {
    const u64 physical = kHandlers + vector * kHandlerSpacing, handler = kKernel + physical;
    put<u8>(physical, 0xf4);
    put<u64>(kIdt + 16 * vector, (handler & 0xffff) | 0x08u << 16 | u64{0xee00} << 32 | (handler >> 16 & 0xffff) << 48);
    put<u64>(kIdt + 16 * vector + 8, handler >> 32);
  }
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

void EmulatedCpu::load_segments(Environment environment) {
  CpuState& s = m_cpu->s;
  const auto segment = [&s](SegmentIndex index, u16 selector, u16 attributes, SegmentLayout layout) {
    s.segment[index] = {selector, attributes, layout.limit, layout.base, true};
  };
  constexpr SegmentLayout flat{0, 0xffffffff};
  constexpr u16 code64 = 0xa0fb, code32 = 0xc0fb, code16 = 0x00fb, data32 = 0xc0f3, bytes = 0x3fff;
  for (const SegmentIndex index : {kEs, kCs, kSs, kDs, kFs, kGs}) s.segment[index] = {};
  switch (environment) {
    case Environment::Long64:
      segment(kCs, 0x33, code64, flat);
      for (const SegmentIndex index : {kEs, kSs, kDs, kFs, kGs}) segment(index, 0x2b, data32, flat);
      s.segment[kGs].base = kGsBase;
      break;
    case Environment::Flat32:
      segment(kCs, 0x07, code32, flat);
      for (const SegmentIndex index : {kEs, kSs, kDs}) segment(index, 0x0f, data32, flat);
      break;
    case Environment::Segmented32:
      segment(kCs, 0x17, code32 & 0x7fff, kCodeSegment);
      segment(kSs, 0x37, data32 & 0x7fff, kSsSegment);
      break;
    case Environment::Segmented16:
      segment(kCs, 0x1f, code16, kCodeSegment);
      segment(kSs, 0x3f, data32 & bytes, kSsSegment);
      break;
    case Environment::Count:
      break;
  }
  if (environment == Environment::Segmented32 || environment == Environment::Segmented16) {
    segment(kDs, 0x27, data32 & 0x7fff, kDsSegment);
    segment(kEs, 0x2f, data32 & 0x7fff, kEsSegment);
  }
  s.cpl = 3;
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
  for (unsigned i = 0; i < 16; ++i) s.gpr[i] = before.gpr[i];
  s.rip = before.rip;
  write_rflags(s, before.rflags);
  s.mxcsr = before.vector.mxcsr;
  s.x87 = {};
  s.x87.control = before.vector.control;
  s.x87.status = before.vector.status;
  s.x87.valid = before.vector.tags;
  const unsigned top = before.vector.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    X87Register& target = s.x87.registers[(top + i) & 7];
    std::memcpy(&target.significand, before.vector.st[i].data(), 8);
    std::memcpy(&target.sign_exponent, before.vector.st[i].data() + 8, 2);
  }
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(s.vector[i].qword, before.vector.xmm[i].data(), 16);
    std::memcpy(s.vector[i].qword + 2, before.vector.ymm_high[i].data(), 16);
  }
  s.halted = s.interrupt_shadow = s.stack_shadow = false;
  s.cr2 = 0;
  load_segments(test.environment);
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
