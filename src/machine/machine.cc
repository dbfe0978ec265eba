// Construction, reset and the run loop.
#include "machine/machine.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

// Between two looks at the host (its clock, its descriptors) a slice of guest work takes at most about this long.
constexpr u64 kSliceNanoseconds = 1'000'000;
constexpr u64 kLongestBudget = 10'000'000;
// The past that counts in the measure of the CPU's speed, nanoseconds of its work.
constexpr double kRecentNanoseconds = 10'000'000;
// Nanoseconds; what is measured beyond it are the host's doings.
constexpr double kSlowestInstruction = 1000;
// How far instruction time goes on when the CPU is stuck.
constexpr Ticks kStuckTicks = 1000;

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(MachineConfig config, EventLoop& events,
                                                 const CpuFactory& create_cpu) {
  auto ram = GuestRam::create(config.ram_mapping_size);
  if (!ram) return std::unexpected(ram.error());
  auto machine = std::unique_ptr<Machine>(new Machine(std::move(config), events, std::move(*ram)));
  // The TSC counts nanoseconds of virtual time, and so does the local APIC's timer before its divider.
  constexpr u64 kNanosecondsPerSecond = 1'000'000'000;
  machine->m_config.cpu_model.tsc_frequency_hz = machine->m_config.cpu_model.bus_frequency_hz = kNanosecondsPerSecond;
  for (unsigned index = 0; index < machine->m_config.cpu_count; ++index) {
    auto& socket = *machine->m_sockets.emplace_back(std::make_unique<CpuSocket>(*machine, index));
    machine->m_cpus.push_back(create_cpu(machine->m_config.cpu_model, machine->m_memory, socket, index));
  }
  machine->m_clock.attach(machine->cpu());
  return machine;
}

Machine::Machine(MachineConfig config, EventLoop& events, std::unique_ptr<GuestRam> ram)
    : m_config(std::move(config)),
      m_events(events),
      m_ram(std::move(ram)),
      m_memory(*m_ram),
      m_clock(m_config.clock, [this] {
        if (m_in_slice) interrupt_cpus();
      }) {}

Machine::~Machine() {
  // A device may still set its lines while it goes; the board and the CPUs at their ends go later.
  while (!m_devices.empty()) m_devices.pop_back();
}

void Machine::interrupt_cpus() {
  for (auto& cpu : m_cpus) cpu->request_exit();
}

void Machine::start() {
  if (m_running) return;
  m_running = true;
  m_clock.start();
}

void Machine::stop() {
  if (!m_running) return;
  m_running = false;
  m_clock.stop();
  interrupt_cpus();
}

void Machine::request_end(int status) {
  int none = -1;
  m_end_status.compare_exchange_strong(none, status);
  interrupt_cpus();
  m_events.wake();
}

void Machine::request_reset() {
  m_reset_requested = true;
  interrupt_cpus();
  m_events.wake();
}

void Machine::request_init(unsigned index) {
  m_init_requested |= 1u << index;
  interrupt_cpus();
}

void Machine::reset(ResetKind kind) {
  m_reset_requested = false;
  m_init_requested = 0;
  for (auto& device : m_devices) device->reset(kind);
  for (auto& cpu : m_cpus) {
    if (log_enabled(LogItem::CpuReset)) log(LogItem::CpuReset, "{}", cpu->describe_registers());
    cpu->reset();
  }
  m_board->reset(kind);
}

