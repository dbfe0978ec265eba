// Host-neutral names of keys: positions on the keyboard, whatever the layout prints on them.
#pragma once

#include "state/integers.h"

namespace vellum {

// USB HID Usage Tables 1.12, chapter 10 (Keyboard/Keypad page 07h): the values are the usage IDs.
enum class KeyCode : u8 {
  None = 0x00,
  A = 0x04, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z,
  Digit1 = 0x1e, Digit2, Digit3, Digit4, Digit5, Digit6, Digit7, Digit8, Digit9, Digit0,
  Enter = 0x28, Escape, Backspace, Tab, Space, Minus, Equal, LeftBracket, RightBracket, Backslash,
  NonUsHash = 0x32,  // the ISO key beside Enter
  Semicolon = 0x33, Quote, Grave, Comma, Period, Slash, CapsLock,
  F1 = 0x3a, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12,
  PrintScreen = 0x46, ScrollLock, Pause, Insert, Home, PageUp, Delete, End, PageDown, Right, Left, Down, Up,
  NumLock = 0x53, KeypadDivide, KeypadMultiply, KeypadSubtract, KeypadAdd, KeypadEnter,
  Keypad1 = 0x59, Keypad2, Keypad3, Keypad4, Keypad5, Keypad6, Keypad7, Keypad8, Keypad9, Keypad0, KeypadDecimal,
  NonUsBackslash = 0x64,  // the ISO key beside left Shift
  Application = 0x65, Power, KeypadEqual,
  F13 = 0x68, F14, F15, F16, F17, F18, F19, F20, F21, F22, F23, F24,
  KeypadComma = 0x85,
  International1 = 0x87,  // Ro
  International2 = 0x88,  // Katakana/Hiragana
  International3 = 0x89,  // Yen
  International4 = 0x8a,  // Henkan
  International5 = 0x8b,  // Muhenkan
  LeftControl = 0xe0, LeftShift, LeftAlt, LeftMeta, RightControl, RightShift, RightAlt, RightMeta,
};

}  // namespace vellum
