// The transport of virtio devices: registers and queues.
#include "devices/virtio_pci.h"

#include <algorithm>
#include <bit>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// 4.1.2: vendor, and device IDs from here on; 4.1.4: the structures' places in the first base address register.
constexpr u16 kVendor = 0x1af4, kFirstDevice = 0x1040;
constexpr u32 kBarSize = 0x4000, kCommon = 0x0000, kInterrupts = 0x1000, kDevice = 0x2000, kNotify = 0x3000, kPart = 0x1000, kNotifyMultiplier = 4;
constexpr u8 kCapabilityId = 0x09, kFirstCapability = 0x40;
constexpr u8 kCommonType = 1, kNotifyType = 2, kInterruptsType = 3, kDeviceType = 4, kWindowType = 5;
constexpr unsigned kWindowBar = 4, kWindowOffset = 8, kWindowLength = 12, kWindowData = 16;  // within its capability
constexpr u16 kStatusCapabilities = 0x10;
// 4.1.4.3: the common configuration.
constexpr usize kDeviceFeatureSelect = 0x00, kDriverFeatureSelect = 0x08, kDriverFeature = 0x0c, kStatus = 0x14, kQueueSelect = 0x16, kQueueSize = 0x18,
                kQueueEnable = 0x1c, kQueueDescriptors = 0x20, kQueueDriver = 0x28, kQueueDevice = 0x30, kCommonSize = 0x38;
// 2.1: device status.
constexpr u8 kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 0x40;
// 6: features of every device.
constexpr unsigned kIndirect = 28, kVersion1 = 32;
// 2.7.5, 2.7.6, 2.7.8: split virtqueues.
constexpr u16 kNext = 1, kWrite = 2, kIndirectTable = 4, kNoInterrupt = 1;
constexpr usize kDescriptorSize = 16;
constexpr u8 kQueueInterrupt = 1;
constexpr u16 kNoVector = 0xffff;
}  // namespace spec

u64 little(std::span<const u8> data, usize at, usize size) {
  u64 value = 0;
  for (usize i = 0; i < size; ++i) value |= u64{data[at + i]} << (8 * i);
  return value;
}

}  // namespace

VirtioPci::VirtioPci(u16 type, u32 class_code, usize queues, u64 features, std::string name)
    : PciDevice({.vendor = spec::kVendor,
                 .device = static_cast<u16>(spec::kFirstDevice + type),
                 .revision = 1,
                 .class_code = class_code,
                 .subsystem_vendor = spec::kVendor,
                 .subsystem = 0x1100,
                 .interrupt_pin = 1}),
      m_queue_count(queues),
      m_features(features | u64{1} << spec::kVersion1 | u64{1} << spec::kIndirect) {
  VELLUM_ASSERT(queues <= kMostQueues);
  declare_memory_bar(0, spec::kBarSize, *this, std::move(name));
  set_config(pci::kStatus, 2, spec::kStatusCapabilities);
  set_config(pci::kCapabilities, 1, spec::kFirstCapability);
  u8 at = spec::kFirstCapability;
  add_capability(at, spec::kCommonType, spec::kCommon, spec::kCommonSize);
  add_capability(at, spec::kInterruptsType, spec::kInterrupts, 1);
  add_capability(at, spec::kDeviceType, spec::kDevice, spec::kPart);
  add_capability(at, spec::kNotifyType, spec::kNotify, spec::kPart, spec::kNotifyMultiplier);
  m_window = at;
  add_capability(at, spec::kWindowType, 0, 0);
  set_config(m_window + 1u, 1, 0);  // the last of the list
  make_writable(m_window + spec::kWindowBar, 1, 0xff);
  make_writable(m_window + spec::kWindowOffset, 4, ~0u);
  make_writable(m_window + spec::kWindowLength, 4, ~0u);
  make_writable(m_window + spec::kWindowData, 4, ~0u);
}

// 4.1.4: struct virtio_pci_cap; those of notifications and of the access window have four bytes more.
void VirtioPci::add_capability(u8& offset, u8 type, u32 position, u32 length, u32 more) {
  const u8 size = type == spec::kNotifyType || type == spec::kWindowType ? 20 : 16;
  set_config(offset, 1, spec::kCapabilityId);
  set_config(offset + 1u, 1, offset + u32{size});
  set_config(offset + 2u, 1, size);
  set_config(offset + 3u, 1, type);
  set_config(offset + 8u, 4, position);
  set_config(offset + 12u, 4, length);
  if (size == 20) set_config(offset + 16u, 4, more);
  offset = static_cast<u8>(offset + size);
}

