// ACPI and SMBIOS tables: linked as the firmware does it, then checked against ACPI 6.3 and SMBIOS 3.0.
#include <catch2/catch.hpp>

#include <map>

#include "bench.h"
#include "devices/acpi_tables.h"
#include "devices/smbios_tables.h"

using namespace vellum;

namespace {

template <class T>
T get(std::span<const u8> bytes, usize at) {
  REQUIRE(at + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

u8 sum(std::span<const u8> bytes) {
  u8 total = 0;
  for (u8 byte : bytes) total = static_cast<u8>(total + byte);
  return total;
}

std::string text(std::span<const u8> bytes, usize at, usize size) {
  return std::string(reinterpret_cast<const char*>(bytes.data() + at), size);
}

constexpr u64 kTablesAt = 0x7fe0000, kRsdpAt = 0xf5a00;

// Carries out the linker's commands, with the two files at fixed addresses.
struct Linked {
  Bench bench;
  FwCfg fw_cfg{bench.memory, bench.ports};
  std::map<std::string, std::vector<u8>> files;
  std::map<std::string, u64> address{{"etc/acpi/tables", kTablesAt}, {"etc/acpi/rsdp", kRsdpAt}};

  explicit Linked(AcpiConfiguration configuration = {.ram_below_4g = 128u << 20, .pm_base = [] { return u16{0x600}; }}) {
    add_acpi_tables(fw_cfg, std::move(configuration));
    const auto commands = fw_cfg.file("etc/table-loader");
    REQUIRE(commands.size() % 128 == 0);
    for (usize at = 0; at < commands.size(); at += 128) run(commands.subspan(at, 128));
  }
  void run(std::span<const u8> c) {
    const auto name = [&](usize at) { return std::string(reinterpret_cast<const char*>(c.data() + at)); };
    switch (get<u32>(c, 0)) {
      case 1: {
        const auto content = fw_cfg.file(name(4));
        REQUIRE(address[name(4)] % get<u32>(c, 60) == 0);
        files[name(4)].assign(content.begin(), content.end());
        break;
      }
      case 2: {
        auto& file = files.at(name(4));
        const u32 offset = get<u32>(c, 116);
        const u8 size = c[120];
        REQUIRE(offset + size <= file.size());
        u64 value = 0;
        std::memcpy(&value, file.data() + offset, size);
        REQUIRE(value < files.at(name(60)).size());
        value += address.at(name(60));
        std::memcpy(file.data() + offset, &value, size);
        break;
      }
      case 3: {
        auto& file = files.at(name(4));
        REQUIRE(get<u32>(c, 64) + get<u32>(c, 68) <= file.size());
        const std::span<const u8> range(file.data() + get<u32>(c, 64), get<u32>(c, 68));
        file[get<u32>(c, 60)] = static_cast<u8>(file[get<u32>(c, 60)] - sum(range));
        break;
      }
      default: FAIL("unknown linker command");
    }
  }
  std::span<const u8> table(u64 at) {
    const std::span<const u8> all(files.at("etc/acpi/tables"));
    REQUIRE(at >= kTablesAt);
    REQUIRE(at - kTablesAt + 8 <= all.size());
    const auto rest = all.subspan(at - kTablesAt);
    return rest.first(get<u32>(rest, 4));
  }
  std::span<const u8> rsdp() { return files.at("etc/acpi/rsdp"); }
  std::span<const u8> find(std::string_view signature) {
    const auto xsdt = table(get<u64>(rsdp(), 24));
    for (usize at = 36; at < xsdt.size(); at += 8)
      if (text(table(get<u64>(xsdt, at)), 0, 4) == signature) return table(get<u64>(xsdt, at));
    return {};
  }
};

}  // namespace

TEST_CASE("acpi: the RSDP has both checksums and leads to RSDT and XSDT with the same tables (5.2.5 to 5.2.8)") {
  Linked l;
  CHECK(text(l.rsdp(), 0, 8) == "RSD PTR ");
  CHECK(sum(l.rsdp().first(20)) == 0);
  CHECK(sum(l.rsdp()) == 0);
  const auto rsdt = l.table(get<u32>(l.rsdp(), 16));
  const auto xsdt = l.table(get<u64>(l.rsdp(), 24));
  CHECK(text(rsdt, 0, 4) == "RSDT");
  CHECK(text(xsdt, 0, 4) == "XSDT");
  REQUIRE((rsdt.size() - 36) / 4 == (xsdt.size() - 36) / 8);
  for (usize i = 0; i < (rsdt.size() - 36) / 4; ++i) CHECK(get<u32>(rsdt, 36 + 4 * i) == get<u64>(xsdt, 36 + 8 * i));
}

TEST_CASE("acpi: every table's bytes sum to 0") {
  Linked l;
  const auto xsdt = l.table(get<u64>(l.rsdp(), 24));
  CHECK(sum(xsdt) == 0);
  CHECK(sum(l.table(get<u32>(l.rsdp(), 16))) == 0);
  CHECK(sum(l.find("FACP")) == 0);
  CHECK(sum(l.find("APIC")) == 0);
  CHECK(sum(l.find("HPET")) == 0);
  CHECK(sum(l.table(get<u32>(l.find("FACP"), 40))) == 0);
}

TEST_CASE("acpi: the FADT names the power management ports where the firmware has put them (5.2.9)") {
  Linked l;
  const auto fadt = l.find("FACP");
  CHECK(fadt.size() == 244);
  CHECK(get<u32>(fadt, 56) == 0x600);
  CHECK(get<u32>(fadt, 64) == 0x604);
  CHECK(get<u32>(fadt, 76) == 0x608);
  CHECK(get<u64>(fadt, 148 + 4) == 0x600);
  CHECK(get<u32>(fadt, 80) == 0xafe0);
  CHECK(get<u16>(fadt, 46) == 9);
  CHECK(get<u32>(fadt, 48) == 0xb2);
  CHECK(get<u64>(fadt, 116 + 4) == 0xcf9);
  CHECK(get<u32>(fadt, 40) == get<u64>(fadt, 140));
  CHECK(text(l.table(get<u32>(fadt, 36)), 0, 4) == "FACS");
  CHECK(get<u32>(fadt, 36) % 64 == 0);
  CHECK(text(l.table(get<u32>(fadt, 40)), 0, 4) == "DSDT");
}

TEST_CASE("acpi: the FADT is made anew when the firmware selects the tables after moving the ports") {
  Bench bench;
  FwCfg fw_cfg(bench.memory, bench.ports);
  u16 base = 0;
  add_acpi_tables(fw_cfg, {.ram_below_4g = 128u << 20, .pm_base = [&] { return base; }});
  const std::vector<u8> before(fw_cfg.file("etc/acpi/tables").begin(), fw_cfg.file("etc/acpi/tables").end());
  base = 0xb000;
  for (unsigned key = 0x20; key < 0x24; ++key) bench.ports.write(0x510, 2, key);
  const auto after = fw_cfg.file("etc/acpi/tables");
  CHECK(after.size() == before.size());
  CHECK_FALSE(std::ranges::equal(before, after));
}

TEST_CASE("acpi: the MADT lists CPUs, IOAPIC and the overridden interrupts (5.2.12)") {
  Linked l({.cpus = 2, .ram_below_4g = 128u << 20, .pm_base = nullptr});
  const auto madt = l.find("APIC");
  CHECK(get<u32>(madt, 36) == 0xfee00000);
  CHECK(get<u32>(madt, 40) == 1);
  std::vector<unsigned> types;
  std::vector<std::pair<unsigned, unsigned>> overrides;
  for (usize at = 44; at < madt.size(); at += madt[at + 1]) {
    REQUIRE(madt[at + 1] >= 6);
    types.push_back(madt[at]);
    if (madt[at] == 2) overrides.emplace_back(madt[at + 3], get<u32>(madt, at + 4));
  }
  CHECK(types == std::vector<unsigned>{0, 0, 1, 2, 2, 2, 2, 2, 4});
  CHECK(overrides == std::vector<std::pair<unsigned, unsigned>>{{0, 2}, {5, 5}, {9, 9}, {10, 10}, {11, 11}});
}

TEST_CASE("acpi: without HPET there is no HPET table") {
  Linked l({.ram_below_4g = 128u << 20, .hpet = false, .pm_base = nullptr});
  CHECK(l.find("HPET").empty());
}

namespace {

struct Smbios {
  Bench bench;
  FwCfg fw_cfg{bench.memory, bench.ports};
  std::vector<unsigned> types;
  std::span<const u8> tables, anchor;
  explicit Smbios(SmbiosEntryPoint entry_point) {
    add_smbios_tables(fw_cfg, {.ram_below_4g = u64{3} << 30, .ram_above_4g = u64{5} << 30, .version = "1.0",
                               .entry_point = entry_point});
    tables = fw_cfg.file("etc/smbios/smbios-tables");
    anchor = fw_cfg.file("etc/smbios/smbios-anchor");
    for (usize at = 0; at < tables.size();) {  // 6.1.2, 6.1.3
      types.push_back(tables[at]);
      at += tables[at + 1];
      while (get<u16>(tables, at) != 0) ++at;
      at += 2;
    }
  }
};

}  // namespace

TEST_CASE("smbios: the structures follow each other and end with type 127") {
  Smbios s(SmbiosEntryPoint::Smbios2);
  CHECK(s.types == std::vector<unsigned>{0, 1, 3, 4, 16, 17, 19, 19, 32, 127});
}

TEST_CASE("smbios: formatted parts have the length that version 3.0 gives them") {
  Smbios s(SmbiosEntryPoint::Smbios2);
  const std::map<unsigned, unsigned> lengths{{0, 0x18}, {1, 0x1b}, {3, 0x16}, {4, 0x30}, {16, 0x17}, {17, 0x28}, {19, 0x1f},
                                             {32, 0x0b}, {127, 4}};
  for (usize at = 0; at < s.tables.size();) {
    CAPTURE(unsigned{s.tables[at]});
    CHECK(s.tables[at + 1] == lengths.at(s.tables[at]));
    at += s.tables[at + 1];
    while (get<u16>(s.tables, at) != 0) ++at;
    at += 2;
  }
}

TEST_CASE("smbios: both anchors have their checksums and the length of the table (5.2)") {
  Smbios two(SmbiosEntryPoint::Smbios2), three(SmbiosEntryPoint::Smbios3);
  CHECK(two.anchor.size() == 31);
  CHECK(sum(two.anchor) == 0);
  CHECK(sum(two.anchor.subspan(16)) == 0);
  CHECK(get<u16>(two.anchor, 22) == two.tables.size());
  CHECK(get<u16>(two.anchor, 28) == two.types.size());
  CHECK(three.anchor.size() == 24);
  CHECK(sum(three.anchor) == 0);
  CHECK(get<u32>(three.anchor, 12) == three.tables.size());
}
