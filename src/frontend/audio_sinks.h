// Where the machine's sound goes: a WAV file, or the host's loudspeakers through SDL.
#pragma once

#include <memory>
#include <string>

#include "devices/audio.h"
#include "state/error.h"

namespace vellum {

// Writes 48 kHz, 16 bit, stereo. The file is complete after each second, so that a program that was killed leaves a usable one.
Result<std::unique_ptr<AudioSink>> make_wav_sink(const std::string& path);

bool has_sdl_audio();
// Only if has_sdl_audio().
Result<std::unique_ptr<AudioSink>> make_sdl_sink();

}  // namespace vellum
