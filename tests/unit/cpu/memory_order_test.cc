// LOCKed accesses that are not aligned, from several threads: no update is lost.
#include <catch2/catch.hpp>

#include <atomic>
#include <thread>
#include <vector>

#include "cpu/memory_order.h"

using namespace vellum;

namespace {

constexpr unsigned kThreads = 2, kRounds = 20'000;

template <class T>
void increment(u8* host) {
  u64 old = 0;
  while (!exchange_unaligned(host, old, static_cast<T>(old + 1), sizeof(T))) {
  }
}

// A counter of T at each offset of a line that is not a multiple of its size; its neighbours must stay zero.
template <class T>
void count_everywhere() {
  for (unsigned offset = 1; offset < 72; ++offset) {
    if (offset % sizeof(T) == 0) continue;
    alignas(64) u8 memory[128] = {};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i)
      threads.emplace_back([&] {
        for (unsigned round = 0; round < kRounds / 100; ++round) increment<T>(memory + offset);
      });
    for (std::thread& thread : threads) thread.join();
    T value;
    std::memcpy(&value, memory + offset, sizeof(T));
    INFO("offset " << offset << " size " << sizeof(T));
    CHECK(value == kThreads * kRounds / 100);
    CHECK(memory[offset - 1] == 0);
    CHECK(memory[offset + sizeof(T)] == 0);
  }
}

}  // namespace

TEST_CASE("unaligned locked updates by two threads all count") {
  count_everywhere<u16>();
  count_everywhere<u32>();
  count_everywhere<u64>();
}

// Message passing: whoever sees the flag sees the message. On a host that is not TSO this needs the ordered accesses.
TEST_CASE("a store is not seen before the one that precedes it") {
  alignas(64) static u8 message[64], flag[64];
  std::memset(message, 0, sizeof(message));
  std::memset(flag, 0, sizeof(flag));
  std::thread writer([] {
    for (u32 i = 1; i <= kRounds; ++i) {
      ordered_store<u32>(message, i);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      ordered_store<u32>(flag, i);
    }
  });
  bool in_order = true;
  for (u32 seen = 0; seen < kRounds;) {
    seen = ordered_load<u32>(flag);
    // A host that is TSO makes these plain loads, which the compiler must not take out of the loop.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (ordered_load<u32>(message) < seen) in_order = false;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  writer.join();
  CHECK(in_order);
}
