// From options to a running machine.
#include "frontend/session.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <initializer_list>

#include "frontend/audio_sinks.h"
#include "frontend/host_files.h"
#include "frontend/message.h"
#include "frontend/overlay_console.h"
#include "frontend/sdl_window.h"
#include "frontend/vnc_display.h"
#include "frontend/terminal.h"
#include "frontend/terminal_display.h"
#include "jit/statistics_report.h"
#include "state/assert.h"
#include "state/log.h"
#include "storage/image.h"

namespace vellum {

namespace {

constexpr u64 kBiosUnit = 64 * 1024, kGreatestBios = 16 << 20, kGreatestVgaBios = 256 * 1024;

// What the signal handlers reach.
std::atomic<Machine*> g_machine = nullptr;
volatile std::sig_atomic_t g_signal = 0;

void on_end_signal(int signal) {
  g_signal = signal;
  if (Machine* machine = g_machine.load()) machine->request_end(0);
}

void catch_signals() {
  struct sigaction end {};
  end.sa_handler = on_end_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    // A program started with nohup goes on when the terminal goes.
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &end, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  g_stop_waiting = [] { return g_signal != 0; };
}

void describe_for_assert(void* context) {
  restore_terminal();
  auto& machine = *static_cast<Machine*>(context);
  for (unsigned i = 0; i < machine.cpu_count(); ++i) std::fputs(machine.cpu(i).describe_registers().c_str(), stderr);
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(const Options& options, const CpuFactory& create_cpu) {
  auto session = std::unique_ptr<Session>(new Session(options));
  catch_signals();
  if (auto built = session->build(create_cpu); !built) return std::unexpected(built.error());
  return session;
}

Session::~Session() {
  g_machine = nullptr;
  set_assert_context(nullptr, nullptr);
}

Result<void> Session::build(const CpuFactory& create_cpu) {
  if (auto done = choose_displays(); !done) return done;
  if (auto done = read_recording(); !done) return done;
  PcConfig config;
  config.boot_order = m_options.boot_order;
  config.boot_menu = m_options.boot_menu;
  config.text_only = m_options.no_graphic;
  config.debug_exit_port = m_options.debug_exit_port;
  config.debug_exit_size = m_options.debug_exit_size;
  config.sb16 = m_options.sb16;
  config.ac97 = m_options.ac97;
  config.usb = m_options.usb;
  config.usb_tablet = m_options.usb_tablet;
  config.snapshot = m_options.snapshot;
  config.test_device = m_options.test_device;
  config.rtc_base = m_options.rtc_base;
  if (auto done = read_firmware(config); !done) return done;
  if (auto done = read_kernel(config); !done) return done;
  if (auto done = plan_network(config); !done) return done;
  if (auto done = open_drives(config); !done) return done;
  if (auto done = enable_log_items(m_options.log_items); !done) return done;
  if (!m_options.log_file.empty())
    if (auto done = open_log_file(m_options.log_file); !done) return done;

  MachineConfig machine;
  machine.cpu_model = m_options.cpu;
  machine.memory_size = m_options.memory_size;
  machine.ram_mapping_size = PcBoard::ram_mapping_size(m_options.memory_size, config);
  machine.clock = m_options.clock;
  machine.exit_on_reset = m_options.no_reboot;
  auto created = Machine::create(std::move(machine), m_events, create_cpu);
  if (!created) return std::unexpected(created.error());

  if (auto done = plan_characters(config); !done) return done;
  std::string contents;
  if (!m_options.record.empty() || !m_options.replay.empty()) {
    auto described = describe_contents(config);
    if (!described) return std::unexpected(described.error());
    contents = std::move(*described);
  }
  m_machine = std::move(*created);
  if (m_options.profile) m_options.engine.observers.push_back(m_host_cost = std::make_shared<HostCost>());
  for (unsigned i = 0; i < m_machine->cpu_count(); ++i)
    if (auto done = use_engine(m_machine->cpu(i), m_options.engine); !done) return done;
  const std::vector<u8> font = find_font(config.vga_bios);
  if (auto done = open_audio(config); !done) return done;
  if (auto done = PcBoard::build(*m_machine, std::move(config)); !done) return done;
  if (auto done = begin_journal(m_machine->configuration() + contents); !done) return done;
  if (m_options.profile) m_profile = std::make_unique<Profile>(*m_machine, *m_options.profile, m_host_cost, [this](u64 linear) { return m_debugger ? m_debugger->symbols().describe(linear) : std::string(); });
  // Last, because it makes files and sockets and changes the terminal.
  if (auto done = open_channels(); !done) return done;
  if (auto done = open_network(); !done) return done;
  if (m_profile)
    if (auto done = m_profile->open(); !done) return done;
  g_machine = m_machine.get();
  set_assert_context(describe_for_assert, m_machine.get());
  if (auto done = add_displays(font); !done) return done;
  m_debugger = std::make_unique<Debugger>(*m_machine);
  if (m_options.trace)
    if (auto done = m_debugger->start_trace(*m_options.trace); !done) return done;
  for (const std::string& file : m_options.symbols)
    if (auto done = m_debugger->symbols().load(file); !done) return failure("-symbols: " + done.error().message);
  m_no_terminal = std::make_unique<NullBackend>();
  m_monitor = std::make_unique<Monitor>(*m_machine, m_monitor_backend ? *m_monitor_backend : *m_no_terminal);
  m_monitor->use_screen(m_screen.get());
  if (!m_timeline) m_timeline = std::make_unique<Timeline>(*m_machine);  // takes no snapshots until somebody wants to go back
  m_reverse = std::make_unique<Reverse>(*m_debugger, *m_timeline);
  m_debugger->on_change = [this] { m_reverse->changed(); };
  for (Monitor* monitor : {m_monitor.get(), m_display_monitor.get()}) {
    monitor->use_debugger(*m_debugger);
    monitor->use_reverse(*m_reverse);
  }
  if (m_monitor_backend) {
    Channel& channel = *m_monitor_channel;
    if (!channel.multiplexer) {
      channel.host().on_connected = [this] { m_monitor->greet(); };
      if (channel.host().connected()) m_monitor->greet();
    }
  }
  return serve_gdb();
}

Result<void> Session::serve_gdb() {
  if (m_options.gdb.empty()) return {};
  GdbStub::Wiring wiring;
  wiring.monitor = [this](std::string_view line) {
    // The machine's running is gdb's business while it is there.
    for (const std::string_view command : {"cont", "step", "next", "until"})
      if (line.substr(0, line.find(' ')) == command) return fmt::format("use gdb's own commands instead of {}\n", command);
    return m_monitor->execute(line);
  };
  wiring.describe = [this](const StopCause& cause) { return m_debugger->reason(cause); };
  // Where time follows the host nothing can be gone back in, and nobody asks for it: a client is told so when it tries.
  const bool reversible = m_options.clock != ClockMode::Realtime || !m_options.record.empty() || !m_options.replay.empty();
  wiring.can_reverse = [this, reversible] { return reversible && m_reverse->possible(); };
  wiring.reverse_step = [this] { return m_reverse->step(1); };
  wiring.reverse_continue = [this] { return m_reverse->go_on(); };
  wiring.changed = [this] { m_reverse->changed(); };
  if (reversible) (void)m_reverse->possible();
  auto server = GdbServer::create(m_options.gdb, *m_machine, std::move(wiring));
  if (!server) return std::unexpected(server.error());
  m_gdb = std::move(*server);
  tell_user("gdb may connect: target remote {}", m_gdb->address());
  return {};
}

// Before anything is opened: whether this build and this host have what the options ask for.
Result<void> Session::choose_displays() {
  if (m_options.default_display) {
    constexpr std::string_view kChoices = "say where to show the screen: -display vnc=:0, -display terminal, -nographic (serial line on this terminal) or -display none";
    if (!has_sdl_window()) return failure(fmt::format("this build has no window; {}", kChoices));
    if (!host_has_display()) return failure(fmt::format("there is no display for a window here (neither DISPLAY nor WAYLAND_DISPLAY is set); {}", kChoices));
    m_options.displays.push_back({});
  }
  using Kind = DisplaySpec::Kind;
  for (const auto& display : m_options.displays) {
    const auto missing = [&](std::string_view what) {
      return failure(fmt::format("{}: this build cannot show the screen there: it was made without {}", display.option, what));
    };
    if (display.kind == Kind::Sdl && !has_sdl_window()) return missing("SDL 2");
    if (display.kind == Kind::Vnc && !has_vnc_display()) return missing("libvncserver");
  }
  return {};
}

Result<void> Session::open_audio(PcConfig& config) {
  using Kind = AudioSpec::Kind;
  const bool window = std::ranges::find(m_options.displays, DisplaySpec::Kind::Sdl, &DisplaySpec::kind) != m_options.displays.end();
  const AudioSpec& spec = m_options.audio;
  const bool by_default = spec.kind == Kind::Default;
  if (spec.kind == Kind::Sdl && !has_sdl_audio()) return failure("-audiodev sdl: this build was made without SDL 2");
  if (spec.kind == Kind::Wav) {
    auto sink = make_wav_sink(spec.path);
    if (!sink) return std::unexpected(sink.error());
    m_audio = std::move(*sink);
  } else if (spec.kind == Kind::Sdl || (by_default && window && has_sdl_audio())) {
    auto sink = make_sdl_sink();
    // A host without loudspeakers is no reason to do without the machine, unless sound was asked for.
    if (!sink && !by_default) return std::unexpected(sink.error());
    if (sink) m_audio = std::move(*sink);
  }
  config.audio = m_audio.get();
  return {};
}

Result<void> Session::add_displays(const std::vector<u8>& font) {
  m_silent_backend = make_backend(m_events, {.kind = CharacterSpec::Kind::Null});
  m_display_monitor = std::make_unique<Monitor>(*m_machine, *m_silent_backend);
  m_screen = std::make_unique<Screen>(*m_machine, [this](const std::string& line) { return m_display_monitor->execute(line); });
  m_display_monitor->use_screen(m_screen.get());
  for (const auto& display : m_options.displays) {
    switch (display.kind) {
      case DisplaySpec::Kind::Sdl: m_screen->add(make_sdl_window(*m_screen, display, font)); break;
      case DisplaySpec::Kind::Vnc: m_screen->add(make_vnc_display(display.vnc, *m_screen)); break;
      case DisplaySpec::Kind::Terminal: m_screen->add(make_terminal_display(*m_screen, m_events)); break;
    }
  }
  return m_screen->open();
}

void Session::print_statistics(std::chrono::steady_clock::time_point started) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; };
  const HostTimes times{.wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(),
                        .cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime)};
  for (unsigned i = 0; i < m_machine->cpu_count(); ++i) std::fputs(statistics_report(m_machine->cpu(i), times).c_str(), stderr);
}

