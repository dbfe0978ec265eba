// The page walker against SDM Vol. 3A chapter 4.
#include <catch2/catch.hpp>

#include "mmu/page_walk.h"

using namespace vellum;

namespace {

constexpr u64 kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100, kNx = u64{1} << 63;

// 16 MiB of RAM with tables at fixed places; each test fills in what it needs.
struct Bench {
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(16 << 20));
  AddressSpace memory{*ram};
  PagingControls controls;
  Bench() { memory.map_ram("ram", GuestPhysAddr(0), 16 << 20, 0); }
  void put32(u64 address, u32 value) { memory.write_value(GuestPhysAddr(address), value); }
  void put64(u64 address, u64 value) { memory.write_value(GuestPhysAddr(address), value); }
  u32 get32(u64 address) { return memory.read_value<u32>(GuestPhysAddr(address)); }
  u64 get64(u64 address) { return memory.read_value<u64>(GuestPhysAddr(address)); }
  auto go(u64 linear, AccessType type = AccessType::Read, bool user = false, bool smap_in_force = true) {
    return walk(memory, controls, linear, {type, user, smap_in_force});
  }
  u32 error(u64 linear, AccessType type = AccessType::Read, bool user = false, bool smap_in_force = true) {
    const auto result = go(linear, type, user, smap_in_force);
    REQUIRE_FALSE(result.has_value());
    return result.error().error_code;
  }
};

// 4-level tables: linear 0000'1234'5678'9xxx goes through 1000h, 2000h, 3000h, 4000h.
constexpr u64 kLinear = 0x1234'5678'9abc;
constexpr u64 kPml4e = 0x1000 + ((kLinear >> 39) & 511) * 8, kPdpte = 0x2000 + ((kLinear >> 30) & 511) * 8,
              kPde = 0x3000 + ((kLinear >> 21) & 511) * 8, kPte = 0x4000 + ((kLinear >> 12) & 511) * 8;

struct Bench4 : Bench {
  Bench4(u64 leaf_bits = kP | kW | kU) {
    controls.mode = PagingMode::Level4;
    controls.cr3 = 0x1000;
    controls.write_protect = controls.no_execute = controls.gigabyte_pages = true;
    put64(kPml4e, 0x2000 | kP | kW | kU);
    put64(kPdpte, 0x3000 | kP | kW | kU);
    put64(kPde, 0x4000 | kP | kW | kU);
    put64(kPte, 0x5000 | leaf_bits);
  }
};

constexpr auto kRead = AccessType::Read, kWrite = AccessType::Write, kExecute = AccessType::Execute;

}  // namespace

TEST_CASE("without paging the linear address is the physical one, below the A20 gate") {
  Bench bench;
  bench.controls.a20_mask = ~u64{1 << 20};
  const auto result = bench.go(0x101234, kWrite, true);
  REQUIRE(result.has_value());
  CHECK(result->page.value == 0x1000);
  CHECK(result->user_write);
  CHECK(result->dirty);
}

TEST_CASE("4-level paging: all four tables are followed (4.5.4)") {
  Bench4 bench;
  const auto result = bench.go(kLinear);
  REQUIRE(result.has_value());
  CHECK(result->page.value == 0x5000);
  CHECK(result->user_read);
  CHECK(result->user_write);
  CHECK_FALSE(result->large);
  CHECK_FALSE(result->dirty);
  CHECK(walk_quietly(bench.memory, bench.controls, kLinear)->value == 0x5abc);
}

TEST_CASE("4.8: a read sets A at all levels and D nowhere; a write sets D in the leaf only") {
  Bench4 bench;
  REQUIRE(bench.go(kLinear).has_value());
  CHECK(bench.get64(kPml4e) == (0x2000 | kP | kW | kU | kA));
  CHECK(bench.get64(kPdpte) == (0x3000 | kP | kW | kU | kA));
  CHECK(bench.get64(kPde) == (0x4000 | kP | kW | kU | kA));
  CHECK(bench.get64(kPte) == (0x5000 | kP | kW | kU | kA));
  REQUIRE(bench.go(kLinear, kWrite)->dirty);
  CHECK(bench.get64(kPde) == (0x4000 | kP | kW | kU | kA));
  CHECK(bench.get64(kPte) == (0x5000 | kP | kW | kU | kA | kD));
}

