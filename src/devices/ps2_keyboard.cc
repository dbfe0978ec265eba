// The PS/2 keyboard: commands, scan code sets, typematic repeat.
#include "devices/ps2_keyboard.h"

#include "devices/ps2_scan_codes.h"

namespace vellum {

namespace {

// IBM PS/2 Hardware Interface Technical Reference, "101- and 102-Key Keyboard", commands from and to the system.
namespace spec {
enum Command : u8 {
  kSetLeds = 0xed, kEcho = 0xee, kScanCodeSet = 0xf0, kIdentify = 0xf2, kTypematic = 0xf3, kEnable = 0xf4,
  kDefaultDisable = 0xf5, kSetDefault = 0xf6, kAllTypematic = 0xf7, kAllMakeBreak = 0xf8, kAllMake = 0xf9,
  kAllTypematicMakeBreak = 0xfa, kKeyTypematic = 0xfb, kKeyMakeBreak = 0xfc, kKeyMake = 0xfd, kResend = 0xfe,
  kReset = 0xff,
};
constexpr u8 kIdentity[2] = {0xab, 0x83};
constexpr u8 kOverrunSet1 = 0xff, kOverrun = 0x00;
constexpr u8 kDefaultTypematic = 0x2b;
constexpr usize kBuffer = 16;  // scan code bytes that the keyboard holds
// The basic assurance test takes 500 to 750 ms; a shorter one spares every boot that time, and drivers only set an
// upper limit.
constexpr Ticks kSelfTestTime = 5'000'000;
}  // namespace spec

constexpr u8 kPauseSequence[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
constexpr u8 kBreakSequence[] = {0xe0, 0x7e, 0xe0, 0xf0, 0x7e};  // Ctrl+Pause
constexpr u8 kPrintScreenMake[] = {0xe0, 0x12, 0xe0, 0x7c};
constexpr u8 kPrintScreenBreak[] = {0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12};
constexpr u8 kSystemRequest = 0x84;  // Alt+Print Screen

}  // namespace

Ps2Keyboard::Ps2Keyboard(VirtualClock& clock)
    : m_clock(clock),
      m_repeat_timer(clock, [this] { repeat(); }),
      m_self_test_timer(clock, [this] { self_test_done(); }) {
  set_defaults();
}

void Ps2Keyboard::reset(ResetKind) {
  reset_queue();
  m_repeat_timer.cancel();
  m_self_test_timer.cancel();
  const auto pressed = m_state.pressed;  // the user's fingers are not reset
  m_state = State{};
  m_state.pressed = pressed;
  set_defaults();
  if (leds_changed) leds_changed(0);
}

void Ps2Keyboard::visit(Archive& archive) {
  auto& [scan_set, leds, typematic, scanning, pending_command, overrun, repeating, pressed, key_types] = m_state;
  archive("scan_set", scan_set)("leds", leds)("typematic", typematic)("scanning", scanning);
  archive("pending_command", pending_command)("overrun", overrun)("repeating", repeating)("pressed", pressed);
  archive("key_types", key_types)("repeat_timer", m_repeat_timer)("self_test_timer", m_self_test_timer);
  visit_queue(archive);
  archive.require(scan_set >= 1 && scan_set <= 3, "scan code set");
  archive.require(typematic < 0x80 && leds < 8, "keyboard settings");
  // A repeat that has long been due would be caught up one by one.
  archive.require(!m_repeat_timer.armed() || m_repeat_timer.deadline() + kTicksPerSecond >= m_clock.now(),
                  "keyboard repeat time");
  for (const u8 type : key_types) archive.require(type <= static_cast<u8>(KeyType::MakeOnly), "key type");
  if (archive.loading() && !archive.failed() && leds_changed) leds_changed(leds);
}

void Ps2Keyboard::set_defaults() {
  m_state.scan_set = 2;
  m_state.typematic = spec::kDefaultTypematic;
  m_state.repeating = 0;
  m_repeat_timer.cancel();
  m_state.key_types.fill(static_cast<u8>(KeyType::Typematic));
  for (unsigned code = 0; code < 256; ++code) {
    const ScanCodes& codes = scan_codes(static_cast<KeyCode>(code));
    if (codes.set3) m_state.key_types[codes.set3] = static_cast<u8>(codes.type);
  }
}

bool Ps2Keyboard::is_pressed(KeyCode code) const {
  const u8 index = static_cast<u8>(code);
  return m_state.pressed[index / 8] >> (index % 8) & 1;
}

Ticks Ps2Keyboard::repeat_delay() const { return ((m_state.typematic >> 5 & 3) + 1) * Ticks{250'000'000}; }

Ticks Ps2Keyboard::repeat_period() const {
  // "Set Typematic Rate/Delay": period = (8 + A) * 2^B / 240 s, A bits 2:0, B bits 4:3.
  const u64 units = (8u + (m_state.typematic & 7)) << (m_state.typematic >> 3 & 3);
  return multiply_divide(units, kTicksPerSecond, 240);
}

void Ps2Keyboard::key(KeyCode code, bool down) {
  const u8 index = static_cast<u8>(code);
  if (code == KeyCode::None || scan_codes(code).set2 == 0 || is_pressed(code) == down) return;
  m_state.pressed[index / 8] ^= static_cast<u8>(1u << (index % 8));
  if (m_state.repeating == index || down) {
    m_repeat_timer.cancel();
    m_state.repeating = 0;
  }
  if (!m_state.scanning || m_self_test_timer.armed()) return;
  send_key(code, down);
  const u8 set3 = scan_codes(code).set3;
  const bool repeats = m_state.scan_set == 3 ? m_state.key_types[set3] == static_cast<u8>(KeyType::Typematic)
                                             : code != KeyCode::Pause;
  if (down && repeats) {
    m_state.repeating = index;
    m_repeat_timer.arm(m_clock.now() + repeat_delay());
  }
}

bool Ps2Keyboard::has_room() const { return queued() + std::size(kPauseSequence) <= spec::kBuffer; }

void Ps2Keyboard::repeat() {
  m_repeat_timer.arm(m_repeat_timer.deadline() + repeat_period());
  // Repeats that nobody reads leave room for what is typed, above all for the release.
  if (has_room()) send_key(static_cast<KeyCode>(m_state.repeating), true);
}

// Queues a sequence of set 2 as the current set (1 or 2), whole or not at all.
void Ps2Keyboard::send_set2(std::span<const u8> bytes) {
  if (queued() + bytes.size() > spec::kBuffer) {
    if (!m_state.overrun) queue(m_state.scan_set == 1 ? spec::kOverrunSet1 : spec::kOverrun);
    m_state.overrun = true;
    return;
  }
  m_state.overrun = false;
  ScanCodeTranslator translator;
  for (const u8 byte : bytes) {
    if (m_state.scan_set != 1) queue(byte);
    else if (const auto code = translator.feed(byte)) queue(*code);
  }
}

void Ps2Keyboard::send_key(KeyCode code, bool down) {
  const ScanCodes& codes = scan_codes(code);
  const bool control = is_pressed(KeyCode::LeftControl) || is_pressed(KeyCode::RightControl);
  const bool shift = is_pressed(KeyCode::LeftShift) || is_pressed(KeyCode::RightShift);
  const bool alt = is_pressed(KeyCode::LeftAlt) || is_pressed(KeyCode::RightAlt);
  if (m_state.scan_set == 3) {
    if (codes.set3 == 0) return;
    const u8 break_code[2] = {0xf0, codes.set3};
    if (down) return send_set2({&codes.set3, 1});
    // "All Keys Typematic/Make/Break" is the type of most keys; only make-only keys have no break code.
    if (m_state.key_types[codes.set3] != static_cast<u8>(KeyType::MakeOnly)) send_set2(break_code);
    return;
  }
  if (code == KeyCode::Pause) {
    if (down) send_set2(control ? std::span<const u8>(kBreakSequence) : std::span<const u8>(kPauseSequence));
    return;
  }
  u8 bytes[3];
  usize length = 0;
  if (code == KeyCode::PrintScreen) {
    if (!alt && !control && !shift)
      return send_set2(down ? std::span<const u8>(kPrintScreenMake) : std::span<const u8>(kPrintScreenBreak));
    if (alt) {
      if (!down) bytes[length++] = 0xf0;
      bytes[length++] = kSystemRequest;
      return send_set2({bytes, length});
    }
  }
  if (codes.extended) bytes[length++] = 0xe0;
  if (!down) bytes[length++] = 0xf0;
  bytes[length++] = codes.set2;
  send_set2({bytes, length});
}

void Ps2Keyboard::self_test_done() { queue(kSelfTestPassed); }

void Ps2Keyboard::handle_argument(u8 byte) {
  const u8 command = m_state.pending_command;
  m_state.pending_command = 0;
  queue(kAcknowledge);
  switch (command) {
    case spec::kSetLeds:
      m_state.leds = byte & 7;
      if (leds_changed) leds_changed(m_state.leds);
      break;
    case spec::kTypematic:
      m_state.typematic = byte & 0x7f;
      break;
    case spec::kScanCodeSet:
      if (byte == 0) queue(m_state.scan_set);
      else if (byte <= 3) m_state.scan_set = byte;
      break;
    case spec::kKeyTypematic:
    case spec::kKeyMakeBreak:
    case spec::kKeyMake:
      m_state.key_types[byte] = static_cast<u8>(command == spec::kKeyTypematic   ? KeyType::Typematic
                                                : command == spec::kKeyMakeBreak ? KeyType::MakeBreak
                                                                                 : KeyType::MakeOnly);
      m_state.pending_command = command;  // more keys may follow, until the next command
      break;
    default:
      break;
  }
}

void Ps2Keyboard::receive(u8 byte) {
  if (m_state.pending_command && byte < spec::kSetLeds) return handle_argument(byte);
  m_state.pending_command = 0;
  if (byte != spec::kResend && byte != spec::kEcho) clear_queue();
  const auto all_types = [this](KeyType type) { m_state.key_types.fill(static_cast<u8>(type)); };
  switch (byte) {
    case spec::kEcho: return queue(spec::kEcho);
    case spec::kResend: return queue(last_sent());
    case spec::kSetLeds:
    case spec::kScanCodeSet:
    case spec::kTypematic:
    case spec::kKeyTypematic:
    case spec::kKeyMakeBreak:
    case spec::kKeyMake:
      m_state.pending_command = byte;
      break;
    case spec::kIdentify:
      queue(kAcknowledge);
      for (const u8 part : spec::kIdentity) queue(part);
      return;
    case spec::kEnable: m_state.scanning = true; break;
    case spec::kDefaultDisable:
      set_defaults();
      m_state.scanning = false;
      break;
    case spec::kSetDefault: set_defaults(); break;
    case spec::kAllTypematic:
    case spec::kAllTypematicMakeBreak: all_types(KeyType::Typematic); break;
    case spec::kAllMakeBreak: all_types(KeyType::MakeBreak); break;
    case spec::kAllMake: all_types(KeyType::MakeOnly); break;
    case spec::kReset:
      set_defaults();
      m_state.scanning = true;
      m_state.leds = 0;
      if (leds_changed) leds_changed(0);
      m_self_test_timer.arm(m_clock.now() + spec::kSelfTestTime);
      break;
    default: return queue(kResend);
  }
  queue(kAcknowledge);
}

}  // namespace vellum
