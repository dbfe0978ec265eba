// Events as bytes, and input on its way to its devices.
#include "machine/input_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "machine/journal_file.h"
#include "state/assert.h"

namespace vellum {

namespace {

// An event is its kind (one byte), the instructions since the event before, and what its kind has, all as numbers of seven
// bits a byte, the lowest first, but for checks, which have a fixed size.
void put_number(std::vector<u8>& bytes, u64 value) {
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<u8>(value | 0x80));
  bytes.push_back(static_cast<u8>(value));
}

void put_fixed(std::vector<u8>& bytes, u64 value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<u8>(value >> (8 * i)));
}

struct Reader {
  std::span<const u8> bytes;
  usize at;
  bool failed = false;

  u8 byte() {
    if (at >= bytes.size()) return failed = true, u8{0};
    return bytes[at++];
  }
  u64 number() {
    u64 value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const u8 part = byte();
      value |= u64{part & 0x7fu} << shift;
      if (!(part & 0x80)) return value;
    }
    failed = true;
    return 0;
  }
  u64 fixed(unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= u64{byte()} << (8 * i);
    return value;
  }
};

constexpr unsigned kRegisterCheckSize = 2, kStateCheckSize = 8;
constexpr u64 kGreatestStatus = 255;

}  // namespace

void InputPort::submit(std::span<const u8> data) { m_journal.submit(*this, data); }

InputJournal::InputJournal(std::function<u64()> retired) : m_retired(std::move(retired)) {}
InputJournal::~InputJournal() = default;

InputPort& InputJournal::add_port(std::string name, InputPort::Handler handler) {
  VELLUM_ASSERT(std::ranges::none_of(m_ports, [&](const auto& port) { return port->name() == name; }));
  const auto index = static_cast<unsigned>(m_ports.size());
  return *m_ports.emplace_back(new InputPort(*this, index, std::move(name), std::move(handler)));
}

void InputJournal::keep_in(std::unique_ptr<JournalFile> file) {
  m_kept = true;
  m_file = std::move(file);
}

std::vector<std::string> InputJournal::port_names() const {
  std::vector<std::string> names;
  for (const auto& port : m_ports) names.push_back(port->name());
  return names;
}

Result<void> InputJournal::play(std::vector<u8> events, const std::vector<std::string>& ports) {
  for (const auto& name : ports) {
    const auto found = std::ranges::find_if(m_ports, [&](const auto& port) { return port->name() == name; });
    if (found == m_ports.end()) return failure(fmt::format("it has input for '{}', which this machine does not have", name));
    m_played_ports.push_back((*found)->m_index);
  }
  m_kept = m_plays_file = true;
  m_events = std::move(events);
  m_end.offset = m_events.size();
  return {};
}

InputJournal::Mode InputJournal::mode() const {
  if (!m_kept) return Mode::Direct;
  return m_plays_file || m_position.offset < m_end.offset || in_past() ? Mode::Replay : Mode::Live;
}

void InputJournal::submit(InputPort& port, std::span<const u8> data) {
  switch (mode()) {
    case Mode::Direct: return port.m_handler(data);
    case Mode::Replay: return;
    case Mode::Live: break;
  }
  for (; data.size() > InputPort::kLongestInput; data = data.subspan(InputPort::kLongestInput))
    submit(port, data.first(InputPort::kLongestInput));
  port.m_waiting += data.size();
  m_waiting.push_back({&port, {data.begin(), data.end()}});
}

void InputJournal::deliver_waiting() {
  Piece piece = std::move(m_waiting.front());
  m_waiting.pop_front();
  piece.port->m_waiting -= piece.data.size();
  InputEvent event{.kind = InputEvent::Kind::Input, .count = m_retired(), .port = piece.port->m_index, .data = std::move(piece.data)};
  append(event);
  apply(event);
}

void InputJournal::note_wait() {
  if (mode() != Mode::Live) return;
  if (const u64 count = m_retired(); m_waits_count != count) m_waits_count = count, m_waits = 0;
  ++m_waits;
}

void InputJournal::apply(const InputEvent& event) { m_ports[event.port]->m_handler(event.data); }

