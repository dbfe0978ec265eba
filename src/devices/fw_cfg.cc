// fw_cfg: selector and data ports, DMA, file directory.
#include "devices/fw_cfg.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "state/assert.h"
#include "state/log.h"

namespace vellum {

namespace {

// QEMU docs/specs/fw_cfg.txt.
namespace spec {
constexpr u16 kSelectorPort = 0x510, kDataPort = 0x511, kDmaPort = 0x514;
constexpr u16 kKeyMask = 0xbfff;  // bit 14 asked for write access by the data port, which no longer exists
constexpr u32 kFeatures = 3;      // traditional ports and DMA
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"
constexpr u32 kDmaError = 1, kDmaRead = 2, kDmaSkip = 4, kDmaSelect = 8, kDmaWrite = 16;
constexpr usize kNameSize = 56;
}  // namespace spec

// How far behind an item's end a guest may read zeroes; without a limit it could keep us busy with 4 GiB of them.
constexpr u64 kLongestPadding = 1 << 20;

template <class T>
T big_endian(T value) {
  return std::byteswap(value);
}

template <class T>
std::vector<u8> bytes_of(T value) {
  std::vector<u8> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <class T>
void append(std::vector<u8>& to, T value) {
  const auto bytes = bytes_of(value);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

}  // namespace

FwCfg::FwCfg(AddressSpace& memory, PortBus& ports) : m_memory(memory), m_ports(ports) {
  m_mappings = {ports.map("fw-cfg", spec::kSelectorPort, 2, *this), ports.map("fw-cfg-dma", spec::kDmaPort, 8, *this)};
  add_item(FwCfgKey::Signature, {'Q', 'E', 'M', 'U'});
  add_u32(FwCfgKey::Id, spec::kFeatures);
  build_directory();
}

FwCfg::~FwCfg() {
  for (auto mapping : m_mappings) m_ports.unmap(mapping);
}

void FwCfg::add_item(FwCfgKey key, std::vector<u8> content) { m_items[static_cast<u16>(key)] = std::move(content); }
void FwCfg::add_u16(FwCfgKey key, u16 value) { add_item(key, bytes_of(value)); }
void FwCfg::add_u32(FwCfgKey key, u32 value) { add_item(key, bytes_of(value)); }
void FwCfg::add_u64(FwCfgKey key, u64 value) { add_item(key, bytes_of(value)); }
void FwCfg::add_string(FwCfgKey key, std::string_view text) {
  std::vector<u8> content(text.begin(), text.end());
  content.push_back(0);
  add_item(key, std::move(content));
}

void FwCfg::add_file(std::string name, std::vector<u8> content, WriteCallback on_write) {
  VELLUM_ASSERT(!name.empty() && name.size() < spec::kNameSize);
  m_files[std::move(name)] = {content, content, std::move(on_write), nullptr};
  build_directory();
}

void FwCfg::refresh_on_select(std::string_view name, std::function<std::vector<u8>()> refresh) {
  const auto found = m_files.find(std::string(name));
  VELLUM_ASSERT(found != m_files.end());
  found->second.refresh = std::move(refresh);
}

void FwCfg::select(u16 key) {
  m_state.selector = key & spec::kKeyMask;
  m_state.position = 0;
  refresh_selected();
}

void FwCfg::refresh_selected() {
  File* file = selected_file();
  if (!file || !file->refresh) return;
  const usize size = file->content.size();
  file->content = file->refresh();
  file->content.resize(size);
}

std::span<const u8> FwCfg::file(std::string_view name) const {
  const auto found = m_files.find(std::string(name));
  return found == m_files.end() ? std::span<const u8>() : std::span<const u8>(found->second.content);
}

std::span<const u8> FwCfg::item(FwCfgKey key) const {
  const auto found = m_items.find(static_cast<u16>(key));
  return found == m_items.end() ? std::span<const u8>() : std::span<const u8>(found->second);
}

void FwCfg::build_directory() {
  m_order.clear();
  m_directory.clear();
  append(m_directory, big_endian(static_cast<u32>(m_files.size())));
  for (auto& [name, file] : m_files) {
    const auto key = static_cast<u16>(static_cast<unsigned>(FwCfgKey::FirstFile) + m_order.size());
    append(m_directory, big_endian(static_cast<u32>(file.content.size())));
    append(m_directory, big_endian(key));
    append(m_directory, u16{0});
    std::array<u8, spec::kNameSize> padded{};
    std::ranges::copy(name, padded.begin());
    m_directory.insert(m_directory.end(), padded.begin(), padded.end());
    m_order.push_back(&file);
  }
}

FwCfg::File* FwCfg::selected_file() {
  const unsigned first = static_cast<unsigned>(FwCfgKey::FirstFile);
  const unsigned selector = m_state.selector;
  return selector >= first && selector - first < m_order.size() ? m_order[selector - first] : nullptr;
}

std::vector<u8>* FwCfg::selected() {
  if (m_state.selector == static_cast<u16>(FwCfgKey::FileDirectory)) return &m_directory;
  if (File* file = selected_file()) return &file->content;
  const auto found = m_items.find(m_state.selector);
  return found == m_items.end() ? nullptr : &found->second;
}

void FwCfg::reset(ResetKind) {
  m_state = {};
  for (auto& [name, file] : m_files)
    if (file.on_write) file.content = file.initial;
}

void FwCfg::visit(Archive& archive) {
  auto& [selector, position, dma_high] = m_state;
  archive("selector", selector)("position", position)("dma_high", dma_high);
  for (auto& [name, file] : m_files) {
    if (!file.on_write) continue;
    archive.begin(name);
    archive.bytes("content", file.content);
    archive.end();
  }
  if (archive.loading() && !archive.failed()) refresh_selected();
}

u32 FwCfg::read_port(u16 port, unsigned size) {
  if (port >= spec::kDmaPort) {
    const unsigned offset = port - spec::kDmaPort;
    u32 value = 0;
    for (unsigned i = 0; i < size; ++i) {
      const unsigned byte = offset + i;
      value |= (byte < 8 ? static_cast<u32>(spec::kDmaSignature >> (56 - 8 * byte)) & 0xff : 0xffu) << (8 * i);
    }
    return value;
  }
  if (port != spec::kDataPort || size != 1) return 0;
  const auto* content = selected();
  if (!content || m_state.position >= content->size()) return 0;
  return (*content)[m_state.position++];
}

void FwCfg::write_port(u16 port, unsigned size, u32 value) {
  if (port == spec::kSelectorPort && size == 2) {
    select(static_cast<u16>(value));
  } else if (port == spec::kDmaPort && size == 4) {
    m_state.dma_high = big_endian(value);
  } else if (port == spec::kDmaPort + 4 && size == 4) {
    const u64 address = static_cast<u64>(m_state.dma_high) << 32 | big_endian(value);
    m_state.dma_high = 0;
    run_dma(address);
  } else {
    log(LogItem::GuestErrors, "fw-cfg: write of {:#x} ({} bytes) to port {:#x}", value, size, port);
  }
}

// The access structure: control, length, address; all big-endian. Control is cleared, or set to the error bit, at the end.
void FwCfg::run_dma(u64 address) {
  const GuestPhysAddr at(address);
  const u32 control = big_endian(m_memory.read_value<u32>(at));
  u32 length = big_endian(m_memory.read_value<u32>(at + 4));
  GuestPhysAddr target(big_endian(m_memory.read_value<u64>(at + 8)));
  if (control & spec::kDmaSelect) select(static_cast<u16>(control >> 16));
  auto* content = selected();
  const u64 size = content ? content->size() : 0;
  const u64 available = m_state.position < size ? size - m_state.position : 0;
  u32 result = 0;
  if ((control & spec::kDmaRead) && length > available + kLongestPadding) {
    log(LogItem::GuestErrors, "fw-cfg: DMA read of {:#x} bytes from an item of {:#x}", length, size);
    result = spec::kDmaError;
  } else if (control & spec::kDmaRead) {
    const u32 real = static_cast<u32>(std::min<u64>(length, available));
    if (real) m_memory.write(target, std::span(*content).subspan(m_state.position, real));
    m_state.position += real;
    static constexpr std::array<u8, 4096> kZeroes{};  // what lies behind the end reads as zeroes
    for (u32 done = real; done < length;) {
      const u32 part = std::min<u32>(length - done, kZeroes.size());
      m_memory.write(target + done, std::span(kZeroes).first(part));
      done += part;
    }
  } else if (control & spec::kDmaWrite) {
    File* file = selected_file();
    if (file && file->on_write && length <= available) {
      m_memory.read(target, std::span(*content).subspan(m_state.position, length));
      m_state.position += length;
      file->on_write(*content);
    } else {
      result = spec::kDmaError;
    }
  } else if (control & spec::kDmaSkip) {
    m_state.position += static_cast<u32>(std::min<u64>(length, available));
  }
  m_memory.write_value<u32>(at, big_endian(result));
}

}  // namespace vellum
