// The x87 FPU's register stack, exceptions and images in memory. SDM Vol. 1 chapter 8.
#include "cpu/x87.h"

#include <cstring>

#include "cpu/core.h"

namespace vellum::x87 {

namespace {

constexpr u16 kBeforeComputing = kInvalid | kDenormal | kZeroDivide;

Environment environment(const CpuState& s) { return {s.x87.control, s.x87.status}; }
X87Register& st(CpuState& s, unsigned i) { return s.x87.registers[physical(s, i)]; }

void set_top(CpuState& s, unsigned value) {
  s.x87.status = static_cast<u16>((s.x87.status & ~0x3800) | (value & 7) << 11);
}

void set_register(CpuState& s, unsigned i, const X87Register& value) {
  X87Register& target = st(s, i);
  target.significand = value.significand;
  target.sign_exponent = value.sign_exponent;
  s.x87.valid |= static_cast<u8>(1u << physical(s, i));
}

void pop(CpuState& s, unsigned count) {
  for (; count; --count) {
    s.x87.valid &= static_cast<u8>(~(1u << top(s)));
    set_top(s, top(s) + 1);
  }
}

void push(CpuState& s, const X87Register& value) {
  set_top(s, top(s) - 1);
  set_register(s, 0, value);
}

// FOP is kept for unmasked exceptions only, as since the Pentium 4 (SDM Vol. 1 8.1.9.1): found by looking at the
// instruction again.
[[gnu::cold, gnu::noinline]] void record_opcode(CpuState& s) {
  if (!s.core) return;
  u64 address = s.x87.last_instruction + (s.code64() ? 0 : s.segment[kCs].base);
  for (unsigned i = 0; i < 15; ++i, ++address) {
    if (!s.code64()) address = static_cast<u32>(address);
    const auto byte_at = [&](u64 linear) -> int {
      const auto physical_address = walk_quietly(s.core->memory, s.paging, linear);
      return physical_address ? s.core->memory.read_value<u8>(*physical_address) : -1;
    };
    const int byte = byte_at(address);
    if ((byte & ~7) != 0xd8) continue;  // a prefix
    const int modrm = byte_at(address + 1);
    if (modrm >= 0) s.x87.last_opcode = static_cast<u16>((byte & 7) << 8 | modrm);
    return;
  }
}

[[gnu::cold, gnu::noinline]] void summary_changed(CpuState& s, bool pending) {
  if (pending) {
    s.x87.status |= kSummary | kBusy;
  } else {
    s.x87.status &= static_cast<u16>(~(kSummary | kBusy));
  }
  if (s.core && !(pending && (s.cr0 & kCr0Ne))) s.core->environment.set_ferr(pending);
}

// Exception flags of an operation that is over (its result, if any, is written).
inline void signal(CpuState& s, u16 raised) {
  s.x87.status |= raised & (kExceptions | kStackFault);
  if (raised & ~s.x87.control & kExceptions) [[unlikely]] {
    update_summary(s);
    record_opcode(s);
  }
}

// The operation ends before it changes anything because an unmasked exception came first.
inline bool blocked(const CpuState& s, u16 raised) { return raised & ~s.x87.control & kBeforeComputing; }

inline void set_conditions(CpuState& s, u16 mask, u16 status) {
  s.x87.status = static_cast<u16>((s.x87.status & ~mask) | (status & mask));
}

// Stack faults, SDM Vol. 1 8.5.1.1. True: masked, the caller puts in the indefinite value.
[[gnu::cold, gnu::noinline]] bool stack_fault(CpuState& s, bool overflow) {
  set_conditions(s, kC1, overflow ? kC1 : 0);
  signal(s, kInvalid | kStackFault);
  return s.x87.control & kInvalid;
}

// A denormal operand does not keep a load from completing, even when #D is unmasked.
void push_result(CpuState& s, const Result& result) {
  set_conditions(s, kC1, 0);
  if (!(result.status & ~s.x87.control & kInvalid)) push(s, result.value);
  signal(s, result.status & kExceptions);
}

// True when there is room for a push; else the overflow is dealt with.
bool room(CpuState& s) {
  if (is_empty(s, 7)) [[likely]] return true;
  if (stack_fault(s, true)) push(s, kIndefinite);
  return false;
}

void write_result(CpuState& s, unsigned dest, unsigned pops, u16 conditions, const Result& result) {
  set_conditions(s, conditions | kC1, result.status);
  if (!blocked(s, result.status)) {
    set_register(s, dest, result.value);
    pop(s, pops);
  }
  signal(s, result.status & kExceptions);
}

void underflow(CpuState& s, unsigned dest, unsigned pops) {
  if (!stack_fault(s, false)) return;
  set_register(s, dest, kIndefinite);
  pop(s, pops);
}

void finish_compare(CpuState& s, u16 status, unsigned pops) {
  set_conditions(s, kConditions, status & ~kC1);
  if (!blocked(s, status)) pop(s, pops);
  signal(s, status & kExceptions);
}

void compare_empty(CpuState& s, unsigned pops) {
  const bool masked = stack_fault(s, false);
  set_conditions(s, kConditions, kC0 | kC2 | kC3);
  if (masked) pop(s, pops);
}

}  // namespace

void update_summary(CpuState& s) {
  const bool pending = s.x87.status & ~s.x87.control & kExceptions;
  if (pending || (s.x87.status & (kSummary | kBusy))) summary_changed(s, pending);
}

void do_binary(CpuState& s, Binary op, unsigned a, unsigned b, unsigned dest, unsigned pops) {
  if (is_empty(s, a) || is_empty(s, b)) [[unlikely]] {
    if (op == Binary::Remainder || op == Binary::RemainderNearest) set_conditions(s, kC2, 0);
    return underflow(s, dest, pops);
  }
  Result result = binary(op, st(s, a), st(s, b), environment(s));
  u16 conditions = 0;
  if (op == Binary::Remainder || op == Binary::RemainderNearest) {
    // Without a quotient C0 and C3 keep what they had.
    const bool no_quotient = blocked(s, result.status) ||
                             ((result.value.sign_exponent & 0x7fff) == 0x7fff && result.value.significand << 1 != 0);
    conditions = no_quotient ? kC2 : kConditions;
    if (no_quotient) result.status &= static_cast<u16>(~(kC1 | kC2));
  }
  write_result(s, dest, pops, conditions, result);
}

void do_binary_f32(CpuState& s, Binary op, u32 value) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, 0, 0);
  write_result(s, 0, 0, 0, binary_f32(op, st(s, 0), value, environment(s)));
}

