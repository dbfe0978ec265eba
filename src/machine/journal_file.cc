// Blocks of a journal: a header with checksums, then what zlib made of the contents.
#include "machine/journal_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "machine/machine_clock.h"

namespace vellum {

namespace {

constexpr char kMagic[8] = {'V', 'E', 'L', 'L', 'U', 'M', 'J', '\n'};
constexpr u32 kVersion = 2;  // 2: InputEvent::Kind::Waited
constexpr usize kBlockSize = 64 * 1024;          // of events, before compression
constexpr u32 kGreatestBlock = 1u << 20;
constexpr usize kGreatestJournal = usize{1} << 30;  // of events: days of a busy guest
constexpr u64 kWriteInterval = 1'000'000'000;    // nanoseconds: what a kill may lose

struct FileHeader {
  char magic[8];
  u32 version;
  u32 checksum;  // of the bytes before it
};
static_assert(sizeof(FileHeader) == 16);

struct BlockHeader {
  u32 stored_size;
  u32 size;           // uncompressed
  u32 data_checksum;  // of the stored bytes
  u32 checksum;       // of the bytes before it
};
static_assert(sizeof(BlockHeader) == 16);

u32 checksum_of(const void* data, usize size) { return static_cast<u32>(crc32_z(0, static_cast<const Bytef*>(data), size)); }

}  // namespace

Result<std::unique_ptr<JournalFile>> JournalFile::create(const std::string& path, const std::string& header) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
  if (descriptor < 0) return failure(fmt::format("{}: cannot create the recording: {}", path, std::strerror(errno)));
  auto file = std::unique_ptr<JournalFile>(new JournalFile(descriptor, path));
  FileHeader start{};
  std::memcpy(start.magic, kMagic, sizeof(kMagic));
  start.version = kVersion;
  start.checksum = checksum_of(&start, offsetof(FileHeader, checksum));
  file->put(&start, sizeof(start));
  file->m_block.assign(header.begin(), header.end());
  file->write_block();
  if (file->m_error) return failure(*file->m_error);
  return file;
}

JournalFile::~JournalFile() { close(); }

void JournalFile::append(std::span<const u8> events) {
  m_block.insert(m_block.end(), events.begin(), events.end());
  if (m_block.size() >= kBlockSize || host_nanoseconds() - m_last_write >= kWriteInterval) write_block();
}

std::optional<std::string> JournalFile::close() {
  if (m_descriptor < 0) return m_error;
  if (!m_block.empty()) write_block();
  if (::close(m_descriptor) != 0 && !m_error) m_error = fmt::format("{}: cannot write the recording: {}", m_path, std::strerror(errno));
  m_descriptor = -1;
  return m_error;
}

void JournalFile::write_block() {
  // Pieces, since one append may be longer than a block may be.
  for (usize start = 0; start == 0 || start < m_block.size(); start += kGreatestBlock) {
    const auto piece = std::span(m_block).subspan(start, std::min<usize>(kGreatestBlock, m_block.size() - start));
    std::vector<u8> stored(compressBound(piece.size()));
    uLongf stored_size = stored.size();
    if (compress2(stored.data(), &stored_size, piece.data(), piece.size(), Z_DEFAULT_COMPRESSION) != Z_OK) {
      if (!m_error) m_error = fmt::format("{}: cannot compress the recording: out of memory", m_path);
      break;
    }
    BlockHeader header{static_cast<u32>(stored_size), static_cast<u32>(piece.size()), checksum_of(stored.data(), stored_size), 0};
    header.checksum = checksum_of(&header, offsetof(BlockHeader, checksum));
    put(&header, sizeof(header));
    put(stored.data(), stored_size);
  }
  m_block.clear();
  m_last_write = host_nanoseconds();
}

void JournalFile::put(const void* data, usize size) {
  const auto* from = static_cast<const u8*>(data);
  while (size > 0 && !m_error) {
    const ssize_t written = write(m_descriptor, from, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      m_error = fmt::format("{}: cannot write the recording: {}; it ends {} bytes into the file", m_path, std::strerror(errno), m_written);
      return;
    }
    from += written;
    size -= static_cast<usize>(written);
    m_written += static_cast<u64>(written);
  }
}

