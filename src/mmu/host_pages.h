// Big tables of the host's own: zeroed memory that is touched as it is used, in large pages where the host has them.
#pragma once

#include <span>

#include "state/integers.h"

namespace vellum {

class HostPages {
 public:
  static constexpr u64 kLargePage = u64{2} << 20;

  // Rounds `bytes` up to large pages. Address space alone is taken; failing to get it ends the program.
  explicit HostPages(u64 bytes);
  ~HostPages();
  HostPages(const HostPages&) = delete;

  u8* data() { return m_data; }
  void clear();  // all zeroes, and untouched
  u64 size() const { return m_size; }

 private:
  u8* m_data;
  u64 m_size;
};

// `count` elements whose initial state is all zeroes.
template <class T>
class HostTable {
 public:
  explicit HostTable(usize count) : m_pages(count * sizeof(T)), m_count(count) {}
  T* data() { return reinterpret_cast<T*>(m_pages.data()); }
  T& operator[](usize index) { return data()[index]; }
  T* begin() { return data(); }
  T* end() { return data() + m_count; }
  void clear() { m_pages.clear(); }

 private:
  HostPages m_pages;
  usize m_count;
};

}  // namespace vellum
