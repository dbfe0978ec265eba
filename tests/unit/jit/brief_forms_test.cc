// Instructions whose stencils have briefer forms: at the edges of what these take, and those that must not have them.
#include <catch2/catch.hpp>

#include "jit/engine.h"
#include "long_mode_guest.h"

using namespace vellum;

namespace {

// RAX behind the instruction, which finds 0x12345678 there, and at each byte of the data its distance from RDI, from -512 on. Nothing
// where the host has no translator.
std::optional<u64> rax_behind(std::vector<u8> code, u64 rax = 0x12345678) {
  code.push_back(0xf4);
  LongModeGuest guest{code};
  if (!use_engine(guest.cpu, {.engine = Engine::Baseline})) return {};
  for (int i = -512; i < 512; ++i) guest.memory.write_value<u8>(GuestPhysAddr(LongModeGuest::kDataAt + static_cast<u64>(i64{i})), static_cast<u8>(i));
  guest.cpu.s.gpr[kRax] = rax;
  while (!guest.stopped()) guest.cpu.run(100);
  return guest.cpu.s.gpr[kRax];
}

std::vector<u8> with_number(std::vector<u8> code, i32 number) {
  for (unsigned i = 0; i < 4; ++i) code.push_back(static_cast<u8>(static_cast<u32>(number) >> 8 * i));
  return code;
}

}  // namespace

TEST_CASE("operands of every size of displacement are found") {
  const i32 displacement = GENERATE(-256, -129, -128, -1, 0, 1, 127, 128, 255);
  CAPTURE(displacement);
  const u64 expected = static_cast<u8>(displacement);
  const auto load = rax_behind(with_number({0x0f, 0xb6, 0x87}, displacement));           // movzbl displacement(%rdi), %eax
  const auto scaled = rax_behind(with_number({0x0f, 0xb6, 0x84, 0x47}, displacement), 0);  // movzbl displacement(%rdi, %rax, 2), %eax
  const auto address = rax_behind(with_number({0x48, 0x8d, 0x80}, displacement));        // lea displacement(%rax), %rax
  if (!load) {
    WARN("this host has no translator");
    return;
  }
  CHECK(*load == expected);
  CHECK(*scaled == expected);
  CHECK(*address == 0x12345678 + static_cast<u64>(i64{displacement}));
}

TEST_CASE("immediates of every size are taken as they are") {
  const i32 immediate = GENERATE(static_cast<i32>(0x80000000), -129, -128, -1, 0, 1, 127, 128, 0x7fff'ffff);
  CAPTURE(immediate);
  const u64 extended = static_cast<u64>(i64{immediate});
  const auto sum = rax_behind(with_number({0x48, 0x05}, immediate));          // add $immediate, %rax
  const auto moved = rax_behind(with_number({0xb8}, immediate));              // mov $immediate, %eax
  const auto moved_wide = rax_behind(with_number({0x48, 0xc7, 0xc0}, immediate));  // mov $immediate, %rax
  const auto both = rax_behind(with_number({0x25}, immediate));               // and $immediate, %eax
  if (!sum) {
    WARN("this host has no translator");
    return;
  }
  CHECK(*sum == 0x12345678 + extended);
  CHECK(*moved == static_cast<u32>(immediate));
  CHECK(*moved_wide == extended);
  CHECK(*both == (0x12345678u & static_cast<u32>(immediate)));
}

TEST_CASE("a register as both operands") {
  const u64 rax = 0xfedc'ba98'7654'3210;
  const auto result = [&](std::vector<u8> code) { return rax_behind(std::move(code), rax); };
  if (!result({0x90})) {
    WARN("this host has no translator");
    return;
  }
  CHECK(*result({0x31, 0xc0}) == 0);                             // xor %eax, %eax
  CHECK(*result({0x48, 0x31, 0xc0}) == 0);                       // xor %rax, %rax
  CHECK(*result({0x66, 0x31, 0xc0}) == (rax & ~u64{0xffff}));    // xor %ax, %ax
  CHECK(*result({0x30, 0xc0}) == (rax & ~u64{0xff}));            // xor %al, %al
  CHECK(*result({0x30, 0xe0}) == (rax ^ 0x32));                  // xor %ah, %al
  CHECK(*result({0x21, 0xc0}) == static_cast<u32>(rax));         // and %eax, %eax
  CHECK(*result({0x20, 0xc0}) == rax);                           // and %al, %al
  CHECK(*result({0x20, 0xe0}) == ((rax & ~u64{0xff}) | (0x10 & 0x32)));  // and %ah, %al
  // CRC32 of the accumulator's own low byte: what is left of that is 0, so its eight steps only shift (SDM Vol. 2A "CRC32").
  CHECK(*result({0xf2, 0x0f, 0x38, 0xf0, 0xc0}) == 0x765432);    // crc32 %al, %eax
  CHECK(*result({0xf2, 0x48, 0x0f, 0x38, 0xf0, 0xc0}) == 0x765432);  // crc32 %al, %rax
}
