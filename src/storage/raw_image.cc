// Raw images on regular files and block devices.
#include "storage/raw_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "state/assert.h"

namespace vellum {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : m_value(value) {}
  ~Descriptor() {
    if (m_value >= 0) close(m_value);
  }
  Descriptor(const Descriptor&) = delete;
  int get() const { return m_value; }
  int release() { return std::exchange(m_value, -1); }

 private:
  int m_value;
};

std::string reason(int error) { return strerror(error); }

}  // namespace

Result<std::unique_ptr<RawImage>> RawImage::open(const std::string& path, bool read_only) {
  if (path.empty()) return failure("cannot open an image without a file name");
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    const int error = errno;
    if (error == ENOENT) return failure(fmt::format("cannot open image '{}': no such file", path));
    return failure(fmt::format("cannot open image '{}': {}", path, reason(error)));
  }
  // Looked at before open(2), which would wait for a writer on a FIFO.
  if (S_ISDIR(status.st_mode)) return failure(fmt::format("cannot open image '{}': it is a directory", path));
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    return failure(fmt::format("cannot open image '{}': it is neither a regular file nor a block device", path));

  Descriptor descriptor(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (descriptor.get() < 0) {
    const int error = errno;
    if (!read_only && (error == EACCES || error == EROFS || error == EPERM) && access(path.c_str(), R_OK) == 0)
      return failure(fmt::format("cannot open image '{}' for writing: {} (use readonly=on or snapshot=on)", path,
                                 reason(error)));
    return failure(fmt::format("cannot open image '{}': {}", path, reason(error)));
  }

  u64 size = 0;
  if (fstat(descriptor.get(), &status) != 0)
    return failure(fmt::format("cannot open image '{}': {}", path, reason(errno)));
  if (S_ISBLK(status.st_mode)) {
    if (ioctl(descriptor.get(), BLKGETSIZE64, &size) != 0)
      return failure(fmt::format("cannot read the size of block device '{}': {}", path, reason(errno)));
  } else if (S_ISREG(status.st_mode)) {
    size = static_cast<u64>(status.st_size);
  } else {
    return failure(fmt::format("cannot open image '{}': it is neither a regular file nor a block device", path));
  }
  if (size == 0) return failure(fmt::format("cannot use image '{}': it is empty", path));

  if (flock(descriptor.get(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return failure(fmt::format("cannot use image '{}': another program has it locked (is it already in use? "
                               "readonly=on and snapshot=on share an image)",
                               path));
  // A file system that knows no locks (ENOLCK, EINVAL on some network mounts) is no reason to refuse the image.
  return std::unique_ptr<RawImage>(new RawImage(descriptor.release(), size, read_only, path));
}

RawImage::RawImage(int descriptor, u64 file_size, bool read_only, std::string path)
    : m_descriptor(descriptor),
      m_file_size(file_size),
      m_size((file_size + kSectorSize - 1) / kSectorSize * kSectorSize),
      m_read_only(read_only),
      m_path(std::move(path)) {}

RawImage::~RawImage() { close(m_descriptor); }

Result<void> RawImage::read(u64 offset, std::span<u8> data) {
  VELLUM_ASSERT(offset <= m_size && data.size() <= m_size - offset);
  while (!data.empty()) {
    const ssize_t got = pread(m_descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(fmt::format("cannot read image '{}' at byte {}: {}", m_path, offset, reason(errno)));
    if (got == 0) {
      // Behind the end: the padding of the last sector reads as zeroes; anything more means that the file was cut.
      if (offset < m_file_size)
        return failure(fmt::format("cannot read image '{}' at byte {}: the file was shortened", m_path, offset));
      std::memset(data.data(), 0, data.size());
      return {};
    }
    offset += static_cast<u64>(got);
    data = data.subspan(static_cast<usize>(got));
  }
  return {};
}

Result<void> RawImage::write(u64 offset, std::span<const u8> data) {
  VELLUM_ASSERT(offset <= m_size && data.size() <= m_size - offset);
  if (m_read_only) return failure(fmt::format("cannot write image '{}': it is open read-only", m_path));
  const u64 end = offset + data.size();
  while (!data.empty()) {
    const ssize_t put = pwrite(m_descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0)
      return failure(fmt::format("cannot write image '{}' at byte {}: {}", m_path, offset, reason(put ? errno : EIO)));
    offset += static_cast<u64>(put);
    data = data.subspan(static_cast<usize>(put));
  }
  m_file_size = std::max(m_file_size, end);
  return {};
}

Result<void> RawImage::flush() {
  if (m_read_only) return {};
  if (fdatasync(m_descriptor) != 0 && errno != EINVAL)
    return failure(fmt::format("cannot flush image '{}': {}", m_path, reason(errno)));
  return {};
}

}  // namespace vellum
