// Reading ELF headers, System V ABI chapters 4 and 5, by the names of <elf.h>.
#include "debug/elf_file.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace vellum {

namespace {

// A table's n-th entry, or zeroes behind its end.
template <class T>
T entry_of(std::span<const u8> table, u64 offset) {
  T value{};
  if (offset <= table.size() && table.size() - offset >= sizeof(T)) std::memcpy(&value, table.data() + offset, sizeof(T));
  return value;
}

std::string_view text_at(std::span<const u8> strings, u64 offset) {
  if (offset >= strings.size()) return {};
  const auto* start = reinterpret_cast<const char*>(strings.data() + offset);
  return {start, strnlen(start, strings.size() - offset)};
}

}  // namespace

bool ElfFile::is_elf(std::span<const u8> content) {
  return content.size() > EI_DATA && std::memcmp(content.data(), ELFMAG, SELFMAG) == 0;
}

std::span<const u8> ElfFile::part(u64 offset, u64 size) const {
  if (offset > m_content.size() || size > m_content.size() - offset) return {};
  return m_content.subspan(offset, size);
}

template <bool Is64>
void ElfFile::read_tables() {
  using Header = std::conditional_t<Is64, Elf64_Ehdr, Elf32_Ehdr>;
  using Program = std::conditional_t<Is64, Elf64_Phdr, Elf32_Phdr>;
  using Section = std::conditional_t<Is64, Elf64_Shdr, Elf32_Shdr>;
  using ElfSymbol = std::conditional_t<Is64, Elf64_Sym, Elf32_Sym>;
  const auto header = entry_of<Header>(m_content, 0);
  m_entry = header.e_entry;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const auto program = entry_of<Program>(m_content, header.e_phoff + u64{i} * sizeof(Program));
    if (program.p_type == PT_LOAD) m_segments.push_back({program.p_vaddr, program.p_offset, program.p_filesz});
  }
  std::vector<Section> sections;
  for (unsigned i = 0; i < header.e_shnum; ++i) sections.push_back(entry_of<Section>(m_content, header.e_shoff + u64{i} * sizeof(Section)));
  // A relocatable object has sections only, all at address 0: the place in the file is as good an address as any.
  const bool relocatable = header.e_type == ET_REL;
  if (relocatable) m_segments.push_back({0, 0, m_content.size()});
  for (const Section& section : sections) {
    if (section.sh_type != SHT_SYMTAB && section.sh_type != SHT_DYNSYM) continue;
    const auto table = part(section.sh_offset, section.sh_size);
    const auto strings = section.sh_link < sections.size() ? part(sections[section.sh_link].sh_offset, sections[section.sh_link].sh_size) : std::span<const u8>();
    for (u64 at = 0; at + sizeof(ElfSymbol) <= table.size(); at += sizeof(ElfSymbol)) {
      const auto symbol = entry_of<ElfSymbol>(table, at);
      const auto name = text_at(strings, symbol.st_name);
      if (name.empty() || symbol.st_shndx == SHN_UNDEF || (symbol.st_shndx >= sections.size() && symbol.st_shndx != SHN_ABS)) continue;
      if (const unsigned type = symbol.st_info & 15; type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE && type != STT_GNU_IFUNC) continue;
      const u64 base = relocatable && symbol.st_shndx != SHN_ABS ? sections[symbol.st_shndx].sh_offset : 0;
      m_symbols.push_back({name, {base + symbol.st_value, symbol.st_size}});
    }
  }
}

Result<ElfFile> ElfFile::parse(const std::string& name, std::span<const u8> content) {
  ElfFile file(content);
  if (content.size() < sizeof(Elf32_Ehdr)) return failure(fmt::format("{}: the ELF file is truncated", name));
  if (content[EI_DATA] != ELFDATA2LSB) return failure(fmt::format("{}: the ELF file is big-endian, so it holds no x86 code", name));
  const u16 machine = entry_of<Elf32_Ehdr>(content, 0).e_machine;  // at the same place in both classes
  if (machine != EM_386 && machine != EM_X86_64)
    return failure(fmt::format("{}: the ELF file is for machine {}, not for x86; to take its bytes as they are, give -offset and -mode", name, machine));
  file.m_bits = machine == EM_386 ? 32 : 64;
  if (content[EI_CLASS] == ELFCLASS64) file.read_tables<true>();
  else file.read_tables<false>();
  return file;
}

std::optional<ElfFile::Symbol> ElfFile::symbol(std::string_view name) const {
  const auto found = std::ranges::find(m_symbols, name, &NamedSymbol::name);
  return found == m_symbols.end() ? std::nullopt : std::optional(found->symbol);
}

std::vector<std::string_view> ElfFile::symbol_names() const {
  std::vector<std::string_view> names;
  for (const auto& symbol : m_symbols) names.push_back(symbol.name);
  return names;
}

std::span<const u8> ElfFile::bytes_at(u64 address) const {
  for (const Segment& segment : m_segments)
    if (address - segment.address < segment.size) {
      const u64 inside = address - segment.address;
      const auto all = part(segment.offset, segment.size);
      return inside < all.size() ? all.subspan(inside) : std::span<const u8>();
    }
  return {};
}

}  // namespace vellum
