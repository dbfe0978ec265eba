// The group "crypto" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/crypto.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/crypto.def"
#define VELLUM_INSTANTIATE instantiate_crypto
#include "instantiate.inc"
