// Page tables, descriptor tables and registers of the tests' bare machines.
#include "instructions/bare_cpu.h"

#include <cstring>

namespace vellum::instructions {

void build_page_tables(AddressSpace& memory, u64 code, u64 data, CodePages code_pages) {
  put<u64>(memory, kPml4, kPdpt | kPresent | kWrite | kUser);
  put<u64>(memory, kPdpt, kPd | kPresent | kWrite | kUser);
  put<u64>(memory, kPml4 + 8 * 256, kKernelPdpt | kPresent | kWrite);
  put<u64>(memory, kKernelPdpt, kKernelPd | kPresent | kWrite);
  put<u64>(memory, kKernelPd, kPresent | kWrite | kLarge);
  put<u64>(memory, kPd + 8 * (kCodeBase >> 21), kCodePt | kPresent | kWrite | kUser);
  put<u64>(memory, kPd + 8 * (kDataBase >> 21), kDataPt | kPresent | kWrite | kUser);
  for (u64 page = 0; page < kCodeSize >> 12; ++page)
    put<u64>(memory, kCodePt + 8 * page, (code + (page << 12)) | kPresent | kUser | (code_pages == CodePages::Writable ? kWrite : 0));
  for (u64 page = 0; page < kDataSize >> 12; ++page)
    put<u64>(memory, kDataPt + 8 * page, (data + (page << 12)) | kPresent | kUser | kNoExecute | (page < kWritableSize >> 12 ? kWrite : 0));
}

void build_descriptor_tables(AddressSpace& memory) {
  put<u64>(memory, kGdt + 0x08, 0x00af9b000000ffff);  // 64-bit code
  put<u64>(memory, kGdt + 0x10, 0x00cf93000000ffff);  // data
  put<u64>(memory, kTss + 4, kKernel + kStackTop);    // RSP0
  for (u64 vector = 0; vector < 256; ++vector) {
    const u64 handler = kKernel + kHandlers + vector * kHandlerSpacing;
    put<u64>(memory, kIdt + 16 * vector, (handler & 0xffff) | 0x08u << 16 | u64{0xee00} << 32 | (handler >> 16 & 0xffff) << 48);
    put<u64>(memory, kIdt + 16 * vector + 8, handler >> 32);
  }
}

void enter_long_mode(CpuState& s, u64 more_cr4) {
  s.cr0 = kCr0Pe | kCr0Mp | kCr0Et | kCr0Ne | kCr0Wp | kCr0Am | kCr0Pg;
  s.cr3 = kPml4;
  s.cr4 = kCr4Pae | kCr4Osfxsr | kCr4Osxmmexcpt | kCr4Osxsave | more_cr4;
  s.xcr0 = kXcr0X87 | kXcr0Sse | kXcr0Avx;
  s.efer = kEferLme | kEferLma | kEferNxe | kEferSce;
  s.gdtr = {kKernel + kGdt, 0xfff};
  s.idtr = {kKernel + kIdt, 0xfff};
  s.segment[kTr] = {0x20, 0x8b, 0x67, kKernel + kTss, true};
}

void load_user_segments(CpuState& s, Environment environment, FlatSelectors flat_selectors) {
  const auto segment = [&s](SegmentIndex index, u16 selector, u16 attributes, SegmentLayout layout) {
    s.segment[index] = {selector, attributes, layout.limit, layout.base, true};
  };
  constexpr SegmentLayout flat{0, 0xffffffff};
  // Limits in bytes, and besides with the default size of 16 bits.
  constexpr u16 code64 = 0xa0fb, code32 = 0xc0fb, code16 = 0x00fb, data32 = 0xc0f3, bytes = 0x7fff, small = 0x3fff;
  for (const SegmentIndex index : {kEs, kCs, kSs, kDs, kFs, kGs}) s.segment[index] = {};
  switch (environment) {
    case Environment::Long64:
      segment(kCs, 0x33, code64, flat);
      for (const SegmentIndex index : {kEs, kSs, kDs, kFs, kGs}) segment(index, 0x2b, data32, flat);
      s.segment[kGs].base = kGsBase;
      break;
    case Environment::Flat32:
      segment(kCs, flat_selectors.code, code32, flat);
      for (const SegmentIndex index : {kEs, kSs, kDs}) segment(index, flat_selectors.data, data32, flat);
      break;
    case Environment::Segmented32:
      segment(kCs, 0x17, code32 & bytes, kCodeSegment);
      segment(kSs, 0x37, data32 & bytes, kSsSegment);
      break;
    case Environment::Segmented16:
      segment(kCs, 0x1f, code16, kCodeSegment);
      segment(kSs, 0x3f, data32 & small, kSsSegment);
      break;
    case Environment::Count:
      break;
  }
  if (environment == Environment::Segmented32 || environment == Environment::Segmented16) {
    segment(kDs, 0x27, data32 & bytes, kDsSegment);
    segment(kEs, 0x2f, data32 & bytes, kEsSegment);
  }
  s.cpl = 3;
}

void load_registers(CpuState& s, const MachineState& state) {
  for (unsigned i = 0; i < 16; ++i) s.gpr[i] = state.gpr[i];
  const VectorState& vector = state.vector;
  s.x87 = {};
  s.x87.control = vector.control;
  s.x87.status = vector.status;
  s.x87.valid = vector.tags;
  const unsigned top = vector.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    X87Register& target = s.x87.registers[(top + i) & 7];
    std::memcpy(&target.significand, vector.st[i].data(), 8);
    std::memcpy(&target.sign_exponent, vector.st[i].data() + 8, 2);
  }
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(s.vector[i].qword, vector.xmm[i].data(), 16);
    std::memcpy(s.vector[i].qword + 2, vector.ymm_high[i].data(), 16);
  }
}

}  // namespace vellum::instructions
