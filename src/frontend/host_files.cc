// Reading of host files.
#include "frontend/host_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vellum {

Result<std::vector<u8>> read_whole_file(std::string_view option, const std::string& path, u64 limit) {
  const auto error = [&](std::string_view text) { return failure(fmt::format("{} {}: {}", option, path, text)); };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return error(fmt::format("cannot open the file: {}", std::strerror(errno)));
  struct Closer {
    int file;
    ~Closer() { close(file); }
  } closer{file};
  struct stat status;
  if (fstat(file, &status) != 0) return error(fmt::format("cannot read the file: {}", std::strerror(errno)));
  if (S_ISDIR(status.st_mode)) return error("this is a directory, not a file");
  if (!S_ISREG(status.st_mode)) return error("this is no regular file");
  const u64 size = static_cast<u64>(status.st_size);
  if (size == 0) return error("the file is empty");
  if (size > limit) return error(fmt::format("the file has {} bytes; at most {} fit", size, limit));
  std::vector<u8> data(size);
  for (u64 done = 0; done < size;) {
    const ssize_t got = read(file, data.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error(fmt::format("cannot read the file: {}", std::strerror(errno)));
    if (got == 0) return error("the file became shorter while it was read");
    done += static_cast<u64>(got);
  }
  return data;
}

Result<std::string> find_firmware(std::string_view option, const std::string& name, std::span<const std::string> directories) {
  static constexpr const char* kDirectories[] = {"/usr/share/seabios", "/usr/share/ovmf", "/usr/share/OVMF", "/usr/share/qemu", "/usr/lib/ipxe/qemu"};
  const auto exists = [](const std::string& path) { return access(path.c_str(), F_OK) == 0; };
  if (exists(name)) return name;
  if (name.find('/') == name.npos) {
    for (const auto& directory : directories)
      if (exists(directory + "/" + name)) return directory + "/" + name;
    for (const auto* directory : kDirectories)
      if (exists(fmt::format("{}/{}", directory, name))) return fmt::format("{}/{}", directory, name);
  }
  return failure(fmt::format("{} {}: no such firmware file; install Debian's packages seabios, ovmf and ipxe-qemu, or name its directory by -L", option, name));
}

}  // namespace vellum
