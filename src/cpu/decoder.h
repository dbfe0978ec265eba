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
  static constexpr usize kSlots = 2 * static_cast<usize>(OpcodeMap::Count) * 256 * 4 * 2 * 8;
  static constexpr usize slot(bool bits64, OpcodeMap map, u8 opcode, unsigned prefix, bool reg_form, unsigned reg) {
    return ((((static_cast<usize>(bits64) * static_cast<usize>(OpcodeMap::Count) + static_cast<usize>(map)) * 256 +
              opcode) * 4 + prefix) * 2 + reg_form) * 8 + reg;
  }
  void enter(u16 row);

  struct Candidate {
    u16 row;
    u32 next;  // index into m_candidates; 0 ends the list
  };
  std::vector<u32> m_table;  // per slot: index of its first candidate, most specific first; 0 is #UD
  std::vector<Candidate> m_candidates;
  std::array<std::array<bool, 256>, static_cast<usize>(OpcodeMap::Count)> m_has_modrm{};
};

}  // namespace vellum
