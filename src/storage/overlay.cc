// The copy-on-write overlay behind -snapshot and snapshot=on.
#include "storage/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "state/assert.h"

namespace vellum {

namespace {

// Clusters: 64 MiB of the temporary file.
constexpr u64 kLeastToCollect = 1024;

bool read_fully(int descriptor, u64 offset, std::span<u8> data) {
  while (!data.empty()) {
    const ssize_t got = pread(descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) return false;
    offset += static_cast<u64>(got);
    data = data.subspan(static_cast<usize>(got));
  }
  return true;
}

bool write_fully(int descriptor, u64 offset, std::span<const u8> data) {
  while (!data.empty()) {
    const ssize_t put = pwrite(descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) return false;
    offset += static_cast<u64>(put);
    data = data.subspan(static_cast<usize>(put));
  }
  return true;
}

// /var/tmp rather than /tmp, which often lies in memory.
int open_temporary(std::string& directory) {
  const char* chosen = getenv("TMPDIR");
  directory = chosen && *chosen ? chosen : "/var/tmp";
  const int unnamed = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
  if (unnamed >= 0) return unnamed;
  // The file system may not know O_TMPFILE.
  std::string name = directory + "/vellum-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

}  // namespace

Result<std::unique_ptr<Overlay>> Overlay::create(std::unique_ptr<BlockDevice> base) {
  std::string directory;
  const int descriptor = open_temporary(directory);
  if (descriptor < 0)
    return failure(fmt::format("cannot create the temporary overlay of '{}' in {}: {} (set TMPDIR to a writable "
                               "directory)",
                               base->path(), directory, strerror(errno)));
  return std::unique_ptr<Overlay>(new Overlay(std::move(base), descriptor));
}

Overlay::~Overlay() { close(m_descriptor); }

Result<void> Overlay::read(u64 offset, std::span<u8> data) {
  VELLUM_ASSERT(offset <= size() && data.size() <= size() - offset);
  while (!data.empty()) {
    const u64 within = offset % kClusterSize;
    const auto part = data.first(std::min<u64>(data.size(), kClusterSize - within));
    const auto found = m_clusters.find(offset / kClusterSize);
    if (found == m_clusters.end()) {
      if (auto done = m_base->read(offset, part); !done) return done;
    } else if (!read_fully(m_descriptor, found->second.number * kClusterSize + within, part)) {
      return failure(fmt::format("cannot read the temporary overlay of '{}': {}", path(), strerror(errno)));
    }
    offset += part.size();
    data = data.subspan(part.size());
  }
  return {};
}

std::shared_ptr<const BlockDevice::Contents> Overlay::save_contents() {
  // Clusters that have not changed since are in use twice from now on.
  ++m_generation;
  auto saved = std::make_shared<const Saved>(m_clusters);
  std::erase_if(m_saved, [](const auto& other) { return other.expired(); });
  m_saved.push_back(saved);
  if (m_collect_at == 0) m_collect_at = m_next_place + kLeastToCollect;
  return saved;
}

void Overlay::load_contents(const std::shared_ptr<const Contents>& contents) {
  m_clusters = static_cast<const Saved&>(*contents).clusters;
  ++m_generation;
}

u64 Overlay::free_place() {
  if (m_free_places.empty() && m_collect_at != 0 && m_next_place >= m_collect_at) collect_free_places();
  if (m_free_places.empty()) return m_next_place++;
  const u64 place = m_free_places.back();
  m_free_places.pop_back();
  return place;
}

void Overlay::collect_free_places() {
  std::vector<bool> used(m_next_place);
  const auto mark = [&](const Clusters& clusters) {
    for (const auto& [number, place] : clusters) used[place.number] = true;
  };
  mark(m_clusters);
  for (const auto& saved : m_saved)
    if (const auto contents = saved.lock()) mark(contents->clusters);
  for (u64 place = 0; place < m_next_place; ++place)
    if (!used[place]) m_free_places.push_back(place);
  m_collect_at = m_next_place + std::max(kLeastToCollect, m_next_place / 4);
}

Result<void> Overlay::write(u64 offset, std::span<const u8> data) {
  VELLUM_ASSERT(offset <= size() && data.size() <= size() - offset);
  std::vector<u8> cluster;
  while (!data.empty()) {
    const u64 number = offset / kClusterSize, within = offset % kClusterSize;
    const auto part = data.first(std::min<u64>(data.size(), kClusterSize - within));
    const auto found = m_clusters.find(number);
    bool written;
    if (found != m_clusters.end() && found->second.generation == m_generation) {
      written = write_fully(m_descriptor, found->second.number * kClusterSize + within, part);
    } else {
      // The first write to a cluster copies the rest of what it was; the map learns of it when all of it is there.
      cluster.assign(kClusterSize, 0);
      const u64 start = number * kClusterSize;
      if (part.size() < kClusterSize) {
        const std::span<u8> below(cluster.data(), std::min(kClusterSize, size() - start));
        if (auto done = read(start, below); !done) return done;
      }
      std::ranges::copy(part, cluster.begin() + static_cast<std::ptrdiff_t>(within));
      const u64 place = free_place();
      written = write_fully(m_descriptor, place * kClusterSize, cluster);
      if (written) m_clusters[number] = {place, m_generation};
      else m_free_places.push_back(place);
    }
    if (!written)
      return failure(fmt::format("cannot write the temporary overlay of '{}': {}", path(), strerror(errno)));
    offset += part.size();
    data = data.subspan(part.size());
  }
  return {};
}

}  // namespace vellum
