// The VGA's register files and what follows from them: modes, addresses, retrace timing.
#pragma once

#include <array>
#include <optional>

#include "devices/virtual_clock.h"
#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

// IBM Personal System/2 Hardware Interface Technical Reference, Video Subsystem (register and bit names are its).
namespace vga {
inline constexpr unsigned kSequencerCount = 8, kCrtcCount = 0x19, kGraphicsCount = 9, kAttributeCount = 0x15;
// Sequencer
inline constexpr unsigned kSeqReset = 0, kSeqClocking = 1, kSeqMapMask = 2, kSeqCharacterMap = 3, kSeqMemoryMode = 4;
inline constexpr u8 kMemoryExtended = 0x02, kMemoryOddEvenOff = 0x04, kMemoryChain4 = 0x08;
// Graphics controller
inline constexpr unsigned kGfxSetReset = 0, kGfxEnableSetReset = 1, kGfxColorCompare = 2, kGfxRotate = 3,
                          kGfxReadMap = 4, kGfxMode = 5, kGfxMiscellaneous = 6, kGfxColorDontCare = 7, kGfxBitMask = 8;
// CRTC
inline constexpr unsigned kCrtcHorizontalTotal = 0x00, kCrtcHorizontalDisplayEnd = 0x01, kCrtcOverflow = 0x07,
                          kCrtcPresetRowScan = 0x08, kCrtcMaximumScanLine = 0x09, kCrtcCursorStart = 0x0a,
                          kCrtcCursorEnd = 0x0b, kCrtcStartHigh = 0x0c, kCrtcStartLow = 0x0d, kCrtcCursorHigh = 0x0e,
                          kCrtcCursorLow = 0x0f, kCrtcVerticalRetraceStart = 0x10, kCrtcVerticalRetraceEnd = 0x11,
                          kCrtcVerticalDisplayEnd = 0x12, kCrtcOffset = 0x13, kCrtcUnderline = 0x14,
                          kCrtcVerticalTotal = 0x06, kCrtcModeControl = 0x17, kCrtcLineCompare = 0x18;
// Attribute controller; 0 to 15 are the palette
inline constexpr unsigned kAttributeMode = 0x10, kAttributeOverscan = 0x11, kAttributePlanes = 0x12, kAttributePanning = 0x13,
                          kAttributeColorSelect = 0x14;
// Bochs VBE extension (DISPI interface, index port 1CEh, data port 1CFh)
inline constexpr unsigned kDispiId = 0, kDispiXres = 1, kDispiYres = 2, kDispiBpp = 3, kDispiEnable = 4, kDispiBank = 5,
                          kDispiVirtualWidth = 6, kDispiVirtualHeight = 7, kDispiXoffset = 8, kDispiYoffset = 9,
                          kDispiMemory64K = 10, kDispiCount = 11;
inline constexpr u16 kDispiEnabled = 0x01, kDispiGetCapabilities = 0x02, kDispi8BitDac = 0x20,
                     kDispiLinearFrameBuffer = 0x40, kDispiNoClearMemory = 0x80;
}  // namespace vga

// Timing of one frame, in ticks from its start at the first displayed line.
struct VgaFrameTiming {
  Ticks frame = 0, line = 0;
  Ticks line_display = 0;           // displayed part of a line
  Ticks vertical_display = 0;       // displayed part of the frame
  Ticks retrace_start = 0, retrace_end = 0;  // vertical retrace
};

// The registers alone: indexed access, nothing of memory or the bus.
class VgaRegisters {
 public:
  explicit VgaRegisters(const VirtualClock& clock, u32 vram_size) : m_clock(clock), m_vram_size(vram_size) {}

  void reset();
  void visit(Archive& archive);

  // Ports 3B0h to 3DFh (absolute numbers), one byte. Ports of the colour or monochrome block that is switched off by
  // the Miscellaneous Output register read all-ones.
  u8 read(u16 port);
  void write(u16 port, u8 value);

  // DISPI registers. write_dispi() returns true when enabling a mode asks for display memory to be cleared.
  u16 read_dispi(u16 index) const;
  bool write_dispi(u16 index, u16 value);
  u16 dispi_index() const { return m_state.dispi_index; }
  void set_dispi_index(u16 index) { m_state.dispi_index = index; }

  u8 sequencer(unsigned index) const { return m_state.sequencer[index]; }
  u8 crtc(unsigned index) const { return m_state.crtc[index]; }
  u8 graphics(unsigned index) const { return m_state.graphics[index]; }
  u8 attribute(unsigned index) const { return m_state.attribute[index]; }
  u8 miscellaneous() const { return m_state.miscellaneous; }
  u8 dac_mask() const { return m_state.dac_mask; }
  // One DAC entry as 8-bit red, green and blue in 0xRRGGBB.
  u32 palette(u8 index) const;

  bool dispi_enabled() const { return m_state.dispi[vga::kDispiEnable] & vga::kDispiEnabled; }
  u16 dispi(unsigned index) const { return m_state.dispi[index]; }
  bool graphics_mode() const { return dispi_enabled() || (m_state.graphics[vga::kGfxMiscellaneous] & 1); }
  bool screen_off() const { return m_state.sequencer[vga::kSeqClocking] & 0x20; }
  // The attribute controller's palette address source: the screen shows the border colour while it is clear.
  bool palette_enabled() const { return m_state.attribute_index & 0x20; }

  // CRTC values that are spread over several registers.
  unsigned columns() const { return m_state.crtc[vga::kCrtcHorizontalDisplayEnd] + 1u; }
  unsigned displayed_lines() const;
  unsigned line_compare() const;
  unsigned character_height() const { return (m_state.crtc[vga::kCrtcMaximumScanLine] & 0x1fu) + 1; }
  u16 start_address() const;
  u16 cursor_address() const;
  // The CRTC's address counter for a row start, stepped by `offset()` per character row.
  unsigned row_offset() const { return m_state.crtc[vga::kCrtcOffset] * 2u; }
  // Turns a value of the address counter into a display memory address (byte, word or doubleword mode).
  u16 memory_address(u16 counter) const;

  VgaFrameTiming timing() const;
  u8 input_status_1() const;  // bits 0 and 3 from the position in the frame

 private:
  u8 read_dac_data();
  void write_dac_data(u8 value);

  // Wiring.
  const VirtualClock& m_clock;
  // Configuration.
  u32 m_vram_size;
  // Guest-visible state.
  struct State {
    u8 miscellaneous = 0, feature_control = 0;
    u8 sequencer_index = 0, crtc_index = 0, graphics_index = 0, attribute_index = 0;
    bool attribute_data_next = false;  // the flip-flop of port 3C0h
    std::array<u8, vga::kSequencerCount> sequencer{};
    std::array<u8, vga::kCrtcCount> crtc{};
    std::array<u8, vga::kGraphicsCount> graphics{};
    std::array<u8, vga::kAttributeCount> attribute{};
    u8 dac_mask = 0xff, dac_read_index = 0, dac_write_index = 0, dac_component = 0;
    bool dac_reading = false;
    std::array<u8, 3> dac_latch{};
    std::array<u8, 768> dac{};
    u16 dispi_index = 0;
    std::array<u16, vga::kDispiCount> dispi{};
  } m_state;
};

}  // namespace vellum
