// A file that goes with the test.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace vellum::test {

struct TemporaryFile {
  TemporaryFile() {
    char name[] = "/tmp/vellum-test-XXXXXX";
    close(mkstemp(name));
    path = name;
  }
  ~TemporaryFile() { unlink(path.c_str()); }
  std::vector<char> contents() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void set(const std::vector<char>& bytes) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  std::string path;
};

}  // namespace vellum::test
