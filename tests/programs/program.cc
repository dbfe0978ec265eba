// Blocks, what joins them, and stores into them.
#include "programs/program.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "cpu/opcodes.h"
#include "cpu/state.h"

namespace vellum::programs {

using instructions::kCodeBase;
using instructions::kCodeSize;
using instructions::kDataBase;
using instructions::kFiller;
using instructions::TestCase;

namespace {

constexpr unsigned kBlocks = 40;
constexpr unsigned kLongestBlock = 700, kEndOfBlock = 360;  // bytes; where no such room is left the program ends

bool uses_stack(std::string_view mnemonic) {
  for (const char* name : {"push", "pop", "call", "ret", "enter", "leave", "iret"})
    if (mnemonic.starts_with(name)) return true;
  return false;
}

}  // namespace

class ProgramGenerator::Builder {
 public:
  Builder(ProgramGenerator& owner, u64 seed, Environment environment) : m_owner(owner), m_random(seed) {
    m_program.environment = environment;
    m_program.code.assign(kCodeSize, kFiller);
  }

  Program build() {
    // About half of the programs have a block across the boundary of the two pages.
    m_at = m_random.chance(50) ? m_random.below(0x200) : 0xd00 + m_random.below(0x280);
    m_program.first = m_at;
    if (m_owner.m_options.bounded) m_at += kEntryJump;
    while (m_program.blocks.size() < kBlocks && m_at + kLongestBlock < kCodeSize) {
      if (m_random.chance(15)) m_at += m_random.below(100);
      m_program.blocks.push_back(static_cast<u16>(m_at));
      const unsigned count = 1 + m_random.below(7), limit = m_at + kEndOfBlock;
      for (unsigned i = 0; i < count && m_at < limit; ++i) {
        if (m_owner.m_options.stores_to_code && m_random.chance(9)) store_to_code();
        else if (m_random.chance(12)) move_number();
        else instruction();
      }
      ending();
    }
    m_program.last = m_at;
    for (const Fixup& fixup : m_fixups) resolve(fixup);
    return std::move(m_program);
  }

 private:
  struct Fixup {
    unsigned at, size;  // a displacement that counts from its own end
    u32 dice;           // which block
  };

  bool bits64() const { return m_program.environment == Environment::Long64; }
  bool bits16() const { return m_program.environment == Environment::Segmented16; }
  bool flat() const { return bits64() || m_program.environment == Environment::Flat32; }

  void emit(std::initializer_list<u8> bytes) {
    for (const u8 byte : bytes) m_program.code[m_at++] = byte;
  }
  void number(u64 value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) m_program.code[m_at++] = static_cast<u8>(value >> 8 * i);
  }
  u8 byte() { return static_cast<u8>(m_random.next()); }

  void load(unsigned index, u64 value) {
    if (bits16()) emit({0x66});
    if (bits64() && (value >> 32 || index > 7)) {
      emit({static_cast<u8>(0x48 | (index > 7 ? 1 : 0)), static_cast<u8>(0xb8 | (index & 7))});
      number(value, 8);
      return;
    }
    emit({static_cast<u8>(0xb8 | (index & 7))});
    m_patchable.push_back(m_at);
    number(value, 4);
  }
  void move_number() {
    unsigned index = m_random.below(8);
    if (index == kRsp) index = kRax;
    load(index, m_random.next() & 0xffffffff);
  }

  void instruction() {
    const ProgramOptions& options = m_owner.m_options;
    const auto& rows = !options.favoured.empty() && m_random.chance(50) ? options.favoured : options.rows;
    const u16 row = rows[m_random.below(static_cast<u32>(rows.size()))];
    const RowSpec& spec = opcode_rows()[row];
    if ((spec.has(kNo64) && bits64()) || (spec.has(kOnly64) && !bits64())) return;
    const u64 seed = m_random.next();
    const auto make = [&](unsigned offset) {
      return m_owner.m_generator.make_one(seed, row, m_program.environment, static_cast<u16>(offset));
    };
    TestCase one = make(m_at);
    if (one.code.empty()) return;
    // RSP is everybody's: loaded only where it is an address, or now and then.
    Insn insn;
    std::vector<u8> padded = one.code;
    padded.resize(padded.size() + kMaxInsnLength, kFiller);
    const CodeSize code_size = bits64() ? CodeSize::Bits64 : bits16() ? CodeSize::Bits16 : CodeSize::Bits32;
    const bool decoded = m_owner.m_decoder.decode(padded, code_size, false, insn) == DecodeStatus::Ok;
    const bool needs_stack = (decoded && insn.memory && (insn.base == kRsp || insn.index == kRsp)) ||
                             (uses_stack(spec.mnemonic) && m_random.chance(30)) || m_random.chance(2);
    const bool wild = !m_owner.m_options.bounded && m_random.chance(3);
    const unsigned start = m_at;
    for (unsigned index = 0; index < 16; ++index) {
      if (!((one.override_mask >> index) & 1) || wild || (index == kRsp && !needs_stack)) continue;
      if (m_owner.m_options.bounded || m_random.chance(95)) load(index, one.overrides[index]);
    }
    if (m_at != start) one = make(m_at);
    for (const u8 value : one.code) m_program.code[m_at++] = value;
  }

