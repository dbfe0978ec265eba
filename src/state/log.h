// The log behind -d ITEMS -D FILE: categories that can be switched on, and a limit that a guest cannot exceed.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string_view>
#include <utility>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

enum class LogItem : u32 {
  GuestErrors,  // the guest did something no correct guest does
  Unsupported,  // the guest asked for something Vellum does not do (always on)
  Interrupts,   // exceptions and interrupts as they are delivered
  InAsm,        // guest code as it is decoded
  Exec,         // blocks as they are entered
  Op,           // what instructions become
  OutAsm,       // host code as it is made
  Callouts,     // callouts as they are run
  SelfModification,  // blocks whose bytes are overwritten
  Tiers,        // which engine takes which code
  CpuReset,     // CPU state before a reset
  Mmu,          // page walks that fault
  Ports,        // accesses to unassigned ports
  Mmio,         // accesses to unassigned physical addresses
  Pci,
  Disk,
  Count
};

struct LogItemName {
  LogItem item;
  std::string_view name;  // as spelled after -d
  std::string_view help;
};
std::span<const LogItemName> log_item_names();

// `items` is a comma-separated list of names. An unknown name is an error that names the nearest valid one.
Result<void> enable_log_items(std::string_view items);
// Sends the log to a file instead of stderr.
Result<void> open_log_file(std::string_view path);

extern u32 g_log_mask;
inline bool log_enabled(LogItem item) { return (g_log_mask >> static_cast<u32>(item)) & 1; }

// Writes one line, prefixed with the item's name. Unsupported and GuestErrors lines that repeat the same format
// string are limited (the first 100 of each are written, then every 2^n-th).
void write_log(LogItem item, const char* format_identity, std::string_view line);

template <class... Args>
void log(LogItem item, fmt::format_string<Args...> format, Args&&... args) {
  if (!log_enabled(item)) return;
  write_log(item, fmt::string_view(format).data(), fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vellum
