// Self-modifying code, one test for each way in which code can change, on every engine and in code of every size.
#include <catch2/catch.hpp>

#include <functional>

#include "programs/machine.h"

using namespace vellum;
using namespace vellum::programs;
using instructions::kCodeBase;
using instructions::kCodeSize;
using instructions::kDataBase;
using instructions::kFiller;

namespace {

constexpr u32 kRounds = 500;

// Guest code by hand. ECX counts down, EDX gathers what the changed instruction does; EAX and EBX belong to the handlers.
class Code {
 public:
  explicit Code(Environment environment) : m_environment(environment), m_bytes(kCodeSize, kFiller) {}

  bool flat() const { return m_environment == Environment::Long64 || m_environment == Environment::Flat32; }
  bool bits64() const { return m_environment == Environment::Long64; }
  bool bits16() const { return m_environment == Environment::Segmented16; }
  Environment environment() const { return m_environment; }

  unsigned at() const { return m_at; }
  void go_to(unsigned offset) { m_at = offset; }
  unsigned emit(std::initializer_list<u8> bytes) {
    const unsigned start = m_at;
    for (const u8 byte : bytes) m_bytes.at(m_at++) = byte;
    return start;
  }
  void number(u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) m_bytes.at(m_at++) = static_cast<u8>(value >> 8 * i);
  }
  // Sets the whole register.
  void load(u8 index, u32 value) {
    if (bits16()) emit({0x66});
    emit({static_cast<u8>(0xb8 + index)});
    number(value, 4);
  }
  // An instruction with the operand [address of this code offset]: opcode, ModRM.reg.
  void on_code(u8 opcode, u8 reg, u64 offset, bool alias = false) {
    if (!flat()) emit({static_cast<u8>(alias ? 0x65 : 0x64)});
    emit({opcode});
    const u64 address = offset + (flat() ? alias ? kCodeAlias : kCodeBase : 0);
    if (bits16()) emit({static_cast<u8>(reg << 3 | 6)}), number(address, 2);
    else if (bits64()) emit({static_cast<u8>(reg << 3 | 4), 0x25}), number(address, 4);
    else emit({static_cast<u8>(reg << 3 | 5)}), number(address, 4);
  }
  unsigned size_of_on_code() const { return bits64() ? 7 : bits16() ? 5 : 7; }
  void increment_code(u64 offset, bool alias = false) { on_code(0xfe, 0, offset, alias); }
  unsigned increment_size() const { return bits64() ? 7 : bits16() ? 5 : flat() ? 6 : 7; }
  // add edx, imm8; its immediate is two bytes behind.
  unsigned add(u8 value) { return emit({0x83, 0xc2, value}); }
  void loop_to(unsigned target) {
    emit({0xff, 0xc9, 0x0f, 0x85});  // dec ecx; jnz
    const unsigned size = bits16() ? 2 : 4;
    number(target - (m_at + size), size);
  }
  void jump_to(unsigned target) {
    emit({0xe9});
    const unsigned size = bits16() ? 2 : 4;
    number(target - (m_at + size), size);
  }
  void call(unsigned target) {
    emit({0xe8});
    const unsigned size = bits16() ? 2 : 4;
    number(target - (m_at + size), size);
  }
  void end() { emit({kFiller}); }

  Program program() const {
    Program program;
    program.environment = m_environment;
    program.code = m_bytes;
    program.blocks = {0};
    return program;
  }

 private:
  Environment m_environment;
  std::vector<u8> m_bytes;
  unsigned m_at = 0;
};

// What add edx, imm8 leaves after `rounds` when its immediate is incremented before each, from `first`.
u64 sum(const Code& code, u32 rounds, u8 first) {
  u32 total = 0;
  u8 value = first;
  for (u32 i = 0; i < rounds; ++i) total += static_cast<u32>(static_cast<i8>(++value));
  return code.bits16() ? total & 0xffff : total;
}

std::string engine_name(unsigned engine) { return std::string(engine_names()[engine]); }

