// Guest memory accesses on the host in the order that x86 promises: total store order, SDM Vol. 3A 9.2.2 and 9.2.3.
#pragma once

#include <cstring>
#include <type_traits>

#include "state/integers.h"

namespace vellum {

// Whether the host orders loads and stores as x86 does: everything but a store followed by a load of another place. Then
// plain accesses will do. On other hosts loads acquire and stores release, so that another thread (a second guest CPU, a
// device) sees stores in the program's order, and none of them before the loads that precede it.
#if defined(__x86_64__)
inline constexpr bool kHostIsTso = true;
#else
inline constexpr bool kHostIsTso = false;
#endif

// What the host loads and stores as one when it is aligned. x86 promises no more, SDM Vol. 3A 9.1.1; wider and unaligned
// accesses keep their order by fences, and are no more atomic than on silicon.
template <class T>
inline constexpr bool kSingleAccess = std::is_integral_v<T> && sizeof(T) <= 8;

template <class T>
struct [[gnu::packed]] Unaligned {
  T value;
};

template <class T>
[[gnu::always_inline]] inline T ordered_load(const u8* host) {
  if constexpr (!kHostIsTso && kSingleAccess<T>) {
    if ((reinterpret_cast<u64>(host) & (sizeof(T) - 1)) == 0) [[likely]]
      return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_ACQUIRE);
  }
  const T value = reinterpret_cast<const Unaligned<T>*>(host)->value;
  if constexpr (!kHostIsTso) __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return value;
}
template <class T>
[[gnu::always_inline]] inline void ordered_store(u8* host, T value) {
  if constexpr (!kHostIsTso && kSingleAccess<T>) {
    if ((reinterpret_cast<u64>(host) & (sizeof(T) - 1)) == 0) [[likely]]
      return __atomic_store_n(reinterpret_cast<T*>(host), value, __ATOMIC_RELEASE);
  }
  if constexpr (!kHostIsTso) __atomic_thread_fence(__ATOMIC_RELEASE);
  reinterpret_cast<Unaligned<T>*>(host)->value = value;
}

// Accesses of a size known only when they are made: those that the guest makes as one are one here, which memcpy need not be.
void ordered_read(void* data, const u8* host, usize size);
void ordered_write(u8* host, const void* data, usize size);

// Before and after accesses of several bytes by other means (memcpy). Such a run is unordered in itself, as a fast string
// operation is, SDM Vol. 3A 9.2.4.
[[gnu::always_inline]] inline void order_bulk_access() {
  if constexpr (!kHostIsTso) __atomic_thread_fence(__ATOMIC_ACQ_REL);
}

// Behind a LOCKed instruction: nothing passes it, SDM Vol. 3A 9.2.3.9. SSE2's MFENCE is the same.
[[gnu::always_inline]] inline void full_memory_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// Replaces `size` bytes (2, 4 or 8) at an address that is not a multiple of it if they still are `expected`, else says what
// they are; atomic for every other access on x86, and on other hosts within 16 aligned bytes. Across such a border those
// have no such instruction: there it is atomic with respect to its like only.
bool exchange_unaligned(u8* host, u64& expected, u64 replacement, unsigned size);

}  // namespace vellum
