// FLDENV, FNSTENV, FRSTOR, FNSAVE: SDM Vol. 1 8.1.10, figures 8-9 to 8-12.
#include <cstring>

#include "cpu/callouts/memory_image.h"
#include "cpu/x87.h"

namespace vellum::callouts {

namespace {

constexpr unsigned kRegistersSize = 80;

void wait(CpuCore& cpu) {
  if ((cpu.s.x87.status & x87::kSummary) && (cpu.s.cr0 & kCr0Ne)) cpu.raise(Vector::X87FloatingPoint);
}

}  // namespace

VELLUM_CALLOUT(x87_load_environment) {
  wait(cpu);
  const x87::ImageFormat format = x87::image_format(cpu.s, insn.operand_size);
  const unsigned size = x87::environment_size(format);
  u8 image[28];
  read_image(cpu, cpu.operand_linear(insn, size, AccessType::Read), image, size);
  x87::read_environment(cpu.s, format, image);
}

VELLUM_CALLOUT(x87_store_environment) {
  const x87::ImageFormat format = x87::image_format(cpu.s, insn.operand_size);
  const unsigned size = x87::environment_size(format);
  u8 image[28];
  x87::write_environment(cpu.s, format, image);
  write_image(cpu, cpu.operand_linear(insn, size, AccessType::Write), image, size);
  x87::set_control(cpu.s, cpu.s.x87.control | x87::kExceptions);
}

VELLUM_CALLOUT(x87_restore) {
  wait(cpu);
  const x87::ImageFormat format = x87::image_format(cpu.s, insn.operand_size);
  const unsigned header = x87::environment_size(format);
  u8 image[28 + kRegistersSize];
  read_image(cpu, cpu.operand_linear(insn, header + kRegistersSize, AccessType::Read), image, header + kRegistersSize);
  x87::read_environment(cpu.s, format, image);
  for (unsigned i = 0; i < 8; ++i) {
    X87Register& target = cpu.s.x87.registers[x87::physical(cpu.s, i)];
    std::memcpy(&target, image + header + 10 * i, 10);
  }
}

VELLUM_CALLOUT(x87_save) {
  const x87::ImageFormat format = x87::image_format(cpu.s, insn.operand_size);
  const unsigned header = x87::environment_size(format);
  u8 image[28 + kRegistersSize];
  x87::write_environment(cpu.s, format, image);
  for (unsigned i = 0; i < 8; ++i)
    std::memcpy(image + header + 10 * i, &cpu.s.x87.registers[x87::physical(cpu.s, i)], 10);
  write_image(cpu, cpu.operand_linear(insn, header + kRegistersSize, AccessType::Write), image, header + kRegistersSize);
  x87::initialize(cpu.s);
}

}  // namespace vellum::callouts
