// A copy-on-write overlay: writes are kept aside and forgotten at the end, the image below is never written.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

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

  bool keeps_history() const override { return true; }
  std::shared_ptr<const Contents> save_contents() override;
  void load_contents(const std::shared_ptr<const Contents>& contents) override;

  u64 clusters_used() const { return m_clusters.size(); }
  u64 file_clusters() const { return m_next_place; }

 private:
  Overlay(std::unique_ptr<BlockDevice> base, int descriptor) : m_base(std::move(base)), m_descriptor(descriptor) {}
  std::unique_ptr<BlockDevice> m_base;
  int m_descriptor;
  // Where a cluster of the medium is in the temporary file, in clusters. Those of an older generation belong to saved contents,
  // too, and are not written to any more.
  struct Place {
    u64 number;
    u32 generation;
  };
  using Clusters = std::unordered_map<u64, Place>;
  struct Saved : Contents {
    explicit Saved(Clusters saved) : clusters(std::move(saved)) {}
    Clusters clusters;
  };
  u64 free_place();
  void collect_free_places();
  Clusters m_clusters;  // by the cluster's number on the medium
  u32 m_generation = 0;
  u64 m_next_place = 0;  // behind all that were ever in use
  std::vector<u64> m_free_places;
  u64 m_collect_at = 0;  // the next place at which it is worth looking for ones that nobody uses any more
  std::vector<std::weak_ptr<const Saved>> m_saved;
};

}  // namespace vellum
