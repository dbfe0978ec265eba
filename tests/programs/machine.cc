// Page tables, descriptor tables and handlers of the bare machine; comparison of two of them.
#include "programs/machine.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cpu/bare_environment.h"
#include "cpu/flags.h"
#include "cpu/floating_environment.h"
#include "instructions/bare_cpu.h"

namespace vellum::programs {

using namespace vellum::instructions;

namespace {

constexpr u64 kRamSize = 0x30000, kResume = 0xe000, kAliasPt = 0xf000;
constexpr u64 kLow = 0x1000, kLowEnd = kStackTop;  // everything of the kernel
constexpr u8 kInterruptVector = 0x81;
constexpr u64 kDevicePage = 0x10000000;  // guest-physical
constexpr unsigned kDeviceDataPage = 2;
constexpr u64 kGoOn = kHandlers + 256 * kHandlerSpacing;
constexpr u64 kHalt = kHandlers + kHandlerSpacing;  // the handler of #DB
constexpr unsigned kMostResumes = 31;

}  // namespace

class ProgramMachine::Board final : public BareEnvironment, public MmioHandler {
 public:
  void restart() {
    m_time = m_ports = 0;
    m_registers.fill(0x5a);
  }
  void attach(CpuCore& cpu) { m_cpu = &cpu; }
  u32 read_port(u16 port, unsigned) override { return static_cast<u32>(m_ports * 0x9e3779b9u ^ port); }
  // A device that asks for an interrupt when it is written to.
  void write_port(u16 port, unsigned, u32 value) override {
    note(port, value);
    if (value & 1) m_cpu->set_interrupt_request(true);
  }
  // Registers that remember when they were touched; some writes ask for an interrupt.
  u64 read_mmio(u64 offset, unsigned size) override {
    u64 value = 0;
    std::memcpy(&value, m_registers.data() + offset, size);
    note(offset * 8 + size, value);
    return value;
  }
  void write_mmio(u64 offset, unsigned size, u64 value) override {
    std::memcpy(m_registers.data() + offset, &value, size);
    note(offset * 8 + size + 0x10000, value);
    if ((value & 7) == 1) m_cpu->set_interrupt_request(true);
  }
  unsigned max_mmio_size() const override { return 8; }
  std::optional<u8> acknowledge_interrupt() override {
    m_cpu->set_interrupt_request(false);
    return kInterruptVector;
  }
  u64 time_stamp_counter() override { return m_cpu ? m_cpu->retired() - m_start + ++m_time : 0; }
  u64 random() override { return ++m_time * 0x9e3779b97f4a7c15; }
  void set_start(u64 retired) { m_start = retired; }
  u64 ports() const { return m_ports; }

 private:
  void note(u64 where, u64 value) { m_ports = (m_ports * 31 + where) * 31 + value + m_cpu->retired() - m_start; }

