// A file without a name for fuzz targets: what the code under test opens by its path.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <span>
#include <string>

#include "state/integers.h"

namespace vellum::test {

class MemoryFile {
 public:
  MemoryFile() : m_descriptor(open("/dev/shm", O_TMPFILE | O_RDWR, 0600)), m_path("/proc/self/fd/" + std::to_string(m_descriptor)) {
    if (m_descriptor < 0) std::abort();
  }
  ~MemoryFile() { close(m_descriptor); }
  MemoryFile(const MemoryFile&) = delete;
  const std::string& path() const { return m_path; }
  void set(std::span<const u8> bytes) {
    if (ftruncate(m_descriptor, 0) != 0 || pwrite(m_descriptor, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  }

 private:
  int m_descriptor;
  std::string m_path;
};

}  // namespace vellum::test
