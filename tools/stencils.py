#!/usr/bin/env python3
# Compiles a group of stencils and takes the object apart:
# stencils.py GROUP CPU_FAMILY SOURCE OUTPUT.o DEPFILE STENCIL_H -- COMPILER... -- FLAGS...
# The output is an object with the stencils' bytes and what is to be patched in them (src/jit/stencil.h) as data.
import re
import struct
import subprocess
import sys

group, family, source, output, depfile, stencil_header = sys.argv[1:7]
separator = sys.argv.index('--')
flags_at = sys.argv.index('--', separator + 1)
assembler, compiler = sys.argv[separator + 1:flags_at], sys.argv[separator + 1:flags_at] + sys.argv[flags_at + 1:]
aarch64 = None
if family == 'aarch64':
    import stencils_aarch64 as aarch64
COMMENT = aarch64.COMMENT if aarch64 else '#'

# Functions of the program that stencils may call (they realign the stack, which stencils do not keep aligned) or go to.
HELPER = re.compile(r'_ZN6vellum\d+(engine_|interpreter_|chosen_nan|round_to_integral|approximate_reciprocal|exact_|settle_denormals|fused_|half_to_single|'
                    r'single_to_half|shuffle_bytes|compare_strings_|string_comparison_|aes_|sha1_|sha256_|carryless_multiply)\w*')
INVERSE = {'a': 'be', 'ae': 'b', 'b': 'ae', 'be': 'a', 'e': 'ne', 'ne': 'e', 'g': 'le', 'ge': 'l', 'l': 'ge', 'le': 'g',
           's': 'ns', 'ns': 's', 'o': 'no', 'no': 'o', 'p': 'np', 'np': 'p'}
CONDITIONAL = re.compile(r'\tj(' + '|'.join(INVERSE) + r')\t(\S+)')


def holes():
    text = open(stencil_header).read()
    body = re.search(r'enum class Hole : u8 \{(.*?)\};', text, re.S).group(1)
    names = re.findall(r'\b[A-Z]\w*', re.sub(r'//.*', '', body))
    return {name: number for number, name in enumerate(names)}


HOLES = holes()
SYMBOLS = {'vellum_hole_' + re.sub(r'(?<!^)([A-Z])', r'_\1', name).lower(): number for name, number in HOLES.items()}
SYMBOLS |= {'vellum_continue': HOLES['Continue'], 'vellum_taken': HOLES['Taken'], 'vellum_branch': HOLES['Taken'], 'vellum_next': HOLES['Next'],
            'vellum_indirect': HOLES['Indirect'], 'vellum_handler': HOLES['Handler']}


def ends_flow(line):
    return line.startswith(('\tjmp', '\tret', '\tud2'))


class Label:
    count = 0

    @classmethod
    def new(cls):
        cls.count += 1
        return f'.Lsplit{cls.count}'


