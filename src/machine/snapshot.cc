// The snapshot file's format, written in one pass and read in two: check, then load.
#include "machine/snapshot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "state/log.h"

namespace vellum {

namespace {

constexpr char kMagic[8] = {'V', 'E', 'L', 'L', 'U', 'M', '\x1a', '\n'};
constexpr u32 kVersion = 2;
constexpr u64 kLongestState = 256u << 20;  // uncompressed; no device comes near
constexpr usize kPagesPerSection = 256;
constexpr std::string_view kConfigurationSection = "configuration";
constexpr std::string_view kRamSection = "ram";
constexpr std::string_view kEndSection = "end";
constexpr std::string_view kStatePrefix = "state/";  // of the names of the parts' sections

struct FileHeader {
  char magic[8];
  u32 version;
  u32 checksum;  // of the bytes before it
};
static_assert(sizeof(FileHeader) == 16);

struct SectionHeader {
  char name[40];  // padded with zeroes
  u64 stored_size;
  u64 size;           // uncompressed
  u32 data_checksum;  // of the stored bytes
  u32 checksum;       // of the bytes before it
};
static_assert(sizeof(SectionHeader) == 64);

// The payload of "end": a file cut off between two sections is told from a complete one.
struct EndRecord {
  u64 sections;
  u64 bytes;
};

u32 checksum_of(const void* data, usize size) {
  return static_cast<u32>(crc32_z(0, static_cast<const Bytef*>(data), size));
}

// ---- Writing

class SnapshotWriter {
 public:
  SnapshotWriter(int file) : m_file(file) {}

  Result<void> header() {
    FileHeader header{};
    std::memcpy(header.magic, kMagic, sizeof(kMagic));
    header.version = kVersion;
    header.checksum = checksum_of(&header, offsetof(FileHeader, checksum));
    return put(&header, sizeof(header));
  }

  Result<void> section(std::string_view name, std::span<const u8> data) {
    uLongf stored_size = compressBound(data.size());
    m_stored.resize(stored_size);
    // Level 1: a snapshot is mostly RAM, and the disk is slower than this level but not than the next ones.
    if (compress2(m_stored.data(), &stored_size, data.data(), data.size(), 1) != Z_OK)
      return failure("cannot compress the machine's state: out of memory");
    SectionHeader header{};
    std::memcpy(header.name, name.data(), std::min(name.size(), sizeof(header.name) - 1));
    header.stored_size = stored_size;
    header.size = data.size();
    header.data_checksum = checksum_of(m_stored.data(), stored_size);
    header.checksum = checksum_of(&header, offsetof(SectionHeader, checksum));
    if (auto done = put(&header, sizeof(header)); !done) return done;
    ++m_sections;
    return put(m_stored.data(), stored_size);
  }

  Result<void> end() {
    const EndRecord record{m_sections, m_bytes};
    return section(kEndSection, {reinterpret_cast<const u8*>(&record), sizeof(record)});
  }

 private:
  Result<void> put(const void* data, usize size) {
    const auto* from = static_cast<const u8*>(data);
    m_bytes += size;
    while (size > 0) {
      const ssize_t written = write(m_file, from, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return failure(fmt::format("cannot write: {}", std::strerror(errno)));
      from += written;
      size -= static_cast<usize>(written);
    }
    return {};
  }

  int m_file;
  u64 m_sections = 0;
  u64 m_bytes = 0;
  std::vector<u8> m_stored;
};

Result<void> write_pages(SnapshotWriter& writer, const GuestRam& ram) {
  std::vector<u64> offsets;
  Result<void> result;
  const auto flush = [&] {
    if (offsets.empty() || !result) return;
    std::vector<u8> data(8 + offsets.size() * (8 + kPageSize));
    const u64 count = offsets.size();
    std::memcpy(data.data(), &count, 8);
    std::memcpy(data.data() + 8, offsets.data(), count * 8);
    for (usize i = 0; i < count; ++i) std::memcpy(data.data() + 8 + count * 8 + i * kPageSize, ram.host(offsets[i]), kPageSize);
    result = writer.section(kRamSection, data);
    offsets.clear();
  };
  for_each_used_page(ram, [&](u64 offset) {
    offsets.push_back(offset);
    if (offsets.size() == kPagesPerSection) flush();
  });
  flush();
  return result;
}

Result<void> write_machine(Machine& machine, int file) {
  SnapshotWriter writer(file);
  if (auto done = writer.header(); !done) return done;
  const std::string configuration = machine.configuration();
  if (auto done = writer.section(kConfigurationSection, {reinterpret_cast<const u8*>(configuration.data()), configuration.size()});
      !done)
    return done;
  for (auto& part : machine.state_parts()) {
    ArchiveWriter archive;
    part.visit(archive);
    if (auto done = writer.section(fmt::format("{}{}", kStatePrefix, part.name), archive.data()); !done) return done;
  }
  if (auto done = write_pages(writer, machine.ram()); !done) return done;
  if (auto done = writer.end(); !done) return done;
  if (fsync(file) != 0) return failure(fmt::format("cannot write: {}", std::strerror(errno)));
  return {};
}

// ---- Reading

class SnapshotReader {
 public:
  explicit SnapshotReader(int file) : m_file(file) {}
  ~SnapshotReader() { close(m_file); }
  SnapshotReader(const SnapshotReader&) = delete;

