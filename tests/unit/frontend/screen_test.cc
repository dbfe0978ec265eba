// Screen: what displays get, and what their users' doings become; PNG files; the console in the window.
#include <catch2/catch.hpp>

#include <png.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "frontend/overlay_console.h"
#include "frontend/png_file.h"
#include "frontend/screen.h"
#include "machine/fake_parts.h"

using namespace vellum;

namespace {

struct FakeSource : ScreenSource {
  std::span<const ScreenRectangle> refresh() override {
    told.swap(changed);
    changed.clear();
    return told;
  }
  const ScreenFrame& frame() const override { return picture; }
  TextScreen text() const override { return {}; }
  ScreenFrame picture{4, 2, 0.5, {0xff0000, 0x00ff00, 0x0000ff, 0x010203, 1, 2, 3, 4}};
  std::vector<ScreenRectangle> changed, told;
};

struct FakeDisplay : Display {
  Result<void> open() override { return {}; }
  bool wants_frames() const override { return looking; }
  void show(const ScreenFrame&, std::span<const ScreenRectangle> changed) override { shown.emplace_back(changed.begin(), changed.end()); }
  void show_status(const MachineStatus& status) override { running = status.running; }
  bool looking = true, running = false;
  std::vector<std::vector<ScreenRectangle>> shown;
};

struct Bench {
  vellum::test::FakeMachine fake;
  FakeSource source;
  Screen screen{*fake.machine, [](const std::string& line) { return "ran " + line; }};
  FakeDisplay* display;

  Bench() {
    fake.board->source = &source;
    auto made = std::make_unique<FakeDisplay>();
    display = made.get();
    screen.add(std::move(made));
    REQUIRE(screen.open());
  }
  // Past the next tick of the frame timer.
  void pass() {
    const usize before = display->shown.size();
    for (int i = 0; i < 6 && display->shown.size() == before; ++i) fake.events.wait(10'000'000);
  }
};

using Keys = std::vector<std::pair<KeyCode, bool>>;

}  // namespace

