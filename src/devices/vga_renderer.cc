// Conversion of display memory to pixels, line by line.
#include "devices/vga_renderer.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace vellum {

namespace spec {
namespace {
// Cursor and characters blink by the vertical sync: 8 frames on and 8 off, and 16 on and 16 off.
constexpr u64 kCursorBlinkFrames = 8, kCharacterBlinkFrames = 16;
// What a frame's size is while there is none to know: that of the mode in which a PC starts.
constexpr u32 kFirstWidth = 720, kFirstHeight = 400;
constexpr u8 kShiftLines9 = 0x01, kHalfClock = 0x08;
constexpr u8 kNoCursor = 0x20, kSyncEnabled = 0x80, kUnderlinedMask = 0x77, kUnderlined = 0x01;
constexpr u32 kPlaneSize = 0x10000;  // bytes of one plane that the CRTC can address
}  // namespace
}  // namespace spec

namespace {

// Byte i of the result is bit 7 - i of the argument: one plane's part of eight pixels.
constexpr auto kSpread1 = [] {
  std::array<u64, 256> table{};
  for (unsigned value = 0; value < 256; ++value)
    for (unsigned i = 0; i < 8; ++i) table[value] |= u64{value >> (7 - i) & 1} << (8 * i);
  return table;
}();
// Byte i is the i-th two-bit field from the top: four pixels.
constexpr auto kSpread2 = [] {
  std::array<u32, 256> table{};
  for (unsigned value = 0; value < 256; ++value)
    for (unsigned i = 0; i < 4; ++i) table[value] |= (value >> (6 - 2 * i) & 3) << (8 * i);
  return table;
}();

constexpr u64 kEveryByte = 0x0101010101010101;

// The eight nibbles that the serialisers give out for one character clock, the first in the lowest byte.
u64 serialise(u8 shift_mode, u32 planes) {
  const auto plane = [&](unsigned number) { return planes >> (8 * number) & 0xff; };
  if (shift_mode >= 2) {
    u64 nibbles = 0;
    for (unsigned i = 0; i < 4; ++i) nibbles |= u64{plane(i) >> 4 | (plane(i) & 0xf) << 8} << (16 * i);
    return nibbles;
  }
  if (shift_mode == 1)
    return u64{kSpread2[plane(0)] | kSpread2[plane(2)] << 2} | u64{kSpread2[plane(1)] | kSpread2[plane(3)] << 2} << 32;
  return kSpread1[plane(0)] | kSpread1[plane(1)] << 1 | kSpread1[plane(2)] << 2 | kSpread1[plane(3)] << 3;
}

// What the attribute controller makes of a pixel of four planes.
u32 attribute_color(const VgaRegisters& r, unsigned value) {
  const unsigned select = r.attribute(vga::kAttributeColorSelect);
  unsigned index = r.attribute(value & r.attribute(vga::kAttributePlanes));
  if (r.attribute(vga::kAttributeMode) & 0x80) index = (index & 0xf) | (select & 3) << 4;
  index = (index & 0x3f) | (select & 0xc) << 4;
  return r.palette(static_cast<u8>(index & r.dac_mask()));
}

constexpr u32 widen5(u32 value) { return value << 3 | value >> 2; }
constexpr u32 widen6(u32 value) { return value << 2 | value >> 4; }

}  // namespace

// ---- Settings

VgaRenderer::Settings VgaRenderer::read_settings() const {
  Settings s;
  if (m_registers.dispi_enabled()) read_dispi_settings(s);
  else read_vga_settings(s);
  const bool no_sync = !m_registers.dispi_enabled() && !(m_registers.crtc(vga::kCrtcModeControl) & spec::kSyncEnabled);
  if (no_sync || m_registers.screen_off() || !m_registers.palette_enabled()) {
    // The monitor keeps its mode: software blanks the screen while it sets a new one up.
    Settings blank;
    blank.width = m_frame.width ? m_frame.width : spec::kFirstWidth;
    blank.height = m_frame.height ? m_frame.height : spec::kFirstHeight;
    blank.pixel_aspect = m_frame.width ? m_frame.pixel_aspect : 4.0 * blank.height / (3.0 * blank.width);
    // Without the palette's address source the border's colour is everywhere.
    if (!no_sync && !m_registers.screen_off() && s.kind != Kind::Packed)
      blank.fill = m_registers.palette(m_registers.attribute(vga::kAttributeOverscan) & m_registers.dac_mask());
    return blank;
  }
  return s;
}

