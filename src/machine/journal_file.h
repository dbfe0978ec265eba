// The file of a recorded run: what machine it belongs to, and its input events, compressed block by block.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// A recording being written. Blocks are complete on their own, so a program that is killed leaves a file that can be played
// up to about a second before.
class JournalFile {
 public:
  // `header` is what read_journal() returns: text that says which machine the events belong to. A file of that name is
  // replaced.
  static Result<std::unique_ptr<JournalFile>> create(const std::string& path, const std::string& header);
  ~JournalFile();
  JournalFile(const JournalFile&) = delete;

  void append(std::span<const u8> events);
  // Writes what is left. The first error of all writing, if there was one: from then on nothing was written.
  std::optional<std::string> close();

 private:
  JournalFile(int descriptor, std::string path) : m_descriptor(descriptor), m_path(std::move(path)) {}
  void write_block();
  void put(const void* data, usize size);
  int m_descriptor;
  std::string m_path;
  std::vector<u8> m_block;
  u64 m_last_write = 0;  // host nanoseconds
  u64 m_written = 0;
  std::optional<std::string> m_error;
};

struct JournalContents {
  std::string header;
  std::vector<u8> events;
  bool cut_off = false;  // the last block is not complete: the recording program was killed
};

Result<JournalContents> read_journal(const std::string& path);

}  // namespace vellum
