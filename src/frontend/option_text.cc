// Parsing of option values.
#include "frontend/option_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "state/nearest.h"

namespace vellum {

std::string suggestion(std::string_view word, std::span<const std::string_view> valid) {
  const auto near = nearest_name(word, valid);
  if (!near.empty()) return fmt::format("; did you mean '{}'?", near);
  return valid.size() <= 12 ? fmt::format("; valid: {}", fmt::join(valid, ", ")) : std::string();
}

Result<usize> parse_choice(std::string_view what, std::string_view word, std::span<const std::string_view> valid) {
  const auto found = std::ranges::find(valid, word);
  if (found == valid.end()) return failure(fmt::format("{}: unknown value '{}'{}", what, word, suggestion(word, valid)));
  return static_cast<usize>(found - valid.begin());
}

Result<u64> parse_number(std::string_view what, std::string_view text, u64 limit) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const auto digits = hexadecimal ? text.substr(2) : text;
  u64 value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size())
    return failure(fmt::format("{}: '{}' is no number", what, text));
  if (value > limit) return failure(fmt::format("{}: {} is too large; the greatest value is {}", what, text, limit));
  return value;
}

Result<u64> parse_size(std::string_view what, std::string_view text, unsigned default_shift) {
  const auto bad = [&] {
    return failure(fmt::format("{}: '{}' is no size; write a number with an optional suffix K, M, G or T, as in 512M", what, text));
  };
  std::string_view digits = text;
  unsigned shift = default_shift;
  if (!digits.empty() && !(digits.back() >= '0' && digits.back() <= '9') && !digits.starts_with("0x")) {
    switch (digits.back()) {
      case 'B':
      case 'b': shift = 0; break;
      case 'K':
      case 'k': shift = 10; break;
      case 'M':
      case 'm': shift = 20; break;
      case 'G':
      case 'g': shift = 30; break;
      case 'T':
      case 't': shift = 40; break;
      default: return bad();
    }
    digits.remove_suffix(1);
  }
  if (digits.empty()) return bad();
  if (digits.find('.') != digits.npos) {
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed);
    if (error != std::errc{} || end != digits.data() + digits.size() || !(value >= 0) || value > 0x1p40) return bad();
    const double bytes = std::ldexp(value, static_cast<int>(shift));
    if (bytes >= 0x1p63) return bad();
    return static_cast<u64>(bytes);
  }
  const bool hexadecimal = digits.starts_with("0x");
  if (hexadecimal) digits.remove_prefix(2);
  u64 value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || (value << shift) >> shift != value)
    return bad();
  return value << shift;
}

Result<bool> parse_switch(std::string_view what, std::string_view text) {
  static constexpr std::string_view kValid[] = {"on", "off", "yes", "no", "true", "false"};
  const auto chosen = parse_choice(what, text, kValid);
  if (!chosen) return std::unexpected(chosen.error());
  return *chosen % 2 == 0;
}

Result<KeyedValues> KeyedValues::parse(std::string_view option, std::string_view text, std::string_view implied_key,
                                       std::span<const std::string_view> keys) {
  KeyedValues result;
  result.m_option = option;
  const auto known = [&](std::string_view key) { return std::ranges::find(keys, key) != keys.end(); };
  bool first = true;
  while (!text.empty()) {
    std::string item;
    bool escaped_comma_before_equals = false;
    while (!text.empty()) {
      if (text.starts_with(",,")) {
        if (item.find('=') == item.npos) escaped_comma_before_equals = true;
        item += ',';
        text.remove_prefix(2);
      } else if (text.front() == ',') {
        break;
      } else {
        item += text.front();
        text.remove_prefix(1);
      }
    }
    if (!text.empty()) text.remove_prefix(1);
    const auto equals = item.find('=');
    Item parsed;
    // The implied first value may itself hold "=" (a file name): it is a key only when it is a known one.
    const bool is_value = first && !implied_key.empty() &&
                          (equals == item.npos || escaped_comma_before_equals || item.substr(0, equals).find('/') != item.npos);
    if (is_value) {
      parsed = {std::string(implied_key), item, false};
    } else if (equals != item.npos) {
      parsed = {item.substr(0, equals), item.substr(equals + 1), false};
    } else if (known(item)) {
      parsed = {item, "on", true};
    } else if (item.starts_with("no") && known(item.substr(2))) {
      parsed = {item.substr(2), "off", true};
    } else {
      parsed = {item, "on", true};
    }
    if (!known(parsed.key)) return failure(fmt::format("{}: unknown key '{}'{}", option, parsed.key, suggestion(parsed.key, keys)));
    result.m_items.push_back(std::move(parsed));
    first = false;
  }
  return result;
}

const std::string* KeyedValues::find(std::string_view key) const {
  for (usize i = m_items.size(); i-- > 0;)
    if (m_items[i].key == key) return &m_items[i].value;
  return nullptr;
}

std::string KeyedValues::text(std::string_view key, std::string_view otherwise) const {
  const std::string* value = find(key);
  return value ? *value : std::string(otherwise);
}

Result<bool> KeyedValues::flag(std::string_view key, bool otherwise) const {
  const std::string* value = find(key);
  if (!value) return otherwise;
  return parse_switch(fmt::format("{}: {}", m_option, key), *value);
}

}  // namespace vellum
