// The table of key names.
#include "frontend/key_names.h"

#include "frontend/option_text.h"

namespace vellum {

namespace {

struct Name {
  std::string_view name;
  KeyCode code;
};

constexpr Name kNames[] = {
    {"shift", KeyCode::LeftShift}, {"shift_r", KeyCode::RightShift}, {"alt", KeyCode::LeftAlt},
    {"alt_r", KeyCode::RightAlt}, {"ctrl", KeyCode::LeftControl}, {"ctrl_r", KeyCode::RightControl},
    {"meta_l", KeyCode::LeftMeta}, {"meta_r", KeyCode::RightMeta}, {"menu", KeyCode::Application},
    {"esc", KeyCode::Escape}, {"minus", KeyCode::Minus}, {"equal", KeyCode::Equal},
    {"backspace", KeyCode::Backspace}, {"tab", KeyCode::Tab}, {"ret", KeyCode::Enter}, {"spc", KeyCode::Space},
    {"bracket_left", KeyCode::LeftBracket}, {"bracket_right", KeyCode::RightBracket},
    {"semicolon", KeyCode::Semicolon}, {"apostrophe", KeyCode::Quote}, {"grave_accent", KeyCode::Grave},
    {"backslash", KeyCode::Backslash}, {"comma", KeyCode::Comma}, {"dot", KeyCode::Period}, {"slash", KeyCode::Slash},
    {"asterisk", KeyCode::KeypadMultiply}, {"caps_lock", KeyCode::CapsLock}, {"num_lock", KeyCode::NumLock},
    {"scroll_lock", KeyCode::ScrollLock}, {"print", KeyCode::PrintScreen}, {"sysrq", KeyCode::PrintScreen},
    {"pause", KeyCode::Pause}, {"insert", KeyCode::Insert}, {"delete", KeyCode::Delete}, {"home", KeyCode::Home},
    {"end", KeyCode::End}, {"pgup", KeyCode::PageUp}, {"pgdn", KeyCode::PageDown}, {"left", KeyCode::Left},
    {"right", KeyCode::Right}, {"up", KeyCode::Up}, {"down", KeyCode::Down}, {"less", KeyCode::NonUsBackslash},
    {"kp_divide", KeyCode::KeypadDivide}, {"kp_multiply", KeyCode::KeypadMultiply},
    {"kp_subtract", KeyCode::KeypadSubtract}, {"kp_add", KeyCode::KeypadAdd}, {"kp_enter", KeyCode::KeypadEnter},
    {"kp_decimal", KeyCode::KeypadDecimal}, {"kp_0", KeyCode::Keypad0}, {"kp_1", KeyCode::Keypad1},
    {"kp_2", KeyCode::Keypad2}, {"kp_3", KeyCode::Keypad3}, {"kp_4", KeyCode::Keypad4}, {"kp_5", KeyCode::Keypad5},
    {"kp_6", KeyCode::Keypad6}, {"kp_7", KeyCode::Keypad7}, {"kp_8", KeyCode::Keypad8}, {"kp_9", KeyCode::Keypad9},
    {"f1", KeyCode::F1}, {"f2", KeyCode::F2}, {"f3", KeyCode::F3}, {"f4", KeyCode::F4}, {"f5", KeyCode::F5},
    {"f6", KeyCode::F6}, {"f7", KeyCode::F7}, {"f8", KeyCode::F8}, {"f9", KeyCode::F9}, {"f10", KeyCode::F10},
    {"f11", KeyCode::F11}, {"f12", KeyCode::F12},
};

std::optional<KeyCode> find(std::string_view name) {
  if (name.size() == 1) {
    const char c = name[0];
    if (c >= 'a' && c <= 'z') return static_cast<KeyCode>(static_cast<int>(KeyCode::A) + (c - 'a'));
    if (c >= '1' && c <= '9') return static_cast<KeyCode>(static_cast<int>(KeyCode::Digit1) + (c - '1'));
    if (c == '0') return KeyCode::Digit0;
  }
  for (const auto& row : kNames)
    if (row.name == name) return row.code;
  return std::nullopt;
}

}  // namespace

Result<std::vector<KeyCode>> parse_keys(std::string_view text) {
  std::vector<KeyCode> keys;
  while (!text.empty()) {
    const auto name = text.substr(0, text.find('-'));
    text.remove_prefix(std::min(name.size() + 1, text.size()));
    const auto code = find(name);
    if (!code) {
      std::vector<std::string_view> names;
      for (const auto& row : kNames) names.push_back(row.name);
      return failure(fmt::format("unknown key '{}'{}", name, suggestion(name, names)));
    }
    keys.push_back(*code);
  }
  if (keys.empty()) return failure("no key named");
  return keys;
}

}  // namespace vellum
