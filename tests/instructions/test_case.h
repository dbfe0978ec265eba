// One instruction test: what runs where, from which state, and what came out. Shared by silicon, interpreter,
// recordings.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "state/integers.h"

namespace vellum::instructions {

// A generator whose numbers must never change: recorded cases hold seeds.
class Random {
 public:
  explicit Random(u64 seed) : m_state(seed) {}
  u64 next() {  // SplitMix64
    u64 z = (m_state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  u32 below(u32 limit) { return static_cast<u32>((next() >> 32) * limit >> 32); }
  bool chance(u32 percent) { return below(100) < percent; }

 private:
  u64 m_state;
};

enum class Environment : u8 {
  Long64,
  Flat32,       // 32-bit code, flat segments
  Segmented32,  // 32-bit code, segments with base and limit
  Segmented16,  // 16-bit code and stack, segments with base and limit
  Count
};
const char* environment_name(Environment environment);

// Linear addresses. Two pages of code, then nothing; four pages of data that may be written, one that may only be read,
// nothing before and behind.
inline constexpr u64 kCodeBase = 0x10000000, kCodeSize = 0x2000;
inline constexpr u64 kDataBase = 0x20000000, kWritableSize = 0x4000, kDataSize = 0x5000;
inline constexpr u64 kGsBase = kDataBase + 0x1800;  // in 64-bit code
// Fills the code pages: HLT ends every case with #GP(0) wherever control goes.
inline constexpr u8 kFiller = 0xf4;
// Segments of the segmented environments: base and limit.
struct SegmentLayout {
  u64 base;
  u32 limit;
};
inline constexpr SegmentLayout kCodeSegment{kCodeBase, kCodeSize - 1}, kDsSegment{kDataBase, 0x5fff},
    kEsSegment{kDataBase + 0x1000, 0x4fff}, kSsSegment{kDataBase, 0x3fff};

// x87, SSE and AVX state; registers in ST order.
struct VectorState {
  u16 control = 0x37f, status = 0;
  u8 tags = 0;  // abridged: bit n is set when physical register n is in use
  u32 mxcsr = 0x1f80;
  std::array<std::array<u8, 10>, 8> st{};
  std::array<std::array<u8, 16>, 16> xmm{}, ymm_high{};  // bits 127:0 and 255:128
  bool operator==(const VectorState&) const = default;
};

struct MachineState {
  std::array<u64, 16> gpr{};
  u64 rip = 0;
  u32 rflags = 0;
  VectorState vector;
};

struct TestCase {
  Environment environment = Environment::Long64;
  u16 code_offset = 0;  // of the first byte from kCodeBase
  std::vector<u8> code;
  u64 state_seed = 0;   // of every register without an override
  u32 memory_seed = 0;  // of the data pages
  u32 rflags = 0x202;
  u16 override_mask = 0;
  std::array<u64, 16> overrides{};
  u16 patch_offset = 0;  // bytes of the data pages that differ from memory_seed's
  std::vector<u8> patch;
  u8 index_size = 0;     // with VSIB: bytes of one index, 4 or 8; 0 without
  u8 index_register = 0; // the register that holds indices near zero
};

constexpr u8 kStopped = 0xfe;  // vector of an outcome: control came to the filler, all is well
constexpr u8 kHung = 0xff;

struct ChangedByte {
  u16 offset;
  u8 value;
  bool operator==(const ChangedByte&) const = default;
};

struct Outcome {
  MachineState state;
  u8 vector = kStopped;
  u32 error_code = 0;
  u64 fault_address = 0;
  std::vector<ChangedByte> memory;  // of the data pages, ascending
};

// Deterministic expansions of the seeds. Frozen: recorded cases rest on them.
MachineState initial_state(const TestCase& test);
void fill_memory(u32 seed, std::span<u8> data);

// The value of a register as the environment sees it.
inline u64 visible(Environment environment, u64 value) {
  return environment == Environment::Long64 ? value : static_cast<u32>(value);
}

// "long64 0800 4801c3 seed 1f mem 3 flags 202 r4=20001000 @0123:00ff", and back.
std::string format_case(const TestCase& test);
std::optional<TestCase> parse_case(std::string_view text);

// Bits that silicon is not asked about.
struct Ignored {
  u32 flags = 0, fsw = 0, mxcsr = 0;
};

// Compact form for recordings: appended to `out`; read from `in`, which is advanced. Reading throws on damage.
void write_case(std::vector<u8>& out, const TestCase& test, const Outcome& outcome, const Ignored& ignored);
void read_case(std::span<const u8>& in, TestCase& test, Outcome& outcome, Ignored& ignored);

}  // namespace vellum::instructions
