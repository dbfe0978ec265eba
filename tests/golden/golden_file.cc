// Reading, writing and comparing files of counts.
#include "golden_file.h"

#include <fmt/format.h>

#include <fstream>

#include "cpu/opcodes.h"

namespace vellum::golden {

namespace {

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string key_of(const std::string& line) { return line.substr(0, line.find("):") + 1); }

bool is_comment(const std::string& line) { return line.starts_with('#'); }

}  // namespace

std::string made_by(std::string_view program) {
  return fmt::format("# Made by {} with clang {}.{}.{}: \"meson compile -C build golden\" writes it anew.", program, __clang_major__,
                     __clang_minor__, __clang_patchlevel__);
}

std::string RowNames::next(u16 row) {
  std::string name = describe_row(opcode_rows()[row]);
  if (const unsigned count = ++m_seen[name]; count > 1) name.insert(name.size() - 1, fmt::format("; {}", count));
  return name;
}

int judge(int argc, char** argv, const std::function<std::vector<std::string>()>& make_lines) {
  const bool write = argc == 3 && std::string_view(argv[1]) == "--write";
  if (argc != 2 && !write) {
    fmt::print(stderr, "usage: {} [--write] FILE\n", argv[0]);
    return 2;
  }
  const std::string path = argv[argc - 1];
  const auto before = read_lines(path);
  const auto now = make_lines();
  if (write) {
    std::ofstream file(path);
    for (const auto& line : now) file << line << "\n";
    return file.good() ? 0 : 1;
  }
  if (before.empty() || before[0] != now[0]) {
    fmt::print("{}: made with another compiler ({}); nothing to compare\n", path, before.empty() ? "none" : before[0]);
    return kSkipped;
  }
  std::map<std::string, std::string> old_lines;
  for (const auto& line : before)
    if (!is_comment(line)) old_lines[key_of(line)] = line;
  unsigned different = 0;
  for (const auto& line : now) {
    if (is_comment(line)) continue;
    const auto found = old_lines.find(key_of(line));
    if (found != old_lines.end() && found->second == line) {
      old_lines.erase(found);
      continue;
    }
    ++different;
    if (found != old_lines.end()) {
      fmt::print("- {}\n", found->second);
      old_lines.erase(found);
    }
    fmt::print("+ {}\n", line);
  }
  for (const auto& [key, line] : old_lines) {
    ++different;
    fmt::print("- {}\n", line);
  }
  if (!different) return 0;
  fmt::print("{} lines differ from {}. If they are meant to: meson compile -C build golden, look at the difference, and commit it.\n", different, path);
  return 1;
}

}  // namespace vellum::golden
