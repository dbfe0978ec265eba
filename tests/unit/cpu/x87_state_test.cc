// x87 exceptions, images in memory, FXSAVE and XSAVE, against SDM Vol. 1 chapters 8, 10 and 13.
#include <catch2/catch.hpp>

#include "cpu/x87_fixture.h"

using namespace vellum;

namespace {

constexpr int kMf = 16, kNm = 7, kGp = 13, kUd = 6;
constexpr u32 kArea = 0x3000;  // [ecx]

const std::vector<u8> kFld1{0xd9, 0xe8}, kFldz{0xd9, 0xee}, kFdivp{0xde, 0xf9}, kFnop{0xd9, 0xd0}, kFwait{0x9b},
    kFnstenv{0xd9, 0x31}, kFldenv{0xd9, 0x21}, kFnsave{0xdd, 0x31}, kFrstor{0xdd, 0x21}, kFnclex{0xdb, 0xe2},
    kFninit{0xdb, 0xe3}, kFxsave{0x0f, 0xae, 0x01}, kFxrstor{0x0f, 0xae, 0x09}, kXsave{0x0f, 0xae, 0x21},
    kXrstor{0x0f, 0xae, 0x29}, kXsavec{0x0f, 0xc7, 0x21}, kXsetbv{0x0f, 0x01, 0xd1}, kXgetbv{0x0f, 0x01, 0xd0};

struct Fpu : Guest {
  CpuState& s = cpu.s;
  Fpu() {
    install_handlers();
    s.gpr[kRcx] = kArea;
    run(kFninit);
  }
  // 1 / 0 with an unmasked #Z.
  void leave_pending_exception() {
    run(kFld1);
    run(kFldz);
    s.x87.control = 0x037b;
    run(kFdivp);
  }
  void enable_xsave(u64 components) {
    s.cr4 |= kCr4Osfxsr | kCr4Osxsave;
    s.xcr0 = components;
    cpu.update_mode();
    s.gpr[kRax] = 0xffffffff;
    s.gpr[kRdx] = 0xffffffff;
  }
};

}  // namespace

TEST_CASE("8.7.1: with CR0.NE an unmasked exception waits for the next waiting instruction") {
  Fpu fpu;
  fpu.leave_pending_exception();
  CHECK(fpu.taken() == -1);
  CHECK((fpu.s.x87.status & 0x80ff) == 0x8084);  // B, ES, ZE
  const std::vector<u8> next = GENERATE(values<std::vector<u8>>({kFnop, kFwait, kFld1, {0xd9, 0x29}}));  // the last: FLDCW
  fpu.run(next);
  CHECK(fpu.taken() == kMf);
  CHECK(fpu.dword(static_cast<u32>(fpu.s.gpr[kRsp])) == kCode);  // a fault
  CHECK_FALSE(fpu.board.ferr);
}

TEST_CASE("8.3.11: the no-wait forms do not report a pending exception") {
  Fpu fpu;
  fpu.leave_pending_exception();
  const auto next = GENERATE(values<std::vector<u8>>({kFnclex, kFninit, kFnstenv, kFnsave, {0xdf, 0xe0}, {0xd9, 0x39}}));
  fpu.run(next);
  CHECK(fpu.taken() == -1);
}

TEST_CASE("8.7.2: without CR0.NE the exception goes out on FERR#") {
  Fpu fpu;
  fpu.s.cr0 &= ~kCr0Ne;
  fpu.cpu.update_mode();
  fpu.leave_pending_exception();
  CHECK(fpu.board.ferr);
  fpu.run(kFnclex);
  CHECK_FALSE(fpu.board.ferr);
}

TEST_CASE("an unmasked exception found before computing leaves the operands; FOP, FIP name the instruction") {
  Fpu fpu;
  fpu.leave_pending_exception();
  CHECK(fpu.s.x87.valid == 0xc0);  // nothing was popped
  CHECK(fpu.s.x87.last_opcode == 0x6f9);
  CHECK(fpu.s.x87.last_instruction == kCode);
  CHECK(fpu.s.x87.last_code_selector == 8);
}

TEST_CASE("FDP is the operand's offset") {
  Fpu fpu;
  fpu.run({0xd9, 0x41, 0x10});  // fld dword [ecx+16]
  CHECK(fpu.s.x87.last_data == kArea + 16);
  CHECK(fpu.s.x87.last_data_selector == 16);
}

