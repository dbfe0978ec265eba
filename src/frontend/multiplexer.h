// Several users (serial lines, the monitor) on one terminal, with the Ctrl-A prefix.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "frontend/character_backends.h"

namespace vellum {

// Everybody's output goes out; input goes to the user that has the focus. The first user added has it at the start.
class Multiplexer {
 public:
  struct Commands {
    std::function<void()> quit;   // Ctrl-A x
    std::function<void()> flush;  // Ctrl-A s
  };
  Multiplexer(std::unique_ptr<HostBackend> host, Commands commands);

  // A new user of the terminal. `focused` is called whenever it gets the focus by Ctrl-A c.
  CharacterBackend& add_user(std::string name, std::function<void()> focused = [] {});
  HostBackend& host() { return *m_host; }

 private:
  class User final : public CharacterBackend {
   public:
    User(Multiplexer& owner, std::string name, std::function<void()> focused)
        : name(std::move(name)), focused(std::move(focused)), m_owner(owner) {}
    void send(std::span<const u8> data) override { m_owner.output(data); }
    void room_available() override { deliver(); }
    void deliver();

    std::string name;
    std::function<void()> focused;
    std::deque<u8> waiting;  // typed, and not yet taken

   private:
    Multiplexer& m_owner;
  };
  void input(std::span<const u8> data);
  void command(u8 key);
  void output(std::span<const u8> data);
  void say(std::string_view text);

  std::unique_ptr<HostBackend> m_host;
  Commands m_commands;
  std::vector<std::unique_ptr<User>> m_users;
  usize m_focus = 0;
  bool m_prefix = false;      // Ctrl-A was typed
  bool m_timestamps = false;  // Ctrl-A t
  bool m_line_start = true;
};

}  // namespace vellum