int Session::run() {
  const auto started = std::chrono::steady_clock::now();
  // A signal may have come before there was a machine to tell.
  if (g_signal != 0) m_machine->request_end(0);
  for (const u64 count : m_options.hash_counts) {
    m_machine->run_instructions(count - m_machine->cpu().retired());
    if (m_machine->ended()) break;
    fmt::print(stderr, "state after {} instructions: {:016x}\n", m_machine->cpu().retired(), m_machine->state_hash());
  }
  if (!m_options.hash_counts.empty()) m_machine->request_end(0);
  if (!m_options.start_stopped) m_machine->start();
  int status = m_machine->run();
  if (m_gdb) m_gdb->machine_ended(status);
  status = end_journal(status);
  if (m_profile)
    if (auto written = m_profile->write(); !written) {
      tell_user("{}", written.error().message);
      status = std::max(status, 1);
    }
  if (auto written = m_debugger->end_trace(); !written) {
    tell_user("{}", written.error().message);
    status = std::max(status, 1);
  }
  flush();
  g_machine = nullptr;
  for (auto& channel : m_channels) channel->host().drain();
  restore_terminal();
  if (m_options.statistics) print_statistics(started);
  if (g_signal != 0) tell_user("ended by signal {} ({})", static_cast<int>(g_signal), sigabbrev_np(g_signal));
  return status;
}

