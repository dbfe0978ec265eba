// Sockets of the event loop; nothing here blocks.
#include "debug/gdb_server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "machine/unix_socket.h"

namespace vellum {

namespace {

// A client that takes nothing while it asks for so much has gone astray.
constexpr usize kMostPending = 16 << 20;

struct Listener {
  int descriptor;
  std::string address, path;
};

Result<Listener> listen_unix(const std::string& where, const std::string& path) {
  const auto descriptor = listen_on_unix_socket(fmt::format("-gdb {}", where), path);
  if (!descriptor) return std::unexpected(descriptor.error());
  return Listener{*descriptor, path, path};
}

Result<Listener> listen_tcp(const std::string& where, const std::string& host, const std::string& port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const std::string bound = host.empty() ? "127.0.0.1" : host;
  if (const int error = getaddrinfo(bound.c_str(), port.c_str(), &hints, &found))
    return failure(fmt::format("-gdb {}: {} port {}: {}; use tcp:[HOST]:PORT", where, bound, port, gai_strerror(error)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  int error = 0;
  for (const addrinfo* entry = found; entry; entry = entry->ai_next) {
    const int descriptor = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    if (descriptor >= 0) setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (descriptor >= 0 && bind(descriptor, entry->ai_addr, entry->ai_addrlen) == 0 && listen(descriptor, 1) == 0) {
      sockaddr_storage name{};
      socklen_t size = sizeof(name);
      getsockname(descriptor, reinterpret_cast<sockaddr*>(&name), &size);
      const u16 number = name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(name).sin6_port : reinterpret_cast<sockaddr_in&>(name).sin_port;
      return Listener{descriptor, fmt::format("{}:{}", host, ntohs(number)), ""};
    }
    error = errno;
    if (descriptor >= 0) close(descriptor);
  }
  return failure(fmt::format("-gdb {}: cannot listen there: {}{}", where, std::strerror(error), error == EADDRINUSE ? "; use another port" : ""));
}

// Behind unix: and tcp:; further words divided by commas, as QEMU has them, say nothing here.
struct Where {
  std::string path, host, port;
};

Result<Where> parse_where(const std::string& where) {
  const std::string own = where.substr(0, where.find(','));
  if (own.starts_with("unix:")) {
    Where found{.path = own.substr(5)};
    if (found.path.empty() || found.path.size() >= sizeof(sockaddr_un::sun_path))
      return failure(fmt::format("-gdb {}: the path of a Unix socket has 1 to {} characters", where, sizeof(sockaddr_un::sun_path) - 1));
    return found;
  }
  const auto colon = own.rfind(':');
  if (!own.starts_with("tcp:") || colon < 4 || colon + 1 == own.size()) return failure(fmt::format("-gdb {}: use tcp:[HOST]:PORT, as in tcp::1234, or unix:PATH", where));
  Where found{.host = own.substr(4, colon - 4), .port = own.substr(colon + 1)};
  // The resolver takes what is too large, less its upper bits.
  unsigned number = 0;
  const auto [end, error] = std::from_chars(found.port.data(), found.port.data() + found.port.size(), number);
  if (error != std::errc() || end != found.port.data() + found.port.size() || number > 0xffff)
    return failure(fmt::format("-gdb {}: '{}' is no port; write a number up to 65535, as in tcp::1234", where, found.port));
  return found;
}

Result<Listener> listen_at(const std::string& where) {
  const auto found = parse_where(where);
  if (!found) return std::unexpected(found.error());
  return found->path.empty() ? listen_tcp(where, found->host, found->port) : listen_unix(where, found->path);
}

}  // namespace

Result<void> GdbServer::check(const std::string& where) {
  const auto found = parse_where(where);
  return found ? Result<void>() : std::unexpected(found.error());
}

Result<std::unique_ptr<GdbServer>> GdbServer::create(const std::string& where, Machine& machine, GdbStub::Wiring wiring) {
  auto listener = listen_at(where);
  if (!listener) return std::unexpected(listener.error());
  return std::unique_ptr<GdbServer>(new GdbServer(machine, std::move(wiring), listener->descriptor, listener->address, listener->path));
}

GdbServer::GdbServer(Machine& machine, GdbStub::Wiring wiring, int listener, std::string address, std::string path)
    : m_events(machine.events()),
      m_listener(listener),
      m_address(std::move(address)),
      m_path(std::move(path)),
      m_stub(machine,
             [&] {
               wiring.send = [this](std::string_view bytes) { send(bytes); };
               return std::move(wiring);
             }()) {
  m_listener_source = std::make_unique<EventSource>(m_events, m_listener, [this] { return static_cast<short>(m_client < 0 ? POLLIN : 0); },
                                                    [this](short) { accept_client(); });
}

GdbServer::~GdbServer() {
  m_client_source.reset();
  m_listener_source.reset();
  if (m_client >= 0) close(m_client);
  close(m_listener);
  if (!m_path.empty()) unlink(m_path.c_str());
}

void GdbServer::accept_client() {
  const int client = accept4(m_listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0) return;
  const int on = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // fails on a Unix socket, which needs none
  m_client = client;
  m_closing = false;
  m_pending.clear();
  m_client_source = std::make_unique<EventSource>(
      m_events, client, [this] { return static_cast<short>(POLLIN | (m_pending.empty() ? 0 : POLLOUT)); },
      [this](short events) { client_ready(events); });
  m_stub.connected();
}

void GdbServer::client_ready(short events) {
  if (events & POLLOUT) flush();
  if (events & (POLLIN | POLLHUP | POLLERR)) {
    u8 buffer[16384];
    const ssize_t count = read(m_client, buffer, sizeof(buffer));
    if (count > 0) m_stub.receive({buffer, static_cast<usize>(count)});
    else if (count == 0 || (errno != EAGAIN && errno != EINTR)) m_closing = true;
  }
  if (m_closing) close_client();
}

void GdbServer::send(std::string_view bytes) {
  m_pending += bytes;
  if (m_pending.size() > kMostPending) m_closing = true;
  else flush();
}

void GdbServer::flush() {
  while (!m_pending.empty()) {
    const ssize_t count = ::send(m_client, m_pending.data(), m_pending.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno != EAGAIN && errno != EINTR) m_closing = true;
      return;
    }
    m_pending.erase(0, static_cast<usize>(count));
  }
}

void GdbServer::close_client() {
  m_client_source.reset();
  close(m_client);
  m_client = -1;
  m_pending.clear();
  m_stub.disconnected();
}

void GdbServer::machine_ended(int status) {
  if (m_client < 0) return;
  m_stub.machine_ended(status);
}

}  // namespace vellum
