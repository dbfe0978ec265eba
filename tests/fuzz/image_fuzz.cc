// Fuzz target: a file of these bytes is opened as an image, read and written through the overlay.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "storage/image.h"

using namespace vellum;

namespace {

// One file in memory for all runs.
const std::string& file_path() {
  static const std::string path = [] {
    const int descriptor = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    if (descriptor < 0) abort();
    return "/proc/self/fd/" + std::to_string(descriptor);
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  const std::string& path = file_path();
  const int descriptor = open(path.c_str(), O_WRONLY | O_TRUNC);
  if (descriptor < 0 || write(descriptor, data, size) != static_cast<ssize_t>(size)) abort();
  close(descriptor);

  auto image = open_image({.path = path, .snapshot = true});
  if (!image) {
    // One line that names the file.
    const std::string& message = image.error().message;
    if (message.find('\n') != std::string::npos || message.find(path) == std::string::npos) abort();
    return 0;
  }
  const u64 bytes = (*image)->size();
  if (bytes % kSectorSize != 0 || bytes < size || bytes - size >= kSectorSize) abort();
  std::vector<u8> all(bytes), sector(kSectorSize, 0xa5);
  if (!(*image)->read(0, all) || !std::equal(data, data + size, all.begin())) abort();
  const u64 last = bytes - kSectorSize;
  if (!(*image)->write(last, sector) || !(*image)->read(last, all = std::vector<u8>(kSectorSize)) || all != sector)
    abort();
  return 0;
}
