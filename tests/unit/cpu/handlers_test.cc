// Every instruction that decodes has a handler in the interpreter.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>
#include <set>

#include "cpu/decoder.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"

using namespace vellum;

namespace {

// Random code, steered towards the longer opcode maps.
std::array<u8, kMaxInsnLength> random_code(std::mt19937_64& random) {
  std::array<u8, 16> bytes;
  for (usize i = 0; i < 16; i += 8) {
    const u64 word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  const u64 steer = random();
  usize at = 0;
  if (steer & 1) bytes[at++] = std::array<u8, 4>{0x66, 0xf2, 0xf3, 0xf0}[(steer >> 1) & 3];
  if ((steer & 0x18) == 0) bytes[at++] = static_cast<u8>(0x40 | ((steer >> 8) & 15));
  if ((steer & 0x60) == 0) bytes[at++] = 0x0f;
  std::array<u8, kMaxInsnLength> code;
  std::copy_n(bytes.begin(), kMaxInsnLength, code.begin());
  return code;
}

}  // namespace

TEST_CASE("every instruction that decodes has a handler") {
  const auto model = parse_cpu_model("max");
  REQUIRE(model.has_value());
  const Decoder decoder(*model);
  std::mt19937_64 random(1);
  std::set<std::string> missing;
  for (int i = 0; i < 3'000'000; ++i) {
    const auto code = random_code(random);
    const auto size = static_cast<CodeSize>(i % 3);
    Insn insn;
    if (decoder.decode(code, size, false, insn) != DecodeStatus::Ok) continue;
    const RowSpec& row = opcode_rows()[insn.row];
    const RowHandlers& handlers = interpreter_row(insn.row);
    const bool present = handlers.flow == Flow::Callout ? handlers.callout != nullptr
                                                        : handlers.variant[handler_index(variant_for(row, insn))] != nullptr;
    if (!present) missing.insert(describe_row(row));
  }
  for (const auto& row : missing) UNSCOPED_INFO(row);
  CHECK(missing.empty());
}

TEST_CASE("interpreter_row() has one entry per row") {
  usize total = 0;
#define VELLUM_COUNT_GROUP(group) total += interpreter_handlers_##group().size();
  VELLUM_OPCODE_GROUPS(VELLUM_COUNT_GROUP)
  CHECK(total == opcode_rows().size());
}