TEST_CASE("a fault leaves the flags of the tables alone") {
  Bench4 bench(kP | kU);
  CHECK(bench.error(kLinear, kWrite, true) == 7);
  CHECK(bench.get64(kPml4e) == (0x2000 | kP | kW | kU));
  CHECK(bench.get64(kPte) == (0x5000 | kP | kU));
}

TEST_CASE("4.7: error code of a page that is not present, at any level") {
  const u64 entry = GENERATE(kPml4e, kPdpte, kPde, kPte);
  Bench4 bench;
  bench.put64(entry, bench.get64(entry) & ~kP);
  CHECK(bench.error(kLinear) == 0);
  CHECK(bench.error(kLinear, kWrite) == 2);
  CHECK(bench.error(kLinear, kRead, true) == 4);
  CHECK(bench.error(kLinear, kWrite, true) == 6);
  CHECK(bench.error(kLinear, kExecute, true) == 0x14);
  bench.controls.no_execute = false;
  CHECK(bench.error(kLinear, kExecute, true) == 4);  // neither NXE nor SMEP: no I/D bit
  bench.controls.smep = true;
  CHECK(bench.error(kLinear, kExecute, true) == 0x14);
}

TEST_CASE("4.6.1: user accesses need U/S at all levels") {
  const u64 entry = GENERATE(kPml4e, kPdpte, kPde, kPte);
  Bench4 bench;
  bench.put64(entry, bench.get64(entry) & ~kU);
  CHECK(bench.error(kLinear, kRead, true) == 5);
  CHECK(bench.error(kLinear, kExecute, true) == 0x15);
  CHECK(bench.go(kLinear).has_value());
  CHECK_FALSE(bench.go(kLinear)->user_page);
}

TEST_CASE("4.6.1: writes need R/W at all levels; CR0.WP decides for the supervisor") {
  const u64 entry = GENERATE(kPml4e, kPdpte, kPde, kPte);
  Bench4 bench;
  bench.put64(entry, bench.get64(entry) & ~kW);
  CHECK(bench.error(kLinear, kWrite, true) == 7);
  CHECK(bench.error(kLinear, kWrite) == 3);
  bench.controls.write_protect = false;
  CHECK(bench.error(kLinear, kWrite, true) == 7);
  CHECK(bench.go(kLinear, kWrite)->supervisor_write);
}

TEST_CASE("4.6.1: XD at any level forbids fetches; without NXE it is reserved") {
  const u64 entry = GENERATE(kPml4e, kPdpte, kPde, kPte);
  Bench4 bench;
  bench.put64(entry, bench.get64(entry) | kNx);
  CHECK(bench.error(kLinear, kExecute) == 0x11);
  CHECK(bench.error(kLinear, kExecute, true) == 0x15);
  CHECK(bench.go(kLinear)->user_execute == false);
  bench.controls.no_execute = false;
  CHECK(bench.error(kLinear) == 9);
  CHECK(bench.error(kLinear, kWrite, true) == 0xf);
}

TEST_CASE("4.6.1: SMEP keeps the supervisor from executing user pages") {
  Bench4 bench;
  bench.controls.smep = true;
  CHECK(bench.error(kLinear, kExecute) == 0x11);
  CHECK(bench.go(kLinear, kExecute, true)->supervisor_execute == false);
  CHECK(bench.go(kLinear).has_value());
}

TEST_CASE("4.6.1: SMAP keeps the supervisor from the data of user pages unless EFLAGS.AC lets it") {
  Bench4 bench;
  bench.controls.smap = true;
  CHECK(bench.error(kLinear, kRead) == 1);
  CHECK(bench.error(kLinear, kWrite) == 3);
  CHECK(bench.go(kLinear, kRead, false, false).has_value());
  CHECK(bench.go(kLinear, kExecute).has_value());
  CHECK(bench.go(kLinear, kRead, true).has_value());
}