  CpuCore* m_cpu = nullptr;
  std::array<u8, kPageSize> m_registers{};
  u64 m_time = 0, m_ports = 0, m_start = 0;
};

ProgramMachine::ProgramMachine(std::string name, const CpuModel& model, const EngineOptions& options, Pace pace)
    : m_name(std::move(name)), m_pace(pace) {
  m_ram = std::move(*GuestRam::create(kRamSize));
  m_memory = std::make_unique<AddressSpace>(*m_ram);
  m_memory->map_ram("ram", GuestPhysAddr(0), kRamSize, 0);
  m_board = std::make_unique<Board>();
  m_memory->map_mmio("device", GuestPhysAddr(kDevicePage), kPageSize, *m_board);
  m_cpu = std::make_unique<CpuCore>(model, *m_memory, *m_board, 0);
  m_board->attach(*m_cpu);
  if (const auto done = use_engine(*m_cpu, options); !done) throw std::runtime_error(done.error().message);
  build_tables();
  m_tables.resize(kLowEnd - kLow);
  m_memory->read(GuestPhysAddr(kLow), m_tables);
}

ProgramMachine::~ProgramMachine() = default;

void ProgramMachine::build_tables() {
  build_page_tables(*m_memory, kCodePages, kDataPages, CodePages::Writable);
  put<u64>(*m_memory, kPd + 8 * (kCodeAlias >> 21), kAliasPt | kPresent | kWrite | kUser);
  for (u64 page = 0; page < kCodeSize >> 12; ++page)
    put<u64>(*m_memory, kAliasPt + 8 * page, (kCodePages + (page << 12)) | kPresent | kUser | kWrite);
  build_descriptor_tables(*m_memory);
  put<u64>(*m_memory, kGdt + 0x18, 0x00cffb000000ffff);  // 32-bit user code
  put<u64>(*m_memory, kGdt + 0x28, 0x00cff3000000ffff);  // user data
  put<u64>(*m_memory, kGdt + 0x30, 0x00affb000000ffff);  // 64-bit user code
  for (u64 vector = 0; vector < 256; ++vector) {
    const u64 physical = kHandlers + vector * kHandlerSpacing;
    if (vector == static_cast<u64>(Vector::Debug) || vector == static_cast<u64>(Vector::DoubleFault)) {
      put<u8>(*m_memory, physical, 0xf4);
    } else {
      const bool has_code = vector < 32 && has_error_code(static_cast<Vector>(vector));
      const u8 drop_code[] = {0x48, 0x83, 0xc4, 0x08};  // add rsp, 8
      if (has_code) m_memory->write(GuestPhysAddr(physical), drop_code);
      const u64 jump = physical + (has_code ? sizeof(drop_code) : 0);
      put<u8>(*m_memory, jump, 0xe9);
      put<u32>(*m_memory, jump + 1, static_cast<u32>(kGoOn - (jump + 5)));
    }
  }
  // The word at kResume counts; behind it stand the places to go on at, and 0.
  const u8 resume[] = {
      0x50, 0x53,                                      // push rax; push rbx
      0x48, 0xbb, 0x00, 0xe0, 0, 0, 0, 0x80, 0xff, 0xff,  // mov rbx, kKernel + kResume
      0x8b, 0x03, 0xff, 0x03,                          // mov eax, [rbx]; inc dword [rbx]
      0x83, 0xe0, kMostResumes,                        // and eax, kMostResumes
      0x8b, 0x44, 0x83, 0x04,                          // mov eax, [rbx + rax * 4 + 4]
      0x85, 0xc0, 0x75, 0x01, 0xf4,                    // test eax, eax; jnz +1; hlt
      0x48, 0x89, 0x44, 0x24, 0x10,                    // mov [rsp + 16], rax
      0x5b, 0x58, 0x48, 0xcf,                          // pop rbx; pop rax; iretq
  };
  static_assert(kResume == 0xe000 && kKernel == 0xffff800000000000);
  m_memory->write(GuestPhysAddr(kGoOn), resume);
  // push rax; mov eax, ss; add [rsp - 16], rax; pop rax; iretq
  const u8 go_on[] = {0x50, 0x8c, 0xd0, 0x48, 0x01, 0x44, 0x24, 0xf0, 0x58, 0x48, 0xcf};
  m_memory->write(GuestPhysAddr(kHandlers + kInterruptVector * kHandlerSpacing), go_on);
  const u8 iretq[] = {0x48, 0xcf};
  m_memory->write(GuestPhysAddr(kHandlers + 2 * kHandlerSpacing), iretq);
}

void ProgramMachine::load(const Program& program, u32 memory_seed, DataPages pages) {
  m_environment = program.environment;
  // Privileged code may have been anywhere.
  m_memory->write(GuestPhysAddr(0), std::vector<u8>(kRamSize));
  m_memory->write(GuestPhysAddr(kLow), m_tables);
  if (pages == DataPages::WithDevice)
    put<u64>(*m_memory, kDataPt + 8 * kDeviceDataPage, kDevicePage | kPresent | kUser | kWrite | kNoExecute);
  std::vector<u8> turned(program.code.begin() + 0x1000, program.code.end());
  turned.insert(turned.end(), program.code.begin(), program.code.begin() + 0x1000);
  m_memory->write(GuestPhysAddr(kCodePages), program.code);
  m_memory->write(GuestPhysAddr(kCodePages + kCodeSize), turned);
  if (m_data.empty() || m_memory_seed != memory_seed) {
    m_data.resize(kDataSize);
    fill_memory(memory_seed, m_data);
    m_memory_seed = memory_seed;
  }
  m_memory->write(GuestPhysAddr(kDataPages), m_data);
  m_retired_at_load = m_cpu->retired();
  m_board->set_start(m_retired_at_load);
  m_cpu->reset();
  m_board->restart();  // behind the reset, which looks at the time, if the CPU ever ran
  m_cpu->s.tsc_offset = 0;
  m_cpu->set_interrupt_request(false);
  m_cpu->request_code_flush();
}

void ProgramMachine::load_segments(bool supervisor) {
  CpuState& s = m_cpu->s;
  load_user_segments(s, m_environment, {0x1b, 0x2b});
  if (supervisor) {
    s.cpl = 0;
    for (const SegmentIndex index : {kEs, kCs, kSs, kDs, kFs, kGs}) {
      s.segment[index].selector = index == kCs ? 0x08 : 0x10;
      s.segment[index].attributes = index == kCs ? 0xa09b : 0xc093;
    }
  }
  if (m_environment == Environment::Segmented32 || m_environment == Environment::Segmented16) {
    constexpr u16 kData = 0x40f3;  // as the others, with a limit in bytes
    s.segment[kFs] = {0x47, kData, kCodeSegment.limit, kCodeSegment.base, true};
    s.segment[kGs] = {0x4f, kData, kCodeSegment.limit, kCodeAlias, true};
  }
}

void ProgramMachine::enter(const Entry& entry) {
  CpuState& s = m_cpu->s;
  const bool flat = m_environment == Environment::Long64 || m_environment == Environment::Flat32;
  const u64 data = flat ? kDataBase : 0, code = flat ? entry.alias ? kCodeAlias : kCodeBase : 0;
  put<u32>(*m_memory, kResume, 0);
  for (unsigned i = 0; i <= std::min<usize>(entry.resume.size(), kMostResumes); ++i)
    put<u32>(*m_memory, kResume + 4 + 4 * i, i < entry.resume.size() && i < kMostResumes ? static_cast<u32>(code + entry.resume[i]) : 0);
  TestCase test;
  test.environment = m_environment;
  test.state_seed = entry.state_seed;
  test.override_mask = 1u << kRsp;
  test.overrides[kRsp] = data + 0x1800;
  const MachineState before = initial_state(test);
  load_registers(s, before);
  s.rip = code + entry.code_offset;
  enter_long_mode(s, kCr4Fsgsbase);
  s.segment[kLdtr] = {};
  s.star = u64{0x0008} << 32 | u64{0x0018} << 48;
  s.lstar = s.cstar = s.sysenter_eip = kKernel + kHalt;
  s.sysenter_cs = 8;
  s.sysenter_esp = kKernel + kStackTop;
  s.fmask = 0x47700;
  s.dr[7] = 0x400;
  s.halted = s.interrupt_shadow = s.stack_shadow = s.nmi_blocked = false;
  s.pending_debug = 0;
  write_mxcsr(s, before.vector.mxcsr);
  write_rflags(s, entry.rflags);
  load_segments(entry.supervisor);
  m_cpu->flush_tlb();
  m_cpu->update_mode();
}

ProgramMachine::Stop ProgramMachine::run(u64 budget) {
  Exit exit = Exit::BudgetSpent;
  if (m_pace == Pace::Blocks) exit = m_cpu->run(budget);
  else
    for (; budget > 0 && exit == Exit::BudgetSpent; --budget) exit = m_cpu->run(1);
  return {exit, m_cpu->retired() - m_retired_at_load};
}

void ProgramMachine::raise_interrupt() { m_cpu->set_interrupt_request(true); }
void ProgramMachine::write_memory(u64 physical, std::span<const u8> bytes) { m_memory->write(GuestPhysAddr(physical), bytes); }

void ProgramMachine::map_code_page(u64 linear, unsigned physical_page, bool flush_all) {
  const u64 table = linear >= kCodeAlias ? kAliasPt : kCodePt;
  put<u64>(*m_memory, table + 8 * (linear >> 12 & 511), (kCodePages + (u64{physical_page} << 12)) | kPresent | kUser | kWrite);
  if (flush_all) m_cpu->flush_tlb();
  else m_cpu->flush_tlb_page(linear);
}

std::vector<u8> ProgramMachine::code_at_rip() {
  std::vector<u8> bytes;
  const CpuState& s = m_cpu->s;
  const u64 linear = s.code64() ? s.rip : static_cast<u32>(s.segment[kCs].base + s.rip);
  for (unsigned i = 0; i < kMaxInsnLength; ++i) {
    const auto walked = walk(*m_memory, s.paging, linear + i, {AccessType::Read, false, false});
    if (!walked) break;
    bytes.push_back(m_memory->read_value<u8>(walked->page + ((linear + i) & kPageMask)));
  }
  return bytes;
}

std::string ProgramMachine::difference(ProgramMachine& reference, Depth depth) {
  std::string text;
  const CpuState &a = reference.m_cpu->s, &b = m_cpu->s;
  const auto differ = [&text](std::string_view name, u64 expected, u64 got) {
    if (expected != got) text += fmt::format(" {} {:x} not {:x}", name, got, expected);
  };
  constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                   "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  if (std::memcmp(a.gpr.data(), b.gpr.data(), sizeof(a.gpr)) != 0)
    for (unsigned i = 0; i < 16; ++i) differ(names[i], a.gpr[i], b.gpr[i]);
  differ("rip", a.rip, b.rip);
  differ("rflags", read_rflags(a), read_rflags(b));
  for (unsigned i = 0; i < 16; ++i)
    if (std::memcmp(&a.vector[i], &b.vector[i], 32) != 0)
      for (unsigned part = 0; part < 4; ++part) differ(fmt::format("ymm{}[{}]", i, part), a.vector[i].qword[part], b.vector[i].qword[part]);
  differ("mxcsr", a.mxcsr, b.mxcsr);
  for (unsigned i = 0; i < 8; ++i) {
    differ(fmt::format("x87 {}", i), a.x87.registers[i].significand, b.x87.registers[i].significand);
    differ(fmt::format("x87 {} exponent", i), a.x87.registers[i].sign_exponent, b.x87.registers[i].sign_exponent);
  }
  differ("fcw", a.x87.control, b.x87.control);
  differ("fsw", a.x87.status, b.x87.status);
  differ("ftw", a.x87.valid, b.x87.valid);
  differ("fop", a.x87.last_opcode, b.x87.last_opcode);
  differ("fip", a.x87.last_instruction, b.x87.last_instruction);
  differ("fdp", a.x87.last_data, b.x87.last_data);
  for (unsigned i = 0; i < kSegmentCount; ++i) {
    differ(fmt::format("selector {}", i), a.segment[i].selector, b.segment[i].selector);
    differ(fmt::format("base {}", i), a.segment[i].base, b.segment[i].base);
    differ(fmt::format("limit {}", i), a.segment[i].limit, b.segment[i].limit);
    differ(fmt::format("attributes {}", i), a.segment[i].attributes, b.segment[i].attributes);
  }
  for (const auto& [name, x, y] : {std::tuple{"cr0", a.cr0, b.cr0}, {"cr2", a.cr2, b.cr2}, {"cr3", a.cr3, b.cr3}, {"cr4", a.cr4, b.cr4},
                                   {"efer", a.efer, b.efer}, {"dr6", a.dr[6], b.dr[6]}, {"dr7", a.dr[7], b.dr[7]}})
    differ(name, x, y);
  differ("cpl", a.cpl, b.cpl);
  differ("halted", a.halted, b.halted);
  differ("interrupt shadow", reference.m_cpu->in_interrupt_shadow(), m_cpu->in_interrupt_shadow());
  differ("stack shadow", a.stack_shadow, b.stack_shadow);
  differ("pending debug", a.pending_debug, b.pending_debug);
  differ("interrupt request", a.interrupt_request, b.interrupt_request);
  differ("ports", reference.m_board->ports(), m_board->ports());
  struct Area {
    u64 first, size;
  };
  const Area all[] = {{0, kRamSize}};
  const Area some[] = {{kLow, kLowEnd - kLow}, {kCodePages, kCodePageCount << 12}, {kDataPages, kDataSize}};
  for (const auto& [first, size] : depth == Depth::AllMemory ? std::span<const Area>(all) : some) {
    const u8 *x = reference.m_ram->host(first), *y = m_ram->host(first);
    if (std::memcmp(x, y, size) == 0) continue;
    unsigned shown = 0;
    for (u64 i = 0; i < size && shown < 12; ++i)
      if (x[i] != y[i]) text += fmt::format(" @{:x} {:02x} not {:02x}", first + i, y[i], x[i]), ++shown;
  }
  return text;
}

}  // namespace vellum::programs
