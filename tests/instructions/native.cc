// The host's CPU as oracle: a signal frame made by hand starts the case by sigreturn, the fault that ends it comes back
// as a signal with the whole state. 16- and 32-bit code runs in segments of this process's LDT.
#include "instructions/native.h"

#if defined(__x86_64__) && defined(__linux__)

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

namespace vellum::instructions {

namespace {

// The kernel's extended state behind the 512 bytes of FXSAVE: arch/x86/include/uapi/asm/sigcontext.h.
constexpr u32 kExtendedMagic = 0x46505853;
constexpr usize kSwReservedOffset = 464;
struct SoftwareBytes {
  u32 magic1, extended_size;
  u64 features;
  u32 state_size, padding[7];
};
struct Fxsave {
  u16 control, status;
  u8 tags, reserved;
  u16 opcode;
  u64 instruction, data;
  u32 mxcsr, mxcsr_mask;
  u8 st[8][16];
  u8 xmm[16][16];
};

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
constexpr int kGregOf[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
constexpr usize kMaxExtended = 16384;
// In the XSAVE area: XSTATE_BV, and the upper halves of YMM, SDM Vol. 1 13.4.
constexpr usize kStateBvOffset = 512, kYmmOffset = 576, kYmmSize = 256;
constexpr u64 kYmmComponent = 4;

enum LdtEntry : unsigned { kLdtFlatCode32, kLdtFlatData, kLdtCode32, kLdtCode16, kLdtDs, kLdtEs, kLdtSs32, kLdtSs16 };
constexpr u16 ldt_selector(unsigned entry) { return static_cast<u16>(entry << 3 | 7); }

// What the signal handlers share with run(); there is one test at a time.
volatile bool g_running = false;
sigjmp_buf g_return;
greg_t g_gregs[NGREG];
Fxsave g_fxsave;
u8 g_ymm_high[16][16];
int g_signal = 0;
volatile unsigned g_ticks_in_case = 0;
ucontext_t g_template;
alignas(64) u8 g_template_extended[kMaxExtended];
usize g_extended_size = 0;
bool g_has_ymm = false;

void on_fault(int signal, siginfo_t*, void* context) {
  if (!g_running) {  // a bug of this program
    struct sigaction fallback{};
    fallback.sa_handler = SIG_DFL;
    sigaction(signal, &fallback, nullptr);
    return;
  }
  g_running = false;
  const auto* uc = static_cast<const ucontext_t*>(context);
  std::memcpy(g_gregs, uc->uc_mcontext.gregs, sizeof(g_gregs));
  const auto* area = reinterpret_cast<const u8*>(uc->uc_mcontext.fpregs);
  std::memcpy(&g_fxsave, area, sizeof(g_fxsave));
  u64 present;
  std::memcpy(&present, area + kStateBvOffset, sizeof(present));
  if (g_has_ymm && (present & kYmmComponent)) std::memcpy(g_ymm_high, area + kYmmOffset, kYmmSize);
  else std::memset(g_ymm_high, 0, kYmmSize);
  g_signal = signal;
  siglongjmp(g_return, 1);
}

void on_timer(int, siginfo_t*, void* context) {
  if (!g_running) return;
  g_ticks_in_case = g_ticks_in_case + 1;
  if (g_ticks_in_case == 3) on_fault(SIGALRM, nullptr, context);
}

void on_capture(int, siginfo_t*, void* context) {
  const auto* uc = static_cast<const ucontext_t*>(context);
  g_template = *uc;
  SoftwareBytes software;
  const auto* fp = reinterpret_cast<const u8*>(uc->uc_mcontext.fpregs);
  std::memcpy(&software, fp + kSwReservedOffset, sizeof(software));
  g_extended_size = software.magic1 == kExtendedMagic ? software.extended_size : 0;
  if (g_extended_size && g_extended_size <= kMaxExtended) std::memcpy(g_template_extended, fp, g_extended_size);
  g_has_ymm = (software.features & kYmmComponent) && g_extended_size >= kYmmOffset + kYmmSize;
}

bool set_ldt(unsigned entry, SegmentLayout layout, bool code, bool bits32, bool pages) {
  user_desc descriptor{};
  descriptor.entry_number = entry;
  descriptor.base_addr = static_cast<unsigned>(layout.base);
  descriptor.limit = layout.limit;
  descriptor.seg_32bit = bits32;
  descriptor.contents = code ? 2 : 0;
  descriptor.limit_in_pages = pages;
  descriptor.useable = 1;
  return syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof(descriptor)) == 0;
}

struct Mapping {
  u8* alias = nullptr;  // writable here, whatever the protection at its fixed place
  bool make(u64 base, u64 size, int protection) {
    const int file = memfd_create("instructions", 0);
    if (file < 0 || ftruncate(file, static_cast<off_t>(size)) != 0) return false;
    void* fixed =
        mmap(reinterpret_cast<void*>(base), size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, file, 0);
    void* second = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (fixed != reinterpret_cast<void*>(base) || second == MAP_FAILED) return false;
    alias = static_cast<u8*>(second);
    return true;
  }
};

class HostCpu final : public NativeCpu {
 public:
  bool prepare(std::string& why) {
    if (!m_code.make(kCodeBase, kCodeSize, PROT_READ | PROT_EXEC) ||
        !m_data.make(kDataBase, kDataSize, PROT_READ | PROT_WRITE) ||
        mprotect(reinterpret_cast<void*>(kDataBase + kWritableSize), kDataSize - kWritableSize, PROT_READ) != 0) {
      why = "cannot map the test pages at their fixed addresses";
      return false;
    }
    std::memset(m_code.alias, kFiller, kCodeSize);
    // Every page must be in the page tables: the error code of a fault says whether it was.
    for (u64 page = 0; page < kDataSize; page += 0x1000)
      static_cast<void>(*reinterpret_cast<volatile u8*>(kDataBase + page));

    stack_t stack{};
    m_stack.resize(1 << 16);
    stack.ss_sp = m_stack.data();
    stack.ss_size = m_stack.size();
    struct sigaction action{};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaltstack(&stack, nullptr);
    action.sa_sigaction = on_capture;
    sigaction(SIGUSR1, &action, nullptr);
    raise(SIGUSR1);
    if (g_extended_size == 0 || g_extended_size > kMaxExtended) {
      why = "the kernel's signal frame has no extended state, or too much";
      return false;
    }
    action.sa_sigaction = on_fault;
    for (const int signal : kSignals) sigaction(signal, &action, nullptr);
    action.sa_sigaction = on_timer;
    sigaction(SIGALRM, &action, nullptr);
    const itimerval interval{{0, 200000}, {0, 200000}};
    setitimer(ITIMER_REAL, &interval, nullptr);

    syscall(SYS_arch_prctl, ARCH_SET_GS, kGsBase);
    constexpr SegmentLayout flat{0, 0xfffff};
    m_has_ldt = set_ldt(kLdtFlatCode32, flat, true, true, true) && set_ldt(kLdtFlatData, flat, false, true, true) &&
                set_ldt(kLdtCode32, kCodeSegment, true, true, false) &&
                set_ldt(kLdtCode16, kCodeSegment, true, false, false) &&
                set_ldt(kLdtDs, kDsSegment, false, true, false) && set_ldt(kLdtEs, kEsSegment, false, true, false) &&
                set_ldt(kLdtSs32, kSsSegment, false, true, false) && set_ldt(kLdtSs16, kSsSegment, false, false, false);
    return true;
  }