void InputJournal::append(const InputEvent& event) {
  VELLUM_ASSERT(event.count >= m_end.count && m_position.offset == m_end.offset);
  if (const u64 waits = std::exchange(m_waits, 0); waits && m_waits_count == event.count)
    append({.kind = InputEvent::Kind::Waited, .count = event.count, .advance = waits});
  const usize start = m_events.size();
  m_events.push_back(static_cast<u8>(event.kind));
  put_number(m_events, event.count - m_end.count);
  switch (event.kind) {
    case InputEvent::Kind::Input:
      put_number(m_events, event.port);
      put_number(m_events, event.data.size());
      m_events.insert(m_events.end(), event.data.begin(), event.data.end());
      break;
    case InputEvent::Kind::Time:
      put_number(m_events, event.advance);
      put_number(m_events, event.rate);
      put_fixed(m_events, event.check, kRegisterCheckSize);
      break;
    case InputEvent::Kind::Stuck: break;
    case InputEvent::Kind::Waited: put_number(m_events, event.advance); break;
    case InputEvent::Kind::Check: put_fixed(m_events, event.check, kStateCheckSize); break;
    case InputEvent::Kind::End:
      put_number(m_events, static_cast<u64>(event.status));
      put_fixed(m_events, event.check, kStateCheckSize);
      break;
  }
  m_position = m_end = {m_events.size(), event.count};
  if (m_file) m_file->append(std::span(m_events).subspan(start));
}

bool InputJournal::decode() {
  Reader reader{std::span<const u8>(m_events).first(m_end.offset), m_position.offset};
  InputEvent event;
  event.kind = static_cast<InputEvent::Kind>(reader.byte());
  const u64 later = reader.number();
  event.count = m_position.count + later;
  bool valid = event.count >= later;
  switch (event.kind) {
    case InputEvent::Kind::Input: {
      const u64 port = reader.number(), size = reader.number();
      valid = valid && port < (m_plays_file ? m_played_ports.size() : m_ports.size()) && size <= InputPort::kLongestInput && size <= reader.bytes.size() - reader.at;
      if (!valid) break;
      event.port = m_plays_file ? m_played_ports[port] : static_cast<unsigned>(port);
      const auto data = reader.bytes.subspan(reader.at, size);
      event.data.assign(data.begin(), data.end());
      reader.at += size;
      break;
    }
    case InputEvent::Kind::Time: {
      event.advance = reader.number();
      const u64 rate = reader.number();
      event.check = reader.fixed(kRegisterCheckSize);
      // A rate of zero would make time stand still, and virtual time stays below 2^63 (MachineClock::visit).
      valid = valid && rate > 0 && rate <= ~u32{0} && event.advance < u64{1} << 62;
      event.rate = static_cast<u32>(rate);
      break;
    }
    case InputEvent::Kind::Stuck: break;
    case InputEvent::Kind::Waited:
      event.advance = reader.number();
      valid = valid && event.advance <= ~u32{0};
      break;
    case InputEvent::Kind::Check: event.check = reader.fixed(kStateCheckSize); break;
    case InputEvent::Kind::End: {
      const u64 status = reader.number();
      valid = valid && status <= kGreatestStatus;
      event.status = static_cast<int>(status);
      event.check = reader.fixed(kStateCheckSize);
      break;
    }
    default: valid = false;
  }
  if (!valid || reader.failed) {
    m_damage = fmt::format("the recorded event behind instruction {} makes no sense", m_position.count);
    m_end.offset = m_position.offset;
    return false;
  }
  m_next = std::move(event);
  m_next_end = reader.at;
  return true;
}

const InputEvent* InputJournal::next() {
  if (m_position.offset >= m_end.offset) return nullptr;
  if (!m_next && !decode()) return nullptr;
  return &*m_next;
}

u64 InputJournal::next_count() {
  const InputEvent* event = next();
  return event ? event->count : ~u64{0};
}

void InputJournal::advance() {
  m_position = {m_next_end, m_next->count};
  m_next.reset();
}

void InputJournal::go_to(const Position& position, u64 furthest) {
  m_position = position;
  m_waits = 0;
  m_next.reset();
  m_furthest = std::max(m_furthest, furthest);
  for (Piece& piece : m_waiting) piece.port->m_waiting -= piece.data.size();
  m_waiting.clear();
}

void InputJournal::restart() {
  ++m_restarts;
  m_waits = 0;
  m_events.clear();
  m_position = m_end = {0, m_retired()};
  m_next.reset();
  m_furthest = 0;
}

bool InputJournal::forget_future() {
  if (m_plays_file || m_file) return false;
  m_events.resize(m_position.offset);
  m_end = m_position;
  m_next.reset();
  m_furthest = m_retired();
  return true;
}

std::optional<std::string> InputJournal::close_file() {
  if (!m_file) return std::nullopt;
  auto error = m_file->close();
  m_file.reset();
  return error;
}

}  // namespace vellum