struct Guest {
  explicit Guest(unsigned engine)
      : machine(engine_name(engine), *parse_cpu_model("max"), {.engine = static_cast<Engine>(engine), .code_cache_size = u64{16} << 20}) {}

  void load(const Code& code) {
    machine.load(code.program(), 1);
    enter(0);
  }
  void enter(unsigned offset) {
    machine.enter({.state_seed = 1, .code_offset = offset, .rflags = 0x202});
    state().gpr[kRdx] = state().gpr[kRcx] = 0;
  }
  CpuState& state() { return machine.core().s; }
  // To the HLT that ends the code, in runs of this many instructions.
  void run(u64 slice) {
    for (u64 left = 400'000; left > 0; left -= std::min(left, slice))
      if (machine.run(slice).exit == Exit::Halted) break;
    REQUIRE(state().halted);
  }
  u64 edx() { return state().gpr[kRdx]; }

  ProgramMachine machine;
};

// Every engine; runs short and long.
struct Setting {
  unsigned engine;
  u64 slice;
};
Setting any_setting() {
  const auto engine = GENERATE(range(0u, static_cast<unsigned>(engine_names().size())));
  const u64 slice = GENERATE(u64{400'000}, u64{7}, u64{1});
  UNSCOPED_INFO(engine_name(engine) << ", runs of " << slice);
  return {engine, slice};
}
Environment any_environment() {
  const auto environment = GENERATE(Environment::Long64, Environment::Flat32, Environment::Segmented32, Environment::Segmented16);
  UNSCOPED_INFO(environment_name(environment));
  return environment;
}
Environment flat_environment() {
  const auto environment = GENERATE(Environment::Long64, Environment::Flat32);
  UNSCOPED_INFO(environment_name(environment));
  return environment;
}

u64 run_code(const Setting& setting, const Code& code) {
  Guest guest(setting.engine);
  guest.load(code);
  guest.run(setting.slice);
  return guest.edx();
}

}  // namespace

TEST_CASE("a store into the next instruction is seen by it") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(loop + code.increment_size() + 2, alias);
  code.add(5);
  code.loop_to(loop);
  code.end();
  CHECK(run_code(setting, code) == sum(code, kRounds, 5));
}

TEST_CASE("a store may make another instruction of the next one") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  const unsigned store = code.size_of_on_code() + 1 - (code.environment() == Environment::Flat32 ? 1 : 0);
  code.on_code(0x80, 6, loop + store + 1), code.number(0xc0 ^ 0xc8, 1);  // xor byte [next + 1], imm8
  CHECK(code.at() == loop + store);
  code.emit({0xff, 0xca});  // dec edx: becomes inc edx first, then dec, and so on
  code.emit({0xff, 0xc2});  // inc edx
  code.loop_to(loop);
  code.end();
  CHECK(run_code(setting, code) == kRounds);
}

TEST_CASE("a store into the running block, behind the next instruction") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(loop + code.increment_size() + 6 + 2, alias);
  code.emit({0x89, 0xd6, 0x89, 0xf7, 0xf8, 0xf9});  // mov esi, edx; mov edi, esi; clc; stc
  code.add(0);
  code.loop_to(loop);
  code.end();
  CHECK(run_code(setting, code) == sum(code, kRounds, 0));
}

TEST_CASE("a store into an earlier instruction of the running block") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.add(1);
  code.increment_code(loop + 2, alias);
  code.loop_to(loop);
  code.end();
  CHECK(run_code(setting, code) == sum(code, kRounds, 0));
}

TEST_CASE("an instruction that overwrites itself runs as it was fetched") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRcx, 5), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.on_code(0x80, 0, 0);  // measured
  const unsigned immediate = code.at();
  code.go_to(loop);
  code.on_code(0x80, 0, immediate), code.number(1, 1);  // add byte [own immediate], immediate: doubles
  code.loop_to(loop);
  code.on_code(0x8a, kRdx, immediate);  // mov dl, [immediate]
  code.end();
  CHECK(run_code(setting, code) == 32);
}

