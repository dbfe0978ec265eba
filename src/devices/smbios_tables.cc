// SMBIOS structures of types 0, 1, 3, 4, 16, 17, 19, 32 and 127, and both entry points.
#include "devices/smbios_tables.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace vellum {

namespace {

// System Management BIOS Reference Specification 3.0.0 (DSP0134).
class Tables {
 public:
  void begin(u8 type, u16 handle) {
    m_start = m_data.size();
    m_strings.clear();
    put(type, 1);
    put(0, 1);  // length
    put(handle, 2);
    ++count;
  }
  void put(u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) m_data.push_back(static_cast<u8>(value >> (8 * i)));
  }
  // A string field: its number, 1 for the structure's first string.
  void string(std::string_view text) {
    if (text.empty()) return put(0, 1);
    m_strings.emplace_back(text);
    put(m_strings.size(), 1);
  }
  // 6.1.3: the strings follow the formatted part, each ended by a zero, and one more zero ends the set.
  void end() {
    m_data[m_start + 1] = static_cast<u8>(m_data.size() - m_start);
    for (const auto& text : m_strings) {
      m_data.insert(m_data.end(), text.begin(), text.end());
      m_data.push_back(0);
    }
    if (m_strings.empty()) m_data.push_back(0);
    m_data.push_back(0);
    largest = std::max(largest, m_data.size() - m_start);
  }
  std::vector<u8>& data() { return m_data; }

  u16 count = 0;
  usize largest = 0;

 private:
  std::vector<u8> m_data;
  std::vector<std::string> m_strings;
  usize m_start = 0;
};

constexpr u64 kMiB = 1 << 20, kGiB = u64{1} << 30;
constexpr u16 kMemoryArray = 0x1000, kMemoryDevice = 0x1100, kMappedAddress = 0x1300;

void add_mapped_range(Tables& out, u16 handle, u64 base, u64 size) {  // 7.20
  const u64 end = base + size - 1;
  const bool wide = end / 1024 >= 0xffffffff;
  out.begin(19, handle);
  out.put(wide ? 0xffffffff : base / 1024, 4);
  out.put(wide ? 0xffffffff : end / 1024, 4);
  out.put(kMemoryArray, 2);
  out.put(1, 1);
  out.put(wide ? base : 0, 8);
  out.put(wide ? end : 0, 8);
  out.end();
}

