// The comparisons of SSE4.2's string instructions, SDM Vol. 2B 4.1.
#include "cpu/string_compare.h"

#include <array>
#include <bit>

namespace vellum {

namespace {

// imm8, SDM Vol. 2B 4.1.1 to 4.1.6.
constexpr u8 kWords = 1, kSigned = 2, kAggregationShift = 2, kNegative = 0x10, kMaskedNegative = 0x20, kMostSignificant = 0x40,
             kExpandMask = 0x40;

constexpr unsigned element_count(u8 control) { return control & kWords ? 8 : 16; }

std::array<i32, 16> elements(V128 v, u8 control) {
  std::array<i32, 16> result{};
  const auto bytes = std::bit_cast<std::array<u8, 16>>(v);
  const auto words = std::bit_cast<std::array<u16, 8>>(v);
  for (unsigned i = 0; i < element_count(control); ++i) {
    if (control & kWords) result[i] = control & kSigned ? static_cast<i16>(words[i]) : words[i];
    else result[i] = control & kSigned ? static_cast<i8>(bytes[i]) : bytes[i];
  }
  return result;
}

unsigned saturated(i64 length, u8 control) {
  const u64 magnitude = length < 0 ? -static_cast<u64>(length) : static_cast<u64>(length);
  return magnitude > element_count(control) ? element_count(control) : static_cast<unsigned>(magnitude);
}

unsigned length_to_zero(const std::array<i32, 16>& lanes, u8 control) {
  unsigned length = 0;
  while (length < element_count(control) && lanes[length] != 0) ++length;
  return length;
}

StringComparison compare(const std::array<i32, 16>& first, unsigned first_length, const std::array<i32, 16>& second,
                         unsigned second_length, u8 control) {
  const unsigned count = element_count(control);
  u32 result = 0;
  switch ((control >> kAggregationShift) & 3) {
    case 0:  // equal any: the first operand is a set of characters
      for (unsigned j = 0; j < second_length; ++j)
        for (unsigned i = 0; i < first_length; ++i) result |= static_cast<u32>(first[i] == second[j]) << j;
      break;
    case 1:  // ranges: pairs of lower and upper bound; a bound past the end makes its pair fail
      for (unsigned j = 0; j < second_length; ++j)
        for (unsigned i = 0; i + 1 < first_length; i += 2)
          result |= static_cast<u32>(second[j] >= first[i] && second[j] <= first[i + 1]) << j;
      break;
    case 2:  // equal each: elements past both ends are equal
      for (unsigned j = 0; j < count; ++j) {
        const bool first_valid = j < first_length, second_valid = j < second_length;
        const bool equal = first_valid && second_valid ? first[j] == second[j] : first_valid == second_valid;
        result |= static_cast<u32>(equal) << j;
      }
      break;
    case 3:  // equal ordered: the first operand is a substring, which may go on behind the second one's last element
      for (unsigned j = 0; j < count; ++j) {
        bool match = true;
        for (unsigned i = 0; i < count - j && i < first_length; ++i)
          match = match && i + j < second_length && first[i] == second[i + j];
        result |= static_cast<u32>(match) << j;
      }
      break;
  }
  if (control & kNegative) result ^= control & kMaskedNegative ? (1u << second_length) - 1 : (1u << count) - 1;
  return {static_cast<u16>(result), (result ? kCf : 0u) | (second_length < count ? kZf : 0u) |
                                        (first_length < count ? kSf : 0u) | (result & 1 ? kOf : 0u)};
}

}  // namespace

StringComparison compare_strings_explicit(V128 first, V128 second, i64 first_length, i64 second_length, u8 control) {
  return compare(elements(first, control), saturated(first_length, control), elements(second, control),
                 saturated(second_length, control), control);
}

StringComparison compare_strings_implicit(V128 first, V128 second, u8 control) {
  const auto a = elements(first, control), b = elements(second, control);
  return compare(a, length_to_zero(a, control), b, length_to_zero(b, control), control);
}

u32 string_comparison_index(StringComparison comparison, u8 control) {
  if (!comparison.result) return element_count(control);
  return static_cast<u32>(control & kMostSignificant ? 31 - std::countl_zero(u32{comparison.result})
                                                     : std::countr_zero(u32{comparison.result}));
}

V128 string_comparison_mask(StringComparison comparison, u8 control) {
  if (!(control & kExpandMask)) return V128{comparison.result, 0};
  std::array<u8, 16> bytes{};
  for (unsigned i = 0; i < 16; ++i)
    if (comparison.result >> (control & kWords ? i / 2 : i) & 1) bytes[i] = 0xff;
  return std::bit_cast<V128>(bytes);
}

}  // namespace vellum
