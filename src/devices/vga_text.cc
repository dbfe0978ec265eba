// The text screen, read from display memory.
#include "devices/vga_text.h"

#include <algorithm>

namespace vellum {

namespace {

// IBM code page 437 as the character generator draws it (the control codes have glyphs too).
constexpr std::u32string_view kCodePage437 =
    U" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_"
    U"`abcdefghijklmnopqrstuvwxyz{|}~⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙"
    U"╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
static_assert(kCodePage437.size() == 256);

}  // namespace

void append_utf8(std::string& text, char32_t character) {
  if (character < 0x80) {
    text += static_cast<char>(character);
  } else if (character < 0x800) {
    text += static_cast<char>(0xc0 | character >> 6);
    text += static_cast<char>(0x80 | (character & 0x3f));
  } else {
    text += static_cast<char>(0xe0 | character >> 12);
    text += static_cast<char>(0x80 | (character >> 6 & 0x3f));
    text += static_cast<char>(0x80 | (character & 0x3f));
  }
}

char32_t code_page_437(u8 character) { return kCodePage437[character]; }

TextScreen read_text_screen(const VgaRegisters& registers, const VgaMemory& memory) {
  TextScreen screen;
  if (registers.graphics_mode()) return screen;
  const bool doubled = registers.crtc(vga::kCrtcMaximumScanLine) & 0x80;
  const unsigned row_lines = registers.character_height() * (doubled ? 2 : 1);
  const unsigned lines = registers.displayed_lines(), compare = registers.line_compare();
  const u16 cursor = registers.cursor_address();
  const u8 cursor_start = registers.crtc(vga::kCrtcCursorStart), cursor_end = registers.crtc(vga::kCrtcCursorEnd);
  screen.columns = registers.columns();
  screen.blinking = registers.attribute(vga::kAttributeMode) & 0x08;
  u16 counter = registers.start_address();
  bool split = false;
  // Only rows that are shown whole or in their greater part count as rows.
  for (unsigned line = 0; line + row_lines / 2 < lines; line += row_lines) {
    if (!split && line > compare) {
      // Line compare: the counter starts again at zero in the line after the match.
      split = true;
      counter = 0;
      line = compare + 1;
      if (line + row_lines / 2 >= lines) break;
    }
    for (unsigned column = 0; column < screen.columns; ++column) {
      const u16 at = static_cast<u16>(counter + column);
      const u16 address = registers.memory_address(at);
      screen.cells.push_back({memory.plane_byte(0, address), memory.plane_byte(1, address)});
      if (at == cursor) {
        screen.cursor_visible = !(cursor_start & 0x20) && (cursor_start & 0x1f) <= (cursor_end & 0x1f);
        screen.cursor_column = column;
        screen.cursor_row = screen.rows;
      }
    }
    ++screen.rows;
    counter = static_cast<u16>(counter + registers.row_offset());
  }
  return screen;
}

std::string to_utf8(const TextScreen& screen) {
  std::string text;
  for (unsigned row = 0; row < screen.rows; ++row) {
    const auto cells = std::span(screen.cells).subspan(usize{row} * screen.columns, screen.columns);
    usize length = cells.size();
    const auto blank = [](u8 character) { return character == 0 || character == ' ' || character == 0xff; };
    while (length && blank(cells[length - 1].character)) --length;
    for (const auto& cell : cells.first(length)) append_utf8(text, code_page_437(cell.character));
    text += '\n';
  }
  return text;
}

}  // namespace vellum
