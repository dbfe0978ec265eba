// Regions compiled by the optimizing translator do what the interpreter does: same state, same memory, same count of
// instructions, wherever the budget ends.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "long_mode_guest.h"

using namespace vellum;

#if defined(__x86_64__)

// Guest code, assembled with this program: RDI points to data, HLT ends it.
#define GUEST_CODE(name, text)                                                                              \
  asm(".pushsection .rodata\n.globl guest_" #name "\nguest_" #name ":\n.intel_syntax noprefix\n" text       \
      "\n.att_syntax\n.globl guest_end_" #name "\nguest_end_" #name ":\n.popsection");                      \
  extern "C" const u8 guest_##name[], guest_end_##name[]

// The loop to compile begins at label 1, found by its offset from the start: code before it is run by the interpreter.
GUEST_CODE(sum, "mov ecx, 1000\nxor eax, eax\nxor edx, edx\n"
                "1: add rax, [rdi+rdx*8]\nadd [rdi+rdx*8], rcx\ninc rdx\nand edx, 1023\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(flags, "mov ecx, 500\nmov eax, 12345\nxor edx, edx\nxor ebx, ebx\n"
                  "1: imul eax, eax, 1103515245\nadd eax, 12345\nmov esi, eax\nshr esi, 16\ncmp si, 30000\nsetl bl\nadc edx, ebx\n"
                  "cmp al, 77\ncmova r8, rdx\ncmovle r9d, eax\nrol eax, 3\nsbb r10, rdx\nneg r10\njo 2f\nadd r11, r10\n"
                  "2: test eax, 256\njz 3f\nxor r12b, al\nadd ah, al\nsub bh, 3\n3: mov cl, cl\nshl r13, cl\nshld r14, rax, cl\n"
                  "bt eax, ecx\nadc r15, 0\nlahf\nadd r15, rax\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(calls, "mov ecx, 300\nxor eax, eax\n"
                  "1: push rcx\ncall 2f\npop rcx\nmov rdx, [rsp-24]\nadd rax, rdx\ncall 3f\nloop 1b\nhlt\n"
                  "2: push rbx\nmov rbx, rcx\nlea rax, [rax+rbx*2+7]\npop rbx\nret\n"
                  "3: sub rsp, 40\nmov [rsp+8], rax\nmov [rsp+16], ecx\nmovzx edx, word ptr [rsp+10]\nadd rax, rdx\nadd rsp, 40\nret 0");
GUEST_CODE(vectors, "mov ecx, 200\nxor esi, esi\npxor xmm0, xmm0\n"
                    "1: movdqu xmm1, [rdi+rsi]\npaddd xmm0, xmm1\nmovdqa xmm2, [rdi]\npshufd xmm3, xmm2, 0x1b\npxor xmm0, xmm3\n"
                    "movd eax, xmm0\nadd esi, 16\nand esi, 4095\nmovups [rdi+rsi], xmm0\nmovq xmm4, rax\npunpcklbw xmm4, xmm1\n"
                    "movhps [rdi+8], xmm4\npcmpeqb xmm5, xmm4\npmovmskb edx, xmm5\nadd r8, rdx\npalignr xmm6, xmm0, 5\n"
                    "pshufb xmm6, xmm1\nmovss xmm7, [rdi+4]\nmovlps xmm7, [rdi+64]\nmovsd xmm8, xmm7\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(floats, "mov ecx, 200\nmov eax, 3\ncvtsi2sd xmm0, eax\nmov eax, 7\ncvtsi2sd xmm1, eax\ncvtsd2ss xmm4, xmm1\n"
                   "1: mulsd xmm0, xmm1\ndivsd xmm0, xmm0\naddsd xmm0, xmm1\nsqrtsd xmm2, xmm0\nsubsd xmm1, xmm2\nmovapd xmm3, xmm1\n"
                   "mulpd xmm3, xmm0\naddpd xmm3, xmm2\nucomisd xmm3, xmm1\njp 2f\nja 3f\naddss xmm4, xmm4\n2: mulss xmm4, [rdi]\n"
                   "3: cvttsd2si rax, xmm3\nadd rdx, rax\nmovsd [rdi+32], xmm3\nminsd xmm3, xmm1\nmaxps xmm4, xmm3\n"
                   "cmpltpd xmm3, xmm0\nandpd xmm5, xmm3\ncvtps2pd xmm6, xmm4\nhaddpd xmm6, xmm0\nstmxcsr [rdi+40]\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(updates, "mov ecx, 300\nmov eax, 5\nxor edx, edx\n"
                    "1: lock add [rdi+8], rax\nlock xadd [rdi+16], rax\nxchg [rdi+24], eax\nlock cmpxchg [rdi+32], rdx\nadd byte ptr [rdi+4093], 3\n"
                    "add dword ptr [rdi+4094], 77\nneg qword ptr [rdi+40]\nnot word ptr [rdi+50]\nshl dword ptr [rdi+60], 1\n"
                    "sar qword ptr [rdi+72], 3\nlock bts dword ptr [rdi+80], ecx\nadc [rdi+88], rcx\ninc qword ptr [rdi+96]\n"
                    "mov rdx, [rdi+4092]\npush qword ptr [rdi]\npop qword ptr [rdi+104]\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(mixed, "mov ecx, 100\nfninit\nfld1\n"
                  "1: fadd st, st\nfstp qword ptr [rdi]\nfld qword ptr [rdi+8]\nfild dword ptr [rdi+16]\nfaddp\nmov rsi, rdi\n"
                  "lodsd\nstosd\ncld\nmovsb\nsub rdi, 5\npaddb mm0, [rdi]\nmovq [rdi+32], mm0\nemms\nbswap eax\nmul rcx\nmov ebx, 7\nxor edx, edx\n"
                  "div ebx\npushfq\npop rbx\nand ebx, 0x8d5\nadd r8, rbx\nxlatb\ncpuid\nmov ecx, [rdi+200]\ninc ecx\nand ecx, 127\nmov [rdi+200], ecx\njnz 1b\nhlt");
GUEST_CODE(fault, "mov ecx, 3000\nxor eax, eax\n"
                  "1: lea rdx, [rdi+rcx*8]\nadd rax, rdx\nmov rbx, rax\nmov [rdi], rbx\nadd rdi, 0x1000\nsub rcx, 1\nmov rsi, [rdi+8]\nadd rsi, rbx\njmp 1b\nhlt");
GUEST_CODE(divide64, "mov ecx, 77\nmov r10, 0x123456789abcdef\n1: mov rax, r10\nxor edx, edx\nlea rbx, [rcx+12345]\ndiv rbx\nadd r8, rdx\nimul r10, rax, 77\n"
                     "mov rax, r10\ncqo\nneg rbx\nidiv rbx\nadd r9, rdx\nmov edx, 3\nidiv rbx\nxor r9, rax\ncdq\nmov bx, 77\ndiv bx\nidiv bl\nadd r9, rax\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(divide, "mov ecx, 50\n1: mov eax, 1000\nxor edx, edx\nadd r8, rax\nsub ecx, 1\ndiv ecx\nadd r9, rax\ncmp r9, 5\njmp 1b\nhlt");

namespace {

struct Program {
  const char* name;
  const u8 *begin, *end;
};
#define PROGRAM(name) Program{#name, guest_##name, guest_end_##name}
const Program kPrograms[] = {PROGRAM(sum), PROGRAM(flags), PROGRAM(calls), PROGRAM(vectors), PROGRAM(floats), PROGRAM(updates), PROGRAM(mixed), PROGRAM(fault), PROGRAM(divide), PROGRAM(divide64)};

std::string difference(const CpuState& a, const CpuState& b) {
  std::string text;
  const auto check = [&](const char* name, u64 x, u64 y) {
    if (x != y) text += std::string(name) + ": " + std::to_string(x) + " is not " + std::to_string(y) + "\n";
  };
  for (unsigned i = 0; i < 16; ++i) check(("r" + std::to_string(i)).c_str(), a.gpr[i], b.gpr[i]);
  check("rip", a.rip, b.rip);
  check("rflags", read_rflags(a), read_rflags(b));
  check("mxcsr", a.mxcsr, b.mxcsr);
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned k = 0; k < 8; ++k) check(("xmm" + std::to_string(i)).c_str(), a.vector[i].qword[k], b.vector[i].qword[k]);
  for (unsigned i = 0; i < 8; ++i) check("st", a.x87.registers[i].significand, b.x87.registers[i].significand);
  check("x87 status", a.x87.status, b.x87.status);
  check("cr2", a.cr2, b.cr2);
  return text;
}

// A page not present in the middle of the data.
void punch_hole(LongModeGuest& guest) { guest.write(LongModeGuest::kTables + 0x3000 + 0x2000 + 8 * 40, 0); }

void prepare(LongModeGuest& guest) {
  for (u64 i = 0; i < 1024; ++i) guest.write(LongModeGuest::kDataAt + 8 * i, (i * 0x9e3779b97f4a7c15) ^ (i << 50));
  guest.write(LongModeGuest::kDataAt + 200, 1);
  punch_hole(guest);
}

RegionCompiler& compiler() {
  static TestCodeMemory memory;
  static auto made = RegionCompiler::create(memory);
  REQUIRE(made.has_value());
  if (const char* directory = std::getenv("VELLUM_DUMP_REGIONS")) (*made)->dump_to(directory);
  return **made;
}

// Installs a region at every block that the interpreter came to, entry by entry.
void install_regions(LongModeGuest& guest, const std::set<u64>& rips) {
  for (const u64 rip : rips) {
    const Region region = make_region(guest.cpu, rip);
    const auto compiled = compiler().compile(region);
    if (!compiled) FAIL(compiled.error());
    install(guest.cpu.lookup(rip), compiled->entry);
  }
}

}  // namespace

TEST_CASE("regions do what the interpreter does") {
  const Program& program = GENERATE(from_range(std::begin(kPrograms), std::end(kPrograms)));
  const u64 budget = GENERATE(u64{1} << 40, u64{1}, u64{7}, u64{100});
  CAPTURE(program.name, budget);
  const std::span<const u8> code(program.begin, program.end);
  LongModeGuest plain(code), optimized(code);
  prepare(plain);
  prepare(optimized);
  InstalledRegions::all().clear();
  // One instruction at a time shows where blocks begin.
  std::set<u64> rips;
  {
    LongModeGuest scout(code);
    prepare(scout);
    u64 expected = 0;
    while (!scout.stopped()) {
      if (scout.cpu.s.rip != expected && scout.cpu.s.rip < LongModeGuest::kCodeAt + code.size() && scout.cpu.s.rip >= LongModeGuest::kCodeAt) rips.insert(scout.cpu.s.rip);
      Insn insn;
      std::vector<u8> bytes(16);
      scout.memory.read(GuestPhysAddr(scout.cpu.s.rip), bytes);
      expected = scout.cpu.s.rip + (scout.cpu.decoder.decode(bytes, CodeSize::Bits64, false, insn) == DecodeStatus::Ok ? insn.length : 1);
      scout.cpu.run(1);
    }
  }
  install_regions(optimized, rips);
  u64 steps = 0;
  while (!plain.stopped() && steps < 20000) {
    plain.cpu.run(budget);
    optimized.cpu.run(budget);
    ++steps;
    const std::string text = difference(optimized.cpu.s, plain.cpu.s);
    if (!text.empty() || optimized.cpu.retired() != plain.cpu.retired()) {
      FAIL("after run " << steps << ", " << optimized.cpu.retired() << " instructions instead of " << plain.cpu.retired() << ":\n" << text);
    }
  }
  CHECK(optimized.stopped());
  CHECK(std::memcmp(plain.ram->host(LongModeGuest::kDataAt), optimized.ram->host(LongModeGuest::kDataAt), 0x40000) == 0);
  CHECK(std::memcmp(plain.ram->host(LongModeGuest::kStackTop - 0x1000), optimized.ram->host(LongModeGuest::kStackTop - 0x1000), 0x1000) == 0);
}

#endif