void do_binary_f64(CpuState& s, Binary op, u64 value) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, 0, 0);
  write_result(s, 0, 0, 0, binary_f64(op, st(s, 0), value, environment(s)));
}

void do_binary_integer(CpuState& s, Binary op, i64 value) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, 0, 0);
  write_result(s, 0, 0, 0, binary(op, st(s, 0), from_integer(value), environment(s)));
}

void do_unary(CpuState& s, Unary op) {
  const bool trigonometric = op == Unary::Sine || op == Unary::Cosine;
  if (is_empty(s, 0)) [[unlikely]] {
    if (trigonometric) set_conditions(s, kC2, 0);
    return underflow(s, 0, 0);
  }
  write_result(s, 0, 0, trigonometric ? kC2 : 0, unary(op, st(s, 0), environment(s)));
}

void do_pair(CpuState& s, Pair op) {
  const u16 conditions = op == Pair::Extract ? kC1 : kC1 | kC2;
  if (is_empty(s, 0) || !is_empty(s, 7)) [[unlikely]] {
    const bool overflow = !is_empty(s, 0);
    if (op != Pair::Extract) set_conditions(s, kC2, 0);
    if (!stack_fault(s, overflow)) return;
    set_register(s, 0, kIndefinite);
    push(s, kIndefinite);
    return;
  }
  const PairResult result = pair(op, st(s, 0), environment(s));
  set_conditions(s, conditions, result.status);
  const bool out_of_range = op != Pair::Extract && (result.status & kC2);
  if (!out_of_range && !blocked(s, result.status)) {
    set_register(s, 0, result.st1);
    push(s, result.st0);
  }
  signal(s, result.status & kExceptions);
}

void change_sign(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, 0, 0);
  set_conditions(s, kC1, 0);
  st(s, 0).sign_exponent ^= 0x8000;
}

void absolute(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, 0, 0);
  set_conditions(s, kC1, 0);
  st(s, 0).sign_exponent &= 0x7fff;
}

void do_compare(CpuState& s, Comparison kind, unsigned i, unsigned pops) {
  if (is_empty(s, 0) || is_empty(s, i)) [[unlikely]]
    return compare_empty(s, pops);
  finish_compare(s, compare(kind, st(s, 0), st(s, i), environment(s)), pops);
}

