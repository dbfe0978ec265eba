// From allocated instructions to bytes, one after another.
#pragma once

#include <utility>
#include <vector>

#include "jit/optimizer/x86_64/emission.h"

namespace vellum::x86_64 {

// These belong to the emission: values out of the frame pass through them.
inline constexpr Register kScratch = kRax, kSecondScratch = kRcx;
inline constexpr Register kVectorScratch = static_cast<Register>(15), kSecondVectorScratch = static_cast<Register>(14);

inline bool same(const Place& a, const Place& b) {
  if (a.in_memory != b.in_memory) return false;
  if (!a.in_memory) return a.reg == b.reg;
  return a.address.base == b.address.base && a.address.index == b.address.index && a.address.displacement == b.address.displacement;
}

class Emitter {
 public:
  Emitter(const MachineCode& code, const Allocation& allocation, const void* near, Assembler& assembler)
      : m_code(code), m_allocation(allocation), m_near(near), m_asm(assembler) {}
  void run();

 private:
  // What an operand is once its address is in registers: a number, or a place.
  struct Source {
    bool is_number = false;
    i64 number = 0;
    Place place;
  };

  Address frame(u32 offset) const { return {kRsp, kNone, 0, static_cast<i32>(offset)}; }
  Place place_of(ValueId id) const;
  Address resolve(const ValueAddress& address);
  Source source(const Operand& operand);
  Register in_register(const Source& source, Register scratch, unsigned size = 8);
  void move(const Place& to, const Source& from, Register scratch);
  void compare(const Insn& insn);
  void emit(const Insn& insn, u32 index);
  void arithmetic(const Insn& insn);
  void select(const Insn& insn);
  void finish_pair(const Insn& insn, bool save_rdx);
  void divide(const Insn& insn, u32 index);
  void multiply_wide(const Insn& insn, u32 index);
  using Moves = std::vector<std::pair<Place, Source>>;
  void parallel_move(Moves moves, bool vectors);
  void move_vector(const Place& to, const Place& from);
  void load_vector(unsigned size, Register to, const Source& from);
  Register vector_in_register(const Operand& operand, Register scratch);
  void emit_vector(const Insn& insn);
  void emit_locked(const Insn& insn);
  void emit_x87(const Insn& insn);
  bool is_vector(ValueId id) const { return m_code.is_vector[static_cast<usize>(id)]; }
  Register vector_target(const Insn& insn) const {
    const Place place = place_of(insn.result);
    return place.in_memory ? kVectorScratch : place.reg;
  }
  void finish_vector(const Insn& insn, Register made) { move_vector(place_of(insn.result), made); }
  void find_destinations();
  Assembler::Label label(u32 block) const { return m_labels[m_destination[block]]; }
  void call(const Insn& insn, u32 index);
  void tail_call(const Insn& insn);
  void leave_frame() { m_asm.arithmetic(Arithmetic::Add, 8, Place(kRsp), static_cast<i32>(m_frame_size)); }
  bool is_near(const void* target) const;
  Address save_slot(Register r) const { return frame(m_saves + kSlotSize * r); }
  Address vector_save_slot(u8 r) const { return frame(m_vector_saves + m_code.vector_bytes * u32{r}); }
  // The bit of a VEX prefix that makes it one of 256 bits.
  static u8 vector_length(unsigned size) { return size == 32 ? Assembler::kVex256 : u8{0}; }
  // Registers of these whose values are needed behind instruction `index`.
  u32 live_through(u32 index, u32 registers, const Insn& insn) const;
  Register target(const Insn& insn) const {
    const Place place = place_of(insn.result);
    return place.in_memory ? kScratch : place.reg;
  }
  // A result that was made in `target(insn)` or elsewhere goes where it lives.
  void finish(const Insn& insn, Register made) {
    const Place place = place_of(insn.result);
    if (place.in_memory) m_asm.store(8, place.address, made);
    else m_asm.move(8, place.reg, made);
  }

  const MachineCode& m_code;
  const Allocation& m_allocation;
  const void* m_near;
  Assembler& m_asm;
  std::vector<Assembler::Label> m_labels;
  std::vector<u32> m_destination;  // by block: itself, or where it only jumps to
  u32 m_saves = 0, m_vector_slots = 0, m_vector_saves = 0, m_variables = 0, m_frame_size = 0;  // in the frame, bytes
};

}  // namespace vellum::x86_64
