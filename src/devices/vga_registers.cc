// VGA register files: ports, masks, CRTC arithmetic, frame timing, and the DISPI registers.
#include "devices/vga_registers.h"

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace spec {
namespace {
// Bits that exist in each register (IBM PS/2 Technical Reference, Video Subsystem, register descriptions).
constexpr std::array<u8, vga::kSequencerCount> kSequencerMask = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff};
constexpr std::array<u8, vga::kGraphicsCount> kGraphicsMask = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
constexpr u8 attribute_mask(unsigned index) {
  if (index < 0x10) return 0x3f;
  constexpr u8 kMasks[] = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
  return kMasks[index - 0x10];
}
constexpr u8 kMiscColor = 0x01;          // CRTC at 3Dxh rather than 3Bxh
constexpr u8 kCrtcProtect = 0x80;        // in Vertical Retrace End: registers 0-7 cannot be written
constexpr u8 kOverflowLineCompare = 0x10;  // the one bit of them that always can
constexpr u64 kDotClocks[] = {25'175'000, 28'322'000};
// DISPI (Bochs "VBE Display HOWTO"): versions B0C0h to B0C5h, and what this adapter can show at most.
constexpr u16 kDispiIdFirst = 0xb0c0, kDispiIdLast = 0xb0c5;
constexpr u16 kMaximumXres = 2560, kMaximumYres = 1600, kMaximumBpp = 32;
constexpr u16 kBankSize64K = 16;         // log2 of a bank's size
constexpr bool is_depth(u16 bits) { return bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32; }
}  // namespace
}  // namespace spec

void VgaRegisters::reset() {
  m_state = {};
  m_state.dispi[vga::kDispiId] = spec::kDispiIdLast;
}

void VgaRegisters::visit(Archive& archive) {
  auto& [miscellaneous, feature_control, sequencer_index, crtc_index, graphics_index, attribute_index,
         attribute_data_next, sequencer, crtc, graphics, attribute, dac_mask, dac_read_index, dac_write_index,
         dac_component, dac_reading, dac_latch, dac, dispi_index, dispi] = m_state;
  archive("miscellaneous", miscellaneous)("feature_control", feature_control);
  archive("sequencer_index", sequencer_index)("crtc_index", crtc_index)("graphics_index", graphics_index);
  archive("attribute_index", attribute_index)("attribute_data_next", attribute_data_next);
  archive("sequencer", sequencer)("crtc", crtc)("graphics", graphics)("attribute", attribute);
  archive("dac_mask", dac_mask)("dac_read_index", dac_read_index)("dac_write_index", dac_write_index);
  archive("dac_component", dac_component)("dac_reading", dac_reading)("dac_latch", dac_latch)("dac", dac);
  archive("dispi_index", dispi_index)("dispi", dispi);
  archive.require(dac_component < 3, "DAC component");
  archive.require(dispi[vga::kDispiXres] <= spec::kMaximumXres && dispi[vga::kDispiYres] <= spec::kMaximumYres &&
                      (dispi[vga::kDispiBpp] == 0 || spec::is_depth(dispi[vga::kDispiBpp])),
                  "DISPI mode");
  archive.require(!(dispi[vga::kDispiEnable] & vga::kDispiEnabled) ||
                      (dispi[vga::kDispiXres] && dispi[vga::kDispiYres] && dispi[vga::kDispiBpp] >= 4 &&
                       dispi[vga::kDispiVirtualWidth] >= dispi[vga::kDispiXres]),
                  "DISPI mode that is enabled");
}

