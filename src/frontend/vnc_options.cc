// Parses VNC addresses as other VNC programs write them.
#include "frontend/vnc_options.h"

#include <array>

#include "frontend/host_files.h"
#include "frontend/option_text.h"

namespace vellum {

Result<VncOptions> parse_vnc_options(std::string_view text) {
  static constexpr std::string_view kOption = "-display vnc";
  static constexpr std::string_view kKeys[] = {"address", "password", "password-file"};
  // The protocol's authentication makes a DES key of the password (RFC 6143, 7.2.2): eight characters count.
  constexpr usize kLongestPassword = 8, kLongestFile = 4096;
  constexpr u16 kFirstPort = 5900;
  constexpr u64 kGreatestDisplay = 65535 - kFirstPort;
  const auto values = KeyedValues::parse(kOption, text, "address", kKeys);
  if (!values) return std::unexpected(values.error());
  VncOptions options;
  const std::string address = values->text("address");
  if (address.starts_with("unix:")) {
    options.unix_path = address.substr(5);
    if (options.unix_path.empty()) return failure(fmt::format("{}: unix: needs a path, as in vnc=unix:vnc.sock", kOption));
  } else {
    const auto colon = address.rfind(':');
    if (colon == std::string::npos)
      return failure(fmt::format("{}: '{}' is no address; write HOST:DISPLAY, :DISPLAY or unix:PATH", kOption, address));
    const auto display = parse_number(kOption, address.substr(colon + 1), kGreatestDisplay);
    if (!display) return std::unexpected(display.error());
    options.port = static_cast<u16>(kFirstPort + *display);
    if (colon > 0) options.host = address.substr(0, colon);
    if (options.host.size() > 2 && options.host.front() == '[' && options.host.back() == ']')
      options.host = options.host.substr(1, options.host.size() - 2);
  }
  options.password = values->text("password");
  if (const std::string* file = values->find("password-file")) {
    if (!options.password.empty()) return failure(fmt::format("{}: give password or password-file, not both", kOption));
    const auto content = read_whole_file(kOption, *file, kLongestFile);
    if (!content) return std::unexpected(content.error());
    const std::string_view lines(reinterpret_cast<const char*>(content->data()), content->size());
    options.password = lines.substr(0, lines.find_first_of("\r\n"));
    if (options.password.empty()) return failure(fmt::format("{}: {}: the first line is empty", kOption, *file));
  }
  if (options.password.size() > kLongestPassword)
    return failure(fmt::format("{}: the password has {} characters, and VNC knows no more than eight", kOption, options.password.size()));
  return options;
}

}  // namespace vellum
