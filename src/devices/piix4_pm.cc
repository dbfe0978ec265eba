// PIIX4 power management: PM1 and GPE0 events, PM timer, sleep states, SMI command port, SMBus host.
#include "devices/piix4_pm.h"

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace {

// Intel 82371AB (PIIX4) datasheet (290562), chapter 7.
namespace spec {
// 7.1: configuration registers.
constexpr unsigned kPmBase = 0x40, kDeviceActivityB = 0x58, kPmMiscellaneous = 0x80, kSmbusBase = 0x90,
                   kSmbusConfiguration = 0xd2;
constexpr u32 kPmBaseMask = 0xffc0, kSmbusBaseMask = 0xfff0, kApmcEnable = 1 << 25;
constexpr u8 kPmIoEnable = 1, kSmbusEnable = 1;
// 7.2: registers at PMBASE.
constexpr unsigned kPm1Status = 0x00, kPm1Enable = 0x02, kPm1Control = 0x04, kTimer = 0x08, kGeneralStatus = 0x0c,
                   kGeneralEnable = 0x0e, kProcessorControl = 0x10, kLevel2 = 0x14,
                   kGlobalStatus = 0x18, kDeviceStatus = 0x1c, kGlobalEnable = 0x20, kGlobalControl = 0x28,
                   kDeviceControl = 0x2c, kGeneralInput = 0x30, kGeneralOutput = 0x34;
constexpr unsigned kPmSize = 64, kSmbusSize = 16;
constexpr u16 kTimerOverflow = 1, kPowerButton = 1 << 8, kRtcAlarm = 1 << 10;
constexpr u16 kPm1EnableBits = 0x0521;  // RTC, power button, global release, timer
constexpr u16 kSciEnable = 1, kReleaseGlobalLock = 4, kSleepEnable = 1 << 13;
constexpr unsigned kSleepTypeShift = 10;
constexpr u16 kControlBits = 0x1c07;  // SLP_TYP, GBL_RLS, BRLD_EN_BM, SCI_EN; SLP_EN is write-only
constexpr u32 kSmiEnable = 1, kEndOfSmi = 1 << 16;
constexpr u64 kTimerFrequency = 3579545, kTimerHalfPeriod = 1 << 23;
constexpr u16 kSmiCommand = 0xb2, kSmiStatus = 0xb3;
// 7.3: SMBus host registers.
constexpr u8 kHostEvents = 0x1e, kDeviceError = 4, kHostInterruptEnable = 1;
constexpr unsigned kSmbusInterruptIrq9 = 4;  // 7.1.31
constexpr u8 kStart = 0x40, kKill = 0x02;
}  // namespace spec

u16 with_byte(u16 value, unsigned byte, u8 data) {
  const unsigned shift = 8 * (byte & 1);
  return static_cast<u16>((value & ~(0xff << shift)) | data << shift);
}
u32 with_byte(u32 value, unsigned byte, u8 data) {
  const unsigned shift = 8 * (byte & 3);
  return (value & ~(0xffu << shift)) | static_cast<u32>(data) << shift;
}

}  // namespace

Piix4Pm::Piix4Pm(PciBus& bus, VirtualClock& clock, InterruptLine sci, Callbacks callbacks)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x7113,
                 .revision = 3,
                 .class_code = 0x068000,
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100,
                 .interrupt_pin = 1}),
      m_ports(bus.ports()),
      m_clock(clock),
      m_sci(sci),
      m_callbacks(std::move(callbacks)),
      m_overflow_timer(clock, [this] { update_timer(); }) {
  set_config(pci::kStatus, 2, 0x0280);
  set_config(spec::kPmBase, 4, 1);
  set_config(spec::kSmbusBase, 4, 1);
  make_writable(spec::kPmBase, 4, spec::kPmBaseMask);
  make_writable(0x44, 4, 0xffffffff);                   // device activity and resource registers: stored
  for (unsigned offset = 0x48; offset < 0x80; offset += 4) make_writable(offset, 4, 0xffffffff);
  make_writable(spec::kPmMiscellaneous, 1, spec::kPmIoEnable);
  make_writable(spec::kSmbusBase, 4, spec::kSmbusBaseMask);
  make_writable(spec::kSmbusConfiguration, 4, 0xffffff0f);  // with the slave's command and shadow addresses
  m_fixed_mappings = {m_ports.map("apm-control", spec::kSmiCommand, 2, *this),
                      m_ports.map("acpi-gpe0", kGpe0Base, 4, *this)};
  reset(ResetKind::PowerOn);
}

