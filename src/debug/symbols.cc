// Loading and looking up; a file that is damaged is refused, whatever is in it.
#include "debug/symbols.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "debug/elf_file.h"

namespace vellum {

namespace {

constexpr u64 kLargestFile = u64{2} << 30;
// Where a symbol has no size, it is not taken to reach farther than this.
constexpr u64 kFarthest = 1 << 20;

Result<std::vector<u8>> read_file(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return failure(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  struct stat status {};
  fstat(descriptor, &status);
  if (!S_ISREG(status.st_mode) || static_cast<u64>(status.st_size) > kLargestFile) {
    close(descriptor);
    return failure(fmt::format("{} is no file of at most {} GiB", path, kLargestFile >> 30));
  }
  std::vector<u8> content(static_cast<usize>(status.st_size));
  usize done = 0;
  while (done < content.size()) {
    const ssize_t count = read(descriptor, content.data() + done, content.size() - done);
    if (count <= 0) break;
    done += static_cast<usize>(count);
  }
  close(descriptor);
  content.resize(done);
  return content;
}

}  // namespace

void Symbols::add(std::string name, u64 address, u64 size) {
  if (!m_by_name.emplace(name, address).second) return;  // the first of local names that several files share
  m_by_address.emplace(address, Place{std::move(name), size});
}

Result<void> Symbols::load(const std::string& path) {
  const auto content = read_file(path);
  if (!content) return std::unexpected(content.error());
  const usize before = count();
  if (ElfFile::is_elf(*content)) {
    const auto elf = ElfFile::parse(path, *content);
    if (!elf) return std::unexpected(elf.error());
    elf->for_each_symbol([&](std::string_view name, const ElfFile::Symbol& symbol) {
      if (!name.empty() && symbol.address) add(std::string(name), symbol.address, symbol.size);
    });
  } else {
    std::string_view text(reinterpret_cast<const char*>(content->data()), content->size());
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      u64 address = 0;
      const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), address, 16);
      const std::string_view rest(end, static_cast<usize>(line.data() + line.size() - end));
      if (error != std::errc() || rest.size() < 4 || rest[0] != ' ' || rest[2] != ' ') continue;
      const std::string_view name = rest.substr(3);
      // Modules' lines of /proc/kallsyms have the module behind the name.
      if (address) add(std::string(name.substr(0, name.find_first_of(" \t\r"))), address);
    }
  }
  if (count() == before) return failure(fmt::format("{} names no addresses; use an ELF file with a symbol table, a System.map, or a copy of /proc/kallsyms", path));
  return {};
}

std::optional<u64> Symbols::address(std::string_view name) const {
  const auto found = m_by_name.find(name);
  return found == m_by_name.end() ? std::nullopt : std::optional(found->second);
}

std::string_view Symbols::name_at(u64 address) const {
  const auto found = m_by_address.find(address);
  return found == m_by_address.end() ? std::string_view() : std::string_view(found->second.name);
}

std::string Symbols::describe(u64 address) const {
  auto found = m_by_address.upper_bound(address);
  if (found == m_by_address.begin()) return {};
  --found;
  const u64 distance = address - found->first;
  if (distance >= (found->second.size ? found->second.size : kFarthest) && distance != 0) return {};
  return distance ? fmt::format("{}+{:#x}", found->second.name, distance) : found->second.name;
}

std::vector<std::string> Symbols::with_prefix(std::string_view prefix, usize most) const {
  std::vector<std::string> names;
  for (auto at = m_by_name.lower_bound(prefix); at != m_by_name.end() && at->first.starts_with(prefix) && names.size() < most; ++at) names.push_back(at->first);
  return names;
}

}  // namespace vellum