void VgaRenderer::read_vga_settings(Settings& s) const {
  const VgaRegisters& r = m_registers;
  const u8 clocking = r.sequencer(vga::kSeqClocking), control = r.crtc(vga::kCrtcModeControl);
  const u8 attribute_mode = r.attribute(vga::kAttributeMode), maximum_scan_line = r.crtc(vga::kCrtcMaximumScanLine);
  s.kind = r.graphics_mode() ? Kind::Graphics : Kind::Text;
  s.columns = r.columns();
  s.dots = s.kind == Kind::Text && !(clocking & spec::kShiftLines9) ? 9 : 8;
  s.dot_repeat = clocking & spec::kHalfClock ? 2 : 1;
  const unsigned line_doubling = control & 4 ? 2 : 1;
  s.width = s.columns * s.dots * s.dot_repeat;
  s.height = r.displayed_lines() * line_doubling;
  // A VGA's monitor spreads every mode over the same 4:3.
  s.pixel_aspect = 4.0 * s.height / (3.0 * s.width);

  s.start = static_cast<u16>(r.crtc(vga::kCrtcStartHigh) << 8 | r.crtc(vga::kCrtcStartLow));
  s.row_offset = static_cast<u16>(r.row_offset());
  s.byte_panning = r.crtc(vga::kCrtcPresetRowScan) >> 5 & 3;
  s.preset_row = r.crtc(vga::kCrtcPresetRowScan) & 0x1f;
  s.last_row = maximum_scan_line & 0x1f;
  s.line_repeat = (maximum_scan_line & 0x80 ? 2 : 1) * line_doubling;
  s.split = (r.line_compare() + 1) * line_doubling;
  s.address_mode = control & 0x63;
  s.underline = r.crtc(vga::kCrtcUnderline) & 0x5f;
  s.wide_pixels = attribute_mode & 0x40;
  s.panning_stops = attribute_mode & 0x20;
  s.blinking = attribute_mode & 0x08;
  s.line_graphics = attribute_mode & 0x04;
  const u8 panning = r.attribute(vga::kAttributePanning);
  // With nine dots 8 stands for none, and 0 to 7 for one more than they say.
  if (s.dots == 9) s.dot_panning = panning >= 8 ? 0 : static_cast<u8>(panning + 1);
  else s.dot_panning = panning & 7;

  const u64 frames = m_clock.now() / r.timing().frame;
  if (s.kind == Kind::Text) {
    const u8 start = r.crtc(vga::kCrtcCursorStart), end = r.crtc(vga::kCrtcCursorEnd);
    s.cursor_shown = !(start & spec::kNoCursor) && frames / spec::kCursorBlinkFrames % 2 == 0;
    if (s.cursor_shown) {
      s.cursor_address = r.cursor_address();
      s.cursor_start = start & 0x1f;
      s.cursor_end = end & 0x1f;
      s.cursor_skew = end >> 5 & 3;
    }
    const u8 maps = r.sequencer(vga::kSeqCharacterMap);
    // Tables of 8 KiB, of which the upper four lie between the lower ones.
    const auto font = [](unsigned low, unsigned high) { return static_cast<u16>(low * 0x4000 + high * 0x2000); };
    s.fonts = {font(maps & 3, maps >> 4 & 1), font(maps >> 2 & 3, maps >> 5 & 1)};
  } else {
    s.shift_mode = r.graphics(vga::kGfxMode) >> 5 & 3;
  }
  if (s.blinking) s.blink_shown = frames / spec::kCharacterBlinkFrames % 2 == 0;

  const unsigned planes = r.attribute(vga::kAttributePlanes);
  for (unsigned value = 0; value < 256; ++value)
    s.colors[value] = s.wide_pixels ? r.palette(value & (planes << 4 | planes) & r.dac_mask()) : attribute_color(r, value & 0xf);
}

void VgaRenderer::read_dispi_settings(Settings& s) const {
  const VgaRegisters& r = m_registers;
  s.width = r.dispi(vga::kDispiXres);
  s.height = r.dispi(vga::kDispiYres);
  // The low resolutions of DOS filled a 4:3 monitor; others have square pixels.
  if (s.width * 5 == s.height * 8 && s.width <= 640) s.pixel_aspect = 4.0 * s.height / (3.0 * s.width);
  const u32 width = r.dispi(vga::kDispiVirtualWidth), x = r.dispi(vga::kDispiXoffset), y = r.dispi(vga::kDispiYoffset);
  s.bits_per_pixel = r.dispi(vga::kDispiBpp);
  if (s.bits_per_pixel == 4) {
    s.kind = Kind::Planar;
    s.pitch = width / 8;
    s.line_start = y * s.pitch + x / 8;
    s.dot_panning = x & 7;
    for (unsigned value = 0; value < 16; ++value) s.colors[value] = attribute_color(r, value);
    return;
  }
  s.kind = Kind::Packed;
  const u32 bytes = (s.bits_per_pixel + 7) / 8;
  s.pitch = width * bytes;
  s.line_start = y * s.pitch + x * bytes;
  if (s.bits_per_pixel == 8)
    for (unsigned value = 0; value < 256; ++value) s.colors[value] = r.palette(static_cast<u8>(value & r.dac_mask()));
}

