// ECMA-48 sequences out, keys in. Everything runs on the machine's thread and nothing waits for the terminal.
#include "frontend/terminal_display.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "frontend/keysyms.h"
#include "frontend/overlay_console.h"
#include "frontend/terminal.h"

namespace vellum {

namespace {

// Alternate screen, no autowrap; and back, with colours and cursor as they were.
constexpr std::string_view kStart = "\033[?1049h\033[?7l\033[H\033[2J";
constexpr const char* kFarewell = "\033[0m\033[?7h\033[?25h\033[?1049l";
// What a guest can take in without a gap: a BIOS's buffer has 15 keys, and a real typist's keys are further apart.
constexpr long kKeyNanoseconds = 4'000'000;
constexpr usize kMostKeys = 4096;
constexpr u8 kPrefix = 0x01;  // Ctrl-A
constexpr std::string_view kShifted = "~!@#$%^&*()_+{}|:\"<>?";

// The VGA counts blue, green, red; ECMA-48 red, green, blue.
constexpr unsigned ansi_color(unsigned vga) { return (vga & 1) << 2 | (vga & 2) | (vga & 4) >> 2; }

struct Sequence {
  std::string_view text;  // behind ESC
  KeyCode code;
};
// xterm's and the Linux console's keys.
constexpr Sequence kSequences[] = {
    {"[A", KeyCode::Up}, {"[B", KeyCode::Down}, {"[C", KeyCode::Right}, {"[D", KeyCode::Left}, {"OA", KeyCode::Up},
    {"OB", KeyCode::Down}, {"OC", KeyCode::Right}, {"OD", KeyCode::Left}, {"[H", KeyCode::Home}, {"[F", KeyCode::End},
    {"OH", KeyCode::Home}, {"OF", KeyCode::End}, {"[1~", KeyCode::Home}, {"[4~", KeyCode::End}, {"[7~", KeyCode::Home},
    {"[8~", KeyCode::End}, {"[2~", KeyCode::Insert}, {"[3~", KeyCode::Delete}, {"[5~", KeyCode::PageUp}, {"[6~", KeyCode::PageDown},
    {"OP", KeyCode::F1}, {"OQ", KeyCode::F2}, {"OR", KeyCode::F3}, {"OS", KeyCode::F4}, {"[[A", KeyCode::F1},
    {"[[B", KeyCode::F2}, {"[[C", KeyCode::F3}, {"[[D", KeyCode::F4}, {"[[E", KeyCode::F5}, {"[11~", KeyCode::F1},
    {"[12~", KeyCode::F2}, {"[13~", KeyCode::F3}, {"[14~", KeyCode::F4}, {"[15~", KeyCode::F5}, {"[17~", KeyCode::F6},
    {"[18~", KeyCode::F7}, {"[19~", KeyCode::F8}, {"[20~", KeyCode::F9}, {"[21~", KeyCode::F10}, {"[23~", KeyCode::F11},
    {"[24~", KeyCode::F12}, {"OM", KeyCode::KeypadEnter},
};

class TerminalDisplay final : public Display {
 public:
  TerminalDisplay(DisplayControl& control, EventLoop& events) : m_control(control), m_events(events), m_console({}) {}
  ~TerminalDisplay() override {
    m_input.reset();
    m_output.reset();
    m_timer_source.reset();
    if (m_timer >= 0) close(m_timer);
    if (m_terminal >= 0) {
      restore_terminal();
      close(m_terminal);
    }
  }

  Result<void> open() override {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
      return failure("-display terminal: standard input and output are no terminal; start Vellum in one, or choose -display vnc=:0 or -display none");
    // A description of our own, so that what else has this terminal does not find it non-blocking.
    m_terminal = ::open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    m_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (m_terminal < 0 || m_timer < 0) return failure(fmt::format("-display terminal: the terminal cannot be opened: {}", std::strerror(errno)));
    make_terminal_raw(TerminalKeys::Guest);
    set_terminal_farewell(kFarewell);
    m_waiting = kStart;
    m_input = std::make_unique<EventSource>(m_events, m_terminal, [] { return short{POLLIN}; }, [this](short) { read_keys(); });
    m_output = std::make_unique<EventSource>(m_events, m_terminal, [this] { return static_cast<short>(m_waiting.empty() ? 0 : POLLOUT); }, [this](short) { flush(); });
    m_timer_source = std::make_unique<EventSource>(m_events, m_timer, [] { return short{POLLIN}; }, [this](short) {
      u64 expired;
      [[maybe_unused]] const auto taken = read(m_timer, &expired, sizeof(expired));
      next_key();
    });
    return {};
  }

  void show(const ScreenFrame& frame, std::span<const ScreenRectangle>) override {
    m_width = frame.width;
    m_height = frame.height;
    m_stale = true;
    draw();
  }

  void show_status(const MachineStatus& status) override {
    m_running = status.running;
    m_stale = true;  // the terminal may have another size
    draw();
  }