  // --- Stores into code

  // Where: the instruction right behind, this block, one of the others, across the pages' boundary, anywhere.
  struct Target {
    bool next = false;  // behind the store, at `offset` from its end
    unsigned offset = 0;
    bool whole = false;  // may become anything
  };
  Target choose_target() {
    switch (m_random.below(10)) {
      case 0: case 1: case 2: return {true, 1, false};
      case 3: return {true, m_random.below(24), true};
      case 4: return {false, 0xffc + m_random.below(4), true};
      case 5: return {false, m_random.below(static_cast<u32>(kCodeSize) - 16), true};
      case 6: return {false, m_program.blocks.back() + m_random.below(std::max(1u, m_at - m_program.blocks.back())), true};
      default:
        if (m_patchable.empty()) return {true, 1, false};
        return {false, m_patchable[m_random.below(static_cast<u32>(m_patchable.size()))], false};
    }
  }
  void store_to_code() {
    const Target target = choose_target();
    const bool alias = m_random.chance(35);
    m_segment = alias ? 0x65 : 0x64;
    const u64 base = flat() ? alias ? kCodeAlias : kCodeBase : 0;
    const unsigned kind = m_random.below(flat() ? 9u : 5u);
    // The store's own length decides what is behind it: measured first, then made.
    const unsigned start = m_at;
    const auto patchable = m_patchable.size();
    const Random dice = m_random;
    unsigned offset = target.offset;
    for (unsigned pass = 0; pass < 2; ++pass) {
      m_random = dice;
      m_at = start;
      m_patchable.resize(patchable);
      store(kind, base + offset);
      if (!target.next) break;
      offset = m_at + target.offset + (bits16() && !target.whole ? 1 : 0);
    }
    if (target.next && !target.whole) {
      // What is overwritten: a constant whose user comes next.
      load(kRcx, 0x01020304);
      if (m_random.chance(50)) emit({0x01, 0xc8});  // add eax, ecx
    }
  }
  u64 new_code() {
    constexpr u8 kOpcodes[] = {0x90, 0x40, 0x48, 0xf8, 0xf9, 0xf5, 0x98, 0x91, 0xc3, 0xb8, 0x04, 0xeb};
    u64 value = m_random.next();
    if (m_random.chance(60))
      for (unsigned i = 0; i < 8; ++i)
        if (m_random.chance(60)) value = (value & ~(u64{0xff} << 8 * i)) | u64{kOpcodes[m_random.below(12)]} << 8 * i;
    return value;
  }
  // ModRM of [address] with this reg field; needs FS or GS in segmented code (the caller's prefix).
  void absolute(u8 reg, u64 address) {
    if (bits16()) {
      emit({static_cast<u8>(reg << 3 | 6)});
      number(address, 2);
    } else if (bits64()) {
      emit({static_cast<u8>(reg << 3 | 4), 0x25});
      number(address, 4);
    } else {
      emit({static_cast<u8>(reg << 3 | 5)});
      number(address, 4);
    }
  }
  void segment() {
    if (!flat()) emit({m_segment});
  }
  void store(unsigned kind, u64 address) {
    switch (kind) {
      case 0:  // mov byte [address], imm
        segment(), emit({0xc6}), absolute(0, address), emit({static_cast<u8>(new_code())});
        break;
      case 1:  // mov word or dword [address], imm
        segment(), emit({0xc7}), absolute(0, address), number(new_code(), bits16() ? 2 : 4);
        break;
      case 2: {  // add, xor, inc, lock add
        const u8 which = static_cast<u8>(m_random.below(3));
        if (m_random.chance(30)) emit({0xf0});
        segment();
        if (which == 0) emit({0xfe}), absolute(0, address);
        else emit({0x80}), absolute(which == 1 ? 0 : 6, address), emit({static_cast<u8>(1 + m_random.below(7))});
        break;
      }
      case 3:  // movups [address], xmm
        segment(), emit({0x0f, 0x11}), absolute(static_cast<u8>(m_random.below(8)), address);
        break;
      case 4: {  // mov [address], reg
        const u8 reg = static_cast<u8>(m_random.below(4));
        if (m_random.chance(70)) load(reg, new_code());
        segment(), emit({static_cast<u8>(m_random.chance(50) ? 0x88 : 0x89)}), absolute(reg, address);
        break;
      }
      case 5:  // stosd, or a repeated one
        load(kRdi, address);
        if (m_random.chance(50)) {
          load(kRcx, 1 + m_random.below(5));
          emit({0xf3});
        }
        emit({static_cast<u8>(m_random.chance(50) ? 0xaa : 0xab)});
        break;
      case 6:  // rep movsb from data
        load(kRdi, address), load(kRsi, kDataBase + 0x100 + m_random.below(0x1000)), load(kRcx, 1 + m_random.below(8));
        emit({0xf3, 0xa4});
        break;
      case 7:  // push
        load(kRsp, address + (bits64() ? 8 : 4));
        if (m_random.chance(50)) emit({static_cast<u8>(0x50 + m_random.below(4))});
        else emit({0x68}), number(new_code(), 4);
        break;
      default:  // through a register, with more behind it
        load(kRbx, address - 0x10);
        if (bits64() && m_random.chance(50)) emit({0x48});
        emit({0x89, static_cast<u8>(0x43 | m_random.below(3) << 3), 0x10});
        break;
    }
  }

