// Moves computations out of the way of the hot path.
#pragma once

#include <llvm/IR/Function.h>

namespace vellum {

// What is only wanted where code seldom comes (helpers' calls, which store the state) or where the region is left is computed
// there, once for each such block. Branch weights tell where that is.
void sink_into_cold_blocks(llvm::Function& function);

}  // namespace vellum
