// Shuffles that stand for the operations of cpu/semantics/byte_moves.h.
#pragma once

#include <span>

#include <llvm/IR/BasicBlock.h>

#include "state/integers.h"

namespace vellum {

// The names of the functions that stand for them in the bitcode.
std::span<const char* const> byte_moves();
// Puts the operation to the end of the block, which has no terminator. The result has the type of `a`.
llvm::Value* make_byte_move(unsigned which, llvm::Value* a, llvm::Value* b, u8 immediate, llvm::BasicBlock* at);

}  // namespace vellum