 private:
  // ---- Output

  void flush() {
    while (!m_waiting.empty()) {
      const auto written = write(m_terminal, m_waiting.data(), m_waiting.size());
      if (written <= 0) {
        if (written < 0 && errno == EINTR) continue;
        break;  // the rest when it has room, or never when it has gone
      }
      m_waiting.erase(0, static_cast<usize>(written));
    }
    if (m_waiting.empty()) draw();
  }

  // Draws what differs from what the terminal shows, unless it has not taken the last picture yet.
  void draw() {
    if (!m_stale || !m_waiting.empty()) return;
    m_stale = false;
    winsize size{};
    if (ioctl(m_terminal, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) size = {25, 80, 0, 0};
    std::string out;
    if (size.ws_col != m_columns || size.ws_row != m_rows || m_redraw) {
      m_columns = size.ws_col;
      m_rows = size.ws_row;
      m_redraw = false;
      m_shown.clear();
      out += "\033[0m\033[2J";
    }
    std::vector<std::string> lines;
    std::string cursor = "\033[?25l";
    if (m_console_open) {
      lines = m_console.visible(m_columns, m_rows);
    } else if (const TextScreen screen = m_control.text(); screen.rows == 0) {
      lines = {fmt::format("The guest shows {}x{} graphics. Ctrl-A s writes them to a file; Ctrl-A h shows more keys.", m_width, m_height).substr(0, m_columns)};
    } else {
      // Where the terminal is too small the part with the cursor is shown.
      const unsigned top = screen.cursor_visible && screen.cursor_row >= m_rows ? screen.cursor_row - m_rows + 1 : 0;
      for (unsigned row = top; row < screen.rows && lines.size() < m_rows; ++row) lines.push_back(text_line(screen, row));
      if (screen.cursor_visible && screen.cursor_column < m_columns)
        cursor = fmt::format("\033[{};{}H\033[?25h", screen.cursor_row - top + 1, screen.cursor_column + 1);
    }
    if (!m_running && !m_console_open && !lines.empty()) lines.back() = "\033[0;7mVellum: paused; Ctrl-A p goes on";
    if (!m_notice.empty() && !lines.empty()) lines.front() = "\033[0;7m" + m_notice.substr(0, m_columns);
    m_shown.resize(m_rows);
    for (usize row = 0; row < m_rows; ++row) {
      const std::string line = row < lines.size() ? lines[row] : "";
      if (m_shown[row] == line) continue;
      out += fmt::format("\033[{};1H\033[0m\033[2K{}", row + 1, line);
      m_shown[row] = line;
    }
    if (out.empty() && cursor == m_cursor) return;
    m_cursor = cursor;
    m_waiting = out + cursor;
    flush();
  }

  std::string text_line(const TextScreen& screen, unsigned row) const {
    std::string line;
    int last = -1;
    for (unsigned column = 0; column < std::min<unsigned>(screen.columns, m_columns); ++column) {
      const TextCell cell = screen.cells[usize{row} * screen.columns + column];
      if (cell.attribute != last) {
        last = cell.attribute;
        const unsigned foreground = cell.attribute & 0xf, background = cell.attribute >> 4;
        const bool bright_background = (background & 8) && !screen.blinking;
        line += fmt::format("\033[0;{}{};{}{}m", foreground & 8 ? 9 : 3, ansi_color(foreground & 7), bright_background ? 10 : 4, ansi_color(background & 7));
        if ((background & 8) && screen.blinking) line += "\033[5m";
      }
      append_utf8(line, cell.character == 0 || cell.character == 0xff ? U' ' : code_page_437(cell.character));
    }
    return line;
  }

  void notice(std::string text) {
    m_notice = std::move(text);
    m_stale = true;
    draw();
  }

  // ---- Keys

  void read_keys() {
    char data[256];
    const auto length = read(m_terminal, data, sizeof(data));
    if (length == 0 || (length < 0 && errno != EINTR && errno != EAGAIN)) {
      // The terminal has gone, and with it whoever could end Vellum.
      m_input.reset();
      m_control.quit();
      return;
    }
    if (length < 0) return;
    std::string_view text(data, static_cast<usize>(length));
    if (!m_notice.empty()) m_notice.clear(), m_stale = true;
    while (!text.empty()) {
      const auto used = m_console_open && !m_prefixed && text[0] != static_cast<char>(kPrefix) ? console_key(text) : guest_key(text);
      text.remove_prefix(std::min(used, text.size()));
    }
    draw();
  }

  // Takes one key from the front and returns how many bytes it was.
  usize guest_key(std::string_view text) {
    const u8 byte = static_cast<u8>(text[0]);
    if (m_prefixed) {
      m_prefixed = false;
      command(byte);
      return 1;
    }
    if (byte == kPrefix) {
      m_prefixed = true;
      return 1;
    }
    if (byte == 0x1b && text.size() > 1) {
      for (const Sequence& sequence : kSequences)
        if (text.substr(1).starts_with(sequence.text)) {
          press({sequence.code});
          return 1 + sequence.text.size();
        }
      // Meta sends ESC in front of a character.
      character(static_cast<u8>(text[1]), true);
      return 2;
    }
    character(byte, false);
    return 1;
  }

  void character(u8 byte, bool alt) {
    std::vector<KeyCode> keys;
    if (alt) keys.push_back(KeyCode::LeftAlt);
    switch (byte) {
      case 0x1b: keys.push_back(KeyCode::Escape); break;
      case '\r':
      case '\n': keys.push_back(KeyCode::Enter); break;
      case '\t': keys.push_back(KeyCode::Tab); break;
      case 0x7f:
      case 0x08: keys.push_back(KeyCode::Backspace); break;
      case 0: keys.insert(keys.end(), {KeyCode::LeftControl, KeyCode::Space}); break;
      default: {
        char printed = static_cast<char>(byte);
        if (byte < 0x20) {
          keys.push_back(KeyCode::LeftControl);
          printed = static_cast<char>(byte < 0x1b ? byte + 'a' - 1 : byte + '@');
        } else if ((byte >= 'A' && byte <= 'Z') || kShifted.find(printed) != kShifted.npos) {
          keys.push_back(KeyCode::LeftShift);
        }
        const auto code = byte < 0x80 ? key_of_keysym(static_cast<u8>(printed)) : std::nullopt;
        if (!code) return;  // a PC's keyboard has no key for it
        keys.push_back(*code);
      }
    }
    press(keys);
  }

  // Keys go down in this order and up in the reverse one, each with some time behind it.
  void press(const std::vector<KeyCode>& keys) {
    if (m_keys.size() > kMostKeys) return;
    const bool idle = m_keys.empty();
    for (const KeyCode code : keys) m_keys.push_back({code, true});
    for (usize i = keys.size(); i-- > 0;) m_keys.push_back({keys[i], false});
    if (idle) next_key();
  }

  void next_key() {
    if (m_keys.empty()) return;
    const auto [code, down] = m_keys.front();
    m_keys.pop_front();
    m_control.key(code, down);
    const itimerspec soon{{0, 0}, {0, kKeyNanoseconds}};
    timerfd_settime(m_timer, 0, &soon, nullptr);
  }

  void command(u8 key) {
    switch (key) {
      case kPrefix:
      case 'a': character(kPrefix, false); break;
      case 'x': m_control.quit(); break;
      case 'd': m_control.press_ctrl_alt_delete(); break;
      case 'p': m_control.toggle_pause(); break;
      case 's': {
        const auto written = m_control.take_screenshot("");
        notice(written ? "The screen is in " + *written : written.error().message);
        break;
      }
      case 'l': m_redraw = m_stale = true; break;
      case 'c':
        m_console_open = !m_console_open;
        if (m_console_open && !std::exchange(m_console_greeted, true)) m_console.print("The monitor. 'help' lists its commands; Ctrl-A c leads back.\n");
        m_stale = true;
        break;
      default: notice("Ctrl-A x: quit  c: monitor  d: Ctrl-Alt-Delete  p: pause  s: screenshot  l: redraw  a: Ctrl-A"); break;
    }
  }

  usize console_key(std::string_view text) {
    m_stale = true;
    switch (text[0]) {
      case '\r':
      case '\n': m_console.print(m_control.run_monitor_command(m_console.enter())); return 1;
      case 0x7f:
      case 0x08: m_console.erase(); return 1;
      case 0x1b:
        if (text.starts_with("\033[A")) m_console.recall(-1);
        if (text.starts_with("\033[B")) m_console.recall(1);
        return text.size() > 2 ? 3 : text.size();
      default: m_console.type(text.substr(0, 1)); return 1;
    }
  }

  // Wiring.
  DisplayControl& m_control;
  EventLoop& m_events;
  int m_terminal = -1, m_timer = -1;
  std::unique_ptr<EventSource> m_input, m_output, m_timer_source;
  // What is shown.
  std::string m_waiting;              // for the terminal to take
  std::vector<std::string> m_shown;   // row by row
  std::string m_cursor, m_notice;
  unsigned m_columns = 0, m_rows = 0;
  u32 m_width = 0, m_height = 0;      // of the guest's frame
  bool m_stale = true, m_redraw = false, m_running = true;
  // Keys.
  struct Key {
    KeyCode code;
    bool down;
  };
  std::deque<Key> m_keys;             // not yet pressed and released
  bool m_prefixed = false;
  OverlayConsole m_console;
  bool m_console_open = false, m_console_greeted = false;
};

}  // namespace

std::unique_ptr<Display> make_terminal_display(DisplayControl& control, EventLoop& events) {
  return std::make_unique<TerminalDisplay>(control, events);
}

}  // namespace vellum
