#!/usr/bin/env python3
# Compiles a group of stencils and takes the object apart:
# stencils.py GROUP CPU_FAMILY SOURCE OUTPUT.o DEPFILE STENCIL_H -- COMPILER... -- FLAGS...
# The output is an object with the stencils' bytes and what is to be patched in them (src/jit/stencil.h) as data.
import importlib
import re
import struct
import subprocess
import sys

group, family, source, output, depfile, stencil_header = sys.argv[1:7]
separator = sys.argv.index('--')
flags_at = sys.argv.index('--', separator + 1)
assembler, compiler = sys.argv[separator + 1:flags_at], sys.argv[separator + 1:flags_at] + sys.argv[flags_at + 1:]
host = importlib.import_module('stencils_' + family)

# Functions of the program that stencils may call (they realign the stack, which stencils do not keep aligned) or go to.
HELPER = re.compile(r'_ZN6vellum\d+(engine_|interpreter_|chosen_nan|round_to_integral|approximate_reciprocal|exact_|settle_denormals|fused_|half_to_single|'
                    r'single_to_half|shuffle_bytes|compare_strings_|string_comparison_|aes_|sha1_|sha256_|carryless_multiply)\w*')

def holes():
    text = open(stencil_header).read()
    body = re.search(r'enum class Hole : u8 \{(.*?)\};', text, re.S).group(1)
    names = re.findall(r'\b[A-Z]\w*', re.sub(r'//.*', '', body))
    return {name: number for number, name in enumerate(names)}


HOLES = holes()
SYMBOLS = {'vellum_hole_' + re.sub(r'(?<!^)([A-Z])', r'_\1', name).lower(): number for name, number in HOLES.items()}
SYMBOLS |= {'vellum_continue': HOLES['Continue'], 'vellum_taken': HOLES['Taken'], 'vellum_branch': HOLES['Taken'], 'vellum_next': HOLES['Next'],
            'vellum_hole_short_immediate': HOLES['Immediate'], 'vellum_hole_short_displacement': HOLES['Displacement'], 'vellum_indirect': HOLES['Indirect'], 'vellum_handler': HOLES['Handler'], 'vellum_missed': HOLES['Missed']}


def leaves(piece):
    """Whether the piece calls out of line, or ends with a way out other than to an instruction or another piece."""
    last = piece[-1]
    if any(line.startswith(host.CALLS) for line in piece) or last.startswith('\tret'):
        return True
    if not last.startswith(host.JUMP):
        return False
    target = last[len(host.JUMP):]
    return target in host.COLD_TARGETS or not target.startswith(('vellum_', '.L'))


def split(lines):
    """Instructions and labels of a function -> (hot, cold) in an order that lets the hot part run into what follows."""
    lines = host.prepared(lines)
    # A jump to a jump goes to its target.
    targets = {}
    for label, jump in zip(lines, lines[1:]):
        if label.endswith(':') and jump.startswith(host.JUMP + 'vellum_'):
            targets[label[:-1]] = jump[len(host.JUMP):]
    for i, line in enumerate(lines):
        target = host.conditional_target(line)
        if target in targets and host.reaches_far(line):
            lines[i] = host.with_target(line, targets[target])
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
        if line.startswith(host.ENDS):
            pieces.append(piece)
            piece = []
    if piece:  # ends with a call that does not return
        pieces.append(piece)
    hot, cold = [], []
    for number, piece in enumerate(pieces):
        if number == 0:
            first, rest = host.parted(piece)
            hot.append(first)
            cold += [rest] if rest else []
        else:
            (cold if leaves(piece) and not host.must_be_near(piece, lines) else hot).append(piece)
    # The piece that goes on to the next instruction stands last.
    for continuation in (host.JUMP + 'vellum_continue', host.JUMP + 'vellum_next'):
        for i, piece in enumerate(hot):
            if i > 0 and piece[-1] == continuation and hot[-1][-1] != continuation:
                hot.append(hot.pop(i))
    hot = [line for piece in hot for line in piece]
    # A conditional jump to the next instruction in front of a jump elsewhere: the other way round.
    if len(hot) >= 2 and hot[-1] == host.JUMP + 'vellum_branch' and host.conditional_target(hot[-2]) == 'vellum_next':
        hot[-2:] = [host.inverted(hot[-2], 'vellum_branch'), host.JUMP + 'vellum_next']
    if hot[-1] in [host.JUMP + target for target in ('vellum_continue', 'vellum_next', 'vellum_taken', 'vellum_indirect')]:
        hot.pop()  # that is what follows
    return hot, [line for piece in cold for line in piece]


