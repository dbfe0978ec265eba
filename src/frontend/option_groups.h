// What the files of options (machine_options.cc, drive_options.cc, …) give to the command line: their rows of the table, and
// the checks that need all options.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "frontend/options.h"

namespace vellum {

// State while parsing, beside the result.
struct OptionParsing {
  Options options;
  u64 now;
  std::optional<Information> information;
  bool serial_given = false;
  bool display_given = false;
  bool rtc_given = false;
  bool snapshot = false;
  std::string cpu_text;
  std::vector<std::string> usb_storage;  // each device's drive by its id, empty: none
};

struct OptionRow {
  std::string_view name;      // with the dash
  std::string_view argument;  // empty: none
  std::string_view help;
  Result<void> (*handle)(OptionParsing& parsing, std::string_view value);
};

// Has `text` printed instead of running a machine.
inline Result<void> show(OptionParsing& parsing, std::string text) {
  if (!parsing.information) parsing.information = Information{std::move(text)};
  return {};
}

std::span<const OptionRow> machine_options();
std::span<const OptionRow> device_options();
std::span<const OptionRow> firmware_options();
std::span<const OptionRow> drive_options();
std::span<const OptionRow> console_options();
std::span<const OptionRow> diagnosis_options();

// An argument without a dash.
Result<void> add_disk_image(OptionParsing& parsing, std::string_view file);

// What the options mean together, when all have been read.
Result<void> finish_machine_options(OptionParsing& parsing);
Result<void> finish_diagnosis_options(OptionParsing& parsing);
// After the diagnosis options, some of which have all drives forget what the guest writes.
Result<void> finish_drive_options(OptionParsing& parsing);
Result<void> finish_console_options(OptionParsing& parsing);

}  // namespace vellum
