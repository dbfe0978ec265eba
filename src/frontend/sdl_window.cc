// The window: pictures go from the machine's thread to the window's through a copy, keys and mouse come back by post().
#include "frontend/sdl_window.h"

#include <SDL.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "frontend/message.h"
#include "frontend/overlay_console.h"

namespace vellum {

namespace {

constexpr Uint32 kNoticeMilliseconds = 5000;

// SDL's scan codes are USB HID usage IDs, as KeyCode's values are.
KeyCode key_code(SDL_Scancode code) {
  const bool plain = code >= SDL_SCANCODE_A && code <= SDL_SCANCODE_F24;
  const bool international = code >= SDL_SCANCODE_KP_COMMA && code <= SDL_SCANCODE_INTERNATIONAL5;
  const bool modifier = code >= SDL_SCANCODE_LCTRL && code <= SDL_SCANCODE_RGUI;
  return plain || international || modifier ? static_cast<KeyCode>(code) : KeyCode::None;
}

u8 pointer_button(Uint8 button) {
  switch (button) {
    case SDL_BUTTON_LEFT: return kPointerLeft;
    case SDL_BUTTON_RIGHT: return kPointerRight;
    case SDL_BUTTON_MIDDLE: return kPointerMiddle;
    case SDL_BUTTON_X1: return kPointerBack;
    case SDL_BUTTON_X2: return kPointerForward;
    default: return 0;
  }
}

class SdlWindow final : public Display {
 public:
  SdlWindow(DisplayControl& control, const DisplaySpec& spec, std::vector<u8> font)
      : m_control(control), m_spec(spec), m_console(std::move(font)) {}
  ~SdlWindow() override {
    if (!m_thread.joinable()) return;
    m_ending = true;
    wake();
    m_thread.join();
  }

  Result<void> open() override {
    std::promise<Result<void>> opened;
    auto result = opened.get_future();
    m_thread = std::thread([this, &opened] { run(opened); });
    auto outcome = result.get();
    if (!outcome) m_thread.join();
    return outcome;
  }

  void show(const ScreenFrame& frame, std::span<const ScreenRectangle> changed) override {
    {
      const std::lock_guard lock(m_mutex);
      if (m_frame.width != frame.width || m_frame.height != frame.height || m_frame.pixel_aspect != frame.pixel_aspect) {
        m_frame = frame;
        m_changed = {0, 0, frame.width, frame.height};
      } else {
        for (const ScreenRectangle& part : changed) {
          for (u32 y = part.y; y < part.y + part.height; ++y)
            std::memcpy(&m_frame.pixels[usize{y} * frame.width + part.x], &frame.pixels[usize{y} * frame.width + part.x], part.width * sizeof(u32));
          add_changed(part);
        }
      }
    }
    m_absolute = m_control.pointer_is_absolute();
    wake();
  }

  void show_status(const MachineStatus& status) override {
    {
      const std::lock_guard lock(m_mutex);
      m_status = status;
    }
    m_absolute = m_control.pointer_is_absolute();
    wake();
  }

 private:
  // ---- Both threads; the mutex is held

  void add_changed(const ScreenRectangle& part) {
    if (m_changed.width == 0) {
      m_changed = part;
      return;
    }
    const u32 right = std::max(m_changed.x + m_changed.width, part.x + part.width);
    const u32 bottom = std::max(m_changed.y + m_changed.height, part.y + part.height);
    m_changed.x = std::min(m_changed.x, part.x);
    m_changed.y = std::min(m_changed.y, part.y);
    m_changed.width = right - m_changed.x;
    m_changed.height = bottom - m_changed.y;
  }

  // From any thread.
  void wake() {
    if (m_wake_type == 0 || m_awake.exchange(true)) return;
    SDL_Event event{};
    event.type = m_wake_type;
    // A full queue is being worked on, and the work ends with a look at what there is to show.
    if (SDL_PushEvent(&event) != 1) m_awake = false;
  }

  // ---- The window's thread

