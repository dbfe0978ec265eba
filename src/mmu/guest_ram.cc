// Lazy host memory for the guest, by mmap without reservation of swap.
#include "mmu/guest_ram.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "state/assert.h"

namespace vellum {

namespace {

u8* reserve(u64 size) {
  void* host = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return host == MAP_FAILED ? nullptr : static_cast<u8*>(host);
}

}  // namespace

Result<std::unique_ptr<GuestRam>> GuestRam::create(u64 size) {
  VELLUM_ASSERT(size > 0 && (size & kPageMask) == 0);
  u8* host = reserve(size);
  if (!host)
    return failure(fmt::format("cannot reserve {} MiB of address space for guest memory: {}; try a smaller -m", size >> 20,
                               std::strerror(errno)));
  // Guests touch most of their memory, and fewer misses of the host's TLB are worth more than what they do not touch. Reading
  // an untouched page still allocates nothing.
  madvise(host, size, MADV_HUGEPAGE);
  auto ram = std::unique_ptr<GuestRam>(new GuestRam(host, size));
  if (!ram->m_flags) return failure("cannot reserve address space for the page flags of guest memory; try a smaller -m");
  return ram;
}

GuestRam::GuestRam(u8* host, u64 size) : m_host(host), m_size(size), m_flags(reserve(size >> kPageBits)) {}

GuestRam::~GuestRam() {
  munmap(m_host, m_size);
  if (m_flags) munmap(m_flags, m_size >> kPageBits);
}

bool GuestRam::page_is_zero(u64 offset) const {
  const u8* page = m_host + (offset & ~kPageMask);
  return std::all_of(reinterpret_cast<const u64*>(page), reinterpret_cast<const u64*>(page + kPageSize),
                     [](u64 word) { return word == 0; });
}

void GuestRam::discard(u64 offset, u64 size) { madvise(m_host + offset, size, MADV_DONTNEED); }

}  // namespace vellum
