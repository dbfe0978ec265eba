// A medium in host memory: what tests and generated media use.
#pragma once

#include <string>
#include <vector>

#include "storage/block_device.h"

namespace vellum {

class MemoryDisk : public BlockDevice {
 public:
  // Padded with zeroes to a multiple of 512 bytes.
  explicit MemoryDisk(std::vector<u8> data, bool read_only = false, std::string path = "memory");

  u64 size() const override { return m_data.size(); }
  bool read_only() const override { return m_read_only; }
  Result<void> read(u64 offset, std::span<u8> data) override;
  Result<void> write(u64 offset, std::span<const u8> data) override;
  Result<void> flush() override;
  const std::string& path() const override { return m_path; }

  std::vector<u8>& data() { return m_data; }
  unsigned flushes() const { return m_flushes; }

 private:
  std::vector<u8> m_data;
  bool m_read_only;
  std::string m_path;
  unsigned m_flushes = 0;
};

}  // namespace vellum