Piix4Pm::~Piix4Pm() {
  for (auto mapping : m_fixed_mappings) m_ports.unmap(mapping);
  if (m_pm_base) m_ports.unmap(m_pm_mapping);
  if (m_smbus_base) m_ports.unmap(m_smbus_mapping);
}

void Piix4Pm::reset(ResetKind) {
  reset_config();
  m_state = {};
  m_state.timer_half_periods = timer_count() / spec::kTimerHalfPeriod;
  update_mappings();
  update_timer();
}

void Piix4Pm::visit(Archive& archive) {
  auto& [pm1_status, pm1_enable, pm1_control, timer_half_periods, gpe0_status, gpe0_enable, general_status,
         general_enable, processor_control, global_status, global_enable, device_status, global_control, device_control,
         general_outputs, smi_command, smi_status, smbus_host_status, smbus_slave_status, smbus_control, smbus_command,
         smbus_address, smbus_data0, smbus_data1, smbus_slave_control, smbus_shadow_command, smbus_slave_event,
         smbus_slave_data, smbus_block_index, smbus_block] = m_state;
  visit_config(archive);
  archive("pm1_status", pm1_status)("pm1_enable", pm1_enable)("pm1_control", pm1_control)(
      "timer_half_periods", timer_half_periods)("gpe0_status", gpe0_status)("gpe0_enable", gpe0_enable)(
      "general_status", general_status)("general_enable", general_enable)("processor_control", processor_control)(
      "global_status", global_status)("global_enable", global_enable)("device_status", device_status)(
      "global_control", global_control)("device_control", device_control)("general_outputs", general_outputs)(
      "smi_command", smi_command)("smi_status", smi_status)("smbus_host_status", smbus_host_status)(
      "smbus_slave_status", smbus_slave_status)("smbus_control", smbus_control)("smbus_command", smbus_command)(
      "smbus_address", smbus_address)("smbus_data0", smbus_data0)("smbus_data1", smbus_data1)(
      "smbus_slave_control", smbus_slave_control)("smbus_shadow_command", smbus_shadow_command)(
      "smbus_slave_event", smbus_slave_event)("smbus_slave_data", smbus_slave_data)(
      "smbus_block_index", smbus_block_index)("smbus_block", smbus_block);
  m_overflow_timer.visit(archive);
  archive.require(smbus_block_index < smbus_block.size(), "SMBus block index");
  if (!archive.loading() || archive.failed()) return;
  update_mappings();
  m_sci.set(sci_level());
}

void Piix4Pm::config_written(unsigned, unsigned) { update_mappings(); }

void Piix4Pm::update_mappings() {
  const u16 pm = read_config(spec::kPmMiscellaneous, 1) & spec::kPmIoEnable
                     ? static_cast<u16>(read_config(spec::kPmBase, 4) & spec::kPmBaseMask)
                     : 0;
  if (pm != m_pm_base) {
    if (m_pm_base) m_ports.unmap(m_pm_mapping);
    m_pm_base = pm;
    if (pm) m_pm_mapping = m_ports.map("piix4-pm", pm, spec::kPmSize, *this);
  }
  const u16 smbus = read_config(spec::kSmbusConfiguration, 1) & spec::kSmbusEnable
                        ? static_cast<u16>(read_config(spec::kSmbusBase, 4) & spec::kSmbusBaseMask)
                        : 0;
  if (smbus != m_smbus_base) {
    if (m_smbus_base) m_ports.unmap(m_smbus_mapping);
    m_smbus_base = smbus;
    if (smbus) m_smbus_mapping = m_ports.map("piix4-smbus", smbus, spec::kSmbusSize, *this);
  }
}

