// From an operation and its immediate to the lanes that it takes.
#include "jit/optimizer/byte_moves.h"

#include <algorithm>
#include <array>
#include <utility>

#include <llvm/IR/IRBuilder.h>

#include "cpu/semantics/byte_moves.h"
#include "state/assert.h"

namespace vellum {

namespace {

using Register = std::array<u8, 16>;

template <class Op>
Register apply(const Register& a, const Register& b, u8 immediate) {
  const auto first = std::bit_cast<V128>(a), second = std::bit_cast<V128>(b);
  if constexpr (requires { Op::template op<16>(first, second, immediate); }) return std::bit_cast<Register>(Op::template op<16>(first, second, immediate));
  else return std::bit_cast<Register>(Op::template op<16>(first, immediate));
}

struct Move {
  const char* name;
  Register (*apply)(const Register& a, const Register& b, u8 immediate);
};
constexpr Move kMoves[] = {
#define VELLUM_MOVE(name, bits, ...) {#name, apply<semantics::__VA_ARGS__>},
    VELLUM_BYTE_MOVES(VELLUM_MOVE)
#undef VELLUM_MOVE
};

}  // namespace

std::span<const char* const> byte_moves() {
  static constexpr const char* kNames[] = {
#define VELLUM_NAME(name, bits, ...) #name,
      VELLUM_BYTE_MOVES(VELLUM_NAME)
#undef VELLUM_NAME
  };
  return kNames;
}

llvm::Value* make_byte_move(unsigned which, llvm::Value* a, llvm::Value* b, u8 immediate, llvm::BasicBlock* at) {
  // The bytes of both operands have numbers from 1 on, so that 0 stays zero.
  Register first, second;
  for (u8 i = 0; i < 16; ++i) {
    first[i] = static_cast<u8>(i + 1);
    second[i] = static_cast<u8>(i + 17);
  }
  const Register moved = kMoves[which].apply(first, second, immediate);
  llvm::Type* const type = a->getType();
  llvm::Value* const nothing = llvm::Constant::getNullValue(type);
  // Zeroes come from a third vector, side by side with the bytes in front of or behind them: then they move as one.
  const usize zeroes = static_cast<usize>(std::ranges::count(moved, 0));
  if (zeroes == 16) return nothing;
  std::array<int, 16> bytes;
  for (usize i = 0; i < 16; ++i) bytes[i] = moved[i] - 1;
  if (zeroes) {
    const bool in_front = moved[0] == 0;
    const u8 some = moved[in_front ? 15 : 0];
    llvm::Value* const source = some > 16 ? b : a;
    for (usize i = 0; i < 16; ++i) {
      const int byte = moved[i] ? (moved[i] - 1) % 16 : static_cast<int>(in_front ? i + 16 - zeroes : i - (16 - zeroes));
      VELLUM_ASSERT(!moved[i] || (moved[i] > 16) == (some > 16));
      bytes[i] = byte + ((moved[i] != 0) == in_front ? 16 : 0);
    }
    a = in_front ? nothing : source;
    b = in_front ? source : nothing;
  }
  // What comes first is the first vector's.
  if (bytes[0] >= 16) {
    std::swap(a, b);
    for (int& byte : bytes) byte ^= 16;
  }
  // By lanes as wide as they stay together.
  int width = 8;
  const auto together = [&] {
    for (int i = 0; i < 16; ++i)
      if (bytes[static_cast<usize>(i)] != bytes[static_cast<usize>(i / width * width)] / width * width + i % width) return false;
    return true;
  };
  while (!together()) width /= 2;
  llvm::SmallVector<int, 16> lanes;
  for (int i = 0; i < 16; i += width) lanes.push_back(bytes[static_cast<usize>(i)] / width);
  llvm::IRBuilder<> builder(at);
  llvm::Type* const vector = llvm::FixedVectorType::get(builder.getIntNTy(static_cast<unsigned>(8 * width)), static_cast<unsigned>(16 / width));
  return builder.CreateBitCast(builder.CreateShuffleVector(builder.CreateBitCast(a, vector), builder.CreateBitCast(b, vector), lanes), type);
}

}  // namespace vellum
