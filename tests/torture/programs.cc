// Generators of guest code and of addresses.
#include "programs.h"

#include <iterator>

namespace vellum::torture {

namespace {

struct Range {
  u64 first, count;
};

template <usize N>
u64 pick(Random& random, const Range (&ranges)[N]) {
  const Range& range = ranges[random() % N];
  return range.first + random() % range.count;
}

class Assembler {
 public:
  Assembler(Random& random, Mode mode) : m_random(random), m_mode(mode) {}
  std::vector<u8> take(usize size) {
    m_code.resize(size);
    return std::move(m_code);
  }
  usize size() const { return m_code.size(); }

  void instruction() {
    switch (m_random() % 24) {
      case 0: case 1: load_register(static_cast<u8>(m_random() % 8), interesting_number(m_random)); break;
      case 2: model_specific(); break;
      case 3: port(); break;
      case 4: control_register(); break;
      case 5: emit({0x0f, one_of({0x00, 0x01, 0x02, 0x03}), modrm()}), displacement(); break;  // LGDT, LTR, LAR ...
      case 6: prefixes(), emit({one_of({0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f})}); break;
      case 7: prefixes(), emit({one_of({0xf6, 0xf7}), modrm()}), displacement(), number(4); break;  // TEST ... DIV, IDIV
      case 8: prefixes(), emit({static_cast<u8>(0xd8 + m_random() % 8), modrm()}), displacement(); break;
      case 9: case 10: prefixes(), emit({0x0f, byte(), modrm()}), displacement(); break;
      case 11: prefixes(), emit({0x0f, one_of({0x38, 0x3a}), byte(), modrm(), byte()}); break;
      case 12: prefixes(), emit({0x0f, one_of({0xae, 0xc7}), modrm()}), displacement(); break;  // XSAVE, CMPXCHG16B, RDRAND ...
      case 13: far_transfer(); break;
      case 14: emit({0xcd, byte()}); break;
      case 15: emit({one_of({0x9d, 0xcf, 0x07, 0x17, 0x1f, 0xfa, 0xfb, 0xfc, 0xfd, 0x9b, 0xcc, 0xce, 0xc9, 0xf1, 0x60, 0x61})}); break;
      case 16: emit({0x0f, one_of({0x05, 0x06, 0x07, 0x08, 0x09, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa})}); break;
      case 17: emit({0xc8, byte(), one_of({0, 1, 16, 255}), one_of({0, 1, 2, 31, 32, 255})}); break;  // ENTER
      case 18: stack_flags(); break;
      case 19: emit({0x8e, modrm()}), displacement(); break;  // MOV to a segment register
      case 20: emit({one_of({0x62, 0x63, 0xc4, 0xc5, 0x8f, 0xfe, 0xff}), modrm()}), displacement(); break;
      case 21: once_in(m_random, 8) ? emit({0xf4}) : emit({0xeb, static_cast<u8>(m_random() % 8)}); break;
      default: prefixes(), emit({byte(), modrm()}), displacement(); break;
    }
  }

 private:
  void emit(std::initializer_list<u8> bytes) { m_code.insert(m_code.end(), bytes); }
  u8 byte() { return static_cast<u8>(m_random()); }
  u8 one_of(std::initializer_list<u8> bytes) { return bytes.begin()[m_random() % bytes.size()]; }
  // Register forms and [register] forms, more than their share.
  u8 modrm() {
    switch (m_random() % 3) {
      case 0: return byte() | 0xc0;
      case 1: return byte() & 0x3f;
      default: return byte();
    }
  }
  void number(unsigned bytes) {
    const u64 value = interesting_number(m_random);
    for (unsigned i = 0; i < bytes; ++i) m_code.push_back(static_cast<u8>(value >> 8 * i));
  }
  void displacement() {
    if (once_in(m_random, 3)) number(once_in(m_random, 2) ? 1 : 4);
  }
  void prefixes() {
    while (once_in(m_random, 3)) emit({one_of({0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65})});
    if (m_mode == Mode::Long && once_in(m_random, 2)) emit({static_cast<u8>(0x40 | m_random() % 16)});
  }
  void load_register(u8 index, u64 value) {
    if (m_mode == Mode::Long && once_in(m_random, 2)) {
      emit({0x48, static_cast<u8>(0xb8 + index)});
      for (unsigned i = 0; i < 8; ++i) m_code.push_back(static_cast<u8>(value >> 8 * i));
      return;
    }
    if (m_mode == Mode::Real) emit({0x66});
    emit({static_cast<u8>(0xb8 + index)});
    for (unsigned i = 0; i < 4; ++i) m_code.push_back(static_cast<u8>(value >> 8 * i));
  }
  void model_specific() {
    load_register(1, interesting_msr(m_random));
    if (once_in(m_random, 2)) load_register(2, once_in(m_random, 2) ? 0 : interesting_number(m_random));
    emit({0x0f, one_of({0x30, 0x30, 0x32})});
  }
  void port() {
    load_register(2, interesting_port(m_random));
    prefixes();
    emit({one_of({0xec, 0xed, 0xee, 0xef, 0xee, 0xef})});
  }
  void control_register() {
    // A bit or two of CR0, CR4 or DR7 toggled leads further than random values, which would fault.
    const u8 index = one_of({0, 0, 3, 4, 4, 8, 2});
    const u8 modrm_byte = static_cast<u8>(0xc0 | (index & 7) << 3);
    switch (m_random() % 4) {
      case 0: emit({0x0f, one_of({0x21, 0x23}), static_cast<u8>(byte() | 0xc0)}); break;
      case 1:
        load_register(0, interesting_number(m_random));
        emit({0x0f, 0x22, modrm_byte});
        break;
      default:
        emit({0x0f, 0x20, modrm_byte});                                            // mov eax, crN
        emit({0x0f, 0xba, 0xf8, static_cast<u8>(m_random() % (index == 4 ? 24 : 32))});  // btc eax, n
        emit({0x0f, 0x22, modrm_byte});
        break;
    }
  }
  void far_transfer() {
    if (m_mode != Mode::Long && once_in(m_random, 2)) {
      emit({one_of({0x9a, 0xea})});
      number(m_mode == Mode::Real ? 2 : 4);
      selector();
      return;
    }
    if (once_in(m_random, 2)) emit({one_of({0xca, 0xcb, 0xc3, 0xcf})});
    else emit({0xff, static_cast<u8>((once_in(m_random, 2) ? 0x18 : 0x28) | (modrm() & 0xc7))}), displacement();
  }
  void selector() {
    const u64 value = once_in(m_random, 4) ? m_random() : (m_random() % 16) * 8 + m_random() % 8;
    emit({static_cast<u8>(value), static_cast<u8>(value >> 8)});
  }
  void stack_flags() {
    if (m_mode == Mode::Real && once_in(m_random, 2)) emit({0x66});
    emit({0x68});  // push
    number(m_mode == Mode::Real ? 2 : 4);
    emit({0x9d});  // popf
  }

