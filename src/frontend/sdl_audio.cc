// Sound through SDL: a device that asks for samples on a thread of its own.
#include <SDL.h>

#include "frontend/audio_sinks.h"
#include "frontend/playback_buffer.h"

namespace vellum {

namespace {

class SdlSink final : public AudioSink {
 public:
  ~SdlSink() override {
    if (m_device) SDL_CloseAudioDevice(m_device);
    if (m_initialised) SDL_QuitSubSystem(SDL_INIT_AUDIO);
  }

  Result<void> open() {
    if (SDL_InitSubSystem(SDL_INIT_AUDIO) != 0)
      return failure(fmt::format("-audiodev sdl: SDL finds no sound here: {} (-audiodev none does without)", SDL_GetError()));
    m_initialised = true;
    SDL_AudioSpec wanted{};
    wanted.freq = kAudioRate;
    wanted.format = AUDIO_S16SYS;
    wanted.channels = 2;
    wanted.samples = 512;
    wanted.userdata = this;
    wanted.callback = [](void* self, Uint8* data, int bytes) {
      // SDL holds the device's lock around this call.
      static_cast<SdlSink*>(self)->m_buffer.take({reinterpret_cast<i16*>(data), static_cast<usize>(bytes) / 2});
    };
    m_device = SDL_OpenAudioDevice(nullptr, 0, &wanted, nullptr, 0);
    if (!m_device) return failure(fmt::format("-audiodev sdl: SDL cannot open the sound device: {} (-audiodev none does without)", SDL_GetError()));
    SDL_PauseAudioDevice(m_device, 0);
    return {};
  }

  void play(std::span<const i16> samples) override {
    SDL_LockAudioDevice(m_device);
    m_buffer.put(samples);
    SDL_UnlockAudioDevice(m_device);
  }

 private:
  PlaybackBuffer m_buffer;
  SDL_AudioDeviceID m_device = 0;
  bool m_initialised = false;
};

}  // namespace

bool has_sdl_audio() { return true; }

Result<std::unique_ptr<AudioSink>> make_sdl_sink() {
  auto sink = std::make_unique<SdlSink>();
  if (auto opened = sink->open(); !opened) return std::unexpected(opened.error());
  return sink;
}

}  // namespace vellum