u64 Machine::random() {
  if (m_config.clock == ClockMode::Realtime) {
    u64 value;
    if (getrandom(&value, sizeof(value), 0) == sizeof(value)) return value;
  }
  // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), repeatable.
  u64 z = m_random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

int Machine::run() {
  while (!ended()) {
    if (m_running) {
      run_slice(kLongestBudget);
    } else if (m_reset_requested) {
      reset(ResetKind::System);
    } else {
      m_events.wait(std::nullopt);
    }
  }
  stop();
  return m_end_status;
}

void Machine::run_instructions(u64 count) {
  start();
  const u64 goal = cpu().retired() + count;
  while (!ended() && m_running && cpu().retired() < goal) run_slice(goal - cpu().retired());
  stop();
}

u64 Machine::slice_budget(u64 limit) {
  const auto deadline = m_clock.next_deadline();
  const Ticks now = m_clock.now();
  const u64 left = !deadline ? ~u64{0} : *deadline > now ? *deadline - now : 1;
  if (m_config.clock == ClockMode::Instructions) return std::min(limit, left);
  const double nanoseconds = static_cast<double>(std::min(left, kSliceNanoseconds));
  const double budget = nanoseconds / m_nanoseconds_per_instruction;
  return std::min(limit, std::max<u64>(1, static_cast<u64>(budget)));
}

void Machine::run_slice(u64 limit) {
  if (m_reset_requested) {
    if (m_config.exit_on_reset) return request_end(0);
    reset(ResetKind::System);
  }
  for (unsigned index = 0; m_init_requested; ++index) {
    if (!(m_init_requested & (1u << index))) continue;
    m_init_requested &= ~(1u << index);
    m_cpus[index]->init();
    m_board->cpu_initialised(index);
  }
  m_clock.run_due();
  if (!m_running || ended() || m_reset_requested) return;
  Cpu& cpu = this->cpu();
  const u64 started = host_nanoseconds();
  if (started - m_last_poll >= kSliceNanoseconds) {
    m_last_poll = started;
    m_events.wait(0);
    if (!m_running || ended() || m_reset_requested) return;
  }
  if (!cpu.has_work()) return idle();

  const u64 retired = cpu.retired();
  const u64 spent_before = m_config.clock == ClockMode::Realtime ? thread_nanoseconds() : 0;
  m_in_slice = true;
  const Exit exit = cpu.run(slice_budget(limit));
  m_in_slice = false;
  const u64 done = cpu.retired() - retired;
  if (m_config.clock == ClockMode::Realtime) {
    // In this thread's own time, so that a slice in which the host did something else misleads nobody. Every slice counts, and
    // the past is forgotten by time and not by instructions: where the guest becomes fifty times slower, slices that stay
    // fifty times too long make all timers late by as much, and a keyboard that waits for one with every byte loses keys.
    const double spent = static_cast<double>(thread_nanoseconds() - spent_before);
    const double share = std::min(1.0, kRecentNanoseconds / std::max(spent, 1.0));
    const double kept = std::max(0.0, 1 - spent / kRecentNanoseconds);
    m_recent_nanoseconds = m_recent_nanoseconds * kept + spent * share;
    m_recent_instructions = m_recent_instructions * kept + static_cast<double>(done) * share;
    m_nanoseconds_per_instruction = std::clamp(m_recent_nanoseconds / std::max(m_recent_instructions, 1.0), 0.1, kSlowestInstruction);
  }
  switch (exit) {
    case Exit::BudgetSpent:
    case Exit::Requested:
    case Exit::Halted: break;
    case Exit::Stuck:
      // As many nanoseconds as there were events, so that timers go on; an interrupt may lead the guest out.
      if (m_config.clock == ClockMode::Instructions) {
        const Ticks later = m_clock.now() + kStuckTicks;
        m_clock.skip_to(std::min(later, m_clock.next_deadline().value_or(later)));
      }
      break;
    case Exit::Shutdown:
      // A triple fault: the chipset answers the processor's shutdown cycle with a reset.
      log(LogItem::CpuReset, "triple fault");
      m_reset_requested = true;
      break;
  }
}

void Machine::idle() {
  const auto deadline = m_clock.next_deadline();
  if (m_config.clock == ClockMode::Instructions && deadline) return m_clock.skip_to(*deadline);
  std::optional<u64> timeout;
  if (deadline) {
    const Ticks now = m_clock.now();
    timeout = *deadline > now ? *deadline - now : 0;
  }
  m_events.wait(timeout);
}

std::string Machine::configuration() const {
  std::string features;
  for (usize i = 0; i < m_config.cpu_model.features.size(); ++i) features += m_config.cpu_model.features[i] ? '1' : '0';
  std::string text = fmt::format("board={}\nmemory={}\nmemory mapping={}\ncpu={} {}\ncpus={}\ndevices=", m_board->name(),
                                 m_config.memory_size, m_config.ram_mapping_size, m_config.cpu_model.name, features,
                                 m_cpus.size());
  for (usize i = 0; i < m_devices.size(); ++i) text += fmt::format("{}{}", i ? "," : "", m_devices[i]->name());
  return text + "\n";
}

std::vector<Machine::StatePart> Machine::state_parts() {
  std::vector<StatePart> parts;
  for (usize i = 0; i < m_cpus.size(); ++i)
    parts.push_back({fmt::format("cpu{}", i), [cpu = m_cpus[i].get()](Archive& archive) { cpu->visit(archive); }});
  parts.push_back({"clock", [this](Archive& archive) { m_clock.visit(archive); }});
  parts.push_back({"random", [this](Archive& archive) { archive("state", m_random_state); }});
  for (auto& device : m_devices)
    parts.push_back({std::string(device->name()), [d = device.get()](Archive& archive) { d->visit(archive); }});
  return parts;
}

Machine::States Machine::save_state() {
  States states;
  for (auto& part : state_parts()) {
    ArchiveWriter archive;
    part.visit(archive);
    states.emplace(part.name, archive.take());
  }
  return states;
}

Result<void> Machine::load_state(const States& states) {
  const auto parts = state_parts();
  // Devices drive their lines when they are loaded, one after the other, and what they drive may latch edges that never
  // were. When everything is loaded a second time, the lines have their levels already.
  for (unsigned pass = 0; pass < 2; ++pass) {
    for (auto& part : parts) {
      const auto found = states.find(part.name);
      if (found == states.end()) return failure(fmt::format("the state of {} is missing", part.name));
      ArchiveReader archive(found->second);
      part.visit(archive);
      if (!archive.failed() && !archive.at_end()) archive.fail("there is more state than the part has");
      if (archive.failed()) return failure(fmt::format("{}: {}", part.name, archive.error()->message));
    }
  }
  return {};
}

u64 Machine::state_hash() {
  ArchiveHasher hasher;
  for (auto& part : state_parts()) part.visit(hasher);
  for_each_used_page(*m_ram, [&](u64 offset) {
    hasher.scalar("", &offset, sizeof(offset));
    hasher.bytes("", {m_ram->host(offset), kPageSize});
  });
  return hasher.hash();
}

void for_each_used_page(const GuestRam& ram, const std::function<void(u64)>& visit) {
  // /proc/self/pagemap tells pages that were never written to (neither present nor swapped out) without touching them:
  // reading them would cost page tables for all of a large guest. Bits: Documentation/admin-guide/mm/pagemap.rst.
  constexpr u64 kPresentOrSwapped = u64{3} << 62;
  constexpr usize kBatch = 4096;
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::vector<u64> entries(kBatch);
  const u64 host_page = static_cast<u64>(sysconf(_SC_PAGESIZE));
  const bool usable = pagemap >= 0 && host_page == kPageSize;
  for (u64 first = 0; first < ram.size(); first += kBatch * kPageSize) {
    const usize pages = std::min<u64>(kBatch, (ram.size() - first) / kPageSize);
    const u64 position = (reinterpret_cast<u64>(ram.host(first)) / kPageSize) * sizeof(u64);
    const auto wanted = static_cast<ssize_t>(pages * sizeof(u64));
    const bool known = usable && pread(pagemap, entries.data(), static_cast<usize>(wanted), static_cast<off_t>(position)) == wanted;
    for (usize i = 0; i < pages; ++i) {
      const u64 offset = first + i * kPageSize;
      if ((!known || (entries[i] & kPresentOrSwapped)) && !ram.page_is_zero(offset)) visit(offset);
    }
  }
  if (pagemap >= 0) close(pagemap);
}

}  // namespace vellum
