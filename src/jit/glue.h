// The stencils between instructions (stencils/glue.cc), by their number in its table.
#pragma once

#include "state/integers.h"

namespace vellum {

#define VELLUM_GLUE(X) X(Prepare) X(PrepareFirst) X(Enter) X(CallHandler) X(GoToBlock) X(CountedJump) X(GoOn) X(GoToSite) X(CountedSite) X(PassRip) X(GoToRip) \
  X(PushReturn) X(GoToReturn) X(ReturnSite) X(CountedIndirectSite) X(OpenReturnSite)

#define VELLUM_GLUE_VALUE(name) name,
enum class Glue : u8 { VELLUM_GLUE(VELLUM_GLUE_VALUE) };
#undef VELLUM_GLUE_VALUE

}  // namespace vellum