def split(lines):
    """Instructions and labels of a function -> (hot, cold) in an order that lets the hot part run into what follows."""
    # A jump to a jump goes to its target.
    targets = {}
    for label, jump in zip(lines, lines[1:]):
        if label.endswith(':') and jump.startswith('\tjmp\tvellum_'):
            targets[label[:-1]] = jump.split('\t')[2]
    for i, line in enumerate(lines):
        match = CONDITIONAL.match(line)
        if match and match.group(2) in targets:
            lines[i] = f'\tj{match.group(1)}\t{targets[match.group(2)]}'
    # Pieces that end with a jump; a label that nobody jumps to any more, and its jump, goes.
    used = set(re.findall(r'\.LBB\w+', '\n'.join(line for line in lines if not line.endswith(':'))))
    pieces, piece = [], []
    for line in lines:
        if line.endswith(':') and line[:-1] not in used:
            if not piece and pieces:
                piece = None  # unreachable until the next label
            continue
        if piece is None:
            if not line.endswith(':'):
                continue
            piece = []
        piece.append(line)
        if ends_flow(line):
            pieces.append(piece)
            piece = []
    if piece:  # ends with a call that does not return
        pieces.append(piece)
    hot, cold = [], []
    for number, piece in enumerate(pieces):
        # Calls out of line, and ways out other than to the next instruction.
        calls = any(line.startswith('\tcall') for line in piece) or piece[-1].startswith('\tret') or \
            (piece[-1].startswith('\tjmp\t') and not piece[-1].startswith(('\tjmp\tvellum_', '\tjmp\t.L'))) or \
            piece[-1] == '\tjmp\tvellum_handler'
        if number == 0:
            # `jcc continue` in front of a call: what follows is cold.
            for i, line in enumerate(piece):
                match = CONDITIONAL.match(line)
                if match and match.group(2) == 'vellum_continue' and not any(l.endswith(':') for l in piece[i:]) and \
                        any(l.startswith('\tcall') for l in piece[i:]) and not any(l.startswith('\tcall') for l in piece[:i]):
                    label = Label.new()
                    hot.append(piece[:i] + [f'\tj{INVERSE[match.group(1)]}\t{label}', '\tjmp\tvellum_continue'])
                    cold.append([label + ':'] + piece[i + 1:])
                    break
            else:
                hot.append(piece)
        elif calls:
            cold.append(piece)
        else:
            hot.append(piece)
    # The piece that goes on to the next instruction stands last.
    for continuation in ('\tjmp\tvellum_continue', '\tjmp\tvellum_next'):
        for i, piece in enumerate(hot):
            if i > 0 and piece[-1] == continuation and hot[-1][-1] != continuation:
                hot.append(hot.pop(i))
    hot = [line for piece in hot for line in piece]
    if len(hot) >= 2 and hot[-1] == '\tjmp\tvellum_branch':
        match = CONDITIONAL.match(hot[-2])
        if match and match.group(2) == 'vellum_next':
            hot[-2:] = [f'\tj{INVERSE[match.group(1)]}\tvellum_branch', '\tjmp\tvellum_next']
    if hot[-1] in ('\tjmp\tvellum_continue', '\tjmp\tvellum_next') or \
            hot[-1] in ('\tjmp\tvellum_taken', '\tjmp\tvellum_indirect'):
        hot.pop()  # that is what follows
    return hot, [line for piece in cold for line in piece]


def transform(assembly):
    """Moves what is rarely run into a section of its own, .text.cold.NAME, with aligned instructions left out."""
    result, lines, name = [], None, None
    for line in assembly.split('\n'):
        if line.startswith('\t.type\t') and line.endswith('@function'):
            name = line.split('\t')[2].split(',')[0]
            result.append(line)
        elif name and line.startswith(name + ':'):
            result.append(line.split(COMMENT)[0].rstrip())
            lines = []
        elif lines is not None:
            if line.startswith('.Lfunc_end'):
                hot, cold = aarch64.split(lines) if aarch64 else split(lines)
                result += hot
                if cold:
                    result += [f'\t.section\t.text.cold.{name},"ax",@progbits'] + cold
                lines = name = None
            else:
                text = line.split(COMMENT)[0].rstrip()
                if text and not text.startswith('\t.'):
                    lines.append(text)
        else:
            if not line.startswith('\t.size'):
                result.append(line)
    return '\n'.join(result) + '\n'


