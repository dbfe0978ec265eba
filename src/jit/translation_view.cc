// Decodes and translates code in a CPU of its own, and prints what came out.
#include "jit/translation_view.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "cpu/bare_environment.h"
#include "cpu/core.h"
#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "jit/baseline.h"
#include "jit/operation_text.h"
#if VELLUM_LLVM
#include "jit/optimizer/call_stub.h"
#include "jit/optimizer/region_compiler.h"
#endif
#include "jit/stencil.h"
#include "jit/translation_observer.h"
#include "mmu/page_walk.h"
#include "state/nearest.h"

namespace vellum {

namespace {

constexpr std::string_view kPartNames[] = {"guest", "callouts", "ir", "optimized-ir", "baseline", "optimized", "all"};
constexpr u64 kCodeCacheSize = u64{16} << 20;

#if VELLUM_LLVM
constexpr usize kMaxRegionBlocks = 32;

class OneRegionMemory final : public CodeMemory {
 public:
  explicit OneRegionMemory(CodeCache& cache) : m_cache(cache) {}
  Place allocate(usize size, usize alignment) override {
    const u32 offset = m_cache.allocate(size + alignment);
    if (offset == CodeCache::kFull) return {};
    const u32 aligned = static_cast<u32>((offset + alignment - 1) & ~(alignment - 1));
    return {m_cache.writable(aligned), m_cache.executable(aligned)};
  }
  void publish(const Place& place, usize size) override { m_cache.publish(m_cache.offset_of(place.executable), size); }

 private:
  CodeCache& m_cache;
};
#endif

// Keeps the parts of the block translated last.
class Recorder final : public TranslationObserver {
 public:
  void block_translated(const Block&, std::span<const CodePart> block_parts, const BlockCode& block_code) override {
    parts.assign(block_parts.begin(), block_parts.end());
    code = block_code;
  }
  std::vector<CodePart> parts;
  BlockCode code;
};

// Two columns of text; rows are as high as the higher of their cells.
class Columns {
 public:
  void add(std::vector<std::string> left, std::vector<std::string> right) { m_rows.emplace_back(std::move(left), std::move(right)); }
  std::string text() const {
    constexpr usize kLeast = 44;
    usize width = kLeast;
    for (const auto& [left, right] : m_rows)
      for (const std::string& line : left) width = right.empty() && left.size() == 1 ? width : std::max(width, line.size());
    std::string result;
    for (const auto& [left, right] : m_rows)
      for (usize i = 0; i < std::max(left.size(), right.size()); ++i) {
        const std::string& cell = i < left.size() ? left[i] : m_empty;
        if (i >= right.size()) result += cell + "\n";
        else if (m_rows_have_left()) result += fmt::format("{:<{}}  {}\n", cell, width, right[i]);
        else result += right[i] + "\n";
      }
    return result;
  }

 private:
  bool m_rows_have_left() const {
    return std::ranges::any_of(m_rows, [](const auto& row) { return !row.first.empty() && !row.second.empty(); });
  }
  std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> m_rows;
  std::string m_empty;
};

class View {
 public:
  static Result<std::unique_ptr<View>> create(const TranslationRequest& request) {
    const u64 pages = ((request.address & kPageMask) + request.code.size() + kMaxInsnLength + kPageSize - 1) / kPageSize;
    auto ram = GuestRam::create((pages + 2) * kPageSize);
    if (!ram) return std::unexpected(ram.error());
    auto view = std::unique_ptr<View>(new View(request, std::move(*ram)));
    if ((request.parts & kShowBaseline) && have_stencils()) {
      auto cache = CodeCache::create(kCodeCacheSize);
      if (!cache) return std::unexpected(cache.error());
      view->m_cache = std::move(*cache);
      view->m_baseline = std::make_unique<Baseline>(*view->m_cache, view->m_statistics, Counting::None);
      view->m_baseline->add_observer(view->m_recorder);
    }
    return view;
  }

  std::string text() {
    std::string result;
    u64 offset = 0;
    const u64 size = find_end();
    while (offset < size) {
      Insn insn;
      if (decode(offset, insn) == DecodeStatus::TooLong) {
        const u64 length = std::min<u64>(kMaxInsnLength + 1, m_request.code.size() - offset);
        result += fmt::format("{:>8x}:  {}\n              longer than 15 bytes: #GP(0)\n", m_request.address + offset, hex_bytes(m_request.code.subspan(offset, length)));
        offset += length;
        continue;
      }
      Block* block = m_core.lookup(m_start + offset);
      if (!result.empty()) result += "\n";
      result += show(*block, offset);
      offset += block->byte_length;
    }
    if (size < m_request.code.size())
      result += fmt::format("{:>8x}:  {}  (an instruction that goes on behind these bytes)\n", m_request.address + size,
                            hex_bytes(m_request.code.subspan(size)));
    return result;
  }