// ---- events ----

u64 Piix4Pm::timer_count() const { return multiply_divide(m_clock.now(), spec::kTimerFrequency, kTicksPerSecond); }

// TMROF_STS is set whenever bit 23 of the timer changes, in either direction (7.2.1).
void Piix4Pm::catch_up_timer() {
  const u64 half_periods = timer_count() / spec::kTimerHalfPeriod;
  if (half_periods == m_state.timer_half_periods) return;
  m_state.timer_half_periods = half_periods;
  m_state.pm1_status |= spec::kTimerOverflow;
}

void Piix4Pm::update_timer() {
  catch_up_timer();
  m_overflow_timer.cancel();
  if (m_state.pm1_enable & spec::kTimerOverflow) {
    const u64 next_count = (m_state.timer_half_periods + 1) * spec::kTimerHalfPeriod;
    m_overflow_timer.arm(multiply_divide(next_count, kTicksPerSecond, spec::kTimerFrequency) + 1);
  }
  update_sci();
}

bool Piix4Pm::sci_level() const {
  const bool event = (m_state.pm1_status & m_state.pm1_enable & spec::kPm1EnableBits) ||
                     (m_state.gpe0_status & m_state.gpe0_enable);
  const bool smbus = (m_state.smbus_control & spec::kHostInterruptEnable) &&
                     (m_state.smbus_host_status & spec::kHostEvents) &&
                     (read_config(spec::kSmbusConfiguration, 1) >> 1 & 7) == spec::kSmbusInterruptIrq9;
  return (event && (m_state.pm1_control & spec::kSciEnable)) || smbus;
}

void Piix4Pm::update_sci() { m_sci.set(sci_level()); }

void Piix4Pm::press_power_button() {
  m_state.pm1_status |= spec::kPowerButton;
  update_sci();
}

void Piix4Pm::set_rtc_alarm() {
  m_state.pm1_status |= spec::kRtcAlarm;
  update_sci();
}

// 7.2.3: a write with SLP_EN enters the state that SLP_TYP selects; soft off is 0.
void Piix4Pm::enter_sleep_state() {
  const unsigned type = (m_state.pm1_control >> spec::kSleepTypeShift) & 7;
  if (type == kSleepTypeS5) {
    if (m_callbacks.power_off) m_callbacks.power_off();
  } else {
    log(LogItem::Unsupported, "piix4-pm: sleep type {}", type);
  }
}

// The chip only raises an SMI (7.4.1); firmware would switch between legacy and ACPI mode in its handler. SeaBIOS and
// OVMF rely on the virtual hardware to do that, so SCI_EN follows the two commands here.
void Piix4Pm::write_smi_command(u8 value) {
  m_state.smi_command = value;
  if (value == kAcpiEnable) m_state.pm1_control |= spec::kSciEnable;
  if (value == kAcpiDisable) m_state.pm1_control &= ~spec::kSciEnable;
  update_sci();
  if ((read_config(spec::kDeviceActivityB, 4) & spec::kApmcEnable) && (m_state.global_control & spec::kSmiEnable) &&
      m_callbacks.raise_smi)
    m_callbacks.raise_smi();
}

// ---- ports ----

