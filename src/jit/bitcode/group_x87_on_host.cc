// The group "x87" for optimized code that uses the host's own x87; the table has the rows of group_x87.cc.
#include "cpu/core.h"
#include "cpu/semantics/x87_on_host.h"

#define VELLUM_GROUP x87_on_host
#define VELLUM_GROUP_FILE "cpu/opcodes/x87.def"
#define VELLUM_GROUP_SEMANTICS \
  X87OnHost<Ordinary, kSpec.opcode, kSpec.modrm_rule == ModrmRule::Memory, static_cast<unsigned>(kSpec.reg) & 7, kSpec.rm>
#include "jit/bitcode/group.inc"