void build(Tables& out, const SmbiosConfiguration& c) {
  const u64 ram = c.ram_below_4g + c.ram_above_4g;

  out.begin(0, 0x0000);  // 7.1 BIOS information
  out.string("Vellum");
  out.string(c.version);
  out.put(0xe800, 2);
  out.string("01/01/2026");
  out.put(0, 1);
  out.put(0x08, 8);       // characteristics not supported
  out.put(0x1c00, 2);     // extension: virtual machine, UEFI unknown
  out.put(0xffffff00, 4); // no release numbers of system and embedded controller
  out.end();

  out.begin(1, 0x0100);  // 7.2 system information
  out.string("Vellum");
  out.string("Standard PC (i440FX + PIIX)");
  out.string(c.version);
  out.string("");
  for (u8 byte : c.uuid) out.put(byte, 1);
  out.put(6, 1);  // woken by the power switch
  out.string("");
  out.string("");
  out.end();

  out.begin(3, 0x0300);  // 7.4 chassis
  out.string("Vellum");
  out.put(1, 1);  // other
  out.string(c.version);
  out.string("");
  out.string("");
  out.put(0x03030303, 4);  // states: safe; security: none
  out.put(0, 4);
  out.put(0, 1);
  out.put(0, 1);
  out.put(0, 1);
  out.put(0, 1);
  out.string("");
  out.end();

  for (unsigned cpu = 0; cpu < c.cpus; ++cpu) {  // 7.5 processor
    out.begin(4, static_cast<u16>(0x0400 + cpu));
    out.string("CPU " + std::to_string(cpu));
    out.put(3, 1);  // central processor
    out.put(1, 1);  // family: other
    out.string("Vellum");
    out.put(static_cast<u64>(c.cpu_features) << 32 | c.cpu_signature, 8);
    out.string(c.cpu_name);
    out.put(0, 1);
    out.put(0, 2);
    out.put(2000, 2);
    out.put(2000, 2);
    out.put(0x41, 1);  // populated, enabled
    out.put(1, 1);     // upgrade: other
    out.put(0xffff, 2);
    out.put(0xffff, 2);
    out.put(0xffff, 2);
    out.string("");
    out.string("");
    out.string("");
    out.put(1, 1);
    out.put(1, 1);
    out.put(1, 1);
    out.put(0x02, 2);  // characteristics: unknown
    out.put(1, 2);
    out.put(1, 2);
    out.put(1, 2);
    out.put(1, 2);
    out.end();
  }

  out.begin(16, kMemoryArray);  // 7.17
  out.put(1, 1);
  out.put(3, 1);  // system memory
  out.put(3, 1);  // no error correction
  out.put(ram / 1024 < 0x80000000 ? ram / 1024 : 0x80000000, 4);
  out.put(0xfffe, 2);
  out.put(1, 2);
  out.put(ram / 1024 < 0x80000000 ? 0 : ram, 8);
  out.end();

  out.begin(17, kMemoryDevice);  // 7.18
  out.put(kMemoryArray, 2);
  out.put(0xfffe, 2);
  out.put(0xffff, 2);
  out.put(0xffff, 2);
  const u64 mib = ram / kMiB;
  out.put(mib < 0x7fff ? mib : 0x7fff, 2);
  out.put(9, 1);  // DIMM
  out.put(0, 1);
  out.string("DIMM 0");
  out.string("");
  out.put(7, 1);  // RAM
  out.put(2, 2);  // other
  out.put(0, 2);
  out.string("Vellum");
  out.string("");
  out.string("");
  out.string("");
  out.put(0, 1);
  out.put(mib < 0x7fff ? 0 : mib, 4);
  out.put(0, 2);
  out.put(0, 6);
  out.end();

  add_mapped_range(out, kMappedAddress, 0, c.ram_below_4g);
  if (c.ram_above_4g) add_mapped_range(out, kMappedAddress + 1, 4 * kGiB, c.ram_above_4g);

  out.begin(32, 0x2000);  // 7.33 boot status: no errors
  out.put(0, 6);
  out.put(0, 1);
  out.end();

  out.begin(127, 0x7f00);  // 7.45 end of table
  out.end();
}

void store_checksum(std::vector<u8>& bytes, usize at, usize begin, usize length) {
  u8 sum = 0;
  for (usize i = 0; i < length; ++i) sum = static_cast<u8>(sum + bytes[begin + i]);
  bytes[at] = static_cast<u8>(-sum);
}

std::vector<u8> anchor(const Tables& tables, usize length, SmbiosEntryPoint entry_point) {
  std::vector<u8> out;
  const auto put = [&](u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) out.push_back(static_cast<u8>(value >> (8 * i)));
  };
  const auto text = [&](std::string_view chars) { out.insert(out.end(), chars.begin(), chars.end()); };
  if (entry_point == SmbiosEntryPoint::Smbios3) {  // 5.2.2; the firmware fills in the address and the checksum
    text("_SM3_");
    put(0, 1);
    put(24, 1);
    for (unsigned byte : {3, 0, 0}) put(byte, 1);
    put(1, 1);
    put(0, 1);
    put(length, 4);
    put(0, 8);
    store_checksum(out, 5, 0, out.size());
    return out;
  }
  text("_SM_");  // 5.2.1
  put(0, 1);
  put(31, 1);
  put(2, 1);
  put(8, 1);
  put(tables.largest, 2);
  put(0, 1);
  put(0, 5);
  text("_DMI_");
  put(0, 1);
  put(length, 2);
  put(0, 4);
  put(tables.count, 2);
  put(0x28, 1);
  store_checksum(out, 21, 16, 15);
  store_checksum(out, 4, 0, out.size());
  return out;
}

}  // namespace

void add_smbios_tables(FwCfg& fw_cfg, const SmbiosConfiguration& configuration) {
  Tables tables;
  build(tables, configuration);
  auto entry = anchor(tables, tables.data().size(), configuration.entry_point);
  fw_cfg.add_file("etc/smbios/smbios-tables", std::move(tables.data()));
  fw_cfg.add_file("etc/smbios/smbios-anchor", std::move(entry));
}

}  // namespace vellum