u32 Piix4Pm::read_port(u16 port, unsigned size) {
  u32 value = 0;
  u32 register_value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    u8 byte = 0xff;
    if (m_pm_base && at >= m_pm_base && at - m_pm_base < static_cast<int>(spec::kPmSize)) {
      // Read as a whole: the bytes of the timer belong to one moment.
      if (i == 0 || (at & 3) == 0) register_value = read_pm((at - m_pm_base) & ~3u);
      byte = static_cast<u8>(register_value >> (8 * (at & 3)));
    } else if (m_smbus_base && at >= m_smbus_base && at - m_smbus_base < static_cast<int>(spec::kSmbusSize)) {
      byte = read_smbus(at - m_smbus_base);
    } else if (at == spec::kSmiCommand) {
      byte = m_state.smi_command;
    } else if (at == spec::kSmiStatus) {
      byte = m_state.smi_status;
    } else if (at >= kGpe0Base && at < kGpe0Base + 4) {
      const u16 word = at < kGpe0Base + 2 ? m_state.gpe0_status : m_state.gpe0_enable;
      byte = static_cast<u8>(word >> (8 * (at & 1)));
    }
    value |= static_cast<u32>(byte) << (8 * i);
  }
  return value;
}

void Piix4Pm::write_port(u16 port, unsigned size, u32 value) {
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    const u8 byte = static_cast<u8>(value >> (8 * i));
    if (m_pm_base && at >= m_pm_base && at - m_pm_base < static_cast<int>(spec::kPmSize)) {
      write_pm(at - m_pm_base, byte);
    } else if (m_smbus_base && at >= m_smbus_base && at - m_smbus_base < static_cast<int>(spec::kSmbusSize)) {
      write_smbus(at - m_smbus_base, byte);
    } else if (at == spec::kSmiCommand) {
      write_smi_command(byte);
    } else if (at == spec::kSmiStatus) {
      m_state.smi_status = byte;
    } else if (at >= kGpe0Base && at < kGpe0Base + 2) {
      m_state.gpe0_status &= static_cast<u16>(~(byte << (8 * (at & 1))));
      update_sci();
    } else if (at >= kGpe0Base + 2 && at < kGpe0Base + 4) {
      m_state.gpe0_enable = with_byte(m_state.gpe0_enable, at & 1, byte);
      update_sci();
    }
  }
}

u32 Piix4Pm::read_pm(unsigned offset) {
  switch (offset) {
    case spec::kPm1Status: catch_up_timer(); return m_state.pm1_status | static_cast<u32>(m_state.pm1_enable) << 16;
    case spec::kPm1Control: return m_state.pm1_control;
    case spec::kTimer: return timer_count() & 0xffffff;
    case spec::kGeneralStatus: return m_state.general_status | static_cast<u32>(m_state.general_enable) << 16;
    case spec::kProcessorControl: return m_state.processor_control;
    case spec::kLevel2: return 0;  // entering C2 or C3 by reading: no effect on an emulated clock
    case spec::kGlobalStatus: return m_state.global_status;
    case spec::kDeviceStatus: return m_state.device_status;
    case spec::kGlobalEnable: return m_state.global_enable;
    case spec::kGlobalControl: return m_state.global_control;
    case spec::kDeviceControl: return m_state.device_control;
    case spec::kGeneralInput: return 0xffffffff;  // inputs pulled up
    case spec::kGeneralOutput: return m_state.general_outputs;
    default: return 0;
  }
}

