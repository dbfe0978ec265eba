// Text drawn with the VGA BIOS's own font.
#include "frontend/overlay_console.h"

#include <algorithm>
#include <array>
#include <utility>

namespace vellum {

namespace {

constexpr u32 kGlyphWidth = 8, kGlyphHeight = 16;
constexpr usize kMostLines = 200, kLongestLine = 500;
constexpr u32 kInk = 0xe0e0e0, kPaper = 0x101830;
constexpr std::string_view kPrompt = "(vellum) ";

// As many characters as there are columns; bytes that are no ASCII are shown as one.
std::vector<std::string> wrap(std::string_view line, usize columns) {
  std::vector<std::string> parts;
  do {
    parts.emplace_back(line.substr(0, columns));
    line.remove_prefix(std::min(columns, line.size()));
  } while (!line.empty());
  return parts;
}

}  // namespace

void OverlayConsole::print(std::string_view text) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    m_lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (m_lines.size() > kMostLines) m_lines.pop_front();
}

void OverlayConsole::type(std::string_view text) {
  for (const char c : text)
    if (c >= ' ' && c < 0x7f && m_typed.size() < kLongestLine) m_typed += c;
}

void OverlayConsole::erase() {
  if (!m_typed.empty()) m_typed.pop_back();
}

void OverlayConsole::recall(int direction) {
  if (direction < 0 && m_position > 0) m_typed = m_history[--m_position];
  else if (direction > 0 && m_position < m_history.size()) m_typed = ++m_position < m_history.size() ? m_history[m_position] : "";
}

std::string OverlayConsole::enter() {
  std::string line = std::exchange(m_typed, {});
  print(std::string(kPrompt) + line + "\n");
  if (!line.empty() && (m_history.empty() || m_history.back() != line)) m_history.push_back(line);
  if (m_history.size() > kMostLines) m_history.erase(m_history.begin());
  m_position = m_history.size();
  return line;
}

std::vector<std::string> OverlayConsole::visible(usize columns, usize rows) const {
  std::vector<std::string> shown = wrap(std::string(kPrompt) + m_typed + "_", columns);
  for (usize i = m_lines.size(); i-- > 0 && shown.size() < rows;) {
    auto parts = wrap(m_lines[i], columns);
    shown.insert(shown.begin(), parts.begin(), parts.end());
  }
  if (shown.size() > rows) shown.erase(shown.begin(), shown.end() - static_cast<std::ptrdiff_t>(rows));
  return shown;
}

void OverlayConsole::draw(std::vector<u32>& pixels, u32 width, u32 height) const {
  pixels.assign(usize{width} * height, kPaper);
  const usize columns = width / kGlyphWidth, rows = height / kGlyphHeight;
  if (columns == 0 || rows == 0 || !usable()) return;
  const std::vector<std::string> shown = visible(columns, rows);
  for (usize row = 0; row < shown.size(); ++row)
    for (usize column = 0; column < shown[row].size(); ++column) {
      const u8* glyph = m_font.data() + usize{static_cast<u8>(shown[row][column])} * kGlyphHeight;
      for (u32 y = 0; y < kGlyphHeight; ++y) {
        u32* out = pixels.data() + (row * kGlyphHeight + y) * width + column * kGlyphWidth;
        for (u32 x = 0; x < kGlyphWidth; ++x)
          if (glyph[y] >> (7 - x) & 1) out[x] = kInk;
      }
    }
}

std::vector<u8> find_font(const std::vector<u8>& vga_bios) {
  // Character 0 is blank and character 1 the face that every PC's font has since 1981, here in its 8x16 form.
  static constexpr std::array<u8, 32> kStart = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0};
  const auto found = std::ranges::search(vga_bios, kStart);
  if (found.empty() || vga_bios.end() - found.begin() < 256 * 16) return {};
  return {found.begin(), found.begin() + 256 * 16};
}

}  // namespace vellum