void do_compare_f32(CpuState& s, u32 value, unsigned pops) {
  if (is_empty(s, 0)) [[unlikely]]
    return compare_empty(s, pops);
  finish_compare(s, compare_f32(st(s, 0), value, environment(s)), pops);
}

void do_compare_f64(CpuState& s, u64 value, unsigned pops) {
  if (is_empty(s, 0)) [[unlikely]]
    return compare_empty(s, pops);
  finish_compare(s, compare_f64(st(s, 0), value, environment(s)), pops);
}

void do_compare_integer(CpuState& s, i64 value, unsigned pops) {
  if (is_empty(s, 0)) [[unlikely]]
    return compare_empty(s, pops);
  finish_compare(s, compare(Comparison::Ordered, st(s, 0), from_integer(value), environment(s)), pops);
}

void test(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return compare_empty(s, 0);
  finish_compare(s, compare(Comparison::Ordered, st(s, 0), X87Register{}, environment(s)), 0);
}

// FXAM, SDM Vol. 2A table 3-33.
void examine(CpuState& s) {
  const X87Register& value = st(s, 0);
  const unsigned exponent = value.sign_exponent & 0x7fff;
  const bool integer_bit = value.significand >> 63;
  u16 conditions;
  if (is_empty(s, 0)) conditions = kC3 | kC0;
  else if (exponent == 0) conditions = value.significand == 0 ? kC3 : kC3 | kC2;
  else if (!integer_bit) conditions = 0;  // unsupported
  else if (exponent != 0x7fff) conditions = kC2;
  else conditions = value.significand << 1 == 0 ? kC2 | kC0 : kC0;
  if (value.sign_exponent & 0x8000) conditions |= kC1;
  set_conditions(s, kConditions, conditions);
}

u32 compare_to_flags(CpuState& s, Comparison kind, unsigned i, unsigned pops, u32 flags) {
  if (is_empty(s, 0) || is_empty(s, i)) [[unlikely]] {
    if (!stack_fault(s, false)) return flags;
    pop(s, pops);
    return kZf | kPf | kCf;
  }
  const u16 status = compare(kind, st(s, 0), st(s, i), environment(s));
  set_conditions(s, kC1, 0);
  // "The status flags are set only if the exception is masked", SDM Vol. 2A "FCOMI"; that is about #IA.
  if (!(status & ~s.x87.control & kInvalid))
    flags = (status & kC3 ? kZf : 0) | (status & kC2 ? kPf : 0) | (status & kC0 ? kCf : 0);
  if (!blocked(s, status)) pop(s, pops);
  signal(s, status & kExceptions);
  return flags;
}

void push_f32(CpuState& s, u32 value) {
  if (room(s)) push_result(s, from_f32(value, environment(s)));
}
void push_f64(CpuState& s, u64 value) {
  if (room(s)) push_result(s, from_f64(value, environment(s)));
}
void push_f80(CpuState& s, u64 significand, u16 sign_exponent) {
  if (!room(s)) return;
  set_conditions(s, kC1, 0);
  push(s, {significand, sign_exponent, {}});
}
void push_integer(CpuState& s, i64 value) {
  if (!room(s)) return;
  set_conditions(s, kC1, 0);
  push(s, from_integer(value));
}
void push_bcd(CpuState& s, u64 low, u16 high) {
  if (room(s)) push_result(s, from_bcd({low, high, {}}, environment(s)));
}
void push_constant(CpuState& s, Constant which) {
  if (room(s)) push_result(s, constant(which, environment(s)));
}

void push_register(CpuState& s, unsigned i) {
  if (is_empty(s, i)) [[unlikely]] {
    if (stack_fault(s, false)) push(s, kIndefinite);
    return;
  }
  if (!room(s)) return;
  set_conditions(s, kC1, 0);
  push(s, X87Register(st(s, i)));
}

namespace {

Store underflow_store(CpuState& s, u64 low, u16 high) {
  return {low, high, kInvalid | kStackFault, static_cast<bool>(s.x87.control & kInvalid)};
}

Store converted(const CpuState& s, const StoreResult& result) {
  // Memory is written only when no exception but #P is unmasked, SDM Vol. 1 8.5.4, 8.5.5.
  const u16 stops = kBeforeComputing | kOverflow | kUnderflow;
  return {result.low, result.high, static_cast<u16>(result.status & (kExceptions | kC1)),
          !(result.status & ~s.x87.control & stops)};
}

}  // namespace

