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
      if (place.in_memory) continue;
      REQUIRE(written([&](Assembler& a) { a.vex(1 | Assembler::kVex256, 1, false, 0xfe, reg, kR9, place); }) ==
              fmt::format("vpaddd ymm{}, ymm9, ymm{}", unsigned{reg}, unsigned{place.reg}));
      REQUIRE(written([&](Assembler& a) { a.vex(1 | Assembler::kVex256, 3, true, 0x00, reg, 0, place, 0x4e); }) ==
              fmt::format("vpermq ymm{}, ymm{}, 0x4e", unsigned{reg}, unsigned{place.reg}));
      REQUIRE(written([&](Assembler& a) { a.sha(0xcd, reg, place); }) == fmt::format("sha256msg2 xmm{}, xmm{}", unsigned{reg}, unsigned{place.reg}));
    }
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      REQUIRE(written([&](Assembler& a) { a.arithmetic(Arithmetic::Add, size, place, 0x12); }) == fmt::format("add {}, 0x12", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.test(size, place, 0x12); }) == fmt::format("test {}, 0x12", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.shift(Shift::RotateLeft, size, place, 3); }) == fmt::format("rol {}, 3", text_of(size, place)));
      REQUIRE(written([&](Assembler& a) { a.unary(Unary::Negate, size, place); }) == fmt::format("neg {}", text_of(size, place)));
    }
  }
  REQUIRE(written([](Assembler& a) { a.zero_upper(); }) == "vzeroupper");
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
    // A tree of blocks, and values that live for long or short, read again and again, far more of them than there are registers.
    MachineCode code;
    const unsigned blocks = 1 + 2 * static_cast<unsigned>(below(8)), kept = 2 + static_cast<unsigned>(below(40));
    std::vector<std::vector<ValueId>> known_behind(blocks);
    std::vector<u32> parent(blocks);
    code.blocks.resize(blocks);
    for (u32 b = 0; b < blocks; ++b) {
      MachineBlock& block = code.blocks[b];
      std::vector<ValueId>& known = known_behind[b];
      if (b > 0) known = known_behind[parent[b]];
      block.first = static_cast<u32>(code.insns.size());
      block.frequency = b == 0 ? 1 : code.blocks[parent[b]].frequency / 2;
      const auto any = [&] { return Operand::value(known[known.size() - 1 - below(std::min<u64>(known.size(), below(2) ? 4 : kept))]); };
      const unsigned count = b == 0 ? 20 + static_cast<unsigned>(below(300)) : static_cast<unsigned>(below(20));
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
      // Two ways on by up to four jumps, the first of which may leave in front of what the others read.
      const u32 left = 2 * b + 1, right = 2 * b + 2;
      if (right >= blocks && b > 2 && below(2)) {
        // A loop: its head begins a group of blocks of its own, into which values come from outside.
        u32 head = parent[b];
        while (parent[head] != 0 && below(2)) head = parent[head];
        block.successors = {head};
        Insn& jump = code.insns.emplace_back();
        jump.op = Op::Jump;
        jump.extra = head;
      } else if (right >= blocks) {
        code.insns.emplace_back().op = Op::Return;
      } else {
        parent[left] = parent[right] = b;
        block.successors = {left, right};
        for (u64 branches = 1 + below(3); branches > 0; --branches) {
          Insn& branch = code.insns.emplace_back();
          branch.op = Op::Branch;
          branch.a = any(), branch.b = any();
          branch.extra = below(2) ? left : right;
        }
        Insn& jump = code.insns.emplace_back();
        jump.op = Op::Jump;
        jump.extra = below(2) ? left : right;
      }
      block.last = static_cast<u32>(code.insns.size());
    }

    // What each store on the way stores, as a number that stands for how it was computed; `where` tells places apart, and
    // `turn` ways through the code.
    const auto stores = [&](auto where, u64 turn) {
      std::map<i64, u64> held;
      std::vector<u64> stored;
      const auto read = [&](const Operand& operand) { return operand.is_number() ? static_cast<u64>(operand.number) : held[where(operand.index)]; };
      const auto mixed = [&](const Insn& insn) { return (read(insn.a) * 0x9e3779b97f4a7c15 ^ read(insn.b)) * 0xd6e8feb86659fd93 + 1; };
      unsigned jumps = 0;
      constexpr unsigned kMostJumps = 100;  // many a loop has no end
      for (u32 i = 0; code.insns[i].op != Op::Return && jumps < kMostJumps;) {
        const Insn& insn = code.insns[i++];
        if (insn.op == Op::Store) stored.push_back(read(insn.b));
        else if (insn.op == Op::Move) held[where(insn.result)] = read(insn.a);
        else if (insn.op == Op::Arithmetic) held[where(insn.result)] = mixed(insn);
        else if (insn.op == Op::Jump || ((mixed(insn) >> turn) & 1)) i = code.blocks[insn.extra].first, ++jumps;
      }
      return stored;
    };
    constexpr u64 kTurns = 8;
    std::vector<std::vector<u64>> expected;
    for (u64 turn = 0; turn < kTurns; ++turn) expected.push_back(stores([](ValueId id) { return i64{id}; }, turn));
    const Allocation allocation = allocate(code);
    for (u64 turn = 0; turn < kTurns; ++turn) {
      const std::vector<u64> actual = stores([&](ValueId id) {
        const usize v = static_cast<usize>(id);
        return allocation.reg[v] >= 0 ? i64{allocation.reg[v]} : 100 + i64{allocation.slot[v]};
      }, turn);
      REQUIRE(actual == expected[turn]);
    }
  }
}

}  // namespace vellum::x86_64