void Session::flush() {
  if (auto flushed = m_machine->board().flush_disks(); !flushed) tell_user("{}", flushed.error().message);
}

Result<void> Session::read_firmware(PcConfig& config) {
  const bool chosen = !m_options.bios.empty();
  const auto path = find_firmware("-bios", chosen ? m_options.bios : "bios-256k.bin", m_options.data_directories);
  if (!path) return std::unexpected(path.error());
  auto bios = read_whole_file("-bios", *path, kGreatestBios);
  if (!bios) return std::unexpected(bios.error());
  if (bios->size() % kBiosUnit != 0)
    return failure(fmt::format("-bios {}: the file has {} bytes, and a firmware image is a multiple of 64 KiB; it may be truncated", *path, bios->size()));
  config.bios = std::move(*bios);

  const auto vga_path = find_firmware("video BIOS", "vgabios-stdvga.bin", m_options.data_directories);
  if (!vga_path) return std::unexpected(vga_path.error());
  auto vga_bios = read_whole_file("video BIOS", *vga_path, kGreatestVgaBios);
  if (!vga_bios) return std::unexpected(vga_bios.error());
  config.vga_bios = std::move(*vga_bios);
  return {};
}

Result<void> Session::read_kernel(PcConfig& config) {
  if (m_options.kernel.empty()) return {};
  // What does not fit into memory is not read at all.
  KernelRequest request;
  request.kernel_path = m_options.kernel;
  auto kernel = read_whole_file("-kernel", m_options.kernel, u64{2} << 30);
  if (!kernel) return std::unexpected(kernel.error());
  request.kernel = std::move(*kernel);
  const auto too_large = [&](std::string_view option, const std::string& path, u64 size) {
    return failure(fmt::format("{} {}: the file has {} MiB, more than the machine's memory of {} MiB; give it more by -m", option, path,
                               (size >> 20) + 1, m_options.memory_size >> 20));
  };
  if (request.kernel.size() >= m_options.memory_size) return too_large("-kernel", m_options.kernel, request.kernel.size());
  if (!m_options.initrd.empty()) {
    request.initrd_path = m_options.initrd;
    auto initrd = read_whole_file("-initrd", m_options.initrd, u64{4} << 30);
    if (!initrd) return std::unexpected(initrd.error());
    request.initrd = std::move(*initrd);
    if (request.initrd.size() >= m_options.memory_size) return too_large("-initrd", m_options.initrd, request.initrd.size());
  }
  request.command_line = m_options.append;
  config.kernel = std::move(request);
  return {};
}