TEST_CASE("flags that only the overwritten instruction would have replaced are those of the store") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRdx, 0), code.load(kRsi, 3);
  const unsigned store = code.at();
  code.on_code(0x80, 0, 0);  // measured
  const unsigned next = code.at() + 1;
  code.go_to(store);
  code.on_code(0x80, 0, next + 1), code.number(0x1d2 - 0xfe, 1);  // add byte [ModRM of the next], with a carry
  code.emit({0x83, 0xfe, 0x00});                                  // cmp esi, 0: becomes adc edx, 0
  code.end();
  CHECK(run_code(setting, code) == 1);
}

TEST_CASE("an instruction across a page boundary changes in either page") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  const unsigned in_first = GENERATE(1u, 2u);  // bytes of it on the first page
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned crossing = 0x1000 - in_first;
  const unsigned loop = code.at();
  code.increment_code(crossing + 2, alias);  // on the second page
  code.on_code(0x80, 6, crossing + 1, alias), code.number(0xc2 ^ 0xc6, 1);  // add edx or add esi, by turns; on either page
  code.jump_to(crossing);
  code.go_to(crossing);
  code.add(0);
  code.loop_to(loop);
  code.end();
  u32 expected = 0;
  u8 value = 0;
  for (u32 i = 0; i < kRounds; ++i) {
    ++value;
    if (i % 2) expected += static_cast<u32>(static_cast<i8>(value));
  }
  CHECK(run_code(setting, code) == (code.bits16() ? expected & 0xffff : expected));
}

TEST_CASE("a store across the page boundary changes the code on both pages") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  const unsigned size = code.bits16() ? 2 : 4, immediate = 0x1000 - size / 2;
  code.load(kRcx, kRounds), code.load(kRdx, 0), code.load(kRsi, 0x12345678);
  const unsigned loop = code.at();
  code.on_code(0x89, kRsi, immediate, alias);             // mov [immediate], esi
  code.emit({0x81, 0xc6}), code.number(0x01fe01ff, size);  // add esi, 01fe01ff
  code.jump_to(immediate - 2);
  code.go_to(immediate - 2);
  code.emit({0x81, 0xc2}), code.number(0, size);  // add edx, immediate
  code.loop_to(loop);
  code.end();
  u32 expected = 0;
  for (u32 i = 0; i < kRounds; ++i) expected += 0x12345678 + i * 0x01fe01ffu;
  CHECK(run_code(setting, code) == (code.bits16() ? expected & 0xffff : expected));
}

TEST_CASE("an instruction whose two pages are one page of memory changes in either part") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  // The second page of the code is the first again: what stands at 0 also stands at 1000.
  code.emit({0x00});  // the immediate of add edx, imm8 at ffe
  code.go_to(0x10);
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(0, alias);
  code.on_code(0x80, 6, 0xfff, alias), code.number(0xc2 ^ 0xc6, 1);  // add edx or add esi, by turns
  code.jump_to(0xffe);
  code.go_to(0xffe);
  code.emit({0x83, 0xc2});
  code.go_to(1);  // behind the immediate, at 1001
  code.jump_to(0x800u - 0x1000u);
  code.go_to(0x800);
  code.loop_to(loop);
  code.end();
  Guest guest(setting.engine);
  guest.load(code);
  guest.machine.map_code_page(kCodeBase + 0x1000, 0, true);
  guest.machine.map_code_page(kCodeAlias + 0x1000, 0, true);
  guest.enter(0x10);
  guest.run(setting.slice);
  u32 expected = 0;
  for (u32 i = 0; i < kRounds; ++i)
    if (i % 2) expected += static_cast<u32>(static_cast<i8>(static_cast<u8>(i + 1)));
  CHECK(guest.edx() == (code.bits16() ? expected & 0xffff : expected));
}

