// -netdev user: libslirp, which makes of the guest's packets connections of this program.
#include <glib.h>
#include <libslirp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "frontend/network_backends.h"
#include "machine/machine_clock.h"
#include "state/log.h"

namespace vellum {

namespace {

in_addr network_order(const Ipv4Address& address) {
  in_addr result;
  std::memcpy(&result, address.data(), sizeof(result));
  return result;
}

class UserNetwork final : public HostNetwork {
 public:
  UserNetwork(EventLoop& events, NetdevSpec spec) : m_events(events), m_spec(std::move(spec)) {}
  ~UserNetwork() override {
    m_group.reset();
    if (m_slirp) slirp_cleanup(m_slirp);
  }

  Result<void> open() override;
  void send(std::span<const u8> frame) override {
    if (m_slirp) slirp_input(m_slirp, frame.data(), static_cast<int>(frame.size()));
  }
  std::string describe() const override;

 private:
  struct HostTimer {
    SlirpTimerId id;
    void* argument;
    i64 deadline = -1;  // milliseconds; none when negative
  };
  static i64 milliseconds() { return static_cast<i64>(host_nanoseconds() / 1'000'000); }
  static UserNetwork& self(void* opaque) { return *static_cast<UserNetwork*>(opaque); }
  static const SlirpCb& callbacks();
  void fill(std::vector<pollfd>& polled, std::optional<u64>& nanoseconds);
  void ready(std::span<const pollfd> polled);

