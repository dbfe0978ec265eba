// Memory for host code, reused in segments, near the program's own code.
#pragma once

#include <memory>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// Where the host forbids memory that is both writable and executable, the same memory is mapped twice. The executable
// mapping lies so near the program that 32-bit distances reach from either to the other.
class CodeCache {
 public:
  // Perf looks into its map file (-perfmap) for addresses that belong to no file.
  enum class Backing : u8 { File, Anonymous };
  // `size` in bytes, a multiple of the page size, at most 1 GiB; behind it so much zeroed memory for what code counts, which its
  // 32-bit distances reach: likewise.
  static Result<std::unique_ptr<CodeCache>> create(u64 size, Backing backing = Backing::File, u64 data_size = 0);
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;

  u64 size() const { return m_size; }
  // Memory is reused in `count` segments of equal size, at least 2; the first is in use.
  void set_segments(unsigned count);
  unsigned segments() const { return m_segment_count; }
  u64 segment_size() const { return m_size / m_segment_count; }
  // Forgets what is in this segment; new bytes come from there.
  void use_segment(unsigned segment);
  unsigned segment() const { return m_segment; }
  unsigned segment_of(const void* executable) const { return static_cast<unsigned>(offset_of(executable) / segment_size()); }
  // Offset of `bytes` new bytes, right behind the last ones; kFull when there is no room in the segment.
  static constexpr u32 kFull = ~u32{0};
  u32 allocate(u64 bytes);
  // Two parts: what runs often lies close together from the segment's begin, what rarely runs from its end. Both kFull when
  // there is no room for both.
  struct Parts {
    u32 hot, cold;
  };
  Parts allocate_parts(u64 hot_bytes, u64 cold_bytes);

  u8* writable(u32 offset) { return m_writable + offset; }
  const u8* executable(u32 offset) const { return m_executable + offset; }
  u32 offset_of(const void* executable) const { return static_cast<u32>(static_cast<const u8*>(executable) - m_executable); }
  bool contains(const void* executable) const {
    return static_cast<u64>(static_cast<const u8*>(executable) - m_executable) < m_size;
  }
  u8* data() { return m_executable + m_size; }
  // Makes bytes that were written visible to the host's instruction fetch.
  void publish(u32 offset, u64 bytes);

 private:
  CodeCache(u8* writable, u8* executable, u64 size, u64 data_size) : m_writable(writable), m_executable(executable), m_size(size), m_data_size(data_size) {}
  u8* m_writable;
  u8* m_executable;
  u64 m_size, m_data_size;
  u64 m_used = 0, m_cold = m_size;  // where the segment's unused bytes begin and end, from the start of the whole
  unsigned m_segment_count = 1, m_segment = 0;
};

}  // namespace vellum
