// Which blocks of a trace become a region.
#include <catch2/catch.hpp>

#include "jit/engine.h"
#include "jit/region_selector.h"
#include "long_mode_guest.h"

using namespace vellum;

TEST_CASE("blocks that lay behind one linear page at different times do not become one region") {
  // head: inc %eax; jmp next.  next, 16 bytes on: inc %ecx; jmp head.
  const u8 head[] = {0xff, 0xc0, 0xeb, 0x0c}, next[] = {0xff, 0xc1, 0xeb, 0xec};
  LongModeGuest guest{std::span<const u8>(head)};
  constexpr u64 kRip = LongModeGuest::kCodeAt, kNext = kRip + 16, kOtherPage = kRip + kPageSize;
  guest.memory.write(GuestPhysAddr(kNext), std::span(next));
  guest.memory.write(GuestPhysAddr(kOtherPage + 16), std::span(next));
  if (!use_engine(guest.cpu, {.engine = Engine::Tiered})) {
    WARN("this host has no optimizing tier");
    return;
  }
  const auto none = [](const Block&) { return false; };
  Block* const first = guest.cpu.lookup(kRip);
  Block* const second = guest.cpu.lookup(kNext);
  REQUIRE((first && second));
  const TraceStep together[] = {{kRip, first}, {kNext, second}, {kRip, first}, {kNext, second}};
  CHECK(select_region(together, none).blocks.size() == 2);

  // The page's entry in the last table: each table maps 2 MiB.
  guest.write(LongModeGuest::kTables + 0x3000 + 0x1000 * (kRip >> 21) + 8 * (kRip >> 12 & 511), kOtherPage | 3);
  guest.cpu.flush_tlb_page(kRip);
  Block* const later = guest.cpu.lookup(kNext);
  REQUIRE((later && later != second));
  const TraceStep remapped[] = {{kRip, first}, {kNext, later}, {kRip, first}, {kNext, later}};
  CHECK(select_region(remapped, none).blocks.size() == 1);
}

TEST_CASE("what the baseline leaves to functions gains more by being optimized") {
  const auto gain = [](std::span<const u8> code) {
    LongModeGuest guest{code};
    return use_engine(guest.cpu, {.engine = Engine::Baseline}) ? gain_of(*guest.cpu.lookup(LongModeGuest::kCodeAt)) : 0;
  };
  // inc %eax; inc %eax; ret, and with fchs or aesenc %xmm1, %xmm0 for the first.
  const u8 integer[] = {0xff, 0xc0, 0xff, 0xc0, 0xc3}, x87[] = {0xd9, 0xe0, 0xff, 0xc0, 0xc3}, cipher[] = {0x66, 0x0f, 0x38, 0xdc, 0xc1, 0xff, 0xc0, 0xc3};
  const u64 least = gain(integer);
  if (!least) {
    WARN("this host has no translator");
    return;
  }
  CHECK(least == 3);
  CHECK(gain(x87) > least);
  CHECK(gain(cipher) > least);
}
