// Expansion of seeds into states, and the text and binary forms of a test case.
#include "instructions/test_case.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace vellum::instructions {

namespace {

constexpr const char* kEnvironmentNames[] = {"long64", "flat32", "seg32", "seg16"};

// Register values with many edges among them.
u64 interesting(Random& random) {
  const u64 bits = random.next();
  switch (random.below(8)) {
    case 0:
      return bits & 0xff;
    case 1:
      return static_cast<u64>(static_cast<i64>(static_cast<i8>(bits)));
    case 2:
      return u64{1} << (bits & 63);
    case 3:
      return (u64{1} << (bits & 63)) - 1;
    case 4:
      return ~u64{0} << (bits & 63);
    case 5:
      return static_cast<u32>(bits) | (bits & 1 ? 0x7fffffff00000000 : 0x8000000000000000);
    default:
      return bits;
  }
}

u32 float_bits(Random& random) {
  const u32 bits = static_cast<u32>(random.next());
  switch (random.below(10)) {
    case 0:
      return bits & 0x80000000;  // zero
    case 1:
      return 0x7f800000 | (bits & 0x80000000);  // infinity
    case 2:
      return 0x7fc00000 | (bits & 0x803fffff);  // quiet NaN
    case 3:
      return 0x7f800001 | (bits & 0x803ffffe);  // signalling NaN
    case 4:
      return bits & 0x807fffff;  // denormal
    case 5:
      return (bits & 0x80ffffff) | 0x3f000000;  // around 1
    case 6:
      return std::bit_cast<u32>(static_cast<float>(static_cast<i32>(bits) >> random.below(32)));
    case 7:
      return (bits & 0x807fffff) | (0x4b + random.below(8)) << 24;  // around the integers' limits
    default:
      return bits;
  }
}

u64 double_bits(Random& random) {
  const u64 bits = random.next();
  constexpr u64 sign = u64{1} << 63, fraction = (u64{1} << 52) - 1;
  switch (random.below(10)) {
    case 0:
      return bits & sign;
    case 1:
      return u64{0x7ff} << 52 | (bits & sign);
    case 2:
      return u64{0x7ff8} << 48 | (bits & (sign | fraction));
    case 3:
      return u64{0x7ff} << 52 | (bits & (sign | (fraction >> 1))) | 1;
    case 4:
      return bits & (sign | fraction);
    case 5:
      return (bits & (sign | fraction)) | static_cast<u64>(0x3fe + random.below(3)) << 52;
    case 6:
      return std::bit_cast<u64>(static_cast<double>(static_cast<i64>(bits) >> random.below(64)));
    case 7:
      return (bits & (sign | fraction)) | static_cast<u64>(0x380 + random.below(0x110)) << 52;
    default:
      return bits;
  }
}

std::array<u8, 16> vector_value(Random& random) {
  std::array<u8, 16> value;
  u64 half[2];
  switch (random.below(4)) {
    case 0:
      for (u64& h : half) {
        const u64 low = float_bits(random);
        h = low | u64{float_bits(random)} << 32;
      }
      break;
    case 1:
      for (u64& h : half) h = double_bits(random);
      break;
    case 2:
      for (u64& h : half) h = interesting(random);
      break;
    default:
      for (u64& h : half) h = random.next();
  }
  std::memcpy(value.data(), half, 16);
  return value;
}

std::array<u8, 10> x87_value(Random& random) {
  u64 significand = random.next();
  u16 exponent = static_cast<u16>(random.next());
  constexpr u64 integer_bit = u64{1} << 63;
  switch (random.below(10)) {
    case 0:
      significand = 0;
      exponent &= 0x8000;
      break;
    case 1:
      significand = integer_bit;
      exponent |= 0x7fff;
      break;
    case 2:
      significand |= integer_bit | integer_bit >> 1;
      exponent |= 0x7fff;
      break;
    case 3:
      significand = (significand | integer_bit | 1) & ~(integer_bit >> 1);
      exponent |= 0x7fff;
      break;
    case 4:
      significand &= ~integer_bit;
      exponent &= 0x8000;
      break;
    case 5:
      significand |= integer_bit;
      exponent = static_cast<u16>((exponent & 0x8000) | (0x3fff + random.below(4)));
      break;
    case 6:
      significand = (significand >> random.below(63) << 1 | 1) << std::countl_zero(significand | 1);
      significand |= integer_bit;
      exponent = static_cast<u16>((exponent & 0x8000) | (0x3fff + random.below(64)));
      break;
    case 7:
      significand |= integer_bit;
      exponent = static_cast<u16>((exponent & 0x8000) | (0x3c00 + random.below(0x800)));
      break;
    case 8:
      significand |= integer_bit;
      break;
    default:
      break;  // may be an unsupported format
  }
  std::array<u8, 10> value;
  std::memcpy(value.data(), &significand, 8);
  std::memcpy(value.data() + 8, &exponent, 2);
  return value;
}

}  // namespace

