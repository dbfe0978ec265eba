// Fuzz target: the bytes are a binary trace, packed as they come or (first byte odd) the events of one that unpacks.
#include <zlib.h>

#include <cstdlib>
#include <string>

#include "debug/trace_events.h"
#include "memory_file.h"

using namespace vellum;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  if (size < 1) return 0;
  static test::MemoryFile file, output;
  const bool packed = data[0] & 1;
  file.set({data + 1, packed ? 0 : size - 1});
  if (packed) {
    const gzFile stream = gzopen(file.path().c_str(), "wb1");
    if (!stream || gzwrite(stream, "VELTRC1\n", 8) != 8 || gzwrite(stream, data + 1, static_cast<unsigned>(size - 1)) != static_cast<int>(size - 1) || gzclose(stream) != Z_OK) abort();
  }
  const auto summary = summarize_trace(file.path());
  const auto exported = export_trace(file.path(), output.path());
  if (summary.has_value() != exported.has_value()) abort();
  parse_trace_spec({reinterpret_cast<const char*>(data + 1), size - 1});
  return 0;
}
