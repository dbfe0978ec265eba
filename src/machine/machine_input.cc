// What comes into the machine from outside at an instruction boundary, or out of its journal in place of that.
#include <algorithm>

#include "machine/machine.h"

namespace vellum {

namespace {

// Nanoseconds of the host. Between two corrections of the time the guest sees its own pace, which is measured, and
// therefore nearly right.
constexpr u64 kPaceInterval = 1'000'000;
// Nanoseconds; what virtual time is behind by less is not worth an event.
constexpr Ticks kPaceTolerance = 100'000;
// Nanoseconds of the host in which virtual time that is ahead is caught up with.
constexpr double kCatchUp = 10'000'000;
constexpr double kSlowestPace = 0.1, kGreatestRate = 1000.0 * 65536;
// Slightly slower than measured: time behind is set right by moving it on, time ahead only by waiting.
constexpr double kCarefulPace = 0.95;
// How often a recording notes a hash of the devices, host nanoseconds.
constexpr u64 kCheckInterval = 1'000'000'000;

u64 register_check(u64 hash) { return hash & 0xffff; }

}  // namespace

void Machine::take_input() {
  switch (m_inputs.mode()) {
    case InputJournal::Mode::Direct: return;
    case InputJournal::Mode::Replay: return play_input();
    case InputJournal::Mode::Live: break;
  }
  if (m_config.clock == ClockMode::Paced && host_nanoseconds() - m_last_pace >= kPaceInterval) pace(false);
  deliver_input();
}

void Machine::deliver_input() {
  if (m_inputs.mode() != InputJournal::Mode::Live) return;
  // A piece that came in before a reset and one behind it are told apart by their order around it.
  while (m_inputs.anything_waiting() && !m_reset_requested && !m_init_requested && !ended()) {
    cpu().settle();
    m_inputs.deliver_waiting();
  }
}

void Machine::anchor_pace() {
  m_anchor_ticks = m_clock.now();
  m_anchor_host = m_last_pace = m_last_check = host_nanoseconds();
}

// Sets virtual time right by the host's clock. `waited`: nothing ran since.
void Machine::pace(bool waited) {
  if (m_inputs.mode() != InputJournal::Mode::Live || interrupted()) return;
  m_last_pace = host_nanoseconds();
  const Ticks target = host_time(), now = m_clock.now();
  const Ticks advance = target > now ? target - now : 0;
  const double ahead = now > target ? static_cast<double>(now - target) / kCatchUp : 0;
  const double pace = m_nanoseconds_per_instruction * std::max(kSlowestPace, std::min(kCarefulPace, 1 - ahead));
  auto rate = static_cast<u32>(std::clamp(pace * 65536, 1.0, kGreatestRate));
  const double change = static_cast<double>(rate) / m_clock.rate();
  if (change > 0.9 && change < 1.1) rate = m_clock.rate();
  if (advance < (waited ? 1 : kPaceTolerance) && rate == m_clock.rate()) return;
  cpu().settle();
  m_inputs.append({.kind = InputEvent::Kind::Time, .count = cpu().retired(), .advance = advance, .rate = rate, .check = register_check(cpu().register_hash())});
  m_clock.set_pace(advance, rate);
  m_clock.run_due();
  if (m_last_pace - m_last_check >= kCheckInterval) note_check();
}

void Machine::note_check() {
  m_last_check = m_last_pace;
  if (interrupted()) return;
  cpu().settle();
  m_inputs.append({.kind = InputEvent::Kind::Check, .count = cpu().retired(), .check = device_state_hash()});
}

void Machine::play_input() {
  while (const InputEvent* event = m_inputs.next()) {
    if (event->count > cpu().retired() || interrupted()) return;
    play_event(*event);
    if (m_replay_end) return;
    m_inputs.advance();
  }
  if (interrupted()) return;
  if (m_inputs.damage()) return end_replay(fmt::format("the recording is damaged: {}", *m_inputs.damage()), true);
  if (m_inputs.plays_file())
    end_replay(fmt::format("the recording ends here, after {} instructions, without a mark of its end: the program that made it was killed", cpu().retired()), false);
}

void Machine::play_event(const InputEvent& event) {
  const u64 count = cpu().retired();
  if (event.kind == InputEvent::Kind::Stuck) {
    Exit exit;
    do exit = cpu().run(1);
    while (exit == Exit::Requested);
    if (exit != Exit::Stuck) return end_replay(fmt::format("the CPU was stuck after {} instructions and is not", count), true);
    return stuck();
  }
  cpu().settle();
  switch (event.kind) {
    case InputEvent::Kind::Input: return m_inputs.apply(event);
    case InputEvent::Kind::Time:
      if (register_check(cpu().register_hash()) != event.check)
        return end_replay(fmt::format("the CPU's registers are not what they were after {} instructions", count), true);
      m_clock.set_pace(event.advance, event.rate);
      return m_clock.run_due();
    case InputEvent::Kind::Check:
      if (device_state_hash() != event.check)
        return end_replay(fmt::format("the state of CPU or devices is not what it was after {} instructions", count), true);
      return;
    case InputEvent::Kind::End:
      if (const u64 hash = state_hash(); hash != event.check)
        return end_replay(fmt::format("the state at the end, after {} instructions, is {:016x} and was {:016x}", count, hash, event.check), true);
      end_replay(fmt::format("the replay ended as it was recorded: {} instructions, state {:016x}", count, event.check), false, event.status);
      return;
    case InputEvent::Kind::Waited:
      for (u64 i = 0; i < event.advance && !ended(); ++i) {
        const auto seen = m_clock.next_seen_deadline();
        if (!seen || cpu().has_work()) return end_replay(fmt::format("the CPU waited after {} instructions and does not", count), true);
        m_clock.skip_to(*seen);
        m_clock.run_due();
      }
      return;
    case InputEvent::Kind::Stuck: return;
  }
}

void Machine::end_replay(std::string message, bool departed, int status) {
  m_replay_end = ReplayEnd{departed ? "the replay departs from its recording: " + message : std::move(message), departed, status};
  stop();
  if (m_on_replay_end) m_on_replay_end(*m_replay_end);
  else request_end(departed ? 1 : status);
}

std::optional<std::string> Machine::finish_journal() {
  if (m_inputs.plays_file()) {
    if (m_replay_end) return std::nullopt;
    // The guest ended the machine by itself, which is no input; or the user did, in the middle.
    const InputEvent* event = m_inputs.next();
    if (!event || event->kind != InputEvent::Kind::End || event->count != cpu().retired()) return std::nullopt;
    play_event(*event);
    return std::nullopt;
  }
  if (m_inputs.mode() == InputJournal::Mode::Live) {
    cpu().settle();
    m_inputs.append({.kind = InputEvent::Kind::End, .count = cpu().retired(), .check = state_hash(), .status = std::clamp(m_end_status.load(), 0, 255)});
  }
  return m_inputs.close_file();
}

}  // namespace vellum
