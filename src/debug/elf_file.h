// ELF files as far as finding code in them goes: segments, the entry point, symbols.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

class ElfFile {
 public:
  static bool is_elf(std::span<const u8> content);
  // `name` is for messages. The content must outlive the object. Offsets in the file are checked whenever they are used.
  static Result<ElfFile> parse(const std::string& name, std::span<const u8> content);

  unsigned bits() const { return m_bits; }  // 32 or 64
  u64 entry() const { return m_entry; }
  struct Symbol {
    u64 address = 0;
    u64 size = 0;  // bytes, 0: not known
  };
  std::optional<Symbol> symbol(std::string_view name) const;
  std::vector<std::string_view> symbol_names() const;
  template <class Function>
  void for_each_symbol(Function function) const {
    for (const NamedSymbol& symbol : m_symbols) function(symbol.name, symbol.symbol);
  }
  // The file's bytes at an address up to the end of what is loaded there; empty when nothing is.
  std::span<const u8> bytes_at(u64 address) const;

 private:
  explicit ElfFile(std::span<const u8> content) : m_content(content) {}
  // A part of the file; empty when it does not lie within it.
  std::span<const u8> part(u64 offset, u64 size) const;
  struct Segment {
    u64 address, offset, size;
  };
  struct NamedSymbol {
    std::string_view name;
    Symbol symbol;
  };
  template <bool Is64>
  void read_tables();

  std::span<const u8> m_content;
  unsigned m_bits = 64;
  u64 m_entry = 0;
  std::vector<Segment> m_segments;
  std::vector<NamedSymbol> m_symbols;
};

}  // namespace vellum
