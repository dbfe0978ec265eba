// Lines are edited by libedit where there is a terminal; the monitor is asked for completions, and marks the end of its answers.
#include "frontend/monitor_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "frontend/message.h"
#include "machine/unix_socket.h"
#include "state/integers.h"

#if VELLUM_HAVE_LIBEDIT
#include <editline/readline.h>
#endif

namespace vellum {

namespace {

// As in monitor.cc.
constexpr char kProgramMode = 0x1d, kEndOfAnswer = 0x1e;

class Client {
 public:
  bool connect(const std::string& path) {
    const auto connection = connect_unix_socket("monitor", path, fmt::format("start the machine with -monitor unix:{},server,nowait", path));
    if (!connection) {
      tell_user("{}", connection.error().message);
      return false;
    }
    m_socket = *connection;
    send(std::string(1, kProgramMode));
    std::string greeting;
    return answer(greeting);
  }
  ~Client() {
    if (m_socket >= 0) close(m_socket);
  }

  void send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::send(m_socket, text.data(), text.size(), MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      text.remove_prefix(static_cast<usize>(count));
    }
  }
  // Up to the mark; false: the machine has gone.
  bool answer(std::string& text) {
    while (true) {
      const auto end = m_received.find(kEndOfAnswer);
      if (end != std::string::npos) {
        text = m_received.substr(0, end);
        m_received.erase(0, end + 1);
        return true;
      }
      if (!receive()) {
        text = std::exchange(m_received, {});
        return false;
      }
    }
  }
  // To wait for news; -1 when the machine has gone.
  int socket() const { return m_gone ? -1 : m_socket; }
  // What came without being asked for: why the machine stopped.
  std::string news() {
    pollfd waiting{m_socket, POLLIN, 0};
    while (poll(&waiting, 1, 0) > 0 && receive()) {}
    std::string text;
    for (auto end = m_received.find(kEndOfAnswer); end != std::string::npos; end = m_received.find(kEndOfAnswer)) {
      text += m_received.substr(0, end);
      m_received.erase(0, end + 1);
    }
    return text;
  }

 private:
  bool receive() {
    char buffer[4096];
    ssize_t count;
    do count = read(m_socket, buffer, sizeof(buffer));
    while (count < 0 && errno == EINTR);
    if (count <= 0) m_gone = true;
    if (count > 0) m_received.append(buffer, static_cast<usize>(count));
    return count > 0;
  }
  int m_socket = -1;
  bool m_gone = false;
  std::string m_received;
};

#if VELLUM_HAVE_LIBEDIT
Client* g_client = nullptr;
std::vector<std::string> g_candidates;

char* next_candidate(const char*, int state) {
  return static_cast<usize>(state) < g_candidates.size() ? strdup(g_candidates[static_cast<usize>(state)].c_str()) : nullptr;
}

// While the line is being typed: what the machine says meanwhile is shown above it. editline calls this again and again.
int show_news() {
  constexpr int kMilliseconds = 200;
  pollfd waiting[] = {{STDIN_FILENO, POLLIN, 0}, {g_client->socket(), POLLIN, 0}};
  poll(waiting, 2, kMilliseconds);
  if (!waiting[1].revents) return 0;
  const std::string text = g_client->news();
  if (!text.empty()) {
    std::cout << "\r\033[K" << text << std::flush;
    rl_forced_update_display();
  }
  return 0;
}

char** candidates(const char* word, int, int end) {
  rl_attempted_completion_over = 1;  // no file names
  g_client->send(std::string(rl_line_buffer, static_cast<usize>(end)) + "\t");
  std::string text;
  g_candidates.clear();
  if (!g_client->answer(text)) return nullptr;
  while (!text.empty()) {
    const auto line_end = std::min(text.find('\n'), text.size());
    if (line_end) g_candidates.push_back(text.substr(0, line_end));
    text.erase(0, line_end + 1);
  }
  return rl_completion_matches(word, next_candidate);
}

bool read_line(Client& client, std::string& line) {
  g_client = &client;
  rl_readline_name = const_cast<char*>("vellum");
  rl_attempted_completion_function = candidates;
  rl_event_hook = show_news;
  rl_basic_word_break_characters = const_cast<char*>(" ");
  char* text = readline("(vellum) ");
  if (!text) return false;
  line = text;
  free(text);
  if (!line.empty()) add_history(line.c_str());
  return true;
}

std::string history_file() {
  const char* home = std::getenv("HOME");
  return home ? std::string(home) + "/.vellum_history" : "";
}
#else
bool read_line(Client&, std::string& line) {
  std::cout << "(vellum) " << std::flush;
  return static_cast<bool>(std::getline(std::cin, line));
}
#endif

}  // namespace

int run_monitor_client(std::span<const std::string> arguments) {
  if (arguments.empty() || arguments[0].starts_with("-")) {
    constexpr std::string_view kUsage =
        "usage: vellum monitor SOCKET [COMMAND...]\n"
        "Types at the monitor of a machine that was started with -monitor unix:SOCKET,server,nowait: with editing, history and\n"
        "completion, or only the commands given, one an argument. The command help lists what there is.\n";
    if (!arguments.empty() && (arguments[0] == "-help" || arguments[0] == "--help")) return std::cout << kUsage, 0;
    return std::cerr << kUsage, 2;
  }
  Client client;
  if (!client.connect(arguments[0])) return 1;
  std::string text;
  if (arguments.size() > 1) {  // each argument is a line
    for (const std::string& line : arguments.subspan(1)) {
      client.send(line + "\n");
      const bool there = client.answer(text);
      std::cout << text << std::flush;
      if (!there) break;
    }
    return 0;
  }
  const bool interactive = isatty(STDIN_FILENO);
#if VELLUM_HAVE_LIBEDIT
  if (interactive && !history_file().empty()) read_history(history_file().c_str());
#endif
  std::string line;
  while (interactive ? read_line(client, line) : static_cast<bool>(std::getline(std::cin, line))) {
    std::cout << client.news();
    client.send(line + "\n");
    const bool there = client.answer(text);
    std::cout << text << std::flush;
    if (!there) break;
  }
#if VELLUM_HAVE_LIBEDIT
  if (interactive && !history_file().empty()) write_history(history_file().c_str());
#endif
  return 0;
}

}  // namespace vellum