// ---- What was written

// Notes which pages of what is shown were written since they were last looked at, and has the next store to each told of.
void VgaRenderer::collect_written(const Settings& s) {
  u64 begin = 0, end = 0;
  switch (s.kind) {
    case Kind::Blank: break;
    case Kind::Text:
    case Kind::Graphics: end = 4 * spec::kPlaneSize; break;
    case Kind::Planar:
      begin = 4 * u64{s.line_start};
      end = begin + 4 * u64{s.pitch} * s.height;
      break;
    case Kind::Packed:
      begin = s.line_start;
      end = begin + u64{s.pitch} * s.height;
      break;
  }
  const u64 last = m_memory.vram().size() / kPageSize;
  m_first_page = std::min(begin / kPageSize, last);
  const u64 pages = std::min((end + kPageSize - 1) / kPageSize, last) - m_first_page;
  m_written.assign(pages, false);
  u64 first_written = pages, last_written = 0;
  for (u64 page = 0; page < pages; ++page) {
    if (m_space.ram().flags(m_vram_offset + (m_first_page + page) * kPageSize) & kPageCleanDisplay) continue;
    m_written[page] = true;
    first_written = std::min(first_written, page);
    last_written = page;
  }
  if (first_written < pages)
    m_space.watch_for_display(m_vram_offset + (m_first_page + first_written) * kPageSize, (last_written - first_written + 1) * kPageSize);
}

bool VgaRenderer::written(u64 begin, u64 end) const {
  for (u64 page = begin / kPageSize; page * kPageSize < end; ++page)
    if (page - m_first_page < m_written.size() && m_written[page - m_first_page]) return true;
  return false;
}

bool VgaRenderer::line_written(const Settings& s, const Line& line) const {
  for (unsigned column = 0; column <= s.columns; ++column) {
    const u64 at = 4 * u64{plane_address(s, static_cast<u16>(line.counter + column), line.row)};
    if (m_written[at / kPageSize]) return true;
  }
  return false;
}

// ---- Drawing

std::span<const ScreenRectangle> VgaRenderer::refresh() {
  m_changed.clear();
  const Settings s = read_settings();
  const bool resized = s.width != m_frame.width || s.height != m_frame.height || s.pixel_aspect != m_frame.pixel_aspect;
  const bool all = !(s == m_settings) || m_frame.pixels.empty();
  m_settings = s;
  if (resized) {
    m_frame.width = s.width;
    m_frame.height = s.height;
    m_frame.pixel_aspect = s.pixel_aspect;
    m_frame.pixels.assign(usize{s.width} * s.height, 0);
  }
  collect_written(s);
  const bool any = all || std::ranges::find(m_written, true) != m_written.end();
  if (any) {
    switch (s.kind) {
      case Kind::Blank:
        m_line.assign(s.width, s.fill);
        for (u32 y = 0; y < s.height; ++y) store_line(y, m_line.data());
        break;
      case Kind::Text:
      case Kind::Graphics: draw_vga(s, all); break;
      case Kind::Planar:
      case Kind::Packed: draw_dispi(s, all); break;
    }
  }
  if (resized) m_changed.assign(1, {0, 0, s.width, s.height});
  return m_changed;
}

void VgaRenderer::store_line(u32 y, const u32* pixels) {
  u32* out = m_frame.pixels.data() + usize{y} * m_frame.width;
  const u32 width = m_frame.width;
  if (std::memcmp(out, pixels, width * sizeof(u32)) == 0) return;
  u32 first = 0, end = width;
  while (out[first] == pixels[first]) ++first;
  while (out[end - 1] == pixels[end - 1]) --end;
  std::memcpy(out + first, pixels + first, (end - first) * sizeof(u32));
  note_changed(y, first, end);
}

