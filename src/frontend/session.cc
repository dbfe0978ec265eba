// From options to a running machine.
#include "frontend/session.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <initializer_list>

#include "frontend/host_files.h"
#include "frontend/message.h"
#include "frontend/terminal.h"
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
  PcConfig config;
  config.boot_order = m_options.boot_order;
  config.boot_menu = m_options.boot_menu;
  config.text_only = m_options.no_graphic;
  config.debug_exit_port = m_options.debug_exit_port;
  config.debug_exit_size = m_options.debug_exit_size;
  config.test_device = m_options.test_device;
  config.rtc_base = m_options.rtc_base;
  if (auto done = read_firmware(config); !done) return done;
  if (auto done = read_kernel(config); !done) return done;
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
  m_machine = std::move(*created);
  for (unsigned i = 0; i < m_machine->cpu_count(); ++i)
    if (auto done = use_engine(m_machine->cpu(i), m_options.engine); !done) return done;
  if (auto done = PcBoard::build(*m_machine, std::move(config)); !done) return done;
  // Last, because it makes files and sockets and changes the terminal.
  if (auto done = open_channels(); !done) return done;
  g_machine = m_machine.get();
  set_assert_context(describe_for_assert, m_machine.get());
  if (m_monitor_backend) {
    m_monitor = std::make_unique<Monitor>(*m_machine, *m_monitor_backend);
    Channel& channel = *m_monitor_channel;
    if (!channel.multiplexer) {
      channel.host().on_connected = [this] { m_monitor->greet(); };
      if (channel.host().connected()) m_monitor->greet();
    }
  }
  return {};
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
  const int status = m_machine->run();
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
    }
    if (drive.interface == DriveSpec::Interface::Floppy) config.floppies[drive.index] = std::move(medium);
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
