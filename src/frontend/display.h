// What windows, VNC servers and terminals that show the guest's screen have in common, and what they may ask for.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "devices/key_code.h"
#include "devices/screen_source.h"
#include "state/error.h"

namespace vellum {

// Buttons of a pointer, as a set.
enum PointerButton : u8 { kPointerLeft = 1, kPointerRight = 2, kPointerMiddle = 4, kPointerBack = 8, kPointerForward = 16 };

// How the machine does, for a window's title.
struct MachineStatus {
  bool running = false;
  double million_instructions = 0;  // guest instructions a second, in millions, over the last second
  bool operator==(const MachineStatus&) const = default;
};

// What displays ask of the machine. Everything but post() is for the machine's thread; a display with a thread of its own
// posts functions that do the asking.
class DisplayControl {
 public:
  virtual ~DisplayControl() = default;
  // Runs `function` on the machine's thread, soon. From any thread.
  virtual void post(std::function<void()> function) = 0;

  // Keys by place. Of several presses without a release only the first counts, so a host's key repeat may come through.
  virtual void key(KeyCode code, bool down) = 0;
  // Releases every key and button that a display holds down: it has lost the keyboard, or its user has gone.
  virtual void release_all() = 0;
  // The pointer moved by counts to the right and down; `wheel` in notches, positive away from the user; `buttons` are down now.
  virtual void move_pointer(int dx, int dy, int wheel, u8 buttons) = 0;
  // Whether the guest listens to a pointer that knows its place; then place_pointer() moves it and nobody needs a grab.
  virtual bool pointer_is_absolute() = 0;
  // Place in 0..32767, from the left and the top edge of the frame to the right and the bottom one.
  virtual void place_pointer(u16 x, u16 y, int wheel, u8 buttons) = 0;

  // The text screen now; without rows in a graphics mode.
  virtual TextScreen text() = 0;
  // Presses Ctrl-Alt-Delete and releases it.
  virtual void press_ctrl_alt_delete() = 0;
  // Stops a running machine, lets a stopped one run on.
  virtual void toggle_pause() = 0;
  // Ends the program as the monitor's quit does.
  virtual void quit() = 0;
  // Writes what is shown as PNG to `path`, or to a new file named after the date when it is empty. Returns the file's name.
  virtual Result<std::string> take_screenshot(const std::string& path) = 0;
  // Puts an image into the drive that fits it: a floppy drive when it is as small as a floppy, the first USB disk
  // drive when there is one and the image is no CD's or DVD's, else the first CD-ROM drive.
  // Returns the drive's name.
  virtual Result<std::string> insert_image(const std::string& path) = 0;
  // Runs a line of the monitor and returns what it prints.
  virtual std::string run_monitor_command(const std::string& line) = 0;
};

// A place where the screen is shown. The machine's thread calls it and never waits for it: what takes time, a display does
// on a thread of its own, from a copy.
class Display {
 public:
  virtual ~Display() = default;
  // Starts to show and to listen. An error ends the program before the machine has started.
  virtual Result<void> open() = 0;
  // Where it is reached, for a message to the user; empty: they see it.
  virtual std::string announcement() const { return {}; }
  // Whether frames are looked at at all. When this becomes true again, the next show() has all as changed.
  virtual bool wants_frames() const { return true; }
  // `changed` parts of the frame are new since the last call; never empty. All of it when the size changed.
  virtual void show(const ScreenFrame& frame, std::span<const ScreenRectangle> changed) = 0;
  // About once a second, and when the machine stops or goes on.
  virtual void show_status(const MachineStatus&) {}
};

}  // namespace vellum
