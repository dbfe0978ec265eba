// The 8237A pair: registers, and transfers on behalf of devices.
#include "devices/dma8237.h"

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace {

// 8237A datasheet, "Register Description" and figures 4 and 5 (register codes).
namespace spec {
enum Register : unsigned {
  kStatusCommand = 8, kRequest = 9, kSingleMask = 10, kMode = 11, kClearFlipFlop = 12, kTemporaryMasterClear = 13,
  kClearMask = 14, kAllMask = 15,
};
constexpr u8 kCommandMemoryToMemory = 0x01, kCommandDisable = 0x04;
constexpr u8 kModeTypeMask = 0x0c, kModeVerify = 0x00, kModeWrite = 0x04, kModeRead = 0x08, kModeAutoinitialize = 0x10,
             kModeDecrement = 0x20, kModeSelectMask = 0xc0, kModeCascade = 0xc0;
constexpr u8 kSetBit = 0x04;  // request and single mask registers
// IBM PC AT Technical Reference, "DMA": the page register of each channel, at 80h + this.
constexpr u8 kPage[8] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};
}  // namespace spec

constexpr u8 bit(unsigned channel) { return static_cast<u8>(1u << channel); }

}  // namespace

Dma8237Pair::Dma8237Pair(AddressSpace& memory) : m_memory(memory) {}

void Dma8237Pair::reset(ResetKind) {
  for (auto& controller : m_state.controllers) {
    const u8 requests = controller.requests;  // DREQ lines belong to the devices
    controller = Controller{};
    controller.requests = requests;
  }
  m_state.pages = {};
}

void Dma8237Pair::Channel::visit(Archive& archive) {
  auto& [base_address_, base_count_, address_, count_, mode_] = *this;
  archive("base_address", base_address_)("base_count", base_count_)("address", address_)("count", count_);
  archive("mode", mode_);
}

void Dma8237Pair::Controller::visit(Archive& archive) {
  auto& [channels_, command_, mask_, software_requests_, requests_, terminal_counts_, temporary_, high_byte_] = *this;
  archive("channels", channels_)("command", command_)("mask", mask_)("software_requests", software_requests_);
  archive("requests", requests_)("terminal_counts", terminal_counts_)("temporary", temporary_)("high_byte", high_byte_);
  archive.require(((mask_ | software_requests_ | requests_ | terminal_counts_) & 0xf0) == 0, "DMA channel bits");
}

void Dma8237Pair::visit(Archive& archive) {
  auto& [controllers, pages] = m_state;
  archive("controllers", controllers)("pages", pages);
}

void Dma8237Pair::master_clear(Controller& controller) {
  controller.command = 0;
  controller.software_requests = 0;
  controller.terminal_counts = 0;
  controller.temporary = 0;
  controller.high_byte = false;
  controller.mask = 0xf;
}

u8 Dma8237Pair::read_register(Controller& controller, unsigned index) {
  if (index < 8) {
    const Channel& channel = controller.channels[index / 2];
    const u16 value = index & 1 ? channel.count : channel.address;
    const bool high = controller.high_byte;
    controller.high_byte = !high;
    return static_cast<u8>(high ? value >> 8 : value);
  }
  switch (index) {
    case spec::kStatusCommand: {
      const u8 status = static_cast<u8>((controller.requests | controller.software_requests) << 4 |
                                        controller.terminal_counts);
      controller.terminal_counts = 0;
      return status;
    }
    case spec::kTemporaryMasterClear: return controller.temporary;
    case spec::kAllMask: return 0xf0 | controller.mask;  // PIIX3, 4.1.1: readable there
    default: return 0xff;
  }
}

void Dma8237Pair::write_register(Controller& controller, unsigned index, u8 value) {
  if (index < 8) {
    Channel& channel = controller.channels[index / 2];
    u16& base = index & 1 ? channel.base_count : channel.base_address;
    base = static_cast<u16>(controller.high_byte ? (base & 0x00ff) | value << 8 : (base & 0xff00) | value);
    (index & 1 ? channel.count : channel.address) = base;
    controller.high_byte = !controller.high_byte;
    return;
  }
  const u8 selected = bit(value & 3);
  switch (index) {
    case spec::kStatusCommand:
      controller.command = value;
      if (value & spec::kCommandMemoryToMemory) log(LogItem::Unsupported, "8237: memory-to-memory transfers");
      break;
    case spec::kRequest:
      controller.software_requests =
          value & spec::kSetBit ? controller.software_requests | selected
                                : controller.software_requests & static_cast<u8>(~selected);
      break;
    case spec::kSingleMask:
      controller.mask =
          value & spec::kSetBit ? controller.mask | selected : controller.mask & static_cast<u8>(~selected);
      break;
    case spec::kMode: controller.channels[value & 3].mode = value; break;
    case spec::kClearFlipFlop: controller.high_byte = false; break;
    case spec::kTemporaryMasterClear: master_clear(controller); break;
    case spec::kClearMask: controller.mask = 0; break;
    case spec::kAllMask: controller.mask = value & 0xf; break;
  }
}

