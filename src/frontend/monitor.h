// The monitor: a command line that watches and controls the running machine.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "debug/debug_commands.h"
#include "devices/character_backend.h"
#include "frontend/display.h"
#include "machine/machine.h"

namespace vellum {

class Monitor {
 public:
  Monitor(Machine& machine, CharacterBackend& backend);

  // What screendump asks; null: there is no screen.
  void use_screen(DisplayControl* screen) { m_screen = screen; }

  // Adds the commands for debugging.
  void use_debugger(Debugger& debugger);
  // And with these, behind those, the ones that go backwards.
  void use_reverse(Reverse& reverse) { m_debug_commands->use_reverse(reverse); }

  // Greets whoever has just connected, or just switched to the monitor.
  void greet();
  void prompt();

  // Runs one line and returns what it prints (lines end with a newline).
  std::string execute(std::string_view line);

  // The names of all commands.
  static std::vector<std::string_view> command_names();

 private:
  struct Command {
    std::string_view name, arguments, help;
    std::string (Monitor::*run)(std::span<const std::string> arguments);
    usize least_arguments, most_arguments;
  };
  static std::span<const Command> commands();

  std::string run_quit(std::span<const std::string> arguments);
  std::string run_stop(std::span<const std::string> arguments);
  std::string run_cont(std::span<const std::string> arguments);
  std::string run_reset(std::span<const std::string> arguments);
  std::string run_power_down(std::span<const std::string> arguments);
  std::string run_info(std::span<const std::string> arguments);
  std::string run_save(std::span<const std::string> arguments);
  std::string run_load(std::span<const std::string> arguments);
  std::string run_send_key(std::span<const std::string> arguments);
  std::string run_change(std::span<const std::string> arguments);
  std::string run_eject(std::span<const std::string> arguments);
  std::string run_mouse_move(std::span<const std::string> arguments);
  std::string run_mouse_button(std::span<const std::string> arguments);
  std::string run_screen_dump(std::span<const std::string> arguments);
  std::string run_translate(std::span<const std::string> arguments);
  std::string run_help(std::span<const std::string> arguments);

  void receive(std::span<const u8> data);
  void key(u8 byte);
  void escape_sequence(u8 final_byte);
  void complete();
  // What the line's last word may be.
  std::vector<std::string> candidates(std::string_view line) const;
  std::vector<std::string_view> all_commands() const;
  std::vector<DebugCommands::Topic> topics() const;
  std::vector<std::string_view> all_topics() const;
  void replace_line(std::string line);
  void print(std::string_view text);

  // Wiring.
  Machine& m_machine;
  CharacterBackend& m_backend;
  DisplayControl* m_screen = nullptr;
  Debugger* m_debugger = nullptr;
  std::optional<DebugCommands> m_debug_commands;
  // The pointer as the last mouse_move and mouse_button left it.
  u16 m_pointer_x = 0, m_pointer_y = 0;
  u8 m_pointer_buttons = 0;
  // The line being typed.
  std::string m_line;
  std::deque<std::string> m_history;
  usize m_history_position = 0;
  enum class Escape : u8 { None, Started, Sequence } m_escape = Escape::None;
  u8 m_last_byte = 0;
  bool m_for_program = false;  // another program edits the lines (vellum monitor): no echo, and a mark behind every answer
};

}  // namespace vellum
