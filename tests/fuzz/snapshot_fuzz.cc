// Fuzz target: the bytes are a snapshot file, or (where the first byte is odd) the sections of one whose checksums hold.
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../unit/machine/fake_parts.h"
#include "machine/snapshot.h"
#include "memory_file.h"
#include "state/log.h"

using namespace vellum;

namespace {

// The format as snapshot.h and snapshot.cc describe it.
class File {
 public:
  File() {
    append("VELLUM\x1a\n", 8);
    number<u32>(1);
    number(checksum(m_bytes.data(), m_bytes.size()));
  }
  void section(std::string_view name, const void* data, usize size) {
    std::vector<u8> stored(compressBound(size));
    uLongf stored_size = stored.size();
    if (compress2(stored.data(), &stored_size, static_cast<const Bytef*>(data), size, 1) != Z_OK) abort();
    const usize start = m_bytes.size();
    char padded[40]{};
    std::memcpy(padded, name.data(), std::min(name.size(), sizeof(padded) - 1));
    append(padded, sizeof(padded));
    number<u64>(stored_size);
    number<u64>(size);
    number(checksum(stored.data(), stored_size));
    number(checksum(m_bytes.data() + start, m_bytes.size() - start));
    append(stored.data(), stored_size);
    ++m_sections;
  }
  const std::vector<u8>& end() {
    const u64 record[] = {m_sections, m_bytes.size()};
    section("end", record, sizeof(record));
    return m_bytes;
  }

 private:
  static u32 checksum(const void* data, usize size) { return static_cast<u32>(crc32_z(0, static_cast<const Bytef*>(data), size)); }
  void append(const void* data, usize size) {
    const auto* bytes = static_cast<const u8*>(data);
    m_bytes.insert(m_bytes.end(), bytes, bytes + size);
  }
  template <class T>
  void number(T value) {
    append(&value, sizeof(value));
  }
  std::vector<u8> m_bytes;
  u64 m_sections = 0;
};

std::vector<u8> sections(Machine& machine, const u8* data, usize size) {
  File file;
  const std::string configuration = machine.configuration();
  file.section("configuration", configuration.data(), configuration.size());
  const auto parts = machine.state_parts();
  for (usize i = 0; i < parts.size(); ++i) {
    // The saved state of the part with bytes changed as the input says: position and value, ended by 255.
    ArchiveWriter archive;
    parts[i].visit(archive);
    auto state = archive.take();
    while (size >= 2 && data[0] != 255) {
      state[data[0] % state.size()] = data[1];
      data += 2, size -= 2;
    }
    if (size > 0) ++data, --size;
    file.section("state/" + parts[i].name, state.data(), state.size());
  }
  // What is left: pages of memory.
  file.section("ram", data, size);
  return file.end();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  g_log_mask = 0;
  if (size == 0) return 0;
  test::FakeMachine fake(ClockMode::Instructions, 1 << 20);
  fake.machine->ram().host(0)[5] = 1;
  fake.machine->run_instructions(123);
  const u64 before = fake.machine->state_hash();
  const std::vector<u8> bytes = data[0] & 1 ? sections(*fake.machine, data + 1, size - 1) : std::vector<u8>(data + 1, data + size);
  static test::MemoryFile memory_file;
  memory_file.set(bytes);
  if (load_snapshot(*fake.machine, memory_file.path())) fake.machine->run_instructions(50);
  else if (fake.machine->state_hash() != before) abort();
  return 0;
}
