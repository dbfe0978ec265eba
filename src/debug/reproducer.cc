// Finding out which pages some instructions need, and running them without a machine.
#include "debug/reproducer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>
#include <sstream>

#include "cpu/bare_environment.h"
#include "cpu/core.h"
#include "debug/guest_memory.h"
#include "mmu/guest_ram.h"

namespace vellum {

namespace {

constexpr std::string_view kFirstLine = "vellum reproducer 1";
constexpr usize kMostPages = 512, kLongestState = 1 << 20;
constexpr u64 kMostInstructions = 1'000'000;

std::string hex(std::span<const u8> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const u8 byte : bytes) text += kDigits[byte >> 4], text += kDigits[byte & 15];
  return text;
}

bool unhex(std::string_view text, std::vector<u8>& bytes) {
  if (text.size() % 2) return false;
  bytes.resize(text.size() / 2);
  for (usize i = 0; i < bytes.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
    if (error != std::errc() || end != text.data() + 2 * i + 2) return false;
  }
  return true;
}

// A CPU with a few pages of memory and nothing else.
class BareMachine {
 public:
  static Result<std::unique_ptr<BareMachine>> create(const Reproducer& reproducer, const EngineOptions& engine) {
    auto model = parse_cpu_model(reproducer.cpu_option);
    if (!model) return std::unexpected(model.error());
    model->tsc_frequency_hz = model->bus_frequency_hz = kTscFrequency;
    auto ram = GuestRam::create(std::max<usize>(1, reproducer.pages.size()) * kPageSize);
    if (!ram) return std::unexpected(ram.error());
    auto machine = std::unique_ptr<BareMachine>(new BareMachine(*model, std::move(*ram), reproducer));
    if (auto used = use_engine(*machine->cpu, engine); !used) return std::unexpected(used.error());
    ArchiveReader archive(reproducer.state);
    machine->cpu->visit(archive);
    if (archive.failed() || !archive.at_end())
      return failure(fmt::format("the CPU's state does not fit this version: {}", archive.failed() ? archive.error()->message : "there is more of it"));
    return machine;
  }
  // Exactly so many, unless the CPU halts.
  void run(u64 instructions) {
    const u64 goal = cpu->retired() + instructions;
    while (cpu->retired() < goal) {
      const Exit exit = cpu->run(goal - cpu->retired());
      if (exit == Exit::Halted || exit == Exit::Shutdown || exit == Exit::Stuck) return;
    }
  }
  std::vector<u8> state() {
    ArchiveWriter archive;
    cpu->visit(archive);
    return archive.take();
  }
  std::span<const u8> page(usize index) const { return {m_ram->host(index * kPageSize), kPageSize}; }

 private:
  BareMachine(const CpuModel& model, std::unique_ptr<GuestRam> ram, const Reproducer& reproducer) : m_ram(std::move(ram)), m_memory(*m_ram) {
    u64 offset = 0;
    for (const auto& [address, contents] : reproducer.pages) {
      std::memcpy(m_ram->host(offset), contents.data(), kPageSize);
      m_memory.map_ram("page", GuestPhysAddr(address), kPageSize, offset);
      offset += kPageSize;
    }
    cpu = Cpu::create(model, m_memory, m_environment, 0);
  }
  BareEnvironment m_environment;
  std::unique_ptr<GuestRam> m_ram;
  AddressSpace m_memory;

 public:
  std::unique_ptr<Cpu> cpu;
};

std::string printed(const std::vector<u8>& state, Cpu& cpu) {
  ArchiveReader reader(state);
  cpu.visit(reader);
  ArchivePrinter printer;
  cpu.visit(printer);
  return printer.text();
}

void add_pages(CpuCore& cpu, u64 linear, std::set<u64>& pages) {
  if (const auto page = physical_page(cpu, linear, pages)) pages.insert(*page);
}

// The pages that the software TLB knows: what was accessed since it was flushed.
void add_known_pages(CpuCore& cpu, std::set<u64>& pages) {
  for (const TlbContext context : {TlbContext::User, TlbContext::Supervisor, TlbContext::SupervisorAc})
    for (usize slot = 0; slot < kTlbSize; ++slot) {
      const TlbEntry& entry = cpu.tlb.table(context)[slot];
      // A tag that permits nothing belongs to another slot.
      for (const u64 tag : {entry.read_tag, entry.write_tag, entry.execute_tag})
        if (Tlb::slot(tag) == slot) add_pages(cpu, tag & ~kPageMask, pages);
    }
}

}  // namespace

