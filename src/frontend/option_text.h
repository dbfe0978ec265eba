// Pieces of option values: "key=value,key=value" lists, sizes, numbers, and messages about what was mistyped.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// "; did you mean 'NEAREST'?" or "; valid: a, b, c" when nothing is near and the list is short.
std::string suggestion(std::string_view word, std::span<const std::string_view> valid);

// One of a fixed list of words. `what` names the option in the error: "-clock".
Result<usize> parse_choice(std::string_view what, std::string_view word, std::span<const std::string_view> valid);

// A size in bytes: decimal or 0x number, with an optional fraction and suffix B, K, M, G or T (`default_shift` applies
// without one: 20 for MiB).
Result<u64> parse_size(std::string_view what, std::string_view text, unsigned default_shift);
// A decimal or 0x number no greater than `limit`.
Result<u64> parse_number(std::string_view what, std::string_view text, u64 limit);
// on, off, yes, no, true, false.
Result<bool> parse_switch(std::string_view what, std::string_view text);

// A comma-separated list of key=value; ",," stands for a comma within a value. A first item without "=" gets
// `implied_key` (when that is not empty), a later one is a switch that is on ("server"), or off when it begins with "no"
// and the rest is a key ("nowait").
class KeyedValues {
 public:
  struct Item {
    std::string key, value;
    bool bare = false;  // there was no "=": a switch
  };
  static Result<KeyedValues> parse(std::string_view option, std::string_view text, std::string_view implied_key,
                                   std::span<const std::string_view> keys);
  const std::vector<Item>& items() const { return m_items; }
  // The last value given for the key.
  const std::string* find(std::string_view key) const;
  std::string text(std::string_view key, std::string_view otherwise = "") const;
  Result<bool> flag(std::string_view key, bool otherwise) const;

 private:
  std::string m_option;
  std::vector<Item> m_items;
};

}  // namespace vellum
