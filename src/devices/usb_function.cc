// Endpoint zero of a USB device: control transfers, descriptors, standard requests.
#include "devices/usb_function.h"

#include <algorithm>
#include <vector>

namespace vellum {

namespace {

namespace spec {
// USB 1.1 tables 9-2, 9-4 and 9-5.
enum Request : u8 {
  kGetStatus = 0, kClearFeature = 1, kSetFeature = 3, kSetAddress = 5, kGetDescriptor = 6, kGetConfiguration = 8,
  kSetConfiguration = 9, kGetInterface = 10, kSetInterface = 11,
};
enum Descriptor : u8 { kDevice = 1, kConfiguration = 2, kString = 3, kEndpointDescriptor = 5 };
constexpr u8 kToHost = 0x80, kTypeMask = 0x60, kClass = 0x20, kRecipientMask = 0x1f, kToDevice = 0, kEndpoint = 2;
constexpr u16 kFeatureHalt = 0, kFeatureWakeup = 1;
constexpr u8 kSelfPowered = 0x40, kRemoteWakeup = 0x20;  // of the configuration's attributes, table 9-8
}  // namespace spec

std::vector<u8> string_descriptor(std::string_view text) {
  std::vector<u8> bytes = {static_cast<u8>(2 + 2 * text.size()), spec::kString};
  for (const char c : text) bytes.insert(bytes.end(), {static_cast<u8>(c), 0});
  return bytes;
}

}  // namespace

void UsbFunction::ControlState::visit(Archive& archive) {
  auto& [address_, next_address_, configuration_, halted_, wakeup_enabled_, stage_, length_, position_, reply_] = *this;
  archive("address", address_)("next_address", next_address_)("configuration", configuration_)("halted", halted_);
  archive("wakeup_enabled", wakeup_enabled_)("stage", stage_)("length", length_)("position", position_)("reply", reply_);
  archive.require(stage_ < Stage::Count, "USB control stage");
  archive.require(position_ <= length_ && (stage_ != Stage::DataIn || length_ <= reply_.size()), "USB control data");
}

void UsbFunction::bus_reset() {
  m_control = {};
  function_reset();
}

bool UsbFunction::has_endpoint(u8 endpoint_address) const {
  const auto bytes = m_descriptors.configuration;
  for (usize at = 0; at + 2 < bytes.size() && bytes[at] != 0; at += bytes[at])
    if (bytes[at + 1] == spec::kEndpointDescriptor && bytes[at + 2] == endpoint_address) return true;
  return false;
}

UsbAnswer UsbFunction::transact(UsbToken token, u8 endpoint, std::span<u8> data) {
  if (endpoint == 0) return token == UsbToken::Setup ? setup(data) : control(token, data);
  const u8 endpoint_address = endpoint | (token == UsbToken::In ? 0x80 : 0);
  if (token == UsbToken::Setup || !is_configured() || !has_endpoint(endpoint_address)) return {UsbAnswer::Kind::Silence};
  return halted(endpoint_address) ? UsbAnswer{UsbAnswer::Kind::Stall} : transfer(token, endpoint, data);
}

void UsbFunction::reply(std::span<const u8> data) {
  // A device gives no more than it was asked for (9.3.5); the length holds that.
  m_replied = true;
  m_control.length = static_cast<u16>(std::min<usize>({data.size(), m_control.length, kReplySize}));
  std::copy_n(data.begin(), m_control.length, m_control.reply.begin());
}

UsbAnswer UsbFunction::setup(std::span<const u8> packet) {
  ControlState& s = m_control;
  s.stage = Stage::Idle;
  s.position = 0;
  if (packet.size() != 8) return {UsbAnswer::Kind::Silence};  // no device takes a setup packet of another length (8.5.2)
  const u8 type = packet[0], request = packet[1];
  const u16 value = static_cast<u16>(packet[2] | packet[3] << 8), index = static_cast<u16>(packet[4] | packet[5] << 8);
  s.length = static_cast<u16>(packet[6] | packet[7] << 8);
  const bool to_host = type & spec::kToHost, no_data = s.length == 0;
  m_replied = false;
  const bool known = (type & spec::kTypeMask) == 0              ? standard_request(type, request, value, index)
                     : (type & spec::kTypeMask) == spec::kClass ? class_request(type, request, value, index)
                                                                : false;
  // 8.5.2: a request that is not understood is answered by STALL in its data or status stage, never in setup itself.
  if (!known || (to_host && !m_replied)) s.stage = Stage::Stalled;
  else if (no_data) s.stage = Stage::StatusIn;
  else s.stage = to_host ? Stage::DataIn : Stage::DataOut;
  return {UsbAnswer::Kind::Done, 8};
}

UsbAnswer UsbFunction::control(UsbToken token, std::span<u8> data) {
  using Kind = UsbAnswer::Kind;
  ControlState& s = m_control;
  switch (s.stage) {
    case Stage::DataIn:
      if (token == UsbToken::In) {
        const usize part = std::min<usize>(control_packet(), s.length - s.position);
        std::copy_n(s.reply.begin() + s.position, std::min(part, data.size()), data.begin());
        s.position = static_cast<u16>(s.position + part);
        return {Kind::Done, part};
      }
      s.stage = Stage::Idle;  // the host's empty packet is the status stage, also when it wants no more data
      return {Kind::Done, data.size()};
    case Stage::DataOut:
      if (token == UsbToken::Out) {
        s.position = static_cast<u16>(std::min<usize>(s.position + data.size(), s.length));
        return {Kind::Done, data.size()};
      }
      s.stage = Stage::Idle;
      return {Kind::Done, 0};
    case Stage::StatusIn:
      if (token != UsbToken::In) return {Kind::Stall};
      s.stage = Stage::Idle;
      s.address = s.next_address;
      return {Kind::Done, 0};
    case Stage::Stalled: return {Kind::Stall};
    case Stage::Idle:
    case Stage::Count: break;
  }
  return {Kind::Stall};
}

bool UsbFunction::get_descriptor(u8 type, u8 index) {
  switch (type) {
    case spec::kDevice: return reply(m_descriptors.device), true;
    case spec::kConfiguration: return reply(m_descriptors.configuration), index == 0;
    case spec::kString:
      if (index == 0) return reply(std::array<u8, 4>{4, spec::kString, 0x09, 0x04}), true;  // American English
      if (index > m_descriptors.strings.size()) return false;
      return reply(string_descriptor(m_descriptors.strings[index - 1])), true;
    default: {
      const auto descriptor = class_descriptor(type);
      return reply(descriptor), !descriptor.empty();
    }
  }
}

bool UsbFunction::standard_request(u8 type, u8 request, u16 value, u16 index) {
  ControlState& s = m_control;
  const u8 recipient = type & spec::kRecipientMask, endpoint_address = static_cast<u8>(index & 0x8f);
  const bool endpoint = recipient == spec::kEndpoint, zero = (endpoint_address & 0xf) == 0;
  const bool sends = request == spec::kGetStatus || request == spec::kGetDescriptor || request == spec::kGetConfiguration || request == spec::kGetInterface;
  if (sends != ((type & spec::kToHost) != 0)) return false;  // table 9-3: the direction belongs to the request
  switch (request) {
    case spec::kGetStatus: {
      u8 status = 0;
      if (endpoint) status = !zero && halted(endpoint_address);
      else if (recipient == spec::kToDevice)
        status = static_cast<u8>((m_descriptors.configuration[7] & spec::kSelfPowered ? 1 : 0) | (s.wakeup_enabled ? 2 : 0));
      return reply(std::array<u8, 2>{status, 0}), true;
    }
    case spec::kClearFeature:
    case spec::kSetFeature: {
      const bool set = request == spec::kSetFeature;
      if (!endpoint) {
        if (value != spec::kFeatureWakeup || !(m_descriptors.configuration[7] & spec::kRemoteWakeup)) return false;
        return s.wakeup_enabled = set, true;
      }
      if (value != spec::kFeatureHalt) return false;
      if (zero) return true;
      if (!is_configured() || !has_endpoint(endpoint_address)) return false;
      if (set) return halt(endpoint_address), true;
      s.halted &= ~halt_bit(endpoint_address);
      halt_cleared(endpoint_address);
      return true;
    }
    case spec::kSetAddress: return s.next_address = value & 0x7f, value < 0x80;
    case spec::kGetDescriptor: return get_descriptor(static_cast<u8>(value >> 8), static_cast<u8>(value));
    case spec::kGetConfiguration: return reply(std::span(&s.configuration, 1)), true;
    case spec::kSetConfiguration:
      if (value > 1) return false;
      s.configuration = static_cast<u8>(value);
      s.halted = 0;
      configured();
      return true;
    case spec::kGetInterface: return reply(std::array<u8, 1>{0}), is_configured();
    case spec::kSetInterface:
      if (!is_configured() || value != 0 || index != 0) return false;
      s.halted = 0;
      configured();
      return true;
    default: return false;
  }
}

}  // namespace vellum
