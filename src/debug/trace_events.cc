// Parsing of what to trace, and events as text, as bytes, as tables and as JSON.
#include "debug/trace_events.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

namespace vellum {

namespace {

constexpr std::string_view kKindNames[] = {"instruction", "interrupt", "exception", "page-fault", "port", "mmio", "msr", "control", "mode", "disk", "memory"};
static_assert(std::size(kKindNames) == kTraceKinds);
constexpr std::string_view kModeNames[] = {"real", "v86", "protected16", "protected32", "compatibility", "long64"};
constexpr char kMagic[8] = {'V', 'E', 'L', 'T', 'R', 'C', '1', '\n'};

bool parse_u64(std::string_view text, u64& value) {
  int base = 10;
  if (text.starts_with("0x")) text.remove_prefix(2), base = 16;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

Result<void> parse_range(std::string_view key, std::string_view text, u64& first, u64& last) {
  const auto dash = text.find('-');
  const bool valid = parse_u64(text.substr(0, dash), first) && (dash == text.npos ? (last = first, true) : parse_u64(text.substr(dash + 1), last));
  if (!valid || first > last) return failure(fmt::format("-trace: {}={} is no range; write FIRST-LAST", key, text));
  return {};
}

std::string list(std::span<const std::string_view> names) {
  std::string text;
  for (const auto name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

class TextWriter final : public TraceWriter {
 public:
  explicit TextWriter(std::FILE* file) : m_file(file) {}
  ~TextWriter() override { finish(); }
  void put(const TraceEvent& event) override {
    const std::string line = trace_line(event);
    std::fwrite(line.data(), 1, line.size(), m_file);
  }
  bool finish() override {
    std::FILE* file = std::exchange(m_file, nullptr);
    if (!file) return true;
    const bool whole = !std::ferror(file);
    return std::fclose(file) == 0 && whole;
  }

 private:
  std::FILE* m_file;
};

class BinaryWriter final : public TraceWriter {
 public:
  explicit BinaryWriter(gzFile file) : m_file(file) { gzwrite(m_file, kMagic, sizeof(kMagic)); }
  ~BinaryWriter() override { finish(); }
  void put(const TraceEvent& event) override { m_whole = gzwrite(m_file, &event, sizeof(event)) == sizeof(event) && m_whole; }
  bool finish() override {
    gzFile file = std::exchange(m_file, nullptr);
    return !file || (gzclose(file) == Z_OK && m_whole);
  }

 private:
  gzFile m_file;
  bool m_whole = true;
};

std::string_view mode_name(CpuMode mode) { return kModeNames[std::min<usize>(static_cast<usize>(mode), std::size(kModeNames) - 1)]; }

// What an event is about, for tables and tracks.
std::string subject(const TraceEvent& event) {
  switch (event.kind) {
    case TraceKind::Instruction: return fmt::format("page {:#x}", event.rip & ~u64{4095});
    case TraceKind::Interrupt:
    case TraceKind::Exception: return fmt::format("vector {:#x}", event.address);
    case TraceKind::PageFault: return fmt::format("page {:#x}, error {:#x}", event.address & ~u64{4095}, event.value);
    case TraceKind::Port: return fmt::format("port {:#x} {}", event.address, event.write ? "write" : "read");
    case TraceKind::Mmio: return fmt::format("{:#x} {}", event.address, event.write ? "write" : "read");
    case TraceKind::Msr: return fmt::format("MSR {:#x} {}", event.address, event.write ? "write" : "read");
    case TraceKind::Control: return fmt::format("CR{}", event.address);
    case TraceKind::Mode: return std::string(mode_name(event.mode));
    case TraceKind::Disk: return event.write ? "write" : "read";
    case TraceKind::Memory: return fmt::format("page {:#x} {}", event.address & ~u64{4095}, event.write ? "write" : "read");
  }
  return {};
}

}  // namespace

std::span<const std::string_view> trace_kind_names() { return kKindNames; }

std::string trace_help() {
  return fmt::format(
      "Events to trace (separate several by commas, all: every kind but instruction and memory): {}\n"
      "Filters:\n"
      "  address=FIRST-LAST   only these ports, MSRs, physical addresses of registers, faulting addresses, linear addresses of memory\n"
      "  rip=FIRST-LAST       only what instructions at these linear addresses do\n"
      "  mode=MODE[+MODE]     only in these modes: {}\n"
      "  cpu=FIRST-LAST       only these CPUs, counted from 0\n"
      "  range=FIRST-LAST     only behind so many instructions\n"
      "  file=FILE            where to (default vellum.trace)\n"
      "  format=text|binary   lines, or a compressed file for vellum trace (default text)\n",
      list(kKindNames), list(kModeNames));
}

Result<TraceSpec> parse_trace_spec(std::string_view text) {
  TraceSpec spec;
  spec.file = "vellum.trace";
  while (!text.empty()) {
    const auto item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const auto equals = item.find('=');
    if (equals == item.npos) {
      if (item == "all") {
        spec.kinds |= ((1u << kTraceKinds) - 1) & ~(1u << static_cast<unsigned>(TraceKind::Instruction)) & ~(1u << static_cast<unsigned>(TraceKind::Memory));
        continue;
      }
      const auto found = std::ranges::find(kKindNames, item);
      if (found == std::end(kKindNames)) return failure(fmt::format("-trace: unknown event '{}'; valid: {}, all", item, list(kKindNames)));
      spec.kinds |= 1u << (found - std::begin(kKindNames));
      continue;
    }
    const auto key = item.substr(0, equals), value = item.substr(equals + 1);
    if (key == "rip") {
      if (auto done = parse_range(key, value, spec.first_rip, spec.last_rip); !done) return std::unexpected(done.error());
    } else if (key == "cpu") {
      if (auto done = parse_range(key, value, spec.first_cpu, spec.last_cpu); !done) return std::unexpected(done.error());
    } else if (key == "address") {
      if (auto done = parse_range(key, value, spec.first_address, spec.last_address); !done) return std::unexpected(done.error());
    } else if (key == "range") {
      if (auto done = parse_range(key, value, spec.from, spec.to); !done) return std::unexpected(done.error());
    } else if (key == "mode") {
      spec.modes = 0;
      for (std::string_view rest = value; !rest.empty();) {
        const auto name = rest.substr(0, rest.find('+'));
        rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        const auto found = std::ranges::find(kModeNames, name);
        if (found == std::end(kModeNames)) return failure(fmt::format("-trace: unknown mode '{}'; valid: {}", name, list(kModeNames)));
        spec.modes |= 1u << (found - std::begin(kModeNames));
      }
    } else if (key == "file") {
      if (value.empty()) return failure("-trace: file= needs a name");
      spec.file = value;
    } else if (key == "format") {
      if (value != "text" && value != "binary") return failure(fmt::format("-trace: format={}: it is text or binary", value));
      spec.binary = value == "binary";
    } else {
      return failure(fmt::format("-trace: unknown key '{}'; valid: address, rip, mode, cpu, range, file, format", key));
    }
  }
  if (!spec.kinds) return failure(fmt::format("-trace: no event is named; valid: {}, all", list(kKindNames)));
  return spec;
}

std::string trace_line(const TraceEvent& event) {
  const auto access = [&] { return fmt::format("{} {} byte{} {:#x}", event.write ? "write" : "read", event.size, event.size == 1 ? "" : "s", event.value); };
  std::string what;
  switch (event.kind) {
    case TraceKind::Instruction: break;
    case TraceKind::Interrupt: what = fmt::format("vector {:#x}", event.address); break;
    case TraceKind::Exception: what = fmt::format("vector {:#x} error {:#x}", event.address, event.value); break;
    case TraceKind::PageFault: what = fmt::format("address {:#x} error {:#x}", event.address, event.value); break;
    case TraceKind::Port:
    case TraceKind::Memory:
    case TraceKind::Mmio: what = fmt::format("{:#x} {}", event.address, access()); break;
    case TraceKind::Msr: what = fmt::format("{:#x} {} {:#x}", event.address, event.write ? "write" : "read", event.value); break;
    case TraceKind::Control: what = fmt::format("CR{} {:#x}", event.address, event.value); break;
    case TraceKind::Mode: what = fmt::format("{} from {}", mode_name(event.mode), mode_name(static_cast<CpuMode>(event.value))); break;
    case TraceKind::Disk: what = fmt::format("{} {:#x} {} bytes", event.write ? "write" : "read", event.address, event.value); break;
  }
  return fmt::format("{} {} {:#x} {} {}{}{}\n", event.count, event.time, event.rip, mode_name(event.mode), kKindNames[static_cast<usize>(event.kind)],
                     what.empty() ? "" : " ", what);
}

Result<std::unique_ptr<TraceWriter>> TraceWriter::create(const std::string& path, bool binary) {
  errno = 0;
  if (binary) {
    if (gzFile file = gzopen(path.c_str(), "wb1")) return std::make_unique<BinaryWriter>(file);
  } else if (std::FILE* file = std::fopen(path.c_str(), "we")) {
    return std::make_unique<TextWriter>(file);
  }
  return failure(fmt::format("-trace: cannot create {}: {}", path, std::strerror(errno)));
}

Result<TraceRead> read_trace(const std::string& path, const std::function<void(const TraceEvent&)>& take) {
  errno = 0;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) return failure(fmt::format("{}: cannot open the trace: {}", path, std::strerror(errno)));
  char magic[sizeof(kMagic)];
  if (gzread(file.get(), magic, sizeof(magic)) != sizeof(magic) || std::memcmp(magic, kMagic, sizeof(magic)) != 0)
    return failure(fmt::format("{}: this is no binary trace of Vellum (it is made by -trace with format=binary)", path));
  TraceRead result;
  while (true) {
    TraceEvent event;
    // Its bytes are checked before they are one.
    std::array<u8, sizeof(TraceEvent)> bytes;
    const int got = gzread(file.get(), bytes.data(), bytes.size());
    if (got == 0) return result;
    if (got != static_cast<int>(bytes.size())) {
      int error = Z_OK;
      gzerror(file.get(), &error);
      if (error == Z_DATA_ERROR) return failure(fmt::format("{}: the trace is damaged behind {} events", path, result.events));
      result.cut_off = true;
      return result;
    }
    const u8 kind = bytes[offsetof(TraceEvent, kind)], mode = bytes[offsetof(TraceEvent, mode)], write = bytes[offsetof(TraceEvent, write)];
    if (kind >= kTraceKinds || mode >= std::size(kModeNames) || write > 1) return failure(fmt::format("{}: the trace is damaged behind {} events", path, result.events));
    std::memcpy(&event, bytes.data(), sizeof(event));
    take(event);
    ++result.events;
  }
}

Result<std::string> summarize_trace(const std::string& path) {
  struct Row {
    u64 events = 0, bytes = 0;
    std::map<u64, u64> places;  // by RIP
  };
  constexpr usize kRows = 20, kMostSubjects = 100'000, kMostPlaces = 1000;
  std::array<std::map<std::string, Row>, kTraceKinds> tables;
  std::array<u64, kTraceKinds> totals{};
  u64 first = ~u64{0}, last = 0, first_time = 0, last_time = 0;
  const auto read = read_trace(path, [&](const TraceEvent& event) {
    const auto kind = static_cast<usize>(event.kind);
    ++totals[kind];
    if (event.count < first) first = event.count, first_time = event.time;
    if (event.count >= last) last = event.count, last_time = event.time;
    std::string name = subject(event);
    // A guest decides how many there are.
    if (tables[kind].size() >= kMostSubjects && !tables[kind].contains(name)) name = "others";
    Row& row = tables[kind][name];
    ++row.events;
    if (event.kind == TraceKind::Disk) row.bytes += event.value;
    if (row.places.size() < kMostPlaces || row.places.contains(event.rip)) ++row.places[event.rip];
  });
  if (!read) return std::unexpected(read.error());
  std::string text = fmt::format("{} events", read->events);
  if (read->events) text += fmt::format(" of instructions {} to {}, {:.6f} s to {:.6f} s", first, last, static_cast<double>(first_time) / 1e9, static_cast<double>(last_time) / 1e9);
  text += read->cut_off ? "; the file was cut off\n" : "\n";
  for (usize kind = 0; kind < kTraceKinds; ++kind) {
    if (!totals[kind]) continue;
    text += fmt::format("\n{}: {}\n{:>12} {:>7}  {:<32} {}\n", kKindNames[kind], totals[kind], "events", "share", "what", "most often at");
    std::vector<std::pair<std::string, const Row*>> rows;
    for (const auto& [name, row] : tables[kind]) rows.emplace_back(name, &row);
    std::ranges::stable_sort(rows, std::greater(), [](const auto& row) { return row.second->events; });
    for (usize i = 0; i < std::min(rows.size(), kRows); ++i) {
      const Row& row = *rows[i].second;
      const auto most = std::ranges::max_element(row.places, {}, [](const auto& place) { return place.second; });
      text += fmt::format("{:>12} {:>6.1f}%  {:<32} {:#x}{}\n", row.events, 100.0 * static_cast<double>(row.events) / static_cast<double>(totals[kind]), rows[i].first,
                          most->first, row.bytes ? fmt::format(", {} bytes", row.bytes) : "");
    }
    if (rows.size() > kRows) text += fmt::format("{:>12}          and {} more\n", "", rows.size() - kRows);
  }
  return text;
}

Result<void> export_trace(const std::string& path, const std::string& output) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(output.c_str(), "we"), std::fclose);
  if (!file) return failure(fmt::format("{}: cannot create the file: {}", output, std::strerror(errno)));
  bool good = true;
  const auto put = [&](const std::string& text) { good = good && std::fwrite(text.data(), 1, text.size(), file.get()) == text.size(); };
  put("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"guest\"}}");
  for (usize kind = 0; kind < kTraceKinds; ++kind)
    put(fmt::format(",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":{},\"args\":{{\"name\":\"{}\"}}}}", kind + 1, kKindNames[kind]));
  // Times are microseconds. A mode lasts until the next one; all else is a moment.
  const auto microseconds = [](u64 nanoseconds) { return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000); };
  std::optional<TraceEvent> mode;
  u64 last_time = 0;
  const auto end_mode = [&](u64 time) {
    if (mode)
      put(fmt::format(",\n{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{},\"dur\":{}}}", mode_name(mode->mode), static_cast<unsigned>(TraceKind::Mode) + 1,
                      microseconds(mode->time), microseconds(time - mode->time)));
  };
  const auto read = read_trace(path, [&](const TraceEvent& event) {
    last_time = std::max(last_time, event.time);
    if (event.kind == TraceKind::Mode) {
      end_mode(event.time);
      mode = event;
      return;
    }
    put(fmt::format(",\n{{\"name\":\"{}\",\"ph\":\"i\",\"s\":\"t\",\"pid\":1,\"tid\":{},\"ts\":{},\"args\":{{\"instruction\":{},\"rip\":\"{:#x}\",\"value\":\"{:#x}\",\"mode\":\"{}\"}}}}",
                    subject(event), static_cast<unsigned>(event.kind) + 1, microseconds(event.time), event.count, event.rip, event.value, mode_name(event.mode)));
  });
  if (!read) return std::unexpected(read.error());
  end_mode(last_time);
  put("\n]}\n");
  if (!good || std::fflush(file.get()) != 0) return failure(fmt::format("{}: cannot write the file: {}", output, std::strerror(errno)));
  return {};
}

}  // namespace vellum
