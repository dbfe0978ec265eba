// The host's ends of serial lines and the monitor: terminal, file, pseudo-terminal, Unix socket.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/character_backend.h"
#include "frontend/options.h"
#include "machine/event_loop.h"
#include "state/error.h"

namespace vellum {

// A backend on the host that somebody may come to and leave.
class HostBackend : public CharacterBackend {
 public:
  // Takes hold of the host's side; until then what is sent is lost. Blocks for `unix:PATH,server` with wait until somebody
  // connects.
  virtual Result<void> open() { return {}; }
  // Somebody is there to read and write (a socket was connected, or the kind always is); the monitor greets them.
  virtual bool connected() const { return true; }
  std::function<void()> on_connected = [] {};
  // What the user should be told once at the start ("serial line on /dev/pts/3"); empty: nothing.
  virtual std::string announcement() const { return {}; }
  // Tries for a moment to get rid of what is still unsent.
  virtual void drain() {}
};

// Swallows everything.
class NullBackend final : public HostBackend {
 public:
  void send(std::span<const u8>) override {}
};

// A pair of descriptors, or one for both directions, served by the event loop. What cannot be written at once is kept
// and written as the other side takes it.
class StreamBackend : public HostBackend {
 public:
  // What happens when the other side takes nothing for long.
  enum class WhenFull : u8 {
    Wait,  // the machine waits: nothing may be lost (terminal, pipe, file)
    Drop,  // the newest bytes are lost, as on a serial line without a listener
  };
  StreamBackend(EventLoop& events, WhenFull when_full) : m_events(events), m_when_full(when_full) {}
  ~StreamBackend() override;

  void send(std::span<const u8> data) override;
  void drain() override;
  bool connected() const override { return m_output >= 0; }

 protected:
  // Takes over the descriptors; the same one may be given twice. `input` may be -1.
  void open_stream(int input, int output);
  void close_stream();
  virtual void hung_up() { close_stream(); }
  EventLoop& events() { return m_events; }

 private:
  void input_ready();
  bool write_some();  // false: nothing could be written now

  EventLoop& m_events;
  WhenFull m_when_full;
  int m_input = -1, m_output = -1;
  std::deque<u8> m_pending;
  std::unique_ptr<EventSource> m_input_source, m_output_source;
};

// The backend for any kind but None and Chardev, not yet open.
std::unique_ptr<HostBackend> make_backend(EventLoop& events, const CharacterSpec& spec);

// While this returns true, waiting for a slow reader is given up (a signal asked for the end).
extern bool (*g_stop_waiting)();

}  // namespace vellum