TEST_CASE("4.6.2: protection keys") {
  Bench4 bench(kP | kW | kU | u64{3} << 59);
  bench.controls.protection_keys = true;
  SECTION("access disable") {
    bench.controls.pkru = 1u << 6;
    CHECK(bench.error(kLinear, kRead, true) == 0x25);
    CHECK(bench.error(kLinear, kRead) == 0x21);
    CHECK(bench.go(kLinear, kExecute, true).has_value());
  }
  SECTION("write disable binds the supervisor only with CR0.WP") {
    bench.controls.pkru = 2u << 6;
    CHECK(bench.go(kLinear, kRead, true)->key_write == false);
    CHECK(bench.error(kLinear, kWrite, true) == 0x27);
    CHECK(bench.error(kLinear, kWrite) == 0x23);
    bench.controls.write_protect = false;
    CHECK(bench.error(kLinear, kWrite, true) == 0x27);
    CHECK(bench.go(kLinear, kWrite).has_value());
  }
  SECTION("PKRU does not guard supervisor pages") {
    bench.controls.pkru = 3u << 6;
    bench.put64(kPte, bench.get64(kPte) & ~kU);
    CHECK(bench.go(kLinear, kWrite).has_value());
  }
  SECTION("IA32_PKRS guards supervisor pages, and no others") {
    bench.controls.supervisor_keys = true;
    bench.controls.pkrs = 1u << 6;
    CHECK(bench.go(kLinear, kWrite).has_value());
    bench.put64(kPte, bench.get64(kPte) & ~kU);
    CHECK(bench.error(kLinear, kRead) == 0x21);
    CHECK(bench.go(kLinear, kExecute).has_value());
    bench.controls.pkrs = 2u << 6;
    CHECK(bench.go(kLinear, kRead)->key_write == false);
    CHECK(bench.error(kLinear, kWrite) == 0x23);
    bench.controls.write_protect = false;
    CHECK(bench.go(kLinear, kWrite).has_value());
  }
}

TEST_CASE("table 4-14: address bits above MAXPHYADDR are reserved, at any level") {
  const u64 entry = GENERATE(kPml4e, kPdpte, kPde, kPte);
  Bench4 bench;
  bench.put64(entry, bench.get64(entry) | u64{1} << 40);
  CHECK(bench.error(kLinear, kRead, true) == 0xd);
  bench.put64(entry, (bench.get64(entry) & ~(u64{1} << 40)) | u64{0x7f} << 52);
  CHECK(bench.go(kLinear, kRead, true).has_value());  // bits 58:52 are ignored
}

