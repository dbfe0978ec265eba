// A medium in host memory.
#include "storage/memory_disk.h"

#include <algorithm>

#include "state/assert.h"

namespace vellum {

MemoryDisk::MemoryDisk(std::vector<u8> data, bool read_only, std::string path)
    : m_data(std::move(data)), m_read_only(read_only), m_path(std::move(path)) {
  m_data.resize((m_data.size() + kSectorSize - 1) / kSectorSize * kSectorSize);
}

Result<void> MemoryDisk::read(u64 offset, std::span<u8> data) {
  VELLUM_ASSERT(offset <= m_data.size() && data.size() <= m_data.size() - offset);
  std::ranges::copy_n(m_data.begin() + static_cast<std::ptrdiff_t>(offset), static_cast<std::ptrdiff_t>(data.size()),
                      data.begin());
  return {};
}

Result<void> MemoryDisk::write(u64 offset, std::span<const u8> data) {
  VELLUM_ASSERT(offset <= m_data.size() && data.size() <= m_data.size() - offset);
  if (m_read_only) return failure(m_path + ": read-only");
  std::ranges::copy(data, m_data.begin() + static_cast<std::ptrdiff_t>(offset));
  return {};
}

Result<void> MemoryDisk::flush() {
  ++m_flushes;
  return {};
}

}  // namespace vellum
