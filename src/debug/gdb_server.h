// The socket on which gdb is served: one client at a time; another waits until that one has gone.
#pragma once

#include <memory>
#include <string>

#include "debug/gdb_stub.h"
#include "machine/event_loop.h"
#include "state/error.h"

namespace vellum {

class GdbServer {
 public:
  // `where`: "tcp:[HOST]:PORT" (without a host only this computer's programs get in; port 0: any), or "unix:PATH".
  static Result<std::unique_ptr<GdbServer>> create(const std::string& where, Machine& machine, GdbStub::Wiring wiring);
  // Whether `where` is written so; nothing is opened.
  static Result<void> check(const std::string& where);
  ~GdbServer();
  GdbServer(const GdbServer&) = delete;

  // Where it is served, as gdb's `target remote` takes it.
  const std::string& address() const { return m_address; }
  // The machine ended with this status: says so, and sends what is left.
  void machine_ended(int status);

 private:
  GdbServer(Machine& machine, GdbStub::Wiring wiring, int listener, std::string address, std::string path);
  void accept_client();
  void client_ready(short events);
  void send(std::string_view bytes);
  void flush();
  void close_client();

  EventLoop& m_events;
  int m_listener, m_client = -1;
  std::string m_address, m_path;  // of a unix socket that is ours to remove
  std::string m_pending;
  bool m_closing = false;
  GdbStub m_stub;
  std::unique_ptr<EventSource> m_listener_source, m_client_source;
};

}  // namespace vellum