  EventLoop& m_events;
  NetdevSpec m_spec;
  Slirp* m_slirp = nullptr;
  std::unique_ptr<EventGroup> m_group;
  std::vector<std::unique_ptr<HostTimer>> m_timers;
};

// What the guest does wrong is a line of the log like others, with the log's limit; so is what the library says by GLib.
const SlirpCb& UserNetwork::callbacks() {
  static const SlirpCb kCallbacks = {
      .send_packet = [](const void* data, size_t size, void* opaque) -> ssize_t {
        self(opaque).receive({static_cast<const u8*>(data), size});
        return static_cast<ssize_t>(size);
      },
      .guest_error = [](const char* text, void*) { log(LogItem::GuestErrors, "user network: {}", text); },
      .clock_get_ns = [](void*) -> int64_t { return static_cast<int64_t>(host_nanoseconds()); },
      .timer_new = nullptr,
      .timer_free =
          [](void* timer, void* opaque) {
            std::erase_if(self(opaque).m_timers, [&](const auto& other) { return other.get() == timer; });
          },
      .timer_mod = [](void* timer, int64_t expires, void*) { static_cast<HostTimer*>(timer)->deadline = expires; },
      .register_poll_fd = [](int, void*) {},
      .unregister_poll_fd = [](int, void*) {},
      .notify = [](void* opaque) { self(opaque).m_events.wake(); },
      .init_completed = [](Slirp*, void*) {},
      .timer_new_opaque = [](SlirpTimerId id, void* argument, void* opaque) -> void* {
        return self(opaque).m_timers.emplace_back(std::make_unique<HostTimer>(id, argument)).get();
      },
  };
  return kCallbacks;
}

Result<void> UserNetwork::open() {
  const UserNetworkSpec& user = m_spec.user;
  const auto error = [&](std::string text) { return failure(fmt::format("{}: {}", m_spec.option, text)); };
  if (struct stat status; !user.tftp.empty() && (stat(user.tftp.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)))
    return error(fmt::format("tftp={}: there is no such directory", user.tftp));
  g_log_set_handler(
      "Slirp", static_cast<GLogLevelFlags>(G_LOG_LEVEL_MASK), [](const char*, GLogLevelFlags, const char* text, void*) { log(LogItem::GuestErrors, "libslirp: {}", text); },
      nullptr);
  const auto text = [](const std::string& value) { return value.empty() ? nullptr : value.c_str(); };
  SlirpConfig config{};
  config.version = 4;
  config.restricted = user.restricted;
  config.in_enabled = true;
  config.vnetwork = network_order(user.network);
  const u32 mask = ~0u << (32 - user.prefix);
  config.vnetmask.s_addr = htonl(mask);
  config.vhost = network_order(user.host);
  config.vdhcp_start = network_order(user.dhcp_start);
  config.vnameserver = network_order(user.dns);
  // The addresses that QEMU gives, in the site-local range.
  config.in6_enabled = user.ipv6;
  inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
  config.vprefix_len = 64;
  inet_pton(AF_INET6, "fec0::2", &config.vhost6);
  inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
  config.vhostname = text(user.hostname);
  config.tftp_path = text(user.tftp);
  config.bootfile = text(user.bootfile);
  m_slirp = slirp_new(&config, &callbacks(), this);
  if (!m_slirp) return error("libslirp cannot make this network");
  for (const HostForward& forward : user.forwards) {
    errno = 0;
    if (slirp_add_hostfwd(m_slirp, forward.udp, network_order(forward.host), forward.host_port, network_order(forward.guest), forward.guest_port) < 0)
      return error(fmt::format("cannot listen at {} port {} of the host: {}", forward.udp ? "UDP" : "TCP", forward.host_port,
                               errno ? std::strerror(errno) : "the address is not the host's"));
  }
  m_group = std::make_unique<EventGroup>(
      m_events, [this](std::vector<pollfd>& polled, std::optional<u64>& nanoseconds) { fill(polled, nanoseconds); },
      [this](std::span<const pollfd> polled) { ready(polled); });
  return {};
}

void UserNetwork::fill(std::vector<pollfd>& polled, std::optional<u64>& nanoseconds) {
  // In whole milliseconds, rounded up: the library's own delays are much longer.
  const u64 wanted = nanoseconds ? std::min<u64>((*nanoseconds + 999'999) / 1'000'000, ~u32{0} - 1) : ~u32{0};
  auto timeout = static_cast<u32>(wanted);
  struct Adding {
    std::vector<pollfd>& polled;
    usize first;
  } adding{polled, polled.size()};
  slirp_pollfds_fill(
      m_slirp, &timeout,
      [](int descriptor, int events, void* opaque) {
        auto& [all, first] = *static_cast<Adding*>(opaque);
        short interest = 0;
        if (events & SLIRP_POLL_IN) interest |= POLLIN;
        if (events & SLIRP_POLL_OUT) interest |= POLLOUT;
        if (events & SLIRP_POLL_PRI) interest |= POLLPRI;
        all.push_back({descriptor, interest, 0});
        return static_cast<int>(all.size() - first - 1);
      },
      &adding);
  const i64 now = milliseconds();
  for (const auto& timer : m_timers)
    if (timer->deadline >= 0) timeout = static_cast<u32>(std::clamp<i64>(timer->deadline - now, 0, timeout));
  if (timeout < wanted) nanoseconds = u64{timeout} * 1'000'000;
}

void UserNetwork::ready(std::span<const pollfd> polled) {
  slirp_pollfds_poll(
      m_slirp, 0,
      [](int index, void* opaque) {
        const auto& all = *static_cast<std::span<const pollfd>*>(opaque);
        if (index < 0 || static_cast<usize>(index) >= all.size()) return 0;
        const short events = all[static_cast<usize>(index)].revents;
        int result = 0;
        if (events & POLLIN) result |= SLIRP_POLL_IN;
        if (events & POLLOUT) result |= SLIRP_POLL_OUT;
        if (events & POLLPRI) result |= SLIRP_POLL_PRI;
        if (events & POLLERR) result |= SLIRP_POLL_ERR;
        if (events & POLLHUP) result |= SLIRP_POLL_HUP;
        return result;
      },
      &polled);
  const i64 now = milliseconds();
  for (usize i = 0; i < m_timers.size(); ++i) {
    HostTimer& timer = *m_timers[i];
    if (timer.deadline < 0 || timer.deadline > now) continue;
    timer.deadline = -1;
    slirp_handle_timer(m_slirp, timer.id, timer.argument);
  }
}

std::string UserNetwork::describe() const {
  const UserNetworkSpec& user = m_spec.user;
  std::string text = fmt::format("user network {}/{}, host {}{}", format_ipv4(user.network), user.prefix, format_ipv4(user.host), user.restricted ? ", restricted" : "");
  for (const HostForward& forward : user.forwards)
    text += fmt::format(", {} {}:{} to {}:{}", forward.udp ? "UDP" : "TCP", format_ipv4(forward.host), forward.host_port,
                        format_ipv4(forward.guest == Ipv4Address{} ? user.dhcp_start : forward.guest), forward.guest_port);
  return text;
}

}  // namespace

bool has_user_network() { return true; }

std::unique_ptr<HostNetwork> make_user_network(EventLoop& events, const NetdevSpec& spec) { return std::make_unique<UserNetwork>(events, spec); }

}  // namespace vellum
