// The one place through which input from outside enters the machine: at an instruction boundary, and known ever after.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtual_clock.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

class InputJournal;
class JournalFile;

// One source of input: the keyboard, a serial line, a button. Its handler gives the input to the device.
class InputPort {
 public:
  using Handler = std::function<void(std::span<const u8>)>;
  static constexpr usize kLongestInput = 65536;  // bytes of one piece

  // Hands in one piece of input: a key, some bytes, nothing for a button. It reaches the device at the next instruction
  // boundary, in the order of submission over all ports; without a journal at once. On the machine's thread, at any time.
  // While recorded input is played, pieces are dropped: what was recorded takes their place.
  void submit(std::span<const u8> data);
  // Bytes that were submitted and have not reached the device yet.
  usize waiting() const { return m_waiting; }
  const std::string& name() const { return m_name; }

 private:
  friend class InputJournal;
  InputPort(InputJournal& journal, unsigned index, std::string name, Handler handler)
      : m_journal(journal), m_index(index), m_name(std::move(name)), m_handler(std::move(handler)) {}
  InputJournal& m_journal;
  unsigned m_index;
  std::string m_name;
  Handler m_handler;
  usize m_waiting = 0;
};

// What happened to the machine from outside, at the instruction count `count`.
struct InputEvent {
  enum class Kind : u8 {
    Input = 1,  // `data` came in at `port`
    Time = 2,   // virtual time moved on by `advance`, and takes `rate` / 65536 nanoseconds an instruction from here on
    Stuck = 3,  // the CPU ran until it was stuck (Exit::Stuck)
    Check = 4,  // `check` is Machine::device_state_hash()
    End = 5,    // the run ended with `status`; `check` is Machine::state_hash()
    Waited = 6,  // time of instructions: halted here, the CPU let time jump to its next timer `advance` times before the next event
  };
  Kind kind = Kind::Input;
  u64 count = 0;
  unsigned port = 0;
  Ticks advance = 0;
  u32 rate = 0;
  u64 check = 0;   // Time: the low 16 bits of Cpu::register_hash()
  int status = 0;
  std::vector<u8> data;
};

// The events of a run in their order, in memory and, when recording, in a file. The machine takes from it what is due; see
// Machine::take_input(). There is no journal (Mode::Direct) when time follows the host and nothing is recorded: then no two
// runs are the same anyway, and input goes to the devices at once.
class InputJournal {
 public:
  enum class Mode : u8 { Direct, Live, Replay };
  // A place in the journal. Timeline goes back to it together with the machine's state.
  struct Position {
    usize offset = 0;
    u64 count = 0;
  };

  // `retired` tells the instruction count.
  explicit InputJournal(std::function<u64()> retired);
  ~InputJournal();
  InputJournal(const InputJournal&) = delete;

  // Names are unique, and ports are added in the same order in every machine of the same configuration.
  InputPort& add_port(std::string name, InputPort::Handler handler);

  // Before the machine runs: events are kept from now on, and written to `file`.
  void keep() { m_kept = true; }
  void keep_in(std::unique_ptr<JournalFile> file);
  // Before the machine runs: plays these events and ends with them. `ports` are the names of the ports of the machine that
  // recorded them; the error is one that this machine does not have.
  Result<void> play(std::vector<u8> events, const std::vector<std::string>& ports);
  std::vector<std::string> port_names() const;

  // Replay: the next events come from the journal, because a file is played or because the machine was taken back.
  Mode mode() const;
  // What is submitted now is dropped, since its place in the run has been filled already.
  bool input_closed() const { return mode() == Mode::Replay; }
  // The machine was taken back and runs again what it has run before: nothing of that may be shown to the world twice.
  bool in_past() const { return m_retired() < m_furthest; }
  // The greatest instruction count from which the machine was taken back.
  u64 furthest() const { return m_furthest; }
  // A file is played, whose end ends the run.
  bool plays_file() const { return m_plays_file; }
  bool writes_file() const { return m_file != nullptr; }

  // ---- For the machine.
  // The next event to play, or nullptr.
  const InputEvent* next();
  // The instruction count of the next event to play; ~0 without one.
  u64 next_count();
  void advance();
  void append(const InputEvent& event);
  // Time of instructions: the CPU is halted, and time is about to jump to the next timer. What comes in at the same instruction count
  // comes behind that.
  void note_wait();
  bool anything_waiting() const { return !m_waiting.empty(); }
  // Gives the oldest piece that waits to its device, after noting it.
  void deliver_waiting();
  void apply(const InputEvent& event);
  // Ends and closes the file of a recording. The error is the first that writing met.
  std::optional<std::string> close_file();
  // A damaged event, or a port that this machine does not have: what is wrong with it.
  const std::optional<std::string>& damage() const { return m_damage; }

  // The machine's state is another's now (loadvm): what was kept is void. Not for a file that is written or played.
  bool can_restart() const { return !m_plays_file && !m_file; }
  void restart();
  u64 restarts() const { return m_restarts; }  // how often that was

  // ---- For Timeline.
  Position position() const { return m_position; }
  // The machine's state is now that of this position.
  void go_to(const Position& position, u64 furthest);
  // Forgets what comes behind the present position: the run takes another way from here. False for a file.
  bool forget_future();

 private:
  friend class InputPort;
  struct Piece {
    InputPort* port;
    std::vector<u8> data;
  };
  void submit(InputPort& port, std::span<const u8> data);
  bool decode();

  std::function<u64()> m_retired;
  std::vector<std::unique_ptr<InputPort>> m_ports;
  std::vector<unsigned> m_played_ports;  // of a played file: the port of each number in it
  bool m_kept = false, m_plays_file = false;
  std::vector<u8> m_events;  // encoded, see the .cc file
  Position m_position;       // of the next event
  Position m_end;            // the count is that of the last event
  // The event at m_position, once it was asked for, and where the one behind it stands.
  std::optional<InputEvent> m_next;
  usize m_next_end = 0;
  std::deque<Piece> m_waiting;
  std::unique_ptr<JournalFile> m_file;
  u64 m_furthest = 0, m_restarts = 0;
  u64 m_waits = 0, m_waits_count = 0;  // note_wait() so often at this count, since the last event
  std::optional<std::string> m_damage;
};

}  // namespace vellum