// 4.1.4.9: an access to the data field is one to the registers, for firmware that does not map them. False: this access is none.
bool VirtioPci::window(unsigned offset, unsigned size, u64& register_offset, unsigned& length) const {
  if (offset >= m_window + spec::kWindowData + 4 || offset + size <= m_window + spec::kWindowData) return false;
  register_offset = read_config(m_window + spec::kWindowOffset, 4);
  length = read_config(m_window + spec::kWindowLength, 4);
  return read_config(m_window + spec::kWindowBar, 1) == 0 && (length == 1 || length == 2 || length == 4) && register_offset % length == 0 && register_offset < spec::kBarSize;
}

void VirtioPci::config_reading(unsigned offset, unsigned size) {
  u64 at;
  unsigned length;
  if (window(offset, size, at, length)) set_config(m_window + spec::kWindowData, 4, static_cast<u32>(read_mmio(at, length)));
}

void VirtioPci::config_written(unsigned offset, unsigned size) {
  u64 at;
  unsigned length;
  if (window(offset, size, at, length)) write_mmio(at, length, read_config(m_window + spec::kWindowData, length));
}

void VirtioPci::reset_virtio() {
  m_virtio = {};
  update_interrupt();
  device_reset();
}

void VirtioPci::Queue::visit(Archive& archive) {
  auto& [size_, next_available_, enabled_, descriptors_, driver_, device_] = *this;
  archive("size", size_)("next_available", next_available_)("enabled", enabled_)("descriptors", descriptors_)("driver", driver_)("device", device_);
  archive.require(std::has_single_bit(size_) && size_ <= kGreatestQueue, "virtqueue size");
}

void VirtioPci::visit_virtio(Archive& archive) {
  auto& [device_select, driver_select, driver_features, status, interrupts, queue_select, queues] = m_virtio;
  visit_config(archive);
  archive("device_select", device_select)("driver_select", driver_select)("driver_features", driver_features)("status", status);
  archive("interrupts", interrupts)("queue_select", queue_select)("queues", queues);
  if (archive.loading() && !archive.failed()) update_interrupt();
}

// ---- Registers

void VirtioPci::fetch(u64 address, std::span<u8> data) {
  m_mastering = true;
  dma_read(GuestPhysAddr(address), data);
  m_mastering = false;
}

void VirtioPci::store(u64 address, std::span<const u8> data) {
  m_mastering = true;
  dma_write(GuestPhysAddr(address), data);
  m_mastering = false;
}

u16 VirtioPci::fetch16(u64 address) {
  std::array<u8, 2> bytes;
  fetch(address, bytes);
  return static_cast<u16>(little(bytes, 0, 2));
}

u64 VirtioPci::read_mmio(u64 offset, unsigned size) {
  if (m_mastering) return ~u64{0};
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const usize at = static_cast<usize>(offset) + i, within = at % spec::kPart;
    u8 byte = 0;
    switch (at - within) {
      case spec::kCommon: byte = read_common(within); break;
      case spec::kInterrupts:
        // 4.1.4.5: reading acknowledges.
        if (within == 0) byte = std::exchange(m_virtio.interrupts, u8{0});
        update_interrupt();
        break;
      case spec::kDevice: byte = read_device_config(within); break;
      default: break;
    }
    value |= u64{byte} << (8 * i);
  }
  return value;
}

