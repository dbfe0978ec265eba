// LOCKed accesses that are not aligned.
#include "cpu/memory_order.h"

#include <mutex>

namespace vellum {

#if defined(__x86_64__)

// The host splits the lock as the guest's CPU would.
bool exchange_unaligned(u8* host, u64& expected, u64 replacement, unsigned size) {
  bool equal;
  switch (size) {
    case 2: {
      u16 old = static_cast<u16>(expected);
      asm volatile("lock cmpxchgw %[value], (%[host])"
                   : "=@ccz"(equal), "+a"(old)
                   : [host] "r"(host), [value] "r"(static_cast<u16>(replacement)) : "memory");
      expected = old;
      return equal;
    }
    case 4: {
      u32 old = static_cast<u32>(expected);
      asm volatile("lock cmpxchgl %[value], (%[host])"
                   : "=@ccz"(equal), "+a"(old)
                   : [host] "r"(host), [value] "r"(static_cast<u32>(replacement)) : "memory");
      expected = old;
      return equal;
    }
    default:
      asm volatile("lock cmpxchgq %[value], (%[host])"
                   : "=@ccz"(equal), "+a"(expected)
                   : [host] "r"(host), [value] "r"(replacement) : "memory");
      return equal;
  }
}

#else

namespace {

std::mutex g_split_lock;

// The bytes lie within one aligned word, which is exchanged as a whole.
template <class Word>
bool exchange_within(u8* host, u64& expected, u64 replacement, unsigned size) {
  const u64 address = reinterpret_cast<u64>(host);
  Word* word = reinterpret_cast<Word*>(address & ~u64{sizeof(Word) - 1});
  const unsigned shift = 8 * static_cast<unsigned>(address & (sizeof(Word) - 1));
  const u64 ones = ~u64{0} >> (64 - 8 * size);
  const Word mask = static_cast<Word>(Word{ones} << shift);
  Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    const u64 found = static_cast<u64>(old >> shift) & ones;
    if (found != (expected & ones)) {
      expected = found;
      return false;
    }
    const Word updated = (old & static_cast<Word>(~mask)) | (static_cast<Word>(Word{replacement} << shift) & mask);
    if (__atomic_compare_exchange_n(word, &old, updated, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return true;
  }
}

}  // namespace

bool exchange_unaligned(u8* host, u64& expected, u64 replacement, unsigned size) {
  const u64 first = reinterpret_cast<u64>(host), last = first + size - 1;
  if (first >> 3 == last >> 3) return exchange_within<u64>(host, expected, replacement, size);
  if (first >> 4 == last >> 4) return exchange_within<u128>(host, expected, replacement, size);
  const std::scoped_lock lock(g_split_lock);
  full_memory_fence();
  u64 found = 0;
  std::memcpy(&found, host, size);
  const bool equal = found == (expected & (~u64{0} >> (64 - 8 * size)));
  if (equal) std::memcpy(host, &replacement, size);
  else expected = found;
  full_memory_fence();
  return equal;
}

#endif

void ordered_read(void* data, const u8* host, usize size) {
  const auto whole = [&]<class T>(T) {
    const T value = ordered_load<T>(host);
    std::memcpy(data, &value, sizeof(T));
  };
  switch (size) {
    case 1: return whole(u8{});
    case 2: return whole(u16{});
    case 4: return whole(u32{});
    case 8: return whole(u64{});
    default: std::memcpy(data, host, size); order_bulk_access();
  }
}
void ordered_write(u8* host, const void* data, usize size) {
  const auto whole = [&]<class T>(T value) {
    std::memcpy(&value, data, sizeof(T));
    ordered_store<T>(host, value);
  };
  switch (size) {
    case 1: return whole(u8{});
    case 2: return whole(u16{});
    case 4: return whole(u32{});
    case 8: return whole(u64{});
    default: order_bulk_access(); std::memcpy(host, data, size);
  }
}

}  // namespace vellum
