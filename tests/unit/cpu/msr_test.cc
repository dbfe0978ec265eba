// Model-specific registers, and the instructions that depend on a model's vendor.
#include <catch2/catch.hpp>

#include "x87_fixture.h"

using namespace vellum;

namespace {

constexpr int kInvalidOpcode = 6, kGeneralProtection = 13;

// WRMSR and RDMSR; both leave the vector of a fault in `taken`, or -1.
struct MsrGuest : Guest {
  using Guest::Guest;
  int write(u32 index, u64 value) {
    install_handlers();
    cpu.s.gpr[kRcx] = index;
    cpu.s.gpr[kRax] = static_cast<u32>(value);
    cpu.s.gpr[kRdx] = value >> 32;
    run({0x0f, 0x30});
    return taken();
  }
  u64 read(u32 index) {
    install_handlers();
    cpu.s.gpr[kRcx] = index;
    run({0x0f, 0x32});
    CHECK(taken() == -1);
    return static_cast<u32>(cpu.s.gpr[kRax]) | cpu.s.gpr[kRdx] << 32;
  }
};

}  // namespace

TEST_CASE("IA32_TSC_ADJUST moves the counter and follows writes to it, SDM Vol. 3B 18.17.3") {
  MsrGuest guest;
  CHECK(guest.read(0x3b) == 0);
  CHECK(guest.write(0x3b, 1000) == -1);
  CHECK(guest.read(0x10) == 1000);  // the fixture's clock stands at 0
  CHECK(guest.write(0x10, 250) == -1);
  CHECK(guest.read(0x3b) == 250);
  CHECK(guest.write(0x3b, 0) == -1);
  CHECK(guest.read(0x10) == 0);
  CHECK(guest.board.counter_writes == 3);  // each time the TSC deadline is at another moment
  CHECK(MsrGuest("max,-tsc-adjust").write(0x3b, 0) == kGeneralProtection);
}

TEST_CASE("bases in registers may be as wide as the CPU's linear addresses, whatever CR4.LA57 is (white paper 335252)") {
  const u32 index = GENERATE(0xc0000082u, 0xc0000083u, 0xc0000100u, 0xc0000101u, 0xc0000102u, 0x175u, 0x176u);
  constexpr u64 kWidth57 = 0xffaa'aaaa'aaaa'aaaa, kWidth48 = 0xffff'aaaa'aaaa'aaaa, kNone = 0xaaaa'aaaa'aaaa'aaaa;
  CAPTURE(index);
  CHECK(MsrGuest("max,+la57").write(index, kWidth57) == -1);
  CHECK(MsrGuest("max,+la57").write(index, kNone) == kGeneralProtection);
  CHECK(MsrGuest("max,-la57").write(index, kWidth57) == kGeneralProtection);
  CHECK(MsrGuest("max,-la57").write(index, kWidth48) == -1);
}

TEST_CASE("machine check banks: ADDR and MISC hold any value, STATUS can only be cleared, SDM Vol. 3B 16.3.2") {
  MsrGuest guest;
  CHECK(guest.write(0x401, 1) == kGeneralProtection);
  CHECK(guest.write(0x401, 0) == -1);
  CHECK(guest.write(0x402, 0x1234567890) == -1);
  CHECK(guest.read(0x402) == 0x1234567890);
  CHECK(guest.write(0x403, ~u64{0}) == -1);
  CHECK(guest.read(0x403) == ~u64{0});
  CHECK(guest.write(0x400, 5) == kGeneralProtection);
}

TEST_CASE("IA32_PKRS has 32 bits") {
  MsrGuest guest;
  CHECK(guest.write(0x6e1, 0xffffffff) == -1);
  CHECK(guest.read(0x6e1) == 0xffffffff);
  CHECK(guest.write(0x6e1, u64{1} << 32) == kGeneralProtection);
  CHECK(MsrGuest("max,-pks").write(0x6e1, 0) == kGeneralProtection);
}

TEST_CASE("AMD models have the four legacy performance counters, Intel models do not (APM Vol. 2, appendix A)") {
  const u32 index = GENERATE(0xc0010000u, 0xc0010003u, 0xc0010004u, 0xc0010007u);
  CHECK(MsrGuest("max,vendor=AuthenticAMD").write(index, 0) == -1);
  CHECK(MsrGuest("max").write(index, 0) == kGeneralProtection);
}

TEST_CASE("SYSCALL in legacy mode: to STAR[31:0] on AMD models, #UD on Intel's (APM Vol. 3; SDM Vol. 2B)") {
  const auto run = [](std::string_view model) {
    MsrGuest guest(model);
    guest.install_handlers();
    guest.cpu.s.efer = kEferSce;
    guest.cpu.s.star = u64{8} << 32 | 0x5000;
    guest.cpu.s.rflags |= kIf;
    guest.run({0x0f, 0x05});
    CHECK((guest.taken() == kInvalidOpcode || guest.cpu.s.gpr[kRcx] == kCode + 2));
    CHECK((guest.taken() == kInvalidOpcode || !(guest.cpu.s.rflags & kIf)));
    return guest.cpu.s.rip;
  };
  CHECK(run("max,vendor=AuthenticAMD") == 0x5000);
  CHECK(run("max") >= kHandlers);
}

TEST_CASE("KVM's hypercalls exist with kvm-pv-ipi only, and CPUID announces them (Linux hypercalls.rst, cpuid.rst)") {
  const std::vector<u8> call = GENERATE(std::vector<u8>{0x0f, 0x01, 0xc1}, std::vector<u8>{0x0f, 0x01, 0xd9});
  MsrGuest plain;
  plain.install_handlers();
  plain.run(call);
  CHECK(plain.taken() == kInvalidOpcode);

  MsrGuest guest("max,+kvm-pv-ipi");
  CHECK(guest.model.cpuid(0x40000000, 0).ebx == 0x4b4d564b);
  CHECK(guest.model.cpuid(0x40000001, 0).eax == 1u << 11);
  guest.cpu.s.gpr[kRax] = 12345;
  guest.run(call);
  CHECK(static_cast<i32>(guest.cpu.s.gpr[kRax]) == -1000);
  // Bits 0 and 2 of the low half from APIC id 2 on: ids 2 and 4, of which 4 does not exist.
  guest.cpu.s.gpr[kRax] = 10;
  guest.cpu.s.gpr[kRbx] = 5;
  guest.cpu.s.gpr[kRcx] = 0;
  guest.cpu.s.gpr[kRdx] = 2;
  guest.cpu.s.gpr[kRsi] = 0xfd;
  guest.run(call);
  CHECK(guest.cpu.s.gpr[kRax] == 1);
  CHECK(guest.board.sent == std::vector<std::pair<u32, u32>>{{2, 0xfd}, {4, 0xfd}});
}
