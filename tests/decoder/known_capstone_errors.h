// Where Capstone 4 is wrong, or decodes what Vellum does not offer yet; each with its reason.
#pragma once

#include <capstone/capstone.h>

#include "cpu/insn.h"

struct KnownError {
  const char* reason;
};

// The reason why a difference on these bytes is not the decoder's fault, or nullptr. `ours` and `theirs` are nullptr when
// the respective decoder refuses.
const KnownError* known_capstone_error(const vellum::u8* bytes, unsigned bits, const vellum::Insn* ours, const cs_insn* theirs);