  // --- Ends of blocks

  void jump(std::initializer_list<u8> short_form, std::initializer_list<u8> near_form) {
    const u32 dice = m_random.below(1u << 30);
    if (short_form.size() && m_random.chance(40)) {
      emit(short_form);
      m_fixups.push_back({m_at, 1, dice});
      emit({0});
    } else {
      emit(near_form);
      const unsigned size = bits16() ? 2 : 4;
      m_fixups.push_back({m_at, size, dice});
      number(0, size);
    }
  }
  u64 target_address() {
    const auto& blocks = m_program.blocks;
    const u64 base = !flat() ? 0 : m_owner.m_options.bounded || m_random.chance(70) ? kCodeBase : kCodeAlias;
    return base + blocks[m_random.below(static_cast<u32>(blocks.size()))];
  }
  // Ends a bounded program after a while.
  void burn_fuel() {
    // dec word [fuel]; cmp word [fuel], kMostFuel; jbe +1; hlt: also when something else wrote there
    const auto fuel = [&](u8 reg) {
      if (bits16()) emit({static_cast<u8>(reg << 3 | 6)}), number(kFuelOffset, 2);
      else if (bits64()) emit({static_cast<u8>(reg << 3 | 4), 0x25}), number(kDataBase + kFuelOffset, 4);
      else emit({static_cast<u8>(reg << 3 | 5)}), number(flat() ? kDataBase + kFuelOffset : kFuelOffset, 4);
    };
    const auto word = [&] {
      if (!bits16()) emit({0x66});
    };
    word(), emit({0xff}), fuel(1);
    word(), emit({0x81}), fuel(7), number(kMostFuel, 2);
    emit({0x76, 0x01, kFiller});
  }
  void ending() {
    if (m_owner.m_options.bounded) burn_fuel();
    switch (m_random.below(16)) {
      case 0: case 1: jump({0xeb}, {0xe9}); break;
      case 2: case 3: case 4: case 5: case 6: {
        const u8 condition = byte() & 15;
        jump({static_cast<u8>(0x70 | condition)}, {0x0f, static_cast<u8>(0x80 | condition)});
        break;
      }
      case 7: {  // compare and branch
        emit({0x83, static_cast<u8>(0xf8 | m_random.below(4)), byte()});
        const u8 condition = byte() & 15;
        jump({static_cast<u8>(0x70 | condition)}, {0x0f, static_cast<u8>(0x80 | condition)});
        break;
      }
      case 8: {  // a counted loop on this block or another
        if (m_random.chance(60)) load(kRcx, 1 + m_random.below(6));
        emit({static_cast<u8>(0xe0 + m_random.below(4))});
        m_fixups.push_back({m_at, 1, m_random.below(1u << 30)});
        emit({0});
        break;
      }
      case 9: case 10:
        stack_in_data();
        jump({}, {0xe8});
        break;
      // What stands on the stack may be anything: in 16-bit code also an address between two instructions, and what is
      // found there could ask for something that silicon's kernel decides.
      case 11:
        if (!m_owner.m_options.bounded) {
          emit({0xc3});
          break;
        }
        [[fallthrough]];
      case 12: {  // a return to a pushed address
        stack_in_data();
        if (bits16()) emit({0x68}), number(target_address(), 2);
        else emit({0x68}), number(target_address(), 4);
        if (m_random.chance(30)) emit({0xc2}), number(m_random.below(32), 2);
        else emit({0xc3});
        break;
      }
      case 13: {  // indirect through a register
        const u8 reg = static_cast<u8>(m_random.below(4));
        load(reg, target_address());
        if (m_random.chance(30)) stack_in_data(), emit({0xff, static_cast<u8>(0xd0 | reg)});
        else emit({0xff, static_cast<u8>(0xe0 | reg)});
        break;
      }
      case 14: {  // indirect through memory
        const u64 slot = (flat() ? kDataBase : 0) + 0x60 + 8 * m_random.below(4);
        load(kRax, target_address());
        if (bits64()) emit({0x48});
        emit({0x89}), absolute(kRax, slot);
        emit({0xff}), absolute(4, slot);
        break;
      }
      default: break;  // falls into what follows
    }
  }
  void stack_in_data() {
    if (m_random.chance(60)) load(kRsp, (flat() ? kDataBase : 0) + 0x1000 + 8 * m_random.below(0x180));
  }

