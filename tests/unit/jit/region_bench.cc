// How fast hot loops run on the host itself, in the interpreter, and as regions. Run it by hand: region-bench [name].
#include <ctime>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "long_mode_guest.h"

using namespace vellum;

#define GUEST_CODE(name, text)                                                                              \
  asm(".pushsection .rodata\n.globl guest_" #name "\nguest_" #name ":\n.intel_syntax noprefix\n" text       \
      "\n.att_syntax\n.globl guest_end_" #name "\nguest_end_" #name ":\n.popsection");                      \
  extern "C" const u8 guest_##name[], guest_end_##name[]

GUEST_CODE(arithmetic, "mov ecx, 20000000\nxor eax, eax\nmov edx, 7\n"
                       "1: imul rax, rax, 31\nadd rax, rcx\nxor rdx, rax\nmov rsi, rdx\nshr rsi, 3\nadd rdx, rsi\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(sum, "mov ecx, 20000\nxor eax, eax\n"
                "2: xor edx, edx\n1: add eax, [rdi+rdx*4]\ninc rdx\ncmp rdx, 1000\njb 1b\ndec ecx\njnz 2b\nhlt");
GUEST_CODE(copy, "mov ecx, 20000\n2: xor edx, edx\n"
                 "1: mov rax, [rdi+rdx*8]\nmov [rdi+rdx*8+8192], rax\ninc rdx\ncmp edx, 1000\njne 1b\ndec ecx\njnz 2b\nhlt");
GUEST_CODE(sieve, "mov r8d, 100\n3: mov ecx, 2\n2: lea edx, [rcx+rcx]\n1: mov byte ptr [rdi+rdx], 0\nadd edx, ecx\ncmp edx, 65536\njb 1b\n"
                  "inc ecx\ncmp ecx, 256\njb 2b\ndec r8d\njnz 3b\nhlt");
GUEST_CODE(calls, "mov ecx, 5000000\nxor eax, eax\n1: mov rsi, rcx\ncall 2f\nadd rax, rdx\ndec ecx\njnz 1b\nhlt\n"
                  "2: push rbp\nmov rbp, rsp\nsub rsp, 16\nmov [rbp-8], rsi\nmov rdx, [rbp-8]\nlea rdx, [rdx+rdx*4+3]\nleave\nret");
GUEST_CODE(scalar, "mov ecx, 10000000\nmov eax, 3\ncvtsi2sd xmm0, eax\nmov eax, 1\ncvtsi2sd xmm1, eax\nmovapd xmm2, xmm1\ndivsd xmm2, xmm0\nxorps xmm3, xmm3\n"
                   "1: movapd xmm4, xmm3\nmulsd xmm4, xmm2\naddsd xmm3, xmm1\nmulsd xmm4, xmm4\nsubsd xmm4, xmm2\ndec ecx\njnz 1b\nhlt");
GUEST_CODE(matrix, "mov ecx, 20000\n2: xor edx, edx\nxorps xmm0, xmm0\n"
                   "1: movsd xmm1, [rdi+rdx*8]\nmulsd xmm1, [rdi+rdx*8+16384]\naddsd xmm0, xmm1\ninc rdx\ncmp rdx, 1000\njne 1b\n"
                   "movsd [rdi+40000], xmm0\ndec ecx\njnz 2b\nhlt");
GUEST_CODE(packed, "mov ecx, 20000\n2: xor edx, edx\n"
                   "1: movdqu xmm0, [rdi+rdx]\nmovdqu xmm1, [rdi+rdx+16384]\npaddd xmm0, xmm1\npxor xmm0, xmm2\nmovdqu [rdi+rdx+32768], xmm0\n"
                   "add rdx, 16\ncmp rdx, 16000\njne 1b\ndec ecx\njnz 2b\nhlt");
GUEST_CODE(packedfp, "mov ecx, 20000\n2: xor edx, edx\n"
                     "1: movups xmm0, [rdi+rdx]\nmovups xmm1, [rdi+rdx+16384]\nmulps xmm0, xmm1\naddps xmm0, xmm2\nmovups [rdi+rdx+32768], xmm0\n"
                     "add rdx, 16\ncmp rdx, 16000\njne 1b\ndec ecx\njnz 2b\nhlt");

namespace {

struct Program {
  const char* name;
  const u8 *begin, *end;
};
#define PROGRAM(name) Program{#name, guest_##name, guest_end_##name}
const Program kPrograms[] = {PROGRAM(arithmetic), PROGRAM(sum), PROGRAM(copy), PROGRAM(sieve), PROGRAM(calls), PROGRAM(scalar), PROGRAM(matrix), PROGRAM(packed), PROGRAM(packedfp)};

double seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double run_natively(std::span<const u8> code) {
  u8* memory = static_cast<u8*>(::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memcpy(memory, code.data(), code.size());
  for (usize i = 0; i < code.size(); ++i)
    if (memory[i] == 0xf4) memory[i] = 0xc3;
  const double start = seconds();
  void* data = memory + 0x10000;
  void* function = memory;
  asm volatile("push %%rbx\npush %%rbp\ncall *%%rax\npop %%rbp\npop %%rbx" : "+D"(data), "+a"(function)
               : : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "memory", "cc");
  const double time = seconds() - start;
  ::munmap(memory, 1 << 20);
  return time;
}

double run_guest(LongModeGuest& guest) {
  const double start = seconds();
  while (!guest.stopped()) guest.cpu.run(u64{1} << 40);
  return seconds() - start;
}

}  // namespace

int main(int count, char** arguments) {
  TestCodeMemory memory;
  auto compiler = RegionCompiler::create(memory);
  if (!compiler) return std::puts(compiler.error().c_str()), 1;
  if (const char* directory = std::getenv("VELLUM_DUMP_REGIONS")) (*compiler)->dump_to(directory);
  for (const Program& program : kPrograms) {
    if (count > 1 && std::strcmp(arguments[1], program.name)) continue;
    const std::span<const u8> code(program.begin, program.end);
    const double native = std::min({run_natively(code), run_natively(code), run_natively(code)});
    LongModeGuest plain(code), optimized(code);
    const double interpreted = run_guest(plain);
    InstalledRegions::all().clear();
    optimized.cpu.run(1);  // the region begins behind the first instruction, at the outermost loop or before it
    const u64 rip = optimized.cpu.s.rip;
    const auto compiled = (*compiler)->compile(make_region(optimized.cpu, rip));
    if (!compiled) return std::printf("%s: %s\n", program.name, compiled.error().c_str()), 1;
    install(optimized.cpu.lookup(rip), compiled->entry);
    double time = run_guest(optimized);
    RegionStatistics best = compiled->statistics;
    for (int i = 0; i < 2; ++i) {
      LongModeGuest again(code);
      InstalledRegions::all().clear();
      again.cpu.run(1);
      const auto other = (*compiler)->compile(make_region(again.cpu, rip));
      install(again.cpu.lookup(rip), other->entry);
      best.generate_ns = std::min(best.generate_ns, other->statistics.generate_ns);
      best.lift_ns = std::min(best.lift_ns, other->statistics.lift_ns);
      best.simplify_ns = std::min(best.simplify_ns, other->statistics.simplify_ns);
      time = std::min(time, run_guest(again));
    }
    const RegionStatistics& s = best;
    std::printf("%-10s native %7.2f ms | interpreter %6.2fx | region %5.2fx | %u insns: lift %llu simplify %llu generate %llu us, %zu bytes, %u accesses %u checks %u pages\n",
                program.name, native * 1e3, interpreted / native, time / native, s.instructions, (unsigned long long)s.lift_ns / 1000,
                (unsigned long long)s.simplify_ns / 1000, (unsigned long long)s.generate_ns / 1000, s.code_size, s.accesses, s.checks, s.cached_pages);
    std::fflush(stdout);
  }
}