 private:
  View(const TranslationRequest& request, std::unique_ptr<GuestRam> ram)
      : m_request(request),
        m_ram(std::move(ram)),
        m_memory(*m_ram),
        m_core(request.model, m_memory, m_environment, 0),
        m_start(kPageSize + (request.address & kPageMask)),
        m_guest(static_cast<CodeSize>(request.mode & kModeCodeSizeMask), request.syntax),
        m_host(Disassembler::for_host(request.syntax)) {
    m_memory.map_ram("code", GuestPhysAddr(0), m_ram->size(), 0);
    std::memcpy(m_ram->host(m_start), request.code.data(), request.code.size());
    SegmentRegister& cs = m_core.s.segment[kCs];
    cs.base = 0;
    cs.limit = 0xffffffff;
    m_core.s.mode = request.mode & kBlockModeMask;
  }

 public:
#if VELLUM_LLVM
  // The blocks that control reaches from the first byte without leaving the code, as the optimizing tier would take them.
  Region region() {
    Region region;
    std::map<u64, int> index_of;  // by offset
    std::vector<Block*> blocks;
    const u64 size = find_end();
    const auto add = [&](u64 offset) {
      Insn insn;
      if (offset >= size || decode(offset, insn) == DecodeStatus::TooLong) return -1;
      const auto [found, is_new] = index_of.try_emplace(offset, static_cast<int>(blocks.size()));
      if (!is_new) return found->second;
      if (blocks.size() == kMaxRegionBlocks) {
        index_of.erase(found);
        return -1;
      }
      Block* block = m_core.lookup(m_start + offset);
      blocks.push_back(block);
      RegionBlock part;
      part.original = block;
      part.delta = static_cast<i64>(offset);
      part.insns.assign(block->insns, block->insns + block->real_count + 1);
      part.variants.assign(block->variants(), block->variants() + block->real_count);
      part.count = block->real_count;
      region.blocks.push_back(std::move(part));
      return found->second;
    };
    add(0);
    for (usize i = 0; i < blocks.size(); ++i) {
      const Block& block = *blocks[i];
      const BoundInsn& last = block.insns[block.real_count - 1];
      const u64 start = static_cast<u64>(region.blocks[i].delta), end = start + block.byte_length;
      const bool callout = handler_of(last) == interpreter_callout || handler_of(last) == interpreter_invalid_opcode || handler_of(last) == interpreter_fpu_unavailable;
      const Flow flow = callout ? Flow::Callout : interpreter_row(last.row).flow;
      if (flow == Flow::Direct || flow == Flow::Conditional) {
        const int taken = add(end + static_cast<u64>(last.immediate()));
        region.blocks[i].taken = taken;
      }
      if (flow == Flow::Conditional || flow == Flow::Next) {
        const int next = add(end);
        region.blocks[i].next = next;
      }
    }
    region.fallback = interpreter_enter;
    return region;
  }

  std::expected<std::string, std::string> optimized_text() {
    const Region chosen = region();
    if (chosen.blocks.empty()) return std::string();
    auto cache = CodeCache::create(kCodeCacheSize);
    if (!cache) return std::unexpected(cache.error().message);
    OneRegionMemory memory(**cache);
    auto compiler = RegionCompiler::create(memory);
    if (!compiler) return std::unexpected(compiler.error());
    RegionTexts texts;
    (*compiler)->keep_texts(&texts);
    const auto compiled = (*compiler)->compile(chosen);
    if (!compiled) return std::unexpected(compiled.error());
    std::string result = fmt::format("region {:#x}: {} blocks, {} instructions; optimized: {} bytes\n", m_request.address,
                                     chosen.blocks.size(), compiled->statistics.instructions, compiled->code_size);
    if (m_request.parts & kShowIr) result += "LLVM IR, as lifted\n" + texts.lifted;
    if (m_request.parts & kShowOptimizedIr) result += "LLVM IR, optimized\n" + texts.optimized;
    if (m_request.parts & kShowOptimized) {
      result += "optimized host code\n";
      auto left = std::span(compiled->code, compiled->code_size);
      const u64 start = reinterpret_cast<u64>(compiled->code);
      while (!left.empty()) {
        const u64 at = reinterpret_cast<u64>(left.data());
        const DisassembledInsn insn = m_host.one(left, at, [&](u64 target) {
          if (target - start >= compiled->code_size) return host_function_name(reinterpret_cast<const void*>(target));
          const std::string beyond = host_function_name(host_code::behind_stub(target));
          return beyond.empty() ? fmt::format("+{:x}", target - start) : beyond;
        });
        result += fmt::format("+{:<4x} {}\n", at - start, insn.text);
        left = left.subspan(insn.length);
      }
    }
    return result;
  }
#endif