  void resolve(const Fixup& fixup) {
    const auto& blocks = m_program.blocks;
    const unsigned end = fixup.at + fixup.size;
    unsigned target = blocks[fixup.dice % blocks.size()];
    if (fixup.size == 1) {
      // The nearest of those in reach, from the one that the dice chose onwards.
      for (usize i = 0; i < blocks.size(); ++i) {
        target = blocks[(fixup.dice + i) % blocks.size()];
        const int distance = static_cast<int>(target) - static_cast<int>(end);
        if (distance >= -128 && distance < 128) break;
        target = end;
      }
    }
    const u32 displacement = target - end;
    for (unsigned i = 0; i < fixup.size; ++i) m_program.code[fixup.at + i] = static_cast<u8>(displacement >> 8 * i);
  }

  ProgramGenerator& m_owner;
  Random m_random;
  Program m_program;
  unsigned m_at = 0;
  u8 m_segment = 0;  // prefix of stores into segmented code
  std::vector<Fixup> m_fixups;
  std::vector<unsigned> m_patchable;  // offsets of constants
};

ProgramGenerator::ProgramGenerator(const CpuModel& model, instructions::GeneratorOptions generator, ProgramOptions options)
    : m_generator(model, std::move(generator)), m_decoder(model), m_options(std::move(options)) {}

Program ProgramGenerator::make(u64 seed, Environment environment) { return Builder(*this, seed, environment).build(); }

instructions::TestCase test_case(const Program& program, unsigned block, u16 fuel, u64 state_seed, u32 memory_seed, u32 rflags) {
  TestCase test;
  test.environment = program.environment;
  test.code_offset = static_cast<u16>(program.first);
  test.code.assign(program.code.begin() + program.first, program.code.begin() + program.last);
  const unsigned size = program.environment == Environment::Segmented16 ? 2 : 4;
  const u32 displacement = program.blocks[block] - (program.first + 1 + size);
  test.code[0] = 0xe9;
  for (unsigned i = 0; i < size; ++i) test.code[1 + i] = static_cast<u8>(displacement >> 8 * i);
  test.state_seed = state_seed;
  test.memory_seed = memory_seed;
  test.rflags = rflags;
  test.override_mask = 1u << kRsp;
  test.overrides[kRsp] = 0x1800 + (program.environment == Environment::Long64 || program.environment == Environment::Flat32 ? kDataBase : 0);
  test.patch_offset = kFuelOffset;
  test.patch = {static_cast<u8>(fuel), static_cast<u8>(fuel >> 8)};
  return test;
}

}  // namespace vellum::programs
