// From an operation and its immediate to the lanes that it takes.
#include "jit/optimizer/byte_moves.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <llvm/IR/IRBuilder.h>

#include "cpu/semantics/byte_moves.h"
#include "state/assert.h"

namespace vellum {

namespace {

constexpr usize kLane = 16;
// The first bytes of it, where the operation is on fewer.
using Register = std::array<u8, 2 * kLane>;

template <class Op, usize Size>
void apply(const u8* a, const u8* b, u8 immediate, u8* to) {
  semantics::Raw<Size> first, second, result;
  std::memcpy(&first, a, Size);
  std::memcpy(&second, b, Size);
  if constexpr (requires { Op::template op<Size>(first, second, immediate); }) result = Op::template op<Size>(first, second, immediate);
  else result = Op::template op<Size>(first, immediate);
  std::memcpy(to, &result, Size);
}

struct Move {
  const char* name;
  usize size;        // of its vectors, in bytes
  usize at_once;     // so many of them in one call of the function
  unsigned bits;     // by which the next call's immediate lies higher
  void (*apply)(const u8* a, const u8* b, u8 immediate, u8* to);
};
constexpr Move kMoves[] = {
#define VELLUM_MOVE(name, bits, ...) {"vellum_move_" #name, kLane, kLane, 0, apply<semantics::__VA_ARGS__, kLane>},
    VELLUM_BYTE_MOVES(VELLUM_MOVE)
#undef VELLUM_MOVE
#define VELLUM_MOVE(name, bits, ...) {"vellum_wide_move_" #name, 2 * kLane, kLane, bits, apply<semantics::__VA_ARGS__, kLane>},
    VELLUM_BYTE_MOVES(VELLUM_MOVE)
#undef VELLUM_MOVE
#define VELLUM_MOVE(name, ...) {"vellum_wide_move_" #name, 2 * kLane, 2 * kLane, 0, apply<semantics::__VA_ARGS__, 2 * kLane>},
    VELLUM_MOVES_ACROSS(VELLUM_MOVE)
#undef VELLUM_MOVE
};

}  // namespace

std::span<const char* const> byte_moves() {
  static constexpr auto kNames = [] {
    std::array<const char*, std::size(kMoves)> names{};
    std::ranges::transform(kMoves, names.begin(), &Move::name);
    return names;
  }();
  return kNames;
}

llvm::Value* make_byte_move(unsigned which, llvm::Value* a, llvm::Value* b, u8 immediate, llvm::BasicBlock* at) {
  const Move& move = kMoves[which];
  const int size = static_cast<int>(move.size);
  // The bytes of both operands have numbers from 1 on, so that 0 stays zero.
  Register first, second, moved;
  for (u8 i = 0; i < size; ++i) {
    first[i] = static_cast<u8>(i + 1);
    second[i] = static_cast<u8>(i + size + 1);
  }
  unsigned control = immediate;
  for (usize done = 0; done < move.size; done += move.at_once, control >>= move.bits)
    move.apply(&first[done], &second[done], static_cast<u8>(control), &moved[done]);
  llvm::Type* const type = a->getType();
  llvm::Value* const nothing = llvm::Constant::getNullValue(type);
  // Zeroes come from a third vector, side by side with the bytes in front of or behind them: then they move as one.
  const auto zeroes = [&](usize begin, usize end) { return static_cast<int>(std::count(moved.begin() + begin, moved.begin() + end, 0)); };
  if (zeroes(0, move.size) == size) return nothing;
  std::array<int, std::tuple_size_v<Register>> bytes;
  for (usize i = 0; i < move.size; ++i) bytes[i] = moved[i] - 1;
  if (zeroes(0, move.size)) {
    const bool in_front = moved[0] == 0;
    const u8 some = moved[in_front ? move.size - 1 : 0];
    llvm::Value* const source = some > size ? b : a;
    for (usize i = 0; i < move.size; ++i) {
      const usize lane = i / kLane * kLane;
      const int missing = static_cast<int>(kLane) - zeroes(lane, lane + kLane);
      const int byte = moved[i] ? (moved[i] - 1) % size : static_cast<int>(in_front ? i + static_cast<usize>(missing) : i - static_cast<usize>(missing));
      VELLUM_ASSERT(!moved[i] || (moved[i] > size) == (some > size));
      bytes[i] = byte + ((moved[i] != 0) == in_front ? size : 0);
    }
    a = in_front ? nothing : source;
    b = in_front ? source : nothing;
  }
  // What comes first is the first vector's.
  if (bytes[0] >= size) {
    std::swap(a, b);
    for (int& byte : bytes) byte ^= size;
  }
  // By lanes as wide as they stay together.
  int width = 8;
  const auto together = [&] {
    for (int i = 0; i < size; ++i)
      if (bytes[static_cast<usize>(i)] != bytes[static_cast<usize>(i / width * width)] / width * width + i % width) return false;
    return true;
  };
  while (!together()) width /= 2;
  llvm::SmallVector<int, 16> lanes;
  for (int i = 0; i < size; i += width) lanes.push_back(bytes[static_cast<usize>(i)] / width);
  llvm::IRBuilder<> builder(at);
  llvm::Type* const vector = llvm::FixedVectorType::get(builder.getIntNTy(static_cast<unsigned>(8 * width)), static_cast<unsigned>(size / width));
  return builder.CreateBitCast(builder.CreateShuffleVector(builder.CreateBitCast(a, vector), builder.CreateBitCast(b, vector), lanes), type);
}

}  // namespace vellum
