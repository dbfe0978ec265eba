// The header of recordings, and checksums of what a machine starts with.
#include "frontend/recording.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "storage/fingerprint.h"

namespace vellum {

namespace {

constexpr std::string_view kMachine = "machine:\n";

std::string checksum(std::span<const u8> data) {
  if (data.empty()) return "none";
  return fmt::format("size={} crc32={:08x}", data.size(), static_cast<u32>(crc32_z(0, data.data(), data.size())));
}

bool number(std::string_view text, u64& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string RecordingHeader::text() const {
  return fmt::format("clock={}\nseed={}\nrtc={}\nports={}\n{}{}", clock == ClockMode::Paced ? "paced" : "instructions", seed, rtc_base,
                     fmt::join(ports, ","), kMachine, machine);
}

Result<RecordingHeader> RecordingHeader::parse(const std::string& text) {
  RecordingHeader header;
  std::string_view rest = text;
  while (!rest.starts_with(kMachine)) {
    const auto line = rest.substr(0, rest.find('\n'));
    if (line.size() == rest.size()) return failure("the description of its machine makes no sense");
    rest.remove_prefix(line.size() + 1);
    const auto equals = std::min(line.find('='), line.size() - 1);
    const auto key = line.substr(0, equals);
    std::string_view value = line.empty() ? line : line.substr(equals + 1);
    bool valid = true;
    if (key == "clock") {
      valid = value == "paced" || value == "instructions";
      header.clock = value == "paced" ? ClockMode::Paced : ClockMode::Instructions;
    } else if (key == "seed") {
      valid = number(value, header.seed);
    } else if (key == "rtc") {
      valid = number(value, header.rtc_base);
    } else if (key == "ports") {
      while (!value.empty()) {
        const auto name = value.substr(0, value.find(','));
        header.ports.emplace_back(name);
        value.remove_prefix(std::min(name.size() + 1, value.size()));
      }
    } else {
      valid = false;
    }
    if (!valid) return failure(fmt::format("the description of its machine makes no sense ({})", line));
  }
  header.machine = rest.substr(kMachine.size());
  return header;
}

Result<std::string> describe_contents(PcConfig& config) {
  std::string text = fmt::format("firmware={}\nvideo BIOS={}\n", checksum(config.bios), checksum(config.vga_bios));
  if (config.kernel)
    text += fmt::format("kernel={}\ninitial RAM disk={}\nkernel command line={}\n", checksum(config.kernel->kernel), checksum(config.kernel->initrd),
                        config.kernel->command_line);
  else text += "kernel=none\n";
  const auto medium_text = [](BlockDevice* medium) -> Result<std::string> {
    if (!medium) return "empty";
    return medium_fingerprint(*medium);
  };
  for (usize i = 0; i < config.ide.size(); ++i) {
    const auto& slot = config.ide[i];
    if (!slot.present) continue;
    const auto medium = medium_text(slot.medium.get());
    if (!medium) return std::unexpected(medium.error());
    text += fmt::format("ide{}-{}={} {}\n", i / 2, i % 2, slot.cdrom ? "CD-ROM" : "disk", *medium);
  }
  for (usize i = 0; i < config.floppies.size(); ++i) {
    const auto medium = medium_text(config.floppies[i].get());
    if (!medium) return std::unexpected(medium.error());
    text += fmt::format("floppy{}={}\n", i, *medium);
  }
  for (usize i = 0; i < config.usb_disks.size(); ++i) {
    const auto medium = medium_text(config.usb_disks[i].get());
    if (!medium) return std::unexpected(medium.error());
    text += fmt::format("usb{}={}\n", i, *medium);
  }
  for (usize i = 0; i < config.network.size(); ++i) {
    const auto& card = config.network[i];
    text += fmt::format("network{}={} {} rom {}\n", i, format_mac_address(card.address), card.connected ? "connected" : "no cable", checksum(card.rom));
  }
  std::string lines;
  for (const auto& line : config.serial) lines += !line.present ? '-' : line.backend ? 'c' : 'o';
  return text + fmt::format("boot order={}\nboot menu={}\nfirmware on serial line={}\nserial lines={}\n", config.boot_order, config.boot_menu,
                            config.text_only, lines);
}

std::string first_difference(const std::string& recorded, const std::string& present) {
  std::string_view theirs = recorded, ours = present;
  while (!theirs.empty() || !ours.empty()) {
    const auto their_line = theirs.substr(0, theirs.find('\n')), our_line = ours.substr(0, ours.find('\n'));
    if (their_line != our_line) return fmt::format("the recording has {}, this machine has {}", their_line, our_line);
    theirs.remove_prefix(std::min(their_line.size() + 1, theirs.size()));
    ours.remove_prefix(std::min(our_line.size() + 1, ours.size()));
  }
  return {};
}

}  // namespace vellum