 private:
  DecodeStatus decode(u64 offset, Insn& insn) const {
    return m_core.decoder.decode({m_ram->host(m_start + offset), kMaxInsnLength}, static_cast<CodeSize>(m_request.mode & kModeCodeSizeMask),
                                 m_request.mode & kModeReal, insn);
  }

  // Where the last instruction that lies wholly within the bytes given ends. Its block ends there too.
  u64 find_end() {
    u64 offset = 0, last = 0;
    while (offset < m_request.code.size()) {
      Insn insn;
      const DecodeStatus status = decode(offset, insn);
      const u64 length = status == DecodeStatus::TooLong ? std::min<u64>(kMaxInsnLength + 1, m_request.code.size() - offset) : insn.length;
      if (offset + length > m_request.code.size()) break;
      last = offset;
      offset += length;
    }
    m_core.blocks.mark_mmio(m_start + last);  // makes blocks end behind it
    return offset;
  }

  std::string show(Block& block, u64 offset) {
    const u64 address = m_request.address + offset;
    std::vector<const void*> handlers;
    for (unsigned i = 0; i < block.real_count; ++i) handlers.push_back(reinterpret_cast<const void*>(handler_of(block.insns[i])));
    const bool translated = m_baseline && m_baseline->translate(block) == Baseline::Outcome::Translated;
    if (translated)
      for (const CodePart& part : m_recorder->parts)
        if (part.kind == CodePart::Kind::Stencil) handlers[part.position] = nullptr;

    std::string result = fmt::format("block {:#x}: {}, {} instruction{}, {} bytes", address, describe_mode(block.mode), block.real_count,
                                     block.real_count == 1 ? "" : "s", block.byte_length);
    if (translated) result += fmt::format("; baseline: {} bytes", block.code_size + block.cold_size);
    result += "\n";
    Columns columns;
    const auto code_of = [&](const CodePart::Kind kind, unsigned position) {
      std::vector<std::string> lines;
      if (translated)
        for (const CodePart& part : m_recorder->parts)
          if (part.kind == kind && part.position == position) add_host(part, lines);
      return lines;
    };
    const bool guest = m_request.parts & kShowGuest;
    if (translated) columns.add(guest ? std::vector<std::string>{"  (entry)"} : std::vector<std::string>{}, code_of(CodePart::Kind::Entry, 0));
    for (unsigned i = 0; i < block.real_count; ++i) {
      std::vector<std::string> left;
      const BoundInsn& insn = block.insns[i];
      const u64 in_block = insn.offset - block.page_offset();
      const auto bytes = std::span<const u8>(m_ram->host(m_start + offset + in_block), insn.length);
      if (guest) left.push_back(guest_line(bytes, address + in_block));
      if (m_request.parts & kShowCallouts)
        if (const std::string name = callout_name(block, i, handlers[i]); !name.empty())
          left.push_back(guest ? fmt::format("            => callout {}", name) : fmt::format("{:>8x}:  {}  => callout {}", address + in_block, guest_text(bytes, address + in_block), name));
      auto right = code_of(CodePart::Kind::Stencil, i);
      if (right.empty()) right = code_of(CodePart::Kind::Handler, i);
      columns.add(std::move(left), std::move(right));
    }
    if (translated)
      for (const CodePart& part : m_recorder->parts)
        if (part.kind == CodePart::Kind::Exit) {
          std::vector<std::string> lines;
          add_host(part, lines);
          columns.add(guest ? std::vector<std::string>{"  (exit)"} : std::vector<std::string>{}, std::move(lines));
        }
    return result + columns.text();
  }

  std::string guest_text(std::span<const u8> bytes, u64 address) const { return m_guest.one(bytes, address).text; }
  std::string guest_line(std::span<const u8> bytes, u64 address) const {
    return fmt::format("{:>8x}:  {:<22} {}", address, hex_bytes(bytes), guest_text(bytes, address));
  }

  void add_host(const CodePart& part, std::vector<std::string>& lines) const {
    const auto add = [&](std::span<const u8> left, const char* mark) {
      while (!left.empty()) {
        const u64 at = reinterpret_cast<u64>(left.data());
        const DisassembledInsn insn = m_host.one(left, at, [&](u64 target) { return target_name(target); });
        lines.push_back(fmt::format("+{:<4x} {}{}", offset_of(at), mark, insn.text));
        left = left.subspan(insn.length);
      }
    };
    add(m_recorder->code.hot.subspan(part.hot, part.hot_size), "");
    add(m_recorder->code.cold.subspan(part.cold, part.cold_size), "| ");
  }

