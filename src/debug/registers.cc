// The list of registers, and its XML. gdb's standard features: "Debugging with GDB", appendix G.5.3.
#include "debug/registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu/callouts/descriptors.h"
#include "cpu/floating_environment.h"
#include "debug/guest_memory.h"

namespace vellum {

namespace {

constexpr const char* kCore = "org.gnu.gdb.i386.core";
constexpr const char* kSse = "org.gnu.gdb.i386.sse";
constexpr const char* kAvx = "org.gnu.gdb.i386.avx";
constexpr const char* kSegments = "org.gnu.gdb.i386.segments";
constexpr const char* kSystem = "vellum.x86.system";

u64 number_of(std::span<const u8> data) {
  u64 value = 0;
  std::memcpy(&value, data.data(), std::min<usize>(data.size(), sizeof(value)));
  return value;
}

void put(std::span<u8> data, u64 value) {
  std::ranges::fill(data, 0);
  std::memcpy(data.data(), &value, std::min<usize>(data.size(), sizeof(value)));
}

// Everything that is derived from the state, and all that was known of translations.
void state_changed(CpuCore& cpu) {
  cpu.update_mode();
  cpu.flush_tlb();
}

bool reload_pdptes(CpuCore& cpu) {
  const bool pae = (cpu.s.cr0 & kCr0Pg) && (cpu.s.cr4 & kCr4Pae) && !cpu.s.long_mode();
  std::array<u64, 4> pdptes{};
  if (!pae) return true;
  if (!callouts::read_pdptes(cpu, cpu.s.cr3, pdptes)) return false;
  cpu.s.paging.pdpte = pdptes;
  return true;
}

// Control registers together must be what a processor can hold, SDM Vol. 3A 2.5 and 4.1.1: or nothing changes.
bool set_control(CpuCore& cpu, u64 cr0, u64 cr3, u64 cr4, u64 efer) {
  constexpr u64 kCr0Known = kCr0Pe | kCr0Mp | kCr0Em | kCr0Ts | kCr0Et | kCr0Ne | kCr0Wp | kCr0Am | u64{kCr0Nw} | u64{kCr0Cd} | kCr0Pg;
  constexpr u64 kCr4Known = 0xfff | kCr4La57 | kCr4Fsgsbase | kCr4Pcide | kCr4Osxsave | kCr4Smep | kCr4Smap | kCr4Pke | kCr4Pks;
  constexpr u64 kEferKnown = kEferSce | kEferLme | kEferNxe;
  CpuState& s = cpu.s;
  cr0 = (cr0 & kCr0Known) | kCr0Et;
  cr4 &= kCr4Known;
  efer &= kEferKnown;
  const bool paging = cr0 & kCr0Pg, long_mode = paging && (efer & kEferLme);
  if (paging && !(cr0 & kCr0Pe)) return false;
  if ((cr0 & kCr0Nw) && !(cr0 & kCr0Cd)) return false;
  if (long_mode && !(cr4 & kCr4Pae)) return false;
  if (!long_mode && (cr4 & kCr4Pcide)) return false;
  if (s.long_mode() && long_mode && ((cr4 ^ s.cr4) & kCr4La57)) return false;
  const auto before = std::tuple(s.cr0, s.cr3, s.cr4, s.efer);
  const u64 linear = linear_pc(s);
  s.cr0 = cr0;
  s.cr3 = cr3 & ((u64{1} << cpu.model.physical_address_bits) - 1);
  s.cr4 = cr4;
  s.efer = efer | (long_mode ? kEferLma : 0);
  if (!reload_pdptes(cpu)) {
    std::tie(s.cr0, s.cr3, s.cr4, s.efer) = before;
    return false;
  }
  if (!(cr0 & kCr0Pe)) s.cpl = 0;
  set_linear_pc(s, linear);
  state_changed(cpu);
  return true;
}

u16 full_tags(const X87State& x87) {
  u16 tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const X87Register& r = x87.registers[i];
    const unsigned exponent = r.sign_exponent & 0x7fff;
    unsigned tag = 3;
    if (x87.valid >> i & 1) tag = exponent == 0x7fff ? 2 : exponent == 0 ? (r.significand ? 2 : 1) : r.significand >> 63 ? 0 : 2;
    tags |= static_cast<u16>(tag << (2 * i));
  }
  return tags;
}

class List {
 public:
  std::vector<DebugRegister> registers;