Result<void> Session::open_drives(PcConfig& config) {
  for (const auto& drive : m_options.drives) {
    std::unique_ptr<BlockDevice> medium;
    if (!drive.file.empty()) {
      auto opened = open_image({.path = drive.file, .format = drive.format, .read_only = drive.read_only, .snapshot = drive.snapshot});
      if (!opened) return failure(fmt::format("{}: {}", drive.option, opened.error().message));
      medium = std::move(*opened);
      if (m_options.trace && m_options.trace->wants(TraceKind::Disk))
        medium = Trace::observe(std::move(medium), [this](u64 offset, u64 size, bool write) {
          if (m_debugger && m_debugger->trace()) m_debugger->trace()->disk_accessed(offset, size, write);
        });
    }
    if (drive.interface == DriveSpec::Interface::Usb) {
      config.usb_disks.resize(std::max<usize>(config.usb_disks.size(), drive.index + 1));
      config.usb_disks[drive.index] = std::move(medium);
    } else if (drive.interface == DriveSpec::Interface::Floppy) config.floppies[drive.index] = std::move(medium);
    else config.ide[drive.index] = {.present = true, .cdrom = drive.cdrom, .medium = std::move(medium)};
  }
  // As in QEMU, a CD-ROM drive without a disc is there unless the place is taken.
  if (!config.ide[2].present) config.ide[2] = {.present = true, .cdrom = true, .medium = nullptr};
  return {};
}