TEST_CASE("code runs at one virtual address and changes through another, and the other way round") {
  const Setting setting = any_setting();
  Code code(flat_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(loop + 2 * code.increment_size() + 2, false);
  code.increment_code(loop + 2 * code.increment_size() + 2, true);
  code.add(0);
  code.loop_to(loop);
  code.end();
  u32 expected = 0;
  for (u32 i = 1; i <= kRounds; ++i) expected += static_cast<u32>(static_cast<i8>(static_cast<u8>(2 * i)));
  Guest guest(setting.engine);
  guest.load(code);
  guest.run(setting.slice);
  CHECK(guest.edx() == expected);
  guest.load(code);
  guest.state().rip += kCodeAlias - kCodeBase;
  guest.run(setting.slice);
  CHECK(guest.edx() == expected);
}

TEST_CASE("code changes by DMA between two runs") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.add(1);
  code.loop_to(loop);
  code.end();
  Guest guest(setting.engine);
  guest.load(code);
  u32 expected = 0;
  for (u8 value = 1; value < 100; ++value) {
    const u8 bytes[] = {value};
    guest.machine.write_memory(ProgramMachine::kCodePages + loop + 2, bytes);
    guest.enter(loop);
    guest.state().gpr[kRcx] = 20;
    guest.state().gpr[kRdx] = expected;
    guest.run(setting.slice);
    expected = (expected + 20u * value) & (code.bits16() ? 0xffff : ~u32{0});
    REQUIRE(guest.edx() == expected);
  }
}

TEST_CASE("DMA in the middle of a loop is seen by its next round") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.add(1);
  code.emit({0x89, 0xd6});  // mov esi, edx
  code.loop_to(loop);       // four instructions a round
  code.end();
  Guest guest(setting.engine);
  guest.load(code);
  guest.machine.run(2 + 4 * 100 + 1);  // the add of round 101 is done
  const u8 bytes[] = {3};
  guest.machine.write_memory(ProgramMachine::kCodePages + loop + 2, bytes);
  guest.run(setting.slice);
  CHECK(guest.edx() == 101 + 3 * (kRounds - 101));
}

TEST_CASE("stores into data on a page of code leave the code alone, near to it and far from it") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at(), far = 0xe00;
  code.on_code(0xff, 0, far, alias);     // inc dword [far]
  code.on_code(0xff, 0, loop + 60, alias);  // and in the code's own 64 bytes or the next
  code.add(1);
  code.loop_to(loop);
  code.end();
  REQUIRE(code.at() <= loop + 60);
  code.go_to(far), code.number(0, 4);
  code.go_to(loop + 60), code.number(0, 4);
  Guest guest(setting.engine);
  guest.load(code);
  guest.run(setting.slice);
  CHECK(guest.edx() == kRounds);
  for (const unsigned place : {far, loop + 60}) {
    u16 count = 0;
    std::memcpy(&count, guest.machine.core().memory.ram().host(ProgramMachine::kCodePages + place), 2);
    CHECK(count == kRounds);
  }
}

TEST_CASE("a function that its caller rewrites before each call") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true), indirect = GENERATE(false, true);
  Code code(any_environment());
  const unsigned function = GENERATE(0x400u, 0x1400u);
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(function + 2, alias);
  if (indirect) {
    code.load(kRsi, static_cast<u32>(function + (code.flat() ? kCodeBase : 0)));
    code.emit({0xff, 0xd6});  // call esi
  } else {
    code.call(function);
  }
  code.loop_to(loop);
  code.end();
  code.go_to(function);
  code.add(7);
  code.emit({0xc3});
  CHECK(run_code(setting, code) == sum(code, kRounds, 7));
}

TEST_CASE("the displacement of a jump that was linked changes") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  const unsigned store = code.at();
  code.on_code(0x80, 6, 0);  // measured
  const unsigned jump = code.at() + 1;
  code.go_to(store);
  code.on_code(0x80, 6, jump + 1, alias), code.number(0x20, 1);  // xor byte [displacement], 20h
  code.emit({0xeb, 0x00});                                       // to the next instruction, or to the one behind 20h bytes
  const unsigned here = code.at();
  code.add(1);
  code.jump_to(0x200);
  code.go_to(here + 0x20);
  code.add(3);
  code.jump_to(0x200);
  code.go_to(0x200);
  code.loop_to(loop);
  code.end();
  CHECK(run_code(setting, code) == kRounds / 2 * 4);
}

