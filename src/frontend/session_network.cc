// Network cards and their cables, as the options ask for them.
#include <algorithm>

#include "frontend/host_files.h"
#include "frontend/session.h"

namespace vellum {

namespace {

constexpr u64 kGreatestRom = 256 * 1024;

// The card's own option ROM, by which the firmware boots from the network. Without the package that has it there is none.
Result<std::vector<u8>> read_rom(const NetworkCardSpec& card, const Options& options) {
  const auto models = network_models();
  const std::string standard(std::ranges::find(models, card.model, &NetworkModel::model)->rom);
  const std::string name = card.rom_file.value_or(standard);
  if (name.empty()) return std::vector<u8>();
  const auto path = find_firmware(card.option, name, options.data_directories);
  if (!path) {
    const bool needed = card.rom_file || options.boot_order.starts_with('n');
    return needed ? Result<std::vector<u8>>(std::unexpected(path.error())) : std::vector<u8>();
  }
  return read_whole_file(card.option, *path, kGreatestRom);
}

}  // namespace

Result<void> Session::plan_network(PcConfig& config) {
  for (const NetworkCardSpec& spec : m_options.network.cards) {
    PcConfig::NetworkCard card{.model = spec.model, .address = *spec.address, .connected = !spec.netdev.empty()};
    if (spec.port) card.port = *spec.port;
    if (spec.irq) card.irq = *spec.irq;
    auto rom = read_rom(spec, m_options);
    if (!rom) return std::unexpected(rom.error());
    card.rom = std::move(*rom);
    // What came from the network is in the recording: nothing of it runs at a replay.
    if (card.connected && m_options.replay.empty()) {
      const auto netdev = std::ranges::find(m_options.network.netdevs, spec.netdev, &NetdevSpec::id);
      if (netdev->kind == NetdevSpec::Kind::User && !has_user_network())
        return failure(fmt::format("{}: this build has no user-mode network: it was made without libslirp", netdev->option));
      card.backend = m_networks.emplace_back(make_network(m_events, *netdev)).get();
    }
    config.network.push_back(std::move(card));
  }
  return {};
}

Result<void> Session::open_network() {
  for (const auto& network : m_networks)
    if (auto opened = network->open(); !opened) return opened;
  return {};
}

}  // namespace vellum
