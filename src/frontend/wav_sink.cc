// Sound into a WAV file (RIFF, "Multimedia Programming Interface and Data Specifications 1.0").
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "frontend/audio_sinks.h"
#include "frontend/message.h"

namespace vellum {

namespace {

constexpr u32 kHeaderSize = 44;
constexpr u64 kLargest = 0xffff0000;  // sizes have 32 bits

class WavSink final : public AudioSink {
 public:
  WavSink(int file, std::string path) : m_file(file), m_path(std::move(path)) {}
  ~WavSink() override {
    write_header();
    close(m_file);
  }

  void play(std::span<const i16> samples) override {
    if (m_failed) return;
    const usize bytes = samples.size_bytes();
    if (m_size + bytes > kLargest) return give_up("the file has reached the 4 GiB that WAV can hold");
    const auto* data = reinterpret_cast<const char*>(samples.data());
    for (usize done = 0; done < bytes;) {
      const ssize_t written = pwrite(m_file, data + done, bytes - done, static_cast<off_t>(kHeaderSize + m_size + done));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return give_up(std::strerror(errno));
      done += static_cast<usize>(written);
    }
    m_size += bytes;
    if (m_size >= m_size_in_header + kAudioRate * 4) write_header();
  }

  bool write_header() {
    std::array<u8, kHeaderSize> header{};
    const auto text = [&header](usize at, const char* word) { std::memcpy(header.data() + at, word, 4); };
    const auto number = [&header](usize at, u64 value, unsigned bytes) {
      for (unsigned i = 0; i < bytes; ++i) header[at + i] = static_cast<u8>(value >> (8 * i));
    };
    text(0, "RIFF");
    number(4, kHeaderSize - 8 + m_size, 4);
    text(8, "WAVE");
    text(12, "fmt ");
    number(16, 16, 4);
    number(20, 1, 2);  // PCM
    number(22, 2, 2);
    number(24, kAudioRate, 4);
    number(28, kAudioRate * 4, 4);
    number(32, 4, 2);
    number(34, 16, 2);
    text(36, "data");
    number(40, m_size, 4);
    m_size_in_header = m_size;
    return pwrite(m_file, header.data(), header.size(), 0) == static_cast<ssize_t>(header.size());
  }

 private:
  void give_up(const char* reason) {
    m_failed = true;
    tell_user("-audiodev wav: cannot write '{}': {}; the rest of the sound is lost", m_path, reason);
  }

  int m_file;
  std::string m_path;
  u64 m_size = 0, m_size_in_header = 0;
  bool m_failed = false;
};

}  // namespace

Result<std::unique_ptr<AudioSink>> make_wav_sink(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return failure(fmt::format("-audiodev wav: cannot open '{}': {}", path, std::strerror(errno)));
  auto sink = std::make_unique<WavSink>(file, path);
  if (!sink->write_header()) return failure(fmt::format("-audiodev wav: cannot write '{}': {}", path, std::strerror(errno)));
  return sink;
}

}  // namespace vellum