  template <class Read, class Write>
  void add(std::string name, unsigned bytes, const char* type, const char* feature, const char* group, Read read, Write write) {
    registers.push_back({std::move(name), bytes, type, feature, group,
                         [read](CpuCore& cpu, std::span<u8> data) { put(data, read(cpu)); },
                         [write](CpuCore& cpu, std::span<const u8> data) { return write(cpu, number_of(data)); }});
  }
  // A field of the state that can hold anything.
  template <class T>
  void field(std::string name, unsigned bytes, const char* feature, const char* group, T CpuState::*member) {
    add(std::move(name), bytes, bytes == 8 ? "int64" : "int32", feature, group, [member](CpuCore& cpu) { return static_cast<u64>(cpu.s.*member); },
        [member](CpuCore& cpu, u64 value) {
          cpu.s.*member = static_cast<T>(value);
          return true;
        });
  }
};

void add_program_counter(List& list, const char* name, unsigned bytes) {
  list.add(name, bytes, bytes == 8 ? "int64" : "int32", kCore, "", [](CpuCore& cpu) { return linear_pc(cpu.s); },
           [](CpuCore& cpu, u64 value) {
             set_linear_pc(cpu.s, value);
             cpu.s.halted = false;
             return true;
           });
}

void add_flags(List& list, const char* name) {
  list.add(name, 4, "i386_eflags", kCore, "", [](CpuCore& cpu) { return u64{read_rflags(cpu.s)}; },
           [](CpuCore& cpu, u64 value) {
             const bool virtual_8086 = value & kVm;
             if (virtual_8086 && (!cpu.s.protected_mode() || cpu.s.long_mode())) return false;
             write_rflags(cpu.s, static_cast<u32>(value) & 0x3f7fd7);
             state_changed(cpu);
             return true;
           });
}

void add_general(List& list) {
  static constexpr const char* kWide[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"};
  static constexpr u8 kOrder[] = {kRax, kRbx, kRcx, kRdx, kRsi, kRdi, kRbp, kRsp};
  for (unsigned i = 0; i < 16; ++i) {
    const unsigned index = i < 8 ? kOrder[i] : i;
    list.add(i < 8 ? kWide[i] : fmt::format("r{}", i), 8, "int64", kCore, "", [index](CpuCore& cpu) { return cpu.s.gpr[index]; },
             [index](CpuCore& cpu, u64 value) {
               cpu.s.gpr[index] = value;
               return true;
             });
  }
  add_program_counter(list, "rip", 8);
  add_flags(list, "eflags");
  // In real and virtual-8086 mode a selector has its base with it; in the others it is only what the program sees.
  static constexpr std::pair<const char*, SegmentIndex> kSelectors[] = {{"cs", kCs}, {"ss", kSs}, {"ds", kDs}, {"es", kEs}, {"fs", kFs}, {"gs", kGs}};
  for (const auto& [name, segment] : kSelectors)
    list.add(name, 4, "int32", kCore, "", [segment](CpuCore& cpu) { return u64{cpu.s.segment[segment].selector}; },
             [segment](CpuCore& cpu, u64 value) {
               SegmentRegister& reg = cpu.s.segment[segment];
               reg.selector = static_cast<u16>(value);
               if (!cpu.s.protected_mode() || cpu.s.v86()) reg.base = static_cast<u64>(reg.selector) << 4;
               state_changed(cpu);
               return true;
             });
}

void add_x87(List& list) {
  for (unsigned i = 0; i < 8; ++i) {
    const auto place = [i](CpuCore& cpu) -> X87Register& { return cpu.s.x87.registers[((cpu.s.x87.status >> 11) + i) & 7]; };
    list.registers.push_back({fmt::format("st{}", i), 10, "i387_ext", kCore, "",
                              [place](CpuCore& cpu, std::span<u8> data) {
                                std::memcpy(data.data(), &place(cpu).significand, 8);
                                std::memcpy(data.data() + 8, &place(cpu).sign_exponent, 2);
                              },
                              [place](CpuCore& cpu, std::span<const u8> data) {
                                std::memcpy(&place(cpu).significand, data.data(), 8);
                                std::memcpy(&place(cpu).sign_exponent, data.data() + 8, 2);
                                return true;
                              }});
  }
  const auto add = [&](const char* name, auto read, auto write) { list.add(name, 4, "int", kCore, "float", read, write); };
  add("fctrl", [](CpuCore& cpu) { return u64{cpu.s.x87.control}; }, [](CpuCore& cpu, u64 v) { return cpu.s.x87.control = v & 0x1f7f, true; });
  add("fstat", [](CpuCore& cpu) { return u64{cpu.s.x87.status}; }, [](CpuCore& cpu, u64 v) { return cpu.s.x87.status = static_cast<u16>(v), true; });
  add("ftag", [](CpuCore& cpu) { return u64{full_tags(cpu.s.x87)}; },
      [](CpuCore& cpu, u64 v) {
        cpu.s.x87.valid = 0;
        for (unsigned i = 0; i < 8; ++i)
          if ((v >> (2 * i) & 3) != 3) cpu.s.x87.valid |= static_cast<u8>(1u << i);
        return true;
      });
  add("fiseg", [](CpuCore& cpu) { return u64{cpu.s.x87.last_code_selector}; },
      [](CpuCore& cpu, u64 v) { return cpu.s.x87.last_code_selector = static_cast<u16>(v), true; });
  add("fioff", [](CpuCore& cpu) { return cpu.s.x87.last_instruction; }, [](CpuCore& cpu, u64 v) { return cpu.s.x87.last_instruction = v, true; });
  add("foseg", [](CpuCore& cpu) { return u64{cpu.s.x87.last_data_selector}; },
      [](CpuCore& cpu, u64 v) { return cpu.s.x87.last_data_selector = static_cast<u16>(v), true; });
  add("fooff", [](CpuCore& cpu) { return cpu.s.x87.last_data; }, [](CpuCore& cpu, u64 v) { return cpu.s.x87.last_data = v, true; });
  add("fop", [](CpuCore& cpu) { return u64{cpu.s.x87.last_opcode}; },
      [](CpuCore& cpu, u64 v) { return cpu.s.x87.last_opcode = static_cast<u16>(v & 0x7ff), true; });
}

// Names that gdb looks for when it debugs 16- and 32-bit code: it takes the same description then.
void add_narrow_names(List& list) {
  static constexpr std::pair<const char*, Gpr> kNames[] = {{"eax", kRax}, {"ecx", kRcx}, {"edx", kRdx}, {"ebx", kRbx},
                                                           {"esp", kRsp}, {"ebp", kRbp}, {"esi", kRsi}, {"edi", kRdi}};
  for (const auto& [name, index] : kNames)
    list.add(name, 4, "int32", kCore, "", [index](CpuCore& cpu) { return cpu.s.gpr[index]; },
             [index](CpuCore& cpu, u64 value) { return cpu.s.gpr[index] = static_cast<u32>(value), true; });
  add_program_counter(list, "eip", 4);
}

void add_vectors(List& list) {
  const auto add_part = [&](std::string name, const char* type, const char* feature, unsigned index, unsigned first) {
    list.registers.push_back({std::move(name), 16, type, feature, "",
                              [=](CpuCore& cpu, std::span<u8> data) { std::memcpy(data.data(), &cpu.s.vector[index].qword[first], 16); },
                              [=](CpuCore& cpu, std::span<const u8> data) {
                                std::memcpy(&cpu.s.vector[index].qword[first], data.data(), 16);
                                return true;
                              }});
  };
  for (unsigned i = 0; i < 16; ++i) add_part(fmt::format("xmm{}", i), "vec128", kSse, i, 0);
  list.add("mxcsr", 4, "i386_mxcsr", kSse, "vector", [](CpuCore& cpu) { return u64{cpu.s.mxcsr}; },
           [](CpuCore& cpu, u64 value) {
             write_mxcsr(cpu.s, static_cast<u32>(value) & kMxcsrWritable);
             state_changed(cpu);
             return true;
           });
  for (unsigned i = 0; i < 16; ++i) add_part(fmt::format("ymm{}h", i), "uint128", kAvx, i, 2);
}

void add_segment_parts(List& list) {
  const auto base = [&](const char* name, SegmentIndex segment, const char* feature) {
    list.add(name, 8, "int64", feature, "system", [segment](CpuCore& cpu) { return cpu.s.segment[segment].base; },
             [segment](CpuCore& cpu, u64 value) {
               cpu.s.segment[segment].base = cpu.s.long_mode() ? value : static_cast<u32>(value);
               state_changed(cpu);
               return true;
             });
  };
  base("fs_base", kFs, kSegments);
  base("gs_base", kGs, kSegments);
  for (const auto& [name, segment] : {std::pair{"cs_base", kCs}, {"ss_base", kSs}, {"ds_base", kDs}, {"es_base", kEs}}) base(name, segment, kSystem);
  for (const auto& [name, segment] : {std::pair{"ldtr", kLdtr}, {"tr", kTr}}) {
    list.add(name, 4, "int32", kSystem, "system", [segment](CpuCore& cpu) { return u64{cpu.s.segment[segment].selector}; },
             [segment](CpuCore& cpu, u64 value) { return cpu.s.segment[segment].selector = static_cast<u16>(value), true; });
    base(segment == kLdtr ? "ldtr_base" : "tr_base", segment, kSystem);
  }
  for (const auto& [name, table] : {std::pair{"gdtr", &CpuState::gdtr}, {"idtr", &CpuState::idtr}}) {
    list.add(fmt::format("{}_base", name), 8, "int64", kSystem, "system", [table](CpuCore& cpu) { return (cpu.s.*table).base; },
             [table](CpuCore& cpu, u64 value) { return (cpu.s.*table).base = value, true; });
    list.add(fmt::format("{}_limit", name), 4, "int32", kSystem, "system", [table](CpuCore& cpu) { return u64{(cpu.s.*table).limit}; },
             [table](CpuCore& cpu, u64 value) { return (cpu.s.*table).limit = static_cast<u16>(value), true; });
  }
  list.add("ip", 8, "int64", kSystem, "system", [](CpuCore& cpu) { return cpu.s.rip; },
           [](CpuCore& cpu, u64 value) {
             cpu.s.rip = cpu.s.code64() ? value : static_cast<u32>(value);
             cpu.s.halted = false;
             return true;
           });
}

void add_control(List& list) {
  const auto add = [&](const char* name, auto read, auto write) { list.add(name, 8, "int64", kSystem, "system", read, write); };
  add("cr0", [](CpuCore& cpu) { return cpu.s.cr0; }, [](CpuCore& cpu, u64 v) { return set_control(cpu, v, cpu.s.cr3, cpu.s.cr4, cpu.s.efer); });
  list.field("cr2", 8, kSystem, "system", &CpuState::cr2);
  add("cr3", [](CpuCore& cpu) { return cpu.s.cr3; }, [](CpuCore& cpu, u64 v) { return set_control(cpu, cpu.s.cr0, v, cpu.s.cr4, cpu.s.efer); });
  add("cr4", [](CpuCore& cpu) { return cpu.s.cr4; }, [](CpuCore& cpu, u64 v) { return set_control(cpu, cpu.s.cr0, cpu.s.cr3, v, cpu.s.efer); });
  add("cr8", [](CpuCore& cpu) { return u64{cpu.environment.task_priority()}; },
      [](CpuCore& cpu, u64 v) { return cpu.environment.set_task_priority(v & 15), true; });
  add("efer", [](CpuCore& cpu) { return cpu.s.efer; }, [](CpuCore& cpu, u64 v) { return set_control(cpu, cpu.s.cr0, cpu.s.cr3, cpu.s.cr4, v); });
  for (const unsigned index : {0u, 1u, 2u, 3u, 6u, 7u})
    list.add(fmt::format("dr{}", index), 8, "int64", kSystem, "system", [index](CpuCore& cpu) { return cpu.s.dr[index]; },
             [index](CpuCore& cpu, u64 v) {  // SDM Vol. 3B 18.2
               cpu.s.dr[index] = index == 6 ? (v & 0xe00f) | 0xffff0ff0 : index == 7 ? (v & 0xffff23ff) | 0x400 : v;
               state_changed(cpu);
               return true;
             });
  list.add("cpl", 4, "int32", kSystem, "system", [](CpuCore& cpu) { return u64{cpu.s.cpl}; }, [](CpuCore&, u64) { return false; });
  for (const auto& [name, member] : {std::pair{"star", &CpuState::star}, {"lstar", &CpuState::lstar}, {"cstar", &CpuState::cstar}, {"fmask", &CpuState::fmask},
                                     {"kernel_gs_base", &CpuState::kernel_gs_base}, {"sysenter_cs", &CpuState::sysenter_cs},
                                     {"sysenter_esp", &CpuState::sysenter_esp}, {"sysenter_eip", &CpuState::sysenter_eip}, {"tsc_aux", &CpuState::tsc_aux}})
    list.field(name, 8, kSystem, "system", member);
  add("apic_base",
      [](CpuCore& cpu) {
        u64 value = 0;
        return cpu.environment.read_apic_msr(0x1b, value) ? value : 0;
      },
      [](CpuCore& cpu, u64 v) { return cpu.environment.write_apic_msr(0x1b, v); });
  add("pat", [](CpuCore& cpu) { return cpu.s.pat; },
      [](CpuCore& cpu, u64 v) {  // SDM Vol. 3A 12.12.2: each byte is UC, WC, WT, WP, WB or UC-
        for (unsigned i = 0; i < 64; i += 8)
          if (const u64 type = v >> i & 0xff; type > 7 || type == 2 || type == 3) return false;
        return cpu.s.pat = v, true;
      });
  add("xcr0", [](CpuCore& cpu) { return cpu.s.xcr0; },
      [](CpuCore& cpu, u64 v) {  // as XSETBV takes it, SDM Vol. 1 13.3
        if (!(v & kXcr0X87) || (v & ~supported_xcr0(cpu.model)) || ((v & kXcr0Avx) && !(v & kXcr0Sse))) return false;
        cpu.s.xcr0 = v;
        state_changed(cpu);
        return true;
      });
}

constexpr std::string_view kCoreTypes = R"(<flags id="i386_eflags" size="4">
<field name="" start="22" end="31"/><field name="CF" start="0" end="0"/><field name="" start="1" end="1"/>
<field name="PF" start="2" end="2"/><field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/>
<field name="SF" start="7" end="7"/><field name="TF" start="8" end="8"/><field name="IF" start="9" end="9"/>
<field name="DF" start="10" end="10"/><field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/>
<field name="RF" start="16" end="16"/><field name="VM" start="17" end="17"/><field name="AC" start="18" end="18"/>
<field name="VIF" start="19" end="19"/><field name="VIP" start="20" end="20"/><field name="ID" start="21" end="21"/>
</flags>
)";
constexpr std::string_view kSseTypes = R"(<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/>
<field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/></union>
<flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/>
<field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/><field name="UE" start="4" end="4"/>
<field name="PE" start="5" end="5"/><field name="DAZ" start="6" end="6"/><field name="IM" start="7" end="7"/>
<field name="DM" start="8" end="8"/><field name="ZM" start="9" end="9"/><field name="OM" start="10" end="10"/>
<field name="UM" start="11" end="11"/><field name="PM" start="12" end="12"/><field name="FZ" start="15" end="15"/></flags>
)";

}  // namespace