  bool supports(Environment environment) const override { return environment == Environment::Long64 || m_has_ldt; }

  void run(const TestCase& test, Outcome& outcome) override {
    if (!m_memory_valid || m_memory_seed != test.memory_seed) {
      m_pristine.resize(kDataSize);
      fill_memory(test.memory_seed, m_pristine);
      std::memcpy(m_data.alias, m_pristine.data(), kDataSize);
      m_memory_seed = test.memory_seed;
      m_memory_valid = true;
    }
    const MachineState before = initial_state(test);
    std::memcpy(m_code.alias + test.code_offset, test.code.data(), test.code.size());
    if (!test.patch.empty()) std::memcpy(m_data.alias + test.patch_offset, test.patch.data(), test.patch.size());

    prepare_frame(test.environment, before);
    m_finished = false;
    g_ticks_in_case = 0;
    if (sigsetjmp(g_return, 0) == 0) {
      g_running = true;
      ucontext_t* frame = &m_frame;
      asm volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall" : : "r"(frame) : "memory");  // rt_sigreturn
      __builtin_unreachable();
    }
    collect(test, before, outcome);

    std::memset(m_code.alias + test.code_offset, kFiller, test.code.size());
    outcome.memory.clear();
    if (!test.patch.empty()) std::memcpy(m_pristine.data() + test.patch_offset, test.patch.data(), test.patch.size());
    if (std::memcmp(m_data.alias, m_pristine.data(), kDataSize) != 0) {
      for (usize i = 0; i < kDataSize; ++i) {
        if (m_data.alias[i] == m_pristine[i]) continue;
        outcome.memory.push_back({static_cast<u16>(i), m_data.alias[i]});
        m_data.alias[i] = m_pristine[i];
      }
    }
    if (!test.patch.empty()) m_memory_valid = false;
  }

