// A USB tablet: a pointer that reports its place, so that the guest's pointer is where the user's is.
#pragma once

#include <array>
#include <deque>

#include "devices/usb_device.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Sources: USB specification 1.1, chapters 8 and 9; USB Device Class Definition for HID 1.11.
class UsbTablet final : public UsbDevice {
 public:
  static constexpr u16 kGreatestPlace = 32767;
  enum Button : u8 { kLeft = 1, kRight = 2, kMiddle = 4, kFourth = 8, kFifth = 16 };

  explicit UsbTablet(VirtualClock& clock) : m_clock(clock) {}

  // The user's side: where the pointer is (0 to kGreatestPlace, from the left and top edge), how far the wheel was turned
  // (in notches, positive away from the user), and which buttons are down now.
  void place(u16 x, u16 y, int wheel, u8 buttons);
  // Whether a driver has asked for reports lately.
  bool listened_to() const;

  std::string_view name() const override { return "usb_tablet"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  void bus_reset() override;
  u8 address() const override { return m_state.address; }
  UsbAnswer transact(UsbToken token, u8 endpoint, std::span<u8> data) override;

 private:
  enum class Stage : u8 { Idle, DataIn, DataOut, StatusIn, Stalled, Count };
  static constexpr usize kReportSize = 6, kReplySize = 128, kQueueLimit = 32;
  struct Report {
    u8 buttons = 0;
    u16 x = 0, y = 0;
    i8 wheel = 0;
    void visit(Archive& archive);
    std::array<u8, kReportSize> bytes() const;
  };

  UsbAnswer setup(std::span<const u8> packet);
  UsbAnswer control(UsbToken token, std::span<u8> data);
  UsbAnswer interrupt(std::span<u8> data);
  // Requests: false when the device does not know them, and stalls.
  bool standard_request(u8 type, u8 request, u16 value, u16 index);
  bool class_request(u8 type, u8 request, u16 value);
  bool get_descriptor(u8 type, u8 index);
  void reply(std::span<const u8> data);

  // Wiring.
  VirtualClock& m_clock;
  // Guest-visible state.
  struct State {
    u8 address = 0, next_address = 0;  // the new one holds when the request's status stage is over
    u8 configuration = 0;
    bool halted = false;               // endpoint 1
    bool wakeup_enabled = false;
    u8 idle_rate = 0, protocol = 1;
    Stage stage = Stage::Idle;
    u16 length = 0, position = 0;      // of the control transfer's data
    std::array<u8, kReplySize> reply{};
    Report current;                    // as the last report said
    std::deque<Report> reports;        // not yet taken
    Ticks last_poll = 0, last_report = 0;
    bool polled = false;
  } m_state;
};

}  // namespace vellum