const char* environment_name(Environment environment) { return kEnvironmentNames[static_cast<usize>(environment)]; }

MachineState initial_state(const TestCase& test) {
  Random random(test.state_seed);
  MachineState state;
  for (unsigned i = 0; i < 16; ++i) {
    const u64 value = interesting(random);
    state.gpr[i] = visible(test.environment, (test.override_mask >> i) & 1 ? test.overrides[i] : value);
  }
  state.rflags = test.rflags;
  state.rip = test.code_offset;
  if (test.environment == Environment::Long64 || test.environment == Environment::Flat32) state.rip += kCodeBase;

  VectorState& vector = state.vector;
  for (auto& xmm : vector.xmm) xmm = vector_value(random);
  for (auto& st : vector.st) st = x87_value(random);
  u32 bits = static_cast<u32>(random.next());
  vector.mxcsr = 0x1f80;
  if (bits & 1) vector.mxcsr = (bits >> 8 & 0xe03f) | 0x1f80 | ((bits & 6) == 0 ? 0x40 : 0);
  if ((bits & 0x38) == 0) vector.mxcsr &= ~(static_cast<u32>(random.next()) & 0x1f80);
  bits = static_cast<u32>(random.next());
  vector.control = 0x37f;
  if (bits & 1) vector.control = static_cast<u16>((bits >> 16 & 0x0f00) | 0x7f);
  if ((bits & 0x38) == 0) vector.control = static_cast<u16>(vector.control & ~(random.next() & 0x3f));
  bits = static_cast<u32>(random.next());
  vector.tags = bits & 3 ? 0xff : static_cast<u8>(bits >> 8);
  if ((bits & 0x1c) == 0) vector.tags = 0;
  vector.status = static_cast<u16>(bits >> 16 & 0x7f7f);
  if ((bits & 0xe0) != 0) vector.status &= 0x7f00;
  // ES and B follow from the flags and masks, SDM Vol. 1 8.1.3.3.
  if (vector.status & ~vector.control & 0x3f) vector.status |= 0x8080;

  // A sequence of its own, so that recordings from before YMM keep their states.
  Random high(test.state_seed ^ 0x59a3d2c1b0f84e67);
  for (auto& half : vector.ymm_high) half = vector_value(high);
  if (test.index_size) {
    u8 bytes[32];
    const u32 range = 0x20u << 2 * high.below(4);
    for (unsigned i = 0; i < 32; i += test.index_size) {
      i64 index = static_cast<i64>(high.below(2 * range)) - range;
      if (high.chance(4)) index = static_cast<i64>(high.next());
      std::memcpy(bytes + i, &index, test.index_size);
    }
    std::memcpy(vector.xmm[test.index_register & 15].data(), bytes, 16);
    std::memcpy(vector.ymm_high[test.index_register & 15].data(), bytes + 16, 16);
  }
  return state;
}