TEST_CASE("code behind the loop that is running changes and is then reached") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  code.jump_to(0x300);  // once, so that it is known
  const unsigned loop = code.at();
  code.increment_code(0x302, alias);
  code.loop_to(loop);
  code.jump_to(0x300);
  code.go_to(0x300);
  code.add(0);
  code.emit({0x85, 0xc9, 0x0f, 0x85});  // test ecx, ecx; jnz loop
  const unsigned size = code.bits16() ? 2 : 4;
  code.number(loop - (code.at() + size), size);
  code.end();
  CHECK(run_code(setting, code) == (code.bits16() ? 0xffff & static_cast<u32>(static_cast<i8>(kRounds & 0xff)) : static_cast<u32>(static_cast<i8>(kRounds & 0xff))));
}

TEST_CASE("a repeated string store overwrites the code behind it") {
  const Setting setting = any_setting();
  Code code(flat_environment());
  code.load(kRcx, 1), code.load(kRdx, 0), code.load(kRsi, kRounds), code.load(kRax, 0);
  const unsigned loop = code.at();
  code.emit({0xfe, 0xc0});  // inc al
  const unsigned place = code.at() + 5 + 5 + 2 + 2;  // the immediate of the add
  code.load(kRdi, static_cast<u32>(kCodeBase + place));
  code.load(kRcx, 1);
  code.emit({0xf3, 0xaa});  // rep stosb
  code.add(0);
  code.emit({0xff, 0xce, 0x0f, 0x85});  // dec esi; jnz
  code.number(loop - (code.at() + 4), 4);
  code.end();
  CHECK(run_code(setting, code) == sum(code, kRounds, 0));
}

TEST_CASE("a vector store overwrites several instructions behind it") {
  const Setting setting = any_setting();
  const bool alias = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRdx, 0);
  if (!code.flat()) code.emit({0x64});
  const auto operand = [&](u8 reg, unsigned offset, bool other) {
    const u64 address = offset + (code.flat() ? other ? kCodeAlias : kCodeBase : 0);
    if (code.bits16()) code.emit({static_cast<u8>(reg << 3 | 6)}), code.number(address, 2);
    else if (code.bits64()) code.emit({static_cast<u8>(reg << 3 | 4), 0x25}), code.number(address, 4);
    else code.emit({static_cast<u8>(reg << 3 | 5)}), code.number(address, 4);
  };
  code.emit({0x0f, 0x10}), operand(3, 0x600, false);  // movups xmm3, [600]
  const unsigned place = code.at();
  if (!code.flat()) code.emit({static_cast<u8>(alias ? 0x65 : 0x64)});
  code.emit({0x0f, 0x11}), operand(3, 0, alias);
  const unsigned next = code.at();
  code.go_to(place);
  if (!code.flat()) code.emit({static_cast<u8>(alias ? 0x65 : 0x64)});
  code.emit({0x0f, 0x11}), operand(3, next, alias);  // movups [next], xmm3
  for (unsigned i = 0; i < 5; ++i) code.add(1);
  code.emit({0x90});
  code.end();
  code.go_to(0x600);
  for (unsigned i = 0; i < 5; ++i) code.add(static_cast<u8>(10 + i));
  code.emit({0x90});
  CHECK(run_code(setting, code) == 60);
}

TEST_CASE("a push and a call may overwrite code") {
  const Setting setting = any_setting();
  Code code(flat_environment());
  const unsigned width = code.bits64() ? 8 : 4;
  code.load(kRdx, 0), code.load(kRcx, kRounds);
  const unsigned loop = code.at();
  const unsigned next = loop + 5 + 5;
  code.load(kRsp, static_cast<u32>(kCodeBase + next + width));
  code.emit({0x68}), code.number(0x9005c283, 4);  // push imm32: add edx, 5; nop, and in 64-bit code its sign: ff ff ff ff
  code.add(1);
  code.emit({0x90});
  if (code.bits64()) code.jump_to(loop + 0x40);  // overwritten, too
  code.go_to(next + 4);
  code.jump_to(loop + 0x40);
  code.go_to(loop + 0x40);
  code.end();
  Guest guest(setting.engine), reference(0);
  guest.load(code), reference.load(code);
  for (unsigned i = 0; i < 30; ++i) {
    guest.machine.run(1), reference.machine.run(1);
    REQUIRE(guest.machine.difference(reference.machine).empty());
  }
  guest.load(code), reference.load(code);
  guest.machine.run(setting.slice * 30), reference.machine.run(setting.slice * 30);
  CHECK(guest.machine.difference(reference.machine).empty());
}

