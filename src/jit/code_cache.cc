// The mappings of the code cache, and their place in the address space.
#include "jit/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cpu/block.h"
#include "mmu/address.h"

namespace vellum {

namespace {

Error failed(std::string_view what, u64 size) {
  return Error{fmt::format("cannot make a code cache of {} MiB: {}: {}; try a smaller -tb-size, or -engine interpreter",
                           size >> 20, what, std::strerror(errno))};
}

// How far branches reach, less room for the program itself.
#if defined(__x86_64__)
constexpr i64 kReach = (i64{2} << 30) - (i64{64} << 20);
#else
constexpr i64 kReach = (i64{128} << 20) - (i64{32} << 20);
#endif

// Calls `map` with addresses within reach of the program, from near to far, until one is taken.
template <class Map>
u8* map_near_program(u64 size, Map map) {
  constexpr i64 kFirst = i64{16} << 20, kLeastStep = i64{1} << 20, kMostStep = kReach >> 30 ? kFirst : i64{2} << 20;
  const i64 program = static_cast<i64>(reinterpret_cast<u64>(&interpreter_leave) & ~u64{kFirst - 1});
  const i64 step = std::clamp(static_cast<i64>(size), kLeastStep, kMostStep);  // where reach is short nothing of it must be wasted
  for (i64 distance = kFirst; distance + static_cast<i64>(size) < kReach; distance += step) {
    for (const i64 address : {program - distance - static_cast<i64>(size), program + distance}) {
      if (address <= 0) continue;
      void* place = map(reinterpret_cast<void*>(address));
      if (place == reinterpret_cast<void*>(address)) return static_cast<u8*>(place);
      if (place != MAP_FAILED) munmap(place, size);  // an old kernel took the address for a hint
    }
  }
  return nullptr;
}

struct Mappings {
  u8* writable;
  u8* executable;  // nullptr: there was no place
};

Result<Mappings> map_file(u64 size) {
  const int file = memfd_create("vellum-code", MFD_CLOEXEC);
  if (file < 0) return std::unexpected(failed("memfd_create", size));
  if (ftruncate(file, static_cast<off_t>(size)) != 0) {
    const Error error = failed("ftruncate", size);
    close(file);
    return std::unexpected(error);
  }
  void* writable = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (writable == MAP_FAILED) {
    const Error error = failed("mmap", size);
    close(file);
    return std::unexpected(error);
  }
  u8* executable = map_near_program(size, [&](void* address) {
    return mmap(address, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0);
  });
  close(file);
  return Mappings{static_cast<u8*>(writable), executable};
}

// Shared memory can be mapped once more without a file: mremap(2), "if the value of old_size is zero".
Result<Mappings> map_anonymous(u64 size) {
  void* writable = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (writable == MAP_FAILED) return std::unexpected(failed("mmap", size));
  u8* executable = map_near_program(size, [&](void* address) {
    return mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
  });
  if (executable && (mremap(writable, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, executable) != executable ||
                     mprotect(executable, size, PROT_READ | PROT_EXEC) != 0)) {
    const Error error = failed("mremap", size);
    munmap(executable, size);
    munmap(writable, size);
    return std::unexpected(error);
  }
  return Mappings{static_cast<u8*>(writable), executable};
}

// One mapping for both purposes. Only private memory comes in large pages, without which warm guests spend a tenth of their
// time on misses of the host's instruction TLB. And where an instruction cache is not coherent with the data caches,
// emulators of such hosts see that code changes by the address that is written.
Mappings map_once(u64 size) {
  u8* both = map_near_program(size, [&](void* address) {
    return mmap(address, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  });
  if (both) madvise(both, size, MADV_HUGEPAGE);
  return Mappings{both, both};
}

}  // namespace

Result<std::unique_ptr<CodeCache>> CodeCache::create(u64 size, Backing backing, u64 data_size) {
  const u64 whole = size + data_size;
  Result<Mappings> mapped = map_once(whole);
  // Hosts that forbid memory that is both writable and executable have it mapped twice.
  if (!mapped->executable) mapped = backing == Backing::File ? map_file(whole) : map_anonymous(whole);
  if (!mapped) return std::unexpected(mapped.error());
  if (!mapped->executable) {
    if (mapped->writable) munmap(mapped->writable, whole);
    return std::unexpected(failed("no executable memory near the program", size));
  }
  auto cache = std::unique_ptr<CodeCache>(new CodeCache(mapped->writable, mapped->executable, size, data_size));
  if (data_size && mprotect(cache->data(), data_size, PROT_READ | PROT_WRITE) != 0) return std::unexpected(failed("mprotect", size));
  return cache;
}

CodeCache::~CodeCache() {
  if (m_writable != m_executable) munmap(m_writable, m_size + m_data_size);
  munmap(m_executable, m_size + m_data_size);
}

void CodeCache::set_segments(unsigned count) {
  m_segment_count = count;
  use_segment(0);
}

void CodeCache::use_segment(unsigned segment) {
  m_segment = segment;
  m_used = segment * segment_size();
  m_cold = m_used + segment_size();
}

u32 CodeCache::allocate(u64 bytes) { return allocate_parts(bytes, 0).hot; }

CodeCache::Parts CodeCache::allocate_parts(u64 hot_bytes, u64 cold_bytes) {
  if (hot_bytes + cold_bytes > m_cold - m_used) return {kFull, kFull};
  const u64 hot = m_used;
  m_used += hot_bytes;
  m_cold -= cold_bytes;
  return {static_cast<u32>(hot), static_cast<u32>(m_cold)};
}

void CodeCache::publish(u32 offset, u64 bytes) {
  // Where there are two mappings, the caches of their addresses are one, as the host keeps instruction and data caches coherent.
  char* start = reinterpret_cast<char*>(m_executable + offset);
  __builtin___clear_cache(start, start + bytes);
}

}  // namespace vellum
