// Options of vellum translate, and where its bytes come from: a file, the command line, a running guest.
#include "frontend/translate.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "debug/elf_file.h"
#include "frontend/host_files.h"
#include "frontend/option_text.h"
#include "jit/translation_view.h"
#include "machine/unix_socket.h"

namespace vellum {

namespace {

constexpr u64 kUsualLength = 64, kGreatestLength = u64{1} << 20, kGreatestFile = u64{1} << 31;
constexpr int kMonitorTimeout = 10'000;  // milliseconds

struct Request {
  std::optional<unsigned> bits;
  std::optional<u64> address, offset, length;
  std::optional<u32> parts;
  std::string parts_text, symbol, file, monitor, cpu;
  std::optional<std::vector<u8>> bytes;
  AssemblySyntax syntax = AssemblySyntax::Att;
  std::vector<std::string_view> words;
  bool help = false;
};

Result<std::vector<u8>> parse_bytes(std::string_view text) {
  std::vector<u8> bytes;
  std::string digits;
  for (usize i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' || c == ',' || c == '\t') continue;
    if (c == '0' && i + 1 < text.size() && (text[i + 1] == 'x' || text[i + 1] == 'X') && digits.size() % 2 == 0) {
      ++i;
      continue;
    }
    if (!std::isxdigit(static_cast<unsigned char>(c))) return failure(fmt::format("-bytes: '{}' is no hexadecimal digit", c));
    digits += c;
  }
  if (digits.empty() || digits.size() % 2) return failure("-bytes: write bytes as pairs of hexadecimal digits, as in \"48 01 d8\"");
  for (usize i = 0; i < digits.size(); i += 2) bytes.push_back(static_cast<u8>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  return bytes;
}

Result<void> option(Request& request, std::string_view name, std::string_view value) {
  const auto number = [&](std::optional<u64>& target, u64 limit = ~u64{0}) -> Result<void> {
    const auto parsed = parse_number(name, value, limit);
    if (!parsed) return std::unexpected(parsed.error());
    target = *parsed;
    return {};
  };
  if (name == "-address") return number(request.address);
  if (name == "-offset") return number(request.offset);
  if (name == "-length") return number(request.length, kGreatestLength);
  if (name == "-symbol") return request.symbol = value, Result<void>{};
  if (name == "-cpu") return request.cpu = value, Result<void>{};
  if (name == "-monitor") return request.monitor = value, Result<void>{};
  if (name == "-mode") {
    static constexpr std::string_view kModes[] = {"16", "32", "64"};
    const auto chosen = parse_choice("-mode", value, kModes);
    if (!chosen) return std::unexpected(chosen.error());
    request.bits = 16u << *chosen;
    return {};
  }
  if (name == "-syntax") {
    static constexpr std::string_view kSyntaxes[] = {"att", "intel"};
    const auto chosen = parse_choice("-syntax", value, kSyntaxes);
    if (!chosen) return std::unexpected(chosen.error());
    request.syntax = static_cast<AssemblySyntax>(*chosen);
    return {};
  }
  if (name == "-show") {
    const auto parts = parse_translation_parts("-show", value);
    if (!parts) return std::unexpected(parts.error());
    request.parts = *parts;
    request.parts_text = value;
    return {};
  }
  // "-bytes"
  auto bytes = parse_bytes(value);
  if (!bytes) return std::unexpected(bytes.error());
  request.bytes = std::move(*bytes);
  return {};
}

Result<Request> parse(std::span<const std::string_view> arguments) {
  static constexpr std::string_view kOptions[] = {"-mode", "-address", "-offset", "-length", "-symbol", "-show",
                                                  "-bytes", "-syntax", "-cpu", "-monitor", "-help"};
  Request request;
  for (usize i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].starts_with('-')) {
      request.words.push_back(arguments[i]);
      continue;
    }
    const std::string_view name = arguments[i].starts_with("--") ? arguments[i].substr(1) : arguments[i];
    if (std::ranges::find(kOptions, name) == std::end(kOptions))
      return failure(fmt::format("translate: {}: unknown option{}", arguments[i], suggestion(name, kOptions)));
    if (name == "-help") {
      request.help = true;
      continue;
    }
    if (++i == arguments.size()) return failure(fmt::format("translate: {}: a value is missing", name));
    if (auto done = option(request, name, arguments[i]); !done) return failure("translate: " + done.error().message);
  }
  if (request.help) return request;
  if (!request.monitor.empty()) {
    if (request.bytes || request.offset || request.bits || !request.symbol.empty())
      return failure("translate: with -monitor give an address and, if you like, -length and -show; the guest has the rest");
    if (request.address && !request.words.empty()) return failure("translate: the address stands twice");
    if (!request.address) {
      if (request.words.size() != 1) return failure("translate: -monitor SOCKET needs an address in the guest");
      const auto address = parse_number("translate: the address", request.words[0], ~u64{0});
      if (!address) return std::unexpected(address.error());
      request.address = *address;
    }
    return request;
  }
  if (request.words.size() > 1) return failure(fmt::format("translate: one file at a time; '{}' is the second", request.words[1]));
  if (!request.words.empty()) request.file = request.words[0];
  if (request.file.empty() == !request.bytes) return failure("translate: give either a file or -bytes; translate -help tells more");
  if (request.bytes && (request.offset || !request.symbol.empty())) return failure("translate: -offset and -symbol go with a file only");
  if (request.offset && !request.symbol.empty()) return failure("translate: -offset and -symbol exclude each other");
  return request;
}

struct Code {
  std::vector<u8> bytes;
  u64 address = 0;
  unsigned bits = 64;
};

Result<Code> code_of_file(const Request& request) {
  const auto content = read_whole_file("translate", request.file, kGreatestFile);
  if (!content) return std::unexpected(content.error());
  Code code;
  code.bits = request.bits.value_or(64);
  std::span<const u8> bytes;
  std::optional<u64> symbol_size;
  if (ElfFile::is_elf(*content) && !request.offset) {
    const auto file = ElfFile::parse(request.file, *content);
    if (!file) return std::unexpected(file.error());
    code.bits = request.bits.value_or(file->bits());
    code.address = request.address.value_or(file->entry());
    if (!request.symbol.empty()) {
      const auto symbol = file->symbol(request.symbol);
      if (!symbol) {
        const auto names = file->symbol_names();
        return failure(fmt::format("{}: there is no symbol '{}'{}", request.file, request.symbol,
                                   names.empty() ? "; the file has none (it may be stripped)" : suggestion(request.symbol, names)));
      }
      code.address = symbol->address;
      if (symbol->size) symbol_size = symbol->size;
    }
    bytes = file->bytes_at(code.address);
    if (bytes.empty()) return failure(fmt::format("{}: the file has no bytes for address {:#x}", request.file, code.address));
  } else {
    if (!request.symbol.empty()) return failure(fmt::format("{}: -symbol needs an ELF file", request.file));
    const u64 offset = request.offset.value_or(0);
    if (offset >= content->size()) return failure(fmt::format("{}: -offset {:#x} is behind the end of the file, which has {} bytes", request.file, offset, content->size()));
    bytes = std::span(*content).subspan(offset);
    code.address = request.address.value_or(offset);
  }
  bytes = bytes.first(std::min<u64>(bytes.size(), request.length.value_or(std::min(symbol_size.value_or(kUsualLength), kGreatestLength))));
  code.bytes.assign(bytes.begin(), bytes.end());
  return code;
}

// Closes itself.
struct Socket {
  int descriptor = -1;
  ~Socket() {
    if (descriptor >= 0) close(descriptor);
  }
};

// Text from the monitor up to its next prompt.
Result<std::string> read_to_prompt(int socket, const std::string& path) {
  constexpr std::string_view kPrompt = "(vellum) ";
  std::string text;
  while (!text.ends_with(kPrompt)) {
    pollfd ready{socket, POLLIN, 0};
    char buffer[4096];
    ssize_t count = -1;
    if (poll(&ready, 1, kMonitorTimeout) == 1) count = recv(socket, buffer, sizeof(buffer), 0);
    if (count <= 0) return failure(fmt::format("translate: {}: no answer from a Vellum monitor; is it started with -monitor unix:{},server,nowait?", path, path));
    text.append(buffer, static_cast<usize>(count));
  }
  text.resize(text.size() - kPrompt.size());
  std::erase(text, '\r');
  return text;
}

Result<std::string> ask_monitor(const Request& request) {
  const auto connection = connect_unix_socket("translate", request.monitor, fmt::format("start the machine with -monitor unix:{},server,nowait", request.monitor));
  if (!connection) return std::unexpected(connection.error());
  const Socket socket{*connection};
  if (auto greeting = read_to_prompt(socket.descriptor, request.monitor); !greeting) return greeting;
  const std::string line = fmt::format("translate {:#x} {}{}{}\r", *request.address, request.length.value_or(kUsualLength),
                                       request.parts ? " " : "", request.parts_text);
  if (send(socket.descriptor, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    return failure(fmt::format("translate: {}: {}", request.monitor, std::strerror(errno)));
  auto answer = read_to_prompt(socket.descriptor, request.monitor);
  if (!answer) return answer;
  return answer->substr(std::min(answer->find('\n'), answer->size() - 1) + 1);  // without the echo of the command
}

}  // namespace

std::string translate_help() {
  return "usage: vellum translate [options] FILE\n"
         "       vellum translate [options] -bytes \"48 01 d8\"\n"
         "       vellum translate -monitor SOCKET [-length N] [-show PARTS] ADDRESS\n"
         "Shows what becomes of guest code: of an ELF file, of any other file, or of a running guest.\n"
         "\n"
         "  -mode 16|32|64     code size (default: the ELF file's, or 64); 16 is real mode\n"
         "  -address A         in an ELF file: where to begin (default: the entry point);\n"
         "                     otherwise the address that the first byte is taken to have\n"
         "  -symbol NAME       in an ELF file: a function\n"
         "  -offset O          begin at this byte of the file\n"
         "  -length N          bytes (default: the function's, or 64)\n"
         "  -show PARTS        guest, callouts, ir, optimized-ir, baseline, optimized, or all\n"
         "  -syntax att|intel  of guest and host code\n"
         "  -cpu MODEL         the CPU model that decides which instructions exist\n"
         "  -monitor SOCKET    ask a running Vellum started with -monitor unix:SOCKET,server,nowait\n"
         "\n"
         "Host code stands beside its guest instruction, with offsets in the block; '|' marks what is moved out of the way.\n";
}

std::expected<std::string, TranslateError> run_translate(std::span<const std::string_view> arguments) {
  using Kind = TranslateError::Kind;
  const auto wrong = [](Kind kind, const Error& error) { return std::unexpected(TranslateError{kind, error.message}); };
  const auto request = parse(arguments);
  if (!request) return wrong(Kind::Usage, request.error());
  if (request->help) return translate_help();
  if (!request->monitor.empty()) {
    auto answer = ask_monitor(*request);
    if (!answer) return wrong(Kind::Failed, answer.error());
    return std::move(*answer);
  }
  const auto model = parse_cpu_model(request->cpu.empty() ? "max" : request->cpu);
  if (!model) return wrong(Kind::Usage, model.error());
  Code code;
  if (request->bytes) {
    code = {*request->bytes, request->address.value_or(0), request->bits.value_or(64)};
    if (request->length) code.bytes.resize(std::min<u64>(code.bytes.size(), *request->length));
  } else {
    auto found = code_of_file(*request);
    if (!found) return wrong(Kind::Failed, found.error());
    code = std::move(*found);
  }
  const CodeSize size = code.bits == 16 ? CodeSize::Bits16 : code.bits == 32 ? CodeSize::Bits32 : CodeSize::Bits64;
  auto text = show_translation({.code = code.bytes, .address = code.address, .model = *model, .mode = usual_mode(size),
                                .parts = request->parts.value_or(default_translation_parts()), .syntax = request->syntax});
  if (!text) return wrong(Kind::Failed, Error{"translate: " + text.error().message});
  return std::move(*text);
}

}  // namespace vellum
