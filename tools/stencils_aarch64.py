"""What stencils.py must know of AArch64: its branches, its relocations, and how a hole becomes an immediate."""
import re

COMMENT = '//'
INVERSE = {'eq': 'ne', 'ne': 'eq', 'hs': 'lo', 'lo': 'hs', 'mi': 'pl', 'pl': 'mi', 'vs': 'vc', 'vc': 'vs', 'hi': 'ls',
           'ls': 'hi', 'ge': 'lt', 'lt': 'ge', 'gt': 'le', 'le': 'gt'}
CONDITIONAL = re.compile(r'\t(b\.\w+|cbn?z|tbn?z)\t(.*, )?(\S+)$')
MOVE = re.compile(r'\tmov([zk])\t(x\d+), #:abs_g(\d)(?:_nc)?:(\S+)$')

# Holes by the width of what goes in: up to 16 bits, or a sign-extended 32-bit number. All others are whole addresses.
SMALL = re.compile(r'vellum_hole_(operand\d|base|index|scale|segment|segment_base|immediate2|offset|end_offset)\b')
SIGNED = re.compile(r'vellum_hole_(immediate|displacement|target_offset)\b')

# Relocation types, ELF for the Arm 64-bit Architecture 5.7: to PatchKind of src/jit/stencil.h.
ABSOLUTE64, MOVE_UNSIGNED, MOVE0, MOVE1, MOVE2, MOVE3, BRANCH26, BRANCH19, BRANCH14 = 3, 5, 6, 7, 8, 9, 10, 11, 12
RELOCATIONS = {257: ABSOLUTE64, 263: MOVE_UNSIGNED, 264: MOVE0, 265: MOVE1, 266: MOVE1, 267: MOVE2, 268: MOVE2, 269: MOVE3,
               279: BRANCH14, 280: BRANCH19, 282: BRANCH26, 283: BRANCH26}


def shortened(lines):
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


def ends_flow(line):
    return line.startswith(('\tb\t', '\tret', '\tbr\t', '\tbrk\t'))


def inverted(line, target):
    """A conditional branch the other way round, or None."""
    match = CONDITIONAL.match(line)
    if not match:
        return None
    name, operands = match.group(1), match.group(2) or ''
    if name.startswith('b.'):
        name = 'b.' + INVERSE[name[2:]]
    else:
        name = name.replace('nz', 'z') if 'nz' in name else name.replace('z', 'nz')
    return f'\t{name}\t{operands}{target}'


def split(lines):
    """Instructions and labels of a function -> (hot, cold) in an order that lets the hot part run into what follows."""
    lines = shortened(lines)
    # A branch to a branch goes to its target.
    targets = {}
    for label, branch in zip(lines, lines[1:]):
        if label.endswith(':') and branch.startswith('\tb\tvellum_'):
            targets[label[:-1]] = branch.split('\t')[2]
    for i, line in enumerate(lines):
        match = CONDITIONAL.match(line)
        # TBZ reaches 32 KiB only, which is less than a block may have.
        if match and match.group(3) in targets and not match.group(1).startswith('tb'):
            lines[i] = f'\t{match.group(1)}\t{match.group(2) or ""}{targets[match.group(3)]}'
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
        calls = any(line.startswith(('\tbl\t', '\tblr\t')) for line in piece) or piece[-1].startswith('\tret') or \
            (piece[-1].startswith('\tb\t') and not piece[-1].startswith(('\tb\tvellum_', '\tb\t.L')))
        near = any(re.search(r'\ttbn?z\t.*' + re.escape(piece[0][:-1]) + '$', line) for line in lines) if piece[0].endswith(':') else False
        (cold if number and calls and not near else hot).append(piece)
    # The piece that goes on to the next instruction stands last.
    for continuation in ('\tb\tvellum_continue', '\tb\tvellum_next'):
        for i, piece in enumerate(hot):
            if i > 0 and piece[-1] == continuation and hot[-1][-1] != continuation:
                hot.append(hot.pop(i))
    hot = [line for piece in hot for line in piece]
    # `b.cc next` in front of `b branch`: the other way round.
    if len(hot) >= 2 and hot[-1] == '\tb\tvellum_branch':
        match = CONDITIONAL.match(hot[-2])
        if match and match.group(3) == 'vellum_next':
            hot[-2:] = [inverted(hot[-2], 'vellum_branch'), '\tb\tvellum_next']
    if hot[-1] in ('\tb\tvellum_continue', '\tb\tvellum_next', '\tb\tvellum_taken', '\tb\tvellum_indirect'):
        hot.pop()  # that is what follows
    return hot, [line for piece in cold for line in piece]
