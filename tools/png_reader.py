"""Reads the pictures that screendump and other programs write."""
import struct
import zlib


class Picture:
    """Rows of (red, green, blue)."""

    def __init__(self, width, height, rows):
        self.width, self.height, self.rows = width, height, rows

    def __getitem__(self, place):
        x, y = place
        return self.rows[y][x]


def read_png(data):
    """PNG (ISO/IEC 15948), eight bits of red, green and blue, without interlacing; opacity is left out."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels = 8, b""
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position:position + 8])
        body = data[position + 8:position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length:position + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and color in (2, 6) and interlace == 0
            size = 3 if color == 2 else 4
        elif kind == b"IDAT":
            pixels += body
        position += 12 + length
    pixels = zlib.decompress(pixels)
    rows, before, stride = [], bytearray(width * size), width * size
    for y in range(height):
        start = y * (stride + 1)
        kind, line = pixels[start], bytearray(pixels[start + 1:start + 1 + stride])
        if kind == 2 and not any(line):  # the line above again, as most of a screen is
            rows.append(rows[-1])
            continue
        for i in range(stride):
            left = line[i - size] if i >= size else 0
            up, corner = before[i], before[i - size] if i >= size else 0
            if kind == 1:
                add = left
            elif kind == 2:
                add = up
            elif kind == 3:
                add = (left + up) // 2
            elif kind == 4:
                guess = left + up - corner
                far = (abs(guess - left), abs(guess - up), abs(guess - corner))
                add = (left, up, corner)[far.index(min(far))]
            else:
                break
            line[i] = (line[i] + add) & 0xff
        rows.append([tuple(line[i:i + 3]) for i in range(0, stride, size)])
        before = line
    return Picture(width, height, rows)
