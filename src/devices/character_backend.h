// The far end of a serial line or console: what a device can send bytes to and get bytes from.
#pragma once

#include <functional>
#include <span>

#include "state/integers.h"

namespace vellum {

// Implemented by the frontend (terminal, pty, file, socket). Devices never block on it.
class CharacterBackend {
 public:
  virtual ~CharacterBackend() = default;
  // Sends bytes out; the backend buffers or drops them, as its kind demands.
  virtual void send(std::span<const u8> data) = 0;

  // The device's side: how many bytes it can take now, and the bytes when they come.
  std::function<usize()> can_receive = [] { return usize{0}; };
  std::function<void(std::span<const u8>)> receive = [](std::span<const u8>) {};
  // A break condition on the line (the frontend's Ctrl-A b).
  std::function<void()> receive_break = [] {};
  // The device calls this when it has room again after can_receive() returned 0.
  virtual void room_available() {}
};

}  // namespace vellum
