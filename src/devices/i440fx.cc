// 82441FX host bridge: PAM and SMRAM registers as mappings of main memory.
#include "devices/i440fx.h"

#include <fmt/format.h>

#include "state/log.h"

namespace vellum {

namespace {

namespace spec {
// Intel 440FX PCIset datasheet (290549), 3.2.
constexpr unsigned kStatusValue = 0x0280, kCommandValue = 0x0006;  // 3.2.3, 3.2.4
constexpr unsigned kPam0 = 0x59, kPam6 = 0x5f;                     // 3.2.18
constexpr u8 kReadEnable = 1, kWriteEnable = 2;
constexpr unsigned kSmram = 0x72;                                  // 3.2.21
constexpr u8 kSmramDefault = 0x02;                                 // C_BASE_SEG: A0000h, hardwired
constexpr u8 kOpen = 0x40, kClosed = 0x20, kLocked = 0x10, kGlobalEnable = 0x08;
constexpr u64 kSmramBase = 0xa0000, kSmramSize = 0x20000;
constexpr u64 kUpperBase = 0xc0000, kOneMegabyte = 0x100000, kFourGigabytes = u64{1} << 32;
}  // namespace spec

struct SegmentPlace {
  u64 base, size;
  unsigned config_offset, shift;
};

// 3.2.18, table "PAM registers and associated memory segments": PAM0 holds F0000h in its high nibble, PAM1 to PAM6 two
// segments of 16 KiB each from C0000h on.
constexpr SegmentPlace segment_place(unsigned index) {
  if (index == 12) return {0xf0000, 0x10000, spec::kPam0, 4};
  return {spec::kUpperBase + index * 0x4000, 0x4000, spec::kPam0 + 1 + index / 2, (index & 1) * 4};
}

}  // namespace

I440fx::I440fx(AddressSpace& memory, const RamLayout& layout)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x1237,
                 .revision = 2,
                 .class_code = 0x060000,
                 .subsystem_vendor = 0x1af4,  // what OVMF and guests know virtual machines by
                 .subsystem = 0x1100}),
      m_memory(memory),
      m_layout(layout) {
  set_config(pci::kCommand, 2, spec::kCommandValue);
  set_config(pci::kStatus, 2, spec::kStatusValue);
  make_writable(0x50, 2, 0xffff);  // PMCCFG
  make_writable(0x57, 2, 0xffff);  // DRAM control and timing
  make_writable(spec::kPam0, 1, 0x30);
  for (unsigned offset = spec::kPam0 + 1; offset <= spec::kPam6; ++offset) make_writable(offset, 1, 0x33);
  for (unsigned offset = 0x60; offset <= 0x67; ++offset) make_writable(offset, 1, 0xff);  // DRAM row boundaries
  make_writable(0x68, 1, 0xc0);                                                           // fixed hole: not decoded
  make_writable(0x70, 2, 0xf8f8);                                                         // multi-transaction timers
  make_writable(0x93, 1, 0x02);  // turbo reset control: the reset itself comes from the south bridge
  set_config(spec::kSmram, 1, spec::kSmramDefault);
  make_writable(spec::kSmram, 1, spec::kOpen | spec::kClosed | spec::kLocked | spec::kGlobalEnable);
  map_main_memory();
}

I440fx::~I440fx() {
  for (auto id : m_main) m_memory.unmap(id);
  for (auto& segment : m_segments)
    if (segment.attributes) m_memory.unmap(segment.id);
  if (m_smram_mapping) m_memory.unmap(m_smram_mapping);
}

void I440fx::map_main_memory() {
  const u64 low = std::min(m_layout.below_4g, spec::kSmramBase);
  if (low) m_main.push_back(m_memory.map_ram("ram-low", GuestPhysAddr(0), low, m_layout.ram_offset));
  if (m_layout.below_4g > spec::kOneMegabyte)
    m_main.push_back(m_memory.map_ram("ram-extended", GuestPhysAddr(spec::kOneMegabyte),
                                      m_layout.below_4g - spec::kOneMegabyte,
                                      m_layout.ram_offset + spec::kOneMegabyte));
  if (m_layout.above_4g)
    m_main.push_back(m_memory.map_ram("ram-high", GuestPhysAddr(spec::kFourGigabytes), m_layout.above_4g,
                                      m_layout.high_ram_offset));
}

void I440fx::update_pam() {
  for (unsigned index = 0; index < m_segments.size(); ++index) {
    const SegmentPlace place = segment_place(index);
    Segment& segment = m_segments[index];
    u8 wanted = (read_config(place.config_offset, 1) >> place.shift) & (spec::kReadEnable | spec::kWriteEnable);
    if (place.base + place.size > m_layout.below_4g) wanted = 0;
    if (wanted == segment.attributes) continue;
    if (segment.attributes) m_memory.unmap(segment.id);
    segment.attributes = wanted;
    if (!wanted) continue;
    const auto access = wanted == spec::kReadEnable    ? AddressSpace::Access::ReadOnly
                        : wanted == spec::kWriteEnable ? AddressSpace::Access::WriteOnly
                                                       : AddressSpace::Access::ReadWrite;
    segment.id = m_memory.map_ram(fmt::format("pam-{:05x}", place.base), GuestPhysAddr(place.base), place.size,
                                  m_layout.ram_offset + place.base, 2, access);
  }
}

void I440fx::config_written(unsigned offset, unsigned size) {
  if (offset <= spec::kPam6 && offset + size > spec::kPam0) update_pam();
  if (offset > spec::kSmram || offset + size <= spec::kSmram) return;
  // D_LCK clears D_OPEN; from then until reset only D_CLS can be written.
  u8 control = static_cast<u8>(read_config(spec::kSmram, 1));
  if (m_state.smram & spec::kLocked) control = (m_state.smram & ~spec::kClosed) | (control & spec::kClosed);
  if (control & spec::kLocked) control &= ~spec::kOpen;
  m_state.smram = control;
  set_config(spec::kSmram, 1, control);
  update_smram();
}

// 3.2.21: G_SMRAME enables SMRAM at all; it then shows in SMM, and with D_OPEN outside too. D_CLS, which hides it from
// data accesses only, is not told from code fetches here: a guest that sets it in SMM still sees SMRAM.
void I440fx::update_smram() {
  const u8 control = m_state.smram;
  const bool visible = (control & spec::kGlobalEnable) && (m_state.smm_active || (control & spec::kOpen)) &&
                       spec::kSmramBase + spec::kSmramSize <= m_layout.below_4g;
  if ((control & spec::kClosed) && m_state.smm_active)
    log(LogItem::Unsupported, "i440fx: SMRAM closed to data accesses (D_CLS) inside SMM");
  if (visible == smram_visible()) return;
  if (visible) {
    m_smram_mapping = m_memory.map_ram("smram", GuestPhysAddr(spec::kSmramBase), spec::kSmramSize,
                                       m_layout.ram_offset + spec::kSmramBase, 3);
  } else {
    m_memory.unmap(m_smram_mapping);
    m_smram_mapping = 0;
  }
}

void I440fx::set_smm(bool active) {
  if (m_state.smm_active == active) return;
  m_state.smm_active = active;
  update_smram();
}

void I440fx::reset(ResetKind) {
  reset_config();
  m_state = {.smram = spec::kSmramDefault};
  update_pam();
  update_smram();
}

void I440fx::visit(Archive& archive) {
  auto& [smm_active, smram] = m_state;
  visit_config(archive);
  archive("smm_active", smm_active)("smram", smram);
  if (!archive.loading()) return;
  update_pam();
  update_smram();
}

}  // namespace vellum