  Result<void> header() {
    m_bytes = 0;
    m_sections = 0;
    if (lseek(m_file, 0, SEEK_SET) != 0) return failure(fmt::format("cannot read: {}", std::strerror(errno)));
    FileHeader header;
    auto got = take(&header, sizeof(header));
    if (!got) return std::unexpected(got.error());
    if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) return failure("this is no Vellum snapshot");
    if (header.checksum != checksum_of(&header, offsetof(FileHeader, checksum))) return failure("the file is damaged (header)");
    if (header.version != kVersion)
      return failure(fmt::format("the file has format version {}, this program reads version {}", header.version, kVersion));
    return {};
  }

  // Reads and checks the next section; its contents are then in data().
  Result<std::string> section() {
    const u64 bytes_before = m_bytes;
    SectionHeader header;
    if (auto got = take(&header, sizeof(header)); !got) return std::unexpected(got.error());
    if (header.checksum != checksum_of(&header, offsetof(SectionHeader, checksum)) || header.name[sizeof(header.name) - 1])
      return failure("the file is damaged (a section's header)");
    const std::string name = header.name;
    if (header.size > kLongestState || header.stored_size > compressBound(header.size))
      return failure(fmt::format("the file is damaged (section {} has an impossible size)", name));
    m_stored.resize(header.stored_size);
    if (auto got = take(m_stored.data(), m_stored.size()); !got) return std::unexpected(got.error());
    if (header.data_checksum != checksum_of(m_stored.data(), m_stored.size()))
      return failure(fmt::format("the file is damaged (section {}: wrong checksum)", name));
    m_data.resize(header.size);
    uLongf size = m_data.size();
    if (uncompress(m_data.data(), &size, m_stored.data(), m_stored.size()) != Z_OK || size != m_data.size())
      return failure(fmt::format("the file is damaged (section {} does not unpack)", name));
    if (name == kEndSection) {
      EndRecord record;
      if (m_data.size() != sizeof(record)) return failure("the file is damaged (end record)");
      std::memcpy(&record, m_data.data(), sizeof(record));
      u8 more;
      if (record.sections != m_sections || record.bytes != bytes_before || read(m_file, &more, 1) != 0)
        return failure("the file is damaged (its end does not match its contents)");
    }
    ++m_sections;
    return name;
  }
  std::vector<u8>& data() { return m_data; }

  // The pages of a "ram" section: numbers must rise over the whole file and lie within RAM.
  struct Pages {
    std::span<const u8> offsets;  // 8 bytes each
    const u8* contents;
    usize count;
    u64 offset(usize i) const {
      u64 value;
      std::memcpy(&value, offsets.data() + 8 * i, 8);
      return value;
    }
  };
  Result<Pages> pages(u64 ram_size, u64& lowest_allowed) {
    u64 count = 0;
    if (m_data.size() >= 8) std::memcpy(&count, m_data.data(), 8);
    if (count == 0 || count > kPagesPerSection || m_data.size() != 8 + count * (8 + kPageSize))
      return failure("the file is damaged (a section of memory pages)");
    Pages pages{std::span<const u8>(m_data).subspan(8, count * 8), m_data.data() + 8 + count * 8, count};
    for (usize i = 0; i < count; ++i) {
      const u64 offset = pages.offset(i);
      if (offset < lowest_allowed || offset >= ram_size || (offset & kPageMask))
        return failure("the file is damaged (a memory page out of place)");
      lowest_allowed = offset + kPageSize;
    }
    return pages;
  }

