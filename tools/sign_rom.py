#!/usr/bin/env python3
# sign_rom.py INPUT OUTPUT: pads an option ROM to 512 bytes, fills in its length and the checksums of the PnP header and
# of the whole (Plug and Play BIOS Specification 1.0A, 3.1 and 3.2).
import sys

rom = bytearray(open(sys.argv[1], 'rb').read())
rom += bytes(-len(rom) % 512)
if len(rom) == 0 or rom[:2] != b'\x55\xaa':
    sys.exit(f'{sys.argv[1]}: no option ROM signature')
rom[2] = len(rom) // 512
pnp = int.from_bytes(rom[0x1a:0x1c], 'little')
if rom[pnp:pnp + 4] != b'$PnP':
    sys.exit(f'{sys.argv[1]}: no PnP header')
rom[pnp + 9] = 0
rom[pnp + 9] = -sum(rom[pnp:pnp + rom[pnp + 5] * 16]) & 0xff
rom[6] = 0  # behind the jump
rom[6] = -sum(rom) & 0xff
open(sys.argv[2], 'wb').write(rom)
