// FXSAVE, FXRSTOR and the XSAVE feature set: SDM Vol. 1 10.5 and chapter 13.
#include <cstring>

#include "cpu/callouts/memory_image.h"
#include "cpu/floating_environment.h"
#include "cpu/x87.h"

namespace vellum::callouts {

namespace {

namespace spec {
// The legacy region, SDM Vol. 1 table 10-2.
constexpr unsigned kControl = 0, kStatus = 2, kTags = 4, kOpcode = 6, kInstruction = 8, kCodeSelector = 12, kData = 16,
                   kDataSelector = 20, kMxcsr = 24, kMxcsrMask = 28, kSt = 32, kXmm = 160, kLegacySize = 512;
// The header, 13.4.2.
constexpr unsigned kStateBv = 512, kCompBv = 520, kHeaderSize = 64;
constexpr u64 kCompacted = u64{1} << 63;
}  // namespace spec

enum class Compaction : u8 { Standard, Compacted };

template <class T>
void put(u8* image, unsigned offset, T value) {
  std::memcpy(image + offset, &value, sizeof(T));
}
template <class T>
T get(const u8* image, unsigned offset) {
  T value;
  std::memcpy(&value, image + offset, sizeof(T));
  return value;
}

u32 mxcsr_mask(const CpuCore& cpu) {
  return cpu.model.has(Feature::Sse2) ? kMxcsrWritable : kMxcsrWritable & ~u32{kMxcsrDenormalsAreZeros};
}
unsigned xmm_count(const CpuState& s) { return s.code64() ? 16 : 8; }

// Bytes 0 to 23 and 32 to 159. REX.W selects 64-bit pointers, 10.5.1.
void put_x87(const CpuCore& cpu, bool wide, u8* image) {
  const X87State& x = cpu.s.x87;
  put(image, spec::kControl, x.control);
  put(image, spec::kStatus, x.status);
  put<u16>(image, spec::kTags, x.valid);
  put(image, spec::kOpcode, x.last_opcode);
  put(image, spec::kInstruction, x.last_instruction);
  put(image, spec::kData, x.last_data);
  if (!wide) {
    put<u32>(image, spec::kCodeSelector, x.last_code_selector);
    put<u32>(image, spec::kDataSelector, x.last_data_selector);
  }
  for (unsigned i = 0; i < 8; ++i) {
    u8* slot = image + spec::kSt + 16 * i;
    std::memset(slot, 0, 16);
    std::memcpy(slot, &x.registers[x87::physical(cpu.s, i)], 10);
  }
}

void get_x87(CpuCore& cpu, bool wide, const u8* image) {
  X87State& x = cpu.s.x87;
  x.status = get<u16>(image, spec::kStatus) & static_cast<u16>(~(x87::kSummary | x87::kBusy));
  x.valid = get<u8>(image, spec::kTags);
  x.last_opcode = get<u16>(image, spec::kOpcode) & 0x7ff;
  if (wide) {
    x.last_instruction = get<u64>(image, spec::kInstruction);
    x.last_data = get<u64>(image, spec::kData);
    x.last_code_selector = x.last_data_selector = 0;
  } else {
    x.last_instruction = get<u32>(image, spec::kInstruction);
    x.last_data = get<u32>(image, spec::kData);
    x.last_code_selector = get<u16>(image, spec::kCodeSelector);
    x.last_data_selector = get<u16>(image, spec::kDataSelector);
  }
  for (unsigned i = 0; i < 8; ++i)
    std::memcpy(&x.registers[x87::physical(cpu.s, i)], image + spec::kSt + 16 * i, 10);
  x87::set_control(cpu.s, get<u16>(image, spec::kControl));
}

void init_x87(CpuCore& cpu) {
  x87::initialize(cpu.s);
  cpu.s.x87.registers = {};
}

void put_xmm(const CpuCore& cpu, u8* image) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memcpy(image + spec::kXmm + 16 * i, &cpu.s.vector[i], 16);
}
void get_xmm(CpuCore& cpu, const u8* image) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memcpy(&cpu.s.vector[i], image + spec::kXmm + 16 * i, 16);
}
void init_xmm(CpuCore& cpu) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memset(&cpu.s.vector[i], 0, 16);
}