  Random& m_random;
  Mode m_mode;
  std::vector<u8> m_code;
};

}  // namespace

std::vector<u8> random_bytes(Random& random, usize size) {
  std::vector<u8> bytes(size);
  for (u8& byte : bytes) byte = static_cast<u8>(random());
  return bytes;
}

std::vector<u8> system_code(Random& random, Mode mode, usize size) {
  Assembler assembler(random, mode);
  while (assembler.size() < size) assembler.instruction();
  return assembler.take(size);
}

u16 interesting_port(Random& random) {
  static constexpr Range kRanges[] = {
      {0x00, 16}, {0x20, 2}, {0x40, 4}, {0x60, 5}, {0x70, 4}, {0x80, 16}, {0x92, 1}, {0xa0, 2}, {0xb2, 2}, {0xc0, 32},
      {0xe0, 12}, {0x170, 8}, {0x1ce, 3}, {0x1f0, 8}, {0x1f0, 8}, {0x2e8, 8}, {0x2f8, 8}, {0x376, 1}, {0x378, 3},
      {0x3b0, 48}, {0x3c0, 32}, {0x3e8, 8}, {0x3f0, 8}, {0x3f5, 1}, {0x3f6, 1}, {0x3f8, 8}, {0x402, 1}, {0x4d0, 2},
      {0x510, 12}, {0x600, 0x40}, {0x700, 16}, {0xcf8, 8}, {0xcfc, 4}, {0xc000, 16}, {0x2000, 24}, {0, 65536},
  };
  return static_cast<u16>(pick(random, kRanges));
}

u32 interesting_msr(Random& random) {
  static constexpr Range kRanges[] = {
      {0x00, 0x20}, {0x10, 1}, {0x1b, 1}, {0x79, 0x20}, {0xc0, 0x40}, {0x174, 8}, {0x1a0, 1}, {0x1d9, 8}, {0x200, 0x20},
      {0x250, 0x20}, {0x277, 1}, {0x2ff, 1}, {0x400, 0x80}, {0x480, 0x20}, {0x6e0, 1}, {0x800, 0x100}, {0xda0, 1},
      {0xc0000080, 8}, {0xc0000080, 1}, {0xc0000100, 4}, {0xc0010000, 0x120}, {0x40000000, 0x20}, {0, u64{1} << 32},
  };
  return static_cast<u32>(pick(random, kRanges));
}

u64 interesting_physical_address(Random& random) {
  static constexpr Range kRanges[] = {
      {0xfee00000, 0x400}, {0xfee00000, 0x1000}, {0xfec00000, 0x20}, {0xfed00000, 0x400}, {0xa0000, 0x20000},
      {0xb8000, 0x8000}, {0xc0000, 0x40000}, {0xff000000, 0x1000}, {0xfd000000, 0x1000000}, {0xfe000000, 0x1000},
      {0xffff0000, 0x10000}, {kMemorySize - 8, 16}, {0, kMemorySize}, {0, u64{1} << 32}, {u64{1} << 32, u64{1} << 40},
  };
  return pick(random, kRanges);
}

}  // namespace vellum::torture
