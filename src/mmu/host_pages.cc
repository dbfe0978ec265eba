// Aligned mappings for large pages.
#include "mmu/host_pages.h"

#include <sys/mman.h>

#include "state/assert.h"

namespace vellum {

HostPages::HostPages(u64 bytes) : m_size((bytes + kLargePage - 1) & ~(kLargePage - 1)) {
  // One more than needed, to cut an aligned piece out of it.
  const u64 taken = m_size + kLargePage;
  void* place = mmap(nullptr, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  VELLUM_ASSERT(place != MAP_FAILED);
  const u64 start = reinterpret_cast<u64>(place);
  const u64 aligned = (start + kLargePage - 1) & ~(kLargePage - 1);
  if (aligned != start) munmap(place, aligned - start);
  if (aligned != start + kLargePage) munmap(reinterpret_cast<void*>(aligned + m_size), start + kLargePage - aligned);
  m_data = reinterpret_cast<u8*>(aligned);
  madvise(m_data, m_size, MADV_HUGEPAGE);  // without it the table is only slower
}

void HostPages::clear() { VELLUM_ASSERT(madvise(m_data, m_size, MADV_DONTNEED) == 0); }

HostPages::~HostPages() { munmap(m_data, m_size); }

}  // namespace vellum
