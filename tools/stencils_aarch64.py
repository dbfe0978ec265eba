"""What stencils.py must know of AArch64: its branches, its relocations, and how a hole becomes an immediate."""
import re

COMMENT = '//'
JUMP = '\tb\t'
CALLS = ('\tbl\t', '\tblr\t')
ENDS = ('\tb\t', '\tret', '\tbr\t', '\tbrk\t')
# Where control goes from a piece that is rarely run.
COLD_TARGETS = ('vellum_handler', 'vellum_missed')
INVERSE = {'eq': 'ne', 'ne': 'eq', 'hs': 'lo', 'lo': 'hs', 'mi': 'pl', 'pl': 'mi', 'vs': 'vc', 'vc': 'vs', 'hi': 'ls',
           'ls': 'hi', 'ge': 'lt', 'lt': 'ge', 'gt': 'le', 'le': 'gt'}
CONDITIONAL = re.compile(r'\t(b\.\w+|cbn?z|tbn?z)\t(.*, )?(\S+)$')
MOVE = re.compile(r'\tmov([zk])\t(x\d+), #:abs_g(\d)(?:_nc)?:(\S+)$')

# Holes by the width of what goes in: up to 16 bits, or a sign-extended 32-bit number. All others are whole addresses.
SMALL = re.compile(r'vellum_hole_(operand\d|gpr\d|base|index|scale|segment|segment_base|immediate2|offset|end_offset|site_key_offset)\b')
SIGNED = re.compile(r'vellum_hole_(immediate|displacement|target_offset|site_distance)\b')

# Relocation types, ELF for the Arm 64-bit Architecture 5.7: to PatchKind of src/jit/stencil.h.
ABSOLUTE64, MOVE_UNSIGNED, MOVE0, MOVE1, MOVE2, MOVE3, BRANCH26, BRANCH19, BRANCH14 = 3, 5, 6, 7, 8, 9, 10, 11, 12
RELOCATIONS = {257: ABSOLUTE64, 263: MOVE_UNSIGNED, 264: MOVE0, 265: MOVE1, 266: MOVE1, 267: MOVE2, 268: MOVE2, 269: MOVE3,
               279: BRANCH14, 280: BRANCH19, 282: BRANCH26, 283: BRANCH26}


def brief_forms(hot, cold):
    return []


def prepared(lines):
    """The large code model's four moves per hole, cut to what the hole needs."""
    result = []
    for line in lines:
        match = MOVE.match(line)
        if match:
            _, register, group, symbol = match.groups()
            if SMALL.match(symbol):
                if group == '0':
                    result.append(f'\tmovz\t{register}, #:abs_g0:{symbol}')
                continue
            if SIGNED.match(symbol):
                if group in '01':
                    result.append(line)
                elif group == '3':
                    result.append(f'\tsxtw\t{register}, w{register[1:]}')
                continue
        result.append(line)
    return result


def conditional_target(line):
    match = CONDITIONAL.match(line)
    return match and match.group(3)


def reaches_far(line):
    """TBZ reaches 32 KiB only, which is less than a block may have."""
    return not line.startswith('\ttb')


def with_target(line, target):
    name, operands, _ = CONDITIONAL.match(line).groups()
    return f'\t{name}\t{operands or ""}{target}'


def inverted(line, target):
    """A conditional branch the other way round."""
    name, operands, _ = CONDITIONAL.match(line).groups()
    if name.startswith('b.'):
        name = 'b.' + INVERSE[name[2:]]
    else:
        name = name.replace('nz', 'z') if 'nz' in name else name.replace('z', 'nz')
    return f'\t{name}\t{operands or ""}{target}'


def must_be_near(piece, lines):
    """Whether a TBZ goes there."""
    return piece[0].endswith(':') and any(re.search(r'\ttbn?z\t.*' + re.escape(piece[0][:-1]) + '$', line) for line in lines)


def parted(piece):
    return piece, None


def shortened(hot, cold):
    return hot, cold


def check_hole(code, offset, kind, symbol):
    return True
