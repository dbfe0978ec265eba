// A USB tablet: a pointer that reports its place, so that the guest's pointer is where the user's is.
#pragma once

#include <array>
#include <deque>

#include "devices/usb_function.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: USB Device Class Definition for HID 1.11.
class UsbTablet final : public UsbFunction {
 public:
  static constexpr u16 kGreatestPlace = 32767;
  enum Button : u8 { kLeft = 1, kRight = 2, kMiddle = 4, kFourth = 8, kFifth = 16 };

  explicit UsbTablet(VirtualClock& clock);

  // The user's side: where the pointer is (0 to kGreatestPlace, from the left and top edge), how far the wheel was turned
  // (in notches, positive away from the user), and which buttons are down now.
  void place(u16 x, u16 y, int wheel, u8 buttons);
  // Whether a driver has asked for reports lately.
  bool listened_to() const;

  std::string_view name() const override { return "usb_tablet"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

 protected:
  UsbAnswer transfer(UsbToken token, u8 endpoint, std::span<u8> data) override;
  bool class_request(u8 type, u8 request, u16 value, u16 index) override;
  std::span<const u8> class_descriptor(u8 type) const override;
  void function_reset() override;

 private:
  static constexpr usize kReportSize = 6, kQueueLimit = 32;
  struct Report {
    u8 buttons = 0;
    u16 x = 0, y = 0;
    i8 wheel = 0;
    void visit(Archive& archive);
    std::array<u8, kReportSize> bytes() const;
  };

  // Wiring.
  VirtualClock& m_clock;
  // Guest-visible state, beside the control endpoint's.
  struct State {
    u8 idle_rate = 0, protocol = 1;
    Report current;                    // as the last report said
    std::deque<Report> reports;        // not yet taken
    Ticks last_poll = 0, last_report = 0;
    bool polled = false;
  } m_state;
};

}  // namespace vellum
