// The controlling terminal in raw mode, restored on every way out of the program.
#pragma once

#include "state/integers.h"

namespace vellum {

// What Ctrl-C and Ctrl-Z do on the raw terminal.
enum class TerminalKeys : u8 {
  Signals,  // they signal Vellum, as in any program
  Guest,    // they go to the guest like every other key
};

// Puts standard input into raw mode, when it is a terminal, until restore_terminal() or the end of the process (exit()
// and fatal signals restore it too). A stop signal gives the terminal back while the process is stopped.
void make_terminal_raw(TerminalKeys keys);

// What else restore_terminal() writes to standard output: a string that lives as long as the program. Null: nothing.
void set_terminal_farewell(const char* text);

// Async-signal-safe; may be called at any time, more than once.
void restore_terminal();

}  // namespace vellum
