// Carries the guest's screen to all displays, and what their users do to the machine.
#pragma once

#include <bitset>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "frontend/display.h"
#include "machine/event_loop.h"
#include "machine/machine.h"
#include "state/error.h"

namespace vellum {

class Screen final : public DisplayControl {
 public:
  // `run_command` runs a line of the monitor.
  Screen(Machine& machine, std::function<std::string(const std::string&)> run_command);
  ~Screen() override;

  void add(std::unique_ptr<Display> display) { m_displays.push_back({std::move(display)}); }
  // Opens every display and starts to show. Announces where they are.
  Result<void> open();

  void post(std::function<void()> function) override;
  void key(KeyCode code, bool down) override;
  void release_all() override;
  void move_pointer(int dx, int dy, int wheel, u8 buttons) override;
  bool pointer_is_absolute() override { return m_machine.board().pointer_is_absolute(); }
  void place_pointer(u16 x, u16 y, int wheel, u8 buttons) override;
  TextScreen text() override;
  void press_ctrl_alt_delete() override;
  void toggle_pause() override;
  void quit() override { m_machine.request_end(0); }
  Result<std::string> take_screenshot(const std::string& path) override;
  Result<std::string> insert_image(const std::string& path) override;
  std::string run_monitor_command(const std::string& line) override { return m_run_command(line); }

 private:
  struct Shown {
    std::unique_ptr<Display> display;
    bool missed = true;  // changes while it did not look
  };
  void tick();
  void update_frame();
  void update_status();
  void run_posted();

  // Wiring.
  Machine& m_machine;
  std::function<std::string(const std::string&)> m_run_command;
  std::vector<Shown> m_displays;
  int m_timer = -1, m_posted_event = -1;
  std::unique_ptr<EventSource> m_timer_source, m_posted_source;
  std::mutex m_posted_mutex;
  std::vector<std::function<void()>> m_posted;
  // State.
  std::bitset<256> m_pressed;
  u8 m_mouse_buttons = 0, m_tablet_buttons = 0;
  u16 m_x = 0, m_y = 0;  // the tablet's last place
  MachineStatus m_status;
  u64 m_status_time = 0, m_status_instructions = 0;
};

}  // namespace vellum
