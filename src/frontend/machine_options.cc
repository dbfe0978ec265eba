// Options of the board, its CPU, memory and clocks, how it is run, and what it starts.
#include "frontend/option_groups.h"

#include <ctime>

#include "debug/gdb_server.h"
#include "frontend/option_text.h"

namespace vellum {

namespace {

constexpr std::string_view kMachines[] = {"pc"};
constexpr u64 kSmallestMemory = u64{1} << 20, kGreatestMemory = u64{64} << 30;

Result<void> option_machine(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?")
    return show(parsing, "Machines:\n  pc    Intel 440FX and PIIX3, as firmware and operating systems of three decades know it (default)\n");
  static constexpr std::string_view kKeys[] = {"type"};
  const auto values = KeyedValues::parse("-machine", value, "type", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto chosen = parse_choice("-machine", values->text("type", "pc"), kMachines);
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.machine = kMachines[*chosen];
  return {};
}

Result<void> option_cpu(OptionParsing& parsing, std::string_view value) {
  if (value == "help" || value == "?") return show(parsing, cpu_model_help());
  parsing.cpu_text = value;
  return {};
}

Result<void> option_memory(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"size"};
  const auto values = KeyedValues::parse("-m", value, "size", kKeys);
  if (!values) return std::unexpected(values.error());
  const auto size = parse_size("-m", values->text("size"), 20);
  if (!size) return std::unexpected(size.error());
  if (*size < kSmallestMemory || *size > kGreatestMemory)
    return failure(fmt::format("-m: '{}' is out of range; memory is 1M to 64G", value));
  constexpr u64 kGranularity = 8192;
  parsing.options.memory_size = (*size + kGranularity - 1) / kGranularity * kGranularity;
  return {};
}

Result<void> option_smp(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"cpus", "sockets", "cores", "threads", "maxcpus"};
  const auto values = KeyedValues::parse("-smp", value, "cpus", kKeys);
  if (!values) return std::unexpected(values.error());
  for (const auto& item : values->items()) {
    const auto count = parse_number("-smp", item.value, 255);
    if (!count) return std::unexpected(count.error());
    if (*count != 1) return failure(fmt::format("-smp: {}={}: this version has machines with one CPU only; use -smp 1", item.key, *count));
  }
  return {};
}

Result<void> option_clock(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kValid[] = {"realtime", "instructions"};
  const auto chosen = parse_choice("-clock", value, kValid);
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.clock = *chosen == 0 ? ClockMode::Realtime : ClockMode::Instructions;
  return {};
}

Result<void> option_engine(OptionParsing& parsing, std::string_view value) {
  const auto chosen = parse_choice("-engine", value, engine_names());
  if (!chosen) return std::unexpected(chosen.error());
  parsing.options.engine.engine = static_cast<Engine>(*chosen);
  return {};
}

Result<void> option_code_cache(OptionParsing& parsing, std::string_view value) {
  const auto size = parse_size("-tb-size", std::string(value), 20);
  if (!size) return std::unexpected(size.error());
  constexpr u64 kSmallest = u64{1} << 20, kGreatest = u64{512} << 20;
  if (*size < kSmallest || *size > kGreatest) return failure(fmt::format("-tb-size: '{}' is out of range; it is 1M to 512M", value));
  parsing.options.engine.code_cache_size = (*size + kSmallest - 1) / kSmallest * kSmallest;
  return {};
}

Result<u64> parse_date(std::string_view text) {
  // YYYY-MM-DDTHH:MM:SS or YYYY-MM-DD
  std::tm date{};
  const std::string copy(text);
  const char* end = strptime(copy.c_str(), "%Y-%m-%d", &date);
  if (end && *end) end = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &date);
  if (!end || *end || date.tm_year < 70 || date.tm_year > 299)
    return failure(fmt::format("-rtc: base={} is no date; write utc, localtime, or a date such as 2026-01-31T12:00:00", text));
  return static_cast<u64>(timegm(&date));
}

Result<void> option_rtc(OptionParsing& parsing, std::string_view value) {
  static constexpr std::string_view kKeys[] = {"base"};
  const auto values = KeyedValues::parse("-rtc", value, "", kKeys);
  if (!values) return std::unexpected(values.error());
  const std::string base = values->text("base", "utc");
  parsing.rtc_given = true;
  if (base == "utc") {
    parsing.options.rtc_base = parsing.now;
  } else if (base == "localtime") {
    const auto now = static_cast<std::time_t>(parsing.now);
    std::tm local{};
    localtime_r(&now, &local);
    parsing.options.rtc_base = static_cast<u64>(timegm(&local));
  } else {
    const auto date = parse_date(base);
    if (!date) return std::unexpected(date.error());
    parsing.options.rtc_base = *date;
  }
  return {};
}