 private:
  void prepare_frame(Environment environment, const MachineState& before) {
    m_frame = g_template;
    std::memcpy(m_extended, g_template_extended, g_extended_size);
    auto& gregs = m_frame.uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; ++i) gregs[kGregOf[i]] = static_cast<greg_t>(before.gpr[i]);
    gregs[REG_RIP] = static_cast<greg_t>(before.rip);
    gregs[REG_EFL] = before.rflags;
    u64 cs = 0x33, ss = 0x2b;
    u16 ds = 0x2b, es = 0x2b;
    switch (environment) {
      case Environment::Flat32:
        cs = ldt_selector(kLdtFlatCode32);
        ss = ds = es = ldt_selector(kLdtFlatData);
        break;
      case Environment::Segmented32:
        cs = ldt_selector(kLdtCode32);
        ss = ldt_selector(kLdtSs32);
        break;
      case Environment::Segmented16:
        cs = ldt_selector(kLdtCode16);
        ss = ldt_selector(kLdtSs16);
        break;
      default:
        break;
    }
    if (environment == Environment::Segmented32 || environment == Environment::Segmented16) {
      ds = ldt_selector(kLdtDs);
      es = ldt_selector(kLdtEs);
    }
    asm volatile("mov %0, %%ds\n\tmov %1, %%es" : : "r"(ds), "r"(es));
    gregs[REG_CSGSFS] = static_cast<greg_t>(cs | ss << 48);

    const VectorState& vector = before.vector;
    Fxsave fx{};
    fx.control = vector.control;
    fx.status = vector.status;
    fx.tags = vector.tags;
    fx.mxcsr = vector.mxcsr;
    for (unsigned i = 0; i < 8; ++i) std::memcpy(fx.st[i], vector.st[i].data(), 10);
    for (unsigned i = 0; i < 16; ++i) std::memcpy(fx.xmm[i], vector.xmm[i].data(), 16);
    std::memcpy(m_extended, &fx, sizeof(fx));
    u64 present = 3;  // XSTATE_BV: x87 and SSE, and YMM; the rest starts in its initial state
    if (g_has_ymm) {
      present |= kYmmComponent;
      for (unsigned i = 0; i < 16; ++i) std::memcpy(m_extended + kYmmOffset + 16 * i, vector.ymm_high[i].data(), 16);
    }
    std::memcpy(m_extended + kStateBvOffset, &present, sizeof(present));
    m_frame.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(m_extended);
  }

  void collect(const TestCase& test, const MachineState& before, Outcome& outcome) {
    MachineState& state = outcome.state;
    for (unsigned i = 0; i < 16; ++i) state.gpr[i] = visible(test.environment, static_cast<u64>(g_gregs[kGregOf[i]]));
    state.rip = visible(test.environment, static_cast<u64>(g_gregs[REG_RIP]));
    state.rflags = static_cast<u32>(g_gregs[REG_EFL]);
    state.vector.control = g_fxsave.control;
    state.vector.status = g_fxsave.status;
    state.vector.tags = g_fxsave.tags;
    state.vector.mxcsr = g_fxsave.mxcsr;
    for (unsigned i = 0; i < 8; ++i) std::memcpy(state.vector.st[i].data(), g_fxsave.st[i], 10);
    for (unsigned i = 0; i < 16; ++i) std::memcpy(state.vector.xmm[i].data(), g_fxsave.xmm[i], 16);
    // Without AVX on the host nothing here can change these.
    if (g_has_ymm) std::memcpy(state.vector.ymm_high.data(), g_ymm_high, kYmmSize);
    else state.vector.ymm_high = before.vector.ymm_high;
    outcome.vector = g_signal == SIGALRM ? kHung : static_cast<u8>(g_gregs[REG_TRAPNO]);
    outcome.error_code = static_cast<u32>(g_gregs[REG_ERR]);
    outcome.fault_address = outcome.vector == 14 ? static_cast<u64>(g_gregs[REG_CR2]) : 0;
  }

  Mapping m_code, m_data;
  std::vector<u8> m_stack, m_pristine;
  u32 m_memory_seed = 0;
  bool m_memory_valid = false, m_has_ldt = false, m_finished = false;
  ucontext_t m_frame{};
  alignas(64) u8 m_extended[kMaxExtended]{};
};

}  // namespace

std::unique_ptr<NativeCpu> NativeCpu::create(std::string& why) {
  auto cpu = std::make_unique<HostCpu>();
  if (!cpu->prepare(why)) return nullptr;
  return cpu;
}

HostCpuid host_cpuid(u32 leaf, u32 subleaf) {
  HostCpuid r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool host_is_amd() {
  const HostCpuid r = host_cpuid(0, 0);
  return r.ebx == 0x68747541 || r.ebx == 0x6f677948;  // AuthenticAMD, HygonGenuine
}

}  // namespace vellum::instructions

#else

namespace vellum::instructions {

std::unique_ptr<NativeCpu> NativeCpu::create(std::string& why) {
  why = "the host is not an x86-64 Linux";
  return nullptr;
}
HostCpuid host_cpuid(u32, u32) { return {}; }
bool host_is_amd() { return false; }

}  // namespace vellum::instructions

#endif
