"""What stencils.py must know of x86-64: its jumps and its relocations."""
import re

COMMENT = '#'
JUMP = '\tjmp\t'
CALLS = ('\tcall',)
ENDS = ('\tjmp', '\tret', '\tud2')
# Where control goes from a piece that is rarely run.
COLD_TARGETS = ('vellum_handler', 'vellum_missed')
INVERSE = {'a': 'be', 'ae': 'b', 'b': 'ae', 'be': 'a', 'e': 'ne', 'ne': 'e', 'g': 'le', 'ge': 'l', 'l': 'ge', 'le': 'g',
           's': 'ns', 'ns': 's', 'o': 'no', 'no': 'o', 'p': 'np', 'np': 'p'}
CONDITIONAL = re.compile(r'\tj(' + '|'.join(INVERSE) + r')\t(\S+)')

# Relocation types, System V ABI AMD64 supplement table 4.9: to PatchKind of src/jit/stencil.h.
ABSOLUTE8, ABSOLUTE16, ABSOLUTE32, ABSOLUTE64, RELATIVE32 = range(5)
RELOCATIONS = {1: ABSOLUTE64, 2: RELATIVE32, 4: RELATIVE32, 10: ABSOLUTE32, 11: ABSOLUTE32, 12: ABSOLUTE16, 14: ABSOLUTE8}


LOADED_WIDE = re.compile(r'\tmovq\t\$vellum_hole_immediate, %(r\w+)$')
HALVES = {'r' + name: 'e' + name for name in ('ax', 'bx', 'cx', 'dx', 'si', 'di', 'bp')} | {f'r{n}': f'r{n}d' for n in range(8, 16)}


def prepared(lines):
    """The same where an immediate that is cut to 32 bits at once is loaded so."""
    result = []
    for line in lines:
        match = LOADED_WIDE.match(result[-1]) if result else None
        if match and line == '\tmovl\t%{0}, %{0}'.format(HALVES[match.group(1)]):
            result[-1] = f'\tmovl\t$vellum_hole_immediate, %{HALVES[match.group(1)]}'
        else:
            result.append(line)
    return result


def conditional_target(line):
    match = CONDITIONAL.match(line)
    return match and match.group(2)


def reaches_far(line):
    return True


def with_target(line, target):
    return f'\tj{CONDITIONAL.match(line).group(1)}\t{target}'


def inverted(line, target):
    """A conditional jump the other way round."""
    return f'\tj{INVERSE[CONDITIONAL.match(line).group(1)]}\t{target}'


def must_be_near(piece, lines):
    return False


class Label:
    count = 0

    @classmethod
    def new(cls):
        cls.count += 1
        return f'.Lsplit{cls.count}'


def parted(piece):
    """`jcc continue` in front of a call, or of a way to a handler: what follows is cold. The two parts, or the piece and None."""
    for i, line in enumerate(piece):
        leaves = any(l.startswith(CALLS) for l in piece[i:]) or piece[-1] in [JUMP + target for target in COLD_TARGETS]
        if conditional_target(line) == 'vellum_continue' and not any(l.endswith(':') for l in piece[i:]) and \
                leaves and not any(l.startswith(CALLS) for l in piece[:i]):
            label = Label.new()
            return piece[:i] + [inverted(line, label), JUMP + 'vellum_continue'], [label + ':'] + piece[i + 1:]
    return piece, None


# The state is reached from r12, which takes four bytes of displacement and one for the base. Stencils hand on r14, which is
# MIDDLE bytes further (src/jit/hole_fields.h): from there one byte reaches all slots and what every block uses.
STATE, MIDDLE_REGISTER, MIDDLE = '%r12', '%r14', 128
OPERAND = re.compile(r'([\w+-]*)\(%r12(,[^)]*)?\)')
READ = re.compile(r'\t(mov|add|sub|xor|or|and|cmp|test)q\t%r12, [^(]*$')
SHORT_HOLE = re.compile(r'vellum_hole_(base|index|gpr\d)$')
R_X86_64_8, IMMEDIATES = 14, {10: 4, 11: 4, 12: 2}
PLACEHOLDER = 0xab
OPERAND_BYTES = {'b': 1, 'w': 2, 'l': 4, 'q': 4}
# An immediate that is a symbol may get another size late, when the places behind it are settled already: it becomes a number
# of the larger size, with the relocation beside it.
SYMBOL_IMMEDIATE = re.compile(r'\t((?!mov|sh|sa|ro|rc|bt|v|p)\w+([wlq]))\t\$([\w+-]*vellum_hole[\w+-]*)(, .*)$')
WIDE_PLACEHOLDER = 0x12345678
# One that fits into a byte, and is made so small.
SHORT_IMMEDIATE, SHORT_DISPLACEMENT = 'vellum_hole_short_immediate', 'vellum_hole_short_displacement'
SHORT_PLACEHOLDER = 0x5b
IMMEDIATE_RELOCATION = {'w': 'R_X86_64_16', 'l': 'R_X86_64_32', 'q': 'R_X86_64_32S'}


