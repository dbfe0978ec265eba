// ACPI tables: FADT, FACS, MADT, HPET, DSDT, RSDT, XSDT, RSDP and the linker's commands.
#include "devices/acpi_tables.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "devices/hpet.h"
#include "devices/ioapic.h"
#include "devices/piix4_pm.h"
#include "dsdt_aml.h"
#include "state/assert.h"

namespace vellum {

namespace {

// Advanced Configuration and Power Interface Specification 6.3, chapter 5; FADT in the layout of revision 3 (ACPI 2.0).
namespace spec {
constexpr usize kChecksumOffset = 9, kLengthOffset = 4;
constexpr usize kFacsSize = 64, kFadtSize = 244;
constexpr usize kRsdpSize = 36, kRsdpShortSize = 20, kRsdpChecksum = 8, kRsdpExtendedChecksum = 32;
constexpr usize kFadtFacs = 36, kFadtDsdt = 40, kFadtXFacs = 132, kFadtXDsdt = 140;
constexpr u32 kFadtWbinvd = 1 << 0, kFadtC1 = 1 << 2, kFadtNoSleepButton = 1 << 5, kFadtNoRtcWake = 1 << 6,
              kFadtResetRegister = 1 << 10;
constexpr u16 kBootLegacyDevices = 1, kBoot8042 = 2;
constexpr u32 kMadtPcat = 1;
constexpr u16 kActiveHighLevel = 0x0d;  // table 5-48: MPS INTI flags
}  // namespace spec

// QEMU's linker: 128-byte commands that the firmware carries out in order.
namespace linker {
constexpr u32 kAllocate = 1, kAddPointer = 2, kAddChecksum = 3;
constexpr u8 kZoneHigh = 1, kZoneFseg = 2;
constexpr usize kEntrySize = 128, kNameSize = 56;
}  // namespace linker

constexpr char kTablesFile[] = "etc/acpi/tables";
constexpr char kRsdpFile[] = "etc/acpi/rsdp";

// A growing little-endian byte string.
class Bytes {
 public:
  usize size() const { return m_data.size(); }
  void put(u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) m_data.push_back(static_cast<u8>(value >> (8 * i)));
  }
  void text(std::string_view text, usize width) {
    for (usize i = 0; i < width; ++i) m_data.push_back(i < text.size() ? static_cast<u8>(text[i]) : 0);
  }
  void raw(std::span<const u8> data) { m_data.insert(m_data.end(), data.begin(), data.end()); }
  void pad_to(usize size) { m_data.resize(std::max(size, m_data.size())); }
  void align(usize boundary) { m_data.resize((m_data.size() + boundary - 1) / boundary * boundary); }
  void store(usize at, u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) m_data[at + i] = static_cast<u8>(value >> (8 * i));
  }
  std::vector<u8>& data() { return m_data; }

 private:
  std::vector<u8> m_data;
};

struct Files {
  Bytes tables, rsdp, loader;
};

class Builder {
 public:
  explicit Builder(const AcpiConfiguration& configuration) : m_configuration(configuration) {}
  Files build();

 private:
  usize begin_table(std::string_view signature, u8 revision);
  void end_table(usize start);
  void generic_address(u8 space, u8 width, u8 access, u64 address);
  usize add_facs();
  usize add_dsdt();
  usize add_fadt(usize facs, usize dsdt);
  usize add_madt();
  usize add_hpet();
  usize add_root(std::string_view signature, unsigned pointer_size, std::span<const usize> tables);
  void add_rsdp(usize rsdt, usize xsdt);

  void allocate(std::string_view file, u32 alignment, u8 zone);
  void add_pointer(std::string_view to_file, usize offset, unsigned size, std::string_view from_file);
  void add_checksum(std::string_view file, usize offset, usize start, usize length);

  const AcpiConfiguration& m_configuration;
  Files m_files;
};

usize Builder::begin_table(std::string_view signature, u8 revision) {
  Bytes& out = m_files.tables;
  out.align(16);
  const usize start = out.size();
  out.text(signature, 4);
  out.put(0, 4);  // length
  out.put(revision, 1);
  out.put(0, 1);  // checksum, by the linker
  out.text("VELLUM", 6);
  out.text("440FX", 8);
  out.put(1, 4);
  out.text("VLLM", 4);
  out.put(1, 4);
  return start;
}

void Builder::end_table(usize start) {
  m_files.tables.store(start + spec::kLengthOffset, m_files.tables.size() - start, 4);
  add_checksum(kTablesFile, start + spec::kChecksumOffset, start, m_files.tables.size() - start);
}

void Builder::generic_address(u8 space, u8 width, u8 access, u64 address) {
  Bytes& out = m_files.tables;
  out.put(space, 1);
  out.put(width, 1);
  out.put(0, 1);
  out.put(access, 1);
  out.put(address, 8);
}

