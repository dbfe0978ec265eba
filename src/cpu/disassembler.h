// Machine code as text, by Capstone: for logs and for people. Nothing that runs guests depends on it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "cpu/insn.h"
#include "state/integers.h"

namespace vellum {

enum class AssemblySyntax : u8 { Att, Intel };

struct DisassembledInsn {
  u64 address = 0;
  u8 length = 0;       // bytes; 1 for a byte that begins no instruction
  std::string text;    // mnemonic and operands; "(bad)" for such a byte
};

class Disassembler {
 public:
  // What stands for an address that a jump or call names; empty: the number itself.
  using NameOf = std::function<std::string(u64 address)>;

  // Of guest code.
  explicit Disassembler(CodeSize code_size, AssemblySyntax syntax = AssemblySyntax::Att);
  // Of the host's own code.
  static Disassembler for_host(AssemblySyntax syntax = AssemblySyntax::Att);
  Disassembler(Disassembler&&) noexcept;
  ~Disassembler();

  // The instruction at the start of `code`, which is not empty and stands at `address`.
  DisassembledInsn one(std::span<const u8> code, u64 address, const NameOf& name_of = {}) const;
  // Number of instructions in `code`.
  unsigned count(std::span<const u8> code) const;

 private:
  struct Handle;
  explicit Disassembler(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> m_handle;
};

// "48 01 d8"
std::string hex_bytes(std::span<const u8> bytes);

}  // namespace vellum
