// The interpreter's handlers of the group "system".
#include "cpu/callouts/callouts.h"

#define VELLUM_GROUP system
#define VELLUM_GROUP_FILE "cpu/opcodes/system.def"
#include "cpu/interpreter/group.inc"
