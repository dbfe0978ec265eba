// Names of the guest's addresses, from ELF files and System.map.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

class Symbols {
 public:
  // Adds the symbols of a file: ELF with a symbol table, or lines of address, type and name as in System.map.
  Result<void> load(const std::string& path);
  void add(std::string name, u64 address, u64 size = 0);
  bool empty() const { return m_by_name.empty(); }
  usize count() const { return m_by_name.size(); }

  std::optional<u64> address(std::string_view name) const;
  // "name" or "name+0x12"; empty when nothing is near enough.
  std::string describe(u64 address) const;
  // Exactly there; empty: none.
  std::string_view name_at(u64 address) const;
  // Up to `most` names with this beginning, for completion.
  std::vector<std::string> with_prefix(std::string_view prefix, usize most) const;

 private:
  struct Place {
    std::string name;
    u64 size;  // bytes; 0: up to the next one
  };
  std::map<std::string, u64, std::less<>> m_by_name;
  std::multimap<u64, Place> m_by_address;
};

}  // namespace vellum
