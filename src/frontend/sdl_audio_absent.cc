// Stands in for SDL's sound in a build without SDL.
#include "frontend/audio_sinks.h"
#include "state/assert.h"

namespace vellum {

bool has_sdl_audio() { return false; }

Result<std::unique_ptr<AudioSink>> make_sdl_sink() { VELLUM_ASSERT(!"this build has no SDL"); }

}  // namespace vellum
