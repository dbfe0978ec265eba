// AES, PCLMULQDQ, SHA, CRC32, SDM Vol. 1 5.12 and 5.18.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
