// String instructions, SDM Vol. 1 5.1.8. op() makes one iteration; the engine's driver repeats it. bulk() makes several
// at once where they run forward inside one page, and says how many.
#pragma once

#include <algorithm>

#include "cpu/semantics/integer.h"

namespace vellum::semantics {

// rSI and rDI of the address size.
template <class C>
VELLUM_INLINE u64 string_offset(C& c, Gpr index) { return c.wrap_offset(c.template gpr<u64>(index)); }

template <class C>
VELLUM_INLINE void set_string_offset(C& c, Gpr index, u64 value) {
  if (c.address_size() == 2) c.template set_gpr<u16>(index, static_cast<u16>(value));
  else c.template set_gpr<u64>(index, c.wrap_offset(value));
}

template <class T, class C>
VELLUM_INLINE u64 string_step(C& c) { return c.state().rflags & kDf ? 0 - u64{sizeof(T)} : sizeof(T); }

template <class T, class C>
VELLUM_INLINE T load_string_source(C& c, u64 offset) {
  return c.template load<T>(c.linear(offset, sizeof(T), AccessType::Read));
}
template <class C>
VELLUM_INLINE u64 string_destination(C& c, u64 offset, unsigned size, AccessType access) {
  return c.segment_linear(kEs, offset, size, access);
}

// memmove(), where `to` is no place within the bytes behind `from`. In parts for which C libraries move vectors: for more they take the
// host's REP MOVSB, which is many times as slow on some hosts (Zen 4) where the two places do not suit it.
VELLUM_INLINE void copy_ascending(u8* to, const u8* from, u64 bytes) {
  constexpr u64 kPart = 1024;
  u64 done = 0;
  for (; bytes - done > kPart; done += kPart) std::memmove(to + done, from + done, kPart);
  std::memmove(to + done, from + done, bytes - done);
}

struct MoveString {
  static constexpr Flow kFlow = Flow::String;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const u64 source = string_offset(c, kRsi), destination = string_offset(c, kRdi), step = string_step<T>(c);
    const T value = load_string_source<T>(c, source);
    c.template store<T>(string_destination(c, destination, sizeof(T), AccessType::Write), value);
    set_string_offset(c, kRsi, source + step);
    set_string_offset(c, kRdi, destination + step);
  }
  template <class C>
  VELLUM_INLINE static u64 bulk(C& c, u64 count) {
    using T = typename C::template Type<0>;
    const u64 source = string_offset(c, kRsi), destination = string_offset(c, kRdi);
    u64 source_bytes = 0, destination_bytes = 0;
    u8* to = c.bulk_host(destination, AccessType::Write, destination_bytes);
    const u8* from = c.bulk_host(source, AccessType::Read, source_bytes);
    count = std::min(count, std::min(source_bytes, destination_bytes) / sizeof(T));
    if (count == 0 || (c.state().rflags & kDf)) {
      op(c);
      return 1;
    }
    const u64 bytes = count * sizeof(T);
    if (static_cast<u64>(to - from) >= bytes) {  // not ahead of the source within it: as if all were read first
      copy_ascending(to, from, bytes);
    } else {
      for (u64 i = 0; i < bytes; i += sizeof(T)) {
        T value;
        std::memcpy(&value, from + i, sizeof(T));
        std::memcpy(to + i, &value, sizeof(T));
      }
    }
    set_string_offset(c, kRsi, source + bytes);
    set_string_offset(c, kRdi, destination + bytes);
    return count;
  }
};

struct StoreString {
  static constexpr Flow kFlow = Flow::String;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const u64 destination = string_offset(c, kRdi);
    c.template store<T>(string_destination(c, destination, sizeof(T), AccessType::Write), c.template gpr<T>(kRax));
    set_string_offset(c, kRdi, destination + string_step<T>(c));
  }
  template <class C>
  VELLUM_INLINE static u64 bulk(C& c, u64 count) {
    using T = typename C::template Type<0>;
    const u64 destination = string_offset(c, kRdi);
    u64 available = 0;
    u8* to = c.bulk_host(destination, AccessType::Write, available);
    count = std::min(count, available / sizeof(T));
    if (count == 0 || (c.state().rflags & kDf)) {
      op(c);
      return 1;
    }
    const T value = c.template gpr<T>(kRax);
    for (u64 i = 0; i < count; ++i) std::memcpy(to + i * sizeof(T), &value, sizeof(T));
    set_string_offset(c, kRdi, destination + count * sizeof(T));
    return count;
  }
};

struct LoadString {
  static constexpr Flow kFlow = Flow::String;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<1>;
    const u64 source = string_offset(c, kRsi);
    const T value = load_string_source<T>(c, source);
    set_string_offset(c, kRsi, source + string_step<T>(c));
    c.template set_gpr<T>(kRax, value);
  }
};

// With REP and a count of 0 the flags stay.
struct CompareString {
  static constexpr FlagEffect kFlags = kMayWriteArithmetic;
  static constexpr Flow kFlow = Flow::String;
  static constexpr bool kCompares = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<0>;
    const u64 source = string_offset(c, kRsi), destination = string_offset(c, kRdi), step = string_step<T>(c);
    const T a = load_string_source<T>(c, source);
    const T b = c.template load<T>(string_destination(c, destination, sizeof(T), AccessType::Read));
    set_string_offset(c, kRsi, source + step);
    set_string_offset(c, kRdi, destination + step);
    c.set_difference_flags(a, b);
  }
};

struct ScanString {
  static constexpr FlagEffect kFlags = kMayWriteArithmetic;
  static constexpr Flow kFlow = Flow::String;
  static constexpr bool kCompares = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using T = typename C::template Type<1>;
    const u64 destination = string_offset(c, kRdi);
    const T a = c.template gpr<T>(kRax);
    const T b = c.template load<T>(string_destination(c, destination, sizeof(T), AccessType::Read));
    set_string_offset(c, kRdi, destination + string_step<T>(c));
    c.set_difference_flags(a, b);
  }
};

}  // namespace vellum::semantics
