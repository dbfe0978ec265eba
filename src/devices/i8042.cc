// The i8042: command byte, output buffer, translation, A20 and reset.
#include "devices/i8042.h"

#include "state/log.h"

namespace vellum {

namespace {

// IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
namespace spec {
constexpr u8 kStatusOutputFull = 0x01, kStatusCommand = 0x08, kStatusUnlocked = 0x10, kStatusAux = 0x20;
constexpr u8 kInterrupt1 = 0x01, kInterrupt12 = 0x02, kSystemFlag = 0x04, kDisableKeyboard = 0x10, kDisableMouse = 0x20,
             kTranslate = 0x40;  // command byte
constexpr u8 kOutputNotReset = 0x01, kOutputA20 = 0x02, kOutputIrq1 = 0x10, kOutputIrq12 = 0x20, kOutputIdle = 0xcc;
constexpr u8 kInputUnlocked = 0x80;  // input port bit 7: the keyboard is not locked
constexpr u8 kSelfTestPassed = 0x55, kNoPassword = 0xf1;
enum Command : u8 {
  kReadRam = 0x20, kWriteRam = 0x60, kTestPassword = 0xa4, kDisableMousePort = 0xa7, kEnableMousePort = 0xa8,
  kTestMousePort = 0xa9, kSelfTest = 0xaa, kTestKeyboardPort = 0xab, kDisableKeyboardPort = 0xad,
  kEnableKeyboardPort = 0xae, kReadInputPort = 0xc0, kPollInputLow = 0xc1, kPollInputHigh = 0xc2, kReadOutputPort = 0xd0, kWriteOutputPort = 0xd1,
  kWriteKeyboardBuffer = 0xd2, kWriteMouseBuffer = 0xd3, kWriteMouse = 0xd4, kDisableA20 = 0xdd,
  kEnableA20 = 0xdf, kReadTestInputs = 0xe0, kPulse = 0xf0,
};
// A byte takes 11 clocks of 10 to 16.7 kHz on the wire. Programs that read port 60h twice for one interrupt rely on the
// second byte not being there at once.
constexpr Ticks kByteTime = 700'000;
constexpr usize kResponseLimit = 16;
}  // namespace spec

}  // namespace

I8042::I8042(VirtualClock& clock, Ps2Device& keyboard, Ps2Device& mouse, Wiring wiring)
    : m_clock(clock), m_keyboard(keyboard), m_mouse(mouse), m_wiring(std::move(wiring)), m_timer(clock, [this] {
        pull();
        schedule();
      }) {
  m_keyboard.data_available = m_mouse.data_available = [this] { schedule(); };
}

I8042::~I8042() { m_keyboard.data_available = m_mouse.data_available = nullptr; }

void I8042::reset(ResetKind) {
  m_state = State{};
  m_state.ram[0] = spec::kInterrupt1 | spec::kInterrupt12;
  m_timer.cancel();
  if (m_wiring.set_a20) m_wiring.set_a20(true);
  update_interrupts();
  schedule();
}

void I8042::Response::visit(Archive& archive) {
  auto& [value_, source_] = *this;
  archive("value", value_)("source", source_);
  archive.require(source_ <= Source::Mouse, "i8042 response source");
}

void I8042::visit(Archive& archive) {
  auto& [ram, output, source, last_was_command, pending_command, input_poll, a20, translator, responses] =
      m_state;
  archive("ram", ram)("output", output)("source", source)("last_was_command", last_was_command);
  archive("pending_command", pending_command)("input_poll", input_poll)("a20", a20)("translator", translator)("responses", responses);
  archive("timer", m_timer);
  archive.require(source <= Source::Mouse, "i8042 output source");
  archive.require(input_poll == 0 || input_poll == spec::kPollInputLow || input_poll == spec::kPollInputHigh,
                  "i8042 input port poll");
  archive.require(responses.size() <= spec::kResponseLimit, "i8042 responses");
  if (archive.loading() && !archive.failed()) {
    if (m_wiring.set_a20) m_wiring.set_a20(a20);
    update_interrupts();
  }
}

u8 I8042::status() const {
  u8 value = spec::kStatusUnlocked | (m_state.ram[0] & spec::kSystemFlag);
  if (m_state.source != Source::None) value |= spec::kStatusOutputFull;
  if (m_state.source == Source::Mouse) value |= spec::kStatusAux;
  if (m_state.last_was_command) value |= spec::kStatusCommand;
  // Commands C1h and C2h: bits 3:0 or 7:4 of the input port stand in status bits 7:4 until the next command.
  if (m_state.input_poll == spec::kPollInputLow) value = static_cast<u8>((value & 0x0f) | spec::kInputUnlocked << 4);
  if (m_state.input_poll == spec::kPollInputHigh) value = (value & 0x0f) | (spec::kInputUnlocked & 0xf0);
  return value;
}

void I8042::update_interrupts() {
  const u8 mode = m_state.ram[0];
  const bool mouse = m_state.source == Source::Mouse;
  const bool other = m_state.source == Source::Keyboard || m_state.source == Source::Controller;
  // Software that polls for a controller's answer disables the keyboard first; it expects no interrupt then.
  m_wiring.irq1.set(other && (mode & spec::kInterrupt1) && !(mode & spec::kDisableKeyboard));
  m_wiring.irq12.set(mouse && (mode & spec::kInterrupt12));
}

u8 I8042::output_port() const {
  u8 value = spec::kOutputIdle | spec::kOutputNotReset;
  if (m_state.a20) value |= spec::kOutputA20;
  if (m_state.source == Source::Keyboard || m_state.source == Source::Controller) value |= spec::kOutputIrq1;
  if (m_state.source == Source::Mouse) value |= spec::kOutputIrq12;
  return value;
}

void I8042::write_output_port(u8 value) {
  m_state.a20 = value & spec::kOutputA20;
  if (m_wiring.set_a20) m_wiring.set_a20(m_state.a20);
  if (!(value & spec::kOutputNotReset) && m_wiring.reset) m_wiring.reset();
}

bool I8042::enabled(Source source) const {
  return !(m_state.ram[0] & (source == Source::Mouse ? spec::kDisableMouse : spec::kDisableKeyboard));
}

void I8042::respond(u8 value, Source source) {
  if (m_state.responses.size() < spec::kResponseLimit) m_state.responses.push_back({value, source});
  next_response();
}

// The controller writes its output buffer only when it is empty.
void I8042::next_response() {
  if (m_state.source == Source::None && !m_state.responses.empty()) {
    const Response response = m_state.responses.front();
    m_state.responses.pop_front();
    m_state.output = response.value;
    m_state.source = response.source;
  }
  update_interrupts();
}

void I8042::schedule() {
  if (m_timer.armed() || m_state.source != Source::None) return;
  const bool waiting = (m_keyboard.has_data() && enabled(Source::Keyboard)) ||
                       (m_mouse.has_data() && enabled(Source::Mouse));
  if (waiting) m_timer.arm(m_clock.now() + spec::kByteTime);
}

void I8042::pull() {
  while (m_state.source == Source::None && m_keyboard.has_data() && enabled(Source::Keyboard)) {
    const u8 byte = m_keyboard.take();
    const auto code = m_state.ram[0] & spec::kTranslate ? m_state.translator.feed(byte) : std::optional(byte);
    if (!code) continue;
    m_state.output = *code;
    m_state.source = Source::Keyboard;
  }
  if (m_state.source == Source::None && m_mouse.has_data() && enabled(Source::Mouse)) {
    m_state.output = m_mouse.take();
    m_state.source = Source::Mouse;
  }
  update_interrupts();
}

void I8042::write_command(u8 command) {
  m_state.last_was_command = true;
  m_state.pending_command = m_state.input_poll = 0;
  u8& mode = m_state.ram[0];
  if (command >= spec::kReadRam && command < spec::kReadRam + 0x20) return respond(m_state.ram[command & 0x1f]);
  if (command >= spec::kWriteRam && command < spec::kWriteRam + 0x20) {
    m_state.pending_command = command;
    return;
  }
  if (command >= spec::kPulse) {
    // Bits 3:0 that are 0 pulse that line of the output port for 6 us; only line 0, reset, is wired to something.
    if (!(command & spec::kOutputNotReset) && m_wiring.reset) m_wiring.reset();
    return;
  }
  switch (command) {
    case spec::kTestPassword: return respond(spec::kNoPassword);
    case spec::kDisableMousePort: mode |= spec::kDisableMouse; break;
    case spec::kEnableMousePort: mode &= static_cast<u8>(~spec::kDisableMouse); break;
    case spec::kTestMousePort: return respond(0);
    case spec::kSelfTest:
      mode |= spec::kSystemFlag;
      return respond(spec::kSelfTestPassed);
    case spec::kTestKeyboardPort: return respond(0);
    case spec::kDisableKeyboardPort: mode |= spec::kDisableKeyboard; break;
    case spec::kEnableKeyboardPort: mode &= static_cast<u8>(~spec::kDisableKeyboard); break;
    case spec::kReadInputPort: return respond(spec::kInputUnlocked);
    case spec::kPollInputLow:
    case spec::kPollInputHigh: m_state.input_poll = command; break;
    case spec::kReadOutputPort: return respond(output_port());
    case spec::kReadTestInputs: return respond(0);
    case spec::kDisableA20:  // HP Vectra's shortcuts to D1h, which DOS extenders try
    case spec::kEnableA20:
      m_state.a20 = command == spec::kEnableA20;
      if (m_wiring.set_a20) m_wiring.set_a20(m_state.a20);
      break;
    case spec::kWriteOutputPort:
    case spec::kWriteKeyboardBuffer:
    case spec::kWriteMouseBuffer:
    case spec::kWriteMouse:
      m_state.pending_command = command;
      break;
    default:
      log(LogItem::Unsupported, "i8042: command {:#x}", command);
  }
  update_interrupts();
  schedule();
}

void I8042::write_data(u8 value) {
  const u8 command = m_state.pending_command;
  m_state.last_was_command = false;
  m_state.pending_command = 0;
  if (command >= spec::kWriteRam && command < spec::kWriteRam + 0x20) {
    m_state.ram[command & 0x1f] = value;
    update_interrupts();
    return schedule();
  }
  switch (command) {
    case spec::kWriteOutputPort: return write_output_port(value);
    case spec::kWriteKeyboardBuffer: return respond(value, Source::Keyboard);
    case spec::kWriteMouseBuffer: return respond(value, Source::Mouse);
    case spec::kWriteMouse:
      m_state.ram[0] &= static_cast<u8>(~spec::kDisableMouse);  // sending to a port enables it
      m_mouse.receive(value);
      break;
    default:
      m_state.ram[0] &= static_cast<u8>(~spec::kDisableKeyboard);
      m_keyboard.receive(value);
  }
  update_interrupts();
  schedule();
}

u32 I8042::read_port(u16 port, unsigned) {
  if (port & 4) return status();
  const u8 value = m_state.output;
  m_state.source = Source::None;
  update_interrupts();  // IRQ falls between two bytes
  next_response();
  schedule();
  return value;
}

void I8042::write_port(u16 port, unsigned, u32 value) {
  if (port & 4) write_command(static_cast<u8>(value));
  else write_data(static_cast<u8>(value));
}

}  // namespace vellum
