// The software TLB: what it finds, what it brings back, and what flushes take from it.
#include <catch2/catch.hpp>

#include <memory>
#include <vector>

#include "mmu/tlb.h"

using namespace vellum;

namespace {

constexpr TlbContext kUser = TlbContext::User;
constexpr u64 kAway = kTlbSize << kPageBits;  // pages so far apart share a slot
constexpr u64 kPage = 0x5000;

struct Fixture {
  void enter(u64 linear, bool write = false, bool global = false, bool large = false, bool watched = false) {
    tlb.insert(kUser, linear, host(linear), true, write, false, global, large, watched);
  }
  u8* host(u64 linear) { return memory.data() + linear / kAway * kPageSize; }
  bool reads(u64 linear) {
    const TlbEntry& entry = tlb.table(kUser)[Tlb::slot(linear)];
    return (linear ^ entry.read_tag) < kPageSize && entry.host == host(linear);
  }
  bool writes(u64 linear) { return (linear ^ tlb.table(kUser)[Tlb::slot(linear)].write_tag) < kPageSize; }
  bool restores(u64 linear) { return tlb.restore(tlb.table(kUser), linear); }

  std::vector<u8> memory = std::vector<u8>(64 * kPageSize);
  Tlb tlb;
};

}  // namespace

TEST_CASE("a page that lost its slot to another comes back, and the other one too") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage, true);
  f->enter(kPage + kAway);
  CHECK(!f->reads(kPage));
  CHECK(f->reads(kPage + kAway));
  for (unsigned i = 0; i < 20; ++i) {
    REQUIRE(f->restores(kPage + 8));
    CHECK(f->reads(kPage));
    CHECK(f->writes(kPage));
    REQUIRE(f->restores(kPage + kAway + 8));
    CHECK(f->reads(kPage + kAway));
    CHECK(!f->writes(kPage + kAway));
  }
  CHECK(!f->restores(kPage + kAway));      // is there
  CHECK(!f->restores(kPage + 2 * kAway));  // never was
}

TEST_CASE("only the last few that lost their slot come back") {
  const auto f = std::make_unique<Fixture>();
  for (unsigned i = 0; i < 20; ++i) f->enter(kPage + i * kAway);
  CHECK(!f->restores(kPage));
  CHECK(f->restores(kPage + 18 * kAway));
}

TEST_CASE("of two translations of a page the newer one comes back") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage);
  f->enter(kPage + kAway);
  f->enter(kPage, true);  // walked for again, because it is written
  f->enter(kPage + 2 * kAway);
  REQUIRE(f->restores(kPage));
  CHECK(f->writes(kPage));
}

TEST_CASE("what is flushed does not come back") {
  const auto f = std::make_unique<Fixture>();
  const bool global = GENERATE(false, true);
  f->enter(kPage, true, global);
  f->enter(kPage + kAway, true);
  SECTION("by INVLPG") { f->tlb.flush_page(kPage); }
  SECTION("by INVLPG of another part of a large page") {
    f->enter(kPage + 2 * kAway, true, false, true);
    f->enter(kPage + 3 * kAway, true);
    f->tlb.flush_page(kPage + 2 * kAway + 0x1000);
    CHECK(!f->restores(kPage + 2 * kAway));
  }
  SECTION("all") { f->tlb.flush_all(); }
  SECTION("by a new CR3, whether global or not") { f->tlb.flush_non_global(); }
  SECTION("by another process in the same table") { f->tlb.switch_user_table(0, false); }
  CHECK(!f->restores(kPage));
  CHECK(!f->reads(kPage));
}

TEST_CASE("what was flushed does not come back when others change places") {
  const auto f = std::make_unique<Fixture>();
  for (unsigned i = 0; i < 20; ++i) f->enter(kPage + i * kAway);
  f->tlb.flush_all();
  f->enter(kPage + 30 * kAway);
  f->enter(kPage + 31 * kAway);
  for (unsigned i = 0; i < 20; ++i) {
    REQUIRE(f->restores(kPage + 30 * kAway));
    REQUIRE(f->restores(kPage + 31 * kAway));
  }
  for (unsigned i = 0; i < 20; ++i) CHECK(!f->restores(kPage + i * kAway));
}

TEST_CASE("page 0 is found only when it was entered") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kAway);
  f->enter(2 * kAway);
  REQUIRE(f->restores(kAway));
  REQUIRE(f->restores(2 * kAway));
  CHECK(!f->restores(0));
}