// Bits 255:128 of each register, in the AVX component, 13.5.3.
void put_ymm(const CpuCore& cpu, u8* component) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memcpy(component + 16 * i, &cpu.s.vector[i].qword[2], 16);
}
void get_ymm(CpuCore& cpu, const u8* component) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memcpy(&cpu.s.vector[i].qword[2], component + 16 * i, 16);
}
void init_ymm(CpuCore& cpu) {
  for (unsigned i = 0; i < xmm_count(cpu.s); ++i) std::memset(&cpu.s.vector[i].qword[2], 0, 16);
}

void put_mxcsr(CpuCore& cpu, u8* image) {
  sync_mxcsr(cpu.s);
  put<u32>(image, spec::kMxcsr, cpu.s.mxcsr);
  put<u32>(image, spec::kMxcsrMask, mxcsr_mask(cpu));
}
u32 checked_mxcsr(CpuCore& cpu, const u8* image) {
  const u32 value = get<u32>(image, spec::kMxcsr);
  if (value & ~mxcsr_mask(cpu)) cpu.raise_general_protection();
  return value;
}

void set_pkru(CpuCore& cpu, u32 value) {
  if (cpu.s.pkru == value) return;
  cpu.s.pkru = cpu.s.paging.pkru = value;
  cpu.flush_tlb();
}

// XINUSE, 13.6.
u64 in_use(CpuCore& cpu) {
  const CpuState& s = cpu.s;
  u64 used = 0;
  const X87State& x = s.x87;
  bool initial = x.control == 0x037f && x.status == 0 && x.valid == 0 && x.last_opcode == 0 && x.last_instruction == 0 &&
                 x.last_data == 0 && x.last_code_selector == 0 && x.last_data_selector == 0;
  for (const X87Register& value : x.registers) initial = initial && value.significand == 0 && value.sign_exponent == 0;
  if (!initial) used |= kXcr0X87;
  u64 low = 0, high = 0;
  for (unsigned i = 0; i < xmm_count(s); ++i) {
    low |= s.vector[i].qword[0] | s.vector[i].qword[1];
    high |= s.vector[i].qword[2] | s.vector[i].qword[3];
  }
  if (low) used |= kXcr0Sse;
  if (high) used |= kXcr0Avx;
  if (s.pkru) used |= kXcr0Pkru;
  return used;
}

// 13.4: what every instruction of the set checks. Returns the operand's address.
void require_xsave(CpuCore& cpu) {
  if (!(cpu.s.cr4 & kCr4Osxsave)) cpu.raise(Vector::InvalidOpcode);
  if (cpu.s.cr0 & kCr0Ts) cpu.raise(Vector::DeviceNotAvailable);
}
u64 area_address(CpuCore& cpu, const BoundInsn& insn, unsigned size, unsigned alignment, AccessType access) {
  const u64 linear = cpu.operand_linear(insn, size, access);
  if (linear & (alignment - 1)) cpu.raise_general_protection();
  return linear;
}
u64 requested(const CpuState& s) {
  return static_cast<u32>(s.gpr[kRax]) | static_cast<u64>(static_cast<u32>(s.gpr[kRdx])) << 32;
}

