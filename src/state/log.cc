// Log categories, their names and the rate limit.
#include "state/log.h"

#include <cstdio>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "state/nearest.h"

namespace vellum {

u32 g_log_mask = 1u << static_cast<u32>(LogItem::Unsupported);

namespace {

constexpr LogItemName kNames[] = {
    {LogItem::GuestErrors, "guest_errors", "what no correct guest does"},
    {LogItem::Unsupported, "unimp", "what Vellum does not support (always on)"},
    {LogItem::Interrupts, "int", "exceptions and interrupts as they are delivered"},
    {LogItem::InAsm, "in_asm", "guest code as it is decoded"},
    {LogItem::Exec, "exec", "blocks as they are entered (they are not linked then)"},
    {LogItem::Op, "op", "what translated instructions become"},
    {LogItem::OutAsm, "out_asm", "host code as it is made"},
    {LogItem::Callouts, "callouts", "callouts as they are run"},
    {LogItem::SelfModification, "smc", "blocks that are forgotten because their bytes are overwritten"},
    {LogItem::Tiers, "tiers", "which engine takes which code"},
    {LogItem::CpuReset, "cpu_reset", "CPU state before each reset"},
    {LogItem::Mmu, "mmu", "page walks that fault"},
    {LogItem::Ports, "ioport", "accesses to unassigned I/O ports"},
    {LogItem::Mmio, "mmio", "accesses to unassigned physical addresses"},
    {LogItem::Pci, "pci", "PCI configuration and interrupt routing"},
    {LogItem::Disk, "disk", "commands to disks, CD-ROMs and floppies"},
};

std::FILE* g_file = nullptr;

}  // namespace

std::span<const LogItemName> log_item_names() { return kNames; }

Result<void> enable_log_items(std::string_view items) {
  while (!items.empty()) {
    const auto comma = items.find(',');
    const auto name = items.substr(0, comma);
    items = comma == items.npos ? std::string_view() : items.substr(comma + 1);
    const LogItemName* found = nullptr;
    std::vector<std::string_view> names;
    for (const auto& candidate : kNames) {
      names.push_back(candidate.name);
      if (candidate.name == name) found = &candidate;
    }
    if (!found) {
      const auto near = nearest_name(name, names);
      return failure(fmt::format("-d: unknown log item '{}'{}", name,
                                 near.empty() ? std::string(", see -d help") : fmt::format(", did you mean '{}'?", near)));
    }
    g_log_mask |= 1u << static_cast<u32>(found->item);
  }
  return {};
}

Result<void> open_log_file(std::string_view path) {
  std::FILE* file = std::fopen(std::string(path).c_str(), "we");
  if (!file) return failure(fmt::format("-D {}: cannot open the log file: {}", path, std::strerror(errno)));
  std::setvbuf(file, nullptr, _IOLBF, 0);
  g_file = file;
  return {};
}

void write_log(LogItem item, const char* format_identity, std::string_view line) {
  if (item == LogItem::Unsupported || item == LogItem::GuestErrors) {
    static std::unordered_map<const void*, u64> counts;
    const u64 count = ++counts[format_identity];
    if (count > 100 && (count & (count - 1)) != 0) return;
  }
  std::string_view name = "log";
  for (const auto& candidate : kNames)
    if (candidate.item == item) name = candidate.name;
  const std::string text = fmt::format("{}: {}\n", name, line);
  std::fwrite(text.data(), 1, text.size(), g_file ? g_file : stderr);
}

}  // namespace vellum
