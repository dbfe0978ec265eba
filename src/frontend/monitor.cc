// The monitor's commands and its line editor.
#include "frontend/monitor.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "frontend/key_names.h"
#include "frontend/option_text.h"
#include "jit/statistics_report.h"
#include "jit/translation_view.h"
#include "machine/snapshot.h"

namespace vellum {

namespace {

constexpr std::string_view kPrompt = "(vellum) ";
// What `vellum monitor` begins with, and what ends each answer to it; ASCII's group and record separators.
constexpr char kProgramMode = 0x1d, kEndOfAnswer = 0x1e;
constexpr usize kLongestLine = 1024, kLongestHistory = 100;

constexpr DebugCommands::Topic kTopics[] = {
    {"registers", "all registers"},
    {"mtree", "physical addresses: memory and devices"},
    {"network", "network cards and where they lead"},
    {"ports", "ports and their devices"},
    {"status", "whether the machine runs"},
    {"version", "Vellum's version"},
    {"block", "drives and what is in them"},
    {"pci", "PCI devices"},
    {"pic", "the interrupt controllers 8259 and I/O APIC"},
    {"lapic", "the local APIC"},
    {"screen", "the text on the screen"},
    {"clock", "virtual time, and instructions executed"},
    {"jit", "what each tier translated and ran"},
    {"hash", "a hash of the machine's whole state"},
};

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
      {"info", "TOPIC", "show what the machine is like; help info lists what there is", &Monitor::run_info, 0, 2},
      {"savevm", "FILE", "save the whole machine to a file", &Monitor::run_save, 1, 1},
      {"loadvm", "FILE", "load the whole machine from a file", &Monitor::run_load, 1, 1},
      {"sendkey", "KEYS", "press and release keys, such as ctrl-alt-delete", &Monitor::run_send_key, 1, 1},
      {"change", "[-f] DRIVE FILE [raw] [readonly=on] [snapshot=on]", "put another disc or disk into a drive that info block names; -f: also when the guest has locked it", &Monitor::run_change, 2, 6},
      {"eject", "[-f] DRIVE", "take the disc or disk out of a drive", &Monitor::run_eject, 1, 2},
      {"mouse_move", "X Y [WHEEL]", "move the mouse by counts, or a tablet to a place of 0 to 32767", &Monitor::run_mouse_move, 2, 3},
      {"mouse_button", "SET", "press these buttons and release the others: 1 left, 2 middle, 4 right, or their sum", &Monitor::run_mouse_button, 1, 1},
      {"screendump", "FILE.png", "write what the screen shows to a picture", &Monitor::run_screen_dump, 1, 1},
      {"translate", "ADDRESS [LENGTH [PARTS]]", "show code at a linear address and what becomes of it", &Monitor::run_translate, 1, 3},
      {"help", "[COMMAND]", "show this list, or more about one command", &Monitor::run_help, 0, 1},
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
  m_for_program = false;
  print("Vellum " VELLUM_VERSION " monitor - type 'help' for the list of commands\n");
  prompt();
}

void Monitor::prompt() { print(m_for_program ? std::string(1, kEndOfAnswer) : std::string(kPrompt) + m_line); }

void Monitor::print(std::string_view text) {
  std::string converted;
  for (const char c : text) {
    if (c == '\n' && !m_for_program) converted += '\r';
    converted += c;
  }
  m_backend.send({reinterpret_cast<const u8*>(converted.data()), converted.size()});
}

std::string Monitor::execute(std::string_view line) {
  auto words = split(line);
  if (words.empty()) return {};
  // x/4i is what gdb has taught people to type.
  if (const auto slash = words[0].find('/'); slash != std::string::npos && slash > 0) {
    words.insert(words.begin() + 1, words[0].substr(slash));
    words[0].resize(slash);
  }
  const auto found = std::ranges::find(commands(), words[0], &Command::name);
  if (found == commands().end()) {
    if (m_debug_commands)
      if (auto text = m_debug_commands->execute(words)) return *text;
    return fmt::format("unknown command '{}'{}\n", words[0], suggestion(words[0], all_commands()));
  }
  const usize count = words.size() - 1;
  if (count < found->least_arguments || count > found->most_arguments)
    return fmt::format("usage: {}{}{}\n", found->name, found->arguments.empty() ? "" : " ", found->arguments);
  return (this->*found->run)(std::span(words).subspan(1));
}

// ---- Commands

std::string Monitor::run_quit(std::span<const std::string>) { return m_machine.request_end(0), ""; }
std::string Monitor::run_stop(std::span<const std::string>) { return m_machine.stop(), ""; }
std::string Monitor::run_cont(std::span<const std::string>) {
  if (m_debugger) m_debugger->go_on();
  else m_machine.start();
  return "";
}
std::string Monitor::run_reset(std::span<const std::string>) { return m_machine.press_reset_button(), ""; }
std::string Monitor::run_power_down(std::span<const std::string>) { return m_machine.board().press_power_button(), ""; }

std::string Monitor::run_info(std::span<const std::string> arguments) {
  if (arguments.empty()) return fmt::format("topics: {}\n", fmt::join(all_topics(), ", "));
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
  if (m_debug_commands)
    if (auto text = m_debug_commands->describe(arguments)) return *text;
  return fmt::format("unknown topic '{}'{}\n", topic, suggestion(topic, all_topics()));
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

std::string Monitor::run_change(std::span<const std::string> arguments) {
  const bool force = arguments[0] == "-f";
  if (force) arguments = arguments.subspan(1);
  if (arguments.size() < 2) return "usage: change [-f] DRIVE FILE [raw] [readonly=on] [snapshot=on]\n";
  ImageOptions image{.path = arguments[1]};
  for (const std::string& word : arguments.subspan(2)) {
    static constexpr std::string_view kWords[] = {"raw", "readonly=on", "readonly=off", "snapshot=on", "snapshot=off"};
    const auto chosen = parse_choice("change", word, kWords);
    if (!chosen) return chosen.error().message + "\n";
    switch (*chosen) {
      case 0: image.format = "raw"; break;
      case 1:
      case 2: image.read_only = *chosen == 1; break;
      default: image.snapshot = *chosen == 3;
    }
  }
  const auto changed = m_machine.board().change_medium(arguments[0], std::move(image), force);
  return changed ? "" : changed.error().message + "\n";
}

std::string Monitor::run_eject(std::span<const std::string> arguments) {
  const bool force = arguments[0] == "-f";
  if (arguments.size() != (force ? 2 : 1)) return "usage: eject [-f] DRIVE\n";
  const auto ejected = m_machine.board().eject_medium(arguments.back(), force);
  return ejected ? "" : ejected.error().message + "\n";
}

std::string Monitor::run_mouse_move(std::span<const std::string> arguments) {
  constexpr int kGreatest = 32767;
  std::array<int, 3> values{};
  for (usize i = 0; i < arguments.size(); ++i) {
    std::string_view text = arguments[i];
    const bool negative = text.starts_with('-');
    const auto number = parse_number("mouse_move", text.substr(negative ? 1 : 0), kGreatest);
    if (!number) return number.error().message + "\n";
    values[i] = negative ? -static_cast<int>(*number) : static_cast<int>(*number);
  }
  Board& board = m_machine.board();
  if (!board.pointer_is_absolute()) return board.move_pointer(values[0], values[1], values[2], m_pointer_buttons), "";
  if (values[0] < 0 || values[1] < 0) return "mouse_move: the guest has a tablet: places are 0 to 32767\n";
  m_pointer_x = static_cast<u16>(values[0]);
  m_pointer_y = static_cast<u16>(values[1]);
  return board.place_pointer(m_pointer_x, m_pointer_y, values[2], m_pointer_buttons), "";
}

std::string Monitor::run_mouse_button(std::span<const std::string> arguments) {
  const auto set = parse_number("mouse_button", arguments[0], 7);
  if (!set) return set.error().message + "\n";
  // Here as in QEMU the middle button is 2 and the right one 4; mice have it the other way round.
  m_pointer_buttons = static_cast<u8>((*set & 1) | (*set & 2) << 1 | (*set & 4) >> 1);
  Board& board = m_machine.board();
  if (board.pointer_is_absolute()) board.place_pointer(m_pointer_x, m_pointer_y, 0, m_pointer_buttons);
  else board.move_pointer(0, 0, 0, m_pointer_buttons);
  return "";
}

std::string Monitor::run_screen_dump(std::span<const std::string> arguments) {
  if (!m_screen) return "screendump: there is no screen\n";
  const auto written = m_screen->take_screenshot(arguments[0]);
  return written ? "" : "screendump: " + written.error().message + "\n";
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

std::string Monitor::run_help(std::span<const std::string> arguments) {
  const auto line = [](std::string_view name, std::string_view parameters, std::string_view help) {
    const std::string left = fmt::format("{}{}{}", name, parameters.empty() ? "" : " ", parameters);
    return left.size() < 38 ? fmt::format("{:<38}{}\n", left, help) : fmt::format("{}\n{:<38}{}\n", left, "", help);
  };
  const bool all = arguments.empty();
  std::string text;
  for (const auto& command : commands())
    if (all || command.name == arguments[0]) text += line(command.name, command.arguments, command.help);
  if (!all && arguments[0] == "info")
    for (const auto& topic : topics()) text += fmt::format("  {:<14}{}\n", topic.name, topic.summary);
  if (m_debug_commands) {
    for (const auto& command : DebugCommands::help())
      if (all || command.name == arguments[0]) text += line(command.name, command.arguments, command.summary) + (all ? "" : std::string(command.details));
  }
  return text.empty() ? fmt::format("unknown command '{}'{}\n", arguments[0], suggestion(arguments[0], all_commands())) : text;
}

void Monitor::use_debugger(Debugger& debugger) {
  m_debugger = &debugger;
  m_debug_commands.emplace(debugger);
  // Every monitor tells of a stop, whichever asked for it.
  debugger.on_stop = [this, others = std::move(debugger.on_stop)](const std::string& text) {
    if (others) others(text);
    print("\n" + text);
    prompt();
  };
}

std::vector<std::string_view> Monitor::all_commands() const {
  auto names = command_names();
  if (m_debug_commands)
    for (const auto& command : DebugCommands::help()) names.push_back(command.name);
  return names;
}

std::vector<DebugCommands::Topic> Monitor::topics() const {
  std::vector<DebugCommands::Topic> topics(std::begin(kTopics), std::end(kTopics));
  if (m_debug_commands) topics.insert(topics.end(), DebugCommands::topics().begin(), DebugCommands::topics().end());
  return topics;
}

std::vector<std::string_view> Monitor::all_topics() const {
  std::vector<std::string_view> names;
  for (const auto& topic : topics()) names.push_back(topic.name);
  return names;
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
      if (!m_for_program) print("\n");
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
    case kProgramMode:
      m_for_program = true;
      m_line.clear();
      return prompt();
    case 0x03:  // Ctrl-C
      m_line.clear();
      print("\n");
      return prompt();
    case '\t':
      if (!m_for_program) return complete();
      for (const std::string& word : candidates(std::exchange(m_line, {}))) print(word + "\n");
      return prompt();
    case 0x1b: m_escape = Escape::Started; return;
    default:
      if (byte < 0x20 || m_line.size() >= kLongestLine) return;
      m_line += static_cast<char>(byte);
      if (!m_for_program) print({reinterpret_cast<const char*>(&byte), 1});
  }
}

void Monitor::escape_sequence(u8 final_byte) {
  if (final_byte == 'A' && m_history_position > 0) return replace_line(m_history[--m_history_position]);
  if (final_byte == 'B' && m_history_position < m_history.size())
    replace_line(++m_history_position < m_history.size() ? m_history[m_history_position] : "");
}

std::vector<std::string> Monitor::candidates(std::string_view line) const {
  std::vector<std::string> found;
  const auto space = line.find(' ');
  const std::string_view word = line.substr(line.find_last_of(' ') + 1);
  const auto consider = [&](std::string_view name) {
    if (name.starts_with(word)) found.emplace_back(name);
  };
  if (space == line.npos || line.substr(0, space) == "help") std::ranges::for_each(all_commands(), consider);
  else if (line.substr(0, space) == "info") std::ranges::for_each(all_topics(), consider);
  else if (m_debug_commands) found = m_debug_commands->complete(line.substr(0, space), word);
  return found;
}

void Monitor::complete() {
  const std::vector<std::string> found = candidates(m_line);
  if (found.empty()) return;
  const std::string before = m_line.substr(0, m_line.find_last_of(' ') + 1);
  if (found.size() == 1) return replace_line(before + found[0] + (before.starts_with("info ") ? "" : " "));
  // As far as all of them agree.
  std::string common = found[0];
  for (const std::string& other : found) common.resize(static_cast<usize>(std::ranges::mismatch(common, other).in1 - common.begin()));
  m_line = before + common;
  print(fmt::format("\n{}\n", fmt::join(found, "  ")));
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