// XSAVE and XSAVEOPT, 13.7 and 13.9. `optimize`: parts in their initial configuration are not written.
void save_standard(CpuCore& cpu, const BoundInsn& insn, bool optimize) {
  require_xsave(cpu);
  const bool wide = insn.operand_size == 8;
  const u64 mask = requested(cpu.s) & cpu.s.xcr0;
  const unsigned size = xsave_area_size(mask);
  const u64 linear = area_address(cpu, insn, size, 64, AccessType::Write);
  cpu.probe_write(linear, size);
  const u64 used = in_use(cpu);
  const u64 written = optimize ? mask & used : mask;
  const auto address = [&](unsigned offset) { return image_address(cpu, linear, offset); };
  const u64 old_state = cpu.read_linear<u64>(address(spec::kStateBv));
  u8 image[spec::kLegacySize];
  if (written & kXcr0X87) {
    put_x87(cpu, wide, image);
    write_image(cpu, linear, image, spec::kMxcsr);
    write_image(cpu, address(spec::kSt), image + spec::kSt, spec::kXmm - spec::kSt);
  }
  if (mask & (kXcr0Sse | kXcr0Avx)) {
    put_mxcsr(cpu, image);
    write_image(cpu, address(spec::kMxcsr), image + spec::kMxcsr, 8);
  }
  if (written & kXcr0Sse) {
    put_xmm(cpu, image);
    write_image(cpu, address(spec::kXmm), image + spec::kXmm, 16 * xmm_count(cpu.s));
  }
  if (written & kXcr0Avx) {
    put_ymm(cpu, image);
    write_image(cpu, address(kXsaveAvxOffset), image, 16 * xmm_count(cpu.s));
  }
  if (written & kXcr0Pkru) cpu.write_linear<u64>(address(kXsavePkruOffset), cpu.s.pkru);
  cpu.write_linear<u64>(address(spec::kStateBv), (old_state & ~mask) | (used & mask));
}

// XSAVEC and XSAVES, 13.10 and 13.11.
void save_compacted(CpuCore& cpu, const BoundInsn& insn, u64 components) {
  const bool wide = insn.operand_size == 8;
  const u64 mask = requested(cpu.s) & components;
  const unsigned size = xsavec_area_size(mask);
  const u64 linear = area_address(cpu, insn, size, 64, AccessType::Write);
  cpu.probe_write(linear, size);
  sync_mxcsr(cpu.s);
  u64 used = in_use(cpu);
  if (cpu.s.mxcsr != kMxcsrReset) used |= kXcr0Sse;
  const u64 written = mask & used;
  const auto address = [&](unsigned offset) { return image_address(cpu, linear, offset); };
  u8 image[spec::kLegacySize];
  if (written & kXcr0X87) {
    put_x87(cpu, wide, image);
    write_image(cpu, linear, image, spec::kMxcsr);
    write_image(cpu, address(spec::kSt), image + spec::kSt, spec::kXmm - spec::kSt);
  }
  if (written & kXcr0Sse) {
    put_mxcsr(cpu, image);
    write_image(cpu, address(spec::kMxcsr), image + spec::kMxcsr, 8);
    put_xmm(cpu, image);
    write_image(cpu, address(spec::kXmm), image + spec::kXmm, 16 * xmm_count(cpu.s));
  }
  if (written & kXcr0Avx) {
    put_ymm(cpu, image);
    write_image(cpu, address(xsavec_offset(kXcr0Avx, mask)), image, 16 * xmm_count(cpu.s));
  }
  if (written & kXcr0Pkru) cpu.write_linear<u64>(address(xsavec_offset(kXcr0Pkru, mask)), cpu.s.pkru);
  cpu.write_linear<u64>(address(spec::kStateBv), written);
  cpu.write_linear<u64>(address(spec::kCompBv), mask | spec::kCompacted);
}

