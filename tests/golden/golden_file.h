// A file of counts in the tree, one line for each opcode row, and its comparison with what they are now.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "state/integers.h"

namespace vellum::golden {

inline constexpr int kSkipped = 77;  // for meson

// The file's first line: who wrote it, with which compiler. Counts of another compiler are not compared.
std::string made_by(std::string_view program);

// Rows by what describe_row() says of them; those that it says the same of are numbered.
class RowNames {
 public:
  std::string next(u16 row);

 private:
  std::map<std::string, unsigned> m_seen;
};

// main(): "FILE" compares and prints the lines that differ, "--write FILE" writes it anew. What stands before "):" is a line's
// key; lines that begin with # are comments.
int judge(int argc, char** argv, const std::function<std::vector<std::string>()>& make_lines);

}  // namespace vellum::golden