std::optional<u64> physical_page(CpuCore& cpu, u64 linear, std::set<u64>& tables) {
  const CpuState& s = cpu.s;
  if (!(s.cr0 & kCr0Pg)) return linear & s.paging.a20_mask & 0xffffffff & ~kPageMask;
  const bool pae = s.cr4 & kCr4Pae, wide = s.efer & kEferLma;
  const unsigned levels = wide ? (s.paging.mode == PagingMode::Level5 ? 5 : 4) : pae ? 3 : 2;
  const unsigned index_bits = pae ? 9 : 10, entry_size = pae ? 8 : 4;
  constexpr u64 kPresent = 1, kLarge = 0x80, kAddress = 0x000ffffffffff000;
  u64 table = s.cr3 & (wide ? kAddress : pae ? 0xffffffe0 : 0xfffff000);
  for (unsigned level = levels; level > 0; --level) {
    const unsigned shift = 12 + (level - 1) * index_bits;
    const u64 index = (linear >> shift) & ((u64{1} << (level == 3 && !wide ? 2 : index_bits)) - 1);
    const u64 address = table + index * entry_size;
    tables.insert(address & ~kPageMask);
    u64 entry = 0;
    cpu.memory.read(GuestPhysAddr(address), {reinterpret_cast<u8*>(&entry), entry_size});
    if (!(entry & kPresent)) return std::nullopt;
    const bool leaf = level == 1 || (level <= 3 && (entry & kLarge) && (level == 2 || wide));
    if (leaf) {
      const u64 inside = (u64{1} << shift) - 1;
      return ((entry & kAddress & ~inside) | (linear & inside)) & ~kPageMask;
    }
    table = entry & kAddress;
  }
  return std::nullopt;
}

std::string Reproducer::text() const {
  std::string text = fmt::format("{}\ncpu {}\ninstructions {}\nstate {}\nexpected {}\n", kFirstLine, cpu_option, instructions, hex(state), hex(expected));
  for (const auto& [address, contents] : pages) text += fmt::format("page {:x} {}\n", address, hex(contents));
  for (const auto& [address, contents] : expected_pages) text += fmt::format("expected-page {:x} {}\n", address, hex(contents));
  return text + "end\n";
}

Result<Reproducer> Reproducer::parse(const std::string& text) {
  Reproducer reproducer;
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != kFirstLine) return failure("this is no reproducer of Vellum (or of another version)");
  for (unsigned number = 2; std::getline(lines, line); ++number) {
    const auto wrong = [&] { return failure(fmt::format("line {} of the reproducer makes no sense: {:.40}", number, line)); };
    if (line == "end") {
      if (reproducer.state.empty() || reproducer.expected.empty()) return failure("the reproducer has no state");
      return reproducer;
    }
    const auto space = line.find(' ');
    if (space == line.npos) return wrong();
    const std::string_view key = std::string_view(line).substr(0, space);
    std::string_view value = std::string_view(line).substr(space + 1);
    bool valid = true;
    if (key == "cpu") {
      reproducer.cpu_option = value;
    } else if (key == "instructions") {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), reproducer.instructions);
      valid = error == std::errc() && end == value.data() + value.size() && reproducer.instructions <= kMostInstructions;
    } else if (key == "state" || key == "expected") {
      valid = value.size() <= 2 * kLongestState && unhex(value, key == "state" ? reproducer.state : reproducer.expected);
    } else if (key == "page" || key == "expected-page") {
      auto& pages = key == "page" ? reproducer.pages : reproducer.expected_pages;
      u64 address = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), address, 16);
      valid = error == std::errc() && end != value.data() + value.size() && *end == ' ' && !(address & kPageMask) && address < u64{1} << 52 &&
              pages.size() < kMostPages;
      if (!valid) return wrong();
      value.remove_prefix(static_cast<usize>(end - value.data()) + 1);
      auto& page = pages[address];
      valid = unhex(value, page) && page.size() == kPageSize;
    } else {
      valid = false;
    }
    if (!valid) return wrong();
  }
  return failure("the reproducer ends early");
}