// XRSTOR and XRSTORS, 13.8 and 13.12.
void restore(CpuCore& cpu, const BoundInsn& insn, u64 components, bool supervisor) {
  const bool wide = insn.operand_size == 8;
  const u64 mask = requested(cpu.s) & components;
  const u64 linear = area_address(cpu, insn, kXsaveHeaderEnd, 64, AccessType::Read);
  const auto address = [&](unsigned offset) { return image_address(cpu, linear, offset); };
  u8 image[kXsaveHeaderEnd];
  read_image(cpu, address(spec::kLegacySize), image + spec::kLegacySize, spec::kHeaderSize);
  const u64 state = get<u64>(image, spec::kStateBv), layout = get<u64>(image, spec::kCompBv);
  const bool compacted = layout & spec::kCompacted;
  u64 reserved = get<u64>(image, spec::kCompBv + 8);
  if (compacted) {
    if (!cpu.model.has(Feature::Xsavec)) cpu.raise_general_protection();
    const u64 held = layout & ~spec::kCompacted;
    if ((held & ~components) || (state & ~held)) cpu.raise_general_protection();
    for (unsigned offset = spec::kCompBv + 16; offset < kXsaveHeaderEnd; offset += 8) reserved |= get<u64>(image, offset);
  } else {
    if (supervisor || layout || (state & ~components)) cpu.raise_general_protection();
  }
  if (reserved) cpu.raise_general_protection();

  const u64 loaded = mask & state;
  if (loaded & kXcr0X87) {
    read_image(cpu, linear, image, spec::kMxcsr);
    read_image(cpu, address(spec::kSt), image + spec::kSt, spec::kXmm - spec::kSt);
  }
  const bool load_mxcsr = compacted ? (loaded & kXcr0Sse) != 0 : (mask & (kXcr0Sse | kXcr0Avx)) != 0;
  u32 mxcsr = kMxcsrReset;
  if (load_mxcsr) {
    read_image(cpu, address(spec::kMxcsr), image + spec::kMxcsr, 4);
    mxcsr = checked_mxcsr(cpu, image);
  }
  if (loaded & kXcr0Sse) read_image(cpu, address(spec::kXmm), image + spec::kXmm, 16 * xmm_count(cpu.s));
  const auto component = [&](u64 bit, unsigned standard) { return address(compacted ? xsavec_offset(bit, layout) : standard); };
  u8 ymm[kXsaveAvxSize];
  if (loaded & kXcr0Avx) read_image(cpu, component(kXcr0Avx, kXsaveAvxOffset), ymm, 16 * xmm_count(cpu.s));
  u32 pkru = 0;
  if (loaded & kXcr0Pkru) pkru = cpu.read_linear<u32>(component(kXcr0Pkru, kXsavePkruOffset));

  if (loaded & kXcr0X87) get_x87(cpu, wide, image);
  else if (mask & kXcr0X87) init_x87(cpu);
  if (loaded & kXcr0Sse) get_xmm(cpu, image);
  else if (mask & kXcr0Sse) init_xmm(cpu);
  if (load_mxcsr || (mask & kXcr0Sse)) {
    write_mxcsr(cpu.s, mxcsr);
    cpu.update_mode();
  }
  if (loaded & kXcr0Avx) get_ymm(cpu, ymm);
  else if (mask & kXcr0Avx) init_ymm(cpu);
  if (mask & kXcr0Pkru) set_pkru(cpu, pkru);
}

}  // namespace

// A callout, because translated code depends on which exceptions are masked.
VELLUM_CALLOUT(load_mxcsr) {
  const u32 value = cpu.read_linear<u32>(cpu.operand_linear(insn, 4, AccessType::Read));
  if (value & ~kMxcsrWritable) cpu.raise_general_protection();
  write_mxcsr(cpu.s, value);
  cpu.update_mode();
}

VELLUM_CALLOUT(fx_save) {
  const u64 linear = area_address(cpu, insn, spec::kLegacySize, 16, AccessType::Write);
  u8 image[spec::kLegacySize] = {};
  put_x87(cpu, insn.operand_size == 8, image);
  put_mxcsr(cpu, image);
  put_xmm(cpu, image);
  cpu.probe_write(linear, spec::kLegacySize);
  // What lies behind the last register is the software's.
  write_image(cpu, linear, image, spec::kXmm + 16 * xmm_count(cpu.s));
}

