// The frame timer, and functions that displays post from their threads.
#include "frontend/screen.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "frontend/message.h"
#include "frontend/png_file.h"

namespace vellum {

namespace {

constexpr long kFrameNanoseconds = 16'666'667;
constexpr u64 kStatusNanoseconds = 1'000'000'000;

u64 host_time() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

// A name that no file of this directory has.
std::string new_screenshot_name() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  localtime_r(&now, &date);
  char text[64];
  std::strftime(text, sizeof(text), "vellum-%Y%m%d-%H%M%S", &date);
  std::string name = std::string(text) + ".png";
  for (unsigned i = 2; access(name.c_str(), F_OK) == 0; ++i) name = fmt::format("{}-{}.png", text, i);
  return name;
}

}  // namespace

Screen::Screen(Machine& machine, std::function<std::string(const std::string&)> run_command)
    : m_machine(machine), m_run_command(std::move(run_command)) {}

Screen::~Screen() {
  // A display with a thread may still post until it has gone.
  m_displays.clear();
  m_timer_source.reset();
  m_posted_source.reset();
  if (m_timer >= 0) close(m_timer);
  if (m_posted_event >= 0) close(m_posted_event);
}

Result<void> Screen::open() {
  if (m_displays.empty()) return {};
  m_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  m_posted_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const itimerspec period{{0, kFrameNanoseconds}, {0, kFrameNanoseconds}};
  if (m_timer < 0 || m_posted_event < 0 || timerfd_settime(m_timer, 0, &period, nullptr) != 0)
    return failure(fmt::format("the display's timer cannot be made: {}; close files or raise the limit (ulimit -n)", std::strerror(errno)));
  m_timer_source = std::make_unique<EventSource>(m_machine.events(), m_timer, [] { return short{POLLIN}; }, [this](short) {
    u64 expired;
    [[maybe_unused]] const auto taken = read(m_timer, &expired, sizeof(expired));
    tick();
  });
  m_posted_source = std::make_unique<EventSource>(m_machine.events(), m_posted_event, [] { return short{POLLIN}; }, [this](short) {
    u64 count;
    [[maybe_unused]] const auto taken = read(m_posted_event, &count, sizeof(count));
    run_posted();
  });
  for (Shown& shown : m_displays) {
    if (auto opened = shown.display->open(); !opened) return opened;
    if (const std::string text = shown.display->announcement(); !text.empty()) tell_user("{}", text);
  }
  m_status_time = host_time();
  m_status_instructions = m_machine.cpu().retired();
  return {};
}

void Screen::post(std::function<void()> function) {
  {
    const std::lock_guard lock(m_posted_mutex);
    m_posted.push_back(std::move(function));
  }
  const u64 one = 1;
  [[maybe_unused]] const auto written = write(m_posted_event, &one, sizeof(one));
}

void Screen::run_posted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(m_posted_mutex);
    posted.swap(m_posted);
  }
  for (auto& function : posted) function();
}

void Screen::tick() {
  update_frame();
  update_status();
}

void Screen::update_frame() {
  ScreenSource* source = m_machine.board().screen();
  if (!source) return;
  bool wanted = false;
  for (Shown& shown : m_displays) {
    const bool wants = shown.display->wants_frames();
    wanted |= wants;
    shown.missed |= !wants;  // who comes back gets all of it
  }
  // What nobody looks at is not converted; the source remembers what changed meanwhile.
  if (!wanted) return;
  const auto changed = source->refresh();
  const ScreenFrame& frame = source->frame();
  if (frame.pixels.empty()) return;
  const ScreenRectangle whole{0, 0, frame.width, frame.height};
  for (Shown& shown : m_displays) {
    if (!shown.display->wants_frames()) {
      shown.missed = true;  // it has just lost interest
    } else if (std::exchange(shown.missed, false)) {
      shown.display->show(frame, {&whole, 1});
    } else if (!changed.empty()) {
      shown.display->show(frame, changed);
    }
  }
}

void Screen::update_status() {
  const u64 now = host_time();
  MachineStatus status = m_status;
  status.running = m_machine.running();
  if (now - m_status_time >= kStatusNanoseconds) {
    const u64 instructions = m_machine.cpu().retired();
    status.million_instructions = static_cast<double>(instructions - m_status_instructions) * 1e3 / static_cast<double>(now - m_status_time);
    m_status_time = now;
    m_status_instructions = instructions;
  }
  if (status == m_status) return;
  m_status = status;
  for (Shown& shown : m_displays) shown.display->show_status(status);
}

