// The four archives: writer, reader, hasher, printer. A field in the file is: kind, name length, name, size, data.
#include "state/archive.h"

#include <cstring>

namespace vellum {

namespace {
enum Kind : u8 { kBegin = 'B', kEnd = 'E', kScalar = 'S', kBytes = 'D', kCount = 'C' };
}

void Archive::require(bool valid, std::string_view what) {
  if (!valid && loading()) fail(fmt::format("invalid value: {}", what));
}

void Archive::fail(std::string message) {
  if (!m_error) m_error = Error{std::move(message)};
}

void ArchiveWriter::tag(u8 kind, std::string_view name, u64 size) {
  m_data.push_back(kind);
  m_data.push_back(static_cast<u8>(name.size()));
  m_data.insert(m_data.end(), name.begin(), name.end());
  const u32 length = static_cast<u32>(size);
  const auto* raw = reinterpret_cast<const u8*>(&length);
  m_data.insert(m_data.end(), raw, raw + sizeof(length));
}

void ArchiveWriter::begin(std::string_view name) { tag(kBegin, name, 0); }
void ArchiveWriter::end() { tag(kEnd, "", 0); }

void ArchiveWriter::scalar(std::string_view name, void* data, usize size) {
  tag(kScalar, name, size);
  m_data.insert(m_data.end(), static_cast<u8*>(data), static_cast<u8*>(data) + size);
}

void ArchiveWriter::bytes(std::string_view name, std::span<u8> data) {
  tag(kBytes, name, data.size());
  m_data.insert(m_data.end(), data.begin(), data.end());
}

u64 ArchiveWriter::count(std::string_view name, u64 current, u64) {
  tag(kCount, name, sizeof(current));
  const auto* raw = reinterpret_cast<const u8*>(&current);
  m_data.insert(m_data.end(), raw, raw + sizeof(current));
  return current;
}

bool ArchiveReader::take(void* data, usize size) {
  if (failed()) return false;
  if (m_data.size() - m_position < size) {
    fail(fmt::format("state ends early in {}", m_path));
    return false;
  }
  std::memcpy(data, m_data.data() + m_position, size);
  m_position += size;
  return true;
}

bool ArchiveReader::tag(u8 kind, std::string_view name, u64 size) {
  u8 head[2];
  if (!take(head, 2)) return false;
  char found[256];
  u32 length;
  if (!take(found, head[1]) || !take(&length, sizeof(length))) return false;
  if (head[0] != kind || std::string_view(found, head[1]) != name || length != size) {
    fail(fmt::format("state does not fit this machine: found '{}' ({} bytes) where {}/{} ({} bytes) belongs",
                     std::string_view(found, head[1]), length, m_path, name, size));
    return false;
  }
  return true;
}

void ArchiveReader::begin(std::string_view name) {
  tag(kBegin, name, 0);
  m_path += '/';
  m_path += name;
}

void ArchiveReader::end() {
  tag(kEnd, "", 0);
  m_path.resize(m_path.rfind('/'));
}

void ArchiveReader::scalar(std::string_view name, void* data, usize size) {
  if (tag(kScalar, name, size)) take(data, size);
}

void ArchiveReader::bytes(std::string_view name, std::span<u8> data) {
  if (tag(kBytes, name, data.size())) take(data.data(), data.size());
}

u64 ArchiveReader::count(std::string_view name, u64, u64 limit) {
  u64 value = 0;
  if (!tag(kCount, name, sizeof(value)) || !take(&value, sizeof(value))) return 0;
  // An element takes at least one byte, so a count above what is left is damage, not a reason to allocate.
  if (value > limit || value > m_data.size() - m_position) {
    fail(fmt::format("{}: impossible count {}", m_path, value));
    return 0;
  }
  return value;
}

void ArchiveHasher::scalar(std::string_view, void* data, usize size) {
  bytes("", {static_cast<u8*>(data), size});
}

void ArchiveHasher::bytes(std::string_view, std::span<u8> data) {
  u64 hash = m_hash;
  usize i = 0;
  for (; i + 8 <= data.size(); i += 8) {
    u64 word;
    std::memcpy(&word, data.data() + i, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  }
  for (; i < data.size(); ++i) hash = (hash ^ data[i]) * 0x100000001b3;
  m_hash = hash ^ (hash >> 29);
}

u64 ArchiveHasher::count(std::string_view name, u64 current, u64) {
  scalar(name, &current, sizeof(current));
  return current;
}

void ArchivePrinter::begin(std::string_view name) {
  m_path.push_back(path(name));
  m_index.push_back(0);
}

void ArchivePrinter::end() {
  m_path.pop_back();
  m_index.pop_back();
}

std::string ArchivePrinter::path(std::string_view name) {
  std::string result = m_path.empty() ? std::string() : m_path.back();
  if (!name.empty()) {
    if (!result.empty()) result += '.';
    result += name;
  } else if (!m_index.empty()) {
    result += fmt::format("[{}]", m_index.back()++);
  }
  return result;
}

void ArchivePrinter::scalar(std::string_view name, void* data, usize size) {
  std::string digits;
  for (usize i = size; i-- > 0;) digits += fmt::format("{:02x}", static_cast<u8*>(data)[i]);
  m_text += fmt::format("{} = 0x{}\n", path(name), digits);
}

void ArchivePrinter::bytes(std::string_view name, std::span<u8> data) {
  ArchiveHasher hasher;
  hasher.bytes("", data);
  m_text += fmt::format("{} = <{} bytes, hash {:016x}>\n", path(name), data.size(), hasher.hash());
}

u64 ArchivePrinter::count(std::string_view name, u64 current, u64) {
  m_text += fmt::format("{} = {}\n", path(name), current);
  return current;
}

}  // namespace vellum