TEST_CASE("a display gets the whole frame first, then what changed, and all again after a time of not looking") {
  Bench b;
  const ScreenRectangle whole{0, 0, 4, 2}, part{1, 0, 2, 1};
  b.pass();
  REQUIRE(b.display->shown.size() == 1);
  CHECK(b.display->shown[0] == std::vector{whole});
  b.source.changed = {part};
  b.pass();
  REQUIRE(b.display->shown.size() == 2);
  CHECK(b.display->shown[1] == std::vector{part});
  // Nothing changed: nothing is shown.
  b.pass();
  CHECK(b.display->shown.size() == 2);
  // A change that a screenshot finds first is not lost.
  b.source.changed = {part};
  const auto directory = std::filesystem::temp_directory_path() / ("vellum-screen-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  CHECK(b.screen.take_screenshot(directory / "a.png"));
  CHECK(b.display->shown.size() == 3);
  std::filesystem::remove_all(directory);
}

TEST_CASE("of several presses of a key the first counts; what is held down is released with the focus") {
  Bench b;
  b.screen.key(KeyCode::A, true);
  b.screen.key(KeyCode::A, true);
  b.screen.key(KeyCode::B, false);
  b.screen.key(KeyCode::LeftShift, true);
  CHECK(b.fake.board->keys == Keys{{KeyCode::A, true}, {KeyCode::LeftShift, true}});
  b.screen.move_pointer(1, 2, 0, kPointerLeft);
  b.screen.release_all();
  CHECK(b.fake.board->keys == Keys{{KeyCode::A, true}, {KeyCode::LeftShift, true}, {KeyCode::A, false}, {KeyCode::LeftShift, false}});
  CHECK(b.fake.board->pointer == "by 0 0 0 0");
  // A tablet's button is the tablet's to release, where it is.
  b.screen.place_pointer(30, 40, 0, kPointerLeft);
  b.screen.release_all();
  CHECK(b.fake.board->pointer == "to 30 40 0 0");
  b.fake.board->pointers.clear();
  b.screen.place_pointer(30, 40, 0, kPointerRight);
  b.screen.move_pointer(1, 0, 0, 0);
  CHECK(b.fake.board->pointers == std::vector<std::string>{"to 30 40 0 2", "to 30 40 0 0", "by 1 0 0 0"});
  b.screen.key(KeyCode::A, false);
  CHECK(b.fake.board->keys.size() == 4);
}

TEST_CASE("Ctrl-Alt-Delete is pressed and released whole") {
  Bench b;
  b.screen.key(KeyCode::LeftControl, true);
  b.fake.board->keys.clear();
  b.screen.press_ctrl_alt_delete();
  REQUIRE(b.fake.board->keys.size() == 7);
  CHECK(b.fake.board->keys[0] == std::pair{KeyCode::LeftControl, false});
  CHECK(b.fake.board->keys[3] == std::pair{KeyCode::Delete, true});
}

TEST_CASE("functions posted by another thread run on the machine's") {
  Bench b;
  std::thread::id ran;
  std::thread other([&] { b.screen.post([&] { ran = std::this_thread::get_id(); }); });
  other.join();
  for (int i = 0; i < 10 && ran == std::thread::id(); ++i) b.fake.events.wait(10'000'000);
  CHECK(ran == std::this_thread::get_id());
}

TEST_CASE("pause is shown at once") {
  Bench b;
  b.screen.toggle_pause();
  CHECK(b.fake.machine->running());
  CHECK(b.display->running);
  b.screen.toggle_pause();
  CHECK_FALSE(b.display->running);
}

TEST_CASE("a PNG file has the frame's pixels and their form; what cannot be written is said, and nothing is left") {
  FakeSource source;
  const auto directory = std::filesystem::temp_directory_path() / ("vellum-png-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  const std::string path = directory / "a.png";
  REQUIRE(write_png(path, source.picture));
  // By libpng's simplified reader.
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_file(&image, path.c_str()));
  image.format = PNG_FORMAT_RGB;
  CHECK(image.width == 4);
  CHECK(image.height == 2);
  std::vector<u8> pixels(24);
  REQUIRE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr));
  CHECK(std::vector<u8>(pixels.begin(), pixels.begin() + 12) == std::vector<u8>{255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3});
  // pHYs: pixels half as wide as high are twice as many to a unit.
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto chunk = bytes.find("pHYs");
  REQUIRE(chunk != bytes.npos);
  CHECK(bytes.substr(chunk + 4, 9) == std::string("\0\0\x4e\x20\0\0\x27\x10\0", 9));

  const auto refused = write_png(directory / "absent" / "a.png", source.picture);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("No such file or directory") != std::string::npos);
  CHECK_FALSE(write_png(directory / "b.png", ScreenFrame{}));
  CHECK(std::distance(std::filesystem::directory_iterator(directory), {}) == 1);
  std::filesystem::remove_all(directory);
}

TEST_CASE("the console wraps, edits and remembers lines") {
  OverlayConsole console({});
  CHECK_FALSE(console.usable());
  console.print("abcdefghij\n");
  console.type("info x");
  console.erase();
  CHECK(console.visible(40, 3) == std::vector<std::string>{"abcdefghij", "(vellum) info _"});
  CHECK(console.enter() == "info ");
  console.recall(-1);
  CHECK(console.visible(40, 1) == std::vector<std::string>{"(vellum) info _"});
  console.recall(1);
  CHECK(console.visible(9, 2) == std::vector<std::string>{"(vellum) ", "_"});
}

TEST_CASE("the font of a video BIOS is found by its first characters") {
  std::vector<u8> rom(40000, 0x55);
  CHECK(find_font(rom).empty());
  std::fill_n(rom.begin() + 1000, 4096, u8{0x11});
  std::fill_n(rom.begin() + 1000, 16, u8{0});
  const u8 face[] = {0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0};
  std::copy(std::begin(face), std::end(face), rom.begin() + 1016);
  const auto font = find_font(rom);
  REQUIRE(font.size() == 4096);
  CHECK(font[18] == 0x7e);
  CHECK(OverlayConsole(font).usable());
  rom.resize(1000 + 4095);
  CHECK(find_font(rom).empty());
}
