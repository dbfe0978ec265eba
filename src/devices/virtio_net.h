// The virtio network device.
#pragma once

#include <string>

#include "devices/ethernet.h"
#include "devices/virtio_pci.h"

namespace vellum {

// Source: OASIS VIRTIO 1.2, 5.1. One queue for each way; checksums of frames that leave are computed here.
class VirtioNet final : public VirtioPci {
 public:
  // `backend` may be null: the cable is unplugged.
  VirtioNet(std::string name, const MacAddress& address, NetworkBackend* backend);
  ~VirtioNet() override;
  // Before the machine runs: the option ROM lies at `rom_offset` in guest RAM.
  void set_rom(u64 rom_offset, u32 size) { declare_rom_bar(size, rom_offset, "virtio-net rom"); }
  std::string describe() const;  // a line for `info network`

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override { visit_virtio(archive); }

 private:
  u8 read_device_config(usize offset) const override;
  void queue_notified(usize queue) override;
  void transmit();
  bool can_receive();
  void receive(std::span<const u8> frame);

  // Configuration.
  const std::string m_name;
  const MacAddress m_address;
  // Wiring.
  NetworkBackend* m_backend;
};

}  // namespace vellum
