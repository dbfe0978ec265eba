// AVX and AVX2 instructions without an SSE counterpart: broadcasts, masked moves, halves of YMM, gathers, SDM Vol. 1 5.13
// and 5.15. The others are VEX-encoded rows over the semantics of SSE.
#pragma once

#include "cpu/semantics/crypto.h"
#include "cpu/semantics/sse.h"

namespace vellum::semantics {

struct BroadcastLane {  // VBROADCASTSS, VPBROADCASTB, VBROADCASTF128 …: the source's width is the lane's
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr usize kSize = kOperandSize<C, 0>;
    const auto lane = c.template read<1>();
    if constexpr (sizeof(lane) == 16) c.template write<0>(repeat_lane<kSize>(lane));
    else c.template write<0>(raw(splat<typename C::template Type<1>, kSize>(lane)));
  }
};

struct InsertHalf {  // VINSERTF128, VINSERTI128
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 half = c.template read<2>();
    const V256 whole = c.template read<1>();
    if constexpr (halves_by_hole<C>()) c.template write<0>(insert_by_hole(whole, half));
    else c.template write<0>(c.immediate() & 1 ? concatenate(low_half(whole), half) : concatenate(half, high_half(whole)));
  }
};
struct ExtractHalf {  // VEXTRACTF128, VEXTRACTI128
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V256 whole = c.template read<1>();
    if constexpr (halves_by_hole<C>()) c.template write<0>(extract_by_hole(whole));
    else c.template write<0>(c.immediate() & 1 ? high_half(whole) : low_half(whole));
  }
};

// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ: lanes whose mask lane, in operand 1, is negative; no others are accessed.
template <class T>
struct MaskedVectorLoad {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Vector = typename C::template Type<0>;
    const Vector mask = raw(as<std::make_signed_t<T>>(c.template read<1>()) < 0);
    const u64 offset = c.effective_offset();
    u64 bytes;
    const u8* host = c.bulk_host(offset, AccessType::Read, bytes);
    if (bytes >= sizeof(Vector)) {
      Vector value;
      std::memcpy(&value, host, sizeof(value));
      c.template write<0>(value & mask);
      return;
    }
    const auto chosen = to_array<T>(mask);
    std::array<T, sizeof(Vector) / sizeof(T)> lanes{};
    for (usize i = 0; i < lanes.size(); ++i)
      if (chosen[i])
        lanes[i] = c.template load<T>(c.linear(c.wrap_offset(offset + i * sizeof(T)), sizeof(T), AccessType::Read));
    c.template write<0>(from_array(lanes));
  }
};
template <class T>
struct MaskedVectorStore {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Vector = typename C::template Type<0>;
    const auto chosen = to_array<std::make_signed_t<T>>(c.template read<1>());
    const auto lanes = to_array<T>(c.template read<2>());
    const u64 offset = c.effective_offset();
    u64 bytes;
    u8* host = c.bulk_host(offset, AccessType::Write, bytes);
    if (bytes >= sizeof(Vector)) {
      for (usize i = 0; i < lanes.size(); ++i)
        if (chosen[i] < 0) std::memcpy(host + i * sizeof(T), &lanes[i], sizeof(T));
      return;
    }
    // All faults come before the first store.
    const auto address = [&](usize i) { return c.linear(c.wrap_offset(offset + i * sizeof(T)), sizeof(T), AccessType::Write); };
    for (usize i = 0; i < lanes.size(); ++i)
      if (chosen[i] < 0) c.probe_write(address(i), sizeof(T));
    for (usize i = 0; i < lanes.size(); ++i)
      if (chosen[i] < 0) c.template store<T>(address(i), lanes[i]);
  }
};

// VPGATHERDD, VGATHERQPD …: operand 2 is the mask, operand 3 the indices. Lanes that are done leave the mask, so that after
// a fault the instruction goes on where it was, SDM Vol. 2C "VGATHERDPS".
template <class Index, class T>
struct Gather {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Vector = typename C::template Type<0>;
    const auto indices = to_array<std::make_signed_t<Index>>(c.template read<3>());
    const auto mask = to_array<std::make_signed_t<T>>(c.template read<2>());
    constexpr usize kLanes = sizeof(Vector) / sizeof(T), kCount = kLanes < indices.size() ? kLanes : indices.size();
    const u64 base = c.effective_offset();
    const u64 destination = c.template operand<0>(), mask_offset = c.template operand<2>();
    for (usize i = 0; i < kCount; ++i) {
      if (mask[i] < 0) {
        const u64 offset = c.wrap_offset(base + (static_cast<u64>(static_cast<i64>(indices[i])) << c.scale()));
        c.template write_raw<T>(destination + i * sizeof(T),
                                c.template load<T>(c.linear(offset, sizeof(T), AccessType::Read)));
      }
      c.template write_raw<T>(mask_offset + i * sizeof(T), T{0});
    }
    // Lanes without an index become zero, like all of the mask.
    auto result = to_array<T>(c.template read<0>());
    for (usize i = kCount; i < kLanes; ++i) result[i] = 0;
    c.template write<0>(from_array(result));
    c.write_vector(mask_offset, Vector{});
  }
};

// VZEROUPPER, VZEROALL: 64-bit mode has sixteen registers, others touch eight only. SDM Vol. 2C "VZEROALL".
template <usize First>
struct ZeroVectors {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const unsigned count = c.code64() ? 16 : 8;
    for (unsigned i = 0; i < count; ++i) {
      const u64 offset = offsetof(CpuState, vector) + i * sizeof(VectorRegister);
      for (usize byte = First; byte < kVectorBytes; byte += 16) c.template write_raw<V128>(offset + byte, V128{});
    }
  }
};

}  // namespace vellum::semantics
