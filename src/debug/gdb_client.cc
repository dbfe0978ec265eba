// A blocking connection; "Debugging with GDB", appendix E. What the stub says is not trusted.
#include "debug/gdb_client.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "machine/unix_socket.h"

namespace vellum {

namespace {

constexpr usize kLongestDescription = 1 << 20;
constexpr unsigned kMostFiles = 16;
constexpr usize kMostRegisters = 4096;

Result<int> connect_unix(const std::string& where, const std::string& path) {
  return connect_unix_socket(where, path, fmt::format("start the other emulator first, as in qemu-system-x86_64 -S -gdb unix:{},server,nowait", path));
}

Result<int> connect_tcp(const std::string& where, const std::string& host, const std::string& port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = getaddrinfo(host.empty() ? "127.0.0.1" : host.c_str(), port.c_str(), &hints, &found))
    return failure(fmt::format("{}: {}; use tcp:[HOST]:PORT", where, gai_strerror(error)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  int error = 0;
  for (const addrinfo* entry = found; entry; entry = entry->ai_next) {
    const int descriptor = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && ::connect(descriptor, entry->ai_addr, entry->ai_addrlen) == 0) {
      const int on = 1;
      setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      return descriptor;
    }
    error = errno;
    if (descriptor >= 0) close(descriptor);
  }
  return failure(fmt::format("{}: cannot connect: {}; start the other emulator first, as in qemu-system-x86_64 -S -s", where, std::strerror(error)));
}

// The value of an attribute of an XML element, or nothing.
std::string_view attribute(std::string_view element, std::string_view name) {
  const auto at = element.find(fmt::format(" {}=\"", name));
  if (at == element.npos) return {};
  const auto start = at + name.size() + 3, end = element.find('"', start);
  return end == element.npos ? std::string_view() : element.substr(start, end - start);
}

bool parse(std::string_view text, unsigned& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

GdbClient::GdbClient(int descriptor, std::string where)
    : m_descriptor(descriptor),
      m_where(std::move(where)),
      m_packets({.packet = [this](std::string_view data) { m_answer = data, m_answered = true; },
                 .interrupt = [] {},
                 .send =
                     [this](std::string_view bytes) {
                       while (!bytes.empty() && !m_broken) {
                         const ssize_t count = ::send(m_descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
                         if (count < 0 && errno != EINTR) m_broken = true;
                         if (count > 0) bytes.remove_prefix(static_cast<usize>(count));
                       }
                     }}) {}

GdbClient::~GdbClient() { close(m_descriptor); }

Error GdbClient::failed(std::string_view what) const { return {fmt::format("{}: {}", m_where, what)}; }

Result<std::unique_ptr<GdbClient>> GdbClient::connect(const std::string& where) {
  Result<int> descriptor = failure(fmt::format("{}: use unix:PATH or tcp:[HOST]:PORT", where));
  if (where.starts_with("unix:")) {
    descriptor = connect_unix(where, where.substr(5));
  } else if (where.starts_with("tcp:")) {
    const auto colon = where.rfind(':');
    if (colon >= 4 && colon + 1 < where.size()) descriptor = connect_tcp(where, where.substr(4, colon - 4), where.substr(colon + 1));
  }
  if (!descriptor) return std::unexpected(descriptor.error());
  auto client = std::unique_ptr<GdbClient>(new GdbClient(*descriptor, where));
  if (auto done = client->read_description(); !done) return std::unexpected(done.error());
  return client;
}

Result<std::string> GdbClient::ask(std::string_view packet, int timeout) {
  m_answered = false;
  m_packets.send(packet);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout);
  while (!m_answered) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return std::unexpected(failed(fmt::format("the stub does not answer '{:.40}'", packet)));
    pollfd waiting{m_descriptor, POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(left)) <= 0) continue;
    u8 buffer[16384];
    const ssize_t count = m_broken ? 0 : recv(m_descriptor, buffer, sizeof(buffer), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      m_end = "the connection was closed";
      return std::unexpected(failed(*m_end));
    }
    m_packets.receive({buffer, static_cast<usize>(count)});
  }
  return m_answer;
}

Result<std::string> GdbClient::resume(char how, int timeout) {
  auto answer = ask(std::string_view(&how, 1), timeout);
  if (!answer) return answer;
  if (answer->starts_with('W') || answer->starts_with('X')) m_end = "its program ended with status " + answer->substr(1, 2);
  else if (!answer->starts_with('T') && !answer->starts_with('S')) return std::unexpected(failed(fmt::format("the stub answers '{:.40}' where it should tell of a stop", *answer)));
  return answer;
}

Result<std::string> GdbClient::read_feature(const std::string& name) {
  std::string text;
  while (text.size() < kLongestDescription) {
    auto piece = ask(fmt::format("qXfer:features:read:{}:{:x},fff", name, text.size()));
    if (!piece) return piece;
    if (piece->empty() || (piece->front() != 'l' && piece->front() != 'm')) return std::unexpected(failed(fmt::format("the stub does not tell its registers ({})", name)));
    text += piece->substr(1);
    if (piece->front() == 'l') return text;
    if (piece->size() == 1) break;
  }
  return std::unexpected(failed(fmt::format("the description of the stub's registers ({}) has no end", name)));
}

Result<void> GdbClient::read_description() {
  if (auto asked = ask("qSupported:xmlRegisters=i386"); !asked) return std::unexpected(asked.error());
  std::vector<std::string> files{"target.xml"};
  unsigned number = 0, offset = 0;
  for (usize i = 0; i < files.size() && i < kMostFiles; ++i) {
    const auto text = read_feature(files[i]);
    if (!text) return std::unexpected(text.error());
    for (usize at = text->find('<'); at != text->npos; at = text->find('<', at + 1)) {
      if (text->compare(at, 4, "<!--") == 0) {
        at = text->find("-->", at);
        if (at == text->npos) break;
        continue;
      }
      const auto end = text->find('>', at);
      if (end == text->npos) break;
      const std::string_view element = std::string_view(*text).substr(at, end - at);
      if (element.starts_with("<xi:include")) files.emplace_back(attribute(element, "href"));
      if (!element.starts_with("<reg ")) continue;
      unsigned bits = 0;
      if (const auto given = attribute(element, "regnum"); !given.empty() && !parse(given, number)) number = 0;
      if (!parse(attribute(element, "bitsize"), bits) || bits % 8 || bits > 4096 || m_registers.size() == kMostRegisters)
        return std::unexpected(failed("the description of the stub's registers makes no sense"));
      m_registers.push_back({std::string(attribute(element, "name")), number++, offset, bits / 8});
      offset += bits / 8;
    }
  }
  return {};
}

bool GdbClient::Values::knows(const Register& reg) const {
  return has(reg) && std::all_of(known.begin() + reg.offset, known.begin() + reg.offset + reg.bytes, [](bool byte) { return byte; });
}

Result<GdbClient::Values> GdbClient::read_registers() {
  auto answer = ask("g");
  if (!answer) return std::unexpected(answer.error());
  Values values;
  // "xx" stands for a byte that is not known.
  for (usize i = 0; i + 1 < answer->size(); i += 2) {
    const bool unknown = (*answer)[i] == 'x' && (*answer)[i + 1] == 'x';
    if (unknown) (*answer)[i] = (*answer)[i + 1] = '0';
    values.known.push_back(!unknown);
  }
  if (!gdb_unhex(*answer, values.bytes)) return std::unexpected(failed("the stub's registers make no sense"));
  return values;
}

}  // namespace vellum