TEST_CASE("another process does not see what comes back, and its own is there behind a switch") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage);
  f->enter(kPage + kAway);
  f->tlb.switch_user_table(1, false);
  CHECK(!f->restores(kPage));
  f->tlb.switch_user_table(0, true);
  CHECK(f->restores(kPage));
  CHECK(f->reads(kPage));
}

TEST_CASE("a page found to hold code does not come back writable") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage, true);
  f->enter(kPage + kAway, true);
  f->tlb.protect_host_pages(f->host(kPage), kPageSize);
  CHECK((!f->restores(kPage) || !f->writes(kPage)));
}

TEST_CASE("a page whose writes are watched comes back watched") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage, false, false, false, true);
  f->enter(kPage + kAway, true);
  CHECK(!f->tlb.watched_host(f->tlb.table(kUser), kPage, 8));
  REQUIRE(f->restores(kPage));
  CHECK(f->tlb.watched_host(f->tlb.table(kUser), kPage + 16, 8) == f->host(kPage) + 16);
}

TEST_CASE("what came back is flushed with the others") {
  const auto f = std::make_unique<Fixture>();
  const bool global = GENERATE(false, true);
  f->enter(kPage, true, global);
  f->enter(kPage + kAway, true, !global);
  REQUIRE(f->restores(kPage));
  f->tlb.flush_non_global();
  CHECK(f->reads(kPage) == global);
  f->tlb.flush_all();
  CHECK(!f->reads(kPage));
}

TEST_CASE("the stack's page is kept as the table has it") {
  const auto f = std::make_unique<Fixture>();
  TlbEntry* const table = f->tlb.table(kUser);
  const StackTranslation& stack = *StackTranslation::of(table);
  CHECK(stack.read_limit == 0);
  CHECK(!Tlb::keep_stack(table, kPage, false));  // not there
  CHECK(stack.read_limit == 0);
  f->enter(kPage);
  CHECK(!Tlb::keep_stack(table, kPage, true));
  REQUIRE(Tlb::keep_stack(table, kPage + 16, false));
  CHECK(stack.page == kPage);
  CHECK(stack.host == f->host(kPage));
  CHECK(stack.read_limit == kPageSize - 8 + 1);
  CHECK(stack.write_limit == 0);
  f->enter(kPage, true);
  CHECK(stack.read_limit == 0);  // the table knows better
  REQUIRE(Tlb::keep_stack(table, kPage + 16, true));
  CHECK(stack.write_limit == kPageSize - 8 + 1);
}

TEST_CASE("the stack's page goes with every flush of its table, and when it is watched") {
  const auto f = std::make_unique<Fixture>();
  TlbEntry* const table = f->tlb.table(kUser);
  const StackTranslation& stack = *StackTranslation::of(table);
  f->enter(kPage, true);
  REQUIRE(Tlb::keep_stack(table, kPage, true));
  SECTION("all") { f->tlb.flush_all(); }
  SECTION("what is not global") { f->tlb.flush_non_global(); }
  SECTION("the page") { f->tlb.flush_page(kPage + 8); }
  SECTION("another process takes its table") { f->tlb.switch_user_table(0, false); }
  SECTION("watched") {
    f->tlb.protect_host_pages(f->host(kPage), kPageSize);
    CHECK(!Tlb::keep_stack(table, kPage, true));
  }
  CHECK(stack.read_limit == 0);
  CHECK(stack.write_limit == 0);
}

TEST_CASE("the stack's page goes when another takes its slot") {
  const auto f = std::make_unique<Fixture>();
  TlbEntry* const table = f->tlb.table(kUser);
  f->enter(kPage + kAway);
  f->enter(kPage, true);
  REQUIRE(Tlb::keep_stack(table, kPage, true));
  SECTION("new") { f->enter(kPage + 2 * kAway); }
  SECTION("back again") { REQUIRE(f->restores(kPage + kAway)); }
  CHECK(StackTranslation::of(table)->read_limit == 0);
  REQUIRE(f->restores(kPage));
  CHECK(Tlb::keep_stack(table, kPage, true));
}

TEST_CASE("each process has a stack's page of its own") {
  const auto f = std::make_unique<Fixture>();
  f->enter(kPage, true);
  REQUIRE(Tlb::keep_stack(f->tlb.table(kUser), kPage, true));
  f->tlb.switch_user_table(1, false);
  CHECK(StackTranslation::of(f->tlb.table(kUser))->read_limit == 0);
  f->tlb.switch_user_table(0, true);
  CHECK(StackTranslation::of(f->tlb.table(kUser))->page == kPage);
}