Result<std::string> Reproducer::run(const EngineOptions& engine) const {
  auto machine = BareMachine::create(*this, engine);
  if (!machine) return std::unexpected(machine.error());
  (*machine)->run(instructions);
  const std::vector<u8> behind = (*machine)->state();
  std::string text;
  constexpr usize kMostBytes = 16;  // told one by one
  usize index = 0, different = 0;
  for (const auto& [address, before] : pages) {
    const auto wanted = expected_pages.find(address);
    const std::span<const u8> expected_page = wanted == expected_pages.end() ? std::span<const u8>(before) : wanted->second;
    const auto page = (*machine)->page(index++);
    for (usize i = 0; i < kPageSize; ++i)
      if (page[i] != expected_page[i] && ++different <= kMostBytes) text += fmt::format("memory {:#x} is {:#04x}, expected {:#04x}\n", address + i, page[i], expected_page[i]);
  }
  if (different > kMostBytes) text += fmt::format("and {} more bytes of memory\n", different - kMostBytes);
  if (behind == expected) return text;
  const std::string found = printed(behind, *(*machine)->cpu), wanted = printed(expected, *(*machine)->cpu);
  std::istringstream ours(found), theirs(wanted);
  std::string line, other;
  while (std::getline(ours, line) && std::getline(theirs, other))
    if (line != other) text += fmt::format("{}, expected {}\n", line, other.substr(std::min(other.find('=') + 2, other.size())));
  return text;
}

Result<Reproducer> make_reproducer(Machine& machine, u64 instructions, const std::string& cpu_option) {
  auto& core = static_cast<CpuCore&>(machine.cpu());
  Reproducer reproducer;
  reproducer.cpu_option = cpu_option;
  reproducer.instructions = instructions;
  const auto save = [&core] {
    ArchiveWriter archive;
    core.visit(archive);
    return archive.take();
  };
  reproducer.state = save();
  // What RAM is like before; which pages of it matter is seen in the TLB behind the instructions.
  const auto snapshot = [&machine] {
    std::map<u64, std::vector<u8>> pages;
    for_each_used_page(machine.ram(), [&](u64 offset) { pages[offset].assign(machine.ram().host(offset), machine.ram().host(offset) + kPageSize); });
    return pages;
  };
  auto before = snapshot();
  core.flush_tlb();
  std::set<u64> pages;
  for (u64 i = 0; i < instructions; ++i) {
    // An instruction may go on on the next page.
    const u64 linear = linear_pc(core.s);
    add_pages(core, linear, pages);
    add_pages(core, linear + kMaxInsnLength - 1, pages);
    const u64 goal = core.retired() + 1;
    while (core.retired() < goal) {
      const Exit exit = core.run(1);
      if (exit == Exit::Halted || exit == Exit::Shutdown || exit == Exit::Stuck) return failure("the CPU waits, or stops, among them");
    }
    add_known_pages(core, pages);
  }
  reproducer.expected = save();
  std::vector<u8> page(kPageSize);
  for (const u64 address : pages) {
    const PageTarget target = machine.memory().lookup(GuestPhysAddr(address));
    if (target.read != RegionKind::Ram && target.read != RegionKind::Rom) continue;
    const auto was = before.find(target.read_ram_offset);
    reproducer.pages[address] = was == before.end() ? std::vector<u8>(kPageSize) : was->second;
    machine.memory().read(GuestPhysAddr(address), page);
    if (page != reproducer.pages[address]) reproducer.expected_pages[address] = page;
  }
  if (reproducer.pages.size() > kMostPages) return failure("they touch too much memory");
  auto differs = reproducer.run({.engine = Engine::Interpreter});
  if (!differs) return std::unexpected(differs.error());
  if (!differs->empty()) return failure("they need more than a CPU and memory: " + differs->substr(0, differs->find('\n')));
  return reproducer;
}

}  // namespace vellum
