// The table of keysyms.
#include "frontend/keysyms.h"

#include <array>
#include <string_view>

#include "devices/ps2_scan_codes.h"

namespace vellum {

namespace {

struct Printed {
  char plain, shifted;
  KeyCode code;
};
constexpr Printed kPrinted[] = {
    {'1', '!', KeyCode::Digit1}, {'2', '@', KeyCode::Digit2}, {'3', '#', KeyCode::Digit3}, {'4', '$', KeyCode::Digit4},
    {'5', '%', KeyCode::Digit5}, {'6', '^', KeyCode::Digit6}, {'7', '&', KeyCode::Digit7}, {'8', '*', KeyCode::Digit8},
    {'9', '(', KeyCode::Digit9}, {'0', ')', KeyCode::Digit0}, {'-', '_', KeyCode::Minus}, {'=', '+', KeyCode::Equal},
    {'[', '{', KeyCode::LeftBracket}, {']', '}', KeyCode::RightBracket}, {'\\', '|', KeyCode::Backslash},
    {';', ':', KeyCode::Semicolon}, {'\'', '"', KeyCode::Quote}, {'`', '~', KeyCode::Grave}, {',', '<', KeyCode::Comma},
    {'.', '>', KeyCode::Period}, {'/', '?', KeyCode::Slash}, {' ', ' ', KeyCode::Space},
};

struct Named {
  u32 keysym;
  KeyCode code;
};
constexpr Named kNamed[] = {
    {0xff08, KeyCode::Backspace}, {0xff09, KeyCode::Tab}, {0xfe20, KeyCode::Tab}, {0xff0d, KeyCode::Enter},
    {0xff13, KeyCode::Pause}, {0xff6b, KeyCode::Pause}, {0xff14, KeyCode::ScrollLock}, {0xff15, KeyCode::PrintScreen},
    {0xff61, KeyCode::PrintScreen}, {0xff1b, KeyCode::Escape}, {0xffff, KeyCode::Delete}, {0xff50, KeyCode::Home},
    {0xff51, KeyCode::Left}, {0xff52, KeyCode::Up}, {0xff53, KeyCode::Right}, {0xff54, KeyCode::Down},
    {0xff55, KeyCode::PageUp}, {0xff56, KeyCode::PageDown}, {0xff57, KeyCode::End}, {0xff63, KeyCode::Insert},
    {0xff67, KeyCode::Application}, {0xff7f, KeyCode::NumLock}, {0xffe5, KeyCode::CapsLock},
    {0xffe1, KeyCode::LeftShift}, {0xffe2, KeyCode::RightShift}, {0xffe3, KeyCode::LeftControl},
    {0xffe4, KeyCode::RightControl}, {0xffe9, KeyCode::LeftAlt}, {0xffea, KeyCode::RightAlt},
    {0xffe7, KeyCode::LeftMeta}, {0xffe8, KeyCode::RightMeta}, {0xffeb, KeyCode::LeftMeta}, {0xffec, KeyCode::RightMeta},
    {0xfe03, KeyCode::RightAlt}, {0xff7e, KeyCode::RightAlt},
    {0xff8d, KeyCode::KeypadEnter}, {0xffaa, KeyCode::KeypadMultiply}, {0xffab, KeyCode::KeypadAdd},
    {0xffac, KeyCode::KeypadComma}, {0xffad, KeyCode::KeypadSubtract}, {0xffae, KeyCode::KeypadDecimal},
    {0xffaf, KeyCode::KeypadDivide}, {0xffbd, KeyCode::KeypadEqual}, {0xffb0, KeyCode::Keypad0},
    // The same keys without Num Lock.
    {0xff95, KeyCode::Keypad7}, {0xff96, KeyCode::Keypad4}, {0xff97, KeyCode::Keypad8}, {0xff98, KeyCode::Keypad6},
    {0xff99, KeyCode::Keypad2}, {0xff9a, KeyCode::Keypad9}, {0xff9b, KeyCode::Keypad3}, {0xff9c, KeyCode::Keypad1},
    {0xff9d, KeyCode::Keypad5}, {0xff9e, KeyCode::Keypad0}, {0xff9f, KeyCode::KeypadDecimal},
};

KeyCode offset(KeyCode first, u32 distance) { return static_cast<KeyCode>(static_cast<u32>(first) + distance); }

// Scan codes of the two keys that are sequences in set 1, as VNC's extended key events name them.
constexpr u32 kPrintScreen = 0xb7, kPause = 0xc6, kAltPrintScreen = 0x54;

std::array<KeyCode, 256> make_scan_code_table() {
  std::array<KeyCode, 256> table{};
  for (unsigned value = 0; value < 256; ++value) {
    const auto& codes = scan_codes(static_cast<KeyCode>(value));
    if (codes.set2 == 0) continue;
    const u8 set1 = set2_to_set1(codes.set2);
    table[(set1 & 0x7f) | (codes.extended ? 0x80 : 0)] = static_cast<KeyCode>(value);
  }
  table[kPrintScreen] = table[kAltPrintScreen] = KeyCode::PrintScreen;
  table[kPause] = KeyCode::Pause;
  return table;
}

}  // namespace

std::optional<KeyCode> key_of_keysym(u32 keysym) {
  if (keysym >= 'a' && keysym <= 'z') return offset(KeyCode::A, keysym - 'a');
  if (keysym >= 'A' && keysym <= 'Z') return offset(KeyCode::A, keysym - 'A');
  if (keysym >= 0xffbe && keysym <= 0xffc9) return offset(KeyCode::F1, keysym - 0xffbe);
  if (keysym >= 0xffca && keysym <= 0xffd5) return offset(KeyCode::F13, keysym - 0xffca);
  if (keysym >= 0xffb1 && keysym <= 0xffb9) return offset(KeyCode::Keypad1, keysym - 0xffb1);
  for (const auto& key : kPrinted)
    if (keysym == static_cast<u32>(key.plain) || keysym == static_cast<u32>(key.shifted)) return key.code;
  for (const auto& key : kNamed)
    if (keysym == key.keysym) return key.code;
  return std::nullopt;
}

std::optional<KeyCode> key_of_scan_code(u32 code) {
  static const std::array<KeyCode, 256> kTable = make_scan_code_table();
  if (code >= kTable.size() || kTable[code] == KeyCode::None) return std::nullopt;
  return kTable[code];
}

}  // namespace vellum