  void run(std::promise<Result<void>>& opened) {
    // The program has its own answer to Ctrl-C, and a guest is no reason to keep a screen saver away.
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    SDL_SetHint(SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0");
    // A click that brings the window to the front shall reach the guest.
    SDL_SetHint(SDL_HINT_MOUSE_FOCUS_CLICKTHROUGH, "1");
    Result<void> created = SDL_InitSubSystem(SDL_INIT_VIDEO) == 0 ? create_window() : sdl_failure("SDL cannot use the host's display", SDL_GetError());
    if (!created) {
      SDL_QuitSubSystem(SDL_INIT_VIDEO);
      opened.set_value(created);
      return;
    }
    pthread_setname_np(pthread_self(), "vellum-window");
    m_wake_type = SDL_RegisterEvents(1);
    opened.set_value({});
    while (!m_ending) {
      SDL_Event event;
      const bool got = m_notice.empty() ? SDL_WaitEvent(&event) : SDL_WaitEventTimeout(&event, static_cast<int>(kNoticeMilliseconds));
      if (got) {
        m_awake = false;
        do handle(event);
        while (SDL_PollEvent(&event));
      }
      update_title();
      redraw();
    }
    if (m_texture) SDL_DestroyTexture(m_texture);
    if (m_console_texture) SDL_DestroyTexture(m_console_texture);
    SDL_DestroyRenderer(m_renderer);
    SDL_DestroyWindow(m_window);
    SDL_QuitSubSystem(SDL_INIT_VIDEO);
  }

  // Where SDL finds no display it draws into memory that nobody sees.
  static bool draws_for_nobody() {
    const char* driver = SDL_GetCurrentVideoDriver();
    return driver && (std::string_view(driver) == "offscreen" || std::string_view(driver) == "dummy") && !std::getenv("SDL_VIDEODRIVER");
  }

  Result<void> sdl_failure(std::string_view what, std::string_view reason) {
    return failure(fmt::format("{}: {} ({}); look at DISPLAY or WAYLAND_DISPLAY, or choose -display vnc=:0, -display terminal, -nographic or -display none",
                               m_spec.option.empty() ? "the window" : m_spec.option, what, reason));
  }

  bool create_window_and_renderer(Uint32 renderer_flags) {
    m_window = SDL_CreateWindow("Vellum", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, m_window_width, m_window_height,
                                SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    m_renderer = m_window ? SDL_CreateRenderer(m_window, -1, renderer_flags) : nullptr;
    if (m_renderer) return true;
    if (m_window) SDL_DestroyWindow(m_window);
    m_window = nullptr;
    return false;
  }

  // An OpenGL that the CPU computes costs more than drawing without it.
  bool renders_in_software() {
    SDL_RendererInfo info;
    if (SDL_GetRendererInfo(m_renderer, &info) != 0 || !std::string_view(info.name).starts_with("opengl")) return false;
    using GetString = const char* (*)(unsigned);
    const auto get_string = reinterpret_cast<GetString>(SDL_GL_GetProcAddress("glGetString"));
    constexpr unsigned kGlRenderer = 0x1f01;
    const char* name = get_string ? get_string(kGlRenderer) : nullptr;
    if (!name) return false;
    const std::string_view text = name;
    return text.find("llvmpipe") != text.npos || text.find("softpipe") != text.npos || text.find("Software Rasterizer") != text.npos;
  }

  Result<void> create_window() {
    if (draws_for_nobody()) return sdl_failure("SDL cannot use the host's display", "it found none");
    const bool accelerated = create_window_and_renderer(SDL_RENDERER_ACCELERATED);
    if (accelerated && renders_in_software()) {
      SDL_DestroyRenderer(m_renderer);
      SDL_DestroyWindow(m_window);
      m_window = nullptr;
      m_renderer = nullptr;
    }
    if (!m_renderer) {
      SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0");
      if (!create_window_and_renderer(SDL_RENDERER_SOFTWARE)) return sdl_failure("no window can be made", SDL_GetError());
    }
    if (m_spec.full_screen) set_full_screen(true);
    SDL_EventState(SDL_DROPFILE, SDL_ENABLE);
    return {};
  }

  void set_full_screen(bool on) {
    if (SDL_SetWindowFullscreen(m_window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0) == 0) m_full_screen = on;
    m_stale = true;
  }

  void set_grab(bool on) {
    if (m_grabbed == on) return;
    m_grabbed = on;
    SDL_SetRelativeMouseMode(on && !m_absolute ? SDL_TRUE : SDL_FALSE);
    SDL_SetWindowKeyboardGrab(m_window, on ? SDL_TRUE : SDL_FALSE);
    SDL_SetWindowMouseGrab(m_window, on ? SDL_TRUE : SDL_FALSE);
  }

  void post(std::function<void(DisplayControl&)> function) {
    m_control.post([&control = m_control, function = std::move(function)] { function(control); });
  }

  void notice(std::string text) {
    const std::lock_guard lock(m_mutex);
    m_new_notice = std::move(text);
  }

  // ---- Events

  void handle(const SDL_Event& event) {
    switch (event.type) {
      case SDL_QUIT: post([](DisplayControl& control) { control.quit(); }); break;
      case SDL_WINDOWEVENT: handle_window(event.window); break;
      case SDL_KEYDOWN:
      case SDL_KEYUP: handle_key(event.key); break;
      case SDL_TEXTINPUT:
        if (m_console_open) {
          m_console.type(event.text.text);
          m_stale = true;
        }
        break;
      case SDL_MOUSEMOTION:
        m_pointer_x = event.motion.x;
        m_pointer_y = event.motion.y;
        handle_pointer(event.motion.xrel, event.motion.yrel, 0);
        break;
      case SDL_MOUSEBUTTONDOWN:
        m_pointer_x = event.button.x;
        m_pointer_y = event.button.y;
        if (!m_absolute && !m_grabbed) {
          set_grab(true);
          break;
        }
        m_buttons |= pointer_button(event.button.button);
        handle_pointer(0, 0, 0);
        break;
      case SDL_MOUSEBUTTONUP:
        m_pointer_x = event.button.x;
        m_pointer_y = event.button.y;
        m_buttons &= static_cast<u8>(~pointer_button(event.button.button));
        handle_pointer(0, 0, 0);
        break;
      case SDL_MOUSEWHEEL: handle_pointer(0, 0, event.wheel.direction == SDL_MOUSEWHEEL_FLIPPED ? -event.wheel.y : event.wheel.y); break;
      case SDL_DROPFILE: {
        const std::string path = event.drop.file;
        SDL_free(event.drop.file);
        post([this, path](DisplayControl& control) {
          const auto drive = control.insert_image(path);
          notice(drive ? fmt::format("{} is in {}", path, *drive) : drive.error().message);
          wake();
        });
        break;
      }
      case SDL_RENDER_TARGETS_RESET:
      case SDL_RENDER_DEVICE_RESET: m_lost = true; break;
      default: break;
    }
  }

  void handle_window(const SDL_WindowEvent& event) {
    switch (event.event) {
      case SDL_WINDOWEVENT_FOCUS_LOST:
        // Releases that come while the window has no keyboard would be missed.
        post([](DisplayControl& control) { control.release_all(); });
        m_buttons = 0;
        set_grab(false);
        break;
      case SDL_WINDOWEVENT_SIZE_CHANGED:
        if (!m_full_screen && (event.data1 != m_window_width || event.data2 != m_window_height)) m_sized_by_user = true;
        m_stale = true;
        break;
      case SDL_WINDOWEVENT_EXPOSED:
      case SDL_WINDOWEVENT_SHOWN:
      case SDL_WINDOWEVENT_RESTORED: m_stale = true; break;
      default: break;
    }
  }

  void handle_key(const SDL_KeyboardEvent& event) {
    const SDL_Scancode code = event.keysym.scancode;
    const bool down = event.type == SDL_KEYDOWN;
    constexpr Uint16 kControl = KMOD_CTRL, kAlt = KMOD_LALT;
    const bool command = (event.keysym.mod & kControl) && (event.keysym.mod & kAlt);
    if (down && command && !event.repeat && run_hot_key(code)) {
      m_hot_key = code;
      // The guest has seen Ctrl and Alt go down, and shall not keep them.
      post([](DisplayControl& control) { control.release_all(); });
      return;
    }
    if (!down && code == m_hot_key) {
      m_hot_key = SDL_SCANCODE_UNKNOWN;
      return;
    }
    if (m_console_open) {
      if (down) console_key(code);
      return;
    }
    // The guest's keyboard repeats keys by itself, at the rate that the guest has set.
    if (event.repeat) return;
    const KeyCode key = key_code(code);
    if (key != KeyCode::None) post([key, down](DisplayControl& control) { control.key(key, down); });
  }

  bool run_hot_key(SDL_Scancode code) {
    switch (code) {
      case SDL_SCANCODE_G: set_grab(!m_grabbed); return true;
      case SDL_SCANCODE_F: set_full_screen(!m_full_screen); return true;
      case SDL_SCANCODE_S:
        post([this](DisplayControl& control) {
          const auto written = control.take_screenshot("");
          notice(written ? fmt::format("the screen is in {}", *written) : written.error().message);
          wake();
        });
        return true;
      case SDL_SCANCODE_P: post([](DisplayControl& control) { control.toggle_pause(); }); return true;
      case SDL_SCANCODE_DELETE: post([](DisplayControl& control) { control.press_ctrl_alt_delete(); }); return true;
      case SDL_SCANCODE_M:
        if (m_console.usable()) {
          m_console_open = !m_console_open;
          if (m_console_open && !std::exchange(m_console_greeted, true))
            m_console.print("The monitor. 'help' lists its commands; Escape or Ctrl-Alt-M closes it.\n");
          m_stale = true;
        } else {
          notice("the video BIOS has no font for the monitor; use -monitor stdio");
        }
        return true;
      default: return false;
    }
  }

  void console_key(SDL_Scancode code) {
    switch (code) {
      case SDL_SCANCODE_ESCAPE: m_console_open = false; break;
      case SDL_SCANCODE_BACKSPACE: m_console.erase(); break;
      case SDL_SCANCODE_UP: m_console.recall(-1); break;
      case SDL_SCANCODE_DOWN: m_console.recall(1); break;
      case SDL_SCANCODE_RETURN:
      case SDL_SCANCODE_KP_ENTER:
        post([this, line = m_console.enter()](DisplayControl& control) {
          std::string printed = control.run_monitor_command(line);
          const std::lock_guard lock(m_mutex);
          m_console_output += printed;
          wake();
        });
        break;
      default: return;
    }
    m_stale = true;
  }

  void handle_pointer(int dx, int dy, int wheel) {
    if (m_console_open) return;
    // Buttons and place as the events told, in their order; SDL's own record may be ahead of them.
    const u8 buttons = m_buttons;
    if (!m_absolute) {
      if (m_grabbed) post([=](DisplayControl& control) { control.move_pointer(dx, dy, wheel, buttons); });
      return;
    }
    // The window counts in points, the picture in pixels.
    int points_wide = 1, points_high = 1, wide = 1, high = 1;
    SDL_GetWindowSize(m_window, &points_wide, &points_high);
    SDL_GetRendererOutputSize(m_renderer, &wide, &high);
    const auto place = [](double at, int start, int size) {
      return static_cast<u16>(std::clamp((at - start) * 32767 / std::max(size - 1, 1), 0.0, 32767.0) + 0.5);
    };
    const u16 across = place(double(m_pointer_x) * wide / std::max(points_wide, 1), m_place.x, m_place.w);
    const u16 down = place(double(m_pointer_y) * high / std::max(points_high, 1), m_place.y, m_place.h);
    post([=](DisplayControl& control) {
      if (control.pointer_is_absolute()) control.place_pointer(across, down, wheel, buttons);
    });
  }

  // ---- Drawing

  void update_title() {
    std::string text;
    {
      const std::lock_guard lock(m_mutex);
      if (!m_new_notice.empty()) {
        m_notice = std::exchange(m_new_notice, {});
        m_notice_until = SDL_GetTicks() + kNoticeMilliseconds;
      }
      if (!m_notice.empty() && SDL_TICKS_PASSED(SDL_GetTicks(), m_notice_until)) m_notice.clear();
      if (!m_console_output.empty()) {
        m_console.print(std::exchange(m_console_output, {}));
        m_stale = true;
      }
      text = m_status.running ? fmt::format("Vellum: running, {:.0f} million instructions a second", m_status.million_instructions) : "Vellum: paused";
    }
    if (m_absolute && m_grabbed && SDL_GetRelativeMouseMode()) SDL_SetRelativeMouseMode(SDL_FALSE);
    if (!m_notice.empty()) text += " - " + m_notice;
    else if (m_grabbed) text += " - Ctrl-Alt-G frees mouse and keyboard";
    else text += " - Ctrl-Alt-: G grab, F full screen, S screenshot, P pause, M monitor, Delete for the guest; drop an image to insert it";
    if (text == m_title) return;
    m_title = text;
    SDL_SetWindowTitle(m_window, text.c_str());
  }

  // Where the picture of width x height pixels stands in an area, without distorting what the guest drew.
  SDL_Rect place_picture(u32 width, u32 height, double aspect, int area_width, int area_height) const {
    int w, h;
    if (m_spec.scaling == DisplaySpec::Scaling::Integer) {
      // Whole multiples in both directions, whose relation comes nearest to the pixels' form.
      int best_x = 1, best_y = 1;
      for (int y = 1; y * static_cast<int>(height) <= area_height; ++y) {
        const int x = std::max(1, static_cast<int>(std::lround(y * aspect)));
        if (x * static_cast<int>(width) <= area_width) best_x = x, best_y = y;
      }
      w = best_x * static_cast<int>(width);
      h = best_y * static_cast<int>(height);
    } else {
      const double shown = width * aspect;
      const double scale = std::min(area_width / shown, area_height / double(height));
      w = std::max(1, static_cast<int>(std::lround(shown * scale)));
      h = std::max(1, static_cast<int>(std::lround(height * scale)));
    }
    return {(area_width - w) / 2, (area_height - h) / 2, w, h};
  }

  // A window that nobody has resized follows the guest's mode, as far as the desktop has room.
  void follow_mode(const ScreenFrame& frame) {
    if (m_sized_by_user || m_full_screen) return;
    // Neither direction gets fewer points than the guest has pixels.
    double width = frame.width, height = frame.height;
    if (frame.pixel_aspect < 1) height /= frame.pixel_aspect;
    else width *= frame.pixel_aspect;
    SDL_Rect room;
    if (SDL_GetDisplayUsableBounds(std::max(0, SDL_GetWindowDisplayIndex(m_window)), &room) == 0) {
      const double scale = std::min({1.0, room.w / width, room.h / height});
      width *= scale;
      height *= scale;
    }
    m_window_width = std::max(1, static_cast<int>(std::lround(width)));
    m_window_height = std::max(1, static_cast<int>(std::lround(height)));
    SDL_SetWindowSize(m_window, m_window_width, m_window_height);
  }

  void take_picture() {
    const std::lock_guard lock(m_mutex);
    if (m_frame.width == 0) return;
    if (std::exchange(m_lost, false)) m_changed = {0, 0, m_frame.width, m_frame.height};
    if (m_changed.width == 0) return;
    if (!m_texture || m_texture_width != m_frame.width || m_texture_height != m_frame.height) {
      if (m_texture) SDL_DestroyTexture(m_texture);
      SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, m_spec.scaling == DisplaySpec::Scaling::Linear ? "linear" : "nearest");
      m_texture = SDL_CreateTexture(m_renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING, static_cast<int>(m_frame.width), static_cast<int>(m_frame.height));
      m_changed = {0, 0, m_frame.width, m_frame.height};
    }
    if (m_texture_width != m_frame.width || m_texture_height != m_frame.height || m_aspect != m_frame.pixel_aspect) {
      m_texture_width = m_frame.width;
      m_texture_height = m_frame.height;
      m_aspect = m_frame.pixel_aspect;
      follow_mode(m_frame);
    }
    const SDL_Rect part{static_cast<int>(m_changed.x), static_cast<int>(m_changed.y), static_cast<int>(m_changed.width), static_cast<int>(m_changed.height)};
    if (m_texture)
      SDL_UpdateTexture(m_texture, &part, &m_frame.pixels[usize{m_changed.y} * m_frame.width + m_changed.x], static_cast<int>(m_frame.width * sizeof(u32)));
    m_changed = {};
    m_stale = true;
  }

  void redraw() {
    take_picture();
    if (!std::exchange(m_stale, false)) return;
    int width = 0, height = 0;
    SDL_GetRendererOutputSize(m_renderer, &width, &height);
    SDL_SetRenderDrawColor(m_renderer, 0, 0, 0, 255);
    if (m_texture) {
      // Each pixel is drawn once: black around the picture only.
      m_place = place_picture(m_texture_width, m_texture_height, m_aspect, width, height);
      const int right = m_place.x + m_place.w, bottom = m_place.y + m_place.h;
      for (const SDL_Rect& bar : {SDL_Rect{0, 0, width, m_place.y}, SDL_Rect{0, bottom, width, height - bottom},
                                  SDL_Rect{0, m_place.y, m_place.x, m_place.h}, SDL_Rect{right, m_place.y, width - right, m_place.h}})
        if (bar.w > 0 && bar.h > 0) SDL_RenderFillRect(m_renderer, &bar);
      SDL_RenderCopy(m_renderer, m_texture, nullptr, &m_place);
    } else {
      SDL_RenderClear(m_renderer);
    }
    if (m_console_open) draw_console(width, height);
    SDL_RenderPresent(m_renderer);
  }

  // The lower half of the window.
  void draw_console(int width, int height) {
    const SDL_Rect place{0, height / 2, width, height - height / 2};
    if (place.w <= 0 || place.h <= 0) return;
    if (!m_console_texture || place.w != m_console_width || place.h != m_console_height) {
      if (m_console_texture) SDL_DestroyTexture(m_console_texture);
      m_console_texture = SDL_CreateTexture(m_renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING, place.w, place.h);
      m_console_width = place.w;
      m_console_height = place.h;
    }
    m_console.draw(m_console_pixels, static_cast<u32>(place.w), static_cast<u32>(place.h));
    if (!m_console_texture) return;
    SDL_UpdateTexture(m_console_texture, nullptr, m_console_pixels.data(), place.w * 4);
    SDL_RenderCopy(m_renderer, m_console_texture, nullptr, &place);
  }

  // Wiring.
  DisplayControl& m_control;
  const DisplaySpec m_spec;
  std::thread m_thread;
  std::atomic<bool> m_ending = false, m_awake = false;
  std::atomic<Uint32> m_wake_type = 0;
  std::atomic<bool> m_absolute = false;
  // Shared by both threads.
  std::mutex m_mutex;
  ScreenFrame m_frame;
  ScreenRectangle m_changed;
  MachineStatus m_status;
  std::string m_new_notice, m_console_output;
  // The window's thread's.
  SDL_Window* m_window = nullptr;
  SDL_Renderer* m_renderer = nullptr;
  SDL_Texture* m_texture = nullptr;
  SDL_Texture* m_console_texture = nullptr;
  u32 m_texture_width = 0, m_texture_height = 0;
  double m_aspect = 1;
  int m_window_width = 720, m_window_height = 540;
  int m_console_width = 0, m_console_height = 0;
  SDL_Rect m_place{};
  OverlayConsole m_console;
  std::vector<u32> m_console_pixels;
  SDL_Scancode m_hot_key = SDL_SCANCODE_UNKNOWN;
  u8 m_buttons = 0;
  int m_pointer_x = 0, m_pointer_y = 0;  // in points from the window's corner
  bool m_console_open = false, m_console_greeted = false;
  bool m_grabbed = false, m_full_screen = false, m_sized_by_user = false;
  bool m_stale = true, m_lost = false;
  std::string m_title, m_notice;
  Uint32 m_notice_until = 0;
};

}  // namespace

bool has_sdl_window() { return true; }

std::unique_ptr<Display> make_sdl_window(DisplayControl& control, const DisplaySpec& spec, std::vector<u8> font) {
  return std::make_unique<SdlWindow>(control, spec, std::move(font));
}

bool host_has_display() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value && *value;
  };
  // SDL_VIDEODRIVER: the user knows of a display that these do not tell of.
  return set("DISPLAY") || set("WAYLAND_DISPLAY") || set("SDL_VIDEODRIVER");
}

}  // namespace vellum
