// What devices are wired to in tests: interrupt lines that count edges, a character backend that remembers.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "devices/character_backend.h"
#include "devices/ethernet.h"
#include "devices/interrupt_line.h"
#include "state/archive.h"

namespace vellum {

struct FakeLines : InterruptSink {
  std::array<bool, 64> level{};
  std::array<unsigned, 64> rises{};
  void set_input(unsigned pin, bool now) override {
    if (pin >= level.size()) return;
    if (now && !level[pin]) ++rises[pin];
    level[pin] = now;
  }
  InterruptLine line(unsigned pin = 0) { return {*this, pin}; }
};

struct FakeBackend : CharacterBackend {
  std::string sent;
  unsigned room_calls = 0;
  void send(std::span<const u8> data) override { sent.append(data.begin(), data.end()); }
  void room_available() override { ++room_calls; }
  void type(std::string_view text) { receive({reinterpret_cast<const u8*>(text.data()), text.size()}); }
};

// A cable that remembers what was sent.
struct FakeNetwork : NetworkBackend {
  std::vector<std::vector<u8>> sent;
  unsigned room_calls = 0;
  void send(std::span<const u8> frame) override { sent.emplace_back(frame.begin(), frame.end()); }
  void room_available() override { ++room_calls; }
};

template <class T>
std::vector<u8> saved(T& part) {
  ArchiveWriter writer;
  writer("part", part);
  return writer.take();
}

template <class T>
bool load(T& part, std::span<const u8> data) {
  ArchiveReader reader(data);
  reader("part", part);
  return !reader.failed() && reader.at_end();
}

template <class T>
u64 hash_of(T& part) {
  ArchiveHasher hasher;
  hasher("part", part);
  return hasher.hash();
}

template <class T>
std::string described(T& part) {
  ArchivePrinter printer;
  printer("part", part);
  return printer.text();
}

}  // namespace vellum
