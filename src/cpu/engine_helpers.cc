// The helpers that every engine's code calls when its fast path does not apply.
#include "cpu/binding.h"
#include "cpu/core.h"

namespace vellum {

void engine_load_slow(CpuState* s, const BoundInsn* insn, u64 linear, void* data, unsigned size) {
  s->insn = insn;
  s->core->load_slow(linear, data, size);
}

void engine_store_slow(CpuState* s, const BoundInsn* insn, u64 linear, const void* data, unsigned size) {
  s->insn = insn;
  s->core->store_slow(linear, data, size);
}

void engine_load_vector_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  s->insn = insn;
  s->core->load_slow(linear, &s->transfer, size);
}

void engine_store_vector_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  s->insn = insn;
  s->core->store_slow(linear, &s->transfer, size);
}

u64 engine_load_value_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  u64 value = 0;
  s->insn = insn;
  s->core->load_slow(linear, &value, size);
  return value;
}

void engine_store_value_slow(CpuState* s, const BoundInsn* insn, u64 linear, u64 value, unsigned size) {
  s->insn = insn;
  s->core->store_slow(linear, &value, size);
}

namespace {

// Where the TLB permits the access to the stack, or nullptr. Keeps the page's translation.
u8* host_of_stack(CpuState* s, u64 linear, unsigned size, bool write) {
  if ((linear & kPageMask) > kPageSize - size || !Tlb::keep_stack(s->tlb, linear, write)) return nullptr;
  return StackTranslation::of(s->tlb)->host + (linear & kPageMask);
}

}  // namespace

u64 engine_load_stack_slow(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  u64 value = 0;
  if (const u8* host = host_of_stack(s, linear, size, false)) {
    ordered_read(&value, host, size);
    return value;
  }
  value = engine_load_value_slow(s, insn, linear, size);
  Tlb::keep_stack(s->tlb, linear, false);
  return value;
}

void engine_store_stack_slow(CpuState* s, const BoundInsn* insn, u64 linear, u64 value, unsigned size) {
  if (u8* host = host_of_stack(s, linear, size, true)) return ordered_write(host, &value, size);
  engine_store_value_slow(s, insn, linear, value, size);
  Tlb::keep_stack(s->tlb, linear, true);
}

u8* engine_update_stack_host(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  if (u8* host = host_of_stack(s, linear, size, true)) return host;
  u8* host = engine_update_host(s, insn, linear, size);
  Tlb::keep_stack(s->tlb, linear, true);
  return host;
}

u8* engine_update_host(CpuState* s, const BoundInsn* insn, u64 linear, unsigned size) {
  s->insn = insn;
  return s->core->writable_host(linear, size);
}

bool engine_exchange_unaligned(u8* host, u64* expected, u64 replacement, unsigned size) {
  return exchange_unaligned(host, *expected, replacement, size);
}

u64 engine_segment(CpuState* s, const BoundInsn* insn, unsigned segment, u64 offset, unsigned size,
                        AccessType access) {
  s->insn = insn;
  return s->core->segment_linear(segment, offset, size, access);
}

void engine_raise(CpuState* s, const BoundInsn* insn, Vector vector, u32 error_code) {
  s->insn = insn;
  s->core->raise(vector, error_code);
}

void engine_check_target(CpuState* s, const BoundInsn* insn, u64 target) {
  const bool valid = insn->code_size_bytes == 8 ? static_cast<i64>(target << 16) >> 16 == static_cast<i64>(target)
                                                : target <= s->segment[kCs].limit;
  if (!valid) engine_raise(s, insn, Vector::GeneralProtection, 0);
}

bool engine_condition(u8 code, FlagOperation operation, u64 result, u64 a, u64 b) {
  return condition_holds(code, {operation, result, a, b});
}

u32 engine_arithmetic_flags(FlagOperation operation, u64 result, u64 a, u64 b) {
  return arithmetic_flags({operation, result, a, b});
}

}  // namespace vellum