void Screen::key(KeyCode code, bool down) {
  const auto index = static_cast<usize>(code);
  if (code == KeyCode::None || m_pressed[index] == down) return;
  m_pressed[index] = down;
  m_machine.board().key(code, down);
}

void Screen::release_all() {
  for (usize i = 0; i < m_pressed.size(); ++i)
    if (m_pressed[i]) key(static_cast<KeyCode>(i), false);
  if (m_mouse_buttons) m_machine.board().move_pointer(0, 0, 0, m_mouse_buttons = 0);
  if (m_tablet_buttons) m_machine.board().place_pointer(m_x, m_y, 0, m_tablet_buttons = 0);
}

// A guest that turns to the other pointer while a button is down would keep the button of the first.
void Screen::move_pointer(int dx, int dy, int wheel, u8 buttons) {
  if (m_tablet_buttons) m_machine.board().place_pointer(m_x, m_y, 0, m_tablet_buttons = 0);
  m_machine.board().move_pointer(dx, dy, wheel, m_mouse_buttons = buttons);
}

void Screen::place_pointer(u16 x, u16 y, int wheel, u8 buttons) {
  if (m_mouse_buttons) m_machine.board().move_pointer(0, 0, 0, m_mouse_buttons = 0);
  m_machine.board().place_pointer(m_x = x, m_y = y, wheel, m_tablet_buttons = buttons);
}

TextScreen Screen::text() {
  ScreenSource* source = m_machine.board().screen();
  return source ? source->text() : TextScreen{};
}

void Screen::press_ctrl_alt_delete() {
  release_all();
  constexpr KeyCode kKeys[] = {KeyCode::LeftControl, KeyCode::LeftAlt, KeyCode::Delete};
  for (const KeyCode code : kKeys) key(code, true);
  release_all();
}

void Screen::toggle_pause() {
  if (m_machine.running()) m_machine.stop();
  else m_machine.start();
  update_status();
}

Result<std::string> Screen::take_screenshot(const std::string& path) {
  ScreenSource* source = m_machine.board().screen();
  if (!source) return failure("the machine has no graphics adapter");
  // All displays get what the refresh finds, since it is new only once.
  const auto changed = source->refresh();
  for (Shown& shown : m_displays) {
    if (!changed.empty() && !shown.missed && shown.display->wants_frames()) shown.display->show(source->frame(), changed);
    else shown.missed |= !changed.empty();
  }
  const std::string name = path.empty() ? new_screenshot_name() : path;
  if (auto written = write_png(name, source->frame()); !written) return std::unexpected(written.error());
  return name;
}

// The volume recognition sequence of ISO 9660 and UDF (ECMA-119 8.1, ECMA-167 2/9.1).
static bool holds_disc_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char identifier[5] = {};
  file.seekg(16 * 2048 + 1);
  file.read(identifier, sizeof(identifier));
  const std::string_view text(identifier, sizeof(identifier));
  return file && (text == "CD001" || text == "BEA01");
}

Result<std::string> Screen::insert_image(const std::string& path) {
  constexpr std::uintmax_t kLargestFloppy = 2880 * 1024;
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return failure(fmt::format("{}: the image cannot be inserted: {}", path, error.message()));
  const auto drives = m_machine.board().removable_drives();
  const auto first = [&](std::string_view kind) { return std::ranges::find_if(drives, [&](const std::string& drive) { return drive.starts_with(kind); }); };
  // A disk without a USB drive for it may still be read in the CD-ROM drive.
  const bool floppy = size <= kLargestFloppy, disk = !floppy && first("usb") != drives.end() && !holds_disc_image(path);
  const auto drive = first(floppy ? "floppy" : disk ? "usb" : "ide");
  if (drive == drives.end()) return failure(fmt::format("{}: the machine has no {} drive for it", path, floppy ? "floppy" : "CD-ROM"));
  if (auto changed = m_machine.board().change_medium(*drive, {.path = path, .read_only = !floppy && !disk}, false); !changed)
    return std::unexpected(changed.error());
  return *drive;
}

}  // namespace vellum