void fill_memory(u32 seed, std::span<u8> data) {
  Random random(seed * u64{0x1234567} + 1);
  for (usize i = 0; i + 16 <= data.size(); i += 16) {
    const auto value = vector_value(random);
    std::memcpy(data.data() + i, value.data(), 16);
  }
}

namespace {

std::string hex(std::span<const u8> bytes) {
  std::string text;
  for (const u8 byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

bool parse_number(std::string_view text, u64& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

bool parse_hex(std::string_view text, std::vector<u8>& bytes) {
  if (text.size() % 2) return false;
  for (usize i = 0; i < text.size(); i += 2) {
    u64 value;
    if (!parse_number(text.substr(i, 2), value)) return false;
    bytes.push_back(static_cast<u8>(value));
  }
  return true;
}

}  // namespace

std::string format_case(const TestCase& test) {
  std::string text = fmt::format("{} {:x} {} seed {:x} mem {:x} flags {:x}", environment_name(test.environment),
                                 test.code_offset, hex(test.code), test.state_seed, test.memory_seed, test.rflags);
  for (unsigned i = 0; i < 16; ++i)
    if ((test.override_mask >> i) & 1) text += fmt::format(" r{}={:x}", i, test.overrides[i]);
  if (!test.patch.empty()) text += fmt::format(" @{:x}:{}", test.patch_offset, hex(test.patch));
  if (test.index_size) text += fmt::format(" x{}={}", test.index_register, test.index_size);
  return text;
}

std::optional<TestCase> parse_case(std::string_view text) {
  TestCase test;
  unsigned position = 0;
  std::string_view key;
  while (!text.empty()) {
    const usize space = text.find(' ');
    const std::string_view token = text.substr(0, space);
    text = space == text.npos ? std::string_view() : text.substr(space + 1);
    if (token.empty()) continue;
    u64 value = 0;
    if (position == 0) {
      unsigned i = 0;
      while (i < 4 && token != kEnvironmentNames[i]) ++i;
      if (i == 4) return std::nullopt;
      test.environment = static_cast<Environment>(i);
    } else if (position == 1) {
      if (!parse_number(token, value)) return std::nullopt;
      test.code_offset = static_cast<u16>(value);
    } else if (position == 2) {
      if (!parse_hex(token, test.code)) return std::nullopt;
    } else if (!key.empty()) {
      if (!parse_number(token, value)) return std::nullopt;
      if (key == "seed")
        test.state_seed = value;
      else if (key == "mem")
        test.memory_seed = static_cast<u32>(value);
      else if (key == "flags")
        test.rflags = static_cast<u32>(value);
      else
        return std::nullopt;
      key = {};
    } else if (token[0] == '@') {
      const usize colon = token.find(':');
      if (colon == token.npos || !parse_number(token.substr(1, colon - 1), value)) return std::nullopt;
      test.patch_offset = static_cast<u16>(value);
      if (!parse_hex(token.substr(colon + 1), test.patch)) return std::nullopt;
    } else if (token[0] == 'x' && token.find('=') != token.npos) {
      const usize equals = token.find('=');
      std::from_chars(token.data() + 1, token.data() + equals, test.index_register);
      std::from_chars(token.data() + equals + 1, token.data() + token.size(), test.index_size);
      if (test.index_register > 15 || (test.index_size != 4 && test.index_size != 8)) return std::nullopt;
    } else if (token[0] == 'r' && token.find('=') != token.npos) {
      const usize equals = token.find('=');
      unsigned index = 99;
      std::from_chars(token.data() + 1, token.data() + equals, index);
      if (index > 15 || !parse_number(token.substr(equals + 1), value)) return std::nullopt;
      test.override_mask = static_cast<u16>(test.override_mask | 1u << index);
      test.overrides[index] = value;
    } else {
      key = token;
    }
    ++position;
  }
  if (position < 3 || test.code_offset + test.code.size() > kCodeSize ||
      test.patch_offset + test.patch.size() > kDataSize)
    return std::nullopt;
  return test;
}

// --- Binary form
// --------------------------------------------------------------------------------------------------------

namespace {

constexpr u8 kHasIndex = 0x80;  // in the byte that names the environment

void put(std::vector<u8>& out, u64 value) {  // LEB128
  do {
    out.push_back(static_cast<u8>((value & 0x7f) | (value > 0x7f ? 0x80 : 0)));
    value >>= 7;
  } while (value);
}
u64 get(std::span<const u8>& in) {
  u64 value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (in.empty()) break;
    const u8 byte = in[0];
    in = in.subspan(1);
    value |= u64{byte & 0x7fu} << shift;
    if (!(byte & 0x80)) return value;
  }
  throw std::runtime_error("the recording is damaged");
}
void put_bytes(std::vector<u8>& out, std::span<const u8> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }
void get_bytes(std::span<const u8>& in, std::span<u8> bytes) {
  if (in.size() < bytes.size()) throw std::runtime_error("the recording is damaged");
  std::memcpy(bytes.data(), in.data(), bytes.size());
  in = in.subspan(bytes.size());
}

}  // namespace

// The outcome is stored as its difference from the initial state.
void write_case(std::vector<u8>& out, const TestCase& test, const Outcome& outcome, const Ignored& ignored) {
  const MachineState before = initial_state(test);
  out.push_back(static_cast<u8>(static_cast<u8>(test.environment) | (test.index_size ? kHasIndex : 0)));
  if (test.index_size) out.push_back(static_cast<u8>(test.index_register << 4 | test.index_size));
  put(out, test.code_offset);
  put(out, test.code.size());
  put_bytes(out, test.code);
  put(out, test.state_seed);
  put(out, test.memory_seed);
  put(out, test.rflags);
  put(out, test.override_mask);
  for (unsigned i = 0; i < 16; ++i)
    if ((test.override_mask >> i) & 1) put(out, test.overrides[i]);
  put(out, test.patch.size());
  if (!test.patch.empty()) {
    put(out, test.patch_offset);
    put_bytes(out, test.patch);
  }

  out.push_back(outcome.vector);
  put(out, outcome.error_code);
  put(out, outcome.fault_address);
  put(out, outcome.state.rip);
  put(out, outcome.state.rflags ^ before.rflags);
  for (const u32 bits : {ignored.flags, ignored.fsw, ignored.mxcsr}) put(out, bits);
  u32 changed = 0;
  u64 changed_vectors = 0;  // bits 15:0 XMM, 23:16 x87, 39:24 upper halves of YMM
  for (unsigned i = 0; i < 16; ++i) {
    if (outcome.state.gpr[i] != before.gpr[i]) changed |= 1u << i;
    if (outcome.state.vector.xmm[i] != before.vector.xmm[i]) changed_vectors |= u64{1} << i;
    if (outcome.state.vector.ymm_high[i] != before.vector.ymm_high[i]) changed_vectors |= u64{1} << (24 + i);
  }
  for (unsigned i = 0; i < 8; ++i)
    if (outcome.state.vector.st[i] != before.vector.st[i]) changed_vectors |= u64{1} << (16 + i);
  put(out, changed);
  for (unsigned i = 0; i < 16; ++i)
    if (changed & (1u << i)) put(out, outcome.state.gpr[i]);
  put(out, changed_vectors);
  for (unsigned i = 0; i < 16; ++i)
    if (changed_vectors & (1u << i)) put_bytes(out, outcome.state.vector.xmm[i]);
  for (unsigned i = 0; i < 8; ++i)
    if (changed_vectors & (1u << (16 + i))) put_bytes(out, outcome.state.vector.st[i]);
  for (unsigned i = 0; i < 16; ++i)
    if (changed_vectors & (u64{1} << (24 + i))) put_bytes(out, outcome.state.vector.ymm_high[i]);
  put(out, outcome.state.vector.control ^ before.vector.control);
  put(out, outcome.state.vector.status ^ before.vector.status);
  put(out, outcome.state.vector.tags ^ before.vector.tags);
  put(out, outcome.state.vector.mxcsr ^ before.vector.mxcsr);
  put(out, outcome.memory.size());
  u16 last = 0;
  for (const ChangedByte& byte : outcome.memory) {
    put(out, static_cast<u64>(byte.offset - last));
    last = byte.offset;
    out.push_back(byte.value);
  }
}

void read_case(std::span<const u8>& in, TestCase& test, Outcome& outcome, Ignored& ignored) {
  test = {};
  outcome = {};
  const auto require = [](bool condition) {
    if (!condition) throw std::runtime_error("the recording is damaged");
  };
  const auto byte = [&in] {
    u8 value;
    get_bytes(in, {&value, 1});
    return value;
  };
  const u8 first = byte(), environment = first & static_cast<u8>(~kHasIndex);
  if (first & kHasIndex) {
    const u8 index = byte();
    test.index_register = index >> 4;
    test.index_size = index & 15;
    require(test.index_size == 4 || test.index_size == 8);
  }
  require(environment < static_cast<u8>(Environment::Count));
  test.environment = static_cast<Environment>(environment);
  test.code_offset = static_cast<u16>(get(in));
  const u64 code_size = get(in);
  require(test.code_offset < kCodeSize && code_size <= kCodeSize - test.code_offset);
  test.code.resize(code_size);
  get_bytes(in, test.code);
  test.state_seed = get(in);
  test.memory_seed = static_cast<u32>(get(in));
  test.rflags = static_cast<u32>(get(in));
  test.override_mask = static_cast<u16>(get(in));
  for (unsigned i = 0; i < 16; ++i)
    if ((test.override_mask >> i) & 1) test.overrides[i] = get(in);
  const u64 patch_size = get(in);
  if (patch_size) {
    test.patch_offset = static_cast<u16>(get(in));
    require(test.patch_offset < kDataSize && patch_size <= kDataSize - test.patch_offset);
    test.patch.resize(patch_size);
    get_bytes(in, test.patch);
  }

  outcome.state = initial_state(test);
  outcome.vector = byte();
  outcome.error_code = static_cast<u32>(get(in));
  outcome.fault_address = get(in);
  outcome.state.rip = get(in);
  outcome.state.rflags ^= static_cast<u32>(get(in));
  for (u32* bits : {&ignored.flags, &ignored.fsw, &ignored.mxcsr}) *bits = static_cast<u32>(get(in));
  const u64 changed = get(in);
  for (unsigned i = 0; i < 16; ++i)
    if (changed & (1u << i)) outcome.state.gpr[i] = get(in);
  const u64 changed_vectors = get(in);
  for (unsigned i = 0; i < 16; ++i)
    if (changed_vectors & (1u << i)) get_bytes(in, outcome.state.vector.xmm[i]);
  for (unsigned i = 0; i < 8; ++i)
    if (changed_vectors & (1u << (16 + i))) get_bytes(in, outcome.state.vector.st[i]);
  for (unsigned i = 0; i < 16; ++i)
    if (changed_vectors & (u64{1} << (24 + i))) get_bytes(in, outcome.state.vector.ymm_high[i]);
  outcome.state.vector.control ^= static_cast<u16>(get(in));
  outcome.state.vector.status ^= static_cast<u16>(get(in));
  outcome.state.vector.tags ^= static_cast<u8>(get(in));
  outcome.state.vector.mxcsr ^= static_cast<u32>(get(in));
  const u64 bytes = get(in);
  require(bytes <= kDataSize);
  u64 offset = 0;
  for (u64 i = 0; i < bytes; ++i) {
    offset += get(in);
    require(offset < kDataSize);
    outcome.memory.push_back({static_cast<u16>(offset), byte()});
  }
}

}  // namespace vellum::instructions
