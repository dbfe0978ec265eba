// The group "system" for the optimizing translator: callouts, which have no bitcode.
#include "cpu/callouts/callouts.h"

namespace vellum::semantics {}

#define VELLUM_GROUP system
#define VELLUM_GROUP_FILE "cpu/opcodes/system.def"
#include "jit/bitcode/group.inc"