const std::vector<DebugRegister>& debug_registers() {
  static const auto* const registers = [] {
    List list;
    add_general(list);
    add_x87(list);
    add_narrow_names(list);
    add_vectors(list);
    add_segment_parts(list);
    add_control(list);
    return new std::vector<DebugRegister>(std::move(list.registers));
  }();
  return *registers;
}

int debug_register_number(std::string_view name) {
  const auto& all = debug_registers();
  const auto found = std::ranges::find(all, name, &DebugRegister::name);
  return found == all.end() ? -1 : static_cast<int>(found - all.begin());
}

usize debug_register_bytes() {
  usize bytes = 0;
  for (const DebugRegister& reg : debug_registers()) bytes += reg.bytes;
  return bytes;
}

std::string target_description() {
  std::string xml = "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n";
  const auto& all = debug_registers();
  std::vector<std::string_view> features;
  for (const DebugRegister& reg : all)
    if (std::ranges::find(features, std::string_view(reg.feature)) == features.end()) features.push_back(reg.feature);
  for (const std::string_view feature : features) {
    xml += fmt::format("<feature name=\"{}\">\n", feature);
    if (feature == kCore) xml += kCoreTypes;
    if (feature == kSse) xml += kSseTypes;
    for (usize i = 0; i < all.size(); ++i) {
      const DebugRegister& reg = all[i];
      if (reg.feature != feature) continue;
      xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"", reg.name, reg.bytes * 8, reg.type, i);
      if (*reg.group) xml += fmt::format(" group=\"{}\"", reg.group);
      xml += "/>\n";
    }
    xml += "</feature>\n";
  }
  return xml + "</target>\n";
}

}  // namespace vellum