VELLUM_CALLOUT(fx_restore) {
  const u64 linear = area_address(cpu, insn, spec::kLegacySize, 16, AccessType::Read);
  u8 image[spec::kLegacySize];
  read_image(cpu, linear, image, spec::kXmm + 16 * xmm_count(cpu.s));
  const u32 mxcsr = checked_mxcsr(cpu, image);
  get_x87(cpu, insn.operand_size == 8, image);
  get_xmm(cpu, image);
  write_mxcsr(cpu.s, mxcsr);
  cpu.update_mode();
}

VELLUM_CALLOUT(x_save) { save_standard(cpu, insn, false); }
VELLUM_CALLOUT(x_save_optimized) { save_standard(cpu, insn, true); }

VELLUM_CALLOUT(x_save_compacted) {
  require_xsave(cpu);
  save_compacted(cpu, insn, cpu.s.xcr0);
}

VELLUM_CALLOUT(x_save_supervisor) {
  require_xsave(cpu);
  if (cpu.s.cpl != 0) cpu.raise_general_protection();
  save_compacted(cpu, insn, cpu.s.xcr0 | cpu.s.xss);
}

VELLUM_CALLOUT(x_restore) {
  require_xsave(cpu);
  restore(cpu, insn, cpu.s.xcr0, false);
}

VELLUM_CALLOUT(x_restore_supervisor) {
  require_xsave(cpu);
  if (cpu.s.cpl != 0) cpu.raise_general_protection();
  restore(cpu, insn, cpu.s.xcr0 | cpu.s.xss, true);
}

VELLUM_CALLOUT(get_extended_control) {
  if (!(cpu.s.cr4 & kCr4Osxsave)) cpu.raise(Vector::InvalidOpcode);
  u64 value = cpu.s.xcr0;
  switch (static_cast<u32>(cpu.s.gpr[kRcx])) {
    case 0: break;
    case 1:
      if (!cpu.model.has(Feature::Xgetbv1)) cpu.raise_general_protection();
      value &= in_use(cpu);
      break;
    default: cpu.raise_general_protection();
  }
  cpu.s.gpr[kRax] = static_cast<u32>(value);
  cpu.s.gpr[kRdx] = value >> 32;
}

// SDM Vol. 1 13.3: XCR0 must have bit 0, SSE state with AVX state, and nothing that the CPU does not have.
VELLUM_CALLOUT(set_extended_control) {
  if (!(cpu.s.cr4 & kCr4Osxsave)) cpu.raise(Vector::InvalidOpcode);
  const u64 value = requested(cpu.s);
  if (cpu.s.cpl != 0 || static_cast<u32>(cpu.s.gpr[kRcx]) != 0 || !(value & kXcr0X87) ||
      (value & ~supported_xcr0(cpu.model)) || ((value & kXcr0Avx) && !(value & kXcr0Sse)))
    cpu.raise_general_protection();
  cpu.s.xcr0 = value;
  cpu.update_mode();
}

VELLUM_CALLOUT(read_protection_keys) {
  if (!(cpu.s.cr4 & kCr4Pke)) cpu.raise(Vector::InvalidOpcode);
  if (static_cast<u32>(cpu.s.gpr[kRcx])) cpu.raise_general_protection();
  cpu.s.gpr[kRax] = cpu.s.pkru;
  cpu.s.gpr[kRdx] = 0;
}

VELLUM_CALLOUT(write_protection_keys) {
  if (!(cpu.s.cr4 & kCr4Pke)) cpu.raise(Vector::InvalidOpcode);
  if (static_cast<u32>(cpu.s.gpr[kRcx]) || static_cast<u32>(cpu.s.gpr[kRdx])) cpu.raise_general_protection();
  set_pkru(cpu, static_cast<u32>(cpu.s.gpr[kRax]));
}

}  // namespace vellum::callouts
