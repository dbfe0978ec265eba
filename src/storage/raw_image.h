// A raw image: the bytes of a regular file or block device are the bytes of the medium.
#pragma once

#include <memory>
#include <string>

#include "storage/block_device.h"

namespace vellum {

class RawImage : public BlockDevice {
 public:
  // Opens `path` and takes an advisory lock on it (flock(2): shared when `read_only`, else exclusive), so that two
  // programs do not write one image. The lock goes with the object.
  static Result<std::unique_ptr<RawImage>> open(const std::string& path, bool read_only);
  ~RawImage() override;
  RawImage(const RawImage&) = delete;

  u64 size() const override { return m_size; }
  bool read_only() const override { return m_read_only; }
  Result<void> read(u64 offset, std::span<u8> data) override;
  Result<void> write(u64 offset, std::span<const u8> data) override;
  Result<void> flush() override;
  const std::string& path() const override { return m_path; }

 private:
  RawImage(int descriptor, u64 file_size, bool read_only, std::string path);
  int m_descriptor;
  u64 m_file_size;  // bytes really there; the last sector may be padded behind it
  u64 m_size;
  bool m_read_only;
  std::string m_path;
};

}  // namespace vellum