u8 VirtioPci::read_common(usize offset) {
  const auto part = [&](u64 value, usize first) { return static_cast<u8>(value >> (8 * (offset - first))); };
  static const Queue kAbsent{.size = 0};
  const bool present = m_virtio.queue_select < m_queue_count;
  const Queue& queue = present ? m_virtio.queues[m_virtio.queue_select] : kAbsent;
  const u64 features = m_virtio.device_select < 2 ? m_features >> (32 * m_virtio.device_select) : 0;
  const u64 taken = m_virtio.driver_select < 2 ? m_virtio.driver_features >> (32 * m_virtio.driver_select) : 0;
  if (offset < 0x04) return part(m_virtio.device_select, 0x00);
  if (offset < 0x08) return part(features, 0x04);
  if (offset < 0x0c) return part(m_virtio.driver_select, 0x08);
  if (offset < 0x10) return part(taken, 0x0c);
  if (offset < 0x12) return part(spec::kNoVector, 0x10);
  if (offset < 0x14) return part(m_queue_count, 0x12);
  if (offset == 0x14) return m_virtio.status;
  if (offset == 0x15) return 0;  // the configuration never changes
  if (offset < 0x18) return part(m_virtio.queue_select, 0x16);
  if (offset < 0x1a) return part(queue.size, 0x18);
  if (offset < 0x1c) return part(spec::kNoVector, 0x1a);
  if (offset < 0x1e) return part(queue.enabled, 0x1c);
  if (offset < 0x20) return part(present ? m_virtio.queue_select : 0, 0x1e);
  if (offset < 0x28) return part(queue.descriptors, 0x20);
  if (offset < 0x30) return part(queue.driver, 0x28);
  if (offset < 0x38) return part(queue.device, 0x30);
  return 0;
}

void VirtioPci::write_mmio(u64 offset, unsigned size, u64 value) {
  if (m_mastering) return;
  if (offset < spec::kCommon + spec::kCommonSize) return write_common(static_cast<usize>(offset), size, static_cast<u32>(value));
  if (offset < spec::kNotify) return;
  const u64 queue = (offset - spec::kNotify) / spec::kNotifyMultiplier;
  if (queue < m_queue_count && queue_ready(queue)) queue_notified(queue);
}

void VirtioPci::write_common(usize offset, unsigned size, u32 value) {
  // 4.1.3.1: fields are accessed at their own size, those of 64 bits as two of 32.
  switch (offset) {
    case spec::kDeviceFeatureSelect:
      if (size == 4) m_virtio.device_select = value;
      return;
    case spec::kDriverFeatureSelect:
      if (size == 4) m_virtio.driver_select = value;
      return;
    case spec::kDriverFeature:
      if (size != 4 || m_virtio.driver_select > 1 || (m_virtio.status & spec::kFeaturesOk)) return;
      if (m_virtio.driver_select) m_virtio.driver_features = (m_virtio.driver_features & 0xffffffff) | u64{value} << 32;
      else m_virtio.driver_features = (m_virtio.driver_features & ~u64{0xffffffff}) | value;
      return;
    case spec::kStatus: return write_status(static_cast<u8>(value));
    case spec::kQueueSelect:
      if (size == 2) m_virtio.queue_select = static_cast<u16>(value);
      return;
    default: break;
  }
  if (m_virtio.queue_select >= m_queue_count) return;
  Queue& queue = m_virtio.queues[m_virtio.queue_select];
  if (queue.enabled) return;  // 4.1.4.3.2: only a reset takes that back
  const auto half = [&](u64& address, bool high) {
    if (size == 4) address = high ? (address & 0xffffffff) | u64{value} << 32 : (address & ~u64{0xffffffff}) | value;
  };
  switch (offset) {
    case spec::kQueueSize:
      if (size == 2 && std::has_single_bit(value) && value <= kGreatestQueue) queue.size = static_cast<u16>(value);
      break;
    case spec::kQueueEnable: queue.enabled = size == 2 && value == 1; break;
    case spec::kQueueDescriptors:
    case spec::kQueueDescriptors + 4: half(queue.descriptors, offset & 4); break;
    case spec::kQueueDriver:
    case spec::kQueueDriver + 4: half(queue.driver, offset & 4); break;
    case spec::kQueueDevice:
    case spec::kQueueDevice + 4: half(queue.device, offset & 4); break;
    default: break;
  }
}

void VirtioPci::write_status(u8 value) {
  if (value == 0) return reset_virtio();
  const u8 before = m_virtio.status;
  // 2.2.2, 6.1: features that were not offered, or none of version 1, are not accepted.
  const bool acceptable = (m_virtio.driver_features & ~m_features) == 0 && (m_virtio.driver_features >> spec::kVersion1 & 1);
  if ((value & spec::kFeaturesOk) && !(before & spec::kFeaturesOk) && !acceptable) value &= static_cast<u8>(~spec::kFeaturesOk);
  m_virtio.status = static_cast<u8>((value & ~spec::kNeedsReset) | (before & spec::kNeedsReset));
}

bool VirtioPci::driver_ready() const {
  return (m_virtio.status & (spec::kDriverOk | spec::kFeaturesOk)) == (spec::kDriverOk | spec::kFeaturesOk) && !(m_virtio.status & spec::kNeedsReset) && bus_master_enabled();
}