Store convert_f32(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow_store(s, 0xffc00000, 0);
  return converted(s, to_f32(st(s, 0), environment(s)));
}

Store convert_f64(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow_store(s, 0xfff8'0000'0000'0000, 0);
  return converted(s, to_f64(st(s, 0), environment(s)));
}

Store convert_f80(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow_store(s, kIndefinite.significand, kIndefinite.sign_exponent);
  return {st(s, 0).significand, st(s, 0).sign_exponent, 0, true};
}

Store convert_integer(CpuState& s, unsigned size, Rounding rounding) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow_store(s, u64{1} << (8 * size - 1), 0);
  return converted(s, to_integer(st(s, 0), size, rounding, environment(s)));
}

Store convert_bcd(CpuState& s) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow_store(s, 0xc000'0000'0000'0000, 0xffff);
  return converted(s, to_bcd(st(s, 0), environment(s)));
}

void finish_store(CpuState& s, const Store& store, unsigned pops) {
  set_conditions(s, kC1, store.status);
  if (store.write) pop(s, pops);
  signal(s, store.status & (kExceptions | kStackFault));
}

void store_register(CpuState& s, unsigned i, unsigned pops) {
  if (is_empty(s, 0)) [[unlikely]]
    return underflow(s, i, pops);
  set_conditions(s, kC1, 0);
  set_register(s, i, X87Register(st(s, 0)));
  pop(s, pops);
}

void store_register_if_any(CpuState& s, unsigned i) {
  if (!is_empty(s, 0)) return store_register(s, i, 1);
  set_conditions(s, kC1, 0);
  pop(s, 1);
}

void exchange(CpuState& s, unsigned i) {
  if (is_empty(s, 0) || is_empty(s, i)) [[unlikely]] {
    const bool first = is_empty(s, 0), second = is_empty(s, i);
    if (!stack_fault(s, false)) return;
    if (first) set_register(s, 0, kIndefinite);
    if (second) set_register(s, i, kIndefinite);
  } else {
    set_conditions(s, kC1, 0);
  }
  std::swap(st(s, 0), st(s, i));
}

void move_if(CpuState& s, unsigned i, bool condition) {
  if (is_empty(s, 0) || is_empty(s, i)) [[unlikely]]
    return underflow(s, 0, 0);
  if (condition) set_register(s, 0, X87Register(st(s, i)));
}

void free_register(CpuState& s, unsigned i, unsigned pops) {
  set_conditions(s, kC1, 0);
  s.x87.valid &= static_cast<u8>(~(1u << physical(s, i)));
  pop(s, pops);
}

void rotate(CpuState& s, int step) {
  set_conditions(s, kC1, 0);
  set_top(s, top(s) + static_cast<unsigned>(step));
}

void initialize(CpuState& s) {
  s.x87.control = 0x037f;
  s.x87.status = 0;
  s.x87.valid = 0;
  s.x87.last_opcode = s.x87.last_code_selector = s.x87.last_data_selector = 0;
  s.x87.last_instruction = s.x87.last_data = 0;
  if (s.core && !(s.cr0 & kCr0Ne)) s.core->environment.set_ferr(false);
}

void clear_exceptions(CpuState& s) {
  const bool was_pending = s.x87.status & kSummary;
  s.x87.status &= static_cast<u16>(~(kExceptions | kStackFault | kSummary | kBusy));
  if (was_pending && s.core) s.core->environment.set_ferr(false);
}

void set_control(CpuState& s, u16 value) {
  s.x87.control = (value & kControlWritable) | kControlAlwaysSet;
  update_summary(s);
}

u16 full_tag_word(const CpuState& s) {
  u16 tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const X87Register& value = s.x87.registers[i];
    const unsigned exponent = value.sign_exponent & 0x7fff;
    unsigned tag = 0;
    if (!((s.x87.valid >> i) & 1)) tag = 3;
    else if (exponent == 0 && value.significand == 0) tag = 1;
    else if (exponent == 0 || exponent == 0x7fff || !(value.significand >> 63)) tag = 2;
    tags |= static_cast<u16>(tag << (2 * i));
  }
  return tags;
}