  // In a block's host code, as if what is out of the way lay behind all else.
  u64 offset_of(u64 address) const {
    const auto& [hot, cold] = m_recorder->code;
    const u64 offset = address - reinterpret_cast<u64>(hot.data());
    return offset < hot.size() ? offset : hot.size() + (address - reinterpret_cast<u64>(cold.data()));
  }
  std::string target_name(u64 target) const {
    if (m_recorder->code.contains(target)) return fmt::format("+{:x}", offset_of(target));
    return host_function_name(reinterpret_cast<const void*>(target));
  }

  const TranslationRequest& m_request;
  BareEnvironment m_environment;
  std::unique_ptr<GuestRam> m_ram;
  AddressSpace m_memory;
  CpuCore m_core;
  u64 m_start;  // where the code stands in the view's own memory
  Disassembler m_guest, m_host;
  std::unique_ptr<CodeCache> m_cache;
  Statistics m_statistics;
  std::unique_ptr<Baseline> m_baseline;
  std::shared_ptr<Recorder> m_recorder = std::make_shared<Recorder>();
};

}  // namespace

std::span<const std::string_view> translation_part_names() { return kPartNames; }

u32 default_translation_parts() { return kShowGuest | kShowCallouts | (have_stencils() ? kShowBaseline : 0u); }

Result<u32> parse_translation_parts(std::string_view what, std::string_view text) {
  u32 parts = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    const auto name = rest.substr(0, comma);
    rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
    const auto found = std::ranges::find(kPartNames, name);
    if (found == std::end(kPartNames)) {
      const auto near = nearest_name(name, kPartNames);
      return failure(near.empty() ? fmt::format("{}: unknown part '{}'; valid: {}", what, name, fmt::join(kPartNames, ", "))
                                  : fmt::format("{}: unknown part '{}'; did you mean '{}'?", what, name, near));
    }
    const auto index = found - std::begin(kPartNames);
    parts |= name == "all" ? u32{kShowAll} : 1u << index;
  }
  if (!parts) return failure(fmt::format("{}: nothing to show; valid: {}", what, fmt::join(kPartNames, ", ")));
  return parts;
}

u32 usual_mode(CodeSize code_size) {
  switch (code_size) {
    case CodeSize::Bits16: return static_cast<u32>(CodeSize::Bits16) | kModeReal;
    case CodeSize::Bits32: return static_cast<u32>(CodeSize::Bits32) | kModeFlatData | kModeStack32;
    default: return static_cast<u32>(CodeSize::Bits64) | kModeFlatData;
  }
}

Result<std::string> show_translation(const TranslationRequest& request) {
  constexpr u32 kOptimizing = kShowIr | kShowOptimizedIr | kShowOptimized;
  if ((request.parts & kOptimizing) && !VELLUM_LLVM)
    return failure("this build has no optimizing tier, so there is no LLVM IR and no optimized code; show guest, callouts, baseline");
  if ((request.parts & kShowBaseline) && !have_stencils())
    return failure("this build has no stencils for the host's instruction set, so there is no baseline code; show guest, callouts");
  std::string text;
  if (request.parts & ~kOptimizing) {
    auto view = View::create(request);
    if (!view) return std::unexpected(view.error());
    text = (*view)->text();
  }
#if VELLUM_LLVM
  if (request.parts & kOptimizing) {
    TranslationRequest optimizing = request;
    optimizing.parts &= kOptimizing;
    auto view = View::create(optimizing);
    if (!view) return std::unexpected(view.error());
    auto optimized = (*view)->optimized_text();
    if (!optimized) return failure("the optimizing tier leaves this code to the baseline: " + optimized.error());
    if (!text.empty()) text += "\n";
    text += *optimized;
  }
#endif
  return text;
}

Result<std::string> show_guest_translation(Cpu& cpu, u64 address, u64 length, u32 parts, AssemblySyntax syntax) {
  auto& core = static_cast<CpuCore&>(cpu);
  std::vector<u8> code;
  while (code.size() < length) {
    const u64 at = address + code.size();
    const auto physical = walk_quietly(core.memory, core.s.paging, at);
    if (!physical) break;
    const RegionKind kind = core.memory.lookup(GuestPhysAddr(physical->value & ~kPageMask)).read;
    if (kind != RegionKind::Ram && kind != RegionKind::Rom) break;  // to read a device's registers may change them
    const u64 part = std::min(length - code.size(), kPageSize - (at & kPageMask));
    const usize before = code.size();
    code.resize(before + part);
    core.memory.read(*physical, {code.data() + before, part});
  }
  if (code.empty()) return failure(fmt::format("there is no memory at {:#x}", address));
  return show_translation({.code = code, .address = address, .model = core.model, .mode = core.s.mode & kBlockModeMask, .parts = parts,
                           .syntax = syntax});
}

}  // namespace vellum
