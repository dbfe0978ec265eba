// The tables of scan codes.
#include "devices/ps2_scan_codes.h"

#include <array>

namespace vellum {

namespace {

struct Row {
  KeyCode key;
  ScanCodes codes;
};

constexpr auto kRepeat = KeyType::Typematic;
constexpr auto kBoth = KeyType::MakeBreak;
constexpr auto kMake = KeyType::MakeOnly;
constexpr bool kE0 = true, kPlain = false;

// IBM PS/2 Hardware Interface Technical Reference, "101- and 102-Key Keyboard", scan code sets 2 and 3 and the default
// key types of set 3.
constexpr Row kRows[] = {
    {KeyCode::A, {0x1c, kPlain, 0x1c, kRepeat}},
    {KeyCode::B, {0x32, kPlain, 0x32, kRepeat}},
    {KeyCode::C, {0x21, kPlain, 0x21, kRepeat}},
    {KeyCode::D, {0x23, kPlain, 0x23, kRepeat}},
    {KeyCode::E, {0x24, kPlain, 0x24, kRepeat}},
    {KeyCode::F, {0x2b, kPlain, 0x2b, kRepeat}},
    {KeyCode::G, {0x34, kPlain, 0x34, kRepeat}},
    {KeyCode::H, {0x33, kPlain, 0x33, kRepeat}},
    {KeyCode::I, {0x43, kPlain, 0x43, kRepeat}},
    {KeyCode::J, {0x3b, kPlain, 0x3b, kRepeat}},
    {KeyCode::K, {0x42, kPlain, 0x42, kRepeat}},
    {KeyCode::L, {0x4b, kPlain, 0x4b, kRepeat}},
    {KeyCode::M, {0x3a, kPlain, 0x3a, kRepeat}},
    {KeyCode::N, {0x31, kPlain, 0x31, kRepeat}},
    {KeyCode::O, {0x44, kPlain, 0x44, kRepeat}},
    {KeyCode::P, {0x4d, kPlain, 0x4d, kRepeat}},
    {KeyCode::Q, {0x15, kPlain, 0x15, kRepeat}},
    {KeyCode::R, {0x2d, kPlain, 0x2d, kRepeat}},
    {KeyCode::S, {0x1b, kPlain, 0x1b, kRepeat}},
    {KeyCode::T, {0x2c, kPlain, 0x2c, kRepeat}},
    {KeyCode::U, {0x3c, kPlain, 0x3c, kRepeat}},
    {KeyCode::V, {0x2a, kPlain, 0x2a, kRepeat}},
    {KeyCode::W, {0x1d, kPlain, 0x1d, kRepeat}},
    {KeyCode::X, {0x22, kPlain, 0x22, kRepeat}},
    {KeyCode::Y, {0x35, kPlain, 0x35, kRepeat}},
    {KeyCode::Z, {0x1a, kPlain, 0x1a, kRepeat}},
    {KeyCode::Digit1, {0x16, kPlain, 0x16, kRepeat}},
    {KeyCode::Digit2, {0x1e, kPlain, 0x1e, kRepeat}},
    {KeyCode::Digit3, {0x26, kPlain, 0x26, kRepeat}},
    {KeyCode::Digit4, {0x25, kPlain, 0x25, kRepeat}},
    {KeyCode::Digit5, {0x2e, kPlain, 0x2e, kRepeat}},
    {KeyCode::Digit6, {0x36, kPlain, 0x36, kRepeat}},
    {KeyCode::Digit7, {0x3d, kPlain, 0x3d, kRepeat}},
    {KeyCode::Digit8, {0x3e, kPlain, 0x3e, kRepeat}},
    {KeyCode::Digit9, {0x46, kPlain, 0x46, kRepeat}},
    {KeyCode::Digit0, {0x45, kPlain, 0x45, kRepeat}},
    {KeyCode::Enter, {0x5a, kPlain, 0x5a, kRepeat}},
    {KeyCode::Escape, {0x76, kPlain, 0x08, kMake}},
    {KeyCode::Backspace, {0x66, kPlain, 0x66, kRepeat}},
    {KeyCode::Tab, {0x0d, kPlain, 0x0d, kRepeat}},
    {KeyCode::Space, {0x29, kPlain, 0x29, kRepeat}},
    {KeyCode::Minus, {0x4e, kPlain, 0x4e, kRepeat}},
    {KeyCode::Equal, {0x55, kPlain, 0x55, kRepeat}},
    {KeyCode::LeftBracket, {0x54, kPlain, 0x54, kRepeat}},
    {KeyCode::RightBracket, {0x5b, kPlain, 0x5b, kRepeat}},
    {KeyCode::Backslash, {0x5d, kPlain, 0x5c, kRepeat}},
    {KeyCode::NonUsHash, {0x5d, kPlain, 0x53, kRepeat}},
    {KeyCode::Semicolon, {0x4c, kPlain, 0x4c, kRepeat}},
    {KeyCode::Quote, {0x52, kPlain, 0x52, kRepeat}},
    {KeyCode::Grave, {0x0e, kPlain, 0x0e, kRepeat}},
    {KeyCode::Comma, {0x41, kPlain, 0x41, kRepeat}},
    {KeyCode::Period, {0x49, kPlain, 0x49, kRepeat}},
    {KeyCode::Slash, {0x4a, kPlain, 0x4a, kRepeat}},
    {KeyCode::CapsLock, {0x58, kPlain, 0x14, kBoth}},
    {KeyCode::F1, {0x05, kPlain, 0x07, kMake}},
    {KeyCode::F2, {0x06, kPlain, 0x0f, kMake}},
    {KeyCode::F3, {0x04, kPlain, 0x17, kMake}},
    {KeyCode::F4, {0x0c, kPlain, 0x1f, kMake}},
    {KeyCode::F5, {0x03, kPlain, 0x27, kMake}},
    {KeyCode::F6, {0x0b, kPlain, 0x2f, kMake}},
    {KeyCode::F7, {0x83, kPlain, 0x37, kMake}},
    {KeyCode::F8, {0x0a, kPlain, 0x3f, kMake}},
    {KeyCode::F9, {0x01, kPlain, 0x47, kMake}},
    {KeyCode::F10, {0x09, kPlain, 0x4f, kMake}},
    {KeyCode::F11, {0x78, kPlain, 0x56, kMake}},
    {KeyCode::F12, {0x07, kPlain, 0x5e, kMake}},
    {KeyCode::PrintScreen, {0x7c, kE0, 0x57, kMake}},
    {KeyCode::ScrollLock, {0x7e, kPlain, 0x5f, kMake}},
    {KeyCode::Pause, {0x77, kPlain, 0x62, kMake}},
    {KeyCode::Insert, {0x70, kE0, 0x67, kMake}},
    {KeyCode::Home, {0x6c, kE0, 0x6e, kMake}},
    {KeyCode::PageUp, {0x7d, kE0, 0x6f, kMake}},
    {KeyCode::Delete, {0x71, kE0, 0x64, kRepeat}},
    {KeyCode::End, {0x69, kE0, 0x65, kMake}},
    {KeyCode::PageDown, {0x7a, kE0, 0x6d, kMake}},
    {KeyCode::Right, {0x74, kE0, 0x6a, kRepeat}},
    {KeyCode::Left, {0x6b, kE0, 0x61, kRepeat}},
    {KeyCode::Down, {0x72, kE0, 0x60, kRepeat}},
    {KeyCode::Up, {0x75, kE0, 0x63, kRepeat}},
    {KeyCode::NumLock, {0x77, kPlain, 0x76, kMake}},
    {KeyCode::KeypadDivide, {0x4a, kE0, 0x77, kMake}},
    {KeyCode::KeypadMultiply, {0x7c, kPlain, 0x7e, kMake}},
    {KeyCode::KeypadSubtract, {0x7b, kPlain, 0x84, kMake}},
    {KeyCode::KeypadAdd, {0x79, kPlain, 0x7c, kRepeat}},
    {KeyCode::KeypadEnter, {0x5a, kE0, 0x79, kMake}},
    {KeyCode::Keypad1, {0x69, kPlain, 0x69, kMake}},
    {KeyCode::Keypad2, {0x72, kPlain, 0x72, kMake}},
    {KeyCode::Keypad3, {0x7a, kPlain, 0x7a, kMake}},
    {KeyCode::Keypad4, {0x6b, kPlain, 0x6b, kMake}},
    {KeyCode::Keypad5, {0x73, kPlain, 0x73, kMake}},
    {KeyCode::Keypad6, {0x74, kPlain, 0x74, kMake}},
    {KeyCode::Keypad7, {0x6c, kPlain, 0x6c, kMake}},
    {KeyCode::Keypad8, {0x75, kPlain, 0x75, kMake}},
    {KeyCode::Keypad9, {0x7d, kPlain, 0x7d, kMake}},
    {KeyCode::Keypad0, {0x70, kPlain, 0x70, kMake}},
    {KeyCode::KeypadDecimal, {0x71, kPlain, 0x71, kMake}},
    {KeyCode::NonUsBackslash, {0x61, kPlain, 0x13, kRepeat}},
    {KeyCode::Application, {0x2f, kE0, 0x8d, kBoth}},
    {KeyCode::Power, {0x37, kE0, 0, kBoth}},
    {KeyCode::KeypadEqual, {0x0f, kPlain, 0, kBoth}},
    {KeyCode::F13, {0x08, kPlain, 0, kMake}},
    {KeyCode::F14, {0x10, kPlain, 0, kMake}},
    {KeyCode::F15, {0x18, kPlain, 0, kMake}},
    {KeyCode::F16, {0x20, kPlain, 0, kMake}},
    {KeyCode::F17, {0x28, kPlain, 0, kMake}},
    {KeyCode::F18, {0x30, kPlain, 0, kMake}},
    {KeyCode::F19, {0x38, kPlain, 0, kMake}},
    {KeyCode::F20, {0x40, kPlain, 0, kMake}},
    {KeyCode::F21, {0x48, kPlain, 0, kMake}},
    {KeyCode::F22, {0x50, kPlain, 0, kMake}},
    {KeyCode::F23, {0x57, kPlain, 0, kMake}},
    {KeyCode::F24, {0x5f, kPlain, 0, kMake}},
    {KeyCode::KeypadComma, {0x6d, kPlain, 0x7b, kRepeat}},
    {KeyCode::International1, {0x51, kPlain, 0x51, kRepeat}},
    {KeyCode::International2, {0x13, kPlain, 0x87, kMake}},
    {KeyCode::International3, {0x6a, kPlain, 0x5d, kRepeat}},
    {KeyCode::International4, {0x64, kPlain, 0x86, kMake}},
    {KeyCode::International5, {0x67, kPlain, 0x85, kMake}},
    {KeyCode::LeftControl, {0x14, kPlain, 0x11, kBoth}},
    {KeyCode::LeftShift, {0x12, kPlain, 0x12, kBoth}},
    {KeyCode::LeftAlt, {0x11, kPlain, 0x19, kBoth}},
    {KeyCode::LeftMeta, {0x1f, kE0, 0x8b, kBoth}},
    {KeyCode::RightControl, {0x14, kE0, 0x58, kMake}},
    {KeyCode::RightShift, {0x59, kPlain, 0x59, kBoth}},
    {KeyCode::RightAlt, {0x11, kE0, 0x39, kMake}},
    {KeyCode::RightMeta, {0x27, kE0, 0x8c, kBoth}},
};

constexpr auto kByKey = [] {
  std::array<ScanCodes, 256> table{};
  for (const Row& row : kRows) table[static_cast<u8>(row.key)] = row.codes;
  return table;
}();

// IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller", scan code translation.
constexpr u8 kTranslation[0x80] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,  // 00h
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,  // 10h
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,  // 20h
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,  // 30h
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,  // 40h
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,  // 50h
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,  // 60h
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,  // 70h
};

}  // namespace

const ScanCodes& scan_codes(KeyCode code) { return kByKey[static_cast<u8>(code)]; }

u8 set2_to_set1(u8 code) {
  if (code < 0x80) return kTranslation[code];
  if (code == 0x83) return 0x41;  // F7
  if (code == 0x84) return 0x54;  // Alt+Print Screen
  return code;
}

}  // namespace vellum