bool VirtioPci::queue_ready(usize queue) const { return driver_ready() && m_virtio.queues[queue].enabled; }

// 2.1.2: the device says so, and does nothing until the driver resets it.
void VirtioPci::needs_reset(std::string_view why) {
  log(LogItem::GuestErrors, "{}: {}", name(), why);
  m_virtio.status |= spec::kNeedsReset;
  m_virtio.interrupts |= 2;  // 4.1.4.5: the configuration, which the status belongs to
  update_interrupt();
}

// ---- Queues

bool VirtioPci::available(usize index) {
  if (!queue_ready(index)) return false;
  const Queue& queue = m_virtio.queues[index];
  const u16 waiting = static_cast<u16>(fetch16(queue.driver + 2) - queue.next_available);
  if (waiting > queue.size) needs_reset("more buffers are available than the queue has room for");
  return waiting > 0 && waiting <= queue.size;
}

bool VirtioPci::add_parts(u64 table, u32 count, u16 first, Chain& chain, bool nested) {
  u32 index = first;
  // A chain has no more descriptors than its table: a longer one is a ring.
  for (u32 steps = 0; steps < count; ++steps) {
    if (index >= count) break;
    std::array<u8, spec::kDescriptorSize> descriptor;
    fetch(table + u64{index} * spec::kDescriptorSize, descriptor);
    const Part part{little(descriptor, 0, 8), static_cast<u32>(little(descriptor, 8, 4))};
    const u16 flags = static_cast<u16>(little(descriptor, 12, 2));
    if (flags & spec::kIndirectTable) {
      const u32 entries = part.length / spec::kDescriptorSize;
      if (nested || (flags & spec::kNext) || entries == 0 || entries > kGreatestQueue || !offered_and_taken(spec::kIndirect)) break;
      return add_parts(part.address, entries, 0, chain, true);
    }
    if (!(flags & spec::kWrite) && !chain.writable.empty()) break;  // 2.7.4.2: those to be read come first
    (flags & spec::kWrite ? chain.writable : chain.readable).push_back(part);
    if (!(flags & spec::kNext)) return true;
    index = static_cast<u16>(little(descriptor, 14, 2));
  }
  needs_reset("a chain of descriptors makes no sense");
  return false;
}

bool VirtioPci::take(usize index, Chain& chain) {
  if (!available(index)) return false;
  Queue& queue = m_virtio.queues[index];
  chain = {};
  chain.head = fetch16(queue.driver + 4 + 2 * (queue.next_available % queue.size));
  if (!add_parts(queue.descriptors, queue.size, chain.head, chain, false)) return false;
  ++queue.next_available;
  return true;
}

void VirtioPci::give_back(usize index, const Chain& chain, u32 written) {
  const Queue& queue = m_virtio.queues[index];
  const u16 used = fetch16(queue.device + 2);
  std::array<u8, 8> entry{};
  entry[0] = static_cast<u8>(chain.head);
  entry[1] = static_cast<u8>(chain.head >> 8);
  for (unsigned i = 0; i < 4; ++i) entry[4 + i] = static_cast<u8>(written >> (8 * i));
  store(queue.device + 4 + 8 * (used % queue.size), entry);
  const u16 next = static_cast<u16>(used + 1);
  const std::array<u8, 2> bytes = {static_cast<u8>(next), static_cast<u8>(next >> 8)};
  store(queue.device + 2, bytes);
  if (fetch16(queue.driver) & spec::kNoInterrupt) return;
  m_virtio.interrupts |= spec::kQueueInterrupt;
  update_interrupt();
}

usize VirtioPci::Chain::writable_size() const {
  usize size = 0;
  for (const Part& part : writable) size += part.length;
  return size;
}

usize VirtioPci::read_chain(const Chain& chain, std::span<u8> data) {
  usize done = 0;
  for (const Part& part : chain.readable) {
    const usize size = std::min<usize>(part.length, data.size() - done);
    fetch(part.address, data.subspan(done, size));
    done += size;
  }
  return done;
}

usize VirtioPci::write_chain(const Chain& chain, std::span<const u8> data) {
  usize done = 0;
  for (const Part& part : chain.writable) {
    const usize size = std::min<usize>(part.length, data.size() - done);
    store(part.address, data.subspan(done, size));
    done += size;
  }
  return done;
}

}  // namespace vellum
