// A USB device as a host controller sees it: it answers transactions.
#pragma once

#include <span>

#include "devices/device.h"

namespace vellum {

// Packet identifiers of token packets, USB 1.1 table 8-1.
enum class UsbToken : u8 { Out = 0xe1, In = 0x69, Setup = 0x2d };

struct UsbAnswer {
  enum class Kind : u8 { Done, NotReady, Stall, Silence } kind;  // ACK or data; NAK; STALL; nobody is there
  usize length = 0;  // Done: bytes taken or given. More than there was room for when the device babbles.
};

// No packet is ever lost on this bus, so a device need not compare data toggles.
class UsbDevice : public Device {
 public:
  // The bus is reset: the device has address 0 and no configuration again.
  virtual void bus_reset() = 0;
  virtual u8 address() const = 0;
  // One transaction to this device. `data` is what the host sends, or the room for what the device sends.
  virtual UsbAnswer transact(UsbToken token, u8 endpoint, std::span<u8> data) = 0;
};

}  // namespace vellum
