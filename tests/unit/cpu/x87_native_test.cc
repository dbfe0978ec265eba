// Every x87 instruction on random states: the interpreter against the host's own FPU.
#include <catch2/catch.hpp>

#if defined(__x86_64__)

#include <sys/mman.h>

#include <cstring>
#include <random>

#include "cpu/x87_fixture.h"

using namespace vellum;

namespace {

constexpr unsigned kOperandSize = 112;

struct alignas(16) FxImage {
  u16 control, status;
  u8 tags, zero;
  u16 opcode;
  u64 instruction, data;
  u32 mxcsr, mxcsr_mask;
  X87Register st[8];
  u8 rest[512 - 160];
};
static_assert(sizeof(FxImage) == 512);

struct Outcome {
  FxImage fx;
  u8 memory[kOperandSize];
  u32 flags;
  u64 rax;
};

// fxrstor [rdi]; flags; INSN; flags; fxsave [rsi]; fninit; ret, with rcx at the operand.
class HostFpu {
 public:
  HostFpu() {
    m_page = static_cast<u8*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  ~HostFpu() { munmap(m_page, 4096); }
  Outcome run(const std::vector<u8>& insn, const FxImage& before, const u8* operand, u32 flags) {
    Outcome outcome{};
    std::memcpy(outcome.memory, operand, kOperandSize);
    std::vector<u8> code = {0x0f, 0xae, 0x0f, 0x52, 0x9d};  // fxrstor [rdi]; push rdx; popf
    code.insert(code.end(), insn.begin(), insn.end());
    // pushf; pop rdx; fxsave [rsi]; fninit; ret
    for (const u8 byte : {0x9c, 0x5a, 0x0f, 0xae, 0x06, 0xdb, 0xe3, 0xc3}) code.push_back(byte);
    std::memcpy(m_page, code.data(), code.size());
    u64 rax = 0x1234'5678, rdx = flags | 0x202;
    asm volatile("sub $128, %%rsp\n call *%[code]\n add $128, %%rsp"
                 : "+a"(rax), "+d"(rdx)
                 : [code] "b"(m_page), "D"(&before), "S"(&outcome.fx), "c"(outcome.memory)
                 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    outcome.flags = static_cast<u32>(rdx) & kArithmeticFlags;
    outcome.rax = rax;
    return outcome;
  }

 private:
  u8* m_page;
};

using Random = std::mt19937_64;

X87Register random_value(Random& random) {
  X87Register value{random(), static_cast<u16>(random()), {}};
  const u16 sign = value.sign_exponent & 0x8000;
  switch (random() % 16) {
    case 0: value.significand = 0; value.sign_exponent = sign; break;
    case 1: value.significand &= ~(u64{1} << 63); value.sign_exponent = sign; break;                  // denormal
    case 2: value.significand |= u64{1} << 63; value.sign_exponent = sign; break;                     // pseudo-denormal
    case 3: value.significand = u64{1} << 63; value.sign_exponent = sign | 0x7fff; break;             // infinity
    case 4: value.significand |= u64{3} << 62; value.sign_exponent = sign | 0x7fff; break;            // quiet NaN
    case 5:
      value.significand = (value.significand | u64{1} << 63 | 1) & ~(u64{1} << 62);                   // signalling NaN
      value.sign_exponent = sign | 0x7fff;
      break;
    case 6: break;                                                                                    // may be unsupported
    case 7: case 8: value.significand |= u64{1} << 63; break;                                         // any exponent
    case 9: {  // small integers
      const u64 integer = random() % 1000 + 1;
      const int shift = __builtin_clzll(integer);
      value.significand = integer << shift;
      value.sign_exponent = static_cast<u16>(sign | (0x3fff + 63 - shift));
      break;
    }
    case 10:  // short significands: ties and exact results
      value.significand = (random() | u64{1} << 63) & ~(~u64{0} >> (random() % 64));
      value.significand |= u64{1} << 63;
      value.sign_exponent = static_cast<u16>(sign | (0x3fff + random() % 70 - 3));
      break;
    case 11: value.significand |= u64{1} << 63; value.sign_exponent = static_cast<u16>(sign | (0x3fff - random() % 4)); break;
    case 12:  // where floats and doubles end
      value.significand |= u64{1} << 63;
      value.sign_exponent = static_cast<u16>(sign | (random() % 2 ? 0x3f81 - random() % 30 : 0x3c01 - random() % 60));
      break;
    case 13: value.significand |= u64{1} << 63; value.sign_exponent = static_cast<u16>(sign | (0x407e + random() % 3)); break;
    default: value.significand |= u64{1} << 63; value.sign_exponent = static_cast<u16>(sign | (0x3fff + random() % 80 - 10)); break;
  }
  return value;
}

struct Case {
  std::vector<u8> insn;
  FxImage fx;
  u8 operand[kOperandSize];
  u32 flags;
};

// `waiting`: the instruction must not meet a pending exception, which would be a #MF of the host.
Case random_case(Random& random, std::vector<u8> insn) {
  Case c{std::move(insn), {}, {}, static_cast<u32>(random()) & kArithmeticFlags};
  c.fx.mxcsr = 0x1f80;
  c.fx.control = 0x0040 | static_cast<u16>(random() & 0x0f3f);
  switch (random() % 4) {
    case 0: c.fx.control = 0x037f; break;
    case 1: c.fx.control |= 0x3f; break;
    case 2: c.fx.control = static_cast<u16>((c.fx.control | 0x3f) ^ (1u << (random() % 6))); break;
  }
  if ((c.fx.control & 0x300) == 0x100) c.fx.control |= 0x300;
  c.fx.status = static_cast<u16>(random() & 0x7f7f);
  c.fx.status &= static_cast<u16>(c.fx.control | ~0x3f);
  if (random() % 2) c.fx.status &= static_cast<u16>(~0x7f);
  c.fx.tags = random() % 4 ? static_cast<u8>(random() | random() | random()) : static_cast<u8>(random());
  for (X87Register& value : c.fx.st) value = random_value(random);
  for (u8& byte : c.operand) byte = static_cast<u8>(random());
  const X87Register value = random_value(random);
  switch (random() % 6) {
    case 0: std::memcpy(c.operand, &value, 10); break;
    case 1: {
      const double wide = static_cast<double>(static_cast<i64>(random())) * 0x1p-40;
      std::memcpy(c.operand, &wide, 8);
      break;
    }
    case 2: {
      const float narrow = static_cast<float>(static_cast<i64>(random())) * 0x1p-40f;
      std::memcpy(c.operand, &narrow, 4);
      break;
    }
    case 3: {  // denormals, infinities, NaNs
      const u64 wide = (random() & 0x800f'ffff'ffff'ffff) | (random() % 2 ? 0x7ff0'0000'0000'0000 : 0);
      std::memcpy(c.operand, &wide, 8);
      break;
    }
    case 4: {
      const u32 narrow = static_cast<u32>((random() & 0x807f'ffff) | (random() % 2 ? 0x7f80'0000 : 0));
      std::memcpy(c.operand, &narrow, 4);
      break;
    }
    case 5:  // decimal digits
      for (unsigned i = 0; i < 9; ++i) c.operand[i] = static_cast<u8>(random() % 10 << 4 | random() % 10);
      c.operand[9] = static_cast<u8>(random() & 0x80);
      break;
  }
  return c;
}

Outcome run_guest(Guest& guest, const Case& c, Exit& exit) {
  CpuState& s = guest.cpu.s;
  guest.memory.write(GuestPhysAddr(kCode), c.insn);
  guest.memory.write(GuestPhysAddr(kOperand), {c.operand, kOperandSize});
  s.x87 = {};
  s.x87.control = c.fx.control;
  s.x87.status = c.fx.status;
  s.x87.valid = c.fx.tags;
  const unsigned top = (c.fx.status >> 11) & 7;
  for (unsigned i = 0; i < 8; ++i) s.x87.registers[(top + i) & 7] = c.fx.st[i];
  write_rflags(s, c.flags | 2);
  s.gpr[kRax] = 0x1234'5678;
  s.gpr[kRcx] = kOperand;
  s.rip = kCode;
  exit = guest.cpu.run(1);
  Outcome outcome{};
  outcome.fx.control = s.x87.control;
  outcome.fx.status = s.x87.status;
  outcome.fx.tags = s.x87.valid;
  const unsigned new_top = (s.x87.status >> 11) & 7;
  for (unsigned i = 0; i < 8; ++i) outcome.fx.st[i] = s.x87.registers[(new_top + i) & 7];
  guest.memory.read(GuestPhysAddr(kOperand), outcome.memory);
  outcome.flags = read_rflags(s) & kArithmeticFlags;
  outcome.rax = s.gpr[kRax];
  return outcome;
}

std::string hex(const std::vector<u8>& bytes) {
  std::string text;
  for (const u8 byte : bytes) text += fmt::format("{:02x} ", byte);
  return text;
}

std::string describe(const FxImage& fx, const u8* memory, u32 flags) {
  std::string text = fmt::format("cw {:04x} sw {:04x} tags {:02x} flags {:04x}\n", fx.control, fx.status, fx.tags, flags);
  for (unsigned i = 0; i < 8; ++i) text += fmt::format(" {:04x}.{:016x}", fx.st[i].sign_exponent, fx.st[i].significand);
  text += "\n memory";
  for (unsigned i = 0; i < 16; ++i) text += fmt::format(" {:02x}", memory[i]);
  return text;
}

bool equal(const Outcome& a, const Outcome& b, unsigned first_memory_byte) {
  if (a.fx.control != b.fx.control || a.fx.status != b.fx.status || a.fx.tags != b.fx.tags) return false;
  for (unsigned i = 0; i < 8; ++i)
    if (a.fx.st[i].significand != b.fx.st[i].significand || a.fx.st[i].sign_exponent != b.fx.st[i].sign_exponent) return false;
  return std::memcmp(a.memory + first_memory_byte, b.memory + first_memory_byte, kOperandSize - first_memory_byte) == 0 &&
         a.flags == b.flags && a.rax == b.rax;
}

bool compares_to_flags(const std::vector<u8>& insn) {
  return (insn[0] == 0xdb || insn[0] == 0xdf) && insn[1] >= 0xe8 && insn[1] <= 0xf7;
}

// SDM Vol. 2D tables: what is left empty there and has no meaning on any CPU.
bool is_undefined(const std::vector<u8>& insn) {
  const u8 modrm = insn[1];
  switch (insn[0]) {
    case 0xd9: return (modrm >= 0xd1 && modrm <= 0xd7) || modrm == 0xe2 || modrm == 0xe3 || modrm == 0xe6 || modrm == 0xe7 || modrm == 0xef;
    case 0xda: return modrm >= 0xe0 && modrm != 0xe9;
    case 0xdb: return (modrm >= 0xe5 && modrm <= 0xe7) || modrm >= 0xf8;
    case 0xdd: return modrm >= 0xf0;
    case 0xde: return modrm >= 0xd8 && modrm <= 0xdf && modrm != 0xd9;
    case 0xdf: return (modrm >= 0xe1 && modrm <= 0xe7) || modrm >= 0xf8;
    default: return false;
  }
}

std::vector<std::vector<u8>> all_encodings() {
  std::vector<std::vector<u8>> result;
  for (unsigned opcode = 0xd8; opcode <= 0xdf; ++opcode) {
    for (unsigned reg = 0; reg < 8; ++reg) {
      const unsigned which = opcode << 8 | reg;
      // DB /4 /6, D9 /1 and DD /5 are not defined. FLDENV and FRSTOR load pending exceptions and pointers, FNSTENV
      // and FNSAVE store them: have tests of their own.
      if (which == 0xdb04 || which == 0xdb06 || which == 0xd901 || which == 0xdd05) continue;
      if (which == 0xd904 || which == 0xd906 || which == 0xdd04 || which == 0xdd06) continue;
      result.push_back({static_cast<u8>(opcode), static_cast<u8>(reg << 3 | 1)});  // [ecx], [rcx]
    }
    for (unsigned modrm = 0xc0; modrm <= 0xff; ++modrm) result.push_back({static_cast<u8>(opcode), static_cast<u8>(modrm)});
  }
  return result;
}

}  // namespace

TEST_CASE("x87 instructions do to every state what the host's FPU does") {
  Guest guest;
  HostFpu host;
  Random random(20261121);
  unsigned run = 0, different = 0;
  std::string report;
  for (const std::vector<u8>& insn : all_encodings()) {
    unsigned different_here = 0;
    for (unsigned i = 0; i < 600; ++i) {
      const Case c = random_case(random, insn);
      Exit exit;
      const Outcome got = run_guest(guest, c, exit);
      if (exit == Exit::Shutdown || is_undefined(insn)) {  // #UD
        INFO(hex(insn));
        CHECK(exit == Exit::Shutdown);
        CHECK(is_undefined(insn));
        guest.reset();
        break;
      }
      Outcome expected = host.run(c.insn, c.fx, c.operand, c.flags);
      if (compares_to_flags(c.insn)) {
        // SDM Vol. 2A "FCOMI": C1 is cleared, and after an unmasked #IA the flags stay. AMD CPUs keep C1, and set them.
        expected.fx.status &= static_cast<u16>(~0x200);
        if (expected.fx.status & ~c.fx.control & 1) expected.flags = c.flags;
      }
      ++run;
      if (equal(got, expected, 0)) continue;
      ++different;
      if (++different_here == 1)
        report += fmt::format("{}\nbefore {}\nhost   {}\nours   {}\n", hex(insn), describe(c.fx, c.operand, c.flags),
                              describe(expected.fx, expected.memory, expected.flags),
                              describe(got.fx, got.memory, got.flags));
    }
    if (different_here) report += fmt::format("  {} differences\n", different_here);
  }
  INFO(report);
  CHECK(run > 100000);
  CHECK(different == 0);
}

#endif