u8 VgaRegisters::read(u16 port) {
  State& s = m_state;
  // Of the two places for CRTC and status only the one that Miscellaneous Output selects answers.
  if ((port >= 0x3b0 && port <= 0x3bb && (s.miscellaneous & spec::kMiscColor)) ||
      (port >= 0x3d0 && port <= 0x3df && !(s.miscellaneous & spec::kMiscColor)))
    return 0xff;
  switch (port) {
    case 0x3b4:
    case 0x3d4: return s.crtc_index;
    case 0x3b5:
    case 0x3d5: return s.crtc_index < vga::kCrtcCount ? s.crtc[s.crtc_index] : 0;
    case 0x3ba:
    case 0x3da:
      s.attribute_data_next = false;
      return input_status_1();
    case 0x3c0: return s.attribute_index;
    case 0x3c1: {
      const unsigned index = s.attribute_index & 0x1f;
      return index < vga::kAttributeCount ? s.attribute[index] : 0;
    }
    case 0x3c2: return 0x10;  // input status 0: switch sense, a colour monitor is there
    case 0x3c4: return s.sequencer_index;
    case 0x3c5: return s.sequencer_index < vga::kSequencerCount ? s.sequencer[s.sequencer_index] : 0;
    case 0x3c6: return s.dac_mask;
    case 0x3c7: return s.dac_reading ? 3 : 0;
    case 0x3c8: return s.dac_write_index;
    case 0x3c9: return read_dac_data();
    case 0x3ca: return s.feature_control;
    case 0x3cc: return s.miscellaneous;
    case 0x3ce: return s.graphics_index;
    case 0x3cf: return s.graphics_index < vga::kGraphicsCount ? s.graphics[s.graphics_index] : 0;
    default: return 0xff;
  }
}

void VgaRegisters::write(u16 port, u8 value) {
  State& s = m_state;
  if ((port >= 0x3b0 && port <= 0x3bb && (s.miscellaneous & spec::kMiscColor)) ||
      (port >= 0x3d0 && port <= 0x3df && !(s.miscellaneous & spec::kMiscColor)))
    return;
  switch (port) {
    case 0x3b4:
    case 0x3d4: s.crtc_index = value; break;
    case 0x3b5:
    case 0x3d5:
      if (s.crtc_index >= vga::kCrtcCount) break;
      if (s.crtc_index <= 7 && (s.crtc[vga::kCrtcVerticalRetraceEnd] & spec::kCrtcProtect)) {
        if (s.crtc_index == vga::kCrtcOverflow)
          s.crtc[vga::kCrtcOverflow] = static_cast<u8>((s.crtc[vga::kCrtcOverflow] & ~spec::kOverflowLineCompare) |
                                                       (value & spec::kOverflowLineCompare));
        break;
      }
      s.crtc[s.crtc_index] = value;
      break;
    case 0x3ba:
    case 0x3da: s.feature_control = value & 0x0b; break;
    case 0x3c0:
      if (!s.attribute_data_next) {
        s.attribute_index = value & 0x3f;
      } else if (const unsigned index = s.attribute_index & 0x1f; index < vga::kAttributeCount) {
        s.attribute[index] = value & spec::attribute_mask(index);
      }
      s.attribute_data_next = !s.attribute_data_next;
      break;
    case 0x3c2: s.miscellaneous = value & 0xef; break;
    case 0x3c4: s.sequencer_index = value; break;
    case 0x3c5:
      if (s.sequencer_index < vga::kSequencerCount)
        s.sequencer[s.sequencer_index] = value & spec::kSequencerMask[s.sequencer_index];
      break;
    case 0x3c6: s.dac_mask = value; break;
    case 0x3c7:
      s.dac_read_index = value;
      s.dac_component = 0;
      s.dac_reading = true;
      break;
    case 0x3c8:
      s.dac_write_index = value;
      s.dac_component = 0;
      s.dac_reading = false;
      break;
    case 0x3c9: write_dac_data(value); break;
    case 0x3ce: s.graphics_index = value; break;
    case 0x3cf:
      if (s.graphics_index < vga::kGraphicsCount)
        s.graphics[s.graphics_index] = value & spec::kGraphicsMask[s.graphics_index];
      break;
    default: break;
  }
}

u8 VgaRegisters::read_dac_data() {
  State& s = m_state;
  const u8 value = s.dac[3u * s.dac_read_index + s.dac_component];
  if (++s.dac_component == 3) {
    s.dac_component = 0;
    ++s.dac_read_index;
  }
  return value;
}

void VgaRegisters::write_dac_data(u8 value) {
  State& s = m_state;
  const bool wide = s.dispi[vga::kDispiEnable] & vga::kDispi8BitDac;
  s.dac_latch[s.dac_component] = wide ? value : value & 0x3f;
  // The three values reach the palette together (Video DAC, "programming considerations").
  if (++s.dac_component < 3) return;
  s.dac_component = 0;
  std::ranges::copy(s.dac_latch, s.dac.begin() + 3 * s.dac_write_index);
  ++s.dac_write_index;
}