usize Builder::add_facs() {
  Bytes& out = m_files.tables;
  out.align(64);  // 5.2.10
  const usize start = out.size();
  out.text("FACS", 4);
  out.put(spec::kFacsSize, 4);
  out.pad_to(start + spec::kFacsSize);
  return start;
}

// The compiled AML holds a number of its own where this machine's belongs (a DWordPrefix and `marked`): puts `value` there.
void patch_dsdt(std::span<u8> aml, u32 marked, u32 value) {
  u8 pattern[5] = {0x0c};
  std::memcpy(pattern + 1, &marked, 4);
  const auto found = std::ranges::search(aml, pattern);
  VELLUM_ASSERT(!found.empty());
  std::memcpy(&found[1], &value, 4);
}

usize Builder::add_dsdt() {
  std::vector<u8> aml(std::begin(kDsdtAml), std::end(kDsdtAml));
  const auto& c = m_configuration;
  patch_dsdt(aml, 0xc0dec0d0, static_cast<u32>(std::clamp<u64>(c.ram_below_4g, 0x80000000, 0xfe000000)));
  patch_dsdt(aml, 0xc0dec0d1, static_cast<u32>(c.com1 | c.com2 << 1 | c.parallel << 2 | c.floppy << 3 | c.hpet << 4));
  aml[spec::kChecksumOffset] = 0;
  Bytes& out = m_files.tables;
  out.align(16);
  const usize start = out.size();
  out.raw(aml);
  add_checksum(kTablesFile, start + spec::kChecksumOffset, start, aml.size());
  return start;
}

// 5.2.9
usize Builder::add_fadt(usize facs, usize dsdt) {
  constexpr u8 kIo = 1;
  Bytes& out = m_files.tables;
  const usize start = begin_table("FACP", 3);
  const u32 pm = m_configuration.pm_base ? m_configuration.pm_base() : 0;
  out.put(facs, 4);
  out.put(dsdt, 4);
  out.put(0, 1);
  out.put(0, 1);  // profile: unspecified
  out.put(9, 2);  // SCI_INT
  out.put(0xb2, 4);
  out.put(Piix4Pm::kAcpiEnable, 1);
  out.put(Piix4Pm::kAcpiDisable, 1);
  out.put(0, 2);  // S4BIOS_REQ, PSTATE_CNT
  out.put(pm, 4);
  out.put(0, 4);
  out.put(pm + 4, 4);
  out.put(0, 4);
  out.put(0, 4);
  out.put(pm + 8, 4);
  out.put(Piix4Pm::kGpe0Base, 4);
  out.put(0, 4);
  out.put(4, 1);  // PM1_EVT_LEN
  out.put(2, 1);  // PM1_CNT_LEN
  out.put(0, 1);
  out.put(4, 1);  // PM_TMR_LEN
  out.put(4, 1);  // GPE0_BLK_LEN
  out.put(0, 3);
  out.put(0xfff, 2);  // no C2
  out.put(0xfff, 2);  // no C3
  out.put(0, 2 + 2 + 1 + 1 + 1 + 1);
  out.put(0x32, 1);  // CENTURY
  out.put(spec::kBootLegacyDevices | spec::kBoot8042, 2);
  out.put(0, 1);
  out.put(spec::kFadtWbinvd | spec::kFadtC1 | spec::kFadtNoSleepButton | spec::kFadtNoRtcWake | spec::kFadtResetRegister,
          4);
  generic_address(kIo, 8, 1, 0xcf9);
  out.put(0x06, 1);
  out.put(0, 3);
  out.put(facs, 8);
  out.put(dsdt, 8);
  generic_address(kIo, 32, 2, pm);
  generic_address(0, 0, 0, 0);
  generic_address(kIo, 16, 2, pm + 4);
  generic_address(0, 0, 0, 0);
  generic_address(0, 0, 0, 0);
  generic_address(kIo, 32, 3, pm + 8);
  generic_address(kIo, 32, 1, Piix4Pm::kGpe0Base);
  generic_address(0, 0, 0, 0);
  VELLUM_ASSERT(out.size() - start == spec::kFadtSize);
  add_pointer(kTablesFile, start + spec::kFadtFacs, 4, kTablesFile);
  add_pointer(kTablesFile, start + spec::kFadtDsdt, 4, kTablesFile);
  add_pointer(kTablesFile, start + spec::kFadtXFacs, 8, kTablesFile);
  add_pointer(kTablesFile, start + spec::kFadtXDsdt, 8, kTablesFile);
  end_table(start);
  return start;
}

