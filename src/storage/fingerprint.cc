// Fingerprints of media.
#include "storage/fingerprint.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <vector>

namespace vellum {

namespace {

constexpr u64 kReadWhole = u64{64} << 20;  // takes a tenth of a second
constexpr u64 kPieceSize = u64{1} << 20, kSampleSize = 4096, kSamples = 4096;

// FNV-1a over words of eight bytes (Fowler, Noll, Vo), with the high half folded in, since it multiplies upwards only.
u64 mix(u64 hash, std::span<const u8> data) {
  for (usize i = 0; i < data.size(); i += 8) {
    u64 word = 0;
    std::copy_n(data.data() + i, std::min<usize>(8, data.size() - i), reinterpret_cast<u8*>(&word));
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

Result<std::string> medium_fingerprint(BlockDevice& medium) {
  const u64 size = medium.size();
  const bool whole = size <= kReadWhole;
  const u64 step = whole ? kPieceSize : size / kSamples / kSectorSize * kSectorSize;
  std::vector<u8> piece(whole ? kPieceSize : kSampleSize);
  u64 hash = 0xcbf29ce484222325;
  for (u64 at = 0; at < size; at += step) {
    const std::span<u8> part(piece.data(), std::min<u64>(piece.size(), size - at));
    if (auto done = medium.read(at, part); !done) return std::unexpected(done.error());
    hash = mix(hash, part);
  }
  std::string text = fmt::format("size={} checksum={:016x}", size, hash);
  struct stat status;
  if (!whole && stat(medium.path().c_str(), &status) == 0 && S_ISREG(status.st_mode))
    text += fmt::format(" mtime={}", static_cast<u64>(status.st_mtim.tv_sec) * 1'000'000'000 + static_cast<u64>(status.st_mtim.tv_nsec));
  return text;
}

}  // namespace vellum
