// Sessions that record what happens to the machine, or play it again.
#include <sys/random.h>

#include "frontend/message.h"
#include "frontend/session.h"

namespace vellum {

namespace {

// Exit statuses of recordings and replays that went wrong.
constexpr int kRecordingFailed = 1, kReplayDeparted = 3;

}  // namespace

Result<void> Session::read_recording() {
  if (!m_options.record.empty() && m_options.clock == ClockMode::Realtime) m_options.clock = ClockMode::Paced;
  if (m_options.replay.empty()) return {};
  auto journal = read_journal(m_options.replay);
  if (!journal) return failure(fmt::format("-replay: {}", journal.error().message));
  auto header = RecordingHeader::parse(journal->header);
  if (!header) return failure(fmt::format("-replay: {}: {}", m_options.replay, header.error().message));
  m_options.clock = header->clock;
  m_options.rtc_base = header->rtc_base;
  m_recording = std::move(*header);
  m_recorded_events = std::move(journal->events);
  return {};
}

Result<void> Session::begin_journal(const std::string& machine) {
  if (!m_options.replay.empty())
    if (auto done = start_replay(machine); !done) return failure(fmt::format("-replay: {}: {}", m_options.replay, done.error().message));
  if (!m_options.record.empty())
    if (auto done = start_recording(machine); !done) return failure(fmt::format("-record: {}", done.error().message));
  if (m_options.history) {
    m_timeline = std::make_unique<Timeline>(*m_machine, Timeline::Limits{.memory = m_options.history});
    if (auto done = m_timeline->enable(); !done) return failure(fmt::format("-history: {}", done.error().message));
  }
  return {};
}

int Session::end_journal(int status) {
  if (const auto error = m_machine->finish_journal()) {
    tell_user("-record: {}", *error);
    status = std::max(status, kRecordingFailed);
  }
  return m_machine->replay_end() && m_machine->replay_end()->departed ? kReplayDeparted : status;
}

Result<void> Session::start_replay(const std::string& machine) {
  if (const auto difference = first_difference(m_recording.machine, machine); !difference.empty())
    return failure(fmt::format("this is not the machine that was recorded: {}", difference));
  m_machine->seed_random(m_recording.seed);
  if (auto played = m_machine->inputs().play(std::move(m_recorded_events), m_recording.ports); !played) return played;
  m_machine->on_replay_end([this](const Machine::ReplayEnd& end) {
    tell_user("{}", end.message);
    if (!m_options.stop_at_replay_end) m_machine->request_end(end.departed ? kReplayDeparted : end.status);
  });
  return {};
}

Result<void> Session::start_recording(const std::string& machine) {
  RecordingHeader header{.clock = m_options.clock, .rtc_base = m_options.rtc_base, .ports = m_machine->inputs().port_names(), .machine = machine};
  if (getrandom(&header.seed, sizeof(header.seed), 0) != sizeof(header.seed)) return failure("the host gives no random numbers");
  m_machine->seed_random(header.seed);
  auto file = JournalFile::create(m_options.record, header.text());
  if (!file) return std::unexpected(file.error());
  m_machine->inputs().keep_in(std::move(*file));
  return {};
}

}  // namespace vellum