TEST_CASE("a store that faults on its second page changes no code on the first") {
  const Setting setting = any_setting();
  Code code(flat_environment());
  code.load(kRdx, 0), code.load(kRsi, 0x01010101);
  code.jump_to(0x1ff0);
  const unsigned store = code.at();
  code.on_code(0x89, kRsi, 0x1ffe);  // mov [1ffe], esi: behind 2000 there is nothing
  code.go_to(0x1ff0);
  code.emit({0x83, 0xfa, 0x00, 0x75, 0x07});  // cmp edx, 0; jne to the end
  code.emit({0xff, 0xc2});  // inc edx
  code.jump_to(store);
  code.go_to(0x1ffc);
  code.end();
  Guest guest(setting.engine);
  guest.load(code);
  guest.run(setting.slice);
  CHECK(guest.edx() == 1);
  CHECK(guest.state().cr2 == kCodeBase + 0x2000);
  CHECK(*guest.machine.core().memory.ram().host(ProgramMachine::kCodePages + 0x1fff) == kFiller);
}

TEST_CASE("another page behind the same virtual address is other code") {
  const Setting setting = any_setting();
  const bool flush_all = GENERATE(false, true);
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned call = code.at();
  code.call(0x1000);
  code.loop_to(call);
  code.end();
  code.go_to(0x1000);
  code.add(1);
  code.emit({0xc3});
  Guest guest(setting.engine);
  guest.load(code);
  const u8 other[] = {0x83, 0xc2, 0x02};
  guest.machine.write_memory(ProgramMachine::kCodePages + 0x3000, other);  // instead of page 0's first instruction
  const u8 ret[] = {0xc3};
  guest.machine.write_memory(ProgramMachine::kCodePages + 0x3003, ret);
  u32 expected = 0;
  for (unsigned i = 0; i < 40; ++i) {
    guest.machine.map_code_page(kCodeBase + 0x1000, i % 2 ? 3 : 1, flush_all);
    guest.enter(call);
    guest.state().gpr[kRcx] = 5;
    guest.state().gpr[kRdx] = expected;
    guest.run(setting.slice);
    expected += i % 2 ? 10 : 5;
    REQUIRE(guest.edx() == expected);
  }
}

