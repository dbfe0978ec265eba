// Guest RAM and ROM contents: one lazily allocated host mapping, with flags per page (dirty, holds code).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "mmu/address.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// Flags of a page; a page with any of them set takes the slow path on its first store (see Tlb).
enum PageFlag : u8 {
  kPageHoldsCode = 1,    // translations exist for bytes of this page
  kPageCleanDisplay = 2, // not written since the display last looked
  kPageCleanSnapshot = 4,// not written since the last snapshot or migration pass
};

// Offsets count bytes from the start of the mapping; the board decides where an offset appears in guest-physical space.
class GuestRam {
 public:
  // Reserves `size` bytes (a multiple of the page size) of zeroes; host memory is used only where something is written.
  static Result<std::unique_ptr<GuestRam>> create(u64 size);
  ~GuestRam();
  GuestRam(const GuestRam&) = delete;

  u64 size() const { return m_size; }
  u8* host(u64 offset) { return m_host + offset; }
  const u8* host(u64 offset) const { return m_host + offset; }
  u8 flags(u64 offset) const { return m_flags[offset >> kPageBits]; }
  void set_flag(u64 offset, PageFlag flag) { m_flags[offset >> kPageBits] |= flag; }
  void clear_flag(u64 offset, PageFlag flag) { m_flags[offset >> kPageBits] &= static_cast<u8>(~flag); }

  // Whether the page was ever backed by host memory with content (used to skip zero pages when saving).
  bool page_is_zero(u64 offset) const;
  // Gives the page back to the host; it reads as zeroes again.
  void discard(u64 offset, u64 size);

 private:
  GuestRam(u8* host, u64 size);
  u8* m_host;
  u64 m_size;
  u8* m_flags;  // lazily allocated too: one byte per page
};

}  // namespace vellum