def immediate_bytes(line):
    """Bytes of the immediate, which stand behind the displacement."""
    mnemonic, _, operands = line.strip().partition('\t')
    if not operands.startswith('$'):
        return 0
    value = operands[1:].split(',')[0]
    if re.match(r'(sh[lr]|sa[lr]|ro[lr]|rc[lr]|bt)|v|p', mnemonic):
        return 1
    short = re.match(r'-?\d+$', value) and -128 <= int(value) <= 127
    return 1 if short and not re.match('mov|test', mnemonic) else OPERAND_BYTES[mnemonic[-1]]


EXTENSION = re.compile(r'\t(movl|movzwl|movzbl)\t%(\w+), (%\w+)$')
# What loads extend at least as far.
EXTENDING_LOADS = {'movl': 'movl|movzwl|movzbl', 'movzwl': 'movzwl|movzbl', 'movzbl': 'movzbl'}


def part_of(half, extension):
    """The part of a register, by its name with 32 bits, from which it is extended; all of it with movl and movq."""
    if extension in ('movl', 'movq'):
        return half
    if half.endswith('d'):  # r8d
        return half[:-1] + {'movzwl': 'w', 'movzbl': 'b'}[extension]
    if extension == 'movzwl':
        return half[1:]
    return half[1] + 'l' if half.endswith('x') else half[1:] + 'l'


def extended_early(hot, cold):
    """The same where what a load has extended is not extended again for those who come from the cold part: they do that."""
    for at, line in enumerate(hot):
        match = EXTENSION.match(line)
        if not match or match.group(2) != part_of(match.group(3)[1:], match.group(1)):
            continue
        labels = at
        while labels > 0 and hot[labels - 1].endswith(':'):
            labels -= 1
        names = [label[:-1] for label in hot[labels:at]]
        loads = labels > 0 and re.match(rf'\t({EXTENDING_LOADS[match.group(1)]})\t\S*\(.*\), {match.group(3)}$', hot[labels - 1])
        if not loads or any(conditional_target(l) in names or l in [JUMP + name for name in names] for l in hot) or \
                any(conditional_target(l) in names for l in cold):
            continue
        hot = hot[:at] + hot[at + 1:]
        cold = [new for l in cold for new in ([line, l] if l in [JUMP + name for name in names] else [l])]
        return extended_early(hot, cold)
    return hot, cold


def can_be_shortened(lines):
    """Whether r14 is handed on, and r12 is nothing but the state."""
    for line in lines:
        if re.search(r'%r14[dwb]?\b', line):
            return False
        if re.search(r'%r12[dwb]?\b', OPERAND.sub('', line)) and not READ.match(line) and not re.search(r'\([^)]*,%r12', line) and not re.search(r'\([^)]*, %r12', line):
            return False
    return True


def shortened(hot, cold):
    """The same with the state's first 256 bytes addressed from their middle."""
    hot, cold = extended_early(hot, cold)
    if not can_be_shortened(hot + cold):
        return hot, cold

    def one(line):
        match = SYMBOL_IMMEDIATE.match(line)
        if match:
            mnemonic, size, symbol, rest = match.groups()
            if symbol in (SHORT_IMMEDIATE, SHORT_DISPLACEMENT):
                label = Label.new()
                return one(f'\t{mnemonic}\t${SHORT_PLACEHOLDER}{rest}') + [label + ':', f'\t.reloc {label}-1, R_X86_64_8, {symbol}']
            number = WIDE_PLACEHOLDER & (0xffff if size == 'w' else 0xffffffff)
            label = Label.new()
            return one(f'\t{mnemonic}\t${number}{rest}') + [label + ':', f'\t.reloc {label}-{OPERAND_BYTES[size]}, {IMMEDIATE_RELOCATION[size]}, {symbol}']
        match = OPERAND.search(line)
        if not match:
            return [line]
        displacement, index = match.group(1), match.group(2) or ''
        if SHORT_HOLE.match(displacement):
            label = Label.new()
            changed = line[:match.start()] + f'{PLACEHOLDER - 256}({MIDDLE_REGISTER}{index})' + line[match.end():]
            return [changed, label + ':', f'\t.reloc {label}-{1 + immediate_bytes(line)}, R_X86_64_8, {displacement}-{MIDDLE}']
        if re.match(r'-?\d*$', displacement):
            displacement = str(int(displacement or 0) - MIDDLE)
        else:
            displacement += f'-{MIDDLE}'
        return [line[:match.start()] + f'{displacement}({MIDDLE_REGISTER}{index})' + line[match.end():]]

    return [new for line in hot for new in one(line)], [new for line in cold for new in one(line)]


