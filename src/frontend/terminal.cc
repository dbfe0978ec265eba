// Terminal modes and the signals that concern them.
#include "frontend/terminal.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <cstdlib>
#include <termios.h>
#include <unistd.h>

namespace vellum {

namespace {

termios g_original, g_raw;
volatile std::sig_atomic_t g_is_raw = 0;
std::atomic<const char*> g_farewell = nullptr;

void on_fatal(int signal) {
  restore_terminal();
  // The handler was installed with SA_RESETHAND: the signal now does what it does by default.
  raise(signal);
}

void on_stop(int) {
  const int was_raw = g_is_raw;
  restore_terminal();
  raise(SIGSTOP);
  if (was_raw) {
    tcsetattr(STDIN_FILENO, TCSANOW, &g_raw);
    g_is_raw = 1;
  }
}

}  // namespace

void set_terminal_farewell(const char* text) { g_farewell = text; }

void restore_terminal() {
  if (!g_is_raw) return;
  g_is_raw = 0;
  if (const char* farewell = g_farewell.exchange(nullptr)) {
    [[maybe_unused]] const auto written = write(STDOUT_FILENO, farewell, std::strlen(farewell));
  }
  tcsetattr(STDIN_FILENO, TCSANOW, &g_original);
}

void make_terminal_raw(TerminalKeys keys) {
  if (g_is_raw || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &g_original) != 0) return;
  g_raw = g_original;
  g_raw.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  // OPOST stays: Vellum's own messages end with a bare newline.
  g_raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
  if (keys == TerminalKeys::Guest) g_raw.c_lflag &= ~static_cast<tcflag_t>(ISIG);
  g_raw.c_cc[VMIN] = 1;
  g_raw.c_cc[VTIME] = 0;
  std::atexit(restore_terminal);
  struct sigaction fatal {};
  fatal.sa_handler = on_fatal;
  fatal.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGQUIT}) sigaction(signal, &fatal, nullptr);
  struct sigaction stop {};
  stop.sa_handler = on_stop;
  stop.sa_flags = SA_RESTART;
  sigaction(SIGTSTP, &stop, nullptr);
  g_is_raw = 1;
  tcsetattr(STDIN_FILENO, TCSANOW, &g_raw);
}

}  // namespace vellum
