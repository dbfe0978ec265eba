// Virtio 1.2 over PCI: capabilities, the common configuration, and split virtqueues.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "devices/pci.h"

namespace vellum {

// Source: OASIS Virtual I/O Device (VIRTIO) Version 1.2, "the standard". Modern devices with INTA#; a device type derives from this.
class VirtioPci : public PciDevice, public MmioHandler {
 public:
  static constexpr usize kMostQueues = 2;
  static constexpr u16 kGreatestQueue = 256;

  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;

 protected:
  // A buffer that the driver has made available: its parts, those to be read first.
  struct Part {
    u64 address;
    u32 length;
  };
  struct Chain {
    u16 head = 0;
    std::vector<Part> readable, writable;
    usize writable_size() const;
  };

  // `type`: of the standard, chapter 5. `features`: those of the type that are offered.
  VirtioPci(u16 type, u32 class_code, usize queues, u64 features, std::string name);

  // The type's own configuration, a byte at a time, and what the driver's doings mean.
  virtual u8 read_device_config(usize offset) const = 0;
  virtual void queue_notified(usize queue) = 0;
  virtual void device_reset() {}

  void config_written(unsigned offset, unsigned size) override;
  void config_reading(unsigned offset, unsigned size) override;
  void reset_virtio();
  void visit_virtio(Archive& archive);

  // The driver is ready and the queue is in use.
  bool queue_ready(usize queue) const;
  bool available(usize queue);
  // The next buffer; false: there is none, or the driver's structures make no sense and the device needs a reset.
  bool take(usize queue, Chain& chain);
  // Gives it back with `written` bytes in it, and interrupts if the driver wants to know.
  void give_back(usize queue, const Chain& chain, u32 written);
  // Bytes from the buffer's start on; `data` is filled as far as it goes. Returns how many.
  usize read_chain(const Chain& chain, std::span<u8> data);
  usize write_chain(const Chain& chain, std::span<const u8> data);
  bool offered_and_taken(unsigned feature) const { return m_virtio.driver_features >> feature & 1; }
  bool driver_ready() const;

 private:
  struct Queue {
    u16 size = kGreatestQueue, next_available = 0;
    bool enabled = false;
    u64 descriptors = 0, driver = 0, device = 0;
    void visit(Archive& archive);
  };
  void add_capability(u8& offset, u8 type, u32 position, u32 length, u32 more = 0);
  bool window(unsigned offset, unsigned size, u64& register_offset, unsigned& length) const;
  u8 read_common(usize offset);
  void write_common(usize offset, unsigned size, u32 value);
  void write_status(u8 value);
  bool add_parts(u64 table, u32 count, u16 first, Chain& chain, bool nested);
  void needs_reset(std::string_view why);
  void update_interrupt() { set_interrupt(m_virtio.interrupts != 0); }
  // A device does not answer its own accesses to memory, so none of them reaches its registers.
  void fetch(u64 address, std::span<u8> data);
  void store(u64 address, std::span<const u8> data);
  u16 fetch16(u64 address);

  // Configuration.
  u8 m_window = 0;  // where the capability of the access window stands
  const usize m_queue_count;
  const u64 m_features;
  // Derived.
  bool m_mastering = false;
  // Guest-visible state, beside the configuration space.
  struct Virtio {
    u32 device_select = 0, driver_select = 0;
    u64 driver_features = 0;
    u8 status = 0, interrupts = 0;
    u16 queue_select = 0;
    std::array<Queue, kMostQueues> queues;
  } m_virtio;
};

}  // namespace vellum