LOCAL_LABEL = re.compile(r'\.L(BB|split)\w+')
BRIEF = {}  # by function: what the values of its briefer forms must be like, bits of Stencil::brief_needs


def add_brief_forms(name, hot, cold):
    """Sections NAME.brief0, NAME.brief1, ... with shorter instructions, for holes whose values are small."""
    result = []
    for number, (needs, brief_hot, brief_cold) in enumerate(host.brief_forms(hot, cold)):
        BRIEF.setdefault(name, []).append(needs)
        own = [[LOCAL_LABEL.sub(rf'\g<0>_brief{number}', line) for line in lines] for lines in (brief_hot, brief_cold)]
        for prefix, lines in zip(('.text.', '.text.cold.'), host.shortened(*own)):
            if lines:
                result += [f'\t.section\t{prefix}{name}.brief{number},"ax",@progbits'] + lines
    return result


def transform(assembly):
    """Moves what is rarely run into a section of its own, .text.cold.NAME, with aligned instructions left out."""
    result, lines, name = [], None, None
    for line in assembly.split('\n'):
        if line.startswith('\t.type\t') and line.endswith('@function'):
            name = line.split('\t')[2].split(',')[0]
            result.append(line)
        elif name and line.startswith(name + ':'):
            result.append(line.split(host.COMMENT)[0].rstrip())
            lines = []
        elif lines is not None:
            if line.startswith('.Lfunc_end'):
                parts = split(lines)
                hot, cold = host.shortened(*parts)
                result += hot
                if cold:
                    result += [f'\t.section\t.text.cold.{name},"ax",@progbits'] + cold
                result += add_brief_forms(name, *parts)
                lines = name = None
            else:
                text = line.split(host.COMMENT)[0].rstrip()
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
    unique, stencils, briefer = {}, [], {}
    left_out = {}

    def one(section):
        name = elf.sections[section][0][len('.text.'):]
        cold = elf.by_name.get('.text.cold.' + name)
        parts = [(section, 0)] + ([(cold, 0x8000)] if cold is not None else [])
        patches = []
        for number, mark in parts:
            for offset, kind, symbol, addend in elf.relocations.get(number, []):
                symbol_name, symbol_section, value = elf.symbols[symbol]
                if kind not in host.RELOCATIONS:
                    fail(f'{name}: relocation type {kind}')
                if symbol_section == 0:
                    if symbol_name in SYMBOLS:
                        hole = SYMBOLS[symbol_name]
                        if not host.check_hole(elf.sections[number][1], offset, kind, symbol_name):
                            fail(f'{name}: the hole for {symbol_name} is not where it was taken to be')
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
                patches.append((offset | mark, host.RELOCATIONS[kind], hole, addend))
        hot = elf.sections[section][1]
        rest = elf.sections[cold][1] if cold is not None else b''
        key = (hot, rest, tuple(patches))
        if key not in unique:
            unique[key] = len(stencils)
            stencils.append(key)
        return unique[key]

    def with_brief_forms(section):
        number = one(section)
        name = elf.sections[section][0][len('.text.'):]
        longer = number
        for at, needs in enumerate(BRIEF.get(name, []) if number is not None else []):
            brief = one(elf.by_name[f'.text.{name}.brief{at}'])
            if brief is not None and brief != longer:
                briefer[longer] = (needs, brief)
                longer = brief
        return number

    table = elf.by_name['.stencil_table']
    size = len(elf.sections[table][1])
    pointers = [None] * (size // 8)
    numbers = {}
    for offset, kind, symbol, addend in elf.relocations.get(table, []):
        section = elf.symbols[symbol][1]
        if section not in numbers:
            numbers[section] = with_brief_forms(section)
        pointers[offset // 8] = numbers[section]
    for symbol, count in sorted(left_out.items()):
        if not re.search(r'semantics|__udivti3|__divti3|__umodti3|__modti3', symbol):
            print(f'stencils.py: {group}: {count} stencils left out, they call {symbol}', file=sys.stderr)
    return pointers, stencils, briefer, constants.data, helpers


def write(pointers, stencils, briefer, constants, helpers):
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
    for number, (hot, cold, patches) in enumerate(stencils):
        needs, brief = briefer.get(number, (0, 0xffff))
        if len(patches) > 255:
            fail('a stencil of more than 255 patches')
        records += struct.pack('<IHHIBBH', len(code), len(hot), len(cold), patch_count, len(patches), needs, brief)
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
