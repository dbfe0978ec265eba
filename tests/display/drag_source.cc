// Drops a file on a window as a file manager does: XDND (freedesktop.org, "Drag-and-Drop Protocol for the X Window System"), version 5.
#include <X11/Xatom.h>
#include <X11/Xlib.h>
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

constexpr long kVersion = 5;
constexpr auto kPatience = std::chrono::seconds(20);

class DragSource {
 public:
  DragSource(Display* display, Window target, std::string file)
      : m_display(display), m_target(target), m_list("file://" + std::move(file) + "\r\n"),
        m_window(XCreateSimpleWindow(display, DefaultRootWindow(display), 0, 0, 1, 1, 0, 0, 0)) {}

  // Goes through enter, position, drop. False when the window does not answer, or wants nothing of it.
  bool drop(int x, int y) {
    XSetSelectionOwner(m_display, atom("XdndSelection"), m_window, CurrentTime);
    send("XdndEnter", kVersion << 24, static_cast<long>(atom("text/uri-list")), 0, 0);
    send("XdndPosition", 0, (x << 16) | y, CurrentTime, static_cast<long>(atom("XdndActionCopy")));
    constexpr long kAccepts = 1;
    if (!(answer("XdndStatus") & kAccepts)) return false;
    send("XdndDrop", 0, CurrentTime, 0, 0);
    return answer("XdndFinished") & kAccepts;
  }

 private:
  Atom atom(const char* name) { return XInternAtom(m_display, name, False); }

  void send(const char* type, long a, long b, long c, long d) {
    XEvent event{};
    event.xclient = {.type = ClientMessage, .serial = 0, .send_event = True, .display = m_display, .window = m_target,
                     .message_type = atom(type), .format = 32, .data = {.l = {static_cast<long>(m_window), a, b, c, d}}};
    XSendEvent(m_display, m_target, False, NoEventMask, &event);
    XFlush(m_display);
  }

  // The flags of the target's message; serves the file's name meanwhile. 0 when it does not come.
  long answer(const char* type) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      pollfd descriptor{.fd = ConnectionNumber(m_display), .events = POLLIN, .revents = 0};
      if (!XPending(m_display)) poll(&descriptor, 1, 100);
      while (XPending(m_display)) {
        XEvent event;
        XNextEvent(m_display, &event);
        if (event.type == SelectionRequest) serve(event.xselectionrequest);
        if (event.type == ClientMessage && event.xclient.message_type == atom(type)) return event.xclient.data.l[1];
      }
    }
    return 0;
  }

  void serve(const XSelectionRequestEvent& request) {
    const bool known = request.target == atom("text/uri-list");
    if (known)
      XChangeProperty(m_display, request.requestor, request.property, request.target, 8, PropModeReplace,
                      reinterpret_cast<const unsigned char*>(m_list.data()), static_cast<int>(m_list.size()));
    XEvent event{};
    event.xselection = {.type = SelectionNotify, .serial = 0, .send_event = True, .display = m_display, .requestor = request.requestor,
                        .selection = request.selection, .target = request.target, .property = known ? request.property : None, .time = request.time};
    XSendEvent(m_display, request.requestor, False, NoEventMask, &event);
    XFlush(m_display);
  }

  Display* m_display;
  Window m_target;
  std::string m_list;
  Window m_window;
};

}  // namespace

// usage: drag_source WINDOW X Y FILE      (X and Y on the screen; FILE absolute, without characters that URLs escape)
int main(int argc, char** argv) {
  Display* display = argc == 5 ? XOpenDisplay(nullptr) : nullptr;
  if (!display) return std::fprintf(stderr, "usage: drag_source WINDOW X Y FILE, with DISPLAY set\n"), 2;
  const bool dropped = DragSource(display, std::strtoul(argv[1], nullptr, 0), argv[4]).drop(std::atoi(argv[2]), std::atoi(argv[3]));
  XCloseDisplay(display);
  if (!dropped) std::fprintf(stderr, "the window did not take the file\n");
  return dropped ? 0 : 1;
}
