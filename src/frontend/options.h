// The command line, parsed: nothing of it has been opened or looked up yet.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cpu/model.h"
#include "debug/profile.h"
#include "debug/trace_events.h"
#include "frontend/network_options.h"
#include "frontend/vnc_options.h"
#include "jit/engine.h"
#include "machine/machine_clock.h"
#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// Where a serial line, the debug console or the monitor leads.
struct CharacterSpec {
  enum class Kind : u8 { None, Null, Unix, Pty, File, Stdio, Chardev };  // in the order in which they are opened
  Kind kind = Kind::None;
  std::string path;         // File, Unix; the id for Chardev
  bool server = false;      // Unix: wait for somebody to connect rather than connect
  bool wait = true;         // Unix server: do not start before somebody has
  bool append = false;      // File
  bool mux = false;         // several users share it, and Ctrl-A switches between them
  bool signals = true;      // Stdio: Ctrl-C ends Vellum rather than going to the guest
  std::string option;       // as the user wrote it, for messages
  bool operator==(const CharacterSpec&) const = default;
};

struct ChardevSpec {
  std::string id;
  CharacterSpec backend;
};

struct DriveSpec {
  enum class Interface : u8 { Ide, Floppy, Usb, None };  // None: until a device takes it
  std::string file;  // empty: a CD-ROM drive or a USB disk without a medium
  Interface interface = Interface::Ide;
  unsigned index = 0;  // Ide: 0 primary master … 3 secondary slave; Floppy: 0 A:, 1 B:; Usb: in the order of the ports
  std::string id;      // by which a device names it
  bool cdrom = false;
  std::string format;  // "raw", or empty
  bool snapshot = false;
  bool read_only = false;
  std::string option;  // "-hda", "-drive", for messages
};

// One -display.
struct DisplaySpec {
  enum class Kind : u8 { Sdl, Vnc, Terminal };
  enum class Scaling : u8 { Linear, Nearest, Integer };
  Kind kind = Kind::Sdl;
  Scaling scaling = Scaling::Linear;  // Sdl: how the picture fills the window
  bool full_screen = false;           // Sdl
  VncOptions vnc;
  std::string option;                 // as the user wrote it, for messages
};

// -audiodev: where sound goes.
struct AudioSpec {
  enum class Kind : u8 { Default, None, Sdl, Wav };  // Default: SDL with a window, else nowhere
  Kind kind = Kind::Default;
  std::string path;  // Wav
};

struct Options {
  std::string machine = "pc";
  CpuModel cpu;
  u64 memory_size = u64{128} << 20;  // bytes
  std::string bios;                  // empty: the default one
  std::vector<std::string> data_directories;
  std::string kernel, initrd, append;
  bool append_given = false;
  std::vector<DriveSpec> drives;
  bool snapshot = false;  // -snapshot, for media that are inserted later
  std::string boot_order = "cad";
  bool boot_menu = false;
  std::vector<CharacterSpec> serial;  // at most four
  std::vector<ChardevSpec> chardevs;
  std::optional<CharacterSpec> debug_console;
  std::optional<CharacterSpec> monitor;
  bool no_graphic = false;
  // No -display and no -nographic: a window where the host has a display.
  bool default_display = false;
  std::vector<DisplaySpec> displays;
  std::optional<u16> debug_exit_port;
  u16 debug_exit_size = 2;
  bool usb = false, usb_tablet = false;
  bool sb16 = false, ac97 = false;
  NetworkOptions network;
  AudioSpec audio;
  bool test_device = false;
  ClockMode clock = ClockMode::Realtime;
  EngineOptions engine;
  bool no_reboot = false;
  bool start_stopped = false;
  std::vector<std::string> symbols;
  std::string gdb;  // where gdb is served; empty: nowhere
  u64 rtc_base = 0;  // seconds since 1970-01-01
  std::string log_items, log_file;
  bool statistics = false;
  std::string record, replay;   // journal files; empty: none
  bool stop_at_replay_end = false;
  u64 history = 0;              // bytes of memory for going back in time; 0: none
  std::optional<TraceSpec> trace;
  std::optional<ProfileSpec> profile;
  std::vector<u64> hash_counts;  // -state-hash: ascending instruction counts
};

// What to print instead of running a machine (-help, -version, -cpu help …).
struct Information {
  std::string text;
};

// Parses the arguments after the program's name. An error is one line that says what was mistyped and, where there is
// one, the nearest valid name. `now` is the host's time in seconds since 1970-01-01 (UTC).
Result<std::variant<Options, Information>> parse_options(std::span<const std::string_view> arguments, u64 now);

std::string help_text();
// Names of all options with the leading dash, for help, completion and tests.
std::vector<std::string_view> option_names();

}  // namespace vellum