void set_full_tag_word(CpuState& s, u16 tags) {
  s.x87.valid = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (((tags >> (2 * i)) & 3) != 3) s.x87.valid |= static_cast<u8>(1u << i);
}

ImageFormat image_format(const CpuState& s, unsigned operand_size) {
  const bool real = !s.protected_mode() || s.v86();
  if (operand_size == 2) return real ? ImageFormat::Real16 : ImageFormat::Protected16;
  return real ? ImageFormat::Real32 : ImageFormat::Protected32;
}

void write_environment(const CpuState& s, ImageFormat format, u8* image) {
  const X87State& x = s.x87;
  const u32 instruction = static_cast<u32>(x.last_instruction), data = static_cast<u32>(x.last_data);
  // The real-address formats hold linear addresses.
  const u32 linear_instruction = (u32{x.last_code_selector} << 4) + instruction;
  const u32 linear_data = (u32{x.last_data_selector} << 4) + data;
  u32 words[7] = {x.control, x.status, full_tag_word(s)};
  switch (format) {
    case ImageFormat::Protected32:
      words[3] = instruction;
      words[4] = x.last_code_selector | u32{x.last_opcode} << 16;
      words[5] = data;
      words[6] = x.last_data_selector | 0xffff0000;
      break;
    case ImageFormat::Real32:
      words[3] = (linear_instruction & 0xffff) | 0xffff0000;
      words[4] = (x.last_opcode & 0x7ff) | (linear_instruction >> 16) << 12;
      words[5] = (linear_data & 0xffff) | 0xffff0000;
      words[6] = (linear_data >> 16) << 12;
      break;
    case ImageFormat::Protected16:
      words[3] = instruction;
      words[4] = x.last_code_selector;
      words[5] = data;
      words[6] = x.last_data_selector;
      break;
    case ImageFormat::Real16:
      words[3] = linear_instruction;
      words[4] = (x.last_opcode & 0x7ff) | (linear_instruction >> 4 & 0xf000);
      words[5] = linear_data;
      words[6] = linear_data >> 4 & 0xf000;
      break;
  }
  const bool wide = environment_size(format) == 28;
  for (unsigned i = 0; i < 7; ++i) {
    if (wide) {
      // The unused halves of the first three are ones.
      const u32 word = i < 3 ? words[i] | 0xffff0000 : words[i];
      std::memcpy(image + 4 * i, &word, 4);
    } else {
      std::memcpy(image + 2 * i, &words[i], 2);
    }
  }
}

void read_environment(CpuState& s, ImageFormat format, const u8* image) {
  X87State& x = s.x87;
  const bool wide = environment_size(format) == 28;
  u32 words[7] = {};
  for (unsigned i = 0; i < 7; ++i) std::memcpy(&words[i], image + (wide ? 4 : 2) * i, wide ? 4 : 2);
  switch (format) {
    case ImageFormat::Protected32:
      x.last_instruction = words[3];
      x.last_code_selector = static_cast<u16>(words[4]);
      x.last_opcode = (words[4] >> 16) & 0x7ff;
      x.last_data = words[5];
      x.last_data_selector = static_cast<u16>(words[6]);
      break;
    case ImageFormat::Real32:
      x.last_instruction = (words[3] & 0xffff) | (words[4] & 0x0fff'f000) << 4;
      x.last_opcode = words[4] & 0x7ff;
      x.last_data = (words[5] & 0xffff) | (words[6] & 0x0fff'f000) << 4;
      x.last_code_selector = x.last_data_selector = 0;
      break;
    case ImageFormat::Protected16:
      x.last_instruction = words[3];
      x.last_code_selector = static_cast<u16>(words[4]);
      x.last_data = words[5];
      x.last_data_selector = static_cast<u16>(words[6]);
      x.last_opcode = 0;
      break;
    case ImageFormat::Real16:
      x.last_instruction = words[3] | (words[4] & 0xf000) << 4;
      x.last_opcode = words[4] & 0x7ff;
      x.last_data = words[5] | (words[6] & 0xf000) << 4;
      x.last_code_selector = x.last_data_selector = 0;
      break;
  }
  x.status = static_cast<u16>(words[1]) & static_cast<u16>(~(kSummary | kBusy));
  set_full_tag_word(s, static_cast<u16>(words[2]));
  set_control(s, static_cast<u16>(words[0]));
}

}  // namespace vellum::x87