void Piix4Pm::write_pm(unsigned offset, u8 value) {
  const auto clear_bits = [&](u16 status) { return static_cast<u16>(status & ~(value << (8 * (offset & 1)))); };
  switch (offset) {
    case spec::kPm1Status: case spec::kPm1Status + 1:
      catch_up_timer();
      m_state.pm1_status = clear_bits(m_state.pm1_status);
      update_timer();
      return;
    case spec::kPm1Enable: case spec::kPm1Enable + 1:
      m_state.pm1_enable = with_byte(m_state.pm1_enable, offset, value) & spec::kPm1EnableBits;
      update_timer();
      return;
    case spec::kPm1Control: case spec::kPm1Control + 1: {
      const u16 written = with_byte(m_state.pm1_control, offset, value);
      m_state.pm1_control = written & spec::kControlBits & ~spec::kReleaseGlobalLock;
      if (offset == spec::kPm1Control && (written & spec::kReleaseGlobalLock))
        log(LogItem::Unsupported, "piix4-pm: global release raises an SMI");
      update_sci();
      if (offset == spec::kPm1Control + 1 && (written & spec::kSleepEnable)) enter_sleep_state();
      return;
    }
    case spec::kGeneralStatus: case spec::kGeneralStatus + 1:
      m_state.general_status = clear_bits(m_state.general_status);
      return;
    case spec::kGeneralEnable: case spec::kGeneralEnable + 1:
      m_state.general_enable = with_byte(m_state.general_enable, offset, value);
      return;
    case spec::kGlobalStatus: case spec::kGlobalStatus + 1:
      m_state.global_status = clear_bits(m_state.global_status);
      return;
    case spec::kGlobalEnable: case spec::kGlobalEnable + 1:
      m_state.global_enable = with_byte(m_state.global_enable, offset, value);
      return;
    default: break;
  }
  switch (offset & ~3u) {
    case spec::kProcessorControl: m_state.processor_control = with_byte(m_state.processor_control, offset, value); break;
    case spec::kDeviceStatus: m_state.device_status &= ~(static_cast<u32>(value) << (8 * (offset & 3))); break;
    case spec::kGlobalControl:
      m_state.global_control = with_byte(m_state.global_control, offset, value) & ~spec::kEndOfSmi;
      break;
    case spec::kDeviceControl: m_state.device_control = with_byte(m_state.device_control, offset, value); break;
    case spec::kGeneralOutput: m_state.general_outputs = with_byte(m_state.general_outputs, offset, value); break;
    default: break;
  }
}

u8 Piix4Pm::read_smbus(unsigned offset) {
  switch (offset) {
    case 0x0: return m_state.smbus_host_status;
    case 0x1: return m_state.smbus_slave_status;
    case 0x2:
      m_state.smbus_block_index = 0;  // 7.3.3: reading it resets the block buffer's index
      return m_state.smbus_control;
    case 0x3: return m_state.smbus_command;
    case 0x4: return m_state.smbus_address;
    case 0x5: return m_state.smbus_data0;
    case 0x6: return m_state.smbus_data1;
    case 0x7: {
      const u8 value = m_state.smbus_block[m_state.smbus_block_index];
      m_state.smbus_block_index = (m_state.smbus_block_index + 1) % m_state.smbus_block.size();
      return value;
    }
    case 0x8: return m_state.smbus_slave_control;
    case 0x9: return m_state.smbus_shadow_command;
    case 0xa: case 0xb: return static_cast<u8>(m_state.smbus_slave_event >> (8 * (offset & 1)));
    case 0xc: case 0xd: return static_cast<u8>(m_state.smbus_slave_data >> (8 * (offset & 1)));
    default: return 0xff;
  }
}

void Piix4Pm::write_smbus(unsigned offset, u8 value) {
  switch (offset) {
    case 0x0:
      m_state.smbus_host_status &= static_cast<u8>(~(value & spec::kHostEvents));
      update_sci();
      break;
    case 0x1: m_state.smbus_slave_status &= static_cast<u8>(~(value & 0x3c)); break;
    case 0x2:
      m_state.smbus_control = value & 0x1f & ~spec::kKill;
      // No device is on the bus: nothing acknowledges the address, which is a device error (7.3.1).
      if (value & spec::kStart) m_state.smbus_host_status |= spec::kDeviceError;
      update_sci();
      break;
    case 0x3: m_state.smbus_command = value; break;
    case 0x4: m_state.smbus_address = value; break;
    case 0x5: m_state.smbus_data0 = value; break;
    case 0x6: m_state.smbus_data1 = value; break;
    case 0x7:
      m_state.smbus_block[m_state.smbus_block_index] = value;
      m_state.smbus_block_index = (m_state.smbus_block_index + 1) % m_state.smbus_block.size();
      break;
    case 0x8: m_state.smbus_slave_control = value & 0x0d; break;
    case 0x9: break;
    case 0xa: case 0xb: m_state.smbus_slave_event = with_byte(m_state.smbus_slave_event, offset, value); break;
    default: break;
  }
}

}  // namespace vellum
