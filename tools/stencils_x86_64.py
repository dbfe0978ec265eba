"""What stencils.py must know of x86-64: its jumps and its relocations."""
import re

COMMENT = '#'
JUMP = '\tjmp\t'
CALLS = ('\tcall',)
ENDS = ('\tjmp', '\tret', '\tud2')
# Where control goes from a piece that is rarely run.
COLD_TARGETS = ('vellum_handler',)
INVERSE = {'a': 'be', 'ae': 'b', 'b': 'ae', 'be': 'a', 'e': 'ne', 'ne': 'e', 'g': 'le', 'ge': 'l', 'l': 'ge', 'le': 'g',
           's': 'ns', 'ns': 's', 'o': 'no', 'no': 'o', 'p': 'np', 'np': 'p'}
CONDITIONAL = re.compile(r'\tj(' + '|'.join(INVERSE) + r')\t(\S+)')

# Relocation types, System V ABI AMD64 supplement table 4.9: to PatchKind of src/jit/stencil.h.
ABSOLUTE8, ABSOLUTE16, ABSOLUTE32, ABSOLUTE64, RELATIVE32 = range(5)
RELOCATIONS = {1: ABSOLUTE64, 2: RELATIVE32, 4: RELATIVE32, 10: ABSOLUTE32, 11: ABSOLUTE32, 12: ABSOLUTE16, 14: ABSOLUTE8}


def prepared(lines):
    return lines


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
    """`jcc continue` in front of a call: what follows is cold. The two parts, or the piece and None."""
    for i, line in enumerate(piece):
        if conditional_target(line) == 'vellum_continue' and not any(l.endswith(':') for l in piece[i:]) and \
                any(l.startswith(CALLS) for l in piece[i:]) and not any(l.startswith(CALLS) for l in piece[:i]):
            label = Label.new()
            return piece[:i] + [inverted(line, label), JUMP + 'vellum_continue'], [label + ':'] + piece[i + 1:]
    return piece, None