namespace {

// Reads the file front to back.
class JournalReader {
 public:
  explicit JournalReader(int descriptor) : m_descriptor(descriptor) {}
  ~JournalReader() { ::close(m_descriptor); }
  JournalReader(const JournalReader&) = delete;

  // How much of `size` bytes there still was.
  Result<usize> take(void* data, usize size) {
    auto* to = static_cast<u8*>(data);
    usize done = 0;
    while (done < size) {
      const ssize_t got = read(m_descriptor, to + done, size - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failure(fmt::format("cannot read: {}", std::strerror(errno)));
      if (got == 0) break;
      done += static_cast<usize>(got);
    }
    m_position += done;
    return done;
  }

  enum class Block : u8 { Complete, CutOff, NoMore };
  // The next block's contents go behind `contents`.
  Result<Block> block(std::vector<u8>& contents) {
    const u64 start = m_position;
    BlockHeader header;
    auto got = take(&header, sizeof(header));
    if (!got) return std::unexpected(got.error());
    if (*got == 0) return Block::NoMore;
    if (*got < sizeof(header)) return Block::CutOff;
    const auto damaged = [&](std::string_view why) { return failure(fmt::format("the file is damaged (the block at byte {} {})", start, why)); };
    if (header.checksum != checksum_of(&header, offsetof(BlockHeader, checksum))) return damaged("has a wrong header");
    if (header.size > kGreatestBlock || header.stored_size > compressBound(header.size)) return damaged("has an impossible size");
    std::vector<u8> stored(header.stored_size);
    got = take(stored.data(), stored.size());
    if (!got) return std::unexpected(got.error());
    if (*got < stored.size()) return Block::CutOff;
    if (header.data_checksum != checksum_of(stored.data(), stored.size())) return damaged("has a wrong checksum");
    if (contents.size() + header.size > kGreatestJournal) return failure("the recording is longer than this program can play (1 GiB of events)");
    const usize before = contents.size();
    contents.resize(before + header.size);
    uLongf size = header.size;
    if (uncompress(contents.data() + before, &size, stored.data(), stored.size()) != Z_OK || size != header.size) return damaged("does not unpack");
    return Block::Complete;
  }

 private:
  int m_descriptor;
  u64 m_position = 0;
};

Result<JournalContents> read_all(JournalReader& reader) {
  FileHeader start{};
  const auto got = reader.take(&start, sizeof(start));
  if (!got) return std::unexpected(got.error());
  if (*got < sizeof(start) || std::memcmp(start.magic, kMagic, sizeof(kMagic)) != 0) return failure("this is no recording of Vellum");
  if (start.checksum != checksum_of(&start, offsetof(FileHeader, checksum))) return failure("the file is damaged (header)");
  if (start.version != kVersion)
    return failure(fmt::format("the recording has format version {}, this program plays version {}; play it with the version that made it",
                               start.version, kVersion));
  std::vector<u8> header;
  const auto first = reader.block(header);
  if (!first) return std::unexpected(first.error());
  if (*first != JournalReader::Block::Complete) return failure("the file ends within the description of its machine; nothing was recorded");
  JournalContents contents;
  contents.header.assign(header.begin(), header.end());
  while (true) {
    const auto block = reader.block(contents.events);
    if (!block) return std::unexpected(block.error());
    if (*block == JournalReader::Block::Complete) continue;
    contents.cut_off = *block == JournalReader::Block::CutOff;
    return contents;
  }
}

}  // namespace

Result<JournalContents> read_journal(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (descriptor < 0) return failure(fmt::format("{}: cannot open the recording: {}", path, std::strerror(errno)));
  JournalReader reader(descriptor);
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return failure(fmt::format("{}: not a regular file", path));
  auto contents = read_all(reader);
  if (!contents) return failure(fmt::format("{}: {}", path, contents.error().message));
  return contents;
}

}  // namespace vellum