// 5.2.12
usize Builder::add_madt() {
  Bytes& out = m_files.tables;
  const usize start = begin_table("APIC", 3);
  out.put(0xfee00000, 4);
  out.put(spec::kMadtPcat, 4);
  for (unsigned cpu = 0; cpu < m_configuration.cpus; ++cpu) {
    out.put(0, 1);
    out.put(8, 1);
    out.put(cpu, 1);
    out.put(cpu, 1);
    out.put(1, 4);
  }
  out.put(1, 1);
  out.put(12, 1);
  out.put(0, 1);  // the IOAPIC's id after reset
  out.put(0, 1);
  out.put(IoApic::kDefaultBase, 4);
  out.put(0, 4);
  const auto source_override = [&](u8 irq, u32 input, u16 flags) {
    out.put(2, 1);
    out.put(10, 1);
    out.put(0, 1);
    out.put(irq, 1);
    out.put(input, 4);
    out.put(flags, 2);
  };
  source_override(0, 2, 0);
  for (u8 irq : {5, 9, 10, 11}) source_override(irq, irq, spec::kActiveHighLevel);
  out.put(4, 1);  // NMI on every processor's LINT1
  out.put(6, 1);
  out.put(0xff, 1);
  out.put(0, 2);
  out.put(1, 1);
  end_table(start);
  return start;
}

// IA-PC HPET specification 1.0a, 3.2.4
usize Builder::add_hpet() {
  Bytes& out = m_files.tables;
  const usize start = begin_table("HPET", 1);
  out.put(0x8086a201, 4);  // the low half of the capabilities register
  generic_address(0, 0, 0, Hpet::kDefaultBase);
  out.put(0, 1);
  out.put(0, 2);
  out.put(0, 1);
  end_table(start);
  return start;
}

usize Builder::add_root(std::string_view signature, unsigned pointer_size, std::span<const usize> tables) {
  Bytes& out = m_files.tables;
  const usize start = begin_table(signature, 1);
  for (usize table : tables) {
    add_pointer(kTablesFile, out.size(), pointer_size, kTablesFile);
    out.put(table, pointer_size);
  }
  end_table(start);
  return start;
}

// 5.2.5.3
void Builder::add_rsdp(usize rsdt, usize xsdt) {
  Bytes& out = m_files.rsdp;
  out.text("RSD PTR ", 8);
  out.put(0, 1);
  out.text("VELLUM", 6);
  out.put(2, 1);
  out.put(rsdt, 4);
  out.put(spec::kRsdpSize, 4);
  out.put(xsdt, 8);
  out.put(0, 4);
  add_pointer(kRsdpFile, 16, 4, kTablesFile);
  add_pointer(kRsdpFile, 24, 8, kTablesFile);
  add_checksum(kRsdpFile, spec::kRsdpChecksum, 0, spec::kRsdpShortSize);
  add_checksum(kRsdpFile, spec::kRsdpExtendedChecksum, 0, spec::kRsdpSize);
}

void Builder::allocate(std::string_view file, u32 alignment, u8 zone) {
  Bytes& out = m_files.loader;
  const usize start = out.size();
  out.put(linker::kAllocate, 4);
  out.text(file, linker::kNameSize);
  out.put(alignment, 4);
  out.put(zone, 1);
  out.pad_to(start + linker::kEntrySize);
}

// Adds the address of `from_file` to the offset stored in `to_file`.
void Builder::add_pointer(std::string_view to_file, usize offset, unsigned size, std::string_view from_file) {
  Bytes& out = m_files.loader;
  const usize start = out.size();
  out.put(linker::kAddPointer, 4);
  out.text(to_file, linker::kNameSize);
  out.text(from_file, linker::kNameSize);
  out.put(offset, 4);
  out.put(size, 1);
  out.pad_to(start + linker::kEntrySize);
}

void Builder::add_checksum(std::string_view file, usize offset, usize begin, usize length) {
  Bytes& out = m_files.loader;
  const usize start = out.size();
  out.put(linker::kAddChecksum, 4);
  out.text(file, linker::kNameSize);
  out.put(offset, 4);
  out.put(begin, 4);
  out.put(length, 4);
  out.pad_to(start + linker::kEntrySize);
}

Files Builder::build() {
  allocate(kTablesFile, 64, linker::kZoneHigh);
  allocate(kRsdpFile, 16, linker::kZoneFseg);
  const usize facs = add_facs();
  const usize dsdt = add_dsdt();
  std::vector<usize> tables{add_fadt(facs, dsdt), add_madt()};
  if (m_configuration.hpet) tables.push_back(add_hpet());
  const usize rsdt = add_root("RSDT", 4, tables);
  const usize xsdt = add_root("XSDT", 8, tables);
  add_rsdp(rsdt, xsdt);
  return std::move(m_files);
}

}  // namespace

void add_acpi_tables(FwCfg& fw_cfg, AcpiConfiguration configuration) {
  Files files = Builder(configuration).build();
  fw_cfg.add_file(kTablesFile, std::move(files.tables.data()));
  fw_cfg.add_file(kRsdpFile, std::move(files.rsdp.data()));
  fw_cfg.add_file("etc/table-loader", std::move(files.loader.data()));
  fw_cfg.refresh_on_select(kTablesFile, [configuration = std::move(configuration)] {
    return std::move(Builder(configuration).build().tables.data());
  });
}

}  // namespace vellum