// The usual line of a desktop: what video memory has is what is shown, so it is looked at once only.
void VgaRenderer::store_packed32_line(u32 y, const u8* source) {
  u32* out = m_frame.pixels.data() + usize{y} * m_frame.width;
  constexpr u32 kPiece = 32;  // pixels whose differences are summed up, by vectors
  const u32 width = m_frame.width;
  u32 first = width, end = 0;
  // `store` gets a constant number of pixels, so that its loops become vectors.
  const auto store = [&](u32 x, auto count) {
    u32 piece[count.value];
    std::memcpy(piece, source + 4 * usize{x}, sizeof(piece));
    u32 difference = 0;
    for (u32 i = 0; i < count.value; ++i) difference |= (piece[i] &= 0xffffff) ^ out[x + i];
    if (difference == 0) return;
    if (first == width) {
      first = x;
      while (out[first] == piece[first - x]) ++first;
    }
    end = x + count.value;
    while (out[end - 1] == piece[end - 1 - x]) --end;
    std::memcpy(out + x, piece, sizeof(piece));
  };
  u32 x = 0;
  for (; x + kPiece <= width; x += kPiece) store(x, std::integral_constant<u32, kPiece>());
  for (; x < width; ++x) store(x, std::integral_constant<u32, 1>());
  if (end) note_changed(y, first, end);
}

void VgaRenderer::note_changed(u32 y, u32 first, u32 end) {
  if (!m_changed.empty()) {
    ScreenRectangle& last = m_changed.back();
    if (last.y + last.height == y) {
      const u32 right = std::max(last.x + last.width, end);
      last.x = std::min(last.x, first);
      last.width = right - last.x;
      ++last.height;
      return;
    }
  }
  m_changed.push_back({first, y, end - first, 1});
}

// CRTC Mode Control bits 0 and 1: bits of the row scan counter may take the place of address bits, as a 6845 had them.
u16 VgaRenderer::plane_address(const Settings& s, u16 counter, u8 row) const {
  unsigned address = m_registers.memory_address(counter);
  if (!(s.address_mode & 1)) address = (address & ~0x2000u) | (row & 1u) << 13;
  if (!(s.address_mode & 2)) address = (address & ~0x4000u) | (row & 2u) << 13;
  return static_cast<u16>(address);
}

void VgaRenderer::draw_vga(const Settings& s, bool all) {
  m_line.assign((usize{s.columns} + 1) * s.dots * s.dot_repeat, 0);
  u16 row_start = s.start;
  Line line{.counter = static_cast<u16>(row_start + s.byte_panning), .row = s.preset_row};
  unsigned repeats = 0;
  for (u32 y = 0; y < s.height; ++y) {
    if (y == s.split) {
      // The line behind the match of Line Compare shows address 0, with its row counter at 0.
      row_start = 0;
      line = {.counter = static_cast<u16>(s.panning_stops ? 0 : s.byte_panning), .row = 0, .after_split = true};
      repeats = 0;
    }
    // A font or a cell may stand behind each line of text.
    if (all || s.kind == Kind::Text || line_written(s, line)) {
      if (s.kind == Kind::Text) draw_text_line(s, line);
      else draw_graphics_line(s, line);
      const unsigned panning = line.after_split && s.panning_stops ? 0 : s.dot_panning * s.dot_repeat;
      store_line(y, m_line.data() + panning);
    }
    if (++repeats < s.line_repeat) continue;
    repeats = 0;
    if (line.row == s.last_row) {
      line.row = 0;
      row_start = static_cast<u16>(row_start + s.row_offset);
      line.counter = static_cast<u16>(row_start + (line.after_split && s.panning_stops ? 0 : s.byte_panning));
    } else {
      line.row = (line.row + 1) & 0x1f;
    }
  }
}

void VgaRenderer::draw_text_line(const Settings& s, const Line& line) {
  const u8* vram = m_memory.vram().data();
  u32* out = m_line.data();
  const bool cursor_line = s.cursor_shown && line.row >= s.cursor_start && line.row <= s.cursor_end;
  for (unsigned column = 0; column <= s.columns; ++column) {
    const u16 counter = static_cast<u16>(line.counter + column);
    const u8* cell = vram + 4u * plane_address(s, counter, line.row);
    const u8 character = cell[0], attribute = cell[1];
    unsigned foreground = attribute & 0xf, background = attribute >> 4;
    const unsigned drawn = foreground;
    if (s.blinking) {
      background &= 7;
      if ((attribute & 0x80) && !s.blink_shown) foreground = background;
    }
    unsigned bits = vram[4u * static_cast<u16>(s.fonts[attribute >> 3 & 1] + character * 32 + line.row) + 2];
    // The ninth dot repeats the eighth of the characters that draw lines and boxes.
    bits <<= 1;
    if (s.line_graphics && character >= 0xc0 && character <= 0xdf) bits |= bits >> 1 & 1;
    if (line.row == (s.underline & 0x1f) && (attribute & spec::kUnderlinedMask) == spec::kUnderlined) bits = 0x1ff;
    if (cursor_line && counter == static_cast<u16>(s.cursor_address + s.cursor_skew)) {
      bits = 0x1ff;
      foreground = drawn;
    }
    const u32 ink = s.colors[foreground], paper = s.colors[background];
    for (unsigned dot = 0; dot < s.dots; ++dot) {
      const u32 color = bits >> (8 - dot) & 1 ? ink : paper;
      for (unsigned i = 0; i < s.dot_repeat; ++i) *out++ = color;
    }
  }
}