TEST_CASE("tables 2-2 of Vol. 3A: CR0.EM and TS make x87 instructions #NM, MP and TS make WAIT one") {
  Fpu fpu;
  const u64 bit = GENERATE(u64{4}, u64{8});
  fpu.s.cr0 |= bit;
  fpu.cpu.update_mode();
  fpu.run(kFwait);
  CHECK(fpu.taken() == -1);
  fpu.run(kFld1);
  CHECK(fpu.taken() == kNm);
  fpu.s.cr0 |= kCr0Mp | kCr0Ts;
  fpu.cpu.update_mode();
  fpu.run(kFwait);
  CHECK(fpu.taken() == kNm);
}

TEST_CASE("figure 8-9: the 32-bit protected-mode environment") {
  Fpu fpu;
  fpu.run(kFldz);
  fpu.run({0xd9, 0x41, 0x10});
  fpu.s.x87.last_opcode = 0x123;
  fpu.s.x87.control = 0x0340;
  fpu.run(kFnstenv);
  CHECK(fpu.dword(kArea) == 0xffff0340);
  CHECK(fpu.dword(kArea + 4) == 0xffff3000);
  CHECK(fpu.dword(kArea + 8) == 0xffff5fff);  // register 7 and 6: zero
  CHECK(fpu.dword(kArea + 12) == kCode);
  CHECK(fpu.dword(kArea + 16) == (8 | 0x123 << 16));
  CHECK(fpu.dword(kArea + 20) == kArea + 16);
  CHECK((fpu.dword(kArea + 24) & 0xffff) == 16);
  CHECK(fpu.s.x87.control == 0x037f);  // FNSTENV masks all
}

TEST_CASE("figure 8-12: the 16-bit real-mode environment") {
  Fpu fpu;
  fpu.s.x87.last_opcode = 0x7ab;
  fpu.s.x87.last_code_selector = 0x1000;
  fpu.s.x87.last_instruction = 0x2345;
  fpu.s.x87.last_data_selector = 0xf000;
  fpu.s.x87.last_data = 0x0abc;
  fpu.s.rflags |= kVm | 3u << 12;
  u8 image[28];
  x87::write_environment(fpu.s, x87::image_format(fpu.s, 2), image);
  const auto word = [&](unsigned i) { return static_cast<u16>(image[2 * i] | image[2 * i + 1] << 8); };
  CHECK(word(3) == 0x2345);
  CHECK(word(4) == 0x17ab);
  CHECK(word(5) == 0x0abc);
  CHECK(word(6) == 0xf000);
}