TEST_CASE("a function returns behind its call or elsewhere, as its return address says") {
  const Setting setting = any_setting();
  Code code(flat_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned call = code.at();
  code.call(0x1000);
  code.add(1);
  code.add(2);
  code.loop_to(call);
  code.end();
  code.go_to(0x1000);
  code.emit({0xf6, 0xc1, 0x01, 0x74, 0x04});  // test cl, 1; jz to the RET
  code.emit({0x83, 0x04, 0x24, 0x03});        // add dword [rsp], 3: not to the first ADD
  code.emit({0xc3});
  CHECK(run_code(setting, code) == kRounds * 2 + kRounds / 2);
}

TEST_CASE("writes from outside and from inside to the same instruction take turns") {
  const Setting setting = any_setting();
  Code code(any_environment());
  code.load(kRcx, kRounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.increment_code(loop + code.increment_size() + 2);
  code.add(0);
  code.loop_to(loop);
  code.end();
  Guest guest(setting.engine);
  guest.load(code);
  const unsigned immediate = loop + code.increment_size() + 2;
  u32 expected = 0;
  for (unsigned i = 0; i < 50; ++i) {
    const u8 bytes[] = {static_cast<u8>(2 * i)};
    guest.machine.write_memory(ProgramMachine::kCodePages + immediate, bytes);
    guest.enter(loop);
    guest.state().gpr[kRcx] = 3;
    guest.state().gpr[kRdx] = expected;
    guest.run(setting.slice);
    for (u8 round = 1; round <= 3; ++round) expected += static_cast<u32>(static_cast<i8>(static_cast<u8>(2 * i + round)));
    REQUIRE(guest.edx() == (code.bits16() ? expected & 0xffff : expected));
    if (code.bits16()) expected &= 0xffff;
  }
}

namespace {

// add edx, imm8 at `function`, called in a loop that first adds `step` to its immediate.
Code rewriting_loop(u8 step, u32 rounds) {
  Code code(Environment::Long64);
  const unsigned function = 0x1400;
  code.load(kRcx, rounds), code.load(kRdx, 0);
  const unsigned loop = code.at();
  code.on_code(0x80, step ? 0 : 1, function + 2), code.emit({step});  // add or or [immediate], step
  code.call(function);
  code.loop_to(loop);
  code.end();
  code.go_to(function);
  code.add(7);
  code.emit({0xc3});
  return code;
}
u64 blocks_translated(Guest& guest) { return engine_statistics(guest.machine.core())->blocks; }

}  // namespace

TEST_CASE("code that is overwritten with what it was is neither decoded nor translated again") {
  const auto engine = GENERATE(range(0u, static_cast<unsigned>(engine_names().size())));
  Guest guest(engine);
  guest.load(rewriting_loop(0, 20'000));
  guest.run(400'000);
  CHECK((guest.edx() & 0xffffffff) == 7 * 20'000);
  CHECK(guest.machine.core().blocks.revived() >= 19'000);
  CHECK(guest.machine.core().counters.blocks_decoded < 50);
}

TEST_CASE("code that is different each time is left to the interpreter") {
  const auto engine = GENERATE(range(1u, static_cast<unsigned>(engine_names().size())));
  Guest guest(engine);
  guest.load(rewriting_loop(1, 20'000));
  guest.run(400'000);
  CHECK(guest.machine.core().blocks.invalidated() >= 19'000);
  CHECK(blocks_translated(guest) < 50);
}

TEST_CASE("code that was rewritten often is translated when it runs for long as it is") {
  const auto engine = GENERATE(range(1u, static_cast<unsigned>(engine_names().size())));
  Guest guest(engine);
  const Code code = rewriting_loop(1, 1000);
  guest.load(code);
  guest.run(400'000);
  const u64 before = blocks_translated(guest);
  const u64 interpreted = engine_statistics(guest.machine.core())->unproven_blocks;
  // The same function, called without being changed.
  for (u32 i = 0; i < 100; ++i) {
    guest.enter(0x1400);
    guest.machine.run(2);
  }
  CHECK(blocks_translated(guest) == before + 1);
  CHECK(engine_statistics(guest.machine.core())->unproven_blocks == interpreted);
}

TEST_CASE("a loop that was compiled as a region is compiled again when another part of it has changed") {
  if (default_engine() != Engine::Tiered) return;  // nothing compiles regions here
  Guest guest(static_cast<unsigned>(Engine::Llvm));
  Code code(Environment::Long64);
  code.load(kRcx, 50'000), code.load(kRdx, 0);
  code.jump_to(0x40);
  code.go_to(0x40);
  code.add(1);
  code.jump_to(0x80);
  code.go_to(0x80);
  const unsigned changed = code.add(2);
  code.loop_to(0x40);
  code.end();
  guest.load(code);
  guest.run(400'000);
  const u64 regions = engine_statistics(guest.machine.core())->regions;
  CHECK(regions >= 1);
  const u8 bytes[] = {3};
  guest.machine.write_memory(ProgramMachine::kCodePages + changed + 2, bytes);
  guest.enter(0);
  guest.run(400'000);
  CHECK(guest.edx() == 4 * 50'000);
  CHECK(engine_statistics(guest.machine.core())->regions > regions);
}
