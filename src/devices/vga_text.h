// The text screen as the VGA would show it: characters, attributes, cursor.
#pragma once

#include <string>
#include <vector>

#include "devices/vga_memory.h"
#include "devices/vga_registers.h"

namespace vellum {

struct TextCell {
  u8 character = 0;  // code page 437
  u8 attribute = 0;
  bool operator==(const TextCell&) const = default;
};

struct TextScreen {
  unsigned columns = 0, rows = 0;  // both 0 in a graphics mode
  std::vector<TextCell> cells;     // row by row
  bool blinking = false;           // bit 7 of an attribute makes it blink rather than its background bright
  bool cursor_visible = false;
  unsigned cursor_column = 0, cursor_row = 0;
  bool operator==(const TextScreen&) const = default;
};

// What stands on the screen, following start address, row offset and line compare (split screen).
TextScreen read_text_screen(const VgaRegisters& registers, const VgaMemory& memory);
// One line per row as UTF-8, without trailing blanks; each row ends with a newline.
std::string to_utf8(const TextScreen& screen);
void append_utf8(std::string& text, char32_t character);
// The Unicode character that a code page 437 byte shows.
char32_t code_page_437(u8 character);

}  // namespace vellum