u32 VgaRegisters::palette(u8 index) const {
  const bool wide = m_state.dispi[vga::kDispiEnable] & vga::kDispi8BitDac;
  u32 color = 0;
  for (unsigned i = 0; i < 3; ++i) {
    const u32 value = m_state.dac[3u * index + i];
    color = color << 8 | (wide ? value : (value << 2 | value >> 4) & 0xff);
  }
  return color;
}

unsigned VgaRegisters::displayed_lines() const {
  const u8 overflow = m_state.crtc[vga::kCrtcOverflow];
  return (m_state.crtc[vga::kCrtcVerticalDisplayEnd] | (overflow & 0x02u) << 7 | (overflow & 0x40u) << 3) + 1;
}

unsigned VgaRegisters::line_compare() const {
  return m_state.crtc[vga::kCrtcLineCompare] | (m_state.crtc[vga::kCrtcOverflow] & 0x10u) << 4 |
         (m_state.crtc[vga::kCrtcMaximumScanLine] & 0x40u) << 3;
}

u16 VgaRegisters::start_address() const {
  const unsigned byte_panning = m_state.crtc[vga::kCrtcPresetRowScan] >> 5 & 3;
  return static_cast<u16>((m_state.crtc[vga::kCrtcStartHigh] << 8 | m_state.crtc[vga::kCrtcStartLow]) + byte_panning);
}

u16 VgaRegisters::cursor_address() const {
  return static_cast<u16>(m_state.crtc[vga::kCrtcCursorHigh] << 8 | m_state.crtc[vga::kCrtcCursorLow]);
}

u16 VgaRegisters::memory_address(u16 counter) const {
  // CRTC Mode Control and Underline Location, table "internal memory address counter wiring".
  if (m_state.crtc[vga::kCrtcUnderline] & 0x40) return static_cast<u16>(counter << 2 | (counter >> 12 & 3));
  const u8 mode = m_state.crtc[vga::kCrtcModeControl];
  if (mode & 0x40) return counter;
  return static_cast<u16>(counter << 1 | (counter >> (mode & 0x20 ? 15 : 13) & 1));
}

VgaFrameTiming VgaRegisters::timing() const {
  const State& s = m_state;
  const u8 overflow = s.crtc[vga::kCrtcOverflow], clocking = s.sequencer[vga::kSeqClocking];
  const u64 clock = spec::kDotClocks[(s.miscellaneous >> 2 & 3) == 1 ? 1 : 0];
  const u64 dots = (clocking & 1 ? 8 : 9) * (clocking & 8 ? 2 : 1);
  const auto ticks = [&](u64 characters) { return multiply_divide(characters * dots, kTicksPerSecond, clock); };
  VgaFrameTiming t;
  t.line = ticks(s.crtc[vga::kCrtcHorizontalTotal] + 5u);
  t.line_display = std::min(ticks(columns()), t.line);
  const u64 doubling = s.crtc[vga::kCrtcModeControl] & 4 ? 2 : 1;  // the vertical counter steps every second line
  const u64 total = (s.crtc[vga::kCrtcVerticalTotal] | (overflow & 1u) << 8 | (overflow & 0x20u) << 4) + 2u;
  const u64 display = std::min<u64>(displayed_lines(), total);
  const u64 start = std::min<u64>(
      s.crtc[vga::kCrtcVerticalRetraceStart] | (overflow & 4u) << 6 | (overflow & 0x80u) << 2, total);
  u64 length = (s.crtc[vga::kCrtcVerticalRetraceEnd] - start) & 0xf;
  if (length == 0) length = 16;
  t.frame = t.line * total * doubling;
  t.vertical_display = t.line * display * doubling;
  t.retrace_start = t.line * start * doubling;
  t.retrace_end = std::min(t.frame, t.retrace_start + t.line * length * doubling);
  return t;
}

