// One run of the program: opens what the options name, builds the machine, connects it and runs it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "debug/debugger.h"
#include "debug/gdb_server.h"
#include "debug/profile.h"
#include "debug/reverse.h"
#include "debug/timeline.h"
#include "debug/trace.h"
#include "devices/audio.h"
#include "frontend/character_backends.h"
#include "frontend/monitor.h"
#include "frontend/multiplexer.h"
#include "frontend/network_backends.h"
#include "frontend/options.h"
#include "frontend/screen.h"
#include "frontend/recording.h"
#include "machine/journal_file.h"
#include "machine/machine.h"
#include "machine/pc_board.h"
#include "state/error.h"

namespace vellum {

class Session {
 public:
  // Everything that can fail is tried here: after an error nothing was started, and no file was changed.
  static Result<std::unique_ptr<Session>> create(const Options& options, const CpuFactory& create_cpu);
  ~Session();

  // Returns the exit status of the program.
  int run();
  Machine& machine() { return *m_machine; }

 private:
  // One backend, and the multiplexer over it when several may use it.
  struct Channel {
    std::string key;
    std::string first_user;
    CharacterSpec::Kind kind = CharacterSpec::Kind::Null;
    std::unique_ptr<HostBackend> plain;
    std::unique_ptr<Multiplexer> multiplexer;
    HostBackend& host() { return multiplexer ? multiplexer->host() : *plain; }
  };
  explicit Session(const Options& options) : m_options(options) {}
  Result<void> build(const CpuFactory& create_cpu);
  Result<void> read_firmware(PcConfig& config);
  Result<void> read_kernel(PcConfig& config);
  Result<void> open_drives(PcConfig& config);
  Result<void> plan_characters(PcConfig& config);
  Result<void> open_channels();
  Result<void> serve_gdb();
  Result<void> choose_displays();
  Result<void> open_audio(PcConfig& config);
  // session_network.cc
  Result<void> plan_network(PcConfig& config);
  Result<void> open_network();
  Result<void> add_displays(const std::vector<u8>& font);
  // session_recording.cc. `machine` describes the machine and what was put into it.
  Result<void> read_recording();
  Result<void> begin_journal(const std::string& machine);
  Result<void> start_replay(const std::string& machine);
  Result<void> start_recording(const std::string& machine);
  int end_journal(int status);
  // The backend for one user; null for Kind::None. `channel` gets where it belongs to.
  Result<CharacterBackend*> attach(const CharacterSpec& spec, const std::string& user, Channel*& channel);
  void flush();
  void print_statistics(std::chrono::steady_clock::time_point started);

  Options m_options;
  RecordingHeader m_recording;  // of -replay
  std::vector<u8> m_recorded_events;
  // In the order of construction: what comes later uses what comes before.
  EventLoop m_events;
  std::vector<std::unique_ptr<Channel>> m_channels;
  CharacterBackend* m_monitor_backend = nullptr;
  Channel* m_monitor_channel = nullptr;
  std::vector<std::unique_ptr<HostNetwork>> m_networks;
  std::unique_ptr<AudioSink> m_audio;
  std::unique_ptr<Machine> m_machine;
  std::shared_ptr<HostCost> m_host_cost; // null: likewise
  std::unique_ptr<Profile> m_profile;    // null: nobody asked for it
  std::unique_ptr<Timeline> m_timeline;  // null: nobody asked for it
  std::unique_ptr<Debugger> m_debugger;
  std::unique_ptr<Reverse> m_reverse;
  std::unique_ptr<NullBackend> m_no_terminal;  // of a monitor that only gdb uses
  std::unique_ptr<Monitor> m_monitor;
  std::unique_ptr<GdbServer> m_gdb;
  // For displays that show a monitor of their own.
  std::unique_ptr<HostBackend> m_silent_backend;
  std::unique_ptr<Monitor> m_display_monitor;
  std::unique_ptr<Screen> m_screen;
};

}  // namespace vellum
