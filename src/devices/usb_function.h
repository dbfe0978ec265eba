// What all USB devices have in common: the control endpoint with its transfers, descriptors and standard requests.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "devices/usb_device.h"

namespace vellum {

// A device with one configuration and one interface. Source: USB specification 1.1, chapters 8 and 9.
class UsbFunction : public UsbDevice {
 public:
  void bus_reset() final;
  u8 address() const final { return m_control.address; }
  UsbAnswer transact(UsbToken token, u8 endpoint, std::span<u8> data) final;

 protected:
  // Descriptors as they are sent; they outlive the device. The configuration is followed by its interface and endpoints.
  struct Descriptors {
    std::span<const u8> device, configuration;
    std::array<std::string_view, 3> strings;  // of index 1 and on: manufacturer, product, serial number
  };

  explicit UsbFunction(Descriptors descriptors) : m_descriptors(descriptors) {}

  // ---- The function's own side.
  // One transaction with an endpoint that the configuration has, once that is chosen; a halted one answers by itself.
  virtual UsbAnswer transfer(UsbToken token, u8 endpoint, std::span<u8> data) = 0;
  // A request of the class: false when the device does not know it, and stalls. What is sent back goes to reply().
  virtual bool class_request(u8 type, u8 request, u16 value, u16 index) = 0;
  virtual std::span<const u8> class_descriptor(u8) const { return {}; }  // empty: there is none of this type
  // The bus was reset; the configuration was chosen (or taken back), so that transfers begin anew; the host has cleared
  // an endpoint's halt.
  virtual void function_reset() = 0;
  virtual void configured() {}
  virtual void halt_cleared(u8 endpoint_address) {}

  void reply(std::span<const u8> data);
  u16 requested() const { return m_control.length; }  // bytes of the request's data stage
  bool is_configured() const { return m_control.configuration != 0; }
  // An endpoint by its address: number, and bit 7 for the direction to the host.
  void halt(u8 endpoint_address) { m_control.halted |= halt_bit(endpoint_address); }
  bool halted(u8 endpoint_address) const { return m_control.halted & halt_bit(endpoint_address); }
  void set_serial_number(std::string_view text) { m_descriptors.strings[2] = text; }
  void reset_control() { m_control = {}; }
  void visit_control(Archive& archive) { archive("control", m_control); }

 private:
  enum class Stage : u8 { Idle, DataIn, DataOut, StatusIn, Stalled, Count };
  static constexpr usize kReplySize = 128;

  static u32 halt_bit(u8 endpoint_address) { return u32{1} << ((endpoint_address & 0xf) + (endpoint_address & 0x80 ? 16 : 0)); }
  bool has_endpoint(u8 endpoint_address) const;
  UsbAnswer setup(std::span<const u8> packet);
  UsbAnswer control(UsbToken token, std::span<u8> data);
  bool standard_request(u8 type, u8 request, u16 value, u16 index);
  bool get_descriptor(u8 type, u8 index);
  usize control_packet() const { return m_descriptors.device[7]; }

  // Configuration.
  Descriptors m_descriptors;
  // Derived.
  bool m_replied = false;  // the request at hand has given what the device sends back
  // Guest-visible state.
  struct ControlState {
    u8 address = 0, next_address = 0;  // the new one holds when the request's status stage is over
    u8 configuration = 0;
    u32 halted = 0;                    // a bit for each endpoint: 0 to 15 from the host, 16 to 31 to it
    bool wakeup_enabled = false;
    Stage stage = Stage::Idle;
    u16 length = 0, position = 0;      // of the control transfer's data
    std::array<u8, kReplySize> reply{};
    void visit(Archive& archive);
  } m_control;
};

}  // namespace vellum
