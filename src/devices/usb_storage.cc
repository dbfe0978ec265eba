// The USB mass-storage device: descriptors, wrappers, and the thirteen cases of what host and device expect.
#include "devices/usb_storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
enum Descriptor : u8 { kDevice = 1, kConfiguration = 2, kInterface = 4, kEndpoint = 5 };
constexpr u8 kClass = 0x08, kScsi = 0x06, kBulkOnly = 0x50;  // 4.3
constexpr u8 kBulkIn = 0x81, kBulkOut = 0x02, kBulk = 2;
constexpr u8 kPacket = 64;
// 3.1, 3.2.
constexpr u8 kTypeReset = 0x21, kBulkOnlyReset = 0xff, kTypeMaxLun = 0xa1, kGetMaxLun = 0xfe;
// 5.1, 5.2.
constexpr usize kCommandWrapper = 31, kStatusWrapper = 13, kLongestCommand = 16;
constexpr u32 kCommandSignature = 0x43425355, kStatusSignature = 0x53425355;
constexpr u8 kToHost = 0x80;
}  // namespace spec

// USB 1.1 table 9-7. The identity is the one under which guests know emulated USB disks.
constexpr u8 kDeviceDescriptor[] = {18, spec::kDevice, 0x10, 0x01, 0, 0, 0, spec::kPacket, 0xf4, 0x46, 0x01, 0x00, 0x00, 0x01, 1, 2, 3, 1};
constexpr u8 kConfigurationDescriptor[] = {
    9, spec::kConfiguration, 32, 0, 1, 1, 0, 0x80, 50,                                 // bus powered, 100 mA
    9, spec::kInterface, 0, 0, 2, spec::kClass, spec::kScsi, spec::kBulkOnly, 0,
    7, spec::kEndpoint, spec::kBulkIn, spec::kBulk, spec::kPacket, 0, 0,
    7, spec::kEndpoint, spec::kBulkOut, spec::kBulk, spec::kPacket, 0, 0,
};
static_assert(sizeof(kConfigurationDescriptor) == 32);

u32 little_endian(std::span<const u8> bytes, usize at) {
  return bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | u32{bytes[at + 3]} << 24;
}

// 4.1.1: at least twelve digits, 0 to 9 and A to F.
std::string serial_number(unsigned number) { return fmt::format("56454C4C554D{:04X}", number); }

}  // namespace

UsbStorage::UsbStorage(unsigned number, std::unique_ptr<BlockDevice> medium)
    : UsbFunction({.device = kDeviceDescriptor, .configuration = kConfigurationDescriptor, .strings = {"Vellum", "Vellum USB Disk", ""}}),
      m_name(fmt::format("usb_storage{}", number)),
      m_serial(serial_number(number)),
      m_disk(std::move(medium), m_serial) {
  set_serial_number(m_serial);
}

void UsbStorage::reset(ResetKind kind) {
  reset_control();
  m_state = {};
  if (kind == ResetKind::PowerOn) m_disk.power_on();
  else m_disk.reset();
}

void UsbStorage::function_reset() {
  m_state = {};
  m_disk.reset();
}

void UsbStorage::configured() {
  m_state = {};
  m_disk.abandon();
}

void UsbStorage::visit(Archive& archive) {
  auto& [phase, tag, requested, moved, processed, status] = m_state;
  visit_control(archive);
  archive("disk", m_disk)("phase", phase)("tag", tag)("requested", requested)("moved", moved)("processed", processed)("status", status);
  archive.require(phase < Phase::Count && status < Status::Count, "phase of a USB disk");
  archive.require(processed <= moved && moved <= requested, "data of a USB disk");
}

bool UsbStorage::class_request(u8 type, u8 request, u16 value, u16 index) {
  if (value != 0 || index != 0) return false;
  if (type == spec::kTypeReset && request == spec::kBulkOnlyReset) return configured(), requested() == 0;  // halts stay (3.1)
  if (type == spec::kTypeMaxLun && request == spec::kGetMaxLun) return reply(std::array<u8, 1>{0}), true;
  return false;
}

void UsbStorage::halt_cleared(u8 endpoint_address) {
  if (m_state.phase == Phase::Unusable) halt(endpoint_address);
}

UsbAnswer UsbStorage::transfer(UsbToken token, u8, std::span<u8> data) {
  return token == UsbToken::In ? to_host(data) : from_host(data);
}

