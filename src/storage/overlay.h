// A copy-on-write overlay: writes are kept aside and forgotten at the end, the image below is never written.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "storage/block_device.h"

namespace vellum {

// Written clusters live in an unlinked temporary file (in $TMPDIR or /var/tmp), so that a guest that writes much does
// not use up the host's memory.
class Overlay : public BlockDevice {
 public:
  static constexpr u64 kClusterSize = 64 * 1024;

  // `base` should be open read-only.
  static Result<std::unique_ptr<Overlay>> create(std::unique_ptr<BlockDevice> base);
  ~Overlay() override;
  Overlay(const Overlay&) = delete;

  u64 size() const override { return m_base->size(); }
  bool read_only() const override { return false; }
  Result<void> read(u64 offset, std::span<u8> data) override;
  Result<void> write(u64 offset, std::span<const u8> data) override;
  Result<void> flush() override { return {}; }  // nothing of it is meant to survive
  const std::string& path() const override { return m_base->path(); }

  u64 clusters_used() const { return m_clusters.size(); }

 private:
  Overlay(std::unique_ptr<BlockDevice> base, int descriptor) : m_base(std::move(base)), m_descriptor(descriptor) {}
  std::unique_ptr<BlockDevice> m_base;
  int m_descriptor;
  std::unordered_map<u64, u64> m_clusters;  // cluster number of the medium -> cluster number of the temporary file
};

}  // namespace vellum
