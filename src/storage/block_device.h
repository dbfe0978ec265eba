// A medium of numbered sectors: what disk, CD-ROM and floppy controllers read and write.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

inline constexpr u64 kSectorSize = 512;

// Offsets and sizes in bytes, multiples of 512. Errors are host failures; a guest's out-of-range request is the
// controller's to refuse. Calls complete before they return.
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  virtual u64 size() const = 0;  // bytes, a multiple of 512 (a shorter last sector reads as zeroes behind its end)
  virtual bool read_only() const = 0;
  virtual Result<void> read(u64 offset, std::span<u8> data) = 0;
  virtual Result<void> write(u64 offset, std::span<const u8> data) = 0;
  virtual Result<void> flush() = 0;    // what was written survives a crash of the host
  virtual const std::string& path() const = 0;  // for messages

  // Going back in time: what the medium holds now, and the way back to it, in any order and any number of times. A medium that
  // cannot be written is always as it was; one that can be and keeps no history cannot be put back.
  struct Contents {
    virtual ~Contents() = default;
  };
  virtual bool keeps_history() const { return read_only(); }
  virtual std::shared_ptr<const Contents> save_contents() { return nullptr; }
  virtual void load_contents(const std::shared_ptr<const Contents>& contents) {}
};

}  // namespace vellum
