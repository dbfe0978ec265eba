// The quick code generator: encodings, held against Capstone, and register allocation.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "cpu/disassembler.h"
#include "jit/optimizer/x86_64/assembler.h"
#include "jit/optimizer/x86_64/machine_code.h"

namespace vellum::x86_64 {

namespace {

std::string name_of(Register reg, unsigned size) {
  static const char* const kLegacy[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
  if (reg >= 8) return fmt::format("r{}{}", unsigned{reg}, size == 8 ? "" : size == 4 ? "d" : size == 2 ? "w" : "b");
  const std::string legacy = kLegacy[reg];
  if (size == 8) return "r" + legacy;
  if (size == 4) return "e" + legacy;
  if (size == 2) return legacy;
  return reg < 4 ? legacy.substr(0, 1) + "l" : legacy + "l";
}

std::string text_of(unsigned size, const Address& address) {
  const char* width = size == 8 ? "qword" : size == 4 ? "dword" : size == 2 ? "word" : "byte";
  std::string text = fmt::format("{} ptr [{}", width, name_of(address.base, 8));
  if (address.index != kNone) {
    text += " + " + name_of(address.index, 8);
    if (address.scale) text += fmt::format("*{}", 1 << address.scale);
  }
  const i64 displacement = address.displacement;
  const i64 magnitude = displacement < 0 ? -displacement : displacement;
  if (displacement) text += fmt::format(" {} {}", displacement < 0 ? '-' : '+', magnitude > 9 ? fmt::format("{:#x}", magnitude) : std::to_string(magnitude));
  return text + "]";
}

std::string text_of(unsigned size, const Place& place) { return place.in_memory ? text_of(size, place.address) : name_of(place.reg, size); }

// What Capstone reads in what `write` writes, which must be one instruction.
template <class Write>
std::string written(Write write) {
  Assembler assembler;
  write(assembler);
  static const Disassembler disassembler = Disassembler::for_host(AssemblySyntax::Intel);
  const DisassembledInsn insn = disassembler.one(assembler.bytes(), 0);
  if (insn.length != assembler.bytes().size()) return "several: " + insn.text;
  return insn.text;
}

const std::vector<Register> kAll = {kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15};

// Registers, and addresses with every base, with and without index, with displacements of no, one and four bytes.
std::vector<Place> places() {
  std::vector<Place> all(kAll.begin(), kAll.end());
  for (const Register base : kAll)
    for (const Register index : {kNone, kRax, kRbp, kR12, kR15})
      for (const i32 displacement : {0, 8, -128, 0x1234, -0x1234})
        all.push_back(Address{base, index, static_cast<u8>(index == kNone ? 0 : base % 4), displacement});
  return all;
}

}  // namespace

TEST_CASE("the quick generator's instructions are those that Capstone reads") {
  for (const Place& place : places()) {
    for (const Register reg : kAll) {
      for (const unsigned size : {1u, 2u, 4u, 8u}) {
        REQUIRE(written([&](Assembler& a) { a.arithmetic(Arithmetic::Subtract, size, reg, place); }) ==
                fmt::format("sub {}, {}", name_of(reg, size), text_of(size, place)));
        if (place.in_memory) {
          REQUIRE(written([&](Assembler& a) { a.store(size, place.address, reg); }) ==
                  fmt::format("mov {}, {}", text_of(size, place), name_of(reg, size)));
          REQUIRE(written([&](Assembler& a) { a.arithmetic(Arithmetic::Compare, size, place.address, reg); }) ==
                  fmt::format("cmp {}, {}", text_of(size, place), name_of(reg, size)));
        }
      }
      REQUIRE(written([&](Assembler& a) { a.load_zero_extended(1, reg, place); }) == fmt::format("movzx {}, {}", name_of(reg, 4), text_of(1, place)));
      REQUIRE(written([&](Assembler& a) { a.load_sign_extended(8, 2, reg, place); }) == fmt::format("movsx {}, {}", name_of(reg, 8), text_of(2, place)));
      REQUIRE(written([&](Assembler& a) { a.load_sign_extended(8, 4, reg, place); }) == fmt::format("movsxd {}, {}", name_of(reg, 8), text_of(4, place)));
      REQUIRE(written([&](Assembler& a) { a.multiply(4, reg, place); }) == fmt::format("imul {}, {}", name_of(reg, 4), text_of(4, place)));
      REQUIRE(written([&](Assembler& a) { a.move_if(kNotBelow, 8, reg, place); }) == fmt::format("cmovae {}, {}", name_of(reg, 8), text_of(8, place)));
      REQUIRE(written([&](Assembler& a) { a.shift_variable(Shift::Arithmetic, 4, reg, place, kR9); }) ==
              fmt::format("sarx {}, {}, r9d", name_of(reg, 4), text_of(4, place)));
      REQUIRE(written([&](Assembler& a) { a.count(0xb8, 8, reg, place); }) == fmt::format("popcnt {}, {}", name_of(reg, 8), text_of(8, place)));
      REQUIRE(written([&](Assembler& a) { a.vex(3, 1, false, 0x58, reg, kR9, place); }) ==
              fmt::format("vaddsd xmm{}, xmm9, {}", unsigned{reg}, place.in_memory ? text_of(8, place) : fmt::format("xmm{}", unsigned{place.reg})));
    }
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      REQUIRE(written([&](Assembler& a) { a.arithmetic(Arithmetic::Add, size, place, 0x12); }) == fmt::format("add {}, 0x12", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.test(size, place, 0x12); }) == fmt::format("test {}, 0x12", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.shift(Shift::RotateLeft, size, place, 3); }) == fmt::format("rol {}, 3", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.unary(Unary::Negate, size, place); }) == fmt::format("neg {}", text_of(size, place)));
    }
  }
  for (const Register reg : kAll) {
    REQUIRE(written([&](Assembler& a) { a.move(reg, u64{0x123456789a}); }) == fmt::format("movabs {}, 0x123456789a", name_of(reg, 8)));
    REQUIRE(written([&](Assembler& a) { a.move(reg, u64{0x12345678}); }) == fmt::format("mov {}, 0x12345678", name_of(reg, 4)));
    REQUIRE(written([&](Assembler& a) { a.set(kLess, reg); }) == fmt::format("setl {}", name_of(reg, 1)));
    REQUIRE(written([&](Assembler& a) { a.swap_bytes(8, reg); }) == fmt::format("bswap {}", name_of(reg, 8)));
    REQUIRE(written([&](Assembler& a) { a.double_shift_left(8, reg, kR9, 5); }) == fmt::format("shld {}, r9, 5", name_of(reg, 8)));
    REQUIRE(written([&](Assembler& a) { a.locked(4, 0x1b1, reg, {kRbx, kNone, 0, 0}); }) == fmt::format("lock cmpxchg dword ptr [rbx], {}", name_of(reg, 4)));
  }
}

