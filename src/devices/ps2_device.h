// What a PS/2 keyboard and mouse have in common: bytes from the host, a queue of bytes to it.
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "devices/device.h"

namespace vellum {

class Ps2Device : public Device {
 public:
  // A byte from the host (the i8042).
  virtual void receive(u8 byte) = 0;

  bool has_data() const { return !m_queue.empty(); }
  // The next byte for the host; only when has_data().
  u8 take() {
    const u8 byte = m_queue.front();
    m_queue.pop_front();
    if (byte != kResend) m_last_sent = byte;
    return byte;
  }
  // The i8042 sets this; it is called whenever a byte was queued.
  std::function<void()> data_available;

 protected:
  static constexpr u8 kAcknowledge = 0xfa, kResend = 0xfe, kSelfTestPassed = 0xaa;
  static constexpr usize kQueueLimit = 64;  // also what a hostile snapshot may hold

  void queue(u8 byte) {
    if (m_queue.size() < kQueueLimit) m_queue.push_back(byte);
    if (data_available) data_available();
  }
  void clear_queue() { m_queue.clear(); }
  usize queued() const { return m_queue.size(); }
  u8 last_sent() const { return m_last_sent; }
  void visit_queue(Archive& archive) {
    archive("queue", m_queue)("last_sent", m_last_sent);
    archive.require(m_queue.size() <= kQueueLimit, "PS/2 queue length");
  }
  void reset_queue() {
    m_queue.clear();
    m_last_sent = 0;
  }

 private:
  std::deque<u8> m_queue;
  u8 m_last_sent = 0;
};

}  // namespace vellum
