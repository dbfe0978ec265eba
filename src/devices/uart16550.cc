// The 16550A: receiver FIFO, interrupt priorities, modem lines, loopback.
#include "devices/uart16550.h"

#include <algorithm>

namespace vellum {

namespace {

// PC16550D datasheet, table II (summary of registers) and section 8.
namespace spec {
constexpr u8 kEnableReceive = 0x01, kEnableTransmit = 0x02, kEnableLineStatus = 0x04, kEnableModem = 0x08;  // IER
constexpr u8 kNoInterrupt = 0x01, kLineStatus = 0x06, kDataAvailable = 0x04, kTimeout = 0x0c, kTransmitterEmpty = 0x02,
             kModemStatus = 0x00, kFifosEnabled = 0xc0;  // IIR
constexpr u8 kFifoEnable = 0x01, kFifoClearReceiver = 0x02;  // FCR
constexpr u8 kWordLength = 0x03, kStopBits = 0x04, kParity = 0x08, kBreak = 0x40, kDivisorAccess = 0x80;  // LCR
constexpr u8 kDtr = 0x01, kRts = 0x02, kOut1 = 0x04, kOut2 = 0x08, kLoop = 0x10;  // MCR
constexpr u8 kDataReady = 0x01, kOverrun = 0x02, kBreakInterrupt = 0x10, kCharacterErrors = 0x1c, kHoldingEmpty = 0x20,
             kEmpty = 0x40, kErrorInFifo = 0x80;  // LSR
constexpr u8 kCts = 0x10, kDsr = 0x20, kRi = 0x40, kDcd = 0x80, kTrailingRi = 0x04;  // MSR
constexpr u64 kInputClock = 1'843'200;  // Hz, the crystal of the PC's serial adapter
constexpr u8 kTriggerLevels[4] = {1, 4, 8, 14};
}  // namespace spec

}  // namespace

Uart16550::Uart16550(std::string name, VirtualClock& clock, InterruptLine irq, CharacterBackend* backend)
    : m_name(std::move(name)), m_clock(clock), m_irq(irq), m_backend(backend), m_timeout_timer(clock, [this] {
        m_state.timeout_pending = true;
        update_interrupt();
      }) {
  if (!m_backend) return;
  m_state.modem_inputs = spec::kDcd | spec::kDsr | spec::kCts;
  m_backend->can_receive = [this] { return room(); };
  m_backend->receive = [this](std::span<const u8> data) {
    for (const u8 byte : data) accept(byte, 0);
  };
}

Uart16550::~Uart16550() {
  if (!m_backend) return;
  m_backend->can_receive = [] { return usize{0}; };
  m_backend->receive = [](std::span<const u8>) {};
}

void Uart16550::reset(ResetKind) {
  const u8 inputs = m_state.modem_inputs;  // the far end is not reset
  m_state = State{};
  m_state.modem_inputs = inputs;
  m_timeout_timer.cancel();
  update_interrupt();
  if (outputs_changed) outputs_changed(0, false);
  if (m_backend) m_backend->room_available();
}

void Uart16550::visit(Archive& archive) {
  auto& [divisor, interrupt_enable, fifo_control, line_control, modem_control, line_errors, modem_inputs, modem_deltas,
         scratch, transmitter_empty_pending, timeout_pending, received] = m_state;
  const bool was_full = room() == 0;
  archive("divisor", divisor)("interrupt_enable", interrupt_enable)("fifo_control", fifo_control);
  archive("line_control", line_control)("modem_control", modem_control)("line_errors", line_errors);
  archive("modem_inputs", modem_inputs)("modem_deltas", modem_deltas)("scratch", scratch);
  archive("transmitter_empty_pending", transmitter_empty_pending)("timeout_pending", timeout_pending);
  archive("received", received)("timeout_timer", m_timeout_timer);
  archive.require(received.size() <= capacity(), "UART receive FIFO");
  archive.require(interrupt_enable <= 0xf && modem_control <= 0x1f && modem_deltas <= 0xf, "UART registers");
  archive.require((modem_inputs & 0xf) == 0 && (line_errors & ~0x1e) == 0, "UART status");
  for (const Received& entry : received) archive.require((entry.errors & ~spec::kCharacterErrors) == 0, "UART errors");
  if (!archive.loading() || archive.failed()) return;
  update_interrupt();
  if (outputs_changed) outputs_changed(modem_control & 3, line_control & spec::kBreak);
  if (was_full) tell_room();
}

bool Uart16550::loopback() const { return m_state.modem_control & spec::kLoop; }

usize Uart16550::trigger_level() const {
  return fifo_enabled() ? spec::kTriggerLevels[m_state.fifo_control >> 6] : 1;
}

// For the line: in loopback the receiver hears only the transmitter, and what is outside waits.
usize Uart16550::room() const {
  if (loopback()) return 0;
  return capacity() - std::min(capacity(), m_state.received.size());
}

void Uart16550::tell_room() {
  if (m_backend && room() > 0) m_backend->room_available();
}

Ticks Uart16550::character_time() const {
  const u8 control = m_state.line_control;
  const u64 bits = 1 + 5 + (control & spec::kWordLength) + (control & spec::kParity ? 1 : 0) +
                   (control & spec::kStopBits ? 2 : 1);
  const u64 divisor = m_state.divisor ? m_state.divisor : 65536;
  return multiply_divide(bits * 16 * divisor, kTicksPerSecond, spec::kInputClock);
}

// "FIFO Interrupt Mode Operation": four character times after the last character came or was read.
void Uart16550::restart_timeout() {
  m_state.timeout_pending = false;
  if (fifo_enabled() && !m_state.received.empty()) m_timeout_timer.arm(m_clock.now() + 4 * character_time());
  else m_timeout_timer.cancel();
}

void Uart16550::accept(u8 data, u8 errors) {
  const u8 mask = static_cast<u8>(0xff >> (3 - (m_state.line_control & spec::kWordLength)));
  const Received entry{static_cast<u8>(data & mask), errors};
  if (m_state.received.size() >= capacity()) {
    // "Overrun Error": the FIFO keeps what it has; without FIFO the new character replaces the old.
    m_state.line_errors |= spec::kOverrun;
    if (!fifo_enabled()) m_state.received.back() = entry;
  } else {
    m_state.received.push_back(entry);
  }
  // An error shows in LSR when its character is the next to be read.
  Received& next = m_state.received.front();
  m_state.line_errors |= next.errors;
  next.errors = 0;
  restart_timeout();
  update_interrupt();
}

u8 Uart16550::read_data() {
  auto& received = m_state.received;
  if (received.empty()) return 0;
  const u8 value = received.front().data;
  const bool was_full = room() == 0;
  received.pop_front();
  if (!received.empty()) {
    m_state.line_errors |= received.front().errors;
    received.front().errors = 0;
  }
  restart_timeout();
  update_interrupt();
  if (was_full) tell_room();
  return value;
}

void Uart16550::transmit(u8 data) {
  // Writing clears the interrupt; the byte leaves at once and the holding register is empty again.
  m_state.transmitter_empty_pending = false;
  update_interrupt();
  if (loopback()) accept(data, 0);
  else if (m_backend) m_backend->send({&data, 1});
  m_state.transmitter_empty_pending = true;
  update_interrupt();
}

void Uart16550::receive_break() { accept(0, spec::kBreakInterrupt); }

void Uart16550::set_modem_inputs(u8 lines) {
  const u8 before = modem_lines();
  m_state.modem_inputs = lines & 0xf0;
  update_modem(before);
}

u8 Uart16550::modem_lines() const {
  if (!loopback()) return m_state.modem_inputs;
  const u8 control = m_state.modem_control;  // section 8.6, "Modem Control Register", bit 4
  return static_cast<u8>((control & spec::kRts ? spec::kCts : 0) | (control & spec::kDtr ? spec::kDsr : 0) |
                         (control & spec::kOut1 ? spec::kRi : 0) | (control & spec::kOut2 ? spec::kDcd : 0));
}

void Uart16550::update_modem(u8 before) {
  const u8 now = modem_lines();
  const u8 changed = now ^ before;
  m_state.modem_deltas |= (changed & (spec::kCts | spec::kDsr | spec::kDcd)) >> 4;
  if ((changed & spec::kRi) && !(now & spec::kRi)) m_state.modem_deltas |= spec::kTrailingRi;
  update_interrupt();
}

u8 Uart16550::line_status() const {
  const auto& received = m_state.received;
  u8 value = m_state.line_errors | spec::kHoldingEmpty | spec::kEmpty;
  if (!received.empty()) value |= spec::kDataReady;
  const bool waiting = std::ranges::any_of(received, [](const Received& entry) { return entry.errors != 0; });
  if (fifo_enabled() && (waiting || (m_state.line_errors & spec::kCharacterErrors))) value |= spec::kErrorInFifo;
  return value;
}

// Table III: sources in order of priority.
u8 Uart16550::interrupt_identification() const {
  const u8 enable = m_state.interrupt_enable;
  if ((enable & spec::kEnableLineStatus) && m_state.line_errors) return spec::kLineStatus;
  if (enable & spec::kEnableReceive) {
    if (m_state.received.size() >= trigger_level()) return spec::kDataAvailable;
    if (m_state.timeout_pending) return spec::kTimeout;
  }
  if ((enable & spec::kEnableTransmit) && m_state.transmitter_empty_pending) return spec::kTransmitterEmpty;
  if ((enable & spec::kEnableModem) && m_state.modem_deltas) return spec::kModemStatus;
  return spec::kNoInterrupt;
}

void Uart16550::update_interrupt() {
  // The PC gates INTR with OUT2, which loopback forces to its inactive state (section 8.6).
  const bool gate = (m_state.modem_control & spec::kOut2) && !loopback();
  m_irq.set(gate && interrupt_identification() != spec::kNoInterrupt);
}

u32 Uart16550::read_port(u16 port, unsigned) {
  const bool divisor = m_state.line_control & spec::kDivisorAccess;
  switch (port & 7) {
    case 0: return divisor ? m_state.divisor & 0xff : read_data();
    case 1: return divisor ? m_state.divisor >> 8 : m_state.interrupt_enable;
    case 2: {
      const u8 value = interrupt_identification();
      if (value == spec::kTransmitterEmpty) {
        m_state.transmitter_empty_pending = false;
        update_interrupt();
      }
      return value | (fifo_enabled() ? spec::kFifosEnabled : 0);
    }
    case 3: return m_state.line_control;
    case 4: return m_state.modem_control;
    case 5: {
      const u8 value = line_status();
      m_state.line_errors = 0;
      update_interrupt();
      return value;
    }
    case 6: {
      const u8 value = modem_lines() | m_state.modem_deltas;
      m_state.modem_deltas = 0;
      update_interrupt();
      return value;
    }
    default: return m_state.scratch;
  }
}

void Uart16550::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  const bool divisor = m_state.line_control & spec::kDivisorAccess;
  const u8 before_lines = modem_lines();
  const auto outputs = [this] {
    if (outputs_changed) outputs_changed(m_state.modem_control & 3, m_state.line_control & spec::kBreak);
  };
  switch (port & 7) {
    case 0:
      if (divisor) m_state.divisor = (m_state.divisor & 0xff00) | byte;
      else transmit(byte);
      break;
    case 1:
      if (divisor) {
        m_state.divisor = static_cast<u16>((m_state.divisor & 0x00ff) | byte << 8);
        break;
      }
      // The holding register is always empty, so enabling its interrupt raises it ("THRE" in table III).
      if (byte & ~m_state.interrupt_enable & spec::kEnableTransmit) m_state.transmitter_empty_pending = true;
      m_state.interrupt_enable = byte & 0xf;
      update_interrupt();
      break;
    case 2: {
      const bool toggled = (byte ^ m_state.fifo_control) & spec::kFifoEnable;
      m_state.fifo_control = byte & spec::kFifoEnable ? byte & 0xc9 : 0;
      if (toggled || ((byte & spec::kFifoEnable) && (byte & spec::kFifoClearReceiver))) m_state.received.clear();
      restart_timeout();
      update_interrupt();
      tell_room();
      break;
    }
    case 3: {
      const bool begins = byte & ~m_state.line_control & spec::kBreak;
      m_state.line_control = byte;
      if (begins && loopback()) receive_break();
      outputs();
      break;
    }
    case 4:
      m_state.modem_control = byte & 0x1f;
      update_modem(before_lines);
      outputs();
      tell_room();
      break;
    case 5: break;  // for the factory's tests only ("Line Status Register")
    case 6: break;
    default: m_state.scratch = byte;
  }
}

}  // namespace vellum