TEST_CASE("FNSAVE stores all and initializes; FRSTOR brings it back, pending exception included") {
  Fpu fpu;
  fpu.leave_pending_exception();
  const X87State before = fpu.s.x87;
  fpu.run(kFnsave);
  CHECK(fpu.s.x87.control == 0x037f);
  CHECK(fpu.s.x87.status == 0);
  CHECK(fpu.s.x87.valid == 0);
  CHECK(fpu.qword(kArea + 28 + 10) == 0x8000'0000'0000'0000);  // ST(1) is 1.0
  CHECK(fpu.word(kArea + 28 + 18) == 0x3fff);
  fpu.run(kFrstor);
  CHECK(fpu.s.x87.control == before.control);
  CHECK(fpu.s.x87.status == before.status);
  CHECK(fpu.s.x87.valid == before.valid);
  CHECK(fpu.s.x87.last_opcode == before.last_opcode);
  CHECK(fpu.s.x87.registers[7].sign_exponent == 0x3fff);
  fpu.run(kFnop);
  CHECK(fpu.taken() == kMf);
}

TEST_CASE("FLDENV takes ES from flags and masks, whatever the image says") {
  Fpu fpu;
  fpu.run(kFnstenv);
  fpu.memory.write_value<u16>(GuestPhysAddr(kArea), 0xffff);
  fpu.memory.write_value<u16>(GuestPhysAddr(kArea + 4), 0xffff);
  fpu.run(kFldenv);
  CHECK(fpu.s.x87.control == 0x1f7f);
  CHECK(fpu.s.x87.status == 0x7f7f);
}

TEST_CASE("table 10-2: the FXSAVE image") {
  Fpu fpu;
  fpu.run(kFld1);
  fpu.s.vector[7].qword[1] = 0x1122334455667788;
  fpu.memory.write_value<u8>(GuestPhysAddr(kArea + 288), 0xee);
  fpu.run(kFxsave);
  CHECK(fpu.word(kArea) == 0x037f);
  CHECK(fpu.word(kArea + 2) == 0x3800);
  CHECK(fpu.byte(kArea + 4) == 0x80);
  CHECK(fpu.dword(kArea + 24) == 0x1f80);
  CHECK(fpu.dword(kArea + 28) == 0xffff);
  CHECK(fpu.qword(kArea + 32) == 0x8000'0000'0000'0000);  // ST(0)
  CHECK(fpu.qword(kArea + 32 + 8) == 0x3fff);
  CHECK(fpu.qword(kArea + 160 + 7 * 16 + 8) == 0x1122334455667788);
  CHECK(fpu.byte(kArea + 288) == 0xee);  // XMM8 and up: 64-bit mode only
}

TEST_CASE("FXRSTOR restores what FXSAVE saved, and refuses reserved bits of MXCSR and unaligned images") {
  Fpu fpu;
  fpu.run(kFld1);
  fpu.s.vector[3].qword[0] = 42;
  fpu.run(kFxsave);
  fpu.run(kFninit);
  fpu.s.vector[3].qword[0] = 0;
  fpu.run(kFxrstor);
  CHECK(fpu.s.x87.valid == 0x80);
  CHECK(fpu.s.vector[3].qword[0] == 42);
  CHECK(fpu.taken() == -1);
  SECTION("reserved") {
    fpu.memory.write_value<u32>(GuestPhysAddr(kArea + 24), 0x11f80);
    fpu.run(kFxrstor);
    CHECK(fpu.taken() == kGp);
  }
  SECTION("alignment") {
    fpu.s.gpr[kRcx] = kArea + 8;
    const auto next = GENERATE(values<std::vector<u8>>({kFxsave, kFxrstor}));
    fpu.run(next);
    CHECK(fpu.taken() == kGp);
  }
}

TEST_CASE("13.3: XSETBV demands bit 0, SSE with AVX state, and refuses what the CPU does not have") {
  Fpu fpu;
  fpu.run(kXgetbv);
  CHECK(fpu.taken() == kUd);  // CR4.OSXSAVE
  fpu.enable_xsave(1);
  fpu.s.gpr[kRcx] = fpu.s.gpr[kRdx] = 0;
  fpu.s.gpr[kRax] = 3;
  fpu.run(kXsetbv);
  CHECK(fpu.taken() == -1);
  CHECK(fpu.s.xcr0 == 3);
  const u64 bad = GENERATE(u64{2}, u64{0}, u64{5}, u64{15});
  fpu.s.gpr[kRax] = bad;
  fpu.run(kXsetbv);
  CHECK(fpu.taken() == kGp);
  CHECK(fpu.s.xcr0 == 3);
}

TEST_CASE("13.7, 13.8: XSAVE tells which components are in use; XRSTOR initializes the others") {
  Fpu fpu;
  fpu.enable_xsave(3);
  fpu.s.vector[0].qword[0] = 7;
  fpu.s.x87.registers = {};
  fpu.run(kXsave);
  CHECK(fpu.taken() == -1);
  CHECK(fpu.qword(kArea + 512) == 2);
  CHECK(fpu.qword(kArea + 160) == 7);
  fpu.run(kFld1);
  fpu.s.vector[0].qword[0] = 8;
  fpu.run(kXrstor);
  CHECK(fpu.s.vector[0].qword[0] == 7);
  CHECK(fpu.s.x87.valid == 0);
}

TEST_CASE("13.8: XRSTOR refuses bad headers") {
  Fpu fpu;
  fpu.enable_xsave(3);
  fpu.run(kXsave);
  SECTION("a component that XCR0 does not enable") { fpu.memory.write_value<u64>(GuestPhysAddr(kArea + 512), 4); }
  SECTION("bytes 23:8") { fpu.memory.write_value<u8>(GuestPhysAddr(kArea + 528), 1); }
  SECTION("compacted, with a component outside of XCOMP_BV") {
    fpu.memory.write_value<u64>(GuestPhysAddr(kArea + 512), 2);
    fpu.memory.write_value<u64>(GuestPhysAddr(kArea + 520), u64{1} << 63 | 1);
  }
  SECTION("alignment") { fpu.s.gpr[kRcx] = kArea + 16; }
  fpu.run(kXrstor);
  CHECK(fpu.taken() == kGp);
}

TEST_CASE("13.10: XSAVEC writes a compacted header, and XRSTOR reads it") {
  Fpu fpu;
  fpu.enable_xsave(0x203);
  fpu.s.pkru = 0x55;
  fpu.run(kXsavec);
  CHECK(fpu.qword(kArea + 520) == (u64{1} << 63 | 0x203));
  CHECK((fpu.qword(kArea + 512) & 0x202) == 0x200);
  CHECK(fpu.dword(kArea + 576) == 0x55);
  fpu.s.pkru = 0;
  fpu.run(kXrstor);
  CHECK(fpu.s.pkru == 0x55);
}

TEST_CASE("13.5.3: XSAVE and XRSTOR carry the upper halves of YMM") {
  Fpu fpu;
  fpu.enable_xsave(7);
  fpu.s.vector[1].qword[0] = 1;
  fpu.s.vector[1].qword[2] = 0x1122334455667788;
  fpu.s.vector[7].qword[3] = 9;
  SECTION("standard format") {
    fpu.run(kXsave);
    CHECK(fpu.qword(kArea + 576 + 16) == 0x1122334455667788);
    CHECK(fpu.qword(kArea + 576 + 7 * 16 + 8) == 9);
    CHECK((fpu.qword(kArea + 512) & 6) == 6);
  }
  SECTION("compacted") {
    fpu.run(kXsavec);
    CHECK(fpu.qword(kArea + 576 + 16) == 0x1122334455667788);
    CHECK(fpu.qword(kArea + 520) == (u64{1} << 63 | 7));
  }
  fpu.s.vector = {};
  fpu.s.vector[0].qword[2] = 5;
  fpu.run(kXrstor);
  CHECK(fpu.taken() == -1);
  CHECK(fpu.s.vector[0].qword[2] == 0);
  CHECK(fpu.s.vector[1].qword[0] == 1);
  CHECK(fpu.s.vector[1].qword[2] == 0x1122334455667788);
  CHECK(fpu.s.vector[7].qword[3] == 9);
}

TEST_CASE("13.8: XRSTOR initializes the upper halves of YMM alone") {
  Fpu fpu;
  fpu.enable_xsave(7);
  fpu.run(kXsave);  // nothing is in use
  fpu.s.vector[3].qword[1] = 1;
  fpu.s.vector[3].qword[2] = 2;
  fpu.s.gpr[kRax] = 4;
  fpu.run(kXrstor);
  CHECK(fpu.s.vector[3].qword[1] == 1);
  CHECK(fpu.s.vector[3].qword[2] == 0);
}

TEST_CASE("13.4.3: in the compacted format PKRU lies behind YMM") {
  Fpu fpu;
  fpu.enable_xsave(0x207);
  fpu.s.pkru = 0x55;
  fpu.run(kXsavec);
  CHECK(fpu.dword(kArea + 576 + 256) == 0x55);
  fpu.s.pkru = 0;
  fpu.run(kXrstor);
  CHECK(fpu.s.pkru == 0x55);
}

TEST_CASE("14.3: AVX instructions want CR4.OSXSAVE and XCR0, and CR0.TS clear; CR0.EM and CR4.OSFXSR do not matter") {
  const std::vector<u8> vaddps{0xc5, 0xf4, 0x58, 0xc1}, vpxor{0xc5, 0xf9, 0xef, 0xc0};
  const std::vector<u8> insn = GENERATE_COPY(vaddps, vpxor);
  Fpu fpu;
  fpu.enable_xsave(7);
  int expected = -1;
  SECTION("all is set") {}
  SECTION("CR0.EM") { fpu.s.cr0 |= kCr0Em; }
  SECTION("without CR4.OSFXSR") { fpu.s.cr4 &= ~kCr4Osfxsr; }
  SECTION("without CR4.OSXSAVE") {
    fpu.s.cr4 &= ~kCr4Osxsave;
    expected = kUd;
  }
  SECTION("XCR0 without AVX state") {
    fpu.s.xcr0 = 3;
    expected = kUd;
  }
  SECTION("CR0.TS") {
    fpu.s.cr0 |= kCr0Ts;
    expected = kNm;
  }
  SECTION("CR0.TS, and XCR0 without AVX state") {
    fpu.s.cr0 |= kCr0Ts;
    fpu.s.xcr0 = 3;
    expected = kUd;
  }
  fpu.cpu.update_mode();
  fpu.run(insn);
  CHECK(fpu.taken() == expected);
}

TEST_CASE("13.3: XSETBV takes effect on the next AVX instruction") {
  Fpu fpu;
  fpu.enable_xsave(3);
  const std::vector<u8> vpxor{0xc5, 0xf9, 0xef, 0xc0};
  fpu.s.gpr[kRcx] = fpu.s.gpr[kRdx] = 0;
  fpu.s.gpr[kRax] = 7;
  fpu.run(kXsetbv);
  fpu.run(vpxor);
  CHECK(fpu.taken() == -1);
}
