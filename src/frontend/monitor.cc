// The monitor's commands and its line editor.
#include "frontend/monitor.h"

#include <algorithm>
#include <cstdio>

#include "frontend/key_names.h"
#include "frontend/option_text.h"
#include "jit/statistics_report.h"
#include "jit/translation_view.h"
#include "machine/snapshot.h"

namespace vellum {

namespace {

constexpr std::string_view kPrompt = "(vellum) ";
constexpr usize kLongestLine = 1024, kLongestHistory = 100;

constexpr std::string_view kTopics[] = {"registers", "mtree", "ports", "status", "version", "block", "pci", "pic", "screen", "clock", "jit", "hash"};

std::vector<std::string> split(std::string_view line) {
  std::vector<std::string> words;
  while (true) {
    const auto start = line.find_first_not_of(" \t");
    if (start == line.npos) return words;
    line.remove_prefix(start);
    if (line.front() == '"') {
      const auto end = std::min(line.find('"', 1), line.size());
      words.emplace_back(line.substr(1, end - 1));
      line.remove_prefix(std::min(end + 1, line.size()));
    } else {
      const auto end = std::min(line.find_first_of(" \t"), line.size());
      words.emplace_back(line.substr(0, end));
      line.remove_prefix(end);
    }
  }
}

}  // namespace

std::span<const Monitor::Command> Monitor::commands() {
  static constexpr Command kCommands[] = {
      {"quit", "", "end Vellum", &Monitor::run_quit, 0, 0},
      {"stop", "", "stop the machine; virtual time stands still", &Monitor::run_stop, 0, 0},
      {"cont", "", "let the machine run on", &Monitor::run_cont, 0, 0},
      {"system_reset", "", "press the reset button", &Monitor::run_reset, 0, 0},
      {"system_powerdown", "", "press the power button", &Monitor::run_power_down, 0, 0},
      {"info", "TOPIC", "show registers, mtree, ports, status, version, block, pci, pic, screen, clock, jit or hash", &Monitor::run_info, 0, 1},
      {"savevm", "FILE", "save the whole machine to a file", &Monitor::run_save, 1, 1},
      {"loadvm", "FILE", "load the whole machine from a file", &Monitor::run_load, 1, 1},
      {"sendkey", "KEYS", "press and release keys, such as ctrl-alt-delete", &Monitor::run_send_key, 1, 1},
      {"xp", "[/COUNT[b|h|w|g]] ADDRESS", "show physical memory", &Monitor::run_examine, 1, 2},
      {"translate", "ADDRESS [LENGTH [PARTS]]", "show code at a linear address and what becomes of it", &Monitor::run_translate, 1, 3},
      {"help", "", "show this list", &Monitor::run_help, 0, 1},
  };
  return kCommands;
}

std::vector<std::string_view> Monitor::command_names() {
  std::vector<std::string_view> names;
  for (const auto& command : commands()) names.push_back(command.name);
  return names;
}

Monitor::Monitor(Machine& machine, CharacterBackend& backend) : m_machine(machine), m_backend(backend) {
  m_backend.can_receive = [] { return usize{256}; };
  m_backend.receive = [this](std::span<const u8> data) { receive(data); };
}

void Monitor::greet() {
  print("Vellum " VELLUM_VERSION " monitor - type 'help' for the list of commands\n");
  prompt();
}

void Monitor::prompt() { print(std::string(kPrompt) + m_line); }

void Monitor::print(std::string_view text) {
  std::string converted;
  for (const char c : text) {
    if (c == '\n') converted += '\r';
    converted += c;
  }
  m_backend.send({reinterpret_cast<const u8*>(converted.data()), converted.size()});
}

std::string Monitor::execute(std::string_view line) {
  const auto words = split(line);
  if (words.empty()) return {};
  const auto found = std::ranges::find(commands(), words[0], &Command::name);
  if (found == commands().end())
    return fmt::format("unknown command '{}'{}\n", words[0], suggestion(words[0], command_names()));
  const usize count = words.size() - 1;
  if (count < found->least_arguments || count > found->most_arguments)
    return fmt::format("usage: {}{}{}\n", found->name, found->arguments.empty() ? "" : " ", found->arguments);
  return (this->*found->run)(std::span(words).subspan(1));
}

// ---- Commands

std::string Monitor::run_quit(std::span<const std::string>) { return m_machine.request_end(0), ""; }
std::string Monitor::run_stop(std::span<const std::string>) { return m_machine.stop(), ""; }
std::string Monitor::run_cont(std::span<const std::string>) { return m_machine.start(), ""; }
std::string Monitor::run_reset(std::span<const std::string>) { return m_machine.request_reset(), ""; }
std::string Monitor::run_power_down(std::span<const std::string>) { return m_machine.board().press_power_button(), ""; }

std::string Monitor::run_info(std::span<const std::string> arguments) {
  if (arguments.empty()) return fmt::format("topics: {}\n", fmt::join(kTopics, ", "));
  const std::string& topic = arguments[0];
  if (topic == "registers") {
    std::string text;
    for (unsigned i = 0; i < m_machine.cpu_count(); ++i) text += m_machine.cpu(i).describe_registers();
    return text;
  }
  if (topic == "mtree") return m_machine.memory().describe();
  if (topic == "ports") return m_machine.ports().describe();
  if (topic == "status") return fmt::format("VM status: {}\n", m_machine.running() ? "running" : "paused");
  if (topic == "version") return VELLUM_VERSION "\n";
  if (topic == "jit") {
    std::string text;
    for (unsigned i = 0; i < m_machine.cpu_count(); ++i) text += statistics_report(m_machine.cpu(i));
    return text;
  }
  if (topic == "hash") return fmt::format("{:016x} after {} instructions\n", m_machine.state_hash(), m_machine.cpu().retired());
  if (topic == "clock")
    return fmt::format("virtual time {} ns, {} instructions\n", m_machine.clock().now(), m_machine.cpu().retired());
  if (auto text = m_machine.board().describe(topic)) return *text;
  return fmt::format("unknown topic '{}'{}\n", topic, suggestion(topic, kTopics));
}

std::string Monitor::run_save(std::span<const std::string> arguments) {
  const auto saved = save_snapshot(m_machine, arguments[0]);
  return saved ? "" : saved.error().message + "\n";
}

std::string Monitor::run_load(std::span<const std::string> arguments) {
  const auto loaded = load_snapshot(m_machine, arguments[0]);
  return loaded ? "" : loaded.error().message + "\n";
}

std::string Monitor::run_send_key(std::span<const std::string> arguments) {
  const auto keys = parse_keys(arguments[0]);
  if (!keys) return keys.error().message + "\n";
  for (const KeyCode key : *keys) m_machine.board().key(key, true);
  for (usize i = keys->size(); i-- > 0;) m_machine.board().key((*keys)[i], false);
  return "";
}

std::string Monitor::run_examine(std::span<const std::string> arguments) {
  constexpr u64 kMost = 65536;
  u64 count = 1;
  unsigned size = 4;
  if (arguments.size() == 2) {
    std::string_view format = arguments[0];
    if (!format.starts_with('/')) return "usage: xp [/COUNT[b|h|w|g]] ADDRESS\n";
    format.remove_prefix(1);
    const auto digits = std::min(format.find_first_not_of("0123456789"), format.size());
    if (digits > 0) {
      const auto number = parse_number("xp", format.substr(0, digits), kMost);
      if (!number) return number.error().message + "\n";
      count = *number;
    }
    for (const char letter : format.substr(digits)) {
      switch (letter) {
        case 'b': size = 1; break;
        case 'h': size = 2; break;
        case 'w': size = 4; break;
        case 'g': size = 8; break;
        case 'x': break;
        default: return fmt::format("xp: unknown format letter '{}'; use b, h, w or g\n", letter);
      }
    }
  }
  const auto address = parse_number("xp", arguments.back(), ~u64{0} >> 12);
  if (!address) return address.error().message + "\n";
  std::string text;
  const unsigned per_line = 16 / size;
  for (u64 i = 0; i < count; ++i) {
    const u64 at = *address + i * size;
    u64 value = 0;
    m_machine.memory().read(GuestPhysAddr(at), {reinterpret_cast<u8*>(&value), size});
    if (i % per_line == 0) text += fmt::format("{}{:016x}:", i ? "\n" : "", at);
    text += fmt::format(" 0x{:0{}x}", value, size * 2);
  }
  return text + "\n";
}

std::string Monitor::run_translate(std::span<const std::string> arguments) {
  constexpr u64 kUsual = 64, kMost = 65536;
  const auto address = parse_number("translate", arguments[0], ~u64{0});
  if (!address) return address.error().message + "\n";
  const auto length = arguments.size() > 1 ? parse_number("translate", arguments[1], kMost) : kUsual;
  if (!length) return length.error().message + "\n";
  const auto parts = arguments.size() > 2 ? parse_translation_parts("translate", arguments[2]) : default_translation_parts();
  if (!parts) return parts.error().message + "\n";
  auto text = show_guest_translation(m_machine.cpu(), *address, *length, *parts, AssemblySyntax::Att);
  return text ? *text : "translate: " + text.error().message + "\n";
}

std::string Monitor::run_help(std::span<const std::string>) {
  std::string text;
  for (const auto& command : commands())
    text += fmt::format("{:<38}{}\n", fmt::format("{}{}{}", command.name, command.arguments.empty() ? "" : " ", command.arguments), command.help);
  return text;
}

// ---- The line editor: enough of it for a terminal without one (the terminal is raw).

void Monitor::receive(std::span<const u8> data) {
  for (const u8 byte : data) key(byte);
}

void Monitor::key(u8 byte) {
  const u8 before = std::exchange(m_last_byte, byte);
  if (m_escape == Escape::Started) {
    m_escape = byte == '[' || byte == 'O' ? Escape::Sequence : Escape::None;
    return;
  }
  if (m_escape == Escape::Sequence) {
    if (byte >= 0x40 && byte <= 0x7e) {
      m_escape = Escape::None;
      escape_sequence(byte);
    }
    return;
  }
  switch (byte) {
    case '\n':
      if (before == '\r') return;  // one end of line, not two
      [[fallthrough]];
    case '\r': {
      print("\n");
      const std::string line = std::exchange(m_line, {});
      if (!line.empty() && (m_history.empty() || m_history.back() != line)) m_history.push_back(line);
      if (m_history.size() > kLongestHistory) m_history.pop_front();
      m_history_position = m_history.size();
      print(execute(line));
      if (!m_machine.ended()) prompt();
      return;
    }
    case 0x08:
    case 0x7f:
      if (!m_line.empty()) replace_line(m_line.substr(0, m_line.size() - 1));
      return;
    case 0x15: return replace_line("");  // Ctrl-U
    case 0x17: {                         // Ctrl-W
      const auto last = m_line.find_last_not_of(' ');
      const auto space = last == std::string::npos ? last : m_line.find_last_of(' ', last);
      return replace_line(space == std::string::npos ? "" : m_line.substr(0, space + 1));
    }
    case 0x03:  // Ctrl-C
      m_line.clear();
      print("\n");
      return prompt();
    case '\t': return complete();
    case 0x1b: m_escape = Escape::Started; return;
    default:
      if (byte < 0x20 || m_line.size() >= kLongestLine) return;
      m_line += static_cast<char>(byte);
      print({reinterpret_cast<const char*>(&byte), 1});
  }
}

void Monitor::escape_sequence(u8 final_byte) {
  if (final_byte == 'A' && m_history_position > 0) return replace_line(m_history[--m_history_position]);
  if (final_byte == 'B' && m_history_position < m_history.size())
    replace_line(++m_history_position < m_history.size() ? m_history[m_history_position] : "");
}

void Monitor::complete() {
  std::vector<std::string_view> candidates;
  const bool topic = m_line.starts_with("info ");
  const std::string_view word = topic ? std::string_view(m_line).substr(5) : std::string_view(m_line);
  const auto consider = [&](std::string_view name) {
    if (name.starts_with(word)) candidates.push_back(name);
  };
  if (topic) std::ranges::for_each(kTopics, consider);
  else std::ranges::for_each(command_names(), consider);
  if (candidates.empty()) return;
  if (candidates.size() == 1) return replace_line((topic ? "info " : "") + std::string(candidates[0]) + (topic ? "" : " "));
  print(fmt::format("\n{}\n", fmt::join(candidates, "  ")));
  prompt();
}

void Monitor::replace_line(std::string line) {
  const usize common = static_cast<usize>(std::ranges::mismatch(m_line, line).in1 - m_line.begin());
  std::string text;
  for (usize i = common; i < m_line.size(); ++i) text += "\b \b";
  text += line.substr(common);
  m_line = std::move(line);
  print(text);
}

}  // namespace vellum
