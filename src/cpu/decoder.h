// Guest bytes to Insn, by tables made from the opcode rows that a CPU model has.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "cpu/insn.h"
#include "cpu/model.h"

namespace vellum {

enum class DecodeStatus : u8 {
  Ok,
  Invalid,   // #UD; length is that of the bytes looked at
  TooLong,   // more than 15 bytes: #GP(0)
  NeedMore,  // the instruction goes on behind the bytes given
};

class Decoder {
 public:
  // Rows whose feature the model lacks do not exist for this decoder.
  explicit Decoder(const CpuModel& model);

  // `real_mode` is real or virtual-8086 mode, where some opcodes do not exist.
  DecodeStatus decode(std::span<const u8> bytes, CodeSize code_size, bool real_mode, Insn& insn) const;

 private:
  // A row that an opcode may stand for, with what decoding asks of it: the tables shall stay in the host's caches.
  struct Candidate {
    u16 row;               // kNoRow ends a list
    u16 traits;            // decoder.cc
    i8 rm, rex_w, vex_l;   // as in RowSpec
    u8 immediate;          // decoder.cc, too
  };
  static constexpr u16 kNoRow = 0xffff;
  // An opcode's lists of candidates: m_lists[first + prefix * by_prefix + reg_form * by_form + reg * by_reg].
  struct Opcode {
    u16 first = 0;
    u8 by_prefix = 0, by_form = 0, by_reg = 0;  // 0: its rows are the same for each
    bool has_modrm = false;
  };
  static constexpr usize kOpcodes = static_cast<usize>(OpcodeMap::Count) * 256;
  void enter(Opcode& opcode, bool bits64, std::span<const u16> rows);
  u16 list_of(std::span<const u16> rows, usize first);

  std::array<std::array<Opcode, kOpcodes>, 2> m_opcodes;  // outside 64-bit mode, and in it
  std::vector<u16> m_lists;  // index of a list's first candidate
  std::vector<Candidate> m_candidates;  // lists, each most specific first; the first is empty: #UD
};

}  // namespace vellum