TEST_CASE("large pages of 4-level paging (tables 4-16, 4-18)") {
  Bench4 bench;
  SECTION("2 MiB") {
    bench.put64(kPde, 0x400000 | kP | kW | kPs | kG | 0x1000);  // bit 12 is PAT
    bench.controls.global_pages = true;
    const auto result = bench.go(kLinear, kWrite);
    REQUIRE(result.has_value());
    CHECK(result->page.value == (0x400000 | (kLinear & 0x1ff000)));
    CHECK(result->large);
    CHECK(result->global);
    CHECK(bench.get64(kPde) == (0x400000 | kP | kW | kPs | kG | 0x1000 | kA | kD));
    bench.put64(kPde, 0x402000 | kP | kW | kPs);  // bits 20:13 are reserved
    CHECK(bench.error(kLinear) == 9);
  }
  SECTION("1 GiB") {
    bench.put64(kPdpte, 0x4000'0000 | kP | kW | kPs);
    CHECK(bench.go(kLinear)->page.value == (0x4000'0000 | (kLinear & 0x3fff'f000)));
    bench.put64(kPdpte, 0x4020'0000 | kP | kW | kPs);
    CHECK(bench.error(kLinear) == 9);
    bench.put64(kPdpte, 0x4000'0000 | kP | kW | kPs);
    bench.controls.gigabyte_pages = false;
    CHECK(bench.error(kLinear) == 9);
  }
  SECTION("bit 7 of a PML4E is reserved") {
    bench.put64(kPml4e, 0x2000 | kP | kW | kPs);
    CHECK(bench.error(kLinear) == 9);
  }
}

TEST_CASE("5-level paging begins one table higher") {
  Bench4 bench;
  bench.controls.mode = PagingMode::Level5;
  bench.controls.cr3 = 0x6000;
  const u64 linear = kLinear | u64{0x15} << 48;
  bench.put64(0x6000 + 0x15 * 8, 0x1000 | kP | kW | kU);
  CHECK(bench.go(linear)->page.value == 0x5000);
  CHECK(bench.get64(0x6000 + 0x15 * 8) == (0x1000 | kP | kW | kU | kA));
  bench.put64(0x6000 + 0x15 * 8, 0x1000 | kP | kW | kU | kPs);
  CHECK(bench.error(linear) == 9);
}

TEST_CASE("32-bit paging (4.3)") {
  Bench bench;
  bench.controls.mode = PagingMode::Bits32;
  bench.controls.cr3 = 0x1000;
  bench.controls.write_protect = true;
  const u64 linear = 0xc0123456, pde = 0x1000 + 0x300 * 4, pte = 0x2000 + 0x123 * 4;
  bench.put32(pde, 0x2000 | kP | kW | kU);
  bench.put32(pte, 0x5000 | kP | kW);
  SECTION("4 KiB page") {
    const auto result = bench.go(linear, kWrite);
    REQUIRE(result.has_value());
    CHECK(result->page.value == 0x5000);
    CHECK_FALSE(result->user_read);
    CHECK(bench.get32(pde) == (0x2000 | kP | kW | kU | kA));
    CHECK(bench.get32(pte) == (0x5000 | kP | kW | kA | kD));
    CHECK(bench.get32(pte + 4) == 0);
    CHECK(bench.error(linear, kRead, true) == 5);
  }
  SECTION("NXE means nothing here") {
    bench.controls.no_execute = true;
    CHECK(bench.error(linear, kExecute, true) == 5);
    CHECK(bench.go(linear, kExecute)->supervisor_execute);
  }
  SECTION("PS counts only with CR4.PSE") {
    bench.put32(pde, 0x2000 | kP | kW | kPs);
    CHECK(bench.go(linear)->page.value == 0x5000);
    bench.controls.page_size_extension = true;
    bench.put32(pde, 0x00800000 | kP | kW | kPs);
    CHECK(bench.go(linear)->page.value == 0x00923000);
    CHECK(bench.go(linear)->large);
  }
  SECTION("PSE-36: bits 20:13 are address bits 39:32, bit 21 is reserved (table 4-4)") {
    bench.controls.page_size_extension = bench.controls.pse36 = true;
    bench.put32(pde, 0x00800000 | 0x5u << 13 | kP | kPs);
    CHECK(bench.go(linear)->page.value == 0x5'0092'3000);
    bench.put32(pde, 0x00800000 | 1u << 21 | kP | kPs);
    CHECK(bench.error(linear) == 9);
    bench.controls.physical_address_bits = 36;
    bench.put32(pde, 0x00800000 | 0x10u << 13 | kP | kPs);
    CHECK(bench.error(linear) == 9);
    bench.controls.pse36 = false;
    bench.put32(pde, 0x00800000 | 1u << 13 | kP | kPs);
    CHECK(bench.error(linear) == 9);
  }
}

TEST_CASE("PAE paging (4.4)") {
  Bench bench;
  bench.controls.mode = PagingMode::Pae;
  bench.controls.no_execute = true;
  bench.controls.pdpte = {0, 0, 0x1000 | kP, 0};
  const u64 linear = 0x8123'4567, pde = 0x1000 + ((linear >> 21) & 511) * 8, pte = 0x2000 + ((linear >> 12) & 511) * 8;
  bench.put64(pde, 0x2000 | kP | kW | kU);
  bench.put64(pte, 0x5000 | kP | kW | kU | kNx);
  SECTION("the PDPTE registers begin the walk") {
    CHECK(bench.go(linear, kWrite, true)->page.value == 0x5000);
    CHECK(bench.error(0x4123'4567, kRead, true) == 4);
    CHECK(bench.error(linear, kExecute, true) == 0x15);
  }
  SECTION("bits 62:MAXPHYADDR are reserved (table 4-11)") {
    bench.put64(pte, 0x5000 | kP | u64{1} << 62);
    CHECK(bench.error(linear) == 9);
  }
  SECTION("2 MiB page") {
    bench.put64(pde, 0x0060'0000 | kP | kPs);
    CHECK(bench.go(linear)->page.value == 0x0060'0000 + (linear & 0x1f'f000));
  }
}

TEST_CASE("the A20 gate masks the tables' addresses and the page's") {
  Bench4 bench(kP | kW | kU | 0x10'0000);
  bench.controls.cr3 = 0x10'1000;
  bench.controls.a20_mask = ~u64{1 << 20};
  CHECK(bench.go(kLinear)->page.value == 0x5000);
}

TEST_CASE("tables outside of RAM read as ones, and the walk ends") {
  Bench4 bench;
  bench.controls.cr3 = 0xf000'0000;
  CHECK(bench.error(kLinear) == 9);
}
