// Files by which Linux perf names translated code: -perfmap and -jitdump.
#pragma once

#include <memory>

#include "cpu/core.h"
#include "jit/translation_observer.h"
#include "state/error.h"

namespace vellum {

// /tmp/perf-PID.map, which perf report reads by itself: lines of address, size and name
// (Linux tools/perf/Documentation/jit-interface.txt). It cannot say that code is gone.
Result<std::shared_ptr<TranslationObserver>> make_perf_map(const CpuCore& core);

// jit-PID.dump in the current directory, with the code itself and when it was made, for perf record -k mono and perf inject
// --jit (Linux tools/perf/Documentation/jitdump-specification.txt).
Result<std::shared_ptr<TranslationObserver>> make_jit_dump(const CpuCore& core);

}  // namespace vellum