u8 VgaRegisters::input_status_1() const {
  const VgaFrameTiming t = timing();
  const Ticks position = m_clock.now() % t.frame;
  const bool retrace = position >= t.retrace_start && position < t.retrace_end;
  const bool blank = position >= t.vertical_display || position % t.line >= t.line_display;
  return static_cast<u8>((retrace ? 8 : 0) | (blank || retrace ? 1 : 0));
}

u16 VgaRegisters::read_dispi(u16 index) const {
  if (index >= vga::kDispiCount) return 0;
  if (m_state.dispi[vga::kDispiEnable] & vga::kDispiGetCapabilities) {
    if (index == vga::kDispiXres) return spec::kMaximumXres;
    if (index == vga::kDispiYres) return spec::kMaximumYres;
    if (index == vga::kDispiBpp) return spec::kMaximumBpp;
  }
  if (index == vga::kDispiMemory64K) return static_cast<u16>(m_vram_size >> spec::kBankSize64K);
  return m_state.dispi[index];
}

bool VgaRegisters::write_dispi(u16 index, u16 value) {
  auto& dispi = m_state.dispi;
  const bool enabled = dispi_enabled();
  const u32 bits = dispi[vga::kDispiBpp] == 15 ? 16 : std::max<u32>(dispi[vga::kDispiBpp], 4);
  switch (index) {
    case vga::kDispiId:
      if (value >= spec::kDispiIdFirst && value <= spec::kDispiIdLast) dispi[index] = value;
      break;
    case vga::kDispiXres:
      if (!enabled && value <= spec::kMaximumXres && value % 8 == 0) dispi[index] = value;
      break;
    case vga::kDispiYres:
      if (!enabled && value <= spec::kMaximumYres) dispi[index] = value;
      break;
    case vga::kDispiBpp:
      if (value == 0) value = 8;
      if (!enabled && spec::is_depth(value)) dispi[index] = value;
      break;
    case vga::kDispiEnable: {
      if ((value & vga::kDispiEnabled) && !enabled) {
        const u64 bytes = u64{dispi[vga::kDispiXres]} * dispi[vga::kDispiYres] * bits / 8;
        if (bytes == 0 || dispi[vga::kDispiBpp] == 0 || bytes > m_vram_size) {
          log(LogItem::GuestErrors, "DISPI mode {}x{}x{} cannot be shown", dispi[vga::kDispiXres],
              dispi[vga::kDispiYres], dispi[vga::kDispiBpp]);
          value &= static_cast<u16>(~vga::kDispiEnabled);
        } else {
          dispi[vga::kDispiVirtualWidth] = dispi[vga::kDispiXres];
          dispi[vga::kDispiXoffset] = dispi[vga::kDispiYoffset] = 0;
          dispi[vga::kDispiVirtualHeight] =
              static_cast<u16>(std::min<u64>(u64{m_vram_size} * 8 / (u64{dispi[vga::kDispiXres]} * bits), 0xffff));
        }
      }
      dispi[vga::kDispiBank] = 0;
      const bool clear = (value & vga::kDispiEnabled) && !enabled && !(value & vga::kDispiNoClearMemory);
      dispi[index] = value;
      return clear;
    }
    case vga::kDispiBank: dispi[index] = value & static_cast<u16>((m_vram_size >> spec::kBankSize64K) - 1); break;
    case vga::kDispiVirtualWidth:
      // Lines must hold the visible ones, and the visible ones must fit.
      if (enabled && value >= dispi[vga::kDispiXres] &&
          u64{value} * bits / 8 * dispi[vga::kDispiYres] <= m_vram_size) {
        dispi[index] = value & 0xfff8;
        dispi[vga::kDispiVirtualHeight] = static_cast<u16>(
            std::min<u64>(u64{m_vram_size} * 8 / (u64{dispi[vga::kDispiVirtualWidth]} * bits), 0xffff));
      }
      break;
    case vga::kDispiXoffset:
      if (enabled && value + dispi[vga::kDispiXres] <= dispi[vga::kDispiVirtualWidth]) dispi[index] = value;
      break;
    case vga::kDispiYoffset:
      if (enabled && value + dispi[vga::kDispiYres] <= dispi[vga::kDispiVirtualHeight]) dispi[index] = value;
      break;
    default: break;
  }
  return false;
}

}  // namespace vellum
