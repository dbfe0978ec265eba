// Screenshots through libpng.
#include "frontend/png_file.h"

#include <png.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>

namespace vellum {

namespace {

struct Writer {
  std::FILE* file = nullptr;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string problem;
  ~Writer() {
    if (png) png_destroy_write_struct(&png, info ? &info : nullptr);
    if (file) std::fclose(file);
  }
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  static_cast<Writer*>(png_get_error_ptr(png))->problem = message;
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

// Only objects without destructors between setjmp() and libpng's longjmp(): the caller owns all else.
bool write_all(Writer& writer, const ScreenFrame& frame, png_byte* row) {
  if (setjmp(png_jmpbuf(writer.png))) return false;
  png_init_io(writer.png, writer.file);
  png_set_IHDR(writer.png, writer.info, frame.width, frame.height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  // Pixels per unit in either direction: wide pixels are fewer to a unit.
  constexpr double kUnit = 10000;
  png_set_pHYs(writer.png, writer.info, static_cast<png_uint_32>(std::lround(kUnit / frame.pixel_aspect)),
               static_cast<png_uint_32>(kUnit), PNG_RESOLUTION_UNKNOWN);
  png_set_compression_level(writer.png, 6);
  png_write_info(writer.png, writer.info);
  for (u32 y = 0; y < frame.height; ++y) {
    const u32* pixels = frame.pixels.data() + usize{y} * frame.width;
    for (u32 x = 0; x < frame.width; ++x) {
      row[3 * x] = static_cast<png_byte>(pixels[x] >> 16);
      row[3 * x + 1] = static_cast<png_byte>(pixels[x] >> 8);
      row[3 * x + 2] = static_cast<png_byte>(pixels[x]);
    }
    png_write_row(writer.png, row);
  }
  png_write_end(writer.png, writer.info);
  return true;
}

}  // namespace

Result<void> write_png(const std::string& path, const ScreenFrame& frame) {
  if (frame.width == 0 || frame.height == 0) return failure(fmt::format("{}: there is no picture to write yet", path));
  const std::string temporary = path + ".part";
  Writer writer;
  const auto fail = [&](std::string_view why) {
    std::remove(temporary.c_str());
    return failure(fmt::format("{}: the picture cannot be written: {}", path, why));
  };
  writer.file = std::fopen(temporary.c_str(), "wbe");
  if (!writer.file) return failure(fmt::format("{}: the picture cannot be written: {}; name a place where you may make files", path, std::strerror(errno)));
  writer.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer, on_error, on_warning);
  if (writer.png) writer.info = png_create_info_struct(writer.png);
  if (!writer.info) return fail("out of memory");
  std::vector<png_byte> row(usize{frame.width} * 3);
  if (!write_all(writer, frame, row.data())) return fail(writer.problem);
  const bool closed = std::fclose(std::exchange(writer.file, nullptr)) == 0;
  if (!closed || std::rename(temporary.c_str(), path.c_str()) != 0) return fail(std::strerror(errno));
  return {};
}

}  // namespace vellum