UsbAnswer UsbStorage::from_host(std::span<const u8> data) {
  using Kind = UsbAnswer::Kind;
  State& s = m_state;
  if (s.phase == Phase::Command) return command(data), UsbAnswer{Kind::Done, data.size()};
  if (s.phase != Phase::DataOut) return {Kind::NotReady};
  const usize wanted = s.requested - s.moved, part = std::min(data.size(), wanted);
  const u64 before = m_disk.data_left();
  const usize taken = std::min<u64>(part, before);
  m_disk.take(data.first(taken));
  s.moved += static_cast<u32>(part);
  if (!m_disk.failed()) s.processed += static_cast<u32>(taken);
  if (data.size() > wanted) {  // more than was announced
    halt(spec::kBulkOut);
    end_data(Status::PhaseError);
  } else if (s.moved == s.requested) {
    end_data(command_status());
  } else if (data.size() < spec::kPacket) {  // less, too
    end_data(Status::PhaseError);
  }
  return {Kind::Done, data.size()};
}

UsbAnswer UsbStorage::to_host(std::span<u8> data) {
  switch (m_state.phase) {
    case Phase::DataIn: return data_to_host(data);
    case Phase::Status: return status_to_host(data);
    case Phase::Command:
    case Phase::DataOut:
    case Phase::Unusable:
    case Phase::Count: break;
  }
  return {UsbAnswer::Kind::NotReady};
}

void UsbStorage::end_data(Status status) {
  m_disk.abandon();
  m_state.phase = Phase::Status;
  m_state.status = status;
}

void UsbStorage::command(std::span<const u8> wrapper) {
  State& s = m_state;
  // 6.2.1, 6.2.2: valid is what has the length and the signature; meaningful, what has no reserved bit, a logical unit that
  // there is, and a command of a possible length.
  const bool valid = wrapper.size() == spec::kCommandWrapper && little_endian(wrapper, 0) == spec::kCommandSignature &&
                     (wrapper[12] & 0x7f) == 0 && wrapper[13] == 0 && wrapper[14] >= 1 && wrapper[14] <= spec::kLongestCommand;
  if (!valid) {
    log(LogItem::GuestErrors, "USB disk: {} bytes that are no command block wrapper", wrapper.size());
    s.phase = Phase::Unusable;
    halt(spec::kBulkIn);
    halt(spec::kBulkOut);
    return;
  }
  s = {.tag = little_endian(wrapper, 4), .requested = little_endian(wrapper, 8)};
  m_disk.start(wrapper.subspan(15, wrapper[14]));
  begin(wrapper[12] & spec::kToHost);
}

void UsbStorage::begin(bool host_reads) {
  // 6.7, by the numbers of its table of cases.
  using Direction = ScsiDisk::Direction;
  State& s = m_state;
  const Direction device = m_disk.direction();
  if (s.requested == 0) return end_data(device == Direction::None ? command_status() : Status::PhaseError);  // 1; 2, 3
  if (host_reads) {
    if (device == Direction::In) {  // 5, 6, 7
      s.phase = Phase::DataIn;
      return;
    }
    halt(spec::kBulkIn);
    return end_data(device == Direction::None ? command_status() : Status::PhaseError);  // 4; 8
  }
  if (device == Direction::In || m_disk.data_left() > s.requested) {  // 10, 13
    halt(spec::kBulkOut);
    return end_data(Status::PhaseError);
  }
  s.phase = Phase::DataOut;  // 9, 11, 12: what the device does not want is thrown away
}

UsbAnswer UsbStorage::data_to_host(std::span<u8> data) {
  using Kind = UsbAnswer::Kind;
  State& s = m_state;
  const usize part = std::min<u64>({spec::kPacket, s.requested - s.moved, m_disk.data_left()});
  if (part > data.size()) return {Kind::Done, part};  // the host has no room for a packet: it will not acknowledge this one
  const usize given = m_disk.give(data.first(part));
  s.moved += static_cast<u32>(given);
  s.processed = s.moved;
  if (s.moved == s.requested) {
    end_data(m_disk.data_left() == 0 ? command_status() : Status::PhaseError);  // 7: there would have been more
  } else if (m_disk.data_left() == 0) {
    halt(spec::kBulkIn);
    end_data(command_status());
    if (given == 0) return {Kind::Stall};
  }
  return {Kind::Done, given};
}

UsbAnswer UsbStorage::status_to_host(std::span<u8> data) {
  State& s = m_state;
  if (data.size() < spec::kStatusWrapper) return {UsbAnswer::Kind::Done, spec::kStatusWrapper};  // as above
  const auto put = [&data](usize at, u32 value) {
    for (unsigned i = 0; i < 4; ++i) data[at + i] = static_cast<u8>(value >> (8 * i));
  };
  put(0, spec::kStatusSignature);
  put(4, s.tag);
  put(8, s.requested - s.processed);
  data[12] = static_cast<u8>(s.status);
  s.phase = Phase::Command;
  return {UsbAnswer::Kind::Done, spec::kStatusWrapper};
}

}  // namespace vellum
