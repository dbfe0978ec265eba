// A console of text over the guest's screen: the monitor in a window or in place of a terminal's picture.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "state/integers.h"

namespace vellum {

// Holds what was printed and the line being typed, and draws both. Knows nothing of windows.
class OverlayConsole {
 public:
  // 256 characters of 16 bytes, a line of eight dots each; see find_font().
  explicit OverlayConsole(std::vector<u8> font) : m_font(std::move(font)) {}

  bool usable() const { return m_font.size() == 256 * 16; }
  void print(std::string_view text);
  // Keys: text to insert, and what edits the line.
  void type(std::string_view text);
  void erase();
  void recall(int direction);  // -1: an earlier line, 1: a later one
  // The line that was typed; it is printed and a new one begins.
  std::string enter();

  // The last `rows` lines that are to be seen, the one being typed at the end; none longer than `columns`.
  std::vector<std::string> visible(usize columns, usize rows) const;
  // Draws into `pixels` (0x00RRGGBB) of width x height; as many characters as fit.
  void draw(std::vector<u32>& pixels, u32 width, u32 height) const;

 private:
  std::vector<u8> m_font;
  std::deque<std::string> m_lines;
  std::string m_typed;
  std::vector<std::string> m_history;
  usize m_position = 0;
};

// The 8x16 font of a VGA BIOS, found by its first characters; empty when the ROM has none.
std::vector<u8> find_font(const std::vector<u8>& vga_bios);

}  // namespace vellum
