// The x87 FPU's register stack, exceptions and images in memory, over CpuState. SDM Vol. 1 chapter 8.
#pragma once

#include "cpu/x87_arithmetic.h"

// What the instructions' semantics call, out of line: each does a whole instruction but its memory accesses, which come
// before (operands) or between convert and finish_store() (results), so that a fault leaves the state as it was.
namespace vellum::x87 {

inline unsigned top(const CpuState& s) { return (s.x87.status >> 11) & 7; }
inline unsigned physical(const CpuState& s, unsigned i) { return (top(s) + i) & 7; }
inline bool is_empty(const CpuState& s, unsigned i) { return !((s.x87.valid >> physical(s, i)) & 1); }

// Sets ES and B from the sticky flags and the masks, and FERR# when CR0.NE is 0.
void update_summary(CpuState& s);

// Arithmetic: ST(dest) = ST(a) op ST(b), then `pops` pops. Indexes as before the pops.
void do_binary(CpuState& s, Binary op, unsigned a, unsigned b, unsigned dest, unsigned pops);
void do_binary_f32(CpuState& s, Binary op, u32 value);
void do_binary_f64(CpuState& s, Binary op, u64 value);
void do_binary_integer(CpuState& s, Binary op, i64 value);
void do_unary(CpuState& s, Unary op);
void do_pair(CpuState& s, Pair op);
void change_sign(CpuState& s);
void absolute(CpuState& s);

// Comparisons with ST(0).
void do_compare(CpuState& s, Comparison kind, unsigned i, unsigned pops);
void do_compare_f32(CpuState& s, u32 value, unsigned pops);
void do_compare_f64(CpuState& s, u64 value, unsigned pops);
void do_compare_integer(CpuState& s, i64 value, unsigned pops);
void test(CpuState& s);
void examine(CpuState& s);
// FCOMI: the new ZF, PF, CF, or `flags` unchanged after an unmasked #IA.
u32 compare_to_flags(CpuState& s, Comparison kind, unsigned i, unsigned pops, u32 flags);

// Loads.
void push_f32(CpuState& s, u32 value);
void push_f64(CpuState& s, u64 value);
void push_f80(CpuState& s, u64 significand, u16 sign_exponent);
void push_integer(CpuState& s, i64 value);
void push_bcd(CpuState& s, u64 low, u16 high);
void push_register(CpuState& s, unsigned i);
void push_constant(CpuState& s, Constant which);

// Stores of ST(0): convert, store if `write`, then finish.
struct Store {
  u64 low;
  u16 high;
  u16 status;
  bool write;
};
Store convert_f32(CpuState& s);
Store convert_f64(CpuState& s);
Store convert_f80(CpuState& s);
Store convert_integer(CpuState& s, unsigned size, Rounding rounding);
Store convert_bcd(CpuState& s);
void finish_store(CpuState& s, const Store& store, unsigned pops);

// Register moves and stack management.
void store_register(CpuState& s, unsigned i, unsigned pops);
void store_register_if_any(CpuState& s, unsigned i);  // D9 D8: an empty ST(0) is no stack underflow
void exchange(CpuState& s, unsigned i);
void move_if(CpuState& s, unsigned i, bool condition);
void free_register(CpuState& s, unsigned i, unsigned pops);
void rotate(CpuState& s, int step);

// Control.
void initialize(CpuState& s);  // FNINIT
void clear_exceptions(CpuState& s);
void set_control(CpuState& s, u16 value);
u16 full_tag_word(const CpuState& s);
void set_full_tag_word(CpuState& s, u16 tags);

// Images of FNSTENV and FNSAVE, SDM Vol. 1 figures 8-9 to 8-12.
enum class ImageFormat : u8 { Protected32, Real32, Protected16, Real16 };
ImageFormat image_format(const CpuState& s, unsigned operand_size);
inline unsigned environment_size(ImageFormat format) { return format <= ImageFormat::Real32 ? 28 : 14; }
void write_environment(const CpuState& s, ImageFormat format, u8* image);
void read_environment(CpuState& s, ImageFormat format, const u8* image);

}  // namespace vellum::x87
