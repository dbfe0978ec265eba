// Where translated code goes that does not know its way yet, or finds that it leads elsewhere now: ways to other pages, and returns.
// And where it goes when it has run for a slice.
#pragma once

#include "cpu/block.h"
#include "jit/hole_fields.h"

namespace vellum {

// These have a stencil's signature and come from one. Each enters the block that is wanted, if the jump cache knows it, and
// may link the site that it comes from; otherwise it returns to the run loop with s->rip set.
//
// On the way to another page, with the instruction in front of that way.
VELLUM_HANDLER_ABI void site_taken(VELLUM_STENCIL_PARAMETERS);
VELLUM_HANDLER_ABI void site_next(VELLUM_STENCIL_PARAMETERS);
// A return: `insn` is the RIP, and flag_result the BoundInsn of a call that may be the one it returns from.
VELLUM_HANDLER_ABI void site_return(VELLUM_STENCIL_PARAMETERS);
// Another indirect transfer: likewise, with its own BoundInsn.
VELLUM_HANDLER_ABI void site_indirect(VELLUM_STENCIL_PARAMETERS);
// Sites that have been wrong so often that they are not linked any more.
VELLUM_HANDLER_ABI void given_up_taken(VELLUM_STENCIL_PARAMETERS);
VELLUM_HANDLER_ABI void given_up_next(VELLUM_STENCIL_PARAMETERS);
// A return from no call that is known, or from one whose site has been given up.
VELLUM_HANDLER_ABI void return_unknown(VELLUM_STENCIL_PARAMETERS);
// The entry of the block of `insn`, which flag_result is the address of if it is not 0, when the slice does not cover the block.
VELLUM_HANDLER_ABI void slice_spent(VELLUM_STENCIL_PARAMETERS);

// The block that a way to another page, or a return, leads to is `to`, at `target`; CpuState::code_base is that of the block with the
// way. Links it, unless it leads elsewhere too often.
void link_site(CpuState* s, const BoundInsn* insn, Way way, u64 target, Block* to);

}  // namespace vellum
