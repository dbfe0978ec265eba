// Turns the VGA's registers and display memory into pixels, as its CRTC, serialisers, attribute controller and DAC do.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "devices/screen_source.h"
#include "devices/vga_memory.h"
#include "devices/vga_registers.h"
#include "devices/virtual_clock.h"
#include "mmu/address_space.h"

namespace vellum {

// Sources: IBM Personal System/2 Hardware Interface Technical Reference, Video Subsystem; FreeVGA; Bochs "VBE Display HOWTO".
//
// A frame of a VGA mode has a pixel for each dot and each scan line that the monitor gets: 720x400 in 80-column text, 640x400 in
// mode 13h. One of a DISPI mode has its pixels. The frame is a function of registers, display memory and virtual time (blinking),
// as they are at the time of refresh(): what software changes while a frame is being scanned out is not seen.
//
// Display memory is looked at page by page: what was not written since the last refresh() is not converted again.
class VgaRenderer {
 public:
  VgaRenderer(const VgaRegisters& registers, const VgaMemory& memory, AddressSpace& space, u64 vram_offset, const VirtualClock& clock)
      : m_registers(registers), m_memory(memory), m_space(space), m_vram_offset(vram_offset), m_clock(clock) {}

  // See ScreenSource.
  std::span<const ScreenRectangle> refresh();
  const ScreenFrame& frame() const { return m_frame; }

 private:
  enum class Kind : u8 { Blank, Text, Graphics, Planar, Packed };  // Planar and Packed are DISPI's
  // Everything but display memory that a frame depends on.
  struct Settings {
    Kind kind = Kind::Blank;
    u32 width = 0, height = 0;
    double pixel_aspect = 1;
    u32 fill = 0;  // Blank: the one colour
    // Text and graphics
    unsigned columns = 0;            // characters of 8 or 9 dots
    unsigned dots = 8;               // of a character
    unsigned dot_repeat = 1;         // 2: the dot clock is halved
    u16 start = 0, row_offset = 0;   // of the address counter
    u8 byte_panning = 0, dot_panning = 0;
    bool panning_stops = false;      // at the split
    unsigned split = 0;              // the first line that shows address 0; beyond the height: none
    u8 preset_row = 0, last_row = 0; // of the row scan counter
    unsigned line_repeat = 1;        // scan lines for a step of the row scan counter
    u8 address_mode = 0, underline = 0;  // CRTC Mode Control, Underline Location
    u8 shift_mode = 0;               // 0 planar, 1 interleaved, 2 and 3 eight bits
    bool wide_pixels = false;        // two nibbles make a pixel of two dots
    bool line_graphics = false, blinking = false;
    bool blink_shown = true, cursor_shown = false;
    u16 cursor_address = 0;
    u8 cursor_start = 0, cursor_end = 0, cursor_skew = 0;
    std::array<u16, 2> fonts{};      // in plane 2, by bit 3 of the attribute
    // DISPI
    u32 bits_per_pixel = 0, line_start = 0, pitch = 0;  // bytes; of one plane in Planar
    std::array<u32, 256> colors{};   // by pixel value
    bool operator==(const Settings&) const = default;
  };
  // What the CRTC's counters hold in a line.
  struct Line {
    u16 counter = 0;
    u8 row = 0;
    bool after_split = false;
  };

  Settings read_settings() const;
  void read_vga_settings(Settings& settings) const;
  void read_dispi_settings(Settings& settings) const;
  void collect_written(const Settings& settings);
  bool written(u64 begin, u64 end) const;  // bytes of display memory
  bool line_written(const Settings& settings, const Line& line) const;
  u16 plane_address(const Settings& settings, u16 counter, u8 row) const;
  void draw_vga(const Settings& settings, bool all);
  void draw_text_line(const Settings& settings, const Line& line);
  void draw_graphics_line(const Settings& settings, const Line& line);
  void draw_dispi(const Settings& settings, bool all);
  void draw_planar_line(const Settings& settings, u32 offset);
  void draw_packed_line(const Settings& settings, const u8* source);
  // Puts the line that begins at `pixels` into the frame where it differs.
  void store_line(u32 y, const u32* pixels);
  void store_packed32_line(u32 y, const u8* source);
  // Pixels `first` to `end` - 1 of line y are new.
  void note_changed(u32 y, u32 first, u32 end);

  // Wiring.
  const VgaRegisters& m_registers;
  const VgaMemory& m_memory;
  AddressSpace& m_space;
  u64 m_vram_offset;
  const VirtualClock& m_clock;
  // Derived.
  Settings m_settings;
  ScreenFrame m_frame;
  std::vector<ScreenRectangle> m_changed;
  std::vector<u32> m_line;         // dots of one line, with what panning shifts out
  std::vector<bool> m_written;     // pages from m_first_page
  u64 m_first_page = 0;
};

}  // namespace vellum
