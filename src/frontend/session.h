// One run of the program: opens what the options name, builds the machine, connects it and runs it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "frontend/character_backends.h"
#include "frontend/monitor.h"
#include "frontend/multiplexer.h"
#include "frontend/options.h"
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
  // The backend for one user; null for Kind::None. `channel` gets where it belongs to.
  Result<CharacterBackend*> attach(const CharacterSpec& spec, const std::string& user, Channel*& channel);
  void flush();
  void print_statistics(std::chrono::steady_clock::time_point started);

  Options m_options;
  // In the order of construction: what comes later uses what comes before.
  EventLoop m_events;
  std::vector<std::unique_ptr<Channel>> m_channels;
  CharacterBackend* m_monitor_backend = nullptr;
  Channel* m_monitor_channel = nullptr;
  std::unique_ptr<Machine> m_machine;
  std::unique_ptr<Monitor> m_monitor;
};

}  // namespace vellum