Result<CharacterBackend*> Session::attach(const CharacterSpec& wanted, const std::string& user, Channel*& channel) {
  using Kind = CharacterSpec::Kind;
  CharacterSpec spec = wanted;
  std::string key;
  if (spec.kind == Kind::None) return nullptr;
  if (spec.kind == Kind::Chardev) {
    // Its existence was checked with the options.
    const auto found = std::ranges::find(m_options.chardevs, wanted.path, &ChardevSpec::id);
    VELLUM_ASSERT(found != m_options.chardevs.end());
    spec = found->backend;
    key = "chardev:" + wanted.path;
  }
  if (spec.kind == Kind::Stdio) key = "stdio";
  else if (key.empty() && spec.mux) key = spec.option;
  else if (key.empty()) key = fmt::format("#{}", m_channels.size());

  const auto existing = std::ranges::find_if(m_channels, [&](const auto& other) { return other->key == key; });
  if (existing != m_channels.end()) {
    channel = existing->get();
    if (!channel->multiplexer || !spec.mux)
      return failure(fmt::format("{}: {} uses it already; two users share one by -serial mon:stdio, -nographic or -chardev with mux=on",
                                 wanted.option, channel->first_user));
  } else {
    auto host = make_backend(m_events, spec);
    channel = m_channels.emplace_back(std::make_unique<Channel>()).get();
    channel->key = key;
    channel->first_user = user;
    channel->kind = spec.kind;
    if (spec.mux)
      channel->multiplexer = std::make_unique<Multiplexer>(
          std::move(host), Multiplexer::Commands{.quit = [this] { m_machine->request_end(0); }, .flush = [this] { flush(); }});
    else
      channel->plain = std::move(host);
  }
  if (!channel->multiplexer) return channel->plain.get();
  if (user != "the monitor") return &channel->multiplexer->add_user(user);
  return &channel->multiplexer->add_user(user, [this, greeted = false]() mutable {
    if (std::exchange(greeted, true)) m_monitor->prompt();
    else m_monitor->greet();
  });
}

Result<void> Session::open_channels() {
  // What fails most easily comes first, what changes a file or the terminal last.
  std::ranges::stable_sort(m_channels, {}, [](const auto& channel) { return channel->kind; });
  for (auto& channel : m_channels) {
    if (auto opened = channel->host().open(); !opened) return opened;
    const std::string text = channel->host().announcement();
    if (!text.empty()) tell_user("{} is on {}", channel->first_user, text);
  }
  return {};
}

Result<void> Session::plan_characters(PcConfig& config) {
  // The first serial line is always there; it leads nowhere unless the user says where.
  config.serial[0].present = true;
  for (usize i = 0; i < m_options.serial.size(); ++i) {
    Channel* channel = nullptr;
    auto backend = attach(m_options.serial[i], fmt::format("serial line {}", i), channel);
    if (!backend) return std::unexpected(backend.error());
    config.serial[i] = {.present = m_options.serial[i].kind != CharacterSpec::Kind::None, .backend = *backend};
  }
  if (m_options.debug_console) {
    Channel* channel = nullptr;
    auto backend = attach(*m_options.debug_console, "the debug console", channel);
    if (!backend) return std::unexpected(backend.error());
    config.debug_console = *backend;
  }
  if (m_options.monitor) {
    auto backend = attach(*m_options.monitor, "the monitor", m_monitor_channel);
    if (!backend) return std::unexpected(backend.error());
    m_monitor_backend = *backend;
  }
  return {};
}

}  // namespace vellum
