// The Ctrl-A keys.
#include "frontend/multiplexer.h"

#include <algorithm>

#include "machine/machine_clock.h"

namespace vellum {

namespace {

constexpr u8 kPrefix = 1;  // Ctrl-A
constexpr usize kMostWaiting = 4096;

constexpr std::string_view kHelp =
    "\r\n"
    "Ctrl-A h    this help\r\n"
    "Ctrl-A x    end Vellum\r\n"
    "Ctrl-A c    switch between serial line and monitor\r\n"
    "Ctrl-A b    send a break to the serial line\r\n"
    "Ctrl-A s    write disk data to the host's files\r\n"
    "Ctrl-A t    switch time stamps on and off\r\n"
    "Ctrl-A Ctrl-A  send a Ctrl-A\r\n";

}  // namespace

Multiplexer::Multiplexer(std::unique_ptr<HostBackend> host, Commands commands)
    : m_host(std::move(host)), m_commands(std::move(commands)) {
  // Input is always taken, so that Ctrl-A works while the guest reads nothing.
  m_host->can_receive = [] { return usize{64}; };
  m_host->receive = [this](std::span<const u8> data) { input(data); };
}

CharacterBackend& Multiplexer::add_user(std::string name, std::function<void()> focused) {
  return *m_users.emplace_back(std::make_unique<User>(*this, std::move(name), std::move(focused)));
}

void Multiplexer::User::deliver() {
  while (!waiting.empty()) {
    const usize room = std::min(can_receive(), waiting.size());
    if (room == 0) return;
    const std::vector<u8> data(waiting.begin(), waiting.begin() + static_cast<long>(room));
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<long>(room));
    receive(data);
  }
}

void Multiplexer::input(std::span<const u8> data) {
  for (const u8 byte : data) {
    if (m_prefix) {
      m_prefix = false;
      command(byte);
    } else if (byte == kPrefix) {
      m_prefix = true;
    } else if (!m_users.empty() && m_users[m_focus]->waiting.size() < kMostWaiting) {
      m_users[m_focus]->waiting.push_back(byte);
      m_users[m_focus]->deliver();
    }
  }
}

void Multiplexer::command(u8 key) {
  switch (key) {
    case 'h':
    case '?': return say(kHelp);
    case 'x': return m_commands.quit();
    case 's': return m_commands.flush();
    case 't': m_timestamps = !m_timestamps; return;
    case 'b':
      if (!m_users.empty()) m_users[m_focus]->receive_break();
      return;
    case 'c':
      if (m_users.size() < 2) return;
      m_focus = (m_focus + 1) % m_users.size();
      m_users[m_focus]->focused();
      return;
    case kPrefix:
      if (m_users.empty()) return;
      m_users[m_focus]->waiting.push_back(kPrefix);
      m_users[m_focus]->deliver();
      return;
    default: return;
  }
}

void Multiplexer::output(std::span<const u8> data) {
  if (!m_timestamps) return m_host->send(data);
  for (const u8 byte : data) {
    if (m_line_start) {
      const u64 milliseconds = host_nanoseconds() / 1'000'000;
      say(fmt::format("[{:02}:{:02}.{:03}] ", milliseconds / 60'000 % 100, milliseconds / 1000 % 60, milliseconds % 1000));
    }
    m_host->send({&byte, 1});
    m_line_start = byte == '\n';
  }
}

void Multiplexer::say(std::string_view text) { m_host->send({reinterpret_cast<const u8*>(text.data()), text.size()}); }

}  // namespace vellum
