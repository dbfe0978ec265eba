// Parses the command line by the groups of options, and writes its help.
#include "frontend/options.h"

#include <algorithm>

#include "frontend/option_groups.h"
#include "frontend/option_text.h"

namespace vellum {

namespace {

Result<void> option_help(OptionParsing& parsing, std::string_view) { return show(parsing, help_text()); }
Result<void> option_version(OptionParsing& parsing, std::string_view) {
  return show(parsing, "Vellum " VELLUM_VERSION "\n");
}

constexpr OptionRow kGeneralOptions[] = {
    {"-help", "", "this text", option_help},
    {"-version", "", "the program's version", option_version},
};

struct Group {
  std::string_view heading;
  std::span<const OptionRow> rows;
};

// In the order of the help.
std::array<Group, 7> groups() {
  return {{{"Machine", machine_options()},
           {"Devices", device_options()},
           {"Firmware and kernel", firmware_options()},
           {"Drives", drive_options()},
           {"Console", console_options()},
           {"Diagnosis", diagnosis_options()},
           {"General", kGeneralOptions}}};
}

const OptionRow* find_row(std::string_view name) {
  for (const Group& group : groups())
    for (const OptionRow& row : group.rows)
      if (row.name == name) return &row;
  return nullptr;
}

void write_row(std::string& text, const OptionRow& row) {
  std::string left = fmt::format("  {}{}{}", row.name, row.argument.empty() ? "" : " ", row.argument);
  std::string_view help = row.help;
  constexpr usize kColumn = 34;
  if (left.size() >= kColumn) text += left + "\n", left.clear();
  while (!help.empty()) {
    const auto line = help.substr(0, help.find('\n'));
    text += fmt::format("{:<{}}{}\n", left, kColumn, line);
    left.clear();
    help.remove_prefix(std::min(line.size() + 1, help.size()));
  }
}

// Shorter or older spellings.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {{"-M", "-machine"}, {"-h", "-help"}};

Result<void> finish(OptionParsing& parsing) {
  if (auto done = finish_machine_options(parsing); !done) return done;
  if (auto done = parsing.options.network.finish(); !done) return done;
  if (auto done = finish_diagnosis_options(parsing); !done) return done;
  if (auto done = finish_drive_options(parsing); !done) return done;
  return finish_console_options(parsing);
}

}  // namespace

std::vector<std::string_view> option_names() {
  std::vector<std::string_view> names;
  for (const Group& group : groups())
    for (const OptionRow& row : group.rows) names.push_back(row.name);
  for (const auto& [alias, name] : kAliases) names.push_back(alias);
  return names;
}

std::string help_text() {
  std::string text =
      "usage: vellum [options] [disk image]\n"
      "Runs an x86 PC: unmodified firmware, kernels and disks. Options are spelled as QEMU spells them.\n";
  for (const Group& group : groups()) {
    text += fmt::format("\n{}:\n", group.heading);
    for (const OptionRow& row : group.rows) write_row(text, row);
  }
  return text +
         "\nCommands (vellum COMMAND -help tells more):\n"
         "  vellum monitor SOCKET [LINE...] a running machine's monitor (-monitor unix:SOCKET,server,nowait)\n"
         "  vellum compare -- OPTIONS       the same guest under two engines, until they differ\n"
         "  vellum trace summarize|export   tables and timelines of a trace (-trace ...,format=binary)\n"
         "  vellum profile [FILE] -- OPTIONS\n"
         "                                  the same as -profile FILE OPTIONS\n"
         "  vellum translate FILE           what becomes of guest code\n"
         "\nExamples:\n"
         "  vellum -m 512 -nographic -kernel vmlinuz -initrd initrd.img -append console=ttyS0\n"
         "  vellum -m 1G -nographic -hda debian.img -snapshot\n"
         "The manual page vellum(1) tells more.\n";
}

Result<std::variant<Options, Information>> parse_options(std::span<const std::string_view> arguments, u64 now) {
  OptionParsing parsing;
  parsing.now = now;
  for (usize i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (!argument.starts_with('-')) {
      if (auto done = add_disk_image(parsing, argument); !done) return std::unexpected(done.error());
      continue;
    }
    // --option is accepted too.
    std::string_view name = argument.starts_with("--") ? argument.substr(1) : argument;
    for (const auto& [alias, full] : kAliases)
      if (name == alias) name = full;
    const OptionRow* row = find_row(name);
    if (!row)
      return failure(fmt::format("{}: unknown option{}", argument, [&] {
        const auto names = option_names();
        const std::string text = suggestion(name, names);
        return text.empty() ? std::string("; -help lists them") : text;
      }()));
    std::string_view value;
    if (!row->argument.empty()) {
      if (i + 1 == arguments.size()) return failure(fmt::format("{}: a value is missing ({} {})", argument, row->name, row->argument));
      value = arguments[++i];
      if (value.empty() && (row->argument == "FILE" || row->argument == "DIR"))
        return failure(fmt::format("{}: the name is empty", argument));
    }
    if (auto done = row->handle(parsing, value); !done) return std::unexpected(done.error());
  }
  if (parsing.information) return *parsing.information;
  if (auto done = finish(parsing); !done) return std::unexpected(done.error());
  return std::move(parsing.options);
}

}  // namespace vellum