TEST_CASE("allocated code computes what it computed on values") {
  std::mt19937_64 random(1);
  const auto below = [&](u64 limit) { return random() % limit; };
  for (unsigned round = 0; round < 300; ++round) {
    // Values that live for long or short, read again and again, far more of them than there are registers.
    MachineCode code;
    const unsigned count = 20 + static_cast<unsigned>(below(300)), kept = 2 + static_cast<unsigned>(below(40));
    std::vector<ValueId> known;
    const auto any = [&] { return Operand::value(known[known.size() - 1 - below(std::min<u64>(known.size(), below(2) ? 4 : kept))]); };
    for (unsigned i = 0; i < count; ++i) {
      Insn& insn = code.insns.emplace_back();
      if (known.size() > 2 && below(4) == 0) {
        insn.op = Op::Store;
        code.addresses.push_back({kState, kNoValue, 0, static_cast<i32>(8 * i)});
        insn.a = Operand::memory(static_cast<i32>(code.addresses.size() - 1));
        insn.b = any();
        continue;
      }
      insn.op = known.size() < 2 ? Op::Move : Op::Arithmetic;
      insn.a = known.size() < 2 ? Operand::constant(i) : any();
      if (known.size() >= 2) insn.b = any();
      code.is_vector.push_back(false);
      insn.result = code.values() - 1;
      known.push_back(insn.result);
    }
    code.insns.emplace_back().op = Op::Return;
    MachineBlock block;
    block.last = static_cast<u32>(code.insns.size());
    block.frequency = 1;
    code.blocks.push_back(block);

    // What each store stores, as a number that stands for how it was computed; `where` tells places apart.
    const auto stores = [&](auto where) {
      std::map<i64, u64> held;
      std::vector<u64> stored;
      const auto read = [&](const Operand& operand) { return operand.is_number() ? static_cast<u64>(operand.number) : held[where(operand.index)]; };
      for (const Insn& insn : code.insns) {
        if (insn.op == Op::Store) stored.push_back(read(insn.b));
        else if (insn.op == Op::Move) held[where(insn.result)] = read(insn.a);
        else if (insn.op == Op::Arithmetic) held[where(insn.result)] = (read(insn.a) * 0x9e3779b97f4a7c15 ^ read(insn.b)) * 0xd6e8feb86659fd93 + 1;
      }
      return stored;
    };
    const std::vector<u64> expected = stores([](ValueId id) { return i64{id}; });
    const Allocation allocation = allocate(code);
    const std::vector<u64> actual = stores([&](ValueId id) {
      const usize v = static_cast<usize>(id);
      return allocation.reg[v] >= 0 ? i64{allocation.reg[v]} : 100 + i64{allocation.slot[v]};
    });
    REQUIRE(actual == expected);
  }
}

}  // namespace vellum::x86_64