void VgaRenderer::draw_graphics_line(const Settings& s, const Line& line) {
  const u8* vram = m_memory.vram().data();
  u32* out = m_line.data();
  for (unsigned column = 0; column <= s.columns; ++column) {
    u32 planes;
    std::memcpy(&planes, vram + 4u * plane_address(s, static_cast<u16>(line.counter + column), line.row), 4);
    u64 nibbles = serialise(s.shift_mode, planes);
    // Pixels with bit 3 blink, between themselves and the colour without it; the others get the bit.
    if (s.blinking) nibbles = s.blink_shown ? nibbles | 8 * kEveryByte : nibbles ^ 8 * kEveryByte;
    for (unsigned i = 0; i < 8; ++i) {
      unsigned value = nibbles >> (8 * i) & 0xf;
      if (s.wide_pixels) value = (nibbles >> (8 * (i & 6)) & 0xf) << 4 | (nibbles >> (8 * (i | 1)) & 0xf);
      for (unsigned repeat = 0; repeat < s.dot_repeat; ++repeat) *out++ = s.colors[value];
    }
  }
}

void VgaRenderer::draw_dispi(const Settings& s, bool all) {
  const std::span<const u8> vram = m_memory.vram();
  m_line.assign(s.width + 8, 0);
  const u64 bytes = s.kind == Kind::Planar ? 4 * ((u64{s.width} + s.dot_panning + 7) / 8) : u64{s.width} * ((s.bits_per_pixel + 7) / 8);
  const u64 unit = s.kind == Kind::Planar ? 4 : 1;
  for (u32 y = 0; y < s.height; ++y) {
    const u64 begin = (s.line_start + u64{y} * s.pitch) * unit;
    if (begin + bytes > vram.size()) {
      // Only a state from a file can say so.
      std::ranges::fill(m_line, 0);
      store_line(y, m_line.data());
      continue;
    }
    if (!all && !written(begin, begin + bytes)) continue;
    if (s.kind == Kind::Planar) {
      draw_planar_line(s, static_cast<u32>(begin));
      store_line(y, m_line.data() + s.dot_panning);
    } else if (s.bits_per_pixel == 32) {
      store_packed32_line(y, vram.data() + begin);
    } else {
      draw_packed_line(s, vram.data() + begin);
      store_line(y, m_line.data());
    }
  }
}

void VgaRenderer::draw_planar_line(const Settings& s, u32 offset) {
  const u8* source = m_memory.vram().data() + offset;
  m_line.resize(s.width + 16);
  u32* out = m_line.data();
  for (u32 x = 0; x < s.width + s.dot_panning; x += 8, source += 4) {
    u32 planes;
    std::memcpy(&planes, source, 4);
    const u64 nibbles = serialise(0, planes);
    for (unsigned i = 0; i < 8; ++i) *out++ = s.colors[nibbles >> (8 * i) & 0xf];
  }
}

void VgaRenderer::draw_packed_line(const Settings& s, const u8* source) {
  u32* out = m_line.data();
  const u32 width = s.width;
  const auto word = [&](u32 x) {
    u16 value;
    std::memcpy(&value, source + 2 * x, 2);
    return u32{value};
  };
  switch (s.bits_per_pixel) {
    case 8:
      for (u32 x = 0; x < width; ++x) out[x] = s.colors[source[x]];
      break;
    case 15:
      for (u32 x = 0; x < width; ++x) {
        const u32 value = word(x);
        out[x] = widen5(value >> 10 & 31) << 16 | widen5(value >> 5 & 31) << 8 | widen5(value & 31);
      }
      break;
    case 16:
      for (u32 x = 0; x < width; ++x) {
        const u32 value = word(x);
        out[x] = widen5(value >> 11) << 16 | widen6(value >> 5 & 63) << 8 | widen5(value & 31);
      }
      break;
    case 24:
      for (u32 x = 0; x < width; ++x) out[x] = u32{source[3 * x]} | u32{source[3 * x + 1]} << 8 | u32{source[3 * x + 2]} << 16;
      break;
    default: break;  // 32: store_packed32_line()
  }
}

}  // namespace vellum