class Elf:
    """The sections, symbols and relocations of a 64-bit little-endian relocatable object."""

    def __init__(self, data):
        self.data = data
        offset, = struct.unpack_from('<Q', data, 0x28)
        entry, count, names = struct.unpack_from('<HHH', data, 0x3a)
        if count == 0:  # more than fits: it stands in the first section header
            count, = struct.unpack_from('<Q', data, offset + 0x20)
        if names == 0xffff:
            names, = struct.unpack_from('<I', data, offset + 0x28)
        headers = [struct.unpack_from('<IIQQQQIIQQ', data, offset + i * entry) for i in range(count)]
        strings = self.body(headers[names])
        self.sections = []
        self.by_name = {}
        self.relocations = {}
        for i, h in enumerate(headers):
            section = (self.string(strings, h[0]), self.body(h) if h[1] != 8 else b'', h)
            self.sections.append(section)
            self.by_name[section[0]] = i
        extended = next((self.body(h) for h in headers if h[1] == 18), None)
        table = next(h for h in headers if h[1] == 2)
        names = self.body(headers[table[6]])
        self.symbols = []
        for i, (at, info, _, section, value, _) in enumerate(struct.iter_unpack('<IBBHQQ', self.body(table))):
            if section == 0xffff and extended:
                section, = struct.unpack_from('<I', extended, 4 * i)
            self.symbols.append((self.string(names, at), section, value))
        for h in headers:
            if h[1] == 4:  # RELA
                self.relocations[h[7]] = [(offset, info & 0xffffffff, info >> 32, addend)
                                          for offset, info, addend in struct.iter_unpack('<QQq', self.body(h))]

    def body(self, header):
        return self.data[header[4]:header[4] + header[5]]

    @staticmethod
    def string(strings, at):
        return strings[at:strings.index(b'\0', at)].decode()


def fail(message):
    sys.exit(f'stencils.py: {group}: {message}')


# Relocation types of x86-64, System V ABI AMD64 supplement table 4.9: kind, whether it counts from the place.
ABSOLUTE8, ABSOLUTE16, ABSOLUTE32, ABSOLUTE64, RELATIVE32 = range(5)
RELOCATIONS = aarch64.RELOCATIONS if aarch64 else {1: ABSOLUTE64, 2: RELATIVE32, 4: RELATIVE32, 10: ABSOLUTE32, 11: ABSOLUTE32, 12: ABSOLUTE16, 14: ABSOLUTE8}


class Constants:
    """Read-only data that stencils refer to, merged."""

    def __init__(self):
        self.data = bytearray()
        self.places = {}

    def place(self, elf, section):
        if section not in self.places:
            if section in elf.relocations:
                fail(f'{elf.sections[section][0]} has relocations')
            alignment = max(64, elf.sections[section][2][8])
            self.data += bytes(-len(self.data) % alignment)
            self.places[section] = len(self.data)
            self.data += elf.sections[section][1]
        return self.places[section]