u32 Dma8237Pair::read_port(u16 port, unsigned) {
  if (port < 0x10) return read_register(m_state.controllers[0], port);
  if (port >= 0xc0 && port < 0xe0) return read_register(m_state.controllers[1], (port - 0xc0) / 2);
  return m_state.pages[port & 0xf];
}

void Dma8237Pair::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if (port < 0x10) write_register(m_state.controllers[0], port, byte);
  else if (port >= 0xc0 && port < 0xe0) write_register(m_state.controllers[1], (port - 0xc0) / 2, byte);
  else m_state.pages[port & 0xf] = byte;
}

void Dma8237Pair::set_request(unsigned channel, bool level) {
  Controller& controller = m_state.controllers[channel >> 2 & 1];
  const u8 selected = bit(channel & 3);
  controller.requests = level ? controller.requests | selected : controller.requests & static_cast<u8>(~selected);
}

usize Dma8237Pair::remaining(unsigned channel) const {
  const usize units = m_state.controllers[channel >> 2 & 1].channels[channel & 3].count + usize{1};
  return channel >= 4 ? units * 2 : units;
}

bool Dma8237Pair::autoinitialize(unsigned channel) const {
  return m_state.controllers[channel >> 2 & 1].channels[channel & 3].mode & spec::kModeAutoinitialize;
}

bool Dma8237Pair::ready(unsigned channel, DmaDirection direction) const {
  if (channel >= 8) return false;
  const Controller& controller = m_state.controllers[channel >> 2];
  const u8 mode = controller.channels[channel & 3].mode;
  if ((controller.mask & bit(channel & 3)) || (controller.command & spec::kCommandDisable)) return false;
  if ((mode & spec::kModeSelectMask) == spec::kModeCascade) return false;
  // Channels 0 to 3 pass through channel 4 of the other controller.
  const Controller& upper = m_state.controllers[1];
  if (channel < 4 && ((upper.mask & 1) || (upper.command & spec::kCommandDisable))) return false;
  const u8 type = mode & spec::kModeTypeMask;
  return type == spec::kModeVerify ||
         type == (direction == DmaDirection::ToMemory ? spec::kModeWrite : spec::kModeRead);
}

u32 Dma8237Pair::physical_address(unsigned channel) const {
  const u16 address = m_state.controllers[channel >> 2].channels[channel & 3].address;
  const u32 page = m_state.pages[spec::kPage[channel]];
  // Channels 5 to 7 put the address register on A16:A1; page bit 0 is not used.
  return channel >= 4 ? (page & 0xfe) << 16 | static_cast<u32>(address) << 1 : page << 16 | address;
}

DmaResult Dma8237Pair::transfer(unsigned channel_number, std::span<u8> data, DmaDirection direction) {
  if (!ready(channel_number, direction)) return {0, false};
  Controller& controller = m_state.controllers[channel_number >> 2];
  Channel& channel = controller.channels[channel_number & 3];
  const usize unit = channel_number >= 4 ? 2 : 1;
  const bool decrement = channel.mode & spec::kModeDecrement;
  const bool verify = (channel.mode & spec::kModeTypeMask) == spec::kModeVerify;
  usize done = 0;
  while (data.size() - done >= unit) {
    // As many units as lie in one run: the address register wraps within its page, and decrementing goes singly.
    usize units = std::min<usize>((data.size() - done) / unit, channel.count + usize{1});
    units = decrement ? 1 : std::min<usize>(units, usize{0x10000} - channel.address);
    const std::span<u8> part = data.subspan(done, units * unit);
    if (!verify) {
      const GuestPhysAddr address(physical_address(channel_number));
      if (direction == DmaDirection::ToMemory) m_memory.write(address, part);
      else m_memory.read(address, part);
    }
    done += part.size();
    const bool terminal = units > channel.count;
    channel.address = static_cast<u16>(decrement ? channel.address - 1 : channel.address + units);
    channel.count = static_cast<u16>(channel.count - units);
    if (!terminal) continue;
    controller.terminal_counts |= bit(channel_number & 3);
    controller.software_requests &= static_cast<u8>(~bit(channel_number & 3));
    if (channel.mode & spec::kModeAutoinitialize) {
      channel.address = channel.base_address;
      channel.count = channel.base_count;
    } else {
      controller.mask |= bit(channel_number & 3);
    }
    return {done, true};
  }
  return {done, false};
}

}  // namespace vellum