# kBriefSmallDisplacement and so on of src/jit/stencil.h.
SMALL_DISPLACEMENT, SMALL_IMMEDIATE, NO_DISPLACEMENT, SAME_REGISTER = 1, 2, 4, 8
DISPLACEMENT_LOADED = re.compile(r'\tmovq\t\$vellum_hole_displacement, (%\w+)$')
DISPLACEMENT_ADDED = re.compile(r'\taddq\t\$vellum_hole_displacement, (%\w+)$')
IMMEDIATE_USED = re.compile(r'\t((?:add|sub|adc|sbb|and|or|xor|cmp)[wlq])\t\$vellum_hole_immediate, (.*)$')
HOLE_ADDED = re.compile(r'\t(lea[lq])\tvellum_hole_(displacement|immediate)(\((?!%r12)[^)]*\), .*)$')
FIRST_READ = re.compile(r'\t(mov[lq]|movzbl|movzwl)\tvellum_hole_(?:gpr|operand)([01])\(%r12\), %(\w+)$')
SECOND_COMBINED = re.compile(r'\t(and|xor)([bwlq])\tvellum_hole_(?:gpr|operand)([01])\(%r12\), %(\w+)$')
READS_OF = {'b': 'movzbl', 'w': 'movzwl', 'l': 'movl', 'q': 'movq'}  # whole, as instructions combine them
USES_FLAGS = re.compile(r'\t(' + '|'.join(f'j{c}|set{c}|cmov{c}' for c in INVERSE) + r'|adc|sbb|rc[lr])')
FLAGS_SET = re.compile(r'\t(add|sub|adc|sbb|and|or|xor|cmp|test|neg|imul)[bwlq]\t')


def flags_are_used(lines):
    """Whether what follows may read the host's flags; no stencil hands them on."""
    for line in lines:
        if USES_FLAGS.match(line):
            return True
        if FLAGS_SET.match(line) or line.startswith(ENDS):
            return False
    return False


def brief_forms(hot, cold):
    """[(needs, hot, cold)]: the same for holes whose values are as the needs say, each shorter than the one before it."""
    if not can_be_shortened(hot + cold):
        return []
    needs = 0

    def one(lines, displacement):
        nonlocal needs
        result, at = [], 0
        while at < len(lines):
            line, following = lines[at], lines[at + 1] if at + 1 < len(lines) else ''
            at += 1
            if match := DISPLACEMENT_LOADED.match(line):
                register = match.group(1)
                added = re.match(r'\taddq\t([^$%].*), ' + register + '$', following)
                if added and register not in added.group(1):
                    needs |= SMALL_DISPLACEMENT
                    result += [f'\tmovq\t{added.group(1)}, {register}'] + displacement(register, lines[at + 1:])
                    at += 1
                    continue
            if match := DISPLACEMENT_ADDED.match(line):
                needs |= SMALL_DISPLACEMENT
                result += displacement(match.group(1), lines[at:])
            elif match := HOLE_ADDED.match(line):
                operation, hole, rest = match.groups()
                needs |= SMALL_DISPLACEMENT if hole == 'displacement' else SMALL_IMMEDIATE
                label = Label.new()
                result += [f'\t{operation}\t{SHORT_PLACEHOLDER}{rest}', label + ':', f'\t.reloc {label}-1, R_X86_64_8, vellum_hole_short_{hole}']
            elif (match := SECOND_COMBINED.match(line)) and result and (first := FIRST_READ.match(result[-1])) and \
                    first.group(1) == READS_OF[match.group(2)] and first.group(2) != match.group(3) and \
                    match.group(4) == part_of(first.group(3), first.group(1)) and not flags_are_used(lines[at:]):
                needs |= SAME_REGISTER
                if match.group(1) == 'xor':
                    half = HALVES.get(first.group(3), first.group(3))
                    result[-1] = f'\txorl\t%{half}, %{half}'
            elif match := LOADED_WIDE.match(line):
                needs |= SMALL_IMMEDIATE
                result.append(f'\tmovl\t$vellum_hole_immediate, %{HALVES[match.group(1)]}')
            elif match := IMMEDIATE_USED.match(line):
                needs |= SMALL_IMMEDIATE
                result.append(f'\t{match.group(1)}\t${SHORT_IMMEDIATE}, {match.group(2)}')
            else:
                result.append(line)
        return result

    forms = []
    added = one(hot, lambda register, _: [f'\taddq\t${SHORT_DISPLACEMENT}, {register}'])
    if needs:
        forms.append((needs, added, cold))
        left_out = one(hot, lambda register, behind: [f'\taddq\t${SHORT_DISPLACEMENT}, {register}'] if flags_are_used(behind) else [])
        if left_out != added:
            forms.append((needs | NO_DISPLACEMENT, left_out, cold))
    return forms


def check_hole(code, offset, kind, symbol):
    """Whether a short displacement's place was computed rightly."""
    if symbol in (SHORT_IMMEDIATE, SHORT_DISPLACEMENT):
        return kind == R_X86_64_8 and code[offset:offset + 1] == bytes([SHORT_PLACEHOLDER])
    if kind == R_X86_64_8 and SHORT_HOLE.match(symbol):
        return code[offset:offset + 1] == bytes([PLACEHOLDER])
    if kind in IMMEDIATES:
        size = IMMEDIATES[kind]
        return code[offset:offset + size] in (bytes(size), WIDE_PLACEHOLDER.to_bytes(4, 'little')[:size])
    return True