def extract(elf):
    constants, helpers = Constants(), []
    unique, stencils = {}, []
    left_out = {}

    def one(section):
        name = elf.sections[section][0][len('.text.'):]
        cold = elf.by_name.get('.text.cold.' + name)
        parts = [(section, 0)] + ([(cold, 0x8000)] if cold is not None else [])
        patches = []
        for number, mark in parts:
            for offset, kind, symbol, addend in elf.relocations.get(number, []):
                symbol_name, symbol_section, value = elf.symbols[symbol]
                if kind not in RELOCATIONS:
                    fail(f'{name}: relocation type {kind}')
                if symbol_section == 0:
                    if symbol_name in SYMBOLS:
                        hole = SYMBOLS[symbol_name]
                    elif HELPER.match(symbol_name):
                        if symbol_name not in helpers:
                            helpers.append(symbol_name)
                        hole, addend = HOLES['Helper'], helpers.index(symbol_name) << 16 | (addend & 0xffff)
                    else:
                        left_out[symbol_name] = left_out.get(symbol_name, 0) + 1
                        return None
                elif symbol_section in (section, cold):
                    hole, addend = HOLES['Hot' if symbol_section == section else 'Cold'], addend + value
                elif elf.sections[symbol_section][0].startswith('.rodata'):
                    hole, addend = HOLES['Constant'], addend + value + constants.place(elf, symbol_section)
                else:
                    left_out[symbol_name] = left_out.get(symbol_name, 0) + 1
                    return None
                patches.append((offset | mark, RELOCATIONS[kind], hole, addend))
        hot = elf.sections[section][1]
        rest = elf.sections[cold][1] if cold is not None else b''
        key = (hot, rest, tuple(patches))
        if key not in unique:
            unique[key] = len(stencils)
            stencils.append(key)
        return unique[key]

    table = elf.by_name['.stencil_table']
    size = len(elf.sections[table][1])
    pointers = [None] * (size // 8)
    numbers = {}
    for offset, kind, symbol, addend in elf.relocations.get(table, []):
        section = elf.symbols[symbol][1]
        if section not in numbers:
            numbers[section] = one(section)
        pointers[offset // 8] = numbers[section]
    for symbol, count in sorted(left_out.items()):
        if not re.search(r'semantics|__udivti3|__divti3|__umodti3|__modti3', symbol):
            print(f'stencils.py: {group}: {count} stencils left out, they call {symbol}', file=sys.stderr)
    return pointers, stencils, constants.data, helpers


def write(pointers, stencils, constants, helpers):
    modes = len(re.findall(r'^\s+(Long\w*|Flat32),', open(stencil_header.replace('stencil.h', 'stencil_modes.h')).read(), re.M))
    variants = 96
    out = ['# Generated by tools/stencils.py from the stencils of a group.', '\t.section\t.rodata']

    def data(label, content, alignment=64):
        out.append(f'\t.p2align\t{alignment.bit_length() - 1}')
        out.append(f'{label}:')
        for at in range(0, len(content), 32):
            out.append('\t.byte\t' + ','.join(map(str, content[at:at + 32])))

    code, records, patch_data = bytearray(), bytearray(), bytearray()
    patch_count = 0
    for hot, cold, patches in stencils:
        records += struct.pack('<IHHIHH', len(code), len(hot), len(cold), patch_count, len(patches), 0)
        code += hot + cold
        for offset, kind, hole, addend in patches:
            if not -2**31 <= addend < 2**31:
                fail('an addend beyond 32 bits')
            patch_data += struct.pack('<HBBi', offset, kind, hole, addend)
        patch_count += len(patches)
    lines, line_numbers, rows = [], {}, bytearray()
    for row in range(len(pointers) // (modes * variants)):
        for mode in range(modes):
            at = (row * modes + mode) * variants
            line = tuple(0xffff if p is None else p for p in pointers[at:at + variants])
            if line not in line_numbers:
                line_numbers[line] = len(lines)
                lines.append(line)
            rows += struct.pack('<H', line_numbers[line])
    if len(stencils) >= 0xffff or len(lines) >= 0xffff:
        fail('too many stencils')
    prefix = f'.Lstencil_{group}_'
    data(prefix + 'code', code)
    data(prefix + 'records', records)
    data(prefix + 'patches', patch_data)
    data(prefix + 'constants', constants)
    data(prefix + 'rows', rows)
    data(prefix + 'lines', b''.join(struct.pack(f'<{variants}H', *line) for line in lines))
    for number, helper in enumerate(helpers):
        out += [f'{prefix}name{number}:', f'\t.asciz\t"{helper}"']
    out += ['\t.section\t.data.rel.ro,"aw",@progbits', '\t.p2align\t3', prefix + 'helpers:']
    out += [f'\t.quad\t{helper}' for helper in helpers]
    out += [prefix + 'helper_names:']
    out += [f'\t.quad\t{prefix}name{number}' for number in range(len(helpers))] + ['\t.quad\t0']
    out += [f'\t.globl\tvellum_stencil_group_{group}', f'\t.hidden\tvellum_stencil_group_{group}', f'vellum_stencil_group_{group}:']
    out += [f'\t.quad\t{prefix}{part}' for part in ('code', 'records', 'patches', 'constants', 'helpers', 'helper_names', 'rows', 'lines')]
    out += ['\t.section\t.note.GNU-stack,"",@progbits', '']
    open(result, 'w').write('\n'.join(out))
    subprocess.run(assembler + ['-c', '-o', output, result], check=True)


base = output.removesuffix('.o')
raw, assembly, object_file, result = base + '.raw.s', base + '.split.s', base + '.split.o', base + '.data.s'
subprocess.run(compiler + ['-S', '-MD', '-MF', depfile, '-MT', output, '-o', raw, source], check=True)
open(assembly, 'w').write(transform(open(raw).read()))
subprocess.run(assembler + ['-c', '-o', object_file, assembly], check=True)
write(*extract(Elf(open(object_file, 'rb').read())))