 private:
  Result<void> take(void* data, usize size) {
    auto* to = static_cast<u8*>(data);
    m_bytes += size;
    while (size > 0) {
      const ssize_t got = read(m_file, to, size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failure(fmt::format("cannot read: {}", std::strerror(errno)));
      if (got == 0) return failure("the file ends early");
      to += got;
      size -= static_cast<usize>(got);
    }
    return {};
  }

  int m_file;
  u64 m_sections = 0;
  u64 m_bytes = 0;
  std::vector<u8> m_stored, m_data;
};

using States = Machine::States;

// The first line of `theirs` that `ours` has not, for the message.
std::string difference(std::string_view ours, std::string_view theirs) {
  while (!theirs.empty()) {
    const auto our_line = ours.substr(0, ours.find('\n'));
    const auto their_line = theirs.substr(0, theirs.find('\n'));
    if (our_line != their_line) return fmt::format("it has {}, this machine has {}", their_line, our_line);
    ours.remove_prefix(std::min(our_line.size() + 1, ours.size()));
    theirs.remove_prefix(std::min(their_line.size() + 1, theirs.size()));
  }
  return "they differ";
}

// Reads the whole file and collects what is no RAM.
Result<States> check(SnapshotReader& reader, Machine& machine) {
  if (auto got = reader.header(); !got) return std::unexpected(got.error());
  States states;
  u64 lowest_allowed = 0;
  bool first = true;
  while (true) {
    auto name = reader.section();
    if (!name) return std::unexpected(name.error());
    if (first != (*name == kConfigurationSection)) return failure("the file is damaged (order of its sections)");
    if (first) {
      const std::string theirs(reader.data().begin(), reader.data().end());
      if (theirs != machine.configuration())
        return failure(fmt::format("the snapshot belongs to another machine: {}", difference(machine.configuration(), theirs)));
      first = false;
    } else if (*name == kEndSection) {
      return states;
    } else if (*name == kRamSection) {
      if (auto pages = reader.pages(machine.ram().size(), lowest_allowed); !pages) return std::unexpected(pages.error());
    } else if (!name->starts_with(kStatePrefix)) {
      return failure(fmt::format("the file is damaged (unknown section {})", *name));
    } else if (!states.emplace(name->substr(kStatePrefix.size()), reader.data()).second) {
      return failure(fmt::format("the file is damaged (section {} stands there twice)", *name));
    }
  }
}

Result<void> load_pages(SnapshotReader& reader, GuestRam& ram) {
  if (auto got = reader.header(); !got) return std::unexpected(got.error());
  ram.discard(0, ram.size());
  u64 lowest_allowed = 0;
  while (true) {
    auto name = reader.section();
    if (!name) return std::unexpected(name.error());
    if (*name == kEndSection) return {};
    if (*name != kRamSection) continue;
    auto pages = reader.pages(ram.size(), lowest_allowed);
    if (!pages) return std::unexpected(pages.error());
    for (usize i = 0; i < pages->count; ++i)
      std::memcpy(ram.host(pages->offset(i)), pages->contents + i * kPageSize, kPageSize);
  }
}

Error about(const std::string& path, const Error& error) { return {fmt::format("{}: {}", path, error.message)}; }

}  // namespace

Result<void> save_snapshot(Machine& machine, const std::string& path) {
  // Disks are no part of the file, so they must be as the guest left them when the file is complete.
  if (auto flushed = machine.board().flush_disks(); !flushed) return flushed;
  std::string temporary = path + ".XXXXXX";
  const int file = mkostemp(temporary.data(), O_CLOEXEC);
  if (file < 0) return failure(fmt::format("{}: cannot create the snapshot: {}", path, std::strerror(errno)));
  auto done = write_machine(machine, file);
  close(file);
  if (done && rename(temporary.c_str(), path.c_str()) != 0) done = failure(fmt::format("cannot replace: {}", std::strerror(errno)));
  if (!done) {
    unlink(temporary.c_str());
    return std::unexpected(about(path, done.error()));
  }
  return {};
}

Result<void> load_snapshot(Machine& machine, const std::string& path) {
  if (!machine.inputs().can_restart())
    return failure(fmt::format("{}: a run that is recorded or replayed goes from its start to its end, and no other state fits in between", path));
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return failure(fmt::format("{}: cannot open the snapshot: {}", path, std::strerror(errno)));
  SnapshotReader reader(file);
  struct stat status;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return failure(fmt::format("{}: not a regular file", path));
  auto states = check(reader, machine);
  if (!states) return std::unexpected(about(path, states.error()));

  const States before = machine.save_state();
  if (auto loaded = machine.load_state(*states); !loaded) {
    if (auto restored = machine.load_state(before); !restored)
      log(LogItem::Unsupported, "the machine's state before loadvm could not be put back: {}", restored.error().message);
    return std::unexpected(about(path, loaded.error()));
  }
  machine.inputs().restart();
  auto loaded = load_pages(reader, machine.ram());
  machine.memory().contents_replaced();
  if (!loaded) {
    // Only a file that was changed while it was being read gets here: its pages had been checked.
    machine.request_reset();
    return failure(fmt::format("{}: {} while its memory was being loaded; the machine is reset", path, loaded.error().message));
  }
  return {};
}

}  // namespace vellum
