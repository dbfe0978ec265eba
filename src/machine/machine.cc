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
      }),
      m_inputs([this] { return m_cpus.empty() ? 0 : cpu().retired(); }),
      m_reset_button(m_inputs.add_port("reset button", [this](std::span<const u8>) { request_reset(); })) {
  // Where time does not follow the host, the input is all that makes two runs different, and is always kept.
  if (m_config.clock != ClockMode::Realtime) m_inputs.keep();
}

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
  m_stop_cause.reset();
  m_clock.start();
  anchor_pace();
  for (RunObserver* observer : std::vector(m_run_observers)) observer->machine_started();
}

void Machine::step(u64 instructions) {
  m_step_goal = cpu().retired() + instructions;
  if (instructions == 1) cpu().add_observer(m_step_observer, kEventInterrupt);
  start();
}

// INT and its like are the instruction that was to be stepped, and count as done already; other events come instead of it.
void Machine::StepObserver::interrupt_delivered(u8, bool, u32) {
  Cpu& cpu = m_machine.cpu();
  if (!m_machine.m_step_goal || cpu.retired() >= *m_machine.m_step_goal || cpu.debug().stop_pending()) return;
  m_machine.m_step_goal = cpu.retired();
  cpu.debug().request_stop({.kind = DebugStop::Kind::Event});
  cpu.request_exit();
}

void Machine::stop(StopCause cause) {
  if (!m_running) return;
  m_running = false;
  if (std::exchange(m_step_goal, std::nullopt)) cpu().remove_observer(m_step_observer);
  m_stop_cause = std::move(cause);
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
      run_some(kLongestBudget);
    } else if (m_stop_cause) {
      const StopCause cause = *take_stop_cause();
      for (RunObserver* observer : std::vector(m_run_observers)) observer->machine_stopped(cause);
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
  while (!ended() && m_running && cpu().retired() < goal) run_some(goal - cpu().retired());
  if (!m_running) return;
  stop();
  m_stop_cause.reset();
}

void Machine::run_some(u64 limit) {
  if (m_step_goal) limit = std::min(limit, *m_step_goal - std::min(*m_step_goal, cpu().retired()));
  run_slice(limit);
  if (m_step_goal && cpu().retired() >= *m_step_goal) stop({.kind = StopCause::Kind::Step});
}

u64 Machine::slice_budget(u64 limit) {
  const auto deadline = m_clock.next_deadline();
  const Ticks now = m_clock.now();
  const u64 left = !deadline ? ~u64{0} : *deadline > now ? *deadline - now : 1;
  if (m_config.clock != ClockMode::Realtime) {
    const u64 until_event = m_inputs.next_count() - m_cpus[0]->retired();
    limit = std::min({limit, until_event, deadline ? m_clock.instructions_until(*deadline) : limit});
    if (m_config.clock == ClockMode::Instructions || m_inputs.mode() == InputJournal::Mode::Replay) return limit;
  }
  const double nanoseconds = static_cast<double>(m_config.clock == ClockMode::Paced ? kSliceNanoseconds : std::min(left, kSliceNanoseconds));
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
  if (!m_hold_timers) m_clock.run_due();
  if (interrupted()) return;
  Cpu& cpu = this->cpu();
  if (cpu.retired() >= m_next_call) {
    make_planned_calls();
    if (interrupted()) return;
  }
  const u64 started = host_nanoseconds();
  if (m_polls && started - m_last_poll >= kSliceNanoseconds) {
    m_last_poll = started;
    m_events.wait(0);
    if (interrupted()) return;
  }
  take_input();
  if (interrupted()) return;
  if (!cpu.has_work()) return idle();

  for (const PlannedCall& call : m_planned_calls)
    if (call.punctuality == Punctuality::Exact) limit = std::min(limit, call.count - cpu.retired());
  if (m_on_instruction) {
    m_on_instruction();
    limit = 1;
  }
  const u64 retired = cpu.retired();
  const bool measured = m_config.clock != ClockMode::Instructions;
  const u64 spent_before = measured ? thread_nanoseconds() : 0;
  m_in_slice = true;
  const Exit exit = cpu.run(slice_budget(limit));
  m_in_slice = false;
  const u64 done = cpu.retired() - retired;
  if (measured) {
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
    case Exit::Debug: {
      const auto reason = cpu.debug().take_stop();
      // At a handler, where m_step_observer has put the step's end.
      if (m_step_goal && cpu.retired() >= *m_step_goal && reason && reason->kind == DebugStop::Kind::Event) break;
      stop({.kind = StopCause::Kind::Debug, .cpu = 0, .debug = reason});
      break;
    }
    case Exit::Stuck:
      if (m_inputs.mode() == InputJournal::Mode::Live) m_inputs.append({.kind = InputEvent::Kind::Stuck, .count = cpu.retired()});
      stuck();
      break;
    case Exit::Shutdown:
      // A triple fault: the chipset answers the processor's shutdown cycle with a reset.
      log(LogItem::CpuReset, "triple fault");
      m_reset_requested = true;
      break;
  }
}

void Machine::call_at(const void* owner, u64 count, std::function<void()> callback, Punctuality punctuality) {
  std::erase_if(m_planned_calls, [&](const PlannedCall& call) { return call.owner == owner; });
  if (callback) m_planned_calls.push_back({owner, std::max(count, cpu().retired() + 1), std::move(callback), punctuality});
  m_next_call = ~u64{0};
  for (const PlannedCall& call : m_planned_calls) m_next_call = std::min(m_next_call, call.count);
}

void Machine::make_planned_calls() {
  // Each may plan others.
  std::vector<std::function<void()>> due;
  for (const PlannedCall& call : m_planned_calls)
    if (call.count <= cpu().retired()) due.push_back(call.callback);
  std::erase_if(m_planned_calls, [&](const PlannedCall& call) { return call.count <= cpu().retired(); });
  m_next_call = ~u64{0};
  for (const PlannedCall& call : m_planned_calls) m_next_call = std::min(m_next_call, call.count);
  for (const auto& callback : due) callback();
}

void Machine::stuck() {
  // As many nanoseconds as there were events, so that timers go on; an interrupt may lead the guest out.
  if (m_config.clock != ClockMode::Instructions) return;
  const Ticks later = m_clock.now() + kStuckTicks;
  m_clock.skip_to(std::min(later, m_clock.next_seen_deadline().value_or(later)));
}

void Machine::idle() {
  if (m_config.clock == ClockMode::Instructions)
    if (const auto seen = m_clock.next_seen_deadline()) {
      m_inputs.note_wait();
      return m_clock.skip_to(*seen);
    }
  const auto deadline = m_clock.next_deadline();
  if (m_inputs.mode() == InputJournal::Mode::Replay)
    return end_replay(fmt::format("the guest waits after {} instructions, and the recording knows nothing that would end it", cpu().retired()), true);
  if (!m_polls) return stop();  // nobody is listened to who could wake it
  std::optional<u64> timeout;
  if (deadline) {
    const Ticks now = m_config.clock == ClockMode::Paced ? host_time() : m_clock.now();
    timeout = *deadline > now ? *deadline - now : 0;
  }
  m_events.wait(timeout);
  if (m_config.clock == ClockMode::Paced) pace(true);
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
  m_reset_requested = false;
  m_init_requested = 0;
  m_replay_end.reset();
  // Devices that armed timers used up numbers of theirs.
  ArchiveReader clock(states.at("clock"));
  m_clock.visit(clock);
  return {};
}

u64 Machine::device_state_hash() {
  ArchiveHasher hasher;
  for (auto& part : state_parts()) part.visit(hasher);
  return hasher.hash();
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
