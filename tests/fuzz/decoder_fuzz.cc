// Fuzz target: the bytes are decoded in every mode; what the decoder says of them must hold together.
#include <algorithm>
#include <cstdlib>
#include <memory>

#include "cpu/decoder.h"
#include "cpu/model.h"

using namespace vellum;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  static const auto decoder = [] {
    auto model = parse_cpu_model("max");
    if (!model) abort();
    return std::make_unique<Decoder>(*model);
  }();
  struct Mode {
    CodeSize code_size;
    bool real;
  };
  constexpr Mode kModes[] = {{CodeSize::Bits16, true}, {CodeSize::Bits16, false}, {CodeSize::Bits32, false},
                             {CodeSize::Bits64, false}};
  constexpr usize kLongest = 15;
  for (const Mode& mode : kModes) {
    // A copy of just these bytes: reading behind them is an error that AddressSanitizer sees.
    const std::unique_ptr<u8[]> bytes(new u8[size]);
    std::copy(data, data + size, bytes.get());
    Insn insn{};
    const DecodeStatus status = decoder->decode({bytes.get(), size}, mode.code_size, mode.real, insn);
    if (status == DecodeStatus::NeedMore && size >= kLongest) abort();
    if (status != DecodeStatus::Ok) continue;
    const usize length = insn.length;
    if (length == 0 || length > std::min(size, kLongest)) abort();
    // Its own bytes suffice, and fewer do not.
    Insn again{};
    if (decoder->decode({bytes.get(), length}, mode.code_size, mode.real, again) != DecodeStatus::Ok) abort();
    if (again.length != length || again.row != insn.row) abort();
    if (decoder->decode({bytes.get(), length - 1}, mode.code_size, mode.real, again) == DecodeStatus::Ok) abort();
  }
  return 0;
}