Result<void> option_no_reboot(OptionParsing& parsing, std::string_view) { return parsing.options.no_reboot = true, Result<void>{}; }
Result<void> option_gdb(OptionParsing& parsing, std::string_view value) {
  parsing.options.gdb = std::string(value);
  return GdbServer::check(parsing.options.gdb);
}
Result<void> option_gdb_short(OptionParsing& parsing, std::string_view) { return parsing.options.gdb = "tcp::1234", Result<void>{}; }
Result<void> option_symbols(OptionParsing& parsing, std::string_view value) { return parsing.options.symbols.emplace_back(value), Result<void>{}; }
Result<void> option_stopped(OptionParsing& parsing, std::string_view) { return parsing.options.start_stopped = true, Result<void>{}; }

// ---- Firmware and kernel

Result<void> option_bios(OptionParsing& parsing, std::string_view value) { return parsing.options.bios = value, Result<void>{}; }
Result<void> option_directory(OptionParsing& parsing, std::string_view value) {
  parsing.options.data_directories.emplace_back(value);
  return {};
}
Result<void> option_kernel(OptionParsing& parsing, std::string_view value) { return parsing.options.kernel = value, Result<void>{}; }
Result<void> option_initrd(OptionParsing& parsing, std::string_view value) { return parsing.options.initrd = value, Result<void>{}; }
Result<void> option_append(OptionParsing& parsing, std::string_view value) {
  parsing.options.append = value;
  parsing.options.append_given = true;
  return {};
}

constexpr OptionRow kMachineRows[] = {
    {"-machine", "pc", "the board (-machine help lists them)", option_machine},
    {"-cpu", "MODEL[,+x][,-y]", "CPU model and features (-cpu help lists them)", option_cpu},
    {"-m", "SIZE", "memory, 1M to 64G; M is meant without a suffix (default 128M)", option_memory},
    {"-smp", "1", "number of CPUs", option_smp},
    {"-rtc", "base=utc|localtime|DATE", "what the real-time clock shows at the start", option_rtc},
    {"-clock", "realtime|instructions", "virtual time follows the host (default), or the number of\nexecuted instructions, exactly repeatable", option_clock},
    {"-engine", "interpreter|baseline|llvm|tiered", "how guest code is run (default tiered where the host allows it)", option_engine},
    {"-tb-size", "SIZE", "memory for translated code of each tier, 1M to 512M; M is meant\nwithout a suffix (default 256M, 32M on AArch64)", option_code_cache},
    {"-no-reboot", "", "end instead of restarting when the guest resets the machine", option_no_reboot},
    {"-S", "", "start stopped; the monitor command cont or a debugger starts it", option_stopped},
    {"-gdb", "DEV", "let gdb debug the guest: tcp:[HOST]:PORT or unix:PATH", option_gdb},
    {"-symbols", "FILE", "names of the guest's addresses: ELF, System.map or /proc/kallsyms\n(may be given several times)", option_symbols},
    {"-s", "", "the same as -gdb tcp::1234", option_gdb_short},
};

constexpr OptionRow kFirmwareRows[] = {
    {"-bios", "FILE", "firmware image (default SeaBIOS: bios-256k.bin)", option_bios},
    {"-L", "DIR", "look for firmware in this directory first", option_directory},
    {"-kernel", "FILE", "start this kernel (Linux bzImage, multiboot, PVH) directly", option_kernel},
    {"-initrd", "FILE", "initial RAM disk for -kernel", option_initrd},
    {"-append", "TEXT", "command line for -kernel", option_append},
};

}  // namespace

std::span<const OptionRow> machine_options() { return kMachineRows; }
std::span<const OptionRow> firmware_options() { return kFirmwareRows; }

Result<void> finish_machine_options(OptionParsing& parsing) {
  Options& options = parsing.options;
  auto cpu = parse_cpu_model(parsing.cpu_text.empty() ? "max" : parsing.cpu_text);
  if (!cpu) {
    const std::string& message = cpu.error().message;
    return failure(message.starts_with("-cpu") ? message : "-cpu: " + message);
  }
  options.cpu = std::move(*cpu);
  if (options.kernel.empty() && !options.initrd.empty()) return failure("-initrd goes with -kernel only");
  if (options.kernel.empty() && options.append_given) return failure("-append goes with -kernel only");
  // A run with instruction time is a pure function of its options and images: the host's date has no part in it.
  constexpr u64 kFixedDate = 1735689600;  // 2025-01-01T00:00:00Z
  if (!parsing.rtc_given) options.rtc_base = options.clock == ClockMode::Instructions ? kFixedDate : parsing.now;
  return {};
}

}  // namespace vellum
